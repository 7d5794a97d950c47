from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

import hpcmcodec
from hpcmcodec import (
    CorruptFileError,
    ImageError,
    ModelMismatchError,
    UsageError,
    WeightsError,
    codec,
    container,
)
from tests import fake

CROP = Path(__file__).parent / "data" / "kodim23-crop.png"


@pytest.fixture(autouse=True)
def _fake_model(monkeypatch: pytest.MonkeyPatch) -> None:
    fake.install(monkeypatch)


def check_codec(image: codec.Picture, expected: np.ndarray) -> dict:
    """Through bytes and back, and what the file says of itself."""
    data = hpcmcodec.encode(image)
    decoded = hpcmcodec.decode(data)
    assert decoded.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(decoded), expected)
    return hpcmcodec.info(data)


def random_rgb(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def file_of(image: Image.Image, format: str, **options: object) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return Image.open(buffer)


@pytest.mark.parametrize("size", [(1, 1), (1, 65), (63, 64), (64, 64), (65, 130), (200, 7)])
def test_sizes_come_back(size: tuple[int, int]) -> None:
    rgb = random_rgb(*size)
    check_codec(rgb, rgb)
    check_codec(Image.fromarray(rgb), rgb)


def test_real_picture() -> None:
    with Image.open(CROP) as image:
        check_codec(image, np.asarray(image))


def test_padding_repeats_the_edge(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[np.ndarray] = []
    latent = fake.FakeModel.latent

    def keep(self: fake.FakeModel, x: torch.Tensor) -> torch.Tensor:
        seen.append(x[0].mul(255).round().byte().permute(1, 2, 0).numpy())
        return latent(self, x)

    monkeypatch.setattr(fake.FakeModel, "latent", keep)
    rgb = random_rgb(3, 65)
    hpcmcodec.encode(rgb)
    (padded,) = seen
    assert padded.shape == (64, 128, 3)
    np.testing.assert_array_equal(padded[3:, :65], np.broadcast_to(rgb[2], (61, 65, 3)))
    np.testing.assert_array_equal(padded[:3, 65:], np.broadcast_to(rgb[:, -1:], (3, 63, 3)))


def test_orientation_is_applied() -> None:
    rgb = random_rgb(8, 24)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise to show
    check_codec(file_of(Image.fromarray(rgb), "PNG", exif=exif), np.rot90(rgb, -1))


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_modes_come_back(mode: str) -> None:
    """Lossless here, as the stand-in is: also under tiles, and in part."""
    image = Image.fromarray(random_rgb(300, 600)).convert(mode)
    if "A" in mode:
        image.putalpha(Image.fromarray(random_rgb(300, 600)[..., 1]))
    image.info["icc_profile"] = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for tile in (None, 256):
        data = codec.encode_picture(image, tile=tile, strip=mode[0] == "L").data
        decoded = codec.decode_picture(data)
        assert decoded.image.mode == mode and not decoded.notes and not decoded.broken
        # All of it, but for colours that nobody sees, which are the codec's to choose.
        shown = np.asarray(image).copy()
        if "A" in mode:
            hidden = shown[..., -1] == 0
            shown[hidden] = np.asarray(decoded.image)[hidden]
            assert (shown[hidden][:, -1] == 0).all()
        np.testing.assert_array_equal(np.asarray(decoded.image), shown)
        if mode[0] == "R":
            assert decoded.image.info["icc_profile"] == image.info["icc_profile"]
        else:
            assert "icc_profile" not in decoded.image.info
        part = codec.decode_picture(data, crop=(250, 40, 30, 50)).image
        np.testing.assert_array_equal(np.asarray(part), shown[40:90, 250:280])


def test_conversions_are_told() -> None:
    with pytest.warns(codec.CodecWarning, match="CMYK"):
        hpcmcodec.encode(Image.new("CMYK", (5, 5)))


def test_a_broken_alpha_channel() -> None:
    picture = Image.fromarray(random_rgb(20, 30)).convert("RGBA")
    read = container.unpack(hpcmcodec.encode(picture))
    tiles = [tile for tile in read.tiles if tile]
    other = io.BytesIO()
    Image.new("L", (31, 20)).save(other, "PNG")
    alpha = read.alpha or b""
    empty_profile = struct.pack(">L4sL", 0, b"iCCP", zlib.crc32(b"iCCP"))
    profiles = (alpha[:33] + empty_profile + alpha[33:], alpha[:-12] + empty_profile + alpha[-12:])
    for wrong in (b"", b"no picture", other.getvalue(), alpha[:40], *profiles):
        data = container.pack(read.header, tiles, wrong)
        with pytest.raises(CorruptFileError, match="alpha"):
            hpcmcodec.decode(data)
        left = codec.decode_picture(data, partial=True)
        assert left.image.mode == "RGB" and "alpha" in left.broken[0]
        np.testing.assert_array_equal(np.asarray(left.image), np.asarray(picture)[..., :3])


def test_non_contiguous_array() -> None:
    rgb = random_rgb(20, 10)[::2, ::-1]
    check_codec(rgb, rgb)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (Image.open(io.BytesIO(b"P6 2 2 255\n" + bytes(3))), "cannot be read"),
        (
            file_of(Image.new("L", (4, 4)), "GIF", save_all=True, append_images=[Image.new("L", (4, 4), 9)]),
            "animation",
        ),
        (Image.new("RGB", (0, 4)), "no pixels"),
        (np.zeros((4, 4, 3), np.float32), "float32"),
        (np.zeros((4, 4, 3), np.uint16), "uint16"),
        (np.zeros((4, 4, 5), np.uint8), "shape"),
        (np.zeros(4, np.uint8), "shape"),
    ],
)
def test_what_cannot_be_coded_is_refused(image: codec.Picture, message: str) -> None:
    with pytest.raises(ImageError, match=message) as caught:
        hpcmcodec.encode(image)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("quality", [0.99, 8.01, -1, float("nan"), float("inf")])
def test_quality_out_of_range(quality: float) -> None:
    with pytest.raises(UsageError, match="1 to 8"):
        hpcmcodec.encode(random_rgb(4, 4), quality=quality)


def test_quality_is_what_the_file_keeps() -> None:
    data = hpcmcodec.encode(random_rgb(4, 4), quality=3.3)
    assert hpcmcodec.info(data)["quality"] == round(3.3 * 256) / 256


def test_unknown_names() -> None:
    picture = random_rgb(4, 4)
    with pytest.raises(UsageError, match="phases"):
        hpcmcodec.encode(picture, phase=9)
    with pytest.raises(WeightsError, match="phase 1"):
        hpcmcodec.encode(picture, phase=1)


def test_what_the_file_wishes_and_what_the_caller_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that there is not is the file's fault, a device that there is not is the caller's."""
    data = hpcmcodec.encode(random_rgb(4, 4))

    def load_model(*_: object, device: str, **__: object) -> None:
        raise UsageError(f"no {device} here")

    monkeypatch.setattr("hpcmcodec.zoo.load_model", load_model)
    with pytest.raises(UsageError, match=r"^no cuda here$"):
        hpcmcodec.decode(data, device="cuda")

    def unknown(*_: object) -> None:
        raise UsageError("unknown preset")

    monkeypatch.setattr("hpcmcodec.codec.decoding.model_config", unknown)
    with pytest.raises(
        WeightsError, match="made with a model that this version does not have: unknown preset"
    ):
        hpcmcodec.decode(data)


def test_other_weights_are_refused_by_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    data = hpcmcodec.encode(random_rgb(4, 4))
    monkeypatch.setattr(fake.FakeModel, "entropy_id", b"\xff\xff\xff\xff")
    with pytest.raises(ModelMismatchError, match="01020304"):
        hpcmcodec.decode(data)


def test_another_synthesis_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    data = hpcmcodec.encode(random_rgb(4, 4))
    monkeypatch.setattr(fake.FakeModel, "synthesis_id", b"\xff\xff\xff\xff")
    with pytest.warns(codec.CodecWarning, match="05060708"):
        hpcmcodec.decode(data)


def test_damage_is_refused() -> None:
    data = hpcmcodec.encode(random_rgb(4, 4))
    for bad in (b"", data[:-1], data + b"\0", b"PNG" + data[3:]):
        with pytest.raises(CorruptFileError):
            hpcmcodec.decode(bad)


def test_public_names() -> None:
    assert set(hpcmcodec.__all__) <= set(dir(hpcmcodec))
    for name in hpcmcodec.__all__:
        assert getattr(hpcmcodec, name) is not None
    with pytest.raises(AttributeError, match="no attribute"):
        hpcmcodec.nothing  # noqa: B018


@pytest.mark.parametrize("form", ["path", "text", "file", "bytes", "bytearray", "memoryview"])
def test_files_are_taken_in_every_form(form: str, tmp_path: Path) -> None:
    """The same file, whether it is given as its bytes, its path or an open file, on both sides."""

    def given(path: Path) -> Any:
        forms: dict[str, Callable[[], Any]] = {
            "path": lambda: path,
            "text": lambda: str(path),
            "file": lambda: io.BytesIO(path.read_bytes()),
            "bytes": path.read_bytes,
            "bytearray": lambda: bytearray(path.read_bytes()),
            "memoryview": lambda: memoryview(path.read_bytes()),
        }
        return forms[form]()

    picture, coded = tmp_path / "a.png", tmp_path / "a.hpcm"
    Image.fromarray(random_rgb(48, 64)).save(picture)
    data = hpcmcodec.encode(given(picture))
    assert data == hpcmcodec.encode(Image.open(picture))
    coded.write_bytes(data)
    assert hpcmcodec.info(given(coded)) == hpcmcodec.info(data)
    decoded, expected = hpcmcodec.decode(given(coded)), hpcmcodec.decode(data)
    assert np.array_equal(np.asarray(decoded), np.asarray(expected))


@pytest.mark.parametrize("wrong", [None, 5, 1.5, io.StringIO("text"), [1, 2], object()])
def test_what_is_no_file_is_told_with_what_is_wanted(wrong: Any) -> None:
    for function, what in ((hpcmcodec.encode, "a picture"), (hpcmcodec.decode, "a .hpcm file")):
        with pytest.raises(TypeError, match=f"^{what} is wanted: its bytes, its path or a file object"):
            function(wrong)
    with pytest.raises(TypeError, match="is wanted"):
        hpcmcodec.info(wrong)


def test_a_file_in_text_mode_is_told_so_whatever_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"\xff\xd8\xff\xe0")  # not UTF-8
    for function in (hpcmcodec.encode, hpcmcodec.decode, hpcmcodec.info):
        with path.open(encoding="utf-8") as file, pytest.raises(TypeError, match="not a file in text mode"):
            function(file)  # type: ignore[arg-type]


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    """And not damaged or foreign."""
    for function in (hpcmcodec.encode, hpcmcodec.decode, hpcmcodec.info):
        with pytest.raises(FileNotFoundError):
            function(tmp_path / "none")

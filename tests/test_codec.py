from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hpcmcodec
from hpcmcodec import CorruptFileError, ImageError, ModelMismatchError, UsageError, WeightsError, codec
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


def png_16_bit() -> Image.Image:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(2 * (1 + 12))))
    return Image.open(io.BytesIO(b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b"")))


@pytest.mark.parametrize("size", [(1, 1), (1, 65), (63, 64), (64, 64), (65, 130), (200, 7)])
def test_sizes_come_back(size: tuple[int, int]) -> None:
    rgb = random_rgb(*size)
    check_codec(rgb, rgb)
    check_codec(Image.fromarray(rgb), rgb)


def test_real_picture() -> None:
    with Image.open(CROP) as image:
        check_codec(image, np.asarray(image))


def test_padding_repeats_the_edge() -> None:
    rgb = random_rgb(3, 65)
    padded = codec._pad(rgb)
    assert padded.shape == (64, 128, 3)
    np.testing.assert_array_equal(padded[3:, :65], np.broadcast_to(rgb[2], (61, 65, 3)))
    np.testing.assert_array_equal(padded[:3, 65:], np.broadcast_to(rgb[:, -1:], (3, 63, 3)))


def test_orientation_is_applied() -> None:
    rgb = random_rgb(8, 24)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise to show
    check_codec(file_of(Image.fromarray(rgb), "PNG", exif=exif), np.rot90(rgb, -1))


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr"])
def test_modes_are_converted(mode: str) -> None:
    image = Image.fromarray(random_rgb(16, 16)).convert(mode)
    check_codec(image, np.asarray(image.convert("RGB")))


def test_grey_array() -> None:
    grey = random_rgb(5, 6)[..., 0]
    check_codec(grey, np.stack([grey] * 3, axis=-1))


def test_non_contiguous_array() -> None:
    rgb = random_rgb(20, 10)[::2, ::-1]
    check_codec(rgb, rgb)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (Image.new("RGBA", (4, 4)), "transparency"),
        (Image.new("LA", (4, 4)), "transparency"),
        (file_of(Image.new("P", (4, 4)), "PNG", transparency=0), "transparency"),
        (file_of(Image.new("RGB", (4, 4)), "PNG", transparency=(0, 0, 0)), "transparency"),
        (Image.new("I;16", (4, 4)), "8 bits"),
        (Image.new("F", (4, 4)), "8 bits"),
        (png_16_bit(), "8 bits"),
        (Image.open(io.BytesIO(b"P6 2 2 65535\n" + bytes(24))), "8 bits"),
        (Image.open(io.BytesIO(b"P6 2 2 255\n" + bytes(3))), "cannot be read"),
        (
            file_of(Image.new("L", (4, 4)), "GIF", save_all=True, append_images=[Image.new("L", (4, 4), 9)]),
            "animation",
        ),
        (Image.new("RGB", (0, 4)), "no pixels"),
        (Image.new("L", (4001, 4000)), "16 megapixels"),
        (np.zeros((4, 4, 4), np.uint8), "alpha"),
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
    with pytest.raises(UsageError, match="device"):
        hpcmcodec.encode(picture, device="abacus")
    with pytest.raises(UsageError, match="phases"):
        hpcmcodec.encode(picture, phase=9)
    with pytest.raises(WeightsError, match="phase 1"):
        hpcmcodec.encode(picture, phase=1)


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

"""One reader for every picture file: what it opens, whose limit counts, and what it mends."""

from __future__ import annotations

import io
import os
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile, PngImagePlugin

from hpcmcodec import ImageError, pictures
from hpcmcodec.errors import LimitError
from hpcmcodec.evaluation.photos import find_photos
from hpcmcodec.pictures import open_picture, read
from hpcmcodec.pictures.opening import FORMATS
from hpcmcodec.pictures.pillow import own_limit
from hpcmcodec.training.data import read_pictures

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
y, x = np.mgrid[:48, :64]
SMOOTH = np.stack([x * 3, y * 5, 200 - x - y], axis=-1).astype(np.uint8)
IEND = b"\0\0\0\0IEND\xaeB`\x82"


def file(image: Image.Image | np.ndarray, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, format, **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes, crc: int = 0) -> bytes:
    return struct.pack(">L", len(body)) + kind + body + struct.pack(">L", zlib.crc32(kind + body) ^ crc)


def png_with(*chunks: bytes, behind: bool = False) -> bytes:
    data = file(SMOOTH, "PNG")
    return data[:-12] + b"".join(chunks) + IEND if behind else data[:33] + b"".join(chunks) + data[33:]


def long_profile(length: int) -> bytes:
    return struct.pack(">L", length) + SRGB[4:] + bytes(length - len(SRGB))


# Which files, and whose fault.


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Good pictures, and among them what must neither hang a reader nor stop it."""
    for name in ("a.png", "z.png"):
        (tmp_path / name).write_bytes(file(SMOOTH, "PNG"))
    os.mkfifo(tmp_path / "b.png")
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    (tmp_path / "c.png").write_bytes(file(noise, "PNG")[:2000])
    avif = bytearray(file(SMOOTH, "AVIF"))
    avif[len(avif) // 2 :] = bytes(len(avif) - len(avif) // 2)
    (tmp_path / "d.avif").write_bytes(avif)
    (tmp_path / "e.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    return tmp_path


def test_training_leaves_out_what_is_no_picture(folder: Path) -> None:
    found = read_pictures([folder])
    assert found.names == ["a.png", "z.png"]
    assert found.unreadable == 3


def test_bench_names_what_is_no_picture(folder: Path) -> None:
    told: list[str] = []
    assert [photo.name for photo in find_photos(folder, tell=told.append)] == ["a.png", "z.png"]
    for name in ("c.png", "d.avif", "e.jpg"):
        assert any(name in line for line in told)
    assert not any("b.png" in line for line in told)


@pytest.mark.parametrize(
    "error", [RuntimeError, IndexError, AttributeError, EOFError, struct.error, ValueError]
)
def test_whatever_pillow_raises_is_the_files_fault(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: object) -> None:
        raise error("two\nlines")

    good = file(SMOOTH, "PNG")
    for place in ("load", "_open"):
        with monkeypatch.context() as within:
            within.setattr(f"PIL.PngImagePlugin.PngImageFile.{place}", fail)
            with pytest.raises(ImageError) as caught:
                read(open_picture(good))
            assert "\n" not in str(caught.value)
            (tmp_path / "a.png").write_bytes(good)
            with pytest.raises(ImageError, match="no readable picture"):
                read_pictures([tmp_path])


def test_lack_of_memory_is_not_the_files_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fail)
    with pytest.raises(MemoryError):
        read(open_picture(file(SMOOTH, "PNG")))


def test_no_interpreter_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[object] = []
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *a, **k: started.append(a))
    with pytest.raises(ImageError, match="is not a picture that can be read"):
        read(open_picture(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"))
    assert not started
    assert not {"EPS", "WMF", "MPEG", "HDF5", "GRIB", "BUFR", "FITS"} & set(FORMATS)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "AVIF", "JPEG2000", "BMP", "PPM"])
def test_formats_that_are_read(format: str) -> None:
    data = file(SMOOTH, format)
    assert open_picture(data).size == (64, 48)
    others = [name for name in FORMATS if name != format]
    with pytest.raises(ImageError, match="is not a picture"):
        open_picture(data, formats=others)


# Limits.


@pytest.fixture
def lowered(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The limit of a careful caller, to whom Pillow's warning is an error."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield 100
    assert Image.MAX_IMAGE_PIXELS == 100


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "AVIF", "BMP", "ICO", "MPO"])
def test_the_callers_limit_is_not_ours(format: str, lowered: int) -> None:
    options = {"save_all": True, "append_images": [Image.new("RGB", (9, 9))]} if format == "MPO" else {}
    assert read(open_picture(file(SMOOTH, format, **options))).rgb.shape[2] == 3
    assert lowered == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("format", ["GIF", "WEBP", "TIFF", "PNG"])
def test_nor_is_it_for_further_frames(format: str, lowered: int) -> None:
    more = Image.fromarray(255 - SMOOTH)
    data = file(SMOOTH, format, save_all=True, append_images=[more])
    assert read(open_picture(data), frame=1).rgb.shape == (48, 64, 3)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_half_a_picture_is_refused_whatever_the_caller_takes(
    format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    data = file(noise, format)
    assert read(data).rgb.shape == (48, 64, 3)
    with pytest.raises(ImageError):
        read(data[: len(data) // 2])
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


def test_the_callers_limits_on_texts_are_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PngImagePlugin, "MAX_TEXT_CHUNK", 100)
    monkeypatch.setattr(PngImagePlugin, "MAX_TEXT_MEMORY", 100)
    profile = long_profile(5000)
    text = chunk(b"tEXt", b"Comment\0" + bytes(200).replace(b"\0", b"x"))
    assert read(png_with(chunk(b"iCCP", b"x\0\0" + zlib.compress(profile)), text)).metadata == {
        "icc": profile
    }
    assert PngImagePlugin.MAX_TEXT_CHUNK == PngImagePlugin.MAX_TEXT_MEMORY == 100


def test_a_tiled_tiff_and_a_picture_in_memory(lowered: int) -> None:
    data = file(SMOOTH, "TIFF", compression="tiff_lzw", tiffinfo={322: 32, 323: 32})
    np.testing.assert_array_equal(read(open_picture(data)).rgb, SMOOTH)
    np.testing.assert_array_equal(read(Image.fromarray(SMOOTH)).rgb, SMOOTH)


def test_the_callers_limit_outlives_readers_side_by_side(lowered: int) -> None:
    data = file(SMOOTH, "WEBP", lossless=True)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(20):
                np.testing.assert_array_equal(read(open_picture(data)).rgb, SMOOTH)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert lowered == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("latest", [50, None])
def test_a_limit_that_the_caller_sets_meanwhile_stays(lowered: int, latest: int | None) -> None:
    with own_limit((48, 64)):
        with own_limit((1, 1)):
            assert (Image.MAX_IMAGE_PIXELS or 0) > 48 * 64
        Image.MAX_IMAGE_PIXELS = latest
    assert latest == Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = lowered
    with own_limit((48, 64)):
        Image.MAX_IMAGE_PIXELS = 50
        with own_limit((48, 64)):
            assert (Image.MAX_IMAGE_PIXELS or 0) > 48 * 64
    assert Image.MAX_IMAGE_PIXELS == 50
    Image.MAX_IMAGE_PIXELS = lowered
    with own_limit((5, 5)):
        assert lowered == Image.MAX_IMAGE_PIXELS


def test_a_limit_that_is_raised_counts_as_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(ImageError, match=r"the picture is 64 x 48, .*: more than 3000 pixels"):
        open_picture(file(SMOOTH, "PNG"), max_pixels=3000)


def test_our_limit_comes_before_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytearray(file(Image.new("1", (8, 8)), "BMP"))
    data[18:26] = struct.pack("<II", 25_000, 25_000)
    with pytest.raises(LimitError, match=r"a\.bmp: the picture is 25000 x 25000, .*: more than"):
        open_picture(bytes(data), "a.bmp")
    data[18:26] = struct.pack("<II", 15_000, 13_000)
    assert open_picture(bytes(data)).size == (15_000, 13_000)
    decoded: list[bytes] = []
    monkeypatch.setattr("hpcmcodec.pictures.opening.with_jpeg_end", lambda data, _: decoded.append(data))
    with pytest.raises(LimitError):
        open_picture(file(SMOOTH, "JPEG")[:-2], max_pixels=3000)
    assert not decoded
    image = Image.open(io.BytesIO(file(SMOOTH, "PNG")))
    monkeypatch.setattr(image, "load", lambda: pytest.fail("it was decoded"))
    with pytest.raises(ImageError, match="more than 3000 pixels"):
        read(image, max_pixels=3000)


# PNG.


@pytest.mark.parametrize("length", [1_200_000, 1 << 24])
def test_what_is_written_as_png_is_read(length: int) -> None:
    metadata = {"icc": long_profile(length), "xmp": b"<x:xmpmeta/>".ljust(5_000_000)}
    written = pictures.save(pictures.to_image(pictures.Pixels(SMOOTH, False, None, metadata)), "PNG")
    again = read(open_picture(written))
    assert dict(again.metadata) == metadata
    assert again.notes == ()
    np.testing.assert_array_equal(again.rgb, SMOOTH)


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt"])
def test_long_texts_of_a_png(kind: bytes, behind: bool) -> None:
    xmp = b"<x:xmpmeta/>".ljust(1_500_000)
    between = b"\0\1\0\0\0" if kind == b"iTXt" else b"\0\0"
    data = png_with(chunk(kind, b"XML:com.adobe.xmp" + between + zlib.compress(xmp)), behind=behind)
    pixels = read(open_picture(data))
    assert pixels.metadata == {"xmp": xmp}
    assert pixels.notes == ()


@pytest.mark.parametrize(
    "body",
    [
        chunk(b"tEXt", b"Comment\0hello", crc=1),
        chunk(b"eXIf", b"MM\0*", crc=1),
        chunk(b"iCCP", b""),
        chunk(b"iCCP", b"name\0\0"),
        chunk(b"iCCP", b"name\0\0" + zlib.compress(SRGB)[:-9]),
        chunk(b"iCCP", b"name\0\0" + zlib.compress(bytes((1 << 24) + 1))),
        chunk(b"zTXt", b"Comment\0\0nonsense"),
        chunk(b"gAMA", b"\0\1"),
        chunk(b"pHYs", b""),
    ],
)
@pytest.mark.parametrize("behind", [False, True])
def test_a_damaged_chunk_costs_no_picture(body: bytes, behind: bool) -> None:
    pixels = read(open_picture(png_with(body, behind=behind)))
    np.testing.assert_array_equal(pixels.rgb, SMOOTH)
    assert pixels.metadata == {}
    assert [note for note in pixels.notes if "left out" in note] == list(pixels.notes) != []


def test_texts_are_inflated_up_to_a_limit() -> None:
    bombs = [chunk(b"zTXt", b"Comment%d\0\0" % i + zlib.compress(bytes(1 << 24))) for i in range(6)]
    pixels = read(open_picture(png_with(*bombs)))
    assert sum("too many" in note for note in pixels.notes) == 2
    np.testing.assert_array_equal(pixels.rgb, SMOOTH)


def test_a_png_without_need_stays_as_it_is() -> None:
    data = png_with(chunk(b"tEXt", b"Comment\0hello"), chunk(b"zTXt", b"More\0\0" + zlib.compress(b"text")))
    from hpcmcodec.pictures.mending import mend_png

    assert mend_png(data).data is data
    assert open_picture(data).info["More"] == "text"


@pytest.mark.parametrize("kind", [b"IHDR", b"PLTE"])
def test_a_damaged_chunk_that_pixels_need_is_refused(kind: bytes) -> None:
    data = bytearray(file(Image.fromarray(SMOOTH).convert("P"), "PNG"))
    data[data.index(kind) + 6] ^= 1
    with pytest.raises(ImageError):
        read(open_picture(bytes(data)))


# JPEG.


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_without_its_end_is_whole_or_refused(mode: str, progressive: bool) -> None:
    image = Image.fromarray(SMOOTH).convert(mode)
    data = file(image, "JPEG", progressive=progressive)
    expected = read(open_picture(data)).rgb
    for lost in (1, 2):
        pixels = read(open_picture(data[:-lost]))
        np.testing.assert_array_equal(pixels.rgb, expected)
        assert "the JPEG's end marker is missing; its picture is whole" in pixels.notes
    refused = 0
    for lost in (*range(3, 12), *range(20, len(data) - 620, 53)):
        try:
            pixels = read(open_picture(data[:-lost]))
        except ImageError:
            refused += 1
        else:  # the last bytes of a plane that is all the same may be worth nothing
            np.testing.assert_array_equal(pixels.rgb, expected)
    assert refused >= (9 if mode != "CMYK" else 5)


def test_a_progressive_jpeg_that_lacks_whole_scans_is_refused() -> None:
    data = file(SMOOTH, "JPEG", progressive=True)
    start = data.rindex(b"\xff\xda")
    table = data.rindex(b"\xff\xc4", 0, start)
    for end in (start, table):
        with pytest.raises(ImageError, match="truncated"):
            read(open_picture(data[:end]))


def test_what_follows_a_jpeg_is_no_fault() -> None:
    pixels = read(open_picture(file(SMOOTH, "JPEG") + b"trailer\xff\x00\xff"))
    assert pixels.notes == ()

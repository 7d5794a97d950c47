"""Which picture of a file is meant, and samples that are not what they seem."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from hpcmcodec import ImageError, UsageError
from hpcmcodec.pictures import open_picture, read

rng = np.random.default_rng(0)


def noise(height: int, width: int, channels: int = 3) -> NDArray[np.uint8]:
    return rng.integers(0, 256, (height, width, channels), dtype=np.uint8)


@dataclass
class Page:
    """One directory of a TIFF: its samples, whole numbers by their tag, and directories below it."""

    samples: NDArray[Any]
    tags: dict[int, int | tuple[int, ...]] = field(default_factory=dict)
    below: list[Page] = field(default_factory=list)


def tiff(*pages: Page, order: str = "<", big: bool = False) -> bytes:
    """The plainest of TIFFs, BigTIFFs and files that are like them."""
    word, count = ("Q", "Q") if big else ("L", "H")
    size = struct.calcsize(f"{order}{word}")
    data = bytearray({"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}H", 43 if big else 42))
    data += struct.pack(f"{order}HHQ", 8, 0, 0) if big else bytes(4)

    def lay(page: Page, link: int) -> int:
        """Where the link to the next directory is."""
        below = []
        for other in page.below:
            holder = len(data)
            data.extend(bytes(8))
            lay(other, holder)
            below.append(struct.unpack_from(f"{order}{word}", data, holder)[0])
        pixels = page.samples if page.samples.dtype == np.uint8 else page.samples.astype(f"{order}u2")
        start, height, width = len(data), *page.samples.shape[:2]
        data.extend(pixels.tobytes())
        channels = page.samples.shape[2]
        tags: dict[int, Any] = {
            256: width,
            257: height,
            258: (8 * page.samples.itemsize,) * channels,
            259: 1,
            262: 2 if channels >= 3 else 1,
            273: start,
            277: channels,
            278: height,
            279: pixels.nbytes,
            **page.tags,
        }
        if below:
            tags[330] = tuple(below)
        entries = b""
        for tag, value in sorted(tags.items()):
            values = value if isinstance(value, tuple) else (value,)
            kind, code = (word, 16 if big else 4) if tag in (273, 279, 330) else ("H", 3)
            body = struct.pack(f"{order}{len(values)}{kind}", *values)
            if len(body) > size:
                at = len(data)
                data.extend(body)
                body = struct.pack(f"{order}{word}", at)
            entries += struct.pack(f"{order}HH{word}", tag, code, len(values)) + body.ljust(size, b"\0")
        struct.pack_into(f"{order}{word}", data, link, len(data))
        data.extend(struct.pack(f"{order}{count}", len(tags)) + entries)
        data.extend(bytes(size))
        return len(data) - size

    link = 8 if big else 4
    for page in pages:
        link = lay(page, link)
    return bytes(data)


every_kind = pytest.mark.parametrize(("order", "big"), [("<", False), (">", False), ("<", True)])


@every_kind
def test_a_thumbnail_is_never_taken_for_the_picture(order: str, big: bool) -> None:
    picture, small = noise(48, 64), noise(12, 16)
    data = tiff(Page(small, {254: 1}, [Page(picture, {254: 0})]), order=order, big=big)
    for frame in (None, 0):
        np.testing.assert_array_equal(read(open_picture(data), frame).rgb, picture)
        np.testing.assert_array_equal(read(Image.open(io.BytesIO(data)), frame).rgb, picture)
    with pytest.raises(UsageError, match="is 1 frame"):
        read(open_picture(data), frame=1)


@every_kind
def test_of_several_below_the_largest_that_is_whole(order: str, big: bool) -> None:
    picture = noise(48, 64)
    below = [Page(noise(90, 90), {254: 1}), Page(noise(20, 20)), Page(picture), Page(noise(70, 70), {254: 4})]
    data = tiff(Page(noise(12, 16), {254: 1}, below), order=order, big=big)
    np.testing.assert_array_equal(read(open_picture(data)).rgb, picture)


@pytest.mark.parametrize("mark", [{254: 1}, {255: 2}, {254: 5}])
def test_smaller_versions_are_no_pages(mark: dict[int, int | tuple[int, ...]]) -> None:
    picture, small = noise(48, 64), noise(12, 16)
    for pages, place in (
        ((Page(picture), Page(small, mark)), 0),
        ((Page(small, mark), Page(picture)), 1),
        ((Page(picture), Page(small, mark), Page(small, mark)), 0),
    ):
        data = tiff(*pages)
        np.testing.assert_array_equal(read(open_picture(data)).rgb, picture)
        np.testing.assert_array_equal(read(open_picture(data), frame=place).rgb, picture)
    with pytest.raises(ImageError, match="from 0 to 2"):
        read(open_picture(tiff(Page(picture), Page(small, mark), Page(picture))))
    np.testing.assert_array_equal(read(open_picture(tiff(Page(small, mark), Page(picture))), 0).rgb, small)


def test_a_raw_file_is_refused() -> None:
    raw = Page(noise(48, 64, 1), {254: 0, 262: 32803})
    linear = Page(noise(48, 64), {254: 0, 262: 34892})
    preview = Page(noise(48, 64), {254: 1})
    for below in ([raw], [linear], [preview], [preview, raw], []):
        data = tiff(Page(noise(12, 16), {254: 1}, below))
        with pytest.raises(ImageError, match="only a preview"):
            read(open_picture(data))
    loaded = Image.open(io.BytesIO(data))
    loaded.load()
    with pytest.raises(ImageError, match="only a preview"):
        read(loaded)


def test_what_stands_with_the_preview_is_kept() -> None:
    picture = noise(48, 64)
    data = tiff(Page(noise(12, 16), {254: 1, 274: 6, 296: 2}, [Page(picture)]))
    pixels = read(open_picture(data))
    np.testing.assert_array_equal(pixels.rgb, np.rot90(picture, -1))
    own = tiff(Page(noise(12, 16), {254: 1, 274: 6}, [Page(picture, {274: 3})]))
    np.testing.assert_array_equal(read(open_picture(own)).rgb, np.rot90(picture, 2))


def test_directories_that_go_round_end() -> None:
    data = bytearray(tiff(Page(noise(12, 16), {254: 1}), Page(noise(12, 16), {254: 1})))
    (first,) = struct.unpack_from("<L", data, 4)
    struct.pack_into("<L", data, len(data) - 4, first)
    with pytest.raises(ImageError):
        read(open_picture(bytes(data)))


# Samples.


def test_signed_samples() -> None:
    values = noise(9, 14, 1)
    data = tiff(Page(values ^ 128, {339: 2}))
    pixels = read(open_picture(data))
    np.testing.assert_array_equal(pixels.rgb[..., 0], values[..., 0])
    assert pixels.grey and "signed" in pixels.notes[0]
    deep = rng.integers(0, 65536, (9, 14, 1)).astype(np.uint16)
    pixels = read(open_picture(tiff(Page(deep ^ 32768, {339: 2}))))
    np.testing.assert_array_equal(pixels.rgb[..., 0], np.round(deep[..., 0] / 257))


@pytest.mark.parametrize("eight", [False, True])
def test_palettes_of_a_tiff(eight: bool) -> None:
    colours, indexes = noise(1, 256)[0], noise(9, 14, 1)
    factor = 1 if eight else 257
    table = tuple(int(v) * factor for v in colours.T.ravel())
    data = tiff(Page(indexes, {262: 3, 320: table}))
    pixels = read(open_picture(data))
    np.testing.assert_array_equal(pixels.rgb, colours[indexes[..., 0]])
    assert eight == any("8 bits instead of 16" in note for note in pixels.notes)


@pytest.mark.parametrize("compression", [None, "tga_rle"])
def test_a_tga_without_bits_of_alpha_is_opaque(compression: str | None) -> None:
    for array in (noise(9, 14, 4), noise(9, 14, 2)):
        buffer = io.BytesIO()
        Image.fromarray(array).save(buffer, "TGA", compression=compression)
        data = bytearray(buffer.getvalue())
        alpha = read(open_picture(bytes(data))).alpha
        assert alpha is not None and (alpha == array[..., -1]).all()
        data[17] &= 0xF0
        pixels = read(open_picture(bytes(data)))
        assert pixels.alpha is None and "no bits of alpha" in pixels.notes[0]
        np.testing.assert_array_equal(pixels.rgb[..., 0], array[..., 0])

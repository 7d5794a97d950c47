"""Which of the pictures in a file is the one that is meant."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from PIL import Image

from ..errors import ImageError, UsageError
from .metadata import ORIENTATION, descriptive
from .pillow import one_line, own_limit, remember, remembered

__all__ = ["check_frame", "chosen"]

# Their further frames are a phone's previews and layers that the first one already holds.
SINGLE = ("MPO", "PSD")

NEW_SUBFILE_TYPE, SUBFILE_TYPE, WIDTH, HEIGHT, SUB_IFDS = 254, 255, 256, 257, 330
# Of NewSubfileType: a smaller version of another picture, a mask for one. Of SubfileType: a smaller version.
REDUCED, MASK, OLD_REDUCED = 1, 4, 2
# How TIFF writes whole numbers, by their type.
NUMBERS = {1: "B", 3: "H", 4: "L", 13: "L", 16: "Q", 18: "Q"}
MOST_PAGES = 1 << 16


@dataclass(frozen=True)
class Page:
    """A directory of a TIFF. below: its sub-directories. minor: it is a thumbnail or a mask."""

    start: int
    minor: bool
    pixels: int
    below: tuple[int, ...]


def chosen(image: Image.Image, frame: int | None) -> Image.Image:
    """The picture that is meant, not decoded yet; the same object, set to a frame, wherever that will do.

    Smaller versions and masks in a TIFF are no pictures of their own. Where it has nothing else in its chain
    of pages, as a camera's raw file, the picture is looked for below them.

    Raises:
        ImageError: there are several and `frame` is None, or nothing but a preview.
        UsageError: there is no such frame.
    """
    with one_line("the picture cannot be read"):
        count = 1 if image.format in SINGLE else getattr(image, "n_frames", 1)
        pages = _pages(image) if image.format == "TIFF" else []
    if frame is not None:
        check_frame(frame, count)
    if frame is None or count == 1:
        major = [number for number, page in enumerate(pages) if not page.minor]
        if pages and not major:
            return _below(image, pages)
        if len(major) == 1 and len(pages) == count:
            frame = frame if frame is not None else major[0]
    if frame is None and count > 1:
        raise ImageError(
            "the picture is an animation or has several pages: say which frame to code,"
            f" from 0 to {count - 1}"
        )
    if frame is not None and count > 1:
        with one_line("the picture cannot be read"), own_limit(image.size):
            image.seek(frame)
    return image


def check_frame(frame: int, count: int) -> None:
    """Refuse a number that no frame has.

    Raises:
        UsageError: there is no such frame.
    """
    if not 0 <= frame < count:
        there = "is 1 frame" if count == 1 else f"are {count} frames"
        raise UsageError(f"no frame {frame}: there {there}, counted from 0")


def _pages(image: Image.Image) -> list[Page]:
    """Of a TIFF's chain; of a single page that has been loaded only what Pillow kept."""
    file = _file(image)
    if file:
        position = file.tell()
        try:
            return list(_Directories(file).chain())
        except (KeyError, ValueError, struct.error):
            return []  # for Pillow to say what is wrong, or to read it all the same
        finally:
            file.seek(position)
    tags = getattr(image, "tag_v2", {})
    minor = bool(tags.get(NEW_SUBFILE_TYPE, 0) & (REDUCED | MASK)) or tags.get(SUBFILE_TYPE) == OLD_REDUCED
    return [Page(0, minor, 0, ())]


def _file(image: Image.Image) -> IO[bytes] | None:
    file: IO[bytes] | None = getattr(image, "fp", None)
    return file if file is not None and not file.closed else None


def _below(image: Image.Image, pages: list[Page]) -> Image.Image:
    """The largest picture in the sub-directories of pages that are all thumbnails."""
    refusal = ImageError(
        "the file holds only a preview that can be read, as a camera's raw file does: develop it to a TIFF or"
        " JPEG first"
    )
    file = _file(image)
    if file is None:
        raise refusal
    directories = _Directories(file)
    try:
        below = [directories.page(start)[0] for page in pages for start in page.below]
        found = max((page for page in below if not page.minor), key=lambda page: page.pixels)
    except (KeyError, ValueError, struct.error):
        raise refusal from None
    try:
        with one_line(""), own_limit(None):
            meant = Image.OPEN["TIFF"][0](io.BytesIO(directories.beginning_at(found.start)), "")
    except ImageError:
        raise refusal from None
    # What describes the picture stands with the preview.
    orientation = meant.tag_v2.setdefault(ORIENTATION, image.tag_v2.get(ORIENTATION, 1))  # type: ignore[attr-defined]
    with one_line("the picture cannot be read"):
        exif = Image.Exif()
        exif.load(descriptive(image.getexif()))
        exif[ORIENTATION] = orientation
        meant.info["exif"] = exif.tobytes()
    remember(meant, remembered(image))
    return meant


class _Directories:
    """The directories of a TIFF or BigTIFF, as far as it matters which picture is which.

    Raises:
        KeyError, ValueError, struct.error: this is none, or damaged. All methods may raise these.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        head = self._read(0, 16)
        self.order = {b"II": "<", b"MM": ">"}[head[:2]]
        self.big = head[2:4] in (b"\x2b\0", b"\0\x2b")
        self.word, self.count, self.entry = ("Q", "Q", "HHQ8s") if self.big else ("L", "H", "HHL4s")
        self.first_at = 8 if self.big else 4

    def chain(self) -> Iterator[Page]:
        seen: set[int] = set()
        start = self._number(self.word, self.first_at)
        while start and start not in seen and len(seen) < MOST_PAGES:
            seen.add(start)
            page, start = self.page(start)
            yield page

    def page(self, start: int) -> tuple[Page, int]:
        """The page of a directory, and where the next one lies."""
        entry = struct.Struct(self.order + self.entry)
        count = self._number(self.count, start)
        at = start + struct.calcsize(self.order + self.count)
        values: dict[int, tuple[int, ...]] = {}
        for tag, kind, length, field in entry.iter_unpack(self._read(at, count * entry.size)):
            if tag in (NEW_SUBFILE_TYPE, SUBFILE_TYPE, WIDTH, HEIGHT, SUB_IFDS) and kind in NUMBERS:
                values[tag] = self._values(NUMBERS[kind], min(length, MOST_PAGES), field)
        first = {tag: numbers[0] for tag, numbers in values.items() if numbers}
        minor = first.get(NEW_SUBFILE_TYPE, 0) & (REDUCED | MASK) or first.get(SUBFILE_TYPE) == OLD_REDUCED
        pixels = first.get(WIDTH, 0) * first.get(HEIGHT, 0)
        page = Page(start, bool(minor), pixels, values.get(SUB_IFDS, ()))
        return page, self._number(self.word, at + count * entry.size)

    def beginning_at(self, start: int) -> bytes:
        """The whole file, with this directory as its first."""
        data = bytearray(self._read(0, -1))
        struct.pack_into(self.order + self.word, data, self.first_at, start)
        return bytes(data)

    def _values(self, kind: str, length: int, field: bytes) -> tuple[int, ...]:
        layout = f"{self.order}{length}{kind}"
        size = struct.calcsize(layout)
        if size > len(field):
            (at,) = struct.unpack(self.order + self.word, field)
            field = self._read(at, size)
        return struct.unpack(layout, field[:size])

    def _number(self, kind: str, at: int) -> int:
        layout = self.order + kind
        (number,) = struct.unpack(layout, self._read(at, struct.calcsize(layout)))
        return int(number)

    def _read(self, at: int, size: int) -> bytes:
        self.file.seek(at)
        return self.file.read(size)

"""EXIF that is edited where it lies: to write it anew would lose what makers' notes point to."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import NamedTuple

__all__ = ["EXIF_IFD", "EXIF_PREFIX", "EXIF_START", "GPS_IFD", "INTEROP_IFD", "Density", "Tags"]

EXIF_START = b"Exif\0\0"
EXIF_PREFIX = re.compile(b"^(?:Exif\0\0){1,2}")

IMAGE_WIDTH, IMAGE_LENGTH, ORIENTATION = 0x0100, 0x0101, 0x0112
STRIP_OFFSETS, STRIP_SIZES, JPEG_OFFSET, JPEG_SIZE = 0x0111, 0x0117, 0x0201, 0x0202
DENSITY = X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 0x011A, 0x011B, 0x0128
SUB_IFDS, EXIF_IFD, GPS_IFD, INTEROP_IFD = 0x014A, 0x8769, 0x8825, 0xA005
MAKER_NOTE, PIXEL_X, PIXEL_Y = 0x927C, 0xA002, 0xA003
RELATED_WIDTH, RELATED_LENGTH = 0x1001, 0x1002
SUBJECTS = (0x9214, 0xA214)  # where in the picture they are

# Bytes of a value of each of TIFF's types, and how struct reads those that are whole numbers.
BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
NUMBERS = {1: "B", 3: "H", 4: "L", 13: "L"}
SHORT, LONG, RATIONAL = 3, 4, 5
MOST_THUMBNAILS = 8
JPEG_START = b"\xff\xd8\xff"


class Density(NamedTuple):
    """Pixels per unit. EXIF's numbers for it: 2 an inch, 3 a centimetre, 1 none: only the ratio counts."""

    x: Fraction
    y: Fraction
    unit: int = 2

    def per_inch(self) -> tuple[float, float]:
        scale = Fraction(254, 100) if self.unit == 3 else 1
        return float(self.x * scale), float(self.y * scale)

    def turned(self) -> Density:
        return Density(self.y, self.x, self.unit)


class Entry(NamedTuple):
    """A tag: where its 12 bytes are, its type and count, and where its value is."""

    tag: int
    at: int
    kind: int
    items: int
    start: int
    end: int


class Tags:
    """EXIF, from the TIFF header on, in either byte order.

    Raises:
        KeyError, struct.error: this is no EXIF, or it is cut short. All methods may raise these.
    """

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)
        self.order = {b"II*\0": "<", b"MM\0*": ">"}[data[:4]]
        (self.main,) = self._read("L", 4)
        self._entries(self.main)

    @classmethod
    def empty(cls) -> Tags:
        return cls(b"II*\0" + struct.pack("<LHL", 8, 0, 0))

    @property
    def orientation(self) -> int | None:
        entry = self._find(self.main, ORIENTATION)
        return self._number(entry) if entry else None

    @property
    def density(self) -> Density | None:
        x, y = (self._rational(self._find(self.main, tag)) for tag in (X_RESOLUTION, Y_RESOLUTION))
        if not x:
            return None
        entry = self._find(self.main, RESOLUTION_UNIT)
        unit = self._number(entry) if entry else None
        return Density(x, y or x, unit if unit in (1, 2, 3) else 2)

    @property
    def only_density(self) -> bool:
        """Whether they have nothing to say but pixels per inch."""
        return all(entry.tag in (*DENSITY, ORIENTATION) for entry in self._entries(self.main))

    def fit(self, width: int, height: int) -> None:
        """Say that the picture is upright, and how large it is, where these tags are there."""
        wanted = {ORIENTATION: 1}
        wanted |= dict.fromkeys((IMAGE_WIDTH, PIXEL_X, RELATED_WIDTH), width)
        wanted |= dict.fromkeys((IMAGE_LENGTH, PIXEL_Y, RELATED_LENGTH), height)
        for directory in self._directories():
            for entry in self._entries(directory):
                if entry.tag in wanted:
                    self._set(entry, wanted[entry.tag])

    def drop_thumbnails(self) -> bool:
        """Take out the small pictures that follow the main directory; whether there were any."""
        spans = [span for start in self._chain() for span in self._pictures(start)]
        self._pack("L", self._next_at(self.main), 0)
        self._wipe(spans)
        return bool(spans)

    def drop_orientation(self) -> None:
        self._remove(lambda entry: entry.tag == ORIENTATION)

    def drop_subjects(self) -> bool:
        """Take out where in the picture things are; whether it was there."""
        return self._remove(lambda entry: entry.tag in SUBJECTS)

    def drop_previews(self) -> bool:
        """Take out all that may still show a picture; whether that cost a maker's note.

        Whatever no tag refers to is wiped too: makers' notes point to previews in a way only they know.

        Raises:
            ValueError: tags and pictures are one upon the other.
        """
        length = len(self.data)
        inside = self._remove(lambda entry: JPEG_START in self.data[entry.start : entry.end])
        self._remove(lambda entry: entry.tag in (SUB_IFDS, JPEG_OFFSET, JPEG_SIZE))
        self._wipe([(0, length)])
        if JPEG_START in self.data:
            raise ValueError("a preview lies where tags should be")
        return inside

    def set_density(self, density: Density) -> None:
        """Keep pixels per inch or centimetre, unless they already say the same.

        Tags that come to it need room: the main directory moves to the end, and all that it refers to stays.
        """
        known = self.density
        if known and _close(known, density):
            return
        values = ((X_RESOLUTION, density.x), (Y_RESOLUTION, density.y))
        self._remove(lambda entry: entry.tag in DENSITY)
        entries = {
            entry.tag: bytes(self.data[entry.at : entry.at + 12]) for entry in self._entries(self.main)
        }
        (following,) = self._read("L", self._next_at(self.main))
        self.data += bytes(len(self.data) % 2)
        for tag, value in values:
            entries[tag] = struct.pack(f"{self.order}HHLL", tag, RATIONAL, 1, len(self.data))
            self.data += struct.pack(f"{self.order}LL", value.numerator, value.denominator)
        entries[RESOLUTION_UNIT] = struct.pack(
            f"{self.order}HHLHH", RESOLUTION_UNIT, SHORT, 1, density.unit, 0
        )
        old, self.main = self.main, len(self.data)
        self.data += struct.pack(f"{self.order}H", len(entries))
        self.data += b"".join(entries[tag] for tag in sorted(entries))
        self.data += struct.pack(f"{self.order}L", following)
        self._pack("L", 4, self.main)
        self._wipe([(old, old + 2 + 12 * (len(entries) - 3) + 4)])

    def _read(self, kinds: str, at: int) -> tuple[int, ...]:
        return struct.unpack_from(self.order + kinds, self.data, at)

    def _pack(self, kinds: str, at: int, *values: int) -> None:
        struct.pack_into(self.order + kinds, self.data, at, *values)

    def _entries(self, start: int) -> list[Entry]:
        (count,) = self._read("H", start)
        return [self._entry(at) for at in range(start + 2, start + 2 + 12 * count, 12)]

    def _entry(self, at: int) -> Entry:
        tag, kind, count, where = self._read("HHLL", at)
        size = BYTES.get(kind, 1) * count
        where = at + 8 if size <= 4 else where
        return Entry(tag, at, kind, count, where, where + size)

    def _find(self, start: int, tag: int) -> Entry | None:
        return next((entry for entry in self._entries(start) if entry.tag == tag), None)

    def _number(self, entry: Entry) -> int | None:
        numbers = self._numbers(entry)
        return numbers[0] if len(numbers) == 1 else None

    def _numbers(self, entry: Entry) -> tuple[int, ...]:
        if entry.kind not in NUMBERS or entry.end > len(self.data):
            return ()
        return self._read(f"{entry.items}{NUMBERS[entry.kind]}", entry.start)

    def _rational(self, entry: Entry | None) -> Fraction | None:
        if not entry or (entry.kind, entry.items) != (RATIONAL, 1) or entry.end > len(self.data):
            return None
        over, under = self._read("LL", entry.start)
        return Fraction(over, under) if under else None

    def _set(self, entry: Entry, value: int) -> None:
        if entry.kind in NUMBERS and entry.items == 1 and value < 256 ** BYTES[entry.kind]:
            self._pack(NUMBERS[entry.kind], entry.at + 8, value)
        else:
            self._pack("HLL", entry.at + 2, LONG, 1, value)

    def _directories(self) -> list[int]:
        """Where the directories lie that belong to the picture itself; one that is damaged is none."""
        found = {self.main: 0}
        for parent, tag in ((0, EXIF_IFD), (0, GPS_IFD), (EXIF_IFD, INTEROP_IFD)):
            starts = [start for start, name in found.items() if name == parent]
            entry = self._find(starts[0], tag) if starts else None
            target = self._number(entry) if entry else None
            if target and target not in found and self._is_directory(target):
                found[target] = tag
        return list(found)

    def _is_directory(self, start: int) -> bool:
        try:
            return start > 0 and bool(self._entries(start))
        except struct.error:
            return False

    def _next_at(self, start: int) -> int:
        """Where a directory says which one follows; there may be no such place in EXIF that ends early."""
        at = start + 2 + 12 * self._read("H", start)[0]
        self.data += bytes(max(0, at + 4 - len(self.data)))
        return at

    def _chain(self) -> Iterator[int]:
        """The directories of thumbnails, which follow the main one."""
        own, start = self._directories(), self.main
        for _ in range(MOST_THUMBNAILS):  # they may follow each other in a circle
            (start,) = self._read("L", self._next_at(start))
            if start in own or not self._is_directory(start):
                break
            yield start

    def _pictures(self, start: int) -> Iterator[tuple[int, int]]:
        """Where the bytes of a directory's picture lie."""
        for offsets, sizes in ((JPEG_OFFSET, JPEG_SIZE), (STRIP_OFFSETS, STRIP_SIZES)):
            there, long = self._find(start, offsets), self._find(start, sizes)
            if there and long:
                spans = zip(self._numbers(there), self._numbers(long), strict=False)
                yield from ((at, at + size) for at, size in spans if size)

    def _kept(self) -> list[tuple[int, int]]:
        """The bytes of the header, of the picture's own directories and of their values."""
        spans = [(0, 8)]
        for start in self._directories():
            entries = self._entries(start)
            spans.append((start, self._next_at(start) + 4))
            spans += [(entry.start, entry.end) for entry in entries if entry.start != entry.at + 8]
        return [(start, min(end, len(self.data))) for start, end in spans if start < len(self.data)]

    def _wipe(self, spans: list[tuple[int, int]]) -> None:
        """Zeros for what nothing needs any longer; cut off where it was the end."""
        kept = [(start, self.data[start:end]) for start, end in self._kept()]
        length = len(self.data)
        spans = [(start, min(end, length)) for start, end in spans if start < min(end, length)]
        for start, end in spans:
            self.data[start:end] = bytes(end - start)
        for start, value in kept:
            self.data[start : start + len(value)] = value
        tail = max(start + len(value) for start, value in kept)
        for start, end in spans:
            if end == length:
                del self.data[max(start, tail) :]

    def _remove(self, unwanted: Callable[[Entry], bool]) -> bool:
        """Take tags out of the picture's own directories, which stay where they are; whether it did."""
        dropped: list[Entry] = []
        for start in self._directories():
            left, gone, end = list[Entry](), list[Entry](), self._next_at(start)
            for entry in self._entries(start):
                (gone if unwanted(entry) else left).append(entry)
            if gone:
                rest = (
                    b"".join(self.data[entry.at : entry.at + 12] for entry in left) + self.data[end : end + 4]
                )
                self.data[start + 2 : end + 4] = rest.ljust(end + 2 - start, b"\0")
                self._pack("H", start, len(left))
                dropped += gone
        self._wipe([(entry.start, entry.end) for entry in dropped if entry.start != entry.at + 8])
        return bool(dropped)


def _close(known: Density, density: Density) -> bool:
    """Formats round it, to whole numbers per inch or per metre."""
    if (known.unit == 1) != (density.unit == 1):
        return False
    if known.unit == 1:
        return known.x * density.y == known.y * density.x
    pairs = zip(known.per_inch(), density.per_inch(), strict=True)
    return all(abs(one - other) <= 0.51 for one, other in pairs)

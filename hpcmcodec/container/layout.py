"""What a file consists of: its numbers, its header, its tiles."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from functools import cached_property

__all__ = [
    "CHECKSUM_SIZE",
    "CHUNK",
    "COLOURS",
    "CRC",
    "DEFLATED",
    "FAMILIES",
    "FORMAT_VERSION",
    "HEAD",
    "MAGIC",
    "MAX_PIXELS",
    "METADATA",
    "METADATA_MAX",
    "MULTIPLE",
    "ONE_TILE",
    "PRESETS",
    "PROFILES",
    "QUALITY_RANGE",
    "QUALITY_STEP",
    "START",
    "TILE",
    "TILE_SIDES",
    "U32_MAX",
    "Area",
    "ChunkInfo",
    "Container",
    "Header",
    "Tile",
    "chunk_crc",
    "padded_sides",
    "unfit",
]

MAGIC = b"HPCM"
FORMAT_VERSION = 2

# Wire codes: the position of a name is its number in the file, so names are only ever appended.
FAMILIES = ("rwkv", "multiref")
PRESETS = ("base", "lite", "tiny")
COLOURS = ("rgb", "grey")

# The arithmetic of the entropy path: as float32 comes out on one machine, or in integers, the same on all.
PROFILES = ("float", "integer")

# Pictures are padded to multiples of this many pixels, and tiles are that fine.
MULTIPLE = 64

# The smallest and the largest side of a tile, and how many padded pixels may lie in a single one: with these
# a short file cannot claim a large picture.
TILE_SIDES = (256, 2048)
ONE_TILE = 1 << 22
MAX_PIXELS = 1 << 29

# The most that a profile, EXIF or XMP may hold, unpacked. Each stands in a file at most once.
METADATA_MAX = 1 << 24
METADATA = {"icc": b"icpr", "exif": b"exif", "xmp": b"xmpd"}
DEFLATED = ("icc", "xmp")
QUALITY_STEP = 1 / 256
QUALITY_RANGE = (1.0, 8.0)
U32_MAX = 2**32 - 1
START = struct.Struct("<4sH")
CHUNK = struct.Struct("<4sI")
CRC = struct.Struct("<I")
HEAD = struct.Struct("<BBBBHIIHB4s4s")
TILE = struct.Struct("<II")
CHECKSUM_SIZE = 8


@dataclass(frozen=True)
class Area:
    """A rectangle of pixels."""

    top: int
    left: int
    height: int
    width: int

    def meets(self, other: Area) -> bool:
        return (
            self.top < other.top + other.height
            and other.top < self.top + self.height
            and self.left < other.left + other.width
            and other.left < self.left + self.width
        )


def padded_sides(width: int, height: int) -> tuple[int, int]:
    """Height and width that are coded."""
    rows, columns = (-(-side // MULTIPLE) * MULTIPLE for side in (height, width))
    return rows, columns


@dataclass(frozen=True)
class Header:
    """What a decoder must know.

    quality: kept in steps of 1/256. width, height: the picture's, before padding.
    entropy_id, synthesis_id: fingerprints of the entropy and the synthesis part of the weights.
    tile: side of the tiles in pixels; 0 if there is a single one. grey: the picture has one channel.
    profile: the arithmetic of the entropy path, one of `PROFILES`.
    """

    family: str
    phase: int
    preset: str
    quality: float
    width: int
    height: int
    entropy_id: bytes
    synthesis_id: bytes
    tile: int = 0
    grey: bool = False
    profile: str = PROFILES[-1]

    @property
    def padded(self) -> tuple[int, int]:
        """Height and width that are coded."""
        return padded_sides(self.width, self.height)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tiles."""
        if not self.tile:
            return 1, 1
        rows, columns = (-(-side // self.tile) for side in self.padded)
        return rows, columns

    @cached_property
    def areas(self) -> tuple[Area, ...]:
        """Every tile, row by row: where it lies in the padded picture."""
        height, width = self.padded
        side = self.tile or max(height, width)
        return tuple(
            Area(top, left, min(side, height - top), min(side, width - left))
            for top in range(0, height, side)
            for left in range(0, width, side)
        )

    def tiles_in(self, area: Area) -> list[int]:
        """The numbers of the tiles that meet an area of the padded picture, in order."""
        height, width = self.padded
        columns, side = self.grid[1], self.tile or max(height, width)
        top, left = max(0, area.top), max(0, area.left)
        bottom, right = min(height, area.top + area.height), min(width, area.left + area.width)
        if top >= bottom or left >= right:
            return []
        across = range(left // side, -(-right // side))
        return [row * columns + column for row in range(top // side, -(-bottom // side)) for column in across]


def unfit(header: Header) -> bool:
    """Whether the picture is too large for its tiles, or these are of a size that there is not."""
    height, width = header.padded
    if not header.tile:
        return height * width > ONE_TILE
    low, high = TILE_SIDES
    return not low <= header.tile <= high or header.tile % MULTIPLE > 0 or height * width > MAX_PIXELS


@dataclass(frozen=True)
class Tile:
    """The rANS streams of one tile and the checksum of the symbols in them."""

    z: bytes
    y: bytes
    checksum: bytes


@dataclass(frozen=True)
class ChunkInfo:
    """One chunk as it lies in the file: its type, the length of its data, its CRC-32."""

    type: str
    length: int
    crc: int

    @property
    def critical(self) -> bool:
        return self.type[0].isupper()


@dataclass(frozen=True)
class Container:
    """A whole file, or what is left of one.

    tiles: row by row; None where one is lost. alpha: a PNG, or None.
    metadata: "icc", "exif", "xmp", where there are any.
    layout: every chunk, known or not, in file order. damage: a line for each thing that is wrong.
    """

    header: Header
    tiles: tuple[Tile | None, ...]
    alpha: bytes | None
    metadata: dict[str, bytes]
    layout: tuple[ChunkInfo, ...]
    damage: tuple[str, ...] = ()


def chunk_crc(kind: bytes, data: bytes | memoryview) -> int:
    return zlib.crc32(data, zlib.crc32(kind))

"""The `.hpcm` file, format version 2; FORMAT.md describes it in full. Standard library only.

Little-endian throughout::

    magic "HPCM" | version u16 | chunk, chunk, ...
    chunk: type (4 ASCII letters) | length u32 | data | CRC-32 of type and data, u32

The case of the first letter of a type says critical (upper, an unknown one is refused) or ancillary (lower,
an unknown one is skipped). The order is HEAD, everything else, at most one of each, then a TILE for each
tile: there is no end chunk, because the header tells how many tiles there are, and anything between or behind
them is damage.

    HEAD: family u8 | phase u8 | preset u8 | profile u8 | quality u16 in 1/256 | width u32 | height u32
          | tile side u16 in 64 pixels, 0: one tile | colour u8 | entropy id, 4 bytes | synthesis id, 4 bytes
    ALPH: the alpha channel, an 8-bit grey PNG
    TILE: number u32 | length of the z stream u32 | z stream | checksum, 8 bytes | y stream
    icpr, exif, xmpd: ICC profile, EXIF and XMP; the first and the last deflated (zlib)
"""

from .facts import describe
from .layout import (
    FAMILIES,
    FORMAT_VERSION,
    MAGIC,
    MAX_PIXELS,
    MULTIPLE,
    ONE_TILE,
    PRESETS,
    PROFILES,
    TILE_SIDES,
    Area,
    ChunkInfo,
    Container,
    Header,
    Tile,
)
from .limits import DEFAULT_PIXELS, check_pixels, pixel_limit
from .reading import check_left, unpack
from .writing import pack

__all__ = [
    "DEFAULT_PIXELS",
    "FAMILIES",
    "FORMAT_VERSION",
    "MAGIC",
    "MAX_PIXELS",
    "MULTIPLE",
    "ONE_TILE",
    "PRESETS",
    "PROFILES",
    "TILE_SIDES",
    "Area",
    "ChunkInfo",
    "Container",
    "Header",
    "Tile",
    "check_left",
    "check_pixels",
    "describe",
    "pack",
    "pixel_limit",
    "unpack",
]

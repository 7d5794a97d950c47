"""The `.hpcm` file, format version 2; FORMAT.md describes it in full. Standard library only.

Little-endian throughout::

    magic "HPCM" | version u16 | chunk, chunk, ...
    chunk: type (4 ASCII letters) | length u32 | data | CRC-32 of type and data, u32

The case of the first letter of a type says critical (upper, an unknown one is refused) or ancillary (lower,
an unknown one is skipped). The order is HEAD, everything else, then a TILE for each tile: there is no end
chunk, because the header tells how many tiles there are, and anything behind the last is damage.

    HEAD: family u8 | phase u8 | preset u8 | profile u8 | quality u16 in 1/256 | width u32 | height u32
          | tile side u16 in 64 pixels, 0: one tile | colour u8 | entropy id, 4 bytes | synthesis id, 4 bytes
    ALPH: the alpha channel, an 8-bit grey PNG
    TILE: number u32 | length of the z stream u32 | z stream | checksum, 8 bytes | y stream
    icpr, exif, xmpd: ICC profile, EXIF and XMP; the first and the last deflated (zlib)
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from .errors import CorruptFileError, UsageError

__all__ = [
    "FAMILIES",
    "FORMAT_VERSION",
    "MAGIC",
    "MAX_PIXELS",
    "MULTIPLE",
    "ONE_TILE",
    "PRESETS",
    "TILE_SIDES",
    "Area",
    "ChunkInfo",
    "Container",
    "Header",
    "Tile",
    "describe",
    "pack",
    "unpack",
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
# Tiles that may be missing for each one that is there, in what is left of a damaged file.
_MISSING = 16
# The most that a profile or a description may hold.
_METADATA_MAX = 1 << 24
_METADATA = {"icc": b"icpr", "exif": b"exif", "xmp": b"xmpd"}
_DEFLATED = ("icc", "xmp")

_QUALITY_STEP = 1 / 256
_QUALITY_RANGE = (1.0, 8.0)
_U32_MAX = 2**32 - 1

_START = struct.Struct("<4sH")
_CHUNK = struct.Struct("<4sI")
_CRC = struct.Struct("<I")
_HEAD = struct.Struct("<BBBBHIIHB4s4s")
_TILE = struct.Struct("<II")
_CHECKSUM_SIZE = 8


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
        height, width = (-(-side // MULTIPLE) * MULTIPLE for side in (self.height, self.width))
        return height, width

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


def pack(
    header: Header,
    tiles: Iterable[Tile],
    alpha: bytes | None = None,
    metadata: Mapping[str, bytes] | None = None,
) -> bytes:
    """Write a file.

    Args:
        header: stored as it is, its quality rounded to 1/256.
        tiles: those of `header.areas`, in that order.
        alpha: an 8-bit grey PNG of the picture's size.
        metadata: "icc", "exif", "xmp".

    Raises:
        UsageError: a value does not fit its field.
    """
    tiles = tuple(tiles)
    head = _pack_header(header)
    if len(tiles) != len(header.areas):
        raise UsageError(f"a picture of {len(header.areas)} tiles cannot be stored in {len(tiles)}")
    chunks = [_chunk(b"HEAD", head)]
    if alpha is not None:
        chunks.append(_chunk(b"ALPH", alpha))
    for name, data in (metadata or {}).items():
        if name not in _METADATA or len(data) > _METADATA_MAX:
            raise UsageError(f"{len(data)} bytes of {name!r} cannot be stored")
        chunks.append(_chunk(_METADATA[name], zlib.compress(data, 9) if name in _DEFLATED else data))
    chunks += [_chunk(b"TILE", _pack_tile(number, tile)) for number, tile in enumerate(tiles)]
    return _START.pack(MAGIC, FORMAT_VERSION) + b"".join(chunks)


def unpack(data: bytes, partial: bool = False) -> Container:
    """Read a file, checking every byte of it.

    Args:
        partial: of a damaged file, read what is whole; its header must be.

    Raises:
        CorruptFileError: the file is foreign, truncated, damaged, or of another format; one line says which.
    """
    _check_start(data)
    reader = _Reader(partial)
    for kind, body, info in _chunks(data, reader.broken if partial else None):
        reader.take(kind, body, info)
    return reader.finish()


class _Reader:
    """Puts the chunks of a file together."""

    def __init__(self, partial: bool) -> None:
        self.partial = partial
        self.header: Header | None = None
        self.tiles: dict[int, Tile] = {}
        self.alpha: bytes | None = None
        self.metadata: dict[str, bytes] = {}
        self.layout: list[ChunkInfo] = []
        self.damage: list[str] = []

    def broken(self, message: str) -> None:
        """Something is wrong: the end, or a line for the report."""
        if not self.partial or self.header is None:
            raise CorruptFileError(message)
        self.damage.append(message)

    def take(self, kind: bytes, body: bytes, info: ChunkInfo) -> None:
        try:
            self._take(kind, body, info)
        except CorruptFileError as error:
            self.broken(str(error))
        self.layout.append(info)

    def _take(self, kind: bytes, body: bytes, info: ChunkInfo) -> None:
        if (kind == b"HEAD") != (self.header is None):
            raise CorruptFileError("damaged .hpcm file: it must have one header, at its start")
        if self.header is None:
            self.header = _unpack_header(body)
            return
        count = len(self.header.areas)
        if kind == b"TILE":
            number, tile = _unpack_tile(body)
            if number >= count or number in self.tiles or (not self.partial and number != len(self.tiles)):
                raise CorruptFileError(f"damaged .hpcm file: tile {number} is not in its place")
            self.tiles[number] = tile
        elif len(self.tiles) == count and not self.partial:
            raise CorruptFileError("damaged .hpcm file: there is more behind its last tile")
        elif kind == b"ALPH":
            if self.alpha is not None:
                raise CorruptFileError("damaged .hpcm file: it has two alpha channels")
            self.alpha = body
        elif info.critical:
            raise CorruptFileError(
                f"this .hpcm file needs {info.type!r}, which this version cannot read: update hpcmcodec"
            )
        else:
            for name, known in _METADATA.items():
                if kind == known:
                    self.metadata[name] = _inflate(body) if name in _DEFLATED else body

    def finish(self) -> Container:
        if self.header is None:
            raise CorruptFileError("truncated .hpcm file: it ends before its header")
        count = len(self.header.areas)
        missing = count - len(self.tiles)
        if missing:
            what = f"{missing} of its {count} tiles" if count > 1 else "its picture data"
            if not self.partial or missing > _MISSING * len(self.tiles):
                raise CorruptFileError(f"truncated .hpcm file: it ends before {what}")
            self.damage.append(f"{what} are missing" if count > 1 else f"{what} is missing")
        tiles = tuple(self.tiles.get(number) for number in range(count))
        return Container(
            self.header, tiles, self.alpha, self.metadata, tuple(self.layout), tuple(self.damage)
        )


def describe(data: bytes) -> dict[str, Any]:
    """Everything that a file says about itself, as a dictionary that `json.dumps` takes.

    Sizes are in bytes, ids and checksums in hexadecimal, `bits_per_pixel` counts the whole file.

    Raises:
        CorruptFileError: as `unpack`.
    """
    container = unpack(data)
    header = container.header
    rows, columns = header.grid
    return {
        "format_version": FORMAT_VERSION,
        "bytes": len(data),
        "bits_per_pixel": 8 * len(data) / (header.width * header.height),
        "family": header.family,
        "phase": header.phase,
        "preset": header.preset,
        "entropy_profile": header.profile,
        "quality": header.quality,
        "width": header.width,
        "height": header.height,
        "colour": COLOURS[header.grey],
        "alpha_bytes": len(container.alpha) if container.alpha else 0,
        "metadata_bytes": {name: len(value) for name, value in container.metadata.items()},
        "tile_side": header.tile,
        "tile_rows": rows,
        "tile_columns": columns,
        "entropy_id": header.entropy_id.hex(),
        "synthesis_id": header.synthesis_id.hex(),
        "tiles": [
            {"z_bytes": len(tile.z), "y_bytes": len(tile.y), "checksum": tile.checksum.hex()}
            for tile in container.tiles
            if tile
        ],
        "chunks": [
            {"type": info.type, "critical": info.critical, "length": info.length, "crc32": f"{info.crc:08x}"}
            for info in container.layout
        ],
    }


def _is_type(kind: bytes) -> bool:
    return len(kind) == 4 and kind.isalpha()


def _crc(kind: bytes, data: bytes) -> int:
    return zlib.crc32(data, zlib.crc32(kind))


def _chunk(kind: bytes, data: bytes) -> bytes:
    if len(data) > _U32_MAX:
        raise UsageError(f"chunk {kind.decode()} of {len(data)} bytes is longer than a .hpcm file can hold")
    return _CHUNK.pack(kind, len(data)) + data + _CRC.pack(_crc(kind, data))


def _check_start(data: bytes) -> None:
    if not data:
        raise CorruptFileError("not a .hpcm file: it is empty")
    if data[: len(MAGIC)] != MAGIC[: len(data)]:
        raise CorruptFileError("not a .hpcm file: it does not start with HPCM")
    if len(data) < _START.size:
        raise CorruptFileError("truncated .hpcm file: it ends inside its first bytes")
    _, version = _START.unpack_from(data)
    if version > FORMAT_VERSION:
        raise CorruptFileError(
            f"this .hpcm file has format version {version}, newer than {FORMAT_VERSION}: update hpcmcodec"
        )
    if version < 1:
        raise CorruptFileError(f"damaged .hpcm file: there is no format version {version}")
    if version < FORMAT_VERSION:
        raise CorruptFileError(
            f"this .hpcm file has format version {version} of an early hpcmcodec, which is no longer read"
        )


def _chunks(data: bytes, broken: Callable[[str], None] | None) -> Iterator[tuple[bytes, bytes, ChunkInfo]]:
    """Every chunk. A bad one is an error, or, if `broken` takes its message, left out: the next one is then
    looked for behind it."""
    position = _START.size
    while position < len(data):
        start = position + _CHUNK.size
        whole = start <= len(data) and _CHUNK.unpack_from(data, position)[1] <= len(data) - start - _CRC.size
        message = f"truncated or damaged .hpcm file: chunk at byte {position} is incomplete"
        # The length is compared before it is used: a false one costs no memory.
        if whole:
            kind, length = _CHUNK.unpack_from(data, position)
            body = bytes(data[start : start + length])
            (crc,) = _CRC.unpack_from(data, start + length)
            if crc == _crc(kind, body) and _is_type(kind):
                yield kind, body, ChunkInfo(kind.decode("ascii"), length, crc)
                position = start + length + _CRC.size
                continue
            message = f"damaged .hpcm file: chunk at byte {position} fails its check"
        if broken is None:
            raise CorruptFileError(message)
        broken(message)
        position = _next_tile(data, position + 1)


def _next_tile(data: bytes, position: int) -> int:
    """Where the next whole tile begins, or the end."""
    while (position := data.find(b"TILE", position)) >= 0:
        start = position + _CHUNK.size
        if start <= len(data):
            length = _CHUNK.unpack_from(data, position)[1]
            end = start + length
            if end + _CRC.size <= len(data):
                (crc,) = _CRC.unpack_from(data, end)
                if crc == _crc(b"TILE", data[start:end]):
                    return position
        position += 1
    return len(data)


def _inflate(data: bytes) -> bytes:
    inflater = zlib.decompressobj()
    try:
        whole = inflater.decompress(data, _METADATA_MAX)
    except zlib.error:
        whole = b""
    if not inflater.eof or inflater.unused_data:
        raise CorruptFileError("damaged .hpcm file: its metadata cannot be unpacked")
    return whole


def _pack_header(header: Header) -> bytes:
    low, high = _QUALITY_RANGE
    if not low <= header.quality <= high:
        raise UsageError(f"quality {header.quality} is not between {low:g} and {high:g}")
    if not (0 < header.width <= _U32_MAX and 0 < header.height <= _U32_MAX):
        raise UsageError(f"a picture of {header.width} x {header.height} cannot be stored")
    if _unfit(header):
        raise UsageError(
            f"a picture of {header.width} x {header.height} in tiles of {header.tile} cannot be stored"
        )
    if header.family not in FAMILIES or header.preset not in PRESETS or not 0 <= header.phase <= 255:
        raise UsageError(f"no such model: {header.family}, phase {header.phase}, {header.preset}")
    if header.profile not in PROFILES:
        raise UsageError(f"no such entropy profile: {header.profile}")
    if len(header.entropy_id) != 4 or len(header.synthesis_id) != 4:
        raise UsageError("a fingerprint of weights has 4 bytes")
    return _HEAD.pack(
        FAMILIES.index(header.family),
        header.phase,
        PRESETS.index(header.preset),
        PROFILES.index(header.profile),
        round(header.quality / _QUALITY_STEP),
        header.width,
        header.height,
        header.tile // MULTIPLE,
        header.grey,
        header.entropy_id,
        header.synthesis_id,
    )


def _unfit(header: Header) -> bool:
    """Whether the picture is too large for its tiles, or these are of a size that there is not."""
    height, width = header.padded
    if not header.tile:
        return height * width > ONE_TILE
    low, high = TILE_SIDES
    return not low <= header.tile <= high or header.tile % MULTIPLE > 0 or height * width > MAX_PIXELS


def _unpack_header(body: bytes) -> Header:
    if len(body) != _HEAD.size:
        raise CorruptFileError(f"damaged .hpcm file: its header has {len(body)} bytes, not {_HEAD.size}")
    fields = _HEAD.unpack(body)
    family, phase, preset, profile, quality_steps, width, height, tile, colour = fields[:9]
    quality = quality_steps * _QUALITY_STEP
    known = zip((family, preset, profile, colour), (FAMILIES, PRESETS, PROFILES, COLOURS), strict=True)
    if any(code >= len(names) for code, names in known):
        raise CorruptFileError(
            "this .hpcm file names a model or a kind of picture that this version does not know:"
            " update hpcmcodec"
        )
    if not (_QUALITY_RANGE[0] <= quality <= _QUALITY_RANGE[1] and width and height):
        raise CorruptFileError(f"damaged .hpcm file: {width} x {height} pixels at quality {quality:g}")
    header = Header(
        FAMILIES[family],
        phase,
        PRESETS[preset],
        quality,
        width,
        height,
        entropy_id=fields[9],
        synthesis_id=fields[10],
        tile=tile * MULTIPLE,
        grey=bool(colour),
        profile=PROFILES[profile],
    )
    if _unfit(header):
        raise CorruptFileError(
            f"damaged .hpcm file: it claims {width} x {height} pixels in tiles of {header.tile}"
        )
    return header


def _pack_tile(number: int, tile: Tile) -> bytes:
    if len(tile.checksum) != _CHECKSUM_SIZE or len(tile.z) > _U32_MAX:
        raise UsageError("a tile has a checksum of 8 bytes and a z stream of less than 4 GiB")
    return _TILE.pack(number, len(tile.z)) + tile.z + tile.checksum + tile.y


def _unpack_tile(body: bytes) -> tuple[int, Tile]:
    """Number and content."""
    room = len(body) - _TILE.size - _CHECKSUM_SIZE
    if room < 0 or _TILE.unpack_from(body)[1] > room:
        raise CorruptFileError("damaged .hpcm file: its tile is shorter than its streams")
    number, length = _TILE.unpack_from(body)
    z_end = _TILE.size + length
    y_start = z_end + _CHECKSUM_SIZE
    return number, Tile(body[_TILE.size : z_end], body[y_start:], body[z_end:y_start])

"""The `.hpcm` file, format version 1 (spec section 6b). Standard library only.

Little-endian throughout::

    magic "HPCM" | version u16 | chunk, chunk, ...
    chunk: type (4 ASCII letters) | length u32 | data | CRC-32 of type and data, u32

The case of the first letter of a type says critical (upper, an unknown one is refused) or ancillary (lower,
an unknown one is skipped). The order is HEAD, ancillary chunks, TILE: there is no end chunk, because a file
that is cut short anywhere loses part of its TILE, and anything behind the TILE is damage.

    HEAD: family u8 | phase u8 | preset u8 | quality u16 in 1/256 | width u32 | height u32
          | entropy id, 4 bytes | synthesis id, 4 bytes
    TILE: length of the z stream u32 | z stream | checksum, 8 bytes | y stream
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from .errors import CorruptFileError, UsageError

__all__ = [
    "FAMILIES",
    "FORMAT_VERSION",
    "MAGIC",
    "PRESETS",
    "ChunkInfo",
    "Container",
    "Header",
    "Tile",
    "describe",
    "pack",
    "unpack",
]

MAGIC = b"HPCM"
FORMAT_VERSION = 1

# Wire codes: the position of a name is its number in the file, so names are only ever appended.
FAMILIES = ("rwkv", "multiref")
PRESETS = ("base", "lite", "tiny")

_QUALITY_STEP = 1 / 256
_QUALITY_RANGE = (1.0, 8.0)
_U32_MAX = 2**32 - 1

_START = struct.Struct("<4sH")
_CHUNK = struct.Struct("<4sI")
_CRC = struct.Struct("<I")
_HEAD = struct.Struct("<BBBHII4s4s")
_TILE = struct.Struct("<I")
_CHECKSUM_SIZE = 8


@dataclass(frozen=True)
class Header:
    """What a decoder must know. `width` and `height` are the picture's, before padding; `quality` is kept
    in steps of 1/256; the two ids are fingerprints of the entropy and the synthesis part of the weights."""

    family: str
    phase: int
    preset: str
    quality: float
    width: int
    height: int
    entropy_id: bytes
    synthesis_id: bytes


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
    """A whole file. `ancillary` holds (type, data) of every ancillary chunk, known or not, in file order."""

    header: Header
    tiles: tuple[Tile, ...]
    ancillary: tuple[tuple[bytes, bytes], ...]
    layout: tuple[ChunkInfo, ...]


def pack(header: Header, tiles: Iterable[Tile], ancillary: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
    """Write a file.

    Args:
        header: stored as it is, its quality rounded to 1/256.
        tiles: exactly one in format version 1.
        ancillary: (type, data) pairs; a type is 4 ASCII letters, the first in lower case.

    Raises:
        UsageError: a value does not fit its field.
    """
    tiles = tuple(tiles)
    if len(tiles) != 1:
        raise UsageError(f"format version {FORMAT_VERSION} holds one tile, not {len(tiles)}")
    chunks = [_chunk(b"HEAD", _pack_header(header))]
    for kind, data in ancillary:
        if not (_is_type(kind) and kind[:1].islower()):
            raise UsageError(f"{kind!r} is not the type of an ancillary chunk")
        chunks.append(_chunk(kind, data))
    chunks += [_chunk(b"TILE", _pack_tile(tile)) for tile in tiles]
    return _START.pack(MAGIC, FORMAT_VERSION) + b"".join(chunks)


def unpack(data: bytes) -> Container:
    """Read a file, checking every byte of it.

    Raises:
        CorruptFileError: the file is foreign, truncated, damaged, or of a newer format; one line says which.
    """
    _check_start(data)
    header: Header | None = None
    tiles: list[Tile] = []
    ancillary: list[tuple[bytes, bytes]] = []
    layout: list[ChunkInfo] = []
    for kind, body, info in _chunks(data):
        if tiles:
            raise CorruptFileError("damaged .hpcm file: there is more behind its last tile")
        if (kind == b"HEAD") != (header is None):
            raise CorruptFileError("damaged .hpcm file: it must have one header, at its start")
        if kind == b"HEAD":
            header = _unpack_header(body)
        elif kind == b"TILE":
            tiles.append(_unpack_tile(body))
        elif info.critical:
            raise CorruptFileError(
                f"this .hpcm file needs {info.type!r}, which this version cannot read: update hpcmcodec"
            )
        else:
            ancillary.append((kind, body))
        layout.append(info)
    if header is None or not tiles:
        raise CorruptFileError("truncated .hpcm file: it ends before its picture data")
    return Container(header, tuple(tiles), tuple(ancillary), tuple(layout))


def describe(data: bytes) -> dict[str, Any]:
    """Everything that a file says about itself, as a dictionary that `json.dumps` takes.

    Sizes are in bytes, ids and checksums in hexadecimal, `bits_per_pixel` counts the whole file.

    Raises:
        CorruptFileError: as `unpack`.
    """
    container = unpack(data)
    header = container.header
    return {
        "format_version": FORMAT_VERSION,
        "bytes": len(data),
        "bits_per_pixel": 8 * len(data) / (header.width * header.height),
        "family": header.family,
        "phase": header.phase,
        "preset": header.preset,
        "quality": header.quality,
        "width": header.width,
        "height": header.height,
        "entropy_id": header.entropy_id.hex(),
        "synthesis_id": header.synthesis_id.hex(),
        "tiles": [
            {"z_bytes": len(tile.z), "y_bytes": len(tile.y), "checksum": tile.checksum.hex()}
            for tile in container.tiles
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


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes, ChunkInfo]]:
    position = _START.size
    while position < len(data):
        start = position + _CHUNK.size
        # The length is compared before it is used: a false one costs no memory.
        if start > len(data) or _CHUNK.unpack_from(data, position)[1] > len(data) - start - _CRC.size:
            raise CorruptFileError(f"truncated or damaged .hpcm file: chunk at byte {position} is incomplete")
        kind, length = _CHUNK.unpack_from(data, position)
        body = bytes(data[start : start + length])
        (crc,) = _CRC.unpack_from(data, start + length)
        if crc != _crc(kind, body) or not _is_type(kind):
            raise CorruptFileError(f"damaged .hpcm file: chunk at byte {position} fails its check")
        yield kind, body, ChunkInfo(kind.decode("ascii"), length, crc)
        position = start + length + _CRC.size


def _pack_header(header: Header) -> bytes:
    low, high = _QUALITY_RANGE
    if not low <= header.quality <= high:
        raise UsageError(f"quality {header.quality} is not between {low:g} and {high:g}")
    if not (0 < header.width <= _U32_MAX and 0 < header.height <= _U32_MAX):
        raise UsageError(f"a picture of {header.width} x {header.height} cannot be stored")
    if header.family not in FAMILIES or header.preset not in PRESETS or not 0 <= header.phase <= 255:
        raise UsageError(f"no such model: {header.family}, phase {header.phase}, {header.preset}")
    if len(header.entropy_id) != 4 or len(header.synthesis_id) != 4:
        raise UsageError("a fingerprint of weights has 4 bytes")
    return _HEAD.pack(
        FAMILIES.index(header.family),
        header.phase,
        PRESETS.index(header.preset),
        round(header.quality / _QUALITY_STEP),
        header.width,
        header.height,
        header.entropy_id,
        header.synthesis_id,
    )


def _unpack_header(body: bytes) -> Header:
    if len(body) != _HEAD.size:
        raise CorruptFileError(f"damaged .hpcm file: its header has {len(body)} bytes, not {_HEAD.size}")
    family, phase, preset, quality_steps, width, height, entropy_id, synthesis_id = _HEAD.unpack(body)
    quality = quality_steps * _QUALITY_STEP
    if family >= len(FAMILIES) or preset >= len(PRESETS):
        raise CorruptFileError(
            "this .hpcm file names a model that this version does not know: update hpcmcodec"
        )
    if not (_QUALITY_RANGE[0] <= quality <= _QUALITY_RANGE[1] and width and height):
        raise CorruptFileError(f"damaged .hpcm file: {width} x {height} pixels at quality {quality:g}")
    return Header(FAMILIES[family], phase, PRESETS[preset], quality, width, height, entropy_id, synthesis_id)


def _pack_tile(tile: Tile) -> bytes:
    if len(tile.checksum) != _CHECKSUM_SIZE or len(tile.z) > _U32_MAX:
        raise UsageError("a tile has a checksum of 8 bytes and a z stream of less than 4 GiB")
    return _TILE.pack(len(tile.z)) + tile.z + tile.checksum + tile.y


def _unpack_tile(body: bytes) -> Tile:
    room = len(body) - _TILE.size - _CHECKSUM_SIZE
    if room < 0 or _TILE.unpack_from(body)[0] > room:
        raise CorruptFileError("damaged .hpcm file: its tile is shorter than its streams")
    z_end = _TILE.size + _TILE.unpack_from(body)[0]
    y_start = z_end + _CHECKSUM_SIZE
    return Tile(body[_TILE.size : z_end], body[y_start:], body[z_end:y_start])

"""A file from its parts."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping

from ..errors import UsageError
from .layout import (
    CHECKSUM_SIZE,
    CHUNK,
    CRC,
    DEFLATED,
    FAMILIES,
    FORMAT_VERSION,
    HEAD,
    MAGIC,
    METADATA,
    METADATA_MAX,
    MULTIPLE,
    PRESETS,
    PROFILES,
    QUALITY_RANGE,
    QUALITY_STEP,
    START,
    TILE,
    U32_MAX,
    Header,
    Tile,
    chunk_crc,
    unfit,
)

__all__ = ["pack"]


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
        if name not in METADATA or len(data) > METADATA_MAX:
            raise UsageError(f"{len(data)} bytes of {name!r} cannot be stored")
        chunks.append(_chunk(METADATA[name], zlib.compress(data, 9) if name in DEFLATED else data))
    chunks += [_chunk(b"TILE", _pack_tile(number, tile)) for number, tile in enumerate(tiles)]
    return START.pack(MAGIC, FORMAT_VERSION) + b"".join(chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    if len(data) > U32_MAX:
        raise UsageError(f"chunk {kind.decode()} of {len(data)} bytes is longer than a .hpcm file can hold")
    return CHUNK.pack(kind, len(data)) + data + CRC.pack(chunk_crc(kind, data))


def _pack_header(header: Header) -> bytes:
    low, high = QUALITY_RANGE
    if not low <= header.quality <= high:
        raise UsageError(f"quality {header.quality} is not between {low:g} and {high:g}")
    if not (0 < header.width <= U32_MAX and 0 < header.height <= U32_MAX):
        raise UsageError(f"a picture of {header.width} x {header.height} cannot be stored")
    if unfit(header):
        raise UsageError(
            f"a picture of {header.width} x {header.height} in tiles of {header.tile} cannot be stored"
        )
    if header.family not in FAMILIES or header.preset not in PRESETS or not 0 <= header.phase <= 255:
        raise UsageError(f"no such model: {header.family}, phase {header.phase}, {header.preset}")
    if header.profile not in PROFILES:
        raise UsageError(f"no such entropy profile: {header.profile}")
    if len(header.entropy_id) != 4 or len(header.synthesis_id) != 4:
        raise UsageError("a fingerprint of weights has 4 bytes")
    return HEAD.pack(
        FAMILIES.index(header.family),
        header.phase,
        PRESETS.index(header.preset),
        PROFILES.index(header.profile),
        round(header.quality / QUALITY_STEP),
        header.width,
        header.height,
        header.tile // MULTIPLE,
        header.grey,
        header.entropy_id,
        header.synthesis_id,
    )


def _pack_tile(number: int, tile: Tile) -> bytes:
    if len(tile.checksum) != CHECKSUM_SIZE or len(tile.z) > U32_MAX:
        raise UsageError("a tile has a checksum of 8 bytes and a z stream of less than 4 GiB")
    return TILE.pack(number, len(tile.z)) + tile.z + tile.checksum + tile.y

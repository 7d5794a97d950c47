"""The parts of a file, each byte of it checked, or what is left of a damaged one."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator

from ..errors import CorruptFileError
from .layout import (
    CHECKSUM_SIZE,
    CHUNK,
    COLOURS,
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
    ChunkInfo,
    Container,
    Header,
    Tile,
    chunk_crc,
    unfit,
)

__all__ = ["unpack"]

# Tiles that may be missing for each one that is there, in what is left of a damaged file.
_MISSING = 16


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
            for name, known in METADATA.items():
                if kind == known:
                    self.metadata[name] = _inflate(body) if name in DEFLATED else body

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


def _is_type(kind: bytes) -> bool:
    return len(kind) == 4 and kind.isalpha()


def _check_start(data: bytes) -> None:
    if not data:
        raise CorruptFileError("not a .hpcm file: it is empty")
    if data[: len(MAGIC)] != MAGIC[: len(data)]:
        raise CorruptFileError("not a .hpcm file: it does not start with HPCM")
    if len(data) < START.size:
        raise CorruptFileError("truncated .hpcm file: it ends inside its first bytes")
    _, version = START.unpack_from(data)
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
    position = START.size
    while position < len(data):
        start = position + CHUNK.size
        whole = start <= len(data) and CHUNK.unpack_from(data, position)[1] <= len(data) - start - CRC.size
        message = f"truncated or damaged .hpcm file: chunk at byte {position} is incomplete"
        # The length is compared before it is used: a false one costs no memory.
        if whole:
            kind, length = CHUNK.unpack_from(data, position)
            body = bytes(data[start : start + length])
            (crc,) = CRC.unpack_from(data, start + length)
            if crc == chunk_crc(kind, body) and _is_type(kind):
                yield kind, body, ChunkInfo(kind.decode("ascii"), length, crc)
                position = start + length + CRC.size
                continue
            message = f"damaged .hpcm file: chunk at byte {position} fails its check"
        if broken is None:
            raise CorruptFileError(message)
        broken(message)
        position = _next_tile(data, position + 1)


def _next_tile(data: bytes, position: int) -> int:
    """Where the next whole tile begins, or the end."""
    while (position := data.find(b"TILE", position)) >= 0:
        start = position + CHUNK.size
        if start <= len(data):
            length = CHUNK.unpack_from(data, position)[1]
            end = start + length
            if end + CRC.size <= len(data):
                (crc,) = CRC.unpack_from(data, end)
                if crc == chunk_crc(b"TILE", data[start:end]):
                    return position
        position += 1
    return len(data)


def _inflate(data: bytes) -> bytes:
    inflater = zlib.decompressobj()
    try:
        whole = inflater.decompress(data, METADATA_MAX)
    except zlib.error:
        whole = b""
    if not inflater.eof or inflater.unused_data:
        raise CorruptFileError("damaged .hpcm file: its metadata cannot be unpacked")
    return whole


def _unpack_header(body: bytes) -> Header:
    if len(body) != HEAD.size:
        raise CorruptFileError(f"damaged .hpcm file: its header has {len(body)} bytes, not {HEAD.size}")
    fields = HEAD.unpack(body)
    family, phase, preset, profile, quality_steps, width, height, tile, colour = fields[:9]
    quality = quality_steps * QUALITY_STEP
    known = zip((family, preset, profile, colour), (FAMILIES, PRESETS, PROFILES, COLOURS), strict=True)
    if any(code >= len(names) for code, names in known):
        raise CorruptFileError(
            "this .hpcm file names a model or a kind of picture that this version does not know:"
            " update hpcmcodec"
        )
    if not (QUALITY_RANGE[0] <= quality <= QUALITY_RANGE[1] and width and height):
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
    if unfit(header):
        raise CorruptFileError(
            f"damaged .hpcm file: it claims {width} x {height} pixels in tiles of {header.tile}"
        )
    return header


def _unpack_tile(body: bytes) -> tuple[int, Tile]:
    """Number and content."""
    room = len(body) - TILE.size - CHECKSUM_SIZE
    if room < 0 or TILE.unpack_from(body)[1] > room:
        raise CorruptFileError("damaged .hpcm file: its tile is shorter than its streams")
    number, length = TILE.unpack_from(body)
    z_end = TILE.size + length
    y_start = z_end + CHECKSUM_SIZE
    return number, Tile(body[TILE.size : z_end], body[y_start:], body[z_end:y_start])

"""The parts of a file, each byte of it checked, or what is left of a damaged one."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Iterator

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
from .limits import check_pixels

__all__ = ["check_left", "unpack"]

# Tiles that may be missing for each one that is there, in what is left of a damaged file.
_MISSING = 16

# Pixels in grey that may stand for lost tiles: always so many, and beyond that so many for each byte of the
# file. A sixteenth that is left of a photograph comes to less; a few hundred bytes never become a gigabyte.
_GREY = 1 << 24
_GREY_PER_BYTE = 1 << 10

# Bytes whose check may fail while whole tiles are looked for, in sizes of the file.
_SEARCH = 4

# Faults of a damaged file that are told one by one.
_TOLD = 8

_SIDE_CHUNKS = (b"ALPH", *METADATA.values())


def unpack(data: bytes, partial: bool = False, max_pixels: int | None = None) -> Container:
    """Read a file, checking every byte of it.

    Args:
        partial: of a damaged file, read what is whole; its header must be.
        max_pixels: the most pixels, padded to multiples of 64 each way, that the picture may have. None: what
            the environment variable HPCM_MAX_PIXELS says, else `DEFAULT_PIXELS`.

    Raises:
        CorruptFileError: the file is foreign, truncated, damaged, or of another format; one line says which.
        LimitError: the picture is larger than `max_pixels`.
        UsageError: the limit is not a whole number above zero.
    """
    _check_start(data)
    reader = _Reader(partial, max_pixels)
    for kind, body, info in _chunks(data, reader.broken if partial else None):
        reader.take(kind, body, info)
    return reader.finish(len(data))


def check_left(header: Header, lost: Collection[int], size: int) -> None:
    """Refuse to show a damaged file of `size` bytes of which next to nothing is left.

    Raises:
        CorruptFileError: the tiles `lost` would come to more grey pixels than such a file may claim.
    """
    pixels = sum(header.areas[number].height * header.areas[number].width for number in lost)
    if pixels > max(_GREY, _GREY_PER_BYTE * size):
        count = len(header.areas)
        raise CorruptFileError(
            f"damaged .hpcm file: too little of it is left, {len(lost)} of its {count} tiles are lost"
        )


class _Reader:
    """Puts the chunks of a file together."""

    def __init__(self, partial: bool, max_pixels: int | None) -> None:
        self.partial, self.max_pixels = partial, max_pixels
        self.header: Header | None = None
        self.tiles: dict[int, Tile] = {}
        self.alpha: bytes | None = None
        self.metadata: dict[str, bytes] = {}
        self.seen: set[bytes] = set()
        self.layout: list[ChunkInfo] = []
        self.damage: list[str] = []
        self.faults = 0

    def broken(self, message: str) -> None:
        """Something is wrong: the end, or a line for the report."""
        if not self.partial or self.header is None:
            raise CorruptFileError(message)
        self.faults += 1
        if self.faults <= _TOLD:
            self.damage.append(message)

    def take(self, kind: bytes, body: memoryview, info: ChunkInfo) -> None:
        try:
            self._take(kind, body, info)
        except CorruptFileError as error:
            self.broken(str(error))
        self.layout.append(info)

    def _take(self, kind: bytes, body: memoryview, info: ChunkInfo) -> None:
        if (kind == b"HEAD") != (self.header is None):
            raise CorruptFileError("damaged .hpcm file: it must have one header, at its start")
        if self.header is None:
            header = _unpack_header(body)
            check_pixels(header.width, header.height, self.max_pixels)
            self.header = header
            return
        count = len(self.header.areas)
        if kind == b"TILE":
            number, tile = _unpack_tile(body)
            if number >= count or number in self.tiles or (not self.partial and number != len(self.tiles)):
                raise CorruptFileError(f"damaged .hpcm file: tile {number} is not in its place")
            self.tiles[number] = tile
        elif self.tiles:
            what = "there is more behind its last tile"
            if len(self.tiles) < count:
                what = f"a chunk {info.type!r} stands among its tiles"
            raise CorruptFileError(f"damaged .hpcm file: {what}")
        elif kind in _SIDE_CHUNKS:
            self._take_once(kind, body)
        elif info.critical:
            raise CorruptFileError(
                f"this .hpcm file needs {info.type!r}, which this version cannot read: update hpcmcodec"
            )

    def _take_once(self, kind: bytes, body: memoryview) -> None:
        """Alpha or metadata. A second one is not even unpacked, also where the first is damaged."""
        if kind in self.seen:
            raise CorruptFileError(f"damaged .hpcm file: it has more than one chunk {kind.decode()!r}")
        self.seen.add(kind)
        if kind == b"ALPH":
            self.alpha = bytes(body)
        for name, known in METADATA.items():
            if kind == known:
                self.metadata[name] = _metadata(body, name in DEFLATED)

    def finish(self, size: int) -> Container:
        if self.header is None:
            raise CorruptFileError("truncated .hpcm file: it ends before its header")
        count = len(self.header.areas)
        if self.faults > _TOLD:
            self.damage.append(f"{self.faults - _TOLD} more faults of these kinds")
        lost = [number for number in range(count) if number not in self.tiles]
        if lost:
            what = f"{len(lost)} of its {count} tiles" if count > 1 else "its picture data"
            if not self.partial or len(lost) > _MISSING * len(self.tiles):
                if self.faults:
                    raise CorruptFileError(f"damaged .hpcm file: too little is left of it, without {what}")
                raise CorruptFileError(f"truncated .hpcm file: it ends before {what}")
            check_left(self.header, lost, size)
            self.damage.append(f"{what} are missing")
        tiles = tuple(self.tiles.get(number) for number in range(count))
        return Container(
            self.header, tiles, self.alpha, self.metadata, tuple(self.layout), tuple(self.damage)
        )


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


Found = tuple[bytes, memoryview, ChunkInfo]


def _chunks(data: bytes, broken: Callable[[str], None] | None) -> Iterator[Found]:
    """Every chunk. A bad one is an error, or, if `broken` takes its message, left out: the next tile is then
    looked for behind it."""
    scanner = _Scanner(data)
    position = START.size
    while position < len(data):
        found, fault = scanner.chunk(position)
        if found is None:
            message = f"{fault} .hpcm file: chunk at byte {position}"
            message += " is incomplete" if fault == _CUT else " fails its check"
            if broken is None:
                raise CorruptFileError(message)
            broken(message)
            position, found = scanner.next_tile(position + 1)
            if found is None:
                return
        yield found
        position += CHUNK.size + found[2].length + CRC.size


_CUT, _WRONG = "truncated or damaged", "damaged"


class _Scanner:
    """Finds the whole chunks of a file.

    Whatever lengths the file claims, the bytes that are checked in vain stay below `_SEARCH` times its size,
    so the time it takes to find what is left grows with the size and not with its square.
    """

    def __init__(self, data: bytes) -> None:
        self.data, self.view = data, memoryview(data)
        self.left = _SEARCH * len(data)

    def chunk(self, position: int) -> tuple[Found | None, str]:
        """The chunk that begins at a position, or None and what is wrong with it."""
        start = position + CHUNK.size
        if start > len(self.data):
            return None, _CUT
        kind, length = CHUNK.unpack_from(self.data, position)
        # The length is compared before it is used: a false one costs neither memory nor time.
        if length > min(len(self.data) - start - CRC.size, self.left):
            return None, _CUT
        body = self.view[start : start + length]
        (crc,) = CRC.unpack_from(self.data, start + length)
        if crc != chunk_crc(kind, body) or not kind.isalpha():
            self.left -= length
            return None, _WRONG
        return (kind, body, ChunkInfo(kind.decode("ascii"), length, crc)), ""

    def next_tile(self, position: int) -> tuple[int, Found | None]:
        """The next whole tile and where it begins."""
        while (position := self.data.find(b"TILE", position)) >= 0:
            found, _ = self.chunk(position)
            if found is not None:
                return position, found
            position += 1
        return len(self.data), None


def _metadata(body: memoryview, deflated: bool) -> bytes:
    """A profile, EXIF or XMP, of at most `METADATA_MAX` bytes."""
    if not deflated:
        if len(body) > METADATA_MAX:
            raise CorruptFileError(f"damaged .hpcm file: its metadata has {len(body)} bytes")
        return bytes(body)
    inflater = zlib.decompressobj()
    try:
        whole = inflater.decompress(body, METADATA_MAX + 1)
    except zlib.error:
        whole = b""
    if len(whole) > METADATA_MAX or not inflater.eof or inflater.unused_data:
        raise CorruptFileError("damaged .hpcm file: its metadata cannot be unpacked")
    return whole


def _unpack_header(body: memoryview) -> Header:
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


def _unpack_tile(body: memoryview) -> tuple[int, Tile]:
    """Number and content."""
    room = len(body) - TILE.size - CHECKSUM_SIZE
    if room < 0 or TILE.unpack_from(body)[1] > room:
        raise CorruptFileError("damaged .hpcm file: its tile is shorter than its streams")
    number, length = TILE.unpack_from(body)
    z_end = TILE.size + length
    y_start = z_end + CHECKSUM_SIZE
    return number, Tile(bytes(body[TILE.size : z_end]), bytes(body[y_start:]), bytes(body[z_end:y_start]))

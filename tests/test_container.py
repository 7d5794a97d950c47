from __future__ import annotations

import json
import struct
import subprocess
import sys
import tracemalloc
import zlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcmcodec.container import (
    DEFAULT_PIXELS,
    FAMILIES,
    MAX_PIXELS,
    PRESETS,
    Area,
    ChunkInfo,
    Header,
    Tile,
    check_pixels,
    describe,
    pack,
    pixel_limit,
    reading,
    unpack,
)
from hpcmcodec.container.layout import chunk_crc
from hpcmcodec.errors import CorruptFileError, LimitError, UsageError

HEADER = Header("rwkv", 4, "lite", 5.5, 768, 512, b"\x01\x02\x03\x04", b"\xa1\xa2\xa3\xa4")
TILE = Tile(z=b"zz-stream", y=b"the y stream", checksum=bytes(range(8)))
METADATA = {"exif": b"made by a test"}
SMALL = pack(HEADER, [TILE], metadata=METADATA)
TILED = replace(HEADER, tile=256)  # 3 x 2 of them
SIX = [replace(TILE, y=TILE.y + bytes([number])) for number in range(6)]

GOLDEN = (
    "4850434d0200"  # magic, version
    "48454144" "19000000"  # HEAD, 25 bytes
    "00040101" "8005" "00030000" "00020000" "0000" "00" "01020304" "a1a2a3a4" "87cf523f"
    "65786966" "0e000000" "6d61646520627920612074657374" "c52fdd3a"
    "54494c45" "25000000" "00000000" "09000000" "7a7a2d73747265616d" "0001020304050607"
    "74686520792073747265616d" "6a3a1633"
)  # fmt: skip


def chunk(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + struct.pack("<I", zlib.crc32(kind + data))


def parts(data: bytes = SMALL) -> list[bytes]:
    """A file's start and its chunks."""
    found, position = [data[:6]], 6
    while position < len(data):
        end = position + 12 + struct.unpack_from("<I", data, position + 4)[0]
        found.append(data[position:end])
        position = end
    return found


def test_golden_bytes() -> None:
    assert SMALL.hex() == GOLDEN
    start, head, exif, tile = parts()
    assert b"".join((start, head, exif, tile)) == SMALL
    assert unpack(SMALL).layout == tuple(
        ChunkInfo(part[:4].decode(), len(part) - 12, int.from_bytes(part[-4:], "little"))
        for part in (head, exif, tile)
    )


def test_overhead_is_71_bytes() -> None:
    assert len(pack(HEADER, [Tile(b"", b"", bytes(8))])) == 71


headers = st.builds(
    Header,
    family=st.sampled_from(FAMILIES),
    phase=st.integers(0, 255),
    preset=st.sampled_from(PRESETS),
    quality=st.integers(256, 2048).map(lambda steps: steps / 256),
    width=st.integers(1, 1000),
    height=st.integers(1, 2000),
    entropy_id=st.binary(min_size=4, max_size=4),
    synthesis_id=st.binary(min_size=4, max_size=4),
    tile=st.sampled_from([0, 256, 320, 2048]),
    grey=st.booleans(),
)
tiles = st.builds(Tile, z=st.binary(), y=st.binary(), checksum=st.binary(min_size=8, max_size=8))
everything = st.fixed_dictionaries({}, optional=dict.fromkeys(("icc", "exif", "xmp"), st.binary()))


@given(headers, tiles, st.none() | st.binary(), everything)
def test_round_trip(header: Header, tile: Tile, alpha: bytes | None, metadata: dict[str, bytes]) -> None:
    several = [replace(tile, z=tile.z + bytes([number % 256])) for number in range(len(header.areas))]
    data = pack(header, several, alpha, metadata)
    for partial in (False, True):
        read = unpack(data, partial)
        assert (read.header, read.tiles) == (header, tuple(several))
        assert (read.alpha, read.metadata, read.damage) == (alpha, metadata, ())
    assert pack(read.header, several, read.alpha, read.metadata) == data
    json.dumps(describe(data))


@given(headers)
def test_tiles_cover_the_padded_picture_once(header: Header) -> None:
    height, width = header.padded
    assert 0 <= height - header.height < 64 and 0 <= width - header.width < 64
    rows, columns = header.grid
    assert len(header.areas) == rows * columns
    assert sum(area.height * area.width for area in header.areas) == height * width
    for number, area in enumerate(header.areas):
        assert area.top < header.height and area.left < header.width, "no tile of padding alone"
        assert area.top + area.height <= height and area.left + area.width <= width
        assert all(side % 64 == 0 and side > 0 for side in (area.height, area.width))
        assert not any(area.meets(other) for other in header.areas[:number])


@given(headers, st.tuples(*[st.integers(-300, 2500)] * 2, *[st.integers(1, 2500)] * 2))
def test_tiles_in_an_area(header: Header, where: tuple[int, int, int, int]) -> None:
    area = Area(*where)
    meet = [number for number, tile in enumerate(header.areas) if tile.meets(area)]
    assert header.tiles_in(area) == meet


@given(st.binary())
def test_any_bytes_give_the_typed_error(data: bytes) -> None:
    for candidate in (data, SMALL[:4] + data, SMALL[:6] + data, SMALL + b"\0" + data):
        with pytest.raises(CorruptFileError):
            unpack(candidate)


@given(st.floats(1, 8))
def test_quality_is_rounded_to_256ths(quality: float) -> None:
    read = unpack(pack(replace(HEADER, quality=quality), [TILE])).header.quality
    assert abs(read - quality) <= 1 / 512 and read * 256 == int(read * 256)


def test_every_truncation_is_refused() -> None:
    for length in range(len(SMALL)):
        with pytest.raises(CorruptFileError) as error:
            unpack(SMALL[:length])
        assert "\n" not in str(error.value)


def test_every_bit_flip_is_refused() -> None:
    for bit in range(8 * len(SMALL)):
        damaged = bytearray(SMALL)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptFileError):
            unpack(bytes(damaged))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not a .hpcm file: it is empty"),
        (b"\x89PNG\r\n\x1a\n" + bytes(64), "not a .hpcm file: it does not start with HPCM"),
        (b"\xff\xd8\xff\xe0" + bytes(64), "not a .hpcm file: it does not start with HPCM"),
        (b"HP", "truncated .hpcm file"),
        (SMALL[:4] + b"\x03\x00" + SMALL[6:], "format version 3, newer than 2: update hpcmcodec"),
        (SMALL[:4] + b"\x01\x00" + SMALL[6:], "version 1 of an early hpcmcodec"),
        (SMALL[:4] + b"\x00\x00" + SMALL[6:], "no format version 0"),
        (SMALL[:6], "ends before its header"),
        (b"".join(parts()[:3]), "ends before its picture data"),
        (b"".join(parts(pack(TILED, SIX))[:4]), "ends before 4 of its 6 tiles"),
        (SMALL + b"x", f"chunk at byte {len(SMALL)} is incomplete"),
        (SMALL + chunk(b"noTe", b""), "more behind its last tile"),
    ],
)
def test_messages(data: bytes, words: str) -> None:
    with pytest.raises(CorruptFileError, match=words):
        unpack(data)


def test_what_is_damaged_is_not_called_truncated() -> None:
    data = bytearray(SMALL)
    data[-1] ^= 1
    with pytest.raises(CorruptFileError, match=r"^damaged \.hpcm file: too little is left of it"):
        unpack(bytes(data), partial=True)


def test_unknown_critical_chunk_is_refused() -> None:
    start, head, _, tile = parts()
    with pytest.raises(CorruptFileError, match=r"needs 'DELT'.*update hpcmcodec"):
        unpack(start + head + chunk(b"DELT", b"\0") + tile)


def test_unknown_ancillary_chunk_is_skipped_and_listed() -> None:
    start, head, _, tile = parts()
    read = unpack(start + head + chunk(b"wxYZ", b"later") + tile)
    assert (read.header, read.tiles, read.metadata) == (HEADER, (TILE,), {})
    assert [info.type for info in read.layout] == ["HEAD", "wxYZ", "TILE"]


@pytest.mark.parametrize("order", ["TH", "HHT", "HTT", "H", "T"])
def test_wrong_order_is_refused(order: str) -> None:
    start, head, _, tile = parts()
    with pytest.raises(CorruptFileError):
        unpack(start + b"".join({"H": head, "T": tile}[letter] for letter in order))


def test_false_lengths_do_not_allocate() -> None:
    start, head, _, _ = parts()
    huge_chunk = start + head + b"TILE" + struct.pack("<I", 2**32 - 1) + bytes(32)
    huge_z = start + head + chunk(b"TILE", struct.pack("<II", 0, 2**32 - 1) + bytes(32))
    bomb = start + head + chunk(b"icpr", zlib.compress(bytes(1 << 26))) + chunk(b"TILE", bytes(16))
    tracemalloc.start()
    try:
        for data in (huge_chunk, huge_z):
            for partial in (False, True):
                with pytest.raises(CorruptFileError):
                    unpack(data, partial)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
        with pytest.raises(CorruptFileError, match="cannot be unpacked"):
            unpack(bomb)
        assert tracemalloc.get_traced_memory()[1] < 100_000_000
    finally:
        tracemalloc.stop()


def head_body(**changes: int) -> bytes:
    """The fields of a header, right or wrong."""
    fields = {
        "family": 0, "phase": 4, "preset": 1, "profile": 0, "quality": 1280,
        "width": 8, "height": 8, "tile": 0, "colour": 0,
    }  # fmt: skip
    return struct.pack("<BBBBHIIHB8s", *(fields | changes).values(), bytes(8))


def test_a_good_header_is_read() -> None:
    start, _, _, tile = parts()
    for body in (head_body(), head_body(width=2048, height=2048), head_body(tile=4), head_body(colour=1)):
        unpack(start + chunk(b"HEAD", body) + tile)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        bytes(24),
        bytes(26),
        head_body(family=9),
        head_body(preset=9),
        head_body(profile=9),
        head_body(colour=2),
        head_body(quality=255),
        head_body(quality=2049),
        head_body(width=0),
        head_body(height=0),
        head_body(width=2049, height=2048),
        head_body(width=1, height=65537),
        head_body(tile=3),
        head_body(tile=33),
        head_body(width=2**32 - 1, height=2**32 - 1, tile=32),
        head_body(width=2**15, height=2**14 + 1, tile=32),
    ],
)
def test_bad_header_with_a_good_crc_is_refused(body: bytes) -> None:
    start, _, _, tile = parts()
    for partial in (False, True):
        with pytest.raises(CorruptFileError):
            unpack(start + chunk(b"HEAD", body) + tile, partial)


@pytest.mark.parametrize("body", [b"", bytes(15), struct.pack("<II", 0, 1) + bytes(8)])
def test_bad_tile_with_a_good_crc_is_refused(body: bytes) -> None:
    start, head, _, _ = parts()
    with pytest.raises(CorruptFileError, match="shorter than its streams"):
        unpack(start + head + chunk(b"TILE", body))


def test_tiles_are_in_their_places() -> None:
    start, head, *tiles = parts(pack(TILED, SIX))
    for wrong in ([1, 0, 2, 3, 4, 5], [0, 0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 5, 5]):
        with pytest.raises(CorruptFileError, match="is not in its place"):
            unpack(start + head + b"".join(tiles[number] for number in wrong))
    for bad in (6, 2**32 - 1):
        with pytest.raises(CorruptFileError, match="is not in its place"):
            unpack(start + head + chunk(b"TILE", struct.pack("<II", bad, 0) + bytes(8)))


def test_what_is_left_of_a_damaged_file() -> None:
    pieces = parts(pack(TILED, SIX, b"alpha", METADATA))
    for broken in range(2, len(pieces)):
        for offset in (0, 4, 9, -1):
            damaged = [bytearray(piece) for piece in pieces]
            damaged[broken][offset] ^= 0x55
            data = b"".join(damaged)
            with pytest.raises(CorruptFileError):
                unpack(data)
            left = unpack(data, partial=True)
            number = broken - 4
            assert left.tiles == tuple(t if i != number else None for i, t in enumerate(SIX))
            assert left.damage and all("\n" not in line for line in left.damage)
            # An unreadable alpha takes the chunk behind it along: only tiles are looked for.
            assert left.alpha == (None if broken == 2 else b"alpha")
    half = b"".join(pieces[:7])
    assert [tile is None for tile in unpack(half, partial=True).tiles] == [False] * 3 + [True] * 3
    for hopeless in (pieces[0], b"".join(pieces[:4]), b"".join(pieces)[:30]):
        with pytest.raises(CorruptFileError):
            unpack(hopeless, partial=True)


def test_a_chunk_among_the_tiles_is_refused() -> None:
    start, head, *tiles = parts(pack(TILED, SIX))
    side = (
        chunk(b"ALPH", b"a"),
        chunk(b"exif", b"e"),
        chunk(b"icpr", zlib.compress(b"i")),
        chunk(b"noTe", b""),
    )
    for between in side:
        for place in range(1, 7):
            data = start + head + b"".join([*tiles[:place], between, *tiles[place:]])
            with pytest.raises(CorruptFileError, match=r"among its tiles|behind its last tile"):
                unpack(data)
            left = unpack(data, partial=True)
            assert (left.tiles, left.alpha, left.metadata) == (tuple(SIX), None, {})
            assert len(left.damage) == 1
        unpack(start + head + between + b"".join(tiles))


@pytest.mark.parametrize("kind", ["ALPH", "icpr", "exif", "xmpd"])
def test_each_known_chunk_stands_once(kind: str) -> None:
    start, head, *tiles = parts(pack(TILED, SIX))
    first, second = (chunk(kind.encode(), zlib.compress(text)) for text in (b"first", b"second"))
    broken = chunk(kind.encode(), zlib.compress(b"third")[:-1])
    rest = chunk(b"noTe", b"twice") * 2 + b"".join(tiles)
    once, twice = unpack(start + head + first + rest), start + head + first + second + rest
    with pytest.raises(CorruptFileError, match=f"more than one chunk '{kind}'"):
        unpack(twice)
    left = unpack(twice, partial=True)
    assert (left.alpha, left.metadata) == (once.alpha, once.metadata) and len(left.damage) == 1
    if kind in ("icpr", "xmpd"):
        left = unpack(start + head + broken + second + rest, partial=True)
        assert left.metadata == {} and len(left.damage) == 2, "a damaged one counts"


def test_metadata_is_bounded() -> None:
    start, head, _, tile = parts()
    largest = bytes(1 << 24)
    whole = pack(HEADER, [TILE], metadata=dict.fromkeys(("icc", "exif", "xmp"), largest))
    assert unpack(whole).metadata == dict.fromkeys(("icc", "exif", "xmp"), largest)
    packed = zlib.compress(largest + b"x", 1)
    for kind, body in ((b"icpr", packed), (b"xmpd", packed), (b"exif", largest + b"x")):
        data = start + head + chunk(kind, body) + tile
        with pytest.raises(CorruptFileError, match="metadata"):
            unpack(data)
        assert unpack(data, partial=True).metadata == {}
    for wrong in (b"", b"no stream", zlib.compress(b"x")[:-1], zlib.compress(b"x") + b"y"):
        with pytest.raises(CorruptFileError, match="metadata cannot be unpacked"):
            unpack(start + head + chunk(b"icpr", wrong) + tile)


def test_many_profiles_are_not_unpacked() -> None:
    start, head, _, tile = parts()
    profiles = [chunk(b"icpr", zlib.compress(bytes([n]) * (1 << 24), 1)) for n in range(8)]
    bombs = [chunk(b"xmpd", zlib.compress(bytes(1 << 25), 1))] * 8
    data = start + head + b"".join(profiles + bombs) + tile
    tracemalloc.start()
    try:
        left = unpack(data, partial=True)
        assert tracemalloc.get_traced_memory()[1] < 80_000_000
    finally:
        tracemalloc.stop()
    assert list(left.metadata) == ["icc"]


def test_the_limit_on_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HPCM_MAX_PIXELS", raising=False)
    assert pixel_limit() == DEFAULT_PIXELS and pixel_limit(5) == 5 and pixel_limit(2**40) == MAX_PIXELS
    monkeypatch.setenv("HPCM_MAX_PIXELS", "7000")
    assert pixel_limit() == 7000 and pixel_limit(5) == 5
    check_pixels(1, 64 * 109, 7000 * 64)
    check_pixels(64, 64)
    with pytest.raises(LimitError, match=r"the picture is 1 x 65, coded as 64 x 128: more than 7000 pixels"):
        check_pixels(1, 65)
    for wrong in ("", "many", "0", "-5", "1e6"):
        monkeypatch.setenv("HPCM_MAX_PIXELS", wrong)
        if wrong:
            with pytest.raises(UsageError, match="HPCM_MAX_PIXELS takes a number of pixels"):
                pixel_limit()
        else:
            assert pixel_limit() == DEFAULT_PIXELS
    for number in (0, -1):
        with pytest.raises(UsageError, match="max_pixels takes a number of pixels"):
            pixel_limit(number)


@pytest.mark.parametrize("partial", [False, True])
def test_files_above_the_limit_are_refused(monkeypatch: pytest.MonkeyPatch, partial: bool) -> None:
    start, _, _, tile = parts()
    line = pack(replace(HEADER, width=1, height=4000), [TILE])
    unpack(line, partial, max_pixels=64 * 4032)
    with pytest.raises(LimitError):
        unpack(line, partial, max_pixels=64 * 4032 - 1)
    with pytest.raises(LimitError):
        describe(line, max_pixels=4000)
    unpack(SMALL, partial, max_pixels=768 * 512)
    monkeypatch.setenv("HPCM_MAX_PIXELS", str(768 * 512 - 1))
    with pytest.raises(LimitError):
        unpack(SMALL, partial)
    monkeypatch.delenv("HPCM_MAX_PIXELS")
    large = start + chunk(b"HEAD", head_body(width=2**14 + 1, height=2**14, tile=32)) + tile
    with pytest.raises(LimitError, match="16385 x 16384"):
        unpack(large, partial)


def test_a_little_that_is_left_is_not_blown_up() -> None:
    """One tile in seventeen is what may be left, of a picture that its bytes can account for."""
    row = replace(HEADER, width=18 * 256, height=256, tile=256)
    start, head, *tiles = parts(pack(row, [TILE] * 18))
    left = unpack(start + head + tiles[0] + tiles[17], partial=True)
    assert left.tiles == (TILE, *[None] * 16, TILE)
    with pytest.raises(CorruptFileError, match="ends before 17 of its 18 tiles"):
        unpack(start + head + tiles[3], partial=True)

    def few(bytes_there: int) -> bytes:
        wide = replace(HEADER, width=17 * 2048, height=2048, tile=2048)
        start, head, first, *_ = parts(pack(wide, [replace(TILE, y=bytes(bytes_there))] * 17))
        return start + head + first

    assert len(few(0)) < 100
    with pytest.raises(CorruptFileError, match="too little of it is left, 16 of its 17 tiles"):
        unpack(few(0), partial=True)
    with pytest.raises(CorruptFileError, match="too little of it is left"):
        unpack(few(2**16 - 200), partial=True)
    assert unpack(few(2**16), partial=True).tiles[1:] == (None,) * 16
    four = parts(pack(replace(HEADER, width=5 * 2048, height=2048, tile=2048), [TILE] * 5))
    assert unpack(b"".join(four[:3]), partial=True).tiles[1:] == (None,) * 4, "so much is always allowed"


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of all that a CRC is computed of."""
    sizes: list[int] = []
    whole = chunk_crc

    def counted(kind: bytes, data: memoryview) -> int:
        sizes.append(len(data))
        return whole(kind, data)

    monkeypatch.setattr(reading, "chunk_crc", counted)
    return sizes


@pytest.mark.parametrize("good", [False, True])
def test_looking_for_tiles_is_linear(checked: list[int], good: bool) -> None:
    """However many places claim to be a tile of the whole rest, with whole tiles among them or without."""
    start, head, *tiles = parts(pack(TILED, SIX))
    kilobytes = 64
    junk = bytearray(b"TILE\0\0\0\0" * 128 * kilobytes)
    for place in range(0, len(junk), 8):
        struct.pack_into("<I", junk, place + 4, max(0, len(junk) - place - 12))
    if good:
        again = tiles[1] * (len(junk) // len(tiles[1]))
        half = len(tiles[1])
        junk = bytearray(b"".join(again[i : i + half] + junk[i : i + 8] for i in range(0, len(again), half)))
    data = start + head + tiles[0] + junk + tiles[5]
    left = unpack(data, partial=True)
    assert left.tiles[0] and len(left.damage) < 12
    assert sum(checked) < 6 * len(data)


def test_false_beginnings_hide_no_tile() -> None:
    start, head, *tiles = parts(pack(TILED, SIX))
    false = b"".join(b"TILE" + struct.pack("<I", length) for length in (0, 5, 37, 60, 2**32 - 1))
    data = start + head + false.join(tiles)
    assert unpack(data, partial=True).tiles == tuple(SIX)


def test_faults_are_summed_up() -> None:
    start, head, *tiles = parts(pack(TILED, SIX))
    left = unpack(start + head + b"".join(tiles) + tiles[2] * 1000, partial=True)
    assert left.tiles == tuple(SIX)
    assert left.damage[-1] == "992 more faults of these kinds" and len(left.damage) == 9


@pytest.mark.parametrize("partial", [False, True])
def test_many_empty_chunks(checked: list[int], partial: bool) -> None:
    start, head, exif, tile = parts()
    data = start + head + chunk(b"noTe", b"") * 5000 + exif + tile
    read = unpack(data, partial)
    assert (read.tiles, read.metadata, len(read.layout)) == ((TILE,), METADATA, 5003)
    assert sum(checked) < len(data) and len(checked) == 5003


@pytest.mark.parametrize("kind", [b"no e", b"n0te", b"\xffote"])
def test_types_are_ascii_letters(kind: bytes) -> None:
    start, head, _, tile = parts()
    with pytest.raises(CorruptFileError):
        unpack(start + head + chunk(kind, b"") + tile)


@pytest.mark.parametrize(
    "change",
    [
        {"family": "other"},
        {"preset": "other"},
        {"phase": -1},
        {"phase": 256},
        {"quality": 0.99},
        {"quality": 8.01},
        {"quality": float("nan")},
        {"width": 0},
        {"height": 2**32},
        {"entropy_id": b"123"},
        {"synthesis_id": b"12345"},
        {"width": 2049, "height": 2049},
        {"tile": 100},
        {"tile": 4096},
        {"tile": -256},
        {"width": 2**20, "height": 2**10, "tile": 2048},
    ],
)
def test_pack_refuses_what_does_not_fit(change: dict) -> None:
    with pytest.raises(UsageError):
        pack(replace(HEADER, **change), [TILE])


def test_pack_refuses_bad_tiles_and_types() -> None:
    for tiles in ([], [TILE, TILE], [replace(TILE, checksum=bytes(7))]):
        with pytest.raises(UsageError):
            pack(HEADER, tiles)
    for metadata in ({"note": b""}, {"exif": bytes((1 << 24) + 1)}):
        with pytest.raises(UsageError):
            pack(HEADER, [TILE], metadata=metadata)


def test_describe_says_everything() -> None:
    told = describe(SMALL)
    assert json.loads(json.dumps(told)) == told
    for name in ("family", "phase", "preset", "quality", "width", "height"):
        assert told[name] == getattr(HEADER, name)
    assert (told["entropy_id"], told["synthesis_id"]) == ("01020304", "a1a2a3a4")
    assert (told["format_version"], told["bytes"]) == (2, len(SMALL))
    assert told["bits_per_pixel"] == pytest.approx(8 * len(SMALL) / (768 * 512))
    assert told["tiles"] == [{"z_bytes": 9, "y_bytes": 12, "checksum": "0001020304050607"}]
    assert [(c["type"], c["critical"], c["length"]) for c in told["chunks"]] == [
        ("HEAD", True, 25),
        ("exif", False, 14),
        ("TILE", True, 37),
    ]
    assert [int(c["crc32"], 16) for c in told["chunks"]] == [info.crc for info in unpack(SMALL).layout]


def test_needs_the_standard_library_only() -> None:
    code = (
        "import sys, hpcmcodec.container;"
        "assert not {'torch', 'numpy', 'PIL', 'compressai'} & set(sys.modules), 'heavy import'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

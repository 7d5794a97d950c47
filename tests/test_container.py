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
    FAMILIES,
    PRESETS,
    ChunkInfo,
    Header,
    Tile,
    describe,
    pack,
    unpack,
)
from hpcmcodec.errors import CorruptFileError, UsageError

HEADER = Header("rwkv", 4, "lite", 5.5, 768, 512, b"\x01\x02\x03\x04", b"\xa1\xa2\xa3\xa4")
TILE = Tile(z=b"zz-stream", y=b"the y stream", checksum=bytes(range(8)))
ANCILLARY = ((b"noTe", b"made by a test"),)
SMALL = pack(HEADER, [TILE], ANCILLARY)

GOLDEN = (
    "4850434d0100"  # magic, version
    "48454144" "15000000"  # HEAD, 21 bytes
    "000401" "8005" "00030000" "00020000" "01020304" "a1a2a3a4" "f74c0061"
    "6e6f5465" "0e000000" "6d61646520627920612074657374" "5ed4e619"
    "54494c45" "21000000" "09000000" "7a7a2d73747265616d" "0001020304050607"
    "74686520792073747265616d" "e7490361"
)  # fmt: skip


def chunk(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + struct.pack("<I", zlib.crc32(kind + data))


def parts() -> list[bytes]:
    """The small file without its ancillary chunk: start, HEAD, TILE."""
    plain = pack(HEADER, [TILE])
    return [plain[:6], plain[6:39], plain[39:]]


def test_golden_bytes() -> None:
    assert SMALL.hex() == GOLDEN
    assert unpack(SMALL).layout == (
        ChunkInfo("HEAD", 21, int.from_bytes(SMALL[35:39], "little")),
        ChunkInfo("noTe", 14, int.from_bytes(SMALL[61:65], "little")),
        ChunkInfo("TILE", 33, int.from_bytes(SMALL[-4:], "little")),
    )


def test_overhead_is_63_bytes() -> None:
    assert len(pack(HEADER, [Tile(b"", b"", bytes(8))])) == 63


headers = st.builds(
    Header,
    family=st.sampled_from(FAMILIES),
    phase=st.integers(0, 255),
    preset=st.sampled_from(PRESETS),
    quality=st.integers(256, 2048).map(lambda steps: steps / 256),
    width=st.integers(1, 2**32 - 1),
    height=st.integers(1, 2**32 - 1),
    entropy_id=st.binary(min_size=4, max_size=4),
    synthesis_id=st.binary(min_size=4, max_size=4),
)
tiles = st.builds(Tile, z=st.binary(), y=st.binary(), checksum=st.binary(min_size=8, max_size=8))
kinds = st.from_regex(rb"[a-z][a-zA-Z]{3}", fullmatch=True)


@given(headers, tiles, st.lists(st.tuples(kinds, st.binary()), max_size=3))
def test_round_trip(header: Header, tile: Tile, ancillary: list[tuple[bytes, bytes]]) -> None:
    data = pack(header, [tile], ancillary)
    read = unpack(data)
    assert (read.header, read.tiles, read.ancillary) == (header, (tile,), tuple(ancillary))
    assert pack(read.header, read.tiles, read.ancillary) == data
    json.dumps(describe(data))


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
        (SMALL[:4] + b"\x02\x00" + SMALL[6:], "format version 2, newer than 1: update hpcmcodec"),
        (SMALL[:4] + b"\x00\x00" + SMALL[6:], "no format version 0"),
        (SMALL[:6], "ends before its picture data"),
        (SMALL + b"x", "chunk at byte 110 is incomplete"),
        (SMALL + chunk(b"noTe", b""), "more behind its last tile"),
    ],
)
def test_messages(data: bytes, words: str) -> None:
    with pytest.raises(CorruptFileError, match=words):
        unpack(data)


def test_unknown_critical_chunk_is_refused() -> None:
    start, head, tile = parts()
    with pytest.raises(CorruptFileError, match=r"needs 'ALPH'.*update hpcmcodec"):
        unpack(start + head + chunk(b"ALPH", b"\0") + tile)


def test_unknown_ancillary_chunk_is_skipped_and_listed() -> None:
    start, head, tile = parts()
    read = unpack(start + head + chunk(b"wxYZ", b"later") + tile)
    assert (read.header, read.tiles) == (HEADER, (TILE,))
    assert read.ancillary == ((b"wxYZ", b"later"),)
    assert [info.type for info in read.layout] == ["HEAD", "wxYZ", "TILE"]


@pytest.mark.parametrize("order", ["TH", "HHT", "HTT", "H", "T"])
def test_wrong_order_is_refused(order: str) -> None:
    start, head, tile = parts()
    with pytest.raises(CorruptFileError):
        unpack(start + b"".join({"H": head, "T": tile}[letter] for letter in order))


def test_false_lengths_do_not_allocate() -> None:
    start, head, _ = parts()
    huge_chunk = start + head + b"TILE" + struct.pack("<I", 2**32 - 1) + bytes(32)
    huge_z = start + head + chunk(b"TILE", struct.pack("<I", 2**32 - 1) + bytes(32))
    tracemalloc.start()
    try:
        for data in (huge_chunk, huge_z):
            with pytest.raises(CorruptFileError):
                unpack(data)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        bytes(20),
        bytes(22),
        struct.pack("<BBBHII8s", 9, 4, 1, 1280, 8, 8, bytes(8)),
        struct.pack("<BBBHII8s", 0, 4, 9, 1280, 8, 8, bytes(8)),
        struct.pack("<BBBHII8s", 0, 4, 1, 255, 8, 8, bytes(8)),
        struct.pack("<BBBHII8s", 0, 4, 1, 2049, 8, 8, bytes(8)),
        struct.pack("<BBBHII8s", 0, 4, 1, 1280, 0, 8, bytes(8)),
        struct.pack("<BBBHII8s", 0, 4, 1, 1280, 8, 0, bytes(8)),
    ],
)
def test_bad_header_with_a_good_crc_is_refused(body: bytes) -> None:
    start, _, tile = parts()
    with pytest.raises(CorruptFileError):
        unpack(start + chunk(b"HEAD", body) + tile)


@pytest.mark.parametrize("body", [b"", bytes(11), struct.pack("<I", 1) + bytes(8)])
def test_bad_tile_with_a_good_crc_is_refused(body: bytes) -> None:
    start, head, _ = parts()
    with pytest.raises(CorruptFileError, match="shorter than its streams"):
        unpack(start + head + chunk(b"TILE", body))


@pytest.mark.parametrize("kind", [b"no e", b"n0te", b"\xffote"])
def test_types_are_ascii_letters(kind: bytes) -> None:
    start, head, tile = parts()
    with pytest.raises(CorruptFileError):
        unpack(start + head + chunk(kind, b"") + tile)
    with pytest.raises(UsageError):
        pack(HEADER, [TILE], [(kind, b"")])


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
    ],
)
def test_pack_refuses_what_does_not_fit(change: dict) -> None:
    with pytest.raises(UsageError):
        pack(replace(HEADER, **change), [TILE])


def test_pack_refuses_bad_tiles_and_types() -> None:
    for tiles in ([], [TILE, TILE], [replace(TILE, checksum=bytes(7))]):
        with pytest.raises(UsageError):
            pack(HEADER, tiles)
    for kind in (b"NOTE", b"not", b"notes"):
        with pytest.raises(UsageError):
            pack(HEADER, [TILE], [(kind, b"")])


def test_describe_says_everything() -> None:
    told = describe(SMALL)
    assert json.loads(json.dumps(told)) == told
    for name in ("family", "phase", "preset", "quality", "width", "height"):
        assert told[name] == getattr(HEADER, name)
    assert (told["entropy_id"], told["synthesis_id"]) == ("01020304", "a1a2a3a4")
    assert (told["format_version"], told["bytes"]) == (1, len(SMALL))
    assert told["bits_per_pixel"] == pytest.approx(8 * len(SMALL) / (768 * 512))
    assert told["tiles"] == [{"z_bytes": 9, "y_bytes": 12, "checksum": "0001020304050607"}]
    assert [(c["type"], c["critical"], c["length"]) for c in told["chunks"]] == [
        ("HEAD", True, 21),
        ("noTe", False, 14),
        ("TILE", True, 33),
    ]
    assert [int(c["crc32"], 16) for c in told["chunks"]] == [info.crc for info in unpack(SMALL).layout]


def test_needs_the_standard_library_only() -> None:
    code = (
        "import sys, hpcmcodec.container;"
        "assert not {'torch', 'numpy', 'PIL', 'compressai'} & set(sys.modules), 'heavy import'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

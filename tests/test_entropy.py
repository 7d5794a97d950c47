from __future__ import annotations

import importlib.util
import itertools
import math
import subprocess
import sys
import tracemalloc
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hpcmcodec.entropy import coders, native, rans
from hpcmcodec.entropy.rans import SYMBOL_LIMIT, RansDecoder, encode, padded_size
from hpcmcodec.entropy.tables import (
    LEVELS,
    SCALE_MAX,
    SCALE_MIN,
    TOTAL,
    CdfTables,
    fitted_tables,
    gaussian_tables,
    generalized_gaussian_tables,
    quantize_pmf,
    scale_index,
    scale_table,
)
from hpcmcodec.errors import CorruptFileError, HpcmError, WeightsError

Ints = npt.NDArray[np.int32]

GAUSSIAN = gaussian_tables()


def one_row(*shares: int, offset: int = 0) -> CdfTables:
    """A single row from the shares of its symbols and, last, its escape."""
    cdf = np.concatenate([[0], np.cumsum(shares)])[None]
    return CdfTables(cdf, np.array([cdf.shape[1]]), np.array([offset]))


FLAT = one_row(*[4096] * 16)
RARE = one_row(1, 1, TOTAL - 3, 1)
ESCAPING = one_row(1, TOTAL - 1)
EVEN = one_row(TOTAL // 2, TOTAL // 2)
ROWS = {"gaussian": GAUSSIAN, "flat": FLAT, "rare": RARE, "escaping": ESCAPING, "even": EVEN}


def sample(n: int, spread: float = 1.0, seed: int = 0) -> tuple[Ints, Ints]:
    """Symbols and indexes of all levels; with a wide `spread`, many escapes."""
    rng = np.random.default_rng(seed)
    indexes = rng.integers(0, LEVELS, n).astype(np.int32)
    return np.rint(rng.normal(size=n) * scale_table()[indexes] * spread).astype(np.int32), indexes


def isolated(code: str) -> None:
    """Run in a process of its own, where a crash of native code is a failed test and not a lost test run."""
    header = "import numpy as np; from hpcmcodec.errors import *; from hpcmcodec.entropy import *\n"
    done = subprocess.run([sys.executable, "-c", header + code], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr


class ReferenceDecoder:
    """The native decoder in Python integers; it fails where the native one would read behind its buffer."""

    def set_stream(self, data: bytes) -> None:
        self.words = iter(np.frombuffer(data, "<u4", len(data) // 4).tolist())
        self.state = next(self.words) | next(self.words) << 32

    def take(self, state: int) -> None:
        if state < 1 << 31:
            word = next(self.words, None)
            assert word is not None, "read behind the buffer"
            state = state << 32 | word
        self.state = state

    def group(self) -> int:
        value = self.state & 15
        self.take(self.state >> 4)
        return value

    def symbol(self, row: list[int]) -> int:
        low = self.state & 0xFFFF
        value = next(i for i, bound in enumerate(row) if bound > low) - 1
        self.take((row[value + 1] - row[value]) * (self.state >> 16) + low - row[value])
        escape = len(row) - 2
        if value < escape:
            return value
        groups = part = self.group()
        while part == 15:
            part = self.group()
            groups += part
        raw = 0
        for i in range(groups):
            raw |= self.group() << 4 * (i % 8)
        raw -= (raw >> 31) << 32
        return -(raw >> 1) - 1 if raw & 1 else (raw >> 1) + escape

    def decode_stream(
        self, indexes: list[int], rows: list[list[int]], sizes: list[int], offsets: list[int]
    ) -> list[int]:
        return [self.symbol(rows[index]) + offsets[index] for index in indexes]


def test_scale_table_is_log_spaced() -> None:
    table = scale_table()
    assert table.shape == (LEVELS,)
    assert table.dtype == np.float64
    assert (table[0], table[-1]) == (SCALE_MIN, SCALE_MAX)
    np.testing.assert_allclose(np.diff(np.log(table)), math.log(SCALE_MAX / SCALE_MIN) / 63, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_scale_index_is_the_smallest_level_that_holds_the_scale(dtype: torch.dtype) -> None:
    table = scale_table()
    values = [0.0, 1e-9, 0.12, 0.1201, 1.0, 63.9, 64.0, 64.1, 1e4, math.inf, *table, *np.nextafter(table, 99)]
    scale = torch.tensor(values, dtype=torch.float64).to(dtype)
    wanted = [min([i for i in range(LEVELS) if v <= table[i]], default=LEVELS - 1) for v in scale.tolist()]
    index = scale_index(scale.reshape(2, -1))
    assert index.dtype == torch.int32
    assert index.shape == (2, len(values) // 2)
    assert index.flatten().tolist() == wanted
    assert scale_index(torch.tensor([math.nan], dtype=dtype)).tolist() == [LEVELS - 1]


def test_gaussian_pmf_is_that_of_the_error_function() -> None:
    for level, scale in enumerate(scale_table()):
        n = -int(GAUSSIAN.offset[level])
        edges = (np.arange(-n, n + 2) - 0.5) / (scale * math.sqrt(2))
        pmf = np.diff([math.erf(edge) / 2 for edge in edges])
        shares = np.diff(GAUSSIAN.cdf[level, : 2 * n + 2])
        assert np.abs(shares - TOTAL * pmf).max() < 1 + 0.02 * TOTAL * pmf.max()
        assert math.erfc((n + 0.5) / (scale * math.sqrt(2))) <= 1e-6 < math.erfc(edges[-2])


@pytest.mark.parametrize("shape", [1.0, 1.5, 1.75, 2.0])
def test_scale_is_the_standard_deviation_for_every_shape(shape: float) -> None:
    tables = generalized_gaussian_tables(shape, [4.0, 16.0])
    for level, scale in enumerate((4.0, 16.0)):
        used = tables.sizes[level] - 1
        symbols = np.arange(used - 1) + tables.offsets[level]
        shares = np.diff(tables.cdf[level, :used])
        assert (shares == shares[::-1]).mean() > 0.8
        assert math.sqrt(shares @ symbols**2 / TOTAL) == pytest.approx(scale, rel=0.06)


def test_shape_1_is_the_laplacian() -> None:
    tables = generalized_gaussian_tables(1.0, [2.0])
    n = -tables.offsets[0]
    zero = (tables.cdf[0, n + 1] - tables.cdf[0, n]) / TOTAL
    assert zero == pytest.approx(1 - math.exp(-0.5 * math.sqrt(2) / 2.0), abs=1e-3)


def test_tables_of_the_codec() -> None:
    assert GAUSSIAN.cdf.shape == (LEVELS, 629)
    assert GAUSSIAN.size[0] == 5
    assert (GAUSSIAN.escapes == 1).all()
    assert all(
        row[-1] == TOTAL and len(row) == size for row, size in zip(GAUSSIAN.rows, GAUSSIAN.sizes, strict=True)
    )


@given(st.lists(st.floats(0, 1), min_size=1, max_size=300).filter(lambda p: sum(p) > 1e-300))
@example([0.3671875, 0.0078125, 0.0078125, 0.0078125])  # equals that all miss the next share together
def test_quantize_pmf_gives_everyone_a_share(pmf: list[float]) -> None:
    shares = quantize_pmf(pmf)
    assert shares.dtype == np.int32
    assert shares.sum() == TOTAL
    assert shares.min() >= 1
    exact = TOTAL * np.array(pmf) / np.sum(pmf)
    assert (shares <= exact + 2).all()
    assert (np.diff(shares[np.argsort(pmf, kind="stable")]) >= -1).all()


def test_quantize_pmf_edges() -> None:
    assert quantize_pmf([0.5, 0.25, 0.25, 0]).tolist() == [32767, 16384, 16384, 1]
    assert quantize_pmf([1, 1, 1]).tolist() == [21846, 21845, 21845]
    assert quantize_pmf([1.0, *[0.0] * (TOTAL - 1)]).tolist() == [1] * TOTAL
    for wrong in ([], [0.0, 0.0], [1.0, -0.1], [math.nan, 1], [math.inf, 1], [[1.0]], [1.0] * (TOTAL + 1)):
        with pytest.raises(ValueError, match="pmf"):
            quantize_pmf(wrong)


def changed(**arrays: Any) -> dict[str, Any]:
    return {"cdf": [[0, 9, TOTAL, 0], [0, 1, 2, TOTAL]], "size": [3, 4], "offset": [0, -1]} | arrays


@pytest.mark.parametrize(
    "arrays",
    [
        changed(cdf=[[0, 9, TOTAL, 0], [0, 2, 2, TOTAL]]),
        changed(cdf=[[0, 9, TOTAL, 0], [0, 3, 2, TOTAL]]),
        changed(cdf=[[0, 9, TOTAL - 1, 0], [0, 1, 2, TOTAL]]),
        changed(cdf=[[0, 9, TOTAL, 0], [1, 2, 3, TOTAL]]),
        changed(cdf=[[0, 9, TOTAL, 0], [-1, 1, 2, TOTAL]]),
        changed(cdf=[[0.0, 9.0, 65536.0, 0.0], [0.0, 1.0, 2.0, 65536.0]]),
        changed(cdf=[[0, 9, TOTAL, 0], [0, 1, 2, TOTAL + 2**32]]),
        changed(cdf=[0, 1, 2, TOTAL]),
        changed(cdf=np.zeros((0, 4), dtype=np.int32), size=[], offset=[]),
        changed(size=[3, 5]),
        changed(size=[2, 4]),
        changed(size=[-3, 4]),
        changed(size=[3, 3]),
        changed(size=[3]),
        changed(offset=[0]),
        changed(offset=[0, 1 << 20]),
        changed(offset=[0, -(1 << 31)]),
    ],
)
def test_damaged_tables_are_refused(arrays: dict[str, Any]) -> None:
    CdfTables.from_arrays({name: np.asarray(array) for name, array in changed().items()})
    with pytest.raises(WeightsError):
        CdfTables.from_arrays({name: np.asarray(array) for name, array in arrays.items()})


def test_tables_come_back_from_their_arrays_and_stay_as_they_are() -> None:
    arrays = GAUSSIAN.to_arrays()
    assert sorted(arrays) == ["cdf", "offset", "size"]
    assert all(array.dtype == np.int32 for array in arrays.values())
    again = CdfTables.from_arrays({name: array.copy() for name, array in arrays.items()}).to_arrays()
    assert all((again[name] == arrays[name]).all() for name in arrays)
    with pytest.raises(ValueError, match="read-only"):
        GAUSSIAN.cdf[0, 0] = 1
    with pytest.raises(WeightsError, match="size"):
        CdfTables.from_arrays({"cdf": arrays["cdf"], "offset": arrays["offset"]})


def histograms(factor: float, n: int = 20_000, reach: int = 500) -> npt.NDArray[np.int64]:
    """Counts of a tail heavier than the Gaussian's, one row per level."""
    rng = np.random.default_rng(1)
    symbols = [np.rint(rng.standard_t(4, n) * scale * factor).clip(-reach, reach) for scale in scale_table()]
    return np.stack([np.bincount(row.astype(np.int64) + reach, minlength=2 * reach + 1) for row in symbols])


def coded_bits(tables: CdfTables, counts: npt.NDArray[np.int64], level: int) -> float:
    reach = counts.shape[1] // 2
    symbols = np.repeat(np.arange(-reach, reach + 1), counts[level])
    return tables.bits(symbols, np.full(len(symbols), level))


def test_fitted_tables_code_their_counts_better_than_the_gaussian() -> None:
    counts = histograms(0.7)
    fitted = fitted_tables(counts)
    for level in range(0, LEVELS, 9):
        best = -(counts[level] * np.log2(np.maximum(counts[level], 1) / counts[level].sum())).sum()
        bits = coded_bits(fitted, counts, level)
        assert bits < coded_bits(GAUSSIAN, counts, level)
        assert bits < best * 1.02 + 0.02 * counts[level].sum()


def test_fitted_tables_follow_the_pmf_where_nothing_was_seen() -> None:
    fitted = fitted_tables(np.zeros((LEVELS, 3)))
    counts = np.stack([np.bincount(sample(1)[0] * 0 + 30, minlength=61)] * LEVELS)
    for level in (0, 20, 40):
        assert coded_bits(fitted, counts, level) == pytest.approx(
            coded_bits(GAUSSIAN, counts, level), abs=0.02
        )
    assert fitted.sizes[-1] > 400


def test_fitted_tables_refuse_what_are_no_counts() -> None:
    for wrong in (np.zeros(3), np.zeros((LEVELS, 4)), np.zeros((2, 3)), -np.ones((LEVELS, 3))):
        with pytest.raises(ValueError, match="counts"):
            fitted_tables(wrong)
    with pytest.raises(ValueError, match="positive"):
        gaussian_tables([1.0, 0.0])


@pytest.mark.parametrize("spread", [0.5, 1.0, 3.0, 30.0])
def test_bits_are_the_bytes_that_are_written(spread: float) -> None:
    symbols, indexes = sample(100_000, spread)
    size = len(encode(symbols, indexes, GAUSSIAN))
    bits = GAUSSIAN.bits(symbols, indexes)
    assert abs(size - bits / 8) < bits / 8 * 0.001 + 16


@pytest.mark.parametrize("name", ROWS)
def test_bits_of_every_length_of_escape(name: str) -> None:
    tables = ROWS[name]
    far = [sign << power for power in range(20) for sign in (-1, 1)]
    symbols = np.repeat([*range(-40, 40), *far, -SYMBOL_LIMIT, SYMBOL_LIMIT], 40).astype(np.int32)
    indexes = np.zeros_like(symbols)
    size = len(encode(symbols, indexes, tables))
    bits = tables.bits(symbols, indexes)
    assert abs(size - bits / 8) < bits / 8 * 0.001 + 16
    assert (
        RansDecoder(encode(symbols, indexes, tables), len(symbols), tables).decode(indexes) == symbols
    ).all()


def test_bits_of_one_symbol_by_hand() -> None:
    zero = np.array([0])
    assert FLAT.bits(zero, zero) == 4
    assert EVEN.bits(zero, zero) == 1
    # The escape, a group that counts 0, 1, 2 groups, and these: 1 is the first number above the row.
    assert EVEN.bits(np.array([1]), zero) == 1 + 4
    assert EVEN.bits(np.array([-1]), zero) == EVEN.bits(np.array([8]), zero) == 1 + 4 + 4
    assert EVEN.bits(np.array([9]), zero) == EVEN.bits(np.array([-9]), zero) == 1 + 4 + 8
    assert EVEN.bits(zero[:0], zero[:0]) == 0


symbols_anywhere = st.one_of(st.integers(-3, 3), st.integers(-SYMBOL_LIMIT, SYMBOL_LIMIT))


@given(st.sampled_from(sorted(ROWS)), st.lists(st.tuples(symbols_anywhere, st.integers(0, 63))))
def test_round_trip(name: str, items: list[tuple[int, int]]) -> None:
    tables = ROWS[name]
    symbols = np.array([symbol for symbol, _ in items], dtype=np.int32)
    indexes = np.array([index % len(tables.cdf) for _, index in items], dtype=np.int32)
    data = encode(symbols, indexes, tables)
    assert len(data) >= 8
    assert len(data) % 4 == 0
    decoder = RansDecoder(data, len(items), tables)
    half = len(items) // 2
    decoded = np.concatenate([decoder.decode(indexes[:half]), decoder.decode(indexes[half:])])
    assert decoded.dtype == np.int32
    assert decoded.tolist() == symbols.tolist()


def test_round_trip_over_many_batches_and_steps() -> None:
    symbols, indexes = sample(100_000, spread=4.0)
    decoder = RansDecoder(encode(symbols, indexes, GAUSSIAN), len(symbols), GAUSSIAN)
    steps = [0, 1, 2, 40_000, 40_000, 99_999, 100_000]
    decoded = [decoder.decode(indexes[start:end]) for start, end in itertools.pairwise(steps)]
    assert (np.concatenate(decoded) == symbols).all()


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint8])
def test_any_integer_type_codes_to_the_same_bytes(dtype: Any) -> None:
    symbols = np.array([0, 1, 2, 100])
    indexes = np.array([0, 5, 63, 63])
    wanted = encode(symbols.astype(np.int32), indexes.astype(np.int32), GAUSSIAN)
    assert encode(symbols.astype(dtype), indexes.astype(dtype), GAUSSIAN) == wanted


def test_stream_is_stable() -> None:
    symbols = np.array([0, 15, 7, -1, 16, 3, 1000, -70_000, 0, 1])
    assert encode(symbols, np.zeros_like(symbols), FLAT).hex() == "ff081f00080000001011f712233b7f05df222200"


def test_few_symbols_do_not_break_the_native_coder() -> None:
    """Two rare symbols are three words, for which the native coder allocates two."""
    isolated("""
rare = CdfTables(np.array([[0, 1, 2, 65536]]), np.array([4]), np.array([0]))
for symbols in ([], [0], [1], [0, 1], [1, 0], [5], [5, -5], [0, 5], [0, 0, 0], [1, 1, 1, 1]) * 50:
    s, i = np.array(symbols, dtype=np.int32), np.zeros(len(symbols), dtype=np.int32)
    assert RansDecoder(encode(s, i, rare), len(s), rare).decode(i).tolist() == symbols
""")


@pytest.mark.parametrize("symbol", [SYMBOL_LIMIT + 1, -SYMBOL_LIMIT - 1, 2**31 - 1, -(2**31), 2**40])
def test_symbols_out_of_range_are_refused(symbol: int) -> None:
    with pytest.raises(WeightsError, match="too large"):
        encode(np.array([0, symbol]), np.array([0, 0]), GAUSSIAN)


def test_symbols_that_no_encoder_writes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    zeros = np.zeros(4, dtype=np.int32)
    monkeypatch.setattr(rans, "SYMBOL_LIMIT", 1 << 24)
    data = encode(np.array([0, 1 << 22, 0, 0]), zeros, GAUSSIAN)
    monkeypatch.undo()
    decoder = RansDecoder(data, 4, GAUSSIAN)
    with pytest.raises(CorruptFileError, match="make no sense"):
        decoder.decode(zeros)
    with pytest.raises(CorruptFileError):
        decoder.decode(zeros[:1])


@pytest.mark.parametrize(
    ("symbols", "indexes"),
    [
        ([0, 0], [0]),
        ([[0]], [[0]]),
        ([0.0], [0]),
        ([0], [0.0]),
        ([0], [-1]),
        ([0], [LEVELS]),
    ],
)
def test_arrays_that_do_not_fit_are_refused(symbols: list, indexes: list) -> None:
    with pytest.raises(ValueError, match="index"):
        encode(np.array(symbols), np.array(indexes), GAUSSIAN)


@pytest.mark.parametrize("indexes", [[-1], [LEVELS], [0.0], [[0]]])
def test_indexes_that_name_no_row_are_refused_when_reading(indexes: list) -> None:
    decoder = RansDecoder(encode(np.array([0]), np.array([0]), GAUSSIAN), 1, GAUSSIAN)
    with pytest.raises(ValueError, match="index"):
        decoder.decode(np.array(indexes))


def test_no_more_symbols_than_the_capacity() -> None:
    symbols, indexes = sample(100)
    decoder = RansDecoder(encode(symbols, indexes, GAUSSIAN), 100, GAUSSIAN)
    decoder.decode(indexes[:60])
    with pytest.raises(CorruptFileError, match="fewer symbols"):
        decoder.decode(indexes[:41])
    assert (decoder.decode(indexes[60:]) == symbols[60:]).all()
    with pytest.raises(CorruptFileError):
        decoder.decode(indexes[:1])


@pytest.mark.parametrize(
    "data",
    [b"", b"\1\2\3\4", b"\xff" * 7, b"\xff" * 8, bytes(8), bytes(100), b"\0\0\0\x10" + bytes(4), b"\1" * 9],
)
def test_what_cannot_be_a_stream_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptFileError, match="damaged"):
        RansDecoder(data, 100, GAUSSIAN)


def test_streams_too_long_for_their_symbols_are_refused() -> None:
    with pytest.raises(CorruptFileError):
        RansDecoder(b"\1" * 1000, 100, GAUSSIAN)


def test_a_long_stream_is_refused_before_it_is_padded() -> None:
    """25 MB for the symbols of 4 megapixels: padded, it would take gigabytes."""
    data = bytes([255, 255, 255, 0]) * 6_250_000
    padded_size(1000, 1 << 22, GAUSSIAN)  # what is computed once
    tracemalloc.start()
    try:
        with pytest.raises(CorruptFileError, match="what should be coded symbols is not"):
            RansDecoder(data, 1 << 22, GAUSSIAN)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_what_is_too_long_to_be_read_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    symbols, indexes = np.full(1000, rans.SYMBOL_LIMIT), np.zeros(1000, np.int32)
    assert len(rans.encode(symbols, indexes, GAUSSIAN)) > 4000
    monkeypatch.setattr(rans, "_SHORT", 1000)
    with pytest.raises(WeightsError, match="do not fit"):
        rans.encode(symbols, indexes, GAUSSIAN)


def test_a_stream_that_ends_early_is_noticed() -> None:
    symbols, indexes = sample(100_000)
    data = encode(symbols, indexes, GAUSSIAN)
    for length in (8, 1000, len(data) // 2, len(data) - 3000):
        decoder = RansDecoder(data[: length // 4 * 4], len(symbols), GAUSSIAN)
        with pytest.raises(CorruptFileError, match="end early"):
            decoder.decode(indexes)


def test_garbage_does_not_crash() -> None:
    isolated("""
rng = np.random.default_rng(0)
rows = [gaussian_tables(), CdfTables(np.array([[0, 1, 65536]]), np.array([3]), np.array([0]))]
for tables in rows:
    indexes = rng.integers(0, len(tables.cdf), 100_000).astype(np.int32)
    for length in (0, 4, 8, 12, 100, 1000, 50_000, 300_000):
        for _ in range(3):
            data = bytearray(rng.bytes(length))
            if length >= 8:
                data[7] &= 127
            try:
                RansDecoder(bytes(data), 100_000, tables).decode(indexes)
            except CorruptFileError:
                pass
""")


def test_all_ones_do_not_run_away() -> None:
    isolated("""
rows = [gaussian_tables(), CdfTables(np.array([[0, 1, 65536]]), np.array([3]), np.array([0]))]
for tables in rows:
    indexes = np.zeros(100_000, dtype=np.int32)
    for length in (8, 64, 4096, 400_000):
        for first in (b"\\xff" * 7 + b"\\x7f", b"\\xff\\xff\\xff\\xff\\0\\0\\0\\0"):
            try:
                RansDecoder(first + b"\\xff" * (length - 8), 100_000, tables).decode(indexes)
            except CorruptFileError:
                pass
""")


hostile_words = st.sampled_from([b"\xff" * 4, b"\0" * 4, b"\xff\xff\xff\x7f", b"\0\0\0\x80"])
streams = st.lists(st.one_of(st.binary(min_size=4, max_size=4), hostile_words), min_size=2, max_size=40)


@settings(max_examples=300)
@given(
    st.sampled_from(sorted(ROWS)),
    streams.map(b"".join),
    st.integers(0, 2**32),
    st.sampled_from([1, 7, 1 << 14]),
)
def test_no_stream_reads_behind_its_padding(name: str, data: bytes, seed: int, batch: int) -> None:
    """The reference decoder fails on the first word too far, and decodes what the native one does."""
    tables, capacity = ROWS[name], 400
    indexes = np.random.default_rng(seed).integers(0, len(tables.cdf), capacity).astype(np.int32)

    def decode() -> list[int] | str:
        try:
            return RansDecoder(data, capacity, tables).decode(indexes).tolist()
        except CorruptFileError as error:
            return str(error)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rans, "_BATCH", batch)
        decoded = decode()
        patch.setattr(rans, "load_ans", lambda: SimpleNamespace(RansDecoder=ReferenceDecoder))
        assert decode() == decoded


def bytes_of_one_escape(data: bytes, tables: CdfTables) -> int:
    """How much the first symbol of a stream, an escape, reads, state included."""
    reader = ReferenceDecoder()
    buffer = data.ljust(padded_size(len(data), 1, tables), b"\0")
    reader.set_stream(buffer)
    reader.symbol(tables.rows[0])
    return len(buffer) - 4 * len(list(reader.words))


@pytest.mark.parametrize("size", [8, 12, 400, 4000])
@pytest.mark.parametrize("tables", [GAUSSIAN, EVEN, ESCAPING])
def test_a_run_of_ones_reads_far_behind_its_stream_but_not_behind_its_padding(
    tables: CdfTables, size: int
) -> None:
    ones = b"\xff" * 7 + b"\x7f" + b"\xff" * (size - 8)
    assert 15 * size - 100 < bytes_of_one_escape(ones, tables) <= 16 * size + 128


@pytest.mark.parametrize("share", [1, 2, 16, 4096, TOTAL - 1])
def test_the_worst_escape_behind_a_stream(share: int) -> None:
    """The state is made so that its escape leaves the largest state of ones, and only zeros follow."""
    after = (share << 47) - 1
    high, low = divmod(after, share)
    state = high << 16 | TOTAL - share + low
    tables = one_row(TOTAL - share, share)
    read = bytes_of_one_escape(state.to_bytes(8, "little"), tables) - 8
    assert rans.escape_bytes(share) - 8 <= read <= rans.escape_bytes(share)


def test_padding_is_small_beside_a_picture() -> None:
    assert padded_size(8, 20_000_000, GAUSSIAN) < 2_000_000
    assert padded_size(150_000, 300_000, GAUSSIAN) < 8_000_000


def test_native_module_loads_without_compressai() -> None:
    isolated("""
import sys
import tracemalloc
encode(np.array([0]), np.array([0]), gaussian_tables())
assert not {"compressai", "torchvision"} & set(sys.modules)
""")


def test_native_module_and_compressai_live_together() -> None:
    isolated("""
zero, tables = np.array([0]), gaussian_tables()
encode(zero, zero, tables)
from compressai import ans
data = ans.RansEncoder().encode_with_indexes([0] * 9, [0] * 9, tables.rows, tables.sizes, tables.offsets)
assert RansDecoder(data, 9, tables).decode(np.zeros(9, dtype=np.int32)).tolist() == [0] * 9
""")


def test_native_module_of_an_imported_compressai_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = ModuleType("compressai.ans")
    monkeypatch.setitem(sys.modules, "compressai.ans", imported)
    monkeypatch.setattr(native, "load_ans", native.load_ans.__wrapped__)
    assert native.load_ans() is imported


def test_a_missing_compressai_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "compressai.ans", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(HpcmError, match="pip install compressai"):
        native.load_ans.__wrapped__()


def test_latent_checksum_is_that_of_the_format() -> None:
    symbols = np.array([1, 2, 3])
    golden = bytes.fromhex("d69c56745f6a3d9e")  # blake2b, 8 bytes, over 1, 2, 3 as little-endian int32
    assert coders.latent_checksum(symbols[:1], symbols[1:]) == golden
    assert coders.latent_checksum(symbols[:0], symbols) == golden
    assert coders.latent_checksum(symbols[1:], symbols[:1]) != golden


@pytest.mark.parametrize("fill", [0xFF, 0xF7, 0x7F, 0x88, 0x0F])
@pytest.mark.parametrize("share", [1 << 8, TOTAL - 2])
def test_numbers_of_more_groups_than_any_has(fill: int, share: int) -> None:
    """Their value is nobody's to say; it is in range or refused, and reading stops with the stream."""
    row = [0, 1, TOTAL - share, TOTAL] if share < TOTAL - 2 else [0, 1, 2, TOTAL]
    tables = CdfTables(np.array([row], np.int32), np.array([4], np.int32), np.array([0], np.int32))
    state = (1 << 62 | TOTAL - 1).to_bytes(8, "little")  # begins with an escape
    decoder = RansDecoder(state + bytes([fill]) * 4000, 5000, tables)

    def drain() -> None:
        for _ in range(5000):
            assert abs(int(decoder.decode(np.zeros(1, np.int64))[0])) <= SYMBOL_LIMIT

    with pytest.raises(CorruptFileError):
        drain()

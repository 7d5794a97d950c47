"""rANS streams of integer symbols: compressai's native coder, made safe.

The native coder checks nothing: it writes in front of its buffer when there are too few symbols, and reads on
behind its stream for as long as it is asked for symbols, or as a run of escape bits tells it to. What it is
given here is therefore checked, padded and bounded. With 64-bit states and 32-bit words:

**Encoding.** The buffer has one word per coded item, the stream one word per 32 bits and two for the state.
Two symbols of 16 bits are three words, in a buffer of two. Every stream ends with three more items of almost
no cost, which nobody reads; then n items have n + 3 words of room and need at most n / 2 + 3.

**Decoding.** A symbol of share f (of 65536) takes 16 - log2(f) bits off the state x, a bypass group 4. The
starting state is checked to be in [2^31, 2^63), and every item keeps it there: a symbol leaves at least 2^15,
a group 2^27, and below 2^31 one word comes in. So floor(log2 x) is in 31 .. 62, a word adds 32 to it, and
items of b bits read at most (b + 31) / 32 words. How many bits can that be, for a stream of `size` bytes with
zeros behind it?

- An escape reads c groups of 15, one less than 15, then up to 15 c + 14 groups. The one during which the
  stream ends finds at most 8 groups of 15 in the state and 2 in each byte left, so it ends less than
  16 size + 128 bytes from the start, in spite of the unlimited loop. All later words are zero.
- A later escape of share f leaves x < f 2^47, so after j = ceil((16 + log2 f) / 4) groups a zero word has
  come in and all further groups are 0: c <= j, and it takes at most 16 + 4 (16 j + 1) bits. As j <= 8, the
  8th group of its number is 0, so the number is not negative and comes out as a symbol outside the row.
- Group j of a number is shifted by 4 j bits, which C++ leaves undefined from the 9th on; an honest encoder
  writes 6 at most. What is read does not depend on the number: how many groups there are is known before the
  first. So it is some value of 32 bits, to which groups of 0 behind the stream add nothing wherever they are
  shifted. Beyond `SYMBOL_LIMIT` it is refused; else it is a symbol like any other, for the checksum to judge.
- Symbols are decoded in batches, and after each the bits that an honest encoder spends on what came out
  (`CdfTables.bits`; behind the end of the stream never more than the native decoder took, by the point
  above) are held against the bits there are. Past these, decoding stops. So behind the stream there is at
  most one batch, and before it symbols of `budget` bits, of which every escape takes at least 20 - log2 f.

`padded_size` adds this up: up to 40 times the stream, so the stream itself is bounded first (`longest`), on
both sides. With the padding that bounds what a hostile file can make a decoder allocate.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from ..errors import CorruptFileError, WeightsError
from .native import load_ans
from .tables import PRECISION, TOTAL, CdfTables

__all__ = ["SYMBOL_LIMIT", "RansDecoder", "encode", "longest"]

# Far above what a latent holds, and far below where the native coder's int32 arithmetic breaks down.
SYMBOL_LIMIT = 1 << 20

_BATCH = 1 << 14
_STATE_BYTES = 8
# The longest code of one symbol: the escape, the number of groups, 6 groups for 2 (SYMBOL_LIMIT + 2^17).
_SYMBOL_BYTES = 6
# On average symbols take far less: noise of only 0 and 255, at the best quality, takes 0.8 bytes a symbol,
# and 1.2 with tables that do not fit. Short streams may hold nothing but the longest codes.
_AVERAGE_BYTES = 2
_SHORT = 1 << 20
# The native decoder counts groups in an int32, 30 of them for every byte.
_STREAM_LIMIT = 1 << 26

_END_ROW = [0, TOTAL - 1, TOTAL]
_END_ITEMS = 3


def encode(symbols: npt.NDArray[np.integer], indexes: npt.NDArray[np.integer], tables: CdfTables) -> bytes:
    """Code `symbols` [n], each by the row of `tables` that `indexes` [n] names.

    Returns:
        A multiple of 4 bytes, at least 8.

    Raises:
        WeightsError: a symbol is beyond +-`SYMBOL_LIMIT`, or all of them take more than `longest`, which only
            broken weights bring about.
        ValueError: the arrays are not one-dimensional integers of one length, or an index names no row.
    """
    _check_indexes(indexes, tables)
    if symbols.shape != indexes.shape or symbols.dtype.kind not in "iu":
        raise ValueError(f"{symbols.shape} {symbols.dtype} symbols for {indexes.shape} indexes")
    if symbols.size and not -SYMBOL_LIMIT <= int(symbols.min()) <= int(symbols.max()) <= SYMBOL_LIMIT:
        raise WeightsError("the model gives latent values too large to code: its weights are damaged")
    encoder = load_ans().BufferedRansEncoder()
    for batch in _batches(len(symbols)):
        encoder.encode_with_indexes(
            symbols[batch].tolist(), indexes[batch].tolist(), tables.rows, tables.sizes, tables.offsets
        )
    nothing = [0] * _END_ITEMS
    encoder.encode_with_indexes(nothing, nothing, [_END_ROW], [len(_END_ROW)], [0])
    stream = encoder.flush()
    if len(stream) > longest(len(symbols)):
        raise WeightsError("the model's tables do not fit its latent values: its weights are damaged")
    return stream


def longest(capacity: int) -> int:
    """Bytes of the longest stream of so many symbols that is written or read."""
    worst = _SYMBOL_BYTES * capacity + 2 * _STATE_BYTES
    return min(worst, max(_SHORT, _AVERAGE_BYTES * capacity), _STREAM_LIMIT)


class RansDecoder:
    """Reads the symbols of one stream in the order in which they were coded.

    Args:
        data: what `encode` gave, or any bytes.
        capacity: how many symbols will be asked for at most, from the checked size of the picture.
        tables: the encoder's.

    Raises:
        CorruptFileError: `data` cannot be a stream of `capacity` symbols.
    """

    def __init__(self, data: bytes, capacity: int, tables: CdfTables) -> None:
        state = int.from_bytes(data[:_STATE_BYTES], "little")
        fits = _STATE_BYTES <= len(data) <= longest(capacity) and len(data) % 4 == 0
        if not fits or not 1 << 31 <= state < 1 << 63:
            raise CorruptFileError("damaged .hpcm file: what should be coded symbols is not")
        self._tables = tables
        self._left = capacity
        self._bits_left = float(_budget(len(data), capacity))
        self._decoder = load_ans().RansDecoder()
        self._decoder.set_stream(bytes(data).ljust(padded_size(len(data), capacity, tables), b"\0"))

    def decode(self, indexes: npt.NDArray[np.integer]) -> npt.NDArray[np.int32]:
        """The next symbols, int32 [n], coded by the rows `indexes` [n].

        Raises:
            CorruptFileError: the stream ends before them, holds a symbol that no encoder writes, or more than
                `capacity` symbols are asked for. No symbol can be read after that.
            ValueError: `indexes` is not a one-dimensional array of integers, or one names no row.
        """
        _check_indexes(indexes, self._tables)
        if len(indexes) > self._left:
            raise CorruptFileError("damaged .hpcm file: it holds fewer symbols than its picture needs")
        symbols = np.empty(len(indexes), dtype=np.int32)
        for batch in _batches(len(indexes)):
            symbols[batch] = self._decode_batch(indexes[batch])
        return symbols

    def _decode_batch(self, indexes: npt.NDArray[np.integer]) -> npt.NDArray[np.int32]:
        tables = self._tables
        decoded = self._decoder.decode_stream(indexes.tolist(), tables.rows, tables.sizes, tables.offsets)
        symbols = np.array(decoded, dtype=np.int32)
        self._left -= len(symbols)
        self._bits_left -= tables.bits(symbols, indexes)
        if self._bits_left < 0 or symbols.min() < -SYMBOL_LIMIT or symbols.max() > SYMBOL_LIMIT:
            self._left = 0
            raise CorruptFileError("damaged .hpcm file: its coded symbols end early or make no sense")
        return symbols


def padded_size(size: int, capacity: int, tables: CdfTables) -> int:
    """Bytes that the native decoder may touch in a stream of `size` bytes, rounded up; derived above."""
    share = int(tables.escapes.max())
    cheapest = max(PRECISION + 4 - share.bit_length(), 4)
    budget = _budget(size, capacity)
    escapes = min(capacity, _BATCH + budget // cheapest)
    return (16 * size + 128) + budget // 8 + escapes * escape_bytes(share) + 2 * _STATE_BYTES


def escape_bytes(share: int) -> int:
    """The most that one escape of this share takes when only zeros follow; derived above."""
    groups = -(-(PRECISION + (share - 1).bit_length()) // 4)
    return (PRECISION + 4 * (16 * groups + 1)) // 8 + 1


def _budget(size: int, capacity: int) -> int:
    """Bits that a stream of `size` bytes can hold, with room for what the coder gains by rounding its state,
    less than 2^-14 bits a symbol."""
    return 8 * (size + _STATE_BYTES) + (capacity >> 10)


def _batches(n: int) -> Iterator[slice]:
    return (slice(start, start + _BATCH) for start in range(0, n, _BATCH))


def _check_indexes(indexes: npt.NDArray[np.integer], tables: CdfTables) -> None:
    if indexes.ndim != 1 or indexes.dtype.kind not in "iu":
        raise ValueError(f"indexes are one-dimensional integers, not {indexes.shape} {indexes.dtype}")
    if indexes.size and not 0 <= int(indexes.min()) <= int(indexes.max()) < len(tables.cdf):
        raise ValueError(f"an index is outside the {len(tables.cdf)} rows of the tables")

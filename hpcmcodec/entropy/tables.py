"""Integer CDF tables: one row per level of scale, computed when weights are exported and stored with them.

A decoder needs the encoder's tables to the last bit, and special functions differ between machines. So what
computes tables (`generalized_gaussian_tables`, `fitted_tables`) is for export only, and what runs in the
codec (`scale_index`, `CdfTables`) only compares and looks up.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..errors import WeightsError

__all__ = [
    "LEVELS",
    "PRECISION",
    "SCALE_MAX",
    "SCALE_MIN",
    "TOTAL",
    "CdfTables",
    "fitted_tables",
    "gaussian_tables",
    "generalized_gaussian_tables",
    "quantize_pmf",
    "raw_scale_index",
    "scale_index",
    "scale_table",
]

LEVELS = 64
SCALE_MIN = 0.12
SCALE_MAX = 64.0

PRECISION = 16
TOTAL = 1 << PRECISION

_BYPASS_BITS = 4
_OFFSET_LIMIT = 1 << 16

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int32]


def scale_table() -> FloatArray:
    """The `LEVELS` scales (standard deviations), log-spaced from `SCALE_MIN` to `SCALE_MAX`, float64."""
    step = math.log(SCALE_MAX / SCALE_MIN) / (LEVELS - 1)
    # Rounded to 9 decimals, so that the last bit of a math library's exp does not reach the format.
    return np.array([round(SCALE_MIN * math.exp(i * step), 9) for i in range(LEVELS)])


def scale_index(scale: Tensor) -> Tensor:
    """The level that codes each scale: the smallest i with `scale <= scale_table()[i]`, at most `LEVELS - 1`.

    Args:
        scale: any shape, floating point, in units of the quantisation step.

    Returns:
        int32, same shape and device.
    """
    # Compared in float64, into which every narrower float fits exactly.
    table = torch.from_numpy(scale_table()).to(scale.device)
    return torch.bucketize(scale.detach().double().contiguous(), table, out_int32=True).clamp_(max=LEVELS - 1)


def raw_scale_index(raw: Tensor) -> Tensor:
    """`scale_index` of max(SCALE_MIN, softplus(raw)), by comparisons alone: the same on every machine.

    Args:
        raw: any shape, floating point.

    Returns:
        int32, same shape and device.
    """
    table = torch.from_numpy(_raw_scale_table()).to(raw.device)
    return torch.bucketize(raw.detach().double().contiguous(), table, out_int32=True).clamp_(max=LEVELS - 1)


@cache
def _raw_scale_table() -> FloatArray:
    """What softplus makes `scale_table` of; rounded for the same reason."""
    return np.array([round(scale + math.log(-math.expm1(-scale)), 9) for scale in scale_table()])


@dataclass(frozen=True, eq=False)
class CdfTables:
    """16-bit CDFs of integer symbols, as compressai's coder reads them.

    Row `l` codes the symbols `offset[l] .. offset[l] + size[l] - 3`; the interval after the last of these is
    the escape, which announces a symbol outside, coded in 4-bit groups behind it.

    Attributes:
        cdf: int32 [L, width]; row `l` rises strictly from 0 to 65536 in its first `size[l]` entries.
        size: int32 [L], the number of entries in use, at least 3.
        offset: int32 [L], the first symbol.

    Raises:
        WeightsError: the arrays are not such tables. The coder trusts them blindly, so nothing else may.
    """

    cdf: IntArray
    size: IntArray
    offset: IntArray

    def __post_init__(self) -> None:
        for name in ("cdf", "size", "offset"):
            object.__setattr__(self, name, _frozen_int32(getattr(self, name), name))
        cdf, size, offset = self.cdf, self.size, self.offset
        if cdf.ndim != 2 or len(cdf) == 0 or size.shape != (len(cdf),) or offset.shape != (len(cdf),):
            raise WeightsError("damaged coding tables: their shapes do not agree")
        if (
            size.min() < 3
            or size.max() > cdf.shape[1]
            or np.abs(offset.astype(np.int64)).max() > _OFFSET_LIMIT
        ):
            raise WeightsError("damaged coding tables: a size or an offset is out of range")
        rises = (cdf[:, 1:] > cdf[:, :-1]) | (np.arange(1, cdf.shape[1]) >= size[:, None])
        ends = cdf[np.arange(len(cdf)), size - 1]
        if not (rises.all() and (cdf[:, 0] == 0).all() and (ends == TOTAL).all()):
            raise WeightsError(f"damaged coding tables: a row does not rise from 0 to {TOTAL}")

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[np.integer]]) -> CdfTables:
        """Tables from what `to_arrays` gave, or anything that holds its keys.

        Raises:
            WeightsError: an array is missing or damaged.
        """
        try:
            cdf, size, offset = (_frozen_int32(arrays[name], name) for name in ("cdf", "size", "offset"))
        except KeyError as missing:
            raise WeightsError(f"the weights hold no coding table {missing}") from None
        return cls(cdf, size, offset)

    def to_arrays(self) -> dict[str, IntArray]:
        """The three int32 arrays, by the names of the attributes."""
        return {"cdf": self.cdf, "size": self.size, "offset": self.offset}

    @cached_property
    def rows(self) -> list[list[int]]:
        """The entries in use, as the coder takes them."""
        return [row[:size].tolist() for row, size in zip(self.cdf, self.size, strict=True)]

    @cached_property
    def sizes(self) -> list[int]:
        return self.size.tolist()

    @cached_property
    def offsets(self) -> list[int]:
        return self.offset.tolist()

    @cached_property
    def escapes(self) -> IntArray:
        """int32 [L]: how many of the 65536 shares of a row its escape has."""
        levels = np.arange(len(self.cdf))
        return self.cdf[levels, self.size - 1] - self.cdf[levels, self.size - 2]

    @cached_property
    def _costs(self) -> FloatArray:
        """Bits of every interval, [L, width - 1]."""
        return PRECISION - np.log2(np.maximum(np.diff(self.cdf.astype(np.float64)), 1))

    def bits(self, symbols: npt.NDArray[np.integer], indexes: npt.NDArray[np.integer]) -> float:
        """What coding `symbols` [n] by the rows `indexes` [n] takes, in bits, escapes included.

        An escape takes its interval, one group of 4 bits for the number of groups, and these groups.
        """
        value = symbols.astype(np.int64) - self.offset[indexes]
        escape = self.size[indexes].astype(np.int64) - 2
        outside = (value < 0) | (value >= escape)
        bits = self._costs[indexes, np.where(outside, escape, value)].sum()
        groups = _bypass_groups(value[outside], escape[outside])
        return float(bits) + _BYPASS_BITS * int(groups.sum())


def gaussian_tables(scales: npt.ArrayLike | None = None, tail_mass: float = 1e-6) -> CdfTables:
    """`generalized_gaussian_tables` of shape 2."""
    return generalized_gaussian_tables(2.0, scales, tail_mass)


def generalized_gaussian_tables(
    shape: float, scales: npt.ArrayLike | None = None, tail_mass: float = 1e-6
) -> CdfTables:
    """Tables of rounded, zero-mean generalised Gaussians, density proportional to `exp(-|x / a|^shape)`.

    For every shape the *scale is the standard deviation*: `a = scale * sqrt(G(1/shape) / G(3/shape))`, G the
    gamma function. (compressai and the published model take `a` itself for shape 1.5.) So a level means the
    same width whatever the shape. The probability of symbol `s` is `cdf(s + 1/2) - cdf(s - 1/2)`.

    Args:
        shape: 2 is the Gaussian, 1.5 the published generalised Gaussian, 1 the Laplacian.
        scales: [L], positive; `scale_table()` unless given.
        tail_mass: a row holds the symbols `-n .. n`, n the smallest that leaves the escape at most this much.
    """
    return _pack_rows([_pmf(shape, scale, tail_mass) for scale in _scales(scales)])


def fitted_tables(
    histograms: npt.ArrayLike,
    shape: float = 2.0,
    scales: npt.ArrayLike | None = None,
    tail_mass: float = 1e-6,
    prior: float = 256.0,
) -> CdfTables:
    """Tables from how often each symbol occurred at each level.

    A row is `(counts + prior * pmf) / (n + prior)`, pmf that of `generalized_gaussian_tables`: a level seen
    rarely keeps the parametric shape, and no symbol inside a row has probability zero. How far a row reaches
    is chosen, level by level, as what codes its counts (and the prior) in the fewest bits: further out, every
    symbol more costs one share of 65536; further in, more symbols are escapes.

    Args:
        histograms: [L, 2 R + 1] counts of the symbols `-R .. R`; symbols further out count as never seen.
        shape, scales, tail_mass: of the parametric pmf.
        prior: the weight of the pmf, in symbols.
    """
    counts = np.asarray(histograms, dtype=np.float64)
    widths = _scales(scales)
    if counts.ndim != 2 or len(counts) != len(widths) or counts.shape[1] % 2 == 0 or not (counts >= 0).all():
        raise ValueError(f"histograms of shape {counts.shape} are not [{len(widths)}, 2 R + 1] counts")
    return _pack_rows(
        [_fit(row, _pmf(shape, scale, tail_mass), prior) for row, scale in zip(counts, widths, strict=True)]
    )


def quantize_pmf(pmf: npt.ArrayLike) -> IntArray:
    """Integer shares of 65536 for probabilities [n] (normalised here), each at least 1; sums to 65536.

    The shares are `max(1, floor(t * p))` with the largest t up to the total, found by bisection, whose shares
    do not exceed it; what is left goes to the largest remainders, the first of equals first.
    """
    p = np.asarray(pmf, dtype=np.float64)
    if p.ndim != 1 or not 1 <= len(p) <= TOTAL or not (p >= 0).all() or not 0 < p.sum() < math.inf:
        raise ValueError("a pmf is 1 to 65536 probabilities that are not all zero")
    p = p / p.sum()
    low, high = 0.0, float(TOTAL)
    for _ in range(64):
        t = (low + high) / 2
        low, high = (t, high) if np.maximum(np.floor(t * p), 1).sum() <= TOTAL else (low, t)
    shares = np.maximum(np.floor(low * p), 1).astype(np.int32)
    remainders = np.argsort(shares - low * p, kind="stable")
    shares[remainders[: TOTAL - shares.sum()]] += 1
    return shares


def _frozen_int32(array: npt.ArrayLike, name: str) -> IntArray:
    source = np.asarray(array)
    if source.dtype.kind not in "iu":
        raise WeightsError(f"damaged coding tables: {name} is {source.dtype}, not integers")
    copy = source.astype(np.int32)
    if not np.array_equal(copy, source):
        raise WeightsError(f"damaged coding tables: {name} does not fit 32 bits")
    copy.setflags(write=False)
    return copy


def _bypass_groups(value: npt.NDArray[np.int64], escape: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How many groups of 4 bits follow an escape, that of their number included. compressai folds the symbols
    on both sides of a row into one unsigned number, odd below the row and even above."""
    raw = np.where(value < 0, -2 * value - 1, 2 * (value - escape))
    bit_length = np.frexp(raw.astype(np.float64))[1].astype(np.int64)
    return 1 - (-bit_length // _BYPASS_BITS)


def _scales(scales: npt.ArrayLike | None) -> FloatArray:
    chosen = scale_table() if scales is None else np.asarray(scales, dtype=np.float64)
    if chosen.ndim != 1 or len(chosen) == 0 or not (np.isfinite(chosen) & (chosen > 0)).all():
        raise ValueError("scales are a list of positive numbers")
    return chosen


def _pmf(shape: float, scale: float, tail_mass: float) -> FloatArray:
    """Probabilities of the symbols `-n .. n`, then that of all others (see `generalized_gaussian_tables`)."""
    a = scale * math.exp((math.lgamma(1 / shape) - math.lgamma(3 / shape)) / 2)
    reach = 16
    while (tail := _tail(shape, a, reach))[-1] > tail_mass:
        reach *= 2
    n = int(np.argmax(tail <= tail_mass))
    side = -np.diff(tail[: n + 1]) / 2
    return np.concatenate([side[::-1], [1 - tail[0]], side, [tail[n]]])


def _tail(shape: float, a: float, reach: int) -> FloatArray:
    """P(|x| > k + 1/2) for k = 0 .. reach; not 1 - cdf, which would lose the digits of small tails."""
    edges = torch.arange(reach + 1, dtype=torch.float64, device="cpu") + 0.5
    return torch.special.gammaincc(torch.full_like(edges, 1 / shape), (edges / a) ** shape).numpy()


def _fit(counts: FloatArray, pmf: FloatArray, prior: float) -> FloatArray:
    """The pmf of one fitted row, as `_pmf` gives it."""
    side, prior_side = len(counts) // 2, len(pmf) // 2 - 1
    reach = max(side, prior_side, 1)
    weights = np.pad(counts, reach - side) + prior * np.pad(pmf[:-1], reach - prior_side)
    candidates = np.unique(np.geomspace(1, reach, LEVELS).astype(np.int64))
    cut = [_cut(weights, int(n), prior * pmf[-1]) for n in candidates]
    return min(cut, key=lambda pair: pair[1])[0]


def _cut(weights: FloatArray, n: int, beyond: float) -> tuple[FloatArray, float]:
    """The row with the symbols `-n .. n` of `weights`, and the bits that all of `weights` then take."""
    reach = len(weights) // 2
    inside = weights[reach - n : reach + n + 1]
    outside = np.concatenate([weights[: reach - n], weights[reach + n + 1 :]])
    value = np.concatenate([np.arange(-reach, -n), np.arange(n + 1, reach + 1)]) + n
    row = np.append(inside, outside.sum() + beyond)
    groups = _bypass_groups(value, np.full_like(value, 2 * n + 1))
    bits = row @ (PRECISION - np.log2(quantize_pmf(row))) + _BYPASS_BITS * (outside @ groups)
    return row, float(bits)


def _pack_rows(pmfs: list[FloatArray]) -> CdfTables:
    """Quantise; a pmf covers the symbols `-n .. n` and ends with the escape."""
    cdf = np.zeros((len(pmfs), max(map(len, pmfs)) + 1), dtype=np.int32)
    for row, pmf in zip(cdf, pmfs, strict=True):
        row[1 : len(pmf) + 1] = np.cumsum(quantize_pmf(pmf))
    size = np.array([len(pmf) + 1 for pmf in pmfs], dtype=np.int32)
    return CdfTables(cdf, size, offset=-((size - 3) // 2))

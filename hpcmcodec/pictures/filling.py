"""Pixels that nobody sees: what stands under alpha 0 gives way to what costs least."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["fill_hidden"]

Bytes = NDArray[np.uint8]
Mask = NDArray[np.bool_]

GREY = 128  # of a picture of which nothing is seen
BAND = 256  # rows at a time, an even number, so that no large picture is copied in wider numbers


def fill_hidden(rgb: Bytes, alpha: Bytes) -> Bytes:
    """The picture with a smooth continuation of what is seen wherever alpha is 0; all else is untouched.

    By pull-push: halve the picture until the pixels that are seen have met, then double it again. All in
    integers, so that every machine fills alike.

    Args:
        rgb: `H x W x 3`, not changed. alpha: `H x W`.
    """
    hidden = alpha == 0
    if not hidden.any():
        return rgb
    if hidden.all():
        return np.full_like(rgb, GREY)
    levels = [(rgb.copy(), hidden)]
    while levels[-1][1].any():
        levels.append(_halved(*levels[-1]))
    for (fine, hidden), (coarse, _) in zip(levels[-2::-1], levels[:0:-1], strict=True):
        _push(coarse, fine, hidden)
    return levels[0][0]


def _halved(values: Bytes, hidden: Mask) -> tuple[Bytes, Mask]:
    """Means of what is seen in each 2 x 2 pixels, and where nothing is."""
    height, width = hidden.shape
    size = -(-height // 2), -(-width // 2)
    means, nothing = np.zeros((*size, 3), np.uint8), np.empty(size, bool)
    for top in range(0, height, BAND):
        rows = slice(top // 2, -(-min(top + BAND, height) // 2))
        seen = ~hidden[top : top + BAND]
        total, count = _sums(values[top : top + BAND] * seen[..., None]), _sums(seen)
        nothing[rows] = count == 0
        divisor = np.maximum(count, 1)[..., None]
        means[rows] = (2 * total + divisor) // (2 * divisor)
    return means, nothing


def _sums(values: NDArray[np.uint8] | Mask) -> NDArray[np.uint16]:
    """Of each 2 x 2; what is missing at the edge counts as 0."""
    height, width = values.shape[:2]
    sums = np.zeros((-(-height // 2), -(-width // 2), *values.shape[2:]), np.uint16)
    for y in (0, 1):
        for x in (0, 1):
            part = values[y::2, x::2]
            sums[: part.shape[0], : part.shape[1]] += part
    return sums


def _push(coarse: Bytes, fine: Bytes, hidden: Mask) -> None:
    """Fill the hidden pixels of the finer level, between the nearest four of the coarser."""
    height, width = hidden.shape
    for top in range(0, height, BAND):
        band = slice(top, min(top + BAND, height))
        if not hidden[band].any():
            continue
        near = _lines(band.start, band.stop, coarse.shape[0])
        rows = 3 * coarse[near[0]].astype(np.uint16) + coarse[near[1]]
        near = _lines(0, width, coarse.shape[1])
        between = (3 * rows[:, near[0]] + rows[:, near[1]] + 8) >> 4
        fine[band][hidden[band]] = between[hidden[band]]


def _lines(start: int, stop: int, count: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Of each finer line: the coarser one that it lies in, and the next nearest."""
    lines = np.arange(start, stop)
    inside = lines // 2
    return inside, np.clip(inside + 2 * (lines % 2) - 1, 0, count - 1)

"""The quality at which a file comes to a size, a rate or a PSNR."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..config import QUALITIES
from ..container import Header
from ..errors import UsageError
from .trial import Trial, round_quality

__all__ = ["Target", "check_target", "search"]

# A target counts as reached within this share of it (PSNR: of its mean square error), on its safe side.
TOLERANCE = 0.01
TRIALS = 12

# By how much the logarithm of the size grows, or that of the mean square error falls, from one quality to the
# next.
SLOPE = 0.28


@dataclass(frozen=True)
class Target:
    """What a file should come to, one of: bits per pixel, bytes, PSNR in dB of the 8-bit picture."""

    bpp: float | None = None
    size: int | None = None
    psnr: float | None = None


def search(trial: Trial, kind: str, goal: float) -> tuple[bytes, Header, float | None, list[str]]:
    """The file that comes nearest to a target, on its safe side where there is one there.

    The logarithms of size and mean square error are nearly straight lines over the quality, of one slope at
    first guess; once there is a value on both sides of the target, the line goes through these.
    """
    count = trial.header.width * trial.header.height
    trial.keep = True

    def miss(data: bytes, psnr: float | None) -> float:
        """How far below its target, in tolerances; half of one is aimed at, on the safe side."""
        if psnr is not None:
            return (goal - psnr) * math.log(10) / 10 / TOLERANCE + 0.5
        size = 8 * len(data) / count if kind == "bpp" else len(data)
        return math.log(goal / size) / TOLERANCE - 0.5

    best: tuple[float, bytes, Header, float | None] | None = None
    known: dict[float, float] = {}
    low, high = QUALITIES
    quality = round_quality((low + high) / 2)
    while quality not in known and len(known) < TRIALS:
        data, header = trial.file(quality, keep_latents=kind == "psnr")
        psnr = trial.psnr(quality) if kind == "psnr" else None
        missed = known[quality] = miss(data, psnr)
        if best is None or abs(missed) < abs(best[0]):
            best = missed, data, header, psnr
        if abs(missed) <= 0.5:
            break
        low, high = (quality, high) if missed > 0 else (low, quality)
        if low == high:
            break
        if low in known and high in known:
            share = known[low] / (known[low] - known[high])
            step = (high - low) * min(0.95, max(0.05, share))
            quality = round_quality(low + step)
        else:
            step = missed * TOLERANCE / SLOPE
            quality = round_quality(min(high, max(low, quality + 1.2 * step)))
    assert best is not None
    missed, data, header, psnr = best
    reached = {"bpp": 8 * len(data) / count, "size": len(data), "psnr": psnr or 0.0}[kind]
    unit = {"bpp": "bpp", "size": "bytes", "psnr": "dB"}[kind]
    out_of_reach = abs(missed) * TOLERANCE > 0.03
    note = [f"{goal:g} {unit} cannot be reached: {reached:.6g} is nearest"] * out_of_reach
    return data, header, psnr, note


def check_target(target: Target | None) -> tuple[str, float] | None:
    """Kind and value."""
    if target is None:
        return None
    given = {name: value for name, value in vars(target).items() if value is not None}
    if len(given) != 1:
        raise UsageError("a target is one of bpp, size and PSNR")
    ((kind, value),) = given.items()
    if not 0 < value < math.inf:
        raise UsageError(f"a target is above zero, not {value:g}")
    return kind, float(value)

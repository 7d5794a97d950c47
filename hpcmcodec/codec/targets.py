"""The quality at which a file comes to a size, a rate or a PSNR."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import UsageError
from ..search import Found, Goal, find, spread
from .trial import LAST_STEP, QUALITY_STEPS, Coded, Trial, quality_of

__all__ = ["Target", "check_target", "search"]

# A target counts as reached within this share of it (PSNR: of its mean square error), on its safe side.
TOLERANCE = 0.01
# A result farther than this from its target is told.
FAR = 0.03

# By how much the logarithm of the size grows, or that of the mean square error falls, from one quality to the
# next.
SLOPE = 0.28

# Where nothing is found on the safe side, so many qualities are tried: steps of an eighth on small pictures,
# whole ones on large pictures, by how many pixels that is in all. Sizes rise and fall by a few bytes only, so
# that a size is given up at once where the nearest is this far above it.
SCANS, SCANNED_PIXELS = (57, 29, 15, 8), 2**20
HOPELESS = 0.25


@dataclass(frozen=True)
class Target:
    """What a file should come to, one of: bits per pixel, bytes, PSNR in dB of the 8-bit picture.

    A file is never above a size or rate, and never below a PSNR, if any quality that was tried is not.
    """

    bpp: float | None = None
    size: int | None = None
    psnr: float | None = None


def search(trial: Trial, kind: str, wanted: float) -> tuple[Coded, list[str]]:
    """The file that comes nearest to a target, on its safe side if any is there, and a note if it is far.

    The logarithms of size and mean square error are nearly straight lines over the quality, of one slope at
    first guess.
    """
    count = trial.header.width * trial.header.height

    def attempt(step: int) -> tuple[float, Coded]:
        coded = trial.code(quality_of(step), with_psnr=kind == "psnr")
        if coded.psnr is not None:
            return (wanted - coded.psnr) * math.log(10) / 10, coded
        return math.log(wanted / _value(coded, kind, count)), coded

    def scan(best: Found[Coded] | None) -> Iterable[int]:
        if best is None or goal.safe(best.lack) or (kind != "psnr" and abs(best.lack) > HOPELESS):
            return ()
        return spread(LAST_STEP, next((n for n in SCANS if n * count <= SCANNED_PIXELS), SCANS[-1]))

    goal = Goal(-1 if kind == "psnr" else 1, TOLERANCE, FAR, SLOPE / QUALITY_STEPS)
    found = find(attempt, LAST_STEP, goal, scan)
    assert found is not None
    if goal.within(FAR, found.lack):
        return found.result, []
    return found.result, [_note(kind, wanted, _value(found.result, kind, count), goal.safe(found.lack))]


def _value(coded: Coded, kind: str, count: int) -> float:
    """What a file comes to, in the unit of its target."""
    if kind == "psnr":
        assert coded.psnr is not None
        return coded.psnr
    return 8 * len(coded.data) / count if kind == "bpp" else len(coded.data)


def _note(kind: str, wanted: float, value: float, safe: bool) -> str:
    if kind == "size":
        return f"{wanted:,.0f} bytes cannot be reached: {value:,.0f} is nearest"
    if kind == "bpp":
        return f"{wanted:g} bpp cannot be reached: {value:.6g} is nearest"
    reached = "a picture without loss" if math.isinf(value) else f"{math.floor(value * 1e4) / 1e4:g} dB"
    if safe:
        return f"{wanted:g} dB is exceeded: {reached} is the nearest found above it"
    return f"{wanted:g} dB cannot be reached: {reached} is nearest"


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

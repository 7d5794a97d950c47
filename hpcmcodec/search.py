"""The setting of a codec at which its result comes to a target: one search for all codecs and targets.

Settings are whole numbers from 0 up. A result *lacks* so much of its target, as a difference of logarithms:
above zero where the setting should rise. On most pictures that falls steadily as the setting rises, and the
search relies on it as long as it leads somewhere; on flat and tiny pictures it rises and falls.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Found", "Goal", "find", "spread"]

Result = TypeVar("Result")

TRIALS = 24
# The first steps go so much further than the slope says, so that the target soon lies between two trials.
BEYOND = 1.2
# What arithmetic may add to a result that is exactly its target; less than a byte of any file.
SLACK = 1e-11


@dataclass(frozen=True)
class Goal:
    """When a result will do.

    side: 1 where a result may lack something but not pass its target (a size), -1 where it may pass it but
        not lack anything (PSNR), 0 where the nearest is wanted on either side.
    tolerance: a result that is no farther away, on its safe side, ends the search.
    far: one that is farther away than this is not taken before others have been tried.
    slope: by how much a result comes nearer with each setting, at a first guess; None if nobody knows.
    """

    side: int
    tolerance: float
    far: float
    slope: float | None = None

    def safe(self, lack: float) -> bool:
        return self.side * lack >= -SLACK

    def within(self, reach: float, lack: float) -> bool:
        """Whether a result is on the safe side and no farther away than `reach`."""
        return self.safe(lack) and abs(lack) <= reach

    @property
    def aim(self) -> float:
        """What to aim at: the middle of what will do."""
        return self.side * self.tolerance / 2


@dataclass(frozen=True)
class Found(Generic[Result]):
    """What came of a setting, and how much it lacks."""

    setting: int
    lack: float
    result: Result


def find(
    attempt: Callable[[int], tuple[float, Result] | None],
    last: int,
    goal: Goal,
    scan: Callable[[Found[Result] | None], Iterable[int]],
) -> Found[Result] | None:
    """The best result that was found: the nearest on the safe side, or else the nearest.

    Where following the slope finds nothing that is near and on the safe side, both ends are tried, and then
    what `scan` gives until something is.

    Args:
        attempt: what a setting from 0 to `last` lacks, and its result; None where the codec fails at it.
        scan: given the best result so far, if there is any, the settings to try when all else has failed.

    Returns:
        None if the codec failed at every setting that was tried.
    """
    trials = _Trials(attempt, goal)
    _narrow(trials, last)
    for settings in (lambda: (0, last), lambda: scan(trials.best)):
        if trials.poor:
            for setting in settings():
                trials.lack(setting)
                if not trials.poor:
                    break
    return trials.best


def spread(last: int, count: int) -> list[int]:
    """So many settings from 0 to `last`, ends included, evenly spread."""
    count = min(count, last + 1)
    return [round(last * i / (count - 1)) for i in range(count)] if count > 1 else [0]


class _Trials(Generic[Result]):
    """What has been tried, of which only the best result is kept."""

    def __init__(self, attempt: Callable[[int], tuple[float, Result] | None], goal: Goal) -> None:
        self.attempt, self.goal = attempt, goal
        self.lacks: dict[int, float | None] = {}
        self.best: Found[Result] | None = None

    @property
    def poor(self) -> bool:
        """Whether there is nothing yet that is near its target and on the safe side."""
        return self.best is None or not self.goal.within(self.goal.far, self.best.lack)

    def lack(self, setting: int) -> float | None:
        if setting not in self.lacks:
            made = self.attempt(setting)
            self.lacks[setting] = None if made is None else made[0]
            if made is not None:
                found = Found(setting, *made)
                if self.best is None or self._rank(found) < self._rank(self.best):
                    self.best = found
        return self.lacks[setting]

    def _rank(self, found: Found[Result]) -> tuple[bool, float, int]:
        """Of equal results the one that is farthest towards the target comes first."""
        ahead = found.setting if found.lack < 0 else -found.setting
        return not self.goal.safe(found.lack), abs(found.lack), ahead


def _narrow(trials: _Trials[Result], last: int) -> None:
    """Follow the slope, and then the line through a setting that lacks something and one that does not."""
    goal = trials.goal
    low, high = -1, last + 1  # the setting lies between these two, neither of which has been tried yet
    setting, halve = last // 2, False
    while len(trials.lacks) < TRIALS and high - low > 1:
        lack = trials.lack(setting)
        if lack is None:  # too far from a setting at which the codec does not fail
            rise = trials.best is not None and trials.best.setting > setting
        elif goal.within(goal.tolerance, lack):
            return
        else:
            rise = lack > goal.aim
        width = high - low
        low, high = (setting, high) if rise else (low, setting)
        below, above = trials.lacks.get(low), trials.lacks.get(high)
        step, halved = (high - low) / 2, halve
        halve = False
        if lack is None or math.isinf(lack) or halved:
            pass
        elif below is not None and above is not None and math.isfinite(below - above):
            share = (below - goal.aim) / (below - above)
            step = (high - low) * min(0.95, max(0.05, share))
            halve = high - low > width / 2  # a curved line: the next step is half of what is left
        elif goal.slope is not None:
            step = setting + BEYOND * (lack - goal.aim) / goal.slope - low
            halve = len(trials.lacks) > 1  # the slope has led nowhere once
        setting = min(high - 1, max(low + 1, low + round(step)))

"""The search for a setting, on curves that rise, rise and fall, stand still, and have holes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from hpcmcodec.search import TRIALS, Found, Goal, find, spread

LAST = 100
BELOW, NEAREST, ABOVE = Goal(1, 0.01, 0.03), Goal(0, 0.005, 0.05), Goal(-1, 0.01, 0.03)
every_goal = pytest.mark.parametrize("goal", [BELOW, NEAREST, ABOVE], ids=["below", "nearest", "above"])


def search(
    values: Sequence[float | None] | Callable[[int], float | None],
    wanted: float,
    goal: Goal,
    scan: Sequence[int] = range(LAST + 1),
    last: int = LAST,
) -> tuple[Found[float] | None, list[int]]:
    """What is found among the values of the settings (None where the codec fails), and what was tried."""
    tried: list[int] = []

    def attempt(setting: int) -> tuple[float, float] | None:
        tried.append(setting)
        value = values(setting) if callable(values) else values[setting]
        return None if value is None else (math.log(wanted / value), value)

    found = find(attempt, last, goal, lambda best: scan)
    assert len(tried) == len(set(tried)), "nothing is tried twice"
    return found, tried


def best(values: Sequence[float], wanted: float, goal: Goal) -> float:
    """Of all values, the nearest one on the safe side, or else the nearest."""
    return min(values, key=lambda v: (goal.side * (wanted - v) < 0, abs(math.log(wanted / v))))


@every_goal
@pytest.mark.parametrize("slope", [None, 0.02, 0.5])
@pytest.mark.parametrize("power", [0.3, 1, 4])
def test_a_curve_that_rises(goal: Goal, slope: float | None, power: float) -> None:
    values = [100 * math.exp(3 * (setting / LAST) ** power) for setting in range(LAST + 1)]
    goal = Goal(goal.side, 1e-9, 1.0, slope)
    for wanted in (50.0, 100.0, 101.0, 333.0, 900.0, values[-1], 5000.0):
        found, tried = search(values, wanted, goal, scan=())
        assert found is not None and found.result == values[found.setting]
        assert found.result == pytest.approx(best(values, wanted, goal), rel=1e-8)
        assert len(tried) <= 18


def test_near_enough_ends_the_search() -> None:
    found, tried = search(lambda setting: math.exp(setting / 256), 50.0, BELOW, last=1792)
    assert found is not None and 0.99 * 50 <= found.result <= 50
    assert len(tried) <= 6


@pytest.mark.parametrize("goal", [BELOW, ABOVE], ids=["below", "above"])
@pytest.mark.parametrize("seed", range(40))
def test_a_curve_that_rises_and_falls_is_never_passed_if_it_need_not_be(goal: Goal, seed: int) -> None:
    """Only one value is on the safe side, or none, or some."""
    dice = np.random.default_rng(seed)
    values = [float(value) for value in dice.integers(87, 112, LAST + 1)]
    for wanted in (min(values), max(values), min(values) - 0.5, max(values) + 0.5, 99.5):
        found, _ = search(values, wanted, goal)
        assert found is not None
        if goal.safe(math.log(wanted / best(values, wanted, goal))):
            assert goal.side * (wanted - found.result) >= 0
        else:
            assert found.result == best(values, wanted, goal)


@every_goal
@pytest.mark.parametrize("end", [0, LAST])
def test_a_target_that_only_an_end_gives(goal: Goal, end: int) -> None:
    values = [200.0 if goal.side == 1 else 50.0] * (LAST + 1)
    values[end] = 100.0
    found, _ = search(values, 100.0, goal, scan=())
    assert found == Found(end, 0.0, 100.0)


@every_goal
def test_a_curve_that_stands_still_ends_at_the_end_towards_the_target(goal: Goal) -> None:
    for wanted, setting in ((10.0, 0), (1000.0, LAST)):
        found, _ = search([100.0] * (LAST + 1), wanted, goal)
        assert found is not None and found.setting == setting


@every_goal
@pytest.mark.parametrize(
    "works", [range(90), range(10, 101), range(60, 101), range(40), range(100), [0], [100]]
)
def test_settings_at_which_the_codec_fails_are_left_out(goal: Goal, works: Sequence[int]) -> None:
    values = [math.exp(i / 30) if i in works else None for i in range(LAST + 1)]
    there = [value for value in values if value is not None]
    for wanted in (there[0] / 2, there[len(there) // 2], there[-1] * 2):
        found, _ = search(values, wanted, goal)
        assert found is not None
        assert abs(math.log(found.result / best(there, wanted, goal))) < 0.035


def test_a_codec_that_always_fails() -> None:
    found, tried = search([None] * (LAST + 1), 1.0, BELOW, scan=[0, 50, 75])
    assert found is None
    assert {0, 50, 75, 100} <= set(tried)


def test_what_is_out_of_reach_takes_a_bounded_number_of_trials() -> None:
    for last in (0, 1, 2, 1792, 10**6):
        for wanted in (1e-9, 1e9):
            for goal in (BELOW, NEAREST, ABOVE):
                found, tried = search(lambda setting: 1.0, wanted, goal, spread(last, 8), last)
                assert found is not None
                assert len(tried) <= TRIALS + 2 + 8


def test_a_value_without_bounds() -> None:
    """As PSNR without loss."""
    values = [float(i + 1) if i != 37 else math.inf for i in range(LAST + 1)]

    def attempt(setting: int) -> tuple[float, float]:
        return 500 - values[setting], values[setting]

    found = find(attempt, LAST, ABOVE, lambda best: range(LAST + 1))
    assert found is not None and found.setting == 37


def test_settings_evenly_spread() -> None:
    assert spread(1792, 8) == [256 * i for i in range(8)]
    assert spread(2, 9) == [0, 1, 2]
    assert spread(0, 9) == spread(7, 1) == [0]

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import fuzz


@pytest.fixture(scope="module")
def files(tiny_weights: Callable[[int], Path]) -> list[bytes]:
    return fuzz.seeds(tiny_weights(4))


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize("repaired", [False, True])
def test_mutated_files(
    files: list[bytes], tiny_weights: Callable[[int], Path], repaired: bool, partial: bool
) -> None:
    """A few of what `python -m tests.fuzz` tries by the thousand."""
    outcomes = set()
    for number in range(60):
        dice = random.Random(number)
        data = fuzz.mutated(dice.choice(files), dice, repaired)
        outcomes.add(fuzz.check(data, tiny_weights(4), partial))
    assert "CorruptFileError" in outcomes and "several lines" not in outcomes
    assert not partial or "broken tiles" in outcomes
    assert not repaired or "ModelMismatchError" in outcomes or partial, "it reaches the model"


def test_whole_files_pass(files: list[bytes], tiny_weights: Callable[[int], Path]) -> None:
    assert {fuzz.check(data, tiny_weights(4), False) for data in files} == {"decoded"}

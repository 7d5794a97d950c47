from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hpcmcodec.config import ModelConfig
from hpcmcodec.entropy.coders import EncodeCoder, RateCoder, SymbolWriter
from hpcmcodec.models import HPCM
from hpcmcodec.models.context import ContextModel, State
from hpcmcodec.models.hpcm import HyperParams
from hpcmcodec.models.schedule import STEPS, Step, coarsen, pyramid, refine
from tests.conftest import TINY, every_phase

# The full latent of pictures of 64 x 64, 256 x 320 and 448 x 320: grids of scale 1 of 1 x 1, 4 x 5, 7 x 5.
GRIDS = ((4, 4), (16, 20), (28, 20))
every_grid = pytest.mark.parametrize("grid", GRIDS)
every_step = pytest.mark.parametrize("step", STEPS, ids=lambda s: f"step{s.number}")

CHANNELS = 32


# Spec section 2, word for word, worked out site by site.
CLASSES = (
    "P0 (0,0)(2,2); P1 (0,2)(2,0); P2 (1,1)(3,3); P3 (1,3)(3,1); "
    "P4 (0,1)(2,3); P5 (0,3)(2,1); P6 (1,0)(3,2); P7 (1,2)(3,0)"
)
FULL_STEPS = "2: 24603571, 3: 35712460, 4: 46025713, 5: 57134602, 6: 60247135, 7: 71356024"
COARSE_STEPS = "steps 0: 02461357 and 1: 13570246"
QUARTERS = "(m3 m2 m1 m0), (m2 m3 m0 m1), (m1 m0 m3 m2)"
KEPT_OF_FULL = "00, 11, 01, 10, 00, 11, 01, 10"
KEPT_OF_MIDDLE = "00, 01, 10, 11"


def class_at(row: int, column: int) -> int:
    for text in CLASSES.split("; "):
        name, places = text.split()
        if f"({row % 4},{column % 4})" in places:
            return int(name[1:])
    raise AssertionError("the classes cover the cell")


def group_at(number: int, row: int, column: int) -> int:
    """Which channel group the spec lets a step code at a site."""
    if number < 2:
        return (row + column + number) % 2
    if number < 5:
        quarters = QUARTERS.split("), (")[number - 2].strip("()").split()
        return quarters.index(f"m{2 * (row % 2) + column % 2}")
    order = dict(part.split(": ") for part in FULL_STEPS.split(", "))
    return order[str(number - 3)].index(str(class_at(row, column)))


def sides(step: Step, grid: tuple[int, int]) -> tuple[int, int]:
    """The grid of the step's level."""
    return grid[0] >> (2 - step.level), grid[1] >> (2 - step.level)


def codes(grid: tuple[int, int], channels: int = CHANNELS) -> Tensor:
    """A latent in which every value is another."""
    return torch.arange(grid[0] * grid[1] * channels, dtype=torch.float64).view(1, *grid, channels)


@every_grid
@every_step
def test_step_tables_are_the_specs(step: Step, grid: tuple[int, int]) -> None:
    height, width = sides(step, grid)
    expected = [[group_at(step.number, r, c) for c in range(width)] for r in range(height)]
    assert step.sites(height, width).tolist() == expected
    assert step.groups == (2, 4, 8)[step.level]


def test_levels_of_the_steps() -> None:
    assert [step.level for step in STEPS] == 2 * [0] + 3 * [1] + 6 * [2]
    assert [step.number for step in STEPS] == list(range(11))


@pytest.mark.parametrize(("level", "kept"), [(2, KEPT_OF_FULL), (1, KEPT_OF_MIDDLE)])
def test_sampling_positions_are_the_specs(level: int, kept: str) -> None:
    x = codes((8, 12))
    places = [(int(p[0]), int(p[1])) for p in kept.split(", ")]
    size = CHANNELS // len(places)
    coarse = coarsen(x, level)
    for row, column, channel in np.ndindex(4, 6, CHANNELS):
        r, c = places[channel // size]
        assert coarse[0, row, column, channel] == x[0, 2 * row + r, 2 * column + c, channel]


def test_scale_2_is_the_first_two_steps_of_scale_3() -> None:
    orders = [part.split(": ")[1] for part in COARSE_STEPS.removeprefix("steps ").split(" and ")]
    kept = {(r, c, order.index(str(class_at(r, c)))) for order in orders for r in range(4) for c in range(4)}
    full = codes((4, 4), 8)
    assert sorted(coarsen(full, 2).flatten().tolist()) == sorted(float(full[0, r, c, g]) for r, c, g in kept)


@every_grid
def test_steps_partition_the_latent(grid: tuple[int, int]) -> None:
    levels = pyramid(codes(grid))
    coded = torch.cat([step.gather(levels[step.level]).flatten() for step in STEPS])
    assert torch.equal(coded.sort().values, codes(grid).flatten())


@every_grid
def test_symbols_are_dense(grid: tuple[int, int]) -> None:
    levels = pyramid(codes(grid))
    for step in STEPS:
        assert step.gather(levels[step.level]).shape == (1, *sides(step, grid), CHANNELS // step.groups)


@every_grid
@every_step
def test_scatter_and_gather(step: Step, grid: tuple[int, int]) -> None:
    x = codes(sides(step, grid)).repeat(2, 1, 1, 1)
    values = -1 - torch.arange(x.numel() // step.groups, dtype=x.dtype).view(*x.shape[:3], -1)
    placed = step.scatter(x, values)
    assert torch.equal(step.gather(placed), values)
    both = step.gather(torch.stack((placed, x), 3))
    assert torch.equal(both, torch.stack((values, step.gather(x)), 3)), "with dimensions in between"
    assert torch.equal(torch.where(placed < 0, x, placed), x), "other values stay where they are"
    assert int((placed < 0).sum()) == values.numel()
    assert torch.equal(step.scatter(placed, step.gather(x)), x)


@every_step
def test_gradients(step: Step) -> None:
    x = torch.randn(2, 4, 4, 8, dtype=torch.float64, requires_grad=True)
    values = torch.randn(2, 4, 4, 8 // step.groups, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(step.gather, (x,))
    assert torch.autograd.gradcheck(step.scatter, (x, values))


@every_grid
@pytest.mark.parametrize("level", [1, 2])
def test_refine_puts_back_what_coarsen_took(level: int, grid: tuple[int, int]) -> None:
    x = codes(grid)
    blank = torch.full_like(x, -1)
    placed = refine(coarsen(x, level), blank, level)
    assert torch.equal(refine(coarsen(x, level), x, level), x)
    assert torch.equal(coarsen(placed, level), coarsen(x, level))
    assert int((placed >= 0).sum()) * 4 == x.numel()


class Keep(nn.Module):
    """A context cell that leaves the state as it is."""

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return h


class FromTheState(ContextModel):
    """A context model whose predictions are what the state holds: the hyper-parameters, unchanged."""

    def __init__(self) -> None:
        super().__init__(TINY[0])
        self.attn = nn.ModuleList(Keep() for _ in self.attn)
        self.fuse = nn.ModuleList(nn.Identity() for _ in self.fuse)
        self.seen: list[tuple[Step, Tensor, Tensor]] = []

    def predict(self, state: State, step: Step, quant_step: Tensor) -> Tensor:
        assert torch.equal(state.context, state.hyper[step.level])
        return state.context

    def code_step(self, step: Step, scales: Tensor, means: Tensor) -> Tensor:
        self.seen.append((step, scales, means))
        return means


@every_grid
def test_hyper_parameters_are_those_of_the_sites_that_are_coded(grid: tuple[int, int]) -> None:
    context, y = FromTheState(), codes(grid)
    coder = SimpleNamespace(code=context.code_step)
    assert torch.equal(context.code(torch.cat((y + y.numel(), y), -1), coder, torch.ones(1)), y)
    levels = pyramid(y)
    for step, scales, means in context.seen:
        assert torch.equal(means, step.gather(levels[step.level]))
        assert torch.equal(scales, means + y.numel())


@every_grid
def test_ascending_keeps_what_is_known(grid: tuple[int, int]) -> None:
    context, y = FromTheState(), codes(grid)
    state = context.start(torch.cat((y + y.numel(), y), -1))
    for level in (1, 2):
        known = replace(state, context=-1 - state.context, y_hat=torch.ones_like(state.y_hat))
        state = context.ascend(known)
        placed = torch.cat([coarsen(part, level) for part in state.context.chunk(2, -1)], -1)
        assert torch.equal(placed, known.context)
        common = state.context >= 0
        assert int(common.sum()) * 4 == 3 * common.numel()
        assert torch.equal(state.context[common], state.hyper[level][common])
        assert torch.equal(coarsen(state.y_hat, level), known.y_hat)
        assert int(state.y_hat.sum()) == known.y_hat.numel(), "nothing else is known of y"
        state = replace(state, context=state.hyper[level])


def predictions(model: HPCM, y: Tensor, params: HyperParams, writing: bool) -> list[tuple[Tensor, Tensor]]:
    """What the traversal predicts in each step while it codes y."""
    levels = pyramid(y)
    coder = EncodeCoder(levels, SymbolWriter(model.tables)) if writing else RateCoder(levels)
    seen: list[tuple[Tensor, Tensor]] = []

    def code(step: Step, scales: Tensor, means: Tensor) -> Tensor:
        seen.append((scales.clone(), means.clone()))
        return coder.code(step, scales, means)

    model.decompress_hpcm(params, SimpleNamespace(code=code))
    return seen


@pytest.mark.parametrize("writing", [True, False], ids=["EncodeCoder", "RateCoder"])
@every_phase
def test_no_step_sees_what_is_not_decoded(
    config: ModelConfig, writing: bool, tiny: Callable[[int], HPCM]
) -> None:
    model = tiny(config.phase)
    grid, latent = (12, 20), config.sizes.M  # of scale 1: 3 x 5
    seed = torch.Generator().manual_seed(0)
    y = torch.randn(1, *grid, latent, generator=seed)
    with torch.inference_mode():
        common = torch.randn(1, *grid, 2 * latent, generator=seed).double().mul(64).round().div(64)
        params = HyperParams(common, model.quant_step(torch.tensor([4.0])))
        before = predictions(model, y, params, writing)
        for step in STEPS:
            site = step.gather(pyramid(codes(grid, latent))[step.level]).flatten()
            changed = y.clone()
            changed.flatten()[site[len(site) // 2 + 1].long()] += 9
            after = predictions(model, changed, params, writing)
            moved = [
                not (torch.equal(s, t) and torch.equal(m, n))
                for (s, m), (t, n) in zip(before, after, strict=True)
            ]
            assert moved == [later > step.number and later > 0 for later in range(len(STEPS))]

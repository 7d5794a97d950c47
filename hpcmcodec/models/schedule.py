"""The coding order of the latent as integer tables (spec section 2), and gather and scatter from them.

y is coded at three levels, coarse first (level 0 is scale 1, a quarter of the latent's sides; level 2 is
the whole latent), in 2 + 3 + 6 steps. In each step every site of the level's grid codes exactly one
group of channels, so a step's symbols are dense: `B x h x w x M/groups`.
All tensors here are NHWC.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["LEVELS", "STEPS", "Step", "coarsen", "pyramid", "refine"]

LEVELS = 3

# The two sites of each class in a 4 x 4 cell, and the class that groups 0..7 take in steps 0..7.
_CLASSES = (
    ((0, 0), (2, 2)), ((0, 2), (2, 0)), ((1, 1), (3, 3)), ((1, 3), (3, 1)),
    ((0, 1), (2, 3)), ((0, 3), (2, 1)), ((1, 0), (3, 2)), ((1, 2), (3, 0)),
)  # fmt: skip
_ORDER = ("02461357", "13570246", "24603571", "35712460", "46025713", "57134602", "60247135", "71356024")

# Scale 2, steps 1..3: the 2 x 2 phase (00, 01, 10, 11) of channel quarters 0..3. Step 0 is scale 1.
_QUARTERS = ((3, 2, 1, 0), (2, 3, 0, 1), (1, 0, 3, 2))

Table = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Step:
    """One step: `table[row % period][column % period]` is the channel group coded at a site."""

    number: int
    level: int
    groups: int
    table: Table

    def sites(self, height: int, width: int, device: torch.device | str = "cpu") -> Tensor:
        """The channel group that each site of the level's grid codes in this step, int64 `H x W`."""
        return _sites(self.number, height, width, torch.device(device))

    def gather(self, x: Tensor) -> Tensor:
        """What this step codes of `B x H x W x ... x C`: `B x H x W x ... x C/groups`."""
        return _Gather.apply(x, self.sites(x.shape[1], x.shape[2], x.device), self.groups)

    def scatter(self, x: Tensor, values: Tensor) -> Tensor:
        """x, `B x H x W x C`, with `values`, `B x H x W x C/groups`, at the sites that this step codes."""
        coded = _coded(_beside(self.sites(x.shape[1], x.shape[2], x.device), x), self.groups)
        return torch.where(coded, values.unsqueeze(3), _grouped(x, self.groups)).flatten(-2)


def _table(period: int, sites_of_group: list[tuple[tuple[int, int], ...]]) -> Table:
    rows = [[-1] * period for _ in range(period)]
    for group, places in enumerate(sites_of_group):
        for row, column in places:
            rows[row][column] = group
    return tuple(tuple(row) for row in rows)


_SCALE3 = [_table(4, [_CLASSES[int(c)] for c in order]) for order in _ORDER]
_SCALE2 = [_table(2, [(divmod(m, 2),) for m in order]) for order in _QUARTERS]
_SCALE1 = [((0, 1), (1, 0)), ((1, 0), (0, 1))]

STEPS: tuple[Step, ...] = tuple(
    Step(number, level, groups, table)
    for number, (level, groups, table) in enumerate(
        [(0, 2, t) for t in _SCALE1] + [(1, 4, t) for t in _SCALE2] + [(2, 8, t) for t in _SCALE3[2:]]
    )
)


def _kept(level: int) -> tuple[tuple[int, int], ...]:
    """Where in each 2 x 2 cell of `level` the groups keep the sample that the level below codes.

    For level 2 it follows from steps 0 and 1 of the scale-3 table, for level 1 it is spec's first part.
    """
    if level == 1:
        return ((0, 0), (0, 1), (1, 0), (1, 1))
    first = _SCALE3[0]
    return tuple(
        next((r, c) for r in range(2) for c in range(2) if first[r][c] == g or first[r + 2][c] == g)
        for g in range(8)
    )


@lru_cache(maxsize=1024)
def _sites(step: int, height: int, width: int, device: torch.device) -> Tensor:
    # Kept, so made as plain tensors even if the first caller is in inference mode.
    with torch.inference_mode(False):
        table = torch.tensor(STEPS[step].table, dtype=torch.int64, device=device)
        period = len(STEPS[step].table)
        row = torch.arange(height, dtype=torch.int64, device=device) % period
        column = torch.arange(width, dtype=torch.int64, device=device) % period
        return table[row[:, None], column]


def _grouped(x: Tensor, groups: int) -> Tensor:
    return x.unflatten(-1, (groups, x.shape[-1] // groups))


def _coded(group: Tensor, groups: int) -> Tensor:
    """Which group a site codes, as a mask `H x W x ... x groups x 1` for group `H x W x ... x 1 x 1`."""
    return group == torch.arange(groups, dtype=torch.int64, device=group.device)[:, None]


def _beside(group: Tensor, x: Tensor) -> Tensor:
    """group, `H x W`, with as many dimensions after these as x, `B x H x W x ...`, has, and one more."""
    return group.view(*group.shape, *(1 for _ in x.shape[2:]))


class _Gather(torch.autograd.Function):
    """A step reads each site once, so the gradient is a plain placement instead of an atomic sum."""

    @staticmethod
    def forward(ctx, x: Tensor, group: Tensor, groups: int) -> Tensor:  # type: ignore[no-untyped-def]
        group = _beside(group, x)
        ctx.save_for_backward(group)
        ctx.groups = groups
        return torch.take_along_dim(_grouped(x, groups), group[None], -2).squeeze(-2)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[no-untyped-def]
        (group,) = ctx.saved_tensors
        return torch.where(_coded(group, ctx.groups), grad.unsqueeze(-2), 0).flatten(-2), None, None


def coarsen(x: Tensor, level: int) -> Tensor:
    """The samples of `level` that the level below codes: `B x H x W x C` to `B x H/2 x W/2 x C`."""
    kept = _kept(level)
    size = x.shape[-1] // len(kept)
    return torch.cat([x[:, r::2, c::2, g * size : (g + 1) * size] for g, (r, c) in enumerate(kept)], -1)


@lru_cache(maxsize=64)
def _kept_mask(level: int, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        kept = _kept(level)
        mask = torch.zeros(2, 1, 2, len(kept), 1, dtype=torch.bool, device="cpu")
        for group, (row, column) in enumerate(kept):
            mask[row, 0, column, group] = True
        return mask.to(device)


def refine(coarse: Tensor, x: Tensor, level: int) -> Tensor:
    """x, `B x H x W x C` on the grid of `level`, with `coarse` placed at the samples coded before."""
    batch, height, width, channels = x.shape
    groups = len(_kept(level))
    fine = x.view(batch, height // 2, 2, width // 2, 2, groups, channels // groups)
    placed = coarse.view(batch, height // 2, 1, width // 2, 1, groups, channels // groups)
    return torch.where(_kept_mask(level, x.device), placed, fine).view(x.shape)


def pyramid(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """x, `B x H x W x C` on the full grid, as the three levels read it, coarse first."""
    middle = coarsen(x, 2)
    return coarsen(middle, 1), middle, x

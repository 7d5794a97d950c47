"""The one coding traversal, shared by training, encoding and decoding (spec section 2).

The context model never holds y: only the coder does. So the encoder cannot use what the decoder has not
got, and the two cannot drift apart. All tensors are NHWC.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor, nn

from ..config import ModelConfig, Part
from ..layers import CrossAttentionCell, DWConvRB, RWKVBlock, RWKVContextCell, folded_once, full_precision
from .schedule import LEVELS, STEPS, Step, pyramid, refine

__all__ = ["Coder", "ContextModel", "SpatialPrior", "State"]


class Coder(Protocol):
    """Codes what one step codes; all that is known of y passes through here."""

    def code(self, step: Step, scales: Tensor, means: Tensor) -> Tensor:
        """Raw scales and means, `B x h x w x M/groups`, to y_hat at these sites, of the same shape."""
        ...


@dataclass(frozen=True)
class State:
    """What encoder and decoder both know before a step.

    hyper: common parameters (scales, means) of each level, `B x h x w x 2M`, coarse first.
    level: the level being coded.
    context: context state, `B x h x w x 2M`: raw scales and means.
    y_hat: what is decoded so far on this level's grid, `B x h x w x M`, zero elsewhere.
    """

    hyper: tuple[Tensor, Tensor, Tensor]
    level: int
    context: Tensor
    y_hat: Tensor


class SpatialPrior(nn.Module):
    """branch_2( branch_1(x) * q ), then C -> 2M. x is `B x H x W x C`, q is `B x 1 x 1 x C`."""

    def __init__(self, blocks_1: list[nn.Module], blocks_2: list[nn.Module], width: int, latent: int) -> None:
        super().__init__()
        self.branch_1 = nn.Sequential(*blocks_1)
        self.branch_2 = nn.Sequential(*blocks_2)
        self.head = nn.Linear(width, 2 * latent)

    def forward(self, x: Tensor, q: Tensor) -> Tensor:
        h = self.branch_2(self.branch_1(x) * q.to(x.dtype))
        # Means are read to a fraction of a quantisation step: the last layer stays in float32.
        with full_precision(x):
            return self.head(h.float())


class ContextModel(nn.Module):
    """HPCM's context model; its parts are those of the configuration's phase."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        sizes, parts = config.sizes, config.parts
        self.latent, self.width = sizes.M, sizes.context_width
        state = 2 * sizes.M

        def cell(part: Part) -> nn.Module:
            if part.kind == "attention":
                return CrossAttentionCell(state, part.window)
            return RWKVContextCell(state, config.hidden_rate(part), sizes.cell_width)

        def fusion() -> nn.Module:
            if parts.fuse.kind == "conv":
                return nn.Linear(state, state)
            hidden_rate = config.hidden_rate(parts.fuse)
            if sizes.cell_width is None:
                return RWKVBlock(state, hidden_rate)
            return RWKVContextCell(state, hidden_rate, sizes.cell_width, inputs=1)

        def blocks(count: int) -> list[nn.Module]:
            if parts.prior.kind == "conv":
                return [DWConvRB(self.width) for _ in range(count)]
            return [RWKVBlock(self.width, config.hidden_rate(parts.prior)) for _ in range(count)]

        self.adaptors = nn.ModuleList(nn.Linear(3 * sizes.M, self.width) for _ in STEPS[1:])
        self.prior = SpatialPrior(blocks(2), blocks(1), self.width, sizes.M)
        self.prior_s3 = SpatialPrior(blocks(3), blocks(2), self.width, sizes.M)
        self.attn = nn.ModuleList(cell(part) for part in parts.attn)
        self.fuse = nn.ModuleList(fusion() for _ in range(LEVELS - 1))

    def code(self, hyper: Tensor, coder: Coder, quant_step: Tensor) -> Tensor:
        """Walk through the schedule.

        Args:
            hyper: common parameters, raw scales then means, `B x H x W x 2M`.
            coder: what y passes through.
            quant_step: modulation of the spatial prior, `B x steps - 1 x C`.

        Returns:
            y_hat, `B x H x W x M`.
        """
        state = self.start(hyper)
        with folded_once(self):
            for step in STEPS:
                if step.level > state.level:
                    state = self.ascend(state)
                params = self.predict(state, step, quant_step)
                scales, means = step.gather(params.unflatten(-1, (2, self.latent))).unbind(-2)
                state = self.commit(state, step, params, coder.code(step, scales, means))
        return state.y_hat

    def start(self, hyper: Tensor) -> State:
        """The state before the first step."""
        scales, means = (pyramid(p) for p in hyper.chunk(2, -1))
        coarse, middle, fine = (torch.cat(pair, -1) for pair in zip(scales, means, strict=True))
        return State((coarse, middle, fine), 0, coarse, torch.zeros_like(scales[0]))

    def ascend(self, state: State) -> State:
        """Place the state on the next finer grid; what is not coded yet takes the common parameters."""
        level = state.level + 1
        hyper = state.hyper[level]
        halves = zip(state.context.chunk(2, -1), hyper.chunk(2, -1), strict=True)
        context = torch.cat([refine(coarse, fine.to(coarse.dtype), level) for coarse, fine in halves], -1)
        blank = state.y_hat.new_zeros(*hyper.shape[:-1], self.latent)
        return replace(
            state, level=level, context=self.fuse[level - 1](context), y_hat=refine(state.y_hat, blank, level)
        )

    def predict(self, state: State, step: Step, quant_step: Tensor) -> Tensor:
        """Raw scales and means of every value on the level's grid, `B x h x w x 2M`."""
        if step.number == 0:
            return state.hyper[0]
        index = step.number - 1
        known = torch.cat((state.context, state.y_hat.to(state.context.dtype)), -1)
        prior = self.prior_s3 if step.level == LEVELS - 1 else self.prior
        return prior(self.adaptors[index](known), quant_step[:, index, None, None])

    def commit(self, state: State, step: Step, params: Tensor, values: Tensor) -> State:
        """The state after a step: y_hat gains the coded values, and the context what was predicted.

        The first step has no prediction of its own, and after the last nothing reads the context.
        """
        y_hat = step.scatter(state.y_hat, values)
        if step.number == 0 or step is STEPS[-1]:
            return replace(state, y_hat=y_hat)
        context = self.attn[step.level](params.to(state.context.dtype), state.context)
        return replace(state, context=context, y_hat=y_hat)

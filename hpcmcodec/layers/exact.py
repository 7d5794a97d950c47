"""Layers whose results are the same on every processor, thread count and GPU (the entropy path's).

Values are float64 tensors that hold integers times a power of two: a *grid*. Two rules make them exact:

- A sum over many terms (matrix product, convolution, mean, prefix sum) is of integers and stays below
  2^53, where float64 adds them without rounding, so no order of summation and no fused multiply-add can
  change it.
- All else is element-wise: multiply, add, subtract, divide, round and compare, each one IEEE operation that
  every machine rounds alike, and look-ups in tables stored with the weights. Functions that mathematical
  libraries round as they please (exp, sqrt, sigmoid) do not occur.

The layers that replace a trained one take its weights as integers times a step. Until `Grid`s are set, they
pass values through and note the largest, which is how they are calibrated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..ops.exact import (
    FINE,
    GATE_REACH,
    GATE_STEPS,
    exact_biwkv,
    exact_depthwise,
    exact_gate,
    exact_linear,
    exp_minus,
    exp_of,
    to_grid,
)

__all__ = [
    "COARSEST",
    "DECAY_SHAPE",
    "GATE_SHAPE",
    "ExactDepthwise",
    "ExactLinear",
    "ExactNorm",
    "Grid",
    "Tables",
    "inverse_root",
    "leaky_relu",
    "weight_step",
]

# Integers of 16 bits, and of weights 8 (linear) and 12 (depthwise): sums of products stay below 2^31.
HIGHEST = 2**15 - 1
# What only LayerNorm and sums read may have 20 bits: sums of its squares stay exact.
WIDE = 2**19 - 1
WEIGHT_LEVELS = 127
KERNEL_LEVELS = 2047
SUM_LIMIT = 2**31
# Rounding by inputs may raise the sum of a row's weights a little.
ROUNDING_ROOM = 0.97
# Multipliers have so many bits that a product with a sum of 31 bits is exact.
MULTIPLIER_BITS = 22

# The coarsest grid that weights may ask for, in bits: steps of a million.
COARSEST = -20

# Of the tables of exp and of the sigmoid.
DECAY_SHAPE, GATE_SHAPE = (2, 256), (4096,)

EPSILON = 1e-5  # LayerNorm's
SLOPE = 0.01  # of LeakyReLU


class Grid(nn.Module):
    """Round to a grid of steps 2^-bits, and clip to 16 bits, +-32767 steps, or to 20 if `wide`.

    Args:
        most: the finest grid that calibration may choose, in bits.
        bits: the grid, where the format fixes it.

    Attributes:
        bits: None until calibrated; values then pass, and `peak` is the largest magnitude seen.
    """

    def __init__(self, most: int = 14, bits: int | None = None, wide: bool = False) -> None:
        super().__init__()
        self.most, self.fixed = most, bits is not None
        self.highest = WIDE if wide else HIGHEST
        self.bits = bits
        self.peak = 0.0

    @property
    def unit(self) -> float:
        """Steps in 1, once calibrated."""
        assert self.bits is not None
        return 2.0**self.bits

    def choose(self) -> None:
        """The finest grid on which twice the largest value seen has room."""
        if not self.fixed:
            self.bits = min(self.most, math.floor(math.log2(self.highest / max(2 * self.peak, 1e-9))))

    def forward(self, x: Tensor) -> Tensor:
        """x, which is overwritten."""
        if self.bits is None:
            self.peak = max(self.peak, float(x.abs().max()))
            return x
        return to_grid(x, self.unit, self.highest)


def multiplier(step: Tensor) -> Tensor:
    """step, float64, rounded to `MULTIPLIER_BITS` significant bits."""
    mantissa, exponent = np.frexp(step.double().cpu().numpy())
    rounded = np.round(mantissa * 2.0**MULTIPLIER_BITS)
    return torch.from_numpy(np.ldexp(rounded, exponent - MULTIPLIER_BITS)).to(step.device)


def weight_step(weight: Tensor) -> Tensor:
    """The finest step per row at which no weight passes 8 bits and no sum of products 31.

    Args:
        weight: `outputs x inputs`.

    Returns:
        `outputs`.
    """
    size = weight.abs()
    most = ROUNDING_ROOM * SUM_LIMIT / HIGHEST
    return (size.amax(1) / WEIGHT_LEVELS).maximum(size.sum(1) / most).clamp_min(1e-12)


class ExactLinear(nn.Module):
    """sum(integer weight * x) * step + bias, rounded to grids: `... x inputs` to `... x outputs`.

    Called with x, the grid that it lies on (None where there are several), and a grid for each of the
    `parts` of the outputs, which are given apart; without grids, with all outputs as they are.

    Args:
        weight: float, `outputs x inputs`.
        bias: `outputs`, or none.
        step: `outputs`, of which the weights are multiples; default: `weight_step`.
        parts: how the outputs are shared out over grids; default: all to one.

    Attributes:
        place: where in the model the layer is that it stands for.

    Raises:
        ValueError: a weight has more than 8 bits, or a sum could pass 31.
    """

    place = ""
    weight: Tensor
    step: Tensor
    bias: Tensor

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        step: Tensor | None = None,
        parts: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        weight = weight.detach().double()
        step = weight_step(weight) if step is None else step.double()
        whole = (weight / step[:, None]).round()
        if float(whole.abs().max()) > WEIGHT_LEVELS:
            raise ValueError("weights of more than 8 bits")
        if float(whole.abs().sum(1).max()) * HIGHEST >= SUM_LIMIT:
            raise ValueError("weights so large that their sums may pass 31 bits")
        self.parts = list(parts or [len(step)])
        self.register_buffer("weight", whole.to(torch.int8).contiguous())
        self.register_buffer("step", multiplier(step))
        b = torch.zeros_like(step) if bias is None else bias.detach().double()
        self.register_buffer("bias", b)
        self.limits: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor, source: Grid | None, *into: Grid) -> Any:
        unit = None if source is None or source.bits is None else source.unit
        known = all(grid.bits is not None for grid in into)
        limits = self._grids(into) if known else (None, None)
        y = exact_linear(x, unit, self.weight, self.step, self.bias, *limits)
        if not known:
            for grid, part in zip(into, y.split(self.parts, -1), strict=True):
                grid(part)  # in place
        return y.split(self.parts, -1) if len(into) > 1 else y

    def _grids(self, into: Sequence[Grid]) -> tuple[Tensor | None, Tensor | None]:
        """Unit and largest integer of the grids, for each output."""
        if into and self.limits is None:
            device = self.step.device
            counts = torch.tensor(self.parts, dtype=torch.int64, device=device)
            units, most = (
                torch.tensor(values, dtype=torch.float64, device=device).repeat_interleave(counts)
                for values in ([g.unit for g in into], [float(g.highest) for g in into])
            )
            self.limits = units, most
        return self.limits or (None, None)


class ExactDepthwise(nn.Module):
    """Depthwise convolution of `B x H x W x C` on a grid, zero padding, same size, rounded to a grid.

    kernel: float, `C x 1 x k x k`; bias: `C` or none.
    """

    kernel: Tensor
    step: Tensor
    bias: Tensor

    def __init__(self, kernel: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        kernel = kernel.detach().double().flatten(1)
        step = multiplier(kernel.abs().amax(1).clamp_min(1e-12) / KERNEL_LEVELS)
        self.register_buffer("kernel", (kernel / step[:, None]).round().t().contiguous())  # k*k x C
        self.register_buffer("step", step)
        b = torch.zeros_like(step) if bias is None else bias.detach().double()
        self.register_buffer("bias", b)

    def forward(self, x: Tensor, into: Grid) -> Tensor:
        if into.bits is None:
            return into(exact_depthwise(x, self.kernel, self.step, self.bias, None, None))
        return exact_depthwise(x, self.kernel, self.step, self.bias, into.unit, float(into.highest))


def inverse_root(x: Tensor) -> Tensor:
    """1/sqrt(x) of positive float64 numbers, by Newton's method from a guess that halves the exponent."""
    guess = (0x5FE6EB50C7B537A9 - (x.view(torch.int64) >> 1)).view(torch.float64)
    half = x * 0.5
    for _ in range(5):
        guess = guess * (1.5 - half * guess * guess)
    return guess


class ExactNorm(nn.Module):
    """LayerNorm over the last dimension of x on a grid, not yet rounded; its sums are exact."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight.detach().double())
        self.register_buffer("bias", bias.detach().double())

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[-1]
        total = x.sum(-1, keepdim=True)
        # C^2 times the variance.
        spread = (x * x).sum(-1, keepdim=True) * channels - total * total
        scale = inverse_root(spread + EPSILON * channels * channels)
        return (x * channels).sub_(total).mul_(scale).mul_(self.weight).add_(self.bias)


def leaky_relu(x: Tensor) -> Tensor:
    """x, or a hundredth of it where it is negative."""
    return torch.where(x < 0, x * SLOPE, x)


class Tables(nn.Module):
    """exp and sigmoid by look-up.

    Args:
        decay: exp(-i/16), then exp(-i/4096), i = 0..255: float64 `2 x 256`.
        gate: sigmoid(i/128 - 16), i = 0..4095: float64.
    """

    decay: Tensor
    gate: Tensor

    def __init__(self, decay: Tensor, gate: Tensor) -> None:
        super().__init__()
        coarse, fine = decay.double()
        self.register_buffer("decay", torch.outer(coarse, fine).flatten())
        self.register_buffer("gate", gate.double())

    @classmethod
    def compute(cls) -> tuple[Tensor, Tensor]:
        """The two tables, for export: what is stored counts, not what a library makes of exp."""
        i, j = (torch.arange(count, dtype=torch.float64, device="cpu") for count in (256, 4096))
        decay = torch.stack((i / 16, i / FINE)).neg().exp()
        gate = torch.sigmoid(j / GATE_STEPS - GATE_REACH)
        return (decay * 2**30).round() / 2**30, (gate * 2**15).round() / 2**15

    def exp_minus(self, x: Tensor) -> Tensor:
        """exp(-x), x from 0 to 16 (beyond is clipped), to 2^-13 of its value and 2^-29."""
        return exp_minus(self.decay, x)

    def exp(self, x: Tensor) -> Tensor:
        """exp(x), x from -16 to 16."""
        return exp_of(self.decay, x)

    def biwkv(self, w: Tensor, u: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """BiWKV, not yet rounded; see `ops.exact.exact_biwkv_reference`."""
        y: Tensor = exact_biwkv(self.decay, w, u, k, v)
        return y

    def gated(self, x: Tensor, r: Tensor) -> Tensor:
        """x * sigmoid(r)."""
        y: Tensor = exact_gate(self.gate, x, r)
        return y

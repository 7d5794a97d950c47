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

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "ExactDepthwise",
    "ExactLinear",
    "ExactNorm",
    "Grid",
    "Tables",
    "exact_biwkv",
    "inverse_root",
    "leaky_relu",
]

# Integers of 16 bits, and of weights 8 (linear) and 12 (depthwise): sums of products stay below 2^31.
HIGHEST = 2**15 - 1
# What only LayerNorm and sums read may have 20 bits: sums of its squares stay exact.
WIDE = 2**19 - 1
WEIGHT_LEVELS = 127
KERNEL_LEVELS = 2047
SUM_LIMIT = 2**31
# Multipliers have so many bits that a product with a sum of 31 bits is exact.
MULTIPLIER_BITS = 22

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

    def choose(self) -> None:
        """The finest grid on which twice the largest value seen has room."""
        if not self.fixed:
            self.bits = min(self.most, math.floor(math.log2(self.highest / max(2 * self.peak, 1e-9))))

    def forward(self, x: Tensor) -> Tensor:
        """x, which is overwritten."""
        if self.bits is None:
            self.peak = max(self.peak, float(x.abs().max()))
            return x
        step = 2.0**-self.bits
        return x.mul_(1 / step).round_().clamp_(-self.highest, self.highest).mul_(step)


def multiplier(step: Tensor) -> Tensor:
    """step, float64, rounded to `MULTIPLIER_BITS` significant bits."""
    mantissa, exponent = np.frexp(step.double().cpu().numpy())
    rounded = np.round(mantissa * 2.0**MULTIPLIER_BITS)
    return torch.from_numpy(np.ldexp(rounded, exponent - MULTIPLIER_BITS)).to(step.device)


class ExactLinear(nn.Module):
    """`... x inputs` on a grid to `... x outputs`, not yet rounded: sum(integer weight * x) * step + bias.

    Args:
        weight: float, `outputs x inputs`.
        bias: `outputs`, or none.
        step: `outputs`, of which the weights are multiples; by default a 127th of each output's largest.

    Attributes:
        place: where in the model the layer is that it stands for.

    Raises:
        ValueError: a sum could pass 31 bits.
    """

    place = ""
    weight: Tensor
    step: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None, step: Tensor | None = None) -> None:
        super().__init__()
        weight = weight.detach().double()
        step = weight.abs().amax(1).clamp_min(1e-12) / WEIGHT_LEVELS if step is None else step.double()
        whole = (weight / step[:, None]).round()
        if float(whole.abs().sum(1).max()) * HIGHEST >= SUM_LIMIT:
            raise ValueError("weights so large that their sums may pass 31 bits")
        self.register_buffer("weight", whole)
        self.register_buffer("step", multiplier(step))
        b = torch.zeros(len(step), dtype=torch.float64) if bias is None else bias.detach().double()
        self.register_buffer("bias", b)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight).mul_(self.step).add_(self.bias)


class ExactDepthwise(nn.Module):
    """Depthwise convolution of `B x H x W x C` on a grid, zero padding, same size, not yet rounded.

    kernel: float, `C x 1 x k x k`; bias: `C` or none.
    """

    kernel: Tensor
    step: Tensor
    bias: Tensor

    def __init__(self, kernel: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        channels, _, self.size, _ = kernel.shape
        kernel = kernel.detach().double().flatten(1)
        step = multiplier(kernel.abs().amax(1).clamp_min(1e-12) / KERNEL_LEVELS)
        self.register_buffer("kernel", (kernel / step[:, None]).round().t().contiguous())  # k*k x C
        self.register_buffer("step", step)
        b = torch.zeros(channels, dtype=torch.float64) if bias is None else bias.detach().double()
        self.register_buffer("bias", b)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        reach = self.size // 2
        padded = F.pad(x, (0, 0, reach, reach, reach, reach))
        total = torch.zeros_like(x)
        for row in range(self.size):
            for column in range(self.size):
                part = padded[:, row : row + height, column : column + width]
                total.addcmul_(part, self.kernel[row * self.size + column])
        return total.mul_(self.step).add_(self.bias)


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

    FINE = 4096
    GATE_STEPS = 128.0
    GATE_REACH = 16.0

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
        i = torch.arange(256, dtype=torch.float64)
        decay = torch.stack((i / 16, i / cls.FINE)).neg().exp()
        gate = torch.sigmoid(torch.arange(4096, dtype=torch.float64) / cls.GATE_STEPS - cls.GATE_REACH)
        return (decay * 2**30).round() / 2**30, (gate * 2**15).round() / 2**15

    def exp_minus(self, x: Tensor) -> Tensor:
        """exp(-x), x from 0 to 16 (beyond is clipped), to 2^-13 of its value and 2^-29."""
        place = (x * self.FINE).round_().clamp_(0, len(self.decay) - 1)
        return self.decay[place.to(torch.int32)]

    def exp(self, x: Tensor) -> Tensor:
        """exp(x), x from -16 to 16."""
        y = self.exp_minus(x.abs())
        return torch.where(x > 0, 1 / y, y)

    def sigmoid(self, x: Tensor) -> Tensor:
        place = (x + self.GATE_REACH).mul_(self.GATE_STEPS).round_().clamp_(0, len(self.gate) - 1)
        return self.gate[place.to(torch.int32)]


def exact_biwkv(tables: Tables, w: Tensor, u: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """`ops.biwkv_reference` with exact sums, not yet rounded.

    The weights exp(k_i +- i w/T) are integers of so many bits that T of them times v stay below 2^53;
    numerator and denominator use the same ones, so the result is an average of values of v whatever the
    rounding.

    Args:
        w, u: decay, |w| at most 8, and boost per channel, float64 `C`.
        k, v: float64 `B x T x C`, v on a grid of 16 bits.
    """
    tokens = k.shape[1]
    bits = min(30, 52 - 15 - math.ceil(math.log2(tokens)))
    count = torch.full((), tokens, dtype=torch.float64, device=k.device)
    position = (torch.arange(tokens, device=k.device, dtype=torch.float64) / count)[:, None]
    forward, backward = position * w.abs(), (1 - position) * w.abs()
    rising = w > 0
    ahead = tables.exp_minus(torch.where(rising, backward, forward))  # of tokens before, T x C
    behind = tables.exp_minus(torch.where(rising, forward, backward))  # and after
    weight = tables.exp_minus(k.amax(1, keepdim=True) - k)
    own = tables.exp((u - w) / count) * weight
    unit = 2.0**bits

    numerator, denominator = own * v, own
    for sums, near in ((_before, ahead), (_after, behind)):
        whole = (weight * near).mul_(unit).round_()
        near = near * unit
        denominator = denominator + sums(whole) / near
        numerator += sums(whole.mul_(v)).div_(near)
    return numerator.div_(denominator)


def _before(x: Tensor) -> Tensor:
    return x.cumsum(1).sub_(x)


def _after(x: Tensor) -> Tensor:
    rising = x.cumsum(1)
    return rising[:, -1:] - rising

"""RWKV blocks on two-dimensional grids (LALIC, CVPR 2025, arXiv 2502.05741). All are NHWC."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..ops import gated_biwkv, layer_norm, residual_norm
from .conv import depthwise

__all__ = ["ChannelMix", "OmniShift", "RWKVBlock", "RWKVContextCell", "SpatialMix", "folded_once"]

DECAY_BOUND = 8.0


def _random(deviation: float, *shape: int) -> nn.Parameter:
    bound = 3**0.5 * deviation
    return nn.Parameter(nn.init.uniform_(torch.empty(shape, dtype=torch.float32), -bound, bound))


class OmniShift(nn.Module):
    """a0 x + a1 dw1x1(x) + a2 dw3x3(x) + a3 dw5x5(x), always computed as the one 5x5 it is equal to."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.tensor([0.5, 0.2, 0.3, 0.3], dtype=torch.float32))
        self.point = nn.Parameter(torch.full((channels, 1, 1, 1), 0.1, dtype=torch.float32))
        self.small = _random(0.15, channels, 1, 3, 3)
        self.large = _random(0.1, channels, 1, 5, 5)
        self.held: Tensor | None = None

    def kernel(self) -> Tensor:
        """The folded `C x 1 x 5 x 5` kernel."""
        return self.fold() if self.held is None else self.held

    def fold(self) -> Tensor:
        """The kernel, computed from the branches."""
        identity, point, small, large = self.alpha
        middle = F.pad(identity + point * self.point, (2, 2, 2, 2))
        return middle + small * F.pad(self.small, (1, 1, 1, 1)) + large * self.large

    def forward(self, x: Tensor, kernel: Tensor | None = None) -> Tensor:
        return depthwise(x, self.kernel() if kernel is None else kernel)


@contextmanager
def folded_once(module: nn.Module) -> Iterator[None]:
    """Fold the kernel of every OmniShift in a module now, and not at each of its uses."""
    shifts = [m for m in module.modules() if isinstance(m, OmniShift)]
    for shift in shifts:
        shift.held = shift.fold()
    try:
        yield
    finally:
        for shift in shifts:
            shift.held = None


class SpatialMix(nn.Module):
    """Gated BiWKV over all sites, row by row: `B x H x W x C` to the same.

    `kernel` is the shift's, where it is already known.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shift = OmniShift(channels)
        self.kvr = nn.Linear(channels, 3 * channels, bias=False)
        self.decay = _random(1.0, channels)
        self.boost = _random(1.0, channels)
        self.out = nn.Linear(channels, channels, bias=False)

    def forward(self, x: Tensor, kernel: Tensor | None = None) -> Tensor:
        kvr = self.kvr(self.shift(x, kernel)).flatten(1, 2)  # B x T x 3C
        decay = self.decay.clamp(-DECAY_BOUND, DECAY_BOUND)
        return self.out(gated_biwkv(decay, self.boost, kvr).unflatten(1, x.shape[1:3]))


class ChannelMix(nn.Module):
    """Gated squared-ReLU feed-forward layer: `B x H x W x C` to the same; `kernel` as in SpatialMix."""

    def __init__(self, channels: int, hidden_rate: int) -> None:
        super().__init__()
        self.hidden = hidden_rate * channels
        self.shift = OmniShift(channels)
        self.kr = nn.Linear(channels, self.hidden + channels, bias=False)
        self.value = nn.Linear(self.hidden, channels, bias=False)

    def forward(self, x: Tensor, kernel: Tensor | None = None) -> Tensor:
        k, r = self.kr(self.shift(x, kernel)).tensor_split((self.hidden,), -1)
        return torch.sigmoid(r) * self.value(F.relu(k).square())


class RWKVBlock(nn.Module):
    """SpatialMix and ChannelMix, each after a LayerNorm and on a scaled residual branch."""

    def __init__(self, channels: int, hidden_rate: int, use_checkpoint: bool = False) -> None:
        super().__init__()
        self.use_checkpoint = use_checkpoint
        self.norm1 = nn.LayerNorm(channels)
        self.spatial = SpatialMix(channels)
        self.gamma1 = nn.Parameter(torch.full((channels,), 0.3, dtype=torch.float32))
        self.norm2 = nn.LayerNorm(channels)
        self.channel = ChannelMix(channels, hidden_rate)
        self.gamma2 = nn.Parameter(torch.full((channels,), 0.3, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        kernels = self.spatial.shift.kernel(), self.channel.shift.kernel()
        if self.use_checkpoint and torch.is_grad_enabled():
            return checkpoint(self.mix, x, *kernels, use_reentrant=False)
        return self.mix(x, *kernels)

    def mix(self, x: Tensor, shift1: Tensor, shift2: Tensor) -> Tensor:
        """The block, given the kernels of its two shifts."""
        norm1, norm2 = self.norm1, self.norm2
        spatial = self.spatial(layer_norm(x, norm1.weight, norm1.bias), shift1)
        x, normed = residual_norm(x, spatial, self.gamma1, norm2.weight, norm2.bias)
        return x + (self.gamma2 * self.channel(normed, shift2)).to(x.dtype)


class RWKVContextCell(nn.Module):
    """The RWKV phases' context cell: x, h and the result are `B x H x W x dim`.

    Args:
        width: of the block inside; default: dim, as published.
        inputs: how many tensors it merges; of one, it is a narrow fusion.
    """

    def __init__(
        self,
        dim: int,
        hidden_rate: int,
        width: int | None = None,
        inputs: int = 2,
        use_checkpoint: bool = False,
    ) -> None:
        super().__init__()
        width = width or dim
        self.merge = nn.Linear(inputs * dim, width)
        self.block = RWKVBlock(width, hidden_rate, use_checkpoint)
        self.out = nn.Linear(width, dim)

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.out(self.block(self.merge(torch.cat(inputs, -1))))

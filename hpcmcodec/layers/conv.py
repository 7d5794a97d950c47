"""Convolutional residual blocks: PConvRB for the transforms (NCHW), DWConvRB for the priors (NHWC)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ..ops import depthwise as convolve
from ..ops import pointwise_mlp

__all__ = ["DWConvRB", "PConvRB", "depthwise"]


def depthwise(x: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
    """Depthwise convolution of `B x H x W x C` with a `C x 1 x k x k` kernel, zero padding, same size."""
    y = convolve(x, kernel)
    return y if bias is None else y + bias.to(y.dtype)


class PConvRB(nn.Module):
    """Residual block whose 3x3 convolution sees a quarter of the channels: `B x C x H x W` to the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.partial = channels // 4
        self.spatial = nn.Conv2d(self.partial, self.partial, 3, padding=1)
        self.expand = nn.Conv2d(channels, 4 * channels, 1)
        self.project = nn.Conv2d(4 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        s = self.spatial(x[:, : self.partial])
        return pointwise_mlp(x, s, *self.expand.parameters(), *self.project.parameters())


class DWConvRB(nn.Module):
    """Residual block with a depthwise 3x3 convolution: `B x H x W x C` to the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.expand = nn.Linear(channels, 2 * channels)
        self.project = nn.Linear(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        h = depthwise(x, self.spatial.weight, self.spatial.bias)
        return x + self.project(F.leaky_relu(self.expand(h), inplace=True))

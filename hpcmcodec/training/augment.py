"""Crops of photographs varied on the device: their scale, their light, their colours."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ..errors import UsageError

__all__ = ["OFF", "REACH", "Augment", "resample"]

SMALLEST = 0.5
LOBES = 3
# How far the filter reaches where the picture becomes smallest, in pixels of the picture.
REACH = round(LOBES / SMALLEST)
# The exponent of a display: twice the light is 2 ** (1 / DISPLAY) times the sample.
DISPLAY = 2.2
LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Augment:
    """How crops are varied. 0 is off; everything is drawn evenly from a range, for each crop anew.

    rescale: share of the crops that are made smaller, by a factor from 0.5 (or what the picture has room
        for) to 1, with a Lanczos filter.
    exposure: up to so many stops lighter or darker.
    gamma: exponent from `1 / (1 + gamma)` to `1 + gamma`, evenly in its logarithm.
    saturation: distance from grey times `1 - saturation` to `1 + saturation`.
    gain: each channel times `1 - gain` to `1 + gain`.

    Raises:
        UsageError: a strength below 0, or above 1 where it is a share or a distance from 1.
    """

    rescale: float = 0.0
    exposure: float = 0.0
    gamma: float = 0.0
    saturation: float = 0.0
    gain: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            most = math.inf if field.name in ("exposure", "gamma") else 1.0
            value = getattr(self, field.name)
            if not 0 <= value <= most or math.isinf(value):
                upper = "" if math.isinf(most) else f" and at most {most:g}"
                raise UsageError(f"{field.name} must be at least 0{upper}, not {value:g}")

    def scale(self, most: Tensor) -> Tensor:
        """How many pixels of the picture each crop's pixels span, in [1, 2], at most `most`. `N`."""
        smallest = (1 / most).clamp(SMALLEST, 1)
        factor = smallest + (1 - smallest) * torch.rand(len(most), dtype=torch.float32, device=most.device)
        return (1 / factor).clamp(min=1).minimum(most)

    def recolour(self, x: Tensor, varied: Tensor) -> Tensor:
        """`x` in other light and colours, in whole levels of 8 bits; where not `varied`, as it is.

        Args:
            x: `N x 3 x H x W` in [0, 1].
            varied: `N`, bool.
        """
        if not (self.exposure or self.gamma or self.saturation or self.gain):
            return x
        on = varied[:, None, None, None]
        draw = (2 * torch.rand(6, len(x), 1, 1, 1, dtype=torch.float32, device=x.device) - 1) * on
        gain = 1 + self.gain * draw[3:].squeeze(2).transpose(0, 1)
        y = x * torch.exp2(self.exposure / DISPLAY * draw[0]) * gain
        y = y.clamp(0, 1) ** torch.exp(math.log1p(self.gamma) * draw[1])
        red, green, blue = y.split(1, dim=1)
        grey = LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue
        y = grey + (1 + self.saturation * draw[2]) * (y - grey)
        y = (y.clamp(0, 1) * 255).round() / 255
        return torch.where(on, y, x)


OFF = Augment()


def resample(window: Tensor, scale: Tensor, side: int) -> Tensor:
    """A smaller picture of each window, by a Lanczos filter as wide as the scale asks for.

    Args:
        window: `N x L x L x 3` in [0, 255]; what the result shows begins REACH from its first edges.
        scale: `N`, in [1, 2]: pixels of the window that a pixel of the result spans.
        side: of the result.

    Returns:
        `N x side x side x 3`, whole numbers in [0, 255].
    """
    device = window.device
    centre = (torch.arange(side, dtype=torch.float32, device=device) + 0.5) * scale[:, None] + REACH
    place = torch.arange(window.shape[1], dtype=torch.float32, device=device) + 0.5
    distance = (place - centre[..., None]) / scale[:, None, None]
    weight = torch.sinc(distance) * torch.sinc(distance / LOBES) * (distance.abs() < LOBES)
    weight = weight / weight.sum(2, keepdim=True)
    down = torch.einsum("nij,njkc->nikc", weight, window)
    return torch.einsum("nkj,nijc->nikc", weight, down).round().clamp(0, 255)

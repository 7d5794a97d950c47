"""g_a, g_s, h_a and h_s from their widths. NCHW, best in channels_last."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..layers import PConvRB, full_precision

__all__ = [
    "Tune",
    "analysis",
    "hyper_analysis",
    "hyper_synthesis",
    "modulate",
    "run_transform",
    "synthesis",
]


def _blocks(channels: int, count: int) -> list[nn.Module]:
    return [PConvRB(channels) for _ in range(count)]


def _down(inputs: int, outputs: int) -> nn.Module:
    return nn.Conv2d(inputs, outputs, 2, stride=2)


def _up(inputs: int, outputs: int) -> nn.Module:
    return nn.ConvTranspose2d(inputs, outputs, 2, stride=2)


def analysis(widths: tuple[int, int, int], latent: int) -> nn.Sequential:
    """g_a: `B x 3 x H x W` to `B x M x H/16 x W/16`."""
    a, b, c = widths
    first = nn.Conv2d(3, a, 4, stride=2, padding=1)
    return nn.Sequential(
        first, *_blocks(a, 2), _down(a, b), *_blocks(b, 2), _down(b, c), *_blocks(c, 4), _down(c, latent)
    )


def synthesis(widths: tuple[int, int, int], latent: int) -> nn.Sequential:
    """g_s: `B x M x H/16 x W/16` to `B x 3 x H x W`."""
    a, b, c = widths
    last = nn.ConvTranspose2d(a, 3, 4, stride=2, padding=1)
    return nn.Sequential(
        _up(latent, c), *_blocks(c, 4), _up(c, b), *_blocks(b, 2), _up(b, a), *_blocks(a, 2), last
    )


def hyper_analysis(latent: int, hyper: int) -> nn.Sequential:
    """h_a: `B x M x h x w` to `B x N x h/4 x w/4`."""
    return nn.Sequential(PConvRB(latent), _down(latent, hyper), *_blocks(hyper, 3), _down(hyper, hyper))


def hyper_synthesis(latent: int, hyper: int) -> nn.Sequential:
    """h_s: `B x N x h/4 x w/4` to the common parameters (scales, means), `B x 2M x h x w`."""
    return nn.Sequential(_up(hyper, hyper), *_blocks(hyper, 3), _up(hyper, 2 * latent), PConvRB(2 * latent))


class Tune(nn.Module):
    """Scales and shifts per channel behind each layer of a transform but its last, in proportion to tune.

    At tune 0, and until they are trained, they change nothing: x (1 + tune * scale) + tune * shift.
    """

    def __init__(self, transform: nn.Sequential) -> None:
        super().__init__()
        self.channels = [_outputs(layer) for layer in transform[:-1]]
        self.scale = nn.Parameter(torch.zeros(sum(self.channels), dtype=torch.float32))
        self.shift = nn.Parameter(torch.zeros(sum(self.channels), dtype=torch.float32))

    def forward(self, tune: Tensor) -> list[tuple[Tensor, Tensor]]:
        """For each layer the factor and the summand, `B x channels x 1 x 1` in float32, of `B` tunes."""
        tune = tune.float()[:, None, None, None]
        factors = (1 + tune * self.scale[:, None, None]).split(self.channels, 1)
        summands = (tune * self.shift[:, None, None]).split(self.channels, 1)
        return list(zip(factors, summands, strict=True))


def _outputs(layer: nn.Module) -> int:
    return layer.channels if isinstance(layer, PConvRB) else layer.out_channels  # type: ignore[return-value]


def modulate(x: Tensor, factor: Tensor, summand: Tensor) -> Tensor:
    """x * factor + summand in float32, as x's type."""
    return (x.float() * factor + summand).to(x.dtype)


def run_transform(
    transform: nn.Sequential,
    x: Tensor,
    tuned: list[tuple[Tensor, Tensor]] | None = None,
    *,
    wide: bool = True,
) -> Tensor:
    """Run a transform.

    Args:
        tuned: what `Tune` gives for it; None: tune 0.
        wide: compute the last layer in float32: half precision there costs visible PSNR.
    """
    for place, layer in enumerate(transform[:-1]):
        x = layer(x)
        if tuned is not None:
            x = modulate(x, *tuned[place])
    last: Callable[[Tensor], Tensor] = transform[-1]
    if not wide:
        return last(x)
    with full_precision(x):
        return last(x.float())

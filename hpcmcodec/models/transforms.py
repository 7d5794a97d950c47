"""g_a, g_s, h_a and h_s from their widths (spec section 1). NCHW, best in channels_last."""

from __future__ import annotations

from torch import Tensor, nn

from ..layers import PConvRB, full_precision

__all__ = ["analysis", "hyper_analysis", "hyper_synthesis", "last_in_float", "synthesis"]


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


def last_in_float(transform: nn.Sequential, x: Tensor) -> Tensor:
    """Run a transform with its last layer in float32: half precision there costs visible PSNR."""
    for layer in transform[:-1]:
        x = layer(x)
    with full_precision(x):
        y: Tensor = transform[-1](x.float())
    return y

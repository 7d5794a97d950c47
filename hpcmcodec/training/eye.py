"""Distortion as the eye sees it: structure and edges in an opponent colour space, over six scales.

The colour space is XYB (Alakuijala et al., SPIE 2019): cube roots of the responses of the eye's three kinds
of cones, as a difference of red and green, their mean, and blue. At each scale, half as wide as the one
before, two pictures are compared by structural similarity (Wang et al., 2004, without its luminance term) and
by the edges that only one of them has, as SSIMULACRA2 does (Sneyers, 2022).
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["FEATURES", "SCALES", "eye_distortion", "eye_features", "to_xyb"]

SCALES = 6
# What is measured at each scale of each channel: structure that is lost, edges that are new, edges that are
# gone; of each the mean over the picture and the fourth root of the mean fourth power, which counts the worst
# places most.
FEATURES = 6

CONES = (
    (0.30, 0.622, 0.078),
    (0.23, 0.692, 0.078),
    (0.24342268924547819, 0.20476744424496821, 0.55180986650955360),
)
CONE_BIAS = 0.0037930732552754493
# Brings the three channels to one range of positive values.
XYB_SCALE = (14.0, 1.0, 1.0)
XYB_OFFSET = (0.42, 0.01, 0.55)

# What a scale, a channel and a feature count: fitted so that the sum follows SSIMULACRA2 on validation
# pictures coded by JPEG, WebP, AVIF and HPCM at many rates (correlation 0.99; of the mean square error 0.6).
SCALE_WEIGHTS = (0.35, 0.9, 2.0, 8.5, 1.8, 1.6)
CHANNEL_WEIGHTS = (0.8, 9.4, 0.6)
FEATURE_WEIGHTS = (5.5, 1.6, 1.3, 1.0, 1.3, 1.0)

SIGMA, RADIUS = 1.5, 5
STRUCTURE_FLOOR = 0.0009
SMALL = 1e-12


def _linear(x: Tensor) -> Tensor:
    """sRGB in [0, 1] to linear light."""
    x = x.clamp(0, 1)
    return torch.where(x <= 0.04045, x / 12.92, ((x.clamp_min(0.04) + 0.055) / 1.055).pow(2.4))


def to_xyb(linear: Tensor) -> Tensor:
    """Linear RGB `B x 3 x H x W` to XYB, all three channels positive, the last one less the second."""
    r, g, b = linear.unbind(1)
    # Sums by hand: on a GPU matrix products may round their inputs to ten bits.
    cones = torch.stack([x * r + y * g + z * b for x, y, z in CONES], 1) + CONE_BIAS
    red, green, blue = (cones.clamp_min(SMALL).pow(1 / 3) - CONE_BIAS ** (1 / 3)).unbind(1)
    x, y = 0.5 * (red - green), 0.5 * (red + green)
    channels = zip((x, y, blue - y), XYB_SCALE, XYB_OFFSET, strict=True)
    return torch.stack([scale * channel + offset for channel, scale, offset in channels], 1)


def _taps() -> list[float]:
    values = [math.exp(-(i**2) / (2 * SIGMA**2)) for i in range(-RADIUS, RADIUS + 1)]
    return [value / sum(values) for value in values]


def blur_rows(x: Tensor) -> Tensor:
    """Gaussian blur along the last dimension, the edges repeated."""
    width = x.shape[-1]
    padded = F.pad(x.flatten(0, -3), (RADIUS, RADIUS), mode="replicate").view(*x.shape[:-1], -1)
    total = torch.zeros_like(x)
    for place, tap in enumerate(_taps()):
        total = total + tap * padded[..., place : place + width]
    return total


def _blur(x: Tensor) -> Tensor:
    return blur_rows(blur_rows(x).mT.contiguous()).mT


def _norms(error: Tensor) -> list[Tensor]:
    """Mean, and fourth root of the mean fourth power, over the last two dimensions."""
    return [error.mean((-2, -1)), (error.square().square().mean((-2, -1)) + SMALL).pow(0.25) - SMALL**0.25]


def compare_maps(
    a: Tensor, b: Tensor, mean_a: Tensor, mean_b: Tensor, squares: Tensor, product: Tensor
) -> Tensor:
    """The features of one scale, `B x 3 x FEATURES`, of two pictures and what is blurred of them."""
    structure = 2 * (product - mean_a * mean_b) + STRUCTURE_FLOOR
    energy = squares - mean_a.square() - mean_b.square() + STRUCTURE_FLOOR
    lost = (1 - (1 - (mean_a - mean_b).square()) * structure / energy).clamp_min(0)
    edges = (1 + (b - mean_b).abs()) / (1 + (a - mean_a).abs()) - 1
    return torch.stack([*_norms(lost), *_norms(edges.clamp_min(0)), *_norms((-edges).clamp_min(0))], -1)


def eye_features(x: Tensor, x_hat: Tensor) -> Tensor:
    """How x_hat differs from x at every scale.

    Args:
        x, x_hat: sRGB in [0, 1], `B x 3 x H x W`.

    Returns:
        `B x SCALES x 3 x FEATURES`, all zero where they are equal (but for rounding).
    """
    a, b = (_linear(p.to(torch.promote_types(p.dtype, torch.float32))) for p in (x, x_hat))
    found = []
    for scale in range(SCALES):
        if scale:
            a, b = F.avg_pool2d(a, 2, ceil_mode=True), F.avg_pool2d(b, 2, ceil_mode=True)
        p, q = to_xyb(a), to_xyb(b)
        blurred = _blur(torch.stack((p, q, p * p + q * q, p * q)))
        found.append(compare_maps(p, q, *blurred.unbind(0)))
    return torch.stack(found, 1)


def eye_distortion(x: Tensor, x_hat: Tensor) -> Tensor:
    """The weighted sum of `eye_features`, one number for each picture, `B`."""
    features = eye_features(x, x_hat)
    return (features * _weights(features.device)).flatten(1).sum(1)


@lru_cache(maxsize=8)
def _weights(device: torch.device) -> Tensor:
    """`SCALES x 3 x FEATURES`; kept, since a captured graph may not bring values to the device."""
    scale, channel, feature = (
        torch.tensor(values, dtype=torch.float32, device="cpu")
        for values in (SCALE_WEIGHTS, CHANNEL_WEIGHTS, FEATURE_WEIGHTS)
    )
    return (scale[:, None, None] * channel[:, None] * feature).to(device)

"""Likelihood of a symbol under the coded distribution, differentiable, for training and estimates."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .tables import SCALE_MIN

__all__ = ["LIKELIHOOD_MIN", "likelihood", "positive_scale"]

# As in CompressAI: a floor under the likelihood keeps the logarithm finite.
LIKELIHOOD_MIN = 1e-9


class _LowerBound(torch.autograd.Function):
    """max(x, bound) that still lets a gradient pass which would raise x (Balle et al. 2018)."""

    @staticmethod
    def forward(ctx, x: Tensor, bound: float) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x)
        ctx.bound = bound
        return x.clamp_min(bound)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def]
        (x,) = ctx.saved_tensors
        return torch.where((x >= ctx.bound) | (grad < 0), grad, 0.0), None


def lower_bound(x: Tensor, bound: float) -> Tensor:
    return _LowerBound.apply(x, bound)


def positive_scale(raw: Tensor) -> Tensor:
    """scale = max(0.12, softplus(raw)), in float32."""
    return lower_bound(torch.nn.functional.softplus(raw.float()), SCALE_MIN)


def _upper_tail(x: Tensor, scale: Tensor, shape: float) -> Tensor:
    """P(X > x) of the zero-mean generalised Gaussian with this standard deviation."""
    if shape == 2.0:
        return 0.5 * torch.erfc(x / (math.sqrt(2.0) * scale))
    width = scale * math.exp(0.5 * (math.lgamma(1 / shape) - math.lgamma(3 / shape)))
    order = torch.full_like(x, 1 / shape)
    tail = 0.5 * torch.special.gammaincc(order, (x.abs() / width).clamp_min(1e-12) ** shape)
    return torch.where(x >= 0, tail, 1 - tail)


def likelihood(residual: Tensor, scale: Tensor, shape: float = 2.0) -> Tensor:
    """Probability of the unit interval around `residual` = y - mean, of any shape.

    The distribution is the generalised Gaussian of zero mean and standard deviation `scale`; `shape` 2 is
    the Gaussian. Values are at least LIKELIHOOD_MIN.
    """
    distance = residual.abs()
    mass = _upper_tail(distance - 0.5, scale, shape) - _upper_tail(distance + 0.5, scale, shape)
    return lower_bound(mass, LIKELIHOOD_MIN)

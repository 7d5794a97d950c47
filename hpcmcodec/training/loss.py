"""The rate-distortion loss, balanced over qualities, and how qualities are drawn."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from ..config import LAMBDAS

__all__ = ["draw_quality", "lambda_of", "rate_distortion", "rate_only"]

# The loss at convergence grows about as the square root of lambda: dividing by it makes a percent worth
# the same at every quality.
BALANCE = 0.5

# A picture whose loss is above so many medians of its batch weighs only as if it were there.
OUTLIER = 4.0


@lru_cache(maxsize=8)
def _log_lambdas(device: torch.device) -> Tensor:
    return torch.tensor(LAMBDAS).log().to(device)


def lambda_of(quality: Tensor) -> Tensor:
    """lambda of `quality` (1 to 8, any shape), interpolated in the log domain between the integers."""
    levels = _log_lambdas(quality.device)
    below = quality.floor().clamp(1, len(LAMBDAS) - 1)
    index = below.long() - 1
    return torch.lerp(levels[index], levels[index + 1], quality - below).exp()


def draw_quality(count: int, device: torch.device) -> Tensor:
    """`count` qualities from 1 to 8: every other one an integer, the rest uniform."""
    draw = torch.rand(count, device=device)
    integers = (0.5 + len(LAMBDAS) * draw).round().clamp(1, len(LAMBDAS))
    anywhere = 1 + (len(LAMBDAS) - 1) * draw
    return torch.where(torch.arange(count, device=device) % 2 == 0, integers, anywhere)


def _balance(weight: Tensor) -> Tensor:
    """What the loss of a picture counts, by its lambda."""
    middle = math.exp(sum(math.log(v) for v in LAMBDAS) / len(LAMBDAS))
    return (weight / middle) ** -BALANCE


def _bpp(pixels: int, y_likelihood: Tensor, z_likelihood: Tensor) -> Tensor:
    return -(y_likelihood.log2().flatten(1).sum(1) + z_likelihood.log2().flatten(1).sum(1)) / pixels


def rate_only(pixels: int, quality: Tensor, y_likelihood: Tensor, z_likelihood: Tensor) -> dict[str, Tensor]:
    """The same as `rate_distortion` of pictures of so many `pixels`, where the distortion is given."""
    bpp = _bpp(pixels, y_likelihood, z_likelihood)
    return {
        "loss": (_balance(lambda_of(quality)) * bpp).mean(),
        "rd": bpp,
        "bpp": bpp,
        "mse": torch.zeros_like(bpp),
    }


def rate_distortion(
    x: Tensor, quality: Tensor, x_hat: Tensor, y_likelihood: Tensor, z_likelihood: Tensor
) -> dict[str, Tensor]:
    """lambda * 255^2 * MSE + bpp of each picture, and their balanced mean.

    The gradient of a picture far off the others is held to theirs in size: where the synthesis explodes on
    one latent, that one picture would otherwise be all that the step follows.

    Returns:
        `loss`, the balanced mean to minimise; `rd`, `bpp` and `mse` (of values in 0..255), `B` each.
    """
    bpp = _bpp(x.shape[2] * x.shape[3], y_likelihood, z_likelihood)
    mse = (x_hat.float() - x).square().flatten(1).mean(1) * 255**2
    weight = lambda_of(quality)
    rd = weight * mse + bpp
    losses = _balance(weight) * rd
    bound = OUTLIER * losses.detach().sort().values[len(losses) // 2]
    held = (bound / losses.detach()).clamp(max=1)
    return {"loss": (held * losses).mean(), "rd": rd, "bpp": bpp, "mse": mse}

"""The rate-distortion loss, balanced over qualities, and how qualities are drawn."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from ..config import LAMBDAS
from .eye import eye_distortion

__all__ = ["draw_quality", "draw_tune", "lambda_of", "rate_distortion", "rate_only"]

# The loss at convergence grows about as the square root of lambda: dividing by it makes a percent worth
# the same at every quality.
BALANCE = 0.5

# A picture whose loss is above so many medians of its batch weighs only as if it were there.
OUTLIER = 4.0


# At tune 1 the distortion is this share of the mean square error plus the distortion for the eye times a
# factor, one for each integer quality. The factors are chosen so that a bit buys as much of either: the rate
# of a quality then stays about the same whatever the tune.
EYE_MSE_SHARE = 0.2
EYE_FACTORS = (3.5, 3.5, 3.6, 3.5, 3.2, 3.0, 2.7, 2.5)


@lru_cache(maxsize=8)
def _logs(values: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device="cpu").log().to(device)


def _at(values: tuple[float, ...], quality: Tensor) -> Tensor:
    """The value of a quality, interpolated in the log domain between those of the integers."""
    levels = _logs(values, quality.device)
    below = quality.floor().clamp(1, len(values) - 1)
    index = below.long() - 1
    return torch.lerp(levels[index], levels[index + 1], quality - below).exp()


def lambda_of(quality: Tensor) -> Tensor:
    """lambda of `quality` (1 to 8, any shape), interpolated in the log domain between the integers."""
    return _at(LAMBDAS, quality)


def draw_quality(count: int, device: torch.device) -> Tensor:
    """`count` qualities from 1 to 8: every other one an integer, the rest uniform."""
    draw = torch.rand(count, dtype=torch.float32, device=device)
    integers = (0.5 + len(LAMBDAS) * draw).round().clamp(1, len(LAMBDAS))
    anywhere = 1 + (len(LAMBDAS) - 1) * draw
    return torch.where(torch.arange(count, dtype=torch.int64, device=device) % 2 == 0, integers, anywhere)


def draw_tune(count: int, device: torch.device) -> Tensor:
    """`count` tunes: the first half 0, of the second half every other one 1 and the rest anywhere between."""
    place = torch.arange(count, dtype=torch.int64, device=device)
    tune = torch.where(place % 4 < 2, 1.0, torch.rand(count, dtype=torch.float32, device=device))
    return torch.where(place < _plain(count), 0.0, tune)


def _plain(count: int) -> int:
    """How many crops of a batch have tune 0: the first ones, so that the rest are a slice."""
    return (count + 1) // 2


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
    x: Tensor,
    quality: Tensor,
    x_hat: Tensor,
    y_likelihood: Tensor,
    z_likelihood: Tensor,
    tune: Tensor | None = None,
) -> dict[str, Tensor]:
    """lambda * 255^2 * MSE + bpp of each picture, and their balanced mean.

    With `tune`, `B` values of `draw_tune`, distortion for the eye takes the place of the mean square error.

    The gradient of a picture far off the others is held to theirs in size: where the synthesis explodes on
    one latent, that one picture would otherwise be all that the step follows.

    Returns:
        `loss`, the balanced mean to minimise; `rd`, `bpp` and `mse` (of values in 0..255), `B` each.
    """
    bpp = _bpp(x.shape[2] * x.shape[3], y_likelihood, z_likelihood)
    mse = (x_hat.float() - x).square().flatten(1).mean(1) * 255**2
    weight = lambda_of(quality)
    rd = weight * (mse if tune is None else _tuned(mse, x, x_hat, quality, tune)) + bpp
    losses = _balance(weight) * rd
    bound = OUTLIER * losses.detach().sort().values[len(losses) // 2]
    held = (bound / losses.detach()).clamp(max=1)
    return {"loss": (held * losses).mean(), "rd": rd, "bpp": bpp, "mse": mse}


def _tuned(mse: Tensor, x: Tensor, x_hat: Tensor, quality: Tensor, tune: Tensor) -> Tensor:
    """The distortion of each picture at its tune, on the scale of the mean square error."""
    first = _plain(len(x))
    mse, plain, tune = mse[first:], mse[:first], tune[first:]
    eye = _at(EYE_FACTORS, quality[first:]) * eye_distortion(x[first:], x_hat[first:])
    return torch.cat((plain, torch.lerp(mse, EYE_MSE_SHARE * mse + eye, tune)))

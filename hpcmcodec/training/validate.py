"""Rate and PSNR of a model by estimate, for watching training."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, islice

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..config import LAMBDAS
from ..models import HPCM

__all__ = ["to_input", "validate"]


def to_input(pixels: np.ndarray, device: torch.device) -> Tensor:
    """uint8 `H x W x 3` to `1 x 3 x H' x W'` in [0, 1], padded to multiples of 64 by edge replication."""
    x = torch.from_numpy(pixels).to(device).permute(2, 0, 1)[None].float() / 255
    return F.pad(x, (0, -x.shape[3] % 64, 0, -x.shape[2] % 64), mode="replicate")


@torch.no_grad()
def validate(
    model: HPCM,
    pictures: Sequence[np.ndarray],
    qualities: Sequence[float] = tuple(range(1, len(LAMBDAS) + 1)),
    batch: int = 8,
) -> Tensor:
    """Sums over the pictures, for each quality: bits per pixel, PSNR of the 8-bit picture, count.

    Args:
        batch: how many pictures of one size are taken together.

    Returns:
        `qualities x 3`, float64 on the CPU, to be added up over processes and divided by the count.
    """
    device = model.gain_y.log.device
    sums = torch.zeros(len(qualities), 3, dtype=torch.float64, device="cpu")
    by_size = sorted(pictures, key=lambda p: p.shape)
    for (height, width, _), same in groupby(by_size, key=lambda p: p.shape):
        while some := list(islice(same, batch)):
            x = torch.cat([to_input(pixels, device) for pixels in some])
            for row, quality in enumerate(qualities):
                q = torch.full((len(x),), float(quality), dtype=torch.float32, device=device)
                out = model(x, q, noise=False)
                bits = -sum(p.double().log2().flatten(1).sum(1) for p in out["likelihoods"].values())
                difference = (out["x_hat"].clamp(0, 1) * 255).round() - x * 255
                mse = difference[..., :height, :width].square().flatten(1).mean(1).clamp_min(1e-10)
                psnr = 10 * torch.log10(255**2 / mse)
                each = torch.stack((bits / (height * width), psnr, torch.ones_like(psnr)))
                sums[row] += each.double().sum(1).cpu()
    return sums

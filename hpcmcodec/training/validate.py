"""Rate and PSNR of a model by estimate, for watching training."""

from __future__ import annotations

from collections.abc import Sequence

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
) -> Tensor:
    """Sums over the pictures, for each quality: bits per pixel, PSNR of the 8-bit picture, count.

    Returns:
        `qualities x 3`, float64 on the CPU, to be added up over processes and divided by the count.
    """
    device = model.gain_y.log.device
    sums = torch.zeros(len(qualities), 3, dtype=torch.float64)
    for pixels in pictures:
        height, width = pixels.shape[:2]
        x = to_input(pixels, device)
        for row, quality in enumerate(qualities):
            out = model(x, torch.tensor([float(quality)], device=device), noise=False)
            bits = -sum(p.log2().sum() for p in out["likelihoods"].values())
            difference = (out["x_hat"].clamp(0, 1) * 255).round() - x * 255
            mse = difference[..., :height, :width].square().mean().clamp_min(1e-10)
            psnr = 10 * torch.log10(255**2 / mse)
            sums[row] += torch.tensor([float(bits) / (height * width), float(psnr), 1.0], dtype=torch.float64)
    return sums

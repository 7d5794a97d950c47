"""g_a and g_s window by window, so that memory does not grow with the picture.

A value of y depends on the picture no further than 45 pixels beyond its own 16 x 16, a pixel on y no further
than 46 (PConvRB's 3x3 convolutions at each scale, spec section 1). So a window that reaches HALO samples of
16 pixels further than what is kept of it gives what the whole picture would give: tiles have no seams.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..ambient import reproducible
from .hpcm import HPCM

__all__ = ["HALO", "STRIDE", "analyse_area", "synthesise_area"]

STRIDE = 16
HALO = 3
# Samples along the longest side of a window: as little memory as a small picture takes.
LONGEST = 48


def _spans(start: int, stop: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """start..stop in pieces of about one length: first, last, and the same with halo inside 0..end."""
    pieces = -(-(stop - start) // LONGEST)
    for piece in range(pieces):
        first = start + (stop - start) * piece // pieces
        last = start + (stop - start) * (piece + 1) // pieces
        yield first, last, max(0, first - HALO), min(end, last + HALO)


@reproducible()
def analyse_area(
    model: HPCM, rgb: NDArray[np.uint8], area: tuple[int, int, int, int], padded: tuple[int, int]
) -> Tensor:
    """The latent of a part of a picture.

    Args:
        rgb: the whole picture, `H x W x 3`; beyond its edges they are repeated.
        area: top, left, height and width in pixels, multiples of 16, inside `padded`.
        padded: height and width of the picture that is coded.

    Returns:
        `1 x M x height/16 x width/16`; see `HPCM.latent`.
    """
    top, left, height, width = (side // STRIDE for side in area)
    rows, columns = (side // STRIDE for side in padded)
    device = model.gain_y.log.device
    bands = []
    for first, last, above, below in _spans(top, top + height, rows):
        band = []
        for begin, end, west, east in _spans(left, left + width, columns):
            x = torch.from_numpy(_cut(rgb, STRIDE * above, STRIDE * below, STRIDE * west, STRIDE * east))
            y = model.latent(x.to(device).permute(2, 0, 1)[None].float().div(255))
            band.append(y[:, :, first - above : last - above, begin - west : end - west])
        bands.append(torch.cat(band, 3))
    return torch.cat(bands, 2)


def _cut(rgb: NDArray[np.uint8], top: int, bottom: int, left: int, right: int) -> NDArray[np.uint8]:
    rows = np.arange(top, bottom).clip(max=rgb.shape[0] - 1)
    columns = np.arange(left, right).clip(max=rgb.shape[1] - 1)
    part = rgb[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    down, across = bottom - top - part.shape[0], right - left - part.shape[1]
    return np.pad(part, ((0, down), (0, across), (0, 0)), mode="edge")


def synthesise_area(
    model: HPCM,
    y_hat: Callable[[int, int, int, int], Tensor | None],
    quality: float,
    area: tuple[int, int, int, int],
    padded: tuple[int, int],
) -> Iterator[tuple[int, int, Tensor]]:
    """Pixels of a part of a picture, window by window, from top to bottom.

    Args:
        y_hat: gives samples of the latent, `1 x rows x columns x M`, for their first and last row and first
            and last column; asked for rows further and further down. None: there is nothing to show.
        area: top, left, height and width in pixels, inside `padded`.

    Yields:
        Row and column of the window inside the area, which may be negative, and its values, `1 x 3 x H x W`.
    """
    top, left, height, width = area
    rows, columns = (side // STRIDE for side in padded)
    device = model.gain_y.log.device
    q = torch.tensor([quality], dtype=torch.float32, device=device)
    for first, last, above, below in _spans(top // STRIDE, -(-(top + height) // STRIDE), rows):
        for begin, end, west, east in _spans(left // STRIDE, -(-(left + width) // STRIDE), columns):
            samples = y_hat(above, below, west, east)
            if samples is None:
                continue
            with reproducible():
                x = model.synthesise(samples.to(device), q)
            down, across = STRIDE * (first - above), STRIDE * (begin - west)
            kept = x[:, :, down : down + STRIDE * (last - first), across : across + STRIDE * (end - begin)]
            yield STRIDE * first - top, STRIDE * begin - left, kept

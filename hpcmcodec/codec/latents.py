"""The latent of a file's tiles, and pixels of what is synthesised from it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from ..ambient import reproducible
from ..container import Area, Header, Tile
from ..errors import CorruptFileError, ModelMismatchError
from ..models import STRIDE

if TYPE_CHECKING:
    from ..models import HPCM

__all__ = ["CodecWarning", "Latents", "to_array", "warn"]


class CodecWarning(UserWarning):
    """Something worth knowing about a picture that was coded or decoded all the same."""


def warn(notes: Sequence[str]) -> None:
    for note in notes:
        warnings.warn(note, CodecWarning, stacklevel=3)


class Latents:
    """The latent of a file's tiles, decoded when it is first needed and kept as long as it may be."""

    def __init__(self, model: HPCM, header: Header, tiles: Sequence[Tile | None], partial: bool) -> None:
        self.model, self.header, self.tiles, self.partial = model, header, tiles, partial
        self.kept: dict[int, torch.Tensor] = {}
        self.broken: set[int] = set()

    @reproducible()
    def read(self, top: int, bottom: int, left: int, right: int) -> torch.Tensor | None:
        """Samples `1 x rows x columns x M` of the whole grid, None if all are lost; `top` never goes back."""
        wanted = Area(*(STRIDE * side for side in (top, left, bottom - top, right - left)))
        areas = self.header.areas
        needed = self.header.tiles_in(wanted)
        for number in [n for n in self.kept if areas[n].top + areas[n].height <= wanted.top]:
            del self.kept[number]
        for number in needed:
            if number not in self.kept and number not in self.broken:
                latent = self.decode(number)
                if latent is None:
                    self.broken.add(number)
                else:
                    self.kept[number] = latent
        if self.broken.issuperset(needed):
            return None
        channels = self.model.config.sizes.M
        device = next(self.model.parameters()).device
        y_hat = torch.zeros(1, bottom - top, right - left, channels, dtype=torch.float32, device=device)
        for number in needed:
            if number in self.broken:
                continue
            latent = self.kept[number]
            row, column = areas[number].top // STRIDE, areas[number].left // STRIDE
            above, west = max(top, row), max(left, column)
            below, east = min(bottom, row + latent.shape[1]), min(right, column + latent.shape[2])
            part = latent[:, above - row : below - row, west - column : east - column]
            y_hat[:, above - top : below - top, west - left : east - left] = part
        return y_hat

    def decode(self, number: int) -> torch.Tensor | None:
        """One tile, `1 x rows x columns x M`; None if it is lost, which only a partial reading allows."""
        tile, area = self.tiles[number], self.header.areas[number]
        if tile is None:
            return None
        try:
            return self.model.decompress_latent(
                tile.z, tile.y, tile.checksum, area.height, area.width, self.header.quality
            )
        except (CorruptFileError, ModelMismatchError):
            if not self.partial:
                raise
            return None


@reproducible()
def to_array(x: torch.Tensor, grey: bool) -> NDArray[np.uint8]:
    """1 x 3 x H x W in [0, 1] -> H x W x 3 in 0..255; of a grey picture, the mean of the channels in each."""
    x = x.mean(1, keepdim=True).expand_as(x) if grey else x
    pixels: NDArray[np.uint8] = x[0].clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
    return pixels

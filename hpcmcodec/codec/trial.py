"""One picture, analysed once, to be coded at one quality or several."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from .. import pictures
from ..config import QUALITIES
from ..container import Header, Tile, pack
from ..errors import UsageError
from ..models import analyse_area, synthesise_area
from .latents import Latents, to_array

if TYPE_CHECKING:
    from ..models import HPCM

__all__ = ["LAST_STEP", "QUALITY_STEPS", "Coded", "Trial", "quality_of", "round_quality"]

QUALITY_STEPS = 256
LAST_STEP = round((QUALITIES[1] - QUALITIES[0]) * QUALITY_STEPS)


@dataclass(frozen=True)
class Coded:
    """A whole file and its quality; psnr in dB, infinite without loss, where it was asked for."""

    data: bytes
    quality: float
    psnr: float | None


class Trial:
    """One picture, analysed once, to be coded at one quality or, where latents are kept, at several."""

    def __init__(
        self,
        model: HPCM,
        header: Header,
        pixels: pictures.Pixels,
        progress: Callable[[float], None],
        keep_latents: bool,
    ) -> None:
        self.model, self.header, self.pixels, self.progress = model, header, pixels, progress
        self.keep_latents = keep_latents
        self.alpha = None if pixels.alpha is None else _png(pixels.alpha)
        self.latents: dict[int, torch.Tensor] = {}

    def latent(self, number: int) -> torch.Tensor:
        if number in self.latents:
            return self.latents[number]
        area = self.header.areas[number]
        where = area.top, area.left, area.height, area.width
        latent = analyse_area(self.model, self.pixels.rgb, where, self.header.padded)
        if self.keep_latents:
            self.latents[number] = latent
        return latent

    def code(self, quality: float, with_psnr: bool = False) -> Coded:
        """The whole file, and on demand the PSNR of the picture that it decodes to."""
        header, tiles = replace(self.header, quality=quality), []
        count = len(header.areas)
        y_hats: dict[int, torch.Tensor] = {}
        for number in range(count):
            compressed = self.model.compress_latent(self.latent(number), quality)
            tiles.append(Tile(compressed.z, compressed.y, compressed.checksum))
            if with_psnr:
                y_hats[number] = compressed.y_hat
            self.progress((number + 1) / count)
        data = pack(header, tiles, self.alpha, self.pixels.metadata)
        return Coded(data, quality, self._psnr(header, y_hats) if with_psnr else None)

    def _psnr(self, header: Header, y_hats: dict[int, torch.Tensor]) -> float:
        """Of the picture that is synthesised from the tiles' latents, `1 x rows x columns x M` each."""
        rgb = self.pixels.rgb
        whole = Latents(self.model, header, (), False)
        whole.kept = y_hats
        total = 0.0
        where = 0, 0, header.height, header.width
        for top, left, x in synthesise_area(self.model, whole.read, header.quality, where, header.padded):
            pixels = to_array(x, header.grey)
            part = rgb[top : top + pixels.shape[0], left : left + pixels.shape[1]].astype(np.float32)
            difference = pixels[: part.shape[0], : part.shape[1]] - part
            total += float(np.square(difference).sum(dtype=np.float64))
        return 10 * math.log10(255**2 * rgb.size / total) if total else math.inf


def _png(alpha: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(alpha).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def quality_of(step: int) -> float:
    """The quality of a step that the file stores, from 0 to `LAST_STEP`."""
    return QUALITIES[0] + step / QUALITY_STEPS


def round_quality(quality: float) -> float:
    """To the steps the file stores, so that both sides use the same number."""
    first, last = QUALITIES
    if not first <= quality <= last:
        raise UsageError(f"quality goes from {first:g} to {last:g}, not {quality}")
    return round(quality * QUALITY_STEPS) / QUALITY_STEPS

"""One picture, analysed once, to be coded at one quality or several."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import replace
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

if TYPE_CHECKING:
    from ..models import HPCM, Compressed
from .latents import Latents, to_array

__all__ = ["Trial", "round_quality"]

QUALITY_STEPS = 256


class Trial:
    """One picture, analysed once, to be coded at one quality or several."""

    def __init__(
        self, model: HPCM, header: Header, pixels: pictures.Pixels, progress: Callable[[float], None]
    ) -> None:
        self.model, self.header, self.pixels, self.progress = model, header, pixels, progress
        self.alpha = None if pixels.alpha is None else _png(pixels.alpha)
        self.latents: dict[int, torch.Tensor] = {}
        self.coded: list[Compressed] = []
        self.keep = False

    def latent(self, number: int) -> torch.Tensor:
        if number in self.latents:
            return self.latents[number]
        area = self.header.areas[number]
        where = area.top, area.left, area.height, area.width
        latent = analyse_area(self.model, self.pixels.rgb, where, self.header.padded)
        if self.keep:
            self.latents[number] = latent
        return latent

    def file(self, quality: float, keep_latents: bool = False) -> tuple[bytes, Header]:
        """The whole file."""
        header, tiles = replace(self.header, quality=quality), []
        count = len(header.areas)
        self.coded = []
        for number in range(count):
            coded = self.model.compress_latent(self.latent(number), quality)
            tiles.append(Tile(coded.z, coded.y, coded.checksum))
            if keep_latents:
                self.coded.append(coded)
            self.progress((number + 1) / count)
        return pack(header, tiles, self.alpha, self.pixels.metadata), header

    def psnr(self, quality: float) -> float:
        """Of the picture that the latest file decodes to."""
        header, rgb = self.header, self.pixels.rgb
        whole = Latents(self.model, header, (), False)
        whole.kept = {number: coded.y_hat for number, coded in enumerate(self.coded)}
        total = 0.0
        where = 0, 0, header.height, header.width
        for top, left, x in synthesise_area(self.model, whole.read, quality, where, header.padded):
            pixels = to_array(x, header.grey)
            part = rgb[top : top + pixels.shape[0], left : left + pixels.shape[1]].astype(np.float32)
            difference = pixels[: part.shape[0], : part.shape[1]] - part
            total += float(np.square(difference).sum(dtype=np.float64))
        return 10 * math.log10(255**2 * rgb.size / max(total, 1e-9))


def _png(alpha: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(alpha).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def round_quality(quality: float) -> float:
    """To the steps the file stores, so that both sides use the same number."""
    first, last = QUALITIES
    if not first <= quality <= last:
        raise UsageError(f"quality goes from {first:g} to {last:g}, not {quality}")
    return round(quality * QUALITY_STEPS) / QUALITY_STEPS

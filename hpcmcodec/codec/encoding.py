"""Picture to the bytes of a `.hpcm` file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .. import pictures, zoo
from ..ambient import fresh
from ..config import QUALITIES
from ..container import MAX_PIXELS, MULTIPLE, ONE_TILE, TILE_SIDES, Header, unpack
from ..errors import HpcmError, LimitError, UsageError
from ..pictures import Picture
from .latents import Latents, warn
from .targets import Target, check_target, search
from .trial import Trial, round_quality

if TYPE_CHECKING:
    from ..models import HPCM

__all__ = ["Analysed", "Encoded", "analyse_picture", "encode", "encode_picture", "to_rgb"]

AUTOMATIC_TILE = 1024  # the side of the tiles of a picture that needs some


@dataclass(frozen=True)
class Encoded:
    """A file, and how it was produced.

    notes: what was converted, and how a target was missed, a line each. psnr: in dB, where it was a target;
    infinite without loss.
    """

    data: bytes
    quality: float
    notes: tuple[str, ...]
    psnr: float | None = None


def encode(
    image: Picture,
    quality: float = 5,
    phase: int = 4,
    family: str = "rwkv",
    preset: str = "lite",
    weights: str | Path | None = None,
    device: str = "auto",
    *,
    max_pixels: int | None = None,
) -> bytes:
    """Code a picture as the bytes of a `.hpcm` file; see `encode_picture`, which can do more.

    What is converted on the way is told as a `CodecWarning`.
    """
    encoded = encode_picture(image, quality, phase, family, preset, weights, device, max_pixels=max_pixels)
    warn(encoded.notes)
    return encoded.data


def encode_picture(
    image: Picture,
    quality: float = 5,
    phase: int = 4,
    family: str = "rwkv",
    preset: str = "lite",
    weights: str | Path | None = None,
    device: str = "auto",
    *,
    tile: int | None = None,
    strip: bool = False,
    frame: int | None = None,
    model: HPCM | None = None,
    target: Target | None = None,
    verify: bool = False,
    max_pixels: int | None = None,
    progress: Callable[[float], None] | None = None,
) -> Encoded:
    """Code a picture as a `.hpcm` file.

    Args:
        image: a PIL picture; a uint8 array `H x W`, or `H x W x` 2, 3 or 4 with alpha last; or a picture
            file: its path, its bytes or a file object opened in binary mode.
        quality: 1 (smallest) to 8 (best); fractions are rounded to 1/256. A target finds its own.
        phase, family, preset: which model; `hpcmcodec.zoo.available()` lists those with weights.
        weights: a weights file to use instead of the ones that come with the package.
        device: "auto" (the CPU), "cpu" or "cuda".
        tile: side of the tiles in pixels, a multiple of 64 from 256 to 2048; 0 for a single one;
            None: 1024 for pictures above 4 megapixels.
        strip: leave metadata out, and convert to sRGB.
        frame: which one of an animation or of several pages, from 0.
        model: this model, if it is loaded already; it is then neither looked up nor loaded.
        verify: decode the file as another process would, and compare the latent.
        max_pixels: the most pixels the picture may have, as for `decode_picture`.
        progress: called with the share done, 0 to 1.

    Raises:
        ImageError: the picture is of a kind or size that cannot be coded; LimitError if it is larger than
            `max_pixels`.
        UsageError: an argument that does not exist or is out of range.
        WeightsError: there are no such weights, or the file is not theirs.
        HpcmError: the file did not pass `verify`.
    """
    quality = round_quality(quality)
    wanted = check_target(target)
    keep = wanted is not None
    options = (tile, strip, frame, keep, max_pixels, progress, model)
    trial = _trial(image, phase, family, preset, weights, device, *options)
    coded, notes = search(trial, *wanted) if wanted else (trial.code(quality), [])
    if verify:
        with fresh():
            other = zoo.load_model(phase, preset, family, weights=weights, device=device, apart=True)
            _verify(coded.data, other)
    return Encoded(coded.data, coded.quality, (*trial.pixels.notes, *notes), coded.psnr)


class Analysed:
    """A picture analysed once, to be coded at several qualities; made by `analyse_picture`."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial

    def encode(self, quality: float) -> Encoded:
        """The file at a quality, 1 to 8, byte for byte the one that `encode_picture` makes.

        Raises:
            UsageError: the quality is out of range.
        """
        coded = self._trial.code(round_quality(quality))
        return Encoded(coded.data, coded.quality, self._trial.pixels.notes)


def analyse_picture(
    image: Picture,
    phase: int = 4,
    family: str = "rwkv",
    preset: str = "lite",
    weights: str | Path | None = None,
    device: str = "auto",
    *,
    tile: int | None = None,
    strip: bool = False,
    frame: int | None = None,
    model: HPCM | None = None,
    max_pixels: int | None = None,
) -> Analysed:
    """Do once what every quality of a picture has in common, its analysis g_a above all.

    It keeps the latent, 3 to 5 bytes for each pixel. Arguments and errors are those of `encode_picture`.
    """
    options = (tile, strip, frame, True, max_pixels, None, model)
    trial = _trial(image, phase, family, preset, weights, device, *options)
    for number in range(len(trial.header.areas)):
        trial.latent(number)
    return Analysed(trial)


def to_rgb(image: Picture, max_pixels: int | None = None) -> NDArray[np.uint8]:
    """The picture upright and in 8-bit colour, as a uint8 array `H x W x 3`; see `pictures.read`."""
    return pictures.read(image, max_pixels=max_pixels).rgb


def _trial(
    image: Picture,
    phase: int,
    family: str,
    preset: str,
    weights: str | Path | None,
    device: str,
    tile: int | None,
    strip: bool,
    frame: int | None,
    keep_latents: bool,
    max_pixels: int | None,
    progress: Callable[[float], None] | None = None,
    model: HPCM | None = None,
) -> Trial:
    pixels = pictures.read(image, frame, strip, max_pixels)
    if pixels.alpha is not None:
        pixels = replace(pixels, rgb=pictures.fill_hidden(pixels.rgb, pixels.alpha))
    height, width = pixels.rgb.shape[:2]
    header = Header(family, phase, preset, QUALITIES[0], width, height, bytes(4), bytes(4), 0, pixels.grey)
    header = replace(header, tile=_tile_side(tile, header))
    if model is None:
        model = zoo.load_model(phase, preset, family, weights=weights, device=device)
    header = replace(header, entropy_id=model.entropy_id, synthesis_id=model.synthesis_id)
    return Trial(model, header, pixels, progress or (lambda share: None), keep_latents)


def _verify(data: bytes, model: HPCM) -> None:
    """Decode what was written; the checksum compares it with what was coded.

    Args:
        model: another one than that which encoded, in torch as another process finds it: what the caller's
            torch or this process's past does to the encoder, it does not do to the decoder.
    """
    container = unpack(data, max_pixels=MAX_PIXELS)  # what was asked for was checked before
    latents = Latents(model, container.header, container.tiles, partial=False)
    for number in range(len(container.tiles)):
        try:
            latents.decode(number)
        except HpcmError as error:
            raise HpcmError(f"the file does not decode to what was coded (tile {number}): {error}") from error


def _tile_side(tile: int | None, header: Header) -> int:
    """The side of the tiles as the file keeps it, checked."""
    height, width = header.padded
    if height * width > MAX_PIXELS:
        raise LimitError(
            f"the picture is {header.width} x {header.height}: more than {MAX_PIXELS // 10**6} megapixels"
        )
    if tile is None:
        tile = AUTOMATIC_TILE if height * width > ONE_TILE else 0
    low, high = TILE_SIDES
    if tile and (not low <= tile <= high or tile % MULTIPLE):
        raise UsageError(f"a tile has a side of {low} to {high} pixels, in steps of {MULTIPLE}, not {tile}")
    if not tile and height * width > ONE_TILE:
        raise UsageError("a picture above 4 megapixels needs tiles")
    return 0 if tile >= max(height, width) else tile

"""The bytes of a `.hpcm` file to a picture."""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .. import pictures, zoo
from ..config import model_config
from ..container import MAX_PIXELS, PROFILES, Area, Header, check_left, unpack
from ..errors import CorruptFileError, ImageError, ModelMismatchError, UsageError, WeightsError
from ..files import Source, read_source
from ..models import synthesise_area
from ..pictures.pillow import one_line, own_settings
from .latents import Latents, to_array, warn

if TYPE_CHECKING:
    from ..models import HPCM

__all__ = ["Decoded", "decode", "decode_picture"]

BROKEN = 128  # the grey of a tile that is lost
TOLD = 8  # lost tiles that are told one by one

# What a PNG of 8-bit grey begins with, and what deflate saves at most.
PNG_START = struct.Struct(">8sI4sIIBB")
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
DEFLATE_RATIO = 1032


@dataclass(frozen=True)
class Decoded:
    """A picture, what is worth knowing of it, and what is damaged, a line each."""

    image: Image.Image
    notes: tuple[str, ...]
    broken: tuple[str, ...]


def decode(
    data: Source,
    weights: str | Path | None = None,
    device: str = "auto",
    *,
    max_pixels: int | None = None,
) -> Image.Image:
    """Bring the picture back from a `.hpcm` file; see `decode_picture`, which can do more."""
    decoded = decode_picture(data, weights, device, max_pixels=max_pixels)
    warn(decoded.notes)
    return decoded.image


def decode_picture(
    data: Source,
    weights: str | Path | None = None,
    device: str = "auto",
    *,
    crop: tuple[int, int, int, int] | None = None,
    partial: bool = False,
    max_pixels: int | None = None,
    model: HPCM | None = None,
    progress: Callable[[float], None] | None = None,
) -> Decoded:
    """Bring the picture back from a `.hpcm` file.

    Args:
        data: the whole file: its bytes, its path or a file object opened in binary mode.
        weights: a weights file to use instead of the ones that come with the package.
        device: as for `encode_picture`.
        crop: x, y, width and height of the part that is wanted; only the tiles it needs are decoded.
        partial: grey out what is damaged instead of refusing the file.
        max_pixels: the most pixels the whole picture may have, padded to multiples of 64 each way; it is
            asked before any memory is taken. None: what the environment variable HPCM_MAX_PIXELS says, else
            2^28.
        model: the one that made the file, if it is loaded already; it is then neither looked up nor loaded.
        progress: called with the share done, 0 to 1.

    Returns:
        The picture in the mode L, LA, RGB or RGBA, its metadata in `info`; that of a crop shows no more than
        the crop does.

    Raises:
        CorruptFileError: not a `.hpcm` file, or truncated or damaged.
        LimitError: the picture is larger than `max_pixels`.
        UsageError: the crop is not inside the picture, or the limit is no number above zero.
        WeightsError: the model it was made with has no weights here.
        ModelMismatchError: made with other weights, or decoded here to other symbols than were coded.
    """
    data = read_source(data, "a .hpcm file")
    container = unpack(data, partial, max_pixels)
    header = container.header
    if header.profile != PROFILES[-1]:
        raise ModelMismatchError(
            f"made with {header.profile} entropy coding, which only decodes on the machine that made it and"
            " is no longer read: decode it with the version that made it, and encode it anew"
        )
    area = _crop(crop, header)
    try:
        config = model_config(header.phase, header.preset, header.family)
    except UsageError as error:  # the file's wish, not the caller's
        raise WeightsError(f"made with a model that this version does not have: {error}") from None
    if model is None:
        model = zoo.load_model(config.phase, config.preset, config.family, weights=weights, device=device)
    notes = _check_fingerprints(header, model)
    damage = list(container.damage)
    alpha = None
    if container.alpha is not None:
        alpha, line = _alpha(container.alpha, header)
        if line and not partial:
            raise CorruptFileError(line)
        if line:
            damage.append(line)
    latents = Latents(model, header, container.tiles, partial)
    rgb = np.empty((area.height, area.width, 3), dtype=np.uint8)
    where = area.top, area.left, area.height, area.width
    for top, left, x in synthesise_area(model, latents.read, header.quality, where, header.padded):
        _paste(rgb, top, left, to_array(x, header.grey))
        if progress:
            progress(min(1.0, max(0, top + x.shape[2]) / area.height))
    check_left(header, latents.broken, len(data))
    damage += _describe(header, latents.broken)
    for number in latents.broken:
        lost = header.areas[number]
        top, left = max(0, lost.top - area.top), max(0, lost.left - area.left)
        rgb[top : lost.top + lost.height - area.top, left : lost.left + lost.width - area.left] = BROKEN
    if alpha is not None:
        alpha = alpha[area.top : area.top + area.height, area.left : area.left + area.width]
    metadata = container.metadata
    if (area.width, area.height) != (header.width, header.height):
        metadata = pictures.cropped_metadata(metadata, area.width, area.height, notes)
    decoded = pictures.Pixels(rgb, header.grey, alpha, metadata, ())
    return Decoded(pictures.to_image(decoded), tuple(notes), tuple(damage))


def _crop(crop: tuple[int, int, int, int] | None, header: Header) -> Area:
    if crop is None:
        return Area(0, 0, header.height, header.width)
    x, y, width, height = crop
    inside = x >= 0 and y >= 0 and x + width <= header.width and y + height <= header.height
    if not inside or width < 1 or height < 1:
        raise UsageError(
            f"a crop of {width} x {height} at {x}, {y} is not inside {header.width} x {header.height} pixels"
        )
    return Area(y, x, height, width)


def _describe(header: Header, lost: Collection[int]) -> list[str]:
    """A line for each lost tile, and one for all that are left when there are many."""
    lines = []
    for number in sorted(lost)[:TOLD]:
        area = header.areas[number]
        width, height = min(area.width, header.width - area.left), min(area.height, header.height - area.top)
        lines.append(f"tile {number}, {width} x {height} pixels at {area.left}, {area.top}, is lost")
    if len(lost) > TOLD:
        lines.append(f"and {len(lost) - TOLD} more of its {len(header.areas)} tiles are lost")
    return lines


def _alpha(png: bytes, header: Header) -> tuple[NDArray[np.uint8] | None, str]:
    """The alpha channel, or what is wrong with it.

    Before any memory is taken, what the PNG says of its size must be what the header says, which has passed
    the limit on pixels, and its bytes must be able to hold so many.
    """
    size = header.width, header.height
    try:
        magic, length, kind, *sides, depth, colour = PNG_START.unpack_from(png)
        fits = (magic, length, kind, tuple(sides), depth, colour) == (PNG_MAGIC, 13, b"IHDR", size, 8, 0)
        if fits and size[0] * size[1] <= DEFLATE_RATIO * len(png):
            image = pictures.open_picture(png, max_pixels=MAX_PIXELS, formats=("PNG",), repair=False)
            if image.size == size and image.mode == "L":  # a second IHDR may say something else
                with one_line("the alpha channel cannot be read"), own_settings():
                    return np.asarray(image), ""
    except (ImageError, struct.error):
        pass
    return None, "damaged .hpcm file: its alpha channel cannot be read"


def _check_fingerprints(header: Header, model: HPCM) -> list[str]:
    if header.entropy_id != model.entropy_id:
        raise ModelMismatchError(
            f"made with weights {header.entropy_id.hex()}, and those here are {model.entropy_id.hex()}"
        )
    if header.synthesis_id == model.synthesis_id:
        return []
    return [f"made for another decoder ({header.synthesis_id.hex()}): the picture may differ slightly"]


def _paste(picture: NDArray[np.uint8], top: int, left: int, pixels: NDArray[np.uint8]) -> None:
    """Put pixels into the picture, as far as they lie inside."""
    pixels = pixels[max(0, -top) :, max(0, -left) :]
    top, left = max(0, top), max(0, left)
    height, width = picture.shape[0] - top, picture.shape[1] - left
    pixels = pixels[:height, :width]
    picture[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels

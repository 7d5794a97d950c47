"""A PIL picture, or an array, to plain 8-bit arrays."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..container import check_pixels
from ..errors import ImageError
from ..files import Source, read_source
from .colour import ALPHA, CONVERTED, GREY, UNCONVERTED, Treatment, converter, has_grey_palette, treatment
from .metadata import turn_by_pillow, upright_metadata
from .opening import open_picture
from .pages import check_frame, chosen
from .pillow import one_line, own_limit, own_settings, remembered
from .samples import DEEP, Samples, in_range, to_8_bits
from .signalled import file_signal

__all__ = ["Picture", "Pixels", "read"]

Picture = Image.Image | NDArray[np.uint8] | Source

# Pixels are taken out of Pillow in strips of about this many, so that no large picture is copied on the way.
STRIP_PIXELS = 1 << 20


@dataclass(frozen=True, eq=False)
class Pixels:
    """A picture as plain arrays.

    Attributes:
        rgb: `H x W x 3`, upright; three equal channels for a grey picture.
        grey: whether it came as greyscale and goes out as greyscale.
        alpha: `H x W`, exact; None for a picture without.
        metadata: what there is of "icc" (a profile that fits the picture), "exif" (from the TIFF header on,
            without the "Exif" that some formats put before it) and "xmp", as raw bytes.
        notes: what was converted or left out, one plain line each.
    """

    rgb: NDArray[np.uint8]
    grey: bool
    alpha: NDArray[np.uint8] | None = None
    metadata: Mapping[str, bytes] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read(
    image: Picture, frame: int | None = None, strip: bool = False, max_pixels: int | None = None
) -> Pixels:
    """Take a picture apart into 8-bit arrays and metadata.

    Args:
        image: a PIL picture, or a uint8 array `H x W`, `H x W x 2` (grey and alpha), `H x W x 3` or
            `H x W x 4`, which is not copied where it need not be; or a picture file: its path, its bytes or a
            file object opened in binary mode.
        frame: which one of an animation or of several pages, from 0; the picture is left standing there.
        strip: leave EXIF and XMP out, and the colour profile too, by converting to sRGB. The orientation is
            applied all the same.
        max_pixels: the most pixels it may have, see `container.check_pixels`; asked before a PIL picture is
            decoded. `Image.MAX_IMAGE_PIXELS` is neither used nor changed.

    Raises:
        ImageError: the picture cannot be read, or is of a kind that cannot be coded.
        LimitError: it is larger than `max_pixels`.
        UsageError: there is no such frame.
        OSError: a file cannot be read.
        TypeError: this is no picture in any form.
    """
    if not isinstance(image, Image.Image) and not hasattr(image, "__array__"):
        name = str(image) if isinstance(image, str | os.PathLike) else "the picture"
        image = open_picture(read_source(image, "a picture"), name, max_pixels)
    if not isinstance(image, Image.Image):
        check_frame(frame or 0, 1)
        pixels = _from_array(np.asarray(image))
        height, width = pixels.rgb.shape[:2]
        check_pixels(width, height, max_pixels)
        return pixels
    check_pixels(*image.size, max_pixels)
    image = chosen(image, frame)
    check_pixels(*image.size, max_pixels)  # each page of a TIFF has a size of its own
    with one_line("the picture cannot be read"), own_limit(image.size), own_settings():
        samples, turned, signal = Samples(image), turn_by_pillow(image), file_signal(image)
        image.load()
    if min(image.size) < 1:
        raise ImageError("the picture has no pixels")
    if image.mode not in CONVERTED and image.mode not in UNCONVERTED:
        what = "floating-point samples" if image.mode == "F" else f"the mode {image.mode}"
        raise ImageError(f"the picture has {what}, which cannot be coded: convert it to 8 or 16 bits first")

    notes, lost = [*remembered(image), *samples.notes], list[str]()
    orientation, exif, xmp = upright_metadata(image, lost, turned)
    grey = samples.grey or image.mode in GREY or has_grey_palette(image)
    convert = converter(image, notes)
    levels = 2**samples.bits if image.mode in DEEP else 256
    colours = treatment(image, signal, exif, levels, grey, strip, notes)
    with one_line("the picture cannot be read"):
        rgb, alpha = _gather(image, samples, convert, colours, orientation)
    if strip:
        return Pixels(rgb, grey, alpha, {"icc": colours.icc} if colours.icc else {}, tuple(notes))
    metadata = {"icc": colours.icc, "exif": exif, "xmp": xmp}
    metadata = {key: data for key, data in metadata.items() if data}
    return Pixels(rgb, grey, alpha, metadata, (*notes, *lost))


def _from_array(array: NDArray[Any]) -> Pixels:
    if array.dtype != np.uint8:
        raise ImageError(f"an array of {array.dtype} cannot be coded, only of uint8")
    if array.ndim not in (2, 3) or array.shape[2:] not in ((), (2,), (3,), (4,)):
        raise ImageError(
            f"an array of shape {array.shape} is no picture: H x W, or H x W x 2, 3 or 4 channels"
        )
    if min(array.shape) < 1:
        raise ImageError("the picture has no pixels")
    if array.ndim == 2:
        return Pixels(np.stack([array] * 3, axis=-1), grey=True)
    grey = array.shape[2] == 2
    rgb = np.stack([array[..., 0]] * 3, axis=-1) if grey else np.ascontiguousarray(array[..., :3])
    alpha = np.ascontiguousarray(array[..., -1]) if array.shape[2] in (2, 4) else None
    return Pixels(rgb, grey, alpha)


def _gather(
    image: Image.Image,
    samples: Samples,
    convert: Callable[[Image.Image], Image.Image],
    colours: Treatment,
    orientation: int,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """The picture's colour and alpha, upright, strip by strip."""
    width, height = image.size
    shape = (width, height) if orientation >= 5 else (height, width)
    rgb = np.empty((*shape, 3), np.uint8)
    # Other modes may carry a stale transparent colour.
    has_channel = image.mode in ALPHA or (image.mode == "P" and image.has_transparency_data)
    has_channel = has_channel and not samples.opaque
    alpha = np.empty(shape, np.uint8) if has_channel or samples.transparent is not None else None
    rgb_as_stored = _as_stored(rgb, orientation)
    alpha_as_stored = None if alpha is None else _as_stored(alpha, orientation)
    rows = max(1, STRIP_PIXELS // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        # As crop() does, which the caller's limit on pixels would make fail.
        part = image.resize((width, bottom - top), Image.Resampling.NEAREST, (0, top, width, bottom))
        values = samples.unsigned(np.asarray(convert(part)).reshape(bottom - top, width, -1))
        if alpha_as_stored is not None:
            if samples.transparent is None:
                alpha_as_stored[top:bottom] = values[..., -1]
            else:
                opaque = (values != samples.transparent).any(axis=-1)
                alpha_as_stored[top:bottom] = opaque * np.uint8(255)
        values = values[..., : 3 if values.shape[2] >= 3 else 1]
        if colours.table is not None:
            values = colours.look_up(in_range(values, samples) if image.mode in DEEP else values)
        elif image.mode in DEEP:
            values = to_8_bits(values, samples)
        rgb_as_stored[top:bottom] = colours.convert(values)
    return rgb, alpha


def _as_stored(upright: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """A view of the upright picture that lies as EXIF's orientation says the stored one does."""
    views: dict[int, Callable[[], NDArray[np.uint8]]] = {
        2: lambda: upright[:, ::-1],
        3: lambda: upright[::-1, ::-1],
        4: lambda: upright[::-1],
        5: lambda: upright.swapaxes(0, 1),
        6: lambda: np.rot90(upright, 1),
        7: lambda: upright[::-1, ::-1].swapaxes(0, 1),
        8: lambda: np.rot90(upright, -1),
    }
    return views.get(orientation, lambda: upright)()

"""The bytes of a file to a PIL picture: the one place of the package where picture files are opened."""

from __future__ import annotations

import io
import struct
from collections.abc import Collection
from contextlib import suppress

from PIL import Image

from ..container import check_pixels
from ..errors import ImageError, LimitError
from .embedded import embedded
from .mending import Mended, mend_png, with_jpeg_end
from .pillow import one_line, own_limit, own_settings, remember

__all__ = ["FORMATS", "is_picture_name", "open_picture"]

# The formats that are read, the strictest signatures first. What is not named here is not opened: some of
# Pillow's other readers start a program (EPS), leave the work to the system (WMF), or take almost any bytes.
# JXL and HEIF come with packages of their own that register them.
FORMATS = (
    *("PNG", "JPEG", "MPO", "WEBP", "GIF", "TIFF", "AVIF", "HEIF", "JXL", "JPEG2000", "BMP", "DIB", "PPM"),
    *("QOI", "PSD", "DDS", "ICNS", "ICO", "SGI", "PCX", "TGA"),
)

# What Pillow itself takes as "not of this format, try the next".
OTHER_FORMAT = (SyntaxError, IndexError, TypeError, struct.error)


def open_picture(
    data: bytes,
    name: str = "the data",
    max_pixels: int | None = None,
    formats: Collection[str] = FORMATS,
    repair: bool = True,
) -> Image.Image:
    """A picture from the bytes of a file, its pixels not yet decoded.

    Args:
        name: what to call the file in a message.
        max_pixels: the most pixels that it may declare, see `container.check_pixels`.
            `Image.MAX_IMAGE_PIXELS` is neither used nor changed.
        formats: Pillow's names of the formats that may be opened, of those in `FORMATS`.
        repair: mend damage that costs no pixels; `read` has a note of it among its own.

    Raises:
        ImageError: this is no picture, or it is damaged.
        LimitError: it is larger than `max_pixels`.
    """
    with one_line(f"{name}: the picture cannot be read"), own_settings():
        mended = mend_png(data) if repair else Mended(data)
        image = _open(mended.data, formats, name)
        try:
            check_pixels(*image.size, max_pixels)
        except LimitError as error:
            raise LimitError(f"{name}: {error}") from None
        if repair and image.format in ("JPEG", "MPO"):
            whole = with_jpeg_end(data, lambda data: _open(data, ("JPEG",), name))
            if whole:
                image = _open(whole, formats, name)
                mended.notes.append("the JPEG's end marker is missing; its picture is whole")
        image.info.update(embedded(image, data) | mended.info)
        remember(image, mended.notes)
        return image


def _open(data: bytes, formats: Collection[str], name: str) -> Image.Image:
    """As `Image.open` does, but without a look at `Image.MAX_IMAGE_PIXELS`."""
    Image.init()
    for kind in formats:
        factory, accept = Image.OPEN.get(kind, (None, None))
        with suppress(*OTHER_FORMAT):
            accepted = accept(data[:16]) if accept else True
            if factory is None or not accepted or isinstance(accepted, str):
                continue
            try:
                return factory(io.BytesIO(data), "")
            except (Image.DecompressionBombError, Image.DecompressionBombWarning):
                with own_limit(None):
                    return factory(io.BytesIO(data), "")
    raise ImageError(f"{name} is not a picture that can be read")


def is_picture_name(name: str) -> bool:
    """Whether a file of this name is, by its suffix, of a format that is read here."""
    suffix = name[name.rfind(".") :].lower() if "." in name else ""
    return Image.registered_extensions().get(suffix) in FORMATS

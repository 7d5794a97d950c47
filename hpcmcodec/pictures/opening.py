"""The bytes of a file to a PIL picture: the one place of the package where picture files are opened."""

from __future__ import annotations

import io
import struct
from collections.abc import Collection
from contextlib import suppress

from PIL import Image

from ..container import MAX_PIXELS
from ..errors import ImageError
from .mending import Mended, mend_png, with_jpeg_end
from .pillow import one_line, own_limit, remember

__all__ = ["FORMATS", "check_size", "is_picture_name", "open_picture"]

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
    max_pixels: int | None = MAX_PIXELS,
    formats: Collection[str] = FORMATS,
    repair: bool = True,
) -> Image.Image:
    """A picture from the bytes of a file, its pixels not yet decoded.

    Args:
        name: what to call the file in a message.
        max_pixels: the most that the picture may declare; None for no limit. `Image.MAX_IMAGE_PIXELS` is
            neither used nor changed.
        formats: Pillow's names of the formats that may be opened, of those in `FORMATS`.
        repair: mend damage that costs no pixels; `read` has a note of it among its own.

    Raises:
        ImageError: this is no picture, it is damaged, or it is too large.
    """
    with one_line(name):
        mended = mend_png(data) if repair else Mended(data)
        image = _open(mended.data, formats, name)
        check_size(image.size, max_pixels, f"{name}: ")
        if repair and image.format in ("JPEG", "MPO"):
            whole = with_jpeg_end(data, lambda data: _open(data, ("JPEG",), name))
            if whole:
                image = _open(whole, formats, name)
                mended.notes.append("the JPEG's end marker is missing; its picture is whole")
        image.info.update(mended.info)
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


def check_size(size: tuple[int, int], max_pixels: int | None, prefix: str = "") -> None:
    """Refuse a picture of too many pixels before memory is taken for them.

    Raises:
        ImageError: it has more than `max_pixels`.
    """
    width, height = size
    if max_pixels is not None and width * height > max_pixels:
        limit = f"{max_pixels / 10**6:.6g} megapixels" if max_pixels >= 10**6 else f"{max_pixels} pixels"
        raise ImageError(f"{prefix}the picture is {width} x {height}: more than {limit}")


def is_picture_name(name: str) -> bool:
    """Whether a file of this name is, by its suffix, of a format that is read here."""
    suffix = name[name.rfind(".") :].lower() if "." in name else ""
    return Image.registered_extensions().get(suffix) in FORMATS

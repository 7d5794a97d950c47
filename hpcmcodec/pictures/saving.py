"""A picture to the file formats that can hold it."""

from __future__ import annotations

import io
import warnings
from typing import Any

from PIL import Image, PngImagePlugin

from ..errors import ImageError
from .exif import EXIF_PREFIX, EXIF_START
from .metadata import descriptive
from .pillow import one_line
from .profiles import profile_space
from .reading import Pixels
from .samples import TIFF_XMP

__all__ = ["save", "to_image"]

INFO = {"icc": "icc_profile", "exif": "exif", "xmp": "xmp"}

# What a decoder hands on should lose as little as its format allows.
SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "AVIF": {"quality": 95, "subsampling": "4:4:4"},
    "BMP": {"dpi": (0, 0)},  # else Pillow says 96
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True, "exact": True},
}

# Pillow drops alpha on the way to some of these without a word.
OPAQUE = ("BMP", "DIB", "JPEG", "MPO", "PPM")
JPEG_SEGMENT = 65533
XMP_HEADER = len(b"http://ns.adobe.com/xap/1.0/\0")


def to_image(pixels: Pixels) -> Image.Image:
    """The picture in PIL's mode L, LA, RGB or RGBA, its metadata in `info` where Pillow keeps it."""
    image = Image.fromarray(pixels.rgb[..., 0] if pixels.grey else pixels.rgb)
    if pixels.alpha is not None:
        image.putalpha(Image.fromarray(pixels.alpha))
    for key, data in pixels.metadata.items():
        image.info[INFO[key]] = EXIF_START + data if key == "exif" else data
    return image


def save(image: Image.Image, kind: str) -> bytes:
    """The bytes of a picture file, with as much of the metadata in `info` as the format can hold.

    Args:
        image: a PIL picture as `to_image` makes it.
        kind: Pillow's name of the format, as "PNG".

    Raises:
        ImageError: the format cannot hold this picture.
    """
    if kind in OPAQUE and image.has_transparency_data:
        raise ImageError(f"{kind} cannot hold transparency: choose PNG, WebP, AVIF or TIFF")
    buffer = io.BytesIO()
    with one_line(f"the picture cannot be saved as {kind}"), warnings.catch_warnings():
        # Pillow parses EXIF for some formats, and warns of what it finds odd in it.
        warnings.filterwarnings("ignore", category=UserWarning, module="PIL.TiffImagePlugin")
        image.save(buffer, kind, **_save_options(image, kind))
    return buffer.getvalue()


def _save_options(image: Image.Image, kind: str) -> dict[str, Any]:
    """Pillow's options for a format; what it would take from `info` by itself is always named."""
    options = dict(SAVE_OPTIONS.get(kind, {}))
    icc, exif, xmp = (image.info.get(key) or b"" for key in ("icc_profile", "exif", "xmp"))
    exif = EXIF_START + EXIF_PREFIX.sub(b"", exif) if exif else b""
    if kind in ("AVIF", "WEBP") and profile_space(icc) == "GRAY":
        icc = b""  # grey may become RGB there, which a grey profile does not describe
    if kind == "AVIF":
        if image.mode == "L":
            del options["subsampling"]  # by default Pillow 13 keeps grey grey
        return {**options, "icc_profile": icc, "exif": exif if _is_parsable(exif) else b"", "xmp": xmp}
    if kind in ("JPEG", "MPO"):
        exif = exif if len(exif) <= JPEG_SEGMENT else b""
        xmp = xmp if len(xmp) <= JPEG_SEGMENT - XMP_HEADER else b""
        return {**options, "icc_profile": icc, "exif": exif, "xmp": xmp}
    if kind == "PNG":
        text = PngImagePlugin.PngInfo()
        if xmp:
            text.add_itxt("XML:com.adobe.xmp", xmp)
        return {**options, "icc_profile": icc, "exif": exif, "pnginfo": text}
    if kind == "TIFF":
        tags = _tiff_tags(exif)
        if xmp:
            tags[TIFF_XMP] = xmp
        return {**options, "icc_profile": icc, "exif": tags}
    if kind == "WEBP":
        return {**options, "icc_profile": icc, "exif": exif, "xmp": xmp}
    return options


def _is_parsable(exif: bytes) -> bool:
    try:
        parsed = Image.Exif()
        parsed.load(exif)
        parsed.tobytes()
    except Exception:  # whatever Pillow raises now it would raise while it saves
        return False
    return True


def _tiff_tags(exif: bytes) -> Image.Exif:
    """EXIF as tags for Pillow to write into a TIFF; none where it cannot be parsed."""
    tags = Image.Exif()
    if _is_parsable(exif):
        tags.load(exif)
        tags.load(descriptive(tags))
    return tags

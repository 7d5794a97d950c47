"""A picture to the file formats that can hold it."""

from __future__ import annotations

import io
import struct
import warnings
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from ..errors import ImageError
from . import xmp as xmp_packets
from .exif import EXIF_PREFIX, EXIF_START, Density, Tags
from .formats import FORMATS, WHOLE, Format, in_words
from .metadata import descriptive
from .pillow import one_line
from .profiles import changes_nothing, profile_space, to_srgb
from .reading import Pixels
from .samples import TIFF_XMP

__all__ = ["check_format", "save", "to_image"]

INFO = {"icc": "icc_profile", "exif": "exif", "xmp": "xmp"}

IN_SEGMENTS = ("JPEG", "MPO")  # of this length:
JPEG_SEGMENT = 65_533
REWRITTEN = ("AVIF", "TIFF")  # Pillow parses EXIF and writes it anew for these
COLOURS = 256  # of a palette


def to_image(pixels: Pixels) -> Image.Image:
    """The picture in PIL's mode L, LA, RGB or RGBA, its metadata in `info` where Pillow keeps it."""
    image = Image.fromarray(pixels.rgb[..., 0] if pixels.grey else pixels.rgb)
    if pixels.alpha is not None:
        image.putalpha(Image.fromarray(pixels.alpha))
    for key, data in pixels.metadata.items():
        image.info[INFO[key]] = EXIF_START + data if key == "exif" else data
    density = _density(pixels.metadata.get("exif", b""))
    if density and density.unit != 1:
        image.info["dpi"] = density.per_inch()
    return image


def check_format(kind: str, alpha: bool, size: tuple[int, int]) -> Format:
    """What there is to know of a format that is to hold a picture with or without alpha, of this size.

    Raises:
        ImageError: it cannot.
    """
    into = FORMATS.get(kind)
    if into is None:
        raise ImageError(f"the picture cannot be saved as {kind}: choose {WHOLE}")
    if alpha and "RGBA" not in into.modes:
        raise ImageError(f"{kind} cannot hold transparency: choose {WHOLE}")
    if max(size) > into.longest:
        raise ImageError(
            f"the picture cannot be saved as {kind}: its sides have {into.longest:,} pixels at most"
        )
    return into


def save(image: Image.Image, kind: str, notes: list[str] | None = None) -> bytes:
    """The bytes of a picture file, with as much of the metadata in `info` as the format can hold.

    Args:
        image: a PIL picture as `to_image` makes it.
        kind: Pillow's name of the format, as "PNG".
        notes: takes a line for each thing that is converted or left out.

    Raises:
        ImageError: the format cannot hold this picture.
    """
    notes = [] if notes is None else notes
    into = check_format(kind, image.has_transparency_data, image.size)
    if kind == "AVIF" and image.mode == "L":  # by default Pillow 13 keeps grey grey
        into = replace(into, options={"quality": into.options["quality"]})
    side = _metadata(image, kind, into, notes)
    image = _pixels(image, into, side, notes)
    buffer = io.BytesIO()
    with one_line(f"the picture cannot be saved as {kind}"), warnings.catch_warnings():
        # Pillow parses EXIF for some formats, and warns of what it finds odd in it.
        warnings.filterwarnings("ignore", category=UserWarning, module="PIL.TiffImagePlugin")
        image.save(buffer, kind, **{**into.options, **_options(kind, side)})
    return buffer.getvalue()


@dataclass
class _Metadata:
    """What goes into a file beside the pixels; EXIF from the TIFF header on."""

    icc: bytes
    exif: bytes
    xmp: bytes
    density: Density | None


def _metadata(image: Image.Image, kind: str, into: Format, notes: list[str]) -> _Metadata:
    """The picture's metadata as far as the format can hold it, but for the profile, which it may not."""
    icc, exif, xmp = (image.info.get(key) or b"" for key in ("icc_profile", "exif", "xmp"))
    exif, density, lost = EXIF_PREFIX.sub(b"", exif), None, list[str]()
    try:
        density = Tags(exif).density if exif else None
    except (KeyError, struct.error):
        notes.append("EXIF is damaged and left out")
        exif = b""
    if exif and "exif" not in into.holds:
        if density and Tags(exif).only_density:
            lost += ["pixels per inch"] * ("density" not in into.holds)
        else:
            lost.append("EXIF")
        exif = b""
    if xmp and "xmp" not in into.holds:
        lost.append("XMP")
        xmp = b""
    if lost:
        notes.append(f"{into.name} cannot hold {in_words(lost, 'and')}: left out")
    if kind in IN_SEGMENTS:
        exif, xmp = _short(exif, notes), _splittable(xmp, notes)
    if kind in REWRITTEN and exif and not _is_parsable(exif):
        notes.append(f"EXIF is damaged in part, so that {into.name} cannot hold it: left out")
        exif = b""
    if kind == "TIFF" and exif and Tags(exif).drop_thumbnails():
        notes.append("TIFF cannot hold the EXIF thumbnail: left out")
    if kind == "AVIF" and exif:
        exif = _without_orientation(exif)
    return _Metadata(icc, exif, xmp, density)


def _pixels(image: Image.Image, into: Format, side: _Metadata, notes: list[str]) -> Image.Image:
    """The picture in a mode that the format has, its colours in sRGB where it cannot hold their profile."""
    need = "grey icc" if profile_space(side.icc) == "GRAY" else "icc"
    if side.icc and (need not in into.holds or len(side.icc) > into.longest_profile):
        image = _in_srgb(image, side.icc, into.name, notes)
        side.icc = b""
    if image.mode not in into.modes:
        image = image.convert("RGBA" if image.mode == "LA" else "RGB")
    return _with_palette(image, into.name) if into.palette and image.mode == "RGB" else image


def _in_srgb(image: Image.Image, icc: bytes, name: str, notes: list[str]) -> Image.Image:
    colour = image.convert("L" if image.mode in ("L", "LA") else "RGB")
    way = to_srgb(icc, colour.mode, colour.mode)
    if way is None:
        notes.append(f"{name} cannot hold the colour profile, which cannot be used either: left out")
        return image
    if changes_nothing(way, colour.mode == "L"):
        return image
    notes.append(f"converted to sRGB, as {name} cannot hold the colour profile")
    converted = way(colour)
    if image.mode in ("LA", "RGBA"):
        converted.putalpha(image.getchannel("A"))
    return converted


def _with_palette(image: Image.Image, name: str) -> Image.Image:
    if image.getcolors(COLOURS) is None:
        raise ImageError(f"{name} has {COLOURS} colours, and the picture more: choose {WHOLE}")
    rows = np.asarray(image).reshape(-1, 3)
    colours, indices = np.unique(rows, axis=0, return_inverse=True)
    palette = Image.fromarray(indices.reshape(image.height, image.width).astype(np.uint8))
    palette.putpalette(colours.tobytes())
    return palette


def _options(kind: str, side: _Metadata) -> dict[str, Any]:
    """Pillow's options for a format; what it would take from `info` by itself is always named."""
    exif = EXIF_START + side.exif if side.exif else b""
    dpi = side.density.per_inch() if side.density and side.density.unit != 1 else None
    density = {"dpi": dpi} if dpi and 1 <= min(dpi) <= max(dpi) <= 65_535 else {}
    if kind in ("BMP", "DIB"):
        return density
    if kind in IN_SEGMENTS:
        parts = xmp_packets.split(side.xmp, JPEG_SEGMENT) if side.xmp else []
        extra = b"".join(b"\xff\xe1" + struct.pack(">H", len(part) + 2) + part for part in parts)
        return {"icc_profile": side.icc, "exif": exif, "extra": extra, **density}
    if kind == "PNG":
        text = PngImagePlugin.PngInfo()
        if side.xmp:
            text.add_itxt("XML:com.adobe.xmp", side.xmp)
        return {"icc_profile": side.icc, "exif": exif, "pnginfo": text, **density}
    if kind == "TIFF":
        tags = _tiff_tags(exif)
        if side.xmp:
            tags[TIFF_XMP] = side.xmp
        return {"icc_profile": side.icc, "exif": tags}
    if kind in ("AVIF", "WEBP"):
        return {"icc_profile": side.icc, "exif": exif, "xmp": side.xmp}
    return {}


def _density(exif: bytes) -> Density | None:
    with suppress(KeyError, struct.error):
        return Tags(exif).density if exif else None
    return None


def _without_orientation(exif: bytes) -> bytes:
    """EXIF that Pillow hands on to the byte; to take the orientation out it would write all of it anew."""
    tags = Tags(exif)
    tags.drop_orientation()
    return bytes(tags.data)


def _short(exif: bytes, notes: list[str]) -> bytes:
    """EXIF that a segment of a JPEG has room for, if need be without its thumbnail."""
    longest = JPEG_SEGMENT - len(EXIF_START)
    if len(exif) <= longest:
        return exif
    tags = Tags(exif)
    if tags.drop_thumbnails() and len(tags.data) <= longest:
        notes.append("JPEG has no room for the EXIF thumbnail: left out")
        return bytes(tags.data)
    notes.append("JPEG has no room for EXIF: left out")
    return b""


def _splittable(xmp: bytes, notes: list[str]) -> bytes:
    """XMP that a JPEG has room for: in one segment, or in several if it can be put together again."""
    if len(xmp) > JPEG_SEGMENT - len(xmp_packets.START) and not xmp_packets.is_packet(xmp):
        notes.append("JPEG has no room for XMP: left out")
        return b""
    return xmp


def _is_parsable(exif: bytes) -> bool:
    try:
        parsed = Image.Exif()
        parsed.load(exif)
        parsed.tobytes()
    except Exception:  # whatever Pillow raises now it would raise while it saves
        return False
    return True


def _tiff_tags(exif: bytes) -> Image.Exif:
    """EXIF as tags for Pillow to write into a TIFF."""
    tags = Image.Exif()
    if exif:
        tags.load(exif)
        tags.load(descriptive(tags))
    return tags

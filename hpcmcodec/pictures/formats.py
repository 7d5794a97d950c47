"""The file formats that bring a picture back as it is, and what each can hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

__all__ = ["FORMATS", "WHOLE", "Format", "in_words", "kind_of"]

ALL = ("L", "LA", "RGB", "RGBA")
OPAQUE = ("L", "RGB")


@dataclass(frozen=True)
class Format:
    """What a format can hold.

    Attributes:
        name: as people write it.
        suffixes: of its files.
        modes: those of L, LA, RGB and RGBA that it keeps; grey becomes colour where it has none.
        holds: those of "icc", "grey icc", "exif", "xmp" and "density" (pixels per inch) that it has room for.
        longest, longest_profile: side in pixels, ICC profile in bytes.
        palette: whether it has one of 256 colours, and nothing else.
        options: for Pillow, so that as little is lost as the format allows.
    """

    name: str
    suffixes: tuple[str, ...]
    modes: tuple[str, ...] = ALL
    holds: tuple[str, ...] = ()
    longest: int = 65_535
    longest_profile: int = 2**32 - 1
    palette: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


EVERYTHING = ("icc", "grey icc", "exif", "xmp", "density")
IN_JPEG: dict[str, Any] = {
    "longest": 65_500,
    "longest_profile": 255 * 65_519,
    "options": {"quality": 95, "subsampling": 0},
}
IN_BMP = {"dpi": (0, 0)}  # else Pillow says 96

FORMATS = {
    "PNG": Format("PNG", (".png", ".apng"), ALL, EVERYTHING, 2**31 - 1),
    "WEBP": Format(
        *("WebP", (".webp",), ("RGB", "RGBA"), ("icc", "exif", "xmp"), 16_383),
        options={"lossless": True, "exact": True},
    ),
    "AVIF": Format(
        *("AVIF", (".avif",), ALL, ("icc", "exif", "xmp"), 65_536),
        options={"quality": 95, "subsampling": "4:4:4"},
    ),
    "TIFF": Format("TIFF", (".tif", ".tiff"), ALL, EVERYTHING, 2**31 - 1),
    "JPEG": Format("JPEG", (".jpg", ".jpeg", ".jpe", ".jfif"), OPAQUE, EVERYTHING, **IN_JPEG),
    "MPO": Format("MPO", (".mpo",), OPAQUE, EVERYTHING, **IN_JPEG),
    "JPEG2000": Format("JPEG 2000", (".jp2",), ALL, longest=2**31 - 1),
    "BMP": Format("BMP", (".bmp",), OPAQUE, ("density",), 2**31 - 1, options=IN_BMP),
    "DIB": Format("DIB", (".dib",), OPAQUE, ("density",), 2**31 - 1, options=IN_BMP),
    "PPM": Format("PPM", (".ppm", ".pgm", ".pnm"), OPAQUE, longest=2**31 - 1),
    "TGA": Format("TGA", (".tga", ".icb", ".vda", ".vst")),
    "SGI": Format("SGI", (".sgi", ".rgb", ".rgba", ".bw"), ("L", "RGB", "RGBA")),
    "QOI": Format("QOI", (".qoi",), ("RGB", "RGBA"), longest=2**31 - 1),
    "GIF": Format("GIF", (".gif",), OPAQUE, palette=True),
}


def in_words(kinds: list[str], last: str = "or") -> str:
    *first, end = kinds
    return f"{', '.join(first)} {last} {end}" if first else end


# Those that hold all that a picture can have.
WHOLE = in_words(
    [
        each.name
        for each in FORMATS.values()
        if "RGBA" in each.modes and {"icc", "exif", "xmp"} <= set(each.holds)
    ]
)


def kind_of(name: str) -> str | None:
    """Pillow's name of the format that is called so, or has files that end so; None if there is none here."""
    Image.init()
    suffix = f".{name.lower().removeprefix('.')}"
    for kind, each in FORMATS.items():
        if (suffix in each.suffixes or name.upper() == kind) and kind in Image.SAVE:
            return kind
    return None

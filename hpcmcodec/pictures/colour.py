"""Modes that Pillow converts, and what becomes of a picture's colours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import ImageError
from .metadata import raw_profiles
from .profiles import Colours, changes_nothing, make_profile, profile_space, to_srgb
from .samples import DEEP
from .signalled import Signal, exif_signal, info_signal

__all__ = [
    "ALPHA",
    "CONVERTED",
    "GREY",
    "UNCONVERTED",
    "Treatment",
    "converter",
    "has_grey_palette",
    "treatment",
]

ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
GREY = ("1", "L", "LA", "La", *DEEP)

# Modes that Pillow converts, to which, and what there is to say about it.
CONVERTED = {
    "1": ("L", "1 bit per pixel converted to 8"),
    "La": ("LA", "premultiplied alpha converted to straight alpha"),
    "P": ("RGB", "palette converted to 8 bits per channel"),
    "PA": ("RGBA", "palette converted to 8 bits per channel"),
    "RGBa": ("RGBA", "premultiplied alpha converted to straight alpha"),
    "RGBX": ("RGB", None),
    "CMYK": ("RGB", "CMYK converted to RGB without a colour profile"),
    "HSV": ("RGB", "HSV converted to RGB"),
    "LAB": ("RGB", "LAB converted to RGB"),
    "YCbCr": ("RGB", "YCbCr converted to RGB"),
}
UNCONVERTED = ("L", "LA", "RGB", "RGBA", *DEEP)


def has_grey_palette(image: Image.Image) -> bool:
    """As a GIF of a grey picture, which has no other way to be grey."""
    if image.mode not in ("P", "PA") or profile_space(image.info.get("icc_profile")) == "RGB":
        return False
    palette = np.array(image.getpalette("RGB") or (), np.uint8).reshape(-1, 3)
    return bool((palette == palette[:, :1]).all())


def converter(image: Image.Image, notes: list[str]) -> Callable[[Image.Image], Image.Image]:
    """Strips of this picture to L, LA, RGB, RGBA or 16-bit grey."""
    if image.mode not in CONVERTED:
        return lambda part: part
    mode, note = CONVERTED[image.mode]
    if image.mode == "P" and image.has_transparency_data:
        mode = "RGBA"
    profile = image.info.get("icc_profile")
    if image.mode == "CMYK" and profile:
        way = to_srgb(profile, "CMYK", "RGB")
        if way is None:
            notes.append(f"{note}, as its own is damaged or of another kind")
            return lambda part: part.convert(mode)
        notes.append("CMYK converted to sRGB by its colour profile, which is no longer needed")
        return way
    if note:
        notes.append(note)
    return lambda part: part.convert(mode)


@dataclass(frozen=True)
class Treatment:
    """What becomes of a picture's colours once they are L or RGB.

    icc: the profile that goes along, empty for sRGB. table: `levels x 3`, what each level of each channel
    becomes in 8 bits; None for what it is. way: from there to sRGB.
    """

    icc: bytes = b""
    table: NDArray[np.uint8] | None = None
    way: Callable[[Image.Image], Image.Image] | None = None

    def look_up(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """By the table; samples `H x W x 1` or `3`."""
        assert self.table is not None
        return np.stack([self.table[values[..., i], i] for i in range(values.shape[2])], axis=-1)

    def convert(self, values: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Along the way, if there is one."""
        if self.way is None:
            return values
        part = Image.fromarray(np.ascontiguousarray(values if values.shape[2] == 3 else values[..., 0]))
        return np.asarray(self.way(part)).reshape(values.shape)


def treatment(
    image: Image.Image,
    signal: Signal | None,
    exif: bytes,
    levels: int,
    grey: bool,
    strip: bool,
    notes: list[str],
) -> Treatment:
    """Decide what to do about the colours of a picture that is loaded.

    A profile goes along, a picture that is described in another way gets one, and linear light is brought to
    sRGB's curve. To strip means to convert to sRGB.

    Args:
        signal: what `file_signal` said before the picture was loaded.
        levels: how many its samples have.
        notes: takes a line for each thing that is done or left out.

    Raises:
        ImageError: the colours are high dynamic range, or not RGB at all.
    """
    if image.mode == "CMYK":
        return Treatment()
    icc, colours, by = _description(image, signal, exif, grey, notes)
    table = None
    if colours:
        colours, table = colours.recoded(levels, grey)
        if table is not None:
            notes.append(f"converted to sRGB's curve, from what is said by {by}")
        try:
            icc = b"" if colours.is_srgb(grey) else make_profile(colours, grey)
        except ValueError:
            notes.append(f"the colours make no sense, as described by {by}: they are taken as sRGB")
        if icc and not strip:
            notes.append(f"a colour profile is made of what is said by {by}")
    if not icc or not strip:
        return Treatment(icc, table)
    mode = "L" if grey else "RGB"
    way = to_srgb(icc, mode, mode)
    if way is None:
        notes.append("the colour profile is kept, as the colours cannot be converted to sRGB")
        return Treatment(icc, table)
    if changes_nothing(way, grey):
        return Treatment(b"", table)
    notes.append("colours converted to sRGB")
    return Treatment(b"", table, way)


def _description(
    image: Image.Image, signal: Signal | None, exif: bytes, grey: bool, notes: list[str]
) -> tuple[bytes, Colours | None, str]:
    """The profile that fits the picture, or else its colours as numbers and who says so."""
    profile = image.info.get("icc_profile") or _raw_profile(image, notes)
    icc = _fitting(profile, grey, notes) if profile else b""
    if icc and not (signal and signal.first and signal.colours):
        if signal and signal.first and signal.hdr:
            notes.append(f"high dynamic range ({signal.hdr}, by {signal.by}) gives way to the colour profile")
        return icc, None, ""
    for said in (signal, info_signal(image), exif_signal(exif)):
        if said is None:
            continue
        if said.hdr:
            raise ImageError(
                f"the picture is high dynamic range ({said.hdr}, by {said.by}), which 8 bits cannot hold:"
                " convert it to standard range first"
            )
        if said.lab:
            raise ImageError("the picture is in CIELab, which is not read here: convert it to RGB first")
        if said.unknown:
            notes.append(f"the colours are not known here, as described by {said.by}: they are taken as sRGB")
            return b"", None, ""
        if said.icc:
            icc = _fitting(said.icc, grey, notes)
            if icc:
                return icc, None, ""
        elif said.colours:
            return b"", said.colours, said.by
        if "srgb" in image.info:
            return b"", None, ""
    return b"", None, ""


def _raw_profile(image: Image.Image, notes: list[str]) -> bytes:
    """A profile in a text of a PNG."""
    try:
        return next(raw_profiles(image, "icc", "icm"), b"")
    except ValueError:
        notes.append("the colour profile is damaged and left out")
        return b""


def _fitting(profile: object, grey: bool, notes: list[str]) -> bytes:
    """The profile, if it is for such a picture."""
    space = profile_space(profile)
    if space == ("GRAY" if grey else "RGB"):
        assert isinstance(profile, bytes)
        return profile
    reason = f"is for {space}, not for {'grey' if grey else 'RGB'}," if space else "is damaged"
    notes.append(f"the colour profile {reason} and left out")
    return b""

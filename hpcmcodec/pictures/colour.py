"""Modes that Pillow converts, and colour profiles."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageCms

from .samples import DEEP

__all__ = [
    "ALPHA",
    "CONVERTED",
    "GREY",
    "UNCONVERTED",
    "converter",
    "fitting_profile",
    "has_grey_palette",
    "profile_space",
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
        try:
            transform = ImageCms.buildTransform(
                ImageCms.getOpenProfile(io.BytesIO(profile)),
                ImageCms.createProfile("sRGB"),
                "CMYK",
                "RGB",
                ImageCms.Intent.RELATIVE_COLORIMETRIC,
                ImageCms.Flags.BLACKPOINTCOMPENSATION,
            )
        except (ImageCms.PyCMSError, ImportError, OSError, TypeError, ValueError):
            notes.append(f"{note}, as its own is damaged or of another kind")
            return lambda part: part.convert(mode)
        notes.append("CMYK converted to sRGB by its colour profile, which is no longer needed")
        return transform.apply
    if note:
        notes.append(note)
    return lambda part: part.convert(mode)


def profile_space(profile: object) -> str:
    """The colour space an ICC profile is for, as "RGB", "GRAY" or "CMYK"; empty if it is no profile."""
    if not isinstance(profile, bytes) or len(profile) < 128 or profile[36:40] != b"acsp":
        return ""
    return profile[16:20].decode("latin-1").strip()


def fitting_profile(image: Image.Image, grey: bool, lost: list[str]) -> bytes:
    profile = image.info.get("icc_profile")
    if not profile or image.mode == "CMYK":
        return b""
    space = profile_space(profile)
    if space == ("GRAY" if grey else "RGB"):
        return bytes(profile)
    reason = f"is for {space}, not for {'grey' if grey else 'RGB'}," if space else "is damaged"
    lost.append(f"the colour profile {reason} and left out")
    return b""

"""What the file tells of its samples and Pillow's mode does not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImagePalette

from ..errors import ImageError

__all__ = ["DEEP", "TIFF_XMP", "Samples", "in_range", "to_8_bits"]

DEEP = ("I", "I;16", "I;16L", "I;16B", "I;16N")
TIFF_BITS, TIFF_COMPRESSION, TIFF_PHOTOMETRIC, TIFF_PLANES, TIFF_XMP = 258, 259, 262, 284, 700
TIFF_PALETTE, TIFF_SAMPLE_FORMAT = 320, 339
SIGNED = 2
TGA_DESCRIPTOR, TGA_ALPHA_BITS = 17, 0x0F


class Samples:
    """What the file tells of the samples and Pillow's mode does not, asked before the pixels are loaded.

    Pillow reads 16-bit colour as 8-bit RGB without a word, and leaves to its callers what the tags of a TIFF
    or the depth of a PNG mean for 16-bit grey and for the transparent colour.
    """

    def __init__(self, image: Image.Image) -> None:
        tiles = getattr(image, "tile", ())
        decoder, arguments = (tiles[0][0], tiles[0][3]) if tiles else ("", ())
        arguments = arguments if isinstance(arguments, tuple) else (arguments,)
        raw_mode = str(arguments[0]) if arguments else ""
        tags = getattr(image, "tag_v2", {})
        bits = max(tags.get(TIFF_BITS, (8,)))
        if bits > 8 and tags.get(TIFF_PLANES) == 2 and tags.get(TIFF_COMPRESSION) == 1:
            raise ImageError(
                "a TIFF of 16 bits in separate planes cannot be read: convert it to 8 bits first"
            )
        deep = decoder in ("ppm", "ppm_plain") and len(arguments) > 1 and arguments[1] > 255
        # BGR;16 has 16 bits for all three channels together.
        deep = deep or (";16" in raw_mode and not raw_mode.startswith("BGR"))
        self.grey = raw_mode.startswith("LA;16")
        self.bits = 12 if bits == 12 else 16
        self.inverted = tags.get(TIFF_PHOTOMETRIC) == 0
        self.notes = []
        if deep or image.mode in DEEP:
            self.notes.append(f"{self.bits} bits per channel converted to 8")
        if image.mode == "RGBA" and raw_mode.startswith("RGBa"):
            self.notes.append("premultiplied alpha converted to straight alpha")
        if image.format == "TIFF" and raw_mode.startswith("RGBX"):
            self.notes.append("a channel that is neither colour nor transparency is left out")
        self.signed = SIGNED in tags.get(TIFF_SAMPLE_FORMAT, ()) and bits <= 16 and image.mode != "P"
        if self.signed:
            self.notes.append("signed samples moved to where unsigned ones are")
        if image.mode == "P" and TIFF_PALETTE in tags:
            self._mend_palette(image, tags[TIFF_PALETTE])
        self.opaque = self._declares_no_alpha(image)
        if self.opaque:
            self.notes.append("the TGA declares no bits of alpha: its fourth channel is left out")
        self.transparent = self._transparent(image, raw_mode, deep)
        if deep and image.mode == "RGB" and self.transparent is not None:
            self.notes.append("the transparent colour was compared at 8 bits")

    def unsigned(self, values: NDArray[Any]) -> NDArray[Any]:
        """Signed samples, of which Pillow takes 8 bits for unsigned ones, with 0 for the lowest."""
        if not self.signed:
            return values
        return values ^ np.uint8(1 << 7) if values.dtype == np.uint8 else values + (1 << 15)

    def _mend_palette(self, image: Image.Image, values: Sequence[int]) -> None:
        """Some writers put 8 bits where the standard has 16, of which Pillow takes the upper 8."""
        if image.tile and 0 < max(values) < 256:  # type: ignore[attr-defined]
            image.palette = ImagePalette.raw("RGB;L", bytes(values))
            self.notes.append("the palette's colours are of 8 bits instead of 16 and are taken as such")

    def _declares_no_alpha(self, image: Image.Image) -> bool:
        file = getattr(image, "fp", None)
        if image.format != "TGA" or image.mode not in ("LA", "RGBA") or file is None:
            return False
        position = file.tell()
        file.seek(TGA_DESCRIPTOR)
        descriptor = file.read(1)
        file.seek(position)
        return not descriptor[0] & TGA_ALPHA_BITS

    def _transparent(self, image: Image.Image, raw_mode: str, deep: bool) -> NDArray[np.int64] | None:
        """The colour that stands for transparency, on the scale of Pillow's samples."""
        key = image.info.get("transparency")
        if image.mode == "RGB" and isinstance(key, tuple) and len(key) == 3:
            return np.array([value >> 8 for value in key] if deep else [value & 0xFF for value in key])
        if image.mode not in ("1", "L", *DEEP) or not isinstance(key, int):
            return None
        if image.mode == "1":
            key = 255 if key else 0  # some versions of Pillow say 1
        if image.mode == "L" and image.format == "PNG":
            steps = {"L;2": 3, "L;4": 15}.get(raw_mode, 255)
            key = (key & steps) * (255 // steps)
        return np.array([key])


def to_8_bits(values: NDArray[Any], samples: Samples) -> NDArray[np.uint8]:
    """Rounded, so that both ends of the scale and all that came from 8 bits are kept."""
    peak = 2**samples.bits - 1
    eight = (in_range(values, samples).astype(np.uint32) * 255 + peak // 2) // peak
    return eight.astype(np.uint8)


def in_range(values: NDArray[Any], samples: Samples) -> NDArray[Any]:
    """Deep samples with 0 for black.

    Raises:
        ImageError: they are of more than 16 bits.
    """
    peak = 2**samples.bits - 1
    if values.min() < 0 or values.max() > peak:
        raise ImageError("the picture has more than 16 bits per channel: convert it to 8 or 16 first")
    return peak - values if samples.inverted else values

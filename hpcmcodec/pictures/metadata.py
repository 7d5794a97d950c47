"""EXIF and XMP of a picture that is turned upright."""

from __future__ import annotations

import re
import struct
import warnings

from PIL import Image

__all__ = ["EXIF_IFD", "EXIF_PREFIX", "EXIF_START", "INTEROP_IFD", "descriptive", "upright_metadata"]

ORIENTATION = 0x0112
EXIF_START = b"Exif\0\0"
EXIF_PREFIX = re.compile(b"^(?:Exif\0\0){1,2}")
XMP_ORIENTATION = re.compile(rb"""(tiff:Orientation(?:\s*=\s*["']|>))([0-9])""")

# Tags of EXIF that describe a picture; most others in a TIFF say how the pixels lie in that one file.
DESCRIPTIVE = (
    *(0x010E, 0x010F, 0x0110, 0x011A, 0x011B, 0x0128, 0x0131, 0x0132, 0x013B, 0x013C),
    *(0x4746, 0x4749, 0x8298, 0x8769, 0x8825, 0x9C9B, 0x9C9C, 0x9C9D, 0x9C9E, 0x9C9F),
)
EXIF_IFD, INTEROP_IFD = 0x8769, 0xA005


def upright_metadata(image: Image.Image, lost: list[str]) -> tuple[int, bytes, bytes]:
    """The orientation to apply, and EXIF and XMP that no longer ask for it."""
    orientation: int | None = None
    try:
        exif = _exif(image)
        if exif:
            orientation, exif = _take_orientation(exif)
    except Exception:  # Pillow raises what it likes here too
        exif = b""
        lost.append("EXIF is damaged and left out")
    xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    if isinstance(xmp, str):
        xmp = xmp.encode()
    if not isinstance(xmp, bytes):
        xmp = b""
        lost.append("XMP is damaged and left out")
    if orientation is None and (match := XMP_ORIENTATION.search(xmp)):
        orientation = int(match[2])
    # Pillow turns TIFFs as it loads them.
    if orientation is None or not 1 <= orientation <= 8 or hasattr(image, "tag_v2"):
        orientation = 1
    return orientation, exif, XMP_ORIENTATION.sub(rb"\g<1>1", xmp)


def _exif(image: Image.Image) -> bytes:
    """From the TIFF header on."""
    info = image.info
    if "exif" in info:
        return EXIF_PREFIX.sub(b"", info["exif"] or b"")
    if "Raw profile type exif" in info:  # ImageMagick's hexadecimal lines
        lines = info["Raw profile type exif"].split("\n")[3:]
        return EXIF_PREFIX.sub(b"", bytes.fromhex("".join(lines)))
    if hasattr(image, "tag_v2"):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=UserWarning, module="PIL.TiffImagePlugin")
            exif = descriptive(image.getexif().tobytes())
            return EXIF_PREFIX.sub(b"", exif.tobytes()) if exif else b""
    return b""


def descriptive(data: bytes) -> Image.Exif:
    """What in these EXIF bytes is about the picture and not about how one file holds it."""
    exif = Image.Exif()
    exif.load(data)
    for tag in list(exif):
        if tag not in DESCRIPTIVE:
            del exif[tag]
    return exif


def _take_orientation(exif: bytes) -> tuple[int | None, bytes]:
    """EXIF's orientation, None if it has none, and the same bytes with 1 in its place.

    Only that number is changed: to write EXIF anew would lose thumbnails and what makers' notes point to.

    Raises:
        KeyError, struct.error: this is no EXIF, or it is cut short.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}[exif[:4]]
    (start,) = struct.unpack_from(f"{order}L", exif, 4)
    (count,) = struct.unpack_from(f"{order}H", exif, start)
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, _, _ = struct.unpack_from(f"{order}HHLL", exif, entry)
        if tag == ORIENTATION and kind in (1, 3, 4):
            number = order + {1: "B", 3: "H", 4: "L"}[kind]
            (orientation,) = struct.unpack_from(number, exif, entry + 8)
            upright = bytearray(exif)
            struct.pack_into(number, upright, entry + 8, 1)
            return orientation, bytes(upright)
    return None, exif

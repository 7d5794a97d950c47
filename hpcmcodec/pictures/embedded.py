"""EXIF and XMP that Pillow leaves in the file: of a GIF, a JPEG 2000 and a Photoshop document."""

from __future__ import annotations

import io
import struct
from contextlib import suppress

from PIL import Image

from .signalled import boxes

__all__ = ["embedded"]

JP2_UUIDS = {
    bytes.fromhex("be7acfcb97a942e89c71999491e3afac"): "xmp",
    b"JpgTiffExif->JP2": "exif",
}
PSD_RESOURCES = {1058: "exif", 1060: "xmp"}
# XMP stands in a GIF as it is, and then all bytes from 255 down, so that it reads as blocks.
GIF_XMP, GIF_XMP_END = b"!\xff\x0bXMP DataXMP", b"\x01\xff\xfe\xfd"


def embedded(image: Image.Image, data: bytes) -> dict[str, bytes]:
    """What there is of "exif" and "xmp"; nothing of formats of which Pillow hands them on.

    Args:
        data: the file that the picture was opened from.
    """
    found: dict[str, bytes] = {}
    if image.format == "PSD":
        resources = getattr(image, "resources", ())
        found = {PSD_RESOURCES[kind]: body for kind, _, body in resources if kind in PSD_RESOURCES}
    elif image.format == "JPEG2000":
        with suppress(struct.error):
            for kind, start, end in boxes(io.BytesIO(data), 0, len(data)):
                name = JP2_UUIDS.get(data[start : start + 16]) if kind == b"uuid" else None
                if name:
                    found[name] = data[start + 16 : end]
    elif image.format == "GIF":
        start, end = data.find(GIF_XMP) + len(GIF_XMP), data.find(GIF_XMP_END)
        if len(GIF_XMP) <= start < end:
            found["xmp"] = data[start:end]
    return {name: body for name, body in found.items() if body}

"""What a file says of its colours outside of the ICC profile that Pillow hands on."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from PIL import Image

from .profiles import (
    ADOBE_RGB,
    BT709_CURVE,
    SRGB,
    SRGB_CURVE,
    Colours,
    Curve,
    Primaries,
    gamma,
)

__all__ = ["Signal", "boxes", "exif_signal", "file_signal", "info_signal"]

D65, D50 = (0.3127, 0.3290), (0.3457, 0.3585)

# ITU-T H.273 gives these numbers to colour primaries and to transfer characteristics; 2 is "unspecified".
PRIMARIES: dict[int, Primaries] = {
    1: SRGB.primaries,
    2: SRGB.primaries,
    4: (0.67, 0.33, 0.21, 0.71, 0.14, 0.08, 0.310, 0.316),
    5: (0.64, 0.33, 0.29, 0.60, 0.15, 0.06, *D65),
    6: (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, *D65),
    7: (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, *D65),
    8: (0.681, 0.319, 0.243, 0.692, 0.145, 0.049, 0.310, 0.316),
    9: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, *D65),
    10: (1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1 / 3, 1 / 3),
    11: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.314, 0.351),
    12: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, *D65),
    22: (0.630, 0.340, 0.295, 0.605, 0.155, 0.077, *D65),
}
CURVES = {
    **dict.fromkeys((1, 6, 11, 12, 14, 15), BT709_CURVE),
    **dict.fromkeys((2, 13), SRGB_CURVE),
    4: gamma(2.2),
    5: gamma(2.8),
    7: Curve(1 / 0.45, 1 / 1.1115, 0.1115 / 1.1115, 1 / 4, 0.0912),
    8: gamma(1.0),
    17: gamma(2.6),
}
HDR = {16: "PQ", 18: "HLG"}

# JPEG 2000's enumerated colour spaces that Pillow's decoder takes for what they are.
JP2_SRGB, JP2_LAB, JP2_ROMM = (0, 12, 15, 16, 17, 18), (14, 19), 21
ROMM = Colours((0.7347, 0.2653, 0.1596, 0.8404, 0.0366, 0.0001, *D50), (gamma(1.8),))

GIF_PROFILE = b"ICCRGBG1012"
PNG_START = b"\x89PNG\r\n\x1a\n"
TIFF_CURVES, TIFF_WHITE, TIFF_PRIMARIES = 301, 318, 319
CURVE_POINTS = 4096
EXIF_IFD, INTEROP_IFD, COLOUR_SPACE, INTEROP_INDEX = 0x8769, 0xA005, 0xA001, 1
UNCALIBRATED, EXIF_ADOBE_RGB = 0xFFFF, 2


@dataclass(frozen=True)
class Signal:
    """What is said of the colours: an ICC profile, or numbers, or that they cannot be shown in 8 bits.

    by: who says so, as "the PNG's gAMA". hdr: the transfer function, as "PQ". unknown: what is said is not
    known here. first: it counts for more than an ICC profile. lab: the samples are not RGB at all.
    """

    by: str
    colours: Colours | None = None
    icc: bytes = b""
    hdr: str = ""
    unknown: bool = False
    first: bool = False
    lab: bool = False


def file_signal(image: Image.Image) -> Signal | None:
    """What only the bytes of the file say, read where the picture has not been decoded yet."""
    known = image.__dict__
    if "_hpcm_signal" not in known:
        known["_hpcm_signal"] = _read_signal(image)
    signal: Signal | None = known["_hpcm_signal"]
    return signal


def _read_signal(image: Image.Image) -> Signal | None:
    file = getattr(image, "fp", None)
    if file is None or not getattr(image, "tile", None):
        return None
    readers = {
        "AVIF": _avif,
        "HEIF": _avif,
        "PNG": _png,
        "JPEG2000": _jp2,
        "BMP": _bmp,
        "DIB": _bmp,
        "GIF": _gif,
    }
    reader = readers.get(image.format or "")
    if not reader:
        return None
    try:
        position = file.tell()
        try:
            return reader(file)
        finally:
            file.seek(position)
    except (AttributeError, IndexError, OSError, ValueError, struct.error):
        return Signal(f"the {image.format} file", unknown=True)


def info_signal(image: Image.Image) -> Signal | None:
    """What Pillow hands on: gAMA, cHRM and sRGB of a PNG, the tags of a TIFF."""
    if hasattr(image, "tag_v2"):
        return _tiff(image.tag_v2)
    info = image.info
    said = [name for name, key in (("gAMA", "gamma"), ("cHRM", "chromaticity")) if key in info]
    if "srgb" in info or not said:
        return None
    by = f"the PNG's {' and '.join(said)}"
    primaries, exponent = SRGB.primaries, info.get("gamma", 1 / 2.2)
    if "chromaticity" in info:
        x, y, *colours = info["chromaticity"]
        primaries = (*colours, x, y)
    if not 0.1 <= exponent <= 4:
        return Signal(by, unknown=True)
    return Signal(by, Colours(primaries, (gamma(1 / exponent) if "gamma" in info else SRGB_CURVE,)))


def exif_signal(exif: bytes) -> Signal | None:
    """The colour space that EXIF names: a camera's Adobe RGB has no other sign."""
    if not exif:
        return None
    try:
        tags = Image.Exif()
        tags.load(exif)
        space = tags.get_ifd(EXIF_IFD).get(COLOUR_SPACE)
        index = tags.get_ifd(INTEROP_IFD).get(INTEROP_INDEX)
    except Exception:  # Pillow raises what it likes
        return None
    if space == EXIF_ADOBE_RGB or (space == UNCALIBRATED and str(index).startswith("R03")):
        return Signal("EXIF, which names Adobe RGB", ADOBE_RGB)
    return Signal("EXIF", unknown=True) if space == UNCALIBRATED else None


def _cicp(by: str, primaries: int, curve: int, full: bool = True, first: bool = False) -> Signal:
    """What H.273's numbers say."""
    if curve in HDR:
        return Signal(by, hdr=HDR[curve], first=first)
    if primaries not in PRIMARIES or curve not in CURVES:
        return Signal(by, unknown=True)
    return Signal(by, Colours(PRIMARIES[primaries], (CURVES[curve],), narrow=not full), first=first)


def _png(file: IO[bytes]) -> Signal | None:
    file.seek(0)
    if file.read(8) != PNG_START:
        return None
    while len(head := file.read(8)) == 8 and head[4:] not in (b"IDAT", b"IEND"):
        (length,) = struct.unpack(">L", head[:4])
        if head[4:] == b"cICP":
            primaries, curve, matrix, full = struct.unpack(">4B", file.read(4))
            if matrix:
                return Signal("the PNG's cICP", unknown=True)
            return _cicp("the PNG's cICP", primaries, curve, bool(full), first=True)
        file.seek(length + 4, 1)
    return None


def boxes(file: IO[bytes], start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """The boxes of an ISO base media file or of JP2 between two places: kind, and where the content lies."""
    while start + 8 <= end:
        file.seek(start)
        length, kind = struct.unpack(">L4s", file.read(8))
        head = 8
        if length == 1:
            (length,) = struct.unpack(">Q", file.read(8))
            head = 16
        stop = start + length if length else end
        if stop < start + head or stop > end:
            return
        yield kind, start + head, stop
        start = stop


def _all(file: IO[bytes]) -> tuple[int, int]:
    return 0, file.seek(0, 2)


def _within(file: IO[bytes], place: tuple[int, int], *path: bytes, skip: int = 0) -> tuple[int, int]:
    """Where the content of a box lies that is inside of others.

    Raises:
        ValueError: it is not there.
    """
    for wanted in path:
        found = [(start, end) for kind, start, end in boxes(file, *place) if kind == wanted]
        if not found:
            raise ValueError("no such box")
        place = found[0][0] + (4 if wanted == b"meta" else 0), found[0][1]
    return place


def _content(file: IO[bytes], place: tuple[int, int]) -> bytes:
    file.seek(place[0])
    return file.read(place[1] - place[0])


def _avif(file: IO[bytes]) -> Signal | None:
    """The nclx of the main picture; a sequence without a main picture has none."""
    file.seek(4)
    if file.read(4) != b"ftyp":
        return None
    try:
        meta = _within(file, _all(file), b"meta")
    except ValueError:
        return None
    properties = [
        (kind, _content(file, (start, end)))
        for kind, start, end in boxes(file, *_within(file, meta, b"iprp", b"ipco"))
    ]
    item = _content(file, _within(file, meta, b"pitm"))
    (main,) = struct.unpack(">L" if item[0] else ">H", item[4 : 8 if item[0] else 6])
    for number in _associated(_content(file, _within(file, meta, b"iprp", b"ipma")), main):
        kind, body = properties[number - 1]
        if kind == b"colr" and body[:4] == b"nclx":
            # The decoder has already made full-range RGB of it.
            return _cicp("the file's nclx", *struct.unpack_from(">HH", body, 4))
    return None


def _associated(ipma: bytes, item: int) -> list[int]:
    """The numbers, from 1, of the properties of an item."""
    wide_item, wide_index = ipma[0] >= 1, ipma[3] & 1
    (count,) = struct.unpack_from(">L", ipma, 4)
    at = 8
    for _ in range(count):
        (number,) = struct.unpack_from(">L" if wide_item else ">H", ipma, at)
        at += 4 if wide_item else 2
        size = 2 if wide_index else 1
        indexes = ipma[at + 1 : at + 1 + ipma[at] * size]
        at += 1 + ipma[at] * size
        if number == item:
            if wide_index:
                return [value & 0x7FFF for value in struct.unpack(f">{len(indexes) // 2}H", indexes)]
            return [value & 0x7F for value in indexes]
    return []


def _jp2(file: IO[bytes]) -> Signal | None:
    file.seek(0)
    if file.read(4) == b"\xff\x4f\xff\x51":  # a codestream alone
        return None
    signals = []
    for kind, start, end in boxes(file, *_within(file, _all(file), b"jp2h")):
        if kind == b"colr":
            signals.append(_colr(_content(file, (start, end))))
    # Of several, which JPX allows, the first that is understood.
    return next((signal for signal in signals if not (signal and signal.unknown)), next(iter(signals), None))


def _colr(body: bytes) -> Signal | None:
    by, method = "the JPEG 2000's colour box", body[0]
    if method in (2, 3):
        return Signal(by, icc=body[3:])
    if method == 5:
        primaries, curve, _, _ = struct.unpack_from(">HHHB", body, 3)
        return _cicp(by, primaries, curve)
    if method != 1:
        return Signal(by, unknown=True)
    (space,) = struct.unpack_from(">L", body, 3)
    if space in JP2_LAB:
        return Signal(by, lab=True)
    if space == JP2_ROMM:
        return Signal(by, ROMM)
    return None if space in JP2_SRGB else Signal(by, unknown=True)


def _bmp(file: IO[bytes]) -> Signal | None:
    """The colour space of the header's versions 4 and 5."""
    file.seek(0)
    start = 14 if file.read(2) == b"BM" else 0
    file.seek(start)
    head = file.read(124)
    (length,) = struct.unpack_from("<L", head)
    if length < 108:
        return None
    by, kind = "the BMP's header", head[56:60]
    if kind == b"DEBM" and length >= 124:  # 'MBED', in the byte order of a number
        offset, size = struct.unpack_from("<2L", head, 112)
        return Signal(by, icc=_content(file, (start + offset, start + offset + size)))
    if kind != bytes(4):
        return None
    numbers = np.array(struct.unpack_from("<9l", head, 60), float).reshape(3, 3)
    exponents = [value / 65536 for value in struct.unpack_from("<3L", head, 96)]
    if not numbers.any() or not all(0.25 <= value <= 10 for value in exponents):
        return None  # nothing filled in, as many write it
    corners = np.vstack([numbers, numbers.sum(0)])
    x, y = corners[:, 0] / corners.sum(1), corners[:, 1] / corners.sum(1)
    primaries = tuple(float(value) for pair in zip(x, y, strict=True) for value in pair)
    return Signal(by, Colours(primaries, tuple(map(gamma, exponents))))  # type: ignore[arg-type]


def _gif(file: IO[bytes]) -> Signal | None:
    """The ICC profile, which lies before the first picture."""
    file.seek(0)
    head = file.read(13)
    file.seek(3 << (head[10] & 7) + 1 if head[10] & 0x80 else 0, 1)
    while file.read(1) == b"!":
        kind = file.read(1)
        blocks = list(_sub_blocks(file))
        if kind == b"\xff" and blocks and blocks[0] == GIF_PROFILE:
            return Signal("the GIF", icc=b"".join(blocks[1:]))
    return None


def _sub_blocks(file: IO[bytes]) -> Iterator[bytes]:
    while length := file.read(1)[0]:
        yield file.read(length)


def _tiff(tags: Mapping[int, Any]) -> Signal | None:
    names = {TIFF_CURVES: "TransferFunction", TIFF_PRIMARIES: "PrimaryChromaticities"}
    said = [name for tag, name in names.items() if tag in tags]
    if not said:
        return None
    by = f"the TIFF's {' and '.join(said)}"
    try:
        corners = tuple(float(value) for value in tags.get(TIFF_PRIMARIES, SRGB.primaries[:6]))
        white = tuple(float(value) for value in tags.get(TIFF_WHITE, D65))
        curves: tuple[Curve, ...] = (SRGB_CURVE,)
        if TIFF_CURVES in tags:
            values = np.array(tags[TIFF_CURVES], float) / 65535
            bits = max(tags.get(258, (1,)))
            curves = tuple(_table(line) for line in values.reshape(-1, 1 << bits))
        if len(corners) != 6 or len(white) != 2 or len(curves) not in (1, 3):
            raise ValueError("the wrong number of values")
    except (TypeError, ValueError, ZeroDivisionError):
        return Signal(by, unknown=True)
    return Signal(by, Colours((*corners, *white), curves))


def _table(line: np.ndarray) -> Curve:
    if len(line) > CURVE_POINTS:
        line = np.interp(np.linspace(0, 1, CURVE_POINTS), np.linspace(0, 1, len(line)), line)
    return Curve(table=tuple(line.tolist()))

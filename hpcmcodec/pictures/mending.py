"""Damage that costs no pixels: what a file needs so that Pillow reads it, and what is said of it."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

__all__ = ["Mended", "mend_png", "with_jpeg_end"]

PNG_START = b"\x89PNG\r\n\x1a\n"
# How long these are at least; Pillow refuses a picture where they are shorter.
PNG_LENGTHS = {b"cHRM": 32, b"gAMA": 4, b"pHYs": 9, b"sRGB": 1}
PNG_TEXTS = (b"iCCP", b"iTXt", b"tEXt", b"zTXt")

# What Pillow inflates of one chunk, and what is read here: of one as much as a `.hpcm` file can hold, and of
# all together as much as Pillow takes.
PILLOW_TEXT, TEXT, TEXTS = 1 << 20, 1 << 24, 1 << 26

# A marker within entropy-coded data: neither a stuffed byte nor a restart nor a fill byte.
JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
JPEG_END = b"\xff\xd9"
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
SCAN, END = 0xDA, 0xD9
FILLERS = (b"", b"\x00", b"\x55", b"\xaa", b"\xfe")


@dataclass
class Mended:
    """The bytes to give to Pillow, what to add to the picture's `info`, and a line for each repair."""

    data: bytes
    info: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def mend_png(data: bytes) -> Mended:
    """A PNG without damaged chunks that hold no pixels, and with its long texts as Pillow takes them."""
    if not data.startswith(PNG_START):
        return Mended(data)
    mended, texts = Mended(data), 0
    parts, done = [], 0
    for start, end, kind, intact in _png_chunks(data):
        body, chunk = data[start + 8 : end - 4], None
        content = _content(kind, body) if intact and kind in PNG_TEXTS else b""
        texts += len(content or b"")
        if not intact or content is None or len(body) < PNG_LENGTHS.get(kind, 0):
            mended.notes.append(f"the PNG's chunk {kind.decode()} is damaged and left out")
        elif texts > TEXTS:
            mended.notes.append(f"the PNG's chunk {kind.decode()} is one text too many and left out")
        elif len(content) <= PILLOW_TEXT or kind == b"tEXt" or (kind == b"iTXt" and not _is_deflated(body)):
            continue
        elif kind == b"iCCP":
            mended.info["icc_profile"] = content
        else:
            chunk = _inflated_text(kind, body, content)
        parts += [data[done:start], chunk or b""]
        done = end
    if done:
        mended.data = b"".join([*parts, data[done:]])
    return mended


def _png_chunks(data: bytes) -> Iterator[tuple[int, int, bytes, bool]]:
    """Start and end of each chunk that a picture can do without, its kind, and whether its checksum fits."""
    start = len(PNG_START)
    while start + 12 <= len(data):
        length, kind = struct.unpack_from(">L4s", data, start)
        end = start + 12 + length
        if end > len(data) or not kind.isalpha() or kind == b"IEND":
            return
        if kind[0] & 0x20 and kind not in (b"tRNS", b"acTL", b"fcTL", b"fdAT"):
            (crc,) = struct.unpack_from(">L", data, end - 4)
            yield start, end, kind, zlib.crc32(data[start + 4 : end - 4]) == crc
        start = end


def _is_deflated(body: bytes) -> bool:
    """Whether this iTXt is."""
    _, _, rest = body.partition(b"\0")
    return rest[:1] not in (b"", b"\0")


def _content(kind: bytes, body: bytes) -> bytes | None:
    """The text or profile that a chunk holds, None if it is damaged or too long."""
    _, _, rest = body.partition(b"\0")
    if kind == b"tEXt":
        return rest
    if kind == b"iTXt":
        text = rest[2:].split(b"\0", 2)[-1]
        if not _is_deflated(body):
            return text
    else:
        text = rest[1:]
    inflate = zlib.decompressobj()
    try:
        content = inflate.decompress(text, TEXT + 1)
    except zlib.error:
        return None
    return content if inflate.eof and len(content) <= TEXT else None


def _inflated_text(kind: bytes, body: bytes, content: bytes) -> bytes:
    """The same text as a chunk that is not deflated, whose length Pillow does not limit."""
    keyword, _, rest = body.partition(b"\0")
    if kind == b"zTXt":
        kind, body = b"tEXt", keyword + b"\0" + content
    else:
        language, translated, _ = rest[2:].split(b"\0", 2)
        body = keyword + b"\0\0\0" + language + b"\0" + translated + b"\0" + content
    return struct.pack(">L", len(body)) + kind + body + struct.pack(">L", zlib.crc32(kind + body))


def with_jpeg_end(data: bytes, open_jpeg: Callable[[bytes], Image.Image]) -> bytes | None:
    """A JPEG that lacks nothing but its end marker, with it; None if it has one, or lacks more.

    Its pixels are all there if it makes no difference what follows them. libjpeg itself does not tell: where
    data ends early, it makes up the rest.
    """
    try:
        if not _lacks_only_end(data):
            return None
    except (IndexError, KeyError, ValueError, struct.error):
        return None
    whole = data.rstrip(b"\xff")
    pictures = set()
    for filler in FILLERS:
        with open_jpeg(whole + filler * 1024 + JPEG_END) as image:
            pictures.add(zlib.crc32(image.tobytes()))
    return whole + JPEG_END if len(pictures) == 1 else None


def _lacks_only_end(data: bytes) -> bool:
    """Whether a JPEG breaks off in or after a scan and has begun all scans that its picture needs."""
    missing: dict[int, dict[int, int]] = {}  # of each component: the low bits that each coefficient lacks
    position = 2
    while True:
        position = data.index(b"\xff", position)
        marker = data[position + 1]
        if marker == END:
            return False
        if marker in (0x00, 0x01, 0xFF) or 0xD0 <= marker <= 0xD8:
            position += 1 if marker == 0xFF else 2
            continue
        (length,) = struct.unpack_from(">H", data, position + 2)
        body = data[position + 4 : position + 2 + length]
        position += 2 + length
        if marker in FRAMES:
            missing = {body[6 + 3 * i]: dict.fromkeys(range(64), 16) for i in range(body[5])}
        if marker == SCAN:
            count = body[0]
            first, last, low = body[1 + 2 * count], body[2 + 2 * count], body[3 + 2 * count] & 15
            for i in range(count):
                missing[body[1 + 2 * i]].update(dict.fromkeys(range(first, last + 1), low))
            found = JPEG_MARKER.search(data, position)
            if not found:
                return not any(bits for component in missing.values() for bits in component.values())
            position = found.start()

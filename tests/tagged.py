"""Small pictures with metadata of every shape."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 16, 12
NAMESPACES = {
    "exif": "http://ns.adobe.com/exif/1.0/",
    "tiff": "http://ns.adobe.com/tiff/1.0/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "xmpGImg": "http://ns.adobe.com/xap/1.0/g/img/",
    "xmpNote": "http://ns.adobe.com/xmp/note/",
    "hdrgm": "http://ns.adobe.com/hdr-gain-map/1.0/",
    "GCamera": "http://ns.google.com/photos/1.0/camera/",
    "Container": "http://ns.google.com/photos/1.0/container/",
    "Item": "http://ns.google.com/photos/1.0/container/item/",
    "GDepth": "http://ns.google.com/photos/1.0/depthmap/",
    "GPano": "http://ns.google.com/photos/1.0/panorama/",
    "mwg-rs": "http://www.metadataworkinggroup.com/schemas/regions/",
    "dc": "http://purl.org/dc/elements/1.1/",
}


def jpeg(size: tuple[int, int] = (8, 6)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, "red").save(buffer, "JPEG")
    return buffer.getvalue()


Tag = tuple[int, str, Any]  # its number, struct's letter or "s" for bytes or "P" for a place, its value


def block(order: str, *directories: list[Tag], pieces: dict[str, bytes], layout: str) -> bytes:
    """EXIF with its parts laid out as wished: "0" is the first directory, "1" the second, "m" a piece."""
    lengths = {str(i): 2 + 12 * len(tags) + 4 for i, tags in enumerate(directories)}
    lengths |= {name: len(data) for name, data in pieces.items()}
    places, at = dict[str, int](), 8
    for part in layout:
        places[part] = at
        at += lengths[part] + lengths[part] % 2
    data = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}L", places["0"])
    for part in layout:
        data += bytes(places[part] - len(data))
        if part in pieces:
            data += pieces[part]
            continue
        tags = directories[int(part)]
        data += struct.pack(f"{order}H", len(tags))
        for number, kind, value in sorted(tags):
            if kind == "P":
                data += struct.pack(f"{order}HHLL", number, 4, 1, places[value])
            elif kind == "s":  # bytes that lie elsewhere
                data += struct.pack(f"{order}HHLL", number, 7, len(pieces[value]), places[value])
            else:
                field = struct.pack(f"{order}{kind}", value).ljust(4, b"\0")
                data += struct.pack(f"{order}HHL", number, {"H": 3, "L": 4}[kind], 1) + field
        data += struct.pack(f"{order}L", places["1"] if part == "0" and "1" in places else 0)
    return data


def with_thumbnail(order: str, orientation: int, thumbnail: bytes, layout: str = "02m1t") -> bytes:
    """A camera's EXIF: 0 main directory, 1 of the thumbnail t, 2 EXIF's own with a maker's note m."""
    main: list[Tag] = [(0x0100, "H", WIDTH), (0x0101, "H", HEIGHT), (0x0112, "H", orientation)]
    main += [(0x8769, "P", "2")]
    small: list[Tag] = [(0x0103, "H", 6), (0x0201, "P", "t"), (0x0202, "L", len(thumbnail))]
    own: list[Tag] = [(0x927C, "s", "m"), (0xA002, "H", WIDTH), (0xA003, "L", HEIGHT), (0x9214, "L", 7)]
    return block(order, main, small, own, pieces={"t": thumbnail, "m": b"maker's note"}, layout=layout)


def parsed(data: bytes) -> Image.Exif:
    exif = Image.Exif()
    exif.load(data)
    return exif


def second_directory(data: bytes) -> int:
    """Where the directory of a thumbnail is; 0 if there is none."""
    order = "<" if data[:2] == b"II" else ">"
    (start,) = struct.unpack_from(f"{order}L", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, start)
    return int(struct.unpack_from(f"{order}L", data, start + 2 + 12 * count)[0])


def picture(**info: Any) -> Image.Image:
    image = Image.fromarray(np.arange(WIDTH * HEIGHT * 3, dtype=np.uint8).reshape(HEIGHT, WIDTH, 3))
    image.info.update(info)
    return image


def opened(image: Image.Image, kind: str, **options: Any) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return Image.open(io.BytesIO(buffer.getvalue()))


def packet(inside: str, prefixes: dict[str, str] | None = None) -> bytes:
    """An XMP packet around attributes, or around elements if it starts with <."""
    spaces = " ".join(f'xmlns:{(prefixes or {}).get(p, p)}="{uri}"' for p, uri in NAMESPACES.items())
    attributes, elements = ("", inside) if inside.startswith("<") else (inside, "")
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="" {spaces} dc:format="é > /" {attributes}>{elements}</rdf:Description>'
        f"</rdf:RDF></x:xmpmeta>{' ' * 20}<?xpacket end='w'?>"
    ).encode()


# What XMP says of places in a picture, and small copies of it.
PLACES = [
    "<xmp:Thumbnails><rdf:Alt><rdf:li xmpGImg:image='/9j/'/></rdf:Alt></xmp:Thumbnails>",
    "<mwg-rs:Regions rdf:parseType='Resource'><mwg-rs:RegionList/></mwg-rs:Regions>",
    'GPano:FullPanoWidthPixels="16"',
    'GDepth:Data="/9j/" GDepth:Near="1"',
    'exif:SubjectArea="3"',
]

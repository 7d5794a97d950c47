"""XMP that is edited where it lies: every byte that says nothing wrong stays as it was."""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from xml.parsers import expat

__all__ = ["LONGEST", "START", "as_utf8", "fit", "is_packet", "join", "orientation", "split"]

START = b"http://ns.adobe.com/xap/1.0/\0"
EXTENSION_START = b"http://ns.adobe.com/xmp/extension/\0"
EXTENSION = struct.Struct(">32sLL")
LONGEST = 1 << 24
MOST = 100_000

# The prefixes that these namespaces usually have; a packet may give them others.
PREFIXES = {
    "http://cipa.jp/exif/1.0/": "exifEX",
    "http://iptc.org/std/Iptc4xmpExt/2008-02-29/": "Iptc4xmpExt",
    "http://ns.adobe.com/exif/1.0/": "exif",
    "http://ns.adobe.com/hdr-gain-map/1.0/": "hdrgm",
    "http://ns.adobe.com/tiff/1.0/": "tiff",
    "http://ns.adobe.com/xap/1.0/": "xmp",
    "http://ns.adobe.com/xap/1.0/g/img/": "xmpGImg",
    "http://ns.adobe.com/xmp/note/": "xmpNote",
    "http://ns.apple.com/HDRGainMap/1.0/": "HDRGainMap",
    "http://ns.google.com/photos/1.0/audio/": "GAudio",
    "http://ns.google.com/photos/1.0/camera/": "GCamera",
    "http://ns.google.com/photos/1.0/container/": "Container",
    "http://ns.google.com/photos/1.0/container/item/": "Item",
    "http://ns.google.com/photos/1.0/depthmap/": "GDepth",
    "http://ns.google.com/photos/1.0/image/": "GImage",
    "http://ns.google.com/photos/1.0/panorama/": "GPano",
    "http://ns.google.com/photos/dd/1.0/device/": "Device",
    "http://ns.microsoft.com/photo/1.2/": "MP",
    "http://ns.oplus.com/photos/1.0/camera/": "OpCamera",
    "http://ns.xiaomi.com/photos/1.0/camera/": "MiCamera",
    "http://www.metadataworkinggroup.com/schemas/regions/": "mwg-rs",
    "http://www.w3.org/1999/02/22-rdf-syntax-ns#": "rdf",
}
# What speaks of other parts of the file it was in, by the beginning of its name, and what those are called.
ELSEWHERE = {
    "Container:": "further pictures",
    "Item:": "further pictures",
    "Device:": "depth map",
    "GCamera:MicroVideo": "motion photo",
    "GCamera:MotionPhoto": "motion photo",
    "HDRGainMap:": "gain map",
    "MiCamera:": "further pictures",
    "OpCamera:": "motion photo",
    "hdrgm:": "gain map",
    "xmpNote:": "extended XMP",
}
# What is right only as long as the picture is neither turned nor cut.
OF_THE_PLACE = {
    "GDepth:": "depth map",
    "GImage:": "further pictures",
    "GPano:": "place in a panorama",
    "Iptc4xmpExt:ImageRegion": "regions",
    "MP:RegionInfo": "regions",
    "exif:SubjectArea": "subject area",
    "exif:SubjectLocation": "subject area",
    "mwg-rs:": "regions",
    "xmp:Thumbnails": "thumbnail",
    "xmpGImg:": "thumbnail",
}
# What these hold they hold in a property called Data; the rest of them is about that.
HOLDERS = {"GAudio:": "sound", "GDepth:": "depth map", "GImage:": "further pictures"}

ORIENTATION = re.compile(rb"""(tiff:Orientation(?:\s*=\s*["']|>))([0-9])""")
TAG = re.compile(rb"""<[^\s/>]+(?:\s+[^\s=]+\s*=\s*(?:"[^"]*"|'[^']*'))*\s*/?>""")
ATTRIBUTE = re.compile(rb"""\s+([^\s=]+)\s*=\s*("[^"]*"|'[^']*')""")
DECLARED_ENCODING = re.compile(r"""^(<\?xml[^>]*?)\s+encoding\s*=\s*("[^"]*"|'[^']*')""")


# What is asked for in a packet; an attribute that declares a namespace is called after its usual prefix.
EVERYTHING = (*ELSEWHERE, *OF_THE_PLACE, *HOLDERS, "tiff:", "exif:", "rdf:RDF", "xmlns:")


@dataclass(slots=True)
class Property:
    """An attribute or an element: its name with the usual prefix, and where all of it and its value are."""

    name: str
    start: int
    end: int
    value: slice


class _Reader:
    """What there is in a packet, and where, in the order it is in. An XML parser says so."""

    def __init__(self, packet: bytes) -> None:
        self.packet = packet
        self.found: list[Property] = []
        self.open: list[tuple[Property, list[str]]] = []
        self.spaces: dict[str, list[str]] = {}
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.StartDoctypeDeclHandler = self._refuse
        self.parser.Parse(packet, True)

    def _start(self, name: str, attributes: Mapping[str, str]) -> None:
        start = self.parser.CurrentByteIndex
        tag = TAG.match(self.packet, start)
        if not tag:
            raise ValueError("an element in an encoding other than UTF-8")
        declared = [key for key in attributes if key == "xmlns" or key.startswith("xmlns:")]
        for key in declared:
            self.spaces.setdefault(key[6:], []).append(attributes[key])
        element = Property(self._usual(name), start, tag.end(), slice(tag.end(), tag.end()))
        self.open.append((element, declared))
        self._take(element)
        for match in ATTRIBUTE.finditer(self.packet, start + 1 + len(name.encode()), tag.end()):
            key = match[1].decode()
            if key in declared:
                usual = f"xmlns:{PREFIXES.get(attributes[key], '')}"
            else:
                usual = self._usual(key) if ":" in key else key
            self._take(Property(usual, *match.span(), slice(match.start(2) + 1, match.end(2) - 1)))

    def _end(self, name: str) -> None:
        element, declared = self.open.pop()
        for key in declared:
            self.spaces[key[6:]].pop()
        at = self.parser.CurrentByteIndex
        if self.packet[at : at + 2] == b"</":
            element.value = slice(element.end, at)
            element.end = self.packet.index(b">", at) + 1

    def _usual(self, name: str) -> str:
        prefix, _, local = name.rpartition(":")
        space = self.spaces.get(prefix)
        return f"{PREFIXES.get(space[-1], space[-1])}:{local}" if space else name

    def _take(self, found: Property) -> None:
        if found.name.startswith(EVERYTHING):
            self.found.append(found)
            if len(self.found) > MOST:
                raise ValueError("more than any picture has")

    @staticmethod
    def _refuse(*_: object) -> None:
        raise ValueError("a document type, which XMP never has")


def _read(packet: bytes) -> list[Property]:
    """
    Raises:
        ValueError: this is no XML.
    """
    try:
        return _Reader(packet).found
    except expat.ExpatError as error:
        raise ValueError(str(error)) from error


def as_utf8(packet: bytes | str) -> bytes:
    """XMP in the encoding that `.hpcm` files and most others have it in; bytes that are in it stay the same.

    Raises:
        UnicodeError: it is neither UTF-8 nor any other encoding that XMP may have.
    """
    if isinstance(packet, bytes):
        packet = packet.rstrip(b"\0") if packet[:1] == b"<" and packet[1:2] != b"\0" else packet
        for encoding, width in (("utf-32-le", 4), ("utf-32-be", 4), ("utf-16-le", 2), ("utf-16-be", 2)):
            if packet[:width] in ("<".encode(encoding), "\ufeff".encode(encoding)):
                packet = packet[: len(packet) // width * width].decode(encoding)
                break
        else:
            return packet
    return DECLARED_ENCODING.sub(r"\1", packet.strip("\0\ufeff")).encode()


def is_packet(packet: bytes) -> bool:
    """Whether this is whole: XML with RDF in it."""
    try:
        return any(each.name == "rdf:RDF" for each in _read(packet))
    except ValueError:
        return False


def orientation(packet: bytes) -> int | None:
    """What the packet says of EXIF's orientation; None if nothing."""
    try:
        values = [packet[each.value] for each in _read(packet) if each.name == "tiff:Orientation"]
    except ValueError:
        match = ORIENTATION.search(packet)
        values = [match[2]] if match else []
    numbers = [value.strip() for value in values]
    return int(numbers[0]) if numbers and numbers[0].isdigit() and len(numbers[0]) == 1 else None


def fit(packet: bytes, width: int, height: int, moved: bool) -> tuple[bytes, list[str]]:
    """XMP that says what is true of an upright picture of this size, and what had to be left out of it.

    Args:
        moved: the picture was turned or cut, so that places in it and small copies of it are wrong.

    Raises:
        ValueError: it is damaged and may say what is wrong.
    """
    try:
        properties = _read(packet)
    except ValueError:
        names = (*ELSEWHERE, *HOLDERS, *(OF_THE_PLACE if moved else ()))
        if any(name.encode() in packet for name in names):
            raise
        return ORIENTATION.sub(rb"\g<1>1", packet), []
    names_there = {each.name for each in properties}
    unwanted = ELSEWHERE | (OF_THE_PLACE if moved else {})
    unwanted |= {name: what for name, what in HOLDERS.items() if f"{name}Data" not in names_there}
    values = {"tiff:Orientation": "1", "tiff:ImageWidth": f"{width}", "tiff:ImageLength": f"{height}"}
    values |= {"exif:PixelXDimension": f"{width}", "exif:PixelYDimension": f"{height}"}
    gone = {
        each.name: what
        for each in properties
        for name, what in unwanted.items()
        if each.name.startswith(name)
    }
    spaces = {name.partition(":")[0] for name in gone}
    gone |= {f"xmlns:{space}": "" for space in spaces if f"{space}:" in unwanted}
    edits, end = list[tuple[int, int, bytes]](), 0
    for each in properties:
        if each.start >= end and each.name in gone:
            edits.append((each.start, each.end, b""))
            end = each.end
        elif each.start >= end and each.name in values and each.value.stop > each.value.start:
            edits.append((each.value.start, each.value.stop, values[each.name].encode()))
    lost = list(dict.fromkeys(filter(None, gone.values())))
    return _edited(packet, edits), lost


def join(packet: bytes, segments: Iterable[bytes]) -> bytes:
    """Put what a JPEG keeps of XMP in segments of their own, its extension, back into the main packet.

    Args:
        segments: the APP1 segments of the JPEG; others than the packet's own extension do not count.

    Raises:
        ValueError: the extension is not all there, or is no XMP.
    """
    properties = _read(packet)
    note = next((each for each in properties if each.name == "xmpNote:HasExtendedXMP"), None)
    if note is None:
        return packet
    extension = as_utf8(_assembled(packet[note.value].strip(), segments))
    inner = _read(extension)
    root, other = (
        next((each for each in found if each.name == "rdf:RDF"), None) for found in (properties, inner)
    )
    if not root or not other or root.value.start == root.value.stop:
        raise ValueError("no RDF to put it into")
    tag = slice(root.start, root.value.start)
    spaces = _declared(properties, packet, root.value.start)
    more = _declared(inner, extension, other.value.start)
    if any(spaces.get(key, value) != value for key, value in more.items()):
        raise ValueError("one prefix for two namespaces")
    added = b"".join(b' %s="%s"' % each for each in more.items() if each[0] not in spaces)
    edits = [
        (tag.stop - 1, tag.stop - 1, added),
        (note.start, note.end, b""),
        (root.value.stop, root.value.stop, extension[other.value]),
    ]
    return _edited(packet, edits)


def _assembled(name: bytes, segments: Iterable[bytes]) -> bytes:
    """
    Raises:
        ValueError: a part is missing.
    """
    start = len(EXTENSION_START) + EXTENSION.size
    parts, length = dict[int, bytes](), 0
    for segment in segments:
        if segment.startswith(EXTENSION_START) and len(segment) > start:
            owner, length_, offset = EXTENSION.unpack_from(segment, len(EXTENSION_START))
            if owner.upper() == name.upper():
                parts[offset], length = segment[start:], length_
    whole = b"".join(parts[offset] for offset in sorted(parts))
    ends = [0, *(offset + len(parts[offset]) for offset in sorted(parts))]
    if not parts or length > LONGEST or ends != [*sorted(parts), length]:
        raise ValueError("a part of it is missing")
    return whole


def _declared(properties: Iterable[Property], packet: bytes, end: int) -> dict[bytes, bytes]:
    """The namespaces that are declared before a place, by attribute."""
    found = (ATTRIBUTE.fullmatch(packet, each.start, each.end) for each in properties if each.start < end)
    return {match[1]: match[2][1:-1] for match in found if match and match[1].startswith(b"xmlns")}


def split(packet: bytes, longest: int) -> list[bytes]:
    """XMP as the APP1 segments of a JPEG, each of `longest` bytes at most: one, or one and an extension."""
    if len(START) + len(packet) <= longest:
        return [START + packet]
    name = hashlib.md5(packet, usedforsecurity=False).hexdigest().upper().encode()
    main = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description rdf:about="" xmlns:xmpNote="http://ns.adobe.com/xmp/note/"'
        b' xmpNote:HasExtendedXMP="%s"/></rdf:RDF></x:xmpmeta>' % name
    )
    room = longest - len(EXTENSION_START) - EXTENSION.size
    parts = ((at, packet[at : at + room]) for at in range(0, len(packet), room))
    head = EXTENSION_START + EXTENSION.pack(name, len(packet), 0)[:-4]
    return [START + main, *(head + struct.pack(">L", at) + part for at, part in parts)]


def _edited(packet: bytes, edits: Iterable[tuple[int, int, bytes]]) -> bytes:
    pieces, end = list[bytes](), 0
    for start, stop, value in sorted(edits):
        pieces += [packet[end:start], value]
        end = stop
    return b"".join((*pieces, packet[end:]))

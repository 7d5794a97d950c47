"""XMP says what is true of the picture that goes out, or says nothing."""

from __future__ import annotations

import hashlib
import struct

import pytest
from PIL import Image

from hpcmcodec.pictures import cropped_metadata, read
from hpcmcodec.pictures.xmp import LONGEST, as_utf8, fit, join, split
from tests.tagged import HEIGHT, PLACES, WIDTH, opened, packet, picture, with_thumbnail


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be", "utf-16", "utf-32", "str"])
def test_xmp_in_every_encoding(encoding: str, orientation: int) -> None:
    text = packet(f'tiff:Orientation="{orientation}" tiff:ImageWidth="{WIDTH}"').decode()
    image = picture(xmp=text if encoding == "str" else text.encode(encoding) + b"\0" * 4)
    pixels = read(image)
    width = pixels.rgb.shape[1]
    assert (width == WIDTH) == (orientation not in (5, 6, 7, 8))
    assert pixels.metadata["xmp"] == packet(f'tiff:Orientation="1" tiff:ImageWidth="{width}"')


def test_a_declared_encoding_goes_with_it() -> None:
    text = '<?xml version="1.0" encoding="UTF-16"?><a b="é"/>'
    assert as_utf8(text.encode("utf-16")) == '<?xml version="1.0"?><a b="é"/>'.encode()


@pytest.mark.parametrize(
    ("value", "right"),
    [
        ("<tiff:Orientation>6</tiff:Orientation>", "<tiff:Orientation>1</tiff:Orientation>"),
        (
            "<exif:PixelXDimension> 16 </exif:PixelXDimension>",
            "<exif:PixelXDimension>30</exif:PixelXDimension>",
        ),
        ("tiff:ImageLength = '12'", "tiff:ImageLength = '40'"),
        ("exif:PixelYDimension='12' exif:FNumber='4'", "exif:PixelYDimension='40' exif:FNumber='4'"),
    ],
)
def test_values_in_xmp_fit_and_nothing_else_changes(value: str, right: str) -> None:
    assert fit(packet(value), 30, 40, moved=False) == (packet(right), [])


def test_prefixes_are_what_a_packet_calls_them() -> None:
    names = {"tiff": "a", "exif": "tiff", "hdrgm": "exif"}
    before = packet('a:Orientation="6" tiff:PixelXDimension="9" exif:Version="1"', names)
    after, lost = fit(before, 3, 4, moved=False)
    assert b'a:Orientation="1" tiff:PixelXDimension="3">' in after and lost == ["gain map"]


GAIN_MAP = (
    '<hdrgm:Version>1.0</hdrgm:Version><Container:Directory><rdf:Seq><rdf:li rdf:parseType="Resource">'
    '<Container:Item Item:Semantic="GainMap" Item:Length="5"/></rdf:li></rdf:Seq></Container:Directory>'
)


@pytest.mark.parametrize(
    ("inside", "words", "traces"),
    [
        (GAIN_MAP, "gain map, further pictures", b"hdrgm Container Item"),
        ('hdrgm:Version="1.0" hdrgm:GainMapMax="3"', "gain map", b"hdrgm"),
        ('GCamera:MicroVideo="1" GCamera:MicroVideoOffset="9"', "motion photo", b"MicroVideo"),
        ("<GCamera:MotionPhoto>1</GCamera:MotionPhoto>", "motion photo", b"MotionPhoto"),
        ('GDepth:Format="RangeInverse" GDepth:Near="1"', "depth map", b"GDepth:"),
        ('xmpNote:HasExtendedXMP="0123456789ABCDEF0123456789ABCDEF"', "extended XMP", b"Extended xmpNote"),
    ],
)
def test_xmp_promises_nothing_that_is_gone(inside: str, words: str, traces: bytes) -> None:
    beside = "<dc:title>kept</dc:title>" if inside.startswith("<") else ' dc:title="kept"'
    pixels = read(picture(xmp=packet(inside + beside)))
    assert b"kept" in pixels.metadata["xmp"]
    for trace in traces.split():
        assert trace not in pixels.metadata["xmp"].replace(b"xmlns:GDepth", b"")
    assert pixels.notes == (f"XMP no longer speaks of what is not kept: {words}",)


@pytest.mark.parametrize("inside", PLACES)
def test_places_and_thumbnails_in_xmp(inside: str) -> None:
    """They stay with a picture that stays as it is, and go where it is turned or cut."""
    whole = read(picture(xmp=packet(inside)))
    assert whole.metadata == {"xmp": packet(inside)} and whole.notes == ()
    notes: list[str] = []
    cropped = cropped_metadata(whole.metadata, 4, 4, notes)["xmp"]
    turned = read(picture(xmp=packet(inside), exif=with_thumbnail("<", 3, b"")))
    assert turned.metadata["xmp"] == cropped and len(notes) == 1
    for trace in (b"/9j/", b"<mwg-rs:", b"<xmp:", b"GPano:Full", b"exif:Subject", b"GDepth:"):
        assert trace not in cropped.replace(b"xmlns:", b"")


@pytest.mark.parametrize("damage", ["<a", "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", "</rdf:Description>"])
def test_damaged_xmp_is_kept_where_it_does_no_harm(damage: str) -> None:
    data = damage.encode() + b' tiff:Orientation="6"'
    pixels = read(picture(xmp=data))
    assert pixels.metadata == {"xmp": damage.encode() + b' tiff:Orientation="1"'}
    for harm in (b'hdrgm:Version="1"', b"<xmp:Thumbnails>"):
        pixels = read(picture(xmp=data + harm))
        assert pixels.metadata == {} and pixels.notes == ("XMP is damaged and left out",)


def test_avif_turns_itself() -> None:
    image = opened(picture(), "AVIF", xmp=packet('tiff:Orientation="6"'))
    pixels = read(image)
    assert pixels.rgb.shape == (HEIGHT, WIDTH, 3)
    assert pixels.metadata["xmp"] == packet('tiff:Orientation="1"')


def jpeg_with(*segments: bytes) -> Image.Image:
    extra = b"".join(b"\xff\xe1" + struct.pack(">H", len(each) + 2) + each for each in segments)
    return opened(picture(), "JPEG", extra=extra)


def extended(order: tuple[int, ...] = (0, 1, 2), of: int = 3) -> tuple[Image.Image, bytes]:
    """A JPEG with an extension in parts, in this order, and the words that it holds."""
    words = b"long" * 3000
    whole = (
        b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'"
        b" xmlns:own='http://example.org/'><rdf:Description own:words='%s'/></rdf:RDF></x:xmpmeta>" % words
    )
    name = hashlib.md5(whole).hexdigest().upper()
    main = packet(f'xmpNote:HasExtendedXMP="{name}" tiff:Orientation="6"')
    size = -(-len(whole) // of)
    start = b"http://ns.adobe.com/xmp/extension/\0" + name.encode() + struct.pack(">L", len(whole))
    parts = [start + struct.pack(">L", i * size) + whole[i * size : (i + 1) * size] for i in order]
    other = start.replace(name.encode(), b"F" * 32) + struct.pack(">L", 0) + b"of another"
    return jpeg_with(b"http://ns.adobe.com/xap/1.0/\0" + main, other, *parts), words


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_extended_xmp_is_put_together(order: tuple[int, ...]) -> None:
    image, words = extended(order)
    pixels = read(image)
    xmp = pixels.metadata["xmp"]
    assert xmp.count(words) == 1 and b"xmpNote:HasExtendedXMP" not in xmp and pixels.notes == ()
    assert pixels.rgb.shape == (WIDTH, HEIGHT, 3) and b'tiff:Orientation="1"' in xmp
    assert fit(xmp, WIDTH, HEIGHT, moved=False) == (xmp, [])  # it parses


@pytest.mark.parametrize("order", [(0, 1), (0, 2), (1, 2), ()])
def test_extended_xmp_with_a_hole_is_left_out(order: tuple[int, ...]) -> None:
    image, _ = extended(order)
    pixels = read(image)
    assert b"xmpNote" not in pixels.metadata["xmp"] and b"long" not in pixels.metadata["xmp"]
    assert pixels.notes == ("XMP no longer speaks of what is not kept: extended XMP",)


def test_xmp_is_split_and_joined() -> None:
    short = packet('dc:title="short"')
    assert split(short, 2000) == [b"http://ns.adobe.com/xap/1.0/\0" + short]
    long = packet(f'dc:title="{"long" * 2000}"')
    start, *parts = split(long, 2000)
    assert max(map(len, [start, *parts])) <= 2000
    joined = join(start.removeprefix(b"http://ns.adobe.com/xap/1.0/\0"), parts)
    assert b"long" * 2000 in joined and b"HasExtendedXMP" not in joined


def test_more_than_any_picture_has_is_left_out() -> None:
    pixels = read(picture(xmp=packet("<hdrgm:a/>" * 100_001)))
    assert pixels.metadata == {} and pixels.notes == ("XMP is damaged and left out",)


def test_what_is_longer_than_a_file_holds_is_left_out() -> None:
    pixels = read(picture(xmp=packet(f"dc:title='{'a' * LONGEST}'")))
    assert pixels.metadata == {} and "too long" in pixels.notes[0]

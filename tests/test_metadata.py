"""EXIF says what is true of the picture that goes out, or says nothing."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin, TiffImagePlugin

from hpcmcodec.codec import decode_picture, encode_picture
from hpcmcodec.pictures import cropped_metadata, read
from hpcmcodec.pictures.exif import Density, Tags
from tests.tagged import (
    HEIGHT,
    PLACES,
    WIDTH,
    Tag,
    block,
    jpeg,
    opened,
    packet,
    parsed,
    picture,
    second_directory,
    with_thumbnail,
)

SIDEWAYS = (5, 6, 7, 8)

# Thumbnails and sizes


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("layout", ["02m1t", "1t02m", "t1m20", "m0t21"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_fits_the_upright_picture(order: str, layout: str, orientation: int) -> None:
    thumbnail = jpeg()
    pixels = read(picture(exif=with_thumbnail(order, orientation, thumbnail, layout)))
    height, width = pixels.rgb.shape[:2]
    assert ((width, height) == (WIDTH, HEIGHT)) == (orientation not in SIDEWAYS)
    data = pixels.metadata["exif"]
    exif = parsed(data)
    own = exif.get_ifd(0x8769)
    assert (exif[0x0112], exif[0x0100], exif[0x0101]) == (1, width, height)
    assert (own[0xA002], own[0xA003]) == (width, height)
    assert own[0x927C] == b"maker's note"
    assert data.find(b"maker's note") == with_thumbnail(order, 1, thumbnail, layout).find(b"maker's note")
    turned = orientation != 1
    assert (thumbnail in data) == (not turned) and (b"\xff\xd8\xff" in data) == (not turned)
    assert (second_directory(data) > 0) == (0x9214 in own) == (not turned)
    assert bool(pixels.notes) == any("thumbnail" in note for note in pixels.notes) == turned


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("layout", ["02m1t", "1t02m", "t1m20"])
def test_a_crop_has_no_thumbnail_of_the_whole(order: str, layout: str) -> None:
    notes: list[str] = []
    whole = read(picture(exif=with_thumbnail(order, 1, jpeg(), layout))).metadata
    data = cropped_metadata(whole, 5, 300, notes)["exif"]
    own = parsed(data).get_ifd(0x8769)
    assert (own[0xA002], own[0xA003], own[0x927C]) == (5, 300, b"maker's note")
    assert 0x9214 not in own and not second_directory(data)
    assert b"\xff\xd8\xff" not in data and len(data) <= len(whole["exif"])
    assert len(notes) == 2 and "thumbnail" in notes[0]


def test_a_crop_has_no_preview_from_anywhere_in_exif() -> None:
    main: list[Tag] = [(0x010F, "s", "n"), (0x014A, "P", "1"), (0x8769, "P", "2")]
    strips: list[Tag] = [(0x0103, "H", 1), (0x0111, "P", "u"), (0x0117, "L", 300)]
    own: list[Tag] = [(0x927C, "s", "m"), (0x9286, "s", "c")]
    pieces = {"n": b"a maker", "c": b"ASCII\0\0\0words", "m": b"Nikon" + jpeg(), "u": b"raw thumb" * 40}
    data = block("<", main, strips, own, pieces={**pieces, "g": b"gap" + jpeg()}, layout="0g2nmcu1")
    notes: list[str] = []
    cropped = cropped_metadata({"exif": b"Exif\0\0" + data}, 4, 4, notes)["exif"]
    assert parsed(cropped)[0x010F] == "a maker" or parsed(cropped)[0x010F] == b"a maker"
    assert set(parsed(cropped).get_ifd(0x8769)) == {0x9286}
    for trace in (b"\xff\xd8\xff", b"raw thumb", b"gap", b"Nikon"):
        assert trace not in cropped
    assert any("maker's note" in note for note in notes)


@pytest.mark.parametrize("length", [0, 1, 100, 1 << 31])
def test_thumbnails_that_are_cut_short(length: int) -> None:
    data = with_thumbnail("<", 6, jpeg())[:-50]
    data = data.replace(
        struct.pack("<HHLL", 0x0202, 4, 1, len(jpeg())), struct.pack("<HHLL", 0x0202, 4, 1, length)
    )
    pixels = read(picture(exif=data))
    assert parsed(pixels.metadata["exif"]).get_ifd(0x8769)[0x927C] == b"maker's note"
    assert (b"\xff\xd8" in cropped_metadata(pixels.metadata, 4, 4, [])["exif"]) is False
    if length > 1:
        assert b"\xff\xd8\xff" not in pixels.metadata["exif"]


def test_a_thumbnail_that_claims_everything_costs_nothing_else() -> None:
    """Its bytes are all of EXIF, or a circle of directories."""
    data = bytearray(with_thumbnail("<", 3, jpeg(), layout="02m1t"))
    at = bytes(data).index(struct.pack("<HHL", 0x0201, 4, 1))
    data[at + 8 : at + 24] = struct.pack("<LHHLL", 0, 0x0202, 4, 1, len(data))
    exif = parsed(read(picture(exif=bytes(data))).metadata["exif"])
    assert exif.get_ifd(0x8769)[0x927C] == b"maker's note" and exif[0x0112] == 1
    (second,) = struct.unpack_from("<L", data, 8 + 2 + 4 * 12)
    struct.pack_into("<L", data, second + 2 + 3 * 12, second)
    assert read(picture(exif=bytes(data))).rgb.shape == (HEIGHT, WIDTH, 3)


def test_sizes_beyond_16_bits() -> None:
    tags = Tags(with_thumbnail(">", 1, jpeg()))
    tags.fit(70_000, 3)
    own = parsed(bytes(tags.data)).get_ifd(0x8769)
    assert (own[0xA002], own[0xA003]) == (70_000, 3)


def test_each_of_many_tags_is_taken_out() -> None:
    """To compare each with all others would take more time than a test has."""
    entry = struct.pack("<HHLL", 0x9214, 3, 4, 8)
    data = b"II*\0" + struct.pack("<LH", 8, 65_535) + entry * 65_535 + bytes(4)
    tags = Tags(data)
    assert tags.drop_subjects() and not tags.drop_subjects()


@pytest.mark.parametrize("orientation", [1, 6])
def test_through_a_file(orientation: int, tiny_weights: Callable[[int], Path]) -> None:
    xmp = packet('tiff:Orientation="6" exif:PixelXDimension="16"')
    image = picture(exif=with_thumbnail("<", orientation, jpeg()), xmp=xmp)
    weights = tiny_weights(4)
    data = encode_picture(image, 1, preset="tiny", weights=weights).data
    whole, part = decode_picture(data, weights), decode_picture(data, weights, crop=(2, 1, 5, 7))
    width, height = whole.image.size
    for decoded, size in ((whole, (width, height)), (part, (5, 7))):
        own = parsed(decoded.image.info["exif"]).get_ifd(0x8769)
        assert (own[0xA002], own[0xA003]) == size == decoded.image.size
        assert f'exif:PixelXDimension="{size[0]}"'.encode() in decoded.image.info["xmp"]
        assert b'tiff:Orientation="1"' in decoded.image.info["xmp"]
    assert (b"\xff\xd8" in whole.image.info["exif"]) == (orientation == 1)
    assert b"\xff\xd8" not in part.image.info["exif"]
    assert whole.notes == () and any("thumbnail" in note for note in part.notes) == (orientation == 1)
    same = decode_picture(data, weights, crop=(0, 0, width, height))
    assert same.image.info == whole.image.info


# What PNG keeps as text


@pytest.mark.parametrize("key", ["exif", "APP1", "app1"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0"])
def test_exif_as_text(key: str, orientation: int, prefix: bytes) -> None:
    data = prefix + with_thumbnail(">", orientation, jpeg())
    lines = "\n".join(data.hex()[i : i + 72] for i in range(0, 2 * len(data), 72))
    image = picture(**{f"Raw profile type {key}": f"\n{key}\n{len(data):8}\n{lines}\n"})
    pixels = read(image)
    expected = read(picture(exif=data))
    np.testing.assert_array_equal(pixels.rgb, expected.rgb)
    assert pixels.metadata == expected.metadata and parsed(pixels.metadata["exif"])[0x0112] == 1


@pytest.mark.parametrize("key", ["xmp", "APP1"])
def test_xmp_as_text(key: str) -> None:
    data = (b"http://ns.adobe.com/xap/1.0/\0" if key == "APP1" else b"") + packet('tiff:Orientation="8"')
    pixels = read(picture(**{f"Raw profile type {key}": f"\n{key}\n{len(data):8}\n{data.hex()}\n"}))
    np.testing.assert_array_equal(pixels.rgb, np.rot90(np.asarray(picture())))
    assert pixels.metadata == {"xmp": packet('tiff:Orientation="1"')}


@pytest.mark.parametrize("text", ["", "\nAPP1\n", "\nAPP1\n 4\nzz", "\nAPP1\n 900\n4d4d002a"])
def test_broken_text_is_left_out(text: str) -> None:
    pixels = read(picture(**{"Raw profile type APP1": text}))
    assert pixels.metadata == {} and "EXIF is damaged and left out" in pixels.notes


# Pixels per inch


def density_of(image: Image.Image) -> Density | None:
    exif = read(image).metadata.get("exif")
    return Tags(exif).density if exif else None


def per_inch(image: Image.Image) -> tuple[float, float]:
    density = density_of(image)
    assert density and density.unit in (2, 3)
    return density.per_inch()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF"])
@pytest.mark.parametrize("dpi", [(300, 300), (72, 144)])
def test_density_comes_along(kind: str, dpi: tuple[int, int]) -> None:
    assert per_inch(opened(picture(), kind, dpi=dpi)) == pytest.approx(dpi, abs=0.02)


def test_density_per_centimetre() -> None:
    options = {"resolution_unit": 3, "x_resolution": 118, "y_resolution": 59}
    assert density_of(opened(picture(), "TIFF", **options)) == Density(Fraction(118), Fraction(59), 3)
    buffer = io.BytesIO()
    picture().save(buffer, "JPEG", dpi=(118, 59))
    data = bytearray(buffer.getvalue())
    for unit in (2, 0):
        data[13] = unit
        expected = Density(Fraction(118), Fraction(59), 3 if unit else 1)
        assert density_of(Image.open(io.BytesIO(bytes(data)))) == expected


def test_no_density_is_made_up() -> None:
    for kind in ("PNG", "JPEG", "TIFF", "WEBP", "GIF", "BMP"):
        options = {"dpi": (0, 0)} if kind == "BMP" else {}
        assert read(opened(picture(), kind, **options)).metadata == {}
    for value in ((0, 0), (1, 1), (-3, 4), (float("nan"), 1), (float("inf"), 1), 300, None, "no", (1, 2, 3)):
        assert read(picture(dpi=value)).metadata == {}
    assert read(picture(aspect=(5, 5))).metadata == {}


@pytest.mark.parametrize("order", ["<", ">"])
def test_density_is_added_to_exif_that_stays(order: str) -> None:
    data = with_thumbnail(order, 1, jpeg())
    image = opened(picture(), "PNG", exif=data, dpi=(300, 150))
    exif = read(image).metadata["exif"]
    tags = parsed(exif)
    assert (tags[0x011A], tags[0x011B], tags[0x0128]) == pytest.approx((300, 150, 2), abs=0.02)
    assert tags.get_ifd(0x8769)[0x927C] == b"maker's note" and exif.index(b"maker's") == data.index(
        b"maker's"
    )
    assert second_directory(exif) == second_directory(data) > 0 and jpeg() in exif
    again = read(opened(picture(), "PNG", exif=exif, dpi=(300, 150)))
    assert again.metadata["exif"] == exif


def test_density_of_the_file_counts_before_that_of_exif() -> None:
    exif = Image.Exif()
    exif[0x011A] = exif[0x011B] = TiffImagePlugin.IFDRational(72)
    exif[0x0128] = 2
    assert per_inch(opened(picture(), "PNG", exif=exif, dpi=(300, 300))) == pytest.approx(
        (300, 300), abs=0.01
    )
    assert per_inch(opened(picture(), "WEBP", exif=exif)) == (72, 72)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_density_turns_with_the_picture(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert per_inch(opened(picture(), kind, exif=exif, dpi=(72, 144))) == pytest.approx((144, 72), abs=0.01)


# TIFF


@pytest.mark.parametrize("big", [False, True])
def test_exif_of_a_tiff(big: bool) -> None:
    exif = Image.Exif()
    exif[0x010F] = "maker"
    exif[0x0112] = 6
    exif.get_ifd(0x8769).update({0x9286: b"ASCII\0\0\0words", 0x829A: TiffImagePlugin.IFDRational(1, 50)})
    exif.get_ifd(0x8825)[1] = "N"
    image = opened(picture(), "TIFF", exif=exif.tobytes(), big_tiff=big)
    pixels = read(image)
    tags = parsed(pixels.metadata["exif"])
    assert pixels.notes == () and pixels.rgb.shape == (WIDTH, HEIGHT, 3)
    assert tags[0x010F] == "maker" and tags.get(0x0112, 1) == 1
    assert tags.get_ifd(0x8769)[0x9286] == b"ASCII\0\0\0words"
    assert tags.get_ifd(0x8769)[0x829A] == Fraction(1, 50)
    assert tags.get_ifd(0x8825)[1] == "N"
    assert pixels.metadata["exif"][:4] in (b"II*\0", b"MM\0*")


def test_xmp_of_a_tiff_that_pillow_turns() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    exif[700] = packet(PLACES[0])
    pixels = read(opened(picture(), "TIFF", exif=exif))
    assert b"Thumbnails" not in pixels.metadata["xmp"] and len(pixels.notes) == 1


IPTC = b"\x1c\x02\x74\0\x05by me"
RESOURCES = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + struct.pack(">L", len(IPTC)) + IPTC


def saved(kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 12), "red").save(buffer, kind, **options)
    return buffer.getvalue()


def with_texts(**texts: str) -> bytes:
    info = PngImagePlugin.PngInfo()
    for key, text in texts.items():
        info.add_text(key.replace("_", " "), text)
    return saved("PNG", pnginfo=info)


def test_what_a_file_has_no_room_for_is_told() -> None:
    jpeg = saved("JPEG")
    segment = b"\xff\xed" + struct.pack(">H", len(RESOURCES) + 2) + RESOURCES
    iptc = ("IPTC is left out",)
    assert read(jpeg).notes == ()
    assert read(jpeg[:2] + segment + jpeg[2:]).notes == iptc
    assert read(saved("TIFF", tiffinfo={33723: IPTC})).notes == iptc
    assert read(with_texts(Raw_profile_type_iptc=f"\niptc\n{len(IPTC)}\n{IPTC.hex()}")).notes == iptc
    assert read(saved("JPEG", comment=b"by me")).notes == ("the JPEG's comment is left out",)
    texts = with_texts(Author="me", Copyright="mine", Raw_profile_type_xmp="\nxmp\n1\n20")
    assert read(texts).notes[-1] == "texts of the PNG are left out: Author, Copyright"
    assert read(texts, strip=True).notes == ()


def test_a_fourth_channel_that_means_nothing_is_told() -> None:
    rgba = io.BytesIO()
    Image.new("RGBA", (16, 12), "red").save(rgba, "TIFF")
    data = bytearray(rgba.getvalue())
    at = data.index(struct.pack("<HHLH", 338, 3, 1, 2))
    data[at + 8] = 0  # neither transparency nor colour
    pixels = read(bytes(data))
    assert pixels.alpha is None
    assert pixels.notes == ("a channel that is neither colour nor transparency is left out",)


def psd(*resources: tuple[int, bytes]) -> bytes:
    blocks = b"".join(
        b"8BIM" + struct.pack(">H2xL", number, len(body)) + body + bytes(len(body) % 2)
        for number, body in resources
    )
    head = b"8BPS\0\1" + bytes(6) + struct.pack(">HLLHHLL", 3, 12, 16, 8, 3, 0, len(blocks))
    return head + blocks + struct.pack(">LH", 0, 0) + bytes(3 * 12 * 16)


def with_xmp(kind: str, packet: bytes, exif: bytes = b"") -> bytes:
    if kind == "PSD":
        return psd((1060, packet), *([(1058, exif)] if exif else []))
    data = saved(kind)
    if kind == "GIF":
        start = 13 + 3 * (2 << (data[10] & 7))
        ending = b"\x01" + bytes(range(255, -1, -1)) + b"\0"
        return data[:start] + b"!\xff\x0bXMP DataXMP" + packet + ending + data[start:]
    uuids = [bytes.fromhex("be7acfcb97a942e89c71999491e3afac") + packet]
    uuids += [b"JpgTiffExif->JP2" + exif] if exif else []
    start = data.index(b"jp2c") - 4
    more = b"".join(struct.pack(">L", len(each) + 8) + b"uuid" + each for each in uuids)
    return data[:start] + more + data[start:]


@pytest.mark.parametrize("kind", ["GIF", "JPEG2000", "PSD"])
def test_xmp_that_pillow_leaves_in_the_file(kind: str) -> None:
    packet = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
        b"</rdf:RDF></x:xmpmeta>"
    )
    pixels = read(with_xmp(kind, packet))
    assert pixels.rgb.shape == (16, 12, 3)
    assert pixels.metadata["xmp"] == packet.replace(b'"6"', b'"1"')


@pytest.mark.parametrize("kind", ["JPEG2000", "PSD"])
def test_exif_that_pillow_leaves_in_the_file(kind: str) -> None:
    exif = b"II*\0" + struct.pack("<LHHHL4sL", 8, 1, 0x010F, 2, 4, b"Cam\0", 0)
    pixels = read(with_xmp(kind, b"<x/>", exif))
    assert pixels.metadata["exif"].startswith(exif)
    damaged = read(with_xmp(kind, b"<x/>", b"garbage"))
    assert "exif" not in damaged.metadata
    assert damaged.notes[-1] == "EXIF is damaged and left out"
    assert read(psd((1028, IPTC))).notes == ("IPTC is left out",)

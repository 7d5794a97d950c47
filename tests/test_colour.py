"""Colours that a file describes outside of the ICC profile: shown as they were, or refused."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from hpcmcodec import ImageError
from hpcmcodec.pictures import Pixels, open_picture, read
from hpcmcodec.pictures.profiles import (
    ADOBE_RGB,
    BT709_CURVE,
    SRGB,
    SRGB_CURVE,
    Colours,
    Curve,
    changes_nothing,
    gamma,
    make_profile,
    to_srgb,
)
from hpcmcodec.pictures.signalled import PRIMARIES

y, x = np.mgrid[:48, :64]
PICTURE = np.stack([40 + x * 3, 30 + y * 4, 210 - x - 2 * y], axis=-1).astype(np.uint8)
GREY = (20 + x * 3 + y // 2).astype(np.uint8)
P3, BT2020 = PRIMARIES[12], PRIMARIES[9]
SWAPPED = (0.15, 0.06, 0.30, 0.60, 0.64, 0.33, 0.3127, 0.3290)
SRGB_PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


# What is right, worked out here and by another way than the code's: XYZ of both spaces share D65.


def matrix(primaries: tuple[float, ...]) -> NDArray[np.float64]:
    (rx, ry, gx, gy, bx, by, wx, wy) = primaries
    columns = np.array([[rx, gx, bx], [ry, gy, by], [1 - rx - ry, 1 - gx - gy, 1 - bx - by]])
    white = np.array([wx / wy, 1, (1 - wx - wy) / wy])
    return np.asarray(columns * np.linalg.solve(columns, white))


def encoded(light: NDArray[np.float64]) -> NDArray[np.float64]:
    light = np.clip(light, 0, 1)
    samples: NDArray[np.float64] = np.where(
        light < 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055
    )
    return 255 * samples


def decoded(samples: NDArray[Any]) -> NDArray[np.float64]:
    v = samples / 255
    light: NDArray[np.float64] = np.where(v < 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)
    return light


def from_709(samples: NDArray[Any]) -> NDArray[np.float64]:
    v = samples / 255
    light: NDArray[np.float64] = np.where(v < 0.081, v / 4.5, ((v + 0.099) / 1.099) ** (1 / 0.45))
    return light


def shown_from(
    light: NDArray[np.float64], primaries: tuple[float, ...] = SRGB.primaries
) -> NDArray[np.float64]:
    """In sRGB, of linear light in these colours."""
    return encoded(light @ np.linalg.solve(matrix(SRGB.primaries), matrix(primaries)).T)


def shown(pixels: Pixels) -> NDArray[np.float64]:
    """As a viewer that knows ICC profiles shows what was read."""
    icc = pixels.metadata.get("icc")
    image = Image.fromarray(pixels.rgb[..., 0] if pixels.grey else pixels.rgb)
    if icc:
        found = ImageCms.profileToProfile(
            image, ImageCms.getOpenProfile(io.BytesIO(icc)), ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
        assert found is not None
        image = found
    return np.asarray(image.convert("RGB")).astype(float)


def check(pixels: Pixels, right: NDArray[np.float64], profile: bool) -> None:
    if right.ndim == 2:
        right = np.stack([right] * 3, axis=-1)
    assert np.abs(shown(pixels) - right).mean() < 0.8
    assert np.abs(shown(pixels) - right).max() < 4
    assert ("icc" in pixels.metadata) == profile


def check_both(data: bytes, right: NDArray[np.float64], profile: bool) -> Pixels:
    """Read with all that belongs to it, and stripped."""
    pixels = read(open_picture(data))
    check(pixels, right, profile)
    check(read(open_picture(data), strip=True), right, profile=False)
    assert any("made of" in note for note in pixels.notes) == profile
    return pixels


# Files.


def file(image: Image.Image | NDArray[Any], format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, format, **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">L", len(body)) + kind + body + struct.pack(">L", zlib.crc32(kind + body))


def png(image: Image.Image | NDArray[Any], *chunks: bytes, **options: Any) -> bytes:
    data = file(image, "PNG", **options)
    return data[:33] + b"".join(chunks) + data[33:]


def gama(value: float) -> bytes:
    return chunk(b"gAMA", struct.pack(">L", round(value * 100_000)))


def chrm(primaries: tuple[float, ...]) -> bytes:
    return chunk(b"cHRM", struct.pack(">8L", *(round(v * 100_000) for v in (*primaries[6:], *primaries[:6]))))


def cicp(*values: int) -> bytes:
    return chunk(b"cICP", bytes(values))


def iccp(profile: bytes) -> bytes:
    return chunk(b"iCCP", b"name\0\0" + zlib.compress(profile))


def avif(primaries: int, curve: int, **options: Any) -> bytes:
    data = file(PICTURE, "AVIF", quality=100, subsampling="4:4:4", **options)
    start = data.index(b"colrnclx") + 8
    return data[:start] + struct.pack(">HH", primaries, curve) + data[start + 4 :]


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">L", 8 + len(body)) + kind + body


def jp2(colr: bytes, image: NDArray[Any] = PICTURE) -> bytes:
    data = file(image, "JPEG2000")
    start = data.index(b"colr") - 4
    (length,) = struct.unpack_from(">L", data, start)
    header = data.index(b"jp2h") - 4
    (whole,) = struct.unpack_from(">L", data, header)
    made = box(b"colr", colr)
    grown = data[:header] + struct.pack(">L", whole + len(made) - length) + data[header + 4 : start]
    return grown + made + data[start + length :]


def bmp(kind: bytes, numbers: bytes = bytes(48), profile: bytes = b"") -> bytes:
    data = file(PICTURE, "BMP")
    body = data[54:]
    header = (
        struct.pack("<L", 124) + data[18:54] + struct.pack("<4L", 0xFF0000, 0xFF00, 0xFF, 0) + kind + numbers
    )
    header += struct.pack("<4L", 4, 124 + len(body), len(profile), 0)
    assert len(header) == 124
    return b"BM" + struct.pack("<LLL", 14 + 124 + len(body) + len(profile), 0, 138) + header + body + profile


# PNG.


def test_linear_light_is_brought_to_srgb() -> None:
    pixels = check_both(png(PICTURE, gama(1.0)), shown_from(PICTURE / 255), profile=False)
    assert "converted to sRGB's curve" in pixels.notes[0]


def test_a_gamma_near_the_eyes_keeps_its_samples() -> None:
    pixels = check_both(png(PICTURE, gama(1 / 1.8)), shown_from((PICTURE / 255) ** 1.8), profile=True)
    np.testing.assert_array_equal(pixels.rgb, PICTURE)


@pytest.mark.parametrize("primaries", [P3, BT2020, ADOBE_RGB.primaries])
def test_chrm(primaries: tuple[float, ...]) -> None:
    pixels = check_both(png(PICTURE, chrm(primaries)), shown_from(decoded(PICTURE), primaries), profile=True)
    np.testing.assert_array_equal(pixels.rgb, PICTURE)
    right = shown_from((PICTURE / 255) ** 2.2, primaries)
    check_both(png(PICTURE, gama(1 / 2.2), chrm(primaries)), right, profile=True)


def test_linear_light_in_other_colours() -> None:
    check_both(png(PICTURE, gama(1.0), chrm(P3)), shown_from(PICTURE / 255, P3), profile=True)


def test_a_palette_has_colours_too() -> None:
    image = Image.fromarray(PICTURE).quantize(200)
    colours = np.asarray(image.convert("RGB"))
    check_both(png(image, gama(1 / 1.8), chrm(P3)), shown_from((colours / 255) ** 1.8, P3), profile=True)


def test_grey_with_gamma() -> None:
    right = encoded((GREY / 255) ** 1.8)
    pixels = check_both(png(GREY, gama(1 / 1.8), chrm(P3)), right, profile=True)
    assert pixels.grey and pixels.metadata["icc"][16:20] == b"GRAY"
    assert check_both(png(GREY, gama(1.0)), encoded(GREY / 255), profile=False).grey
    assert read(open_picture(png(GREY, chrm(P3)))).metadata == {}


def test_deep_grey_keeps_what_is_dark() -> None:
    deep = np.linspace(0, 2000, 48 * 64).round().astype(np.uint16).reshape(48, 64)
    pixels = check_both(png(deep, gama(1.0)), encoded(deep / 65535), profile=False)
    assert len(np.unique(pixels.rgb)) > 45  # 8 bits of linear light have 8 levels there


@pytest.mark.parametrize(
    "chunks",
    [
        (gama(0.45455),),
        (gama(0.45455), chrm(SRGB.primaries)),
        (chunk(b"sRGB", b"\0"), gama(1.0), chrm(P3)),
        (cicp(1, 13, 0, 1), gama(1.0)),
        (cicp(1, 13, 0, 1), iccp(make_profile(ADOBE_RGB, grey=False))),
        (cicp(2, 2, 0, 1),),
    ],
)
def test_srgb_by_any_name_is_plain(chunks: tuple[bytes, ...]) -> None:
    pixels = check_both(png(PICTURE, *chunks), PICTURE, profile=False)
    np.testing.assert_array_equal(pixels.rgb, PICTURE)
    assert pixels.notes == ()


def test_a_profile_counts_for_more_than_gamma() -> None:
    profile = make_profile(ADOBE_RGB, grey=False)
    pixels = read(open_picture(png(PICTURE, gama(1.0), chrm(P3), iccp(profile))))
    assert pixels.metadata == {"icc": profile} and pixels.notes == ()
    np.testing.assert_array_equal(pixels.rgb, PICTURE)


def test_a_damaged_profile_leaves_the_word_to_gamma() -> None:
    pixels = read(open_picture(png(PICTURE, gama(1.0), iccp(b"nonsense" * 30))))
    check(pixels, shown_from(PICTURE / 255), profile=False)
    assert "damaged" in pixels.notes[0]


@pytest.mark.parametrize("key", ["Raw profile type icc", "Raw profile type icm"])
def test_a_profile_as_text(key: str) -> None:
    profile = make_profile(Colours(P3), grey=False)
    text = f"\nicc\n{len(profile):8}\n{profile.hex()}\n"
    for data in (
        png(PICTURE, chunk(b"tEXt", key.encode() + b"\0" + text.encode())),
        png(PICTURE, chunk(b"zTXt", key.encode() + b"\0\0" + zlib.compress(text.encode()))),
    ):
        pixels = read(open_picture(data))
        assert pixels.metadata == {"icc": profile}
        check(pixels, shown_from(decoded(PICTURE), P3), profile=True)
    broken = read(open_picture(png(PICTURE, chunk(b"tEXt", key.encode() + b"\0\nicc\n 9\n00\n"))))
    assert broken.metadata == {} and "damaged" in broken.notes[0]


@pytest.mark.parametrize(
    ("number", "primaries", "curve", "light"),
    [
        (12, P3, 13, decoded),
        (9, BT2020, 13, decoded),
        (9, BT2020, 14, from_709),
        (1, SRGB.primaries, 1, from_709),
    ],
)
def test_cicp_of_standard_range(number: int, primaries: tuple[float, ...], curve: int, light: Any) -> None:
    right = shown_from(light(PICTURE), primaries)
    wrong = iccp(make_profile(ADOBE_RGB, grey=False))
    check_both(png(PICTURE, cicp(number, curve, 0, 1)), right, profile=True)
    check_both(png(PICTURE, cicp(number, curve, 0, 1), wrong), right, profile=True)


def test_cicp_of_a_narrow_range() -> None:
    narrow = np.round(16 + PICTURE * (219 / 255)).astype(np.uint8)
    check_both(png(narrow, cicp(1, 13, 0, 0)), PICTURE, profile=False)


@pytest.mark.parametrize("curve", [16, 18])
def test_high_dynamic_range_is_refused(curve: int) -> None:
    for data in (png(PICTURE, cicp(9, curve, 0, 1)), png(GREY, cicp(9, curve, 0, 1)), avif(9, curve)):
        for strip in (False, True):
            with pytest.raises(ImageError, match=f"high dynamic range .{'PQ' if curve == 16 else 'HLG'}"):
                read(open_picture(data), strip=strip)
    profile = make_profile(Colours(BT2020), grey=False)
    described = read(open_picture(png(PICTURE, cicp(9, curve, 0, 1), iccp(profile))))
    assert described.metadata == {"icc": profile}
    assert (
        "high dynamic range" in described.notes[0] and "gives way to the colour profile" in described.notes[0]
    )


@pytest.mark.parametrize(
    "chunks",
    [
        (gama(0.00001),),
        (chunk(b"gAMA", bytes(4)),),
        (chrm((0.0,) * 8),),
        (chrm((0.3, 0.3) * 4),),
        (cicp(77, 13, 0, 1),),
        (cicp(1, 99, 0, 1),),
        (cicp(1, 1, 1, 1),),
    ],
)
def test_what_makes_no_sense_is_told(chunks: tuple[bytes, ...]) -> None:
    pixels = read(open_picture(png(PICTURE, *chunks)))
    np.testing.assert_array_equal(pixels.rgb, PICTURE)
    assert pixels.metadata == {} and "taken as sRGB" in pixels.notes[-1]


def test_a_picture_says_the_same_every_time() -> None:
    data = avif(12, 13)
    image = open_picture(data)
    first, second = read(image), read(image)
    assert first.metadata == second.metadata != {}
    plain = Image.open(io.BytesIO(data))
    assert read(plain).metadata == first.metadata
    assert read(plain).metadata == first.metadata


# Other formats.


@pytest.mark.parametrize("options", [{}, {"range": "limited"}])
def test_avif(options: dict[str, str]) -> None:
    plain = avif(1, 13, **options)
    seen = np.asarray(open_picture(plain).convert("RGB"))
    assert read(open_picture(plain)).metadata == {}
    check_both(avif(12, 13, **options), shown_from(decoded(seen), P3), profile=True)
    check_both(avif(9, 14, **options), shown_from(from_709(seen), BT2020), profile=True)
    check_both(avif(1, 8, **options), shown_from(seen / 255), profile=False)


def test_a_profile_counts_for_more_than_nclx() -> None:
    profile = make_profile(ADOBE_RGB, grey=False)
    for curve in (13, 16):
        pixels = read(open_picture(avif(9, curve, icc_profile=profile)))
        assert pixels.metadata == {"icc": profile} and pixels.notes == ()


@pytest.mark.parametrize("method", [2, 3])
def test_the_profile_of_a_jp2(method: int) -> None:
    profile = make_profile(Colours(P3), grey=False)
    data = jp2(bytes([method, 0, 0]) + profile)
    seen = np.asarray(open_picture(data).convert("RGB"))
    pixels = read(open_picture(data))
    assert pixels.metadata == {"icc": profile}
    check(pixels, shown_from(decoded(seen), P3), profile=True)


def test_the_colour_spaces_of_a_jp2() -> None:
    seen = np.asarray(open_picture(file(PICTURE, "JPEG2000")).convert("RGB"))
    assert read(open_picture(file(PICTURE, "JPEG2000"))).notes == ()
    with pytest.raises(ImageError, match="CIELab"):
        read(open_picture(jp2(struct.pack(">3BL", 1, 0, 0, 14))))
    assert "taken as sRGB" in read(open_picture(jp2(struct.pack(">3BL", 1, 0, 0, 20)))).notes[0]
    romm = read(open_picture(jp2(struct.pack(">3BL", 1, 0, 0, 21))))
    np.testing.assert_array_equal(romm.rgb, seen)
    assert "icc" in romm.metadata
    with pytest.raises(ImageError, match="PQ"):
        read(open_picture(jp2(struct.pack(">3BHHHB", 5, 0, 0, 9, 16, 0, 128))))


def test_tiff_with_primaries_and_a_curve() -> None:
    values = tuple(v for pair in P3[:6] for v in (pair,))
    check_both(file(PICTURE, "TIFF", tiffinfo={319: values}), shown_from(decoded(PICTURE), P3), profile=True)
    table = tuple(round(65535 * (i / 255) ** 1.8) for i in range(256))
    for count in (1, 3):
        data = file(PICTURE, "TIFF", tiffinfo={301: table * count})
        check_both(data, shown_from((PICTURE / 255) ** 1.8), profile=True)
    linear = tuple(round(65535 * i / 255) for i in range(256))
    check_both(file(GREY, "TIFF", tiffinfo={301: linear}), encoded(GREY / 255), profile=False)
    broken = read(open_picture(file(PICTURE, "TIFF", tiffinfo={301: table[:9]})))
    assert "taken as sRGB" in broken.notes[0]


def test_a_qoi_is_srgb_whatever_its_header_says() -> None:
    """Pillow, for one, writes "linear" whatever it is given, and the format calls this byte informative."""
    for byte in (0, 1):
        data = bytearray(file(PICTURE, "QOI"))
        data[13] = byte
        check_both(bytes(data), PICTURE, profile=False)


@pytest.mark.parametrize("colours", [4, 256])
@pytest.mark.parametrize("comment", [b"", b"before it"])
def test_the_profile_of_a_gif(colours: int, comment: bytes) -> None:
    profile = make_profile(Colours(BT2020), grey=False)
    data = file(Image.fromarray(PICTURE).quantize(colours), "GIF", comment=comment)
    start = 13 + 3 * (2 << (data[10] & 7))
    parts = (profile[at : at + 255] for at in range(0, len(profile), 255))
    blocks = b"".join(bytes([len(part)]) + part for part in parts)
    data = data[:start] + b"!\xff\x0bICCRGBG1012" + blocks + b"\0" + data[start:]
    assert read(open_picture(data)).metadata == {"icc": profile}
    assert not read(open_picture(data[:start] + data[start + 14 + len(blocks) + 1 :])).metadata
    cut = read(open_picture(data.replace(b"acsp", b"none")))
    assert not cut.metadata and "profile is damaged" in "".join(cut.notes)


def test_bmp_with_colours_in_its_header() -> None:
    light = [round(value * 2**30) for value in matrix(P3).T.ravel()]
    numbers = struct.pack("<9l3L", *light, *[round(1.8 * 65536)] * 3)
    check_both(bmp(bytes(4), numbers), shown_from((PICTURE / 255) ** 1.8, P3), profile=True)
    profile = make_profile(Colours(P3), grey=False)
    assert read(open_picture(bmp(b"DEBM", profile=profile))).metadata["icc"] == profile
    for plain in (bmp(bytes(4)), bmp(b"BGRs"), bmp(b" niW")):
        pixels = read(open_picture(plain))
        assert "icc" not in pixels.metadata and pixels.notes == ()


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_adobe_rgb_by_exif(format: str) -> None:
    for space, index, known in (
        (65535, "R03", True),
        (2, None, True),
        (65535, None, False),
        (1, "R98", None),
    ):
        tags = Image.Exif()
        details = {0xA001: space} | ({0xA005: {1: index}} if index else {})
        tags._ifds[0x8769] = details
        tags[0x8769] = details
        data = file(PICTURE, format, exif=tags.tobytes(), **({"lossless": True} if format == "WEBP" else {}))
        pixels = read(open_picture(data))
        if known and (index is None or format != "TIFF"):
            seen = np.asarray(open_picture(data).convert("RGB"))
            np.testing.assert_array_equal(pixels.rgb, seen)
            check_both(data, shown_from((seen / 255) ** (563 / 256), ADOBE_RGB.primaries), profile=True)
        else:
            assert "icc" not in pixels.metadata
            assert (known is None) == (pixels.notes == ())


# Stripping.


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize(
    "colours",
    [ADOBE_RGB, Colours(P3), Colours(BT2020, (BT709_CURVE,)), Colours(SWAPPED)],
)
def test_strip_keeps_the_colours(colours: Colours, grey: bool) -> None:
    profile = make_profile(colours, grey)
    image = Image.fromarray(GREY if grey else PICTURE)
    data = file(image, "PNG", icc_profile=profile)
    kept, stripped = read(open_picture(data)), read(open_picture(data), strip=True)
    assert kept.metadata == {"icc": profile} and stripped.metadata == {}
    assert stripped.grey == grey
    assert np.abs(shown(kept) - shown(stripped)).max() <= 2
    same = grey and colours.curves == (SRGB_CURVE,)
    assert stripped.notes == (() if same else ("colours converted to sRGB",))


def test_strip_drops_srgb_and_leaves_the_samples() -> None:
    for profile in (SRGB_PROFILE, make_profile(SRGB, grey=False)):
        stripped = read(open_picture(file(PICTURE, "PNG", icc_profile=profile)), strip=True)
        np.testing.assert_array_equal(stripped.rgb, PICTURE)
        assert (stripped.metadata, stripped.notes) == ({}, ())


def test_strip_keeps_alpha_and_a_profile_that_cannot_be_used() -> None:
    image = np.dstack([PICTURE, GREY])
    data = file(image, "PNG", icc_profile=make_profile(Colours(P3), grey=False))
    stripped = read(open_picture(data), strip=True)
    assert stripped.alpha is not None
    np.testing.assert_array_equal(stripped.alpha, GREY)
    assert np.abs(shown(stripped) - shown(read(open_picture(data)))).max() <= 2
    unusable = SRGB_PROFILE[:128] + struct.pack(">L", 0)
    kept = read(open_picture(file(PICTURE, "PNG", icc_profile=unusable)), strip=True)
    assert kept.metadata == {"icc": unusable} and "kept" in kept.notes[0]


# Profiles.


def test_a_made_srgb_profile_is_srgb() -> None:
    for grey in (False, True):
        way = to_srgb(make_profile(SRGB, grey), "L" if grey else "RGB", "L" if grey else "RGB")
        assert way is not None and changes_nothing(way, grey)
    for curve in (gamma(1.8), Curve(table=tuple(np.linspace(0, 1, 99) ** 3))):
        way = to_srgb(make_profile(Colours(SRGB.primaries, (curve,)), False), "RGB", "RGB")
        assert way is not None and not changes_nothing(way, False)


def test_a_made_profile_holds_the_primaries() -> None:
    profile = ImageCms.getOpenProfile(io.BytesIO(make_profile(Colours(P3), grey=False))).profile
    assert profile.red_primary and profile.green_primary and profile.blue_primary
    for found, right in zip(
        (profile.red_primary[0], profile.green_primary[0], profile.blue_primary[0]),
        ((0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841)),
        strict=True,
    ):
        np.testing.assert_allclose(found, right, atol=2e-4)
    assert profile.version == 4.3

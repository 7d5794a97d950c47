"""Every format gives back what it takes, says what it leaves out, or refuses."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from hpcmcodec import ImageError
from hpcmcodec.pictures import FORMATS, Pixels, kind_of, read, save, to_image
from hpcmcodec.pictures.exif import Density, Tags
from tests.conftest import Hpcm
from tests.tagged import jpeg, packet, parsed, with_thumbnail

LOSSY = ("JPEG", "MPO", "AVIF")
WITH_THUMBNAIL = ("PNG", "WEBP", "AVIF", "JPEG", "MPO")
HERE = [kind for kind in FORMATS if kind_of(kind)]
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def swapped() -> bytes:
    """A profile that calls red green and green red."""
    return SRGB.replace(b"rXYZ", b"?XYZ").replace(b"gXYZ", b"rXYZ").replace(b"?XYZ", b"gXYZ")


def grey_profile(gamma: float) -> bytes:
    """The smallest one there is: a white point and a curve."""
    white = b"XYZ " + bytes(4) + np.array([63190, 65536, 54061], ">i4").tobytes()
    curve = b"curv" + bytes(4) + np.array([1], ">u4").tobytes() + np.array([gamma * 256, 0], ">u2").tobytes()
    names = b"desc" + bytes(4) + np.array([5], ">u4").tobytes() + b"test\0" + bytes(8 + 3 + 67 + 1)
    body, table = b"", b""
    blocks = {b"desc": names + bytes(-len(names) % 4), b"kTRC": curve, b"wtpt": white}
    for name, block in blocks.items():
        start = 128 + 4 + 12 * len(blocks) + len(body)
        table += name + np.array([start, len(block)], ">u4").tobytes()
        body += block
    content = np.array([len(blocks)], ">u4").tobytes() + table + body
    head = (
        np.array([128 + len(content)], ">u4").tobytes()
        + b"lcms\x02\x10\0\0mntrGRAYXYZ "
        + bytes(12)
        + b"acsp"
    )
    return head.ljust(68, b"\0") + white[8:].ljust(60, b"\0") + content


def of_mode(mode: str, height: int = 13, width: int = 21) -> Image.Image:
    """Smooth, so that lossy formats keep it, and of no even size."""
    y, x = np.mgrid[:height, :width]
    planes = {"L": x * 9, "R": x * 9, "G": y * 15, "B": 200 - x * 5, "A": y * 9 + x * 3}
    return Image.merge(mode, [Image.fromarray(planes[name].astype(np.uint8)) for name in mode])


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize("kind", HERE)
@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_what_a_format_takes_it_gives_back(kind: str, mode: str) -> None:
    image = of_mode(mode)
    if "A" in mode and "RGBA" not in FORMATS[kind].modes:
        with pytest.raises(ImageError, match="transparency: choose PNG, WebP, AVIF or TIFF"):
            save(image, kind)
        return
    if kind == "GIF" and mode == "RGB":
        with pytest.raises(
            ImageError, match="256 colours, and the picture more: choose PNG, WebP, AVIF or TIFF"
        ):
            save(image, kind)
        image = image.crop((0, 0, 20, 11))
    notes: list[str] = []
    back = read(opened(save(image, kind, notes)))
    sent = read(image)
    assert notes == [] and back.rgb.shape == sent.rgb.shape
    assert abs(back.rgb.astype(int) - sent.rgb).max() <= (12 if kind in LOSSY else 0)
    if sent.alpha is not None:
        assert back.alpha is not None
        assert abs(back.alpha.astype(int) - sent.alpha).max() <= (4 if kind in LOSSY else 0)
    if kind not in ("WEBP", "SGI", "QOI", "AVIF"):
        assert back.grey == sent.grey
    assert back.metadata == {}


@pytest.mark.parametrize(
    "kind", ["ICO", "ICNS", "PDF", "EPS", "PALM", "MSP", "XBM", "SPIDER", "BLP", "PCX", "NO"]
)
def test_other_formats_are_refused(kind: str) -> None:
    assert kind_of(kind) is None
    with pytest.raises(ImageError, match=f"cannot be saved as {kind}: choose PNG, WebP, AVIF or TIFF"):
        save(of_mode("L"), kind)


@pytest.mark.parametrize("name", ["a.ico", "a.gif", "a.pdf", "a.mpo", "a.j2k", "a"])
def test_the_command_says_what_fits(hpcm: Hpcm, tmp_path: Path, name: str, tiny_weights: object) -> None:
    image = of_mode("RGB", 60, 300)
    image.save(tmp_path / "a.png")
    words = ("--preset", "tiny", "--weights", tiny_weights(4))  # type: ignore[operator]
    assert hpcm("encode", "a.png", *words)[0] == 0
    code, _, err = hpcm("decode", "a.hpcm", "-o", name, *words[2:])
    if name == "a.mpo":
        assert code == 0 and opened((tmp_path / name).read_bytes()).size == (300, 60)
    else:
        assert code == (1 if name == "a.gif" else 2) and "PNG" in err and not (tmp_path / name).exists()
        assert err.count("\n") == 1


def test_names() -> None:
    assert [kind_of(name) for name in (".JPG", "jpeg", "tif", "TIFF", ".pgm", "jpeg2000", ".jp2")] == [
        *("JPEG", "JPEG", "TIFF", "TIFF", "PPM", "JPEG2000", "JPEG2000")
    ]
    assert kind_of("") is kind_of(".") is kind_of("j2k") is None


# Profiles


@pytest.mark.parametrize(
    "kind", [kind for kind in HERE if "icc" not in FORMATS[kind].holds and kind != "GIF"]
)
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_format_without_profiles_gets_srgb(kind: str, mode: str) -> None:
    if mode not in FORMATS[kind].modes:
        mode = "RGB"
    image = of_mode(mode)
    image.info["icc_profile"] = swapped()
    notes: list[str] = []
    back = read(opened(save(image, kind, notes)))
    expected = np.asarray(image)
    assert (back.alpha is not None) == (mode == "RGBA")
    if back.alpha is not None:
        np.testing.assert_array_equal(back.alpha, expected[..., 3])
    assert abs(back.rgb.astype(int) - expected[..., [1, 0, 2]]).max() <= 1
    assert notes == [f"converted to sRGB, as {FORMATS[kind].name} cannot hold the colour profile"]
    image.info["icc_profile"], notes = SRGB, []
    np.testing.assert_array_equal(read(opened(save(image, kind, notes))).rgb, expected[..., :3])
    assert notes == []


@pytest.mark.parametrize("kind", ["PPM", "WEBP", "PNG"])
@pytest.mark.parametrize("mode", ["L", "LA"])
def test_a_grey_profile(kind: str, mode: str) -> None:
    if kind == "PPM":
        mode = "L"
    image = of_mode(mode)
    image.info["icc_profile"] = grey_profile(1.0)
    notes: list[str] = []
    back = read(opened(save(image, kind, notes)))
    if kind == "PNG":
        assert (back.metadata["icc"], notes) == (grey_profile(1.0), [])
        return
    light = np.asarray(image.getchannel("L")) / 255
    expected = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055) * 255
    assert abs(back.rgb[..., 0] - expected).max() <= 2 and len(notes) == 1
    assert (back.alpha is not None) == (mode == "LA")


def test_a_profile_that_cannot_be_used_is_left_out() -> None:
    image = of_mode("RGB")
    image.info["icc_profile"] = SRGB[:200]
    notes: list[str] = []
    np.testing.assert_array_equal(read(opened(save(image, "PPM", notes))).rgb, np.asarray(image))
    assert len(notes) == 1 and "left out" in notes[0]


def test_a_profile_too_long_for_a_jpeg() -> None:
    image = of_mode("RGB")
    image.info["icc_profile"] = swapped() + bytes(255 * 65_519)
    notes: list[str] = []
    back = read(opened(save(image, "JPEG", notes)))
    assert abs(back.rgb.astype(int) - np.asarray(image)[..., [1, 0, 2]]).max() <= 12
    assert back.metadata == {} and len(notes) == 1


# EXIF and XMP


@pytest.mark.parametrize("kind", HERE)
def test_what_is_left_out_is_told(kind: str) -> None:
    metadata = {"exif": with_thumbnail("<", 1, jpeg()), "xmp": packet('dc:title="it"')}
    image = to_image(Pixels(np.asarray(of_mode("RGB", 8, 8)), False, None, metadata))
    notes: list[str] = []
    back = read(opened(save(image, kind, notes)))
    assert ("exif" in back.metadata, "xmp" in back.metadata) == (("exif" in FORMATS[kind].holds),) * 2
    name = FORMATS[kind].name
    lost = "the EXIF thumbnail" if kind == "TIFF" else "EXIF and XMP"
    assert notes == ([] if kind in WITH_THUMBNAIL else [f"{name} cannot hold {lost}: left out"])
    if kind in WITH_THUMBNAIL:
        exif = back.metadata["exif"]
        assert jpeg() in exif and exif.index(b"maker's") == metadata["exif"].index(b"maker's")


def test_long_xmp_in_a_jpeg() -> None:
    image = of_mode("RGB")
    image.info["xmp"] = packet(f'dc:title="{"long" * 40_000}"')
    notes: list[str] = []
    back = read(opened(save(image, "JPEG", notes)))
    assert b"long" * 40_000 in back.metadata["xmp"] and b"HasExtended" not in back.metadata["xmp"]
    assert notes == [] and back.notes == ()
    image.info["xmp"] = b"no packet" * 8000
    assert read(opened(save(image, "JPEG", notes))).metadata == {}
    assert notes == ["JPEG has no room for XMP: left out"]


@pytest.mark.parametrize("long", ["thumbnail", "rest"])
def test_long_exif_in_a_jpeg(long: str) -> None:
    image = of_mode("RGB")
    data = with_thumbnail(">", 1, jpeg() + bytes(70_000))
    image.info["exif"] = data if long == "thumbnail" else data + bytes(range(1, 200)) * 400
    notes: list[str] = []
    back = read(opened(save(image, "JPEG", notes)))
    if long == "thumbnail":
        assert parsed(back.metadata["exif"]).get_ifd(0x8769)[0x927C] == b"maker's note"
        assert notes == ["JPEG has no room for the EXIF thumbnail: left out"]
    else:
        assert back.metadata == {} and notes == ["JPEG has no room for EXIF: left out"]


@pytest.mark.parametrize("kind", HERE)
@pytest.mark.parametrize("data", [b"no EXIF", b"II*\0\xff\xff\xff\xff", b"MM*\0\0\0\0\x08"])
def test_damaged_exif_does_not_cost_the_picture(kind: str, data: bytes) -> None:
    image = to_image(Pixels(np.asarray(of_mode("RGB", 8, 8)), False, None, {"exif": data}))
    notes: list[str] = []
    assert read(opened(save(image, kind, notes))).metadata == {}
    assert notes == ["EXIF is damaged and left out"]


# Pixels per inch


def with_density(density: Density) -> Image.Image:
    tags = Tags.empty()
    tags.set_density(density)
    metadata = {"exif": bytes(tags.data)}
    return to_image(Pixels(np.asarray(of_mode("RGB", 8, 8)), False, None, metadata))


@pytest.mark.parametrize("kind", HERE)
@pytest.mark.parametrize("unit", [2, 3])
def test_density_comes_back(kind: str, unit: int) -> None:
    density = Density(Fraction(300), Fraction(150), unit)
    notes: list[str] = []
    image = with_density(density)
    assert image.info["dpi"] == density.per_inch()
    file = opened(save(image, kind, notes))
    if kind in ("WEBP", "AVIF"):
        assert Tags(read(file).metadata["exif"]).density == density
    elif "density" in FORMATS[kind].holds:
        assert file.info["dpi"] == pytest.approx(density.per_inch(), abs=0.5)
        again = Tags(read(file).metadata["exif"]).density
        assert again and again.per_inch() == pytest.approx(density.per_inch(), abs=0.5)
    else:
        assert notes == [f"{FORMATS[kind].name} cannot hold pixels per inch: left out"]
        return
    assert notes == []


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_pixels_that_are_not_square(kind: str) -> None:
    file = opened(save(with_density(Density(Fraction(3), Fraction(2), 1)), kind))
    assert Tags(read(file).metadata["exif"]).density == Density(Fraction(3), Fraction(2), 1)


@pytest.mark.parametrize("dpi", [(300, 300), (96, 72)])
def test_density_of_a_png_stays_to_the_metre(dpi: tuple[int, int]) -> None:
    buffer = io.BytesIO()
    of_mode("RGB").save(buffer, "PNG", dpi=dpi)
    sent = opened(buffer.getvalue())
    assert opened(save(to_image(read(sent)), "PNG")).info["dpi"] == sent.info["dpi"]

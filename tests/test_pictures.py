"""Pictures of every mode through files and back, and each rule of what is kept, converted, refused."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from typing import Any

import numpy as np
import PIL
import pytest
from PIL import Image, ImageCms, ImageOps

from hpcmcodec import ImageError, UsageError, pictures
from hpcmcodec.pictures import Pixels, read, save, to_image
from hpcmcodec.pictures.profiles import SRGB as SRGB_COLOURS
from hpcmcodec.pictures.profiles import Colours, make_profile

HEIGHT, WIDTH = 9, 14
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><tiff:Orientation>1</tiff:Orientation>\xc3\xa9</x:xmpmeta>'
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
LAB = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
GRAY = make_profile(Colours(SRGB_COLOURS.primaries), grey=True)

rng = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _several_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpcmcodec.pictures.reading.STRIP_PIXELS", 4 * WIDTH)


def random(*channels: int, dtype: type = np.uint8) -> np.ndarray:
    return rng.integers(0, np.iinfo(dtype).max, (HEIGHT, WIDTH, *channels), dtype=dtype, endpoint=True)


def smooth() -> np.ndarray:
    """What a lossy format keeps nearly as it is."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([x * 9, y * 15, 200 - x * 5], axis=-1).astype(np.uint8)


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def file_of(image: Image.Image, format: str, **options: Any) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return opened(buffer.getvalue())


def png(bits: int, colour: int, samples: np.ndarray, *chunks: tuple[bytes, bytes]) -> Image.Image:
    """Samples of 16 bits or packed by the caller, `H x bytes`."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + row.tobytes() for row in samples)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, bits, colour, 0, 0, 0))
    body = b"".join(chunk(*each) for each in chunks)
    body += chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return opened(b"\x89PNG\r\n\x1a\n" + header + body)


def tiff(
    bits: tuple[int, ...], photometric: int, *planes: bytes, order: str = "<", extra: int = -1
) -> Image.Image:
    """The plainest of TIFFs; several planes are stored apart."""
    tags: list[tuple[int, str, list[int]]] = [
        (256, "H", [WIDTH]),
        (257, "H", [HEIGHT]),
        (258, "H", list(bits)),
        (259, "H", [1]),
        (262, "H", [photometric]),
        (273, "L", [0] * len(planes)),
        (277, "H", [len(bits)]),
        (278, "H", [HEIGHT]),
        (279, "L", [len(plane) for plane in planes]),
        (284, "H", [2 if len(planes) > 1 else 1]),
        *([(338, "H", [extra])] if extra >= 0 else []),
    ]

    def lay(values: list[int], kind: str) -> bytes:
        return struct.pack(f"{order}{len(values)}{kind}", *values)

    after = 8 + 2 + 12 * len(tags) + 4
    start = after + sum(len(lay(v, k)) for _, k, v in tags if len(lay(v, k)) > 4)
    tags[5] = (273, "L", [start + sum(map(len, planes[:i])) for i in range(len(planes))])
    entries, values = b"", b""
    for tag, kind, numbers in tags:
        data = lay(numbers, kind)
        entries += struct.pack(f"{order}HHL", tag, {"H": 3, "L": 4}[kind], len(numbers))
        entries += data.ljust(4, b"\0") if len(data) <= 4 else struct.pack(f"{order}L", after + len(values))
        values += data if len(data) > 4 else b""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}LH", 8, len(tags))
    return opened(head + entries + struct.pack(f"{order}L", 0) + values + b"".join(planes))


def exif(orientation: int | None = None) -> bytes:
    tags = Image.Exif()
    tags[0x0110] = "camera"
    if orientation is not None:
        tags[0x0112] = orientation
    tags.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0hello"
    tags.get_ifd(0x8825)[1] = "N"
    return tags.tobytes()


def tags_of(data: bytes) -> Image.Exif:
    tags = Image.Exif()
    tags.load(data)
    return tags


def cmyk_profile() -> bytes:
    """The smallest profile with a table from CMYK to Lab: all ink counts the same."""
    ramp = bytes(range(256))
    cube = b"".join(bytes([255 - 63 * bin(i).count("1"), 128, 128]) for i in range(16))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + struct.pack(">9l", *(65536, 0, 0) * 3)
    table = (
        table[:12] + struct.pack(">9l", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536) + ramp * 4 + cube + ramp * 3
    )
    table += bytes(-len(table) % 4)
    text = b"text" + bytes(4) + b"none\0" + bytes(3)
    names = b"desc" + bytes(4) + struct.pack(">L", 5) + b"test\0" + bytes(8 + 3 + 67 + 1)
    white = b"XYZ " + bytes(4) + struct.pack(">3l", 63190, 65536, 54061)
    body, entries = b"", b""
    blocks = {b"A2B0": table, b"cprt": text, b"desc": names, b"wtpt": white}
    for name, block in blocks.items():
        entries += name + struct.pack(">LL", 128 + 4 + 12 * len(blocks) + len(body), len(block))
        body += block
    content = struct.pack(">L", len(blocks)) + entries + body
    head = struct.pack(">L4sL4s4s4s", 128 + len(content), b"lcms", 0x02100000, b"prtr", b"CMYK", b"Lab ")
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3l", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + content


def check(pixels: Pixels, rgb: np.ndarray, alpha: np.ndarray | None = None, grey: bool = False) -> None:
    assert pixels.rgb.dtype == np.uint8 and pixels.rgb.flags.c_contiguous
    np.testing.assert_array_equal(pixels.rgb, np.stack([rgb] * 3, axis=-1) if rgb.ndim == 2 else rgb)
    assert (pixels.alpha is None) == (alpha is None)
    if alpha is not None:
        assert pixels.alpha is not None and pixels.alpha.dtype == np.uint8
        np.testing.assert_array_equal(pixels.alpha, alpha)
    assert pixels.grey == grey
    for note in pixels.notes:
        assert note and "\n" not in note


def in_mode(mode: str) -> Image.Image:
    if mode == "I;16":
        return Image.fromarray(random(dtype=np.uint16))
    if mode == "PA":
        image = Image.fromarray(random(3)).convert("P")
        merged = Image.merge("PA", (image, Image.fromarray(random())))
        merged.putpalette(image.getpalette() or [])
        return merged
    if mode in ("LA", "RGBA"):
        return Image.fromarray(random(len(mode)))
    return Image.fromarray(smooth()).convert(mode)


# Every mode, the formats it can be written in, and whether it comes back grey.
MODES = {
    "1": ("PNG", "TIFF", "BMP", "PPM", "GIF"),
    "L": ("PNG", "TIFF", "BMP", "PPM", "GIF", "JPEG"),
    "LA": ("PNG", "TIFF"),
    "P": ("PNG", "TIFF", "GIF"),
    "PA": ("TIFF",),
    "RGB": ("PNG", "TIFF", "BMP", "PPM", "WEBP", "AVIF", "JPEG"),
    "RGBA": ("PNG", "TIFF", "WEBP", "AVIF"),
    "CMYK": ("TIFF", "JPEG"),
    "I;16": ("PNG", "TIFF", "PPM"),
    "LAB": ("TIFF",),
}


@pytest.mark.parametrize(
    ("mode", "format"), [(mode, format) for mode, all_ in MODES.items() for format in all_]
)
def test_every_mode_of_every_format_comes_back(mode: str, format: str) -> None:
    options: dict[str, Any] = {"lossless": True, "exact": True} if format == "WEBP" else {}
    image = file_of(in_mode(mode), format, **options)
    pixels = read(image)
    grey = mode in ("1", "L", "LA", "I;16")
    if mode == "I;16":
        expected = np.round(np.asarray(image) / 257).astype(np.uint8)[..., None].repeat(3, axis=-1)
    else:
        expected = np.asarray(image.convert("RGB"))
    alpha = np.asarray(image.getchannel("A")) if "A" in image.getbands() and mode != "LAB" else None
    check(pixels, expected, alpha, grey)
    back = to_image(pixels)
    assert back.mode == ("L" if grey else "RGB") + ("" if alpha is None else "A")
    saved = opened(save(back, "PNG"))
    assert saved.mode == back.mode
    check(read(saved), pixels.rgb, alpha, grey)
    assert read(saved).notes == ()


@pytest.mark.parametrize(
    ("mode", "note"),
    [
        ("1", "1 bit per pixel converted to 8"),
        ("L", None),
        ("LA", None),
        ("RGB", None),
        ("RGBA", None),
        ("RGBX", None),
        ("P", "palette converted"),
        ("PA", "palette converted"),
        ("CMYK", "CMYK converted"),
        ("YCbCr", "YCbCr converted"),
        ("HSV", "HSV converted"),
        ("LAB", "LAB converted"),
        ("I;16", "16 bits per channel converted to 8"),
    ],
)
def test_what_is_converted_is_noted(mode: str, note: str | None) -> None:
    image = in_mode(mode)
    image.info.clear()
    pixels = read(image)
    assert len(pixels.notes) == bool(note)
    assert note is None or note in pixels.notes[0]
    if mode not in ("I;16", "LAB"):
        np.testing.assert_array_equal(pixels.rgb, np.asarray(in_memory(mode, pixels)))


def in_memory(mode: str, pixels: Pixels) -> Image.Image:
    """Modes that are not random come again the same."""
    return Image.fromarray(pixels.rgb) if mode in ("LA", "RGBA", "PA") else in_mode(mode).convert("RGB")


def test_equal_channels_stay_rgb() -> None:
    grey = random()
    check(read(Image.merge("RGB", [Image.fromarray(grey)] * 3)), grey)


def test_grey_palette_is_grey_unless_its_profile_is_not() -> None:
    image = Image.fromarray(random()).convert("P")
    image.putpalette([v for i in range(256) for v in [255 - i] * 3])
    expected = np.asarray(image.convert("L"))
    check(read(image), expected, grey=True)
    image.info["icc_profile"] = SRGB
    check(read(image), expected)
    assert read(image).metadata["icc"] == SRGB


# Alpha


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_and_the_colour_under_it_are_exact(mode: str) -> None:
    array = random(len(mode))
    array[:3, :, -1] = 0
    image = Image.fromarray(array)
    assert image.mode == mode
    colour = array[..., 0] if mode == "LA" else array[..., :3]
    check(read(image), colour, array[..., -1], grey=mode == "LA")
    for kind in ("PNG", "TIFF", "WEBP"):
        pixels = read(opened(save(to_image(read(image)), kind)))
        check(pixels, colour, array[..., -1], grey=mode == "LA" and kind != "WEBP")


def test_opaque_alpha_is_kept() -> None:
    pixels = read(Image.new("RGBA", (2, 1), (1, 2, 3, 255)))
    assert pixels.alpha is not None and (pixels.alpha == 255).all()


@pytest.mark.parametrize("format", ["PNG", "GIF", None])
@pytest.mark.parametrize("transparency", [2, bytes([9, 255, 0, 77])])
def test_palette_with_transparency(format: str | None, transparency: int | bytes) -> None:
    if format == "GIF" and not isinstance(transparency, int):
        pytest.skip("GIF has one transparent colour")
    indices = rng.integers(0, 4, (HEIGHT, WIDTH), dtype=np.uint8)
    palette = rng.integers(0, 256, (4, 3), dtype=np.uint8)
    image = Image.fromarray(indices)
    image.putpalette(palette.tobytes())
    image.info["transparency"] = transparency
    if format:
        image = file_of(image, format, transparency=transparency)
    alphas = np.full(4, 255, np.uint8)
    if isinstance(transparency, int):
        alphas[transparency] = 0
    else:
        alphas[:] = list(transparency)
    pixels = read(image)
    check(pixels, palette[indices], alphas[indices])
    assert any("palette" in note for note in pixels.notes)


def test_palette_with_alpha_in_it() -> None:
    indices = rng.integers(0, 4, (HEIGHT, WIDTH), dtype=np.uint8)
    palette = rng.integers(0, 256, (4, 4), dtype=np.uint8)
    image = Image.fromarray(indices)
    image.putpalette(palette.tobytes(), "RGBA")
    check(read(image), palette[indices][..., :3], palette[indices][..., 3])


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_transparent_grey_of_every_depth(bits: int) -> None:
    top = 2**bits - 1
    values = rng.integers(0, top + 1, (HEIGHT, WIDTH))
    key = int(values[0, 0])
    if bits == 16:
        values[0, 1] = key ^ 1  # the same at 8 bits, but not transparent
        packed = values.astype(">u2").view(np.uint8)
    else:
        planes = [(values >> shift) & 1 for shift in range(bits - 1, -1, -1)]
        packed = np.packbits(np.stack(planes, axis=-1).reshape(HEIGHT, -1), axis=1)
    pixels = read(png(bits, 0, packed, (b"tRNS", struct.pack(">H", key))))
    grey = np.round(values * (255 / top)).astype(np.uint8)
    check(pixels, grey, np.where(values == key, 0, 255), grey=True)


@pytest.mark.parametrize("bits", [8, 16])
def test_transparent_colour(bits: int) -> None:
    values = random(3) if bits == 8 else random(3, dtype=np.uint16)
    key = [int(value) for value in values[4, 5]]
    packed = values.astype(">u2").view(np.uint8) if bits == 16 else values
    if bits == 8:
        key[0] += 256  # to be ignored, says the standard
    pixels = read(png(bits, 2, packed.reshape(HEIGHT, -1), (b"tRNS", struct.pack(">3H", *key))))
    key[0] &= 2**bits - 1
    check(pixels, (values >> (bits - 8)).astype(np.uint8), np.where((values == key).all(axis=-1), 0, 255))
    assert (bits == 16) == any("transparent colour" in note for note in pixels.notes)


def test_stale_transparency_is_no_alpha() -> None:
    image = Image.fromarray(smooth())
    image.info["transparency"] = 3
    assert read(image).alpha is None


@pytest.mark.parametrize("mode", ["La", "RGBa"])
def test_premultiplied_alpha_is_divided_out(mode: str) -> None:
    straight = Image.new("LA" if mode == "La" else "RGBA", (2, 2), (100,) * (len(mode) - 1) + (128,))
    pixels = read(straight.convert(mode))
    assert abs(pixels.rgb.astype(int) - 100).max() <= 1
    assert pixels.alpha is not None and (pixels.alpha == 128).all()
    assert pixels.grey == (mode == "La")
    assert pixels.notes == ("premultiplied alpha converted to straight alpha",)


def test_premultiplied_tiff_is_noted() -> None:
    data = np.tile(np.array([50, 25, 5, 128], np.uint8), (HEIGHT, WIDTH, 1)).tobytes()
    pixels = read(tiff((8, 8, 8, 8), 2, data, extra=1))
    assert "premultiplied" in pixels.notes[0]
    assert abs(pixels.rgb[0, 0].astype(int) - [100, 50, 10]).max() <= 1


# More than 8 bits


@pytest.mark.parametrize("mode", ["I;16", "I;16L", "I;16B", "I;16N", "I"])
def test_deep_grey_is_rounded(mode: str) -> None:
    values = np.resize(np.array([0, 128, 129, 257, 385, 386, 65406, 65407, 65535, 514]), (HEIGHT, WIDTH))
    if mode == "I":
        image = Image.fromarray(values.astype(np.int32))
    else:
        order = ">" if mode == "I;16B" else "<" if mode != "I;16N" else "="
        image = Image.frombytes(mode, (WIDTH, HEIGHT), values.astype(f"{order}u2").tobytes())
    assert image.mode == mode
    pixels = read(image)
    check(pixels, np.round(values / 257).astype(np.uint8), grey=True)
    assert pixels.notes == ("16 bits per channel converted to 8",)


@pytest.mark.parametrize(("bits", "colour", "channels"), [(16, 2, 3), (16, 6, 4), (16, 4, 2), (16, 0, 1)])
def test_deep_png(bits: int, colour: int, channels: int) -> None:
    values = random(channels, dtype=np.uint16)
    pixels = read(png(bits, colour, values.astype(">u2").reshape(HEIGHT, -1)))
    assert pixels.notes == ("16 bits per channel converted to 8",)
    assert pixels.grey == (channels < 3)
    assert abs(pixels.rgb - values[..., : 3 if channels > 2 else 1] / 257).max() <= 1
    assert (pixels.alpha is not None) == (channels in (2, 4))
    if pixels.alpha is not None:
        assert abs(pixels.alpha - values[..., -1] / 257).max() <= 1


@pytest.mark.parametrize("order", ["<", ">"])
def test_deep_tiff(order: str) -> None:
    values = random(3, dtype=np.uint16)
    pixels = read(tiff((16, 16, 16), 2, values.astype(f"{order}u2").tobytes(), order=order))
    assert pixels.notes == ("16 bits per channel converted to 8",)
    assert abs(pixels.rgb - values / 257).max() <= 1


def test_deep_tiff_with_white_at_zero() -> None:
    values = random(dtype=np.uint16)
    check(read(tiff((16,), 0, values.tobytes())), 255 - np.round(values / 257).astype(np.uint8), grey=True)


def test_tiff_of_12_bits() -> None:
    values = rng.integers(0, 4096, (HEIGHT, WIDTH))
    even, odd = values[:, ::2], values[:, 1::2]
    packed = np.stack([even >> 4, (even & 15) << 4 | odd >> 8, odd & 255], axis=-1).astype(np.uint8)
    pixels = read(tiff((12,), 1, packed.tobytes()))
    check(pixels, np.round(values * (255 / 4095)).astype(np.uint8), grey=True)
    assert pixels.notes == ("12 bits per channel converted to 8",)


def test_deep_planes_that_pillow_garbles_are_refused() -> None:
    with pytest.raises(ImageError, match="separate planes"):
        read(tiff((16, 16, 16), 2, *(random(dtype=np.uint16).tobytes() for _ in range(3))))
    planes = [random() for _ in range(3)]
    check(read(tiff((8, 8, 8), 2, *(p.tobytes() for p in planes))), np.stack(planes, axis=-1))


@pytest.mark.parametrize("magic", ["P3", "P6", "P5", "P2"])
def test_deep_ppm(magic: str) -> None:
    values = random(*([3] if magic in ("P3", "P6") else []), dtype=np.uint16)
    data = (
        values.astype(">u2").tobytes() if magic in ("P5", "P6") else " ".join(map(str, values.flat)).encode()
    )
    pixels = read(opened(f"{magic} {WIDTH} {HEIGHT} 65535\n".encode() + data))
    check(pixels, np.round(values / 257).astype(np.uint8), grey=values.ndim == 2)
    assert pixels.notes == ("16 bits per channel converted to 8",)


def test_bmp_of_16_bits_per_pixel_is_not_deep() -> None:
    data = bytes(2 * WIDTH * HEIGHT)
    header = struct.pack(
        "<LllHHLLllLL3L", 40, WIDTH, HEIGHT, 1, 16, 3, len(data), 0, 0, 0, 0, 0xF800, 0x7E0, 0x1F
    )
    image = opened(
        b"BM" + struct.pack("<LHHL", 14 + len(header) + len(data), 0, 0, 14 + len(header)) + header + data
    )
    assert "BGR;16" in str(vars(image)["tile"])
    assert read(image).notes == ()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (Image.new("F", (4, 4)), "floating-point"),
        (Image.new("I", (4, 4), 65536), "more than 16 bits"),
        (Image.new("I", (4, 4), -1), "more than 16 bits"),
        (Image.new("RGB", (0, 4)), "no pixels"),
        (Image.new("L", (4, 0)), "no pixels"),
        (opened(b"P6 2 2 255\n" + bytes(3)), "cannot be read"),
        (opened(b"Pf 2 2 -1.0\n" + bytes(16)), "floating-point"),
        (np.zeros((0, 4, 3), np.uint8), "no pixels"),
        (np.zeros((4, 4, 3), np.float32), "float32"),
        (np.zeros((4, 4, 3), np.uint16), "uint16"),
        (np.zeros((4, 4, 5), np.uint8), "shape"),
        (np.zeros((4, 4, 1), np.uint8), "shape"),
        (np.zeros(4, np.uint8), "shape"),
    ],
)
def test_what_cannot_be_coded_is_refused(image: pictures.Picture, message: str) -> None:
    with pytest.raises(ImageError, match=message) as caught:
        read(image)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP"])
def test_truncated_files(kind: str) -> None:
    data = save(Image.fromarray(random(3)), kind)
    for length in range(0, len(data), 7):
        try:
            image = opened(data[:length])
        except Exception:
            continue  # the caller's
        try:
            pixels = read(image)
        except ImageError as error:
            message = str(error)
        else:  # only a trailer is missing
            check(pixels, np.asarray(image.convert("RGB")))
            continue
        assert message.startswith("the picture cannot be read: ") and "\n" not in message


# Arrays


def test_arrays() -> None:
    array = random(4)
    check(read(array[..., 0]), array[..., 0], grey=True)
    check(read(array[..., :2]), array[..., 0], array[..., 1], grey=True)
    check(read(array[..., :3]), array[..., :3])
    check(read(array), array[..., :3], array[..., 3])
    check(read(array[::2, ::-1]), array[::2, ::-1, :3], array[::2, ::-1, 3])
    rgb = random(3)
    assert np.shares_memory(read(rgb, frame=0).rgb, rgb)
    with pytest.raises(UsageError, match="1 frame"):
        read(rgb, frame=1)


def test_large_pictures_are_copied_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpcmcodec.pictures.reading.STRIP_PIXELS", 1 << 14)
    image = Image.new("RGB", (1000, 1000), "red")
    image.info["exif"] = exif(6)
    tracemalloc.start()
    try:
        read(image)
        assert tracemalloc.get_traced_memory()[1] < 3_600_000
    finally:
        tracemalloc.stop()


# Orientation and metadata


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "XMP"])
def test_orientation_is_applied_once(orientation: int, kind: str) -> None:
    array = random(4)
    image = Image.fromarray(array)
    if kind == "XMP":
        image = file_of(
            image, "WEBP", lossless=True, exact=True, xmp=XMP.replace(b">1<", b">%d<" % orientation)
        )
    else:
        options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
        image = file_of(image, kind, exif=exif(orientation), **options)
    expected = np.asarray(ImageOps.exif_transpose(image))
    pixels = read(image)
    check(pixels, expected[..., :3], expected[..., 3])
    check(read(to_image(pixels)), expected[..., :3], expected[..., 3])
    assert (expected.shape[:2] == (HEIGHT, WIDTH)) == (orientation < 5)
    assert read(image, strip=True).metadata == {}
    np.testing.assert_array_equal(read(image, strip=True).rgb, pixels.rgb)
    if kind == "XMP":
        assert pixels.metadata == {"xmp": XMP}
    else:
        assert tags_of(pixels.metadata["exif"]).get(0x0112, 1) == 1


@pytest.mark.parametrize("form", ['tiff:Orientation="%d"', "tiff:Orientation='%d'", "<tiff:Orientation>%d<"])
def test_orientation_of_exif_counts_before_that_of_xmp(form: str) -> None:
    image = Image.fromarray(random(3))
    image.info.update(exif=exif(3), xmp=(form % 6).encode())
    pixels = read(image)
    check(pixels, np.asarray(image)[::-1, ::-1])
    assert pixels.metadata["xmp"] == (form % 1).encode()


@pytest.mark.parametrize("value", [0, 9, 300])
def test_orientation_that_there_is_not(value: int) -> None:
    image = Image.fromarray(random(3))
    image.info["exif"] = exif(value)
    check(read(image), np.asarray(image))


def test_exif_is_kept_to_the_byte() -> None:
    image = Image.fromarray(smooth())
    image.info["exif"] = exif(6) + b"a thumbnail that Pillow would lose"
    upright = exif(1) + b"a thumbnail that Pillow would lose"
    pixels = read(image)
    assert b"Exif\0\0" + pixels.metadata["exif"] == upright
    for kind in ("PNG", "JPEG", "WEBP"):
        assert read(opened(save(to_image(pixels), kind))).metadata["exif"] == pixels.metadata["exif"]


def test_exif_as_imagemagick_writes_it() -> None:
    image = Image.fromarray(random(3))
    data = exif(8)
    image.info["Raw profile type exif"] = f"\nexif\n{len(data):8}\n{data.hex()}\n"
    pixels = read(image)
    check(pixels, np.rot90(np.asarray(image)))
    assert tags_of(pixels.metadata["exif"])[0x0110] == "camera"


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense",
        b"Exif\0\0",
        b"Exif\0\0II*\0",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        exif()[:16],
        exif()[:24],
        "not bytes",
        7,
    ],
)
def test_broken_exif_is_left_out(data: Any) -> None:
    image = Image.fromarray(smooth())
    image.info["exif"] = data
    pixels = read(image)
    check(pixels, smooth())
    assert pixels.metadata == {}
    assert pixels.notes in (("EXIF is damaged and left out",), ()) and (pixels.notes or data == b"Exif\0\0")
    assert read(image, strip=True).notes == ()


def test_broken_exif_never_gets_in_the_way() -> None:
    """Whatever of it passes for EXIF can be saved, and read again."""
    whole = exif(6)
    for _ in range(60):
        data = bytearray(whole[: rng.integers(6, len(whole) + 1)])
        for at in rng.integers(6, max(7, len(data)), 4):
            data[min(at, len(data) - 1)] = rng.integers(256)
        image = Image.new("RGB", (2, 2))
        image.info["exif"] = bytes(data)
        picture = to_image(read(image))
        for kind in ("PNG", "TIFF", "AVIF", "WEBP"):
            save(picture, kind)


@pytest.mark.parametrize("kind", ["TIFF", "AVIF"])
def test_exif_that_pillow_reads_but_cannot_write_does_not_cost_the_picture(kind: str) -> None:
    orientation = (0x0112, 4, 1, 3)  # a long number where a short one is usual
    maker = (0x010F, 5, 1, 38)  # a fraction where a text should be
    head = struct.pack(">4sLH", b"MM\0*", 8, 2)
    image = Image.fromarray(random(3))
    image.info["exif"] = head + struct.pack(">HHLLHHLLLLL", *maker, *orientation, 0, 1, 2)
    pixels = read(image)
    check(pixels, np.asarray(image)[::-1, ::-1])
    assert pixels.metadata["exif"] == head + struct.pack(">HHLLHHLLLLL", *maker, *orientation[:3], 1, 0, 1, 2)
    assert read(opened(save(to_image(pixels), kind))).metadata == {}


def test_tiff_that_pillow_has_turned_is_not_turned_by_its_xmp() -> None:
    tags = Image.Exif()
    tags[0x0112] = 1
    tags[700] = XMP.replace(b">1<", b">6<")
    image = file_of(Image.fromarray(random(3)), "TIFF", exif=tags)
    pixels = read(image)
    check(pixels, np.asarray(image))
    assert pixels.metadata["xmp"] == XMP


def test_tiff_has_no_offsets_into_the_old_exif() -> None:
    tags = tags_of(exif())
    tags.get_ifd(0x8769)[0xA005] = {1: "R98"}
    image = Image.fromarray(random(3))
    image.info["exif"] = tags.tobytes()
    assert 0xA005 in tags_of(tags.tobytes()).get_ifd(0x8769)
    again = tags_of(read(opened(save(image, "TIFF"))).metadata["exif"])
    assert set(again.get_ifd(0x8769)) == {0x9286}


@pytest.mark.skipif(int(PIL.__version__.split(".")[0]) < 13, reason="this Pillow writes no grey AVIF")
def test_grey_avif_stays_grey() -> None:
    assert read(opened(save(in_mode("L"), "AVIF"))).grey


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("grey", [False, True])
def test_metadata_through_every_format_that_has_it(kind: str, alpha: bool, grey: bool) -> None:
    if alpha and kind == "JPEG":
        pytest.skip("JPEG has no alpha")
    rgb = smooth()[..., :1].repeat(3, axis=-1) if grey else smooth()
    profile = GRAY if grey else SRGB
    metadata = {"icc": profile, "exif": exif(1).removeprefix(b"Exif\0\0"), "xmp": XMP}
    pixels = Pixels(rgb, grey, random() if alpha else None, metadata)
    image = to_image(pixels)
    assert image.info == {"icc_profile": profile, "exif": exif(1), "xmp": XMP}
    again = read(opened(save(image, kind)))
    stays_grey = grey and (kind in ("PNG", "JPEG", "TIFF") or again.grey)
    assert again.notes == ()
    assert again.grey == stays_grey
    assert again.metadata["xmp"] == XMP
    assert again.metadata.get("icc") == (None if grey and kind in ("WEBP", "AVIF") else profile)
    tags = tags_of(again.metadata["exif"])
    assert tags[0x0110] == "camera"
    assert tags.get_ifd(0x8769)[0x9286] == b"ASCII\0\0\0hello"
    assert tags.get_ifd(0x8825)[1] == "N"
    assert abs(again.rgb.astype(int) - rgb).max() <= (12 if kind in ("JPEG", "AVIF") else 0)
    assert (again.alpha is not None) == alpha
    stripped = read(opened(save(image, kind)), strip=True)
    assert (stripped.metadata, stripped.notes) == ({}, ())


def test_png_keeps_xmp_as_its_standard_says() -> None:
    data = save(to_image(Pixels(smooth(), False, None, {"xmp": XMP})), "PNG")
    assert b"iTXtXML:com.adobe.xmp\0\0\0\0\0" + XMP in data


def test_tags_of_another_file_do_not_spoil_a_tiff() -> None:
    tags = tags_of(exif())
    for tag, value in ((0x0100, 999), (0x0106, 6), (0x0116, 2), (0x0152, 1), (0x0103, 6), (0x011C, 2)):
        tags[tag] = value
    image = Image.fromarray(random(3))
    image.info["exif"] = tags.tobytes()
    again = read(opened(save(image, "TIFF")))
    check(again, np.asarray(image))
    assert set(tags_of(again.metadata["exif"])) == {0x0110, 0x8769, 0x8825}


def test_metadata_too_long_for_jpeg_is_dropped() -> None:
    long = exif() + bytes(70_000)
    image = to_image(
        Pixels(smooth(), False, None, {"exif": long[6:], "xmp": XMP + bytes(70_000), "icc": SRGB})
    )
    assert read(opened(save(image, "JPEG"))).metadata == {"icc": SRGB}


def test_xmp_of_another_type() -> None:
    image = Image.fromarray(smooth())
    image.info["xmp"] = XMP.decode()
    assert read(image).metadata == {"xmp": XMP}
    image.info["xmp"] = (1, 2)
    assert read(image).metadata == {} and "XMP is damaged" in read(image).notes[0]


# Colour profiles


@pytest.mark.parametrize(
    ("mode", "profile", "kept"),
    [
        ("RGB", SRGB, True),
        ("RGBA", SRGB, True),
        ("YCbCr", SRGB, True),
        ("L", GRAY, True),
        ("LA", GRAY, True),
        ("I;16", GRAY, True),
        ("RGB", GRAY, False),
        ("L", SRGB, False),
        ("1", SRGB, False),
        ("RGB", LAB, False),
        ("LAB", LAB, False),
        ("RGB", cmyk_profile(), False),
        ("RGB", b"nonsense", False),
        ("RGB", SRGB[:100], False),
        ("RGB", "text", False),
    ],
)
def test_only_profiles_that_fit_are_kept(mode: str, profile: Any, kept: bool) -> None:
    image = in_mode(mode)
    image.info["icc_profile"] = profile
    pixels = read(image)
    assert pixels.metadata == ({"icc": profile} if kept else {})
    assert kept != any("colour profile" in note for note in pixels.notes)


def test_cmyk_goes_through_its_profile() -> None:
    image = in_mode("CMYK")
    plain = read(image)
    assert plain.notes == ("CMYK converted to RGB without a colour profile",)
    np.testing.assert_array_equal(plain.rgb, np.asarray(image.convert("RGB")))
    profile = cmyk_profile()
    for source in (file_of(image, "TIFF", icc_profile=profile), file_of(image, "JPEG", icc_profile=profile)):
        pixels = read(source)
        expected = ImageCms.profileToProfile(
            source,
            ImageCms.getOpenProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            "RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        assert expected is not None
        check(pixels, np.asarray(expected))
        assert abs(pixels.rgb.astype(int) - plain.rgb).max() > 10
        assert pixels.metadata == {}
        assert pixels.notes == ("CMYK converted to sRGB by its colour profile, which is no longer needed",)


@pytest.mark.parametrize("profile", [b"nonsense", SRGB, cmyk_profile()[:600], "text"])
def test_cmyk_with_a_broken_profile(profile: Any) -> None:
    image = in_mode("CMYK")
    image.info["icc_profile"] = profile
    pixels = read(image)
    check(pixels, np.asarray(image.convert("RGB")))
    assert pixels.metadata == {} and "damaged or of another kind" in pixels.notes[0]


# Frames


def frames(format: str, count: int = 3) -> tuple[list[np.ndarray], Image.Image]:
    arrays = [random(3) for _ in range(count)]
    if format == "GIF":
        arrays = [np.full((HEIGHT, WIDTH, 3), 80 * i, np.uint8) for i in range(count)]
    first, *more = (Image.fromarray(array) for array in arrays)
    options = {"lossless": True} if format == "WEBP" else {}
    return arrays, file_of(first, format, save_all=True, append_images=more, **options)


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_animations_and_pages(format: str) -> None:
    arrays, image = frames(format)
    with pytest.raises(ImageError, match="from 0 to 2"):
        read(image)
    for i in (0, 2, 1):
        np.testing.assert_array_equal(read(image, frame=i).rgb, arrays[i])
    for bad in (3, -1):
        with pytest.raises(UsageError, match="3 frames"):
            read(image, frame=bad)


def test_single_pictures_have_frame_0() -> None:
    image = file_of(Image.fromarray(random(3)), "PNG")
    check(read(image, frame=0), np.asarray(image))
    with pytest.raises(UsageError, match="1 frame"):
        read(image, frame=1)


def test_previews_of_a_phone_do_not_count() -> None:
    first = Image.fromarray(smooth())
    image = file_of(first, "MPO", save_all=True, append_images=[Image.new("RGB", (4, 4))])
    assert image.format == "MPO"
    for frame in (None, 0):
        assert read(image, frame).rgb.shape == (HEIGHT, WIDTH, 3)


# Saving


@pytest.mark.parametrize("kind", ["JPEG", "PPM", "BMP", "MPO", "DIB"])
def test_no_alpha_is_lost_in_silence(kind: str) -> None:
    for mode in ("LA", "RGBA"):
        with pytest.raises(
            ImageError, match=f"{kind} cannot hold transparency: choose PNG, WebP, AVIF or TIFF"
        ):
            save(Image.new(mode, (2, 2)), kind)


@pytest.mark.parametrize(
    ("size", "kind"), [((2, 17_000), "WEBP"), ((70_000, 1), "JPEG"), ((2, 2), "NONE"), ((2, 2), "SPIDER2")]
)
def test_what_cannot_be_saved(size: tuple[int, int], kind: str) -> None:
    with pytest.raises(ImageError, match=f"cannot be saved as {kind}: ") as caught:
        save(Image.new("RGB", size), kind)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["PPM", "BMP", "GIF", "TGA", "JPEG2000"])
def test_formats_without_metadata(kind: str) -> None:
    image = to_image(Pixels(smooth(), False, None, {"icc": SRGB, "exif": exif(1)[6:], "xmp": XMP}))
    again = read(opened(save(image, kind)))
    assert again.metadata == {}
    assert kind == "GIF" or (again.rgb == smooth()).all()


def test_colour_is_not_subsampled() -> None:
    stripes = np.zeros((16, 16, 3), np.uint8)
    stripes[:, ::2, 0] = 255
    for kind in ("JPEG", "AVIF"):
        assert abs(read(opened(save(Image.fromarray(stripes), kind))).rgb.astype(int) - stripes).max() < 40


def test_every_size_to_image_and_back() -> None:
    for size in ((1, 1), (1, 40), (40, 1), (5, 57)):
        for channels in (2, 3, 4):
            array = rng.integers(0, 256, (*size, channels), dtype=np.uint8)
            pixels = read(array)
            colour = array[..., 0] if channels == 2 else array[..., :3]
            check(read(to_image(pixels)), colour, pixels.alpha, pixels.grey)

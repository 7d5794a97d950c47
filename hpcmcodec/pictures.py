"""A PIL picture to plain arrays and back: modes, alpha, orientation, metadata, and the files to save to."""

from __future__ import annotations

import io
import re
import struct
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, PngImagePlugin

from .errors import ImageError, UsageError

__all__ = ["Picture", "Pixels", "read", "save", "to_image"]

Picture = Image.Image | NDArray[np.uint8]

# Pixels are taken out of Pillow in strips of about this many, so that no large picture is copied on the way.
STRIP_PIXELS = 1 << 20

# Their further frames are a phone's previews and layers that the first one already holds.
SINGLE = ("MPO", "PSD")
DEEP = ("I", "I;16", "I;16L", "I;16B", "I;16N")
ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
GREY = ("1", "L", "LA", "La", *DEEP)
# Modes that Pillow converts, to which, and what there is to say about it.
CONVERTED = {
    "1": ("L", "1 bit per pixel converted to 8"),
    "La": ("LA", "premultiplied alpha converted to straight alpha"),
    "P": ("RGB", "palette converted to 8 bits per channel"),
    "PA": ("RGBA", "palette converted to 8 bits per channel"),
    "RGBa": ("RGBA", "premultiplied alpha converted to straight alpha"),
    "RGBX": ("RGB", None),
    "CMYK": ("RGB", "CMYK converted to RGB without a colour profile"),
    "HSV": ("RGB", "HSV converted to RGB"),
    "LAB": ("RGB", "LAB converted to RGB"),
    "YCbCr": ("RGB", "YCbCr converted to RGB"),
}
UNCONVERTED = ("L", "LA", "RGB", "RGBA", *DEEP)

INFO = {"icc": "icc_profile", "exif": "exif", "xmp": "xmp"}
ORIENTATION = 0x0112
EXIF_START = b"Exif\0\0"
EXIF_PREFIX = re.compile(b"^(?:Exif\0\0){1,2}")
XMP_ORIENTATION = re.compile(rb"""(tiff:Orientation(?:\s*=\s*["']|>))([0-9])""")
# Tags of EXIF that describe a picture; most others in a TIFF say how the pixels lie in that one file.
DESCRIPTIVE = (
    *(0x010E, 0x010F, 0x0110, 0x011A, 0x011B, 0x0128, 0x0131, 0x0132, 0x013B, 0x013C),
    *(0x4746, 0x4749, 0x8298, 0x8769, 0x8825, 0x9C9B, 0x9C9C, 0x9C9D, 0x9C9E, 0x9C9F),
)
TIFF_BITS, TIFF_COMPRESSION, TIFF_PHOTOMETRIC, TIFF_PLANES, TIFF_XMP = 258, 259, 262, 284, 700
EXIF_IFD, INTEROP_IFD = 0x8769, 0xA005

# What a decoder hands on should lose as little as its format allows.
SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "AVIF": {"quality": 95, "subsampling": "4:4:4"},
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True, "exact": True},
}
# Pillow drops alpha on the way to some of these without a word.
OPAQUE = ("BMP", "DIB", "JPEG", "MPO", "PPM")
JPEG_SEGMENT = 65533
XMP_HEADER = len(b"http://ns.adobe.com/xap/1.0/\0")


@dataclass(frozen=True, eq=False)
class Pixels:
    """A picture as plain arrays.

    Attributes:
        rgb: `H x W x 3`, upright; three equal channels for a grey picture.
        grey: whether it came as greyscale and goes out as greyscale.
        alpha: `H x W`, exact; None for a picture without.
        metadata: what there is of "icc" (a profile that fits the picture), "exif" (from the TIFF header on,
            without the "Exif" that some formats put before it) and "xmp", as raw bytes.
        notes: what was converted or left out, one plain line each.
    """

    rgb: NDArray[np.uint8]
    grey: bool
    alpha: NDArray[np.uint8] | None = None
    metadata: Mapping[str, bytes] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read(image: Picture, frame: int | None = None, strip: bool = False) -> Pixels:
    """Take a picture apart into 8-bit arrays and metadata.

    Args:
        image: a PIL picture, or a uint8 array `H x W`, `H x W x 2` (grey and alpha), `H x W x 3` or
            `H x W x 4`. An array is not copied where it need not be.
        frame: which one of an animation or of several pages, from 0; the picture is left standing there.
        strip: leave colour profile, EXIF and XMP out. The orientation is applied all the same.

    Raises:
        ImageError: the picture cannot be read, or is of a kind that cannot be coded.
        UsageError: there is no such frame.
    """
    if not isinstance(image, Image.Image):
        _check_frame(frame, 1)
        return _from_array(np.asarray(image))
    _seek(image, frame)
    with _one_line("the picture cannot be read"):
        samples = _Samples(image)
        image.load()
    if min(image.size) < 1:
        raise ImageError("the picture has no pixels")
    if image.mode not in CONVERTED and image.mode not in UNCONVERTED:
        what = "floating-point samples" if image.mode == "F" else f"the mode {image.mode}"
        raise ImageError(f"the picture has {what}, which cannot be coded: convert it to 8 or 16 bits first")

    notes, lost = list(samples.notes), list[str]()
    orientation, exif, xmp = _upright_metadata(image, lost)
    grey = samples.grey or image.mode in GREY or _has_grey_palette(image)
    convert = _converter(image, notes)
    with _one_line("the picture cannot be read"):
        rgb, alpha = _gather(image, samples, convert, orientation)
    if strip:
        return Pixels(rgb, grey, alpha, {}, tuple(notes))
    metadata = {"icc": _fitting_profile(image, grey, lost), "exif": exif, "xmp": xmp}
    metadata = {key: data for key, data in metadata.items() if data}
    return Pixels(rgb, grey, alpha, metadata, (*notes, *lost))


def to_image(pixels: Pixels) -> Image.Image:
    """The picture in PIL's mode L, LA, RGB or RGBA, its metadata in `info` where Pillow keeps it."""
    image = Image.fromarray(pixels.rgb[..., 0] if pixels.grey else pixels.rgb)
    if pixels.alpha is not None:
        image.putalpha(Image.fromarray(pixels.alpha))
    for key, data in pixels.metadata.items():
        image.info[INFO[key]] = EXIF_START + data if key == "exif" else data
    return image


def save(image: Image.Image, kind: str) -> bytes:
    """The bytes of a picture file, with as much of the metadata in `info` as the format can hold.

    Args:
        image: a PIL picture as `to_image` makes it.
        kind: Pillow's name of the format, as "PNG".

    Raises:
        ImageError: the format cannot hold this picture.
    """
    if kind in OPAQUE and image.has_transparency_data:
        raise ImageError(f"{kind} cannot hold transparency: choose PNG, WebP, AVIF or TIFF")
    buffer = io.BytesIO()
    with _one_line(f"the picture cannot be saved as {kind}"), warnings.catch_warnings():
        # Pillow parses EXIF for some formats, and warns of what it finds odd in it.
        warnings.filterwarnings("ignore", category=UserWarning, module="PIL.TiffImagePlugin")
        image.save(buffer, kind, **_save_options(image, kind))
    return buffer.getvalue()


@contextmanager
def _one_line(failure: str) -> Iterator[None]:
    """Damaged files make Pillow raise whatever its readers stumble over; a person needs one line of it."""
    try:
        yield
    except ImageError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{failure}: {reason}") from error


def _from_array(array: NDArray[Any]) -> Pixels:
    if array.dtype != np.uint8:
        raise ImageError(f"an array of {array.dtype} cannot be coded, only of uint8")
    if array.ndim not in (2, 3) or array.shape[2:] not in ((), (2,), (3,), (4,)):
        raise ImageError(
            f"an array of shape {array.shape} is no picture: H x W, or H x W x 2, 3 or 4 channels"
        )
    if min(array.shape) < 1:
        raise ImageError("the picture has no pixels")
    if array.ndim == 2:
        return Pixels(np.stack([array] * 3, axis=-1), grey=True)
    grey = array.shape[2] == 2
    rgb = np.stack([array[..., 0]] * 3, axis=-1) if grey else np.ascontiguousarray(array[..., :3])
    alpha = np.ascontiguousarray(array[..., -1]) if array.shape[2] in (2, 4) else None
    return Pixels(rgb, grey, alpha)


def _seek(image: Image.Image, frame: int | None) -> None:
    with _one_line("the picture cannot be read"):
        count = 1 if image.format in SINGLE else getattr(image, "n_frames", 1)
    if frame is None and count > 1:
        raise ImageError(
            "the picture is an animation or has several pages: say which frame to code,"
            f" from 0 to {count - 1}"
        )
    _check_frame(frame, count)
    if frame is not None and count > 1:
        with _one_line("the picture cannot be read"):
            image.seek(frame)


def _check_frame(frame: int | None, count: int) -> None:
    if frame is not None and not 0 <= frame < count:
        there = "is 1 frame" if count == 1 else f"are {count} frames"
        raise UsageError(f"no frame {frame}: there {there}, counted from 0")


class _Samples:
    """What the file tells of the samples and Pillow's mode does not, asked before the pixels are loaded.

    Pillow reads 16-bit colour as 8-bit RGB without a word, and leaves to its callers what the tags of a TIFF
    or the depth of a PNG mean for 16-bit grey and for the transparent colour.
    """

    def __init__(self, image: Image.Image) -> None:
        tiles = getattr(image, "tile", ())
        decoder, arguments = (tiles[0][0], tiles[0][3]) if tiles else ("", ())
        arguments = arguments if isinstance(arguments, tuple) else (arguments,)
        raw_mode = str(arguments[0]) if arguments else ""
        tags = getattr(image, "tag_v2", {})
        bits = max(tags.get(TIFF_BITS, (8,)))
        if bits > 8 and tags.get(TIFF_PLANES) == 2 and tags.get(TIFF_COMPRESSION) == 1:
            raise ImageError(
                "a TIFF of 16 bits in separate planes cannot be read: convert it to 8 bits first"
            )
        deep = decoder in ("ppm", "ppm_plain") and len(arguments) > 1 and arguments[1] > 255
        # BGR;16 has 16 bits for all three channels together.
        deep = deep or (";16" in raw_mode and not raw_mode.startswith("BGR"))
        self.grey = raw_mode.startswith("LA;16")
        self.bits = 12 if bits == 12 else 16
        self.inverted = tags.get(TIFF_PHOTOMETRIC) == 0
        self.notes = []
        if deep or image.mode in DEEP:
            self.notes.append(f"{self.bits} bits per channel converted to 8")
        if image.mode == "RGBA" and raw_mode.startswith("RGBa"):
            self.notes.append("premultiplied alpha converted to straight alpha")
        self.transparent = self._transparent(image, raw_mode, deep)
        if deep and image.mode == "RGB" and self.transparent is not None:
            self.notes.append("the transparent colour was compared at 8 bits")

    def _transparent(self, image: Image.Image, raw_mode: str, deep: bool) -> NDArray[np.int64] | None:
        """The colour that stands for transparency, on the scale of Pillow's samples."""
        key = image.info.get("transparency")
        if image.mode == "RGB" and isinstance(key, tuple) and len(key) == 3:
            return np.array([value >> 8 for value in key] if deep else [value & 0xFF for value in key])
        if image.mode not in ("1", "L", *DEEP) or not isinstance(key, int):
            return None
        if image.mode == "1":
            key = 255 if key else 0  # some versions of Pillow say 1
        if image.mode == "L" and image.format == "PNG":
            steps = {"L;2": 3, "L;4": 15}.get(raw_mode, 255)
            key = (key & steps) * (255 // steps)
        return np.array([key])


def _has_grey_palette(image: Image.Image) -> bool:
    """As a GIF of a grey picture, which has no other way to be grey."""
    if image.mode not in ("P", "PA") or _profile_space(image.info.get("icc_profile")) == "RGB":
        return False
    palette = np.array(image.getpalette("RGB") or (), np.uint8).reshape(-1, 3)
    return bool((palette == palette[:, :1]).all())


def _converter(image: Image.Image, notes: list[str]) -> Callable[[Image.Image], Image.Image]:
    """Strips of this picture to L, LA, RGB, RGBA or 16-bit grey."""
    if image.mode not in CONVERTED:
        return lambda part: part
    mode, note = CONVERTED[image.mode]
    if image.mode == "P" and image.has_transparency_data:
        mode = "RGBA"
    profile = image.info.get("icc_profile")
    if image.mode == "CMYK" and profile:
        try:
            transform = ImageCms.buildTransform(
                ImageCms.getOpenProfile(io.BytesIO(profile)),
                ImageCms.createProfile("sRGB"),
                "CMYK",
                "RGB",
                ImageCms.Intent.RELATIVE_COLORIMETRIC,
                ImageCms.Flags.BLACKPOINTCOMPENSATION,
            )
        except (ImageCms.PyCMSError, ImportError, OSError, TypeError, ValueError):
            notes.append(f"{note}, as its own is damaged or of another kind")
            return lambda part: part.convert(mode)
        notes.append("CMYK converted to sRGB by its colour profile, which is no longer needed")
        return transform.apply
    if note:
        notes.append(note)
    return lambda part: part.convert(mode)


def _gather(
    image: Image.Image,
    samples: _Samples,
    convert: Callable[[Image.Image], Image.Image],
    orientation: int,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """The picture's colour and alpha, upright, strip by strip."""
    width, height = image.size
    shape = (width, height) if orientation >= 5 else (height, width)
    rgb = np.empty((*shape, 3), np.uint8)
    # Other modes may carry a stale transparent colour.
    has_channel = image.mode in ALPHA or (image.mode == "P" and image.has_transparency_data)
    alpha = np.empty(shape, np.uint8) if has_channel or samples.transparent is not None else None
    rgb_as_stored = _as_stored(rgb, orientation)
    alpha_as_stored = None if alpha is None else _as_stored(alpha, orientation)
    rows = max(1, STRIP_PIXELS // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        values = np.asarray(convert(image.crop((0, top, width, bottom))))
        values = values.reshape(bottom - top, width, -1)
        if alpha_as_stored is not None:
            if samples.transparent is None:
                alpha_as_stored[top:bottom] = values[..., -1]
            else:
                opaque = (values != samples.transparent).any(axis=-1)
                alpha_as_stored[top:bottom] = opaque * np.uint8(255)
        if image.mode in DEEP:
            values = _to_8_bits(values, samples)
        rgb_as_stored[top:bottom] = values[..., : 3 if values.shape[2] >= 3 else 1]
    return rgb, alpha


def _to_8_bits(values: NDArray[Any], samples: _Samples) -> NDArray[np.uint8]:
    """Rounded, so that both ends of the scale and all that came from 8 bits are kept."""
    peak = 2**samples.bits - 1
    if values.min() < 0 or values.max() > peak:
        raise ImageError("the picture has more than 16 bits per channel: convert it to 8 or 16 first")
    eight = (values.astype(np.uint32) * 255 + peak // 2) // peak
    return (255 - eight if samples.inverted else eight).astype(np.uint8)


def _as_stored(upright: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """A view of the upright picture that lies as EXIF's orientation says the stored one does."""
    views: dict[int, Callable[[], NDArray[np.uint8]]] = {
        2: lambda: upright[:, ::-1],
        3: lambda: upright[::-1, ::-1],
        4: lambda: upright[::-1],
        5: lambda: upright.swapaxes(0, 1),
        6: lambda: np.rot90(upright, 1),
        7: lambda: upright[::-1, ::-1].swapaxes(0, 1),
        8: lambda: np.rot90(upright, -1),
    }
    return views.get(orientation, lambda: upright)()


def _upright_metadata(image: Image.Image, lost: list[str]) -> tuple[int, bytes, bytes]:
    """The orientation to apply, and EXIF and XMP that no longer ask for it."""
    orientation: int | None = None
    try:
        exif = _exif(image)
        if exif:
            orientation, exif = _take_orientation(exif)
    except Exception:  # Pillow raises what it likes here too
        exif = b""
        lost.append("EXIF is damaged and left out")
    xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    if isinstance(xmp, str):
        xmp = xmp.encode()
    if not isinstance(xmp, bytes):
        xmp = b""
        lost.append("XMP is damaged and left out")
    if orientation is None and (match := XMP_ORIENTATION.search(xmp)):
        orientation = int(match[2])
    # Pillow turns TIFFs as it loads them.
    if orientation is None or not 1 <= orientation <= 8 or hasattr(image, "tag_v2"):
        orientation = 1
    return orientation, exif, XMP_ORIENTATION.sub(rb"\g<1>1", xmp)


def _exif(image: Image.Image) -> bytes:
    """From the TIFF header on."""
    info = image.info
    if "exif" in info:
        return EXIF_PREFIX.sub(b"", info["exif"] or b"")
    if "Raw profile type exif" in info:  # ImageMagick's hexadecimal lines
        lines = info["Raw profile type exif"].split("\n")[3:]
        return EXIF_PREFIX.sub(b"", bytes.fromhex("".join(lines)))
    if hasattr(image, "tag_v2"):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=UserWarning, module="PIL.TiffImagePlugin")
            exif = _descriptive(image.getexif().tobytes())
            return EXIF_PREFIX.sub(b"", exif.tobytes()) if exif else b""
    return b""


def _descriptive(data: bytes) -> Image.Exif:
    """What in these EXIF bytes is about the picture and not about how one file holds it."""
    exif = Image.Exif()
    exif.load(data)
    for tag in list(exif):
        if tag not in DESCRIPTIVE:
            del exif[tag]
    return exif


def _take_orientation(exif: bytes) -> tuple[int | None, bytes]:
    """EXIF's orientation, None if it has none, and the same bytes with 1 in its place.

    Only that number is changed: to write EXIF anew would lose thumbnails and what makers' notes point to.

    Raises:
        KeyError, struct.error: this is no EXIF, or it is cut short.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}[exif[:4]]
    (start,) = struct.unpack_from(f"{order}L", exif, 4)
    (count,) = struct.unpack_from(f"{order}H", exif, start)
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, _, _ = struct.unpack_from(f"{order}HHLL", exif, entry)
        if tag == ORIENTATION and kind in (1, 3, 4):
            number = order + {1: "B", 3: "H", 4: "L"}[kind]
            (orientation,) = struct.unpack_from(number, exif, entry + 8)
            upright = bytearray(exif)
            struct.pack_into(number, upright, entry + 8, 1)
            return orientation, bytes(upright)
    return None, exif


def _profile_space(profile: object) -> str:
    """The colour space an ICC profile is for, as "RGB", "GRAY" or "CMYK"; empty if it is no profile."""
    if not isinstance(profile, bytes) or len(profile) < 128 or profile[36:40] != b"acsp":
        return ""
    return profile[16:20].decode("latin-1").strip()


def _fitting_profile(image: Image.Image, grey: bool, lost: list[str]) -> bytes:
    profile = image.info.get("icc_profile")
    if not profile or image.mode == "CMYK":
        return b""
    space = _profile_space(profile)
    if space == ("GRAY" if grey else "RGB"):
        return bytes(profile)
    reason = f"is for {space}, not for {'grey' if grey else 'RGB'}," if space else "is damaged"
    lost.append(f"the colour profile {reason} and left out")
    return b""


def _save_options(image: Image.Image, kind: str) -> dict[str, Any]:
    """Pillow's options for a format; what it would take from `info` by itself is always named."""
    options = dict(SAVE_OPTIONS.get(kind, {}))
    icc, exif, xmp = (image.info.get(key) or b"" for key in ("icc_profile", "exif", "xmp"))
    exif = EXIF_START + EXIF_PREFIX.sub(b"", exif) if exif else b""
    if kind in ("AVIF", "WEBP") and _profile_space(icc) == "GRAY":
        icc = b""  # grey may become RGB there, which a grey profile does not describe
    if kind == "AVIF":
        if image.mode == "L":
            del options["subsampling"]  # by default Pillow 13 keeps grey grey
        return {**options, "icc_profile": icc, "exif": exif if _is_parsable(exif) else b"", "xmp": xmp}
    if kind in ("JPEG", "MPO"):
        exif = exif if len(exif) <= JPEG_SEGMENT else b""
        xmp = xmp if len(xmp) <= JPEG_SEGMENT - XMP_HEADER else b""
        return {**options, "icc_profile": icc, "exif": exif, "xmp": xmp}
    if kind == "PNG":
        text = PngImagePlugin.PngInfo()
        if xmp:
            text.add_itxt("XML:com.adobe.xmp", xmp)
        return {**options, "icc_profile": icc, "exif": exif, "pnginfo": text}
    if kind == "TIFF":
        tags = _tiff_tags(exif)
        if xmp:
            tags[TIFF_XMP] = xmp
        return {**options, "icc_profile": icc, "exif": tags}
    if kind == "WEBP":
        return {**options, "icc_profile": icc, "exif": exif, "xmp": xmp}
    return options


def _is_parsable(exif: bytes) -> bool:
    try:
        parsed = Image.Exif()
        parsed.load(exif)
        parsed.tobytes()
    except Exception:  # whatever Pillow raises now it would raise while it saves
        return False
    return True


def _tiff_tags(exif: bytes) -> Image.Exif:
    """EXIF as tags for Pillow to write into a TIFF; none where it cannot be parsed."""
    if not _is_parsable(exif):
        return Image.Exif()
    tags = _descriptive(exif)
    if EXIF_IFD in tags:
        tags.get_ifd(EXIF_IFD).pop(INTEROP_IFD, None)  # an offset into the old bytes
    return tags

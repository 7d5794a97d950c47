"""EXIF and XMP that are true of the picture they go with: upright, of its size, and alone in its file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction

from PIL import Image

from . import xmp
from .exif import EXIF_IFD, EXIF_PREFIX, EXIF_START, GPS_IFD, INTEROP_IFD, Density, Tags

__all__ = ["cropped_metadata", "descriptive", "raw_profiles", "turn_by_pillow", "upright_metadata"]

ORIENTATION = 0x0112

# Tags of EXIF that describe a picture; most others in a TIFF say how the pixels lie in that one file.
DESCRIPTIVE = (
    *(0x010E, 0x010F, 0x0110, 0x011A, 0x011B, 0x0128, 0x0131, 0x0132, 0x013B, 0x013C),
    *(0x4746, 0x4749, 0x8298, 0x8769, 0x8825, 0x9C9B, 0x9C9C, 0x9C9D, 0x9C9E, 0x9C9F),
)
# These say themselves how their pixels are turned; what XMP says of it is for information only.
TURNED_BY_THEMSELVES = ("AVIF", "HEIF")
EXIF_BEGINNINGS = (EXIF_START[:4], b"II*\0", b"MM\0*")
RAW_PROFILE = "raw profile type "
TEXTS_READ = ("xml:com.adobe.xmp", *(RAW_PROFILE + kind for kind in ("app1", "exif", "icc", "icm", "xmp")))
IPTC_TEXTS = RAW_PROFILE + "iptc", RAW_PROFILE + "8bim"
IPTC_TAG, IPTC_RESOURCE = 0x83BB, 0x0404
MOST_NAMED = 5
LONGEST = xmp.LONGEST  # what a .hpcm file holds of each
HIGHEST_DENSITY = 100_000


def turn_by_pillow(image: Image.Image) -> int:
    """The orientation that Pillow applies to a TIFF as it loads it, 1 for others; to be asked before."""
    orientation = getattr(image, "tag_v2", {}).get(ORIENTATION, 1)
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def upright_metadata(image: Image.Image, lost: list[str], turned: int = 1) -> tuple[int, bytes, bytes]:
    """The orientation to apply, and EXIF and XMP for the picture that is then upright.

    Args:
        image: loaded.
        lost: takes a line for each thing that is left out.
        turned: what `turn_by_pillow` said before the picture was loaded.
    """
    orientation, exif, packet = None, b"", b""
    with _or_left_out("EXIF", lost):
        found = _exif(image)
        orientation = Tags(found).orientation if found else None
        exif = found
    with _or_left_out("XMP", lost):
        packet = _xmp(image)
    if orientation is None and image.format not in TURNED_BY_THEMSELVES:
        orientation = xmp.orientation(packet)
    if orientation is None or not 1 <= orientation <= 8 or hasattr(image, "tag_v2"):
        orientation = 1
    turn = max(orientation, turned)
    size = image.size[::-1] if orientation >= 5 else image.size
    exif = _fitting_exif(exif, lost, size, turn, density=_density(image))
    packet = _fitting_xmp(packet, lost, size, moved=turn != 1)
    lost += _not_kept(image)
    return orientation, exif, packet


def cropped_metadata(
    metadata: Mapping[str, bytes], width: int, height: int, lost: list[str]
) -> dict[str, bytes]:
    """The metadata of a picture for a part of it, of this size, which must not show the rest.

    Args:
        lost: takes a line for each thing that is left out.
    """
    exif = EXIF_PREFIX.sub(b"", metadata.get("exif", b""))
    fitting = {
        "exif": _fitting_exif(exif, lost, (width, height), cropped=True),
        "xmp": _fitting_xmp(metadata.get("xmp", b""), lost, (width, height), moved=True),
    }
    return {key: data for key, data in {**metadata, **fitting}.items() if data}


def descriptive(source: Image.Exif) -> bytes:
    """What in this EXIF is about the picture and not about how one file holds it, written anew."""
    exif = Image.Exif()
    for tag in DESCRIPTIVE:
        if tag in source:
            exif[tag] = source.get_ifd(tag) if tag in (EXIF_IFD, GPS_IFD) else source[tag]
    if EXIF_IFD in exif:
        details = dict(exif[EXIF_IFD])
        details.pop(INTEROP_IFD, None)  # an offset into the old bytes
        exif[EXIF_IFD] = details
    return exif.tobytes() if exif else b""


@contextmanager
def _or_left_out(what: str, lost: list[str]) -> Iterator[None]:
    try:
        yield
    except Exception:  # Pillow raises what it likes here too
        lost.append(f"{what} is damaged and left out")


def _fitting_exif(
    exif: bytes,
    lost: list[str],
    size: tuple[int, int],
    turn: int = 1,
    *,
    cropped: bool = False,
    density: Density | None = None,
) -> bytes:
    if not exif and not density:
        return b""
    fitting = b""
    with _or_left_out("EXIF", lost):
        tags = Tags(exif) if exif else Tags.empty()
        if (turn != 1 or cropped) and tags.drop_thumbnails():
            lost.append("the EXIF thumbnail no longer fits the picture and is left out")
        if (turn != 1 or cropped) and tags.drop_subjects():
            lost.append("the place of the subject in EXIF no longer fits the picture and is left out")
        if cropped and tags.drop_previews():
            lost.append("a maker's note in EXIF has a preview of the whole picture and is left out")
        tags.fit(*size)
        density = density or tags.density
        if density:
            tags.set_density(density.turned() if turn >= 5 else density)
        fitting = bytes(tags.data)
    return _short(fitting, "EXIF", lost)


def _fitting_xmp(packet: bytes, lost: list[str], size: tuple[int, int], moved: bool) -> bytes:
    fitting = b""
    with _or_left_out("XMP", lost):
        if packet:
            fitting, gone = xmp.fit(packet, *size, moved)
            if gone:
                lost.append(f"XMP no longer speaks of what is not kept: {', '.join(gone)}")
    return _short(fitting, "XMP", lost)


def _short(data: bytes, what: str, lost: list[str]) -> bytes:
    if len(data) <= LONGEST:
        return data
    lost.append(f"{what} of {len(data):,} bytes is too long and left out")
    return b""


def _exif(image: Image.Image) -> bytes:
    """From the TIFF header on."""
    if "exif" in image.info:
        return EXIF_PREFIX.sub(b"", image.info["exif"] or b"")
    for profile in raw_profiles(image, "exif", "app1"):
        if profile[:4] in EXIF_BEGINNINGS:
            return EXIF_PREFIX.sub(b"", profile)
    if hasattr(image, "tag_v2"):
        return EXIF_PREFIX.sub(b"", descriptive(image.getexif()))
    return b""


def _xmp(image: Image.Image) -> bytes:
    """With its extension, if that is there."""
    profiles = (
        profile for profile in raw_profiles(image, "xmp", "app1") if profile[:4] not in EXIF_BEGINNINGS
    )
    packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or next(profiles, b"")
    packet = xmp.as_utf8(packet)
    segments = (data for name, data in getattr(image, "applist", ()) if name == "APP1")
    try:
        return xmp.join(packet, segments)
    except ValueError:  # then it is made not to speak of one
        return packet


def _not_kept(image: Image.Image) -> Iterator[str]:
    """What is said of a picture in ways that a `.hpcm` file has no room for."""
    texts = [key for key in getattr(image, "text", {}) if key.lower() not in TEXTS_READ]
    iptc = [key for key in texts if key.lower() in IPTC_TEXTS]
    resources = image.info.get("photoshop")
    resources = resources if isinstance(resources, dict) else {}
    numbers = {*resources, *(number for number, _, _ in getattr(image, "resources", ()))}
    if iptc or IPTC_RESOURCE in numbers or IPTC_TAG in getattr(image, "tag_v2", {}):
        yield "IPTC is left out"
    if image.info.get("comment") and image.format in ("GIF", "JPEG", "MPO"):
        yield f"the {image.format}'s comment is left out"
    others = [key for key in texts if key not in iptc and key.isprintable()]
    if others:
        yield f"texts of the PNG are left out: {', '.join(others[:MOST_NAMED])}"


def raw_profiles(image: Image.Image, *kinds: str) -> Iterator[bytes]:
    """What ImageMagick and others write into a PNG as text: a name, a length and hexadecimal lines."""
    for key, text in list(image.info.items()):
        if isinstance(key, str) and key.lower() in [RAW_PROFILE + kind for kind in kinds]:
            _, length, *lines = str(text).split()
            data = bytes.fromhex("".join(lines))
            if len(data) != int(length):
                raise ValueError("the length is wrong")
            yield data.removeprefix(xmp.START)


def _density(image: Image.Image) -> Density | None:
    """Pixels per unit as the file itself says, outside of EXIF."""
    info = image.info
    if "jfif_unit" in info:
        return _as_density(info.get("jfif_density"), {1: 2, 2: 3}.get(info["jfif_unit"], 1))
    if image.format in ("JPEG", "MPO", "TIFF"):
        return None  # Pillow makes one up, or takes it from EXIF
    return _as_density(info.get("dpi"), 2) or _as_density(info.get("aspect"), 1)


def _as_density(values: object, unit: int) -> Density | None:
    try:
        x, y = (Fraction(float(value)).limit_denominator(10_000) for value in values)  # type: ignore[attr-defined]
    except (OverflowError, TypeError, ValueError):
        return None
    if not 0 < min(x, y) <= max(x, y) < HIGHEST_DENSITY or x == y == 1:
        return None  # 1 is what writers put who know of none
    return Density(x, y, unit) if unit != 1 or x != y else None

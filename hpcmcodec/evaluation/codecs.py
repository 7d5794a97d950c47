"""The codecs that others use, to be measured beside this one: JPEG, WebP, AVIF, JPEG XL, JPEG 2000.

Each is a row of `ANCHORS`, coded by Pillow at the settings of its encoder, save that colour has full
resolution (4:4:4) wherever the format allows it. A row `NAME-best` spares no time, and `avif-psnr` is tuned
for the measure that most comparisons go by.
"""

from __future__ import annotations

import importlib
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL
from PIL import Image, features

from .. import pictures
from ..errors import HpcmError, ImageError, UsageError
from ..pictures.pillow import one_line
from ..search import Goal, find, spread

__all__ = ["ANCHORS", "EFFORTS", "FAR", "TOLERANCE", "Anchor", "Sized", "anchors", "reach"]

Pixels = npt.NDArray[np.uint8]

EFFORTS = ("default", "best")
# A size within this share of its target has reached it.
TOLERANCE = 0.005
# Where the nearest is farther away than this, so many qualities are tried all over the range.
FAR, SCANNED = 0.05, 9

PLUGIN, PLUGIN_MODULE = "pillow-jxl-plugin", "pillow_jxl"


def _by_quality(quality: float) -> dict[str, Any]:
    return {"quality": quality}


def _by_rate(bpp: float) -> dict[str, Any]:
    return {"quality_layers": [24 / bpp]}


def _by_quality_or_lossless(quality: float) -> dict[str, Any]:
    """At 100 libjxl codes without loss, and the plugin fails unless it is told so."""
    return {"lossless": True} if quality == 100 else {"quality": quality}


@dataclass(frozen=True)
class Anchor:
    """One codec; its files grow with its quality.

    Attributes:
        name: short and unique, as "avif" or "avif-best". title: for a plot or a table.
        library: what does the work. format: Pillow's name of the format. feature: Pillow's name of the
            library, with which it was built; None if a plugin does it.
        qualities: what a rate-distortion curve is measured at, rising; on photos about 27 to 42 dB.
        low, high, step: the qualities that there are. What they mean is the codec's own: bits per pixel for
            JPEG 2000, the encoder's scale for all others.
        options: what Pillow's `save` takes for a quality. fixed: what it takes besides.
        chroma: "4:4:4", or "4:2:0" if the format can do no better.
    """

    name: str
    title: str
    library: str
    format: str
    feature: str | None
    qualities: tuple[float, ...]
    low: float = 0
    high: float = 100
    step: float = 1
    options: Callable[[float], Mapping[str, Any]] = _by_quality
    fixed: Mapping[str, Any] = field(default_factory=dict)
    chroma: str = "4:4:4"

    @property
    def settings(self) -> dict[str, Any]:
        """What distinguishes it, for a program that reads the results."""
        return {"codec": self.name.partition("-")[0], **self.fixed}

    @property
    def description(self) -> str:
        """Versions and settings, for a reader of the results."""
        if self.feature is not None:
            version = features.version(self.feature)
        else:
            version = metadata.version(PLUGIN) if self.available() else None
        options = {**self.fixed, **self.fixed.get("advanced", {})}
        fixed = (f"{key} {options[key]}" for key in options if key not in ("advanced", "subsampling"))
        library = f"{self.library} {version or '(missing)'} by Pillow {PIL.__version__}"
        return ", ".join((library, self.chroma, *fixed))

    def available(self) -> bool:
        """Whether this codec can be used here; `missing` says why not."""
        return self.missing() is None

    def missing(self) -> str | None:
        """None if this codec can be used here, or one line on what it lacks."""
        if self.feature is None:
            try:
                importlib.import_module(PLUGIN_MODULE)  # which adds itself to Pillow's formats
            except ImportError as error:
                return (
                    f"{self.title}: the package {PLUGIN} cannot be imported ({error}):"
                    " install hpcmcodec with its extra 'bench'"
                )
        elif not features.check(self.feature):
            return f"{self.title}: the installed Pillow was built without {self.library}"
        return None

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        """The file of a picture.

        Args:
            pixels: uint8, H x W x 3, sRGB.
            quality: `low` to `high`; a whole number where `step` is 1.

        Raises:
            UsageError: another kind of array, or a quality that does not exist.
            ImageError: the codec refuses the picture, as WebP does one with a side above 16383.
            HpcmError: the codec is missing here.
        """
        self._require()
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
            raise UsageError(f"an 8-bit picture of H x W x 3 is needed, not {pixels.dtype} of {pixels.shape}")
        whole = self.step == 1
        if not self.low <= quality <= self.high or (whole and quality % 1):
            scale = f"{'whole numbers ' if whole else ''}from {self.low:g} to {self.high:g}"
            raise UsageError(f"the qualities of {self.title} are {scale}, not {quality:g}")
        options = {**self.options(int(quality) if whole else quality), **self.fixed}
        file = io.BytesIO()
        with one_line(f"{self.title} cannot code the picture"):
            Image.fromarray(pixels).save(file, self.format, **options)
        return file.getvalue()

    def decode(self, data: bytes) -> Pixels:
        """The picture of a file, uint8, H x W x 3, an array of its own.

        Raises:
            ImageError: the file is damaged or of another format.
            HpcmError: the codec is missing here.
        """
        self._require()
        try:
            with (
                one_line("it cannot be read"),
                pictures.open_picture(data, "it", formats=(self.format,), repair=False) as image,
            ):
                return np.array(image.convert("RGB"))
        except ImageError as error:
            raise ImageError(f"{self.title} cannot decode the file: {error}") from error

    def _require(self) -> None:
        reason = self.missing()
        if reason:
            raise HpcmError(reason)


@dataclass(frozen=True)
class Sized:
    """A file, the quality that led to it, and its size: bpp is 8 * bytes / (width * height)."""

    data: bytes
    quality: float
    bpp: float


def anchors(names: Sequence[str], effort: str = "default") -> list[Anchor]:
    """The rows of these names, each once; with effort "best", each followed by its `NAME-best` if it has one.

    Raises:
        UsageError: there is no such codec or effort.
    """
    if effort not in EFFORTS:
        raise UsageError(f"there is no effort {effort!r}: choose from {', '.join(EFFORTS)}")
    chosen: dict[str, Anchor] = {}
    for name in names:
        if name not in ANCHORS:
            raise UsageError(f"there is no codec {name!r}: choose from {', '.join(ANCHORS)}")
        chosen[name] = ANCHORS[name]
        best = ANCHORS.get(f"{name}-best")
        if effort == "best" and best is not None:
            chosen[best.name] = best
    return list(chosen.values())


def reach(codec: Anchor, pixels: Pixels, bpp: float) -> Sized:
    """The file that comes nearest to a size, of those that a search over the qualities of a codec makes.

    It ends within `TOLERANCE` of the target, or with the better of the two qualities around it, or at the end
    of the range if the target lies beyond: compare its `bpp` with what was asked for. A quality at which the
    codec fails is left out.

    Args:
        pixels: uint8, H x W x 3.
        bpp: bits per pixel, container included.

    Raises:
        UsageError: `bpp` is not positive and finite.
        ImageError: the codec refuses the picture at every quality that was tried.
        HpcmError: the codec is missing here.
    """
    if not (bpp > 0 and math.isfinite(bpp)):
        raise UsageError(f"the target is a positive number of bits per pixel, not {bpp:g}")
    failures: list[ImageError] = []

    def attempt(setting: int) -> tuple[float, Sized] | None:
        quality = round(codec.low + setting * codec.step, 6)
        try:
            data = codec.encode(pixels, quality)
        except ImageError as error:
            failures.append(error)
            return None
        size = 8 * len(data) / (pixels.shape[0] * pixels.shape[1])
        return math.log(bpp / size), Sized(data, quality, size)

    last = round((codec.high - codec.low) / codec.step)
    found = find(attempt, last, Goal(0, TOLERANCE, FAR), lambda best: spread(last, SCANNED))
    if found is None:
        raise failures[0]
    return found.result


def _like(row: Anchor, name: str, title: str, **fixed: Any) -> Anchor:
    return replace(row, name=name, title=title, fixed={**row.fixed, **fixed})


_TENS = (10, 20, 30, 40, 50, 60, 70, 80, 90)

_JPEG = Anchor(
    "jpeg", "JPEG", "libjpeg", "JPEG", "jpg", (5, *_TENS, 95), low=1, fixed={"subsampling": "4:4:4"}
)
_WEBP = Anchor("webp", "WebP", "libwebp", "WEBP", "webp", (1, *_TENS, 95), step=0.25, chroma="4:2:0")
_AVIF = Anchor("avif", "AVIF", "libavif", "AVIF", "avif", _TENS, fixed={"subsampling": "4:4:4"})
# Unasked, libavif tunes for the eye, since 1.4 at 8 % more bits for the PSNR of Kodak.
_AVIF_PSNR = _like(_AVIF, "avif-psnr", "AVIF for PSNR", advanced={"tune": "psnr"})
_JXL = Anchor("jxl", "JPEG XL", PLUGIN, "JXL", None, (*_TENS, 95), step=0.1, options=_by_quality_or_lossless)
_JPEG2000 = Anchor(
    "jpeg2000",
    "JPEG 2000",
    "OpenJPEG",
    "JPEG2000",
    "jpg_2000",
    (0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3),
    low=0.01,
    high=24,
    step=0.001,
    options=_by_rate,
    # Pillow's own defaults are lossless and code R, G and B apart, which takes twice the bits.
    fixed={"quality_mode": "rates", "irreversible": True, "mct": 1},
)

ANCHORS: dict[str, Anchor] = {
    row.name: row
    for row in (
        _JPEG,
        _like(_JPEG, "jpeg-best", "JPEG, optimised", optimize=True, progressive=True),
        _WEBP,
        _like(_WEBP, "webp-best", "WebP, method 6", method=6),
        _AVIF,
        _AVIF_PSNR,
        _like(_AVIF_PSNR, "avif-best", "AVIF for PSNR, speed 2", speed=2),
        _JXL,
        _like(_JXL, "jxl-best", "JPEG XL, effort 9", effort=9),
        _JPEG2000,
    )
}

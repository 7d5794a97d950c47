"""Colour spaces as numbers, ICC profiles made of them, and the way from a profile to sRGB."""

from __future__ import annotations

import io
import itertools
import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

__all__ = [
    "ADOBE_RGB",
    "BT709_CURVE",
    "SRGB",
    "SRGB_CURVE",
    "Colours",
    "Curve",
    "Primaries",
    "changes_nothing",
    "gamma",
    "make_profile",
    "profile_space",
    "to_srgb",
]

# What LittleCMS and Pillow raise for a profile that they cannot use.
UNUSABLE = (ImageCms.PyCMSError, ImportError, OSError, TypeError, ValueError)

D50 = np.array([0.9642, 1.0, 0.8249])
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])

# The linear light at half of the scale, of curves that spread 256 levels as the eye does; sRGB's is 0.214.
EVEN = 0.13, 0.32

Primaries = tuple[float, float, float, float, float, float, float, float]  # x, y of red, green, blue, white


@dataclass(frozen=True)
class Curve:
    """From samples to linear light, both 0 to 1: (a x + b) ** g from d on, c x below; or a table."""

    g: float = 1.0
    a: float = 1.0
    b: float = 0.0
    c: float = 0.0
    d: float = 0.0
    table: tuple[float, ...] = ()

    def __call__(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.table:
            return np.interp(x, np.linspace(0, 1, len(self.table)), self.table)
        return np.where(x >= self.d, np.maximum(self.a * x + self.b, 0) ** self.g, self.c * x)

    def tag(self) -> bytes:
        """As ICC writes it."""
        if self.table:
            values = np.round(np.clip(self.table, 0, 1) * 65535).astype(">u2")
            return b"curv" + struct.pack(">4xL", len(values)) + values.tobytes()
        return b"para" + struct.pack(">4xH2x", 3) + _fixed(self.g, self.a, self.b, self.c, self.d)


def gamma(exponent: float) -> Curve:
    return Curve(exponent)


SRGB_CURVE = Curve(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
BT709_CURVE = Curve(1 / 0.45, 1 / 1.0993, 0.0993 / 1.0993, 1 / 4.5, 0.0812)


@dataclass(frozen=True)
class Colours:
    """What the samples of a picture mean.

    narrow: black is 16 and white is 235 of 255. curves: one, or one for each channel.
    """

    primaries: Primaries
    curves: tuple[Curve, ...] = (SRGB_CURVE,)
    narrow: bool = False

    def recoded(self, levels: int, grey: bool) -> tuple[Colours, NDArray[np.uint8] | None]:
        """These colours with samples as 8 bits hold them best, and the tables of `levels` x 3 to get there.

        Curves that are far from the eye's, linear light above all, give way to sRGB's: in 8 bits they have
        too few levels for what is dark. Others stay as they are, and so do their samples.
        """
        middle = [float(curve(np.array([0.5]))[0]) for curve in self.curves]
        unequal = grey and len(self.curves) > 1
        if not self.narrow and not unequal and all(EVEN[0] <= value <= EVEN[1] for value in middle):
            return self, None
        x = np.linspace(0, 1, levels)
        if self.narrow:
            x = np.clip((255 * x - 16) / 219, 0, 1)
        lines = [np.round(255 * _srgb_samples(curve(x))).astype(np.uint8) for curve in self.curves]
        tables = np.stack(lines if len(lines) == 3 else lines[:1] * 3, axis=-1)
        return Colours(self.primaries), tables

    def is_srgb(self, grey: bool) -> bool:
        """Nearly enough that nobody writes it down; a plain 1 / 2.2 stands for sRGB's curve, as PNG says."""
        return (
            not self.narrow
            and all(_is_srgb_curve(curve) for curve in self.curves)
            and (grey or float(np.abs(np.subtract(self.primaries, SRGB.primaries)).max()) < 0.004)
        )


SRGB = Colours((0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290))
ADOBE_RGB = Colours((0.64, 0.33, 0.21, 0.71, 0.15, 0.06, 0.3127, 0.3290), (gamma(563 / 256),))


def _is_srgb_curve(curve: Curve) -> bool:
    x = np.linspace(0, 1, 256)
    plain = not curve.table and curve == Curve(curve.g) and abs(curve.g - 2.2) < 0.03
    return plain or float(np.abs(_srgb_samples(curve(x)) - x).max()) < 1.5 / 255


def _srgb_samples(light: NDArray[np.float64]) -> NDArray[np.float64]:
    light = np.clip(light, 0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def _fixed(*values: float) -> bytes:
    return struct.pack(f">{len(values)}l", *(round(value * 65536) for value in values))


def make_profile(colours: Colours, grey: bool) -> bytes:
    """An ICC profile, version 4.3, of one channel or three.

    Raises:
        ValueError: such primaries make no colour space.
    """
    curves = [curve.tag() for curve in colours.curves]
    blocks = {b"desc": _text("made of what the picture's file said"), b"cprt": _text("no copyright")}
    blocks[b"wtpt"] = b"XYZ " + bytes(4) + _fixed(*D50)
    if grey:
        blocks[b"kTRC"] = curves[0]
    else:
        adapt, matrix = _to_d50(colours.primaries)
        blocks[b"chad"] = b"sf32" + bytes(4) + _fixed(*adapt.ravel())
        for channel, column, curve in zip("rgb", matrix.T, itertools.cycle(curves), strict=False):
            blocks[f"{channel}XYZ".encode()] = b"XYZ " + bytes(4) + _fixed(*column)
            blocks[f"{channel}TRC".encode()] = curve
    start = 128 + 4 + 12 * len(blocks)
    table, body = struct.pack(">L", len(blocks)), b""
    for name, block in blocks.items():
        table += name + struct.pack(">2L", start + len(body), len(block))
        body += block + bytes(-len(block) % 4)
    head = struct.pack(
        ">L4xL4s4s4s", start + len(body), 0x04300000, b"mntr", b"GRAY" if grey else b"RGB ", b"XYZ "
    )
    head += struct.pack(">6H4s", 2000, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + _fixed(*D50)
    return head.ljust(128, b"\0") + table + body


def _text(text: str) -> bytes:
    data = text.encode("utf-16-be")
    return b"mluc" + struct.pack(">4x2L4s2L", 1, 12, b"enUS", len(data), 28) + data


def _to_d50(primaries: Primaries) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The adaptation of the white, and XYZ of red, green and blue (in columns) after it."""
    x, y = np.array(primaries).reshape(4, 2).T
    if not np.isfinite([x, y]).all() or y[3] <= 0:
        raise ValueError("no such colours")
    xyz = np.stack([x, y, 1 - x - y])
    colours, white = xyz[:, :3], xyz[:, 3] / y[3]
    if abs(np.linalg.det(colours)) < 1e-6:
        raise ValueError("colours that are all on one line")
    scale = np.linalg.solve(colours, white)
    if min(scale) <= 0:
        raise ValueError("a white that is none of these colours")
    adapt = np.linalg.solve(BRADFORD, np.diag(BRADFORD @ D50 / (BRADFORD @ white)) @ BRADFORD)
    return adapt, adapt @ colours * scale


def profile_space(profile: object) -> str:
    """The colour space an ICC profile is for, as "RGB", "GRAY" or "CMYK"; empty if it is no profile."""
    if not isinstance(profile, bytes) or len(profile) < 128 or profile[36:40] != b"acsp":
        return ""
    return profile[16:20].decode("latin-1").strip()


def to_srgb(profile: bytes, mode: str, to: str) -> Callable[[Image.Image], Image.Image] | None:
    """The way from a mode with this profile to RGB in sRGB, or to L with its curve; None if there is none."""
    try:
        grey = ImageCms.getOpenProfile(io.BytesIO(make_profile(SRGB, grey=True)))
        srgb = grey if to == "L" else ImageCms.createProfile("sRGB")
        return ImageCms.buildTransform(
            ImageCms.getOpenProfile(io.BytesIO(profile)),
            srgb,
            mode,
            to,
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        ).apply
    except UNUSABLE:
        return None


def changes_nothing(way: Callable[[Image.Image], Image.Image], grey: bool) -> bool:
    """Whether a way to sRGB starts at sRGB, give or take a level."""
    steps = np.linspace(0, 255, 9 if not grey else 256).astype(np.uint8)
    colours = steps[None] if grey else np.array([list(itertools.product(steps, repeat=3))])
    return int(np.abs(np.asarray(way(Image.fromarray(colours))).astype(int) - colours).max()) <= 1

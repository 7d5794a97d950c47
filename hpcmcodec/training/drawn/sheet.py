"""A sheet to draw on: figures with or without antialiasing, and text as screens and printers render it."""

from __future__ import annotations

import colorsys
import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from .fonts import Face, Fonts

__all__ = ["DARK", "LIGHT", "Colour", "Point", "Sheet", "Theme", "any_colour", "ink_on", "mixed", "theme"]

Colour = tuple[int, int, int]
Point = tuple[float, float]
# How many times as fine a figure is drawn before its coverage is taken, and text for subpixels.
FINE, SUBPIXELS = 4, 3
# FreeType's default filter over five subpixels.
FILTER = np.array([8, 77, 86, 77, 8], dtype=np.float32) / 256
HANDS = ("hinted", "soft", "rgb", "bgr", "bilevel")
HAND_WEIGHTS = (40, 30, 20, 3, 7)


@dataclass(frozen=True)
class Theme:
    """The colours of one design."""

    paper: Colour
    panel: Colour
    ink: Colour
    faint: Colour
    line: Colour
    accents: tuple[Colour, ...]

    @property
    def accent(self) -> Colour:
        return self.accents[0]


ACCENTS: tuple[tuple[Colour, ...], ...] = (
    ((31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189), (140, 86, 75)),
    ((66, 133, 244), (219, 68, 55), (244, 180, 0), (15, 157, 88), (171, 71, 188), (0, 172, 193)),
    ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233)),
    ((38, 70, 83), (42, 157, 143), (233, 196, 106), (244, 162, 97), (231, 111, 81), (120, 120, 120)),
    ((0, 0, 255), (255, 0, 0), (0, 128, 0), (255, 165, 0), (128, 0, 128), (0, 0, 0)),
    ((94, 129, 172), (191, 97, 106), (163, 190, 140), (235, 203, 139), (180, 142, 173), (208, 135, 112)),
)
LIGHT = (
    ((255, 255, 255), (245, 245, 245), (0, 0, 0), (110, 110, 110), (208, 208, 208)),
    ((255, 255, 255), (240, 240, 240), (33, 37, 41), (120, 124, 130), (222, 226, 230)),
    ((250, 250, 250), (255, 255, 255), (36, 41, 46), (88, 96, 105), (225, 228, 232)),
    ((236, 236, 236), (255, 255, 255), (20, 20, 20), (100, 100, 100), (180, 180, 180)),
    ((253, 246, 227), (238, 232, 213), (88, 110, 117), (147, 161, 161), (216, 208, 184)),
    ((192, 192, 192), (255, 255, 255), (0, 0, 0), (80, 80, 80), (128, 128, 128)),
    ((255, 253, 240), (250, 244, 222), (45, 40, 30), (130, 120, 100), (214, 204, 176)),
    ((234, 242, 255), (255, 255, 255), (20, 30, 60), (90, 105, 140), (190, 205, 230)),
)
DARK = (
    ((30, 30, 30), (37, 37, 38), (212, 212, 212), (133, 133, 133), (60, 60, 60)),
    ((0, 0, 0), (18, 18, 18), (240, 240, 240), (150, 150, 150), (50, 50, 50)),
    ((40, 42, 54), (68, 71, 90), (248, 248, 242), (98, 114, 164), (80, 84, 105)),
    ((0, 43, 54), (7, 54, 66), (131, 148, 150), (88, 110, 117), (20, 70, 82)),
    ((13, 17, 23), (22, 27, 34), (201, 209, 217), (139, 148, 158), (48, 54, 61)),
    ((46, 52, 64), (59, 66, 82), (216, 222, 233), (129, 161, 193), (76, 86, 106)),
)


def any_colour(dice: random.Random) -> Colour:
    """Any colour: a grey, a corner of the cube, a pale, dark or strong one, or one like any other."""
    kind, grey = dice.random(), dice.randrange(256)
    if kind < 0.1:
        return (grey, grey, grey)
    if kind < 0.25:
        return (dice.choice((0, 255)), dice.choice((0, 255)), dice.choice((0, 255)))
    if kind < 0.5:
        return (dice.randrange(256), dice.randrange(256), dice.randrange(256))
    strong, light = dice.choice(((0.15, 0.97), (0.3, 0.9), (0.4, 0.3), (0.7, 0.8), (0.5, 0.6)))
    r, g, b = colorsys.hsv_to_rgb(dice.random(), strong, light)
    return (round(255 * r), round(255 * g), round(255 * b))


def mixed(one: Colour, other: Colour, share: float) -> Colour:
    """`share` of the other colour in one."""
    r, g, b = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return (r, g, b)


def ink_on(paper: Colour) -> Colour:
    """Black or white, whichever can be read on it."""
    return (0, 0, 0) if 3 * paper[0] + 6 * paper[1] + paper[2] > 1300 else (255, 255, 255)


def theme(dice: random.Random, dark: float = 0.35) -> Theme:
    """A random design, dark with the given probability, now and then on coloured paper."""
    paper, panel, ink, faint, line = dice.choice(DARK if dice.random() < dark else LIGHT)
    if dice.random() < 0.08:
        paper = any_colour(dice)
        ink = ink_on(paper)
        panel, faint, line = mixed(paper, ink, 0.08), mixed(paper, ink, 0.55), mixed(paper, ink, 0.3)
    accents = list(dice.choice(ACCENTS))
    dice.shuffle(accents)
    return Theme(paper, panel, ink, faint, line, tuple(accents))


class Sheet:
    """A picture in the making, with the dice and the fonts it is drawn with.

    Coordinates count pixels from the upper left corner; a whole number is the edge between two.
    """

    def __init__(self, dice: random.Random, fonts: Fonts, width: int, height: int) -> None:
        self.dice, self.fonts, self.width, self.height = dice, fonts, width, height
        self.hand = dice.choices(HANDS, HAND_WEIGHTS)[0]
        self.smooth = dice.random() < 0.8
        self.fill((255, 255, 255))

    def fill(self, colour: Colour) -> None:
        """A new sheet of this colour."""
        self.show(Image.new("RGB", (self.width, self.height), colour))

    def show(self, image: Image.Image) -> None:
        """Go on with another picture of the same size."""
        self.image = image
        self.pen = ImageDraw.Draw(image)

    def noise(self) -> np.random.Generator:
        """A generator of its own, that follows the dice."""
        return np.random.default_rng(self.dice.getrandbits(64))

    @property
    def fine(self) -> int:
        """How many pixels of a mask make one of the sheet."""
        return FINE if self.smooth else 1

    def paint(
        self, shape: str, parts: Sequence[Sequence[Point]], colour: Colour, edge: float = 1, **how: Any
    ) -> None:
        """Lay on a colour where shapes cover the sheet.

        Args:
            shape: a method of Pillow's ImageDraw.
            parts: the points of each.
            edge: how far they reach beyond their points.
            how: further arguments of the method; lengths in pixels of the mask.
        """
        xs, ys = zip(*(point for part in parts for point in part), strict=True)
        left, top = max(0, math.floor(min(xs) - edge)), max(0, math.floor(min(ys) - edge))
        right = min(self.width, math.ceil(max(xs) + edge))
        bottom = min(self.height, math.ceil(max(ys) + edge))
        if left >= right or top >= bottom:
            return
        fine = self.fine
        mask = Image.new("L", ((right - left) * fine, (bottom - top) * fine))
        draw = getattr(ImageDraw.Draw(mask), shape)
        for part in parts:
            draw([((x - left) * fine, (y - top) * fine) for x, y in part], fill=255, **how)
        self.image.paste(colour, (left, top), mask.reduce(fine) if fine > 1 else mask)

    def lines(self, paths: Iterable[Sequence[Point]], colour: Colour, width: float = 1) -> None:
        """Strokes through the points of each path."""
        parts = [path for path in paths if len(path) > 1]
        thick = max(1, round(width * self.fine))
        if parts:
            self.paint("line", parts, colour, width + 1, width=thick, joint="curve" if thick > 2 else None)

    def line(self, path: Sequence[Point], colour: Colour, width: float = 1) -> None:
        self.lines([path], colour, width)

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        self.paint("polygon", [points], colour)

    def discs(self, centres: Iterable[Point], radius: float, colour: Colour, flat: float = 1) -> None:
        """Discs, or ellipses `flat` times as high as wide."""
        less = 1 / self.fine  # Pillow's boxes hold their last pixel too
        high = radius * flat
        boxes = [((x - radius, y - high), (x + radius - less, y + high - less)) for x, y in centres]
        if boxes and radius > less and high > less:
            self.paint("ellipse", boxes, colour)

    def disc(self, x: float, y: float, radius: float, colour: Colour, flat: float = 1) -> None:
        self.discs([(x, y)], radius, colour, flat)

    def slice(self, x: float, y: float, radius: float, start: float, end: float, colour: Colour) -> None:
        """A slice of a disc between two angles in degrees."""
        box = ((x - radius, y - radius), (x + radius, y + radius))
        self.paint("pieslice", [box], colour, start=start, end=end)

    def block(self, box: Sequence[float], colour: Colour, radius: float = 0) -> None:
        """A filled rectangle on whole pixels, up to but without its right and lower edge; round corners."""
        left, top, right, bottom = (round(v) for v in box)
        if right <= left or bottom <= top:
            return
        if radius < 1:
            self.pen.rectangle((left, top, right - 1, bottom - 1), colour)
            return
        less = 1 / self.fine
        round_box = ((left, top), (right - less, bottom - less))
        radius = min(radius, (right - left) / 2, (bottom - top) / 2)
        self.paint("rounded_rectangle", [round_box], colour, radius=radius * self.fine)

    def frame(
        self, box: Sequence[float], colour: Colour, radius: float = 0, inside: Colour | None = None
    ) -> None:
        """A rectangle's outline, one pixel wide, and what is in it."""
        left, top, right, bottom = (round(v) for v in box)
        if inside is not None:
            self.block(box, colour, radius)
            self.block((left + 1, top + 1, right - 1, bottom - 1), inside, max(0, radius - 1))
        elif right > left and bottom > top:
            self.pen.rectangle((left, top, right - 1, bottom - 1), outline=colour)

    def text(
        self, at: Point, words: str, face: Face, size: float, ink: Colour, anchor: str = "la", hand: str = ""
    ) -> float:
        """A line of text.

        Args:
            at: where the anchor lies.
            anchor: Pillow's two letters: "la" upper left, "ls" left on the baseline, "mm" the middle, ...
            hand: how it is rendered; the sheet's own way by default.

        Returns:
            How many pixels it is wide.
        """
        hand, font = hand or self.hand, face.at(size)
        if hand in ("hinted", "bilevel"):
            self.pen.fontmode = "1" if hand == "bilevel" else "L"
            self.pen.text(at, words, ink, font, anchor)
            return font.getlength(words)
        fine = face.at(size * SUBPIXELS)
        box = fine.getbbox(words, anchor=anchor)
        left, top = math.floor(at[0] + box[0] / SUBPIXELS) - 2, math.floor(at[1] + box[1] / SUBPIXELS) - 1
        right, bottom = math.ceil(at[0] + box[2] / SUBPIXELS) + 2, math.ceil(at[1] + box[3] / SUBPIXELS) + 1
        mask = Image.new("L", ((right - left) * SUBPIXELS, (bottom - top) * SUBPIXELS))
        place = ((at[0] - left) * SUBPIXELS, round(at[1] - top) * SUBPIXELS)
        ImageDraw.Draw(mask).text(place, words, 255, fine, anchor)
        if hand == "soft":
            self.image.paste(ink, (left, top), mask.reduce(SUBPIXELS))
        else:
            self._subpixels(
                left, top, np.asarray(mask.reduce((1, SUBPIXELS)), np.float32), ink, hand == "bgr"
            )
        return fine.getlength(words) / SUBPIXELS

    def _subpixels(self, left: int, top: int, mask: np.ndarray, ink: Colour, reverse: bool) -> None:
        """Each channel covered as its third of the pixel is."""
        padded = np.pad(mask, ((0, 0), (2, 2)))
        spread = sum(part * padded[:, i : i + mask.shape[1]] for i, part in enumerate(FILTER))
        cover = np.asarray(spread).reshape(mask.shape[0], -1, SUBPIXELS) / 255
        if reverse:
            cover = cover[:, :, ::-1]
        box = (left, top, left + cover.shape[1], top + cover.shape[0])
        under = np.asarray(self.image.crop(box), np.float32)
        over = under + cover * (np.array(ink, np.float32) - under)
        self.image.paste(Image.fromarray(np.round(over).astype(np.uint8)), (left, top))

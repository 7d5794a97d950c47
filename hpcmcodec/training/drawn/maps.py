"""Maps: land, water, roads with casings, houses, railways, contours and names along them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from . import words
from .sheet import Colour, Point, Sheet

__all__ = ["contours", "streets"]


@dataclass(frozen=True)
class _Style:
    land: Colour
    park: Colour
    water: Colour
    house: Colour
    casing: Colour
    roads: tuple[Colour, Colour, Colour]
    ink: Colour


STYLES = (
    _Style(
        (242, 239, 233),
        (205, 235, 176),
        (170, 211, 223),
        (217, 208, 201),
        (170, 160, 150),
        ((252, 214, 164), (247, 250, 191), (255, 255, 255)),
        (60, 60, 60),
    ),
    _Style(
        (248, 249, 250),
        (206, 234, 214),
        (156, 192, 249),
        (232, 234, 237),
        (200, 205, 210),
        ((253, 226, 147), (255, 255, 255), (255, 255, 255)),
        (60, 64, 67),
    ),
    _Style(
        (36, 47, 62),
        (38, 60, 63),
        (23, 38, 60),
        (47, 58, 75),
        (31, 40, 53),
        ((116, 104, 85), (56, 65, 78), (56, 65, 78)),
        (213, 149, 99),
    ),
    _Style(
        (255, 255, 255),
        (230, 230, 230),
        (200, 200, 200),
        (215, 215, 215),
        (0, 0, 0),
        ((255, 255, 255), (255, 255, 255), (255, 255, 255)),
        (0, 0, 0),
    ),
    _Style(
        (250, 240, 215),
        (190, 210, 150),
        (130, 180, 210),
        (200, 120, 90),
        (120, 80, 50),
        ((230, 120, 80), (245, 200, 110), (255, 250, 235)),
        (70, 40, 20),
    ),
)


def _winding(sheet: Sheet, slack: float = 0.25) -> list[Point]:
    """A way from one edge of the sheet to another."""
    dice, wide, high = sheet.dice, sheet.width, sheet.height
    x, y, angle = dice.uniform(0, wide), -20.0, dice.uniform(0.3, math.pi - 0.3)
    if dice.random() < 0.5:
        x, y, angle = -20.0, dice.uniform(0, high), dice.uniform(-1, 1)
    path = [(x, y)]
    while -30 <= x <= wide + 30 and -30 <= y <= high + 30 and len(path) < 200:
        angle += dice.gauss(0, slack)
        x, y = x + 25 * math.cos(angle), y + 25 * math.sin(angle)
        path.append((x, y))
    return path


def _blob(sheet: Sheet, radius: float) -> list[Point]:
    dice, x, y = sheet.dice, sheet.dice.uniform(0, sheet.width), sheet.dice.uniform(0, sheet.height)
    swing = [(dice.uniform(0, 0.5) / k, dice.uniform(0, 6)) for k in range(1, 6)]
    turns = [math.pi * i / 40 for i in range(80)]
    reach = [radius * (1 + sum(a * math.sin(k * t + b) for k, (a, b) in enumerate(swing, 1))) for t in turns]
    return [(x + r * math.cos(t), y + r * math.sin(t)) for r, t in zip(reach, turns, strict=True)]


def streets(sheet: Sheet) -> None:
    """The map of a town."""
    dice, style = sheet.dice, sheet.dice.choice(STYLES)
    sheet.fill(style.land)
    for colour, count in ((style.park, dice.randint(1, 6)), (style.water, dice.randint(0, 3))):
        for _ in range(count):
            sheet.polygon(_blob(sheet, dice.uniform(30, 160)), colour)
    if dice.random() < 0.6:
        sheet.line(_winding(sheet, 0.3), style.water, dice.uniform(5, 50))
    turn, block = dice.uniform(0, math.pi / 2), dice.randint(40, 110)
    ways = _quarter(sheet, turn, block)
    if dice.random() < 0.8:
        _houses(sheet, style, turn, block)
    sheet.lines(ways, style.casing, dice.choice((4, 6, 8)))
    sheet.lines(ways, style.roads[2], dice.choice((2, 3, 4)))
    for level, width in ((1, 9), (0, 13)):
        main = [_winding(sheet, 0.12) for _ in range(dice.randint(1, 3))]
        sheet.lines(main, style.casing, width)
        sheet.lines(main, style.roads[level], width - 2)
    if dice.random() < 0.5:
        rails = _winding(sheet, 0.06)
        sheet.line(rails, style.ink, 3)
        sheet.lines([rails[i : i + 2] for i in range(0, len(rails), 2)], style.land, 1.5)
    _labels(sheet, style.ink, style.land, dice.randint(6, 30))


def _quarter(sheet: Sheet, turn: float, block: int) -> list[list[Point]]:
    """Streets that cross at right angles, a few of them missing."""
    c, s, reach = math.cos(turn), math.sin(turn), math.hypot(sheet.width, sheet.height)
    x, y = sheet.width / 2, sheet.height / 2
    ways: list[list[Point]] = []
    for shift in np.arange(-reach / 2, reach / 2, block).tolist():
        for dx, dy, ox, oy in ((c, s, -s, c), (-s, c, c, s)):
            if sheet.dice.random() < 0.8:
                start, end = sorted((sheet.dice.uniform(-reach, reach), sheet.dice.uniform(-reach, reach)))
                ways.append([(x + ox * shift + dx * d, y + oy * shift + dy * d) for d in (start, end)])
    return ways


def _houses(sheet: Sheet, style: _Style, turn: float, block: int) -> None:
    dice, c, s = sheet.dice, math.cos(turn), math.sin(turn)
    count, reach = int(math.hypot(sheet.width, sheet.height) / block) + 1, block / 2
    for i in range(-count // 2, count // 2 + 1):
        for k in range(-count // 2, count // 2 + 1):
            for part in range(dice.randint(0, 4)):
                u = (i + 0.5) * block + (part % 2 - 0.5) * reach
                v = (k + 0.5) * block + (part // 2 - 0.5) * reach
                a, b = dice.uniform(4, reach * 0.35), dice.uniform(4, reach * 0.35)
                corners = [(u + p * a, v + q * b) for p, q in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
                points = [
                    (sheet.width / 2 + c * p - s * q, sheet.height / 2 + s * p + c * q) for p, q in corners
                ]
                sheet.polygon(points, style.house)
                sheet.line([*points, points[0]], style.casing, 1)


def _labels(sheet: Sheet, ink: Colour, halo: Colour, count: int) -> None:
    """Names with a bright edge, so that they stand out from what they lie on; a few signs."""
    dice, face = sheet.dice, sheet.fonts.choose(sheet.dice)
    for _ in range(count):
        at = (dice.randrange(sheet.width), dice.randrange(sheet.height))
        size, name = dice.choice((9, 10, 11, 12, 14, 18)), words.title(dice, 2)
        if sheet.hand in ("hinted", "bilevel") and dice.random() < 0.7:
            sheet.pen.fontmode = "L"
            sheet.pen.text(at, name, ink, face.at(size), "mm", stroke_width=2, stroke_fill=halo)
        else:
            for dx, dy in ((-1, 0), (1, 0), (0, -1), (0, 1)):
                sheet.text((at[0] + dx, at[1] + dy), name, face, size, halo, "mm")
            sheet.text(at, name, face, size, ink, "mm")
        if dice.random() < 0.3:
            sheet.disc(at[0], at[1] - size, 4, dice.choice(((200, 30, 30), (30, 90, 200), (30, 140, 60))))


def contours(sheet: Sheet) -> None:
    """A hilly land: coloured by height or plain, with lines of equal height, each fifth of them stronger."""
    dice, draw = sheet.dice, sheet.noise()
    rows, columns = np.mgrid[: sheet.height, : sheet.width] / 768
    height = np.zeros((sheet.height, sheet.width))
    for _ in range(dice.randint(10, 40)):
        x, y, wide = draw.uniform(0, 1), draw.uniform(0, 1), draw.uniform(0.03, 0.4)
        height += draw.uniform(-1, 1) * wide**0.7 * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / wide**2)
    height = (height - height.min()) / (np.ptp(height) + 1e-9) * dice.choice((12, 25, 40, 70))
    style = dice.choice(STYLES)
    colours = np.array([style.water, style.park, style.land, style.house], dtype=np.float64)
    if dice.random() < 0.6:
        level = np.floor(height) if dice.random() < 0.6 else height
        share = level / (level.max() + 1e-9) * 2.999
        low = share.astype(int)
        picture = colours[low] + (share - low)[..., None] * (colours[np.minimum(low + 1, 3)] - colours[low])
    else:
        picture = np.broadcast_to(colours[2], (*height.shape, 3)).copy()
    # A line is one pixel wide wherever the land is flat or steep: its distance is height over slope.
    down, across = np.gradient(height)
    slope = np.hypot(down, across) + 1e-6
    for step, wide in ((1, 1.0), (5, 1.8)):
        away = np.abs(height / step - np.round(height / step)) * step / slope
        cover = np.clip(wide / 2 + 0.5 - away, 0, 1) if sheet.smooth else (away < wide / 2)
        cover = cover * (slope > 0.002)
        picture += cover[..., None] * (np.array(style.ink) - picture) * (0.6 if step == 1 else 1)
    sheet.show(Image.fromarray(np.round(picture).clip(0, 255).astype(np.uint8)))
    _labels(sheet, style.ink, style.land, dice.randint(3, 12))

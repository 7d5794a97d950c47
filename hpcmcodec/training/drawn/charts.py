"""Charts: lines, bars, pies, clouds of points and heat maps, with axes, ticks, grids, labels and legends."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from . import words
from .fonts import Face
from .sheet import Colour, Sheet, Theme, ink_on, mixed, theme

__all__ = ["charts"]


@dataclass(frozen=True)
class _Panel:
    """Where one chart lies on the sheet, and how it looks."""

    sheet: Sheet
    look: Theme
    face: Face
    size: int
    box: tuple[int, int, int, int]

    @property
    def dice(self) -> random.Random:
        return self.sheet.dice

    def at(self, x: float, y: float) -> tuple[float, float]:
        """A place in the box, from 0 to 1 to the right and upwards."""
        left, top, right, bottom = self.box
        return left + x * (right - left), bottom - y * (bottom - top)


def charts(sheet: Sheet) -> None:
    """One to four charts on a sheet."""
    dice, look = sheet.dice, theme(sheet.dice, 0.25)
    sheet.fill(look.paper)
    down, across = dice.choice(((1, 1), (1, 1), (2, 1), (1, 2), (2, 2)))
    if min(sheet.width, sheet.height) < 500:  # no room for several
        down = across = 1
    face, size = sheet.fonts.choose(dice, plain=dice.random() < 0.8), dice.choice((9, 10, 11, 12, 14))
    wide, high = sheet.width // across, sheet.height // down
    for row in range(down):
        for column in range(across):
            left, top = column * wide, row * high
            box = (left + 5 * size, top + 4 * size, left + wide - 2 * size, top + high - 5 * size)
            panel = _Panel(sheet, look, face, size, box)
            title = words.title(dice, 4)[: wide // size]
            sheet.text((left + wide // 2, top + size), title, face, round(size * 1.3), look.ink, "ma")
            dice.choice((_lines, _lines, _bars, _bars, _points, _pie, _heat, _area))(panel)


def _axes(panel: _Panel, names: list[str] | None = None) -> None:
    """Frame or axes, ticks with labels, perhaps a grid, and what is measured."""
    sheet, look, dice = panel.sheet, panel.look, panel.dice
    left, top, right, bottom = panel.box
    if dice.random() < 0.3:
        sheet.block(panel.box, look.panel)
    ticks, step = dice.randint(4, 9), dice.choice((0.1, 0.2, 0.25, 1, 2, 5, 10, 25, 100, 1000))
    grid, dots = dice.random() < 0.7, dice.choice((1, 1, 2, 4))
    for i in range(ticks + 1):
        y = round(bottom - i * (bottom - top) / ticks)
        if grid:
            for x in range(left, right, dots * 2 if dots > 1 else right - left):
                sheet.block((x, y, min(right, x + (dots if dots > 1 else right - left)), y + 1), look.line)
        sheet.block((left - 4, y, left, y + 1), look.ink)
        sheet.text((left - 6, y), f"{i * step:g}", panel.face, panel.size, look.ink, "rm")
    labels = names or [f"{i * step:g}" for i in range(dice.randint(4, 10))]
    for i, label in enumerate(labels):
        x = (
            round(left + (i + 0.5) * (right - left) / len(labels))
            if names
            else round(left + i * (right - left) / (len(labels) - 1))
        )
        if grid and not names:
            sheet.block((x, top, x + 1, bottom), look.line)
        sheet.block((x, bottom, x + 1, bottom + 4), look.ink)
        fits = max(2, int((right - left) / len(labels) / panel.size * 1.6))
        sheet.text((x, bottom + 6), label[:fits], panel.face, panel.size, look.ink, "ma")
    if dice.random() < 0.5:
        sheet.frame((left, top, right, bottom), look.ink)
    else:
        sheet.block((left, top, left + 1, bottom), look.ink)
        sheet.block((left, bottom, right, bottom + 1), look.ink)
    below = (left + right) // 2, bottom + round(2.4 * panel.size)
    sheet.text(
        below,
        f"{words.name(dice)} ({dice.choice(('s', 'kg', 'm', '%', 'Hz', 'USD'))})",
        panel.face,
        panel.size,
        look.ink,
        "ma",
    )


def _legend(panel: _Panel, colours: list[Colour], mark: Callable[[float, float, Colour], None]) -> None:
    sheet, size, dice = panel.sheet, panel.size, panel.dice
    names = [words.name(dice, 1) for _ in colours]
    wide = max(panel.face.at(size).getlength(n) for n in names) + 3.4 * size
    high = round(len(names) * size * 1.5 + size * 0.6)
    left, top, right, _ = panel.box
    x, y = dice.choice((left + 8, round(right - wide - 8))), top + 8
    sheet.frame((x, y, x + wide, y + high), panel.look.line, dice.choice((0, 3)), panel.look.paper)
    for i, (label, colour) in enumerate(zip(names, colours, strict=True)):
        middle = y + round((i + 0.85) * size * 1.5)
        mark(x + 1.3 * size, middle, colour)
        sheet.text((x + round(2.6 * size), middle), label, panel.face, size, panel.look.ink, "lm")


def _walk(panel: _Panel, count: int) -> np.ndarray:
    """Values from 0 to 1 as one measures them: a trend, a wave, and chance."""
    draw, x = panel.sheet.noise(), np.linspace(0, 1, count)
    rough = np.cumsum(draw.normal(0, panel.dice.uniform(0, 0.15), count)) if panel.dice.random() < 0.7 else 0
    y = (
        panel.dice.uniform(-1, 1) * x
        + panel.dice.uniform(0, 0.5) * np.sin(panel.dice.uniform(2, 20) * x + panel.dice.random())
        + rough
    )
    low, high = sorted((panel.dice.random(), panel.dice.random()))
    return low + (y - y.min()) / (np.ptp(y) + 1e-9) * max(0.1, high - low)


def _lines(panel: _Panel) -> None:
    _axes(panel)
    dice, sheet = panel.dice, panel.sheet
    colours = list(panel.look.accents[: dice.randint(1, 5)])
    width, marks = dice.choice((1, 1, 1.5, 2, 3)), dice.random() < 0.4
    dashed = dice.random() < 0.2
    for colour in colours:
        count = dice.randint(5, 15) if marks else dice.choice((20, 60, 200))
        path = [panel.at(i / (count - 1), y) for i, y in enumerate(_walk(panel, count).tolist())]
        parts = [path[i : i + 3] for i in range(0, count, 4)] if dashed and count > 15 else [path]
        sheet.lines(parts, colour, width)
        if marks:
            sheet.discs(path, width + 2, colour)
    _legend(panel, colours, lambda x, y, colour: sheet.line([(x - 9, y), (x + 9, y)], colour, width))


def _area(panel: _Panel) -> None:
    """Areas on top of each other."""
    dice, sheet = panel.dice, panel.sheet
    colours = list(panel.look.accents[: dice.randint(2, 5)])
    count = dice.randint(8, 40)
    heights = np.cumsum([_walk(panel, count) / len(colours) for _ in colours], 0)
    for colour, top in zip(reversed(colours), heights[::-1], strict=True):
        edge = [panel.at(i / (count - 1), min(1, y)) for i, y in enumerate(top.tolist())]
        sheet.polygon([panel.at(0, 0), *edge, panel.at(1, 0)], colour)
    _axes(panel)
    _legend(panel, colours, lambda x, y, colour: sheet.block((x - 6, y - 4, x + 6, y + 5), colour))


def _bars(panel: _Panel) -> None:
    dice, sheet = panel.dice, panel.sheet
    count, series = dice.randint(3, 12), dice.choice((1, 1, 2, 3))
    colours = list(panel.look.accents[:series])
    _axes(panel, [words.name(dice, 1) for _ in range(count)])
    outline, values = dice.random() < 0.3, dice.random() < 0.3 and series == 1
    for i in range(count):
        for k, colour in enumerate(colours):
            left, top = panel.at((i + 0.15 + 0.7 * k / series) / count, dice.uniform(0.03, 0.97))
            right, bottom = panel.at((i + 0.15 + 0.7 * (k + 1) / series) / count, 0)
            sheet.block((left, top, right, bottom), colour)
            if outline:
                sheet.frame((left, top, right, bottom), panel.look.ink)
            if values:
                sheet.text(
                    ((left + right) / 2, top - 3),
                    str(dice.randrange(1000)),
                    panel.face,
                    panel.size,
                    panel.look.ink,
                    "ms",
                )
    if series > 1:
        _legend(panel, colours, lambda x, y, colour: sheet.block((x - 6, y - 4, x + 6, y + 5), colour))


def _points(panel: _Panel) -> None:
    _axes(panel)
    dice, sheet, draw = panel.dice, panel.sheet, panel.sheet.noise()
    colours = list(panel.look.accents[: dice.randint(1, 4)])
    radius = dice.choice((1, 1.5, 2, 3, 4, 6))
    for colour in colours:
        middle, spread = draw.uniform(0.2, 0.8, 2), draw.uniform(0.02, 0.2, 2)
        cloud = draw.normal(middle, spread, (dice.choice((15, 60, 250)), 2))
        cloud = cloud[((cloud > 0) & (cloud < 1)).all(1)]
        sheet.discs([panel.at(x, y) for x, y in cloud.tolist()], radius, colour)
    if dice.random() < 0.4:
        sheet.line([panel.at(0, dice.random()), panel.at(1, dice.random())], panel.look.ink, 1)
    _legend(panel, colours, lambda x, y, colour: sheet.disc(x, y, max(2, radius), colour))


def _pie(panel: _Panel) -> None:
    dice, sheet, look = panel.dice, panel.sheet, panel.look
    left, top, right, bottom = panel.box
    x, y, radius = (left + right) / 2, (top + bottom) / 2, min(right - left, bottom - top) * 0.4
    cuts = sorted(dice.random() for _ in range(dice.randint(2, 6)))
    start = dice.uniform(0, 360)
    edges = [start, *(start + 360 * c for c in cuts), start + 360]
    for colour, a, b in zip(look.accents * 2, edges, edges[1:], strict=False):
        sheet.slice(x, y, radius, a, b, colour)
        edge = math.radians(a)
        sheet.line([(x, y), (x + radius * math.cos(edge), y + radius * math.sin(edge))], look.paper, 2)
        middle = math.radians((a + b) / 2)
        place = (x + radius * 1.12 * math.cos(middle), y + radius * 1.12 * math.sin(middle))
        sheet.text(
            place, f"{(b - a) / 3.6:.1f}%", panel.face, panel.size, look.ink, "lm" if place[0] > x else "rm"
        )
    if dice.random() < 0.4:
        sheet.disc(x, y, radius * 0.55, look.paper)
    _legend(
        panel,
        list(look.accents[: len(edges) - 1]),
        lambda a, b, colour: sheet.block((a - 5, b - 5, a + 6, b + 6), colour),
    )


def _heat(panel: _Panel) -> None:
    """A table of colours, with or without its numbers."""
    dice, sheet, look = panel.dice, panel.sheet, panel.look
    rows, columns = dice.randint(4, 16), dice.randint(4, 16)
    low, high = dice.choice(((look.paper, look.accent), (look.accents[0], look.accents[1])))
    left, top, right, bottom = panel.box
    wide, tall = (right - left) / columns, (bottom - top) / rows
    for i in range(rows):
        for k in range(columns):
            value = dice.random()
            colour = mixed(low, high, value)
            box = (left + k * wide, top + i * tall, left + (k + 1) * wide, top + (i + 1) * tall)
            sheet.block(box, colour)
            if wide > 3 * panel.size and tall > 1.5 * panel.size:
                ink = ink_on(colour)
                sheet.text(
                    ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2),
                    f"{value:.2f}",
                    panel.face,
                    panel.size,
                    ink,
                    "mm",
                )
        sheet.text(
            (left - 4, top + (i + 0.5) * tall),
            words.name(dice, 1)[:6],
            panel.face,
            panel.size,
            look.ink,
            "rm",
        )
    for k in range(columns):
        sheet.text((left + (k + 0.5) * wide, bottom + 4), str(k), panel.face, panel.size, look.ink, "ma")

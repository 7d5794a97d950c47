"""Thin lines: grids, hairlines, hatching, wire frames, scores, plans, on white, black and coloured paper."""

from __future__ import annotations

import math

import numpy as np

from . import words
from .sheet import Colour, Point, Sheet, any_colour, ink_on, mixed

__all__ = ["curves", "grids", "hairlines", "wires"]


def _paper(sheet: Sheet) -> tuple[Colour, Colour]:
    """A paper and an ink on it: grey on white or black more often than not."""
    dice = sheet.dice
    paper: Colour = dice.choice(((255, 255, 255), (255, 255, 255), (0, 0, 0), any_colour(dice)))
    away = ink_on(paper)
    ink = mixed(paper, away, dice.choice((0.1, 0.2, 0.35, 0.5, 0.7, 1.0)))
    if dice.random() < 0.2:
        ink = any_colour(dice)
    return paper, ink


def grids(sheet: Sheet) -> None:
    """Areas ruled with lines of one to three pixels: squared paper, ruled paper, dots, tables, scores."""
    dice = sheet.dice
    down, across = dice.choice(((1, 1), (2, 2), (3, 3), (2, 1), (1, 3)))
    wide, high = -(-sheet.width // across), -(-sheet.height // down)
    for top in range(0, sheet.height, high):
        for left in range(0, sheet.width, wide):
            paper, ink = _paper(sheet)
            box = (left, top, min(sheet.width, left + wide), min(sheet.height, top + high))
            sheet.block(box, paper)
            _ruled(sheet, box, ink, mixed(ink, paper, 0.5))


def _ruled(sheet: Sheet, box: tuple[int, int, int, int], ink: Colour, pale: Colour) -> None:
    dice, (left, top, right, bottom) = sheet.dice, box
    step, thick = dice.choice((2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 32, 50)), dice.choice((1, 1, 1, 1, 2, 3))
    thick = min(thick, max(1, step // 3))
    kind, strong = (
        dice.choice(("grid", "grid", "grid", "rows", "columns", "dots", "score")),
        dice.choice((0, 0, 5, 10)),
    )
    if kind == "dots":
        for y in range(top + step // 2, bottom, step):
            for x in range(left + step // 2, right, step):
                sheet.block((x, y, min(right, x + thick), min(bottom, y + thick)), ink)
        return
    for number, y in enumerate(range(top, bottom, step)):
        if kind == "columns" or (kind == "score" and number % 9 > 4):
            continue
        sheet.block((left, y, right, min(bottom, y + thick)), pale if strong and number % strong else ink)
    for number, x in enumerate(range(left, right, step) if kind in ("grid", "columns") else ()):
        sheet.block((x, top, min(right, x + thick), bottom), pale if strong and number % strong else ink)


def hairlines(sheet: Sheet) -> None:
    """Straight lines at every angle: fans, hatching in one to three directions, scattered ones."""
    dice = sheet.dice
    paper, ink = _paper(sheet)
    sheet.fill(paper)
    reach = math.hypot(sheet.width, sheet.height)
    width = dice.choice((0.5, 1, 1, 1, 1.5, 2))
    kind = dice.randrange(3)
    if kind == 0:
        for _ in range(dice.randint(1, 3)):
            x, y = dice.uniform(0, sheet.width), dice.uniform(0, sheet.height)
            count, other = dice.choice((12, 36, 90, 180)), ink if dice.random() < 0.6 else any_colour(dice)
            turns = [2 * math.pi * i / count for i in range(count)]
            sheet.lines(
                [[(x, y), (x + reach * math.cos(a), y + reach * math.sin(a))] for a in turns], other, width
            )
    elif kind == 1:
        for _ in range(dice.randint(1, 3)):
            angle, step = dice.uniform(0, math.pi), dice.choice((3, 4, 6, 8, 12, 20, 40))
            sheet.lines(_hatch(sheet.width / 2, sheet.height / 2, reach / 2, angle, step), ink, width)
    else:
        for _ in range(dice.randint(10, 80)):
            ends = [
                (dice.uniform(0, sheet.width), dice.uniform(0, sheet.height))
                for _ in range(dice.randint(2, 4))
            ]
            sheet.line(ends, ink if dice.random() < 0.7 else any_colour(dice), width)


def _hatch(x: float, y: float, radius: float, angle: float, step: float) -> list[list[Point]]:
    """Parallel lines in a disc, as far as it reaches."""
    c, s = math.cos(angle), math.sin(angle)
    chords = [(d, math.sqrt(radius**2 - d**2)) for d in np.arange(step - radius, radius, step).tolist()]
    return [
        [(x - s * d + c * half * way, y + c * d + s * half * way) for way in (-1, 1)] for d, half in chords
    ]


def wires(sheet: Sheet) -> None:
    """Wire frames: landscapes, spheres and boxes in perspective, or the plan of a house with its measures."""
    dice = sheet.dice
    paper, ink = _paper(sheet)
    sheet.fill(paper)
    dice.choice((_landscape, _spheres, _plan))(sheet, ink)


def _landscape(sheet: Sheet, ink: Colour) -> None:
    dice, count = sheet.dice, sheet.dice.choice((20, 35, 50))
    rows, columns = np.mgrid[:count, :count] / count
    waves = [(dice.uniform(2, 14), dice.uniform(2, 14), dice.uniform(0, 6)) for _ in range(3)]
    heights = sum(np.sin(a * rows + b * columns + c) for a, b, c in waves) / 3
    near = 1 + 1.5 * rows
    x = sheet.width * (0.5 + (columns - 0.5) * near * 0.55)
    y = sheet.height * (0.2 + 0.65 * rows) - heights * near * sheet.height * dice.uniform(0.02, 0.08)
    points = np.stack([x, y], -1)
    paths = [[(a, b) for a, b in path.tolist()] for way in (points, points.swapaxes(0, 1)) for path in way]
    sheet.lines(paths, ink, dice.choice((1, 1, 1.5)))


def _spheres(sheet: Sheet, ink: Colour) -> None:
    dice, turn = sheet.dice, np.linspace(0, 2 * np.pi, 60)
    for _ in range(dice.randint(1, 5)):
        x, y, radius = dice.uniform(0, sheet.width), dice.uniform(0, sheet.height), dice.uniform(60, 300)
        lean, paths = dice.uniform(0.1, 0.9), []
        for share in np.linspace(-0.9, 0.9, dice.randint(7, 19)).tolist():
            across = radius * math.sqrt(1 - share**2)
            paths.append(
                np.stack(
                    [
                        x + across * np.cos(turn),
                        y + radius * share * math.sqrt(1 - lean**2) + across * lean * np.sin(turn),
                    ],
                    -1,
                )
            )
            paths.append(np.stack([x + radius * share * np.sin(turn), y + radius * np.cos(turn)], -1))
        sheet.lines([[(a, b) for a, b in path.tolist()] for path in paths], ink, dice.choice((1, 1, 1.5)))


def _plan(sheet: Sheet, ink: Colour) -> None:
    """Rooms with thick walls, doors as quarter circles, measures between arrows."""
    dice, face = sheet.dice, sheet.fonts.choose(sheet.dice)
    edges = [_walls(sheet, sheet.width), _walls(sheet, sheet.height)]
    thick = dice.choice((2, 3, 5))
    for left, right in zip(edges[0], edges[0][1:], strict=False):
        for top, bottom in zip(edges[1], edges[1][1:], strict=False):
            for wall in ((left, top, right, top + thick), (left, top, left + thick, bottom)):
                if dice.random() < 0.8:
                    sheet.block(wall, ink)
            sheet.text(((left + right) / 2, (top + bottom) / 2), words.name(dice, 1), face, 12, ink, "mm")
            radius = min(40, (right - left) / 2, (bottom - top) / 2)
            arc = [(left + radius * math.sin(a / 20), bottom - radius * math.cos(a / 20)) for a in range(32)]
            sheet.lines([arc, [(left, bottom), (left + radius, bottom)]], ink, 1)
    y = edges[1][0] - 14
    for left, right in zip(edges[0], edges[0][1:], strict=False):
        sheet.block((left, y, right, y + 1), ink)
        sheet.lines(
            [
                [(left + 6, y - 3), (left, y), (left + 6, y + 4)],
                [(right - 6, y - 3), (right, y), (right - 6, y + 4)],
            ],
            ink,
        )
        sheet.text(((left + right) / 2, y - 2), f"{(right - left) / 100:.2f} m", face, 10, ink, "ms")


def _walls(sheet: Sheet, side: int) -> list[int]:
    count = sheet.dice.randint(2, 6)
    step = (side - 90) / count
    return [round(50 + step * (i + sheet.dice.uniform(-0.3, 0.3))) for i in range(count + 1)]


def curves(sheet: Sheet) -> None:
    """Line art: long curves, spirals and outlines, some of them filled with hatching."""
    dice = sheet.dice
    paper, ink = _paper(sheet)
    sheet.fill(paper)
    width = dice.choice((1, 1, 1.5, 2, 3))
    t = np.linspace(0, 2 * np.pi, 400)
    for _ in range(dice.randint(2, 12)):
        x, y = dice.uniform(0, sheet.width), dice.uniform(0, sheet.height)
        radius = dice.uniform(30, 300)
        swing = [(dice.uniform(0, 0.4) / k, dice.uniform(0, 6)) for k in range(1, 6)]
        r = radius * (1 + sum(a * np.sin(k * t + b) for k, (a, b) in enumerate(swing, 1)))
        if dice.random() < 0.3:
            turns = dice.randint(2, 12)
            r, t_now = radius * np.linspace(0, 1, 400), turns * t
        else:
            t_now = t
        path = [(a, b) for a, b in np.stack([x + r * np.cos(t_now), y + r * np.sin(t_now)], -1).tolist()]
        if t_now is t and dice.random() < 0.4:
            sheet.polygon(path, paper if dice.random() < 0.5 else any_colour(dice))
        sheet.line(path, ink if dice.random() < 0.8 else any_colour(dice), width)
        if dice.random() < 0.4:
            angle, step = dice.uniform(0, 3), dice.choice((3, 4, 6, 9))
            sheet.lines(_hatch(x, y, radius * 0.7, angle, step), ink, 1)

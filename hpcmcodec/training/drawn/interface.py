"""Interfaces: windows on a desktop, forms, lists, web pages, the screens of phones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from . import words
from .fonts import Face
from .sheet import Colour, Sheet, Theme, any_colour, ink_on, mixed, theme
from .text import terminal, wrapped

__all__ = ["desktop", "form", "icons", "phone", "web"]

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class _Look:
    """One toolkit: colours, a font and its size, how round corners are."""

    theme: Theme
    face: Face
    size: int
    radius: int


def _look(sheet: Sheet, dark: float = 0.4) -> _Look:
    dice = sheet.dice
    face = sheet.fonts.choose(dice, plain=dice.random() < 0.8)
    return _Look(
        theme(dice, dark), face, dice.choice((10, 11, 12, 12, 13, 14)), dice.choice((0, 0, 2, 4, 6, 10))
    )


def _backdrop(sheet: Sheet) -> Colour:
    """What lies behind windows: one colour, or a slow gradient to another. An ink that can be read on it."""
    one, other = any_colour(sheet.dice), any_colour(sheet.dice)
    if sheet.dice.random() < 0.4:
        sheet.fill(one)
        return ink_on(one)
    rows, columns = np.mgrid[: sheet.height, : sheet.width]
    slope = sheet.dice.random()
    mix = (slope * rows / sheet.height + (1 - slope) * columns / sheet.width)[..., None]
    blend = np.array(one) + mix * (np.array(other) - np.array(one))
    sheet.show(Image.fromarray(np.round(blend).astype(np.uint8)))
    return ink_on(one)


def _icon(sheet: Sheet, x: float, y: float, side: float, look: Theme) -> None:
    """A small sign: a folder, a sheet, a ring, a bell, bars, an arrow, a cross, a tick, a gear, a star."""
    dice, colour = sheet.dice, sheet.dice.choice((*look.accents, look.ink, look.faint))
    thick, kind = max(1, side / 10), sheet.dice.randrange(10)

    def at(*places: tuple[float, float]) -> list[tuple[float, float]]:
        return [(x + side * a, y + side * b) for a, b in places]

    if kind == 0:
        sheet.block((x, y + side * 0.2, x + side, y + side * 0.9), colour, side / 8)
        sheet.block(
            (x, y + side * 0.1, x + side * 0.45, y + side * 0.3), mixed(colour, (0, 0, 0), 0.2), side / 10
        )
    elif kind == 1:
        sheet.polygon(at((0.15, 0), (0.6, 0), (0.85, 0.25), (0.85, 1), (0.15, 1)), colour)
        sheet.lines([at((0.3, h), (0.7, h)) for h in (0.4, 0.6, 0.8)], look.paper, thick)
    elif kind == 2:
        sheet.disc(x + side / 2, y + side / 2, side / 2, colour)
        sheet.disc(x + side / 2, y + side / 2, side * dice.uniform(0.1, 0.4), look.paper)
    elif kind == 3:
        sheet.slice(x + side / 2, y + side * 0.5, side * 0.4, 180, 360, colour)
        sheet.polygon(at((0.1, 0.48), (0.9, 0.48), (1, 0.8), (0, 0.8)), colour)
        sheet.disc(x + side / 2, y + side * 0.88, side * 0.1, colour)
    elif kind == 4:
        for i in range(4):
            sheet.block(
                (x + side * i / 4, y + side * dice.random(), x + side * (i + 0.7) / 4, y + side), colour
            )
    elif kind == 5:
        sheet.lines([at((0, 0.5), (1, 0.5)), at((0.6, 0.1), (1, 0.5), (0.6, 0.9))], colour, thick)
    elif kind == 6:
        sheet.lines([at((0.1, 0.1), (0.9, 0.9)), at((0.9, 0.1), (0.1, 0.9))], colour, thick)
    elif kind == 7:
        sheet.line(at((0.05, 0.5), (0.4, 0.85), (0.95, 0.15)), colour, thick * 1.3)
    else:
        teeth = 8 if kind == 8 else 5
        turn = [
            (i * np.pi / teeth, 0.5 if i % 2 else 0.5 - 0.14 * (10 - kind) ** 0.9) for i in range(2 * teeth)
        ]
        sheet.polygon(at(*((0.5 + r * np.sin(a), 0.5 - r * np.cos(a)) for a, r in turn)), colour)
        if kind == 8:
            sheet.disc(x + side / 2, y + side / 2, side * 0.14, look.paper)


def icons(sheet: Sheet) -> None:
    """Signs in rows, each with its name, as on a desktop or in a file manager."""
    dice, look = sheet.dice, _look(sheet)
    sheet.fill(look.theme.paper)
    ink = _backdrop(sheet) if dice.random() < 0.3 else look.theme.ink
    side = dice.choice((16, 24, 32, 48, 64, 96))
    across, down = side + dice.randint(20, 70), side + look.size + dice.randint(16, 40)
    for top in range(12, sheet.height - side, down):
        for left in range(16, sheet.width - side, across):
            if dice.random() < 0.1:
                sheet.block(
                    (left - 8, top - 6, left + side + 8, top + side + look.size + 10),
                    look.theme.line,
                    look.radius,
                )
            _icon(sheet, left, top, side, look.theme)
            label = words.name(dice, 1)[: across // 7]
            sheet.text((left + side // 2, top + side + 4), label, look.face, look.size, ink, "ma")


def _button(sheet: Sheet, look: _Look, x: int, y: int, words_on: str, main: bool) -> int:
    """A button; how wide it is."""
    colours, high = look.theme, round(look.size * 2.1)
    wide = round(look.face.at(look.size).getlength(words_on)) + 2 * look.size
    fill = colours.accent if main else colours.panel
    sheet.frame((x, y, x + wide, y + high), mixed(fill, colours.ink, 0.3), look.radius, fill)
    ink = ink_on(fill)
    sheet.text((x + wide // 2, y + high // 2), words_on, look.face, look.size, ink, "mm")
    return wide


def _control(sheet: Sheet, look: _Look, x: int, y: int, wide: int) -> None:
    """A field, a tick box, a choice, a slider, a switch, a bar of progress or buttons in one row."""
    dice, colours, size = sheet.dice, look.theme, look.size
    high, kind = round(size * 1.9), dice.randrange(7)
    middle = y + high // 2
    if kind == 0:
        sheet.frame((x, y, x + wide, y + high), colours.line, look.radius, colours.panel)
        ink = dice.choice((colours.ink, colours.faint))
        sheet.text((x + 6, middle), words.name(dice, 3)[: wide // size], look.face, size, ink, "lm")
    elif kind in (1, 2):
        on, side = dice.random() < 0.5, size + 2
        box = (x, middle - side // 2, x + side, middle - side // 2 + side)
        sheet.frame(box, colours.faint, side / 2 if kind == 2 else 0, colours.accent if on else colours.panel)
        if on and kind == 1:
            left, top = box[:2]
            tick = [(0.2, 0.5), (0.42, 0.75), (0.82, 0.25)]
            sheet.line([(left + side * a, top + side * b) for a, b in tick], (255, 255, 255), 1.5)
        elif on:
            sheet.disc(x + side / 2, middle, side * 0.22, (255, 255, 255))
        sheet.text((x + side + 6, middle), words.name(dice, 3), look.face, size, colours.ink, "lm")
    elif kind in (3, 4):
        share = dice.random()
        thick = dice.choice((3, 4, 6)) if kind == 3 else size // 2 * 2
        sheet.block((x, middle - thick // 2, x + wide, middle + thick // 2), colours.line, thick / 2)
        sheet.block(
            (x, middle - thick // 2, x + wide * share, middle + thick // 2), colours.accent, thick / 2
        )
        if kind == 3:
            sheet.disc(x + wide * share, middle, size * 0.6, colours.faint)
            sheet.disc(x + wide * share, middle, size * 0.6 - 1, colours.panel)
    elif kind == 5:
        on = dice.random() < 0.5
        sheet.block((x, y, x + 2 * high, y + high), colours.accent if on else colours.line, high / 2)
        sheet.disc(x + (1.5 if on else 0.5) * high, middle, high / 2 - 2, (255, 255, 255))
        sheet.text((x + 2 * high + 8, middle), words.name(dice, 3), look.face, size, colours.ink, "lm")
    else:
        end = x + wide
        for main in (True, False, False):
            label = words.name(dice, 1)
            if x + len(label) * size > end:
                break
            x += _button(sheet, look, x, y, label, main) + 8


def _bar(sheet: Sheet, look: _Look, box: Box, gap: int) -> None:
    """A row of words: a menu, tabs or a status bar."""
    x, y, right, bottom = box
    sheet.block(box, look.theme.panel)
    sheet.block((x, bottom - 1, right, bottom), look.theme.line)
    x += gap
    chosen, number = sheet.dice.randrange(4), 0
    while True:
        label = words.name(sheet.dice, 1)
        wide = look.face.at(look.size).getlength(label)
        if x + wide + gap > right:
            return
        if number == chosen and gap > 12:
            sheet.block((x - gap // 2, bottom - 2, x + wide + gap // 2, bottom), look.theme.accent)
        sheet.text((round(x), (y + bottom) // 2), label, look.face, look.size, look.theme.ink, "lm")
        x += round(wide) + gap
        number += 1


def _rows(sheet: Sheet, look: _Look, box: Box) -> None:
    """A list with a sign, a name and a number in each row, one of them chosen."""
    dice, colours, high = sheet.dice, look.theme, round(look.size * 1.9)
    left, top, right, bottom = box
    sheet.block(box, colours.panel)
    chosen = dice.randrange(8)
    for row, y in enumerate(range(top, bottom - high + 1, high)):
        if row == chosen:
            paper = mixed(colours.panel, colours.accent, dice.choice((0.3, 1.0)))
            sheet.block((left, y, right, y + high), paper)
        ink = ink_on(paper) if row == chosen else colours.ink
        _icon(sheet, left + 6, y + high * 0.2, high * 0.6, colours)
        fits = (right - left - high - 10) // look.size
        sheet.text(
            (left + high + 4, y + high // 2), words.name(dice, 3)[:fits], look.face, look.size, ink, "lm"
        )
        if right - left > 260:
            sheet.text(
                (right - 8, y + high // 2), words.number(dice), look.face, look.size, colours.faint, "rm"
            )


def _window(sheet: Sheet, look: _Look, box: Box) -> None:
    """Title bar, menu, perhaps tabs, then a terminal, a list, text or controls, and a status bar."""
    dice, colours, size = sheet.dice, look.theme, look.size
    left, top, right, bottom = box
    sheet.frame(box, mixed(colours.line, (0, 0, 0), 0.3), look.radius, colours.paper)
    high, left, right = round(size * 2.2), left + 1, right - 1
    paper = dice.choice((colours.panel, colours.accent, colours.line))
    sheet.block((left, top + 1, right, top + high), paper, look.radius)
    middle = ((left + right) // 2, top + high // 2)
    sheet.text(middle, words.title(dice, 3), look.face, size, ink_on(paper), "mm")
    for i, colour in enumerate(((237, 106, 94), (245, 191, 79), (98, 197, 84))):
        if look.radius > 3:
            sheet.disc(left + 14 + 18 * i, top + high / 2, 6, colour)
        else:
            _cross = (right - 16 - 22 * i, top + high // 2 - 5, right - 6 - 22 * i, top + high // 2 + 5)
            sheet.frame(_cross, ink_on(paper))
    top += high
    _bar(sheet, look, (left, top, right, top + high), dice.choice((10, 14, 24)))
    top += high
    inner = (left, top, right, bottom - high)
    kind = dice.randrange(4)
    if kind == 0:
        terminal(sheet, theme(dice, 0.8), (left, top, right, bottom - high))
    elif kind == 1:
        side = left + (right - left) // 3
        _rows(sheet, look, (left, top, side, inner[3]))
        _rows(sheet, look, (side + 1, top, right, inner[3]))
    elif kind == 2:
        _prose(sheet, look, inner)
    else:
        for y in range(top + 10, inner[3] - 2 * size, round(size * 2.7)):
            label = words.name(dice, 1) + ":"
            sheet.text((left + 90, y + size), label, look.face, size, colours.ink, "rm")
            _control(sheet, look, left + 100, y, max(60, right - left - 130))
    _bar(sheet, look, (left, bottom - high, right, bottom - 1), 12)


def _prose(sheet: Sheet, look: _Look, box: Box) -> None:
    left, top, right, bottom = box
    lead = round(look.size * 1.5)
    lines = wrapped(words.paragraph(sheet.dice, 3000), look.face.at(look.size), right - left - 20)
    for y, line in zip(range(top + 8, bottom - lead, lead), lines, strict=False):
        sheet.text((left + 10, y), line, look.face, look.size, look.theme.ink)


def desktop(sheet: Sheet) -> None:
    """Windows that overlap, with or without signs behind them and a bar below."""
    dice = sheet.dice
    ink, look = _backdrop(sheet), _look(sheet)
    if dice.random() < 0.5:
        for y in range(16, sheet.height - 100, 84):
            _icon(sheet, 20, y, 44, look.theme)
            sheet.text((42, y + 48), words.name(dice, 1), look.face, look.size, ink, "ma")
    for _ in range(dice.randint(1, 3)):
        left, top = dice.randint(0, sheet.width // 4), dice.randint(0, sheet.height // 4)
        wide = dice.randint(sheet.width // 2, sheet.width)
        high = dice.randint(sheet.height // 2, sheet.height)
        look = _look(sheet)
        _window(sheet, look, (left, top, min(sheet.width, left + wide), min(sheet.height - 30, top + high)))
    if dice.random() < 0.6:
        _bar(sheet, look, (0, sheet.height - 30, sheet.width, sheet.height), 18)


def form(sheet: Sheet) -> None:
    """Controls of all kinds under headings, in one or two columns."""
    dice, look = sheet.dice, _look(sheet)
    sheet.fill(look.theme.paper)
    high, size = round(look.size * 2.8), look.size
    _bar(sheet, look, (0, 0, sheet.width, high), dice.choice((14, 24, 36)))
    columns = dice.choice((1, 2))
    wide = sheet.width // columns
    for left in range(20, sheet.width, wide):
        for y in range(high + 12, sheet.height - high, high):
            if dice.random() < 0.15:
                sheet.text((left, y), words.title(dice, 3), look.face, size * 1.4, look.theme.accent)
                sheet.block((left, y + high - 8, left + wide - 40, y + high - 7), look.theme.line)
                continue
            label = words.name(dice, 2)[:16]
            sheet.text((left, y + size), label, look.face, size, look.theme.ink, "lm")
            _control(sheet, look, left + 10 * size, y, max(80, wide - 10 * size - 50))


def web(sheet: Sheet) -> None:
    """A page with a bar of links, a banner, cards with pictures' places, and text."""
    dice, look = sheet.dice, _look(sheet, 0.3)
    colours, size = look.theme, look.size + 1
    sheet.fill(colours.paper)
    high = dice.randint(36, 60)
    _bar(sheet, look, (0, 0, sheet.width, high), 22)
    banner = high + dice.randint(110, 200)
    sheet.block((0, high, sheet.width, banner), colours.accent)
    big = dice.choice((24, 30, 38))
    sheet.text((30, high + 16), words.title(dice, 4), look.face, big, (255, 255, 255))
    _button(sheet, look, 30, banner - 40, words.name(dice), dice.random() < 0.5)
    across = dice.choice((2, 3, 4))
    wide, gap = (sheet.width - 16) // across, 16
    card = dice.randint(140, 240)
    for top in range(banner + gap, sheet.height - 60, card + gap):
        for i in range(across):
            left = gap + i * wide
            box = (left, top, left + wide - gap, top + card)
            sheet.frame(box, colours.line, look.radius, colours.panel)
            sheet.block(
                (left + 1, top + 1, box[2] - 1, top + card // 3), dice.choice(colours.accents), look.radius
            )
            _icon(sheet, left + 14, top + card // 12, card / 6, colours)
            y = top + card // 3 + 8
            sheet.text(
                (left + 8, y), words.title(dice, 3)[: wide // size], look.face, size * 1.15, colours.ink
            )
            lines = wrapped(
                words.paragraph(dice, dice.choice((20, 80, 200))), look.face.at(look.size), wide - gap - 16
            )
            for row, line in zip(
                range(y + 2 * size, top + card - size, round(size * 1.4)), lines, strict=False
            ):
                sheet.text((left + 8, row), line, look.face, look.size, colours.faint)


def phone(sheet: Sheet) -> None:
    """Two or three screens of a phone side by side: messages, settings, a list."""
    dice = sheet.dice
    count = dice.choice((2, 2, 3))
    wide = sheet.width // count
    for i in range(count):
        look, left = _look(sheet), i * wide
        colours, size = look.theme, look.size + 1
        sheet.block((left, 0, left + wide, sheet.height), colours.paper)
        sheet.block((left, 0, left + wide, 56), colours.accent if dice.random() < 0.5 else colours.panel)
        sheet.text((left + wide - 8, 4), words.number(dice), look.face, 10, colours.ink, "ra")
        sheet.text((left + 16, 24), words.title(dice, 2)[: wide // size], look.face, size * 1.3, colours.ink)
        if dice.random() < 0.5:
            _messages(sheet, look, (left, 60, left + wide, sheet.height - 50))
        else:
            _rows(
                sheet,
                _Look(colours, look.face, size + 4, look.radius),
                (left, 60, left + wide, sheet.height - 50),
            )
        for k in range(4):
            _icon(sheet, left + wide * (k + 0.5) / 4 - 12, sheet.height - 38, 24, colours)


def _messages(sheet: Sheet, look: _Look, box: Box) -> None:
    """Rounded bubbles with a few lines each, left and right in turn."""
    dice, colours, size = sheet.dice, look.theme, look.size + 1
    left, y, right, bottom = box
    while True:
        room = round((right - left) * dice.uniform(0.5, 0.75))
        lines = list(wrapped(words.sentence(dice), look.face.at(size), room - 20))[:5]
        high = round(len(lines) * size * 1.35) + 16
        if y + high > bottom:
            return
        own = dice.random() < 0.5
        x = right - room - 10 if own else left + 10
        sheet.block((x, y, x + room, y + high), colours.accent if own else colours.panel, 12)
        for row, line in enumerate(lines):
            ink = (255, 255, 255) if own else colours.ink
            sheet.text((x + 10, y + 8 + round(row * size * 1.35)), line, look.face, size, ink)
        y += high + dice.randint(6, 20)

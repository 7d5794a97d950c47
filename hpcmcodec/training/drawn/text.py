"""Pages of text: articles, programs, terminals, tables, samples of many sizes, posters."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import pairwise

from PIL import ImageFont

from . import words
from .fonts import Face
from .sheet import Colour, Sheet, Theme, any_colour, ink_on, mixed, theme

__all__ = ["article", "poster", "program", "specimen", "table", "terminal", "wrapped"]

SIZES = (8, 9, 10, 11, 12, 12, 13, 14, 15, 16, 18, 20)


def wrapped(text: str, font: ImageFont.FreeTypeFont, width: float) -> Iterator[str]:
    """Lines of at most `width` pixels."""
    line, space = "", font.getlength(" ")
    room = width
    for word in text.split():
        length = font.getlength(word)
        if line and length > room:
            yield line
            line, room = "", width
        line += word + " "
        room -= length + space
    yield line


def article(sheet: Sheet) -> None:
    """Paragraphs in one to three columns under headings, as in books, papers and web pages."""
    dice, look = sheet.dice, theme(sheet.dice, 0.25)
    sheet.fill(look.paper)
    face, head = sheet.fonts.choose(dice), sheet.fonts.choose(dice)
    size, margin = dice.choice(SIZES), dice.randint(8, 48)
    columns = dice.choice((1, 1, 2, 3)) if size < 15 else 1
    gap = dice.randint(14, 30)
    width = (sheet.width - 2 * margin - (columns - 1) * gap) / columns
    lead = size * dice.uniform(1.1, 1.7)
    top = margin
    if dice.random() < 0.7:
        big = dice.choice((20, 24, 28, 36, 44))
        for line in list(wrapped(words.title(dice, 9), head.at(big), sheet.width - 2 * margin))[:2]:
            sheet.text((margin, top), line, head, big, look.ink)
            top += round(big * 1.4)
    for column in range(columns):
        left = round(margin + column * (width + gap))
        if columns > 1 and column and dice.random() < 0.5:
            sheet.block((left - gap // 2, top, left - gap // 2 + 1, sheet.height - margin), look.line)
        _column(sheet, look, (left, top, width, sheet.height - margin), face, head, size, lead)


def _column(
    sheet: Sheet,
    look: Theme,
    place: tuple[float, float, float, float],
    face: Face,
    head: Face,
    size: int,
    lead: float,
) -> None:
    dice, (left, y, width, bottom) = sheet.dice, place
    while y + lead < bottom:
        if dice.random() < 0.25:
            y += lead * 0.5
            sheet.text(
                (left, round(y)), words.title(dice, 3)[: int(width / size)], head, size * 1.3, look.accent
            )
            y += lead * 1.6
        ink = look.faint if dice.random() < 0.15 else look.ink
        for line in wrapped(words.paragraph(dice, dice.randint(60, 600)), face.at(size), width):
            if y + lead > bottom:
                return
            length = sheet.text((left, round(y)), line, face, size, ink)
            if dice.random() < 0.02:
                sheet.block(
                    (left, round(y + size * 1.15), left + length / 2, round(y + size * 1.15) + 1), ink
                )
            y += lead
        y += lead * dice.choice((0, 0.5, 1))


def specimen(sheet: Sheet) -> None:
    """Lines that change font, size and colours as they go."""
    dice, y = sheet.dice, 0
    look = theme(dice)
    sheet.fill(look.paper)
    while y < sheet.height:
        size = dice.choice((*SIZES, 24, 28, 36, 48, 72))
        high = round(size * dice.uniform(1.2, 1.6))
        face, lines = sheet.fonts.choose(dice), dice.randint(1, 7 if size < 24 else 2)
        paper, ink = look.paper, look.ink
        if dice.random() < 0.3:
            paper = any_colour(dice)
            ink = _readable(dice, paper)
            sheet.block((0, y, sheet.width, y + high * lines + 4), paper)
        hand = sheet.hand if dice.random() < 0.7 else dice.choice(("hinted", "soft", "rgb", "bilevel"))
        for _ in range(lines):
            line = words.paragraph(dice, 1600 // size)
            sheet.text((dice.randint(2, 20), y + 2), line, face, size, ink, hand=hand)
            y += high
        y += dice.randint(4, 12)


def _readable(dice: random.Random, paper: Colour) -> Colour:
    """A colour that stands out on paper; as often as not black or white."""
    for _ in range(20):
        ink = any_colour(dice)
        if abs(sum(ink) - sum(paper)) > 250:
            return ink
    return ink_on(paper)


def program(sheet: Sheet) -> None:
    """A program in an editor: numbered lines, colours by meaning, a marked line."""
    dice, look = sheet.dice, theme(sheet.dice, 0.6)
    sheet.fill(look.paper)
    face = sheet.fonts.choose(dice, mono=True)
    size = dice.choice((9, 10, 11, 12, 13, 14, 15, 16, 20))
    lead, step = round(size * dice.uniform(1.2, 1.6)), face.at(size).getlength("0")
    colours = dict(zip(("keyword", "number", "string", "comment"), look.accents, strict=False))
    colours |= {"comment": look.faint} if dice.random() < 0.7 else {}
    left, first, indent = round(step * 5), dice.randint(1, 900), 0
    sheet.block((0, 0, left - step, sheet.height), look.panel)
    marked = dice.randrange(sheet.height // lead)
    for line in range(sheet.height // lead + 1):
        y = line * lead
        if line == marked:
            sheet.block((left - step, y, sheet.width, y + lead), mixed(look.paper, look.ink, 0.1))
        sheet.text((left - 2 * step, y + 1), str(first + line), face, size, look.faint, "ra")
        x = left + step * 4 * indent
        for kind, piece in words.code_line(dice):
            sheet.text((round(x), y + 1), piece, face, size, colours.get(kind, look.ink))
            x += step * len(piece)
        indent = min(6, max(0, indent + dice.choice((-1, 0, 0, 0, 1))))


def terminal(sheet: Sheet, look: Theme | None = None, box: tuple[int, int, int, int] | None = None) -> None:
    """What programs write on a terminal, over the whole sheet or in a box of it."""
    dice, look = sheet.dice, look or theme(sheet.dice, 0.85)
    left, top, right, bottom = box or (0, 0, sheet.width, sheet.height)
    sheet.block((left, top, right, bottom), look.paper)
    face = sheet.fonts.choose(dice, mono=True)
    size = dice.choice((9, 10, 11, 12, 13, 14, 16))
    lead, step = round(size * dice.uniform(1.15, 1.4)), face.at(size).getlength("0")
    for y in range(top + 2, bottom - lead, lead):
        line, ink = words.log_line(dice)[: int((right - left - 8) / step)], look.ink
        if dice.random() < 0.25:
            ink = dice.choice(look.accents)
        head = len(line.split(" ")[0]) if dice.random() < 0.4 else 0
        sheet.text((left + 4, y), line[:head], face, size, dice.choice(look.accents))
        sheet.text((left + 4 + round(head * step), y), line[head:], face, size, ink)
    sheet.block((left + 4, bottom - lead, left + 4 + step, bottom - 2), look.ink)


def table(sheet: Sheet) -> None:
    """A sheet of numbers and names between hairlines, as in a spreadsheet or on a bill."""
    dice, look = sheet.dice, theme(sheet.dice, 0.25)
    sheet.fill(look.paper)
    face, size = sheet.fonts.choose(dice), dice.choice((9, 10, 11, 12, 13, 14))
    high, columns = round(size * dice.uniform(1.4, 2.2)), dice.randint(3, 9)
    edges = sorted(dice.sample(range(40, sheet.width - 40), columns - 1))
    edges = [0, *edges, sheet.width]
    texts = [dice.random() < 0.4 for _ in range(columns)]
    striped, upright = dice.random() < 0.4, dice.random() < 0.6
    for row, y in enumerate(range(0, sheet.height, high)):
        if row == 0:
            sheet.block((0, y, sheet.width, y + high), look.accent if dice.random() < 0.5 else look.panel)
        elif striped and row % 2:
            sheet.block((0, y, sheet.width, y + high), look.panel)
        for i, (left, right) in enumerate(pairwise(edges)):
            fits = int((right - left - 8) / size * 1.7)
            if fits < 2:
                continue
            if row == 0 or texts[i]:
                sheet.text((left + 4, y + high // 2), words.name(dice, 3)[:fits], face, size, look.ink, "lm")
            else:
                ink = (200, 30, 30) if dice.random() < 0.05 else look.ink
                sheet.text((right - 4, y + high // 2), words.number(dice)[:fits], face, size, ink, "rm")
        sheet.block((0, y, sheet.width, y + 1), look.line)
    for edge in edges[1:-1] if upright else ():
        sheet.block((edge, 0, edge + 1, sheet.height), look.line)


def poster(sheet: Sheet) -> None:
    """Large letters and a few small ones: slides, signs, covers."""
    dice, look = sheet.dice, theme(sheet.dice, 0.4)
    paper = look.paper if dice.random() < 0.6 else any_colour(dice)
    sheet.fill(paper)
    ink = _readable(dice, paper)
    face, small = sheet.fonts.choose(dice), sheet.fonts.choose(dice)
    middle = dice.random() < 0.5
    x, y = (sheet.width // 2, 30) if middle else (dice.randint(20, 60), 30)
    for _ in range(dice.randint(1, 3)):
        size = dice.choice((36, 48, 64, 90, 130))
        for line in list(wrapped(words.title(dice, 4), face.at(size), sheet.width - 60))[:2]:
            sheet.text((x, y), line.strip(), face, size, ink, "ma" if middle else "la")
            y += round(size * 1.15)
        ink = _readable(dice, paper)
    y += 20
    size = dice.choice((14, 18, 22, 26))
    while y < sheet.height - 2 * size:
        line = next(wrapped(words.sentence(dice), small.at(size), sheet.width - 100))
        mark = "" if middle else dice.choice(("- ", "- ", "1. ", ""))
        sheet.text((x, y), mark + line, small, size, ink, "ma" if middle else "la")
        y += round(size * dice.choice((1.3, 1.6, 2.4)))

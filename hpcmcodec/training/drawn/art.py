"""Flat art: comics, pixel art, dithered pictures, gradients, plain figures, patches of patterns."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from . import words
from .fonts import Face
from .sheet import Colour, Point, Sheet, any_colour, mixed, theme
from .text import wrapped

__all__ = ["comic", "dithered", "figures", "gradients", "patches", "pixels"]


def comic(sheet: Sheet) -> None:
    """Panels with flat figures in ink outlines, halftone dots and speech balloons."""
    dice = sheet.dice
    ink, gutter = (dice.randrange(30),) * 3, dice.randint(6, 16)
    sheet.fill((255, 255, 255) if dice.random() < 0.8 else (20, 20, 20))
    rows, columns = dice.choice(((1, 1), (2, 1), (2, 2), (3, 2), (2, 3)))
    face = sheet.fonts.choose(dice)
    for row in range(rows):
        for column in range(columns):
            wide, high = (sheet.width - gutter) / columns, (sheet.height - gutter) / rows
            left, top = round(gutter + column * wide), round(gutter + row * high)
            panel = Sheet(dice, sheet.fonts, round(wide - gutter), round(high - gutter))
            panel.hand, panel.smooth = sheet.hand, sheet.smooth
            _scene(panel, ink)
            _balloon(panel, ink, face, dice.choice((11, 12, 14, 16)))
            panel.pen.rectangle(
                (0, 0, panel.width - 1, panel.height - 1), outline=ink, width=dice.choice((1, 2, 3))
            )
            sheet.image.paste(panel.image, (left, top))


def _outline(sheet: Sheet, path: Sequence[Point], colour: Colour, ink: Colour, width: float) -> None:
    sheet.polygon(path, colour)
    sheet.line([*path, path[0], path[1]], ink, width)


def _scene(sheet: Sheet, ink: Colour) -> None:
    """A sky, dots, hills or houses, and a figure with a face."""
    dice, width, wide, high = sheet.dice, sheet.dice.choice((1.5, 2, 3)), sheet.width, sheet.height
    sky = any_colour(dice)
    sheet.fill(sky)
    if dice.random() < 0.6:
        _halftone(sheet, mixed(sky, dice.choice(((255, 255, 255), ink)), 0.5))
    for _ in range(dice.randint(1, 4)):
        base, tall = dice.uniform(0.5, 1) * high, dice.uniform(0.1, 0.4) * high
        swing, start = dice.uniform(2, 9), dice.uniform(0, 6)
        if dice.random() < 0.5:
            path = [(x, base - tall * math.sin(x / wide * swing + start)) for x in range(-5, wide + 20, 12)]
            _outline(sheet, [*path, (wide + 20, high + 9), (-9, high + 9)], any_colour(dice), ink, width)
        else:
            left, right = sorted((dice.uniform(0, wide), dice.uniform(0, wide)))
            walls = [(left, high + 5), (left, base - tall), (right, base - tall), (right, high + 5)]
            _outline(sheet, walls, any_colour(dice), ink, width)
    x, y, radius = (
        dice.uniform(0.25, 0.75) * wide,
        dice.uniform(0.6, 0.85) * high,
        min(wide, high) * dice.uniform(0.12, 0.25),
    )
    body = [
        (x - radius * 1.4, high + 5),
        (x - radius * 0.8, y + radius),
        (x + radius * 0.8, y + radius),
        (x + radius * 1.4, high + 5),
    ]
    _outline(sheet, body, any_colour(dice), ink, width)
    skin = dice.choice(((255, 220, 177), (141, 85, 36), (241, 194, 125), (255, 255, 255), any_colour(dice)))
    head = [(x + radius * math.cos(a / 10), y + radius * 1.15 * math.sin(a / 10)) for a in range(63)]
    _outline(sheet, head, skin, ink, width)
    for side in (-1, 1):
        sheet.disc(x + side * radius * 0.38, y - radius * 0.15, radius * 0.2, (255, 255, 255), 1.3)
        sheet.disc(x + side * radius * 0.34, y - radius * 0.1, radius * 0.09, ink)
    smile = [
        (x + radius * 0.5 * math.cos(a / 10), y + radius * (0.3 + 0.35 * math.sin(a / 10)))
        for a in range(3, 29)
    ]
    sheet.line(smile, ink, width)


def _halftone(sheet: Sheet, colour: Colour) -> None:
    """Dots on a slanted grid, smaller towards one side."""
    step = sheet.dice.choice((4, 5, 6, 8, 12))
    groups: dict[int, list[Point]] = {}
    for row in range(0, sheet.height + step, step):
        for column in range(0, sheet.width + step, step):
            size = int(8 * row / sheet.height) + 1
            groups.setdefault(size, []).append((column + (row // step % 2) * step / 2, row))
    for size, centres in groups.items():
        sheet.discs(centres, step * 0.07 * size + 0.3, colour)


def _balloon(sheet: Sheet, ink: Colour, face: Face, size: int) -> None:
    dice = sheet.dice
    room = min(sheet.width * 0.6, 220)
    lines = list(wrapped(words.sentence(dice).upper(), face.at(size), room))[:4]
    if sheet.height < 90 or dice.random() < 0.15:
        return
    high, x, y = len(lines) * size * 1.2 + 24, sheet.width * dice.uniform(0.35, 0.65), 8.0
    a, b, middle = room * 0.68, high * 0.68, y + high * 0.6
    if dice.random() < 0.25:
        sheet.frame((8, 6, 16 + room, 6 + high), ink, 0, (255, 250, 200))
        x, middle = 12 + room / 2, 6 + high / 2
    else:
        edge = [(x + a * math.cos(t / 12), middle + b * math.sin(t / 12)) for t in range(76)]
        tail = [(x - 8, middle + b - 3), (x + 14, middle + b + 30), (x + 12, middle + b - 3)]
        _outline(sheet, edge, (255, 255, 255), ink, 2)
        sheet.polygon(tail, (255, 255, 255))
        sheet.lines([tail], ink, 2)
    for row, line in enumerate(lines):
        at = (x, middle + (row - (len(lines) - 1) / 2) * size * 1.2)
        sheet.text((round(at[0]), round(at[1])), line.strip(), face, size, ink, "mm")


def pixels(sheet: Sheet) -> None:
    """Pixel art: a landscape in few colours, walls and figures on it, magnified without smoothing."""
    dice = sheet.dice
    scale = dice.choice((2, 3, 4, 6, 8, 12))
    wide, high = -(-sheet.width // scale), -(-sheet.height // scale)
    field, count = _smooth(Sheet(dice, sheet.fonts, wide, high)), dice.choice((3, 4, 6, 10))
    rows, columns = np.mgrid[:high, :wide]
    edge = _bayer(2)[rows % 4, columns % 4] if dice.random() < 0.5 else np.full((high, wide), 0.5)
    palette = np.array([any_colour(dice) for _ in range(count + 1)], dtype=np.uint8)
    small = palette[np.floor(field * count * 0.99 + edge).astype(int)]
    tile, wall = dice.choice((8, 16)), _wall(any_colour(dice))
    for top in range(0, high, tile):
        for left in range(0, wide, tile):
            if dice.random() < 0.15:
                part = small[top : top + tile, left : left + tile]
                part[:] = wall[: part.shape[0], : part.shape[1]]
    for _ in range(dice.randint(4, 40)):
        figure, solid = _creature(sheet)
        if len(figure) < min(high, wide):
            top, left = dice.randrange(high - len(figure)), dice.randrange(wide - len(figure))
            small[top : top + len(figure), left : left + len(figure)][solid] = figure[solid]
    large = small.repeat(scale, 0).repeat(scale, 1)[: sheet.height, : sheet.width]
    sheet.show(Image.fromarray(np.ascontiguousarray(large)))


def _wall(stone: Colour) -> np.ndarray:
    """Bricks with light and dark edges, `16 x 16 x 3`."""
    rows, columns = np.mgrid[:16, :16]
    shifted = columns + 4 * (rows // 4 % 2)
    wall = np.broadcast_to(np.array(stone, np.uint8), (16, 16, 3)).copy()
    wall[rows % 4 == 0] = mixed(stone, (255, 255, 255), 0.4)
    wall[(rows % 4 == 3) | (shifted % 8 == 7)] = mixed(stone, (0, 0, 0), 0.6)
    return wall


def _neighbours(solid: np.ndarray) -> np.ndarray:
    """How many of the four next to each pixel are solid."""
    padded = np.pad(solid, 1).astype(int)
    return padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]


def _creature(sheet: Sheet) -> tuple[np.ndarray, np.ndarray]:
    """A mirrored figure in bands of colour with a dark outline, and where it is."""
    dice, side = sheet.dice, sheet.dice.choice((8, 12, 16, 24))
    half = sheet.noise().random((side, side // 2))
    half += np.linspace(-0.25, 0.35, side // 2) - abs(np.linspace(-0.6, 0.6, side))[:, None]
    solid = np.pad(np.hstack([half, half[:, ::-1]]) > 0.35, 1)
    near = _neighbours(solid)
    solid = (near >= 3) | (solid & (near > 0))
    around = solid | (_neighbours(solid) > 0)
    side += 2
    bands = np.array([any_colour(dice) for _ in range(3)], np.uint8)
    figure = bands[np.arange(side) * 3 // side][:, None].repeat(side, 1)
    figure[around & ~solid] = 16
    eye = side // 3
    figure[eye, [eye, side - 1 - eye]] = 255
    return figure, around


def _bayer(doublings: int) -> np.ndarray:
    """The thresholds of an ordered dither, between 0 and 1."""
    order = np.array([[0]])
    for _ in range(doublings):
        order = np.block([[4 * order, 4 * order + 2], [4 * order + 3, 4 * order + 1]])
    return (order + 0.5) / order.size


def _smooth(sheet: Sheet) -> np.ndarray:
    """A soft field from 0 to 1: a ramp, a glow, waves or clouds."""
    dice, kind = sheet.dice, sheet.dice.randrange(4)
    rows, columns = np.mgrid[: sheet.height, : sheet.width] / 768
    if kind == 0:
        angle = dice.choice((0, math.pi / 2, dice.uniform(0, math.pi)))
        field = math.cos(angle) * columns + math.sin(angle) * rows
    elif kind == 1:
        field = -np.hypot(rows - dice.random(), columns - dice.random())
    elif kind == 2:
        field = np.sin(dice.uniform(2, 20) * columns + dice.uniform(-9, 9) * rows) + np.sin(
            dice.uniform(2, 9) * rows
        )
    else:
        grid = sheet.noise().random((dice.randint(3, 12), dice.randint(3, 12))).astype(np.float32)
        field = np.asarray(
            Image.fromarray(grid).resize((sheet.width, sheet.height), Image.Resampling.BICUBIC)
        )
    return (field - field.min()) / (np.ptp(field) + 1e-9)


def gradients(sheet: Sheet) -> None:
    """Soft passages between two to four colours; perhaps a few shapes on them, each with its own."""
    dice = sheet.dice
    picture = _coloured(sheet, _smooth(sheet))
    for _ in range(dice.choice((0, 0, 2, 6))):
        other, x, y, radius = (
            _coloured(sheet, _smooth(sheet)),
            dice.random(),
            dice.random(),
            dice.uniform(0.05, 0.3),
        )
        rows, columns = np.mgrid[: sheet.height, : sheet.width]
        away = np.hypot(rows - y * sheet.height, columns - x * sheet.width) - radius * sheet.width
        picture += np.clip(0.5 - away, 0, 1)[..., None] * (other - picture)
    if dice.random() < 0.2:
        levels = dice.choice((4, 8, 16, 32))
        picture = np.round(picture / 255 * levels) / levels * 255
    sheet.show(Image.fromarray(np.round(picture).astype(np.uint8)))
    if dice.random() < 0.3:
        look = theme(dice)
        face = sheet.fonts.choose(dice)
        for y in range(40, sheet.height - 60, 110):
            sheet.text((40, y), words.title(dice, 4), face, dice.choice((18, 28, 44)), look.paper)


def _coloured(sheet: Sheet, field: np.ndarray) -> np.ndarray:
    stops = np.array([any_colour(sheet.dice) for _ in range(sheet.dice.randint(2, 4))], dtype=np.float64)
    share = field * (len(stops) - 1) * 0.9999
    low = share.astype(int)
    return stops[low] + (share - low)[..., None] * (stops[low + 1] - stops[low])


def dithered(sheet: Sheet) -> None:
    """A soft picture in few colours: by an ordered pattern, by noise, or by diffusion of the error."""
    dice = sheet.dice
    soft = _coloured(sheet, _smooth(sheet))
    sheet.show(Image.fromarray(np.round(soft).astype(np.uint8)))
    for _ in range(dice.randint(0, 5)):
        sheet.disc(
            dice.uniform(0, sheet.width),
            dice.uniform(0, sheet.height),
            dice.uniform(20, 150),
            any_colour(dice),
        )
    kind = dice.randrange(4)
    if kind == 0:
        sheet.show(sheet.image.convert("1").convert("RGB"))
    elif kind == 1:
        colours = dice.choice((4, 8, 16, 64))
        table = sheet.image.quantize(colours, method=Image.Quantize.MEDIANCUT)
        sheet.show(sheet.image.quantize(palette=table, dither=Image.Dither.FLOYDSTEINBERG).convert("RGB"))
    else:
        bayer, scale = _bayer(dice.choice((1, 2, 3))), dice.choice((1, 1, 2))
        side, levels = len(bayer), dice.choice((1, 1, 2, 4))
        rows, columns = np.mgrid[: sheet.height, : sheet.width] // scale
        edge = bayer[rows % side, columns % side][..., None]
        if kind == 3:
            edge = sheet.noise().random((sheet.height, sheet.width, 1))
        picture = np.asarray(sheet.image, np.float64)[rows * scale, columns * scale] / 255 * levels
        chosen = np.ceil(picture - edge).clip(0, levels) * 255 / levels
        sheet.show(Image.fromarray(np.round(chosen).astype(np.uint8)))


def figures(sheet: Sheet) -> None:
    """Rectangles, discs, lines and polygons, filled and empty, of all sizes and colours."""
    dice = sheet.dice
    sheet.fill(any_colour(dice))
    for _ in range(dice.randint(10, 120)):
        x, y = dice.uniform(-20, sheet.width), dice.uniform(-20, sheet.height)
        wide, high, colour = dice.uniform(1, 180), dice.uniform(1, 180), any_colour(dice)
        kind = dice.randrange(6)
        if kind == 0:
            sheet.block((x, y, x + wide, y + high), colour, dice.choice((0, 0, wide / 5)))
        elif kind == 1:
            sheet.frame((x, y, x + wide, y + high), colour)
        elif kind == 2:
            sheet.disc(x, y, wide / 2, colour, dice.uniform(0.4, 1.5))
        elif kind == 3:
            turn = [(x + wide / 2 * math.cos(t / 10), y + wide / 2 * math.sin(t / 10)) for t in range(64)]
            sheet.line(turn, colour, dice.randint(1, 5))
        elif kind == 4:
            ends = [
                (dice.uniform(0, sheet.width), dice.uniform(0, sheet.height))
                for _ in range(dice.randint(2, 6))
            ]
            sheet.line(ends, colour, dice.randint(1, 4))
        else:
            sheet.polygon([(x + dice.uniform(-90, 90), y + dice.uniform(-90, 90)) for _ in range(4)], colour)


def patches(sheet: Sheet) -> None:
    """Patches of stripes, checks, ramps and noise between two colours, of all widths."""
    dice, draw = sheet.dice, sheet.noise()
    count = dice.choice((2, 3, 4, 5))
    side = -(-max(sheet.width, sheet.height) // count)
    canvas = np.zeros((count * side, count * side, 3))
    rows, columns = np.mgrid[:side, :side]
    for top in range(0, count * side, side):
        for left in range(0, count * side, side):
            width, slope = dice.choice((1, 2, 3, 4, 8, 16, 32)), dice.uniform(-1.5, 1.5)
            kind = dice.randrange(8)
            mix = (
                (columns // width) % 2,
                (rows // width) % 2,
                (columns // width + rows // width) % 2,
                0.5 + 0.5 * np.sin((columns + slope * rows) / width),
                columns / side,
                draw.random((side, side)),
                draw.integers(0, 2, (side, side)),
                np.hypot(columns - side / 2, rows - side / 2) // width % 2,
            )[kind][..., None]
            if kind == 5 and dice.random() < 0.3:  # each channel a noise of its own
                mix = draw.random((side, side, 3))
            one, other = np.array(any_colour(dice)), np.array(any_colour(dice))
            canvas[top : top + side, left : left + side] = one + mix * (other - one)
    sheet.show(Image.fromarray(np.round(canvas[: sheet.height, : sheet.width]).astype(np.uint8)))

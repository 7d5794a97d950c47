"""Pictures that no camera takes, drawn from a seed: text, plain figures, stripes, noise, foreign colours.

A model that saw photographs alone spends its latents on what photographs hold: black letters on white or
blue beside yellow then stay far off, whatever the quality. A few such pictures among the photographs are
enough to teach it that they exist.
"""

from __future__ import annotations

import random
import string

import numpy as np
from PIL import Image, ImageDraw, ImageFont

__all__ = ["drawn_pictures"]

SIDE = 640


def _colour(dice: random.Random) -> tuple[int, int, int]:
    """Any colour; black, white and the corners of the cube more often than the rest."""
    if dice.random() < 0.5:
        return (dice.choice((0, 255)), dice.choice((0, 255)), dice.choice((0, 255)))
    return (dice.randrange(256), dice.randrange(256), dice.randrange(256))


def _words(dice: random.Random, length: int) -> str:
    line = ""
    while len(line) < length:
        letters = dice.choice(
            (string.ascii_lowercase, string.ascii_lowercase, string.ascii_letters + string.digits)
        )
        line += "".join(dice.choices(letters, k=dice.randint(1, 10))) + dice.choice(("", ",", ".", ":")) + " "
    return line


def _text(dice: random.Random, photo: np.ndarray) -> np.ndarray:
    """Paragraphs of lines, each in a size of its own: dark on white, light on dark, or in any colours."""
    paper, ink = dice.choice(
        (((255,) * 3, (0,) * 3), ((255,) * 3, (30,) * 3), ((20,) * 3, (230,) * 3), (None, None))
    )
    image = Image.new("RGB", (SIDE, SIDE), paper or _colour(dice))
    pen, top = ImageDraw.Draw(image), dice.randrange(20)
    while top < SIDE:
        size = dice.choice((9, 11, 12, 14, 16, 20, 28, 48))
        font = ImageFont.load_default(size)
        for _ in range(dice.randint(1, 12)):
            shade = _colour(dice) if ink is None or dice.random() < 0.1 else ink
            pen.text((dice.randrange(24), top), _words(dice, 1400 // size), shade, font)
            top += size + dice.randint(1, 6)
        top += dice.randint(0, 30)
    return np.array(image)


def _figures(dice: random.Random, photo: np.ndarray) -> np.ndarray:
    """Rectangles, discs, lines and polygons, filled and empty, as in charts, maps and icons."""
    image = Image.new("RGB", (SIDE, SIDE), _colour(dice))
    pen = ImageDraw.Draw(image)
    for _ in range(dice.randint(10, 150)):
        left, top = dice.randrange(SIDE), dice.randrange(SIDE)
        box = (left, top, left + dice.randint(1, 160), top + dice.randint(1, 160))
        shape, fill, width = dice.randrange(5), _colour(dice), dice.randint(1, 4)
        if shape == 0:
            pen.rectangle(box, fill)
        elif shape == 1:
            pen.rectangle(box, outline=fill, width=width)
        elif shape == 2:
            pen.ellipse(box, fill if dice.random() < 0.5 else None, fill, width)
        elif shape == 3:
            pen.line(
                [(dice.randrange(SIDE), dice.randrange(SIDE)) for _ in range(dice.randint(2, 6))], fill, width
            )
        else:
            pen.polygon([(left + dice.randint(-80, 80), top + dice.randint(-80, 80)) for _ in range(4)], fill)
    return np.array(image)


def _stripes(dice: random.Random, photo: np.ndarray) -> np.ndarray:
    """Patches of stripes, checks, ramps and noise between two colours, of all widths."""
    canvas = np.zeros((SIDE, SIDE, 3), dtype=np.float32)
    draw, patch = np.random.default_rng(dice.randrange(2**32)), SIDE // dice.choice((2, 4, 5))
    rows, columns = np.mgrid[:patch, :patch]
    for top in range(0, SIDE, patch):
        for left in range(0, SIDE, patch):
            width, slope = dice.choice((1, 2, 3, 4, 8, 16, 32)), dice.uniform(-1.5, 1.5)
            mix = dice.choice(
                (
                    (columns // width) % 2,
                    (rows // width) % 2,
                    (columns // width + rows // width) % 2,
                    0.5 + 0.5 * np.sin((columns + slope * rows) / width),
                    columns / patch,
                    draw.random((patch, patch)),
                    draw.integers(0, 2, (patch, patch)),
                )
            )[..., None]
            if dice.random() < 0.1:  # each channel a noise of its own
                mix = draw.random((patch, patch, 3))
            ends = np.array(_colour(dice)), np.array(_colour(dice))
            canvas[top : top + patch, left : left + patch] = ends[0] + mix * (ends[1] - ends[0])
    return np.round(canvas).astype(np.uint8)


def _recoloured(dice: random.Random, photo: np.ndarray) -> np.ndarray:
    """A photograph with its channels in another order, or as a negative."""
    order = dice.choice(((0, 1, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)))
    other = photo[:SIDE, :SIDE, order]
    return np.ascontiguousarray(255 - other if order == (0, 1, 2) or dice.random() < 0.25 else other)


KINDS = (_text, _text, _figures, _stripes, _recoloured)


def drawn_pictures(count: int, photos: list[np.ndarray], seed: int = 0) -> list[np.ndarray]:
    """`count` drawn pictures, uint8 `H x W x 3`, up to 640 a side: two of text to one of each other kind.

    Args:
        photos: where recoloured ones are taken from, at least one.
        seed: equal seeds and photos draw equal pictures.
    """
    dice = random.Random(seed)
    return [KINDS[i % len(KINDS)](dice, dice.choice(photos)) for i in range(count)]

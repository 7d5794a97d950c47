"""What kinds of pictures there are, how often each is drawn, and pictures of them by number."""

from __future__ import annotations

import math
import random
from bisect import bisect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from . import art, charts, interface, lines, maps, text
from .fonts import Fonts
from .sheet import Sheet

__all__ = ["GROUPS", "KINDS", "Kind", "Picture", "draw"]


@dataclass(frozen=True)
class Kind:
    """One kind of picture: what draws it, its group, and its weight among all."""

    name: str
    group: str
    weight: float
    draw: Callable[[Sheet], None]


KINDS = (
    Kind("article", "text", 10, text.article),
    Kind("specimen", "text", 8, text.specimen),
    Kind("program", "text", 5, text.program),
    Kind("terminal", "text", 4, text.terminal),
    Kind("table", "text", 4, text.table),
    Kind("poster", "text", 3, text.poster),
    Kind("desktop", "text", 6, interface.desktop),
    Kind("form", "text", 4, interface.form),
    Kind("icons", "text", 2, interface.icons),
    Kind("web", "text", 5, interface.web),
    Kind("phone", "text", 4, interface.phone),
    Kind("charts", "graphics", 10, charts.charts),
    Kind("grids", "graphics", 7, lines.grids),
    Kind("hairlines", "graphics", 3, lines.hairlines),
    Kind("wires", "graphics", 3, lines.wires),
    Kind("curves", "graphics", 3, lines.curves),
    Kind("streets", "graphics", 6, maps.streets),
    Kind("contours", "graphics", 3, maps.contours),
    Kind("comic", "graphics", 5, art.comic),
    Kind("pixels", "graphics", 3, art.pixels),
    Kind("dithered", "graphics", 1.5, art.dithered),
    Kind("gradients", "graphics", 2, art.gradients),
    Kind("figures", "graphics", 2, art.figures),
    Kind("patches", "graphics", 1.5, art.patches),
)
GROUPS = ("all", "text", "graphics")
GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Picture:
    """A drawn picture, uint8 `H x W x 3`, and the name of its kind."""

    kind: str
    pixels: np.ndarray


def draw(
    count: int, seed: int, fonts: Fonts, kinds: Sequence[Kind] = KINDS, sides: tuple[int, int] = (640, 768)
) -> Iterator[Picture]:
    """`count` pictures, each drawn from the seed and its number alone.

    Args:
        kinds: those to choose from. Multiples of the golden ratio spread them, so that few pictures hold
            them by their weights too.
        sides: shortest and longest side.
    """
    *ends, whole = accumulate(kind.weight for kind in kinds)
    first = random.Random(str(seed)).random()
    for number in range(count):
        dice = random.Random(f"{seed} {number}")
        kind = kinds[bisect(ends, (first + number * GOLDEN) % 1 * whole)]
        sheet = Sheet(dice, fonts, dice.randint(*sides), dice.randint(*sides))
        kind.draw(sheet)
        yield Picture(kind.name, np.array(sheet.image))

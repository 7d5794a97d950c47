"""Pictures that no camera takes, drawn from a seed: text, interfaces, charts, thin lines, maps, art.

A model that saw photographs alone spends its latents on what photographs hold: black letters on white or
blue beside yellow then stay far off, whatever the quality. A few such pictures among the photographs are
enough to teach it that they exist.
"""

from __future__ import annotations

import io
import random
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ...errors import UsageError
from ...files import whole_file
from .fonts import SPLITS, Fonts
from .kinds import GROUPS, KINDS, draw

__all__ = ["GROUPS", "KINDS", "SPLITS", "drawn_pictures", "write_drawn"]

SIDE = 640
RECOLOURED = 5  # one in so many


def drawn_pictures(count: int, photos: Sequence[np.ndarray], seed: int = 0) -> list[np.ndarray]:
    """`count` drawn pictures, uint8 `H x W x 3`, up to 640 a side; each fifth a photograph in other colours.

    Args:
        photos: where recoloured ones are taken from, at least one.
        seed: equal seeds, photos and fonts of the machine draw equal pictures.
    """
    dice = random.Random(seed)
    others = count // RECOLOURED
    fonts = Fonts.found() if count else Fonts()
    pictures = [picture.pixels for picture in draw(count - others, seed, fonts, sides=(SIDE, SIDE))]
    for place in range(RECOLOURED - 1, count, RECOLOURED):
        pictures.insert(place, _recoloured(dice, dice.choice(photos)))
    return pictures


def _recoloured(dice: random.Random, photo: np.ndarray) -> np.ndarray:
    """A photograph with its channels in another order, or as a negative."""
    order = dice.choice(((0, 1, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)))
    other = photo[:SIDE, :SIDE, order]
    return np.ascontiguousarray(255 - other if order == (0, 1, 2) or dice.random() < 0.25 else other)


def write_drawn(
    path: Path,
    count: int,
    seed: int = 0,
    fonts: Path | None = None,
    split: str = "all",
    group: str = "all",
) -> None:
    """Write drawn pictures to a tar, as lossless WebP under names that say their kind: `00017-charts.webp`.

    Args:
        seed: equal seeds and fonts draw equal pictures.
        fonts: a folder to take fonts from, at any depth; this machine's usual folders by default.
        split: "train" or "val" for pictures with a part of the fonts, which have none in common.
        group: "text" (with interfaces) or "graphics" (charts, lines, maps, art) alone.

    Raises:
        UsageError: fewer than one picture, or no such folder of fonts.
        HpcmError: the tar cannot be written.
    """
    if count < 1:
        raise UsageError(f"--count must be at least 1, not {count}")
    if fonts and not fonts.is_dir():
        raise UsageError(f"--fonts: {fonts} is no folder")
    kinds = [kind for kind in KINDS if group in ("all", kind.group)]
    with whole_file(path) as part, tarfile.open(part, "w") as tar:
        for number, picture in enumerate(draw(count, seed, Fonts.found(fonts, split), kinds)):
            content = io.BytesIO()
            Image.fromarray(picture.pixels).save(content, "webp", lossless=True, quality=75, method=4)
            member = tarfile.TarInfo(f"{number:05d}-{picture.kind}.webp")
            member.size = content.tell()
            content.seek(0)
            tar.addfile(member, content)

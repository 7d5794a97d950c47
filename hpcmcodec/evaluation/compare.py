"""One picture through several codecs at the same size, and a sheet that shows them side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from .. import metrics
from ..errors import UsageError
from .codecs import FAR, Anchor, reach
from .failures import NOT_THERE, Failures, Tell, nobody
from .ours import HpcmCodec, LoadedCodec, load

__all__ = ["Codec", "Sample", "Window", "compare", "detailed_window", "sheet"]

Pixels = NDArray[np.uint8]
Codec = HpcmCodec | Anchor

BLOCK = 16

# Of the sheet, in pixels; it has the shape of a screen as nearly as whole columns allow.
GAP, SHAPE = 20, 1.6
PAPER, INK, FAINT, WARNING, EDGE = "white", "#161616", "#5a5a5a", "#b03a00", "#c8c8c8"
SMALLEST_TYPE, LARGEST_TYPE = 13, 40
CHARACTERS = 24  # that the longest usual line has room for, in ems of its type


class Window(NamedTuple):
    """Part of a picture, in pixels."""

    x: int
    y: int
    width: int
    height: int

    def of(self, pixels: Pixels) -> Pixels:
        return pixels[self.y : self.y + self.height, self.x : self.x + self.width]


@dataclass(frozen=True, eq=False)
class Sample:
    """What a codec made of a picture.

    title: for a reader. pixels: decoded, `H x W x 3`. bytes: of the file. bpp: 8 * bytes / (W * H).
    psnr: dB over the whole picture, infinite without loss. quality: on the codec's own scale.
    note: why its size is another than the one asked for; empty if it is not.
    """

    name: str
    title: str
    description: str
    pixels: Pixels
    bytes: int
    bpp: float
    psnr: float
    quality: float
    note: str = ""

    @property
    def facts(self) -> str:
        """Size and PSNR in a line; in ASCII, but for the points between them."""
        psnr = f"{self.psnr:.2f} dB" if math.isfinite(self.psnr) else "without loss"
        return f"{self.bytes:,} bytes · {self.bpp:.3f} bpp · {psnr}"


def compare(
    pixels: Pixels,
    codecs: Sequence[Codec],
    bpp: float,
    progress: Callable[[float], None] | None = None,
    tell: Tell = nobody,
) -> list[Sample]:
    """Code a picture with every codec at the size nearest to a target, each by a search over its settings.

    A codec that fails is left out.

    Args:
        pixels: uint8, `H x W x 3`.
        bpp: bits per pixel, container included.
        progress: called with the share done, 0 to 1.
        tell: called with a line for a person for each codec that is left out, in the end.

    Raises:
        UsageError: `bpp` is not positive and finite, or there is no such model or device.
        WeightsError: there are no weights for a model that was asked for.
        HpcmError: all codecs failed; it is the error of the first.
    """
    if not (bpp > 0 and math.isfinite(bpp)):
        raise UsageError(f"the target is a positive number of bits per pixel, not {bpp:g}")
    samples, failures = list[Sample](), Failures()
    coders: list[tuple[Codec, Anchor | LoadedCodec]] = []
    for codec in codecs:
        with failures.leave_out(codec.name, but=NOT_THERE):
            coders.append((codec, load(codec)))
    for done, (codec, coder) in enumerate(coders, 1):
        with failures.leave_out(codec.name):
            samples.append(_sample(codec, coder, pixels, bpp))
        if progress:
            progress(done / len(coders))
    failures.check(left=samples, tell=tell)
    return samples


def detailed_window(pixels: Pixels, width: int, height: int) -> Window:
    """The part of a picture with the most detail: the largest sum of squared steps from pixel to pixel.

    Its corner is a multiple of 16; where the picture is smaller than the window, so is the window.
    """
    rows, columns = pixels.shape[:2]
    width, height = min(width, columns), min(height, rows)
    energy = np.zeros((-(-rows // BLOCK), -(-columns // BLOCK)))
    for row in range(len(energy)):
        strip = pixels[row * BLOCK : (row + 1) * BLOCK + 1].sum(axis=2, dtype=np.int32)
        across = np.square(np.diff(strip[:BLOCK], axis=1)).sum(axis=0)
        down = np.square(np.diff(strip, axis=0)).sum(axis=0)
        down[:-1] += across
        energy[row] = np.add.reduceat(down, np.arange(0, columns, BLOCK))
    sums = np.pad(energy.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    high, wide = -(-height // BLOCK), -(-width // BLOCK)
    inside = sums[high:, wide:] - sums[:-high, wide:] - sums[high:, :-wide] + sums[:-high, :-wide]
    inside = inside[: (rows - height) // BLOCK + 1, : (columns - width) // BLOCK + 1]
    y, x = np.unravel_index(int(inside.argmax()), inside.shape)
    return Window(int(x) * BLOCK, int(y) * BLOCK, width, height)


def sheet(pixels: Pixels, samples: Sequence[Sample], window: Window | None = None) -> Image.Image:
    """The original and what codecs made of it, side by side at 1:1, each under its name, size and PSNR.

    `window` is the part to show, the whole picture if None; what the labels say is of the whole picture.
    """
    rows, columns = pixels.shape[:2]
    window = window or Window(0, 0, columns, rows)
    part = window.width < columns or window.height < rows
    size = f"{columns} x {rows} pixels"
    shown = f"{window.width} x {window.height} at {window.x},{window.y} of {size}" if part else size
    cells = [("Original", shown, "", pixels)]
    cells += [(sample.title, sample.facts, sample.note, sample.pixels) for sample in samples]

    type_size = min(LARGEST_TYPE, max(SMALLEST_TYPE, window.width // CHARACTERS))
    title_font = ImageFont.load_default(size=round(1.3 * type_size))
    font = ImageFont.load_default(size=type_size)
    texts = [(title_font, title) for title, *_ in cells]
    texts += [(font, line) for _, *lines, _ in cells for line in lines]
    width = max(window.width, *(math.ceil(face.getlength(text)) for face, text in texts))
    step = round(1.35 * type_size)
    label, height = round(3.5 * type_size), window.height
    across = _columns(len(cells), width + GAP, label + height + GAP)
    rows_of_cells = [cells[first : first + across] for first in range(0, len(cells), across)]
    tops, y = [], GAP
    for row in rows_of_cells:
        tops.append(y)
        y += label + step * any(note for _, _, note, _ in row) + height + 2 * GAP
    paper = Image.new("RGB", (GAP + across * (width + GAP), y - GAP), PAPER)
    pen = ImageDraw.Draw(paper)
    for top, bottom, row in zip(tops, [*tops[1:], y], rows_of_cells, strict=True):
        for column, (title, facts, note, image) in enumerate(row):
            x, below = GAP + column * (width + GAP), top + round(1.75 * type_size)
            pen.text((x, top), title, INK, title_font)
            pen.text((x, below), facts, FAINT, font)
            pen.text((x, below + step), note, WARNING, font)
            y = bottom - 2 * GAP - height
            pen.rectangle((x - 1, y - 1, x + window.width, y + height), outline=EDGE)
            paper.paste(Image.fromarray(window.of(image)), (x, y))
    return paper


def _sample(codec: Codec, coder: Anchor | LoadedCodec, pixels: Pixels, bpp: float) -> Sample:
    if isinstance(coder, LoadedCodec):
        data, quality = coder.encode_to(pixels, bpp)
    else:
        found = reach(coder, pixels, bpp)
        data, quality = found.data, found.quality
    decoded = coder.decode(data)
    reached = 8 * len(data) / (pixels.shape[0] * pixels.shape[1])
    return Sample(
        name=codec.name,
        title=codec.title,
        description=codec.description,
        pixels=decoded,
        bytes=len(data),
        bpp=reached,
        psnr=metrics.psnr(pixels, decoded),
        quality=quality,
        note=_note(reached, bpp),
    )


def _note(reached: float, wanted: float) -> str:
    if abs(math.log(reached / wanted)) <= FAR:
        return ""
    return f"cannot reach {wanted:g} bpp: this is its nearest"


def _columns(count: int, width: int, height: int) -> int:
    def distance(columns: int) -> float:
        rows = -(-count // columns)
        off, empty = columns * width / (rows * height) / SHAPE, rows * columns / count
        return abs(math.log(off)) + 1.5 * math.log(empty)

    return min(range(1, count + 1), key=distance)

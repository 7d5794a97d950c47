"""`hpcm compare`: one picture, all codecs at the same size, side by side."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..config import model_config
from ..errors import ImageError, UsageError
from ._files import STDIO, about, check_output, open_picture, or_stdio, read_bytes, title, write_bytes
from ._options import (
    Device,
    DeviceOption,
    Force,
    Json,
    PhaseOption,
    PresetOption,
    Threads,
    Weights,
    use_threads,
)
from ._show import note, progress, tell
from .decode import parse_crop

if TYPE_CHECKING:
    from ..evaluation.compare import Codec, Pixels, Sample, Window

__all__ = ["compare"]

# A sheet shows pictures up to this many pixels whole, and of larger ones a square of this side.
WHOLE, SIDE = 1_000_000, 640


def compare(
    picture: Annotated[
        Path, typer.Argument(readable=False, metavar="PICTURE", help="A picture; - is standard input.")
    ],
    bpp: Annotated[float, typer.Option(help="The size of every file, in bits per pixel.")],
    codecs: Annotated[
        str | None,
        typer.Option(help="The others, as jpeg,webp,avif.", show_default="all that are there"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            readable=False,
            help="The PNG to write; - is standard output.",
            show_default="PICTURE-compare.png",
        ),
    ] = None,
    crop: Annotated[
        str | None,
        typer.Option(
            metavar="X,Y,W,H",
            help="Show only this part: its left, top, width and height in pixels.",
            show_default="all, of large pictures the part with the most detail",
        ),
    ] = None,
    phase: PhaseOption = 4,
    preset: PresetOption = "lite",
    weights: Weights = None,
    device: DeviceOption = Device.auto,
    threads: Threads = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Code a picture with several codecs at the same size, and show them side by side with their PSNR."""
    if not 0 < bpp < math.inf:
        raise UsageError(f"--bpp takes a number above zero, not {bpp:g}")
    config = model_config(phase, preset)
    part = parse_crop(crop) if crop else None
    output = output or (STDIO if picture == STDIO else picture.with_name(f"{picture.stem}-compare.png"))
    output = or_stdio(output)
    _check_output(output, picture, force, as_json)
    opened = open_picture(read_bytes(picture), picture)
    with progress("comparing", 1) as show:
        from ..evaluation import compare as evaluation
        from ..evaluation.ours import HpcmCodec

        use_threads(threads)
        others = _others(codecs)
        ours = HpcmCodec(config.phase, config.family, config.preset, weights, device.value)
        with about(picture):
            pixels = _pixels(opened)
            window = _window(pixels, part)
            samples = evaluation.compare(pixels, [ours, *others], bpp, show, tell)
        made = evaluation.sheet(pixels, samples, window)
        file = io.BytesIO()
        made.save(file, "PNG")
    write_bytes(output, file.getvalue(), replace=force)
    if as_json:
        typer.echo(json.dumps(_record(picture, output, bpp, pixels, window, samples), indent=2))
    else:
        _print(samples, to_stderr=output == STDIO)
    shown = ""
    if window and not part:
        x, y, wide, high = window
        shown = f", shows {wide} x {high} at {x},{y} (--crop shows another part)"
    note(f"{title(output, 'standard output')}: {made.width} x {made.height}{shown}")


def _check_output(output: Path, source: Path, force: bool, as_json: bool) -> None:
    if output == STDIO:
        if as_json:
            raise UsageError("standard output cannot take both --json and the picture: name a file with -o")
    elif output.suffix.lower() != ".png":
        raise UsageError(f"the comparison is a PNG: name a file that ends with .png, not {output}")
    check_output(output, force, source, advice="name another file with -o, or overwrite it with --force")


def _others(names: str | None) -> list[Codec]:
    """Those that can be used here; of one that cannot a line is said if it was asked for."""
    from ..evaluation.codecs import ANCHORS, anchors

    wanted = [name.strip() for name in names.split(",") if name.strip()] if names is not None else None
    rows = anchors(wanted if wanted is not None else [name for name in ANCHORS if not name.endswith("-best")])
    for row in rows:
        if reason := row.missing():
            note(f"hpcm: note: left out: {reason}")
    return [row for row in rows if row.available()]


def _pixels(opened: Any) -> Pixels:
    from .. import codec

    if opened.has_transparency_data:
        raise ImageError("it has transparency, which the codecs would keep each in its own way")
    return codec.to_rgb(opened)


def _window(pixels: Pixels, part: tuple[int, int, int, int] | None) -> Window | None:
    from ..evaluation.compare import Window, detailed_window

    height, width = pixels.shape[:2]
    if part is None:
        return None if width * height <= WHOLE else detailed_window(pixels, SIDE, SIDE)
    window = Window(*part)
    if window.x + window.width > width or window.y + window.height > height:
        raise UsageError(f"--crop takes a part inside the picture of {width} x {height}, not {part}")
    return window


def _record(
    picture: Path, output: Path, bpp: float, pixels: Pixels, window: Window | None, samples: Sequence[Sample]
) -> dict[str, Any]:
    return {
        "path": str(picture),
        "output": str(output),
        "target_bpp": bpp,
        "width": pixels.shape[1],
        "height": pixels.shape[0],
        "crop": window,
        "codecs": [
            {
                "name": sample.name,
                "description": sample.description,
                "quality": sample.quality,
                "bytes": sample.bytes,
                "bpp": sample.bpp,
                "psnr": sample.psnr if math.isfinite(sample.psnr) else None,  # JSON has no infinity
                "note": sample.note or None,
            }
            for sample in samples
        ],
    }


def _print(samples: Sequence[Sample], to_stderr: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("codec", box=None, pad_edge=False)
    for heading in ("bytes", "bpp", "PSNR dB"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for sample in samples:
        psnr = f"{sample.psnr:.2f}" if math.isfinite(sample.psnr) else "no loss"
        table.add_row(sample.name, f"{sample.bytes:,}", f"{sample.bpp:.3f}", psnr, sample.note)
    console = Console(stderr=to_stderr, highlight=False)
    if not console.is_terminal:
        console.width = 200
    console.print(table)

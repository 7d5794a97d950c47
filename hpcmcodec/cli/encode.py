"""`hpcm encode`: a picture to a `.hpcm` file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from ..config import QUALITIES, model_config
from ._files import STDIO, about, check_output, open_picture, title, write_bytes
from ._options import (
    Device,
    DeviceOption,
    Force,
    Output,
    PhaseOption,
    PresetOption,
    Threads,
    Weights,
    use_threads,
)
from ._show import note, working

__all__ = ["encode"]


def encode(
    input: Annotated[Path, typer.Argument(metavar="INPUT", help="The picture; - is standard input.")],
    output: Output = None,
    quality: Annotated[
        float,
        typer.Option("--quality", "-q", min=QUALITIES[0], max=QUALITIES[1], help="1 is smallest, 8 is best."),
    ] = 5,
    phase: PhaseOption = 4,
    preset: PresetOption = "lite",
    weights: Weights = None,
    device: DeviceOption = Device.auto,
    threads: Threads = None,
    force: Force = False,
) -> None:
    """Encode a picture as a .hpcm file."""
    config = model_config(phase, preset)
    picture = open_picture(input)
    output = output or (STDIO if input == STDIO else input.with_suffix(".hpcm"))
    check_output(output, input, force)

    start = time.perf_counter()
    with working("encoding"), about(input):
        from .. import codec

        use_threads(threads)
        data = codec.encode(
            picture, quality, config.phase, config.family, config.preset, weights, device.value
        )
    write_bytes(output, data)
    seconds = time.perf_counter() - start
    bpp = 8 * len(data) / (picture.width * picture.height)
    note(f"{title(output, 'standard output')}: {len(data):,} bytes, {bpp:.3f} bpp, {seconds:.1f} s")

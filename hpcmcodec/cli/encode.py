"""`hpcm encode`: pictures to `.hpcm` files."""

from __future__ import annotations

import math
import re
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from .. import container
from ..config import QUALITIES, model_config
from ..errors import UsageError, WeightsError
from ._batch import Made, Progress, perform, share_threads
from ._files import about, open_picture, read_bytes
from ._jobs import PICTURES, plan
from ._options import (
    Device,
    DeviceOption,
    Force,
    Jobs,
    Json,
    MaxPixels,
    Output,
    OutputDir,
    PhaseOption,
    PresetOption,
    Recursive,
    SkipExisting,
    Threads,
    Weights,
    use_threads,
)

__all__ = ["encode"]

UNITS = {"bpp": " bpp", "size": " bytes", "psnr": " dB"}


def encode(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            readable=False,
            metavar="INPUT",
            help="Pictures, folders of them, patterns as 'photos/*.jpg'; - is standard input.",
        ),
    ],
    output: Output = None,
    output_dir: OutputDir = None,
    recursive: Recursive = False,
    quality: Annotated[
        float | None,
        typer.Option(
            "--quality",
            "-q",
            min=QUALITIES[0],
            max=QUALITIES[1],
            help="1 is smallest, 8 is best.",
            show_default="5",
        ),
    ] = None,
    target_bpp: Annotated[
        float | None, typer.Option(help="Find the quality that comes to so many bits per pixel.")
    ] = None,
    target_size: Annotated[
        str | None,
        typer.Option(help="Find the quality that comes to a file of this size, as 80KB, 1.5MB or 80000."),
    ] = None,
    target_psnr: Annotated[
        float | None, typer.Option(help="Find the quality that comes to so many dB.")
    ] = None,
    tile: Annotated[
        int | None,
        typer.Option(
            help="Side of the tiles in pixels, a multiple of 64 from 256 to 2048; 0 is never.",
            show_default="large pictures only",
        ),
    ] = None,
    strip: Annotated[
        bool, typer.Option("--strip", help="Leave out metadata, as the place; convert to sRGB.")
    ] = False,
    frame: Annotated[
        int | None, typer.Option(min=0, help="Which one of an animation or of several pages, from 0.")
    ] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Decode the file before it is written.")] = False,
    max_pixels: MaxPixels = None,
    phase: PhaseOption = 4,
    preset: PresetOption = "lite",
    weights: Weights = None,
    device: DeviceOption = Device.auto,
    threads: Threads = None,
    jobs: Jobs = 1,
    skip_existing: SkipExisting = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Encode pictures as .hpcm files: beside them, or where -o or --output-dir says."""
    config = model_config(phase, preset)
    wanted = _target(quality, target_bpp, target_size, target_psnr)
    low, high = container.TILE_SIDES
    if tile and (tile % container.MULTIPLE or not low <= tile <= high):
        raise UsageError(
            f"--tile takes a multiple of {container.MULTIPLE} from {low} to {high}, or 0, not {tile}"
        )
    planned = plan(inputs, PICTURES, ".hpcm", output, output_dir, recursive)
    processes = min(jobs, len(planned.jobs))
    work = partial(
        _encode,
        wanted=wanted,
        threads=share_threads(threads, processes),
        quality=5 if quality is None else quality,
        phase=config.phase,
        family=config.family,
        preset=config.preset,
        weights=weights,
        device=device.value,
        tile=tile,
        strip=strip,
        frame=frame,
        verify=verify,
        max_pixels=max_pixels,
    )
    perform(
        planned,
        work,
        "encode",
        force=force,
        skip_existing=skip_existing,
        processes=processes,
        as_json=as_json,
        fatal=WeightsError,
    )


def _encode(
    source: Path, progress: Progress, *, wanted: dict[str, Any], threads: int | None, **options: Any
) -> Made:
    data = read_bytes(source)
    picture = open_picture(data, source, options["max_pixels"])
    with about(source):
        from .. import codec

        use_threads(threads)
        target = codec.Target(**wanted) if wanted else None
        encoded = codec.encode_picture(picture, **options, target=target, progress=progress)
    facts = container.describe(encoded.data, options["max_pixels"])
    bpp = facts["bits_per_pixel"]
    notes = encoded.notes
    for kind, goal in wanted.items():
        unit = UNITS[kind]
        reached = {"bpp": f"{bpp:.3f}", "size": f"{len(encoded.data):,}", "psnr": f"{encoded.psnr or 0:.2f}"}
        line = f"wanted {goal:,}{unit}, reached {reached[kind]} at quality {encoded.quality:.2f}"
        notes = (line, *notes)
    return Made(
        encoded.data,
        source_bytes=len(data),
        pixels=facts["width"] * facts["height"],
        bpp=bpp,
        quality=encoded.quality,
        psnr=encoded.psnr,
        notes=notes,
        says=f"{len(encoded.data):,} bytes, {bpp:.3f} bpp",
    )


def _target(quality: float | None, bpp: float | None, size: str | None, psnr: float | None) -> dict[str, Any]:
    """The target, by the name it has in `codec.Target`; empty if there is none."""
    wanted = {"bpp": bpp, "size": _bytes(size) if size else None, "psnr": psnr}
    given = {kind: value for kind, value in wanted.items() if value is not None}
    if len(given) + (quality is not None) > 1:
        raise UsageError("choose one of --quality, --target-bpp, --target-size and --target-psnr")
    for kind, value in given.items():
        if not 0 < value < math.inf:
            raise UsageError(f"--target-{kind} takes a number above zero, not {value:g}")
    return given


def _bytes(text: str) -> int:
    """ "80KB" -> 80000, "1KiB" -> 1024."""
    match = re.fullmatch(r"([\d.]+) ?(?:([kmg])(i?)b?|b?)", text.strip().lower())
    try:
        if not match:
            raise ValueError
        number, unit, binary = match.groups()
        return round(float(number) * (1024 if binary else 1000) ** (" kmg".index(unit or " ")))
    except ValueError:
        raise UsageError(f"--target-size takes a size as 80KB, 1.5MB, 64KiB or 80000, not {text!r}") from None

"""`hpcm selftest`: does this machine decode what others encode?"""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..config import ModelConfig
from ..errors import ModelMismatchError, UsageError
from ._options import Device, DeviceOption, Json, Threads, Weights, numbers, use_threads
from ._show import note, tell, working

if TYPE_CHECKING:
    from ..evaluation.exchange import Exchange

__all__ = ["selftest"]


def selftest(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DIR]",
            help="With --device cuda: pictures to code on the CPU and the GPU and to decode on both.",
            show_default=False,
        ),
    ] = None,
    phase: Annotated[int | None, typer.Option(help="Only this phase.", show_default="all")] = None,
    weights: Weights = None,
    qualities: Annotated[str, typer.Option(help="With DIR: at which, as 5 or 1,3.5 or 1-8.")] = "1,4,8",
    limit: Annotated[
        int | None, typer.Option(min=1, help="With DIR: only the first pictures.", show_default="all")
    ] = None,
    device: DeviceOption = Device.auto,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Check that this machine computes, bit for bit, what files are decoded by."""
    points = numbers(qualities, "--qualities")
    if folder and device is not Device.cuda:
        raise UsageError(
            f"the pictures of {folder} go from the CPU to another device: name it, --device cuda"
        )
    use_threads(threads)
    with working("computing"):
        from .. import zoo
        from ..ops.exact import no_native
        from ..selftest import selftest as run

        if weights is not None:
            configs = [zoo.config_of(weights)]
        else:
            configs = [c for c in zoo.available() if phase is None or c.phase == phase]
        if not configs:
            raise UsageError(
                "there are no weights to test" + ("" if phase is None else f" for phase {phase}")
            )
        outcomes = [run(config, weights, device.value) for config in configs]
        files = _exchanged(configs, folder, points, limit, weights) if folder else {}
    if as_json:
        rows = [
            {"model": o.config.name, "passed": o.passed, "here": o.here, "stored": o.stored}
            | ({"files": [asdict(f) for f in files[o.config.name]]} if files else {})
            for o in outcomes
        ]
        typer.echo(json.dumps(rows, indent=2))
    else:
        for o in outcomes:
            typer.echo(f"{o.config.name}  {o.here}  {'ok' if o.passed else f'NOT {o.stored}'}")
        for name, made in files.items():
            for line in _summary(made):
                typer.echo(f"{name}  {line}")
    if device is not Device.cuda and no_native():
        note(f"hpcm: note: without native kernels coding takes about twice as long: {no_native()}")
    failed = [o.config.name for o in outcomes if not o.passed]
    if failed:
        raise ModelMismatchError(
            f"this machine computes something else for {', '.join(failed)}:"
            " files made elsewhere will not decode here"
        )
    lost = [(name, f) for name, made in files.items() for f in made if f.failed]
    if lost:
        name, f = lost[0]
        raise ModelMismatchError(
            f"{len(lost)} of {sum(map(len, files.values()))} do not come across; the first, {f.picture} at"
            f" quality {f.quality:g} by {name}, {f.failed}"
        )


def _exchanged(
    configs: list[ModelConfig], folder: Path, points: list[float], limit: int | None, weights: Path | None
) -> dict[str, list[Exchange]]:
    """Between the CPU and the GPU, by the models' names."""
    from ..evaluation.exchange import exchange
    from ..evaluation.ours import HpcmCodec
    from ..evaluation.photos import find_photos

    photos = find_photos(folder, limit, tell)

    def on(device: str, c: ModelConfig) -> HpcmCodec:
        return HpcmCodec(c.phase, c.family, c.preset, weights, device)

    return {c.name: list(exchange(on("cpu", c), on("cuda", c), photos, points)) for c in configs}


def _summary(files: list[Exchange]) -> list[str]:
    """A line for each quality."""
    lines = []
    for quality, group in groupby(sorted(files, key=lambda f: f.quality), key=lambda f: f.quality):
        some = list(group)
        same, lost = sum(f.same_file for f in some), sum(bool(f.failed) for f in some)
        largest, share = max(f.largest for f in some), sum(f.share for f in some) / len(some)
        across = "all decode on both" if not lost else f"{lost} DO NOT DECODE on both"
        lines.append(
            f"quality {quality:g}: {len(some)} pictures, {same} files the same, {across},"
            f" values at most {largest} apart, {share:.4%} of them"
        )
    return lines

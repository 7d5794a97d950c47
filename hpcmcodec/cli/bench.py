"""`hpcm bench`: the codec beside others over a folder of pictures."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..config import model_config
from ..errors import HpcmError, UsageError
from ._files import check_new, read_bytes
from ._options import Device, DeviceOption, Force, PresetOption, Threads, Weights, numbers, use_threads
from ._show import progress, size, tell

if TYPE_CHECKING:
    from rich.console import Console

    from ..evaluation.bench import Progress

__all__ = ["bench"]

STDOUT = "-"


class Effort(str, Enum):
    default = "default"
    best = "best"


def bench(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of pictures.")],
    phases: Annotated[str, typer.Option(help="Phases, as 4 or 0,2 or 0-4.")] = "4",
    qualities: Annotated[str, typer.Option(help="Our qualities, as 5 or 1,3.5 or 1-8.")] = "1-8",
    codecs: Annotated[
        str, typer.Option(help="Others beside ours: jpeg, webp, avif, jpeg2000, jxl; or none.")
    ] = "jpeg,webp,avif",
    effort: Annotated[
        Effort, typer.Option(help="Of the others: as most people use them, or the slowest and smallest.")
    ] = Effort.default,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only the first pictures.", show_default="all")
    ] = None,
    curves: Annotated[Path | None, typer.Option(help="JSON of published curves to compare with.")] = None,
    as_json: Annotated[
        str | None,
        typer.Option(
            "--json",
            metavar="FILE",
            help="Keep the results here, as they come: a file, or a folder/ for a file per codec;"
            " - prints them in the end.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with --json FILE: measure only what is missing in it.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the curves: a .png, .svg or .pdf.", show_default=False)
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(help="Write a report: curves, tables and crops, in one file.", show_default=False),
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option(help="Write the tables as Markdown.", show_default=False)
    ] = None,
    preset: PresetOption = "lite",
    weights: Weights = None,
    device: DeviceOption = Device.auto,
    threads: Threads = None,
    force: Force = False,
) -> None:
    """Encode and decode a folder with this codec and others: size, PSNR, MS-SSIM, time, BD-rate."""
    wanted = [_whole(phase) for phase in numbers(phases, "--phases")]
    points = numbers(qualities, "--qualities")
    others = [] if codecs.strip() in ("", "none") else [name.strip() for name in codecs.split(",")]
    output = None if as_json in (None, STDOUT) else as_json
    if resume and output is None:
        raise UsageError("--resume goes on with what is in a file: name it with --json")
    _check_outputs(plot, html, markdown, force)
    with _progress() as show_points, _advice(output):
        from ..evaluation.bench import bench as measure

        use_threads(threads)
        results = measure(
            folder,
            wanted,
            points,
            preset=preset,
            weights=weights,
            device=device.value,
            others=others,
            effort=effort.value,
            limit=limit,
            curves=curves,
            output=output,
            resume=resume,
            force=force,
            weights_sha256=_digests(wanted, preset, weights),
            progress=show_points,
            tell=tell,
        )
    failures = _write(results, folder, weights, plot, html, markdown, force)
    if as_json == STDOUT:
        typer.echo(json.dumps(results, indent=2))
    else:
        _print(results)
    for error in failures[1:]:
        tell(str(error))
    if failures:
        raise failures[0]


@contextmanager
def _advice(output: str | None) -> Iterator[None]:
    """Say what Ctrl-C has left."""
    try:
        yield
    except KeyboardInterrupt:
        if output and Path(output).exists():
            tell(f"{output} holds what was measured; --resume goes on from there")
        raise


def _check_outputs(plot: Path | None, html: Path | None, markdown: Path | None, force: bool) -> None:
    """Refuse now what could not be written when all has been measured."""
    for path in filter(None, (plot, html, markdown)):
        check_new(path, force)
    if plot or html:
        from ..evaluation.plot import FORMATS, require_matplotlib

        if plot and plot.suffix.lower() not in FORMATS:
            raise UsageError(f"--plot takes a {', '.join(FORMATS)}, not {plot}")
        require_matplotlib()


def _write(
    results: Sequence[Mapping[str, Any]],
    folder: Path,
    weights: Path | None,
    plot: Path | None,
    html: Path | None,
    markdown: Path | None,
    replace: bool,
) -> list[HpcmError]:
    """Write what was asked for, each whatever becomes of the others; what failed is returned."""
    from ..evaluation.failures import Failures

    failures = Failures()
    if plot:
        from ..evaluation.plot import draw

        with failures.leave_out():
            draw(results, plot, replace=replace)
    if html:
        from ..evaluation.report import write

        with failures.leave_out(), progress("writing the report", 1) as show:
            write(results, folder, html, weights=weights, progress=show, replace=replace)
    if markdown:
        from ..evaluation import markdown as page

        with failures.leave_out():
            page.write(results, markdown, replace=replace)
    return failures.errors


def _digests(phases: Sequence[int], preset: str, weights: Path | None) -> dict[int, str]:
    """Of each phase's weights file, for the record; those that are missing are left to whom they fail."""
    from .. import zoo

    models = zoo.manifest()["models"]
    names = {phase: model_config(phase, preset).name for phase in phases}
    files = {
        phase: weights or zoo.weights_dir() / models[name]["file"]
        for phase, name in names.items()
        if weights or name in models
    }
    return {phase: hashlib.sha256(read_bytes(file)).hexdigest() for phase, file in files.items()}


def _whole(phase: float) -> int:
    if phase % 1:  # also of what is not finite
        raise UsageError(f"phases are whole numbers, not {phase:g}")
    return int(phase)


@contextmanager
def _progress() -> Iterator[Callable[[Progress], None] | None]:
    """A bar with the time that is left, on a terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # Codecs differ in speed by a factor of hundreds: only a mean over whole pictures says what is left.
    with Bar(
        *columns, console=console, transient=True, refresh_per_second=2, speed_estimate_period=86400
    ) as bar:
        task = bar.add_task("loading", total=None)

        def show(state: Progress) -> None:
            words = f"{state.image} {state.codec}" if state.point else "loading"
            bar.update(task, description=words, completed=state.done, total=state.total)

        yield show


def _print(results: Sequence[Mapping[str, Any]]) -> None:
    """A table for each codec that was measured, and one of all BD-rates."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 200
    measured = [result for result in results if not result["published"] and not result["skipped"]]
    for result in measured:
        _print_codec(console, result)
    _print_bd_rates(console, results, [result for result in measured if result["bd_rate"]])


def _print_codec(console: Console, result: Mapping[str, Any]) -> None:
    from rich.table import Table

    from ..evaluation.results import cell

    count = result["pictures"]
    console.print(
        f"{result['name']}: {count} picture{'s' * (count != 1)}, {result['description']}", markup=False
    )
    table = Table("quality", box=None, pad_edge=False)
    columns = {
        "bpp": ("bpp", ".4f"),
        "PSNR dB": ("psnr-rgb", ".2f"),
        "MS-SSIM": ("ms-ssim-rgb", ".4f"),
        "encode s": ("encoding_time", ".3f"),
        "decode s": ("decoding_time", ".3f"),
    }
    for heading in columns:
        table.add_column(heading, justify="right")
    for index, quality in enumerate(result["qualities"]):
        table.add_row(
            f"{quality:g}", *(cell(result["results"][key][index], form) for key, form in columns.values())
        )
    console.print(table)
    if process := result["process"]:
        parts = (
            f"{verb} {process[f'{what}_time']:.2f} s"
            + (f" in {size(memory)}" if (memory := process[f"{what}_memory"]) else "")
            for verb, what in (("encode", "encoding"), ("decode", "decoding"))
        )
        console.print(f"in a process of its own: {', '.join(parts)}")
    console.print()


def _print_bd_rates(
    console: Console, results: Sequence[Mapping[str, Any]], measured: Sequence[Mapping[str, Any]]
) -> None:
    from rich.table import Table

    from ..evaluation.results import cell

    others = [
        name for name in (r["name"] for r in results) if any(name in (m["bd_rate"] or {}) for m in measured)
    ]
    if not others:
        return
    table = Table("against", box=None, pad_edge=False)
    for result in measured:
        table.add_column(result["name"], justify="right", overflow="fold")
    for name in others:
        rates = (result["bd_rate"].get(name, {"percent": None}) for result in measured)
        table.add_row(name, *(cell(rate["percent"], "+.1f") for rate in rates))
    console.print("BD-rate, %: bits at equal PSNR, less is better")
    console.print(table)
    console.print(measured[0]["bd_method"], style="dim")

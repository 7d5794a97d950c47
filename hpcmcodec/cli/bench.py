"""`hpcm bench`: rate and quality over a folder of pictures."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UsageError
from ._files import read_bytes
from ._options import Device, DeviceOption, Json, PresetOption, Threads, Weights, use_threads

if TYPE_CHECKING:
    from ..evaluation.bench import Progress

__all__ = ["bench"]


def bench(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of pictures.")],
    phases: Annotated[str, typer.Option(help="Phases, as 4 or 0,2 or 0-4.")] = "4",
    qualities: Annotated[str, typer.Option(help="Qualities, as 5 or 1,3.5 or 1-8.")] = "1-8",
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only the first pictures.", show_default="all")
    ] = None,
    curves: Annotated[
        Path | None, typer.Option(help='JSON of curves to compare with: {name: {"bpp": [], "psnr": []}}.')
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Also write the results here, as they come.")
    ] = None,
    preset: PresetOption = "lite",
    weights: Weights = None,
    device: DeviceOption = Device.auto,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Encode and decode a folder of pictures: bytes, PSNR, MS-SSIM, time, BD-rate against --curves."""
    wanted = [_whole(phase) for phase in _numbers(phases, "--phases")]
    points = _numbers(qualities, "--qualities")
    with _progress() as progress:
        from ..evaluation.bench import bench as measure

        use_threads(threads)
        results = measure(
            folder,
            wanted,
            points,
            preset=preset,
            weights=weights,
            device=device.value,
            limit=limit,
            curves=curves,
            output=output,
            weights_sha256=_digests(wanted, preset, weights),
            progress=progress,
        )
    if as_json:
        typer.echo(json.dumps(results, indent=2))
        return
    for result in results:
        _print(result)


def _digests(phases: list[int], preset: str, weights: Path | None) -> dict[int, str]:
    """Of each phase's weights file, for the record."""
    from .. import zoo

    if weights is None:
        models = zoo.manifest()["models"].values()
        return {model["phase"]: model["sha256"] for model in models if model["preset"] == preset}
    digest = hashlib.sha256(read_bytes(weights)).hexdigest()
    return dict.fromkeys(phases, digest)


def _numbers(text: str, option: str) -> list[float]:
    """ "1,3.5,6-8" -> [1, 3.5, 6, 7, 8]."""
    numbers: list[float] = []
    try:
        for part in text.split(","):
            first, dash, last = part.partition("-")
            numbers += range(int(first), int(last) + 1) if dash else [float(first)]
    except ValueError:
        raise UsageError(f"{option} takes numbers such as 1,3.5 or 1-8, not {text!r}") from None
    return numbers


def _whole(phase: float) -> int:
    if phase % 1:  # also of what is not finite
        raise UsageError(f"phases are whole numbers, not {phase:g}")
    return int(phase)


@contextmanager
def _progress() -> Iterator[Callable[[Progress], None] | None]:
    from rich.console import Console
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    with Bar(console=console, transient=True) as bar:
        task = bar.add_task("loading", total=None)
        yield lambda state: bar.update(task, description=state.codec, completed=state.done, total=state.total)


def _print(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(f"{result['name']}: {result['pictures']} pictures")
    table = Table("quality", box=None, pad_edge=False)
    columns = {
        "bpp": ("bpp", ".4f"),
        "PSNR dB": ("psnr-rgb", ".2f"),
        "MS-SSIM": ("ms-ssim-rgb", ".4f"),
        "encode s": ("encoding_time", ".2f"),
        "decode s": ("decoding_time", ".2f"),
    }
    for heading in columns:
        table.add_column(heading, justify="right")
    for index, quality in enumerate(result["qualities"]):
        values = (result["results"][key][index] for key, _ in columns.values())
        table.add_row(
            f"{quality:g}",
            *(_cell(value, form) for value, (_, form) in zip(values, columns.values(), strict=True)),
        )
    console.print(table)
    for name, rate in (result["bd_rate"] or {}).items():
        console.print(f"BD-rate, %, against {name}: {_cell(rate, '+.1f')}", highlight=False)


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)

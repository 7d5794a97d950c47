"""Options that several commands share."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from ..config import PHASES, PRESETS
from ..container.limits import DEFAULT_PIXELS, ENVIRONMENT
from ..errors import UsageError

__all__ = [
    "Device",
    "DeviceOption",
    "Force",
    "Jobs",
    "Json",
    "MaxPixels",
    "Output",
    "OutputDir",
    "PhaseOption",
    "PresetOption",
    "Recursive",
    "SkipExisting",
    "Threads",
    "Weights",
    "numbers",
    "use_threads",
]


class Device(str, Enum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


_LAST_PHASE = max(map(len, PHASES.values())) - 1

DeviceOption = Annotated[
    Device,
    typer.Option(help="Where to compute; auto is the CPU."),
]
Force = Annotated[bool, typer.Option("--force", "-f", help="Overwrite what is there.")]
Jobs = Annotated[int, typer.Option(min=1, help="Files at the same time; they share the threads.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]
MaxPixels = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Refuse a picture of more pixels, its sides padded to multiples of 64, before it takes memory.",
        show_default=f"{ENVIRONMENT}, else {DEFAULT_PIXELS}",
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        readable=False,
        help="Where to write; - is standard output.",
        show_default="beside the input",
    ),
]
OutputDir = Annotated[
    Path | None,
    typer.Option(
        readable=False,
        help="Folder to write to, made if missing; what is in folders keeps its place below it.",
        show_default="beside the inputs",
    ),
]
PhaseOption = Annotated[
    int, typer.Option(help=f"Context model: 0 is the baseline, 1 to {_LAST_PHASE} have more and more RWKV.")
]
PresetOption = Annotated[str, typer.Option(help=f"Size of the model: {', '.join(PRESETS)}.")]
Recursive = Annotated[bool, typer.Option("--recursive", "-r", help="Look in the folders of folders too.")]
SkipExisting = Annotated[bool, typer.Option("--skip-existing", help="Leave out what has its output.")]
Threads = Annotated[
    int | None, typer.Option(min=1, max=4096, help="Processor threads.", show_default="all cores")
]
Weights = Annotated[
    Path | None,
    typer.Option(readable=False, help="A weights file to use.", show_default="what comes with the package"),
]


def use_threads(threads: int | None) -> None:
    """Apply `--threads`; this is where a command first imports torch."""
    if threads:
        import torch

        torch.set_num_threads(threads)


def numbers(text: str, option: str) -> list[float]:
    """ "1,3.5,6-8" -> [1, 3.5, 6, 7, 8]."""
    found: list[float] = []
    try:
        for part in text.split(","):
            first, dash, last = part.partition("-")
            found += range(int(first), int(last) + 1) if dash else [float(first)]
    except ValueError:
        raise UsageError(f"{option} takes numbers such as 1,3.5 or 1-8, not {text!r}") from None
    return found

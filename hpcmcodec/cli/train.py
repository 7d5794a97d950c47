"""`hpcm train`: train a model on pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..config import model_config
from ._options import Device, PhaseOption, PresetOption
from ._show import note

if TYPE_CHECKING:
    from ..training.run import Report

__all__ = ["train"]


def train(
    data: Annotated[
        list[Path], typer.Option(help="A tar or a folder of pictures; may be given several times.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for checkpoints, log and weights.")],
    phase: PhaseOption = 4,
    preset: PresetOption = "lite",
    init: Annotated[Path | None, typer.Option(help="Weights to start from.", show_default="random")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint in OUTPUT.")
    ] = False,
    steps: Annotated[int | None, typer.Option(min=1, help="Stop after so many steps.")] = None,
    seconds: Annotated[float | None, typer.Option(min=0, help="Stop after so many seconds.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Crops per step and device.")] = 16,
    crop: Annotated[int, typer.Option(min=64, help="Side of the crops, a multiple of 64.")] = 256,
    device: Annotated[
        Device, typer.Option(help="Where to compute; auto takes a GPU if there is one.")
    ] = Device.auto,
    seed: Annotated[int, typer.Option(help="Seed of all that is random.")] = 0,
    validation: Annotated[
        Path | None, typer.Option(help="A tar or a folder of pictures to measure at the end.")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A picture never to train on; may be repeated.")
    ] = None,
) -> None:
    """Train a model on tars or folders of pictures, until --steps or --seconds are over."""
    config = model_config(phase, preset)
    from ..training.run import TrainOptions
    from ..training.run import train as run

    options = TrainOptions(
        config=config,
        data=tuple(data),
        output=output,
        init=init,
        resume=resume,
        steps=steps,
        seconds=seconds,
        batch=batch,
        crop=crop,
        device=device.value,
        seed=seed,
        validation=validation,
        exclude=frozenset(exclude or ()),
    )
    weights = run(options, _report)
    if weights:
        typer.echo(weights)


def _report(state: Report) -> None:
    note(
        f"{state.share:4.0%}  step {state.step}  {state.seconds:.0f} s  {state.crops_per_second:.0f} crops/s"
        f"  loss {state.loss:.4f}  {state.bpp:.4f} bpp  mse {state.mse:.2f}"
    )

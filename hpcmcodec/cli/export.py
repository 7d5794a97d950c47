"""`hpcm export`: from trained float weights to a weights file that codes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from ..config import model_config
from ..errors import UsageError
from ._files import check_new
from ._options import Device, Force, PhaseOption, PresetOption
from ._show import note, working

__all__ = ["export"]


def export(
    trained: Annotated[
        Path, typer.Argument(metavar="TRAINED", help="Float weights, or the folder or checkpoint of a run.")
    ],
    data: Annotated[
        list[Path],
        typer.Option(help="A tar or a folder of pictures to round for; may be given several times."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The weights file to write.")],
    phase: PhaseOption = 4,
    preset: PresetOption = "lite",
    pictures: Annotated[int, typer.Option(min=1, help="How many of the pictures to use.")] = 32,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A picture never to use; may be repeated.")
    ] = None,
    base: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Store only what differs from this weights file, in whose folder the new one must be.",
        ),
    ] = None,
    device: Annotated[
        Device, typer.Option(help="Where to compute; auto takes a GPU if there is one.")
    ] = Device.auto,
    force: Force = False,
) -> None:
    """Round float weights to int8 and choose the integer arithmetic of the entropy path, on pictures."""
    check_new(output, force)
    if base and Path(os.path.realpath(base)).parent != Path(os.path.realpath(output)).parent:
        raise UsageError(f"{output} can only be joined with {base} from the same folder: write it there")
    config = model_config(phase, preset)
    with working("reading"):
        from ..training.export import export as write
        from ..training.export import varied_batches
        from ..training.run import trained_model

        model, beginning = trained_model(config, trained, device.value)
        batches = varied_batches(data, pictures, frozenset(exclude or ()), model.gain_y.log.device)
    with working("rounding"):
        write(model, output, beginning.totals, batches, beginning.rounded, base, replace=force)
    note(f"rounded for {sum(map(len, batches))} pictures")
    typer.echo(output)

"""`hpcm train`: train a model on pictures."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..config import model_config
from ._options import Device, PhaseOption, PresetOption
from ._show import note

if TYPE_CHECKING:
    from ..training.run import Report

__all__ = ["train"]

RECIPE = "Recipe"
AUGMENTATION = "Variations of the photographs' crops, at random, up to"


def train(
    data: Annotated[
        list[Path], typer.Option(help="A tar or a folder of pictures; may be given several times.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for checkpoint, log, curves and weights.")
    ],
    phase: PhaseOption = 4,
    preset: PresetOption = "lite",
    init: Annotated[
        Path | None,
        typer.Option(
            help="What to start from: weights, or the folder or checkpoint of a run, whose moments and"
            " counts then go on too.",
            show_default="random weights",
        ),
    ] = None,
    part: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Train only this part of the context model (context.attn.2, quant_step, ...; may be"
            " repeated), anew, for the rate alone; the rest is INIT's, which may be of another phase.",
        ),
    ] = None,
    latents: Annotated[
        int, typer.Option(min=1, help="With --part: how many random crops to train on.")
    ] = 16384,
    drawn: Annotated[
        int,
        typer.Option(
            min=0,
            help="How many pictures to draw: text, interfaces, charts, thin lines, maps, art, odd colours.",
        ),
    ] = 0,
    drawn_data: Annotated[
        list[Path] | None,
        typer.Option(help="A tar or a folder of pictures drawn before; may be given several times."),
    ] = None,
    drawn_share: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Share of the crops that come from drawn pictures, however many those are.",
            show_default="each picture as often as any other",
        ),
    ] = None,
    tune: Annotated[
        bool,
        typer.Option(
            "--tune",
            help="Train half of the crops for the eye, and the vectors that depend on tune with them.",
        ),
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run that was cut in OUTPUT.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Start over in an OUTPUT that holds a run.")
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
    matrix_rate: Annotated[
        float, typer.Option(min=0, rich_help_panel=RECIPE, help="Learning rate of the matrices (Muon).")
    ] = 1e-2,
    vector_rate: Annotated[
        float, typer.Option(min=0, rich_help_panel=RECIPE, help="Learning rate of all else (AdamW).")
    ] = 2e-3,
    matrix_decay: Annotated[
        float,
        typer.Option(
            min=0, rich_help_panel=RECIPE, help="Decay of the matrices, per step and unit of their rate."
        ),
    ] = 0.1,
    warmup: Annotated[
        float,
        typer.Option(
            min=0, max=1, rich_help_panel=RECIPE, help="Share of the run over which the rates rise."
        ),
    ] = 0.02,
    decay: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            rich_help_panel=RECIPE,
            help="Share of the run, its last, over which the rates fall to zero; 0 keeps them.",
        ),
    ] = 0.7,
    ema_decay: Annotated[
        float,
        typer.Option(min=0, max=1, rich_help_panel=RECIPE, help="Decay per step of the averaged weights."),
    ] = 0.999,
    rescale: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            rich_help_panel=AUGMENTATION,
            help="Share of the crops made smaller, by a factor from 0.5 to 1.",
        ),
    ] = 0.0,
    exposure: Annotated[
        float,
        typer.Option(min=0, rich_help_panel=AUGMENTATION, help="Lighter or darker by up to so many stops."),
    ] = 0.0,
    gamma: Annotated[
        float,
        typer.Option(min=0, rich_help_panel=AUGMENTATION, help="Exponent from 1 / (1 + GAMMA) to 1 + GAMMA."),
    ] = 0.0,
    saturation: Annotated[
        float,
        typer.Option(min=0, max=1, rich_help_panel=AUGMENTATION, help="Saturation changed by this share."),
    ] = 0.0,
    channel_gain: Annotated[
        float,
        typer.Option(min=0, max=1, rich_help_panel=AUGMENTATION, help="Each channel changed by this share."),
    ] = 0.0,
    save_every: Annotated[
        float, typer.Option(min=0, rich_help_panel=RECIPE, help="Seconds between checkpoints.")
    ] = 120,
) -> None:
    """Train a model on tars or folders of pictures, until --steps or --seconds are over."""
    config = model_config(phase, preset)
    with _progress() as (report, quiet):
        from ..training.augment import Augment
        from ..training.options import TrainOptions
        from ..training.run import train as run

        options = TrainOptions(
            config=config,
            data=tuple(data),
            output=output,
            init=init,
            parts=tuple(part or ()),
            latents=latents,
            drawn=drawn,
            drawn_data=tuple(drawn_data or ()),
            drawn_share=drawn_share,
            tune=tune,
            augment=Augment(rescale, exposure, gamma, saturation, channel_gain),
            resume=resume,
            force=force,
            steps=steps,
            seconds=seconds,
            batch=batch,
            crop=crop,
            device=device.value,
            seed=seed,
            matrix_rate=matrix_rate,
            vector_rate=vector_rate,
            matrix_decay=matrix_decay,
            warmup=warmup,
            decay=decay,
            ema_decay=ema_decay,
            save_every=save_every,
            quiet=quiet,
            validation=validation,
            exclude=frozenset(exclude or ()),
        )
        weights = run(options, report, note)
    if weights:
        typer.echo(weights)


def _line(state: Report) -> None:
    note(
        f"{state.share:4.0%}  step {state.step}  {state.seconds:.0f} s  {state.crops_per_second:.0f} crops/s"
        f"  loss {state.loss:.4f}  {state.bpp:.4f} bpp  mse {state.mse:.2f}"
    )


@contextmanager
def _progress() -> Iterator[tuple[Callable[[Report], None], float]]:
    """What shows a report, and the seconds after which the next is due: a bar on a terminal, else lines."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    console = Console(stderr=True)
    if not console.is_terminal or os.environ.get("RANK", "0") != "0":  # one bar for all processes
        yield _line, 30
        return
    facts = TextColumn("{task.fields[facts]}")
    with Progress(BarColumn(20), TaskProgressColumn(), facts, console=console, transient=True) as bar:
        task = bar.add_task("", total=None, facts="loading")

        def show(state: Report) -> None:
            left = timedelta(seconds=round(state.seconds * (1 - state.share) / state.share))
            facts = (
                f"{left} left  {state.crops_per_second:.0f} crops/s  loss {state.loss:.3f}"
                f"  {state.bpp:.3f} bpp  mse {state.mse:.1f}"
            )
            bar.update(task, total=1, completed=state.share, facts=facts if state.share < 1 else "finishing")

        yield show, 2

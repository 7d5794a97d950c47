"""What a run trains, on what and for how long, and what of it contradicts itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from ..config import ModelConfig
from ..errors import ImageError, UsageError
from .augment import OFF, Augment
from .beginning import CHECKPOINT

__all__ = ["WEIGHTS", "TrainOptions", "check"]

WEIGHTS = "weights.safetensors"
# What can be trained on the rate alone: nothing that the distortion hangs on.
PARTS = ("context", "quant_step")


@dataclass(frozen=True)
class TrainOptions:
    """What to train, on what, for how long.

    config: the model.
    data: folders or tars of pictures. output: folder for checkpoint, log, curves and weights.
    init: what a new run starts from: weights, int8 or float; or the checkpoint of another run, or that
        run's `output`, whose raw weights, moments and totals then go on.
    parts: names of parts of the context model ("context.attn.2", "quant_step"). They alone are trained, from
        anew; all else is taken from the weights `init`, of any phase, and stays as it is stored there. The
        distortion is then given, and only the rate counts.
    latents: of how many random crops g_a is computed, once, to train `parts` on.
    drawn: how many pictures are drawn: text, interfaces, charts, lines, foreign colours.
    drawn_data: folders or tars of pictures that were drawn before, by `write_drawn`.
    drawn_share: of the crops that come from these two, however many they are; None puts them among the
        photographs, where each picture is as likely as any other.
    augment: how the crops of photographs are varied.
    tune: draw half of the crops a tune above 0, and train what depends on it.
    resume: go on with the run that was cut in `output`, where its schedule stood; `init` is not read.
    force: start over in an `output` that holds a run.
    steps, seconds: when to stop, whichever comes first; at least one is needed.
    batch: crops per step and process. crop: their side, a multiple of 64.
    matrix_rate, vector_rate: learning rates of Muon and AdamW. They rise over the first `warmup` of the
        run and fall to zero over the last `decay`; 0 keeps them to the end.
    matrix_decay: of the matrices, per step and unit of learning rate.
    ema_decay: of the averaged weights, which are the ones exported.
    save_every: seconds between checkpoints. log_every, quiet: steps, and at most seconds, between reports.
    validation: tar or folder of pictures to measure at the end. exclude: file stems never trained on.
    accelerate: on a GPU, compile the blocks and capture the step as graphs.
    """

    config: ModelConfig
    data: tuple[Path, ...]
    output: Path
    init: Path | None = None
    parts: tuple[str, ...] = ()
    latents: int = 16384
    drawn: int = 0
    drawn_data: tuple[Path, ...] = ()
    drawn_share: float | None = None
    augment: Augment = OFF
    tune: bool = False
    resume: bool = False
    force: bool = False
    steps: int | None = None
    seconds: float | None = None
    batch: int = 16
    crop: int = 256
    device: str = "auto"
    seed: int = 0
    matrix_rate: float = 1e-2
    vector_rate: float = 2e-3
    matrix_decay: float = 0.1
    warmup: float = 0.02
    decay: float = 0.7
    ema_decay: float = 0.999
    save_every: float = 120.0
    log_every: int = 100
    quiet: float = 30.0
    validation: Path | None = None
    exclude: frozenset[str] = frozenset()
    accelerate: bool = True


def check(options: TrainOptions) -> None:
    """Refuse what cannot be done before anything is read.

    Raises:
        UsageError: options that are out of range or contradict each other, or an output that holds a run.
        ImageError: there are no such pictures.
    """
    if not options.steps and not options.seconds:
        raise UsageError("say how long to train: --steps or --seconds")
    if options.crop % 64:
        raise UsageError(f"--crop must be a multiple of 64, not {options.crop}")
    if options.parts and not options.init and not options.resume:
        raise UsageError("--part trains a part of a model: say with --init where the rest comes from")
    for part in options.parts:
        if not part.startswith(PARTS):
            raise UsageError(f"--part {part}: only parts of {' and '.join(PARTS)} can be trained alone")
    if options.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("there is no CUDA device here: choose cpu or auto")
    if options.resume and options.force:
        raise UsageError("--resume goes on and --force starts over: choose one")
    if options.drawn_share is not None:
        if not 0 <= options.drawn_share < 1:
            raise UsageError(f"--drawn-share must be at least 0 and below 1, not {options.drawn_share:g}")
        if not options.drawn and not options.drawn_data:
            raise UsageError("--drawn-share needs drawn pictures: give --drawn or --drawn-data")
    for path in (*options.data, *options.drawn_data, options.validation):
        if path and not path.exists():
            raise ImageError(f"{path} does not exist")
    taken = any((options.output / name).exists() for name in (CHECKPOINT, WEIGHTS))
    if taken and not options.resume and not options.force:
        raise UsageError(
            f"{options.output} holds a run: go on with --resume, start over with --force, or name another"
            " folder with -o"
        )

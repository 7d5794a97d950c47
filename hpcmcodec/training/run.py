"""The training loop: one process per GPU, unattended, resumable after a cut at any moment."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from safetensors import safe_open
from torch import Tensor

from ..config import ModelConfig
from ..errors import HpcmError, UsageError
from ..models import HPCM
from ..zoo import initial_weights
from .data import CropSource, read_pictures
from .export import export, fit_tables, write_whole
from .loss import draw_quality, rate_distortion
from .optimizer import FlatParameters, Optimizer
from .validate import validate

__all__ = ["Report", "TrainOptions", "train"]

CHECKPOINT = "checkpoint.safetensors"
WEIGHTS = "weights.safetensors"
LOG = "log.jsonl"
TABLE_BATCHES = 8


@dataclass(frozen=True)
class TrainOptions:
    """What to train, on what, for how long.

    config: the model.
    data: folders or tars of pictures. output: folder for checkpoint, log and weights.
    init: weights to start from. resume: go on from the checkpoint in `output`.
    steps, seconds: when to stop, whichever comes first; at least one is needed.
    batch: crops per step and process. crop: their side, a multiple of 64.
    matrix_rate, vector_rate: learning rates of Muon and AdamW. They rise over the first `warmup` of the
        run and fall to zero over the last `decay`.
    save_every: seconds between checkpoints. log_every, quiet: steps, and at most seconds, between reports.
    validation: tar or folder of pictures to measure at the end. exclude: file stems never trained on.
    accelerate: on a GPU, compile the blocks and capture the step as graphs.
    """

    config: ModelConfig
    data: tuple[Path, ...]
    output: Path
    init: Path | None = None
    resume: bool = False
    steps: int | None = None
    seconds: float | None = None
    batch: int = 16
    crop: int = 256
    device: str = "auto"
    seed: int = 0
    matrix_rate: float = 1e-2
    vector_rate: float = 1e-3
    warmup: float = 0.02
    decay: float = 0.7
    ema_decay: float = 0.999
    save_every: float = 120.0
    log_every: int = 100
    quiet: float = 30.0
    validation: Path | None = None
    exclude: frozenset[str] = frozenset()
    accelerate: bool = True


@dataclass(frozen=True)
class Report:
    """Where a run stands: share done, step, seconds, crops per second, and means since the last report."""

    share: float
    step: int
    seconds: float
    crops_per_second: float
    loss: float
    bpp: float
    mse: float
    norm: float


@dataclass(frozen=True)
class _Process:
    """This process among those of the run (torchrun's environment), and its device."""

    rank: int
    world: int
    device: torch.device

    @classmethod
    def start(cls, device: str) -> _Process:
        rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        wanted = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        if wanted == "cuda":
            place = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
            torch.cuda.set_device(place)
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
            torch.backends.cudnn.benchmark = True
        else:
            place = torch.device("cpu")
        if world > 1 and not dist.is_initialized():
            dist.init_process_group("nccl" if wanted == "cuda" else "gloo")
        return cls(rank, world, place)

    @property
    def first(self) -> bool:
        return self.rank == 0

    def mean(self, x: Tensor) -> None:
        if self.world > 1:
            dist.all_reduce(x)
            x /= self.world

    def agree(self, value: float) -> float:
        """The first process's value, on every process."""
        if self.world == 1:
            return value
        shared = torch.tensor(value, device=self.device, dtype=torch.float64)
        dist.broadcast(shared, 0)
        return float(shared)


class _Step:
    """One training step: crops, forward, backward, optimiser. Captured as two graphs on a GPU."""

    source: CropSource

    def __init__(self, model: HPCM, flat: FlatParameters, options: TrainOptions) -> None:
        self.model, self.flat, self.batch = model, flat, options.batch
        self.optimizer = Optimizer(flat, options.matrix_rate, options.vector_rate)
        device = flat.data.device
        self.stats = torch.zeros(5, device=device)
        self.half = device.type == "cuda"
        self.backward: Callable[[], None] = self._backward
        self.update: Callable[[], None] = self._update

    def compile(self, crop: int) -> None:
        """Compile the model's blocks and run them once, on noise."""
        from .accelerate import compile_regions

        compile_regions()
        noise = np.random.default_rng(0).integers(0, 256, (crop, crop, 3), dtype=np.uint8)
        self.source = CropSource([noise], crop, self.flat.data.device)
        self._backward()

    def capture(self) -> None:
        """Replace both halves by graphs. The warm-up runs at learning rate zero and leaves no trace."""
        from .accelerate import Captured

        self.optimizer.schedule(0.0, 1.0)
        self.backward = Captured(self._backward)
        self.update = Captured(self._update)
        self.optimizer.forget()
        self.stats.zero_()

    def _backward(self) -> None:
        self.flat.grad.zero_()
        device = self.flat.data.device
        x, quality = self.source.batch(self.batch), draw_quality(self.batch, device)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.half):
            out = self.model(x, quality)
        likelihoods = out["likelihoods"]
        result = rate_distortion(x, quality, out["x_hat"], likelihoods["y"], likelihoods["z"])
        result["loss"].backward()
        self.stats[:4] += torch.stack(
            (result["loss"], result["bpp"].mean(), result["mse"].mean(), torch.ones((), device=device))
        ).detach()

    def _update(self) -> None:
        self.optimizer.step()
        self.stats[4] += self.optimizer.norm


def _rate_factor(share: float, warmup: float, decay: float) -> float:
    """Share of the full learning rate: a rise, a plateau, a straight fall to zero."""
    return max(0.0, min(1.0, share / warmup if warmup else 1.0, (1 - share) / decay if decay else 1.0))


def _restore(path: Path, optimizer: Optimizer, config: ModelConfig) -> dict[str, float]:
    if not path.is_file():
        raise UsageError(f"there is no checkpoint to resume in {path.parent}")
    with safe_open(path, framework="pt") as file:
        facts = json.loads(file.metadata()["facts"])
        if facts["model"] != config.name:
            raise UsageError(f"the checkpoint in {path.parent} is of {facts['model']}, not of {config.name}")
        optimizer.load({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    return facts


def train(options: TrainOptions, report: Callable[[Report], None] | None = None) -> Path | None:
    """Train, save, validate and export; under torchrun, with as many processes as it starts.

    Returns:
        The exported weights file (None on processes but the first).

    Raises:
        UsageError: neither steps nor seconds, a crop that is no multiple of 64, nothing to resume.
        ImageError: no usable pictures.
        WeightsError: `init` does not fit the model.
        HpcmError: the device has too little memory.
    """
    if not options.steps and not options.seconds:
        raise UsageError("say how long to train: --steps or --seconds")
    if options.crop % 64:
        raise UsageError(f"--crop must be a multiple of 64, not {options.crop}")
    try:
        return _train(options, report)
    except torch.cuda.OutOfMemoryError as error:
        raise HpcmError(f"too little GPU memory for --batch {options.batch}: try a smaller one") from error
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _train(options: TrainOptions, report: Callable[[Report], None] | None) -> Path | None:
    process = _Process.start(options.device)
    options.output.mkdir(parents=True, exist_ok=True)
    log = _Log(options.output / LOG, process.first)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(_read, options, process, log)
        torch.manual_seed(options.seed)
        model = HPCM(options.config)
        if options.init:
            model.load_state_dict(initial_weights(options.config, options.init))
        model.to(process.device).to(memory_format=torch.channels_last).train()
        step = _Step(model, FlatParameters(model.named_parameters()), options)
        accelerated = process.device.type == "cuda" and options.accelerate
        if accelerated:
            step.compile(options.crop)
        step.source = reading.result()
    if accelerated:
        step.capture()
    facts: dict[str, float] = {"step": 0, "crops": 0, "seconds": 0.0}
    if options.resume:
        facts.update(_restore(options.output / CHECKPOINT, step.optimizer, options.config))
    torch.manual_seed(options.seed + 1000 * process.rank + int(facts["step"]))
    log.write(event="start", **facts)

    facts = _loop(options, process, step, facts, log, report)

    step.flat.data.copy_(step.optimizer.ema)
    weights = options.output / WEIGHTS
    if process.first:
        with torch.compiler.set_stance("force_eager"):
            tables = fit_tables(
                model.eval(), (step.source.batch(options.batch) for _ in range(TABLE_BATCHES))
            )
        export(model, weights, {"step": int(facts["step"]), "crops": int(facts["crops"])}, tables)
    log.write(event="done", **facts, **_validate(options, process, model))
    return weights if process.first else None


def _read(options: TrainOptions, process: _Process, log: _Log) -> CropSource:
    """This process's share of the pictures, on its device; runs beside the compiler."""
    threads = max(2, (os.cpu_count() or 2) // process.world)
    pictures = read_pictures(list(options.data), options.exclude, process.rank, process.world, threads)
    source = CropSource(pictures.pixels, options.crop, process.device, options.seed + process.rank)
    log.write(event="data", pictures=len(pictures.pixels), unreadable=pictures.unreadable, used=source.count)
    return source


def _loop(
    options: TrainOptions,
    process: _Process,
    step: _Step,
    facts: dict[str, float],
    log: _Log,
    report: Callable[[Report], None] | None,
) -> dict[str, float]:
    number, crops, before = int(facts["step"]), int(facts["crops"]), float(facts["seconds"])
    started = saved = last_report = time.monotonic()
    writer: threading.Thread | None = None

    def share_done() -> float:
        elapsed = before + time.monotonic() - started
        by_time = elapsed / options.seconds if options.seconds else 0.0
        by_step = number / options.steps if options.steps else 0.0
        return min(1.0, max(by_time, by_step))

    def standing() -> dict[str, float]:
        return {"step": number, "crops": crops, "seconds": round(before + time.monotonic() - started, 1)}

    def save() -> threading.Thread:
        state = step.optimizer.state()
        known = {"model": options.config.name, "seed": options.seed, **standing()}
        checkpoint = options.output / CHECKPOINT
        thread = threading.Thread(target=write_whole, args=(checkpoint, state, {"facts": json.dumps(known)}))
        thread.start()
        return thread

    share = process.agree(share_done())
    while share < 1:
        step.optimizer.schedule(
            _rate_factor(share, options.warmup, options.decay),
            min(options.ema_decay, (1 + number) / (10 + number)),
        )
        step.backward()
        process.mean(step.flat.grad)
        step.update()
        number += 1
        crops += options.batch * process.world
        if number % 10 == 0 or options.steps:
            share = process.agree(share_done())
        quiet = time.monotonic() - last_report
        if process.first and (number % options.log_every == 0 or share >= 1 or quiet > options.quiet):
            loss, bpp, mse, count, norm = step.stats.tolist()
            step.stats.zero_()
            now = time.monotonic()
            speed = count * options.batch * process.world / (now - last_report)
            last_report = now
            entry = Report(
                share,
                number,
                round(before + now - started, 1),
                speed,
                loss / count,
                bpp / count,
                mse / count,
                norm / count,
            )
            log.write(event="step", **entry.__dict__)
            if report:
                report(entry)
        if process.first and time.monotonic() - saved > options.save_every:
            saved = time.monotonic()
            if writer:
                writer.join()
            writer = save()
    if writer:
        writer.join()
    if process.first:
        save().join()
    return standing()


def _validate(options: TrainOptions, process: _Process, model: HPCM) -> dict[str, list[float]]:
    """bpp and PSNR per quality on the validation pictures, shared out over the processes."""
    if options.validation is None:
        return {}
    mine = read_pictures([options.validation], rank=process.rank, world=process.world).pixels
    tf32 = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    with torch.compiler.set_stance("force_eager"):
        sums = validate(model.eval(), mine).to(process.device)
    torch.backends.cuda.matmul.allow_tf32 = tf32
    if process.world > 1:
        dist.all_reduce(sums)
    means = (sums[:, :2] / sums[:, 2:]).T.tolist()
    return {"bpp": [round(v, 5) for v in means[0]], "psnr": [round(v, 4) for v in means[1]]}


class _Log:
    """Lines of JSON, one for each event."""

    def __init__(self, path: Path, active: bool) -> None:
        self.path, self.active = path, active

    def write(self, **event: object) -> None:
        if self.active:
            with self.path.open("a") as file:
                file.write(json.dumps(event) + "\n")

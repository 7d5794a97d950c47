"""The training loop: one process per GPU, unattended, resumable after a cut at any moment."""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from ..ambient import fresh
from ..config import ModelConfig
from ..errors import HpcmError, ImageError, InterruptedRunError, is_out_of_memory
from ..models import HPCM
from .beginning import CHECKPOINT, COUNTS, KEPT, Beginning, checkpoint_in, layout_of, told, trained
from .data import CropSource, LatentSource, read_pictures
from .export import export, write_tensors
from .log import CURVES, Log, Report
from .loss import draw_quality, draw_tune, rate_distortion, rate_only
from .optimizer import FlatParameters, Optimizer
from .options import WEIGHTS, TrainOptions, check
from .process import Process, tf32
from .sources import read_crops
from .validate import validate

__all__ = ["Report", "TrainOptions", "train", "trained_model"]

# What the exported weights are rounded for, and their tables fitted to.
TABLE_BATCHES, TABLE_CROPS = 8, 16


class _Step:
    """One training step: crops, forward, backward, optimiser. Captured as two graphs on a GPU."""

    source: CropSource | LatentSource

    def __init__(self, model: HPCM, options: TrainOptions, kept: dict[str, Tensor]) -> None:
        flat = FlatParameters(trained(model, options.parts))
        self.model, self.flat, self.batch, self.pixels = model, flat, options.batch, options.crop**2
        self.tune = options.tune
        self.optimizer = Optimizer(flat, options.matrix_rate, options.vector_rate, options.matrix_decay)
        self.kept = {KEPT + name: tensor for name, tensor in kept.items()}
        needed = options.steps * options.batch if options.steps else options.latents
        self.latents = min(options.latents, needed) if options.parts else 0
        device = flat.data.device
        self.stats = torch.zeros(5, dtype=torch.float32, device=device)
        self.half = device.type == "cuda"
        self.backward: Callable[[], None] = self._backward
        self.update: Callable[[], None] = self._update

    def compile(self, crop: int) -> None:
        """Compile the model's blocks and run them once, on noise."""
        from .accelerate import compile_regions

        compile_regions()
        noise = np.random.default_rng(0).integers(0, 256, (crop, crop, 3), dtype=np.uint8)
        self.take(CropSource([noise], crop, self.flat.data.device), LatentSource.BATCH)
        self._backward()

    def take(self, crops: CropSource, most: int | None = None) -> None:
        """Train on these crops, or on their latents, where only the rate counts."""
        count = min(self.latents, most or self.latents)
        self.source = LatentSource(self.model, crops, count) if self.latents else crops

    @property
    def crops(self) -> CropSource:
        return self.source.crops if isinstance(self.source, LatentSource) else self.source

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
        half = torch.autocast(device.type, torch.bfloat16, enabled=self.half)
        if self.latents:
            with half:
                _, p = self.model.estimate(x, quality)
            result = rate_only(self.pixels, quality, p["y"], p["z"])
        else:
            tune = draw_tune(self.batch, device) if self.tune else None
            with half:
                out = self.model(x, quality, tune=tune)
            p = out["likelihoods"]
            result = rate_distortion(x, quality, out["x_hat"], p["y"], p["z"], tune)
        result["loss"].backward()
        self.stats[:4] += torch.stack(
            (result["loss"], result["bpp"].mean(), result["mse"].mean(), torch.ones_like(result["loss"]))
        ).detach()

    def _update(self) -> None:
        self.optimizer.step()
        self.stats[4] += self.optimizer.norm

    def sound(self) -> bool:
        """Whether the weights and what the latest steps measured are finite."""
        values = (self.flat.data, self.optimizer.ema, self.stats[0])
        return all(bool(value.isfinite().all()) for value in values)

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint holds: the optimiser's state, and what is not trained."""
        return self.optimizer.state() | self.kept


def _rate_factor(share: float, warmup: float, decay: float) -> float:
    """Share of the full learning rate: a rise, a plateau, a straight fall to zero."""
    return max(0.0, min(1.0, share / warmup if warmup else 1.0, (1 - share) / decay if decay else 1.0))


def trained_model(config: ModelConfig, path: Path, device: str = "auto") -> tuple[HPCM, Beginning]:
    """A model with trained weights in float, to be exported, and what is known of them.

    Args:
        path: float weights by name, or the folder or checkpoint of a run, whose average is taken.

    Raises:
        WeightsError: the file cannot be read, or is of another model.
        UsageError: the folder holds no run.
    """
    with fresh():
        return _trained_model(config, checkpoint_in(path) if path.is_dir() else path, device)


def _trained_model(config: ModelConfig, path: Path, device: str) -> tuple[HPCM, Beginning]:
    beginning = Beginning.read(config, path)
    process = Process.start(device)
    model = HPCM(config)
    beginning.fill(model)
    model.to(process.device).to(memory_format=torch.channels_last).eval()
    beginning.fill_average(model)
    return model.requires_grad_(False), beginning


def train(
    options: TrainOptions,
    report: Callable[[Report], None] | None = None,
    note: Callable[[str], None] | None = None,
) -> Path | None:
    """Train, save, validate and export; under torchrun, with as many processes as it starts.

    On SIGINT, SIGTERM and SIGHUP it saves a checkpoint before it ends.

    Args:
        report: called now and then with where the run stands, in the first process.
        note: called with each line for a person, in the first process.

    Returns:
        The exported weights file (None on processes but the first).

    Raises:
        UsageError: options that are out of range or contradict each other, an output that holds a run,
            nothing to resume.
        ImageError: no usable pictures.
        WeightsError: `init` or the checkpoint does not fit the model.
        InterruptedRunError: a signal ended it; `resume` goes on.
        HpcmError: too little memory, no room to write, or a loss that is no finite number any more; the last
            checkpoint from before that stays.
    """
    check(options)
    try:
        with fresh():
            return _train(options, report, note)
    except torch.cuda.OutOfMemoryError as error:
        raise _too_little("GPU memory", options) from error
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise _too_little("memory", options) from error
    except KeyboardInterrupt:
        if (options.output / CHECKPOINT).is_file():
            raise InterruptedRunError("interrupted: the same command with --resume goes on") from None
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _diverged(number: int, options: TrainOptions) -> HpcmError:
    kept = options.output / CHECKPOINT
    return HpcmError(
        f"the training diverged: by step {number} the loss is no finite number. {kept} is from before that:"
        " go on from it with --resume, and a lower --matrix-rate and --vector-rate"
    )


def _too_little(memory: str, options: TrainOptions) -> HpcmError:
    return HpcmError(f"too little {memory} for the pictures and --batch {options.batch}: try less of either")


def _train(
    options: TrainOptions, report: Callable[[Report], None] | None, note: Callable[[str], None] | None
) -> Path | None:
    process = Process.start(options.device)
    options.output.mkdir(parents=True, exist_ok=True)
    with process.fast(), closing(Log(options.output, process.first, note)) as log:
        step, beginning = _prepare(options, process, log)
        facts = beginning.facts
        log.open_board(int(facts["total_steps"]))
        log.write(event="start", **facts)

        facts = _loop(options, process, step, facts, log, report)

        # The checkpoint keeps the raw weights, for a next run to go on from.
        step.flat.data.copy_(step.optimizer.ema)
        weights = options.output / WEIGHTS
        if process.first:
            with torch.compiler.set_stance("force_eager"):
                batches = [step.crops.batch(min(options.batch, TABLE_CROPS)) for _ in range(TABLE_BATCHES)]
                counts = {n: int(facts[n]) for n in COUNTS if n != "seconds"}
                export(step.model, weights, counts | told(options.parts), batches, beginning.rounded)
        measured = _validate(options, process, step.model)
        log.write(event="done", **facts, **measured)
        for q, (bpp, psnr) in enumerate(zip(*measured.values(), strict=True), 1):
            log.note(f"quality {q}: {bpp:.4f} bpp, {psnr:.2f} dB")
            log.draw(int(facts["total_steps"]), {f"validation/bpp_{q}": bpp, f"validation/psnr_{q}": psnr})
    return weights if process.first else None


def _prepare(options: TrainOptions, process: Process, log: Log) -> tuple[_Step, Beginning]:
    """The step, ready to be made, and what it starts from."""
    beginning = _beginning(options)
    seed = options.seed + 1000 * process.rank + int(beginning.facts["total_steps"])
    # Not the pool's own `with`: it would keep an error or Ctrl-C waiting until the last picture is read.
    pool = ThreadPoolExecutor(1)
    reading = pool.submit(read_crops, options, process, seed)
    pool.shutdown(wait=False)
    torch.manual_seed(options.seed)
    model = HPCM(options.config)
    beginning.fill(model)
    model.to(process.device).to(memory_format=torch.channels_last).train()
    step = _Step(model, options, beginning.kept)
    accelerated = process.device.type == "cuda" and options.accelerate
    if accelerated:
        if reading.done():
            reading.result()  # what is wrong with the pictures is better said before compiling
        step.compile(options.crop)
    crops, counts = reading.result()
    step.take(crops)
    if accelerated:
        step.capture()
    beginning.restore(model, step.optimizer)
    pictures, unreadable, used = process.total(counts)
    log.write(event="data", pictures=pictures, unreadable=unreadable, used=used)
    small = f" smaller than {options.crop} x {options.crop}"
    for count, before, after in ((unreadable, "unreadable ", ""), (pictures - used, "", small)):
        if count:
            log.note(f"skipped {count} {before}picture{'s' * (count > 1)}{after}")
    torch.manual_seed(seed)
    return step, beginning


def _beginning(options: TrainOptions) -> Beginning:
    path = options.output if options.resume else options.init
    if path is None:
        return Beginning.new()
    if path.is_dir() or options.resume:
        path = checkpoint_in(path)
    return Beginning.read(options.config, path, options.parts, options.resume)


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Signals that would end the process only noted down, so that the loop can end between two steps."""
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # Python leaves signals to that one
        yield came
        return
    names = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP, and `nohup` ignores it
    known = [getattr(signal, name) for name in names if hasattr(signal, name)]
    numbers = [number for number in known if signal.getsignal(number) is not signal.SIG_IGN]
    before = [signal.signal(number, lambda number, _: came.append(number)) for number in numbers]
    try:
        yield came
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _loop(
    options: TrainOptions,
    process: Process,
    step: _Step,
    facts: dict[str, float],
    log: Log,
    report: Callable[[Report], None] | None,
) -> dict[str, float]:
    number, crops, before = int(facts["step"]), int(facts["crops"]), float(facts["seconds"])
    steps_before, crops_before = int(facts["total_steps"]) - number, int(facts["total_crops"]) - crops
    started = saved = last_report = time.monotonic()
    layout = layout_of(step.model)

    def share_done() -> float:
        elapsed = before + time.monotonic() - started
        by_time = elapsed / options.seconds if options.seconds else 0.0
        by_step = number / options.steps if options.steps else 0.0
        return min(1.0, max(by_time, by_step))

    def standing() -> dict[str, float]:
        seconds = round(before + time.monotonic() - started, 1)
        values = (number, crops, seconds, steps_before + number, crops_before + crops)
        return dict(zip(COUNTS, values, strict=True))

    def save() -> Future[None]:
        if not step.sound():
            raise _diverged(number, options)
        known = {"model": options.config.name, "seed": options.seed, "layout": layout, **standing()}
        metadata = {"facts": json.dumps(known | told(options.parts))}
        return writer.submit(write_tensors, options.output / CHECKPOINT, step.state(), metadata)

    with _signals() as came, ThreadPoolExecutor(1) as writer:
        share, stop = process.agree(share_done(), False)
        # From the first moment on there is something to resume, even where an older run is replaced.
        saving = save() if process.first else None
        while share < 1 and not stop:
            rate = _rate_factor(share, options.warmup, options.decay)
            step.optimizer.schedule(rate, min(options.ema_decay, (1 + number) / (10 + number)))
            step.backward()
            process.mean(step.flat.grad)
            step.update()
            number += 1
            crops += options.batch * process.world
            if process.world == 1 or number % 10 == 0 or number == options.steps:
                share, stop = process.agree(share_done(), bool(came))
            if not process.first:
                continue
            now = time.monotonic()
            quiet = now - last_report
            if number % options.log_every == 0 or share >= 1 or stop or quiet > options.quiet:
                *sums, count, norm = step.stats.tolist()
                step.stats.zero_()
                now = time.monotonic()
                speed = count * options.batch * process.world / (now - last_report)
                last_report = now
                loss, bpp, mse, norm = (value / count for value in (*sums, norm))
                if not math.isfinite(loss):
                    raise _diverged(number, options)
                entry = Report(
                    share, number, round(before + now - started, 1), speed, loss, bpp, mse, norm, rate
                )
                log.write(event="step", **asdict(entry))
                log.draw(steps_before + number, {curve: getattr(entry, of) for curve, of in CURVES.items()})
                if report:
                    report(entry)
            if saving and now - saved > options.save_every:
                saved = now
                saving.result()
                saving = save()
        if saving:
            saving.result()
            save().result()
    if stop:
        # Of several processes, one says it.
        how = f"interrupted at {share:.0%}: the same command with --resume goes on" if process.first else ""
        error = InterruptedRunError(how)
        if came:
            error.exit_code = 128 + came[0]
        raise error
    return standing()


def _validate(options: TrainOptions, process: Process, model: HPCM) -> dict[str, list[float]]:
    """bpp and PSNR per quality on the validation pictures, shared out over the processes."""
    if options.validation is None:
        return {}
    try:
        mine = read_pictures([options.validation], rank=process.rank, world=process.world).pixels
    except ImageError:
        if process.world == 1:
            raise
        mine = []  # more processes than pictures
    with tf32(False), torch.compiler.set_stance("force_eager"):
        sums = validate(model.eval(), mine).to(process.device)
    if process.world > 1:
        dist.all_reduce(sums)
        if not sums[:, 2].all():
            raise ImageError(f"no readable picture in {options.validation}")
    means = (sums[:, :2] / sums[:, 2:]).T.tolist()
    return {"bpp": [round(v, 5) for v in means[0]], "psnr": [round(v, 4) for v in means[1]]}

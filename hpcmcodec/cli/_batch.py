"""Jobs done: one after the other or side by side, each one's result written here, and told."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import signal
import time
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import typer

from ..errors import HpcmError, UsageError
from ._files import STDIO, check_output, title, write_bytes
from ._jobs import Job, Plan
from ._show import note, progress, size

__all__ = ["Made", "Progress", "Work", "perform", "share_threads"]

Progress = Callable[[float], None]


@dataclass(frozen=True)
class Made:
    """What was made of an input, not written yet, and what to say of it."""

    data: bytes
    source_bytes: int
    pixels: int
    bpp: float
    quality: float | None
    psnr: float | None
    notes: tuple[str, ...]
    says: str


Work = Callable[[Path, Progress], Made]
Result = tuple[Made | HpcmError, float]  # and the seconds it took


def perform(
    plan: Plan,
    work: Work,
    verb: str,
    *,
    force: bool,
    skip_existing: bool,
    processes: int,
    as_json: bool,
    fatal: type[HpcmError] | None = None,
) -> None:
    """Do all jobs. Only this process writes, so others can be ended at any time.

    Args:
        work: makes the bytes of an output from the path of an input; goes to other processes by pickle.
        verb: "encode" or "decode". fatal: the very class of an error that every other job would meet too.

    Raises:
        HpcmError: what went wrong with a single job, or a fatal error of several.
        typer.Exit: with code 1, if some of several jobs have failed.
    """
    if force and skip_existing:
        raise UsageError("choose one of --force and --skip-existing")
    if as_json and plan.jobs[0].output == STDIO:
        raise UsageError("standard output cannot take both --json and the file: name a file with -o")
    tell = _Tell(verb, plan.several, as_json)
    todo = []
    for job in plan.jobs:
        try:
            if skip_existing and job.output != STDIO and job.output.exists():
                tell.skipped(job)
                continue
            check_output(job.output, job.source, force, missing_folder=plan.folders)
            todo.append(job)
        except HpcmError as error:
            tell.failed(job, error)
    with (
        progress(f"{verb[:-1]}ing", len(todo)) as show,
        closing(_results(work, todo, processes, show)) as results,
    ):
        for job, (made, seconds) in results:
            try:
                if isinstance(made, HpcmError):
                    raise made
                if plan.folders:
                    _make_folder(job.output.parent)
                write_bytes(job.output, made.data)
                tell.done(job, made, seconds)
            except HpcmError as error:
                if plan.several and type(error) is fatal:
                    raise
                tell.failed(job, error)
    if plan.several:
        note(tell.summary())
    if tell.failures:
        raise typer.Exit(HpcmError.exit_code)


def share_threads(threads: int | None, processes: int) -> int | None:
    """Of each process; None leaves it to torch."""
    if processes == 1:
        return threads
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, (threads or cores) // processes)


@dataclass
class _Tell:
    """Says what became of each job, and adds it all up."""

    verb: str
    several: bool
    as_json: bool
    successes: list[tuple[int, int, int, float]] = field(default_factory=list)  # out, in, pixels, bits
    skips: int = 0
    failures: int = 0

    def done(self, job: Job, made: Made, seconds: float) -> None:
        self.successes.append((len(made.data), made.source_bytes, made.pixels, made.bpp * made.pixels))
        for line in made.notes:
            note(f"hpcm: note: {title(job.source)}: {line}")
        if not self.several:
            note(f"{title(job.output, 'standard output')}: {made.says}, {seconds:.1f} s")
        self._record(job, made, seconds=round(seconds, 3))

    def skipped(self, job: Job) -> None:
        self.skips += 1
        if not self.several:
            note(f"{job.output}: skipped, it exists")
        self._record(job, skipped=True)

    def failed(self, job: Job, error: HpcmError) -> None:
        self.failures += 1
        name, line = title(job.source), " ".join(str(error).split())
        self._record(job, error=line)
        if not self.several:
            raise error
        note(f"hpcm: {line}" if name in line else f"hpcm: {name}: {line}")

    def summary(self) -> str:
        counts = {f"{self.verb}d": len(self.successes), "skipped": self.skips, "failed": self.failures}
        parts = [f"{count} {what}" for what, count in counts.items() if count]
        if self.successes:
            written, read, pixels, bits = map(sum, zip(*self.successes, strict=True))
            parts += [f"{size(written)} from {size(read)}", f"{bits / pixels:.2f} bpp"]
        return ", ".join(parts)

    def _record(
        self,
        job: Job,
        made: Made | None = None,
        seconds: float | None = None,
        skipped: bool = False,
        error: str | None = None,
    ) -> None:
        if not self.as_json:
            return
        psnr = made.psnr if made else None
        record = {
            "path": str(job.source),
            "output": str(job.output),
            "bytes": len(made.data) if made else None,
            "bpp": made.bpp if made else None,
            "quality": made.quality if made else None,
            "seconds": seconds,
            "psnr": psnr if psnr is not None and math.isfinite(psnr) else None,  # JSON has no infinity
            "notes": made.notes if made else (),
            "skipped": skipped,
            "error": error,
        }
        print(json.dumps(record), flush=True)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HpcmError(f"{folder}: {error.strerror or error}") from None


def _results(
    work: Work, jobs: list[Job], processes: int, show: Progress
) -> Generator[tuple[Job, Result], None, None]:
    """Each job with its result, as they come; `show` gets the number of jobs done."""
    processes = min(processes, len(jobs))
    if processes > 1:
        for done, result in enumerate(_side_by_side(work, jobs, processes), 1):
            show(done)
            yield result
        return
    for done, job in enumerate(jobs):
        yield job, _attempt(work, job.source, lambda share, done=done: show(done + share))  # type: ignore[misc]
        show(done + 1)


def _attempt(work: Work, source: Path, report: Progress) -> Result:
    start = time.perf_counter()
    made: Made | HpcmError
    try:
        made = work(source, report)
    except HpcmError as error:
        made = error
    except Exception as error:  # a bug met by one picture is no reason to leave the others
        what = f"{type(error).__name__}: {error} (--debug shows where)"
        made = HpcmError(f"{title(source)}: {'out of memory' if isinstance(error, MemoryError) else what}")
        made.__cause__ = error
    return made, time.perf_counter() - start


def _side_by_side(work: Work, jobs: list[Job], processes: int) -> Generator[tuple[Job, Result], None, None]:
    """Hand out jobs to processes; one that dies fails its job only, and another takes its place."""
    waiting = iter(jobs)
    busy: dict[Connection, tuple[BaseProcess, Job]] = {}

    def hand(worker: tuple[Connection, BaseProcess]) -> None:
        connection, process = worker
        job = next(waiting, None)
        if job is None:
            connection.close()  # which ends it
            return
        busy[connection] = process, job
        with suppress(OSError):  # it has died: to be seen when its result is read
            connection.send(job.source)

    try:
        for _ in range(processes):
            hand(_start(work))
        while busy:
            for connection in wait(list(busy)):
                assert isinstance(connection, Connection)
                process, job = busy[connection]
                worker = connection, process
                result: Result
                try:
                    result = connection.recv()
                except (EOFError, OSError):
                    result = HpcmError(f"{job.source}: its process was ended (out of memory?)"), 0
                    worker = _start(work)
                del busy[connection]
                hand(worker)
                yield job, result
    finally:
        for process, _ in busy.values():
            process.kill()
            process.join()


def _start(work: Work) -> tuple[Connection, BaseProcess]:
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads can hang
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, work), daemon=True)
    with _uninterrupted():  # and so is the process itself: Ctrl-C is for its parent
        process.start()
    there.close()
    return here, process


@contextmanager
def _uninterrupted() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _serve(connection: Connection, work: Work) -> None:
    warnings.simplefilter("ignore")
    with suppress(EOFError, OSError):  # the parent has closed its end, or is gone
        while True:
            connection.send(_attempt(work, connection.recv(), lambda share: None))

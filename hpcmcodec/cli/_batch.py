"""Jobs done: one after the other or side by side, each one's result written here, and told."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import typer

from ..errors import HpcmError, OutputExistsError, UsageError
from ._claims import Claims
from ._explain import explain
from ._files import STDIO, check_output, exists, title, write_bytes
from ._jobs import Job, Plan, kinds
from ._show import note, progress, size
from ._signals import ENDING

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
    for folder, error in plan.unreadable:
        tell.failed(folder, None, error)
    tell.left_out(plan.left_out)
    todo = list(_checked(plan, force, skip_existing, tell))
    with Claims() as claims, progress(f"{verb[:-1]}ing", len(todo)) as show:
        jobs = _unclaimed(todo, claims, tell) if skip_existing else iter(todo)
        with closing(_results(work, jobs, min(processes, len(todo)), show)) as results:
            for job, (made, seconds) in results:
                try:
                    if isinstance(made, HpcmError):
                        raise made
                    if plan.folders:
                        _make_folder(job.output.parent)
                    write_bytes(job.output, made.data, replace=force)
                    tell.done(job, made, seconds)
                except HpcmError as error:
                    if skip_existing and isinstance(error, OutputExistsError):
                        tell.skipped(job)
                    elif plan.several and type(error) is fatal:
                        raise
                    else:
                        tell.failed(job.source, job.output, error)
                claims.release(job.output)
    if plan.several:
        note(tell.summary())
    if tell.failures or plan.left_out:
        raise typer.Exit(HpcmError.exit_code)


def _checked(plan: Plan, force: bool, skip_existing: bool, tell: _Tell) -> Iterator[Job]:
    """The jobs whose outputs can be written, as far as that can be said before."""
    for job in plan.jobs:
        try:
            if skip_existing and _is_made(job):
                tell.skipped(job)
                continue
            check_output(job.output, force, job.source, missing_folder=plan.folders)
        except HpcmError as error:
            tell.failed(job.source, job.output, error)
        else:
            yield job


def _unclaimed(jobs: Iterable[Job], claims: Claims, tell: _Tell) -> Iterator[Job]:
    """The jobs that no other process has done or is doing, each looked at when its turn comes."""
    for job in jobs:
        if not claims.take(job.output):
            tell.skipped(job, "another process is making it")
        elif _is_made(job):
            claims.release(job.output)
            tell.skipped(job)
        else:
            yield job


def _is_made(job: Job) -> bool:
    return job.output != STDIO and exists(job.output)


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
    others: Sequence[Path] = ()  # left out

    def done(self, job: Job, made: Made, seconds: float) -> None:
        self.successes.append((len(made.data), made.source_bytes, made.pixels, made.bpp * made.pixels))
        for line in made.notes:
            note(f"hpcm: note: {title(job.source)}: {line}")
        if not self.several:
            note(f"{title(job.output, 'standard output')}: {made.says}, {seconds:.1f} s")
        self._record(job.source, job.output, made, seconds=round(seconds, 3))

    def skipped(self, job: Job, why: str = "it exists") -> None:
        self.skips += 1
        if not self.several:
            note(f"{job.output}: skipped, {why}")
        self._record(job.source, job.output, skipped=True)

    def left_out(self, paths: Sequence[Path]) -> None:
        self.others = paths
        for path in paths:
            self._record(path, None, error=f"{path.suffix.lower()} pictures cannot be read")

    def failed(self, source: Path, output: Path | None, error: HpcmError) -> None:
        self.failures += 1
        name, line = title(source), " ".join(str(error).split())
        self._record(source, output, error=line)
        if not self.several:
            raise error
        note(f"hpcm: {line}" if name in str(error) else f"hpcm: {name}: {line}")

    def summary(self) -> str:
        counts = {f"{self.verb}d": len(self.successes), "skipped": self.skips, "failed": self.failures}
        parts = [f"{count} {what}" for what, count in counts.items() if count]
        if self.others:
            parts.append(f"{len(self.others)} left out that cannot be read ({kinds(self.others)})")
        if self.successes:
            written, read, pixels, bits = map(sum, zip(*self.successes, strict=True))
            parts += [f"{size(written)} from {size(read)}", f"{bits / pixels:.2f} bpp"]
        return ", ".join(parts)

    def _record(
        self,
        source: Path,
        output: Path | None,
        made: Made | None = None,
        seconds: float | None = None,
        skipped: bool = False,
        error: str | None = None,
    ) -> None:
        if not self.as_json:
            return
        psnr = made.psnr if made else None
        record = {
            "path": str(source),
            "output": None if output is None else str(output),
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
    work: Work, jobs: Iterator[Job], processes: int, show: Progress
) -> Generator[tuple[Job, Result], None, None]:
    """Each job with its result, as they come; `show` gets the number of jobs done."""
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
        made = HpcmError(f"{title(source)}: {explain(error)[0]}")
        made.__cause__ = error
    return made, time.perf_counter() - start


def _side_by_side(
    work: Work, waiting: Iterator[Job], processes: int
) -> Generator[tuple[Job, Result], None, None]:
    """Hand out jobs to processes; one that dies fails its job only, and another takes its place."""
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
    with _signals_held():
        process.start()
    there.close()
    return here, process


@contextmanager
def _signals_held() -> Iterator[None]:
    """Signals wait until afterwards, and for ever in what is started meanwhile: its parent ends it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # which lets them through while it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(connection: Connection, work: Work) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    warnings.simplefilter("ignore")
    with suppress(EOFError, OSError):  # the parent has closed its end, or is gone
        while True:
            connection.send(_attempt(work, connection.recv(), lambda share: None))


def _end_with_parent() -> None:
    """However the parent ends, even in the middle of a job."""
    parent = multiprocessing.parent_process()
    assert parent
    parent.join()
    os._exit(HpcmError.exit_code)

"""Rate, quality and time of codecs side by side over a folder of pictures, from the bytes of whole files.

`bench` measures this codec and the usual ones; `measure` takes anything that has the methods of `Codec`.
"""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from .. import metrics
from ..errors import UsageError
from . import probe, published
from .codecs import anchors
from .failures import NOT_THERE, Failures, Tell, named, nobody
from .ours import HpcmCodec, load
from .photos import Photo, find_photos, read_photo
from .results import Point, Process, Record, Store, is_folder, summarise, take_over

__all__ = ["ANCHORS", "QUALITIES", "Codec", "Progress", "Run", "bench", "measure"]

QUALITIES: tuple[float, ...] = (1, 2, 3, 4, 5, 6, 7, 8)
ANCHORS = ("jpeg", "webp", "avif")

Pixels = NDArray[np.uint8]


class Codec(Protocol):
    """What is measured: a picture to bytes, which are all that a file would hold, and back.

    Where it has a method `analyse(pixels)` too, which does what all qualities have in common and returns what
    codes the picture at a quality, that is called once a picture; its time counts for every quality.
    Where it has a method `load()`, which returns what codes with all that it needs in memory, that is called
    once, before any time is taken.
    """

    @property
    def name(self) -> str:
        """Short and unique among the codecs of one comparison."""

    @property
    def title(self) -> str:
        """For a plot or a table."""

    @property
    def description(self) -> str:
        """Versions and settings, for a reader of the results."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """What distinguishes it, for a program that reads the results."""

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        """The file of a picture `H x W x 3`; what `quality` means is the codec's own."""

    def decode(self, data: bytes) -> Pixels:
        """The picture of a file, `H x W x 3`, as large as the one that was encoded."""


@dataclass(frozen=True)
class Run:
    """One codec and the qualities it is measured at. `missing` says why it cannot be, if it cannot."""

    codec: Codec
    qualities: tuple[float, ...]
    weights_sha256: str | None = None
    missing: str | None = None


@dataclass(frozen=True)
class Progress:
    """How far a bench is: `done` of `total` points that are to be measured now; `point` is the latest one."""

    codec: str
    image: str
    done: int
    total: int
    point: Point | None


def bench(
    folder: str | os.PathLike[str],
    phases: Sequence[int] = (4,),
    qualities: Sequence[float] = QUALITIES,
    *,
    family: str = "rwkv",
    preset: str = "lite",
    weights: str | os.PathLike[str] | None = None,
    device: str = "auto",
    others: Sequence[str] = ANCHORS,
    effort: str = "default",
    limit: int | None = None,
    curves: str | os.PathLike[str] | None = None,
    output: str | os.PathLike[str] | None = None,
    resume: bool = False,
    force: bool = False,
    processes: bool = True,
    weights_sha256: Mapping[int, str] | None = None,
    progress: Callable[[Progress], None] | None = None,
    tell: Tell = nobody,
) -> list[dict[str, Any]]:
    """Encode and decode the pictures of a folder at every quality with every codec, and measure.

    A picture that cannot be used is left out, and so is a codec on a picture on which it fails; its means are
    then over the other pictures, and its BD-rate is null.

    Args:
        folder: where the pictures are (not its subfolders), taken in order of name.
        phases: phases of the context model, each one codec in the results.
        qualities: of ours, 1..8, fractions allowed; taken in rising order, each once.
        family, preset, weights, device: as `hpcmcodec.codec.encode` takes them; `weights` is a file
            of one phase.
        others, effort: other codecs, each at the qualities of its own that `evaluation.codecs` has, and
            "default" or "best". One whose package is missing is told of, recorded and left out.
        limit: take only so many pictures, the first ones.
        curves: a JSON file of published curves, as `evaluation.published` reads it.
        output: write the results here as JSON, as they come, so that what was measured before an interrupt
            is there: a file, or a folder (with a slash at its end, or one that exists) for a file per codec,
            as `compressai.utils.plot` reads them.
        resume: take over what is in `output` already. Only points of the same codec, versions, weights,
            environment and picture count.
        force: overwrite `output`; with `resume`, drop what is in it that is not asked for.
        processes: also encode and decode once in a process of its own.
        weights_sha256: per phase, the digest of its weights file, to be recorded.
        progress: called with the state once before the first point and once after each.
        tell: called with lines for a person.

    Returns:
        What is in `output`; its form stands at the head of `evaluation.results`.

    Raises:
        UsageError: the folder is missing or has no pictures; a phase, quality, codec or limit that does not
            exist; `weights` for several phases; curves that cannot be read; an output that exists, cannot be
            written or, with `resume`, is something else.
        WeightsError: a phase has no weights (said before anything is measured).
        HpcmError: a package of the extra `bench` is missing (said before anything is measured); or nothing at
            all could be measured, and this is the first failure: its kind, the codec and the picture.
    """
    if weights is not None and len(set(phases)) > 1:
        raise UsageError("one weight file serves one phase: ask for one phase, or leave the weights out")
    store = None if output is None else _store(os.fspath(output), resume, force)
    path = None if weights is None else Path(weights)
    ours = [HpcmCodec(phase, family, preset, path, device) for phase in dict.fromkeys(phases)]
    digests = weights_sha256 or {}
    runs = [Run(codec, tuple(qualities), digests.get(codec.phase)) for codec in ours]
    runs += [Run(row, row.qualities, missing=row.missing()) for row in anchors(others, effort)]
    return measure(
        runs,
        find_photos(folder, limit, tell),
        curves=_published(curves, {run.codec.name for run in runs}),
        store=store,
        resume=resume,
        force=force,
        processes=processes,
        progress=progress,
        tell=tell,
    )


def measure(
    runs: Sequence[Run],
    photos: Sequence[Photo],
    *,
    curves: Sequence[Mapping[str, Any]] = (),
    store: Store | None = None,
    resume: bool = False,
    force: bool = False,
    processes: bool = True,
    progress: Callable[[Progress], None] | None = None,
    tell: Tell = nobody,
) -> list[dict[str, Any]]:
    """Measure codecs side by side on the same pictures; arguments, results and errors as in `bench`.

    But `curves` are the JSON objects of published ones. The order is picture by picture, and of a picture
    codec by codec, all qualities of one before the next: a run cut short leaves whole curves of all codecs
    over the same pictures, and what slows the machine down for a while slows them all. Times are of calls in
    this process, one at a time, each codec's after an uncounted one; all models are loaded before and stay in
    memory until the end.
    """
    if not any(run.qualities for run in runs) or not all(run.qualities for run in runs):
        raise UsageError("nothing to measure: no codec or no quality is given")
    for package in ("pytorch_msssim", "bjontegaard"):
        metrics.require(package)
    env = _environment()
    records = [_record(run, env) for run in runs]
    names = [photo.name for photo in photos]
    if store is not None and resume:
        _resume(store, records, photos, force, tell)
    for run in runs:
        if run.missing:
            tell(f"{run.codec.name} is left out: {run.missing}")
    work = [
        _Work(run.codec, record, processes and record.process is None, Failures(tell))
        for run, record in zip(runs, records, strict=True)
        if not record.skipped
    ]
    for one in work:
        one.prepare(photos)
    unread = Failures(tell)
    total = sum(len(one.missing(photo)) for one in work for photo in photos)
    results = partial(summarise, records, names, curves)
    if progress:
        progress(Progress("", "", 0, total, None))
    done = 0
    try:
        for photo, codec, point in _measured(work, photos, unread):
            done += 1
            if store is not None:
                store.write(results)
            if progress:
                progress(Progress(codec.name, photo.name, done, total, point))
    finally:
        for one in work:
            one.say_why_nothing_came()
        measured = any(record.points for record in records)
        if store is not None and measured:
            store.write(results, final=True)
    for failures in (*(one.failures for one in work), unread):
        failures.check(left=measured)
    return results()


@dataclass
class _Work:
    """A codec, its record, what there is still to do, what failed, and what codes as soon as it is loaded."""

    codec: Codec
    record: Record
    to_probe: bool
    failures: Failures
    coder: Any = None
    warm: bool = False

    def missing(self, photo: Photo) -> list[float]:
        return [q for q in self.record.qualities if (photo.name, q) not in self.record.points]

    def prepare(self, photos: Sequence[Photo]) -> None:
        """Load the codec and try it out if there is anything to measure."""
        if not any(self.missing(photo) for photo in photos):
            self.coder = self.codec
            return
        with self.failures.leave_out(self.codec.name, but=NOT_THERE):
            self.coder = load(self.codec)
            self._try_out()

    def to_do(self, photo: Photo) -> bool:
        return self.coder is not None and (self.to_probe or bool(self.missing(photo)))

    def say_why_nothing_came(self) -> None:
        if self.failures.errors and not self.record.points:
            self.record.skipped = str(self.failures.errors[0])

    def _try_out(self) -> None:
        """Say now what would otherwise be said when others have run for an hour: a quality that there is not.

        This picture is none that is to be measured: that a codec cannot code it says nothing of those.
        """
        pixels = np.full((64, 64, 3), 128, dtype=np.uint8)
        for quality in dict.fromkeys((self.record.qualities[0], self.record.qualities[-1])):
            with Failures().leave_out(but=NOT_THERE):
                self.coder.encode(pixels, quality)

    def do(self, photo: Photo, pixels: Pixels) -> Iterator[Point]:
        """Measure what is missing of a picture, into the record and one by one to the caller."""
        points = self._points(photo, pixels)
        while True:
            point = None
            with self.failures.leave_out(f"{self.codec.name} on {photo.name}"):
                point = next(points, None)
            if point is None:
                break
            self.record.points[photo.name, point.quality] = point
            yield point
        if self.to_probe and not self.missing(photo):
            self.record.process = self._probe(photo, pixels)
            self.to_probe = False

    def _points(self, photo: Photo, pixels: Pixels) -> Iterator[Point]:
        missing = self.missing(photo)
        if missing and not self.warm:
            # What is compiled or set up at the first call is not part of any time.
            with _at(quality := self.record.qualities[0]):
                self.coder.decode(self.coder.encode(pixels, quality))
            self.warm = True
        if missing:
            analyse = getattr(self.coder, "analyse", None) or self._analyse
            start = time.perf_counter()
            encode = analyse(pixels)
            shared = time.perf_counter() - start
            for quality in missing:
                with _at(quality):
                    point = self._point(photo, pixels, quality, encode, shared)
                yield point

    def _analyse(self, pixels: Pixels) -> Callable[[float], bytes]:
        return partial(self.coder.encode, pixels)

    def _point(
        self,
        photo: Photo,
        pixels: Pixels,
        quality: float,
        encode: Callable[[float], bytes],
        shared: float,
    ) -> Point:
        start = time.perf_counter()
        data = encode(quality)
        encoded = time.perf_counter()
        decoded = self.coder.decode(data)
        end = time.perf_counter()
        height, width = pixels.shape[:2]
        return Point(
            image=photo.name,
            sha256=photo.sha256,
            width=width,
            height=height,
            quality=quality,
            bytes=len(data),
            bpp=8 * len(data) / (width * height),
            psnr=_number(metrics.psnr(pixels, decoded)),
            ms_ssim=_number(metrics.ms_ssim(pixels, decoded)),
            encoding_time=shared + encoded - start,
            decoding_time=end - encoded,
        )

    def _probe(self, photo: Photo, pixels: Pixels) -> Process | None:
        """At the middle one of the qualities."""
        quality = self.record.qualities[len(self.record.qualities) // 2]
        costs = probe.fresh(self.codec, pixels, quality, torch.get_num_threads())
        if costs is None:
            return None
        encoding, decoding = costs
        return Process(
            photo.name,
            photo.sha256,
            quality,
            encoding.seconds,
            decoding.seconds,
            encoding.memory,
            decoding.memory,
        )


def _measured(
    work: Sequence[_Work], photos: Sequence[Photo], unread: Failures
) -> Iterator[tuple[Photo, Codec, Point]]:
    for photo in photos:
        todo = [one for one in work if one.to_do(photo)]
        pixels = None
        with unread.leave_out():
            pixels = read_photo(photo.path) if todo else None
        if pixels is None:
            continue
        for one in todo:
            for point in one.do(photo, pixels):
                yield photo, one.codec, point


def _published(path: str | os.PathLike[str] | None, taken: Collection[str]) -> list[dict[str, Any]]:
    """The JSON of published curves; one that has the name of a codec is told apart by that of its file."""
    if path is None:
        return []
    objects = []
    for curve in published.load(path):
        name = f"{curve.name} ({Path(path).stem})" if curve.name in taken else curve.name
        results = {"bpp": list(curve.bpp), "psnr-rgb": list(curve.psnr)}
        if curve.ms_ssim is not None:
            results["ms-ssim-rgb"] = list(curve.ms_ssim)
        about = {"name": name, "title": name, "description": "published", "published": True}
        objects.append({**about, "results": results})
    return objects


def _record(run: Run, env: Mapping[str, Any]) -> Record:
    return Record(
        run.codec.name,
        run.codec.title,
        run.codec.description,
        run.codec.settings,
        tuple(sorted(set(run.qualities))),
        env,
        run.weights_sha256,
        run.missing,
    )


def _store(path: str, resume: bool, force: bool) -> Store:
    store = Store(Path(path), is_folder(path), replace=resume or force)
    if not store.path.parent.is_dir():
        raise UsageError(f"cannot write {path}: its folder does not exist")
    if not resume and not force and store.read():
        raise UsageError(f"{path} exists: go on with it with --resume, or overwrite it with --force")
    return store


def _resume(
    store: Store, records: Sequence[Record], photos: Sequence[Photo], force: bool, tell: Tell
) -> None:
    taken = take_over(store.read(), records, {photo.name: photo.sha256 for photo in photos})
    if taken.unasked and not force:
        what = ", ".join(f"{count} of {name}" for name, count in taken.unasked.items())
        raise UsageError(
            f"{store.path} also holds points that are not asked for ({what}): ask for the same pictures,"
            " codecs and qualities, or drop them with --force"
        )
    for line in taken.notes:
        tell(line)
    total = sum(len(record.qualities) * len(photos) for record in records if not record.skipped)
    tell(f"{taken.points} of {total} points taken over from {store.path}")


@contextmanager
def _at(quality: float) -> Iterator[None]:
    """Put the quality before what is said of a failure."""
    try:
        yield
    except Exception as error:
        raise named(error, f"quality {quality:g}") from error


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _environment() -> dict[str, Any]:
    packages = ("hpcmcodec", "torch", "compressai", "numpy", "pillow", "pytorch-msssim")
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in packages},
        "system": platform.system(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str | None:
    """The name of the processor, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or None
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or None

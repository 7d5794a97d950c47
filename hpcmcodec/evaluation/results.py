"""What a bench has measured, and its JSON: written as it comes, and read again to go on.

The JSON is a list with one object per codec, in CompressAI's results format with additions:

    name, title, description: unique name; how a plot or a table calls it; versions and settings in words.
    published: false; true for a curve that was not measured here, whose object has only what is above and
        `results`, and of these `bpp`, `psnr-rgb` and, where its source had it, `ms-ssim-rgb`.
    skipped: why nothing was measured (a package that is missing), else null.
    settings: {"codec": "hpcm", "phase": 4, "family", "preset", "device"}, or {"codec": "avif", ...}.
    qualities: the settings of the columns of `results`, in rising order.
    results: {bpp, psnr-rgb, ms-ssim-rgb, encoding_time, decoding_time}, one value per quality: means over the
        pictures that were measured at every quality. Bits per pixel of whole files, dB, 0..1, seconds.
    pictures, complete: how many pictures these means are over, and whether these are all.
    bd_rate: {other name: {percent, psnr_from, psnr_to}}: how many per cent more bits than the other this one
        takes, over the range of PSNR that both have. Null until all is measured.
    bd_psnr: {other name: {db, bpp_from, bpp_to}}: how many dB it lies above the other, likewise.
    bd_method: how these two were computed.
    process: one encode and one decode, each in a process of its own, or null: {image, sha256, quality,
        encoding_time, decoding_time: seconds from start to end of the process,
        encoding_start_up, decoding_start_up: of these, what the same call in a warm process did not take,
        encoding_memory, decoding_memory: most bytes that were resident, null where the system does not say}.
    weights_sha256: digest of the weights file; null for a codec without.
    env: versions, processor, threads.
    per_image: [{image, sha256, width, height, quality, bytes, bpp, psnr-rgb, ms-ssim-rgb, encoding_time,
        decoding_time}, ...], one for each point; sha256 is the start of the digest of the picture's file.

A value that is not a finite number (MS-SSIM of a small picture, PSNR without loss, BD-rate without a shared
range) is null; so is a mean over any such.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib import metadata
from pathlib import Path
from typing import Any

from .. import metrics
from ..errors import HpcmError, UsageError
from ..files import write_whole

__all__ = [
    "METRICS",
    "Point",
    "Process",
    "Record",
    "Store",
    "cell",
    "is_folder",
    "mean_of_known",
    "summarise",
    "take_over",
]

METRICS = {
    "bpp": "bpp",
    "psnr-rgb": "psnr",
    "ms-ssim-rgb": "ms_ssim",
    "encoding_time": "encoding_time",
    "decoding_time": "decoding_time",
}
_JSON_NAMES = {name: key for key, name in METRICS.items()}


@dataclass(frozen=True)
class Point:
    """One picture at one quality; times are seconds.

    `sha256` begins that of the picture's file. `bpp` is 8 * bytes / (width * height). `psnr` is in dB, None
    without loss; `ms_ssim` is None for a picture too small for it.
    """

    image: str
    sha256: str
    width: int
    height: int
    quality: float
    bytes: int
    bpp: float
    psnr: float | None
    ms_ssim: float | None
    encoding_time: float
    decoding_time: float


@dataclass(frozen=True)
class Process:
    """One encode and one decode of a picture, each in a process of its own: seconds, peak bytes or None."""

    image: str
    sha256: str
    quality: float
    encoding_time: float
    decoding_time: float
    encoding_memory: int | None
    decoding_memory: int | None


@dataclass
class Record:
    """All that is known of one codec: what it is, what it is to be measured at, and what has been measured.

    `points` are by name of the picture and quality. `skipped` says why it is not measured at all.
    """

    name: str
    title: str
    description: str
    settings: Mapping[str, Any]
    qualities: tuple[float, ...]
    env: Mapping[str, Any]
    weights_sha256: str | None = None
    skipped: str | None = None
    points: dict[tuple[str, float], Point] = field(default_factory=dict)
    process: Process | None = None


def summarise(
    records: Sequence[Record], pictures: Sequence[str], published: Sequence[Mapping[str, Any]] = ()
) -> list[dict[str, Any]]:
    """The JSON of all codecs and of the published curves after them; see the head of this module.

    `pictures` are the names of those that are to be measured.
    """
    results = [_summary(record, pictures) for record in records]
    everything = [*results, *(dict(curve) for curve in published)]
    for result in results:
        if result["complete"]:
            others = [other for other in everything if other is not result and other.get("complete", True)]
            result["bd_rate"] = {other["name"]: _bd_rate(result, other) for other in others}
            result["bd_psnr"] = {other["name"]: _bd_psnr(result, other) for other in others}
    return everything


class Store:
    """Where the JSON is kept while more is measured.

    Args:
        path: a file for the list; or a folder, made if it is missing, for a file per codec, named like it.
        replace: files that are there give way. Those that were written here always do.
    """

    INTERVAL = 1.0  # seconds
    SHARE = 0.05  # of the time, at most, goes into writing

    def __init__(self, path: Path, folder: bool, replace: bool = True) -> None:
        self.path, self.folder, self.replace = path, folder, replace
        self.written: set[Path] = set()
        self.due = 0.0

    def write(self, results: Callable[[], Sequence[Mapping[str, Any]]], final: bool = False) -> None:
        """Write what `results` returns, if the last time is long enough ago or this is the last time.

        Every file is replaced in one go, never half written.

        Raises:
            HpcmError: it cannot be written.
        """
        start = time.monotonic()
        if start < self.due and not final:
            return
        for path, data in self._files(results()):
            page = json.dumps(data, indent=1, allow_nan=False) + "\n"
            write_whole(path, page.encode(), self.replace or path in self.written)
            self.written.add(path)
        end = time.monotonic()
        self.due = end + max(self.INTERVAL, (end - start) / self.SHARE)

    def read(self) -> list[dict[str, Any]]:
        """What has been written here; nothing if nothing has.

        Raises:
            UsageError: it cannot be read, or is something else.
        """
        if not self.path.exists():
            return []
        try:
            files = sorted(self.path.glob("*.json")) if self.folder else [self.path]
            contents = [json.loads(file.read_text(encoding="utf-8")) for file in files]
        except OSError as error:
            raise UsageError(f"cannot read {self.path}: {error.strerror}") from error
        except ValueError as error:
            raise UsageError(f"{self.path} does not hold results of hpcm bench: {error}") from error
        results = contents if self.folder else contents[0]
        if not isinstance(results, list) or not all(isinstance(result, dict) for result in results):
            raise UsageError(f"{self.path} does not hold results of hpcm bench")
        return results

    def _files(self, results: Sequence[Mapping[str, Any]]) -> list[tuple[Path, Any]]:
        if not self.folder:
            return [(self.path, results)]
        try:
            self.path.mkdir(exist_ok=True)
        except OSError as error:
            raise HpcmError(f"cannot write {self.path}: {error.strerror}") from error
        return [(self.path / _file_name(result), result) for result in results]


def cell(value: float | None, form: str) -> str:
    """A value of the results in a table."""
    return "-" if value is None else format(value, form)


def mean_of_known(values: Sequence[float | None] | None) -> float | None:
    """Of the values that are known, if there are any."""
    known = [value for value in values or () if value is not None]
    return sum(known) / len(known) if known else None


def is_folder(path: str) -> bool:
    """Whether a path as it was typed is that of a folder: it ends with a slash, or is one."""
    return path.endswith("/") or Path(path).is_dir()


@dataclass(frozen=True)
class TakenOver:
    """How many points were taken over, how many are there that nobody asked for, and what is to be said."""

    points: int
    unasked: Counter[str]
    notes: tuple[str, ...]


def take_over(
    results: Sequence[Mapping[str, Any]], records: Sequence[Record], digests: Mapping[str, str]
) -> TakenOver:
    """Put into the records what has been measured before, as far as it is of the same codecs and pictures.

    Args:
        results: the JSON of an earlier bench.
        digests: per name of a picture that is to be measured, its `Point.sha256`.

    Raises:
        UsageError: these are not results of a bench.
    """
    try:
        return _take_over(results, {record.name: record for record in records}, digests)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"these are not results of hpcm bench: {error!r}") from error


def _take_over(
    results: Sequence[Mapping[str, Any]], records: Mapping[str, Record], digests: Mapping[str, str]
) -> TakenOver:
    taken, unasked, notes = 0, Counter[str](), []
    for result in results:
        if result["published"]:
            continue
        name, rows = result["name"], result["per_image"]
        record = records.get(name)
        if record is None or record.skipped is not None:
            unasked[name] += len(rows)
            continue
        if changed := _changes(record, result):
            if rows:
                notes.append(f"{name} is measured anew: {changed} changed")
            continue
        other_pictures = set()
        for point in map(_point, rows):
            if point.image not in digests or point.quality not in record.qualities:
                unasked[name] += 1
            elif point.sha256 != digests[point.image]:
                other_pictures.add(point.image)
            else:
                record.points[point.image, point.quality] = point
                taken += 1
        notes += [
            f"{name} is measured anew on {picture}, which changed" for picture in sorted(other_pictures)
        ]
        process = _process(result["process"])
        if process and process.quality in record.qualities and process.sha256 == digests.get(process.image):
            record.process = process
    return TakenOver(taken, +unasked, tuple(notes))


def _changes(record: Record, result: Mapping[str, Any]) -> str:
    """What of a codec is not as it was, in words."""
    env = _plain(record.env)
    keys = ", ".join(key for key in {**env, **result["env"]} if env.get(key) != result["env"].get(key))
    changes = {
        "its weights": record.weights_sha256 != result["weights_sha256"],
        "its settings": _plain(record.settings) != result["settings"],
        "its version": record.description != result["description"],
        f"the environment ({keys})": bool(keys),
    }
    return " and ".join(what for what, changed in changes.items() if changed)


def _plain(value: Mapping[str, Any]) -> Any:
    """As JSON brings it back."""
    return json.loads(json.dumps(value))


def _point(row: Mapping[str, Any]) -> Point:
    return Point(**{item.name: row[_JSON_NAMES.get(item.name, item.name)] for item in fields(Point)})


def _process(row: Mapping[str, Any] | None) -> Process | None:
    return None if row is None else Process(**{item.name: row[item.name] for item in fields(Process)})


def _summary(record: Record, pictures: Sequence[str]) -> dict[str, Any]:
    qualities = record.qualities
    finished = [name for name in pictures if all((name, quality) in record.points for quality in qualities)]
    columns = [[record.points[name, quality] for name in finished] for quality in qualities]
    complete = record.skipped is None and len(finished) == len(pictures)
    return {
        "name": record.name,
        "title": record.title,
        "description": record.description,
        "published": False,
        "skipped": record.skipped,
        "settings": dict(record.settings),
        "qualities": list(qualities) if finished else [],
        "results": {
            key: [_mean([getattr(point, name) for point in column]) for column in columns] if finished else []
            for key, name in METRICS.items()
        },
        "pictures": len(finished),
        "complete": complete,
        "bd_rate": None,
        "bd_psnr": None,
        "bd_method": _bd_method(),
        "process": _process_row(record),
        "weights_sha256": record.weights_sha256,
        "env": dict(record.env),
        "per_image": [
            _row(record.points[name, quality])
            for name in pictures
            for quality in qualities
            if (name, quality) in record.points
        ],
    }


def _process_row(record: Record) -> dict[str, Any] | None:
    process = record.process
    if process is None:
        return None
    point = record.points.get((process.image, process.quality))
    row = {item.name: getattr(process, item.name) for item in fields(Process)}
    for what in ("encoding", "decoding"):
        warm = getattr(point, f"{what}_time", None)
        row[f"{what}_start_up"] = None if warm is None else max(0.0, row[f"{what}_time"] - warm)
    return row


def _row(point: Point) -> dict[str, Any]:
    return {_JSON_NAMES.get(item.name, item.name): getattr(point, item.name) for item in fields(Point)}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None


def _bd_rate(result: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, float | None]:
    low, high = _shared(result, other, "psnr-rgb")
    percent = _delta(metrics.bd_rate, result, other)
    return {"percent": percent, "psnr_from": low, "psnr_to": high}


def _bd_psnr(result: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, float | None]:
    low, high = _shared(result, other, "bpp")
    return {"db": _delta(metrics.bd_psnr, result, other), "bpp_from": low, "bpp_to": high}


def _delta(
    measure: Callable[..., float], result: Mapping[str, Any], other: Mapping[str, Any]
) -> float | None:
    curves = [table["results"][key] for table in (other, result) for key in ("bpp", "psnr-rgb")]
    if any(value is None for curve in curves for value in curve):
        return None
    try:
        value = measure(*curves)
    except UsageError:  # one point, or two of the same PSNR or rate
        return None
    return value if math.isfinite(value) else None


def _shared(
    result: Mapping[str, Any], other: Mapping[str, Any], key: str
) -> tuple[float | None, float | None]:
    """The range of a metric that two curves have both."""
    ranges = [[value for value in table["results"][key] if value is not None] for table in (result, other)]
    if not all(ranges):
        return None, None
    low, high = max(map(min, ranges)), min(map(max, ranges))
    return (low, high) if low < high else (None, None)


def _bd_method() -> str:
    return (
        "Bjontegaard delta by PCHIP, of log(rate) over PSNR and the reverse, on the range that both curves"
        f" have (bjontegaard {metadata.version('bjontegaard')})"
    )


def _file_name(result: Mapping[str, Any]) -> str:
    name = f"published {result['name']}" if result["published"] else result["name"]
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.") + ".json"

"""Rate, quality and time of codecs over a folder of pictures, from the bytes that would be the files.

`bench` measures this codec; `measure` takes anything that has the two methods of `Codec`, so that others
can run beside it.
"""

from __future__ import annotations

import json
import math
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image

from .. import codec as hpcm
from .. import metrics
from ..errors import HpcmError, ImageError, UsageError

__all__ = [
    "QUALITIES",
    "Codec",
    "Curve",
    "HpcmCodec",
    "Point",
    "Progress",
    "Run",
    "bench",
    "find_pictures",
    "load_curves",
    "measure",
]

QUALITIES: tuple[float, ...] = (1, 2, 3, 4, 5, 6, 7, 8)


def bench(
    folder: str | os.PathLike[str],
    phases: Sequence[int] = (4,),
    qualities: Sequence[float] = QUALITIES,
    *,
    family: str = "rwkv",
    preset: str = "lite",
    weights: str | os.PathLike[str] | None = None,
    device: str = "auto",
    limit: int | None = None,
    curves: str | os.PathLike[str] | None = None,
    output: str | os.PathLike[str] | None = None,
    weights_sha256: Mapping[int, str] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> list[dict[str, Any]]:
    """Encode and decode the pictures of a folder at every quality with every phase, and measure.

    Args:
        folder: where the pictures are (not its subfolders), taken in order of name.
        phases: phases of the context model, each one codec in the results.
        qualities: 1..8, fractions allowed; taken in rising order, each once.
        family, preset, weights, device: as `hpcmcodec.codec.encode` takes them; `weights` is a file
            of one phase.
        limit: take only so many pictures, the first ones.
        curves: a JSON file {name: {"bpp": [...], "psnr": [...]}} whose curves are anchors for BD-rate.
        output: write the results here as JSON, anew after every measured point, so that what was measured
            before an interrupt is there. The file is replaced in one go, never half written.
        weights_sha256: per phase, the digest of its weight file, to be recorded.
        progress: called with the state once before the first point and once after each.

    Returns:
        What is in `output`: a list with one object per phase, in CompressAI's results format with additions:
        {name, description,
         results: {bpp, psnr-rgb, ms-ssim-rgb, encoding_time, decoding_time}, one value per quality: means
            over the pictures measured at every quality (bits per pixel with container, dB, 0..1, seconds),
         qualities: [...], pictures: how many these means are over, complete: whether these are all,
         bd_rate: {curve: per cent} once complete, null before and without `curves`,
         per_image: [{image, width, height, quality, bytes, and the five above}, ...],
         warmup_time: seconds of the first, uncounted encode and decode, with the loading of the weights,
         weights_sha256, env}.
        A value that is not a finite number (MS-SSIM of a small picture, PSNR without loss, BD-rate without a
        shared range) is null; so is a mean over any such.

    Raises:
        UsageError: the folder is missing or has no pictures; a phase, quality or limit out of range;
            `weights` for several phases; a curves file that cannot be read; an output that cannot be written.
        ImageError: a picture cannot be read or coded; the message names it.
        WeightsError: a phase has no weights (said before anything is measured).
        HpcmError: a package of the extra `bench` is missing (said before anything is measured).
    """
    if weights is not None and len(set(phases)) > 1:
        raise UsageError("one weight file serves one phase: ask for one phase, or leave the weights out")
    runs = [
        Run(
            HpcmCodec(phase, family, preset, None if weights is None else Path(weights), device),
            tuple(qualities),
            facts={"weights_sha256": (weights_sha256 or {}).get(phase)},
        )
        for phase in dict.fromkeys(phases)
    ]
    return measure(
        runs,
        find_pictures(folder, limit),
        curves=None if curves is None else load_curves(curves),
        output=None if output is None else Path(output),
        progress=progress,
    )


class Codec(Protocol):
    """What is measured: a picture to bytes, which are all that a file would hold, and back."""

    @property
    def name(self) -> str:
        """Short and unique among the codecs of one comparison."""

    @property
    def description(self) -> str:
        """Version and settings, for a reader of the results."""

    def encode(self, image: Image.Image, quality: float) -> bytes:
        """The file of an 8-bit RGB picture; what `quality` means is the codec's own."""

    def decode(self, data: bytes) -> Image.Image:
        """The picture of a file, 8-bit RGB, as large as the one that was encoded."""


@dataclass(frozen=True)
class HpcmCodec:
    """This codec with one phase; arguments as `hpcmcodec.codec.encode` takes them."""

    phase: int = 4
    family: str = "rwkv"
    preset: str = "lite"
    weights: Path | None = None
    device: str = "auto"

    @property
    def name(self) -> str:
        return f"hpcm-{self.family}-{self.phase}-{self.preset}"

    @property
    def description(self) -> str:
        return (
            f"hpcmcodec, family {self.family}, phase {self.phase}, preset {self.preset}, device {self.device}"
        )

    def encode(self, image: Image.Image, quality: float) -> bytes:
        return hpcm.encode(
            image,
            quality=quality,
            phase=self.phase,
            family=self.family,
            preset=self.preset,
            weights=self.weights,
            device=self.device,
        )

    def decode(self, data: bytes) -> Image.Image:
        return hpcm.decode(data, weights=self.weights, device=self.device)


@dataclass(frozen=True)
class Run:
    """One codec and the qualities it is measured at; `facts` are copied into its results."""

    codec: Codec
    qualities: tuple[float, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Point:
    """One picture at one quality. `bpp` is 8 * bytes / (width * height); times are seconds."""

    image: str
    width: int
    height: int
    quality: float
    bytes: int
    bpp: float
    psnr: float
    ms_ssim: float
    encoding_time: float
    decoding_time: float


@dataclass(frozen=True)
class Progress:
    """How far a bench is: `done` of `total` points; `point` is the last one, None before the first."""

    codec: str
    done: int
    total: int
    point: Point | None


@dataclass(frozen=True)
class Curve:
    """A published rate-distortion curve: bits per pixel and dB."""

    bpp: tuple[float, ...]
    psnr: tuple[float, ...]


def find_pictures(folder: str | os.PathLike[str], limit: int | None = None) -> list[Path]:
    """The pictures of a folder that Pillow reads, by name, without subfolders and hidden files.

    Every one is read, so that a damaged or unfit one is found now and not when others have run for an hour.

    Raises:
        UsageError: the folder is missing or unreadable, has no pictures, or `limit` is not positive.
        ImageError: a picture cannot be read, or is of a kind or size that `hpcmcodec.codec.to_rgb` refuses.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"the limit is a number of pictures, 1 or more, not {limit}")
    folder = Path(folder)
    formats = Image.registered_extensions()
    try:
        files = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise UsageError(f"cannot read the folder {folder}: {error.strerror}") from error
    pictures = [path for path in files if formats.get(path.suffix.lower()) in Image.OPEN and path.is_file()]
    if not pictures:
        raise UsageError(f"no pictures in {folder}")
    for path in pictures[:limit]:
        _read(path)
    return pictures[:limit]


def load_curves(path: str | os.PathLike[str]) -> dict[str, Curve]:
    """Read a file of curves, {name: {"bpp": [...], "psnr": [...]}}.

    Raises:
        UsageError: it cannot be read, is not of this form, or BD-rate cannot be computed from a curve in it.
    """
    try:
        table = json.loads(Path(path).read_text(encoding="utf-8"))
        curves = {
            name: Curve(tuple(map(float, row["bpp"])), tuple(map(float, row["psnr"])))
            for name, row in table.items()
        }
    except OSError as error:
        raise UsageError(f"cannot read the curves {path}: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(
            f'{path} is not a file of curves, {{name: {{"bpp": [...], "psnr": [...]}}}}: {error!r}'
        ) from error
    for name, curve in curves.items():
        try:
            metrics.bd_rate(curve.bpp, curve.psnr, curve.bpp, curve.psnr)
        except UsageError as error:
            raise UsageError(f"curve {name!r} of {path}: {error}") from error
    return curves


def measure(
    runs: Sequence[Run],
    pictures: Sequence[Path],
    *,
    curves: Mapping[str, Curve] | None = None,
    output: Path | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> list[dict[str, Any]]:
    """Measure codecs side by side on the same pictures; arguments, results and errors as in `bench`.

    Picture by picture, all qualities of one before the next: a run cut short leaves whole curves over fewer
    pictures. Times are of calls in this process, one at a time, after an uncounted one on the first picture.
    """
    runs = [Run(run.codec, tuple(sorted(set(run.qualities))), run.facts) for run in runs]
    if not runs or not all(run.qualities for run in runs):
        raise UsageError("nothing to measure: no codec or no quality is given")
    if output is not None and not output.parent.is_dir():
        raise UsageError(f"cannot write {output}: its folder does not exist")
    metrics.require("pytorch_msssim")
    for run in runs:
        _try_out(run)

    env = _environment()
    total = len(pictures) * sum(len(run.qualities) for run in runs)
    done = 0
    results: list[dict[str, Any]] = []
    for run in runs:
        warmup_time = _warm_up(run, pictures[0])
        points: list[Point] = []
        results.append({})
        if progress:
            progress(Progress(run.codec.name, done, total, None))
        for path in pictures:
            image = _read(path)
            for quality in run.qualities:
                point = _measure_one(run.codec, path.name, image, quality)
                points.append(point)
                done += 1
                summary = _summary(run, points, len(pictures), curves)
                results[-1] = {**summary, "warmup_time": warmup_time, **run.facts, "env": env}
                if output is not None:
                    _write(output, results)
                if progress:
                    progress(Progress(run.codec.name, done, total, point))
    return results


def _try_out(run: Run) -> None:
    # Cheap, and says now what would otherwise be said when the first codecs have run for an hour:
    # weights that are missing, a quality out of range.
    image = Image.new("RGB", (64, 64), (128, 128, 128))
    for quality in dict.fromkeys((run.qualities[0], run.qualities[-1])):
        run.codec.encode(image, quality)


def _warm_up(run: Run, picture: Path) -> float:
    start = time.perf_counter()
    _measure_one(run.codec, picture.name, _read(picture), run.qualities[0])
    return time.perf_counter() - start


def _measure_one(codec: Codec, name: str, image: Image.Image, quality: float) -> Point:
    try:
        start = time.perf_counter()
        data = codec.encode(image, quality)
        encoded = time.perf_counter()
        decoded = codec.decode(data)
        end = time.perf_counter()
        before, after = np.array(image), np.array(decoded.convert("RGB"))
        return Point(
            image=name,
            width=image.width,
            height=image.height,
            quality=quality,
            bytes=len(data),
            bpp=8 * len(data) / (image.width * image.height),
            psnr=metrics.psnr(before, after),
            ms_ssim=metrics.ms_ssim(before, after),
            encoding_time=encoded - start,
            decoding_time=end - encoded,
        )
    except HpcmError as error:
        raise type(error)(f"{name}, quality {quality:g}: {error}") from error


def _read(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            if image.has_transparency_data:
                raise ImageError("it has transparency, which the codecs would keep each in its own way")
            return Image.fromarray(hpcm.to_rgb(image))
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ImageError(f"cannot read the picture {path}: {error}") from error


_COLUMNS = {
    "bpp": "bpp",
    "psnr-rgb": "psnr",
    "ms-ssim-rgb": "ms_ssim",
    "encoding_time": "encoding_time",
    "decoding_time": "decoding_time",
}


def _summary(
    run: Run, points: Sequence[Point], pictures: int, curves: Mapping[str, Curve] | None
) -> dict[str, Any]:
    finished = len(points) // len(run.qualities)
    counted = points[: finished * len(run.qualities)]
    means = {
        key: [
            sum(getattr(point, name) for point in counted[i :: len(run.qualities)]) / finished
            for i in range(len(run.qualities))
        ]
        if finished
        else []
        for key, name in _COLUMNS.items()
    }
    complete = finished == pictures
    return {
        "name": run.codec.name,
        "description": run.codec.description,
        "results": {key: [_number(value) for value in values] for key, values in means.items()},
        "qualities": list(run.qualities) if finished else [],
        "pictures": finished,
        "complete": complete,
        "bd_rate": _bd_rates(means["bpp"], means["psnr-rgb"], curves) if complete and curves else None,
        "per_image": [_row(point) for point in points],
    }


def _row(point: Point) -> dict[str, Any]:
    return {
        "image": point.image,
        "width": point.width,
        "height": point.height,
        "quality": point.quality,
        "bytes": point.bytes,
        **{key: _number(getattr(point, name)) for key, name in _COLUMNS.items()},
    }


def _bd_rates(
    bpp: Sequence[float], psnr: Sequence[float], curves: Mapping[str, Curve]
) -> dict[str, float | None]:
    if len(set(psnr)) < max(2, len(psnr)) or not all(map(math.isfinite, psnr)):
        return dict.fromkeys(curves)
    return {name: _number(metrics.bd_rate(c.bpp, c.psnr, bpp, psnr)) for name, c in curves.items()}


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _environment() -> dict[str, Any]:
    packages = ("hpcmcodec", "torch", "compressai", "numpy", "pillow", "pytorch-msssim", "bjontegaard")
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in packages},
        "system": platform.system(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _write(path: Path, results: Sequence[Mapping[str, Any]]) -> None:
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_text(json.dumps(results, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise UsageError(f"cannot write {path}: {error.strerror}") from error

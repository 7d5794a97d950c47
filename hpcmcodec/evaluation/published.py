"""Rate-distortion curves that others published, from the JSON files in which they circulate."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import metrics
from ..errors import UsageError

__all__ = ["Curve", "load"]


@dataclass(frozen=True)
class Curve:
    """A curve by rising rate: bits per pixel, dB (RGB), and MS-SSIM, 0..1, where there is one."""

    name: str
    bpp: tuple[float, ...]
    psnr: tuple[float, ...]
    ms_ssim: tuple[float, ...] | None = None


def load(path: str | os.PathLike[str]) -> list[Curve]:
    """Read a file of curves.

    Args:
        path: JSON, one of: a table of curves, {name: {"bpp": [...], "psnr": [...]}}; results of CompressAI,
            {"name": ..., "results": {"bpp": [...], "psnr-rgb": [...]}}; a list of these, as `bench` writes.
            In each, "ms-ssim" may stand beside "psnr", and both with "-rgb" or without. An MS-SSIM of which
            a value is null counts as none, and what `bench` skipped is left out.

    Returns:
        the curves, in the order of the file.

    Raises:
        UsageError: the file cannot be read or is of another form; two curves have one name, or BD-rate
            cannot be computed from a curve.
        HpcmError: bjontegaard is missing.
    """
    try:
        rows = _rows(json.loads(Path(path).read_text(encoding="utf-8")), Path(path).stem)
        curves = [_curve(name, row) for name, row in rows]
    except OSError as error:
        raise UsageError(f"cannot read the curves {path}: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(
            f'{path} is not a file of curves, {{name: {{"bpp": [...], "psnr": [...]}}}}'
            f" or results of CompressAI: {error!r}"
        ) from error
    names = Counter(curve.name for curve in curves)
    for curve in curves:
        if names[curve.name] > 1:
            raise UsageError(f"{path} has two curves named {curve.name!r}")
        try:
            metrics.bd_rate(curve.bpp, curve.psnr, curve.bpp, curve.psnr)
        except UsageError as error:
            raise UsageError(f"curve {curve.name!r} of {path}: {error}") from error
    return curves


def _rows(table: Any, stem: str) -> list[tuple[str, Mapping[str, Any]]]:
    if isinstance(table, list):
        return [(row["name"], row["results"]) for row in table if not row.get("skipped")]
    # CompressAI takes results without a name or the object around them as well.
    results = table.get("results", table)
    if "bpp" in results:
        return [(table.get("name", stem), results)]
    return list(table.items())


def _curve(name: str, row: Mapping[str, Any]) -> Curve:
    if not isinstance(name, str):
        raise TypeError(f"{name!r} is no name")
    psnr = row["psnr-rgb"] if "psnr-rgb" in row else row["psnr"]
    ms_ssim = row.get("ms-ssim-rgb", row.get("ms-ssim", [None]))
    columns = [row["bpp"], psnr] + ([] if None in ms_ssim else [ms_ssim])
    points = sorted(tuple(map(float, point)) for point in zip(*columns, strict=True))
    bpp, decibels, *rest = zip(*points, strict=True) if points else ((), ())
    if rest and not all(0 <= value <= 1 for value in rest[0]):
        raise ValueError(f"the MS-SSIM of {name!r} is not from 0 to 1")
    return Curve(name, bpp, decibels, *rest)

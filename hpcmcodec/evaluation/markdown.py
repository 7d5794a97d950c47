"""The results of a bench as tables in Markdown, for a README or a note."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..files import write_whole
from .results import cell, mean_of_known

__all__ = ["tables", "write"]

Result = Mapping[str, Any]

NONE = "-"


def write(results: Sequence[Result], path: str | os.PathLike[str]) -> None:
    """Write `tables` to a file.

    Raises:
        HpcmError: it cannot be written.
    """
    write_whole(Path(path), tables(results).encode())


def tables(results: Sequence[Result]) -> str:
    """Size and quality of ours, bits against each other codec, and what coding costs.

    Args:
        results: as `bench` returns them or their JSON holds them.
    """
    measured = [r for r in results if not r["published"] and not r["skipped"]]
    ours = [r for r in measured if r["settings"].get("codec") == "hpcm"]
    parts = [_points(r) for r in ours]
    if bd_rates := _bd_rates(results, ours):
        parts.append(bd_rates)
    if measured:
        parts.append(_costs(measured))
    return "\n".join(parts)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _points(result: Result) -> str:
    values = result["results"]
    rows = [
        [f"{quality:g}"]
        + [
            cell(values[key][i], form)
            for key, form in (("bpp", ".4f"), ("psnr-rgb", ".2f"), ("ms-ssim-rgb", ".4f"))
        ]
        for i, quality in enumerate(result["qualities"])
    ]
    table = _table(["quality", "bpp", "PSNR, dB", "MS-SSIM"], rows)
    return f"{result['title']}, mean over {result['pictures']} pictures:\n\n{table}"


def _bd_rates(results: Sequence[Result], ours: Sequence[Result]) -> str:
    compared = [r for r in ours if r["bd_rate"]]
    others = [r for r in results if any(r["name"] in c["bd_rate"] for c in compared)]
    rows = []
    for other in others:
        kind = "published" if other["published"] else "measured beside ours"
        rates = [c["bd_rate"].get(other["name"]) or {"percent": None} for c in compared]
        rows.append([other["title"], *map(_rate, rates), kind])
    if not rows:
        return ""
    table = _table(["against", *(c["title"] for c in compared), ""], rows)
    return (
        "BD-rate (PCHIP over the shared range of PSNR, in dB): bits at equal PSNR, fewer where negative:\n\n"
        + table
    )


def _rate(rate: Mapping[str, Any]) -> str:
    if rate["percent"] is None:
        return NONE
    return f"{rate['percent']:+.1f} % ({rate['psnr_from']:.1f} to {rate['psnr_to']:.1f})"


def _costs(measured: Sequence[Result]) -> str:
    rows = []
    for result in measured:
        cells = [
            cell(mean_of_known(result["results"][key]), ".2f") for key in ("encoding_time", "decoding_time")
        ]
        process = result["process"] or {}
        cells += [cell(process.get(key), ".1f") for key in ("encoding_time", "decoding_time")]
        memory = [m for key in ("encoding_memory", "decoding_memory") if (m := process.get(key))]
        rows.append([result["title"], *cells, f"{max(memory) / 1e6:,.0f} MB" if memory else NONE])
    headings = ["seconds for a picture", "encode", "decode"]
    table = _table([*headings, "encode, own process", "decode, own process", "peak memory"], rows)
    return f"Time, mean over pictures and qualities, and of one process with its start:\n\n{table}"

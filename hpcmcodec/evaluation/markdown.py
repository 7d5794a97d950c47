"""The results of a bench as tables in Markdown, for a README or a note."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from ..files import write_whole
from .results import cell, mean_of_known

__all__ = ["tables", "write"]

Result = Mapping[str, Any]

NONE = "-"
KIN = ("family", "preset", "device")
NO_RATE: Mapping[str, Any] = {"percent": None}


def write(results: Sequence[Result], path: str | os.PathLike[str], *, replace: bool = True) -> None:
    """Write `tables` to a file; with `replace`, in the place of one that is there.

    Raises:
        HpcmError: it cannot be written.
    """
    write_whole(Path(path), tables(results).encode(), replace)


def tables(results: Sequence[Result]) -> str:
    """Size and quality of ours, bits against each other codec, and what coding costs.

    Args:
        results: as `bench` returns them or their JSON holds them.
    """
    measured = [r for r in results if not r["published"] and not r["skipped"]]
    ours = [r for r in measured if r["settings"].get("codec") == "hpcm"]
    parts = [_points(list(same)) for _, same in groupby(ours, key=lambda r: (r["qualities"], r["pictures"]))]
    whole = [r for r in ours if r["bd_rate"]]
    parts += [_bd_rates(results, whole), _phases(whole)]
    if measured:
        parts.append(_costs(measured))
    return "\n".join(filter(None, parts))


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _points(same: Sequence[Result]) -> str:
    """Of models measured at the same qualities."""
    columns = (("bpp", ".4f"), ("psnr-rgb", ".2f"), ("ms-ssim-rgb", ".4f"))
    rows: list[list[str]] = [[f"{quality:g}"] for quality in same[0]["qualities"]]
    for result in same:
        for i, row in enumerate(rows):
            cells = [cell(result["results"][key][i], form) for key, form in columns]
            row += cells if len(same) == 1 else [" / ".join(cells)]
    heads = names = ["bpp", "PSNR, dB", "MS-SSIM"]
    what = same[0]["title"]
    if len(same) > 1:
        heads, what = [result["title"] for result in same], " / ".join(names)
    return f"{what}, mean over {same[0]['pictures']} pictures:\n\n{_table(['quality', *heads], rows)}"


def _percent(value: float | None, form: str) -> str:
    return NONE if value is None else f"{value:{form}} %"


def _bd_rates(results: Sequence[Result], ours: Sequence[Result]) -> str:
    rows = []
    for other in results:
        rates = [r["bd_rate"].get(other["name"], NO_RATE) for r in ours]
        if all(rate is NO_RATE for rate in rates):
            continue
        known = [rate for rate in rates if rate["percent"] is not None]
        ends = [f(rate[key] for rate in known) for f, key in ((min, "psnr_from"), (max, "psnr_to")) if known]
        cells = [_percent(rate["percent"], "+.1f") for rate in rates]
        kind = "published" if other["published"] else "measured beside ours"
        rows.append([other["title"], *cells, "{:.1f}, {:.1f}".format(*ends) if ends else NONE, kind])
    if not rows:
        return ""
    table = _table(["against", *(r["title"] for r in ours), "PSNR from, to", ""], rows)
    return (
        "BD-rate (PCHIP over the shared range of PSNR, in dB): bits at equal PSNR, fewer where negative:\n\n"
        + table
    )


def _phases(ours: Sequence[Result]) -> str:
    """The phases of one family and preset against their phase 0: bits, time, memory, in percent of its."""
    rows = []
    for base in (r for r in ours if r["settings"]["phase"] == 0):
        for result in ours:
            if result is base or any(result["settings"][key] != base["settings"][key] for key in KIN):
                continue
            more = result["bd_rate"][base["name"]]["percent"]
            shares = [
                100 * cost / alone if cost and alone else None
                for cost, alone in zip(_own_costs(result), _own_costs(base), strict=True)
            ]
            bits = _percent(None if more is None else 100 + more, ".1f")
            rows.append([result["title"], bits, *(_percent(share, ".0f") for share in shares)])
    if not rows:
        return ""
    table = _table(["", "bits", "encode, seconds", "decode, seconds", "peak memory"], rows)
    return (
        f"The phases in percent of phase 0: bits at equal PSNR (BD-rate), and what coding costs:\n\n{table}"
    )


def _own_costs(result: Result) -> tuple[float | None, float | None, float | None]:
    """Mean seconds to encode and to decode a picture, and the most memory of a process of its own, bytes."""
    process = result["process"] or {}
    memory = [m for key in ("encoding_memory", "decoding_memory") if (m := process.get(key))]
    encoding, decoding = (mean_of_known(result["results"][key]) for key in ("encoding_time", "decoding_time"))
    return encoding, decoding, max(memory, default=None)


def _costs(measured: Sequence[Result]) -> str:
    rows = []
    for result in measured:
        encoding, decoding, memory = _own_costs(result)
        process = result["process"] or {}
        alone = [cell(process.get(key), ".1f") for key in ("encoding_time", "decoding_time")]
        cells = [cell(encoding, ".2f"), cell(decoding, ".2f"), *alone]
        rows.append([result["title"], *cells, f"{memory / 1e6:,.0f} MB" if memory else NONE])
    headings = ["seconds for a picture", "encode", "decode"]
    table = _table([*headings, "encode, own process", "decode, own process", "peak memory"], rows)
    return f"Time, mean over pictures and qualities, and of one process with its start:\n\n{table}"

"""`hpcm models`: the models there are, what they cost, and which have weights."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from ..config import model_configs
from ._options import Json
from ._show import working

__all__ = ["models"]


def models(
    preset: Annotated[str | None, typer.Option(help="Only this size.", show_default="all")] = None,
    as_json: Json = False,
) -> None:
    """List the models: parameters, thousand multiply-adds per pixel, and whether weights come with them."""
    with working("counting"):
        rows = _rows(preset)
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("family", "phase", "preset", box=None, pad_edge=False)
    for heading in ("parameters", "kMAC/pixel"):
        table.add_column(heading, justify="right")
    table.add_column("weights")
    for row in rows:
        table.add_row(
            row["family"],
            str(row["phase"]),
            row["preset"],
            f"{row['parameters'] / 1e6:.2f} M",
            f"{row['macs_per_pixel'] / 1e3:.0f}",
            "yes" if row["weights"] else "-",
        )
    Console().print(table)


def _rows(preset: str | None) -> list[dict[str, Any]]:
    from .. import zoo
    from ..models.complexity import complexity

    shipped = zoo.available()
    return [
        {
            "family": config.family,
            "phase": config.phase,
            "preset": config.preset,
            **complexity(config),
            "weights": config in shipped,
        }
        for config in model_configs(preset)
    ]

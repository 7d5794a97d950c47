"""`hpcm info`: what is in a `.hpcm` file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from .. import container
from ._files import about, read_bytes
from ._options import Json

__all__ = ["info"]


def info(
    input: Annotated[Path, typer.Argument(metavar="INPUT", help="The .hpcm file; - is standard input.")],
    as_json: Json = False,
) -> None:
    """Show everything that is in a .hpcm file."""
    data = read_bytes(input)
    with about(input):
        facts = container.describe(data)
    typer.echo(json.dumps(facts, indent=2) if as_json else "\n".join(_lines(facts)))


def _lines(facts: dict[str, Any], indent: str = "") -> list[str]:
    """One line for each fact; what is in a fact stands below it, indented."""
    lines = []
    for key, value in facts.items():
        if isinstance(value, dict):
            lines += [f"{indent}{key}", *_lines(value, indent + "  ")]
        elif isinstance(value, list):
            lines += [f"{indent}{key}", *(f"{indent}  {_row(item)}" for item in value)]
        else:
            lines.append(
                f"{indent}{key:<16} {value:.6g}" if isinstance(value, float) else f"{indent}{key:<16} {value}"
            )
    return lines


def _row(item: Any) -> str:
    return "  ".join(f"{key} {value}" for key, value in item.items()) if isinstance(item, dict) else str(item)

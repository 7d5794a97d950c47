"""`hpcm info`: what is in `.hpcm` files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from .. import container
from ..errors import HpcmError
from ._files import about, read_bytes, title
from ._options import Json, MaxPixels
from ._show import note

__all__ = ["info"]


def info(
    inputs: Annotated[
        list[Path], typer.Argument(readable=False, metavar="INPUT", help=".hpcm files; - is standard input.")
    ],
    max_pixels: MaxPixels = None,
    as_json: Json = False,
) -> None:
    """Show everything that is in .hpcm files; as JSON, an object for each, on a line of its own."""
    failed = False
    for path in inputs:
        try:
            data = read_bytes(path)
            with about(path):
                facts = container.describe(data, max_pixels)
        except HpcmError as error:
            if len(inputs) == 1:
                raise
            note(f"hpcm: {error}")
            failed = True
            continue
        if as_json:
            typer.echo(json.dumps({"path": str(path), **facts}))
            continue
        if len(inputs) > 1:
            typer.echo(("" if path == inputs[0] else "\n") + title(path))
        typer.echo("\n".join(_lines(facts)))
    if failed:
        raise typer.Exit(HpcmError.exit_code)


def _lines(facts: dict[str, Any], indent: str = "") -> list[str]:
    """One line for each fact; what is in a fact stands below it, indented."""
    width = max(map(len, facts), default=0)
    lines = []
    for key, value in facts.items():
        name = key.replace("_", " ")
        if isinstance(value, dict) and value:
            lines += [f"{indent}{name}", *_lines(value, indent + "  ")]
        elif isinstance(value, list | tuple) and value:
            lines += [f"{indent}{name}", *(f"{indent}  {line}" for line in _table(value))]
        else:
            lines.append(f"{indent}{name:<{width}}  {_text(value)}")
    return lines


def _table(items: list[Any] | tuple[Any, ...]) -> list[str]:
    """A line for each item; of dictionaries, a column for each key."""
    if not all(isinstance(item, dict) for item in items):
        return [_text(item) for item in items]
    keys = list(dict.fromkeys(key for item in items for key in item))
    rows = [[key.replace("_", " ") for key in keys]]
    rows += [[_text(item.get(key)) for key in keys] for item in items]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "-" if value in (None, {}, [], ()) else str(value)

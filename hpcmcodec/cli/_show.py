"""What people see: lines on standard error, a sign of work on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["note", "working"]


def note(line: str) -> None:
    """A line for a person; standard output is for data."""
    print(line, file=sys.stderr)


@contextmanager
def working(what: str) -> Iterator[None]:
    """Show that something is going on, if standard error is a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(f"{what} ..."):
        yield

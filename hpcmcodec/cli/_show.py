"""What people see: lines on standard error, a sign of work on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from ._streams import plain

__all__ = ["note", "progress", "size", "tell", "working"]


def note(line: str) -> None:
    """A line for a person; standard output is for data."""
    if sys.stderr is not None:  # print would turn to standard output
        with suppress(OSError):  # nobody listens, which is no reason to stop the work
            print(plain(line), file=sys.stderr)


def tell(line: str) -> None:
    """A remark for a person on what was done in another way than asked."""
    note(f"hpcm: note: {line}")


@contextmanager
def working(what: str) -> Iterator[None]:
    """Show that something is going on, if standard error is a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(f"{what} ..."):
        yield


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[float], None]]:
    """A bar over so many files, if standard error is a terminal; what it yields takes how many are done."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    words = TextColumn("{task.description}")
    columns = (words, BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"{what} {total} files" if total > 1 else what, total=None)
        yield lambda done: bar.update(task, total=total, completed=done)


def size(count: int) -> str:
    """Bytes, as people say it: 12.3 MB."""
    for unit, power in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if count >= power:
            return f"{count / power:.1f} {unit}"
    return f"{count} bytes"

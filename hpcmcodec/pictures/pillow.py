"""What is common to all calls of Pillow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import ImageError

__all__ = ["one_line"]


@contextmanager
def one_line(failure: str) -> Iterator[None]:
    """Damaged files make Pillow raise whatever its readers stumble over; a person needs one line of it."""
    try:
        yield
    except ImageError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{failure}: {reason}") from error

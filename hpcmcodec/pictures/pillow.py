"""What is common to all calls of Pillow: whose fault an exception is, and whose limit on pixels counts."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from PIL import Image, ImageFile, PngImagePlugin

from ..errors import HpcmError, ImageError

__all__ = ["one_line", "own_limit", "own_settings", "remember", "remembered"]


@contextmanager
def one_line(failure: str) -> Iterator[None]:
    """Damaged files make Pillow raise whatever its readers stumble over; a person needs one line of it.

    This is the one place that says which exceptions mean that a file is bad: all but a lack of memory.
    """
    try:
        yield
    except (HpcmError, MemoryError):
        raise
    except Exception as error:
        if "out of memory" in str(error):  # Pillow's decoders say it in an OSError
            raise MemoryError from error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{failure}: {reason}") from error


# What stands in the place of the caller's limit while it is lifted.
UNLIMITED = 1 << 62


class _Lifted:
    """How many threads read a picture above the caller's limit, and what that limit was."""

    lock = threading.Lock()
    readers = 0
    limit: int | None = None


@contextmanager
def own_limit(size: tuple[int, int] | None) -> Iterator[None]:
    """Read a picture of this size (None if it is not known yet) whatever `Image.MAX_IMAGE_PIXELS` says.

    The caller's limit is for the caller's own pictures. Some of Pillow's readers look at nothing but that
    number, so it has to be lifted while they run, and only where the picture is above it.
    """
    with _Lifted.lock:
        limit = Image.MAX_IMAGE_PIXELS
        lift = limit is not None and (_Lifted.readers > 0 or size is None or size[0] * size[1] > limit)
        if lift and limit != UNLIMITED:
            _Lifted.limit, Image.MAX_IMAGE_PIXELS = limit, UNLIMITED
        _Lifted.readers += lift
    try:
        yield
    finally:
        with _Lifted.lock:
            _Lifted.readers -= lift
            # A limit that the caller has set meanwhile is the caller's latest word.
            if lift and not _Lifted.readers and Image.MAX_IMAGE_PIXELS == UNLIMITED:
                Image.MAX_IMAGE_PIXELS = _Lifted.limit


# What makes Pillow read half a picture, or refuse a whole one, and how it is in a new process.
SETTINGS = (
    (ImageFile, "LOAD_TRUNCATED_IMAGES", False),
    (PngImagePlugin, "MAX_TEXT_CHUNK", 1 << 20),
    (PngImagePlugin, "MAX_TEXT_MEMORY", 1 << 26),
)


class _Settings:
    """How many threads read with settings of our own, and what the caller's were."""

    lock = threading.Lock()
    readers = 0
    callers: tuple[int, ...] = ()


@contextmanager
def own_settings() -> Iterator[None]:
    """Read as a new process does: what the caller sets is for the caller's own pictures."""
    with _Settings.lock:
        if not _Settings.readers:
            _Settings.callers = tuple(getattr(owner, name) for owner, name, _ in SETTINGS)
            for owner, name, ours in SETTINGS:
                setattr(owner, name, ours)
        _Settings.readers += 1
    try:
        yield
    finally:
        with _Settings.lock:
            _Settings.readers -= 1
            if not _Settings.readers:
                for (owner, name, ours), before in zip(SETTINGS, _Settings.callers, strict=True):
                    # What the caller has set meanwhile is the caller's latest word.
                    if getattr(owner, name) == ours:
                        setattr(owner, name, before)


def remember(image: Image.Image, notes: Sequence[str]) -> None:
    """Keep with a picture what is to be told when it is read; a copy of the picture does not have it."""
    image.__dict__["_hpcm_notes"] = (*remembered(image), *notes)


def remembered(image: Image.Image) -> tuple[str, ...]:
    notes: tuple[str, ...] = image.__dict__.get("_hpcm_notes", ())
    return notes

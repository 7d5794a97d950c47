"""How large a picture may be, asked before any memory is taken for its pixels."""

from __future__ import annotations

import os

from ..errors import LimitError, UsageError
from .layout import MAX_PIXELS, padded_sides

__all__ = ["DEFAULT_PIXELS", "ENVIRONMENT", "check_pixels", "pixel_limit"]

# More than any camera takes in one exposure, and half of what the format can hold.
DEFAULT_PIXELS = 1 << 28
ENVIRONMENT = "HPCM_MAX_PIXELS"


def pixel_limit(max_pixels: int | None = None) -> int:
    """The limit that holds: the argument, else the environment's, else the default; never above the format's.

    Raises:
        UsageError: the limit is not a whole number above zero.
    """
    wanted = max_pixels if max_pixels is not None else os.environ.get(ENVIRONMENT) or DEFAULT_PIXELS
    try:
        limit = int(wanted)
    except (TypeError, ValueError):
        limit = 0
    if limit < 1:
        source = "max_pixels" if max_pixels is not None else ENVIRONMENT
        raise UsageError(f"{source} takes a number of pixels such as {DEFAULT_PIXELS}, not {wanted!r}")
    return min(limit, MAX_PIXELS)


def check_pixels(width: int, height: int, max_pixels: int | None = None) -> None:
    """Refuse a picture of more pixels than the limit allows.

    Args:
        width, height: of the picture. What counts is the picture as it is coded, each side padded to a
            multiple of 64: a line of one pixel's height costs as much as one of 64.
        max_pixels: see `pixel_limit`.

    Raises:
        LimitError: the picture is too large.
        UsageError: the limit is not a whole number above zero.
    """
    limit = pixel_limit(max_pixels)
    rows, columns = padded_sides(width, height)
    if rows * columns <= limit:
        return
    advice = "the most that a .hpcm file can hold"
    if limit < MAX_PIXELS:
        advice = f"the limit, which --max-pixels, max_pixels or {ENVIRONMENT} can raise"
    size = f"{width} x {height}, coded as {columns} x {rows}"
    raise LimitError(f"the picture is {size}: more than {limit} pixels, {advice}")

"""Signals that end a command: as an exception, so that whatever was begun is cleaned up."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

__all__ = ["ENDING", "listen", "verdict"]

# Windows knows no SIGHUP.
ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
PATIENCE = 2.0  # seconds to clean up in, until another signal ends the process at once

_came: tuple[int, float] | None = None  # the first signal, and when


def listen() -> None:
    """From now on the first ending signal raises KeyboardInterrupt, whichever it is.

    Raised in the middle of an import it could leave a library half initialised, which some answer by aborting
    the process. Then there is nothing to clean up yet, and the process simply ends.
    """
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as `nohup` and `&` in a script set it
            signal.signal(number, _take)
    sys.unraisablehook = _unraisable


def verdict() -> tuple[str, int]:
    """What to say of an interruption, and the exit code, which is 128 and the number of the signal."""
    number = _came[0] if _came else signal.SIGINT
    line = "interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}"
    return line, 128 + number


def _take(number: int, frame: FrameType | None) -> None:
    global _came
    if _came is None:
        _came = number, time.monotonic()
        if not _importing(frame):
            raise KeyboardInterrupt
    elif time.monotonic() < _came[1] + PATIENCE:
        return  # the first one is being followed
    _end()


def _importing(frame: FrameType | None) -> bool:
    while frame:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _unraisable(what: sys.UnraisableHookArgs) -> None:
    if _came and issubclass(what.exc_type, KeyboardInterrupt):
        _end()  # it was raised where Python drops exceptions, as in a finaliser, and will not come again
    sys.__unraisablehook__(what)


def _end() -> None:
    line, code = verdict()
    show_cursor = "\x1b[?25h" if os.isatty(2) else ""  # a progress bar may have hidden it
    with suppress(OSError):
        os.write(2, f"{show_cursor}hpcm: {line}\n".encode())
    os._exit(code)

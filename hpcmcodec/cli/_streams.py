"""The standard streams, as a command needs them: all three there, and telling what they could not take."""

from __future__ import annotations

import errno
import io
import os
import sys
import unicodedata

from ..errors import HpcmError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["complain", "finish", "mend", "plain", "silence", "why"]


class _Output(io.FileIO):
    """Standard output, whose errors say that they are its own."""

    def write(self, data: ReadableBuffer) -> int:
        try:
            return super().write(data)
        except OSError as error:
            raise OSError(error.errno, why(error), "standard output") from None


def mend() -> None:
    """Give the process the streams that it was started without, and a standard output that counts its bytes.

    A stream that was closed (`2>&-`) leaves its number to the next file that is opened, which would then get
    what is meant for the stream. In its place comes the null device, which swallows messages, but opened in
    such a way that data fails: nothing is read from a missing input, nor written to a missing output.
    """
    for number, access in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, access)  # takes the lowest free number, which is this
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", errors="backslashreplace", closefd=False)  # noqa: SIM115
    if sys.stdout is None or not sys.stdout.isatty():
        # With PYTHONUNBUFFERED there would be no layer that writes on after a short write.
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(_Output(1, "w", closefd=False)),
            encoding=getattr(sys.stdout, "encoding", None),
            errors="surrogateescape",  # names of files that are not text come out as they are
            line_buffering=True,
        )


def finish(code: int) -> int:
    """Write what is left in standard output, and return the exit code of the command."""
    try:
        sys.stdout.flush()
        os.close(1)  # some file systems say only now that they are full
    except BrokenPipeError:
        return code or HpcmError.exit_code
    except OSError as error:
        if not code:  # else it has been said
            complain(f"standard output: {why(error)}")
        return code or HpcmError.exit_code
    return code


def complain(line: str) -> None:
    """Say what went wrong, to whoever listens."""
    if sys.stderr is None:  # print would turn to standard output
        return
    try:
        print(f"hpcm: {plain(' '.join(line.split()))}", file=sys.stderr, flush=True)
    except OSError:
        silence(sys.stderr.fileno())


def plain(line: str) -> str:
    """A line that a terminal only shows: names of files may hold line breaks, and codes that it obeys."""
    return "".join(
        letter if letter.isprintable() or unicodedata.category(letter) == "Zs" else ascii(letter)[1:-1]
        for letter in line
    )


def silence(number: int) -> None:
    """Let a stream that nobody takes from swallow what is still to come."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, number)
    os.close(null)


def why(error: OSError) -> str:
    """Why a standard stream fails, for a person."""
    return "it is closed" if error.errno == errno.EBADF else error.strerror or str(error)

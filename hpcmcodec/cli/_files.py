"""Files and pipes: read them, name them, and write them whole or not at all."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import (
    CorruptFileError,
    HpcmError,
    ImageError,
    ModelMismatchError,
    OutputExistsError,
    UsageError,
)
from ..files import write_whole
from ._streams import why

if TYPE_CHECKING:
    from PIL import Image

__all__ = [
    "STDIO",
    "about",
    "check_new",
    "check_output",
    "exists",
    "is_file",
    "is_folder",
    "open_picture",
    "or_stdio",
    "read_bytes",
    "title",
    "write_bytes",
]

STDIO = Path("-")
STANDARD_OUTPUT = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
# The methods of Path that ask the same raise where a file system refuses an answer, as for too long a name.
exists, is_file, is_folder = os.path.exists, os.path.isfile, os.path.isdir


def title(path: Path, pipe: str = "standard input") -> str:
    """What to call a path in a message."""
    return pipe if path == STDIO else str(path)


def or_stdio(path: Path) -> Path:
    """A path, or `-` for standard output by another name, which cannot be replaced as files are."""
    return STDIO if str(path) in STANDARD_OUTPUT else path


@contextmanager
def about(path: Path) -> Iterator[None]:
    """Put the file's name before what is said of it."""
    try:
        yield
    except (CorruptFileError, ImageError, ModelMismatchError) as error:
        raise type(error)(f"{title(path)}: {error}") from error


def read_bytes(path: Path) -> bytes:
    """All of a file, or of standard input for `-`."""
    try:
        if path == STDIO:
            return sys.stdin.buffer.read()
        return path.read_bytes()
    except IsADirectoryError:
        raise HpcmError(f"{title(path)} is a folder, not a file") from None
    except OSError as error:
        if path == STDIO:
            raise HpcmError(f"standard input: {why(error)}") from None
        raise HpcmError(f"{path}: {error.strerror or error}") from None


def open_picture(data: bytes, path: Path, max_pixels: int | None = None) -> Image.Image:
    """A picture from the bytes of a file, its pixels not yet decoded."""
    from .. import pictures

    return pictures.open_picture(data, title(path), max_pixels)


def check_output(
    path: Path,
    force: bool,
    source: Path | None = None,
    missing_folder: bool = False,
    advice: str = "name another file with -o, leave it with --skip-existing, or overwrite it with --force",
) -> None:
    """Refuse now what could not be written later, before time is spent.

    Args:
        force: overwrite what is there, but never `source`, the input.
        missing_folder: a missing folder does no harm, because it will be made.
        advice: what to do about a file that exists.

    Raises:
        UsageError: the output is the input, or a terminal that would show binary data.
        HpcmError: the output exists and `force` is not set, is a folder, or its folder takes no files.
    """
    if path == STDIO:
        if sys.stdout.isatty():
            raise UsageError("will not write binary data to a terminal: name a file with -o, or use a pipe")
        return
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        mode = 0
    except OSError as error:  # such as a name that is too long
        raise HpcmError(f"cannot write {path}: {error.strerror or error}") from None
    if stat.S_ISDIR(mode):
        raise HpcmError(f"{path} is a folder: name a file with -o")
    if mode and not stat.S_ISREG(mode):  # a device or a named pipe
        return
    folder = Path(os.path.realpath(path)).parent if path.is_symlink() else path.parent
    if not is_folder(folder):
        if not missing_folder:
            raise HpcmError(f"the folder {folder} does not exist")
    elif not os.access(folder, os.W_OK | os.X_OK):
        raise HpcmError(f"cannot write {path}: no permission to write in its folder")
    if mode and source and is_file(source) and path.samefile(source):
        raise UsageError(f"{path} is the input itself: name another file with -o")
    if mode and not force:
        raise OutputExistsError(f"{path} exists: {advice}")


def check_new(path: Path, force: bool) -> None:
    """Refuse now what could not be written when long work is done.

    Raises:
        UsageError: the file exists and `force` is not set, or it cannot be written.
    """
    try:
        check_output(path, force, advice="name another file, or overwrite it with --force")
    except HpcmError as error:
        raise UsageError(str(error)) from None


def write_bytes(path: Path, data: bytes, replace: bool) -> None:
    """Write a file whole or not at all, or to standard output for `-`.

    Raises:
        OutputExistsError: there is a file, perhaps only since a moment ago, and it is not to be replaced.
        HpcmError: it cannot be written, as on a full disk; nothing is left of it.
    """
    if path == STDIO:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    elif exists(path) and not is_file(path):  # a device or a named pipe
        try:
            path.write_bytes(data)
        except OSError as error:
            raise HpcmError(f"cannot write {path}: {error.strerror or error}") from error
    else:
        write_whole(path, data, replace)

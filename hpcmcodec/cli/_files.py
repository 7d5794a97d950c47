"""Files and pipes: read them, name them, and write them whole or not at all."""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..container import MAX_PIXELS
from ..errors import CorruptFileError, HpcmError, ImageError, ModelMismatchError, UsageError
from ..files import write_whole

if TYPE_CHECKING:
    from PIL import Image

__all__ = [
    "STDIO",
    "about",
    "check_new",
    "check_output",
    "open_picture",
    "read_bytes",
    "title",
    "write_bytes",
]

STDIO = Path("-")


def title(path: Path, pipe: str = "standard input") -> str:
    """What to call a path in a message."""
    return pipe if path == STDIO else str(path)


@contextmanager
def about(path: Path) -> Iterator[None]:
    """Put the file's name before what is said of it."""
    try:
        yield
    except (CorruptFileError, ImageError, ModelMismatchError) as error:
        raise type(error)(f"{title(path)}: {error}") from error


def read_bytes(path: Path) -> bytes:
    """All of a file, or of standard input for `-`."""
    if path == STDIO:
        return sys.stdin.buffer.read()
    try:
        return path.read_bytes()
    except IsADirectoryError:
        raise HpcmError(f"{path} is a folder, not a file") from None
    except OSError as error:
        raise HpcmError(f"{path}: {error.strerror or error}") from None


def open_picture(data: bytes, path: Path) -> Image.Image:
    """A picture from the bytes of a file, its pixels not yet decoded."""
    from PIL import Image, UnidentifiedImageError

    Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2  # Pillow refuses what is over twice this
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(io.BytesIO(data))
    except UnidentifiedImageError:
        raise ImageError(f"{title(path)} is not a picture that can be read") from None
    except (Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise ImageError(f"{title(path)}: {error}") from None


def check_output(path: Path, source: Path, force: bool, missing_folder: bool = False) -> None:
    """Refuse now what could not be written later, before time is spent. A missing folder may be no harm.

    Raises:
        UsageError: the output is the input, or a terminal that is to show binary data.
        HpcmError: the output exists and `force` is not set, is a folder, or its folder is missing.
    """
    if path == STDIO:
        if sys.stdout.isatty():
            raise UsageError("will not write binary data to a terminal: name a file with -o, or use a pipe")
        return
    if path.is_dir():
        raise HpcmError(f"{path} is a folder: name a file with -o")
    if not missing_folder and not path.parent.is_dir():
        raise HpcmError(f"the folder {path.parent} does not exist")
    if path.is_file():
        if source.is_file() and path.samefile(source):
            raise UsageError(f"{path} is the input itself: name another file with -o")
        if not force:
            raise HpcmError(
                f"{path} exists: name another file with -o, leave it with --skip-existing, or overwrite it"
                " with --force"
            )


def check_new(path: Path, force: bool) -> None:
    """Refuse now what could not be written when long work is done.

    Raises:
        UsageError: the folder is missing, or the file exists and `force` is not set.
    """
    if not path.parent.is_dir():
        raise UsageError(f"cannot write {path}: its folder does not exist")
    if path.exists() and not force:
        raise UsageError(f"{path} exists: name another file, or overwrite it with --force")


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, or to standard output for `-`.

    Raises:
        HpcmError: it cannot be written, as on a full disk; nothing is left of it.
    """
    if path == STDIO:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    if path.exists() and not path.is_file():  # a device or a named pipe
        try:
            path.write_bytes(data)
        except OSError as error:
            raise HpcmError(f"cannot write {path}: {error.strerror or error}") from error
    else:
        write_whole(path, data)

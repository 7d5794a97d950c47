"""Files are written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import HpcmError

__all__ = ["whole_file", "write_whole"]


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A file beside `path` to write to, which takes its place in the end, or is gone if anything fails.

    Raises:
        HpcmError: it cannot be written, as on a full disk; what was there before still is.
    """
    target = path.resolve()  # what a link points to is replaced, not the link
    part: Path | None = None
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}."[:100], dir=target.parent)
        os.close(handle)
        part = Path(name)
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())  # else a power cut could leave the new name without its bytes
        part.chmod(0o666 & ~_umask())
        part.replace(target)
    except OSError as error:
        raise HpcmError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if part is not None:
            part.unlink(missing_ok=True)


def write_whole(path: Path, data: bytes) -> None:
    """Write bytes to a file; see `whole_file`."""
    with whole_file(path) as part:
        part.write_bytes(data)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask

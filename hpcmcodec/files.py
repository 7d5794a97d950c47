"""Files are read from wherever they are, and written whole or not at all."""

from __future__ import annotations

import io
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from .errors import HpcmError, OutputExistsError

__all__ = ["Source", "read_source", "whole_file", "write_whole"]

Source = bytes | bytearray | memoryview | str | os.PathLike[str] | BinaryIO


@contextmanager
def whole_file(path: Path, replace: bool = True) -> Iterator[Path]:
    """A file beside `path` to write to, which takes its place in the end, or is gone if anything fails.

    Args:
        path: the file to write; of a link, what it points to.
        replace: a file that is there gives way, and the new one has its mode and, where possible, its owner.
            Otherwise it stays, even if it has appeared only while the new one was being written.

    Raises:
        OutputExistsError: the file exists and is not to be replaced.
        HpcmError: it cannot be written, as on a full disk; what was there before still is.
    """
    target = Path(os.path.realpath(path))
    # Short, because a name may fill all bytes that the file system allows.
    part = target.parent / f".hpcm-{secrets.token_hex(8)}"
    try:
        before = _rights(target) if replace else None
        # Until it is complete nobody may read what only some may read afterwards.
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600 if before else 0o666))
        yield part
        _sync(part, os.O_RDWR)  # else a power cut could leave the new name without its bytes
        if before:
            _set_rights(part, before)
        if replace:
            part.replace(target)
        else:
            try:
                _move_to_new_name(part, target)
            except FileExistsError:
                raise OutputExistsError(
                    f"{path} exists: name another file, or overwrite it with --force"
                ) from None
        with suppress(OSError):  # not every system can do this with a folder
            _sync(target.parent, os.O_RDONLY)
    except OSError as error:
        raise HpcmError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def write_whole(path: Path, data: bytes, replace: bool = True) -> None:
    """Write bytes to a file; see `whole_file`."""
    with whole_file(path, replace) as part:
        part.write_bytes(data)


def _rights(path: Path) -> os.stat_result | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found if stat.S_ISREG(found.st_mode) else None


def _set_rights(path: Path, rights: os.stat_result) -> None:
    for owner in (rights.st_uid, -1):  # only root may give files away; the group can often be kept
        with suppress(OSError, AttributeError):  # Windows knows no owners
            os.chown(path, owner, rights.st_gid)
            break
    path.chmod(rights.st_mode & 0o777)


def _move_to_new_name(part: Path, target: Path) -> None:
    """Rename a file, but never over another.

    Raises:
        FileExistsError: there is another.
    """
    try:
        os.link(part, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: take the name, then replace what it holds
        target.touch(exist_ok=False)
        try:
            part.replace(target)
        except BaseException:
            target.unlink()
            raise


def _sync(path: Path, access: int) -> None:
    handle = os.open(path, access)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_source(source: Source, what: str) -> bytes:
    """All bytes of a file, however it is given.

    Args:
        source: its content, its path, or a file object opened in binary mode, which is read to its end.
        what: what is wanted, for the error, as "a .hpcm file".

    Raises:
        OSError: it cannot be read.
        TypeError: this is none of these.
    """
    content: object = source
    if isinstance(source, str | os.PathLike):
        content = Path(source).read_bytes()
    elif hasattr(source, "read") and not isinstance(source, io.TextIOBase):
        content = source.read()
    if isinstance(content, bytes):
        return content
    if isinstance(content, bytearray | memoryview):
        return bytes(content)
    text = isinstance(source, io.TextIOBase) or isinstance(content, str)
    given = f"a file in text mode ({source!r})" if text else repr(source)[:60]
    raise TypeError(f"{what} is wanted: its bytes, its path or a file object in binary mode, not {given}")

"""The pictures that are measured: found, checked, and read as all codecs get them."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .. import codec, pictures
from ..errors import ImageError, UsageError
from .failures import Failures, Tell, nobody

__all__ = ["Photo", "find_photos", "read_photo"]

DIGEST = 16  # characters; enough to see that a file has changed


@dataclass(frozen=True)
class Photo:
    """A picture file; `sha256` begins the digest of its bytes."""

    path: Path
    sha256: str

    @property
    def name(self) -> str:
        return self.path.name


def find_photos(folder: str | os.PathLike[str], limit: int | None = None, tell: Tell = nobody) -> list[Photo]:
    """The pictures of a folder that Pillow reads, by name, without subfolders and hidden files.

    Every one is read, so that a damaged or unfit one is found now and not when others have run for an hour.
    Left out is one that cannot be read, has transparency, or is of a kind or size that
    `hpcmcodec.codec.to_rgb` refuses.

    Args:
        limit: only the first ones that can be used, so many.
        tell: called with a line for a person for each picture that is left out.

    Raises:
        UsageError: the folder is missing or unreadable, has no pictures, or `limit` is not positive.
        ImageError: none of the pictures can be used; it is the error of the first.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"the limit is a number of pictures, 1 or more, not {limit}")
    folder = Path(folder)
    try:
        files = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise UsageError(f"cannot read the folder {folder}: {error.strerror}") from error
    files = [path for path in files if pictures.is_picture_name(path.name) and path.is_file()]
    if not files:
        raise UsageError(f"no pictures in {folder}")
    failures, photos = Failures(), list[Photo]()
    for path in files:
        if len(photos) == limit:
            break
        with failures.leave_out():
            photos.append(_check(path))
    failures.check(left=photos, tell=tell)
    return photos


def read_photo(path: Path) -> NDArray[np.uint8]:
    """A picture upright and in 8-bit colour, `H x W x 3`.

    Raises:
        ImageError: as `find_photos` says; the message names the file.
    """
    return _pixels(_bytes(path), path)


def _check(path: Path) -> Photo:
    data = _bytes(path)
    _pixels(data, path)
    return Photo(path, hashlib.sha256(data).hexdigest()[:DIGEST])


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"cannot read the picture {path}: {error.strerror}") from error


def _pixels(data: bytes, path: Path) -> NDArray[np.uint8]:
    with pictures.open_picture(data, str(path)) as image:
        try:
            if image.has_transparency_data:
                raise ImageError("it has transparency, which the codecs would keep each in its own way")
            return codec.to_rgb(image)
        except ImageError as error:
            raise ImageError(f"{path}: {error}") from error

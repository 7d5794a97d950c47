"""Do two devices exchange files? Pictures coded on each and decoded on both."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import ModelMismatchError
from .ours import HpcmCodec
from .photos import Photo, read_photo

__all__ = ["Exchange", "exchange"]


@dataclass(frozen=True)
class Exchange:
    """What became of one picture at one quality.

    files: digests of the files that the two devices made.
    failed: why a file did not decode on a device; empty if all did.
    largest: the largest difference of a value between the pictures that the devices decode of one file.
    share: the share of values that differ.
    """

    picture: str
    quality: float
    files: tuple[str, str]
    failed: str
    largest: int
    share: float

    @property
    def same_file(self) -> bool:
        return self.files[0] == self.files[1]


def exchange(
    one: HpcmCodec, other: HpcmCodec, photos: Sequence[Photo], qualities: Sequence[float]
) -> Iterator[Exchange]:
    """Code every picture by one model on its two devices, decode every file on both, and compare.

    Raises:
        UsageError: there is no such device.
        WeightsError: the model has no weights.
    """
    both = one, other
    for photo in photos:
        pixels = read_photo(photo.path)
        encode = [ours.analyse(pixels) for ours in both]
        for quality in qualities:
            files = [coded(quality) for coded in encode]
            failed, largest, share = "", 0, 0.0
            for maker, data in zip(both, dict.fromkeys(files), strict=False):
                try:
                    here, there = (ours.decode(data).astype(int) for ours in both)
                except ModelMismatchError as error:
                    failed = f"made on {maker.device}: {error}"
                    continue
                apart = np.abs(here - there)
                largest, share = max(largest, int(apart.max())), max(share, float((apart > 0).mean()))
            digests = hashlib.sha256(files[0]).hexdigest(), hashlib.sha256(files[1]).hexdigest()
            yield Exchange(photo.name, quality, digests, failed, largest, share)

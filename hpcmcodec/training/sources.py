"""What a run trains on: photographs and drawn pictures, read or drawn, each group with its share."""

from __future__ import annotations

import os
from pathlib import Path

from .data import CropSource, Group, Pictures, read_pictures
from .drawn import drawn_pictures
from .options import TrainOptions
from .process import Process

__all__ = ["read_crops"]


def read_crops(options: TrainOptions, process: Process, seed: int) -> tuple[CropSource, list[int]]:
    """This process's share of the pictures on its device; how many there are, unreadable, large enough.

    Runs beside the compiler.
    """
    threads = max(2, (os.cpu_count() or 2) // process.world)

    def read(paths: tuple[Path, ...]) -> Pictures:
        return read_pictures(list(paths), options.exclude, process.rank, process.world, threads)

    photos = read(options.data)
    drawn = drawn_pictures(options.drawn // process.world, photos.pixels, seed)
    unreadable = photos.unreadable
    if options.drawn_data:
        stored = read(options.drawn_data)
        drawn += stored.pixels
        unreadable += stored.unreadable
    if options.drawn_share is None:
        first, others = [*photos.pixels, *drawn], []
    else:
        first, others = photos.pixels, [Group(drawn, options.drawn_share)]
    source = CropSource(first, options.crop, process.device, seed, others, options.augment)
    return source, [len(photos.pixels) + len(drawn), unreadable, source.count]

"""Training pictures held as bytes on the device, and random crops of them without leaving it."""

from __future__ import annotations

import random
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .. import pictures
from ..errors import ImageError
from ..models import HPCM
from .augment import OFF, REACH, Augment, resample

__all__ = ["CropSource", "Group", "LatentSource", "Pictures", "read_evenly", "read_pictures"]

SUFFIXES = {".avif", ".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}
RESCALED_SHARE = 0.25
FILTERS = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)


@dataclass(frozen=True)
class Pictures:
    """Decoded pictures, uint8 `H x W x 3` each, their names, and how many files could not be read."""

    pixels: list[np.ndarray]
    names: list[str]
    unreadable: int


def _files(path: Path) -> Iterator[tuple[str, bytes | Path]]:
    """Name and content (or where it lies) of every picture in a folder, at any depth, or in a tar."""
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.suffix.lower() in SUFFIXES and file.is_file():
                yield str(file.relative_to(path)), file
    elif path.is_file() and tarfile.is_tarfile(path):
        with tarfile.open(path) as tar:
            for member in sorted(tar.getmembers(), key=lambda m: m.name):
                if member.isfile() and Path(member.name).suffix.lower() in SUFFIXES:
                    content = tar.extractfile(member)
                    assert content is not None
                    yield member.name, content.read()
    else:
        raise ImageError(f"{path} is neither a folder of pictures nor a tar of them")


def _decode(source: bytes | Path) -> np.ndarray | None:
    """The pixels of a picture; None where it cannot be read."""
    try:
        data = source if isinstance(source, bytes) else source.read_bytes()
        with pictures.open_picture(data) as image:
            return pictures.read(image).rgb
    except (ImageError, OSError):
        return None


def read_pictures(
    paths: list[Path], exclude: frozenset[str] = frozenset(), rank: int = 0, world: int = 1, threads: int = 8
) -> Pictures:
    """Read the pictures of folders and tars; a rank of several takes every `world`-th.

    Args:
        exclude: file stems to leave out.

    Raises:
        ImageError: a path is neither, or there is no picture at all.
    """
    files = [f for path in paths for f in _files(path) if Path(f[0]).stem not in exclude][rank::world]
    with ThreadPoolExecutor(threads) as pool:
        decoded = list(pool.map(lambda f: _decode(f[1]), files))
    kept = [(name, pixels) for (name, _), pixels in zip(files, decoded, strict=True) if pixels is not None]
    if not kept:
        raise ImageError(f"no readable picture in {', '.join(str(p) for p in paths)}")
    return Pictures([p for _, p in kept], [n for n, _ in kept], len(files) - len(kept))


def read_evenly(paths: Sequence[Path], count: int, exclude: frozenset[str] = frozenset()) -> list[np.ndarray]:
    """`count` pictures (or as many as there are), spaced evenly over folders and tars."""
    files = [f for path in paths for f in _files(path) if Path(f[0]).stem not in exclude]
    spaced = files[:: max(1, len(files) // count)][:count]
    decoded = [pixels for pixels in map(_decode, (f[1] for f in spaced)) if pixels is not None]
    if not decoded:
        raise ImageError(f"no readable picture in {', '.join(str(p) for p in paths)}")
    return decoded


def _with_copies(
    pictures: Sequence[np.ndarray], crop: int, dice: random.Random
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The pictures that hold a crop, and smaller copies of those that have room for one."""
    whole = [p for p in pictures if min(p.shape[:2]) >= crop]
    if not whole:
        raise ImageError(f"no picture is {crop} x {crop} pixels or larger")
    with ThreadPoolExecutor(8) as pool:
        copies = pool.map(
            lambda job: _rescaled(*job), [(p, crop, random.Random(dice.random())) for p in whole]
        )
    return whole, [c for c in copies if c is not None]


def _rescaled(pixels: np.ndarray, crop: int, dice: random.Random) -> np.ndarray | None:
    """A copy at a random smaller scale that still holds a crop; None where there is no room."""
    height, width = pixels.shape[:2]
    smallest = crop / min(height, width)
    if smallest > 0.87:
        return None
    factor = dice.uniform(smallest, 0.87)
    size = max(crop, round(width * factor)), max(crop, round(height * factor))
    return np.array(Image.fromarray(pixels).resize(size, dice.choice(FILTERS)))


@dataclass(frozen=True)
class Group:
    """Pictures, uint8 `H x W x 3` each, of which a share of the crops is taken, however many they are."""

    pictures: Sequence[np.ndarray]
    share: float


class CropSource:
    """Random crops of pictures that lie in one buffer on the device, by one indexed read a batch.

    A quarter of the crops come from a smaller copy of their picture, made once; each is flipped and
    transposed at random. Everything is drawn on the device, so that a batch can be part of a CUDA graph.
    Pictures smaller than the crop are left out.

    Args:
        pictures: they have the share of the crops that `others` leave. uint8, `H x W x 3`.
        others: further pictures, each group with a share of its own. `augment` leaves them as they are.
        augment: how the crops of `pictures` are varied.

    Raises:
        ImageError: a group has no picture that is large enough.
    """

    def __init__(
        self,
        pictures: Sequence[np.ndarray],
        crop: int,
        device: torch.device,
        seed: int = 0,
        others: Sequence[Group] = (),
        augment: Augment = OFF,
    ) -> None:
        dice = random.Random(seed)
        self.crop, self.device, self.augment = crop, device, augment
        self.count = self.smaller = 0
        every: list[np.ndarray] = []
        places: list[tuple[int, int, int]] = []
        groups = [Group(pictures, 1 - sum(group.share for group in others)), *others]
        for group in groups:
            whole, copies = _with_copies(group.pictures, crop, dice)
            places.append((len(every), len(whole), len(copies)))
            every += whole + copies
            self.count += len(whole)
            self.smaller += len(copies)
        # Where a group begins, how many whole pictures it has, then how many smaller copies.
        self.places = torch.tensor(places, dtype=torch.int64, device=device)
        shares = [group.share for group in groups]
        self.bounds = torch.tensor(shares, dtype=torch.float32, device=device).cumsum(0)[:-1]
        sizes = np.array([p.shape[:2] for p in every], dtype=np.int64)
        areas = sizes.prod(1)
        self.pixels = torch.empty(int(areas.sum()), 3, dtype=torch.uint8, device=device)
        self.start = torch.from_numpy(np.cumsum(areas) - areas).to(device)
        self.size = torch.from_numpy(sizes).to(device)
        for first, picture in zip((np.cumsum(areas) - areas).tolist(), every, strict=True):
            flat = torch.from_numpy(picture).view(-1, 3)
            self.pixels[first : first + len(flat)] = flat.to(device)

    def batch(self, count: int) -> Tensor:
        """`count x 3 x crop x crop` in [0, 1], channels_last."""
        which, varied = self._choose(count)
        rescaled = round(count * self.augment.rescale)
        crops = self._read(which[rescaled:])
        if rescaled:
            most = self.size[which[:rescaled]].amin(1) / self.crop
            scale = torch.where(varied[:rescaled], self.augment.scale(most), torch.ones_like(most))
            window = self._read(which[:rescaled], scale, REACH)
            crops = torch.cat((resample(window, scale, self.crop), crops))
        crops = crops.permute(0, 3, 1, 2) / 255
        return self.augment.recolour(crops, varied)

    def _choose(self, count: int) -> tuple[Tensor, Tensor]:
        """Numbers of random pictures, and which of them are of the first group."""
        draw = torch.rand(3, count, dtype=torch.float32, device=self.device)
        group = (draw[0, :, None] >= self.bounds).sum(1)
        first, whole, copies = self.places[group].T
        copied = (draw[1] < RESCALED_SHARE) & (copies > 0)
        among = torch.where(copied, copies, whole)
        which = first + whole * copied + (draw[2] * among).long().minimum(among - 1)
        return which, group == 0

    def _read(self, which: Tensor, scale: Tensor | None = None, margin: int = 0) -> Tensor:
        """Random windows of pictures, flipped and transposed, `N x side x side x 3` in [0, 255].

        Args:
            scale: in [1, 2], how many pixels of the picture a pixel of the crop spans. The windows are then
                twice as large as a crop, and what a crop needs begins `margin` from two of their edges.
        """
        c, device = self.crop, self.device
        draw = torch.rand(5, len(which), dtype=torch.float32, device=device)
        size = self.size[which]
        extent = torch.full_like(which, c)
        if scale is not None:
            extent = (c * scale).ceil().long().minimum(size.amin(1))
        room = size - extent[:, None]
        corner = (draw[:2].T * (room + 1)).long().minimum(room)
        end = (c if scale is None else 2 * c) + margin
        line = torch.arange(-margin, end, dtype=torch.int64, device=device)
        back = extent[:, None] - 1 - line
        row = torch.where(draw[2, :, None] < 0.5, line, back)
        column = torch.where(draw[3, :, None] < 0.5, line, back)
        turned = draw[4, :, None, None] < 0.5
        rows = torch.where(turned, row[:, :, None], row[:, None, :]) + corner[:, 0, None, None]
        columns = torch.where(turned, column[:, None, :], column[:, :, None]) + corner[:, 1, None, None]
        if scale is not None:  # beyond its edge a picture goes on as it ends
            rows = rows.clamp_min(0).minimum(size[:, 0, None, None] - 1)
            columns = columns.clamp_min(0).minimum(size[:, 1, None, None] - 1)
        at = self.start[which, None, None] + rows * size[:, 1, None, None] + columns
        return self.pixels[at].float()


class LatentSource:
    """What g_a makes of `count` random crops, computed once and kept in half precision.

    Args:
        crops: where the crops come from; what is drawn follows PyTorch's own generator.
    """

    BATCH = 32

    def __init__(self, model: HPCM, crops: CropSource, count: int) -> None:
        self.crops, self.count, self.device = crops, count, crops.device
        side, some = crops.crop // 16, min(count, self.BATCH)
        shape = (count, model.config.sizes.M, side, side)
        self.latents = torch.empty(shape, dtype=torch.float16, device=self.device)
        with torch.no_grad():
            for start in range(0, count, some):
                part = self.latents[start : start + some]
                part.copy_(model.latent(crops.batch(some))[: len(part)])

    def batch(self, count: int) -> Tensor:
        """`count x M x crop/16 x crop/16`, drawn at random, channels_last."""
        draw = torch.rand(count, dtype=torch.float32, device=self.device)
        which = (draw * self.count).long().clamp_max(self.count - 1)
        return self.latents[which].float().contiguous(memory_format=torch.channels_last)

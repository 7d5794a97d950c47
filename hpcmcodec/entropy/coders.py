"""The three coders that the traversal passes y through: to estimate, to write and to read."""

from __future__ import annotations

import hashlib
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..errors import ImageError
from .likelihood import likelihood, positive_scale
from .rans import SYMBOL_LIMIT, RansDecoder, encode
from .tables import LEVELS, CdfTables, raw_scale_index, scale_index

__all__ = [
    "CountCoder",
    "DecodeCoder",
    "EncodeCoder",
    "RateCoder",
    "SymbolReader",
    "SymbolWriter",
    "latent_checksum",
    "round_ste",
    "z_indexes",
]


class Site(Protocol):
    """What a coder needs to know of a step: its level, and how to read what it codes."""

    @property
    def level(self) -> int: ...

    def gather(self, x: Tensor) -> Tensor: ...


def round_ste(x: Tensor) -> Tensor:
    """Rounding whose gradient is that of the identity."""
    return x + (x.round() - x).detach()


def rate(y: Tensor, scales: Tensor, means: Tensor, shape: float, noise: bool) -> tuple[Tensor, Tensor]:
    """y_hat and likelihood of what one step codes, all of one shape, in float32."""
    residual = y.float() - means.float()
    rounded = round_ste(residual)
    measured = residual + (torch.rand_like(residual) - 0.5) if noise else rounded
    return rounded + means.float(), likelihood(measured, positive_scale(scales), shape)


class RateCoder:
    """Rounds with a straight-through gradient and keeps the likelihood of every value.

    Args:
        y: the latent at the three levels, NHWC, coarse first.
        shape: of the coded distribution.
        noise: measure values with additive uniform noise (training) instead of rounded ones.
    """

    def __init__(self, y: tuple[Tensor, Tensor, Tensor], shape: float = 2.0, noise: bool = False) -> None:
        self.y, self.shape, self.noise = y, shape, noise
        self.likelihoods: list[Tensor] = []

    def code(self, step: Site, scales: Tensor, means: Tensor) -> Tensor:
        values, probability = rate(step.gather(self.y[step.level]), scales, means, self.shape, self.noise)
        self.likelihoods.append(probability.flatten(1))
        return values


class CountCoder:
    """Counts how often each symbol occurs at each level, for `fitted_tables`.

    Args:
        y: the latent at the three levels, NHWC, coarse first.
        reach: symbols beyond -reach..reach are left out.

    Attributes:
        counts: int64 `levels x 2 reach + 1`.
    """

    def __init__(self, y: tuple[Tensor, Tensor, Tensor], reach: int) -> None:
        self.y, self.reach = y, reach
        self.counts = torch.zeros(LEVELS, 2 * reach + 1, dtype=torch.int64, device=y[0].device)

    def code(self, step: Site, scales: Tensor, means: Tensor) -> Tensor:
        q = (step.gather(self.y[step.level]) - means).round()
        self.count(q, positive_scale(scales))
        return q + means

    def count(self, q: Tensor, scale: Tensor) -> None:
        """Add symbols q coded with `scale`, both of one shape."""
        kept = q.abs() <= self.reach
        level, symbol = scale_index(scale)[kept].long(), q[kept].long()
        place = level * self.counts.shape[1] + symbol + self.reach
        self.counts += torch.bincount(place, minlength=self.counts.numel()).view_as(self.counts)


def _to_symbols(q: Tensor) -> np.ndarray:
    """`1 x H x W x C` to int32 in the file's order: channel, row, column."""
    # Written so that what is not a number fails too.
    if not float(q.abs().max()) <= SYMBOL_LIMIT:
        raise ImageError("the picture gives a latent beyond the coder's range")
    return q[0].permute(2, 0, 1).to(torch.int32).cpu().numpy().ravel()


def _to_indexes(scales: Tensor) -> np.ndarray:
    return raw_scale_index(scales)[0].permute(2, 0, 1).to(torch.int32).cpu().numpy().ravel()


class SymbolWriter:
    """Collects the symbols of one stream and codes them at the end."""

    def __init__(self, tables: CdfTables) -> None:
        self.tables = tables
        self._symbols: list[np.ndarray] = []
        self._indexes: list[np.ndarray] = []

    def write(self, q: Tensor, indexes: np.ndarray) -> None:
        self._symbols.append(_to_symbols(q))
        self._indexes.append(indexes)

    @property
    def symbols(self) -> np.ndarray:
        """All symbols so far, int32, in coding order."""
        return np.concatenate(self._symbols)

    @property
    def indexes(self) -> np.ndarray:
        """The table of each symbol, int32."""
        return np.concatenate(self._indexes)

    def bits(self) -> float:
        """Sum of -log2 of the tables' probabilities, escapes included."""
        return self.tables.bits(self.symbols, self.indexes)

    def finish(self) -> bytes:
        return encode(self.symbols, self.indexes, self.tables)


class SymbolReader:
    """Reads the symbols of one stream, and keeps them for the checksum.

    Args:
        data: the stream.
        capacity: how many symbols it holds, from the checked size of the picture.
    """

    def __init__(self, data: bytes, capacity: int, tables: CdfTables) -> None:
        self._decoder = RansDecoder(data, capacity, tables)
        self._symbols: list[np.ndarray] = []

    def read(self, indexes: np.ndarray, shape: torch.Size | tuple[int, ...], like: Tensor) -> Tensor:
        """Symbols as floats of `shape`, `1 x H x W x C`, on the device of `like`."""
        symbols = self._decoder.decode(indexes)
        self._symbols.append(symbols)
        _, height, width, channels = shape
        q = torch.from_numpy(symbols.reshape(channels, height, width)).permute(1, 2, 0)
        return q[None].to(like.device, like.dtype).contiguous()

    @property
    def symbols(self) -> np.ndarray:
        return np.concatenate(self._symbols)


class EncodeCoder:
    """Writes y's symbols, q = round(y - mean).

    Args:
        y: the latent at the three levels, `1 x h x w x M`, coarse first.
        writer: the stream of y.
    """

    def __init__(self, y: tuple[Tensor, Tensor, Tensor], writer: SymbolWriter) -> None:
        self.y, self.writer = y, writer

    def code(self, step: Site, scales: Tensor, means: Tensor) -> Tensor:
        q = (step.gather(self.y[step.level]) - means).round()
        self.writer.write(q, _to_indexes(scales))
        return q + means


class DecodeCoder:
    """Reads y's symbols: y_hat = q + mean."""

    def __init__(self, reader: SymbolReader) -> None:
        self.reader = reader

    def code(self, step: Site, scales: Tensor, means: Tensor) -> Tensor:
        del step
        return self.reader.read(_to_indexes(scales), means.shape, means) + means


def z_indexes(scale: Tensor, height: int, width: int) -> np.ndarray:
    """The tables of z's symbols from the scale of each channel, `N`, in the file's order."""
    return np.repeat(scale_index(scale).to(torch.int32).cpu().numpy(), height * width)


def latent_checksum(z: np.ndarray, y: np.ndarray) -> bytes:
    """blake2b, 8 bytes, over the symbols of z and then y as little-endian int32, in coding order."""
    digest = hashlib.blake2b(z.astype("<i4").tobytes(), digest_size=8)
    digest.update(y.astype("<i4").tobytes())
    return digest.digest()

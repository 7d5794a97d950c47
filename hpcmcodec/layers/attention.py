"""The baseline's context cell: cross attention inside windows (HPCM, arXiv 2507.19125)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

__all__ = ["CrossAttentionCell"]


class CrossAttentionCell(nn.Module):
    """h_t = attention(q from x; k, v from h) + conv1x1(x), inside windows that start at the top left.

    x, h and the result are `B x H x W x dim`. Where the grid is no multiple of the window, the missing
    sites are masked out of the softmax.
    """

    def __init__(self, dim: int, window: int, heads: int = 32) -> None:
        super().__init__()
        self.window, self.heads = window, heads
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.skip = nn.Linear(dim, dim)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        q, k, v = (self._windows(t) for t in (self.query(x), self.key(h), self.value(h)))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=self._mask(x))
        return self._whole(y, height, width) + self.skip(x)

    def _grid(self, height: int, width: int) -> tuple[int, int]:
        return -(-height // self.window), -(-width // self.window)

    def _windows(self, x: Tensor) -> Tensor:
        """`B x H x W x dim` to `(B * windows) x heads x sites x dim/heads`, padded with zeros."""
        height, width = x.shape[1:3]
        rows, columns = self._grid(height, width)
        w = self.window
        x = F.pad(x, (0, 0, 0, columns * w - width, 0, rows * w - height))
        return rearrange(x, "b (r i) (c j) (n d) -> (b r c) n (i j) d", r=rows, c=columns, n=self.heads)

    def _whole(self, x: Tensor, height: int, width: int) -> Tensor:
        rows, columns = self._grid(height, width)
        x = rearrange(x, "(b r c) n (i j) d -> b (r i) (c j) (n d)", r=rows, c=columns, i=self.window)
        return x[:, :height, :width]

    def _mask(self, x: Tensor) -> Tensor | None:
        """Which keys exist, `(B * windows) x 1 x 1 x sites`; None where all do."""
        batch, height, width, _ = x.shape
        rows, columns = self._grid(height, width)
        w = self.window
        if (rows * w, columns * w) == (height, width):
            return None
        row = torch.arange(rows * w, dtype=torch.int64, device=x.device) < height
        column = torch.arange(columns * w, dtype=torch.int64, device=x.device) < width
        mask = rearrange(row[:, None] & column, "(r i) (c j) -> (r c) 1 1 (i j)", r=rows, c=columns)
        return mask.repeat(batch, 1, 1, 1)

"""The baseline's context cell: cross attention inside windows (HPCM, arXiv 2507.19125)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
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
        batch, height, width, dim = x.shape
        rows, columns = self._grid(height, width)
        w = self.window
        x = F.pad(x, (0, 0, 0, columns * w - width, 0, rows * w - height))
        x = x.reshape(batch, rows, w, columns, w, self.heads, dim // self.heads)
        return x.permute(0, 1, 3, 5, 2, 4, 6).reshape(batch * rows * columns, self.heads, w * w, -1)

    def _whole(self, x: Tensor, height: int, width: int) -> Tensor:
        rows, columns = self._grid(height, width)
        w = self.window
        x = x.reshape(-1, rows, columns, self.heads, w, w, x.shape[-1]).permute(0, 1, 4, 2, 5, 3, 6)
        return x.reshape(x.shape[0], rows * w, columns * w, -1)[:, :height, :width]

    def _mask(self, x: Tensor) -> Tensor | None:
        """Which keys exist, `(B * windows) x 1 x 1 x sites`; None where all do."""
        batch, height, width, _ = x.shape
        rows, columns = self._grid(height, width)
        w = self.window
        if (rows * w, columns * w) == (height, width):
            return None
        row = torch.arange(rows * w, device=x.device) < height
        column = torch.arange(columns * w, device=x.device) < width
        mask = (row[:, None] & column).reshape(rows, w, columns, w).permute(0, 2, 1, 3)
        return mask.reshape(rows * columns, 1, 1, w * w).repeat(batch, 1, 1, 1)

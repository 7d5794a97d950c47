"""The pointwise layers of a residual block for NVIDIA GPUs: the hidden values never leave the chip.

Activations are matrices with a row per site; a hidden layer of 4 C values per row would be most of what
the block reads and writes. The kernels walk over it in chunks instead: `_forward` and `_input_gradients`
own a block of rows and add up over the chunks, `_weight_gradients` owns a chunk and adds up over a share
of the rows. Backward computes the hidden values again. Products are taken in the type of x and summed in
float32. Nothing is summed atomically, so that a result does not depend on the order of the programs.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["backward", "forward"]

SLOPE = tl.constexpr(0.01)


@triton.jit
def _load_rows(ptr, first, rows, ROWS: tl.constexpr, CHANNELS: tl.constexpr, BLOCK: tl.constexpr):
    """ROWS x BLOCK; zero beyond the last row and the last channel."""
    row, channel = tl.arange(0, ROWS)[:, None], tl.arange(0, BLOCK)[None, :]
    inside = (row < (rows - first).to(tl.int32)) & (channel < CHANNELS)
    return tl.load(ptr + first * CHANNELS + row * CHANNELS + channel, mask=inside, other=0.0)


@triton.jit
def _load_input(
    x_ptr, s_ptr, first, rows,
    ROWS: tl.constexpr, CHANNELS: tl.constexpr, PARTIAL: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """s in the first channels, x in the others: ROWS x BLOCK."""
    row, channel = tl.arange(0, ROWS)[:, None], tl.arange(0, BLOCK)[None, :]
    inside = (row < (rows - first).to(tl.int32)) & (channel < CHANNELS)
    # One load from either place goes to shared memory on its own, as two that have to be merged do not.
    s = s_ptr + first * PARTIAL + row * PARTIAL + channel
    x = x_ptr + first * CHANNELS + row * CHANNELS + channel
    return tl.load(tl.where(channel < PARTIAL, s, x), mask=inside, other=0.0)


@triton.jit
def _load_weights(
    w1_ptr, w2_ptr, start,
    CHANNELS: tl.constexpr, HIDDEN: tl.constexpr, BLOCK: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """The chunk's rows of W1, CHUNK x BLOCK, and columns of W2, BLOCK x CHUNK."""
    hidden, channel = start + tl.arange(0, CHUNK), tl.arange(0, BLOCK)
    in_1 = w1_ptr + hidden[:, None] * CHANNELS + channel[None, :]
    in_2 = w2_ptr + channel[:, None] * HIDDEN + hidden[None, :]
    if BLOCK == CHANNELS:
        w1, w2 = tl.load(in_1), tl.load(in_2)
    else:
        w1 = tl.load(in_1, mask=channel[None, :] < CHANNELS, other=0.0)
        w2 = tl.load(in_2, mask=channel[:, None] < CHANNELS, other=0.0)
    return w1, w2


@triton.jit
def _leaky(x):
    return tl.maximum(x, x * SLOPE)


@triton.jit
def _leaky_gradient(before, grad):
    return tl.where(before > 0, grad, grad * SLOPE)


@triton.jit
def _forward(
    x_ptr, s_ptr, w1_ptr, b1_ptr, w2_ptr, b2_ptr, y_ptr, rows,
    CHANNELS: tl.constexpr, PARTIAL: tl.constexpr, HIDDEN: tl.constexpr,
    BLOCK: tl.constexpr, ROWS: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    first = tl.program_id(0).to(tl.int64) * ROWS
    h = _load_input(x_ptr, s_ptr, first, rows, ROWS, CHANNELS, PARTIAL, BLOCK)
    sums = tl.zeros([ROWS, BLOCK], tl.float32)
    for start in range(0, HIDDEN, CHUNK):
        w1, w2 = _load_weights(w1_ptr, w2_ptr, start, CHANNELS, HIDDEN, BLOCK, CHUNK)
        bias = tl.load(b1_ptr + start + tl.arange(0, CHUNK)).to(tl.float32)
        hidden = tl.dot(h, tl.trans(w1), input_precision="ieee") + bias[None, :]
        hidden = _leaky(hidden).to(h.dtype)
        sums = tl.dot(hidden, tl.trans(w2), sums, input_precision="ieee")
    row, channel = tl.arange(0, ROWS)[:, None], tl.arange(0, BLOCK)[None, :]
    inside = (row < (rows - first).to(tl.int32)) & (channel < CHANNELS)
    bias = tl.load(b2_ptr + channel, mask=channel < CHANNELS, other=0.0).to(tl.float32)
    # x again, from the cache: kept, it would take registers from the loop.
    x = _load_rows(x_ptr, first, rows, ROWS, CHANNELS, BLOCK).to(tl.float32)
    y = (x + sums + bias).to(y_ptr.dtype.element_ty)
    tl.store(y_ptr + first * CHANNELS + row * CHANNELS + channel, y, mask=inside)


@triton.jit
def _input_gradients(
    x_ptr, s_ptr, w1_ptr, b1_ptr, w2_ptr, g_ptr, gx_ptr, gs_ptr, gb2_ptr, rows,
    CHANNELS: tl.constexpr, PARTIAL: tl.constexpr, HIDDEN: tl.constexpr,
    BLOCK: tl.constexpr, ROWS: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    first = tl.program_id(0).to(tl.int64) * ROWS
    row, channel = tl.arange(0, ROWS)[:, None], tl.arange(0, BLOCK)[None, :]
    h = _load_input(x_ptr, s_ptr, first, rows, ROWS, CHANNELS, PARTIAL, BLOCK)
    g = _load_rows(g_ptr, first, rows, ROWS, CHANNELS, BLOCK)
    total = tl.program_id(0) * CHANNELS + channel
    tl.store(gb2_ptr + total, tl.sum(g.to(tl.float32), 0)[None, :], mask=channel < CHANNELS)
    grad_h = tl.zeros([ROWS, BLOCK], tl.float32)
    for start in range(0, HIDDEN, CHUNK):
        w1, w2 = _load_weights(w1_ptr, w2_ptr, start, CHANNELS, HIDDEN, BLOCK, CHUNK)
        bias = tl.load(b1_ptr + start + tl.arange(0, CHUNK)).to(tl.float32)
        hidden = tl.dot(h, tl.trans(w1), input_precision="ieee") + bias[None, :]
        grad = _leaky_gradient(hidden, tl.dot(g, w2, input_precision="ieee")).to(h.dtype)
        grad_h = tl.dot(grad, w1, grad_h, input_precision="ieee")
    inside = row < (rows - first).to(tl.int32)
    new = channel < PARTIAL
    grad_s = grad_h.to(gs_ptr.dtype.element_ty)
    tl.store(gs_ptr + first * PARTIAL + row * PARTIAL + channel, grad_s, mask=inside & new)
    g = _load_rows(g_ptr, first, rows, ROWS, CHANNELS, BLOCK).to(tl.float32)
    grad_x = tl.where(new, g, g + grad_h).to(gx_ptr.dtype.element_ty)
    kept = inside & (channel < CHANNELS)
    tl.store(gx_ptr + first * CHANNELS + row * CHANNELS + channel, grad_x, mask=kept)


@triton.jit
def _weight_gradients(
    x_ptr, s_ptr, w1_ptr, b1_ptr, w2_ptr, g_ptr, gw1_ptr, gb1_ptr, gw2_ptr, rows,
    CHANNELS: tl.constexpr, PARTIAL: tl.constexpr, HIDDEN: tl.constexpr,
    BLOCK: tl.constexpr, ROWS: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    start, share = tl.program_id(0) * CHUNK, tl.program_id(1)
    hidden, channel = start + tl.arange(0, CHUNK), tl.arange(0, BLOCK)[None, :]
    w1, w2 = _load_weights(w1_ptr, w2_ptr, start, CHANNELS, HIDDEN, BLOCK, CHUNK)
    w2 = tl.trans(w2)
    bias = tl.load(b1_ptr + hidden).to(tl.float32)[:, None]
    grad_1 = tl.zeros([CHUNK, BLOCK], tl.float32)
    grad_2 = tl.zeros([CHUNK, BLOCK], tl.float32)
    grad_bias = tl.zeros([CHUNK], tl.float32)
    # All that is hidden is held transposed, CHUNK x ROWS: so it is the left factor of the sums over rows
    # straight from the registers.
    for block in range(share, tl.cdiv(rows, ROWS), tl.num_programs(1)):
        first = tl.cast(block, tl.int64) * ROWS
        h = _load_input(x_ptr, s_ptr, first, rows, ROWS, CHANNELS, PARTIAL, BLOCK)
        g = _load_rows(g_ptr, first, rows, ROWS, CHANNELS, BLOCK)
        before = tl.dot(w1, tl.trans(h), input_precision="ieee") + bias
        grad = _leaky_gradient(before, tl.dot(w2, tl.trans(g), input_precision="ieee"))
        grad_bias += tl.sum(grad, 1)
        grad_1 = tl.dot(grad.to(h.dtype), h, grad_1, input_precision="ieee")
        grad_2 = tl.dot(_leaky(before).to(h.dtype), g, grad_2, input_precision="ieee")
    tl.store(gb1_ptr + share * HIDDEN + hidden, grad_bias)
    part = share.to(tl.int64) * HIDDEN * CHANNELS
    here = channel < CHANNELS
    tl.store(gw1_ptr + part + hidden[:, None] * CHANNELS + channel, grad_1, mask=here)
    tl.store(gw2_ptr + part + channel * HIDDEN + hidden[:, None], grad_2, mask=here)


PROCESSORS = 132  # of an H200

# By the kernel and the padded channels: ROWS, CHUNK, warps, stages, programs per processor, registers per
# thread at most (0: as many as there are). Within one program each step waits for the one before, so that
# two to four have to fit on a processor at a time.
LAUNCHES = {
    "_forward": {64: (64, 64, 4, 2, 0, 0), 128: (64, 64, 4, 2, 0, 0), 256: (128, 32, 8, 2, 0, 0)},
    "_input_gradients": {64: (64, 64, 4, 2, 0, 0), 128: (64, 64, 4, 2, 0, 0), 256: (128, 32, 8, 2, 0, 0)},
    "_weight_gradients": {64: (64, 64, 4, 2, 3, 168), 128: (64, 64, 4, 2, 2, 0), 256: (32, 64, 8, 2, 1, 0)},
}


def _launch(
    kernel: str, channels: int, rows: int, hidden: int
) -> tuple[tuple[int, ...], dict[str, int | None]]:
    """Grid, block sizes and options: a program per block of rows, or programs per chunk and share of them."""
    padded = min(256, max(64, triton.next_power_of_2(channels)))
    block, chunk, warps, stages, programs, registers = LAUNCHES[kernel][padded]
    chunk, blocks = math.gcd(hidden, chunk), triton.cdiv(rows, block)
    chunks = hidden // chunk
    grid = (chunks, min(blocks, max(1, programs * PROCESSORS // chunks))) if programs else (blocks,)
    options = {"num_warps": warps, "num_stages": stages, "maxnreg": registers or None}
    return grid, {"ROWS": block, "CHUNK": chunk, **options}


def _sizes(x: Tensor, s: Tensor, w1: Tensor) -> dict[str, int]:
    channels = x.shape[1]
    block = max(16, triton.next_power_of_2(channels))
    return {"CHANNELS": channels, "PARTIAL": s.shape[1], "HIDDEN": w1.shape[0], "BLOCK": block}


def _matrix(x: Tensor) -> Tensor:
    """`B x C x H x W` as a row per site, without a copy if it is channels_last."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1]).contiguous()


def _weight(w: Tensor, x: Tensor) -> Tensor:
    return w.flatten(1).to(x.dtype).contiguous()


def forward(x: Tensor, s: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    """See `hpcmcodec.ops.pointwise_mlp`; the hidden channels are a multiple of 16."""
    y = torch.empty_like(x, memory_format=torch.channels_last)
    rows, sizes = x.numel() // x.shape[1], _sizes(x, s, w1)
    grid, launch = _launch("_forward", x.shape[1], rows, w1.shape[0])
    with torch.cuda.device_of(x):
        _forward[grid](
            _matrix(x), _matrix(s), _weight(w1, x), b1.contiguous(), _weight(w2, x), b2.contiguous(), y,
            rows, **sizes, **launch,
        )  # fmt: skip
    return y


def backward(
    x: Tensor, s: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of `forward` for its six arguments."""
    shared = _matrix(x), _matrix(s), _weight(w1, x), b1.contiguous(), _weight(w2, x), _matrix(grad)
    grad_x, grad_s = (torch.empty_like(t, memory_format=torch.channels_last) for t in (x, s))
    with torch.cuda.device_of(x):
        partial_b2 = _run_input_gradients(shared, grad_x, grad_s)
        partial_w1, partial_b1, partial_w2 = _run_weight_gradients(shared)
    sums = (partial_w1, w1), (partial_b1, b1), (partial_w2, w2), (partial_b2, b2)
    grad_w1, grad_b1, grad_w2, grad_b2 = (p.sum(0).view(w.shape).to(w.dtype) for p, w in sums)
    return grad_x, grad_s, grad_w1, grad_b1, grad_w2, grad_b2


def _run_input_gradients(shared: tuple[Tensor, ...], grad_x: Tensor, grad_s: Tensor) -> Tensor:
    """Writes the gradients of x and s; returns the parts of that of b2."""
    x, s, w1 = shared[:3]
    rows, channels = x.shape
    grid, launch = _launch("_input_gradients", channels, rows, w1.shape[0])
    partial_b2 = torch.empty(grid[0], channels, device=x.device, dtype=torch.float32)
    _input_gradients[grid](*shared, grad_x, grad_s, partial_b2, rows, **_sizes(x, s, w1), **launch)
    return partial_b2


def _run_weight_gradients(shared: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The parts of the gradients of W1, b1 and W2."""
    x, s, w1 = shared[:3]
    rows, channels = x.shape
    hidden = w1.shape[0]
    grid, launch = _launch("_weight_gradients", channels, rows, hidden)
    shapes = (hidden, channels), (hidden,), (channels, hidden)
    partial = tuple(torch.empty(grid[1], *shape, device=x.device, dtype=torch.float32) for shape in shapes)
    _weight_gradients[grid](*shared, *partial, rows, **_sizes(x, s, w1), **launch)
    return partial

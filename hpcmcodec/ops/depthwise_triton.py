"""Depthwise convolution for NVIDIA GPUs: every value is read from memory once, the kernel stays in registers.

Pictures are cut into strips, COLUMNS wide and as high as the picture. A program walks down SITES strips at
once, for BLOCK channels. Each row that it reads, with what overlaps from the strips beside it, is spread to
the SIZE rows of sums that it reaches; then the oldest row of sums is complete and the others move up. The
next row is fetched meanwhile. That is the gradient of the input as it stands, and the convolution itself
with the kernel mirrored. For the gradient of the kernel the same rows of the output's gradient meet the
rows of the input that they came from, which are held as long.

A warp takes 64 channels, two a thread (the products of SITES and BLOCK say so to Triton): with more, the
25 weights of each channel no longer fit into registers.
"""

# A kernel's arguments have no Python types, and its tuples grow.
# mypy: allow-untyped-defs, disable-error-code="assignment"
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["backward", "forward"]


@triton.jit
def _strip(
    site, channel, height, width, strips, sites,
    channels: tl.constexpr, SIZE: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Where strips begin, and whether each of their columns, and of SIZE // 2 more on both sides, exists."""
    here = (site < sites) & (channel < channels)
    left = site % strips * COLUMNS
    start = ((site // strips).to(tl.int64) * height * width + left) * channels + channel
    inside = ()
    for j in tl.static_range(COLUMNS + SIZE - 1):
        column = left + (j - SIZE // 2)
        inside += (here & (column >= 0) & (column < width),)
    return start, inside


@triton.jit
def _load(at, inside, exists, channels: tl.constexpr):
    """One row; zero outside the picture."""
    row = ()
    for j in tl.static_range(len(inside)):
        row += (tl.load(at + j * channels, mask=tl.where(exists, inside[j], False), other=0.0),)
    return row


@triton.jit
def _store(at, row, inside, exists, channels: tl.constexpr):
    for j in tl.static_range(len(inside)):
        tl.store(at + j * channels, row[j].to(at.dtype.element_ty), mask=tl.where(exists, inside[j], False))


@triton.jit
def _to(row, dtype: tl.constexpr):
    converted = ()
    for j in tl.static_range(len(row)):
        converted += (row[j].to(dtype),)
    return converted


@triton.jit
def _spread(sums, row, taps, SIZE: tl.constexpr, COLUMNS: tl.constexpr):
    """Add what a row gives to the rows from SIZE // 2 above it to as many below."""
    added = ()
    for i in tl.static_range(SIZE):
        for c in tl.static_range(COLUMNS):
            total = sums[i * COLUMNS + c]
            for j in tl.static_range(SIZE):
                total += taps[i * SIZE + j] * row[c + SIZE - 1 - j]
            added += (total,)
    return added


@triton.jit
def _correlate(sums, row, held, SIZE: tl.constexpr, COLUMNS: tl.constexpr):
    """Add the products of a row of the output's gradient with the values of the input that each tap saw."""
    added = ()
    for i in tl.static_range(SIZE):
        for j in tl.static_range(SIZE):
            total = sums[i * SIZE + j]
            for c in tl.static_range(COLUMNS):
                total += held[i * COLUMNS + c] * row[c + SIZE - 1 - j]
            added += (total,)
    return added


@triton.jit
def _stack(tiles, LEVELS: tl.constexpr, SITES: tl.constexpr, BLOCK: tl.constexpr):
    """2**LEVELS tiles as one tensor, along its last axis."""
    for _ in tl.static_range(LEVELS):
        joined = ()
        for k in tl.static_range(len(tiles) // 2):
            joined += (tl.join(tiles[k], tiles[k + len(tiles) // 2]),)
        tiles = joined
    return tl.reshape(tiles[0], [SITES, BLOCK, 2**LEVELS])


@triton.jit(do_not_specialize=["height", "width", "strips", "sites"])
def _forward(
    x_ptr, taps_ptr, y_ptr, height, width, strips, sites, channels: tl.constexpr,
    MIRRORED: tl.constexpr, SIZE: tl.constexpr,
    COLUMNS: tl.constexpr, SITES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    RADIUS: tl.constexpr = SIZE // 2
    dtype: tl.constexpr = taps_ptr.dtype.element_ty
    site = tl.program_id(0) * SITES + tl.arange(0, SITES)[:, None]
    channel = tl.broadcast_to(tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[None, :], [SITES, BLOCK])
    start, inside = _strip(site, channel, height, width, strips, sites, channels, SIZE, COLUMNS)
    own = inside[RADIUS : RADIUS + COLUMNS]
    step = width * channels

    taps = ()
    for t in tl.static_range(SIZE * SIZE):
        at = taps_ptr + (SIZE * SIZE - 1 - t if MIRRORED else t) * channels + channel
        taps += (tl.load(at, mask=channel < channels, other=0.0),)
    nothing = (tl.zeros([SITES, BLOCK], dtype),) * COLUMNS
    sums = nothing * SIZE
    x_at = x_ptr + start - RADIUS * channels
    row = _load(x_at, inside, height > 0, channels)
    for y in range(height):
        x_at += step
        following = _load(x_at, inside, y + 1 < height, channels)
        sums = _spread(sums, _to(row, dtype), taps, SIZE, COLUMNS)
        _store(y_ptr + start + (y - RADIUS) * step, sums, own, y >= RADIUS, channels)
        sums = sums[COLUMNS:] + nothing
        row = following
    for i in tl.static_range(RADIUS):
        y = height - RADIUS + i
        _store(y_ptr + start + y * step, sums[i * COLUMNS :], own, y >= 0, channels)


@triton.jit(do_not_specialize=["height", "width", "strips", "sites"])
def _backward(
    x_ptr, taps_ptr, grad_ptr, grad_x_ptr, partial_ptr, height, width, strips, sites, channels: tl.constexpr,
    INPUT: tl.constexpr, SIZE: tl.constexpr, LEVELS: tl.constexpr,
    COLUMNS: tl.constexpr, SITES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    RADIUS: tl.constexpr = SIZE // 2
    dtype: tl.constexpr = taps_ptr.dtype.element_ty
    channel = tl.broadcast_to(tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[None, :], [SITES, BLOCK])
    step = width * channels

    taps = ()
    if INPUT:
        for t in tl.static_range(SIZE * SIZE):
            taps += (tl.load(taps_ptr + t * channels + channel, mask=channel < channels, other=0.0),)
    nothing = (tl.zeros([SITES, BLOCK], dtype),) * COLUMNS
    grad_taps = (tl.zeros([SITES, BLOCK], dtype),) * SIZE * SIZE
    for group in range(tl.program_id(0), tl.cdiv(sites, SITES), tl.num_programs(0)):
        site = group * SITES + tl.arange(0, SITES)[:, None]
        start, inside = _strip(site, channel, height, width, strips, sites, channels, SIZE, COLUMNS)
        own = inside[RADIUS : RADIUS + COLUMNS]
        sums = nothing * SIZE
        grad_at = grad_ptr + start - RADIUS * channels
        row = _load(grad_at, inside, height > 0, channels)
        x_at = x_ptr + start
        held = nothing * RADIUS
        for i in tl.static_range(RADIUS + 1):
            held = held + _to(_load(x_at, own, i < height, channels), dtype)
            x_at += step
        for y in range(height):
            grad_at += step
            following = _load(grad_at, inside, y + 1 < height, channels)
            coming = _load(x_at, own, y + RADIUS + 1 < height, channels)
            x_at += step
            row = _to(row, dtype)
            grad_taps = _correlate(grad_taps, row, held, SIZE, COLUMNS)
            if INPUT:
                sums = _spread(sums, row, taps, SIZE, COLUMNS)
                _store(grad_x_ptr + start + (y - RADIUS) * step, sums, own, y >= RADIUS, channels)
                sums = sums[COLUMNS:] + nothing
            held = held[COLUMNS:] + _to(coming, dtype)
            row = following
        if INPUT:
            for i in tl.static_range(RADIUS):
                y = height - RADIUS + i
                _store(grad_x_ptr + start + y * step, sums[i * COLUMNS :], own, y >= 0, channels)

    # One sum over the sites for all taps together: each would wait for all warps several times.
    filled = grad_taps + (tl.zeros([SITES, BLOCK], dtype),) * (2**LEVELS - SIZE * SIZE)
    total = tl.sum(_stack(filled, LEVELS, SITES, BLOCK), 0)
    tap = tl.arange(0, 2**LEVELS)[None, :]
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[:, None]
    at = (tl.program_id(0) * channels + channel) * SIZE * SIZE + tap
    tl.store(partial_ptr + at, total, mask=(channel < channels) & (tap < SIZE * SIZE))


PROCESSORS = 132  # of an H100 or H200

# Instructions that a row takes in strips of so many columns, by the compiler's listing for 5 x 5 and sm_90.
FORWARD = {1: 110, 2: 175, 4: 282, 6: 414, 8: 531}
BACKWARD = {1: 193, 2: 302, 4: 562}


def _launch(
    pictures: int, width: int, channels: int, costs: dict[int, int], resident: int
) -> tuple[int, dict[str, int]]:
    """Programs along the pictures, and the tile with which all is done soonest.

    A program has a warp for each scheduler of a processor; `resident` programs find room on one.
    """
    blocks, sites = triton.cdiv(channels, 64), 4

    def turns(columns: int) -> int:
        groups = triton.cdiv(pictures * triton.cdiv(width, columns), sites)
        return triton.cdiv(groups * blocks, resident * PROCESSORS)

    columns = min(costs, key=lambda c: turns(c) * costs[c])
    groups = triton.cdiv(pictures * triton.cdiv(width, columns), sites)
    programs = triton.cdiv(groups, max(1, turns(columns)))
    return programs, {"COLUMNS": columns, "SITES": sites, "BLOCK": 64, "num_warps": 4}


def _launch_forward(pictures: int, width: int, channels: int) -> dict[str, int]:
    return _launch(pictures, width, channels, FORWARD, 1)[1]


def _launch_backward(pictures: int, width: int, channels: int) -> tuple[int, dict[str, int]]:
    """Programs along the pictures, and the tile. INPUT: whether one kernel does both gradients."""
    programs, tile = _launch(pictures, width, channels, BACKWARD, 2)
    return programs, tile | {"INPUT": 1}


def _taps(kernel: Tensor, like: Tensor) -> Tensor:
    """The kernel as `k*k x C`, so that neighbouring threads read neighbours, in the type of the sums."""
    return kernel.flatten(1).t().to(torch.promote_types(like.dtype, torch.float32)).contiguous()


def _convolve(x: Tensor, taps: Tensor, size: int, mirrored: bool) -> Tensor:
    pictures, height, width, channels = x.shape
    launch = _launch_forward(pictures, width, channels)
    strips = triton.cdiv(width, launch["COLUMNS"])
    sites = pictures * strips
    grid = (triton.cdiv(sites, launch["SITES"]), triton.cdiv(channels, launch["BLOCK"]))
    y = torch.empty_like(x)
    with torch.cuda.device_of(x):
        _forward[grid](
            x, taps, y, height, width, strips, sites, channels, MIRRORED=mirrored, SIZE=size, **launch
        )
    return y


def forward(x: Tensor, kernel: Tensor) -> Tensor:
    """See `hpcmcodec.ops.depthwise`."""
    return _convolve(x.contiguous(), _taps(kernel, x), kernel.shape[-1], mirrored=True)


def backward(x: Tensor, kernel: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of `forward` for x and kernel."""
    x, grad, taps = x.contiguous(), grad.contiguous(), _taps(kernel, x)
    size = kernel.shape[-1]
    pictures, height, width, channels = x.shape
    programs, launch = _launch_backward(pictures, width, channels)
    strips = triton.cdiv(width, launch["COLUMNS"])
    grad_x = torch.empty_like(x) if launch["INPUT"] else _convolve(grad, taps, size, mirrored=False)
    partial = torch.empty(programs, channels, size * size, device=x.device, dtype=taps.dtype)
    with torch.cuda.device_of(x):
        _backward[(programs, triton.cdiv(channels, launch["BLOCK"]))](
            x, taps, grad, grad_x, partial, height, width, strips, pictures * strips, channels,
            SIZE=size, LEVELS=(size * size - 1).bit_length(), **launch,
        )  # fmt: skip
    return grad_x, partial.sum(0).view(kernel.shape).to(kernel.dtype)

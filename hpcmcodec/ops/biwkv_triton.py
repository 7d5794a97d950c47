"""Gated BiWKV for NVIDIA GPUs: forward and backward in one Triton kernel each, nothing kept in between.

A program owns one picture and a block of channels. Its T tokens form CHUNKS runs of equal length; the
kernel walks along all runs at once (a tile CHUNKS x BLOCK), so that only the totals of the runs need a
scan across threads. The keys and values are read again in each pass, from the cache.
Within a run, what comes after a token is the run's total less what came up to it: the decay inside one
run is small, so that nothing is lost; across runs both directions are summed separately.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["backward", "forward"]


@triton.jit
def _maximum(
    kvr_ptr, base, first, channel, here, tokens, channels, length, CHUNKS: tl.constexpr, BLOCK: tl.constexpr
):
    top = tl.full([CHUNKS, BLOCK], -float("inf"), tl.float32)
    for j in range(length):
        at = 3 * (base + (first + j) * channels) + channel
        inside = (first + j < tokens) & here
        top = tl.maximum(top, tl.load(kvr_ptr + at, mask=inside, other=-float("inf")).to(tl.float32))
    return tl.max(top, 0)[None, :]


@triton.jit
def _token(kvr_ptr, at, channels, inside, top):
    """exp(k - max k) and v of one token of every run; zero beyond the last token."""
    weight = tl.exp(tl.load(kvr_ptr + at, mask=inside, other=0.0).to(tl.float32) - top)
    v = tl.load(kvr_ptr + at + channels, mask=inside, other=0.0).to(tl.float32)
    return tl.where(inside, weight, 0.0), v


@triton.jit
def _gate(kvr_ptr, at, channels, inside):
    """sigmoid(r) of one token of every run."""
    return tl.sigmoid(tl.load(kvr_ptr + at + 2 * channels, mask=inside, other=0.0).to(tl.float32))


@triton.jit
def _forward(
    w_ptr, u_ptr, kvr_ptr, y_ptr, tokens, channels, length, CHUNKS: tl.constexpr, BLOCK: tl.constexpr
):
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[None, :]
    here = channel < channels
    base = tl.program_id(0).to(tl.int64) * tokens * channels
    first = tl.arange(0, CHUNKS)[:, None] * length
    w = tl.load(w_ptr + channel, mask=here, other=0.0).to(tl.float32) / tokens
    u = tl.load(u_ptr + channel, mask=here, other=0.0).to(tl.float32) / tokens
    top = _maximum(kvr_ptr, base, first, channel, here, tokens, channels, length, CHUNKS, BLOCK)
    own, step_up, step_down = tl.exp(u - w), tl.exp(w), tl.exp(-w)
    start_up, start_down = tl.exp(first * w), tl.exp(-first * w)

    up_v = tl.zeros([CHUNKS, BLOCK], tl.float32)
    up_1 = tl.zeros([CHUNKS, BLOCK], tl.float32)
    down_v = tl.zeros([CHUNKS, BLOCK], tl.float32)
    down_1 = tl.zeros([CHUNKS, BLOCK], tl.float32)
    up, down = start_up, start_down
    for j in range(length):
        at = 3 * (base + (first + j) * channels) + channel
        inside = (first + j < tokens) & here
        weight, v = _token(kvr_ptr, at, channels, inside, top)
        up_v += weight * up * v
        up_1 += weight * up
        down_v += weight * down * v
        down_1 += weight * down
        up *= step_up
        down *= step_down
    before_v = tl.cumsum(up_v, 0) - up_v
    before_1 = tl.cumsum(up_1, 0) - up_1
    after_v = tl.cumsum(down_v, 0, reverse=True)
    after_1 = tl.cumsum(down_1, 0, reverse=True)

    up, down = start_up, start_down
    for j in range(length):
        at = 3 * (base + (first + j) * channels) + channel
        inside = (first + j < tokens) & here
        weight, v = _token(kvr_ptr, at, channels, inside, top)
        after_v -= weight * down * v
        after_1 -= weight * down
        numerator = before_v * down + after_v * up + own * weight * v
        denominator = before_1 * down + after_1 * up + own * weight
        y = numerator / denominator * _gate(kvr_ptr, at, channels, inside)
        to = base + (first + j) * channels + channel
        tl.store(y_ptr + to, y.to(y_ptr.dtype.element_ty), mask=inside)
        before_v += weight * up * v
        before_1 += weight * up
        up *= step_up
        down *= step_down


@triton.jit
def _backward(
    w_ptr, u_ptr, kvr_ptr, g_ptr, gw_ptr, gu_ptr, gkvr_ptr, tokens, channels, length,
    CHUNKS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[None, :]
    here = channel < channels
    base = tl.program_id(0).to(tl.int64) * tokens * channels
    first = tl.arange(0, CHUNKS)[:, None] * length
    scale = 1.0 / tokens
    w = tl.load(w_ptr + channel, mask=here, other=0.0).to(tl.float32) / tokens
    u = tl.load(u_ptr + channel, mask=here, other=0.0).to(tl.float32) / tokens
    top = _maximum(kvr_ptr, base, first, channel, here, tokens, channels, length, CHUNKS, BLOCK)
    own, step_up, step_down = tl.exp(u - w), tl.exp(w), tl.exp(-w)
    start_up, start_down = tl.exp(first * w), tl.exp(-first * w)
    zero = tl.zeros([CHUNKS, BLOCK], tl.float32)

    # The sums of the forward pass, and the same weighted by position, which the gradient of w needs.
    up_v, up_1, up_pv, up_p1 = zero, zero, zero, zero
    down_v, down_1, down_pv, down_p1 = zero, zero, zero, zero
    up, down = start_up, start_down
    for j in range(length):
        at = 3 * (base + (first + j) * channels) + channel
        inside = (first + j < tokens) & here
        position = (first + j) * scale
        weight, v = _token(kvr_ptr, at, channels, inside, top)
        rising = weight * up
        falling = weight * down
        up_v += rising * v
        up_1 += rising
        up_pv += rising * v * position
        up_p1 += rising * position
        down_v += falling * v
        down_1 += falling
        down_pv += falling * v * position
        down_p1 += falling * position
        up *= step_up
        down *= step_down
    before_v = tl.cumsum(up_v, 0) - up_v
    before_1 = tl.cumsum(up_1, 0) - up_1
    before_pv = tl.cumsum(up_pv, 0) - up_pv
    before_p1 = tl.cumsum(up_p1, 0) - up_p1
    after_v = tl.cumsum(down_v, 0, reverse=True)
    after_1 = tl.cumsum(down_1, 0, reverse=True)
    after_pv = tl.cumsum(down_pv, 0, reverse=True)
    after_p1 = tl.cumsum(down_p1, 0, reverse=True)

    # Gradients of w and u, and the totals of dn and dd, the gradients of numerator and denominator.
    grad_w, grad_u = zero, zero
    fall_n, fall_d, rise_n, rise_d = zero, zero, zero, zero
    run_v, run_1, rest_v, rest_1 = before_v, before_1, after_v, after_1
    up, down = start_up, start_down
    for j in range(length):
        at = 3 * (base + (first + j) * channels) + channel
        inside = (first + j < tokens) & here
        position = (first + j) * scale
        weight, v = _token(kvr_ptr, at, channels, inside, top)
        g = tl.load(g_ptr + base + (first + j) * channels + channel, mask=inside, other=0.0).to(tl.float32)
        g *= _gate(kvr_ptr, at, channels, inside)
        rising = weight * up
        falling = weight * down
        rest_v -= falling * v
        rest_1 -= falling
        after_pv -= falling * v * position
        after_p1 -= falling * position
        numerator = run_v * down + rest_v * up + own * weight * v
        denominator = tl.where(inside, run_1 * down + rest_1 * up + own * weight, 1.0)
        dn = g / denominator
        dd = -dn * numerator / denominator
        self_term = own * weight * (dn * v + dd)
        grad_u += self_term
        grad_w += (
            dn * (down * (before_pv - position * run_v) + up * (position * rest_v - after_pv))
            + dd * (down * (before_p1 - position * run_1) + up * (position * rest_1 - after_p1))
            - self_term * scale
        )
        fall_n += dn * down
        fall_d += dd * down
        rise_n += dn * up
        rise_d += dd * up
        run_v += rising * v
        run_1 += rising
        before_pv += rising * v * position
        before_p1 += rising * position
        up *= step_up
        down *= step_down
    total = tl.program_id(0) * channels + channel
    tl.store(gw_ptr + total, tl.sum(grad_w, 0)[None, :], mask=here)
    tl.store(gu_ptr + total, tl.sum(grad_u, 0)[None, :] * scale, mask=here)

    later_n = tl.cumsum(fall_n, 0, reverse=True)
    later_d = tl.cumsum(fall_d, 0, reverse=True)
    earlier_n = tl.cumsum(rise_n, 0) - rise_n
    earlier_d = tl.cumsum(rise_d, 0) - rise_d
    up, down = start_up, start_down
    for j in range(length):
        at = 3 * (base + (first + j) * channels) + channel
        inside = (first + j < tokens) & here
        weight, v = _token(kvr_ptr, at, channels, inside, top)
        g = tl.load(g_ptr + base + (first + j) * channels + channel, mask=inside, other=0.0).to(tl.float32)
        gate = _gate(kvr_ptr, at, channels, inside)
        after_v -= weight * down * v
        after_1 -= weight * down
        numerator = before_v * down + after_v * up + own * weight * v
        denominator = tl.where(inside, before_1 * down + after_1 * up + own * weight, 1.0)
        y = numerator / denominator
        dn = g * gate / denominator
        dd = -dn * y
        later_n -= dn * down
        later_d -= dd * down
        grad_v = weight * (up * later_n + down * earlier_n + own * dn)
        grad_k = v * grad_v + weight * (up * later_d + down * earlier_d + own * dd)
        grad_r = g * y * gate * (1 - gate)
        tl.store(gkvr_ptr + at, grad_k.to(gkvr_ptr.dtype.element_ty), mask=inside)
        tl.store(gkvr_ptr + at + channels, grad_v.to(gkvr_ptr.dtype.element_ty), mask=inside)
        tl.store(gkvr_ptr + at + 2 * channels, grad_r.to(gkvr_ptr.dtype.element_ty), mask=inside)
        earlier_n += dn * up
        earlier_d += dd * up
        before_v += weight * up * v
        before_1 += weight * up
        up *= step_up
        down *= step_down


def _launch(tokens: int, channels: int, batch: int) -> tuple[tuple[int, int], dict[str, int]]:
    """Runs of about sqrt(T) tokens balance the walk along a run against the scan across runs.

    Where there is work for all processors anyway, longer runs and wider blocks do it with less scanning.
    """
    chunks = min(64, triton.next_power_of_2(round(tokens**0.5)))
    if batch * triton.cdiv(channels, 64) >= 512:
        chunks, block, warps = max(8, chunks // 2), 64, 4
    else:
        block, warps = (32, 4) if tokens > 64 else (64, 8)
    grid = (batch, triton.cdiv(channels, block))
    return grid, {"length": triton.cdiv(tokens, chunks), "CHUNKS": chunks, "BLOCK": block, "num_warps": warps}


def forward(w: Tensor, u: Tensor, kvr: Tensor) -> Tensor:
    """sigmoid(r) * BiWKV of `B x T x 3C` keys, values and gates on the GPU; see `gated_biwkv`."""
    kvr = kvr.contiguous()
    batch, tokens, channels = kvr.shape[0], kvr.shape[1], kvr.shape[2] // 3
    y = torch.empty(batch, tokens, channels, device=kvr.device, dtype=kvr.dtype)
    grid, launch = _launch(tokens, channels, batch)
    with torch.cuda.device_of(kvr):
        _forward[grid](w.contiguous(), u.contiguous(), kvr, y, tokens, channels, **launch)
    return y


def backward(w: Tensor, u: Tensor, kvr: Tensor, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `forward` for w, u, kvr."""
    kvr, grad = kvr.contiguous(), grad.contiguous()
    batch, tokens, channels = grad.shape
    grad_kvr = torch.empty_like(kvr)
    partial = torch.empty(2, batch, channels, device=kvr.device, dtype=torch.float32)
    grid, launch = _launch(tokens, channels, batch)
    with torch.cuda.device_of(kvr):
        _backward[grid](
            w.contiguous(), u.contiguous(), kvr, grad, partial[0], partial[1], grad_kvr,
            tokens, channels, **launch,
        )  # fmt: skip
    grad_w, grad_u = partial.sum(1)
    return grad_w.to(w.dtype, copy=True), grad_u.to(u.dtype, copy=True), grad_kvr

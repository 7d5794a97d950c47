"""LayerNorm and residual sum for NVIDIA GPUs: every value is read once and written once.

A program takes tiles of whole rows. The gradients of the vectors are summed in registers over all tiles
of a program, and over the programs afterwards, so that results do not depend on who comes first.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .norm import EPSILON

__all__ = ["layer_norm", "layer_norm_backward", "residual_norm", "residual_norm_backward"]

PROGRAMS = 264


@triton.jit
def _normal(y, here, channels, epsilon):
    """(y - mean) / deviation of every row, and 1 / deviation; y is zero beyond the last channel."""
    mean = tl.sum(y, 1)[:, None] / channels
    centred = tl.where(here, y - mean, 0.0)
    scale = 1.0 / tl.sqrt(tl.sum(centred * centred, 1)[:, None] / channels + epsilon)
    return centred * scale, scale


@triton.jit
def _forward(
    x_ptr, branch_ptr, gamma_ptr, weight_ptr, bias_ptr, y_ptr, n_ptr, rows, channels, epsilon,
    RESIDUAL: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = (tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS))[:, None]
    channel = tl.arange(0, BLOCK)[None, :]
    here = channel < channels
    inside = (row < rows) & here
    at = row * channels + channel
    y = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
    if RESIDUAL:
        gamma = tl.load(gamma_ptr + channel, mask=here, other=0.0).to(tl.float32)
        branch = gamma * tl.load(branch_ptr + at, mask=inside, other=0.0).to(tl.float32)
        rounded = (y + branch.to(y_ptr.dtype.element_ty).to(tl.float32)).to(y_ptr.dtype.element_ty)
        tl.store(y_ptr + at, rounded, mask=inside)
        y = rounded.to(tl.float32)
    normal, _ = _normal(y, here, channels, epsilon)
    weight = tl.load(weight_ptr + channel, mask=here, other=0.0).to(tl.float32)
    bias = tl.load(bias_ptr + channel, mask=here, other=0.0).to(tl.float32)
    tl.store(n_ptr + at, (normal * weight + bias).to(n_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _backward(
    y_ptr, branch_ptr, gamma_ptr, weight_ptr, gy_ptr, g_ptr, gx_ptr, gbranch_ptr, partial_ptr,
    rows, channels, epsilon, RESIDUAL: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    channel = tl.arange(0, BLOCK)[None, :]
    here = channel < channels
    weight = tl.load(weight_ptr + channel, mask=here, other=0.0).to(tl.float32)
    gamma = weight
    if RESIDUAL:
        gamma = tl.load(gamma_ptr + channel, mask=here, other=0.0).to(tl.float32)
    grad_weight = tl.zeros([ROWS, BLOCK], tl.float32)
    grad_bias = tl.zeros([ROWS, BLOCK], tl.float32)
    grad_gamma = tl.zeros([ROWS, BLOCK], tl.float32)
    for tile in range(tl.program_id(0), tl.cdiv(rows, ROWS), tl.num_programs(0)):
        row = (tile * ROWS + tl.arange(0, ROWS))[:, None]
        inside = (row < rows) & here
        at = row.to(tl.int64) * channels + channel
        y = tl.load(y_ptr + at, mask=inside, other=0.0).to(tl.float32)
        g = tl.load(g_ptr + at, mask=inside, other=0.0).to(tl.float32)
        normal, scale = _normal(y, here, channels, epsilon)
        grad_weight += g * normal
        grad_bias += g
        g *= weight
        along = tl.sum(g * normal, 1)[:, None] / channels
        grad = scale * (g - tl.sum(g, 1)[:, None] / channels - normal * along)
        if RESIDUAL:
            grad += tl.load(gy_ptr + at, mask=inside, other=0.0).to(tl.float32)
            branch = tl.load(branch_ptr + at, mask=inside, other=0.0).to(tl.float32)
            grad_gamma += grad * branch
            tl.store(gbranch_ptr + at, (grad * gamma).to(gbranch_ptr.dtype.element_ty), mask=inside)
        tl.store(gx_ptr + at, grad.to(gx_ptr.dtype.element_ty), mask=inside)
    to = partial_ptr + tl.program_id(0) * 3 * channels + channel
    tl.store(to, tl.sum(grad_weight, 0)[None, :], mask=here)
    tl.store(to + channels, tl.sum(grad_bias, 0)[None, :], mask=here)
    tl.store(to + 2 * channels, tl.sum(grad_gamma, 0)[None, :], mask=here)


def _launch(channels: int) -> dict[str, int]:
    block = triton.next_power_of_2(channels)
    return {"ROWS": max(1, 4096 // block), "BLOCK": block, "num_warps": 4}


def _run_forward(
    x: Tensor, branch: Tensor | None, gamma: Tensor | None, weight: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor]:
    channels = x.shape[-1]
    rows = x.numel() // channels
    n = torch.empty_like(x)
    y = n if branch is None else torch.empty_like(x)
    launch = _launch(channels)
    with torch.cuda.device_of(x):
        _forward[(triton.cdiv(rows, launch["ROWS"]),)](
            x, x if branch is None else branch, weight if gamma is None else gamma, weight, bias, y, n,
            rows, channels, EPSILON, RESIDUAL=branch is not None, **launch,
        )  # fmt: skip
    return y, n


def _run_backward(
    y: Tensor,
    branch: Tensor | None,
    gamma: Tensor | None,
    weight: Tensor,
    grad_y: Tensor | None,
    grad: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x and branch, and of weight, bias and gamma in one tensor."""
    channels = y.shape[-1]
    rows = y.numel() // channels
    launch = _launch(channels)
    programs = min(PROGRAMS, triton.cdiv(rows, launch["ROWS"]))
    grad_x = torch.empty_like(y)
    grad_branch = grad_x if branch is None else torch.empty_like(branch)
    partial = torch.empty(programs, 3, channels, device=y.device, dtype=torch.float32)
    with torch.cuda.device_of(y):
        _backward[(programs,)](
            y, y if branch is None else branch, weight if gamma is None else gamma, weight,
            y if grad_y is None else grad_y, grad, grad_x, grad_branch, partial,
            rows, channels, EPSILON, RESIDUAL=branch is not None, **launch,
        )  # fmt: skip
    return grad_x, grad_branch, partial.sum(0)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """See `hpcmcodec.ops.layer_norm`."""
    return _run_forward(x.contiguous(), None, None, weight.contiguous(), bias.contiguous())[1]


def layer_norm_backward(
    x: Tensor, weight: Tensor, bias: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `layer_norm` for x, weight, bias."""
    grad_x, _, vectors = _run_backward(
        x.contiguous(), None, None, weight.contiguous(), None, grad.contiguous()
    )
    return grad_x, vectors[0].to(weight.dtype, copy=True), vectors[1].to(bias.dtype, copy=True)


def residual_norm(
    x: Tensor, branch: Tensor, gamma: Tensor, weight: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor]:
    """See `hpcmcodec.ops.residual_norm`."""
    x, branch, gamma, weight, bias = (t.contiguous() for t in (x, branch, gamma, weight, bias))
    return _run_forward(x, branch, gamma, weight, bias)


def residual_norm_backward(
    y: Tensor, branch: Tensor, gamma: Tensor, weight: Tensor, bias: Tensor, grad_y: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of `residual_norm` for x, branch, gamma, weight, bias, from the sum y."""
    y, branch, gamma, weight, grad_y, grad = (
        t.contiguous() for t in (y, branch, gamma, weight, grad_y, grad)
    )
    grad_x, grad_branch, vectors = _run_backward(y, branch, gamma, weight, grad_y, grad)
    grad_weight, grad_bias, grad_gamma = (
        v.to(like.dtype, copy=True) for v, like in zip(vectors, (weight, bias, gamma), strict=True)
    )
    return grad_x, grad_branch, grad_gamma, grad_weight, grad_bias

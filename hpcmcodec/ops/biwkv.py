"""Gated BiWKV, the bidirectional linear attention of the RWKV blocks: sigmoid(r_t) y_t with

    y_t = ( sum_{i != t} exp(-(|t-i|-1) w/T + k_i) v_i + exp(u/T + k_t) v_t )
        / ( sum_{i != t} exp(-(|t-i|-1) w/T + k_i)     + exp(u/T + k_t)     )

(LALIC, CVPR 2025, arXiv 2502.05741, after Vision-RWKV, arXiv 2403.02308.) Because w is divided by the
number of tokens T, exp(i w/T) stays within exp(|w|), so the sums over i < t and i > t are plain prefix
sums of exp(k_i +- i w/T) v_i: no sequential scan. Numerator and denominator share the factor
exp(w/T - max k), which is left out. k, v and r come as the one tensor that a projection gives, so that
nothing has to be copied apart.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .library import contiguous_like, define, keep_inputs

__all__ = ["biwkv_reference", "gated_biwkv", "gated_biwkv_reference"]


def _accumulator(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _before(x: Tensor) -> Tensor:
    """Sum over the tokens before each token, B x T x C."""
    return x.cumsum(1).sub_(x)


def _after(x: Tensor) -> Tensor:
    """Sum over the tokens after each token, B x T x C."""
    # Not the total less the prefix: at w = 8 that would lose four digits at the far end.
    return x.flip(1).cumsum(1).flip(1).sub_(x)


def _weights(w: Tensor, u: Tensor, k: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Positions t/T, exp(t w/T), exp(k - max k) and the token's own weight exp((u - w)/T + k - max k)."""
    tokens = k.shape[1]
    position = (torch.arange(tokens, device=k.device, dtype=k.dtype) / tokens)[None, :, None]
    rise = (position * w).exp_()
    weight = (k - k.amax(1, keepdim=True)).exp_()
    return position, rise, weight, torch.exp((u - w) / tokens) * weight


def _sums(rise: Tensor, weight: Tensor, own: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Numerator and denominator of y. In place where it can be: fresh memory costs more than the sums."""
    fall = rise.reciprocal()
    up, down = weight * rise, weight * fall

    def around(up: Tensor, down: Tensor) -> Tensor:
        return _before(up).mul_(fall).add_(_after(down).mul_(rise))

    denominator = around(up, down).add_(own)
    numerator = around(up.mul_(v), down.mul_(v)).addcmul_(own, v)
    return numerator, denominator


def biwkv_reference(w: Tensor, u: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """BiWKV in plain torch, as prefix sums in float32 (float64 for float64 inputs).

    Args:
        w: decay per channel, `C`, |w| at most 8.
        u: boost of a token's own value per channel, `C`.
        k, v: keys and values, `B x T x C`.

    Returns:
        `B x T x C`, of k's type.
    """
    dtype = _accumulator(k.dtype)
    w, u, keys, v = w.to(dtype), u.to(dtype), k.to(dtype), v.to(dtype)
    _, rise, weight, own = _weights(w, u, keys)
    numerator, denominator = _sums(rise, weight, own, v)
    return numerator.div_(denominator).to(k.dtype).contiguous()


def biwkv_backward_reference(
    w: Tensor, u: Tensor, k: Tensor, v: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of `biwkv_reference` for w, u, k, v; recomputes the sums instead of keeping them."""
    dtype = _accumulator(k.dtype)
    tokens = k.shape[1]
    values, grad = v.to(dtype), grad.to(dtype)
    position, rise, weight, own = _weights(w.to(dtype), u.to(dtype), k.to(dtype))
    numerator, denominator = _sums(rise, weight, own, values)
    dn = grad / denominator
    dd = -dn * numerator / denominator

    def spread(d: Tensor) -> Tensor:
        """sum_t d_t a_ti / weight_i over t != i, where a_ti is the weight of token i in y_t."""
        return rise * _after(d / rise) + _before(d * rise) / rise

    def distance(d: Tensor) -> Tensor:
        """The same, each term times -|t - i|/T."""
        after, before = d / rise, d * rise
        return (
            rise * (position * _after(after) - _after(position * after))
            + (_before(position * before) - position * _before(before)) / rise
        )

    self_term = own * (dn * values + dd)
    grad_v = weight * spread(dn) + own * dn
    grad_k = values * grad_v + weight * spread(dd) + own * dd
    grad_w = (weight * (values * distance(dn) + distance(dd)) - self_term / tokens).sum((0, 1))
    grad_u = self_term.sum((0, 1)) / tokens
    return (
        grad_w.to(w.dtype),
        grad_u.to(u.dtype),
        grad_k.to(k.dtype).contiguous(),
        grad_v.to(v.dtype).contiguous(),
    )


def gated_biwkv_reference(w: Tensor, u: Tensor, kvr: Tensor) -> Tensor:
    """sigmoid(r) * BiWKV in plain torch; see `gated_biwkv`."""
    k, v, r = kvr.chunk(3, -1)
    return biwkv_reference(w, u, k, v).mul_(r.sigmoid())


def gated_biwkv_backward_reference(
    w: Tensor, u: Tensor, kvr: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `gated_biwkv_reference` for w, u, kvr."""
    k, v, r = kvr.chunk(3, -1)
    gate = r.sigmoid()
    grad_w, grad_u, grad_k, grad_v = biwkv_backward_reference(w, u, k, v, grad * gate)
    grad_r = grad * biwkv_reference(w, u, k, v) * gate * (1 - gate)
    return grad_w, grad_u, torch.cat((grad_k, grad_v, grad_r), -1)


define(
    "gated_biwkv(Tensor w, Tensor u, Tensor kvr) -> Tensor", gated_biwkv_reference, "biwkv_triton", "forward"
)
define(
    "gated_biwkv_backward(Tensor w, Tensor u, Tensor kvr, Tensor grad) -> (Tensor, Tensor, Tensor)",
    gated_biwkv_backward_reference,
    "biwkv_triton",
    "backward",
)


def gated_biwkv(w: Tensor, u: Tensor, kvr: Tensor) -> Tensor:
    """sigmoid(r) * BiWKV(w, u, k, v) by the implementation for the device.

    Args:
        w: decay per channel, `C`, |w| at most 8.
        u: boost of a token's own value per channel, `C`.
        kvr: keys, values and gates side by side, `B x T x 3C`.

    Returns:
        `B x T x C`, of kvr's type.
    """
    return torch.ops.hpcm.gated_biwkv(w, u, kvr)


@torch.library.register_fake("hpcm::gated_biwkv")
def _(w: Tensor, u: Tensor, kvr: Tensor) -> Tensor:
    batch, tokens, channels = kvr.shape
    return kvr.new_empty(batch, tokens, channels // 3)


@torch.library.register_fake("hpcm::gated_biwkv_backward")
def _(w: Tensor, u: Tensor, kvr: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
    return contiguous_like(w, u, kvr)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
    return torch.ops.hpcm.gated_biwkv_backward(*ctx.saved_tensors, grad)


torch.library.register_autograd("hpcm::gated_biwkv", _backward, setup_context=keep_inputs)

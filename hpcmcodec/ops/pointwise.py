"""The pointwise layers of a residual block whose 3x3 convolution saw only the first channels.

    y = x + W2 leaky_relu(W1 h + b1) + b2,    h = s in the first channels, x in the others

Apart, these operations write and read the hidden values, four times as wide as x, again and again; in
one operation they stay on the chip, and backward computes them a second time.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .library import contiguous_like, define, keep_inputs

__all__ = ["pointwise_mlp", "pointwise_mlp_reference"]

# Channels: from how many sites of all pictures on the fused kernels beat separate operations, forward and
# backward together, on an H200. Estimates, to be measured. With 256 channels the matrix products are most of
# the time, and backward's seven instead of four would cost what the rest gains.
FUSED_FROM = {64: 16384, 96: 16384, 128: 16384}


def pointwise_mlp_reference(x: Tensor, s: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    """The block's second half in plain torch.

    Args:
        x: what enters the block, `B x C x H x W`.
        s: what replaces x's first channels on the residual branch, `B x P x H x W`.
        w1, b1: `D x C x 1 x 1` and `D`, to the hidden channels.
        w2, b2: `C x D x 1 x 1` and `C`, and back.

    Returns:
        `B x C x H x W`.
    """
    h = torch.cat((s, x[:, s.shape[1] :]), 1)
    return x + F.conv2d(F.leaky_relu(F.conv2d(h, w1, b1), inplace=True), w2, b2)


def pointwise_mlp(x: Tensor, s: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    """`pointwise_mlp_reference`, by the fused operator where that is faster."""
    sites = x.numel() // x.shape[1]
    if x.is_cuda and x.dtype == s.dtype == torch.bfloat16 and sites >= FUSED_FROM.get(x.shape[1], sites + 1):
        return torch.ops.hpcm.pointwise_mlp(x, s, w1, b1, w2, b2)
    return pointwise_mlp_reference(x, s, w1, b1, w2, b2)


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _forward(x: Tensor, s: Tensor, *weights: Tensor) -> Tensor:
    return _channels_last(pointwise_mlp_reference(x, s, *(w.to(x.dtype) for w in weights)))


def _convolution_backward(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return torch.ops.aten.convolution_backward(
        grad, x, weight, [weight.shape[0]], [1, 1], [0, 0], [1, 1], False, [0, 0], 1, [True] * 3
    )


def pointwise_mlp_backward_reference(
    x: Tensor, s: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, grad: Tensor
) -> tuple[Tensor, ...]:
    """Gradients of `pointwise_mlp_reference` for its six arguments, in their types."""
    partial, (m1, m2) = s.shape[1], (w.to(x.dtype) for w in (w1, w2))
    h = torch.cat((s, x[:, partial:]), 1)
    hidden = F.leaky_relu_(F.conv2d(h, m1, b1.to(x.dtype)))
    grad_hidden, grad_w2, grad_b2 = _convolution_backward(grad, hidden, m2)
    grad_hidden = torch.ops.aten.leaky_relu_backward(grad_hidden, hidden, 0.01, True)
    grad_h, grad_w1, grad_b1 = _convolution_backward(grad_hidden, h, m1)
    grad_x = torch.cat((grad[:, :partial], grad[:, partial:] + grad_h[:, partial:]), 1)
    return (
        _channels_last(grad_x),
        _channels_last(grad_h[:, :partial]),
        *(
            g.to(w.dtype).contiguous()
            for g, w in ((grad_w1, w1), (grad_b1, b1), (grad_w2, w2), (grad_b2, b2))
        ),
    )


_ARGUMENTS = "Tensor x, Tensor s, Tensor w1, Tensor b1, Tensor w2, Tensor b2"
define(f"pointwise_mlp({_ARGUMENTS}) -> Tensor", _forward, "pointwise_triton", "forward")
define(
    f"pointwise_mlp_backward({_ARGUMENTS}, Tensor grad) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    pointwise_mlp_backward_reference,
    "pointwise_triton",
    "backward",
)


@torch.library.register_fake("hpcm::pointwise_mlp")
def _(x: Tensor, s: Tensor, *weights: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.channels_last)


@torch.library.register_fake("hpcm::pointwise_mlp_backward")
def _(x: Tensor, s: Tensor, *weights_and_grad: Tensor) -> tuple[Tensor, ...]:
    return (
        *(torch.empty_like(t, memory_format=torch.channels_last) for t in (x, s)),
        *contiguous_like(*weights_and_grad[:-1]),
    )


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
    return torch.ops.hpcm.pointwise_mlp_backward(*ctx.saved_tensors, grad)


torch.library.register_autograd("hpcm::pointwise_mlp", _backward, setup_context=keep_inputs)

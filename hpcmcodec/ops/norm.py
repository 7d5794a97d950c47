"""LayerNorm of the RWKV blocks, alone and together with the residual sum before it.

One pass over the data each way: in training the sums and norms of a block cost as much as its products.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .library import contiguous_like, define, keep_inputs

__all__ = ["layer_norm", "layer_norm_reference", "residual_norm", "residual_norm_reference"]

EPSILON = 1e-5


def layer_norm_reference(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """LayerNorm over the last dimension in plain torch; see `layer_norm`."""
    exact = weight.dtype
    return F.layer_norm(x.to(exact), x.shape[-1:], weight, bias, EPSILON).to(x.dtype)


def residual_norm_reference(
    x: Tensor, branch: Tensor, gamma: Tensor, weight: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor]:
    """x + gamma * branch and its LayerNorm in plain torch; see `residual_norm`."""
    y = x + (gamma * branch).to(x.dtype)
    return y, layer_norm_reference(y, weight, bias)


def layer_norm_backward_reference(
    x: Tensor, weight: Tensor, bias: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `layer_norm_reference` for x, weight, bias."""
    exact = weight.dtype
    x_exact, g = x.to(exact), grad.to(exact)
    variance, mean = torch.var_mean(x_exact, -1, correction=0, keepdim=True)
    scale = (variance + EPSILON).rsqrt()
    normal = (x_exact - mean) * scale
    g_normal = g * weight
    along = (g_normal * normal).mean(-1, keepdim=True)
    grad_x = scale * (g_normal - g_normal.mean(-1, keepdim=True) - normal * along)
    rows = tuple(range(x.dim() - 1))
    return grad_x.to(x.dtype).contiguous(), (g * normal).sum(rows), g.sum(rows)


def residual_norm_backward_reference(
    y: Tensor, branch: Tensor, gamma: Tensor, weight: Tensor, bias: Tensor, grad_y: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of `residual_norm_reference` for x, branch, gamma, weight, bias, from the sum y."""
    through, grad_weight, grad_bias = layer_norm_backward_reference(y, weight, bias, grad.to(weight.dtype))
    whole = grad_y.to(weight.dtype) + through.to(weight.dtype)
    grad_gamma = (whole * branch.to(weight.dtype)).flatten(0, -2).sum(0)
    grad_x, grad_branch = whole.to(y.dtype).contiguous(), (gamma * whole).to(branch.dtype).contiguous()
    return grad_x, grad_branch, grad_gamma, grad_weight, grad_bias


define(
    "layer_norm(Tensor x, Tensor weight, Tensor bias) -> Tensor",
    layer_norm_reference,
    "norm_triton",
    "layer_norm",
)
define(
    "layer_norm_backward(Tensor x, Tensor weight, Tensor bias, Tensor grad) -> (Tensor, Tensor, Tensor)",
    layer_norm_backward_reference,
    "norm_triton",
    "layer_norm_backward",
)
define(
    "residual_norm(Tensor x, Tensor branch, Tensor gamma, Tensor weight, Tensor bias) -> (Tensor, Tensor)",
    residual_norm_reference,
    "norm_triton",
    "residual_norm",
)
define(
    "residual_norm_backward(Tensor y, Tensor branch, Tensor gamma, Tensor weight, Tensor bias, "
    "Tensor grad_y, Tensor grad) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    residual_norm_backward_reference,
    "norm_triton",
    "residual_norm_backward",
)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """LayerNorm (Ba et al., arXiv 1607.06450) over the last dimension.

    Args:
        x: `... x C`.
        weight, bias: `C`, float32 or wider; the arithmetic is theirs.

    Returns:
        The shape and type of x.
    """
    return torch.ops.hpcm.layer_norm(x, weight, bias)


def residual_norm(
    x: Tensor, branch: Tensor, gamma: Tensor, weight: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor]:
    """y = x + gamma * branch, and LayerNorm of y.

    Args:
        x, branch: `... x C`, of one shape.
        gamma, weight, bias: `C`; see `layer_norm`.

    Returns:
        y and its norm, both of the shape and type of x.
    """
    return torch.ops.hpcm.residual_norm(x, branch, gamma, weight, bias)


torch.library.register_fake("hpcm::layer_norm")(lambda x, weight, bias: contiguous_like(x)[0])
torch.library.register_fake("hpcm::layer_norm_backward")(
    lambda x, weight, bias, grad: contiguous_like(x, weight, bias)
)
torch.library.register_fake("hpcm::residual_norm")(
    lambda x, branch, gamma, weight, bias: contiguous_like(x, x)
)
torch.library.register_fake("hpcm::residual_norm_backward")(
    lambda y, branch, gamma, weight, bias, grad_y, grad: contiguous_like(y, branch, gamma, weight, bias)
)


def _keep_sum(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(output[0], *inputs[1:])


torch.library.register_autograd(
    "hpcm::layer_norm",
    lambda ctx, grad: torch.ops.hpcm.layer_norm_backward(*ctx.saved_tensors, grad),
    setup_context=keep_inputs,
)
torch.library.register_autograd(
    "hpcm::residual_norm",
    lambda ctx, grad_y, grad: torch.ops.hpcm.residual_norm_backward(*ctx.saved_tensors, grad_y, grad),
    setup_context=_keep_sum,
)

"""Depthwise convolution of NHWC pictures with an odd kernel, zero padding, same size.

The channels of such a layer do not meet, so that it is bound by memory: libraries tuned for matrix products
take several times as long as reading and writing the pictures once.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .library import contiguous_like, define, keep_inputs

__all__ = ["depthwise", "depthwise_reference"]


def depthwise_reference(x: Tensor, kernel: Tensor) -> Tensor:
    """The convolution in plain torch, with the kernel in x's type; see `depthwise`."""
    channels, _, size, _ = kernel.shape
    y = F.conv2d(x.permute(0, 3, 1, 2), kernel.to(x.dtype), padding=size // 2, groups=channels)
    return y.permute(0, 2, 3, 1).to(x.dtype).contiguous()


def depthwise_backward_reference(x: Tensor, kernel: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of `depthwise_reference` for x and kernel."""
    channels, _, size, _ = kernel.shape
    grad_x, grad_kernel, _ = torch.ops.aten.convolution_backward(
        grad.permute(0, 3, 1, 2), x.permute(0, 3, 1, 2), kernel.to(x.dtype), None,
        [1, 1], [size // 2, size // 2], [1, 1], False, [0, 0], channels, [True, True, False],
    )  # fmt: skip
    return grad_x.permute(0, 2, 3, 1).contiguous(), grad_kernel.to(kernel.dtype).contiguous()


define("depthwise(Tensor x, Tensor kernel) -> Tensor", depthwise_reference, "depthwise_triton", "forward")
define(
    "depthwise_backward(Tensor x, Tensor kernel, Tensor grad) -> (Tensor, Tensor)",
    depthwise_backward_reference,
    "depthwise_triton",
    "backward",
)


def depthwise(x: Tensor, kernel: Tensor) -> Tensor:
    """Depthwise convolution by the implementation for the device.

    Args:
        x: `B x H x W x C`.
        kernel: `C x 1 x k x k`, k odd.

    Returns:
        `B x H x W x C`, of x's type.
    """
    return torch.ops.hpcm.depthwise(x, kernel)


torch.library.register_fake("hpcm::depthwise")(lambda x, kernel: contiguous_like(x)[0])
torch.library.register_fake("hpcm::depthwise_backward")(lambda x, kernel, grad: contiguous_like(x, kernel))


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
    return torch.ops.hpcm.depthwise_backward(*ctx.saved_tensors, grad)


torch.library.register_autograd("hpcm::depthwise", _backward, setup_context=keep_inputs)

"""How operators are made known to torch: a reference for every device, and kernels for some."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["contiguous_like", "define", "keep_inputs"]

_library = torch.library.Library("hpcm", "DEF")


def define(
    schema: str,
    reference: Callable[..., Any],
    module: str | None = None,
    kernel: str = "",
    on_cpu: Callable[..., Any] | None = None,
) -> None:
    """Declare an operator.

    Args:
        schema: its name, arguments and results, as torch.library writes them.
        reference: its default implementation, in plain torch.
        module, kernel: where in this folder its GPU kernel is, imported when it is first needed.
        on_cpu: its implementation on a CPU.
    """
    name = schema.partition("(")[0]

    def on_gpu(*tensors: Tensor) -> Any:
        return getattr(importlib.import_module(f".{module}", __package__), kernel)(*tensors)

    _library.define(schema)
    _library.impl(name, reference, "CompositeExplicitAutograd")
    if module is not None:
        _library.impl(name, on_gpu, "CUDA")
    if on_cpu is not None:
        _library.impl(name, on_cpu, "CPU")


def contiguous_like(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Empty tensors of these shapes and types, as an operator without data gives them."""
    return tuple(torch.empty_like(t, memory_format=torch.contiguous_format) for t in tensors)


def keep_inputs(ctx: Any, inputs: tuple[Tensor, ...], output: Any) -> None:
    """What an operator keeps for its gradient, where that needs its inputs alone."""
    ctx.save_for_backward(*inputs)

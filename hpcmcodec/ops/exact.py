"""The exact layers' operators (see `layers.exact`): references in float64, and native kernels on a CPU.

Values are float64 tensors that hold integers times a power of two. The references' sums are exact in any
order and everything else is single IEEE operations, so a kernel in integers gives the very same bits.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from . import native
from .library import define

__all__ = [
    "FINE",
    "GATE_REACH",
    "GATE_STEPS",
    "exact_biwkv",
    "exact_depthwise",
    "exact_gate",
    "exact_linear",
    "exp_minus",
    "exp_of",
    "no_native",
    "to_grid",
]

# Steps per unit of the table of exp(-x).
FINE = 4096.0
# Steps per unit of the table of the sigmoid, and how far from zero it starts.
GATE_STEPS = 128.0
GATE_REACH = 16.0

SOURCE = "exact_cpu"


def to_grid(x: Tensor, unit: Tensor | float, most: Tensor | float) -> Tensor:
    """x, which is overwritten: rounded to 1 / unit, a power of two, and clipped to +-most / unit."""
    return x.mul_(unit).round_().clamp_(-most, most).mul_(1 / unit)  # type: ignore[arg-type]


def _look_up(table: Tensor, place: Tensor) -> Tensor:
    # What is no number is looked up at 0, as the kernels do.
    return table[place.round_().clamp_(0, len(table) - 1).nan_to_num_(0).to(torch.int32)]


def exp_minus(table: Tensor, x: Tensor) -> Tensor:
    """exp(-x) of x from 0 to where the table ends (beyond is clipped)."""
    return _look_up(table, x * FINE)


def exp_of(table: Tensor, x: Tensor) -> Tensor:
    """exp(x) of either sign."""
    y = exp_minus(table, x.abs())
    return torch.where(x > 0, 1 / y, y)


def exact_linear_reference(
    x: Tensor,
    x_unit: float | None,
    weight: Tensor,
    step: Tensor,
    bias: Tensor,
    unit: Tensor | None,
    most: Tensor | None,
) -> Tensor:
    """x weight^T * step + bias; with unit and most, rounded to 1 / unit and clipped to +-most / unit.

    Args:
        x: float64 `... x inputs`, integers of 16 bits / x_unit, or, without it, on several such grids.
        weight: int8 `outputs x inputs`.
        step, bias, unit, most: float64 `outputs`; units are powers of two.

    Returns:
        float64 `... x outputs`.
    """
    y = F.linear(x, weight.double()).mul_(step).add_(bias)
    return y if unit is None or most is None else to_grid(y, unit, most)


def exact_depthwise_reference(
    x: Tensor, kernel: Tensor, step: Tensor, bias: Tensor, unit: float | None, most: float | None
) -> Tensor:
    """Depthwise convolution, zero padding; with unit and most, rounded and clipped as in exact_linear.

    Args:
        x: float64 `B x H x W x C`, integers of 16 bits times a power of two.
        kernel: float64 integers, `k*k x C`.
        step, bias: float64 `C`.
        unit: a power of two.

    Returns:
        float64 `B x H x W x C`.
    """
    height, width = x.shape[1:3]
    size = math.isqrt(len(kernel))
    reach = size // 2
    padded = F.pad(x, (0, 0, reach, reach, reach, reach))
    total = torch.zeros_like(x)
    for row in range(size):
        for column in range(size):
            part = padded[:, row : row + height, column : column + width]
            total.addcmul_(part, kernel[row * size + column])
    total.mul_(step).add_(bias)
    return total if unit is None or most is None else to_grid(total, unit, most)


def exact_gate_reference(table: Tensor, x: Tensor, r: Tensor) -> Tensor:
    """x * sigmoid(r) by look-up.

    Args:
        table: sigmoid(i / GATE_STEPS - GATE_REACH), float64.
        x, r: float64, of one shape.
    """
    return x * _look_up(table, (r + GATE_REACH).mul_(GATE_STEPS))


def exact_biwkv_reference(table: Tensor, w: Tensor, u: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """`ops.biwkv_reference` with exact sums, not yet rounded.

    The weights exp(k_i +- i w/T) are integers of so many bits that T of them times v stay below 2^53;
    numerator and denominator use the same ones, so the result is an average of values of v whatever the
    rounding.

    Args:
        table: exp(-i / FINE), float64.
        w, u: decay, |w| at most 8, and boost per channel, float64 `C`.
        k, v: float64 `B x T x C`, v on a grid of 16 bits.

    Returns:
        float64 `B x T x C`.
    """
    tokens = k.shape[1]
    count = torch.full((), tokens, dtype=torch.float64, device=k.device)
    position = (torch.arange(tokens, device=k.device, dtype=torch.float64) / count)[:, None]
    forward, backward = position * w.abs(), (1 - position) * w.abs()
    rising = w > 0
    ahead = exp_minus(table, torch.where(rising, backward, forward))  # of tokens before, T x C
    behind = exp_minus(table, torch.where(rising, forward, backward))  # and after
    weight = exp_minus(table, k.amax(1, keepdim=True) - k)
    own = exp_of(table, (u - w) / count) * weight
    unit = 2.0 ** _weight_bits(tokens)

    numerator, denominator = own * v, own
    for sums, near in ((_before, ahead), (_after, behind)):
        whole = (weight * near).mul_(unit).round_()
        near = near * unit
        denominator = denominator + sums(whole) / near
        numerator += sums(whole.mul_(v)).div_(near)
    return numerator.div_(denominator)


def _weight_bits(tokens: int) -> int:
    return min(30, 52 - 15 - math.ceil(math.log2(tokens)))


def _before(x: Tensor) -> Tensor:
    return x.cumsum(1).sub_(x)


def _after(x: Tensor) -> Tensor:
    rising = x.cumsum(1)
    return rising[:, -1:] - rising


def _rows(x: Tensor) -> tuple[Tensor, int]:
    """x with values side by side and its rows, over all but the last dimension, evenly apart; how far."""
    stride = x.stride(-2) if x.dim() > 1 else 0
    expected = stride
    for size, at in zip(reversed(x.shape[:-1]), reversed(x.stride()[:-1]), strict=True):
        if size > 1 and at != expected:
            break
        expected *= size
    else:
        if x.stride(-1) == 1 and stride >= x.shape[-1]:
            return x, stride
    return x.contiguous(), x.shape[-1]


def _expect(what: str, tensor: Tensor | None, dtype: torch.dtype, *shape: int) -> None:
    """A kernel reads what lies behind a pointer and cannot see what it is."""
    if tensor is None:
        return
    if tensor.dtype != dtype or tensor.shape != shape or tensor.device.type != "cpu":
        is_ = f"{tensor.dtype} {tuple(tensor.shape)} on {tensor.device.type}"
        raise ValueError(f"{what} is {is_}, not {dtype} {shape} on cpu")


def _expect_unit(what: str, unit: float | None) -> None:
    if unit is not None and not 0 < unit < math.inf:
        raise ValueError(f"{what} is {unit}, not above zero")


def _expect_both(unit: object, most: object) -> None:
    if (unit is None) != (most is None):
        raise ValueError("unit and most are given together")


def _call(name: str, *values: Any) -> None:
    """Call a native function with tensors (or None), as pointers, and numbers."""
    kinds = {int: ctypes.c_long, float: ctypes.c_double, type(None): ctypes.c_void_p}
    given = [ctypes.c_void_p(v.data_ptr()) if isinstance(v, Tensor) else kinds[type(v)](v) for v in values]
    if getattr(native.load(SOURCE), name)(*given):
        raise MemoryError


def _dense(*tensors: Tensor | None) -> list[Tensor | None]:
    return [None if t is None else t.contiguous() for t in tensors]


def no_native() -> str:
    """Why there are no native kernels on this CPU; empty where there are."""
    library = native.load(SOURCE)
    return str(library) if isinstance(library, native.NoNativeError) else ""


def _expect_table(table: Tensor) -> None:
    _expect("table", table, torch.float64, table.numel())
    if not len(table):
        raise ValueError("an empty table")


def _linear_on_cpu(
    x: Tensor,
    x_unit: float | None,
    weight: Tensor,
    step: Tensor,
    bias: Tensor,
    unit: Tensor | None,
    most: Tensor | None,
) -> Tensor:
    if x_unit is None:
        return exact_linear_reference(x, x_unit, weight, step, bias, unit, most)
    outputs, inputs = weight.shape
    _expect("weight", weight, torch.int8, outputs, inputs)
    _expect("x", x, torch.float64, *x.shape[:-1], inputs)
    for name, values in (("step", step), ("bias", bias), ("unit", unit), ("most", most)):
        _expect(name, values, torch.float64, outputs)
    _expect_both(unit, most)
    _expect_unit("x_unit", x_unit)
    y = torch.empty(*x.shape[:-1], outputs, dtype=torch.float64, device="cpu")
    x, stride = _rows(x)
    rows = x.numel() // inputs
    of_outputs = _dense(weight, step, bias, unit, most)
    _call("hpcm_exact_linear", x, rows, inputs, stride, x_unit, *of_outputs, outputs, y)
    return y


def _biwkv_on_cpu(table: Tensor, w: Tensor, u: Tensor, k: Tensor, v: Tensor) -> Tensor:
    batch, tokens, channels = k.shape
    _expect_table(table)
    for name, values in (("k", k), ("v", v)):
        _expect(name, values, torch.float64, batch, tokens, channels)
    for name, values in (("w", w), ("u", u)):
        _expect(name, values, torch.float64, channels)
    y = torch.empty(k.shape, dtype=torch.float64, device="cpu")
    (k, stride), (v, other) = _rows(k), _rows(v)
    if stride != other:
        k, v, stride = k.contiguous(), v.contiguous(), channels
    table, w, u = (t.contiguous() for t in (table, w, u))
    sizes = (batch, tokens, channels, _weight_bits(tokens))
    _call("hpcm_exact_biwkv", table, len(table), FINE, w, u, k, v, stride, *sizes, y)
    return y


def _depthwise_on_cpu(
    x: Tensor, kernel: Tensor, step: Tensor, bias: Tensor, unit: float | None, most: float | None
) -> Tensor:
    channels, size = x.shape[-1], math.isqrt(len(kernel))
    _expect("x", x, torch.float64, *x.shape[:3], channels)
    _expect("kernel", kernel, torch.float64, size * size, channels)
    for name, values in (("step", step), ("bias", bias)):
        _expect(name, values, torch.float64, channels)
    _expect_both(unit, most)
    _expect_unit("unit", unit)
    x, kernel, step, bias = (t.contiguous() for t in (x, kernel, step, bias))
    y = torch.empty_like(x)
    _call("hpcm_exact_depthwise", x, *x.shape, kernel, size, step, bias, unit or 0.0, most or 0.0, y)
    return y


def _gate_on_cpu(table: Tensor, x: Tensor, r: Tensor) -> Tensor:
    _expect_table(table)
    for name, values in (("x", x), ("r", r)):
        _expect(name, values, torch.float64, *x.shape)
    table, x, (r, stride) = table.contiguous(), x.contiguous(), _rows(r)
    y = torch.empty_like(x)
    channels = x.shape[-1]
    rows = x.numel() // channels
    _call("hpcm_exact_gate", table, len(table), GATE_STEPS, GATE_REACH, x, r, stride, rows, channels, y)
    return y


def _define(schema: str, reference: Callable[..., Tensor], on_cpu: Callable[..., Tensor]) -> None:
    def either(*given: Any) -> Tensor:
        return reference(*given) if no_native() else on_cpu(*given)

    define(schema, reference, on_cpu=either)


_define(
    "exact_linear(Tensor x, float? x_unit, Tensor weight, Tensor step, Tensor bias, Tensor? unit,"
    " Tensor? most) -> Tensor",
    exact_linear_reference,
    _linear_on_cpu,
)
_define(
    "exact_biwkv(Tensor table, Tensor w, Tensor u, Tensor k, Tensor v) -> Tensor",
    exact_biwkv_reference,
    _biwkv_on_cpu,
)
_define(
    "exact_depthwise(Tensor x, Tensor kernel, Tensor step, Tensor bias, float? unit, float? most) -> Tensor",
    exact_depthwise_reference,
    _depthwise_on_cpu,
)
_define("exact_gate(Tensor table, Tensor x, Tensor r) -> Tensor", exact_gate_reference, _gate_on_cpu)

exact_linear = torch.ops.hpcm.exact_linear.default
exact_biwkv = torch.ops.hpcm.exact_biwkv.default
exact_depthwise = torch.ops.hpcm.exact_depthwise.default
exact_gate = torch.ops.hpcm.exact_gate.default

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from hpcmcodec.layers import PConvRB
from hpcmcodec.ops import pointwise_mlp
from tests.interpreted import needs_triton, run_interpreted

Operator = Callable[..., Tensor]
CHANNELS = (16, 24, 64)


def inputs(channels: int, shape: tuple[int, int, int], dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """x and s, channels_last, w1, b1, w2, b2 and a gradient; shape is batch, height, width."""
    seed = torch.Generator().manual_seed(channels)

    def draw(*size: int, scale: float = 1.0) -> Tensor:
        return scale * torch.randn(*size, generator=seed, dtype=torch.float64)

    def picture(channels: int) -> Tensor:
        batch, height, width = shape
        return draw(batch, channels, height, width).contiguous(memory_format=torch.channels_last)

    hidden, partial = 4 * channels, channels // 4
    drawn = [
        picture(channels),
        picture(partial),
        draw(hidden, channels, 1, 1, scale=channels**-0.5),
        draw(hidden),
        draw(channels, hidden, 1, 1, scale=hidden**-0.5),
        draw(channels),
        picture(channels),
    ]
    return [t.to(dtype) for t in drawn]


def composed(x: Tensor, s: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    h = torch.cat((s, x[:, s.shape[1] :]), 1)
    return x + F.conv2d(F.leaky_relu(F.conv2d(h, w1, b1), 0.01), w2, b2)


def with_gradients(operator: Operator, arguments: list[Tensor]) -> list[Tensor]:
    """The output and the gradient of every argument but the last, which is the gradient of the output."""
    *leaves, grad = arguments
    leaves = [t.detach().requires_grad_() for t in leaves]
    y = operator(*leaves)
    return [y.detach(), *torch.autograd.grad(y, leaves, grad)]


@pytest.mark.parametrize("operator", [pointwise_mlp, torch.ops.hpcm.pointwise_mlp])
@pytest.mark.parametrize("channels", CHANNELS)
def test_definition(channels: int, operator: Operator) -> None:
    arguments = inputs(channels, (2, 5, 3))
    for actual, exact in zip(
        with_gradients(operator, arguments), with_gradients(composed, arguments), strict=True
    ):
        torch.testing.assert_close(actual, exact)


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_equal_to_the_bit_on_a_cpu(memory_format: torch.memory_format) -> None:
    x, *others = inputs(24, (2, 5, 3), torch.float32)
    arguments = [x.contiguous(memory_format=memory_format), *others]
    exact = with_gradients(composed, arguments)
    for operator in (pointwise_mlp, torch.ops.hpcm.pointwise_mlp):
        for actual, expected in zip(with_gradients(operator, arguments), exact, strict=True):
            assert torch.equal(actual, expected)


def test_block() -> None:
    torch.manual_seed(0)
    block, x = PConvRB(24), torch.randn(2, 24, 5, 3)
    assert {name.partition(".")[0] for name in block.state_dict()} == {"spatial", "expand", "project"}
    h = torch.cat((block.spatial(x[:, :6]), x[:, 6:]), 1)
    assert torch.equal(block(x), x + block.project(F.leaky_relu(block.expand(h))))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_keeps_the_type_of_the_sum(dtype: torch.dtype) -> None:
    block, x = PConvRB(16), torch.randn(1, 16, 4, 4).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        y = block(x)
        assert y.dtype == dtype
        h = torch.cat((block.spatial(x[:, :4]), x[:, 4:]), 1)
        assert torch.equal(y, x + block.project(F.leaky_relu(block.expand(h))))


def test_weights_may_be_wider_than_x() -> None:
    x, s, *weights, grad = inputs(16, (1, 4, 3), torch.float32)
    x, s, grad = (t.bfloat16() for t in (x, s, grad))
    results = with_gradients(torch.ops.hpcm.pointwise_mlp, [x, s, *weights, grad])
    assert [t.dtype for t in results] == [torch.bfloat16] * 3 + [torch.float32] * 4
    exact = with_gradients(composed, [t.double() for t in (x, s, *weights, grad)])
    for actual, expected in zip(results, exact, strict=True):
        assert (actual.double() - expected).norm() <= 1e-2 * expected.norm()


class Recorder(TorchDispatchMode):
    """The names of all operators that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("channels", "side", "dtype", "fused"),
    [
        (64, 128, torch.bfloat16, True),
        (64, 128, torch.float32, False),
        (64, 1, torch.bfloat16, False),
        (24, 128, torch.bfloat16, False),
    ],
)
def test_the_kernels_are_for_large_half_precision_layers(
    channels: int, side: int, dtype: torch.dtype, fused: bool
) -> None:
    with FakeTensorMode():
        *arguments, _ = (t.to("cuda") for t in inputs(channels, (2, side, side), dtype))
        with Recorder() as recorder:
            y = pointwise_mlp(*arguments)
    assert y.shape == arguments[0].shape and y.is_contiguous(memory_format=torch.channels_last)
    assert ("hpcm.pointwise_mlp.default" in recorder.names) == fused


def test_gradcheck() -> None:
    *arguments, _ = inputs(4, (1, 2, 2))
    leaves = tuple(t.requires_grad_() for t in arguments)
    assert torch.autograd.gradcheck(torch.ops.hpcm.pointwise_mlp, leaves)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # opcheck's own
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_opcheck(dtype: torch.dtype) -> None:
    x, s, *weights, grad = inputs(16, (2, 3, 5), torch.float32)
    x, s, grad = x.to(dtype).contiguous(), s.to(dtype), grad.to(dtype)
    torch.library.opcheck(torch.ops.hpcm.pointwise_mlp_backward.default, (x, s, *weights, grad))
    leaves = tuple(t.requires_grad_() for t in (x, s, *weights))
    torch.library.opcheck(torch.ops.hpcm.pointwise_mlp.default, leaves)


_KERNELS = """
from hpcmcodec.ops import pointwise, pointwise_triton
from tests.test_pointwise import inputs

pointwise_triton.PROCESSORS = 3  # so that a program takes several blocks of rows
cases = (
    (16, (1, 1, 1), torch.float32),
    (16, (3, 9, 13), torch.float32),  # more blocks than one, the last not full
    (24, (2, 8, 8), torch.float32),
    (64, (1, 16, 16), torch.float32),
    (128, (1, 5, 7), torch.float32),
    (24, (2, 7, 11), torch.float16),  # the interpreter cannot multiply matrices of bfloat16
    (64, (1, 9, 33), torch.float16),
)
for channels, shape, dtype in cases:
    # The weights stay float32, but are what they are rounded to: else the exact hidden values differ in sign.
    x, s, w1, b1, w2, b2, grad = inputs(channels, shape, dtype)
    w1, b1, w2, b2 = (t.float() for t in (w1, b1, w2, b2))
    # Neither channels_last nor dense; the weights as a model in channels_last has them.
    turned = x.contiguous(), torch.cat((s, s), 1)[:, : s.shape[1]], grad[:, :, :, :1].expand_as(grad)
    w1 = w1.contiguous(memory_format=torch.channels_last)
    for x, s, grad in ((x, s, grad), turned):
        arguments = x, s, w1, b1, w2, b2, grad
        exact = [t.double() for t in arguments]
        exact = [
            pointwise.pointwise_mlp_reference(*exact[:6]),
            *pointwise.pointwise_mlp_backward_reference(*exact),
        ]
        actual = [pointwise_triton.forward(*arguments[:6]), *pointwise_triton.backward(*arguments)]
        for a, b, like in zip(actual, exact, (x, *arguments[:6]), strict=True):
            assert a.dtype == like.dtype
            check(a, b, 1e-5 if dtype is torch.float32 else 3e-3)
        for a in actual[:3]:
            assert a.is_contiguous(memory_format=torch.channels_last)
"""


@needs_triton
def test_triton_kernels() -> None:
    run_interpreted(_KERNELS)

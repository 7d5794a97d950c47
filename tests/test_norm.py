from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from hpcmcodec.ops import layer_norm, residual_norm
from tests.interpreted import needs_triton, run_interpreted

VECTORS = ("gamma", "weight", "bias")


def inputs(shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """x, branch and the vectors; the vectors are float32 at least."""
    seed = torch.Generator().manual_seed(shape[-1])

    def draw(*size: int) -> Tensor:
        return torch.randn(*size, generator=seed, dtype=torch.float64)

    wide = torch.promote_types(dtype, torch.float32)
    drawn = {"x": (3 * draw(*shape) + 1).to(dtype), "branch": draw(*shape).to(dtype)}
    return drawn | {name: (1 + draw(shape[-1])).to(wide) for name in VECTORS}


def exact_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """LayerNorm as its paper has it."""
    deviation = (x - x.mean(-1, keepdim=True)).square().mean(-1, keepdim=True).add(1e-5).sqrt()
    return (x - x.mean(-1, keepdim=True)) / deviation * weight + bias


def exact_residual(x: Tensor, branch: Tensor, gamma: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    y = x + gamma * branch
    return torch.stack((y, exact_norm(y, weight, bias)))


def test_layer_norm_and_gradients() -> None:
    drawn = inputs((2, 5, 3, 7))
    x, weight, bias = (drawn[n].requires_grad_() for n in ("x", "weight", "bias"))
    torch.testing.assert_close(layer_norm(x, weight, bias), exact_norm(x, weight, bias))
    torch.testing.assert_close(
        layer_norm(x.float(), weight.float(), bias.float()),
        nn.functional.layer_norm(x.float(), (7,), weight.float(), bias.float()),
        rtol=0,
        atol=0,
    )
    assert torch.autograd.gradcheck(layer_norm, (x, weight, bias))


def test_residual_norm_and_gradients() -> None:
    arguments = tuple(t.requires_grad_() for t in inputs((2, 3, 7)).values())
    torch.testing.assert_close(torch.stack(residual_norm(*arguments)), exact_residual(*arguments))
    assert torch.autograd.gradcheck(residual_norm, arguments)


def test_types_and_strides() -> None:
    drawn = inputs((4, 6, 8), torch.bfloat16)
    y, normed = residual_norm(*drawn.values())
    assert y.dtype == normed.dtype == torch.bfloat16
    turned = {n: t.mT.contiguous().mT if t.dim() > 1 else t for n, t in drawn.items()}
    assert torch.equal(torch.stack(residual_norm(*turned.values())), torch.stack((y, normed)))
    exact = exact_residual(*(t.double() for t in drawn.values()))
    torch.testing.assert_close(torch.stack((y, normed)).double(), exact, rtol=2e-2, atol=2e-2)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # opcheck's own
def test_opcheck() -> None:
    drawn = inputs((3, 4, 5), torch.float32)
    x, branch, gamma, weight, bias = drawn.values()
    torch.library.opcheck(torch.ops.hpcm.layer_norm_backward.default, (x, weight, bias, branch))
    torch.library.opcheck(
        torch.ops.hpcm.residual_norm_backward.default, (x, branch, gamma, weight, bias, x, branch)
    )
    for t in drawn.values():
        t.requires_grad_()
    torch.library.opcheck(torch.ops.hpcm.layer_norm.default, (x, weight, bias))
    torch.library.opcheck(torch.ops.hpcm.residual_norm.default, (x, branch, gamma, weight, bias))


_KERNELS = """
from hpcmcodec.ops import norm, norm_triton
from tests.test_norm import inputs

norm_triton.PROGRAMS = 3  # so that a program takes several tiles
for shape in ((1, 1), (2, 3, 5), (7, 384), (1300, 6)):
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.bfloat16, 2e-2)):
        x, branch, gamma, weight, bias = inputs(shape, dtype).values()
        grad_y, grad = x.flip(0), branch.flip(0)
        for name, arguments in {
            "layer_norm": (x, weight, bias),
            "layer_norm_backward": (x, weight, bias, grad),
            "residual_norm": (x, branch, gamma, weight, bias),
            "residual_norm_backward": (x, branch, gamma, weight, bias, grad_y, grad),
        }.items():
            actual = getattr(norm_triton, name)(*arguments)
            exact = getattr(norm, name + "_reference")(*(t.double() for t in arguments))
            expected = getattr(norm, name + "_reference")(*arguments)
            if name == "layer_norm":
                actual, exact, expected = (actual,), (exact,), (expected,)
            for a, b, like in zip(actual, exact, expected, strict=True):
                assert a.dtype == like.dtype
                check(a, b, tolerance)
"""


@needs_triton
def test_triton_kernels() -> None:
    run_interpreted(_KERNELS)

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from hpcmcodec.ops import gated_biwkv, gated_biwkv_reference
from tests.interpreted import needs_triton, run_interpreted

LENGTHS = (1, 16, 31, 33, 961)
Operator = Callable[[Tensor, Tensor, Tensor], Tensor]


def naive(w: Tensor, u: Tensor, kvr: Tensor) -> Tensor:
    """Spec section 3 to the letter: every pair of tokens has its weight, `B x T x T x C`."""
    k, v, r = kvr.chunk(3, -1)
    tokens = k.shape[1]
    t = torch.arange(tokens, dtype=k.dtype)
    distance = (t[:, None] - t).abs()[..., None]
    exponent = torch.where(distance == 0, u / tokens, -(distance - 1) * w / tokens)
    return torch.sigmoid(r) * torch.softmax(exponent + k[:, None], 2).mul(v[:, None]).sum(2)


def inputs(
    tokens: int,
    channels: int = 5,
    batch: int = 2,
    dtype: torch.dtype = torch.float64,
    decay: float | None = None,
) -> list[Tensor]:
    """w, u and k, v, r side by side."""
    seed = torch.Generator().manual_seed(tokens)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=seed, dtype=torch.float64)

    w = 3 * draw(channels) if decay is None else torch.full((channels,), decay).double()
    k, v, r = 2 * draw(batch, tokens, channels), draw(batch, tokens, channels), draw(batch, tokens, channels)
    drawn = [w.clamp(-8, 8), 2 * draw(channels), torch.cat((k, v, r), -1)]
    return [x.to(dtype) for x in drawn]


def with_gradients(operator: Operator, arguments: list[Tensor]) -> list[Tensor]:
    """The output and the gradient of every input, for a fixed gradient of the output."""
    leaves = [x.detach().requires_grad_() for x in arguments]
    y = operator(*leaves)
    seed = torch.Generator().manual_seed(0)
    y.backward(torch.randn(y.shape, generator=seed, dtype=torch.float64).to(y.dtype))
    return [y.detach(), *(x.grad for x in leaves if x.grad is not None)]


def check_biwkv(arguments: list[Tensor], tolerance: float, expected: list[Tensor] | None = None) -> None:
    """gated_biwkv against the definition in float64, as a share of the largest value."""
    exact = expected or with_gradients(naive, [x.double() for x in arguments])
    actual = with_gradients(gated_biwkv, arguments)
    assert len(actual) == len(exact) == 4
    for a, b, like in zip(actual, exact, [arguments[2].chunk(3, -1)[0], *arguments], strict=True):
        assert a.dtype == like.dtype and a.shape == like.shape
        assert (a.double() - b).abs().max() <= tolerance * b.abs().max().clamp_min(0.1)


@pytest.mark.parametrize("tokens", LENGTHS)
def test_definition(tokens: int) -> None:
    check_biwkv(inputs(tokens), 1e-10)


@pytest.mark.parametrize("tokens", LENGTHS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.bfloat16, 2e-2)])
def test_types(tokens: int, dtype: torch.dtype, tolerance: float) -> None:
    w, u, kvr = inputs(tokens)
    check_biwkv([w.float(), u.float(), kvr.to(dtype)], tolerance)


@pytest.mark.parametrize("decay", [-8.0, 0.0, 8.0])
def test_extreme_decay(decay: float) -> None:
    check_biwkv(inputs(257, decay=decay), 1e-9)
    check_biwkv(inputs(257, decay=decay, dtype=torch.float32), 5e-5)


def test_large_keys_do_not_overflow() -> None:
    w, u, kvr = inputs(100)
    check_biwkv([w, u, 100 * kvr], 1e-10)


@pytest.mark.parametrize("decay", [None, -8.0, 8.0])
def test_long_sequences_keep_their_digits(decay: float | None) -> None:
    arguments = inputs(20_000, channels=3, batch=1, decay=decay)
    exact = with_gradients(gated_biwkv, arguments)
    assert all(x.isfinite().all() for x in exact)
    check_biwkv([x.float() for x in arguments], 5e-5, exact)


def test_non_contiguous() -> None:
    w, u, kvr = inputs(33)
    turned = kvr.transpose(1, 2).contiguous().mT
    spread = [torch.stack((w, w), -1)[:, 0], u, turned]
    assert not any(x.is_contiguous() for x in (spread[0], spread[2]))
    check_biwkv(spread, 1e-10)
    check_biwkv([w, u, torch.cat((kvr, kvr), -1)[..., : kvr.shape[-1]]], 1e-10)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # opcheck's own
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("tokens", [1, 31])
def test_opcheck(tokens: int, transposed: bool) -> None:
    w, u, kvr = inputs(tokens, dtype=torch.float32)
    if transposed:
        kvr = kvr.mT.contiguous().mT
    grad = torch.ones_like(kvr.chunk(3, -1)[0])
    torch.library.opcheck(torch.ops.hpcm.gated_biwkv_backward.default, (w, u, kvr, grad))
    torch.library.opcheck(torch.ops.hpcm.gated_biwkv.default, tuple(x.requires_grad_() for x in (w, u, kvr)))


def test_gradcheck() -> None:
    arguments = [x.requires_grad_() for x in inputs(7, channels=2)]
    assert torch.autograd.gradcheck(gated_biwkv, tuple(arguments))


def test_op_is_the_reference() -> None:
    arguments = inputs(50, dtype=torch.float32)
    torch.testing.assert_close(gated_biwkv(*arguments), gated_biwkv_reference(*arguments), rtol=0, atol=0)


_KERNELS = """
from hpcmcodec.ops import biwkv_triton
from hpcmcodec.ops.biwkv import gated_biwkv_backward_reference, gated_biwkv_reference
from tests.test_ops import inputs

cases = (1, 5, None), (16, 33, None), (31, 5, None), (33, 70, 8.0), (961, 3, None), (963, 3, -8.0)
for tokens, channels, decay in cases:
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.bfloat16, 2e-2)):
        if dtype is torch.bfloat16 and tokens > 100:
            continue
        w, u, kvr = inputs(tokens, channels, decay=decay, dtype=torch.float32)
        grad = inputs(tokens + 1, channels, dtype=torch.float32)[2][:, :tokens, :channels]
        kvr, grad = kvr.to(dtype), grad.to(dtype)
        exact = [x.double() for x in (w, u, kvr, grad)]
        y = biwkv_triton.forward(w, u, kvr)
        assert y.dtype == dtype
        check(y, gated_biwkv_reference(*exact[:3]), tolerance)
        gradients = biwkv_triton.backward(w, u, kvr, grad)
        for a, b in zip(gradients, gated_biwkv_backward_reference(*exact), strict=True):
            check(a, b, tolerance)
"""


@needs_triton
def test_triton_kernels() -> None:
    run_interpreted(_KERNELS)

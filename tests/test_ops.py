from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hpcmcodec.ops import biwkv, biwkv_reference

LENGTHS = (1, 16, 31, 33, 961)
Operator = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def naive(w: Tensor, u: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Spec section 3 to the letter: every pair of tokens has its weight, `B x T x T x C`."""
    tokens = k.shape[1]
    t = torch.arange(tokens, dtype=k.dtype)
    distance = (t[:, None] - t).abs()[..., None]
    exponent = torch.where(distance == 0, u / tokens, -(distance - 1) * w / tokens)
    return torch.softmax(exponent + k[:, None], 2).mul(v[:, None]).sum(2)


def inputs(
    tokens: int,
    channels: int = 5,
    batch: int = 2,
    dtype: torch.dtype = torch.float64,
    decay: float | None = None,
) -> list[Tensor]:
    """w, u, k, v."""
    seed = torch.Generator().manual_seed(tokens)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=seed, dtype=torch.float64)

    w = 3 * draw(channels) if decay is None else torch.full((channels,), decay).double()
    drawn = [
        w.clamp(-8, 8),
        2 * draw(channels),
        2 * draw(batch, tokens, channels),
        draw(batch, tokens, channels),
    ]
    return [x.to(dtype) for x in drawn]


def with_gradients(operator: Operator, arguments: list[Tensor]) -> list[Tensor]:
    """The output and the gradient of every input, for a fixed gradient of the output."""
    leaves = [x.detach().requires_grad_() for x in arguments]
    y = operator(*leaves)
    seed = torch.Generator().manual_seed(0)
    y.backward(torch.randn(y.shape, generator=seed, dtype=torch.float64).to(y.dtype))
    return [y.detach(), *(x.grad for x in leaves if x.grad is not None)]


def check_biwkv(arguments: list[Tensor], tolerance: float, expected: list[Tensor] | None = None) -> None:
    """biwkv against the definition in float64, as a share of the largest value."""
    exact = expected or with_gradients(naive, [x.double() for x in arguments])
    actual = with_gradients(biwkv, arguments)
    assert len(actual) == len(exact) == 5
    for a, b, like in zip(actual, exact, [arguments[2], *arguments], strict=True):
        assert a.dtype == like.dtype and a.shape == like.shape
        assert (a.double() - b).abs().max() <= tolerance * b.abs().max().clamp_min(0.1)


@pytest.mark.parametrize("tokens", LENGTHS)
def test_definition(tokens: int) -> None:
    check_biwkv(inputs(tokens), 1e-10)


@pytest.mark.parametrize("tokens", LENGTHS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.bfloat16, 2e-2)])
def test_types(tokens: int, dtype: torch.dtype, tolerance: float) -> None:
    w, u, k, v = inputs(tokens)
    check_biwkv([w.float(), u.float(), k.to(dtype), v.to(dtype)], tolerance)


@pytest.mark.parametrize("decay", [-8.0, 0.0, 8.0])
def test_extreme_decay(decay: float) -> None:
    check_biwkv(inputs(257, decay=decay), 1e-9)
    check_biwkv(inputs(257, decay=decay, dtype=torch.float32), 5e-5)


def test_large_keys_do_not_overflow() -> None:
    w, u, k, v = inputs(100)
    check_biwkv([w, u, 100 * k, v], 1e-10)


@pytest.mark.parametrize("decay", [None, -8.0, 8.0])
def test_long_sequences_keep_their_digits(decay: float | None) -> None:
    arguments = inputs(20_000, channels=3, batch=1, decay=decay)
    exact = with_gradients(biwkv, arguments)
    assert all(x.isfinite().all() for x in exact)
    check_biwkv([x.float() for x in arguments], 5e-5, exact)


def test_non_contiguous() -> None:
    w, u, k, v = inputs(33)
    both = torch.stack((k, v), -1)
    spread = [
        torch.stack((w, w), -1)[:, 0],
        u.flip(0).flip(0),
        both[..., 0],
        v.transpose(1, 2).contiguous().mT,
    ]
    assert not any(x.is_contiguous() for x in (spread[0], spread[2], spread[3]))
    check_biwkv(spread, 1e-10)
    chunks = torch.cat((k, v), -1).chunk(2, -1)
    check_biwkv([w, u, *chunks], 1e-10)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # opcheck's own
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("tokens", [1, 31])
def test_opcheck(tokens: int, transposed: bool) -> None:
    w, u, k, v = inputs(tokens, dtype=torch.float32)
    if transposed:
        k, v = (x.mT.contiguous().mT for x in (k, v))
    torch.library.opcheck(torch.ops.hpcm.biwkv_backward.default, (w, u, k, v, torch.ones_like(k)))
    torch.library.opcheck(torch.ops.hpcm.biwkv.default, tuple(x.requires_grad_() for x in (w, u, k, v)))


def test_gradcheck() -> None:
    arguments = [x.requires_grad_() for x in inputs(7, channels=2)]
    assert torch.autograd.gradcheck(biwkv, tuple(arguments))


def test_op_is_the_reference() -> None:
    arguments = inputs(50, dtype=torch.float32)
    torch.testing.assert_close(biwkv(*arguments), biwkv_reference(*arguments), rtol=0, atol=0)


# Runs in a process of its own: the interpreter is chosen when the kernels are defined. Buffers hold NaN
# where a kernel has not written.
_INTERPRETED = """
import contextlib, warnings
import torch
warnings.simplefilter("ignore")
from hpcmcodec.ops import biwkv_triton
from hpcmcodec.ops.biwkv import biwkv_backward_reference, biwkv_reference
from tests.test_ops import inputs

empty, empty_like = torch.empty, torch.empty_like
torch.empty = lambda *a, **k: empty(*a, **k).fill_(float("nan"))
torch.empty_like = lambda *a, **k: empty_like(*a, **k).fill_(float("nan"))
torch.cuda.device_of = lambda x: contextlib.nullcontext()

def check(actual, exact, tolerance):
    assert actual.shape == exact.shape
    error = (actual.double() - exact).abs().max() / exact.abs().max().clamp_min(0.1)
    assert error <= tolerance, float(error)

cases = (1, 5, None), (16, 33, None), (31, 5, None), (33, 70, 8.0), (961, 3, None), (963, 3, -8.0)
for tokens, channels, decay in cases:
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.bfloat16, 2e-2)):
        if dtype is torch.bfloat16 and tokens > 100:
            continue
        w, u, k, v = inputs(tokens, channels, decay=decay, dtype=torch.float32)
        grad = inputs(tokens + 1, channels, dtype=torch.float32)[3][:, :tokens]
        k, v, grad = (x.to(dtype) for x in (k, v, grad))
        exact = [x.double() for x in (w, u, k, v, grad)]
        y = biwkv_triton.forward(w, u, k, v)
        assert y.dtype == dtype
        check(y, biwkv_reference(*exact[:4]), tolerance)
        gradients = biwkv_triton.backward(w, u, k, v, grad)
        for a, b in zip(gradients, biwkv_backward_reference(*exact), strict=True):
            check(a, b, tolerance)
print("checked")
"""


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_triton_kernels() -> None:
    root = Path(__file__).parent.parent
    result = subprocess.run(
        [sys.executable, "-c", _INTERPRETED],
        capture_output=True,
        text=True,
        cwd=root,
        env=os.environ
        | {
            "TRITON_INTERPRET": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(root),
        },
    )
    assert result.stdout == "checked\n", result.stderr[-2000:]

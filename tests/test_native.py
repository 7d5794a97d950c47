"""Native kernels of the exact layers give the very bits of the references, which need no compiler."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hpcmcodec.layers.exact import ExactDepthwise, ExactLinear, Tables
from hpcmcodec.ops import exact, native
from tests.conftest import uniform

if exact.no_native():
    pytest.skip(exact.no_native(), allow_module_level=True)


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A library loaded by one test is not what the next one finds."""
    yield
    monkeypatch.undo()
    native._load.cache_clear()


def whole(shape: tuple[int, ...], name: str, bits: int, reach: int = 32767) -> Tensor:
    """Integers up to `reach`, of which some are that large, / 2^bits."""
    return (uniform(shape, name).double() * reach * 1.05).round().clamp(-reach, reach) / 2**bits


@contextmanager
def poisoned() -> Iterator[None]:
    """Memory that torch or a kernel takes holds something else than zeros: in tensors, what is no number."""
    libc = ctypes.CDLL(None)
    before = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("error")  # torch then fills what is empty
    perturb = -6
    assert libc.mallopt(perturb, 0x5A) if hasattr(libc, "mallopt") else True
    try:
        assert torch.empty(1000, dtype=torch.float64).isnan().all()
        yield
    finally:
        torch.set_deterministic_debug_mode(before)
        if hasattr(libc, "mallopt"):
            libc.mallopt(perturb, 0)


def same(name: str, *arguments: object) -> None:
    """The operator on a CPU and its reference agree to the bit, whatever memory held before."""
    with poisoned():
        here = getattr(exact, name)(*arguments)
    expected = getattr(exact, f"{name}_reference")(*arguments)
    assert here.dtype == expected.dtype == torch.float64
    assert torch.equal(here, expected)
    assert torch.equal(here.signbit() & (here != 0), expected.signbit() & (expected != 0))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("rounded", [True, False])
@pytest.mark.parametrize(
    ("rows", "inputs", "outputs"), [(1, 1, 1), (5, 3, 33), (6, 64, 32), (31, 513, 70), (961, 40, 96)]
)
def test_linear(rows: int, inputs: int, outputs: int, rounded: bool, threads: int) -> None:
    layer = ExactLinear(uniform((outputs, inputs), "weight"), uniform((outputs,), "bias"))
    unit = 2.0 ** torch.arange(outputs, dtype=torch.float64).remainder(5) if rounded else None
    most = torch.full((outputs,), 999.0, dtype=torch.float64) if rounded else None
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        same(
            "exact_linear",
            whole((rows, inputs), "x", 9),
            2.0**9,
            layer.weight,
            layer.step,
            layer.bias,
            unit,
            most,
        )
    finally:
        torch.set_num_threads(before)


def test_weights_as_they_lie() -> None:
    """A matrix may be another's transpose, as those of transposed convolutions are."""
    weight = whole((20, 9), "weight", 0, 127).to(torch.int8).t()
    many = whole((9, 3), "step", 10)[:, 1]
    same("exact_linear", whole((4, 20), "x", 8), 2.0**8, weight, many, many, None, None)


def test_the_largest_sums() -> None:
    """As large as the bound on weights lets them be, of either sign."""
    weight = torch.full((32, 512), 127, dtype=torch.int8)
    weight[::2] *= -1
    one, none = torch.ones(32, dtype=torch.float64), torch.zeros(32, dtype=torch.float64)
    x = torch.full((7, 512), 32767.0, dtype=torch.float64)
    same("exact_linear", x, 1.0, weight, one, none, None, None)
    assert exact.exact_linear(x, 1.0, weight, one, none, None, None).abs().max() == 32767 * 127 * 512


@pytest.mark.parametrize(
    "make", [lambda x: x[..., 3:23], lambda x: x[:, ::2, :, :20], lambda x: x[..., :20].transpose(1, 2)]
)
def test_views(make: object) -> None:
    """Parts of larger tensors, with values side by side or not."""
    x = make(whole((2, 6, 5, 30), "x", 8))  # type: ignore[operator]
    layer = ExactLinear(uniform((9, 20), "weight"), None)
    same("exact_linear", x, 2.0**8, layer.weight, layer.step, layer.bias, None, None)
    same("exact_gate", Tables(*Tables.compute()).gate, whole(tuple(x.shape), "y", 8), x)
    flat = x.flatten(1, 2)
    w = uniform((20,), "w").double()
    same("exact_biwkv", Tables(*Tables.compute()).decay, w, w, flat, flat)


@pytest.mark.parametrize("channels", [1, 8, 20])
@pytest.mark.parametrize("tokens", [1, 2, 31, 33, 961])
def test_biwkv(tokens: int, channels: int) -> None:
    w, u = 8 * uniform((channels,), "w").double(), 3 * uniform((channels,), "u").double()
    kv = torch.cat((whole((2, tokens, channels), "k", 12), whole((2, tokens, channels), "v", 10)), -1)
    k, v = kv.chunk(2, -1)
    same("exact_biwkv", Tables(*Tables.compute()).decay, w, u, k, v)


@pytest.mark.parametrize("rounded", [True, False])
@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize(("height", "width", "channels"), [(1, 1, 1), (2, 7, 33), (9, 4, 64)])
def test_depthwise(height: int, width: int, channels: int, size: int, rounded: bool) -> None:
    layer = ExactDepthwise(uniform((channels, 1, size, size), "kernel"), uniform((channels,), "bias"))
    grid = (2.0**7, 32767.0) if rounded else (None, None)
    same(
        "exact_depthwise",
        whole((2, height, width, channels), "x", 9),
        layer.kernel,
        layer.step,
        layer.bias,
        *grid,
    )


def test_gate() -> None:
    """Also beyond the table's ends."""
    r = torch.linspace(-40, 40, 5001, dtype=torch.float64)[None]
    same("exact_gate", Tables(*Tables.compute()).gate, whole((1, 5001), "x", 9), r)


def test_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    native._load.cache_clear()
    monkeypatch.setenv("HPCM_NATIVE", "0")
    assert "HPCM_NATIVE=0" in exact.no_native()
    test_gate()


@pytest.mark.parametrize(
    ("compiler", "told"), [("/nowhere/c++", "cannot be run"), (f"{sys.executable} -c 1/0", "fails: ")]
)
def test_without_a_working_compiler(
    compiler: str, told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    native._load.cache_clear()
    monkeypatch.setenv("CXX", compiler)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert told in exact.no_native()
    test_gate()
    assert not list(tmp_path.rglob("*.so"))


def test_built_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    native._load.cache_clear()
    native.load(exact.SOURCE)
    (library,) = tmp_path.rglob("*.so")
    native._load.cache_clear()
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("built again"))
    native.load(exact.SOURCE)
    assert [p.name for p in library.parent.iterdir()] == [library.name]


def test_an_unusable_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "hpcmcodec").write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    native._load.cache_clear()
    assert "cannot use exact_cpu" in exact.no_native()
    test_gate()


def test_what_is_no_number_is_looked_up_at_zero() -> None:
    """In a table, kernel and reference take its first value, and never what lies before it."""
    nan, one = float("nan"), torch.ones(1, 3, dtype=torch.float64)
    tables = Tables(*Tables.compute())
    r = torch.tensor([[nan, 0.0, -nan]], dtype=torch.float64)
    same("exact_gate", tables.gate, one, r)
    assert exact.exact_gate(tables.gate, one, r)[0, 0] == tables.gate[0]
    for place in range(4):
        w, u = torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
        k, v = (whole((1, 5, 3), name, 12) for name in "kv")
        for tensor in (w, u, k.view(-1), v.view(-1))[place : place + 1]:
            tensor[1] = nan
        exact.exact_biwkv(tables.decay, w, u, k, v)
        exact.exact_biwkv_reference(tables.decay, w, u, k, v)
    x = torch.full((3, 4), nan, dtype=torch.float64)
    layer = ExactLinear(uniform((2, 4), "weight"), None)
    exact.exact_linear(x, 1.0, layer.weight, layer.step, layer.bias, None, None)


def swapped(
    given: tuple[Tensor | float | None, ...], place: int, value: Tensor | float | None
) -> list[object]:
    return [value if i == place else one for i, one in enumerate(given)]


def test_arguments_that_a_kernel_would_misread() -> None:
    """Another type, shape or device is an error, before memory is read that is not there."""
    layer = ExactLinear(uniform((6, 4), "weight"), uniform((6,), "bias"))
    ones = torch.ones(6, dtype=torch.float64)
    linear = (whole((3, 4), "x", 9), 2.0**9, layer.weight, layer.step, layer.bias, ones, ones)
    wide = ExactDepthwise(uniform((4, 1, 3, 3), "kernel"))
    depthwise = (whole((1, 5, 5, 4), "x", 9), wide.kernel, wide.step, wide.bias, 2.0, 9.0)
    tables = Tables(*Tables.compute())
    four = torch.ones(4, dtype=torch.float64)
    biwkv = (tables.decay, four, four, whole((1, 7, 4), "k", 9), whole((1, 7, 4), "v", 9))
    gate = (tables.gate, whole((3, 4), "x", 9), whole((3, 4), "r", 9))
    cases: list[tuple[str, tuple[Any, ...]]] = [("exact_linear", linear), ("exact_depthwise", depthwise)]
    cases += [("exact_biwkv", biwkv), ("exact_gate", gate)]
    for name, given in cases:
        operator = getattr(exact, name)
        operator(*given)
        for place, argument in enumerate(given):
            if not isinstance(argument, Tensor):
                with pytest.raises(ValueError, match=r"not above zero|given together"):
                    operator(*swapped(given, place, -1.0 if place != 5 else None))
                continue
            if argument.dim() > 1 or not name.endswith(("gate", "biwkv")) or place:
                with pytest.raises(ValueError, match="not torch"):
                    operator(*swapped(given, place, argument[..., 1:]))
            with pytest.raises(ValueError, match="not torch"):
                operator(*swapped(given, place, argument.float()))
    with pytest.raises(ValueError, match="empty table"):
        exact.exact_gate(tables.gate[:0], *gate[1:])
    with pytest.raises(ValueError, match="given together"):
        exact.exact_linear(*linear[:6], None)

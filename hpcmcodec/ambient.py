"""Torch's settings belong to the caller: what is computed here depends on none of them, and changes none.

Some are the thread's (autocast, inference mode, the default device), some the whole process's (how exact
float32 is, the default dtype). Those of the process are ours from the first thread that computes to the last
that ends, and then the caller's again, so that threads that overlap do not undo each other's.

The default dtype and the default device are left alone while pictures are coded: every tensor names its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch

__all__ = ["fresh", "plain", "reproducible"]

Context = Callable[[], AbstractContextManager[None]]


class _Shared:
    """A context of the whole process: the first of the threads in it enters it, the last leaves it."""

    def __init__(self, context: Context) -> None:
        self.context, self.inside = context, 0
        self.lock, self.entered = threading.Lock(), ExitStack()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self.lock:
            if not self.inside:
                self.entered.enter_context(self.context())
            self.inside += 1
        try:
            yield
        finally:
            with self.lock:
                self.inside -= 1
                if not self.inside:
                    self.entered.close()


def _kept(read: Callable[[], Any], write: Callable[[Any], object], ours: Any) -> Context:
    """A setting that is ours inside, and outside what it was."""

    @contextmanager
    def context() -> Iterator[None]:
        before = read()
        if before == ours:
            yield
            return
        write(ours)
        try:
            yield
        finally:
            write(before)

    return context


def _attribute(owner: Any, name: str, ours: Any) -> Context:
    return _kept(partial(getattr, owner, name), partial(setattr, owner, name), ours)


def _full_float32() -> list[Context]:
    """No TF32 or bfloat16 in place of float32."""
    if not hasattr(torch.backends.mkldnn, "matmul"):  # before torch 2.9
        return [_kept(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest")]
    mkldnn: Any = torch.backends.mkldnn
    places = torch.backends.cuda.matmul, mkldnn.matmul, mkldnn.conv
    return [_kept(partial(getattr, p, "fp32_precision"), partial(_set_precision, p), "ieee") for p in places]


def _set_precision(place: Any, precision: str) -> None:
    """One that a more general setting gives already is left to it, whatever that becomes later."""
    place.fp32_precision = "none"
    if place.fp32_precision != precision:
        place.fp32_precision = precision


_ARITHMETIC = (
    *_full_float32(),
    # cuDNN chooses an algorithm by what is fastest here and now; without it there is one.
    _attribute(torch.backends.cudnn, "enabled", False),
    _attribute(torch.backends.cudnn, "benchmark", False),
    _attribute(torch.backends.cudnn, "deterministic", True),
    # Sums of integers are exact in any order: torch need not refuse algorithms whose order varies.
    _kept(torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode, 0),
)


@contextmanager
def _all(contexts: tuple[Context, ...]) -> Iterator[None]:
    with ExitStack() as stack:
        for context in contexts:
            stack.enter_context(context())
        yield


_arithmetic = _Shared(lambda: _all(_ARITHMETIC))
_float32 = _Shared(_kept(torch.get_default_dtype, torch.set_default_dtype, torch.float32))


@contextmanager
def _nothing_cast() -> Iterator[None]:
    with ExitStack() as stack:
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


@contextmanager
def reproducible() -> Iterator[None]:
    """Full float32 and fixed algorithms: encoder and decoder must compute the very same scales."""
    with torch.inference_mode(), _nothing_cast(), _arithmetic():
        yield


@contextmanager
def plain() -> Iterator[None]:
    """This thread as a new one is: nothing cast, the CPU by default, gradients recorded."""
    # To name the CPU where it is the default already would only be one more thing for compilers to trace.
    default = nullcontext() if torch.get_default_device().type == "cpu" else torch.device("cpu")
    with torch.inference_mode(False), torch.enable_grad(), default, _nothing_cast():
        yield


@contextmanager
def fresh() -> Iterator[None]:
    """Torch as a new process finds it: `plain`, and float32 by default in every thread."""
    with plain(), _float32():
        yield

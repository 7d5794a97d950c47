"""Runs checks of Triton kernels on the CPU, by Triton's interpreter."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

__all__ = ["needs_triton", "run_interpreted"]

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="triton is not installed"
)

# Buffers hold NaN where a kernel has not written.
_PRELUDE = """
import contextlib, warnings
import torch
warnings.simplefilter("ignore")

empty, empty_like = torch.empty, torch.empty_like
torch.empty = lambda *a, **k: empty(*a, **k).fill_(float("nan"))
torch.empty_like = lambda *a, **k: empty_like(*a, **k).fill_(float("nan"))
torch.cuda.device_of = lambda x: contextlib.nullcontext()

def check(actual, exact, tolerance):
    assert actual.shape == exact.shape
    error = (actual.double() - exact).abs().max() / exact.abs().max().clamp_min(0.1)
    assert error <= tolerance, float(error)

"""


def run_interpreted(code: str) -> None:
    """Run `code` in a process of its own: the interpreter is chosen when the kernels are defined.

    There it finds torch and `check(actual, exact, tolerance)`, as a share of the largest value.
    """
    root = Path(__file__).parent.parent
    result = subprocess.run(
        [sys.executable, "-c", _PRELUDE + code + "\nprint('checked')"],
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

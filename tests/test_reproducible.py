"""The same file gives the same picture after a restart, and on another machine, to a level of each pixel."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hpcmcodec import zoo
from hpcmcodec.config import model_config

CROP = Path(__file__).parent / "data" / "kodim23-crop.png"
SHIPPED = model_config(phase=4, preset="lite") in zoo.available()

pytestmark = pytest.mark.skipif(not SHIPPED, reason="no weights of phase 4 lite here")


def hpcm(*words: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hpcmcodec", *map(str, words)]
    return subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True)


@pytest.fixture(scope="module")
def coded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file, and beside it the picture that the same settings bring back."""
    path = tmp_path_factory.mktemp("reproducible") / "a.hpcm"
    for words in (("encode", CROP, "-o", path), ("decode", path, "-o", path.with_name("first.png"))):
        result = hpcm(*words, "--threads", "2")
        assert result.returncode == 0, result.stderr
    return path


def test_same_pixels_after_a_restart(coded: Path) -> None:
    again = coded.with_name("again.png")
    assert hpcm("decode", coded, "-o", again, "--threads", "2").returncode == 0
    assert again.read_bytes() == coded.with_name("first.png").read_bytes()


@pytest.mark.parametrize(
    ("threads", "variables"),
    [
        ("1", {}),
        (
            "2",
            {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
        ),
        ("2", {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"}),
    ],
    ids=["one-thread", "avx2", "oldest"],
)
def test_another_machine_agrees(coded: Path, threads: str, variables: dict[str, str]) -> None:
    output = coded.with_name("other.png")
    output.unlink(missing_ok=True)
    result = hpcm("decode", coded, "-o", output, "--threads", threads, **variables)
    assert result.returncode == 0, result.stderr
    pixels = [np.asarray(Image.open(path)).astype(int) for path in (output, coded.with_name("first.png"))]
    assert np.abs(pixels[0] - pixels[1]).max() <= 1


def test_coding_loads_no_compiler() -> None:
    """Start-up is half of what a small picture takes; torch's compiler would add two seconds to it."""
    code = f"""
import sys, torch
from PIL import Image
before = set(sys.modules)
import hpcmcodec
hpcmcodec.decode(hpcmcodec.encode(Image.open({str(CROP)!r})))
print(*{{"sympy", "torch._dynamo"}} & (set(sys.modules) - before))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert not result.stdout.split()

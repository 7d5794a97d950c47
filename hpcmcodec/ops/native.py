"""csrc/*_cpu.cpp, compiled when first needed for the processor at hand, and kept in the user's cache.

Without a compiler, or with HPCM_NATIVE=0, there is none, and the references in torch do the work: the results
are the same, only later.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

__all__ = ["NoNativeError", "load"]

# A fused multiply-add rounds once where two operations round twice, and results would differ.
FLAGS = (
    *("-O3", "-march=native", "-std=c++17", "-fPIC", "-fopenmp"),
    *("-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"),
)
COMPILERS = ("c++", "g++", "clang++")
SECONDS = 120


class NoNativeError(Exception):
    """Why there is no native library here."""


@cache
def load(name: str) -> ctypes.CDLL | NoNativeError:
    """The library of csrc/<name>.cpp, or why there is none: no compiler, one that fails, or switched off."""
    if os.environ.get("HPCM_NATIVE") == "0":
        return NoNativeError("switched off by HPCM_NATIVE=0")
    try:
        return ctypes.CDLL(str(_built(_source(name))))
    except NoNativeError as error:
        return error
    except OSError as error:
        return NoNativeError(f"cannot use {name}: {error}")


def _source(name: str) -> Path:
    package = Path(__file__).resolve().parent.parent
    # In a wheel csrc lies inside the package, in a checkout beside it.
    for folder in (package / "csrc", package.parent / "csrc"):
        if (folder / f"{name}.cpp").is_file():
            return folder / f"{name}.cpp"
    raise NoNativeError(f"csrc/{name}.cpp is missing")


def _built(source: Path) -> Path:
    """The compiled file, from the cache where it is there."""
    compiler = shlex.split(os.environ.get("CXX", "")) or [
        next(filter(None, map(shutil.which, COMPILERS)), "")
    ]
    if not compiler[0]:
        raise NoNativeError("there is no C++ compiler (c++, g++ or clang++)")
    key = hashlib.blake2b(digest_size=10)
    for part in (source.read_bytes(), repr((compiler, FLAGS)).encode(), _processor()):
        key.update(part)
    cached = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hpcmcodec"
    library = cached / f"{source.stem}-{key.hexdigest()}.so"
    if library.is_file():
        return library
    cached.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cached) as folder:
        fresh = Path(folder) / library.name
        # First without the OpenMP library: torch has brought its own, and two would fight for the cores.
        compiled = Path(folder) / "compiled.o"
        _run([*compiler, *FLAGS, "-c", str(source), "-o", str(compiled)])
        link = [*compiler, "-shared", str(compiled), "-o", str(fresh)]
        _run(link)
        try:
            ctypes.CDLL(str(fresh))
        except OSError:
            _run([*link, "-fopenmp"])
        fresh.replace(library)
    return library


def _run(command: list[str]) -> None:
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoNativeError(f"{command[0]} cannot be run: {error}") from error
    if result.returncode:
        first = next((line for line in result.stderr.splitlines() if "error" in line), result.stderr[:200])
        raise NoNativeError(f"{command[0]} fails: {first.strip()}")


def _processor() -> bytes:
    """What `-march=native` depends on: a home may be shared by machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    told = sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))})
    return "\n".join((platform.machine(), platform.processor(), *told)).encode()

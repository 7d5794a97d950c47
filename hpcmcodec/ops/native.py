"""csrc/*_cpu.cpp, compiled when first needed for the processor at hand, and kept in the user's cache.

Without a compiler, or with HPCM_NATIVE=0, there is none, and the references in torch do the work: the results
are the same, only later.

A library that is kept is code that will run here, and a damaged one ends the process. So its name holds the
digest of its content, and it is loaded only if that is right and nobody else could have written it; if not,
it is built anew.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import signal
import stat
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
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
BUILD = "build-"  # how the folders begin in which libraries are made

_loading = threading.Lock()


class NoNativeError(Exception):
    """Why there is no native library here."""


def load(name: str) -> ctypes.CDLL | NoNativeError:
    """The library of csrc/<name>.cpp, or why there is none: no compiler, one that fails, or switched off."""
    with _loading:  # two threads need not compile the same
        return _load(name)


@cache
def _load(name: str) -> ctypes.CDLL | NoNativeError:
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
    compiler = _compiler()
    key = hashlib.blake2b(digest_size=10)
    for part in (source.read_bytes(), repr((compiler, FLAGS)).encode(), _processor()):
        key.update(part)
    folder, kept = _folder(), f"{source.stem}-{key.hexdigest()}-"
    for library in folder.glob(f"{kept}*.so"):
        if _own(library) and library.stem == kept + _digest(library):
            return library
        with suppress(OSError):
            library.unlink()
    return _build(source, compiler, folder, kept)


def _compiler() -> list[str]:
    try:
        command = shlex.split(os.environ.get("CXX", ""))
    except ValueError as error:
        raise NoNativeError(f"CXX is no command: {error}") from None
    command = command or [next(filter(None, map(shutil.which, COMPILERS)), "")]
    if not command[0]:
        raise NoNativeError("there is no C++ compiler (c++, g++ or clang++)")
    return command


def _folder() -> Path:
    """Where libraries are kept: a folder of the user's that nobody else may write to."""
    caches = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not caches.is_absolute():  # such a value is to be ignored, says the specification
        with suppress(RuntimeError):
            caches = Path.home() / ".cache"
    if not caches.is_absolute():
        raise NoNativeError("there is no home directory to keep them in: set HOME or XDG_CACHE_HOME")
    folder = caches / "hpcmcodec"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _private(folder.stat()):
        raise NoNativeError(f"others may write to {folder}, or it is not yours: chmod go-w, or remove it")
    return folder


def _private(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _own(path: Path) -> bool:
    """A file, not a link to one, that nobody else could have written."""
    status = path.lstat()
    return stat.S_ISREG(status.st_mode) and _private(status)


def _digest(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


def _build(source: Path, compiler: list[str], folder: Path, kept: str) -> Path:
    """Compile, and put the library into its place whole."""
    _sweep(folder)
    with tempfile.TemporaryDirectory(prefix=BUILD, dir=folder) as place:
        fresh, compiled = Path(place) / "fresh.so", Path(place) / "compiled.o"
        # First without the OpenMP library: torch has brought its own, and two would fight for the cores.
        _run([*compiler, *FLAGS, "-c", str(source), "-o", str(compiled)])
        link = [*compiler, "-shared", str(compiled), "-o", str(fresh)]
        _run(link)
        try:
            ctypes.CDLL(str(fresh))
        except OSError:
            _run([*link, "-fopenmp"])
        fresh.chmod(0o700)
        with fresh.open("rb+") as file:
            os.fsync(file.fileno())
        return fresh.replace(folder / f"{kept}{_digest(fresh)}.so")


def _sweep(folder: Path) -> None:
    """Remove what builds left behind that were killed: none takes as long."""
    for left in folder.glob(f"{BUILD}*"):
        with suppress(OSError):
            if time.time() - left.lstat().st_mtime > 10 * SECONDS:
                shutil.rmtree(left, ignore_errors=True)


def _run(command: list[str]) -> None:
    english = {**os.environ, "LC_ALL": "C"}
    try:
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=english,
            start_new_session=True,
        ) as process:
            try:
                told = process.communicate(timeout=SECONDS)[1].decode(errors="replace")
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)  # with what it has started
                raise
    except subprocess.TimeoutExpired:
        raise NoNativeError(f"{command[0]} takes longer than {SECONDS} seconds") from None
    except OSError as error:
        raise NoNativeError(f"{command[0]} cannot be run: {error}") from error
    if process.returncode:
        ended = f"ended by signal {-process.returncode}" if process.returncode < 0 else told[:200].strip()
        first = next((line for line in told.splitlines() if "error" in line), ended)
        raise NoNativeError(f"{command[0]} fails: {first.strip()}")


def _processor() -> bytes:
    """What `-march=native` depends on: a home may be shared by machines."""
    try:
        lines = Path("/proc/cpuinfo").read_bytes().splitlines()
    except OSError:
        lines = []
    told = sorted({line for line in lines if line.startswith((b"flags", b"Features", b"model name"))})
    return b"\n".join((f"{platform.machine()}\n{platform.processor()}".encode(), *told))

"""Weights files: read, joined with their base, and checked, as any other input is.

A weights file is a safetensors file: a matrix is int8 with `<name>.step`, a float32 step per output
channel, or float16 where int8 would cost too much; everything else is float32. `tables.*` hold the integer
CDF tables, `exact.*` what the exact entropy path needs besides (see `HPCM.use_exact`). The metadata name the
model. A file may hold only what differs from another file in its folder, its base, which the metadata name
too.
"""

from __future__ import annotations

import hashlib
import json
import math
import stat
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import WeightsError, is_out_of_memory

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "BASE",
    "EXACT",
    "STEP",
    "TABLES",
    "WHOLE",
    "WITHOUT",
    "Stamp",
    "damaged",
    "difference",
    "facts_of",
    "fingerprint",
    "read_weights",
    "stamps_of",
]

STEP = ".step"
TABLES = "tables."
EXACT = "exact."
# Of a file that holds what differs from another: its name, what of it is left out, and what both give.
BASE, WITHOUT, WHOLE = "base", "without", "whole"
# Names in a checkpoint that begin like this are the optimiser's, and follow no rule of weights.
OPTIMISER = "adam."
LONGEST_CHAIN = 8

FLOATS = ("float16", "float32", "float64")
INTEGERS = ("int8", "int32")

# A file, and what changes when it is written anew.
Stamp = tuple[Path, int, int, int, int]


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors as they are stored, those of a base included, and the metadata.

    Raises:
        WeightsError: the file or its base is missing or damaged, or holds what no weights are, or the base is
            another by now.
    """
    stored: dict[str, Tensor] = {}
    left_out: set[str] = set()
    chain = stamps_of(path)
    for file, *_ in chain:
        own, metadata = _read_file(file)
        stored = {name: t for name, t in own.items() if name not in left_out} | stored
        left_out |= _left_out(metadata, file)
    metadata = _metadata(chain[0])
    _check(stored, path)
    whole = metadata.get(WHOLE)
    if whole is not None and fingerprint(stored, ("",)).hex() != whole:
        raise WeightsError(
            f"{path} holds what differs from {metadata.get(BASE, 'another file')}, which is not the file that"
            " it was made with"
        )
    return stored, metadata


def stamps_of(path: Path) -> tuple[Stamp, ...]:
    """The file, its base, and so on: whoever keeps what they hold can see whether they are the same still.

    Raises:
        WeightsError: one is missing or damaged, or they name each other.
    """
    chain: list[Stamp] = []
    while True:
        chain.append(_stamp(path))
        base = _metadata(chain[-1]).get(BASE)
        if base is None:
            return tuple(chain)
        another = base not in ("", "..") and Path(base).name == base
        if not another or any(base == file.name for file, *_ in chain):
            raise WeightsError(f"{path} names {base!r} as its base, which is no file beside it")
        if len(chain) == LONGEST_CHAIN:
            raise WeightsError(f"{chain[0][0]} hangs on more than {LONGEST_CHAIN} files, each another's base")
        path = path.with_name(base)


def _stamp(path: Path) -> Stamp:
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise WeightsError(f"weights file {path} is missing") from error
    except (OSError, ValueError) as error:
        raise WeightsError(f"weights file {path} cannot be read: {error}") from error
    if not stat.S_ISREG(status.st_mode):
        raise WeightsError(f"weights file {path} cannot be read: it is no regular file")
    return path, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


@lru_cache(maxsize=64)
def _metadata(stamp: Stamp) -> dict[str, str]:
    return _open(stamp[0], lambda file: dict(file.metadata() or {}))


def _read_file(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    def read(file: Any) -> tuple[dict[str, Tensor], dict[str, str]]:
        # Copies: what is read lies in the file's own pages, and these go when somebody shortens it.
        return {name: file.get_tensor(name).clone() for name in file.keys()}, file.metadata() or {}  # noqa: SIM118

    return _open(path, read)


def _open(path: Path, use: Any) -> Any:
    from safetensors import SafetensorError, safe_open

    from .ambient import plain

    try:
        with plain(), safe_open(path, framework="pt") as file:
            return use(file)
    except MemoryError:
        raise
    except FileNotFoundError as error:
        raise WeightsError(f"weights file {path} is missing") from error
    except (OSError, SafetensorError, ValueError, KeyError, AttributeError, TypeError) as error:
        if is_out_of_memory(error):
            raise MemoryError from error
        raise WeightsError(f"weights file {path} cannot be read: {error}") from error


def _left_out(metadata: dict[str, str], path: Path) -> set[str]:
    names = _json(metadata.get(WITHOUT, "[]"))
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise damaged(path, "what it leaves out of its base is no list of names")
    return set(names)


def damaged(path: Path, what: str) -> WeightsError:
    """The error that says what is wrong with a file."""
    return WeightsError(f"weights file {path} is damaged: {what}")


def facts_of(metadata: dict[str, str], path: Path) -> dict[str, Any]:
    """What a file tells of its training.

    Raises:
        WeightsError: it is not readable.
    """
    facts = _json(metadata.get("facts", "{}"))
    if not isinstance(facts, dict):
        raise damaged(path, "what it tells of its training cannot be read")
    for name, value in facts.items():
        if name.rpartition("_")[2] in ("step", "steps", "crops", "seconds"):
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not 0 <= value < math.inf:
                raise damaged(path, f"{name} is {value!r}")
    return facts


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _check(stored: dict[str, Tensor], path: Path) -> None:
    """Every tensor is of a type that weights have, finite, and a step positive and of what it belongs to."""
    for name, tensor in stored.items():
        kind = str(tensor.dtype).removeprefix("torch.")
        if kind not in FLOATS + INTEGERS:
            raise damaged(path, f"{name} is of type {kind}")
        if name.startswith(OPTIMISER):
            continue
        if kind in FLOATS and not tensor.isfinite().all():
            raise damaged(path, f"{name} holds what is no finite number")
        if name.endswith(STEP):
            wrong = _wrong_step(tensor, stored.get(name.removesuffix(STEP)))
            if wrong:
                raise damaged(path, f"{name} {wrong}")
        elif kind in INTEGERS and name + STEP not in stored and not name.startswith((TABLES, EXACT)):
            raise damaged(path, f"{name} holds integers without their step")


def _wrong_step(step: Tensor, whole: Tensor | None) -> str:
    """What is wrong with the step of these integers, or nothing."""
    if whole is None or str(whole.dtype) != "torch.int8":
        return "is the step of no integers"
    sides = list(zip(step.shape, whole.shape, strict=False))
    fits = step.dim() == whole.dim() and all(own in (1, side) for own, side in sides)
    if str(step.dtype) != "torch.float32" or not fits or sum(side > 1 for side in step.shape) > 1:
        return "does not fit what it is the step of"
    return "" if (step > 0).all() else "is not above zero"


def difference(stored: dict[str, Tensor], base: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """What of `stored` differs from the file `base`, and the metadata that let `read_weights` join them.

    Raises:
        WeightsError: the base cannot be read.
    """
    import torch

    others, _ = read_weights(base)

    def differs(name: str) -> bool:
        other, own = others.get(name), stored[name]
        return other is None or other.dtype != own.dtype or not torch.equal(other, own)

    metadata = {
        BASE: base.name,
        WITHOUT: json.dumps(sorted(set(others) - set(stored))),
        WHOLE: fingerprint(stored, ("",)).hex(),
    }
    return {name: tensor for name, tensor in stored.items() if differs(name)}, metadata


def fingerprint(stored: dict[str, Tensor], prefixes: tuple[str, ...]) -> bytes:
    """4 bytes over name, type, shape and content of the stored tensors with these prefixes."""
    digest = hashlib.blake2b(digest_size=4)
    for name in sorted(stored):
        if name.startswith(prefixes):
            tensor = stored[name]
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.contiguous().numpy().data)
    return digest.digest()

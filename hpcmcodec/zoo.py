"""From a configuration to a model with its weights; how these are stored, `stored` tells."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config import ModelConfig, model_config, model_configs
from .errors import UsageError, WeightsError, is_out_of_memory
from .stored import (
    BASE,
    EXACT,
    STEP,
    TABLES,
    WHOLE,
    WITHOUT,
    Stamp,
    difference,
    facts_of,
    fingerprint,
    read_weights,
    stamps_of,
)

if TYPE_CHECKING:
    from torch import Tensor

    from .models.hpcm import HPCM

__all__ = [
    "BASE",
    "EXACT",
    "STEP",
    "TABLES",
    "WHOLE",
    "WITHOUT",
    "available",
    "config_of",
    "dequantised",
    "difference",
    "facts_of",
    "fingerprint",
    "give_steps",
    "initial_weights",
    "load_model",
    "manifest",
    "read_weights",
    "stamps_of",
    "weights_dir",
]

DIGEST = "entropy_digest"


def weights_dir() -> Path:
    """Where the weights lie: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "weights"
    return installed if installed.is_dir() else package.parent / "weights"


def manifest() -> dict[str, Any]:
    """`weights/manifest.json`: what there is, its sha256, how it was trained and what was measured."""
    path = weights_dir() / "manifest.json"
    try:
        whole = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {"models": {}}
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read: {error}") from error
    models = whole.get("models") if isinstance(whole, dict) else None
    needed = {"family", "phase", "preset", "file"}
    if not isinstance(models, dict) or any(not needed <= set(m) for m in models.values()):
        raise WeightsError(f"{path} does not list models")
    return whole


def available() -> list[ModelConfig]:
    """The configurations whose weights are here."""
    models = manifest()["models"].values()
    return [model_config(m["phase"], m["preset"], m["family"]) for m in models]


def _shipped(config: ModelConfig) -> Path:
    entry = manifest()["models"].get(config.name)
    if entry is None:
        there = ", ".join(f"{c.family} phase {c.phase} {c.preset}" for c in available()) or "none"
        wanted = f"{config.family} phase {config.phase} {config.preset}"
        raise WeightsError(
            f"no weights for {wanted} yet; available: {there} (or give your own with --weights)"
        )
    return weights_dir() / str(entry["file"])


def dequantised(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The model's parameters of what a file holds, integers times their step."""
    whole = {}
    for name, tensor in stored.items():
        if not name.endswith(STEP) and not name.startswith((TABLES, EXACT)):
            if name + STEP in stored:
                tensor = tensor.float() * stored[name + STEP]
            whole[name] = tensor.float() if tensor.is_floating_point() else tensor
    return whole


def give_steps(model: HPCM, stored: Mapping[str, Tensor]) -> None:
    """Tell each layer that a file holds as integers its `step`, one for each output."""
    for name, step in stored.items():
        if name.endswith(STEP):
            layer = model.get_submodule(name.removesuffix(STEP).rpartition(".")[0])
            setattr(layer, "step", step.flatten().to(model.gain_y.log.device))  # noqa: B010


def initial_weights(config: ModelConfig, path: Path) -> dict[str, Tensor]:
    """Float weights of a file to go on training from.

    Raises:
        WeightsError: the file cannot be read or is of another model.
    """
    stored, metadata = read_weights(path)
    _check_model(metadata, config, path)
    return dequantised(stored)


def _check_model(metadata: dict[str, str], config: ModelConfig, path: Path) -> None:
    if metadata.get("model") != config.name:
        raise WeightsError(
            f"{path} holds weights of {metadata.get('model', 'something else')}, not of {config.name}"
        )


def config_of(path: Path) -> ModelConfig:
    """The configuration that a weights file is for.

    Raises:
        WeightsError: the file cannot be read, or does not say.
    """
    name = read_weights(path)[1].get("model", "")
    config = next((c for c in model_configs() if c.name == name), None)
    if config is None:
        raise WeightsError(f"{path} does not say which model it is of")
    return config


def load_model(
    phase: int = 4,
    preset: str = "lite",
    family: str = "rwkv",
    weights: str | Path | None = None,
    device: str = "auto",
    exact: bool = True,
    apart: bool = False,
) -> HPCM:
    """The model with its weights, ready to code; loaded once per process and device.

    Args:
        phase, preset, family: which model.
        weights: a weights file to use instead of the one that comes with the package.
        device: cpu, cuda, or auto, which is cpu: a picture takes a CPU a second or two.
        exact: with the entropy path that gives the same on every machine; without, in float32.
        apart: another one, which shares nothing with the model that is given out otherwise.

    Raises:
        UsageError: there is no such model or device.
        WeightsError: there are no weights for it, or the file is not its own.
    """
    config = model_config(phase, preset, family)
    path = _shipped(config) if weights is None else Path(weights)
    load = _load_apart if apart else _load
    return load(config, stamps_of(Path(os.path.realpath(path))), _place(device), exact)


def _place(device: str) -> str:
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"unknown device {device!r}: choose from auto, cpu, cuda")
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise UsageError("there is no CUDA device here: choose cpu or auto")
    return "cuda" if device == "cuda" else "cpu"


def _under(prefix: str, stored: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in stored.items() if name.startswith(prefix)}


def _build(config: ModelConfig, files: tuple[Stamp, ...], device: str, exact: bool) -> HPCM:
    """The model of the first of these files; the others are there to be told apart when they change."""
    import torch

    from .ambient import plain
    from .models.hpcm import ENTROPY_PARTS, HPCM, SYNTHESIS_PARTS

    path = files[0][0]
    with plain(), _fitting(config, path):
        stored, metadata = read_weights(path)
        _check_model(metadata, config, path)
        with torch.device("meta"):
            model = HPCM(config)
        model.load_weights(dequantised(stored), assign=True)
        model.use_tables({name: t.numpy() for name, t in _under(TABLES, stored).items()})
        if exact:
            arrays = _under(EXACT, stored)
            if not arrays:
                raise WeightsError(f"{path} was made before the exact entropy path: export it anew")
            give_steps(model, stored)
            model.use_exact(arrays)
        model.entropy_digest = metadata.get(DIGEST, "")
        model.entropy_id = fingerprint(stored, (*ENTROPY_PARTS, TABLES, EXACT))
        model.synthesis_id = fingerprint(stored, SYNTHESIS_PARTS)
        return model.eval().requires_grad_(False).to(device).to(memory_format=torch.channels_last)


@contextmanager
def _fitting(config: ModelConfig, path: Path) -> Iterator[None]:
    """What building a model raises where shapes are not the model's, or an integer has more than 8 bits."""
    try:
        yield
    except WeightsError:
        raise
    except (RuntimeError, ValueError, KeyError, AttributeError) as error:
        if is_out_of_memory(error):
            raise
        told = str(error).splitlines() or [type(error).__name__]
        raise WeightsError(f"{path} does not fit {config.name}: {told[-1].strip()}") from error


_load = lru_cache(maxsize=4)(_build)
_load_apart = lru_cache(maxsize=1)(_build)

"""From a configuration to a model with its weights, and the format that weights are stored in.

A weights file is a safetensors file: a matrix is int8 with `<name>.step`, a float32 step per output
channel, or float16 where int8 would cost too much; everything else is float32. `tables.*` hold the integer
CDF tables, `exact.*` what the exact entropy path needs besides (see `HPCM.use_exact`). The metadata name the
model. A file may hold only what differs from another file in its folder, its base, which the metadata name
too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config import ModelConfig, model_config, model_configs
from .errors import UsageError, WeightsError

if TYPE_CHECKING:
    from torch import Tensor

    from .models.hpcm import HPCM

__all__ = [
    "available",
    "config_of",
    "dequantised",
    "difference",
    "fingerprint",
    "give_steps",
    "initial_weights",
    "load_model",
    "manifest",
    "read_weights",
    "weights_dir",
]

STEP = ".step"
TABLES = "tables."
EXACT = "exact."
DIGEST = "entropy_digest"
# Of a file that holds what differs from another: its name, what of it is left out, and what both give.
BASE, WITHOUT, WHOLE = "base", "without", "whole"


def weights_dir() -> Path:
    """Where the weights lie: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "weights"
    return installed if installed.is_dir() else package.parent / "weights"


def manifest() -> dict[str, Any]:
    """`weights/manifest.json`: what there is, its sha256, how it was trained and what was measured."""
    path = weights_dir() / "manifest.json"
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return {"models": {}}
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read: {error}") from error


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


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors as they are stored, those of a base included, and the metadata.

    Raises:
        WeightsError: the file or its base is missing or damaged, or the base is another by now.
    """
    stored, metadata = _read_chain(path)
    if WHOLE in metadata and fingerprint(stored, ("",)).hex() != metadata[WHOLE]:
        raise WeightsError(
            f"{path} holds what differs from {metadata[BASE]}, which is not the file that it was made with"
        )
    return stored, metadata


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


def _read_chain(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    stored, metadata = _read_file(path)
    base = metadata.get(BASE)
    if base is not None:
        if Path(base).name != base or base == path.name:
            raise WeightsError(f"{path} names {base!r} as its base, which is no file beside it")
        without = set(json.loads(metadata.get(WITHOUT, "[]")))
        others, _ = _read_chain(path.with_name(base))
        stored = {name: t for name, t in others.items() if name not in without} | stored
    return stored, metadata


def _read_file(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    from .ambient import plain

    try:
        with plain(), safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except FileNotFoundError as error:
        raise WeightsError(f"weights file {path} is missing") from error
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"weights file {path} cannot be read: {error}") from error


def fingerprint(stored: dict[str, Tensor], prefixes: tuple[str, ...]) -> bytes:
    """4 bytes over name, type, shape and content of the stored tensors with these prefixes."""
    digest = hashlib.blake2b(digest_size=4)
    for name in sorted(stored):
        if name.startswith(prefixes):
            tensor = stored[name]
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.contiguous().numpy().data)
    return digest.digest()


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
    return load(config, path.resolve(), _place(device), exact)


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


def _build(config: ModelConfig, path: Path, device: str, exact: bool) -> HPCM:
    import torch

    from .ambient import plain
    from .models.hpcm import ENTROPY_PARTS, HPCM, SYNTHESIS_PARTS

    with plain():
        stored, metadata = read_weights(path)
        _check_model(metadata, config, path)
        with torch.device("meta"):
            model = HPCM(config)
        try:
            model.load_weights(dequantised(stored), assign=True)
        except RuntimeError as error:
            raise WeightsError(
                f"{path} does not fit {config.name}: {str(error).splitlines()[-1].strip()}"
            ) from error
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


_load = lru_cache(maxsize=4)(_build)
_load_apart = lru_cache(maxsize=1)(_build)

"""What a run begins with: weights, or the state that another run, or the same one, was left in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..config import ModelConfig
from ..errors import UsageError, WeightsError
from ..models import HPCM, TUNE_PARTS
from ..stored import damaged
from ..zoo import STEP, dequantised, facts_of, initial_weights, read_weights
from .optimizer import FlatParameters, Optimizer

__all__ = [
    "CHECKPOINT",
    "COUNTS",
    "KEPT",
    "Beginning",
    "checkpoint_in",
    "layout_of",
    "told",
    "trained",
]

CHECKPOINT = "checkpoint.safetensors"
# What is counted, first of this run, which the schedule follows, then of all runs it goes on from.
COUNTS = ("step", "crops", "seconds", "total_steps", "total_crops")
# In a checkpoint, before the names of weights that are not trained.
KEPT = "kept."


def _among(name: str, parts: tuple[str, ...]) -> bool:
    return any(name == part or name.startswith(part + ".") for part in parts)


def told(parts: tuple[str, ...]) -> dict[str, object]:
    """What a file tells of the parts that alone were trained; of a whole model, nothing."""
    return {"parts": parts} if parts else {}


def trained(model: HPCM, parts: tuple[str, ...]) -> list[tuple[str, nn.Parameter]]:
    """The parameters that are trained, by name: all, or those of `parts`. The others are frozen."""
    named = list(model.named_parameters())
    if not parts:
        return named
    for name, parameter in named:
        parameter.requires_grad_(_among(name, parts))
    return [(name, parameter) for name, parameter in named if parameter.requires_grad]


def layout_of(model: HPCM) -> str:
    """A digest of which weight lies where in the flat buffers, which a checkpoint shares with its reader."""
    places = [(name, p.storage_offset(), list(p.shape)) for name, p in model.named_parameters()]
    return hashlib.blake2b(json.dumps(places).encode(), digest_size=8).hexdigest()


@dataclass(frozen=True)
class Beginning:
    """What a run begins with.

    facts: counts, by their names in `COUNTS`.
    parts: what alone is trained; none: all.
    weights: by name, in float: all, or where `parts` are trained those of the rest.
    kept: the rest as it is stored, in integers if it was rounded.
    state: of the optimiser, of a checkpoint, laid out as `layout`, and the average that its run ended with.
    """

    path: Path | None
    facts: dict[str, float]
    parts: tuple[str, ...] = ()
    weights: dict[str, Tensor] = field(default_factory=dict)
    kept: dict[str, Tensor] = field(default_factory=dict)
    state: dict[str, Tensor] = field(default_factory=dict)
    layout: str | None = None
    average: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.float32, device="cpu"))

    @classmethod
    def new(cls) -> Beginning:
        """From random weights."""
        return cls(None, dict.fromkeys(COUNTS, 0))

    @classmethod
    def read(
        cls, config: ModelConfig, path: Path, parts: tuple[str, ...] | None = None, resume: bool = False
    ) -> Beginning:
        """From a weights file or a checkpoint.

        Args:
            parts: what alone is to be trained; default: what the checkpoint's run trained.
            resume: go on where the checkpoint's schedule stood, not at the beginning of a new one.

        Raises:
            WeightsError: it cannot be read, is of another model, or lacks what is not trained.
            UsageError: the model has no such part, or the checkpoint is of a run that trained others.
        """
        stored, metadata = read_weights(path)
        known = facts_of(metadata, path)
        steps, crops = known.get("step", 0), known.get("crops", 0)
        totals = known.get("total_steps", steps), known.get("total_crops", crops)
        new = dict(zip(COUNTS, (0, 0, 0.0, *totals), strict=True))
        if "raw" not in stored:
            if parts:
                kept = _rest(config, path, stored, parts)
                return cls(path, cls.new().facts, parts, dequantised(kept), kept)
            return cls(path, new, weights=initial_weights(config, path))
        if known.get("model") != config.name:
            raise WeightsError(f"{path} is of {known.get('model', 'something else')}, not of {config.name}")
        trained_there = _parts(known, path)
        if parts is not None and parts != trained_there:
            raise UsageError(
                f"the run of {path} trained {', '.join(trained_there) or 'the whole model'}: ask for the"
                " same, or start from its weights file"
            )
        facts = new | {name: known[name] for name in COUNTS if name in known} if resume else new
        kept = {name.removeprefix(KEPT): t for name, t in stored.items() if name.startswith(KEPT)}
        state = {name: t for name, t in stored.items() if not name.startswith(KEPT)}
        if "ema" not in state:
            raise damaged(path, "a checkpoint without its average")
        average = state["ema"]
        if not resume:  # the old average is of a schedule that is over
            state["ema"] = state["raw"]
        return cls(path, facts, trained_there, dequantised(kept), kept, state, known.get("layout"), average)

    @property
    def totals(self) -> dict[str, object]:
        """What a weights file tells of the training so far."""
        return {n: int(self.facts[n]) for n in COUNTS[-2:]} | told(self.parts)

    @property
    def rounded(self) -> dict[str, Tensor]:
        """`kept`, if it is of a file that was rounded."""
        return self.kept if any(name.endswith(STEP) for name in self.kept) else {}

    def fill(self, model: HPCM) -> None:
        """Put the named weights into the model."""
        if self.weights:
            try:
                model.load_weights(self.weights, strict=not self.parts)
            except RuntimeError as error:
                raise WeightsError(f"{self.path} does not fit {model.config.name}") from error

    def restore(self, model: HPCM, optimizer: Optimizer) -> None:
        """Put the state into the optimiser, and with it the raw weights into the model."""
        if self.state:
            with self._laid_out_as(model):
                optimizer.load(self.state)

    def fill_average(self, model: HPCM) -> None:
        """Put the average of the run into the model, if it is a run that this is read from."""
        if self.state:
            flat = FlatParameters(trained(model, self.parts))
            with self._laid_out_as(model):
                flat.data.copy_(self.average)

    @contextmanager
    def _laid_out_as(self, model: HPCM) -> Iterator[None]:
        try:
            if self.layout not in (None, layout_of(model)):
                raise KeyError(self.layout)
            yield
        except (KeyError, RuntimeError) as error:
            raise WeightsError(
                f"{self.path} is of another version of this model: start from weights with --init"
            ) from error


def _parts(known: dict[str, Any], path: Path) -> tuple[str, ...]:
    parts = known.get("parts", [])
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise WeightsError(
            f"weights file {path} is damaged: the parts that were trained are no list of names"
        )
    return tuple(parts)


def _rest(
    config: ModelConfig, path: Path, stored: dict[str, Tensor], parts: tuple[str, ...]
) -> dict[str, Tensor]:
    """What a weights file, of any phase, holds of a model besides `parts`, as it is stored."""
    with torch.device("meta"):
        named = dict(HPCM(config).named_parameters())
    for part in parts:
        if not any(_among(name, (part,)) for name in named):
            raise UsageError(f"{config.name} has no part {part}")
    wanted = {name: p for name, p in named.items() if not _among(name, parts)}
    kept = {name: t for name, t in stored.items() if name.removesuffix(STEP) in wanted}
    required = {n: p for n, p in wanted.items() if n in kept or not n.startswith(TUNE_PARTS)}
    lacking = [n for n, p in required.items() if n not in kept or kept[n].shape != p.shape]
    if lacking:
        raise WeightsError(
            f"{path} has no {lacking[0].rpartition('.')[0]} as {config.name} wants it: train that part too"
        )
    return kept


def checkpoint_in(folder: Path) -> Path:
    """The checkpoint of the run in a folder.

    Raises:
        UsageError: there is none.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        raise UsageError(f"there is no checkpoint to go on from in {folder}")
    return path

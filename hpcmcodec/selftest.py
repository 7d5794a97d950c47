"""Does this machine compute what the weights' own digests say? Whether files decode depends on it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from . import zoo
from .ambient import reproducible
from .config import ModelConfig
from .entropy.tables import raw_scale_index
from .errors import WeightsError
from .models.exact import STATE_BITS

if TYPE_CHECKING:
    from .models import HPCM
    from .models.schedule import Step

__all__ = ["GRIDS", "QUALITIES", "Outcome", "entropy_digest", "selftest"]

# Sizes in samples of z (64 pixels each) and qualities that the digest covers.
GRIDS = ((1, 1), (2, 3), (5, 4))
QUALITIES = (1.0, 4.0, 6.37890625, 8.0)


@dataclass
class _Recorder:
    """A coder that gives pseudo-random symbols and digests every scale index and mean it is handed."""

    seed: int
    digest: Any = field(default_factory=lambda: hashlib.blake2b(digest_size=16))

    def code(self, step: Step, scales: Tensor, means: Tensor) -> Tensor:
        self.digest.update(_bytes(raw_scale_index(scales)))
        whole = means.double() * 2.0**STATE_BITS
        self.digest.update(_bytes(whole))
        assert torch.equal(whole, whole.round()), "means off their grid"
        return means + _integers(self.seed + step.number, tuple(means.shape), 3).to(means)


def _bytes(x: Tensor) -> bytes:
    return x.cpu().to(torch.int32).numpy().astype("<i4").tobytes()


def _integers(seed: int, shape: tuple[int, ...], reach: int) -> Tensor:
    """From a generator of integers, which is the same everywhere; small ones mostly."""
    dice = np.random.Generator(np.random.PCG64(seed))
    drawn = dice.integers(-reach, reach + 1, shape) * dice.integers(0, 2, shape)
    return torch.from_numpy(drawn).double()


def entropy_digest(model: HPCM) -> str:
    """32 hexadecimal digits over every scale index and mean that fixed integer inputs lead to.

    Args:
        model: with the exact entropy path, on any device.
    """
    device = model.gain_y.log.device
    whole = hashlib.blake2b(digest_size=16)
    for number, (rows, columns) in enumerate(GRIDS):
        for quality in QUALITIES:
            recorder = _Recorder(1000 * number)
            z_hat = _integers(number, (1, model.config.sizes.N, rows, columns), 8).to(device)
            q = torch.tensor([quality], dtype=torch.float32, device=device)
            with reproducible():
                params = model.hyper_synthesise(z_hat, q)
                model.decompress_hpcm(params, recorder)
            whole.update(recorder.digest.digest())
    return whole.hexdigest()


@dataclass(frozen=True)
class Outcome:
    """One model's digest here, and the one that is stored beside its weights."""

    config: ModelConfig
    here: str
    stored: str

    @property
    def passed(self) -> bool:
        return self.here == self.stored


def selftest(config: ModelConfig, weights: str | Path | None = None, device: str = "auto") -> Outcome:
    """Compare a model's digest with that of the manifest, or of the weights file, where one is given.

    Raises:
        WeightsError: there are no such weights, or they have no digest.
    """
    model = zoo.load_model(config.phase, config.preset, config.family, weights=weights, device=device)
    if not model.entropy_digest:
        of = weights or f"the weights of {config.name}"
        raise WeightsError(f"{of} hold no digest to compare with: export them anew")
    return Outcome(config, entropy_digest(model), model.entropy_digest)

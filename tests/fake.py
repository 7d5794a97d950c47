"""A stand-in for the model, so that what stands around it is tested in milliseconds: it keeps the pixels."""

from __future__ import annotations

import zlib
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hpcmcodec.config import ModelConfig, model_config
from hpcmcodec.errors import ModelMismatchError, WeightsError

__all__ = ["FakeModel", "install"]


class FakeModel(torch.nn.Module):
    """Lossless: the latent is the pixels, the stream of y is the latent deflated, that of z its checksum."""

    entropy_id = b"\x01\x02\x03\x04"
    synthesis_id = b"\x05\x06\x07\x08"

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = SimpleNamespace(family=config.family, sizes=SimpleNamespace(M=3 * 16 * 16))
        self.gain_y = SimpleNamespace(log=torch.nn.Parameter(torch.zeros(1)))
        self.anchor = self.gain_y.log

    def latent(self, x: torch.Tensor) -> torch.Tensor:
        assert x.shape[:2] == (1, 3)
        assert x.shape[2] % 16 == x.shape[3] % 16 == 0
        return torch.nn.functional.pixel_unshuffle(x, 16)

    def compress_latent(self, latent: torch.Tensor, quality: float) -> SimpleNamespace:
        assert latent.shape[2] % 4 == latent.shape[3] % 4 == 0
        kept = latent.mul(255).round().byte().numpy().tobytes()
        checksum = zlib.crc32(kept).to_bytes(8, "little")
        y_hat = latent.permute(0, 2, 3, 1)
        return SimpleNamespace(z=checksum, y=zlib.compress(kept), checksum=checksum, y_hat=y_hat)

    def decompress_latent(
        self, z: bytes, y: bytes, checksum: bytes, height: int, width: int, quality: float
    ) -> torch.Tensor:
        if z != checksum:
            raise ModelMismatchError("the latent decoded here is not the one that was encoded")
        kept = torch.frombuffer(bytearray(zlib.decompress(y)), dtype=torch.uint8)
        return kept.reshape(1, 768, height // 16, width // 16).permute(0, 2, 3, 1).float().div(255)

    def synthesise(self, y_hat: torch.Tensor, quality: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.pixel_shuffle(y_hat.permute(0, 3, 1, 2), 16)


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the zoo give out the stand-in, for phase 4 of `lite` and `tiny`."""

    def load_model(phase: int = 4, preset: str = "lite", family: str = "rwkv", **kwargs: Any) -> FakeModel:
        config = model_config(phase, preset, family)
        if phase != 4:
            raise WeightsError(f"there are no weights for phase {phase}: phases with weights are 4")
        return FakeModel(config)

    monkeypatch.setattr("hpcmcodec.zoo.load_model", load_model)

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
    """Lossless: the stream of y is the deflated picture, that of z its checksum."""

    entropy_id = b"\x01\x02\x03\x04"
    synthesis_id = b"\x05\x06\x07\x08"

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.anchor = torch.nn.Parameter(torch.zeros(1))

    def compress(self, x: torch.Tensor, quality: float) -> SimpleNamespace:
        assert x.shape[:2] == (1, 3)
        assert x.shape[2] % 64 == x.shape[3] % 64 == 0
        pixels = x.mul(255).round().byte().numpy().tobytes()
        checksum = zlib.crc32(pixels).to_bytes(8, "little")
        return SimpleNamespace(z=checksum, y=zlib.compress(pixels), checksum=checksum)

    def decompress(
        self, z: bytes, y: bytes, checksum: bytes, height: int, width: int, quality: float
    ) -> torch.Tensor:
        if z != checksum:
            raise ModelMismatchError("the latent decoded here is not the one that was encoded")
        pixels = torch.frombuffer(bytearray(zlib.decompress(y)), dtype=torch.uint8)
        return pixels.reshape(1, 3, height, width).float().div(255)


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the zoo give out the stand-in, for phase 4 of `lite` and `tiny`."""

    def load_model(phase: int = 4, preset: str = "lite", family: str = "rwkv", **kwargs: Any) -> FakeModel:
        config = model_config(phase, preset, family)
        if phase != 4:
            raise WeightsError(f"there are no weights for phase {phase}: phases with weights are 4")
        return FakeModel(config)

    monkeypatch.setattr("hpcmcodec.zoo.load_model", load_model)

"""Targets on pictures whose size and PSNR rise and fall with the quality; the model is a stand-in."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hpcmcodec import codec
from hpcmcodec.codec import Encoded, Target
from tests import fake

QUALITIES = [1 + i / 2 for i in range(15)]


@dataclass
class Model:
    """Of a flat picture: bytes of the stream and levels by which all samples are off, by quality."""

    size: Callable[[float], int] = lambda quality: 1000
    off: Callable[[float], float] = lambda quality: 1.0
    tried: list[float] = field(default_factory=list)

    def encode(self, side: int = 64, **target: float) -> Encoded:
        self.tried.clear()
        pixels = np.full((side, side, 3), 128, np.uint8)
        return codec.encode_picture(pixels, target=Target(**target))  # type: ignore[arg-type]

    def overhead(self) -> int:
        """Bytes of the file around the stream."""
        pixels = np.full((64, 64, 3), 128, np.uint8)
        return len(codec.encode_picture(pixels, 3).data) - self.size(3)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Model:
    fake.install(monkeypatch)
    model = Model()

    def compress(self: fake.FakeModel, latent: torch.Tensor, quality: float) -> SimpleNamespace:
        model.tried.append(quality)
        y_hat = latent.permute(0, 2, 3, 1) + model.off(quality) / 255
        return SimpleNamespace(z=bytes(8), y=bytes(model.size(quality)), checksum=bytes(8), y_hat=y_hat)

    monkeypatch.setattr(fake.FakeModel, "compress_latent", compress)
    return model


def psnr(levels: float) -> float:
    return 20 * math.log10(255 / levels)


@pytest.mark.parametrize("only", [1, 1.5, 4, 5.125, 7.5, 8])
def test_a_size_is_kept_if_any_quality_keeps_it(model: Model, only: float) -> None:
    """Flat grey of 64 x 64 takes 87 bytes at quality 4, 91 at most others and 95 at the best."""
    model.size = lambda quality: 987 if quality == only else 991
    limit = model.overhead() + 987
    for size in (limit, limit + 1, limit + 3):
        found = model.encode(size=size)
        assert (found.quality, found.notes) == (only, ())
        found = model.encode(bpp=8 * size / 64**2)
        assert (found.quality, found.notes) == (only, ())
    below = model.encode(size=limit - 1)
    assert below.quality == only
    assert below.notes == (f"{limit - 1:,} bytes cannot be reached: {limit:,} is nearest",)


@pytest.mark.parametrize("only", [1, 2, 4.5, 6.625, 8])
def test_a_psnr_is_kept_if_any_quality_keeps_it(model: Model, only: float) -> None:
    model.off = lambda quality: 2 if quality == only else 3
    for wanted in (psnr(3) + 0.1, psnr(2) - 1, psnr(2)):
        found = model.encode(psnr=wanted)
        assert found.psnr is not None
        assert found.quality == only and found.psnr == pytest.approx(psnr(2))
        assert not any("cannot be reached" in note for note in found.notes)
    found = model.encode(psnr=psnr(2) + 0.01)
    assert found.quality == only
    assert found.notes == (f"{psnr(2) + 0.01:g} dB cannot be reached: 42.1102 dB is nearest",)


def test_a_psnr_that_only_a_picture_without_loss_has(model: Model) -> None:
    model.off = lambda quality: 0 if quality == 6 else 1
    found = model.encode(psnr=99)
    assert (found.quality, found.psnr) == (6, math.inf)
    assert found.notes == ("99 dB is exceeded: a picture without loss is the nearest found above it",)


@pytest.mark.parametrize("end", [1, 8])
def test_a_target_that_is_what_an_end_gives(model: Model, end: float) -> None:
    model.size = lambda quality: round(1000 * math.exp(0.28 * quality))
    model.off = lambda quality: 18 - 2 * round(quality)
    size = model.overhead() + model.size(end)
    assert (found := model.encode(size=size)).quality == end and not found.notes and len(found.data) == size
    assert (found := model.encode(bpp=8 * size / 64**2)).quality == end and not found.notes
    found = model.encode(psnr=psnr(model.off(end)))
    assert round(found.quality) == end and not found.notes


def test_targets_beyond_both_ends(model: Model) -> None:
    model.size = lambda quality: round(1000 * math.exp(0.28 * quality))
    model.off = lambda quality: 18 - 2 * round(quality)
    over = model.overhead()
    low, high = (over + model.size(quality) for quality in (1, 8))
    for target, quality, note in (
        ({"size": 10}, 1, f"10 bytes cannot be reached: {low:,} is nearest"),
        ({"size": low - 1}, 1, f"{low - 1:,} bytes cannot be reached: {low:,} is nearest"),
        ({"size": 10**9}, 8, f"1,000,000,000 bytes cannot be reached: {high:,} is nearest"),
        ({"bpp": 1e-6}, 1, f"1e-06 bpp cannot be reached: {8 * low / 64**2:.6g} is nearest"),
        ({"bpp": 1e6}, 8, f"1e+06 bpp cannot be reached: {8 * high / 64**2:.6g} is nearest"),
    ):
        found = model.encode(**target)
        assert (found.quality, found.notes) == (quality, (note,))
    found = model.encode(psnr=99)
    assert round(found.quality) == 8 and "99 dB cannot be reached: 42.1102 dB is nearest" in found.notes
    found = model.encode(psnr=9)
    assert round(found.quality) == 1 and "9 dB is exceeded: 24.0484 dB" in found.notes[0]


@pytest.mark.parametrize(("side", "most"), [(64, 80), (256, 40), (1024, 20)])
def test_what_is_out_of_reach_costs_less_on_large_pictures(model: Model, side: int, most: int) -> None:
    model.encode(side, psnr=99)
    assert set(range(1, 9)) <= set(model.tried)
    assert len(model.tried) <= most
    model.encode(side, size=10)  # far below all that there is: not worth a scan
    assert len(model.tried) <= 13


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 1), (3, 5, 3)])
def test_tiny_pictures_of_a_real_model(tiny_weights: Callable[[int], object], shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, shape, dtype=np.uint8)
    options = {"preset": "tiny", "weights": tiny_weights(4)}
    files = {q: codec.encode_picture(pixels, q, **options) for q in QUALITIES}  # type: ignore[arg-type]
    sizes = [len(file.data) for file in files.values()]
    found = codec.encode_picture(pixels, target=Target(size=min(sizes)), **options)  # type: ignore[arg-type]
    assert len(found.data) == min(sizes) and not found.notes
    errors = [
        np.square(
            np.asarray(codec.decode(file.data, tiny_weights(4)).convert("RGB")).astype(int)  # type: ignore[arg-type]
            - (pixels if pixels.ndim == 3 else pixels[..., None])
        ).mean()
        for file in files.values()
    ]
    goal = 10 * math.log10(255**2 / min(errors)) if min(errors) else 120.0
    found = codec.encode_picture(pixels, target=Target(psnr=goal), **options)  # type: ignore[arg-type]
    assert found.psnr is not None and found.psnr >= goal - 1e-9

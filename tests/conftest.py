"""Small models that behave like trained ones, for every phase, and the pictures that they are tried on."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from hpcmcodec import cli, zoo
from hpcmcodec.config import PHASES, ModelConfig, model_config
from hpcmcodec.entropy.coders import SymbolWriter
from hpcmcodec.models import HPCM
from hpcmcodec.training import export as exporting
from hpcmcodec.training import run
from hpcmcodec.training.export import export
from tests import fake

Hpcm = Callable[..., tuple[int, str, str]]

DATA = Path(__file__).parent / "data"
TINY = [model_config(phase, "tiny") for phase in range(len(PHASES["rwkv"]))]


def config_id(config: ModelConfig) -> str:
    return config.name


every_phase = pytest.mark.parametrize("config", TINY, ids=config_id)


def kodak_crop(name: str = "kodim23") -> NDArray[np.uint8]:
    with Image.open(DATA / f"{name}-crop.png") as image:
        return np.array(image.convert("RGB"))


def to_input(rgb: NDArray[np.uint8]) -> Tensor:
    """H x W x 3 bytes to `1 x 3 x H x W` in [0, 1]."""
    return torch.from_numpy(rgb).permute(2, 0, 1)[None].float().div(255)


def uniform(shape: tuple[int, ...] | torch.Size, name: str) -> Tensor:
    """Numbers in (-1, 1) that depend on the name alone: integers are the same on every machine."""
    dice = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    return torch.from_numpy(dice.integers(-(2**20), 2**20, tuple(shape)) / 2**20).float()


def sample_batches() -> list[Tensor]:
    """What test models are rounded for."""
    crop = to_input(kodak_crop())
    height, width = (side // 64 * 64 for side in crop.shape[2:])
    noise = uniform((1, 3, 128, 128), "sample").add(1).div(2)
    return [crop[..., :height, :width], noise]


def build_tiny(config: ModelConfig) -> HPCM:
    """A model whose symbols are as varied as a trained one's; initial weights code nothing but zeros."""
    model = HPCM(config)
    for name, p in model.named_parameters():
        draw, leaf = uniform(p.shape, name), name.rpartition(".")[2]
        if leaf == "log":
            p.data.add_(0.1 * draw)
        elif leaf in ("decay", "boost"):
            p.data = 3 * draw
        elif leaf == "weight" and p.dim() > 1:
            p.data = draw * (3 / (p.numel() / p.shape[0])) ** 0.5
        elif leaf == "bias":
            p.data = 0.1 * draw
        elif leaf in ("point", "small", "large"):
            p.data = 0.2 * draw
    latent = config.sizes.M
    model.gain_y.log.data -= 0.2
    model.gain_z.log.data += 1.0
    model.scale_z.log.data += torch.linspace(-1.5, 1.5, config.sizes.N)
    # Scales of all sizes, from those too small for their channel (escapes) to those too large.
    ramp = torch.linspace(-1, 5, latent)[torch.arange(latent) * 11 % latent]
    project = model.h_s[-1].project
    heads = (model.context.prior.head, model.context.prior_s3.head)
    for layer in (project, *heads):
        assert isinstance(layer, nn.Linear | nn.Conv2d)
        layer.weight.data *= 0.15
        assert layer.bias is not None
        layer.bias.data[:latent] += ramp
    picture = model.g_s[-1]
    assert isinstance(picture, nn.ConvTranspose2d)
    picture.weight.data *= 0.05
    nn.init.constant_(picture.bias, 0.5)  # type: ignore[arg-type]
    return model.eval()


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Models this small gain nothing from more, and waiting threads starve a busy machine."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """A weights file of `tiny` for a phase, as `--weights` takes it."""
    folder = tmp_path_factory.mktemp("weights")

    @cache
    def weights(phase: int) -> Path:
        path = folder / f"tiny-{phase}.safetensors"
        export(build_tiny(TINY[phase]), path, {}, sample_batches())
        return path

    return weights


@pytest.fixture
def quick_export(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run ends without fitting tables, which takes longer than the few steps that are trained in tests.

    Only there: weights that a shared fixture makes meanwhile are as they are always.
    """

    def quick(*args: Any) -> None:
        with monkeypatch.context() as within:
            within.setattr(exporting, "fit_tables", lambda model, batches: model.tables)
            within.setattr(exporting, "entropy_digest", lambda model: "")
            export(*args)

    monkeypatch.setattr(run, "export", quick)
    monkeypatch.setattr(run, "TABLE_BATCHES", 1)


@pytest.fixture(scope="session")
def tiny(tiny_weights: Callable[[int], Path]) -> Callable[[int], HPCM]:
    """The model of that file for a phase; shared by all tests, so not to be changed."""
    return cache(lambda phase: zoo.load_model(phase, "tiny", weights=tiny_weights(phase)))


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[tuple[SymbolWriter, Tensor]]:
    """All symbols that are written from here on, `1 x H x W x C` at a time, each with its stream."""
    kept: list[tuple[SymbolWriter, Tensor]] = []
    write = SymbolWriter.write

    def record(self: SymbolWriter, q: Tensor, indexes: NDArray[np.int32]) -> None:
        kept.append((self, q))
        write(self, q, indexes)

    monkeypatch.setattr(SymbolWriter, "write", record)
    return kept


@pytest.fixture
def hpcm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> Hpcm:
    """Run a command line with the stand-in model, in a folder of its own: exit code, output, errors."""
    fake.install(monkeypatch)
    monkeypatch.chdir(tmp_path)

    def run(*words: object, stdin: bytes = b"") -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = cli.main([str(word) for word in words])
        out, err = capsysbinary.readouterr()
        return code, out.decode(errors="surrogateescape"), err.decode()

    return run

"""Training parts of the context model around given transforms, and weights files that hold what differs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from hpcmcodec import zoo
from hpcmcodec.config import model_config
from hpcmcodec.errors import UsageError, WeightsError
from hpcmcodec.models import TUNE_PARTS
from hpcmcodec.training import export, run
from hpcmcodec.training.beginning import CHECKPOINT
from hpcmcodec.training.data import CropSource, LatentSource
from hpcmcodec.training.loss import rate_distortion, rate_only
from hpcmcodec.training.options import WEIGHTS, TrainOptions
from hpcmcodec.training.run import Report, train
from tests.conftest import DATA, TINY, Hpcm, build_tiny, kodak_crop, sample_batches

CONTEXT = ("context", "quant_step")
LAST_CELL = ("context.attn.2",)


def options(output: Path, init: Path, phase: int = 0, **changes: object) -> TrainOptions:
    chosen = TrainOptions(
        *(TINY[phase], (DATA,), output, init, CONTEXT, 8),
        steps=4,
        batch=2,
        crop=64,
        device="cpu",
        log_every=1,
    )
    return replace(chosen, **changes)  # type: ignore[arg-type]


def stored(path: Path) -> dict[str, Tensor]:
    return zoo.read_weights(path)[0]


def same(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and torch.equal(a, b)


def test_latents_are_what_g_a_gives() -> None:
    model = build_tiny(TINY[0])
    crops = CropSource([kodak_crop()], 64, torch.device("cpu"))
    torch.manual_seed(3)
    source = LatentSource(model, crops, 3)
    torch.manual_seed(3)
    with torch.no_grad():
        wanted = model.latent(crops.batch(3))
    torch.testing.assert_close(source.latents.float(), wanted, rtol=1e-3, atol=1e-3)
    drawn = source.batch(40)
    assert drawn.shape == (40, 32, 4, 4) and drawn.dtype == torch.float32
    seen = {next(i for i in range(3) if torch.equal(x, source.latents[i].float())) for x in drawn}
    assert seen == {0, 1, 2}


def test_the_rate_is_what_rate_distortion_counts() -> None:
    generator = torch.Generator().manual_seed(0)
    y, z = (torch.rand(2, n, generator=generator).clamp_min(0.1) for n in (50, 8))
    x, quality = torch.zeros(2, 3, 8, 8), torch.tensor([1.0, 8.0])
    alone, both = rate_only(64, quality, y, z), rate_distortion(x, quality, x, y, z)
    torch.testing.assert_close(alone["loss"], both["loss"])
    torch.testing.assert_close(alone["bpp"], both["bpp"])


@pytest.mark.usefixtures("quick_export")
def test_only_the_parts_are_trained(tmp_path: Path, tiny_weights: Callable[[int], Path]) -> None:
    """What is not trained is stored as the very same integers, however often it is handed on."""
    given = stored(tiny_weights(4))
    reports: list[Report] = []
    zero = train(options(tmp_path / "0", tiny_weights(4)), reports.append)
    assert zero is not None
    first = stored(zero)
    transforms = [n for n in given if n.startswith(("g_", "h_", "gain_", "inverse_", "scale_z"))]
    assert transforms and all(same(first[n], given[n]) for n in transforms)
    assert not same(first["context.adaptors.0.weight"], given["context.adaptors.0.weight"])
    assert not same(first["quant_step.log"], given["quant_step.log"])
    assert all(r.mse == 0 and r.bpp > 0 for r in reports)

    one = train(options(tmp_path / "1", zero, 1, parts=LAST_CELL))
    assert one is not None
    second = stored(one)
    shared = [n for n in second if not n.startswith(("context.attn.2.", "tables.", "exact."))]
    assert all(same(second[n], first[n]) for n in shared)
    assert json.loads(zoo.read_weights(one)[1]["facts"])["parts"] == list(LAST_CELL)
    assert zoo.load_model(1, "tiny", weights=one).config == TINY[1]


@pytest.mark.usefixtures("quick_export")
def test_the_rate_falls(tmp_path: Path, tiny_weights: Callable[[int], Path]) -> None:
    reports: list[Report] = []
    train(options(tmp_path, tiny_weights(4), steps=30, latents=2, seed=1), reports.append)
    losses = [r.loss for r in reports]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


@pytest.mark.usefixtures("quick_export")
def test_a_cut_run_goes_on(tmp_path: Path, tiny_weights: Callable[[int], Path]) -> None:
    init = tmp_path / "init.safetensors"
    shutil.copy(tiny_weights(4), init)
    train(options(tmp_path / "run", init, steps=2))
    init.unlink()
    (tmp_path / "run" / WEIGHTS).unlink()
    weights = train(options(tmp_path / "run", init, resume=True))
    assert weights is not None
    left = zoo.read_weights(tmp_path / "run" / CHECKPOINT)[1]
    assert json.loads(left["facts"])["step"] == 4
    assert same(stored(weights)["g_s.0.weight"], stored(tiny_weights(4))["g_s.0.weight"])
    with pytest.raises(UsageError, match=r"trained context, quant_step: ask for the same"):
        train(options(tmp_path / "run", init, resume=True, parts=LAST_CELL))


@pytest.mark.usefixtures("quick_export")
def test_float_weights_may_be_what_stays(tmp_path: Path, tiny_weights: Callable[[int], Path]) -> None:
    floats = tmp_path / "floats.safetensors"
    before = {name: t.half() for name, t in zoo.initial_weights(TINY[4], tiny_weights(4)).items()}
    save_file(before, floats, {"model": TINY[4].name})
    weights = train(options(tmp_path / "run", floats))
    assert weights is not None
    after = zoo.initial_weights(TINY[0], weights)
    torch.testing.assert_close(after["g_s.0.weight"], before["g_s.0.weight"].float(), rtol=0.02, atol=0.01)


def test_parts_that_cannot_be_trained_alone(tmp_path: Path, tiny_weights: Callable[[int], Path]) -> None:
    init = tiny_weights(4)
    for parts, error in (
        (("g_s",), "only parts of context and quant_step"),
        (("context.attn.7",), "rwkv-0-tiny has no part context.attn.7"),
    ):
        with pytest.raises(UsageError, match=error):
            train(options(tmp_path, init, parts=parts))
    with pytest.raises(UsageError, match="say with --init"):
        train(replace(options(tmp_path, init), init=None))
    with pytest.raises(WeightsError, match=r"no context\.\S* as rwkv-0-tiny wants it: train that part"):
        train(options(tmp_path, init, parts=LAST_CELL))
    with pytest.raises(WeightsError, match="as rwkv-0-lite wants it"):
        train(options(tmp_path, init, config=model_config(0, "lite")))


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory, tiny_weights: Callable[[int], Path]) -> list[Path]:
    """Weights of phases 4, 0 and 1, the second stored as what differs from the first, and so on."""
    folder = tmp_path_factory.mktemp("chain")
    paths = [folder / f"{phase}.safetensors" for phase in (4, 0, 1)]
    shutil.copy(tiny_weights(4), paths[0])
    model = build_tiny(TINY[0])
    kept = {n: t for n, t in stored(paths[0]).items() if n.startswith(("g_", "h_", "gain_", "inverse_"))}
    export.export(model, paths[1], {}, sample_batches(), kept, paths[0])
    others = ("context.attn.2.", "exact.", "tables.")
    kept = {n: t for n, t in stored(paths[1]).items() if not n.startswith(others)}
    export.export(build_tiny(TINY[1]), paths[2], {}, sample_batches(), kept, paths[1])
    return paths


def test_a_difference_is_small_and_codes(chain: list[Path]) -> None:
    sizes = [path.stat().st_size for path in chain]
    assert sizes[0] > 1.5 * sizes[1] > 1.5 * sizes[2]
    with torch.inference_mode():
        for phase, path in ((0, chain[1]), (1, chain[2])):
            model = zoo.load_model(phase, "tiny", weights=path)
            x = sample_batches()[0][:1]
            coded = model.compress(x, 4.0)
            height, width = x.shape[2:]
            decoded = model.decompress(coded.z, coded.y, coded.checksum, height, width, 4.0)
            assert decoded.shape == x.shape
    trained = (n for n, _ in build_tiny(TINY[0]).named_parameters() if not n.startswith(TUNE_PARTS))
    assert set(stored(chain[1])) >= set(trained)
    g_s = [zoo.load_model(p, "tiny", weights=w).synthesis_id for p, w in zip((4, 0, 1), chain, strict=True)]
    assert len(set(g_s)) == 1, "one synthesis for all"


def test_a_difference_is_joined_exactly(chain: list[Path], tmp_path: Path) -> None:
    whole, _ = zoo.read_weights(chain[2])
    own, metadata = zoo.difference(whole, chain[0])
    for name in (chain[0].name, "joined.safetensors"):
        shutil.copy(chain[0], tmp_path / name)
    save_file(own, tmp_path / "joined.safetensors", metadata | {"model": TINY[1].name})
    joined, _ = zoo.read_weights(tmp_path / "joined.safetensors")
    assert joined.keys() == whole.keys() and all(same(joined[n], whole[n]) for n in whole)


def test_a_base_that_is_not_the_one(chain: list[Path], tmp_path: Path) -> None:
    def refused(match: str) -> None:
        with pytest.raises(WeightsError, match=match) as caught:
            zoo.load_model(0, "tiny", weights=tmp_path / chain[1].name)
        assert "\n" not in str(caught.value)

    shutil.copy(chain[1], tmp_path)
    refused(r"weights file .*4\.safetensors is missing")
    changed, metadata = zoo.read_weights(chain[0])
    changed["g_a.0.weight"][0] += 1
    save_file(changed, tmp_path / chain[0].name, metadata)
    refused(r"what differs from 4\.safetensors, which is not the file that it was made with")
    own, metadata = stored(chain[1]), zoo.read_weights(chain[1])[1]
    for base in ("../elsewhere.safetensors", chain[1].name):
        save_file(own, tmp_path / chain[1].name, metadata | {zoo.BASE: base})
        refused("as its base, which is no file beside it")


def test_export_stores_what_differs(
    hpcm: Hpcm, tmp_path: Path, tiny_weights: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run around given transforms, by the commands, and its weights as what differs from theirs."""
    monkeypatch.setattr(run, "TABLE_BATCHES", 1)
    base, small = tmp_path / "base.safetensors", tmp_path / "0.safetensors"
    shutil.copy(tiny_weights(4), base)
    shared = ["--phase", "0", "--preset", "tiny", "--data", str(DATA), "--device", "cpu"]
    trained = ["train", *shared, "-o", str(tmp_path / "run"), "--init", str(base), "--part", "context"]
    trained += ["--part", "quant_step", "--latents", "4", "--steps", "1", "--batch", "2", "--crop", "64"]
    assert hpcm(*trained)[0] == 0
    exported = ["export", str(tmp_path / "run"), *shared, "--pictures", "2", "--base", str(base)]
    assert hpcm(*exported, "-o", str(small))[0] == 0
    assert small.stat().st_size < base.stat().st_size / 1.5
    assert all(same(t, stored(base)[n]) for n, t in stored(small).items() if n.startswith(("g_", "h_")))
    code, _, told = hpcm(*exported, "-o", str(tmp_path / "run" / "other.safetensors"))
    assert code == 2 and "from the same folder" in told

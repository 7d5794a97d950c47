from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from hpcmcodec import zoo
from hpcmcodec.config import ModelConfig
from hpcmcodec.entropy.tables import LEVELS
from hpcmcodec.errors import UsageError, WeightsError
from hpcmcodec.models import HPCM, TUNE_PARTS
from hpcmcodec.models.hpcm import ENTROPY_PARTS, SYNTHESIS_PARTS
from hpcmcodec.training.export import export, quantise
from tests.conftest import TINY, build_tiny, every_phase, sample_batches

Weights = Callable[[int], Path]
LARGEST = 32_000_000
ALL_BUT_LARGEST = 18_000_000  # what the phases 0 to 3 differ by, together

# One tensor of each part of the model, and which of the two fingerprints tells of it.
TOLD_BY = {
    "h_s.0.weight": "entropy",
    "context.adaptors.3.weight": "entropy",
    "context.adaptors.3.weight.step": "entropy",
    "context.attn.0.out.bias": "entropy",
    "inverse_gain_z.log": "entropy",
    "scale_z.log": "entropy",
    "quant_step.log": "entropy",
    "exact.bits": "entropy",
    "exact.decay": "entropy",
    "tables.cdf": "entropy",
    "tables.offset": "entropy",
    "g_s.0.weight": "synthesis",
    "inverse_gain_y.log": "synthesis",
    "g_a.0.weight": "",
    "h_a.0.spatial.weight": "",
    "gain_y.log": "",
    "gain_z.log": "",
}
PARTS = {"entropy": (*ENTROPY_PARTS, zoo.TABLES, zoo.EXACT), "synthesis": SYNTHESIS_PARTS}


def rewritten(
    source: Path, target: Path, change: Callable[[dict[str, Tensor]], None], model: str | None = None
) -> Path:
    """A copy of a weights file with other tensors or of another name."""
    stored, metadata = zoo.read_weights(source)
    change(stored)
    save_file(stored, target, metadata=metadata if model is None else {"model": model})
    return target


@every_phase
def test_export_and_load(config: ModelConfig, tiny_weights: Weights) -> None:
    original = build_tiny(config).state_dict()
    stored, metadata = zoo.read_weights(tiny_weights(config.phase))
    model = zoo.load_model(config.phase, "tiny", weights=tiny_weights(config.phase), exact=False)
    assert metadata["model"] == config.name
    assert not model.training and not any(p.requires_grad for p in model.parameters())
    loaded, small = model.state_dict(), 0
    assert loaded.keys() == original.keys()
    for name, value in loaded.items():
        assert value.dtype == torch.float32 and value.shape == original[name].shape
        if name not in stored:  # zeros that were never trained
            assert name.startswith(TUNE_PARTS) and not value.any()
            continue
        if stored[name].dtype == torch.int8:
            step = stored[name + zoo.STEP]
            assert torch.equal(value, stored[name] * step)
            if ".shift." not in name:
                # Not to the nearest: what one weight loses, its neighbours in the row make good.
                assert ((value - original[name]).abs() <= 10 * step).all()
                assert (value - original[name]).abs().mean() <= step.mean()
                small += value.numel()
        elif ".shift." not in name:  # these are stored folded
            assert torch.equal(value, original[name])
    assert small > sum(v.numel() for v in loaded.values()) / 3
    shifts = [
        (m, dict(build_tiny(config).named_modules())[n])
        for n, m in model.named_modules()
        if n.endswith("shift")
    ]
    for folded, unfolded in shifts:
        torch.testing.assert_close(folded.kernel(), unfolded.kernel(), rtol=1e-6, atol=1e-7)
    assert len(model.tables.size) == LEVELS


@pytest.mark.parametrize(("shape", "dim"), [((32, 48), 0), ((32, 24, 2, 2), 0), ((32, 24, 2, 2), 1)])
def test_quantise(shape: tuple[int, ...], dim: int) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    weight.select(dim, 3).zero_()
    whole, step = quantise(weight, dim)
    assert whole.dtype == torch.int8 and step.numel() == shape[dim] == step.shape[dim]
    assert ((whole * step - weight).abs() <= step / 2 * 1.001).all()
    assert whole.abs().amax([d for d in range(len(shape)) if d != dim]).tolist() == [
        127,
        127,
        127,
        0,
        *[127] * (shape[dim] - 4),
    ]


def test_fingerprints_tell_of_their_part_only(tiny_weights: Weights) -> None:
    stored, _ = zoo.read_weights(tiny_weights(4))
    model = zoo.load_model(4, "tiny", weights=tiny_weights(4))
    before = {group: zoo.fingerprint(stored, prefixes) for group, prefixes in PARTS.items()}
    assert before == {"entropy": model.entropy_id, "synthesis": model.synthesis_id}
    assert all(len(value) == 4 for value in before.values()) and len(set(before.values())) == 2
    for name, told_by in TOLD_BY.items():
        changed = stored[name].clone()
        changed.view(-1)[-1] += 1
        after = {
            group: zoo.fingerprint(stored | {name: changed}, prefixes) for group, prefixes in PARTS.items()
        }
        assert {group for group in PARTS if after[group] != before[group]} == {told_by} - {""}, name
    for name in stored:
        told = [name.startswith(prefixes) for prefixes in PARTS.values()]
        assert sum(told) <= 1 and (any(told) or name.startswith(("g_a.", "h_a.", "gain_"))), name


def test_fingerprint_is_of_content_not_of_place(tiny_weights: Weights, tmp_path: Path) -> None:
    twin = tmp_path / "twin.safetensors"
    export(build_tiny(TINY[4]), twin, {"trained": "elsewhere"}, sample_batches())
    models = [zoo.load_model(4, "tiny", weights=path) for path in (twin, tiny_weights(4))]
    assert models[0] is not models[1]
    assert models[0].entropy_id == models[1].entropy_id
    assert models[0].synthesis_id == models[1].synthesis_id


def test_loaded_once(tiny_weights: Weights) -> None:
    assert zoo.load_model(4, "tiny", weights=tiny_weights(4)) is zoo.load_model(
        4, "tiny", weights=str(tiny_weights(4))
    )


def refused(path: Path, match: str = "weights|tables|does not fit") -> None:
    with pytest.raises(WeightsError, match=match) as caught:
        zoo.load_model(4, "tiny", weights=path)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 4


def test_wrong_files_are_refused(tiny_weights: Weights, tmp_path: Path) -> None:
    good, bad = tiny_weights(4), tmp_path / "bad.safetensors"
    refused(tmp_path / "missing.safetensors", "missing")
    refused(tiny_weights(3), "rwkv-3-tiny, not of rwkv-4-tiny")
    content = good.read_bytes()
    for damaged in (b"", content[:100], content[: len(content) // 2], b"\xff" * 1000):
        bad.write_bytes(damaged)
        refused(bad, "cannot be read")
    refused(tmp_path)
    refused(rewritten(good, tmp_path / "a.safetensors", lambda stored: None, model="other"), "other")


@pytest.mark.parametrize(
    "name", ["tables.cdf", "h_s.0.weight", "context.adaptors.3.weight.step", "gain_y.log"]
)
def test_missing_tensors_are_refused(name: str, tiny_weights: Weights, tmp_path: Path) -> None:
    def change(stored: dict[str, Tensor]) -> None:
        del stored[name]

    refused(rewritten(tiny_weights(4), tmp_path / "bad.safetensors", change))


def test_damaged_tables_are_refused(tiny_weights: Weights, tmp_path: Path) -> None:
    def change(stored: dict[str, Tensor]) -> None:
        stored["tables.cdf"][5, 1] = 0

    refused(rewritten(tiny_weights(4), tmp_path / "bad.safetensors", change), "tables")


def test_tensors_of_another_shape_are_refused(tiny_weights: Weights, tmp_path: Path) -> None:
    def change(stored: dict[str, Tensor]) -> None:
        stored["gain_y.log"] = stored["gain_y.log"][:, 1:].contiguous()

    refused(rewritten(tiny_weights(4), tmp_path / "bad.safetensors", change), "does not fit")


def test_phases_without_weights_say_which_there_are() -> None:
    there = zoo.available()
    missing = next(config for config in TINY if config not in there)
    with pytest.raises(WeightsError, match="available: ") as caught:
        zoo.load_model(missing.phase, "tiny")
    for config in there:
        assert f"phase {config.phase} {config.preset}" in str(caught.value)
    with pytest.raises(UsageError):
        zoo.load_model(9)


def test_manifest() -> None:
    """What it says of every file is so, and every file is in it."""
    models = zoo.manifest()["models"]
    for name, entry in models.items():
        path = zoo.weights_dir() / entry["file"]
        content = path.read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"]
        assert len(content) == entry["bytes"] <= LARGEST
        assert zoo.read_weights(path)[1]["model"] == name
    assert sum(entry["bytes"] for entry in models.values() if entry["phase"] < 4) <= ALL_BUT_LARGEST
    assert [config.name for config in zoo.available()] == list(models)
    files = {path.name for path in zoo.weights_dir().glob("*.safetensors")}
    assert files == {str(entry["file"]) for entry in models.values()}


def test_damaged_manifest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(zoo, "weights_dir", lambda: tmp_path)
    assert zoo.available() == []
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(WeightsError, match=r"manifest\.json"):
        zoo.available()


def test_listed_but_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    entry = {"family": "rwkv", "phase": 4, "preset": "tiny", "file": "lost.safetensors"}
    (tmp_path / "manifest.json").write_text(json.dumps({"models": {"rwkv-4-tiny": entry}}))
    monkeypatch.setattr(zoo, "weights_dir", lambda: tmp_path)
    assert zoo.available() == [TINY[4]]
    with pytest.raises(WeightsError, match=r"lost\.safetensors"):
        zoo.load_model(4, "tiny")


def test_initial_weights_start_a_model(tiny_weights: Weights) -> None:
    weights = zoo.initial_weights(TINY[2], tiny_weights(2))
    model = HPCM(TINY[2])
    model.load_weights(weights)
    assert torch.equal(model.gain_y.log, build_tiny(TINY[2]).gain_y.log)
    with pytest.raises(WeightsError, match="not of"):
        zoo.initial_weights(TINY[3], tiny_weights(2))


def test_devices(tiny_weights: Callable[[int], Path]) -> None:
    path = tiny_weights(0)
    model = zoo.load_model(0, "tiny", weights=path)
    assert zoo.load_model(0, "tiny", weights=path, device="cpu") is model
    with pytest.raises(UsageError, match="unknown device 'abacus': choose from auto, cpu, cuda"):
        zoo.load_model(0, "tiny", weights=path, device="abacus")
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="no CUDA device"):
            zoo.load_model(0, "tiny", weights=path, device="cuda")


def test_a_link_that_leads_to_itself_holds_no_weights(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(WeightsError, match="loop"):
        zoo.load_model(4, "tiny", weights=loop)

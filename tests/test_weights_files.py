"""Weights files are input, too: whatever one holds, it loads or is refused with one line, exit code 4."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from hpcmcodec import zoo
from hpcmcodec.cli import main
from hpcmcodec.codec import encode_picture
from hpcmcodec.errors import WeightsError
from hpcmcodec.training.beginning import Beginning
from tests.conftest import DATA, TINY

GOOD = DATA / "golden" / "rwkv-4-tiny.safetensors"
MATRIX = "context.adaptors.3.weight"
VECTOR = "context.attn.0.out.bias"

Stored = dict[str, Tensor]


def written(path: Path, change: Callable[[Stored], object] | None = None, **metadata: str) -> Path:
    """A copy of good weights, changed."""
    stored, known = zoo.read_weights(GOOD)
    if change:
        change(stored)
    save_file({n: t.contiguous() for n, t in stored.items()}, path, metadata=known | metadata)
    return path


def refused(path: Path, match: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(WeightsError, match=match) as caught:
        zoo.load_model(4, "tiny", weights=path)
    assert "\n" not in str(caught.value) and caught.value.exit_code == 4
    assert main(["selftest", "--weights", str(path)]) == 4
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def filled(name: str, value: float) -> Callable[[Stored], None]:
    def change(stored: Stored) -> None:
        stored[name] = stored[name].clone()
        stored[name].view(-1)[0] = value

    return change


def of(name: str, make: Callable[[Tensor], Tensor]) -> Callable[[Stored], None]:
    def change(stored: Stored) -> None:
        stored[name] = make(stored[name])

    return change


def without(name: str) -> Callable[[Stored], Tensor]:
    return lambda stored: stored.pop(name)


CHANGES: dict[str, tuple[Callable[[Stored], object], str]] = {
    "nan": (filled(VECTOR, float("nan")), "no finite number"),
    "inf": (filled("g_s.0.weight.step", float("inf")), "no finite number"),
    "nan decay": (filled("context.attn.0.block.spatial.decay", float("nan")), "no finite number"),
    "nan table": (filled("exact.gate", float("nan")), "no finite number"),
    "zero step": (filled(MATRIX + ".step", 0), "not above zero"),
    "negative step": (filled(MATRIX + ".step", -1), "not above zero"),
    "huge step": (filled(MATRIX + ".step", 3e38), "does not fit"),
    "steps of inputs": (of(MATRIX + ".step", lambda t: t.mT.contiguous()), "does not fit"),
    "flat step": (of(MATRIX + ".step", lambda t: t.flatten()), "does not fit"),
    "vast step": (of(MATRIX + ".step", lambda t: t[..., None].expand(-1, -1, 3).clone()), "does not fit"),
    "half step": (of(MATRIX + ".step", lambda t: t.half()), "does not fit"),
    "no step": (without(MATRIX + ".step"), "integers without their step"),
    "unknown step": (lambda s: s.update({"nothing.step": torch.ones(1)}), "the step of no integers"),
    "step of floats": (lambda s: s.update({VECTOR + ".step": torch.ones(1)}), "the step of no integers"),
    "bfloat16": (of(VECTOR, lambda t: t.bfloat16()), "of type bfloat16"),
    "float8": (of(VECTOR, lambda t: t.to(torch.float8_e4m3fn)), "of type float8_e4m3fn"),
    "complex": (of(VECTOR, lambda t: t.to(torch.complex64)), "of type complex64"),
    "int64": (of(VECTOR, lambda t: t.long()), "of type int64"),
    "bool": (of(VECTOR, lambda t: t.bool()), "of type bool"),
    "int32": (of(VECTOR, lambda t: t.int()), "integers without their step"),
    "shape": (of(VECTOR, lambda t: t[1:].clone()), "does not fit"),
    "scalar": (of(VECTOR, lambda t: t[0].clone()), "does not fit"),
    "empty": (of(VECTOR, lambda t: t[:0].clone()), "does not fit"),
    "surplus": (lambda s: s.update(nothing=torch.ones(1)), "does not fit"),
    "few bits": (of("exact.bits", lambda t: t[1:].clone()), "exact.bits"),
    "many bits": (of("exact.bits", lambda t: torch.cat((t, t))), "exact.bits"),
    "float bits": (of("exact.bits", lambda t: t.float()), "exact.bits"),
    "large bits": (filled("exact.bits", 127), "exact.bits holds 127"),
    "small bits": (filled("exact.bits", -128), "exact.bits holds -128"),
    "three rows": (of("exact.decay", lambda t: torch.cat((t, t[:1]))), "exact.decay"),
    "one row": (of("exact.decay", lambda t: t[0].clone()), "exact.decay"),
    "short rows": (of("exact.decay", lambda t: t[:, :9].clone()), "exact.decay"),
    "no decay": (without("exact.decay"), "exact.decay"),
    "empty gate": (of("exact.gate", lambda t: t[:0].clone()), "exact.gate"),
    "large gate": (filled("exact.gate", 2), "exact.gate"),
    "whole gate": (of("exact.gate", lambda t: t.int()), "exact.gate"),
    "few tables": (lambda s: s.update({n: s[n][:5].clone() for n in s if n.startswith("tables.")}), "tables"),
    "float tables": (of("tables.cdf", lambda t: t.float()), "tables"),
    "no tables": (without("tables.size"), "no coding table"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_no_weights_are(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change, match = CHANGES[name]
    refused(written(tmp_path / "bad.safetensors", change), match, capsys)


@pytest.mark.parametrize(
    ("metadata", "match"),
    [
        ({"base": ""}, "names '' as its base"),
        ({"base": "."}, "as its base"),
        ({"base": ".."}, "as its base"),
        ({"base": "/etc/passwd"}, "as its base"),
        ({"base": "bad.safetensors"}, "as its base"),
        ({"base": "missing.safetensors"}, "missing"),
        ({"without": "{"}, "no list of names"),
        ({"without": "5"}, "no list of names"),
        ({"without": '{"a": 1}'}, "no list of names"),
        ({"without": "[[1]]"}, "no list of names"),
        ({"without": "[" * 100_000}, "no list of names"),
        ({"whole": "00000000"}, "not the file"),
        ({"model": ""}, "weights of , not of|does not say"),
    ],
)
def test_metadata(
    metadata: dict[str, str], match: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path / "bad.safetensors", lambda stored: None, **metadata)
    with pytest.raises(WeightsError, match=match):
        zoo.load_model(4, "tiny", weights=path)
    assert main(["selftest", "--weights", str(path)]) == 4
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_bases_in_a_circle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = written(tmp_path / "a.safetensors", base="b.safetensors")
    written(tmp_path / "b.safetensors", base="c.safetensors")
    written(tmp_path / "c.safetensors", base="b.safetensors")
    refused(a, "as its base", capsys)


def test_bases_without_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(12):
        written(
            tmp_path / f"{number}.safetensors",
            lambda stored: stored.clear(),
            base=f"{number + 1}.safetensors",
        )
    refused(tmp_path / "0.safetensors", "more than 8", capsys)


def test_what_is_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "fifo")
    refused(tmp_path / "fifo", "no regular file", capsys)
    refused(tmp_path, "no regular file", capsys)
    (tmp_path / "loop").symlink_to("loop")
    refused(tmp_path / "loop", "cannot be read", capsys)


FACTS = [
    "{",
    "5",
    "[]",
    '{"total_steps": "many"}',
    '{"total_steps": -1}',
    '{"total_crops": NaN}',
    '{"parts": 5}',
]


@pytest.mark.parametrize("facts", FACTS)
@pytest.mark.parametrize("checkpoint", [True, False])
def test_facts_of_a_training(facts: str, checkpoint: bool, tmp_path: Path) -> None:
    def raw(stored: Stored) -> None:
        stored.clear()
        stored.update(raw=torch.zeros(5), ema=torch.zeros(5))

    bad = tmp_path / "bad.safetensors"
    if checkpoint:
        facts = facts.replace("{", '{"model": "rwkv-4-tiny", ') if facts != "{" else facts
        written(bad, raw, facts=facts)
    elif "parts" in facts:
        pytest.skip("of a weights file they are only told")
    else:
        written(bad, facts=facts)
    with pytest.raises(WeightsError) as caught:
        Beginning.read(TINY[4], bad)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("missing", ["facts", "ema"])
def test_checkpoints_that_lack_something(missing: str, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    tensors = {name: torch.zeros(5) for name in ("raw", "ema") if name != missing}
    save_file(
        tensors, path, metadata={"facts": json.dumps({} if missing == "facts" else {"model": "rwkv-4-tiny"})}
    )
    with pytest.raises(WeightsError) as caught:
        Beginning.read(TINY[4], path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_written_anew_is_read_anew(tmp_path: Path) -> None:
    """Also in place, of the same size, and if only its base is another."""
    path = written(tmp_path / "a.safetensors")
    first = zoo.load_model(4, "tiny", weights=path)
    kept = first.gain_y.log.clone()
    assert zoo.load_model(4, "tiny", weights=path) is first
    other = written(tmp_path / "b.safetensors", filled(VECTOR, 0.25))
    path.write_bytes(other.read_bytes())
    second = zoo.load_model(4, "tiny", weights=path)
    assert second is not first and second.entropy_id != first.entropy_id
    assert torch.equal(first.gain_y.log, kept)
    child = tmp_path / "child.safetensors"
    save_file({}, child, metadata={"model": "rwkv-4-tiny", "base": path.name})
    third = zoo.load_model(4, "tiny", weights=child)
    assert third.entropy_id == second.entropy_id
    written(path)
    assert zoo.load_model(4, "tiny", weights=child).entropy_id == first.entropy_id


def test_a_loaded_model_does_not_lie_in_its_file(tmp_path: Path) -> None:
    """A file that is shortened under a model that came from it takes nothing from it."""
    path = written(tmp_path / "a.safetensors")
    picture = np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)
    model = zoo.load_model(4, "tiny", weights=path)
    x = torch.from_numpy(picture).permute(2, 0, 1)[None].float().div(255)
    before = model.compress(x, 5.0).y
    with path.open("rb+") as file:
        file.truncate(100)
    assert model.compress(x, 5.0).y == before


def test_a_digest_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "a.safetensors", entropy_digest="")
    assert encode_picture(np.zeros((9, 9, 3), np.uint8), preset="tiny", weights=path).data
    assert main(["selftest", "--weights", str(path)]) == 4
    assert "hold no digest to compare with" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", ["[]", "5", '{"models": 5}', '{"models": {"a": {}}}', '{"models": {"a": []}}', "\xff", "{}"]
)
def test_a_manifest_of_another_shape(text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(zoo, "weights_dir", lambda: tmp_path)
    (tmp_path / "manifest.json").write_text(text, encoding="latin-1")
    with pytest.raises(WeightsError, match=r"manifest\.json"):
        zoo.available()

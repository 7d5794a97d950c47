"""The exact entropy path: close to the float one, and the same whatever computes it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hpcmcodec import zoo
from hpcmcodec.cli.app import main
from hpcmcodec.codec import decode_picture, encode_picture
from hpcmcodec.config import ModelConfig
from hpcmcodec.container import pack, unpack
from hpcmcodec.entropy.coders import EncodeCoder
from hpcmcodec.entropy.tables import (
    SCALE_MIN,
    _raw_scale_table,
    raw_scale_index,
    scale_index,
)
from hpcmcodec.errors import ModelMismatchError, WeightsError
from hpcmcodec.layers import exact
from hpcmcodec.layers.exact import ExactDepthwise, ExactLinear, ExactNorm, Grid, Tables
from hpcmcodec.models import HPCM
from hpcmcodec.ops import biwkv_reference
from hpcmcodec.selftest import entropy_digest, selftest
from hpcmcodec.training.rounding import round_by_inputs
from tests.conftest import DATA, TINY, every_phase, kodak_crop, to_input, uniform

Weights = Callable[[int], Path]
Models = Callable[[int], HPCM]


@pytest.fixture(autouse=True)
def _no_gradients() -> object:
    with torch.no_grad():
        yield


def on_grid(shape: tuple[int, ...], name: str, bits: int, reach: float) -> Tensor:
    return (uniform(shape, name).double() * reach * 2**bits).round() / 2**bits


@pytest.fixture(scope="module")
def tables() -> Tables:
    return Tables(*Tables.compute())


def test_grid() -> None:
    grid = Grid(bits=2)
    x = torch.tensor([0.1, 0.125, 0.375, -0.3, 9000.0, -9000.0], dtype=torch.float64)
    # Halves go to the even neighbour.
    assert grid(x).tolist() == [0.0, 0.0, 0.5, -0.25, 8191.75, -8191.75]
    free = Grid(most=5)
    seen = torch.tensor([3.0, -100.0], dtype=torch.float64)
    assert torch.equal(free(seen.clone()), seen) and free.peak == 100
    free.choose()
    assert free.bits == 5
    free.peak = 1000.0
    free.choose()
    assert free.bits == 4 and 2 * free.peak * 2**4 <= 32767 < 2 * free.peak * 2**5


@pytest.mark.parametrize("bias", [True, False])
def test_linear(bias: bool) -> None:
    weight, offset = uniform((24, 40), "weight"), uniform((24,), "bias") if bias else None
    layer, x = ExactLinear(weight, offset), on_grid((2, 5, 40), "x", 8, 100)
    assert torch.equal(layer.weight, layer.weight.round()) and layer.weight.abs().max() == 127
    step = weight.abs().amax(1) / 127
    error = (layer(x, None) - F.linear(x, weight.double(), None if offset is None else offset.double())).abs()
    assert error.max() <= 0.5 * float(step.max()) * float(x.abs().sum(-1).max())
    # Any order of summation, and the integers themselves, give the same bits.
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    shuffled = ExactLinear(weight[:, order], offset)
    assert torch.equal(shuffled(x[..., order], None), layer(x, None))
    whole = (x * 2**8).long() @ layer.weight.long().t()
    assert torch.equal(layer(x, None), (whole.double() / 2**8) * layer.step + layer.bias)


def test_multipliers_leave_products_exact() -> None:
    layer = ExactLinear(uniform((50, 30), "weight"), None)
    for step in layer.step.tolist():
        for total in (2**31 - 1, -(2**31 - 1), 2**30 + 1):
            assert Fraction(total * step) == total * Fraction(step)


def test_sums_that_could_pass_31_bits_are_refused() -> None:
    with pytest.raises(ValueError, match="31 bits"):
        ExactLinear(torch.ones(2, 600), None, torch.full((2,), 1 / 127))
    ExactLinear(torch.ones(2, 500), None, torch.full((2,), 1 / 127))
    with pytest.raises(ValueError, match="8 bits"):
        ExactLinear(torch.ones(2, 5), None, torch.full((2,), 1 / 128))
    # Where the step is to be chosen, it is a coarser one.
    assert ExactLinear(torch.ones(2, 600), None).weight.abs().max() == 106
    assert ExactLinear(torch.ones(2, 500), None).weight.abs().max() == 127


@pytest.mark.parametrize("size", [3, 5])
def test_depthwise(size: int) -> None:
    kernel, x = uniform((6, 1, size, size), "kernel"), on_grid((2, 7, 9, 6), "x", 10, 8)
    layer = ExactDepthwise(kernel, uniform((6,), "bias"))
    expected = F.conv2d(
        x.permute(0, 3, 1, 2), kernel.double(), uniform((6,), "bias").double(), padding=size // 2, groups=6
    )
    torch.testing.assert_close(layer(x, Grid(bits=8)), expected.permute(0, 2, 3, 1), atol=0.05, rtol=0)


def test_inverse_root() -> None:
    x = torch.cat((torch.logspace(-12, 60, 4000, dtype=torch.float64), torch.arange(1.0, 4000).double()))
    torch.testing.assert_close(exact.inverse_root(x), x.rsqrt(), rtol=1e-15, atol=0)


def test_norm() -> None:
    x, weight, bias = on_grid((3, 5, 96), "x", 11, 30), uniform((96,), "w"), uniform((96,), "b")
    expected = F.layer_norm(x, (96,), weight.double(), bias.double(), 1e-5)
    torch.testing.assert_close(ExactNorm(weight, bias)(x), expected, rtol=1e-12, atol=1e-12)
    flat = torch.full((1, 96), 3.0, dtype=torch.float64)
    torch.testing.assert_close(ExactNorm(weight, bias)(flat), bias.double()[None], rtol=0, atol=0)


def test_tables(tables: Tables) -> None:
    x = torch.linspace(0, 15.9, 50001, dtype=torch.float64)
    assert ((tables.exp_minus(x) - (-x).exp()).abs() <= 2**-12.9 * (-x).exp() + 2**-29).all()
    assert tables.exp_minus(torch.tensor([99.0]).double()) == tables.decay[-1]
    both = torch.linspace(-9, 9, 10001, dtype=torch.float64)
    torch.testing.assert_close(tables.exp(both), both.exp(), rtol=2e-4, atol=0)
    torch.testing.assert_close(
        tables.gated(torch.ones_like(both), both), both.sigmoid(), rtol=0, atol=2**-9.9
    )


@pytest.mark.parametrize("tokens", [1, 2, 31, 33, 961])
def test_biwkv(tables: Tables, tokens: int) -> None:
    w, u = 8 * uniform((12,), "w").double(), 3 * uniform((12,), "u").double()
    k, v = on_grid((2, tokens, 12), "k", 12, 4), on_grid((2, tokens, 12), "v", 10, 20)
    expected = biwkv_reference(w, u, k, v)
    torch.testing.assert_close(tables.biwkv(w, u, k, v), expected, rtol=0, atol=6e-3)


def test_biwkv_sums_have_room(tables: Tables) -> None:
    """Of as many tokens as a picture of 16 megapixels has, all as large as can be, the average is exact."""
    tokens = 65536
    v = torch.full((1, tokens, 2), 32767 / 2**10, dtype=torch.float64)
    w = torch.tensor([8.0, -8.0], dtype=torch.float64)
    y = tables.biwkv(w, 0 * w, torch.zeros_like(v), v)
    torch.testing.assert_close(y, v, rtol=1e-14, atol=0)


def test_raw_scale_index() -> None:
    raw = torch.linspace(-20, 70, 100001, dtype=torch.float64)
    mine, through = raw_scale_index(raw), scale_index(F.softplus(raw).clamp_min(SCALE_MIN))
    assert (mine != through).sum() == 0
    table = torch.from_numpy(_raw_scale_table())
    assert (table.diff() > 0).all()
    # No threshold lies so near a point of the state's grid that rounding it could matter.
    # (The last has no level above it.)
    assert ((table * 64 - (table * 64).round()).abs()[:-1] > 1e-6).all()


def test_rounding_by_inputs_beats_rounding_to_nearest() -> None:
    weight, mix = uniform((32, 64), "weight").double(), uniform((64, 64), "mix").double()
    x = uniform((2000, 64), "x").double() @ (mix @ mix)  # inputs that go together
    step = weight.abs().amax(1) / 127 * 8
    outputs = x @ weight.t()

    def loss(whole: Tensor) -> float:
        return float(((whole * step[:, None]) @ x.t() - outputs.t()).square().mean())

    rounded = round_by_inputs(weight, x.t() @ x, step)
    assert torch.equal(rounded, rounded.round()) and rounded.abs().max() <= 127
    assert loss(rounded) < 0.5 * loss((weight / step[:, None]).round())


@every_phase
def test_exact_is_near_the_float_model(config: ModelConfig, tiny_weights: Weights) -> None:
    x = to_input(kodak_crop())
    models = [
        zoo.load_model(config.phase, "tiny", weights=tiny_weights(config.phase), exact=e)
        for e in (True, False)
    ]
    for quality in (1.0, 5.5, 8.0):
        bits = [sum(model.compress(x, quality).bits) for model in models]
        assert bits[0] == pytest.approx(bits[1], rel=0.02)


@every_phase
def test_means_lie_on_the_grid(config: ModelConfig, tiny: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    code, seen = EncodeCoder.code, []

    def watch(self: EncodeCoder, step: object, scales: Tensor, means: Tensor) -> Tensor:
        seen.append((scales, means))
        return code(self, step, scales, means)  # type: ignore[arg-type]

    monkeypatch.setattr(EncodeCoder, "code", watch)
    tiny(config.phase).compress(to_input(kodak_crop()), 4.0)
    for values in seen:
        for x in values:
            assert x.dtype == torch.float64 and torch.equal(x * 64, (x * 64).round())


DIGEST = """
import sys
from pathlib import Path
from hpcmcodec import zoo
from hpcmcodec.selftest import entropy_digest
for path in map(Path, sys.argv[1:]):
    config = zoo.config_of(path)
    print(entropy_digest(zoo.load_model(config.phase, config.preset, config.family, weights=path)))
"""
MACHINES: dict[str, dict[str, str]] = {
    "one-thread": {"OMP_NUM_THREADS": "1"},
    "two-threads": {"OMP_NUM_THREADS": "2"},
    "native-avx2": {"CXX": "c++ -mno-avx512f"},
    "native-plain": {"CXX": "c++ -mno-avx"},
    "no-native": {"HPCM_NATIVE": "0"},
    "oldest": {"HPCM_NATIVE": "0", "ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    "avx2": {
        "HPCM_NATIVE": "0",
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "MKL_CBWR": "AVX2",
    },
    "avx512": {"HPCM_NATIVE": "0", "ATEN_CPU_CAPABILITY": "avx512"},
    "sse": {"HPCM_NATIVE": "0", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "MKL_CBWR": "COMPATIBLE"},
}


@pytest.mark.parametrize("machine", MACHINES)
def test_every_machine_computes_the_same(machine: str, tiny_weights: Weights) -> None:
    """All phases, instruction sets and thread counts, native or not: the digest is the one in the file."""
    paths = [tiny_weights(config.phase) for config in TINY]
    result = subprocess.run(
        [sys.executable, "-c", DIGEST, *map(str, paths)],
        env={**os.environ, **MACHINES[machine]},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [zoo.read_weights(path)[1][zoo.DIGEST] for path in paths]


def test_the_digest_tells_of_a_single_weight(tiny_weights: Weights, tiny: Models) -> None:
    model = zoo._build(TINY[4], zoo.stamps_of(tiny_weights(4)), "cpu", True)
    assert entropy_digest(model) == entropy_digest(tiny(4)) == model.entropy_digest
    head = model.context.prior_s3.head
    head.weight[5, 7] += 1
    assert entropy_digest(model) != model.entropy_digest


def test_layout_and_batch_do_not_matter(tiny: Models) -> None:
    """Samples alone or in a batch, in any memory format, come out the same."""
    model = tiny(4)
    z = torch.from_numpy(np.random.default_rng(0).integers(-4, 5, (3, model.config.sizes.N, 2, 3))).float()
    q = torch.tensor([1.0, 4.5, 8.0])
    whole = model.hyper_synthesise(z, q).common
    for i in range(3):
        alone = model.hyper_synthesise(
            z[i : i + 1].contiguous(memory_format=torch.channels_last), q[i : i + 1]
        )
        assert torch.equal(alone.common[0], whole[i])


def test_selftest(tiny_weights: Weights, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = selftest(TINY[1], tiny_weights(1))
    assert outcome.passed
    assert main(["selftest", "--weights", str(tiny_weights(1))]) == 0
    assert capsys.readouterr().out == f"rwkv-1-tiny  {outcome.here}  ok\n"

    from safetensors.torch import save_file

    stored, metadata = zoo.read_weights(tiny_weights(1))
    other = tmp_path / "other.safetensors"
    save_file(stored, other, metadata={**metadata, zoo.DIGEST: "00" * 16})
    assert main(["selftest", "--weights", str(other), "--json"]) == ModelMismatchError.exit_code
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_selftest_without_a_gpu(tiny_weights: Weights, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["selftest", "--weights", str(tiny_weights(1)), "--device", "cuda"]) == 2
    assert "there is no CUDA device here" in capsys.readouterr().err


def test_files_of_the_float_path_are_refused(tiny_weights: Weights) -> None:
    data = encode_picture(np.zeros((64, 64, 3), np.uint8), preset="tiny", weights=tiny_weights(4)).data
    whole = unpack(data)
    assert whole.header.profile == "integer"
    tiles = [tile for tile in whole.tiles if tile]
    old = pack(replace(whole.header, profile="float"), tiles, whole.alpha, whole.metadata)
    with pytest.raises(ModelMismatchError, match="float entropy coding"):
        decode_picture(old, tiny_weights(4))


def test_weights_without_an_exact_part_are_refused(tiny_weights: Weights, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    stored, metadata = zoo.read_weights(tiny_weights(2))
    old = tmp_path / "old.safetensors"
    save_file({n: t for n, t in stored.items() if not n.startswith(zoo.EXACT)}, old, metadata=metadata)
    with pytest.raises(WeightsError, match="export it anew"):
        zoo.load_model(2, "tiny", weights=old)


def test_export_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], tiny_weights: Weights) -> None:
    output = tmp_path / "out.safetensors"
    words = ["export", str(tiny_weights(0)), "--data", str(DATA), "-o", str(output), "--phase", "0"]
    assert main([*words, "--preset", "tiny", "--pictures", "2"]) == 0
    assert capsys.readouterr().out.strip() == str(output)
    assert selftest(TINY[0], output).passed
    assert main([*words, "--preset", "tiny"]) == 2
    assert "--force" in capsys.readouterr().err

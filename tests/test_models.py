from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from hpcmcodec.config import LAMBDAS, PHASES, PRESETS, ModelConfig, model_config
from hpcmcodec.entropy.coders import SymbolWriter
from hpcmcodec.entropy.likelihood import LIKELIHOOD_MIN
from hpcmcodec.errors import UsageError
from hpcmcodec.models import HPCM, QUALITY_PARTS
from hpcmcodec.models.complexity import complexity
from hpcmcodec.models.hpcm import ENTROPY_PARTS, SYNTHESIS_PARTS, QualityTable
from hpcmcodec.models.schedule import STEPS
from tests.conftest import TINY, build_tiny, every_phase, kodak_crop, to_input

# Millions of parameters and kMAC per pixel of phases 0..4: base as in spec section 1, lite as it was chosen.
COUNTS = {
    "base": ((68.50, 73.46, 80.93, 90.86, 157.71), (912, 1007, 1020, 1044, 2100)),
    "lite": ((25.5, 25.4, 25.3, 26.6, 29.3), (420, 418, 418, 421, 464)),
}
ROWS = [(preset, phase) for preset in COUNTS for phase in range(len(PHASES["rwkv"]))]


def likelihoods(
    model: HPCM, x: Tensor, quality: Tensor, noise: bool | None = None, tune: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """x_hat and the likelihoods of y and z."""
    out = model(x, quality, noise=noise, tune=tune)
    assert set(out) == {"x_hat", "likelihoods"} and set(out["likelihoods"]) == {"y", "z"}
    return out["x_hat"], out["likelihoods"]["y"], out["likelihoods"]["z"]


@pytest.mark.parametrize(("preset", "phase"), ROWS)
def test_counts_are_the_specs(preset: str, phase: int) -> None:
    counted = complexity(model_config(phase, preset))
    parameters, macs = (numbers[phase] for numbers in COUNTS[preset])
    assert counted["parameters"] / 1e6 == pytest.approx(parameters, rel=0.01)
    assert counted["macs_per_pixel"] / 1e3 == pytest.approx(macs, rel=0.01)
    assert 0 < counted["decoder_macs_per_pixel"] < counted["macs_per_pixel"]


def test_names_are_checked() -> None:
    for wrong in ({"phase": 5}, {"phase": -1}, {"preset": "huge"}, {"family": "multi"}):
        with pytest.raises(UsageError):
            model_config(**wrong)
    assert set(PRESETS) == {*COUNTS, "tiny"}


@every_phase
def test_forward(config: ModelConfig, tiny: Callable[[int], HPCM]) -> None:
    model, sizes = tiny(config.phase), config.sizes
    x = to_input(kodak_crop())[..., :64, :192].repeat(2, 1, 1, 1)
    for noise in (True, False):
        x_hat, y, z = likelihoods(model, x, torch.tensor([1.0, 7.5]), noise)
        assert x_hat.shape == x.shape
        assert y.shape == (2, sizes.M * 4 * 12)
        assert z.shape == (2, sizes.N, 1, 3)
        for p in (y, z):
            assert p.isfinite().all() and p.dtype == torch.float32
            assert p.min() >= LIKELIHOOD_MIN and p.max() <= 1
        bits = -y.log2().sum(1)
        assert bits[0] < bits[1], "a higher quality takes more bits"


@every_phase
def test_pictures_of_a_batch_do_not_meet(config: ModelConfig, tiny: Callable[[int], HPCM]) -> None:
    x = torch.stack(
        [to_input(kodak_crop(name))[0, :, :64, :128] for name in ("kodim04", "kodim20", "kodim23")]
    )
    quality = torch.tensor([2.0, 5.0, 8.0])
    together = likelihoods(tiny(config.phase), x, quality, noise=False)
    alone = likelihoods(tiny(config.phase), x[1:2], quality[1:2], noise=False)
    # A rounding that tips over moves what follows a little, so that it is the sums that are compared.
    assert float(together[1][1].log2().sum() / alone[1].log2().sum()) == pytest.approx(1, abs=0.01)
    assert float((together[0][1] - alone[0]).square().mean().sqrt()) < 0.01


def test_noise_is_for_training(tiny: Callable[[int], HPCM]) -> None:
    x, quality = to_input(kodak_crop())[..., :64, :64], torch.tensor([4.0])
    model = tiny(4)
    quiet = likelihoods(model, x, quality)[1]
    assert torch.equal(quiet, likelihoods(model, x, quality)[1])
    assert not torch.equal(*(likelihoods(model, x, quality, noise=True)[1] for _ in range(2)))
    noisy = -likelihoods(model, x, quality, noise=True)[1].log2().sum()
    assert float(noisy / -quiet.log2().sum()) == pytest.approx(1, abs=0.1)


@every_phase
def test_gradients_reach_every_parameter(config: ModelConfig) -> None:
    model = build_tiny(config).train()
    # 2 x 3 windows and more on every scale, and a picture for each quality, whose rows all take part then.
    x = to_input(kodak_crop())[..., :128, :64].repeat(len(LAMBDAS), 1, 1, 1)
    x_hat, y, z = likelihoods(
        model, x, torch.arange(1.0, len(LAMBDAS) + 1), tune=torch.linspace(0, 1, len(LAMBDAS)) + 0.1
    )
    ((x_hat - x).square().mean() - y.log2().mean() - z.log2().mean()).backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name
        if name.endswith("key.bias"):
            continue  # the same for all keys of a query: softmax does not notice
        reached = (p.grad.flatten(1) if p.dim() > 1 else p.grad[:, None]).abs().amax(1) > 0
        assert float(reached.float().mean()) > 0.5, name  # half, as a squared ReLU has units that rest


def test_every_parameter_has_its_part() -> None:
    """Fingerprints cover all that decoding depends on; what is left is the encoder's alone."""
    encoder = ("g_a.", "h_a.", "gain_y.", "gain_z.", "tune_g_a.", "tune_h_a.")
    for name, _ in HPCM(TINY[4]).named_parameters():
        parts = [name.startswith(part) for part in (ENTROPY_PARTS, SYNTHESIS_PARTS, encoder)]
        assert sum(parts) == 1, name


def test_quality_table() -> None:
    table = QualityTable(3, 5, low=-1.0, high=2.0)
    assert table.log.shape == (len(LAMBDAS), 3, 5)
    torch.testing.assert_close(table.log[:, 0, 0], torch.linspace(-1, 2, len(LAMBDAS)))
    table.log.data = torch.randn(table.log.shape, generator=torch.Generator().manual_seed(0))
    integers = torch.arange(1.0, len(LAMBDAS) + 1)
    torch.testing.assert_close(table(integers), table.log.exp())
    between = table(torch.tensor([1.25, 7.5]))
    expected = torch.stack((0.75 * table.log[0] + 0.25 * table.log[1], (table.log[6] + table.log[7]) / 2))
    torch.testing.assert_close(between, expected.exp())


def test_variable_rate_parts_are_the_quality_tables() -> None:
    tables = {name for name, module in HPCM(TINY[0]).named_modules() if isinstance(module, QualityTable)}
    assert tables == {name for name, _ in HPCM(TINY[0]).named_children() if name.startswith(QUALITY_PARTS)}


@every_phase
def test_the_fixture_codes_what_a_trained_model_would(
    config: ModelConfig, tiny: Callable[[int], HPCM], written: list[tuple[SymbolWriter, Tensor]]
) -> None:
    """Otherwise what passes on it would say little: every step, many levels, the escape."""
    model = tiny(config.phase)
    model.compress(to_input(kodak_crop()), 5.0)
    assert len(written) == 1 + len(STEPS)
    for _, q in written:
        assert float((q != 0).float().mean()) >= 0.3
    stream = written[-1][0]
    assert len(set(stream.indexes.tolist())) >= 20
    value = stream.symbols - model.tables.offset[stream.indexes]
    escapes = (value < 0) | (value >= model.tables.size[stream.indexes] - 2)
    assert 0.002 < escapes.mean() < 0.1

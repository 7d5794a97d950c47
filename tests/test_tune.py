"""The tune vectors, nothing until they are trained; and the distortion for the eye."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from hpcmcodec import zoo
from hpcmcodec.config import LAMBDAS, model_config
from hpcmcodec.models import HPCM, TUNE_PARTS
from hpcmcodec.models.transforms import Tune, run_transform
from hpcmcodec.training.export import export
from hpcmcodec.training.eye import SCALES, eye_distortion, eye_features, to_xyb
from hpcmcodec.training.loss import draw_tune, lambda_of, rate_distortion
from hpcmcodec.zoo import initial_weights

from .conftest import kodak_crop, to_input

GOLDEN = Path(__file__).parent / "data" / "golden" / "rwkv-4-tiny.safetensors"
CONFIG = model_config(4, "tiny")


def tiny() -> HPCM:
    """The golden weights, which are from before there was tune."""
    model = HPCM(CONFIG).eval().requires_grad_(False)
    model.load_weights(initial_weights(CONFIG, GOLDEN))
    return model


def crop(side: int = 128) -> Tensor:
    return to_input(kodak_crop())[..., :side, :side]


def test_weights_from_before_tune_are_the_same_at_every_tune() -> None:
    model, x, quality = tiny(), crop(), torch.tensor([3.0])
    plain = model(x, quality)
    tuned = model(x, quality, tune=torch.ones(1))
    torch.testing.assert_close(tuned["x_hat"], plain["x_hat"], rtol=0, atol=1e-5)
    for name, p in model.named_parameters():
        assert not name.startswith(TUNE_PARTS) or not p.any(), name


def test_trained_tune_vectors_are_stored_and_come_back(tmp_path: Path) -> None:
    model = HPCM(CONFIG)
    nn.init.uniform_(model.tune_g_s.shift.data)
    nn.init.uniform_(model.gain_y.tune.data)
    export(model, tmp_path / "w.safetensors", {}, [crop(64)])
    back = zoo.load_model(4, "tiny", weights=tmp_path / "w.safetensors", exact=False)
    assert torch.equal(back.tune_g_s.shift, model.tune_g_s.shift)
    assert torch.equal(back.gain_y.tune, model.gain_y.tune)
    assert not back.tune_g_a.scale.any()


def test_tune_scales_and_shifts_behind_every_layer_but_the_last() -> None:
    transform = nn.Sequential(nn.Conv2d(2, 3, 1), nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)).requires_grad_(
        False
    )
    tune = Tune(transform)
    nn.init.normal_(tune.scale.data)
    nn.init.normal_(tune.shift.data)
    assert tune.scale.shape == (3 + 4,)
    x, t = torch.randn(2, 2, 5, 5), torch.tensor([0.0, 0.5])
    expected = x
    for place, layer in enumerate(transform):
        expected = layer(expected)
        if place < 2:
            part = slice(0, 3) if place == 0 else slice(3, 7)
            scale, shift = (v[part].view(1, -1, 1, 1) for v in (tune.scale, tune.shift))
            expected = expected * (1 + t.view(2, 1, 1, 1) * scale) + t.view(2, 1, 1, 1) * shift
    torch.testing.assert_close(run_transform(transform, x, tune(t)), expected)
    torch.testing.assert_close(run_transform(transform, x, tune(t))[:1], run_transform(transform, x[:1]))


def test_a_picture_does_not_see_the_tune_of_another() -> None:
    model, x = tiny(), crop(64)
    for name, p in model.named_parameters():
        if name.startswith(TUNE_PARTS):
            nn.init.uniform_(p, -0.2, 0.2)
    both = model(torch.cat((x, x)), torch.tensor([3.0, 3.0]), tune=torch.tensor([0.0, 1.0]))["x_hat"]
    alone = model(x, torch.tensor([3.0]), tune=torch.ones(1))["x_hat"]
    torch.testing.assert_close(both[1:], alone, rtol=0, atol=1e-4)
    torch.testing.assert_close(both[:1], model(x, torch.tensor([3.0]))["x_hat"], rtol=0, atol=1e-4)
    assert float((both[0] - both[1]).abs().max()) > 1e-3


def test_half_of_the_tunes_are_zero_and_come_first() -> None:
    tune = draw_tune(64, torch.device("cpu"))
    assert not tune[:32].any() and (tune[32:] > 0).all() and (tune <= 1).all()
    assert 8 <= int((tune == 1).sum()) < 32
    assert draw_tune(1, torch.device("cpu")).tolist() == [0.0]


def test_the_loss_at_tune_0_is_the_plain_one() -> None:
    x, x_hat = crop(64).repeat(4, 1, 1, 1), (crop(64) + 0.02).repeat(4, 1, 1, 1)
    likelihood, quality = torch.full((4, 8), 0.5), torch.tensor([1.0, 3.0, 5.0, 8.0])
    plain = rate_distortion(x, quality, x_hat, likelihood, likelihood)
    zero = rate_distortion(x, quality, x_hat, likelihood, likelihood, torch.zeros(4))
    torch.testing.assert_close(zero["rd"], plain["rd"])
    tuned = rate_distortion(x, quality, x_hat, likelihood, likelihood, torch.tensor([0.0, 0.0, 0.5, 1.0]))
    assert torch.equal(tuned["rd"][:2], plain["rd"][:2]) and (tuned["rd"][2:] != plain["rd"][2:]).all()


def test_lambdas_are_met_at_integers_and_between() -> None:
    quality = torch.tensor([1.0, 8.0, 4.5])
    middle = (LAMBDAS[3] * LAMBDAS[4]) ** 0.5
    torch.testing.assert_close(lambda_of(quality), torch.tensor([LAMBDAS[0], LAMBDAS[7], middle]))


def test_xyb_of_known_colours() -> None:
    """Grey has no red-green difference; black lies at the offsets (Alakuijala et al., 2019)."""
    x = to_xyb(torch.tensor([0.0, 0.5, 1.0]).view(1, 1, 1, 3).expand(1, 3, 1, 3))
    torch.testing.assert_close(x[0, 0, 0], torch.full((3,), 0.42), rtol=0, atol=1e-5)
    torch.testing.assert_close(x[0, 1, 0, 0], torch.tensor(0.01), rtol=0, atol=1e-6)
    bias = 0.0037930732552754493
    torch.testing.assert_close(
        x[0, 1, 0, 2], torch.tensor((1 + bias) ** (1 / 3) - bias ** (1 / 3) + 0.01), rtol=0, atol=1e-5
    )


def test_equal_pictures_have_no_distortion_and_worse_ones_more() -> None:
    x = crop()
    assert eye_features(x, x).shape == (1, SCALES, 3, 6)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    levels = [eye_distortion(x, x + strength * noise) for strength in (0.0, 0.01, 0.03, 0.1)]
    assert float(levels[0]) < 0.01 * float(levels[1])
    assert all(a < b for a, b in pairwise(levels))


@pytest.mark.parametrize("scale", range(3))
def test_blur_is_edges_lost_and_noise_is_edges_new(scale: int) -> None:
    x = crop()
    blurred = nn.functional.avg_pool2d(x, 9, 1, 4, count_include_pad=False)
    noisy = x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    lost, new = eye_features(x, blurred)[0, scale, 1], eye_features(x, noisy)[0, scale, 1]
    assert lost[4] > lost[2] and new[2] > new[4]


def test_the_distortion_has_gradients_that_are_right() -> None:
    """Along a random direction, by central differences."""
    x = crop(64).double()
    generator = torch.Generator().manual_seed(3)
    noise, direction = (torch.randn(x.shape, generator=generator, dtype=torch.float64) for _ in range(2))
    x_hat = (x + 0.05 * noise).clamp(0.05, 0.95).requires_grad_()
    eye_distortion(x, x_hat).sum().backward()
    step = 1e-5
    with torch.no_grad():
        there, back = (eye_distortion(x, x_hat + sign * step * direction) for sign in (1, -1))
    assert x_hat.grad is not None and x_hat.grad.isfinite().all()
    measured = float((there - back) / (2 * step))
    assert float((x_hat.grad * direction).sum()) == pytest.approx(measured, rel=0.01)

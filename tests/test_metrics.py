from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from hpcmcodec import metrics
from hpcmcodec.errors import HpcmError, UsageError

# Kodak, RGB PSNR averaged over the 24 pictures, as CompressAI publishes them.
VTM = (
    [0.0482, 0.1125, 0.2458, 0.4905, 0.8748, 1.4308, 2.3246, 3.6326],
    [26.145, 28.493, 31.2, 34.262, 37.42, 40.424, 43.506, 46.592],
)
BPG = (
    [0.0678, 0.161, 0.3516, 0.6847, 1.1997, 1.9297, 3.0579, 4.7031],
    [26.195, 28.682, 31.595, 34.857, 38.26, 41.479, 44.703, 47.633],
)
CHENG2020 = (
    [0.1196, 0.1838, 0.271, 0.4174, 0.5945, 0.8057],
    [28.582, 29.968, 31.343, 33.39, 35.118, 36.704],
)


def picture(height: int, width: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_psnr_of_a_constant_error() -> None:
    a = np.full((5, 7, 3), 100, np.uint8)
    b = np.full((5, 7, 3), 101, np.uint8)
    assert metrics.psnr(a, b) == pytest.approx(48.1308, abs=1e-4)  # 20 log10(255)
    assert metrics.psnr(b, a) == metrics.psnr(a, b)


def test_psnr_of_the_largest_error_is_zero() -> None:
    assert metrics.psnr(np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 255, np.uint8)) == 0


def test_psnr_averages_the_error_over_channels() -> None:
    a = np.zeros((4, 4, 3), np.uint8)
    b = a.copy()
    b[..., 1] = 3
    assert metrics.psnr(a, b) == pytest.approx(10 * math.log10(255**2 / 3))


def test_psnr_of_equal_pictures_is_infinite() -> None:
    assert metrics.psnr(picture(4, 4), picture(4, 4)) == math.inf


@pytest.mark.parametrize("metric", [metrics.psnr, metrics.ms_ssim])
def test_arrays_of_any_layout_and_tensors_give_the_same(metric: Callable[..., float]) -> None:
    a, b = picture(176, 164), picture(176, 164, seed=1)
    expected = metric(a, b)
    frozen = a.copy()
    frozen.flags.writeable = False
    assert metric(frozen, torch.from_numpy(b)) == expected
    assert metric(np.asfortranarray(a)[::-1][::-1], b) == expected


@pytest.mark.parametrize("metric", [metrics.psnr, metrics.ms_ssim])
@pytest.mark.parametrize(
    ("a", "b"),
    [
        (np.zeros((4, 4, 3)), np.zeros((4, 4, 3))),
        (np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8)),
        (np.zeros((3, 4, 4), np.uint8), np.zeros((3, 4, 4), np.uint8)),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5, 3), np.uint8)),
        (np.zeros((0, 4, 3), np.uint8), np.zeros((0, 4, 3), np.uint8)),
    ],
)
def test_other_than_8_bit_rgb_of_one_size_is_refused(metric: Callable[..., float], a: Any, b: Any) -> None:
    with pytest.raises(UsageError):
        metric(a, b)


def test_ms_ssim_is_one_for_equal_pictures_and_falls_with_noise() -> None:
    a = picture(176, 192)
    noise = np.random.default_rng(1).integers(-40, 41, a.shape)
    little, much = (np.clip(a + noise * k, 0, 255).astype(np.uint8) for k in (1, 4))
    assert metrics.ms_ssim(a, a) == pytest.approx(1, abs=1e-6)
    assert 0 < metrics.ms_ssim(a, much) < metrics.ms_ssim(a, little) < 1


def test_ms_ssim_needs_161_pixels_a_side() -> None:
    assert math.isnan(metrics.ms_ssim(picture(160, 300), picture(160, 300)))
    assert math.isnan(metrics.ms_ssim(picture(300, 160), picture(300, 160)))
    assert metrics.ms_ssim(picture(161, 161), picture(161, 161)) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("factor", [0.9, 1.1, 2.0])
def test_rates_times_a_factor_are_that_bd_rate(factor: float) -> None:
    bpp, psnr = VTM
    assert metrics.bd_rate(bpp, psnr, [factor * r for r in bpp], psnr) == pytest.approx(100 * (factor - 1))


@pytest.mark.parametrize("shift", [-0.5, 0.3])
def test_a_shift_in_psnr_is_that_bd_psnr(shift: float) -> None:
    bpp, psnr = VTM
    assert metrics.bd_psnr(bpp, psnr, bpp, [p + shift for p in psnr]) == pytest.approx(shift)


def test_straight_lines_by_hand() -> None:
    # 10 dB per decade of rate. The second lies 1 dB higher: at the same PSNR it needs 10^-0.1 of the bits.
    bpp, psnr = [0.1, 1.0, 10.0], [20.0, 30.0, 40.0]
    higher = [p + 1 for p in psnr]
    assert metrics.bd_rate(bpp, psnr, bpp, higher) == pytest.approx(100 * (10**-0.1 - 1))
    assert metrics.bd_psnr(bpp, psnr, bpp, higher) == pytest.approx(1)
    # Two points on the same line, over a part of the range, cost nothing.
    assert metrics.bd_rate(bpp, psnr, [0.5, 2.0], [20 + 10 * math.log10(r / 0.1) for r in (0.5, 2.0)]) == (
        pytest.approx(0, abs=1e-9)
    )


def test_published_curves() -> None:
    assert metrics.bd_rate(*VTM, *VTM) == 0
    assert metrics.bd_rate(*VTM, *BPG) == pytest.approx(22.0, abs=0.1)
    assert metrics.bd_rate(*VTM, *CHENG2020) == pytest.approx(3.7, abs=0.1)
    assert metrics.bd_psnr(*VTM, *BPG) == pytest.approx(-0.98, abs=0.01)


def test_swapping_the_curves_inverts_the_ratio() -> None:
    there, back = metrics.bd_rate(*VTM, *BPG), metrics.bd_rate(*BPG, *VTM)
    assert (1 + there / 100) * (1 + back / 100) == pytest.approx(1)


@pytest.mark.parametrize("delta", [metrics.bd_rate, metrics.bd_psnr])
def test_points_come_in_any_order(delta: Callable[..., float]) -> None:
    shuffled = [[values[i] for i in (3, 0, 7, 5, 1, 2, 6, 4)] for values in BPG]
    assert delta(*VTM, *shuffled) == delta(*VTM, *BPG)


@pytest.mark.parametrize("psnr", [[50.0, 60.0], [46.592, 60.0]])
def test_no_shared_psnr_is_nan(psnr: list[float]) -> None:
    assert math.isnan(metrics.bd_rate(*VTM, [0.1, 0.2], psnr))


def test_no_shared_rate_is_nan() -> None:
    assert math.isnan(metrics.bd_psnr(*VTM, [10.0, 20.0], [30.0, 40.0]))


@pytest.mark.parametrize(
    ("bpp", "psnr"),
    [
        ([], []),
        ([0.1], [30.0]),
        ([0.1, 0.2], [30.0]),
        ([0.0, 0.2], [30.0, 31.0]),
        ([-0.1, 0.2], [30.0, 31.0]),
        ([0.1, 0.2], [30.0, math.inf]),
        ([0.1, math.nan], [30.0, 31.0]),
        ([0.1, 0.2], [30.0, 30.0]),
    ],
)
def test_curves_without_a_bd_rate_are_refused(bpp: list[float], psnr: list[float]) -> None:
    with pytest.raises(UsageError):
        metrics.bd_rate(*VTM, bpp, psnr)
    with pytest.raises(UsageError):
        metrics.bd_rate(bpp, psnr, *VTM)


def test_bd_psnr_needs_rates_that_differ() -> None:
    with pytest.raises(UsageError, match="same bpp"):
        metrics.bd_psnr(*VTM, [0.5, 0.5], [30.0, 31.0])


@pytest.mark.parametrize(
    ("module", "name", "call"),
    [
        ("pytorch_msssim", "pytorch-msssim", lambda: metrics.ms_ssim(picture(4, 4), picture(4, 4))),
        ("bjontegaard", "bjontegaard", lambda: metrics.bd_rate(*VTM, *BPG)),
        ("bjontegaard", "bjontegaard", lambda: metrics.bd_psnr(*VTM, *BPG)),
    ],
)
def test_a_missing_package_names_itself_and_the_extra(
    monkeypatch: pytest.MonkeyPatch, module: str, name: str, call: Callable[[], float]
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(HpcmError, match=f"{name}.*'bench'"):
        call()

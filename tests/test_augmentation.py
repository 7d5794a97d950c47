"""Crops taken from groups of pictures by share, rescaled, and varied in light and colour."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from hpcmcodec.cli import main
from hpcmcodec.errors import ImageError, UsageError
from hpcmcodec.training.augment import OFF, Augment, resample
from hpcmcodec.training.data import CropSource, Group
from hpcmcodec.training.options import TrainOptions

CPU = torch.device("cpu")
EVERYTHING = Augment(rescale=0.5, exposure=0.5, gamma=0.2, saturation=0.3, gain=0.1)


def flat(value: int, height: int = 90, width: int = 130) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def colours(source: CropSource, count: int) -> torch.Tensor:
    """The one colour of each crop."""
    crops = source.batch(count).mul(255).round().flatten(1)
    assert torch.equal(crops.amin(1), crops.amax(1)), "a crop is of one picture"
    return crops[:, 0]


@pytest.mark.parametrize("augment", [OFF, Augment(rescale=0.5)])
def test_each_group_has_its_share(augment: Augment) -> None:
    """However many pictures a group holds, and each of them is as likely as the others of its group."""
    torch.manual_seed(0)
    photos = [flat(10 + n) for n in range(40)]
    others = [Group([flat(100), flat(101)], 0.3), Group([flat(200, 64, 64), flat(201, 20, 20)], 0.1)]
    source = CropSource(photos, 64, CPU, others=others, augment=augment)
    assert source.count == 43 and source.smaller == 42
    seen = colours(source, 6000)
    within = [((low <= seen) & (seen < low + 50)).float().mean() for low in (0, 100, 200)]
    torch.testing.assert_close(torch.stack(within), torch.tensor([0.6, 0.3, 0.1]), atol=0.02, rtol=0)
    assert abs(float((seen == 100).float().mean()) - 0.15) < 0.02
    assert set(seen.tolist()) == {*range(10, 50), 100, 101, 200}


def test_a_group_without_a_crop_is_refused() -> None:
    with pytest.raises(ImageError, match="128 x 128"):
        CropSource([flat(1, 200, 200)], 128, CPU, others=[Group([flat(2)], 0.1)])


def test_a_share_of_nothing_leaves_the_others_alone() -> None:
    torch.manual_seed(0)
    source = CropSource([flat(1)], 64, CPU, others=[Group([flat(2)], 0.0)])
    assert set(colours(source, 500).tolist()) == {1.0}


@pytest.mark.parametrize("augment", [OFF, EVERYTHING])
def test_crops_follow_the_generator(augment: Augment) -> None:
    source = CropSource([noise(100, 150)], 64, CPU, others=[Group([noise(80, 90, 1)], 0.5)], augment=augment)
    batches = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        batches.append(source.batch(6))
    assert torch.equal(batches[0], batches[1]) and not torch.equal(batches[0], batches[2])


def test_whatever_is_on_crops_are_crops() -> None:
    torch.manual_seed(0)
    source = CropSource([noise(130, 131), flat(0), flat(255)], 64, CPU, augment=EVERYTHING)
    crops = source.batch(40)
    assert crops.shape == (40, 3, 64, 64) and crops.is_contiguous(memory_format=torch.channels_last)
    assert crops.isfinite().all() and crops.min() == 0 and crops.max() == 1
    torch.testing.assert_close(crops * 255, (crops * 255).round(), atol=1e-4, rtol=0)


def test_rescaled_crops_of_a_flat_picture_are_flat() -> None:
    torch.manual_seed(0)
    source = CropSource([flat(value, 150, 128) for value in (0, 1, 77, 254, 255)], 64, CPU)
    source.augment = Augment(rescale=1)
    assert set(colours(source, 100).tolist()) == {0.0, 1.0, 77.0, 254.0, 255.0}


@pytest.mark.parametrize("scale", [1.0, 1.3, 2.0])
def test_resampling_a_sine(scale: float) -> None:
    """A slow wave is read where the pixels of the result have their centres, a fast one vanishes."""
    reach = 6
    place = torch.arange(2 * 64 + 2 * reach, dtype=torch.float64) - reach + 0.5
    centre = (torch.arange(64, dtype=torch.float64) + 0.5) * scale

    def wave(at: torch.Tensor, period: float) -> torch.Tensor:
        return 127.5 + 100 * torch.sin(2 * math.pi * at / period)

    for period, kept in ((24.0, 1), (2.5, 0))[: 2 if scale == 2 else 1]:
        window = wave(place, period)[:, None, None].expand(-1, len(place), 3).float()[None]
        expected = 127.5 + kept * (wave(centre, period) - 127.5)
        for turned in (False, True):
            result = resample(window.transpose(1, 2) if turned else window, torch.tensor([scale]), 64)
            line = result[0, 20, :, 1] if turned else result[0, :, 20, 1]
            assert result.shape == (1, 64, 64, 3)
            assert (line - expected).abs().max() < (2 if kept else 6), period


def test_scale_one_changes_nothing() -> None:
    window = torch.from_numpy(noise(140, 140)).float()[None]
    assert torch.equal(resample(window, torch.ones(1), 64), window[:, 6:70, 6:70])


def test_rescaled_crops_show_more_of_the_picture() -> None:
    """A ramp of one level a pixel rises by the scale from pixel to pixel, and no crop goes over the edge."""
    torch.manual_seed(0)
    ramp = np.broadcast_to(np.arange(200, dtype=np.uint8)[:, None, None], (200, 200, 3))
    source = CropSource([np.ascontiguousarray(ramp)], 64, CPU, augment=Augment(rescale=1))
    source.places[:, 2] = 0  # no copies, whose scale is another
    crops = source.batch(300) * 255
    across, down = crops[:, 0, :, 32], crops[:, 0, 32, :]
    rise = torch.maximum((across[:, -8] - across[:, 8]).abs(), (down[:, -8] - down[:, 8]).abs()) / 48
    assert 1 <= rise.min() < 1.02 and 1.98 < rise.max() <= 2.01
    factor = 1 / rise
    assert abs(float(factor.mean()) - 0.75) < 0.02, "the factor is drawn evenly from 0.5 to 1"
    assert crops.min() >= 0 and crops.max() <= 199


def test_a_small_picture_is_not_made_too_small() -> None:
    torch.manual_seed(0)
    source = CropSource([noise(70, 200)], 64, CPU, augment=Augment(rescale=1))
    most = source.size.amin(1) / 64
    scales = torch.stack([source.augment.scale(most) for _ in range(200)])
    assert scales.min() >= 1 and (scales <= most).all()
    assert source.batch(50).isfinite().all()


def test_grey_stays_grey_in_other_light() -> None:
    torch.manual_seed(0)
    levels = torch.linspace(0, 1, 256).expand(32, 3, 1, 256)
    every = torch.ones(32, dtype=torch.bool)
    varied = Augment(exposure=1, gamma=0.5, saturation=0.5).recolour(levels, every)
    assert torch.equal(varied[:, 0], varied[:, 1]) and torch.equal(varied[:, 0], varied[:, 2])
    assert (varied.diff(dim=3) >= 0).all(), "lighter stays lighter"
    coloured = Augment(gain=0.2).recolour(levels, every)
    assert not torch.equal(coloured[:, 0], coloured[:, 1])


@pytest.mark.parametrize(
    ("augment", "low", "high"),
    [
        (Augment(exposure=1.1), 0.25 * 2**-0.5, 0.25 * 2**0.5),
        (Augment(gamma=1.0), 0.25**2, 0.25**0.5),
        (Augment(gain=0.2), 0.2, 0.3),
    ],
)
def test_how_far_colours_go(augment: Augment, low: float, high: float) -> None:
    torch.manual_seed(0)
    y = augment.recolour(torch.full((2000, 3, 1, 1), 0.25), torch.ones(2000, dtype=torch.bool))
    assert low - 0.003 < y.min() < low + 0.01 and high - 0.01 < y.max() < high + 0.003


def test_saturation_goes_from_grey_to_twice_the_colour() -> None:
    torch.manual_seed(0)
    x = torch.tensor([0.5, 0.4, 0.3])[:, None, None].expand(2000, 3, 1, 1)
    y = Augment(saturation=1).recolour(x, torch.ones(2000, dtype=torch.bool))[..., 0, 0]
    spread = y[:, 0] - y[:, 2]
    assert spread.min() < 0.01 and 0.39 < spread.max() < 0.41
    luma = y @ torch.tensor([0.299, 0.587, 0.114])
    assert (luma - luma.mean()).abs().max() < 0.005


class Recorded(TorchDispatchMode):
    """What PyTorch is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.asked.add(func.overloadpacket.__name__)
        places = [p for place in args[1:2] if isinstance(place, list | tuple) for p in place]
        if any(isinstance(place, torch.Tensor) and place.dtype == torch.bool for place in places):
            self.asked.add("nonzero")  # a mask as an index
        return func(*args, **(kwargs or {}))


def test_a_batch_moves_nothing_between_host_and_device() -> None:
    """A CUDA graph can hold neither values of the host nor shapes that hang on values."""
    source = CropSource([noise(150, 150)], 64, CPU, others=[Group([noise(64, 64)], 0.5)], augment=EVERYTHING)
    with Recorded() as recorded:
        source.batch(4)
    assert {"rand", "index", "where"} <= recorded.asked
    assert not recorded.asked & {"lift_fresh", "_local_scalar_dense", "nonzero", "masked_select", "unique"}
    with Recorded() as recorded:
        torch.tensor([1.0]).item()
        torch.ones(3)[torch.ones(3) > 0]
    assert {"lift_fresh", "_local_scalar_dense", "nonzero"} <= recorded.asked, "it would be seen"


def test_only_photographs_are_varied() -> None:
    torch.manual_seed(0)
    source = CropSource([flat(100)], 64, CPU, others=[Group([noise(64, 64)], 0.5)], augment=EVERYTHING)
    turns = [np.rot90(noise(64, 64), turn) for turn in range(4)]
    pieces = {piece.tobytes() for turn in turns for piece in (turn, turn[:, ::-1])}
    crops = source.batch(60).mul(255).round().byte().permute(0, 2, 3, 1)
    drawn = [crop for crop in crops if crop.amin() != crop.amax() and len(crop.unique()) > 3]
    assert 15 < len(drawn) < 45
    assert all(crop.contiguous().numpy().tobytes() in pieces for crop in drawn)


@pytest.mark.parametrize("wrong", [{"rescale": 1.5}, {"exposure": -1}, {"gain": 2}, {"gamma": math.nan}])
def test_strengths_that_make_no_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Augment(**wrong)


def test_the_command_line_says_it_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[TrainOptions] = []
    monkeypatch.setattr("hpcmcodec.training.run.train", lambda options, *_: asked.append(options))
    line = "--rescale 0.5 --exposure 0.3 --gamma 0.1 --saturation 0.2 --channel-gain 0.05"
    drawn = f"--drawn 7 --drawn-data {tmp_path} --drawn-share 0.06"
    assert main(f"train --data {tmp_path} -o {tmp_path}/run {line} {drawn}".split()) == 0
    assert main(f"train --data {tmp_path} -o {tmp_path}/run".split()) == 0
    assert asked[0].augment == Augment(0.5, 0.3, 0.1, 0.2, 0.05)
    assert (asked[0].drawn, asked[0].drawn_data, asked[0].drawn_share) == (7, (tmp_path,), 0.06)
    assert asked[1].augment == OFF and asked[1].drawn_share is None and asked[1].drawn_data == ()

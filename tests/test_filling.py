"""Pixels under alpha 0 cost next to nothing, and those that are seen stay as they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hpcmcodec import codec, pictures
from hpcmcodec.pictures import fill_hidden

rng = np.random.default_rng(0)


def noise(height: int, width: int) -> np.ndarray:
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 1), (2, 2), (5, 57), (64, 64), (530, 31)])
@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
def test_what_is_seen_stays_and_what_is_not_lies_between(size: tuple[int, int], share: float) -> None:
    rgb = noise(*size)
    alpha = (rng.random(size) >= share).astype(np.uint8) * rng.integers(1, 256, size, dtype=np.uint8)
    alpha[0, 0] = 1
    before = rgb.copy()
    filled = fill_hidden(rgb, alpha)
    np.testing.assert_array_equal(rgb, before)
    seen = alpha > 0
    np.testing.assert_array_equal(filled[seen], rgb[seen])
    assert (filled.min(axis=(0, 1)) >= rgb[seen].min(axis=0)).all()
    assert (filled.max(axis=(0, 1)) <= rgb[seen].max(axis=0)).all()


def test_what_is_under_it_makes_no_difference() -> None:
    y, x = np.mgrid[:300, :200]
    alpha = np.where((x - 90) ** 2 + (y - 160) ** 2 < 70**2, 255, 0).astype(np.uint8)
    rgb = np.stack([x, y // 2, 255 - x], axis=-1).astype(np.uint8)
    one = fill_hidden(rgb, alpha)
    other = fill_hidden(np.where(alpha[..., None] > 0, rgb, noise(300, 200)), alpha)
    np.testing.assert_array_equal(one, other)
    steps = np.abs(np.diff(one.astype(int), axis=0)), np.abs(np.diff(one.astype(int), axis=1))
    assert max(step.max() for step in steps) <= 16


def test_bands_leave_no_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    rgb, alpha = noise(100, 40), np.zeros((100, 40), np.uint8)
    alpha[::13, ::7] = 255
    whole = fill_hidden(rgb, alpha)
    monkeypatch.setattr("hpcmcodec.pictures.filling.BAND", 8)
    np.testing.assert_array_equal(fill_hidden(rgb, alpha), whole)


EXPECTED = [
    [120, 120, 120, 123, 128, 131],
    [121, 121, 120, 124, 129, 132],
    [123, 124, 125, 127, 131, 133],
    [126, 127, 128, 131, 135, 137],
    [129, 130, 132, 135, 141, 147],
]


def test_the_same_on_every_machine() -> None:
    rgb = (np.arange(5 * 6 * 3).reshape(5, 6, 3) * 37 % 256).astype(np.uint8)
    alpha = np.zeros((5, 6), np.uint8)
    alpha[1, 2] = alpha[4, 5] = 9
    assert fill_hidden(rgb, alpha)[..., 0].tolist() == EXPECTED


def test_nothing_or_all_hidden() -> None:
    rgb = noise(6, 5)
    assert fill_hidden(rgb, np.ones((6, 5), np.uint8)) is rgb
    assert (fill_hidden(rgb, np.zeros((6, 5), np.uint8)) == 128).all()


def test_grey_stays_grey() -> None:
    grey = np.repeat(noise(20, 20)[..., :1], 3, axis=2)
    alpha = rng.integers(0, 2, (20, 20), dtype=np.uint8)
    filled = fill_hidden(grey, alpha)
    assert (filled == filled[..., :1]).all()


def test_reading_a_picture_leaves_what_is_hidden() -> None:
    """Only the codec fills: a picture that is read and saved keeps all its samples."""
    rgba = rng.integers(0, 256, (9, 9, 4), dtype=np.uint8)
    rgba[..., 3] = 0
    np.testing.assert_array_equal(pictures.read(rgba).rgb, rgba[..., :3])


@pytest.mark.parametrize("channels", [2, 4])
def test_the_codec_sees_nothing_of_it(channels: int, tiny_weights: Callable[[int], Path]) -> None:
    y, x = np.mgrid[:64, :128]
    picture = np.stack([x, y, x + y, np.where(x > 60, 255, 0)], axis=-1).astype(np.uint8)[..., -channels:]
    noisy = np.where(picture[..., -1:] > 0, picture, rng.integers(0, 256, picture.shape, dtype=np.uint8))
    noisy[..., -1] = picture[..., -1]
    one, other = (
        codec.encode(array, 5, phase=0, preset="tiny", weights=tiny_weights(0)) for array in (picture, noisy)
    )
    assert one == other

"""Tiles, windows, crops, damage and targets, on a real model of the smallest size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hpcmcodec import CorruptFileError, HpcmError, UsageError
from hpcmcodec.codec import Target, decode_picture, encode_picture
from hpcmcodec.codec.decoding import BROKEN
from hpcmcodec.container import unpack
from hpcmcodec.models import HPCM, analyse_area, synthesise_area, windows
from tests.conftest import kodak_crop

Weights = Callable[[int], Path]


def picture(height: int, width: int) -> np.ndarray:
    """A piece of a photo, repeated in mirror image until it is as large as wanted."""
    crop = kodak_crop()
    rows = np.concatenate((crop, crop[::-1]))
    both = np.concatenate((rows, rows[:, ::-1]), 1)
    times = -(-height // both.shape[0]), -(-width // both.shape[1]), 1
    return np.tile(both, times)[:height, :width].copy()


def options(weights: Weights) -> dict:
    return {"preset": "tiny", "weights": weights(4)}


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.square(a.astype(float) - b).mean()))


@pytest.mark.parametrize(("height", "width"), [(64, 64), (320, 448), (1024, 64)])
def test_windows_give_what_the_whole_gives(
    tiny: Callable[[int], HPCM], monkeypatch: pytest.MonkeyPatch, height: int, width: int
) -> None:
    model, rgb = tiny(4), picture(height, width)
    area = 0, 0, height, width
    monkeypatch.setattr(windows, "LONGEST", 100)
    whole = analyse_area(model, rgb, area, (height, width))
    y_hat = whole.permute(0, 2, 3, 1).round()

    def read(top: int, bottom: int, left: int, right: int) -> torch.Tensor:
        return y_hat[:, top:bottom, left:right]

    ((_, _, expected),) = synthesise_area(model, read, 5.0, area, (height, width))
    monkeypatch.setattr(windows, "LONGEST", 9)
    torch.testing.assert_close(analyse_area(model, rgb, area, (height, width)), whole, rtol=1e-4, atol=1e-4)
    pieces = torch.full_like(expected, torch.nan)
    for top, left, x in synthesise_area(model, read, 5.0, area, (height, width)):
        pieces[:, :, top : top + x.shape[2], left : left + x.shape[3]] = x
    torch.testing.assert_close(pieces, expected, rtol=1e-4, atol=1e-4)


def test_a_smaller_halo_would_show(tiny: Callable[[int], HPCM], monkeypatch: pytest.MonkeyPatch) -> None:
    model, rgb = tiny(4), picture(320, 320)
    whole = analyse_area(model, rgb, (0, 0, 320, 320), (320, 320))
    monkeypatch.setattr(windows, "LONGEST", 9)
    monkeypatch.setattr(windows, "HALO", 2)
    assert (analyse_area(model, rgb, (0, 0, 320, 320), (320, 320)) - whole).abs().max() > 1e-4


def test_tiles_have_no_seams(tiny_weights: Weights) -> None:
    rgb = picture(600, 700)
    tiled = encode_picture(rgb, tile=256, **options(tiny_weights))
    assert unpack(tiled.data).header.grid == (3, 3)
    decoded = np.asarray(decode_picture(tiled.data, tiny_weights(4)).image)
    whole = encode_picture(rgb, **options(tiny_weights))
    reference = np.asarray(decode_picture(whole.data, tiny_weights(4)).image)
    assert abs(psnr(decoded, rgb) - psnr(reference, rgb)) < 0.2
    along = [
        psnr(part[250:262], original[250:262])
        for part, original in ((decoded, rgb), (decoded[2:], rgb[2:]), (reference, rgb))
    ]
    beside = (
        np.concatenate((decoded[100:160], decoded[350:410])),
        np.concatenate((rgb[100:160], rgb[350:410])),
    )
    assert abs(along[0] - along[2]) < 0.2, "the same rows without tiles"
    assert along[0] > psnr(*beside) - 1.5


def test_a_crop_reads_only_its_tiles(tiny_weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode_picture(picture(600, 700), tile=256, **options(tiny_weights)).data
    whole = np.asarray(decode_picture(data, tiny_weights(4)).image).astype(int)
    decoded: list[tuple[int, int]] = []
    decompress = HPCM.decompress_latent

    def counted(self: HPCM, *arguments: object) -> torch.Tensor:
        decoded.append(arguments[3:5])  # type: ignore[arg-type]
        return decompress(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(HPCM, "decompress_latent", counted)
    for x, y, width, height, tiles in [
        (100, 90, 50, 60, 1),
        (310, 310, 90, 1, 1),
        (200, 90, 100, 20, 2),
        (250, 250, 12, 12, 4),
        (0, 0, 700, 600, 9),
        (699, 599, 1, 1, 1),
    ]:
        decoded.clear()
        part = decode_picture(data, tiny_weights(4), crop=(x, y, width, height)).image
        assert np.abs(np.asarray(part) - whole[y : y + height, x : x + width]).max() <= 1
        assert len(decoded) == tiles
    for crop in [(-1, 0, 5, 5), (0, 0, 701, 5), (0, 0, 5, 601), (5, 5, 0, 5)]:
        with pytest.raises(UsageError, match="is not inside 700 x 600"):
            decode_picture(data, tiny_weights(4), crop=crop)


def test_damaged_tiles_are_greyed(tiny_weights: Weights) -> None:
    rgb = picture(512, 512)
    data = bytearray(encode_picture(rgb, tile=256, **options(tiny_weights)).data)
    whole = np.asarray(decode_picture(bytes(data), tiny_weights(4)).image)
    starts = [i for i in range(len(data)) if data[i : i + 4] == b"TILE"]
    assert len(starts) == 4
    data[starts[1] + 40] ^= 1  # a stream
    data[starts[2] + 5] ^= 0x40  # a length
    with pytest.raises(CorruptFileError):
        decode_picture(bytes(data), tiny_weights(4))
    left = decode_picture(bytes(data), tiny_weights(4), partial=True)
    pixels = np.asarray(left.image)
    assert (pixels[:256, 256:] == BROKEN).all() and (pixels[256:, :256] == BROKEN).all()
    assert np.abs(pixels[:200, :200].astype(int) - whole[:200, :200]).max() <= 1
    assert np.abs(pixels[310:, 310:].astype(int) - whole[310:, 310:]).max() <= 1
    text = "\n".join(left.broken)
    assert "tile 1, 256 x 256 pixels at 256, 0, is lost" in text and "tile 2" in text
    cut = decode_picture(bytes(data[: starts[3] + 20]), tiny_weights(4), partial=True)
    assert (np.asarray(cut.image)[256:, 256:] == BROKEN).all()
    for nothing in (data[: starts[0]], data[:20], b""):
        with pytest.raises(CorruptFileError):
            decode_picture(bytes(nothing), tiny_weights(4), partial=True)


def test_tile_sizes(tiny_weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    for tile in (-64, 64, 200, 2112):
        with pytest.raises(UsageError, match="256 to 2048"):
            encode_picture(picture(64, 64), tile=tile, **options(tiny_weights))
    small = encode_picture(picture(300, 64), tile=512, **options(tiny_weights))
    assert unpack(small.data).header.tile == 0, "one tile is no tiling"
    monkeypatch.setattr("hpcmcodec.codec.encoding.ONE_TILE", 300 * 300)
    monkeypatch.setattr("hpcmcodec.codec.encoding.AUTOMATIC_TILE", 256)
    assert unpack(encode_picture(picture(320, 320), **options(tiny_weights)).data).header.tile == 256
    with pytest.raises(UsageError, match="needs tiles"):
        encode_picture(picture(320, 320), tile=0, **options(tiny_weights))


@pytest.mark.parametrize("kind", ["bpp", "size", "psnr"])
def test_targets(tiny_weights: Weights, kind: str) -> None:
    rgb = picture(192, 256)
    low, high = (encode_picture(rgb, q, **options(tiny_weights)) for q in (2, 7))
    all_ends: dict[str, list[float]] = {
        "bpp": [8 * len(e.data) / rgb[..., 0].size for e in (low, high)],
        "size": [len(e.data) for e in (low, high)],
        "psnr": [psnr(np.asarray(decode_picture(e.data, tiny_weights(4)).image), rgb) for e in (low, high)],
    }
    goal = sum(all_ends[kind]) / 2
    if kind == "size":
        target = Target(size=round(goal))
    else:
        target = Target(bpp=goal) if kind == "bpp" else Target(psnr=goal)
    found = encode_picture(rgb, target=target, **options(tiny_weights))
    assert not found.notes and 2 < found.quality < 7
    reached = np.asarray(decode_picture(found.data, tiny_weights(4)).image)
    if kind == "psnr":
        assert found.psnr is not None and abs(found.psnr - psnr(reached, rgb)) < 0.01
        assert goal - 0.01 < found.psnr < goal + 0.1
    else:
        value = len(found.data) * (8 / rgb[..., 0].size if kind == "bpp" else 1)
        assert 0.98 * goal <= value <= goal


def test_targets_out_of_reach(tiny_weights: Weights) -> None:
    rgb = picture(128, 128)
    for target, quality in ((Target(bpp=1e-3), 1), (Target(size=10**7), 8), (Target(psnr=99), 8)):
        found = encode_picture(rgb, target=target, **options(tiny_weights))
        assert found.quality == quality
        assert len(found.notes) == 1 and "cannot be reached" in found.notes[0]
    for wrong in (Target(), Target(bpp=1, size=1), Target(psnr=-1)):
        with pytest.raises(UsageError, match="target"):
            encode_picture(rgb, target=wrong, **options(tiny_weights))


def test_verify(tiny_weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    rgb = picture(128, 128)
    encode_picture(rgb, verify=True, **options(tiny_weights))
    compress = HPCM.compress_latent

    def wrong(self: HPCM, latent: torch.Tensor, quality: float) -> object:
        return replace(compress(self, latent, quality), checksum=b"12345678")

    monkeypatch.setattr(HPCM, "compress_latent", wrong)
    with pytest.raises(HpcmError, match="does not decode to what was coded"):
        encode_picture(rgb, verify=True, **options(tiny_weights))
    encode_picture(rgb, **options(tiny_weights))


def test_progress(tiny_weights: Weights) -> None:
    shares: list[float] = []
    data = encode_picture(picture(300, 600), tile=256, progress=shares.append, **options(tiny_weights)).data
    assert len(shares) == 6 and shares == sorted(shares) and shares[-1] == 1
    shares.clear()
    decode_picture(data, tiny_weights(4), progress=shares.append)
    assert shares == sorted(shares) and shares[-1] == 1

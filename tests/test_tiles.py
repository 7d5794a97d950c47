"""Tiles, windows, crops, damage and targets, on a real model of the smallest size."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

from hpcmcodec import CorruptFileError, HpcmError, LimitError, UsageError
from hpcmcodec.codec import Target, analyse_picture, decode, decode_picture, encode, encode_picture
from hpcmcodec.codec.decoding import BROKEN
from hpcmcodec.codec.latents import Latents
from hpcmcodec.container import Header, Tile, pack, unpack
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


def test_a_limit_on_pixels(tiny_weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    rgb, weights = picture(64, 65), tiny_weights(4)
    data = encode_picture(rgb, max_pixels=64 * 128, verify=True, **options(tiny_weights)).data
    assert decode(data, weights, max_pixels=64 * 128).size == (65, 64)
    calls: list[Callable[..., Any]] = [
        lambda: decode(data, weights, max_pixels=64 * 128 - 1),
        lambda: decode_picture(data, weights, crop=(0, 0, 1, 1), max_pixels=64 * 65),
        lambda: decode_picture(data, weights, partial=True, max_pixels=1),
        lambda: encode(rgb, preset="tiny", weights=weights, max_pixels=64 * 65),
        lambda: encode(Image.fromarray(rgb), preset="tiny", weights=weights, max_pixels=64 * 65),
        lambda: analyse_picture(rgb, max_pixels=64 * 65, **options(tiny_weights)),
        lambda: encode_picture(np.zeros((1, 2**17), np.uint8), max_pixels=2**18, **options(tiny_weights)),
    ]
    for call in calls:
        with pytest.raises(LimitError):
            call()
    monkeypatch.setenv("HPCM_MAX_PIXELS", "5000")
    with pytest.raises(LimitError):
        decode(data, weights)
    with pytest.raises(LimitError):
        encode(rgb, preset="tiny", weights=weights)
    assert decode(data, weights, max_pixels=10**6).size == (65, 64)


def test_a_page_of_another_size_is_measured_before_it_is_decoded(tiny_weights: Weights) -> None:
    buffer = io.BytesIO()
    pages = [Image.new("L", size) for size in ((8, 8), (900, 900))]
    pages[0].save(buffer, "TIFF", save_all=True, append_images=pages[1:])
    with Image.open(buffer) as image:
        encode_picture(image, frame=0, max_pixels=64 * 64, **options(tiny_weights))
    with Image.open(buffer) as image, pytest.raises(LimitError, match="900 x 900"):
        encode_picture(image, frame=1, max_pixels=64 * 64, **options(tiny_weights))


class Counted(tuple):
    """Counts how many of its items are looked at."""

    looks = 0

    def __getitem__(self, key: Any) -> Any:
        Counted.looks += 1
        return super().__getitem__(key)

    def __iter__(self) -> Iterator[Any]:
        for item in super().__iter__():
            Counted.looks += 1
            yield item


@pytest.mark.parametrize("shape", [(64, 64 * 4000), (64 * 4000, 64)])
def test_each_window_looks_at_its_own_tiles(shape: tuple[int, int]) -> None:
    header = Header("rwkv", 4, "tiny", 5, *shape, bytes(4), bytes(4), tile=256)
    areas = header.areas
    assert len(areas) == 1000
    header.__dict__["areas"] = Counted(areas)
    Counted.looks = 0
    latents = Latents(SimpleNamespace(), header, [None] * len(areas), partial=True)  # type: ignore[arg-type]
    rows, columns = (side // 16 for side in header.padded)
    for top in range(0, rows, 40):
        for left in range(0, columns, 40):
            assert latents.read(top, min(rows, top + 40), left, min(columns, left + 40)) is None
    assert latents.broken == set(range(1000))
    assert Counted.looks < 10 * len(areas)


def test_many_lost_tiles_are_summed_up(tiny_weights: Weights) -> None:
    data = encode_picture(picture(70, 256 * 14), tile=256, **options(tiny_weights)).data
    header, tiles = unpack(data).header, [tile for tile in unpack(data).tiles if tile]
    tiles[1:13] = [replace(tile, z=b"") for tile in tiles[1:13]]
    left = decode_picture(pack(header, tiles), tiny_weights(4), partial=True)
    assert len(left.broken) == 9
    assert left.broken[0] == "tile 1, 256 x 70 pixels at 256, 0, is lost"
    assert left.broken[-1] == "and 4 more of its 14 tiles are lost"
    assert (np.asarray(left.image)[:, 256 : 13 * 256] == BROKEN).all()


def test_grey_is_bounded_by_what_is_there(tiny_weights: Weights) -> None:
    """Tiles that are there and hold nothing are as lost as those that are missing."""
    header = unpack(encode_picture(picture(64, 64), **options(tiny_weights)).data).header
    empty = Tile(bytes(8), bytes(8), bytes(8))
    for columns, fits in ((4, True), (5, False)):
        wide = replace(header, width=columns * 2048, height=2048, tile=2048)
        data = pack(wide, [empty] * columns)
        assert len(data) < 300
        if fits:
            assert decode_picture(data, tiny_weights(4), partial=True).image.size == (columns * 2048, 2048)
            continue
        with pytest.raises(CorruptFileError, match="too little of it is left, 5 of its 5 tiles are lost"):
            decode_picture(data, tiny_weights(4), partial=True)
        cropped = decode_picture(data, tiny_weights(4), partial=True, crop=(2040, 0, 20, 20))
        assert cropped.image.size == (20, 20) and len(cropped.broken) == 2


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    whole = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(whole)


def ihdr(width: int, height: int, depth: int = 8, colour: int = 0) -> tuple[bytes, bytes]:
    return b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)


PIXELS = b"IDAT", zlib.compress(bytes(65 * 64))
END = b"IEND", b""
ODD_ALPHA = {
    "nothing": b"",
    "no PNG": b"GIF89a" + bytes(60),
    "start only": png(),
    "header only": png(ihdr(64, 64)),
    "empty profile": png(ihdr(64, 64), (b"iCCP", b""), PIXELS, END),
    "profile behind the pixels": png(ihdr(64, 64), PIXELS, (b"iCCP", b""), END),
    "profile without end": png(ihdr(64, 64), (b"iCCP", b"name"), PIXELS, END),
    "empty physical size": png(ihdr(64, 64), (b"pHYs", b""), PIXELS, END),
    "empty transparency": png(ihdr(64, 64), (b"tRNS", b""), PIXELS, END),
    "empty gamma": png(ihdr(64, 64), PIXELS, (b"gAMA", b""), END),
    "text bomb": png(ihdr(64, 64), (b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 27))), PIXELS, END),
    "another size": png(ihdr(64, 65), PIXELS, END),
    "a bomb": png(ihdr(30000, 30000), PIXELS, END),
    "a bomb behind": png(ihdr(64, 64), ihdr(30000, 30000), PIXELS, END),
    "16 bits": png(ihdr(64, 64, 16), (b"IDAT", zlib.compress(bytes(129 * 64))), END),
    "4 bits": png(ihdr(64, 64, 4), (b"IDAT", zlib.compress(bytes(33 * 64))), END),
    "palette": png(ihdr(64, 64, 8, 3), (b"PLTE", bytes(3)), PIXELS, END),
    "too few pixels": png(ihdr(64, 64), (b"IDAT", zlib.compress(bytes(9))), END),
    "no stream": png(ihdr(64, 64), (b"IDAT", b"none"), END),
}


OF_NO_MATTER = ("empty physical size", "empty transparency", "empty gamma", "profile behind the pixels")


@pytest.mark.parametrize("name", ODD_ALPHA)
def test_odd_alpha_is_damage(name: str, tiny_weights: Weights) -> None:
    container = unpack(encode_picture(picture(64, 64), **options(tiny_weights)).data)
    data = pack(container.header, [tile for tile in container.tiles if tile], ODD_ALPHA[name])
    left = decode_picture(data, tiny_weights(4), partial=True)
    if name in OF_NO_MATTER and left.image.mode == "RGBA":  # by Pillow's version
        assert not left.broken and not np.asarray(left.image)[..., 3].any()
        return
    assert left.image.mode == "RGB" and len(left.broken) == 1
    with pytest.raises(CorruptFileError, match="its alpha channel cannot be read"):
        decode(data, tiny_weights(4))


def test_alpha_that_its_bytes_cannot_hold(tiny_weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deflate saves at most 1,032 bytes for one: Pillow is not even asked."""
    header = unpack(encode_picture(picture(64, 64), **options(tiny_weights)).data).header
    wide = replace(header, width=8192, height=4096, tile=2048)
    alpha = png(ihdr(8192, 4096), (b"IDAT", zlib.compress(bytes(100))), END)
    data = pack(wide, [Tile(bytes(8), bytes(8), bytes(8))] * 8, alpha)
    monkeypatch.setattr("hpcmcodec.pictures.open_picture", lambda *_, **__: pytest.fail("it was opened"))
    with pytest.raises(CorruptFileError, match="alpha channel cannot be read"):
        decode(data, tiny_weights(4))


def test_half_an_alpha_channel_is_damage_whatever_the_caller_takes(
    tiny_weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    container = unpack(encode_picture(picture(64, 64), **options(tiny_weights)).data)
    rows = np.random.default_rng(0).integers(0, 256, (64, 65), np.uint8)
    rows[:, 0] = 0  # not filtered
    alpha = png(ihdr(64, 64), (b"IDAT", zlib.compress(rows.tobytes())[:2000]), END)
    data = pack(container.header, [tile for tile in container.tiles if tile], alpha)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(CorruptFileError, match="its alpha channel cannot be read"):
        decode(data, tiny_weights(4))


def test_alpha_does_not_depend_on_pillows_limit(
    tiny_weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    rgba = np.dstack((picture(64, 64), picture(64, 64)[..., :1]))
    data = encode(rgba, preset="tiny", weights=tiny_weights(4))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    decoded = decode(data, tiny_weights(4))
    np.testing.assert_array_equal(np.asarray(decoded)[..., 3], rgba[..., 3])
    assert Image.MAX_IMAGE_PIXELS == 100


@pytest.mark.parametrize("error", [MemoryError(), OSError("out of memory when reading image file")])
def test_a_lack_of_memory_is_no_damage(
    tiny_weights: Weights, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    rgba = np.dstack((picture(64, 64), picture(64, 64)[..., :1]))
    data = encode(rgba, preset="tiny", weights=tiny_weights(4))

    def load(*_: object) -> None:
        raise error

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", load)
    for partial in (False, True):
        with pytest.raises(MemoryError):
            decode_picture(data, tiny_weights(4), partial=partial)
    monkeypatch.undo()
    monkeypatch.setattr(HPCM, "decompress_latent", load)
    with pytest.raises(type(error)):
        decode_picture(data, tiny_weights(4), partial=True)

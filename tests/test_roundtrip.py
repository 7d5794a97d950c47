from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from hpcmcodec import codec, zoo
from hpcmcodec.config import ModelConfig
from hpcmcodec.container import pack, unpack
from hpcmcodec.entropy import coders, gaussian_tables
from hpcmcodec.errors import CorruptFileError, ImageError, ModelMismatchError
from hpcmcodec.models import HPCM, STRIDE, Compressed, windows
from tests.conftest import build_tiny, every_phase, kodak_crop, sample_batches, to_input

Models = Callable[[int], HPCM]
Weights = Callable[[int], Path]
Written = list[tuple[coders.SymbolWriter, Tensor]]

# Width and height; the grids of scale 1 are 1 x 1, 4 x 1, 2 x 2, 4 x 4, 7 x 5 (odd) and 16 x 12.
SIZES = ((1, 1), (200, 1), (63, 65), (256, 256), (448, 320), (1024, 768))


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def picture(width: int, height: int) -> NDArray[np.uint8]:
    """A natural picture of any size: the crop and its mirror images side by side."""
    crop = kodak_crop()
    tile = np.block([[[crop], [crop[:, ::-1]]], [[crop[::-1]], [crop[::-1, ::-1]]]])
    return np.tile(tile, (-(-height // 512), -(-width // 512), 1))[:height, :width]


def check_latent(model: HPCM, x: Tensor, quality: float) -> Compressed:
    """Bits back to the encoder's own latent, bit for bit, and as many as the tables promise."""
    coded = model.compress(x, quality)
    y_hat = model.decompress_latent(coded.z, coded.y, coded.checksum, x.shape[2], x.shape[3], quality)
    assert torch.equal(y_hat, coded.y_hat)
    promised = sum(coded.bits) / 8
    assert abs(len(coded.z) + len(coded.y) - promised) <= 0.01 * promised + 64
    return coded


def check_roundtrip(rgb: NDArray[np.uint8], phase: int, weights: Path, quality: float = 5) -> bytes:
    """Picture to file and back: its size, and just the pixels that the file's latent stands for."""
    model = zoo.load_model(phase, "tiny", weights=weights)
    data = codec.encode(rgb, quality, phase, preset="tiny", weights=weights, device="cpu")
    decoded = np.asarray(codec.decode(data, weights=weights, device="cpu"))
    assert decoded.shape == rgb.shape
    header, (tile,) = unpack(data).header, unpack(data).tiles
    assert tile
    y_hat = model.decompress_latent(tile.z, tile.y, tile.checksum, *header.padded, header.quality)
    x_hat = model.synthesise(y_hat, torch.tensor([header.quality]))
    pixels = x_hat[0].clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()
    difference = np.abs(decoded.astype(int) - pixels[: rgb.shape[0], : rgb.shape[1]])
    # In one window to the bit; several round a little differently.
    several = max(header.padded) > STRIDE * windows.LONGEST
    assert difference.max() <= several
    if not several:
        height, width = header.padded
        bottom, right = height - rgb.shape[0], width - rgb.shape[1]
        x = to_input(np.pad(rgb, ((0, bottom), (0, right), (0, 0)), mode="edge"))
        assert torch.equal(y_hat, model.compress(x, header.quality).y_hat)
    return data


@pytest.mark.parametrize("quality", [1.0, 5.0, 8.0])
@every_phase
def test_latent(config: ModelConfig, quality: float, tiny: Models) -> None:
    check_latent(tiny(config.phase), to_input(kodak_crop("kodim04")), quality)


@pytest.mark.parametrize("size", [(64, 64), (256, 64), (448, 320)])
@every_phase
def test_latent_of_a_model_in_any_memory_format(config: ModelConfig, size: tuple[int, int]) -> None:
    """Convolutions round by the strides of what goes in: encoder and decoder must agree on these too."""
    x = to_input(picture(*size))
    for model in (build_tiny(config), build_tiny(config).to(memory_format=torch.channels_last)):
        for same in (x, x.contiguous(), x.clone(memory_format=torch.channels_last)):
            check_latent(model, same, 5.0)


@every_phase
def test_estimate_is_what_the_tables_take(config: ModelConfig, tiny: Models, written: Written) -> None:
    """But for the escapes, which a likelihood knows nothing of, and with tables of its own kind."""
    model, x = copy.copy(tiny(config.phase)), to_input(kodak_crop())
    model.tables = gaussian_tables()
    coded = check_latent(model, x, 5.0)
    likelihoods = model(x, torch.tensor([5.0]), noise=False)["likelihoods"]
    for name, (stream, _), bits in zip("zy", (written[0], written[-1]), coded.bits, strict=True):
        assert bits == stream.bits()
        value = stream.symbols - model.tables.offset[stream.indexes]
        inside = (value >= 0) & (value < model.tables.size[stream.indexes] - 2)
        table = model.tables.bits(stream.symbols[inside], stream.indexes[inside])
        estimate = likelihoods[name].double().flatten().log2().neg().sort().values
        assert len(estimate) == len(inside)
        assert float(estimate[: inside.sum()].sum()) == pytest.approx(table, rel=0.02, abs=64)


def test_symbols_are_in_the_order_of_the_specification(tiny: Models, written: Written) -> None:
    """Step by step; inside a step channel, row, column."""
    coded = tiny(4).compress(to_input(picture(128, 192)), 5.0)
    in_order = [
        np.array(
            [
                q[0, row, column, channel]
                for channel in range(q.shape[3])
                for row, column in np.ndindex(*q.shape[1:3])
            ]
        )
        for _, q in written
    ]
    z, *y = (symbols.astype(np.int32) for symbols in in_order)
    assert coded.checksum == coders.latent_checksum(z, np.concatenate(y))


@pytest.mark.parametrize("size", SIZES, ids=str)
@every_phase
def test_sizes_come_back(config: ModelConfig, size: tuple[int, int], tiny_weights: Weights) -> None:
    check_roundtrip(picture(*size), config.phase, tiny_weights(config.phase))


def test_large_picture(tiny_weights: Weights) -> None:
    """12 megapixels; in the phase with the most that depends on how many tokens there are."""
    rgb = picture(4000, 3000)
    data = codec.encode(rgb, 2, 4, preset="tiny", weights=tiny_weights(4), device="cpu")
    assert codec.decode(data, weights=tiny_weights(4), device="cpu").size == (4000, 3000)


def test_above_the_limit_is_refused(tiny_weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpcmcodec.codec.encoding.MAX_PIXELS", 10**6)
    with pytest.raises(ImageError, match="1000 x 1001: more than 1 megapixels"):
        codec.encode(Image.new("RGB", (1000, 1001)), preset="tiny", weights=tiny_weights(4), device="cpu")


@pytest.mark.parametrize("quality", [1, 3.3, 4.5, 7.999, 8])
def test_qualities(quality: float, tiny_weights: Weights) -> None:
    data = check_roundtrip(picture(128, 128), 4, tiny_weights(4), quality)
    assert unpack(data).header.quality == round(quality * 256) / 256


def test_quality_changes_the_size(tiny_weights: Weights) -> None:
    sizes = [len(check_roundtrip(picture(128, 128), 0, tiny_weights(0), q)) for q in (1, 4.5, 8)]
    assert sizes == sorted(set(sizes))


@every_phase
def test_a_file_is_its_picture_and_nothing_else(config: ModelConfig, tiny_weights: Weights) -> None:
    assert (
        len({check_roundtrip(picture(100, 70), config.phase, tiny_weights(config.phase)) for _ in range(2)})
        == 1
    )


@pytest.mark.parametrize("call", [0, 1, 4, 10])
@every_phase
def test_one_wrong_scale_never_gives_a_picture(
    config: ModelConfig, call: int, tiny_weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a machine whose floating-point results differ: the symbols are garbled, or end early."""
    weights, calls = tiny_weights(config.phase), 0
    data = codec.encode(picture(128, 128), phase=config.phase, preset="tiny", weights=weights, device="cpu")
    to_indexes = coders._to_indexes

    def slightly_off(scales: Tensor) -> NDArray[np.int32]:
        nonlocal calls
        indexes = to_indexes(scales)
        if calls == call:
            indexes[0] += 1 if indexes[0] < 32 else -1
        calls += 1
        return indexes

    monkeypatch.setattr(coders, "_to_indexes", slightly_off)
    with pytest.raises(ModelMismatchError, match="not the one that was encoded"):
        codec.decode(data, weights=weights, device="cpu")
    assert calls > call


def test_a_wrong_scale_at_the_end_is_a_mismatch(tiny: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all symbols can be read, the checksum tells, and tells that it may be the machine."""
    model, x = tiny(4), to_input(picture(64, 64))
    coded = model.compress(x, 5.0)
    read = coders.SymbolReader.read
    monkeypatch.setattr(
        coders.SymbolReader, "read", lambda self, i, *rest: read(self, np.minimum(i + (i > 20), 63), *rest)
    )
    with pytest.raises((ModelMismatchError, CorruptFileError)):
        model.decompress(coded.z, coded.y, coded.checksum, 64, 64, 5.0)
    monkeypatch.undo()
    with pytest.raises(ModelMismatchError, match="not the one that was encoded"):
        model.decompress(coded.z, coded.y, bytes(8), 64, 64, 5.0)


@pytest.mark.parametrize("stream", ["y", "z"])
def test_damaged_streams_are_noticed(stream: str, tiny_weights: Weights) -> None:
    """With a correct CRC around them: what the rANS bounds let through, the checksum holds up."""
    weights = tiny_weights(1)
    container = unpack(codec.encode(picture(128, 128), phase=1, preset="tiny", weights=weights, device="cpu"))
    (tile,) = container.tiles
    assert tile
    original: bytes = getattr(tile, stream)
    dice = np.random.default_rng(0)
    for _ in range(12):
        damaged = bytearray(original)
        damaged[dice.integers(len(original))] ^= 1 << dice.integers(8)
        data = pack(container.header, [replace(tile, **{stream: bytes(damaged)})])
        try:
            codec.decode(data, weights=weights, device="cpu")
        except (ModelMismatchError, CorruptFileError):
            continue
        assert damaged[-8:] != original[-8:], "only what nobody reads, at the end, may change"


def test_other_weights_are_refused(tiny_weights: Weights, tmp_path: Path) -> None:
    from hpcmcodec.training.export import export

    model = build_tiny(zoo.load_model(4, "tiny", weights=tiny_weights(4)).config)
    model.quant_step.log.data += 0.01
    other = tmp_path / "other.safetensors"
    export(model, other, {}, sample_batches())
    data = codec.encode(picture(64, 64), preset="tiny", weights=tiny_weights(4), device="cpu")
    with pytest.raises(ModelMismatchError, match="made with weights"):
        codec.decode(data, weights=other, device="cpu")


@pytest.mark.parametrize("config", zoo.available() or [None], ids=lambda c: c.name if c else "none")
def test_shipped_weights(config: ModelConfig | None) -> None:
    if config is None:
        pytest.skip("no weights are shipped yet")
    model = zoo.load_model(config.phase, config.preset, config.family)
    x = to_input(kodak_crop())
    sizes, errors = [], []
    for quality in (1.0, 4.5, 8.0):
        coded = check_latent(model, x, quality)
        x_hat = model.synthesise(coded.y_hat, torch.tensor([quality])).clamp(0, 1)
        sizes.append(len(coded.z) + len(coded.y))
        errors.append(float((x_hat - x).square().mean()))
    assert sizes == sorted(sizes)
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 10**-3.5

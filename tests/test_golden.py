"""Files that were written once and must be read for good by every reader of this format version."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hpcmcodec.codec import decode_picture, encode_picture
from hpcmcodec.config import model_config
from hpcmcodec.container import describe, pack, unpack
from hpcmcodec.selftest import GRIDS, selftest

GOLDEN = sorted((Path(__file__).parent / "data" / "golden").glob("*.hpcm"))
SHOWN = {
    "rgb": ("RGB", (64, 64)),
    "alpha": ("RGBA", (90, 60)),
    "grey": ("L", (64, 100)),
    "tiles": ("RGB", (600, 70)),
}
WEIGHTS = Path(__file__).parent / "data" / "golden" / "rwkv-4-tiny.safetensors"
Weights = Callable[[int], Path]

every_file = pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)


def test_there_are_golden_files() -> None:
    assert {path.stem for path in GOLDEN} == set(SHOWN)


@every_file
def test_container(path: Path) -> None:
    data = path.read_bytes()
    assert describe(data) == json.loads(path.with_suffix(".json").read_text())
    read = unpack(data)
    tiles = [tile for tile in read.tiles if tile]
    again = unpack(pack(read.header, tiles, read.alpha, read.metadata))
    assert (again.header, again.tiles, again.alpha, again.metadata) == (
        read.header,
        read.tiles,
        read.alpha,
        read.metadata,
    )


@every_file
def test_picture(path: Path) -> None:
    """Whatever machine reads them: symbols are integers' work, and pixels may differ by one level."""
    decoded = decode_picture(path.read_bytes(), WEIGHTS)
    assert (decoded.image.mode, decoded.image.size) == SHOWN[path.stem] and not decoded.broken
    pixels = np.asarray(decoded.image).astype(int)
    with Image.open(path.with_suffix(".png")) as then:
        assert np.abs(pixels - np.asarray(then).astype(int)).max() <= 1


def test_what_is_written_today_is_of_that_format(tiny_weights: Weights) -> None:
    told = describe(
        encode_picture(np.zeros((5, 5, 3), np.uint8), preset="tiny", weights=tiny_weights(4)).data
    )
    assert told["format_version"] == json.loads(GOLDEN[0].with_suffix(".json").read_text())["format_version"]
    assert told.keys() == json.loads(GOLDEN[0].with_suffix(".json").read_text()).keys()


def test_integers_are_what_they_were_then() -> None:
    """The digest that these weights were stored with, of grids with up to 320 tokens: nothing that decoding
    computes has changed, down to the bits that weights of tokens have."""
    assert max(16 * rows * columns for rows, columns in GRIDS) > 128
    assert selftest(model_config(4, "tiny"), WEIGHTS).passed

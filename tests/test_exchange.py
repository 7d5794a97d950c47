from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from hpcmcodec.cli import main
from hpcmcodec.errors import ModelMismatchError
from hpcmcodec.evaluation import exchange as module
from hpcmcodec.evaluation.exchange import Exchange, exchange
from hpcmcodec.evaluation.ours import HpcmCodec
from hpcmcodec.evaluation.photos import find_photos
from tests.conftest import TINY, kodak_crop

Weights = Callable[[int], Path]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("kodim04", "kodim23"):
        Image.fromarray(kodak_crop(name)[:64, :96]).save(folder / f"{name}.png")
    return folder


def test_a_device_with_itself(pictures: Path, tiny_weights: Weights) -> None:
    ours = HpcmCodec(0, preset="tiny", weights=tiny_weights(0))
    found = list(exchange(ours, ours, find_photos(pictures), (1.0, 8.0)))
    assert [(e.picture, e.quality) for e in found] == [
        *(("kodim04.png", 1.0), ("kodim04.png", 8.0)),
        *(("kodim23.png", 1.0), ("kodim23.png", 8.0)),
    ]
    assert all(e.same_file and not e.failed and (e.largest, e.share) == (0, 0.0) for e in found)
    assert len({e.files[0] for e in found}) == 4


def test_what_differs_is_told(pictures: Path) -> None:
    """Another file, another value, and a file that does not decode, from a device that is a little off."""

    class Stand(HpcmCodec):
        def analyse(self, pixels: NDArray[np.uint8]) -> Callable[[float], bytes]:
            return lambda quality: f"{quality:g} by {self.device if quality > 1 else 'both'}".encode()

        def decode(self, data: bytes) -> NDArray[np.uint8]:
            if data == b"8 by cuda" and self.device == "cpu":
                raise ModelMismatchError("not the latent that was encoded")
            pixels = np.zeros((2, 5, 3), np.uint8)
            if self.device == "cuda" and data == b"4 by cpu":
                pixels[0, 0] = 0, 1, 2
            return pixels

    one, four, eight = exchange(
        Stand(device="cpu"), Stand(device="cuda"), find_photos(pictures, 1), (1.0, 4.0, 8.0)
    )
    assert one.same_file and not one.failed and one.largest == 0
    assert not four.same_file and not four.failed
    assert (four.largest, four.share) == (2, 2 / 30)
    assert eight.failed == "made on cuda: not the latent that was encoded"


def test_the_command(
    pictures: Path,
    tiny_weights: Weights,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["selftest", str(pictures), "--weights", str(tiny_weights(0)), "--limit", "1"]
    assert main(words) == 2
    assert "name it, --device cuda" in capsys.readouterr().err

    failed = ""

    def exchanged(one: HpcmCodec, other: HpcmCodec, photos: Any, qualities: Any) -> Iterator[Exchange]:
        assert (one.device, other.device) == ("cpu", "cuda")
        for photo in photos:
            for q in qualities:
                yield Exchange(photo.name, q, ("a", "a" if q < 8 else "b"), failed, 1, 0.25)

    from hpcmcodec import selftest, zoo

    load = zoo.load_model
    monkeypatch.setattr(zoo, "load_model", lambda *a, **k: load(*a, **{**k, "device": "cpu"}))
    monkeypatch.setattr(module, "exchange", exchanged)
    words += ["--device", "cuda", "--qualities", "4,8"]
    assert main(words) == 0
    digest = selftest.selftest(TINY[0], tiny_weights(0)).here
    assert capsys.readouterr().out.splitlines() == [
        f"rwkv-0-tiny  {digest}  ok",
        "rwkv-0-tiny  quality 4: 1 pictures, 1 files the same, all decode on both, values at most 1 apart,"
        " 25.0000% of them",
        "rwkv-0-tiny  quality 8: 1 pictures, 0 files the same, all decode on both, values at most 1 apart,"
        " 25.0000% of them",
    ]
    assert main([*words, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["passed"] and [f["quality"] for f in row["files"]] == [4, 8]
    failed = "made on cpu: lost"
    assert main(words) == ModelMismatchError.exit_code
    out, err = capsys.readouterr()
    assert "1 DO NOT DECODE on both" in out
    assert "2 of 2 do not come across; the first, kodim04.png at quality 4 by rwkv-0-tiny, made on cpu" in err

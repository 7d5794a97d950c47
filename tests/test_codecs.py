from __future__ import annotations

import json
import math
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import features

from hpcmcodec import metrics
from hpcmcodec.errors import HpcmError, ImageError, UsageError
from hpcmcodec.evaluation import codecs, published
from hpcmcodec.evaluation.codecs import ANCHORS, TOLERANCE, Anchor, anchors, reach
from hpcmcodec.evaluation.published import Curve, load

from .conftest import kodak_crop

every_codec = pytest.mark.parametrize("codec", ANCHORS.values(), ids=ANCHORS)
every_format = pytest.mark.parametrize(
    "codec", [ANCHORS[name] for name in ("jpeg", "webp", "avif", "jxl", "jpeg2000")], ids=lambda row: row.name
)


def photo(height: int = 128, width: int = 120) -> NDArray[np.uint8]:
    return np.ascontiguousarray(kodak_crop()[:height, :width])


@every_codec
def test_round_trip(codec: Anchor) -> None:
    pixels = photo()
    data = codec.encode(pixels, codec.qualities[-1])
    decoded = codec.decode(data)
    assert data == codec.encode(pixels, codec.qualities[-1])
    assert decoded.dtype == np.uint8
    assert decoded.flags.writeable
    assert metrics.psnr(pixels, decoded) > 35
    assert 8 * len(data) < 8 * pixels.shape[0] * pixels.shape[1]


@every_codec
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (70, 1), (3, 5), (33, 17), (64, 64)])
def test_pictures_of_any_size_and_layout(codec: Anchor, shape: tuple[int, int]) -> None:
    pixels = np.full((*shape[::-1], 3), (40, 90, 200), np.uint8).transpose(1, 0, 2)
    for quality in (codec.qualities[0], codec.qualities[-1]):
        decoded = codec.decode(codec.encode(pixels, quality))
        assert decoded.shape == pixels.shape
        # At a few bits per pixel JPEG 2000 has no room for more than the headers of pictures this small.
        assert codec.name == "jpeg2000" or np.abs(decoded.astype(int) - pixels).max() <= 20


@every_codec
def test_more_quality_is_more_bytes_and_less_error(codec: Anchor) -> None:
    pixels = kodak_crop()
    qualities = codec.qualities[::-2][::-1] if codec.name.endswith("-best") else codec.qualities
    files = [codec.encode(pixels, quality) for quality in qualities]
    sizes = [len(data) for data in files]
    psnrs = [metrics.psnr(pixels, codec.decode(data)) for data in files]
    assert list(codec.qualities) == sorted(set(codec.qualities))
    assert sizes == sorted(set(sizes))
    assert psnrs == sorted(psnrs)
    assert psnrs[0] < 30
    assert psnrs[-1] > 39


@every_codec
def test_colour_has_full_resolution(codec: Anchor) -> None:
    """Columns of red and blue in turn: with half as many samples of chroma both become purple."""
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:, ::2, 0] = pixels[:, 1::2, 2] = 255
    error = np.abs(codec.decode(codec.encode(pixels, codec.qualities[-1])).astype(int) - pixels).mean()
    assert codec.chroma == ("4:2:0" if codec.format == "WEBP" else "4:4:4")
    assert error > 60 if codec.chroma == "4:2:0" else error < 20


def test_best_is_better() -> None:
    """At equal PSNR it takes fewer bits, or about as many (JPEG XL does not aim at PSNR)."""
    pixels = photo()

    def curve(name: str) -> tuple[list[float], list[float]]:
        files = [ANCHORS[name].encode(pixels, quality) for quality in ANCHORS[name].qualities[2::2]]
        psnrs = [metrics.psnr(pixels, ANCHORS[name].decode(data)) for data in files]
        return [8 * len(data) / pixels[..., 0].size for data in files], psnrs

    for name in ("jpeg", "webp", "avif", "jxl"):
        assert metrics.bd_rate(*curve(name), *curve(f"{name}-best")) < (3 if name == "jxl" else 0)
    assert metrics.bd_rate(*curve("avif"), *curve("avif-psnr")) < 0


@every_codec
def test_what_results_say_of_a_codec(codec: Anchor) -> None:
    assert codec.name.startswith(codec.settings["codec"])
    assert json.loads(json.dumps(codec.settings)) == codec.settings
    assert codec.library in codec.description
    assert codec.chroma in codec.description
    assert any(character.isdigit() for character in codec.description.partition(" by ")[0])
    assert pickle.loads(pickle.dumps(codec)) == codec


def test_what_distinguishes_the_codecs() -> None:
    assert len({json.dumps(codec.settings) for codec in ANCHORS.values()}) == len(ANCHORS)
    assert len({codec.title for codec in ANCHORS.values()}) == len(ANCHORS)
    assert len({codec.description for codec in ANCHORS.values()}) == len(ANCHORS)


def test_codecs_are_chosen_by_name_and_effort() -> None:
    assert [codec.name for codec in anchors(["webp", "avif", "webp"])] == ["webp", "avif"]
    assert [codec.name for codec in anchors(["avif-psnr", "jpeg2000", "avif"], "best")] == [
        "avif-psnr",
        "jpeg2000",
        "avif",
        "avif-best",
    ]
    assert anchors([]) == []


def test_a_codec_or_an_effort_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UsageError, match="'bpg': choose from jpeg, "):
        anchors(["jpeg", "bpg"])
    with pytest.raises(UsageError, match="'slow': choose from default, best"):
        anchors(["jpeg"], "slow")


@every_format
def test_a_missing_codec_says_what_it_lacks(codec: Anchor, monkeypatch: pytest.MonkeyPatch) -> None:
    assert codec.missing() is None
    assert codec.available()
    data = codec.encode(photo(16, 16), codec.qualities[0])
    monkeypatch.setattr(features, "check", lambda feature: False)
    monkeypatch.setattr(features, "version", lambda feature: None)
    monkeypatch.setitem(sys.modules, codecs.PLUGIN_MODULE, None)
    wanted = "pillow-jxl-plugin.*extra 'bench'" if codec.name == "jxl" else f"Pillow.*without {codec.library}"
    assert not codec.available()
    assert "(missing)" in codec.description
    with pytest.raises(HpcmError, match=f"^{codec.title}: .*{wanted}"):
        codec.encode(photo(16, 16), codec.qualities[0])
    with pytest.raises(HpcmError, match=wanted):
        codec.decode(data)
    assert str(codec.missing()).count("\n") == 0


@every_format
@pytest.mark.parametrize("quality", [-1, 101, math.nan, math.inf])
def test_a_quality_that_does_not_exist_is_refused(codec: Anchor, quality: float) -> None:
    with pytest.raises(UsageError, match=f"the qualities of {codec.title} are .*from {codec.low:g} to"):
        codec.encode(photo(16, 16), quality)


@every_format
def test_fractions_of_a_quality(codec: Anchor) -> None:
    if codec.step == 1:
        with pytest.raises(UsageError, match="whole numbers"):
            codec.encode(photo(16, 16), 10.5)
        assert codec.encode(photo(16, 16), 10.0) == codec.encode(photo(16, 16), 10)
    else:
        assert codec.encode(photo(), 3.5) not in (codec.encode(photo(), 3), codec.encode(photo(), 4))


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
        np.zeros((8, 8, 3), np.float32),
    ],
)
def test_another_kind_of_array_is_refused(pixels: NDArray[np.uint8]) -> None:
    with pytest.raises(UsageError, match="8-bit picture of H x W x 3"):
        ANCHORS["jpeg"].encode(pixels, 50)


@pytest.mark.parametrize(("name", "side"), [("webp", 16384), ("jpeg", 65501)])
def test_a_picture_that_a_format_cannot_hold_is_an_error_in_one_line(name: str, side: int) -> None:
    with pytest.raises(ImageError, match=f"^{ANCHORS[name].title} cannot code the picture: .+$"):
        ANCHORS[name].encode(np.zeros((1, side, 3), np.uint8), 50)


@every_format
def test_a_damaged_or_foreign_file_is_an_error_in_one_line(codec: Anchor) -> None:
    pixels = photo()
    data = codec.encode(pixels, codec.qualities[2])
    other = ANCHORS["webp" if codec.name == "jpeg" else "jpeg"].encode(pixels, 50)
    for wrong in (b"", b"damaged", data[:20], other):
        with pytest.raises(ImageError, match=f"^{codec.title} cannot decode the file: .+$"):
            codec.decode(wrong)


@every_format
@pytest.mark.parametrize("bpp", [0.75, 2.0])
def test_a_size_is_reached(codec: Anchor, bpp: float) -> None:
    pixels = kodak_crop()
    found = reach(codec, pixels, bpp)
    assert found.data == codec.encode(pixels, found.quality)
    assert found.bpp == 8 * len(found.data) / pixels[..., 0].size
    assert found.bpp == pytest.approx(bpp, rel=0.04)
    if abs(math.log(found.bpp / bpp)) > TOLERANCE:
        around = [found.quality + step for step in (-codec.step, codec.step)]
        sizes = [8 * len(codec.encode(pixels, quality)) / pixels[..., 0].size for quality in around]
        assert sizes[0] < bpp < sizes[1]


@pytest.mark.parametrize("name", ["jpeg", "webp"])
def test_a_size_beyond_the_range_ends_at_its_end(name: str) -> None:
    codec, pixels = ANCHORS[name], photo()
    assert len(reach(codec, pixels, 1e-3).data) == len(codec.encode(pixels, codec.low))
    assert len(reach(codec, pixels, 100).data) == len(codec.encode(pixels, codec.high))


@every_format
@pytest.mark.parametrize("high", [True, False])
def test_a_size_that_an_end_gives_is_found(codec: Anchor, high: bool) -> None:
    pixels = photo(40, 56)
    data = codec.encode(pixels, codec.high if high else codec.low)
    found = reach(codec, pixels, 8 * len(data) / pixels[..., 0].size)
    assert abs(len(found.data) / len(data) - 1) <= TOLERANCE


def test_jpeg_xl_has_all_its_qualities() -> None:
    codec, pixels = ANCHORS["jxl"], photo()
    assert (codec.decode(codec.encode(pixels, 100)) == pixels).all()
    assert len(codec.encode(pixels, 99.9)) < len(codec.encode(pixels, 100))


@pytest.mark.parametrize("works", [(1, 60), (1, 3), (40, 100), (45, 55), (50, 50), (100, 100)])
def test_qualities_at_which_a_codec_fails_are_left_out(
    monkeypatch: pytest.MonkeyPatch, works: tuple[int, int]
) -> None:
    codec, pixels, encode = ANCHORS["jpeg"], photo(), Anchor.encode

    def some(self: Anchor, pixels: NDArray[np.uint8], quality: float) -> bytes:
        if not works[0] <= quality <= works[1]:
            raise ImageError("JPEG cannot code the picture: not at this quality")
        return encode(self, pixels, quality)

    monkeypatch.setattr(Anchor, "encode", some)
    sizes = [len(encode(codec, pixels, quality)) for quality in range(works[0], works[1] + 1)]
    assert len(reach(codec, pixels, 100).data) == max(sizes)
    assert len(reach(codec, pixels, 1e-3).data) == min(sizes)
    monkeypatch.setattr(Anchor, "encode", lambda self, pixels, quality: some(self, pixels, 0))
    with pytest.raises(ImageError, match="not at this quality"):
        reach(codec, pixels, 1)


@pytest.mark.parametrize("bpp", [0, -1, math.nan, math.inf])
def test_a_size_that_is_none_is_refused(bpp: float) -> None:
    with pytest.raises(UsageError, match="positive number"):
        reach(ANCHORS["jpeg"], photo(), bpp)


def write(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "curves.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


ROW = {"bpp": [2, 1], "psnr": [31.5, 30]}
CURVE = Curve("line", (1.0, 2.0), (30.0, 31.5))


def test_a_table_of_curves(tmp_path: Path) -> None:
    table = {"line": ROW, "other": {**ROW, "ms-ssim": [0.98, 0.97], "note": "from a paper"}}
    other = Curve("other", CURVE.bpp, CURVE.psnr, (0.97, 0.98))
    assert load(write(tmp_path, table)) == [CURVE, other]
    assert load(write(tmp_path, {})) == []


@pytest.mark.parametrize("suffix", ["", "-rgb"])
def test_results_of_compressai(tmp_path: Path, suffix: str) -> None:
    results = {"bpp": [1, 2], f"psnr{suffix}": [30, 31.5], f"ms-ssim{suffix}": [0.97, 0.98]}
    expected = Curve("VTM", (1.0, 2.0), (30.0, 31.5), (0.97, 0.98))
    one = {"name": "VTM", "description": "VTM 9.1", "results": {**results, "encoding_time": [9, 9]}}
    assert load(write(tmp_path, one)) == [expected]
    assert load(write(tmp_path, [one])) == [expected]
    unnamed = Curve("curves", *(getattr(expected, key) for key in ("bpp", "psnr", "ms_ssim")))
    assert load(write(tmp_path, results)) == [unnamed]
    assert load(write(tmp_path, {"results": results})) == [unnamed]


def test_an_ms_ssim_with_gaps_is_none_and_what_was_skipped_is_left_out(tmp_path: Path) -> None:
    line = {"name": "line", "skipped": None, "results": {**ROW, "ms-ssim-rgb": [None, 0.9]}}
    skipped = {"name": "jxl", "skipped": "missing", "results": {"bpp": [], "psnr-rgb": []}}
    assert load(write(tmp_path, [line, skipped])) == [CURVE]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "3",
        [1],
        {"line": 3},
        {"line": {"bpp": [1, 2]}},
        {"line": {"bpp": [1, 2], "psnr": ["x", "y"]}},
        {"line": {"bpp": [1, 2], "psnr": [30]}},
        {"line": {"bpp": [1, 2], "psnr": [30, None]}},
        {"line": {"bpp": [0, 2], "psnr": [30, 31]}},
        {"line": {"bpp": [1, 2], "psnr": [30, 30]}},
        {"line": {"bpp": [], "psnr": []}},
        {"line": {**ROW, "ms-ssim": [0.9]}},
        {"line": {**ROW, "ms-ssim": [12.1, 13.5]}},
        [{"name": "line", "results": {"bpp": [1, 2]}}],
        [{"name": None, "results": ROW}],
        [{"name": "line", "results": ROW}, {"name": "line", "results": ROW}],
    ],
)
def test_curves_of_another_form_are_refused(tmp_path: Path, content: object) -> None:
    with pytest.raises(UsageError, match=r"curves\.json"):
        load(write(tmp_path, content))


def test_missing_curves_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read the curves"):
        published.load(tmp_path / "curves.json")

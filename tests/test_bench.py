from __future__ import annotations

import io
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hpcmcodec import codec, metrics
from hpcmcodec.errors import CorruptFileError, HpcmError, ImageError, UsageError, WeightsError
from hpcmcodec.evaluation import bench as module
from hpcmcodec.evaluation.bench import (
    Curve,
    HpcmCodec,
    Progress,
    Run,
    bench,
    find_pictures,
    load_curves,
    measure,
)

CURVE = Curve((0.001, 1.0, 100.0), (1.0, 30.0, 60.0))


class Fake:
    """Rounds to multiples of 2^(8 - quality); the file is a PNG, so that larger quality is more bytes."""

    description = "fake"

    def __init__(self, name: str = "fake") -> None:
        self.name = name
        self.calls: list[tuple[int, float]] = []

    def encode(self, image: Image.Image, quality: float) -> bytes:
        assert image.mode == "RGB"
        self.calls.append((image.width, quality))
        step = 2 ** (8 - int(quality))
        coarse = (np.array(image) // step * step + (step - 1) // 2).astype(np.uint8)
        out = io.BytesIO()
        Image.fromarray(coarse).save(out, "PNG")
        return out.getvalue()

    def decode(self, data: bytes) -> Image.Image:
        return Image.open(io.BytesIO(data))


class Failing(Fake):
    def __init__(self, error: BaseException, after: int) -> None:
        super().__init__()
        self.error, self.after = error, after

    def encode(self, image: Image.Image, quality: float) -> bytes:
        if len(self.calls) == self.after:
            raise self.error
        return super().encode(image, quality)


def save(path: Path, width: int = 24, height: int = 16, mode: str = "RGB", seed: int = 0) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i, name in enumerate(("b.png", "a.png", "c.bmp")):
        save(tmp_path / name, width=20 + i, seed=i)
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / ".hidden.png").write_text("not a picture")
    (tmp_path / "folder.png").mkdir()
    return tmp_path


def test_pictures_by_name(folder: Path) -> None:
    assert [path.name for path in find_pictures(folder)] == ["a.png", "b.png", "c.bmp"]
    assert [path.name for path in find_pictures(folder, limit=2)] == ["a.png", "b.png"]
    assert len(find_pictures(folder, limit=9)) == 3


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused(folder: Path, limit: int) -> None:
    with pytest.raises(UsageError, match="limit"):
        find_pictures(folder, limit)


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no pictures in"):
        find_pictures(tmp_path)


def test_a_missing_folder_and_a_file_are_refused(folder: Path) -> None:
    for path in (folder / "nowhere", folder / "a.png"):
        with pytest.raises(UsageError, match="cannot read the folder"):
            find_pictures(path)


def test_a_damaged_picture_is_named_before_anything_runs(folder: Path) -> None:
    (folder / "d.png").write_bytes(b"damaged")
    with pytest.raises(ImageError, match=r"d\.png"):
        find_pictures(folder)
    assert len(find_pictures(folder, limit=3)) == 3


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_a_picture_with_alpha_is_named_before_anything_runs(folder: Path, mode: str) -> None:
    save(folder / "d.png", mode=mode)
    with pytest.raises(ImageError, match=r"d\.png.*transparency"):
        find_pictures(folder)


def test_a_picture_cut_off_is_named_before_anything_runs(folder: Path) -> None:
    path = save(folder / "d.png", 200, 200)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ImageError, match=r"d\.png"):
        find_pictures(folder)


def test_points_are_what_the_bytes_and_pixels_say(folder: Path) -> None:
    (result,) = measure([Run(Fake(), (4, 2))], find_pictures(folder), curves={"line": CURVE})
    fake = Fake()
    expected = []
    for path in find_pictures(folder):
        image = Image.open(path)
        for quality in (2, 4):
            data = fake.encode(image, quality)
            decoded = np.array(fake.decode(data))
            expected.append(
                {
                    "image": path.name,
                    "width": image.width,
                    "height": 16,
                    "quality": quality,
                    "bytes": len(data),
                    "bpp": 8 * len(data) / (image.width * 16),
                    "psnr-rgb": metrics.psnr(np.array(image), decoded),
                    "ms-ssim-rgb": None,
                }
            )
    for row, wanted in zip(result["per_image"], expected, strict=True):
        assert row["encoding_time"] > 0
        assert row["decoding_time"] > 0
        assert {key: row[key] for key in wanted} == wanted


def test_means_over_pictures_per_quality(folder: Path) -> None:
    (result,) = measure([Run(Fake(), (1, 2, 3))], find_pictures(folder))
    rows = result["per_image"]
    assert result["qualities"] == [1, 2, 3]
    assert (result["pictures"], result["complete"]) == (3, True)
    assert list(result["results"]) == ["bpp", "psnr-rgb", "ms-ssim-rgb", "encoding_time", "decoding_time"]
    for key in ("bpp", "psnr-rgb", "encoding_time", "decoding_time"):
        for quality, mean in zip(result["qualities"], result["results"][key], strict=True):
            values = [row[key] for row in rows if row["quality"] == quality]
            assert mean == pytest.approx(sum(values) / 3)
    assert result["results"]["ms-ssim-rgb"] == [None] * 3


def test_ms_ssim_of_pictures_that_are_large_enough(tmp_path: Path) -> None:
    save(tmp_path / "a.png", 176, 161)
    (result,) = measure([Run(Fake(), (2, 6))], find_pictures(tmp_path))
    low, high = result["results"]["ms-ssim-rgb"]
    assert 0 < low < high < 1


def test_bd_rate_against_every_curve(folder: Path) -> None:
    curves = {"line": CURVE, "far away": Curve((1.0, 2.0), (80.0, 90.0))}
    (result,) = measure([Run(Fake(), (1, 2, 3))], find_pictures(folder), curves=curves)
    means = result["results"]
    assert result["bd_rate"] == {
        "line": metrics.bd_rate(CURVE.bpp, CURVE.psnr, means["bpp"], means["psnr-rgb"]),
        "far away": None,
    }


@pytest.mark.parametrize("qualities", [(3,), (7, 8)])
def test_no_bd_rate_from_one_quality_or_without_loss(folder: Path, qualities: tuple[float, ...]) -> None:
    (result,) = measure([Run(Fake(), qualities)], find_pictures(folder), curves={"line": CURVE})
    assert result["bd_rate"] == {"line": None}
    assert (result["results"]["psnr-rgb"][-1] is None) == (8 in qualities)


def test_qualities_rise_each_once_and_every_picture_is_read_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = find_pictures(folder)
    reads: list[str] = []
    read = module._read

    def recorded(path: Path) -> Image.Image:
        reads.append(path.name)
        return read(path)

    monkeypatch.setattr(module, "_read", recorded)
    fake = Fake()
    measure([Run(fake, (3, 1, 3))], pictures)
    widths = [21, 20, 22]
    assert fake.calls == [(64, 1), (64, 3), (21, 1)] + [(width, q) for width in widths for q in (1, 3)]
    assert reads == ["a.png", "a.png", "b.png", "c.bmp"]


def test_progress_counts_every_point(folder: Path) -> None:
    seen: list[Progress] = []
    runs = [Run(Fake("one"), (1, 2)), Run(Fake("two"), (5,))]
    measure(runs, find_pictures(folder), progress=seen.append)
    assert {step.total for step in seen} == {9}
    assert [(step.codec, step.done) for step in seen] == (
        [("one", i) for i in range(7)] + [("two", i) for i in range(6, 10)]
    )
    assert seen[0].point is None
    last = seen[-1].point
    assert last is not None
    assert (last.image, last.quality) == ("c.bmp", 5)


def test_output_is_what_is_returned(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "results.json"
    runs = [Run(Fake("one"), (1, 2), {"weights_sha256": "ab"}), Run(Fake("two"), (2,))]
    results = measure(runs, find_pictures(folder), output=output)
    assert json.loads(output.read_text()) == results
    assert [result["name"] for result in results] == ["one", "two"]
    assert results[0]["weights_sha256"] == "ab"
    assert results[0]["env"]["packages"]["torch"]
    assert results[0]["warmup_time"] > 0
    assert not list(tmp_path.glob("*.part"))


def test_what_was_measured_survives_an_interrupt(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "results.json"
    # Two trial calls, one to warm up, two points of the first picture, one of the second.
    fake = Failing(KeyboardInterrupt(), after=6)
    with pytest.raises(KeyboardInterrupt):
        measure([Run(fake, (1, 2))], find_pictures(folder), output=output, curves={"line": CURVE})
    (result,) = json.loads(output.read_text())
    rows = result["per_image"]
    assert [(row["image"], row["quality"]) for row in rows] == [("a.png", 1), ("a.png", 2), ("b.png", 1)]
    assert (result["pictures"], result["complete"], result["bd_rate"]) == (1, False, None)
    assert result["qualities"] == [1, 2]
    assert result["results"]["bpp"] == [rows[0]["bpp"], rows[1]["bpp"]]


def test_before_the_first_whole_picture_there_are_no_means(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "results.json"
    with pytest.raises(KeyboardInterrupt):
        measure([Run(Failing(KeyboardInterrupt(), 4), (1, 2))], find_pictures(folder), output=output)
    (result,) = json.loads(output.read_text())
    assert len(result["per_image"]) == 1
    assert (result["pictures"], result["qualities"], result["results"]["bpp"]) == (0, [], [])


@pytest.mark.parametrize("error", [ImageError("too large"), CorruptFileError("checksum")])
def test_an_error_of_the_codec_names_the_picture_and_keeps_its_kind(folder: Path, error: HpcmError) -> None:
    with pytest.raises(type(error), match=rf"b\.png, quality 2: {error}"):
        measure([Run(Failing(error, 6), (1, 2))], find_pictures(folder))


def test_a_codec_that_cannot_run_says_so_before_another_one_does(folder: Path, tmp_path: Path) -> None:
    output, first = tmp_path / "results.json", Fake()
    with pytest.raises(WeightsError):
        measure(
            [Run(first, (1,)), Run(Failing(WeightsError("no weights"), 0), (1,))],
            find_pictures(folder),
            output=output,
        )
    assert [width for width, _ in first.calls] == [64]
    assert not output.exists()


def test_a_decoder_that_changes_the_size_is_an_error(folder: Path) -> None:
    class Cropping(Fake):
        def decode(self, data: bytes) -> Image.Image:
            return super().decode(data).crop((0, 0, 8, 8))

    with pytest.raises(UsageError, match=r"a\.png.*one size"):
        measure([Run(Cropping(), (1,))], find_pictures(folder))


@pytest.mark.parametrize("runs", [[], [Run(Fake(), ())]])
def test_nothing_to_measure_is_refused(folder: Path, runs: list[Run]) -> None:
    with pytest.raises(UsageError, match="nothing to measure"):
        measure(runs, find_pictures(folder))


def test_an_output_without_a_folder_is_refused_before_anything_runs(folder: Path) -> None:
    fake = Fake()
    with pytest.raises(UsageError, match="cannot write"):
        measure([Run(fake, (1,))], find_pictures(folder), output=folder / "nowhere" / "results.json")
    assert not fake.calls


def test_an_output_that_is_a_folder_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="cannot write"):
        measure([Run(Fake(), (1,))], find_pictures(folder), output=folder / "folder.png")
    assert not list(folder.glob("*.part"))


def test_a_missing_package_is_said_before_anything_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_msssim", None)
    fake = Fake()
    with pytest.raises(HpcmError, match="'bench'"):
        measure([Run(fake, (1,))], find_pictures(folder))
    assert not fake.calls


def test_orientation_and_grey_are_resolved_before_coding(tmp_path: Path) -> None:
    image = Image.fromarray(np.arange(96, dtype=np.uint8).reshape(8, 12))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    (result,) = measure([Run(Fake(), (4,))], find_pictures(tmp_path))
    assert (result["per_image"][0]["width"], result["per_image"][0]["height"]) == (8, 12)


def test_curves_are_read(tmp_path: Path) -> None:
    path = tmp_path / "curves.json"
    path.write_text(json.dumps({"line": {"bpp": [1, 2], "psnr": [30, 31.5]}}))
    assert load_curves(path) == {"line": Curve((1.0, 2.0), (30.0, 31.5))}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1]",
        '{"line": 3}',
        '{"line": {"bpp": [1, 2]}}',
        '{"line": {"bpp": [1, 2], "psnr": ["x", "y"]}}',
        '{"line": {"bpp": [1, 2], "psnr": [30]}}',
        '{"line": {"bpp": [0, 2], "psnr": [30, 31]}}',
    ],
)
def test_curves_of_another_form_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "curves.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"curves\.json"):
        load_curves(path)


def test_missing_curves_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read the curves"):
        load_curves(tmp_path / "curves.json")


@pytest.fixture
def fake_hpcm(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    calls: list[Any] = []

    def encode(image: Image.Image, quality: float = 5, phase: int = 4, **options: Any) -> bytes:
        calls.append((phase, quality, options))
        return Fake().encode(image, quality)

    def decode(data: bytes, weights: Path | None = None, device: str = "auto") -> Image.Image:
        calls.append((weights, device))
        return Fake().decode(data)

    monkeypatch.setattr(codec, "encode", encode)
    monkeypatch.setattr(codec, "decode", decode)
    return calls


def test_bench_is_this_codec_at_every_phase(folder: Path, fake_hpcm: list[Any]) -> None:
    output, curves = folder / "results.json", folder / "curves.json"
    curves.write_text(json.dumps({"line": {"bpp": CURVE.bpp, "psnr": CURVE.psnr}}))
    results = bench(
        folder,
        phases=(0, 4, 0),
        qualities=(1, 2.5),
        limit=2,
        device="cpu",
        curves=curves,
        output=output,
        weights_sha256={4: "abcd"},
    )
    assert [result["name"] for result in results] == ["hpcm-rwkv-0-lite", "hpcm-rwkv-4-lite"]
    assert [result["weights_sha256"] for result in results] == [None, "abcd"]
    assert [result["pictures"] for result in results] == [2, 2]
    assert all(math.isfinite(result["bd_rate"]["line"]) for result in results)
    assert json.loads(output.read_text()) == results
    options = {"family": "rwkv", "preset": "lite", "weights": None, "device": "cpu"}
    assert (4, 2.5, options) in fake_hpcm
    assert (None, "cpu") in fake_hpcm


def test_one_weight_file_serves_one_phase(folder: Path, fake_hpcm: list[Any]) -> None:
    with pytest.raises(UsageError, match="one phase"):
        bench(folder, phases=(3, 4), weights="w.safetensors")
    bench(folder, phases=(4,), qualities=(1,), limit=1, weights="w.safetensors")
    assert fake_hpcm[-1][0].name == "w.safetensors"


def test_hpcm_is_a_codec() -> None:
    ours: module.Codec = HpcmCodec(phase=2, preset="tiny")
    assert ours.name == "hpcm-rwkv-2-tiny"
    assert "phase 2" in ours.description

from __future__ import annotations

import importlib
import io
import itertools
import json
import math
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from hpcmcodec import cli, codec, metrics
from hpcmcodec.config import model_config
from hpcmcodec.errors import CorruptFileError, HpcmError, ImageError, UsageError, WeightsError
from hpcmcodec.evaluation import bench as module
from hpcmcodec.evaluation import probe
from hpcmcodec.evaluation.bench import Progress, Run, bench, measure
from hpcmcodec.evaluation.codecs import ANCHORS
from hpcmcodec.evaluation.markdown import tables
from hpcmcodec.evaluation.ours import HpcmCodec
from hpcmcodec.evaluation.photos import find_photos, read_photo
from hpcmcodec.evaluation.plot import draw
from hpcmcodec.evaluation.results import Point, Record, Store, summarise
from tests import fake

Pixels = NDArray[np.uint8]
Results = Sequence[Mapping[str, Any]]

METRICS = ["bpp", "psnr-rgb", "ms-ssim-rgb", "encoding_time", "decoding_time"]
TIMES = ("encoding_time", "decoding_time")


class Fake:
    """Rounds to multiples of 2^(8 - quality); the file is a PNG, so that larger quality is more bytes."""

    title, description = "Fake", "fake 1.0"

    def __init__(self, name: str = "fake", kind: str = "fake") -> None:
        self.name = name
        self.settings = {"codec": kind}
        self.calls: list[tuple[int, float]] = []

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        assert pixels.dtype == np.uint8
        assert pixels.shape[2] == 3
        self.calls.append((pixels.shape[1], quality))
        step = 2 ** (8 - int(quality))
        coarse = (pixels // step * step + (step - 1) // 2).astype(np.uint8)
        out = io.BytesIO()
        Image.fromarray(coarse).save(out, "PNG")
        return out.getvalue()

    def decode(self, data: bytes) -> Pixels:
        return np.array(Image.open(io.BytesIO(data)))


class Failing(Fake):
    def __init__(self, error: BaseException, after: int) -> None:
        super().__init__()
        self.error, self.after = error, after

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        if len(self.calls) == self.after:
            raise self.error
        return super().encode(pixels, quality)


def save(path: Path, width: int = 24, height: int = 16, mode: str = "RGB", seed: int = 0) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return path


@pytest.fixture(autouse=True)
def _no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "fresh", lambda *_: (probe.Cost(1e9, 4096), probe.Cost(2e9, None)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three small pictures and what is none."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i, name in enumerate(("b.png", "a.png", "c.bmp")):
        save(folder / name, width=20 + i, seed=i)
    (folder / "notes.txt").write_text("not a picture")
    (folder / ".hidden.png").write_text("not a picture")
    (folder / "folder.png").mkdir()
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results.json", folder=False)


@pytest.fixture
def hpcm(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run a command line with the stand-in model beside the pictures: exit code, output, errors."""
    fake.install(monkeypatch)
    monkeypatch.chdir(tmp_path)

    def run(words: str) -> tuple[int, str, str]:
        code = cli.main(words.split())
        return code, *capsys.readouterr()

    return run


Hpcm = Callable[[str], tuple[int, str, str]]


def timeless(results: Results) -> Any:
    """All that two runs must agree on."""
    plain = json.loads(json.dumps(results))
    for result in plain:
        for table in (result["results"], *result["per_image"], result["process"] or {}):
            for key in [key for key in table if "time" in key or "start_up" in key]:
                del table[key]
    return plain


# Pictures.


def test_pictures_by_name(folder: Path) -> None:
    assert [photo.name for photo in find_photos(folder)] == ["a.png", "b.png", "c.bmp"]
    assert [photo.name for photo in find_photos(folder, limit=2)] == ["a.png", "b.png"]
    assert len(find_photos(folder, limit=9)) == 3


def test_the_digest_is_of_the_file(folder: Path) -> None:
    before = {photo.name: photo.sha256 for photo in find_photos(folder)}
    assert {len(digest) for digest in before.values()} == {16}
    save(folder / "a.png", seed=9)
    after = {photo.name: photo.sha256 for photo in find_photos(folder)}
    assert [name for name in before if before[name] != after[name]] == ["a.png"]


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused(folder: Path, limit: int) -> None:
    with pytest.raises(UsageError, match="limit"):
        find_photos(folder, limit)


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no pictures in"):
        find_photos(tmp_path)


def test_a_missing_folder_and_a_file_are_refused(folder: Path) -> None:
    for path in (folder / "nowhere", folder / "a.png"):
        with pytest.raises(UsageError, match="cannot read the folder"):
            find_photos(path)


def test_a_damaged_picture_is_left_out_with_a_line(folder: Path) -> None:
    for name in ("aa.png", "d.png"):
        (folder / name).write_bytes(b"damaged")
    lines: list[str] = []
    assert [photo.name for photo in find_photos(folder, tell=lines.append)] == ["a.png", "b.png", "c.bmp"]
    assert [line.rpartition("/")[2] for line in lines] == [
        "aa.png is not a picture that can be read",
        "d.png is not a picture that can be read",
    ]
    assert all(line.startswith("left out: ") for line in lines)
    lines.clear()
    assert [photo.name for photo in find_photos(folder, 2, lines.append)] == ["a.png", "b.png"]
    assert len(lines) == 1


def test_a_folder_of_damaged_pictures_is_refused_by_the_first(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"damaged")
    lines: list[str] = []
    with pytest.raises(ImageError, match=r"a\.png is not a picture"):
        find_photos(tmp_path, tell=lines.append)
    assert not lines


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_a_picture_with_alpha_is_left_out_with_a_line(folder: Path, mode: str) -> None:
    save(folder / "d.png", mode=mode)
    lines: list[str] = []
    assert len(find_photos(folder, tell=lines.append)) == 3
    (line,) = lines
    assert "d.png" in line and "transparency" in line


def test_a_picture_cut_off_is_left_out_with_a_line(folder: Path) -> None:
    path = save(folder / "d.png", 200, 200)
    path.write_bytes(path.read_bytes()[:5000])
    lines: list[str] = []
    assert len(find_photos(folder, tell=lines.append)) == 3
    (line,) = lines
    assert "d.png" in line


def test_a_picture_that_is_gone_when_its_turn_comes_costs_only_itself(folder: Path) -> None:
    photos = find_photos(folder)
    (folder / "b.png").unlink()
    lines: list[str] = []
    (result,) = measure([Run(Fake(), (1, 2))], photos, tell=lines.append)
    assert [row["image"] for row in result["per_image"]] == ["a.png", "a.png", "c.bmp", "c.bmp"]
    assert (result["pictures"], result["complete"]) == (2, False)
    (line,) = lines
    assert line.startswith("left out: ") and "b.png" in line


def test_orientation_and_grey_are_resolved_before_coding(tmp_path: Path) -> None:
    image = Image.fromarray(np.arange(96, dtype=np.uint8).reshape(8, 12))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    (result,) = measure([Run(Fake(), (4,))], find_photos(tmp_path))
    assert (result["per_image"][0]["width"], result["per_image"][0]["height"]) == (8, 12)


# What is measured.


def test_points_are_what_the_bytes_and_pixels_say(folder: Path) -> None:
    photos = find_photos(folder)
    (result,) = measure([Run(Fake(), (4, 2))], photos)
    codec, expected = Fake(), []
    for photo in photos:
        pixels = read_photo(photo.path)
        for quality in (2, 4):
            data = codec.encode(pixels, quality)
            expected.append(
                {
                    "image": photo.name,
                    "sha256": photo.sha256,
                    "width": pixels.shape[1],
                    "height": 16,
                    "quality": quality,
                    "bytes": len(data),
                    "bpp": 8 * len(data) / (pixels.shape[1] * 16),
                    "psnr-rgb": metrics.psnr(pixels, codec.decode(data)),
                    "ms-ssim-rgb": None,
                }
            )
    for row, wanted in zip(result["per_image"], expected, strict=True):
        assert list(row) == [*wanted, *TIMES]
        assert all(row[key] > 0 for key in TIMES)
        assert {key: row[key] for key in wanted} == wanted


def test_means_over_pictures_per_quality(folder: Path) -> None:
    (result,) = measure([Run(Fake(), (1, 2, 3))], find_photos(folder))
    rows = result["per_image"]
    assert result["qualities"] == [1, 2, 3]
    assert (result["pictures"], result["complete"]) == (3, True)
    assert list(result["results"]) == METRICS
    for key in ("bpp", "psnr-rgb", *TIMES):
        for quality, mean in zip(result["qualities"], result["results"][key], strict=True):
            values = [row[key] for row in rows if row["quality"] == quality]
            assert mean == pytest.approx(sum(values) / 3)
    assert result["results"]["ms-ssim-rgb"] == [None] * 3


def test_ms_ssim_of_pictures_that_are_large_enough(tmp_path: Path) -> None:
    save(tmp_path / "a.png", 176, 161)
    (result,) = measure([Run(Fake(), (2, 6))], find_photos(tmp_path))
    low, high = result["results"]["ms-ssim-rgb"]
    assert 0 < low < high < 1


def test_the_schema(folder: Path) -> None:
    curve = {"name": "line", "title": "line", "description": "", "published": True, "results": {}}
    curve["results"] = {"bpp": [0.1, 100.0], "psnr-rgb": [1.0, 60.0]}
    runs = [Run(Fake("one"), (1, 2), "ab"), Run(Fake("two"), (3, 4))]
    results = measure(runs, find_photos(folder), curves=[curve])
    assert [result["name"] for result in results] == ["one", "two", "line"]
    for result, others in zip(results, ({"two", "line"}, {"one", "line"}), strict=False):
        assert list(result) == [
            "name",
            "title",
            "description",
            "published",
            "skipped",
            "settings",
            "qualities",
            "results",
            "pictures",
            "complete",
            "bd_rate",
            "bd_psnr",
            "bd_method",
            "process",
            "weights_sha256",
            "env",
            "per_image",
        ]
        assert (result["published"], result["skipped"]) == (False, None)
        assert set(result["bd_rate"]) == set(result["bd_psnr"]) == others
        assert all(list(row) == ["percent", "psnr_from", "psnr_to"] for row in result["bd_rate"].values())
        assert all(list(row) == ["db", "bpp_from", "bpp_to"] for row in result["bd_psnr"].values())
        assert "PCHIP" in result["bd_method"]
        assert {"python", "packages", "processor", "cpus", "threads"} <= set(result["env"])
        assert result["env"]["packages"]["torch"]
    assert [result.get("weights_sha256") for result in results] == ["ab", None, None]
    assert results[2] == curve
    json.dumps(results, allow_nan=False)


def test_compressai_reads_a_file_per_codec(tmp_path: Path) -> None:
    save(tmp_path / "a.png", 176, 161)
    store = Store(tmp_path / "results", folder=True)
    results = measure([Run(Fake(), (2, 6)), Run(Fake("Fake B:1"), (3,))], find_photos(tmp_path), store=store)
    assert sorted(path.name for path in store.path.iterdir()) == ["fake-b-1.json", "fake.json"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about what compressai does
        plot = importlib.import_module("compressai.utils.plot.__main__")
    means = results[0]["results"]
    read = plot.parse_json_file(store.path / "fake.json", "psnr")
    assert read == {"name": "fake", "xs": means["bpp"], "ys": means["psnr-rgb"]}
    read = plot.parse_json_file(store.path / "fake.json", "ms-ssim")
    assert read["ys"] == pytest.approx([-10 * math.log10(1 - value) for value in means["ms-ssim-rgb"]])


def test_order_of_work(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Picture by picture, each read once; codec by codec; qualities rise, each once."""
    photos = find_photos(folder)
    reads, seen = [], []

    def recorded(path: Path) -> Pixels:
        reads.append(path.name)
        return read_photo(path)

    def progress(state: Progress) -> None:
        if state.point:
            seen.append((state.image, state.codec, state.point.quality))

    monkeypatch.setattr(module, "read_photo", recorded)
    one, two = Fake("one"), Fake("two")
    measure([Run(one, (3, 1, 3)), Run(two, (2,))], photos, progress=progress)
    # Tried out at the ends of the range, warmed up, measured.
    assert one.calls == [(64, 1), (64, 3), (21, 1)] + [(w, q) for w in (21, 20, 22) for q in (1, 3)]
    assert two.calls == [(64, 2), (21, 2)] + [(w, 2) for w in (21, 20, 22)]
    assert reads == ["a.png", "b.png", "c.bmp"]
    each = (("one", 1), ("one", 3), ("two", 2))
    assert seen == [(name, *what) for name in reads for what in each]


def test_progress_counts_every_point(folder: Path) -> None:
    seen: list[Progress] = []
    runs = [Run(Fake("one"), (1, 2)), Run(Fake("two"), (5,))]
    measure(runs, find_photos(folder), progress=seen.append)
    assert [(step.done, step.total) for step in seen] == [(i, 9) for i in range(10)]
    assert [step.point is None for step in seen] == [True] + [False] * 9


def test_what_qualities_share_is_done_once_and_counts_for_each(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count()
    monkeypatch.setattr("hpcmcodec.evaluation.bench.time.perf_counter", lambda: float(next(clock)))
    analysed = []

    class Sharing(Fake):
        def analyse(self, pixels: Pixels) -> Callable[[float], bytes]:
            analysed.append(pixels.shape[1])
            for _ in range(10):
                next(clock)
            return lambda quality: self.encode(pixels, quality)

    (result,) = measure([Run(Sharing(), (1, 2, 3))], find_photos(folder, limit=2))
    assert analysed == [21, 20]
    assert {row["encoding_time"] for row in result["per_image"]} == {11 + 1}
    assert {row["decoding_time"] for row in result["per_image"]} == {1}


@pytest.mark.parametrize("phases", [range(5), (4,), (3, 1, 0, 2, 4)])
def test_no_model_is_loaded_while_the_clock_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, phases: Sequence[int]
) -> None:
    """However many there are: loading takes a thousand, what is compiled at first a hundred, coding one."""
    now, loads, compiled = 0, list[int](), set[object]()
    fake.install(monkeypatch)

    @lru_cache(maxsize=4)  # as the zoo keeps them
    def load(phase: int, preset: str) -> fake.FakeModel:
        nonlocal now
        now += 1000
        loads.append(phase)
        return fake.FakeModel(model_config(phase, preset))

    def load_model(phase: int = 4, preset: str = "lite", family: str = "rwkv", **kwargs: Any) -> Any:
        return load(phase, preset)

    def costs(name: str) -> None:
        work = getattr(fake.FakeModel, name)

        def timed(self: fake.FakeModel, *arguments: Any) -> Any:
            nonlocal now
            now += 1 if (self, name) in compiled else 101
            compiled.add((self, name))
            return work(self, *arguments)

        monkeypatch.setattr(fake.FakeModel, name, timed)

    for name in ("latent", "compress_latent", "decompress_latent", "synthesise"):
        costs(name)
    monkeypatch.setattr("hpcmcodec.zoo.load_model", load_model)
    monkeypatch.setattr("hpcmcodec.evaluation.bench.time.perf_counter", lambda: float(now))
    results = bench(folder, phases, (1, 5, 8), others=("jpeg",), processes=False)
    assert loads == list(phases)
    assert [result["complete"] for result in results] == [True] * (len(phases) + 1)
    for result in results[:-1]:
        assert {row["encoding_time"] for row in result["per_image"]} == {2}
        assert {row["decoding_time"] for row in result["per_image"]} == {2}


def test_what_goes_on_loads_only_what_it_measures(folder: Path, store: Store) -> None:
    loaded: list[str] = []

    class Loading(Fake):
        def load(self) -> Fake:
            loaded.append(self.name)
            return self

    one, two = Loading("one"), Loading("two")
    photos = find_photos(folder)
    measure([Run(one, (1, 2)), Run(two, (1,))], photos, store=store)
    assert loaded == ["one", "two"]
    measure([Run(one, (1, 2)), Run(two, (1, 2))], photos, store=store, resume=True)
    assert loaded == ["one", "two", "two"]


def test_a_process_of_its_own(folder: Path) -> None:
    (result,) = measure([Run(Fake(), (1, 2, 4, 5))], find_photos(folder))
    process = result["process"]
    (point,) = (row for row in result["per_image"] if (row["image"], row["quality"]) == ("a.png", 4))
    assert {key: process[key] for key in ("image", "sha256", "quality")} == {
        key: point[key] for key in ("image", "sha256", "quality")
    }
    assert (process["encoding_memory"], process["decoding_memory"]) == (4096, None)
    assert process["encoding_start_up"] == 1e9 - point["encoding_time"]
    assert process["decoding_start_up"] == 2e9 - point["decoding_time"]
    (result,) = measure([Run(Fake(), (1,))], find_photos(folder), processes=False)
    assert result["process"] is None


class Refusing(Fake):
    """Fails on pictures of some widths, at some qualities, at something."""

    def __init__(
        self,
        error: Exception,
        widths: Sequence[int],
        qualities: Sequence[float] = (1, 2),
        what: str = "encode",
    ) -> None:
        super().__init__("refusing")
        self.error, self.widths, self.qualities, self.what = error, widths, qualities, what

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        data = super().encode(pixels, quality)
        if self.what == "encode" and pixels.shape[1] in self.widths and quality in self.qualities:
            raise self.error
        return data

    def decode(self, data: bytes) -> Pixels:
        pixels = super().decode(data)
        if self.what == "decode" and pixels.shape[1] in self.widths and self.calls[-1][1] in self.qualities:
            raise self.error
        return pixels


WIDTHS = {"a.png": 21, "b.png": 20, "c.bmp": 22}
ERRORS = {
    "too large": ImageError("too large"),
    "checksum": CorruptFileError("checksum"),
    "out of memory": MemoryError(),
    "RuntimeError: a line and another": RuntimeError("a line\nand another"),
    "KeyError": KeyError(),
}


@pytest.mark.parametrize("what", ["encode", "decode"])
@pytest.mark.parametrize("qualities", [(1,), (2,), (1, 2)])
@pytest.mark.parametrize("name", WIDTHS)
@pytest.mark.parametrize("reason", ERRORS)
def test_a_codec_that_fails_on_a_picture_is_left_out_there(
    folder: Path, store: Store, reason: str, name: str, qualities: tuple[float, ...], what: str
) -> None:
    lines: list[str] = []
    refusing = Refusing(ERRORS[reason], (WIDTHS[name],), qualities, what)
    runs = [Run(refusing, (1, 2)), Run(Fake("other"), (1, 2))]
    results = measure(runs, find_photos(folder), store=store, tell=lines.append)
    assert lines == [f"left out: refusing on {name}: quality {qualities[0]}: {reason}"]
    one, other = results
    assert (one["skipped"], one["pictures"], one["complete"], one["bd_rate"]) == (None, 2, False, None)
    assert (other["skipped"], other["pictures"], other["complete"]) == (None, 3, True)
    finished = [n for n in WIDTHS for _ in (1, 2) if n != name]
    assert [row["image"] for row in one["per_image"] if row["image"] != name] == finished
    assert store.read() == results
    whole = measure([Run(Fake("refusing"), (1, 2)), runs[1]], find_photos(folder), store=store, resume=True)
    assert all(result["complete"] for result in whole)


@pytest.mark.parametrize("reason", ERRORS)
def test_a_codec_that_fails_everywhere_is_recorded_and_left_out(folder: Path, reason: str) -> None:
    refusing = Refusing(ERRORS[reason], (64, *WIDTHS.values()))
    one, other = measure([Run(refusing, (1, 2)), Run(Fake("other"), (1,))], find_photos(folder))
    assert (one["skipped"], one["per_image"]) == (f"refusing on a.png: quality 1: {reason}", [])
    assert (other["skipped"], other["complete"], other["bd_rate"]) == (None, True, {})


@pytest.mark.parametrize("reason", ERRORS)
def test_if_nothing_is_left_the_first_failure_ends_it(folder: Path, store: Store, reason: str) -> None:
    runs = [Run(Refusing(ERRORS[reason], (64, *WIDTHS.values())), (1, 2))]
    kind = type(ERRORS[reason]) if isinstance(ERRORS[reason], HpcmError) else HpcmError
    with pytest.raises(kind, match=rf"^refusing on a\.png: quality 1: {reason}$"):
        measure(runs, find_photos(folder), store=store)
    assert not store.path.exists()


def test_a_codec_that_cannot_be_loaded_is_recorded_and_left_out(folder: Path) -> None:
    class Heavy(Fake):
        def load(self) -> Fake:
            raise MemoryError

    lines: list[str] = []
    runs = [Run(Heavy("heavy"), (1, 2)), Run(Fake("other"), (1,))]
    heavy, other = measure(runs, find_photos(folder), tell=lines.append)
    assert lines == ["left out: heavy: out of memory"]
    assert (heavy["skipped"], heavy["per_image"]) == ("heavy: out of memory", [])
    assert other["complete"]


def test_a_codec_that_cannot_code_what_it_is_tried_out_on_is_measured(folder: Path) -> None:
    """It is flat, which some encoders do not like."""
    (result,) = measure([Run(Refusing(ImageError("flat"), (64,)), (1, 2))], find_photos(folder))
    assert result["complete"]


def test_pictures_without_loss_have_no_psnr(folder: Path, store: Store) -> None:
    lossless, lossy = Fake("lossless"), Fake("lossy")
    results = measure([Run(lossless, (8,)), Run(lossy, (1, 2))], find_photos(folder), store=store)
    assert results[0]["results"]["psnr-rgb"] == [None]
    assert results[0]["bd_rate"]["lossy"]["percent"] is None
    assert json.loads(store.path.read_text(), parse_constant=pytest.fail) == results
    draw(results, store.path.with_suffix(".svg"))
    assert tables(results)


def test_a_codec_that_cannot_run_says_so_before_another_one_does(folder: Path, store: Store) -> None:
    first, second = Fake(), Failing(WeightsError("no weights"), 0)
    with pytest.raises(WeightsError):
        measure([Run(first, (1,)), Run(second, (1,))], find_photos(folder), store=store)
    assert [width for width, _ in first.calls] == [64]
    assert not store.path.exists()


def test_a_decoder_that_changes_the_size_is_an_error(folder: Path) -> None:
    class Cropping(Fake):
        def decode(self, data: bytes) -> Pixels:
            return super().decode(data)[:8]

    with pytest.raises(UsageError, match=r"a\.png.*one size"):
        measure([Run(Cropping(), (1,))], find_photos(folder))


@pytest.mark.parametrize("runs", [[], [Run(Fake(), ())]])
def test_nothing_to_measure_is_refused(folder: Path, runs: list[Run]) -> None:
    with pytest.raises(UsageError, match="nothing to measure"):
        measure(runs, find_photos(folder))


@pytest.mark.parametrize("package", ["pytorch_msssim", "bjontegaard"])
def test_a_missing_package_is_said_before_anything_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    codec = Fake()
    with pytest.raises(HpcmError, match="'bench'"):
        measure([Run(codec, (1,))], find_photos(folder))
    assert not codec.calls


def test_a_codec_that_is_missing_is_told_of_recorded_and_left_out(folder: Path) -> None:
    codec, lines = Fake("two"), list[str]()
    runs = [Run(Fake("one"), (1, 2)), Run(codec, (1,), missing="there is no package two")]
    one, two = measure(runs, find_photos(folder), tell=lines.append)
    assert lines == ["two is left out: there is no package two"]
    assert not codec.calls
    assert (one["skipped"], one["complete"], one["bd_rate"]) == (None, True, {})
    assert (two["skipped"], two["complete"], two["per_image"]) == ("there is no package two", False, [])
    assert two["results"] == {key: [] for key in METRICS}


# BD-rate, by hand.


def record(name: str, curve: Sequence[tuple[float, float | None]]) -> Record:
    """Of a codec that was measured on one picture at these points, rate and PSNR."""
    made = Record(name, name, "", {}, tuple(range(len(curve))), {})
    for i, (bpp, psnr) in enumerate(curve):
        made.points["a.png", i] = Point("a.png", "", 1, 1, i, 1, bpp, psnr, None, 1, 1)
    return made


def deltas(curve: Any, other: Any) -> tuple[dict[str, float | None], dict[str, float | None]]:
    result = summarise([record("test", curve), record("anchor", other)], ["a.png"])[0]
    return result["bd_rate"]["anchor"], result["bd_psnr"]["anchor"]


def test_half_the_bits_everywhere() -> None:
    anchor = [(0.2, 30.0), (0.5, 33.0), (1.0, 36.0), (2.0, 39.0)]
    rate, _ = deltas([(bpp / 2, psnr) for bpp, psnr in anchor], anchor)
    assert rate == {"percent": pytest.approx(-50), "psnr_from": 30.0, "psnr_to": 39.0}


def test_lines_of_different_slope() -> None:
    """Two points make a line: log(rate) differs by log 0.5 at one end and by log 0.75 at the other."""
    rate, _ = deltas([(0.5, 30.0), (1.5, 40.0)], [(1.0, 30.0), (2.0, 40.0)])
    assert rate["percent"] == pytest.approx(100 * (math.sqrt(0.5 * 0.75) - 1))
    # PSNR differs by 2 dB at one end and 4 dB at the other.
    _, gain = deltas([(1.0, 32.0), (4.0, 44.0)], [(1.0, 30.0), (4.0, 40.0)])
    assert gain == {"db": pytest.approx(3), "bpp_from": 1.0, "bpp_to": 4.0}


def test_only_the_range_that_both_have() -> None:
    """On log2(rate) = psnr - 30 and the same less 1, whatever parts of these lines are known."""
    rate, gain = deltas([(0.5, 30.0), (16.0, 35.0)], [(1.0, 30.0), (4.0, 32.0)])
    assert rate == {"percent": pytest.approx(-50), "psnr_from": 30.0, "psnr_to": 32.0}
    assert gain == {"db": pytest.approx(1), "bpp_from": 1.0, "bpp_to": 4.0}


@pytest.mark.parametrize(
    ("curve", "low"),
    [
        ([(1.0, 50.0), (2.0, 60.0)], None),
        ([(1.0, 31.0)], None),
        ([(1.0, 31.0), (2.0, None)], None),
        ([(1.0, 31.0), (2.0, 31.0), (3.0, 33.0)], 31.0),
    ],
    ids=["no shared range", "one quality", "without loss", "equal PSNR"],
)
def test_no_bd_rate(curve: list[tuple[float, float | None]], low: float | None) -> None:
    rate, _ = deltas(curve, [(1.0, 30.0), (4.0, 40.0)])
    assert rate["percent"] is None
    assert rate["psnr_from"] == low


def test_the_matrix_is_of_all_that_is_complete(folder: Path) -> None:
    runs = [Run(Fake("one"), (1, 2, 3)), Run(Fake("two"), (2, 3, 4))]
    one, two = measure(runs, find_photos(folder))
    there = metrics.bd_rate(*(r["results"][key] for r in (two, one) for key in ("bpp", "psnr-rgb")))
    assert one["bd_rate"]["two"]["percent"] == there
    assert (1 + there / 100) * (1 + two["bd_rate"]["one"]["percent"] / 100) == pytest.approx(1)


# Written as it comes, and gone on with.


def test_output_is_what_is_returned(folder: Path, store: Store) -> None:
    runs = [Run(Fake("one"), (1, 2), "ab"), Run(Fake("two"), (2,))]
    results = measure(runs, find_photos(folder), store=store)
    assert store.read() == results
    assert sorted(path.name for path in store.path.parent.iterdir()) == ["pictures", "results.json"]


@pytest.mark.parametrize("after", [4, 6, 8])
def test_what_was_measured_survives_an_interrupt(folder: Path, store: Store, after: int) -> None:
    failing = Failing(KeyboardInterrupt(), after)  # the first three calls are to try out and to warm up
    with pytest.raises(KeyboardInterrupt):
        measure([Run(failing, (1, 2))], find_photos(folder), store=store)
    (result,) = store.read()
    rows, finished = result["per_image"], (after - 3) // 2
    names = [(name, quality) for name in ("a.png", "b.png", "c.bmp") for quality in (1, 2)]
    assert [(row["image"], row["quality"]) for row in rows] == names[: after - 3]
    assert (result["pictures"], result["complete"], result["bd_rate"]) == (finished, False, None)
    assert result["qualities"] == ([1, 2] if finished else [])
    for i, mean in enumerate(result["results"]["bpp"]):
        assert mean == pytest.approx(sum(row["bpp"] for row in rows[i::2][:finished]) / finished)


@pytest.mark.parametrize("folders", [False, True])
@pytest.mark.parametrize("after", [4, 6, 8])
def test_resume_measures_what_is_missing(folder: Path, tmp_path: Path, after: int, folders: bool) -> None:
    store = Store(tmp_path / "results", folders)
    photos = find_photos(folder)
    with pytest.raises(KeyboardInterrupt):
        measure([Run(Failing(KeyboardInterrupt(), after), (1, 2))], photos, store=store)
    codec, lines, seen = Fake(), list[str](), list[Progress]()
    results = measure(
        [Run(codec, (1, 2))], photos, store=store, resume=True, tell=lines.append, progress=seen.append
    )
    taken = after - 3
    assert lines == [f"{taken} of 6 points taken over from {store.path}"]
    assert {state.total for state in seen} == {6 - taken}
    assert len(codec.calls) == 3 + 6 - taken
    assert timeless(results) == timeless(measure([Run(Fake(), (1, 2))], photos))
    assert store.read() == results


def test_resume_of_what_is_complete_measures_nothing(folder: Path, store: Store) -> None:
    photos = find_photos(folder)
    before = measure([Run(Fake(), (1, 2))], photos, store=store)
    codec = Fake()
    assert measure([Run(codec, (1, 2))], photos, store=store, resume=True) == before
    assert not codec.calls


def test_resume_with_nothing_there_begins(folder: Path, store: Store) -> None:
    lines: list[str] = []
    measure([Run(Fake(), (1,))], find_photos(folder), store=store, resume=True, tell=lines.append)
    assert lines == [f"0 of 3 points taken over from {store.path}"]


def test_resume_adds_codecs_and_qualities(folder: Path, store: Store) -> None:
    photos = find_photos(folder)
    measure([Run(Fake("one"), (1, 2))], photos, store=store)
    one, two = Fake("one"), Fake("two")
    results = measure([Run(one, (1, 2, 3)), Run(two, (1,))], photos, store=store, resume=True)
    assert [q for width, q in one.calls if width != 64] == [1, 3, 3, 3]
    assert [row["quality"] for row in results[0]["per_image"]] == [1, 2, 3] * 3
    assert results[1]["complete"]


def test_resume_notices_a_picture_that_changed(folder: Path, store: Store) -> None:
    measure([Run(Fake(), (1, 2))], find_photos(folder), store=store)
    save(folder / "b.png", 20, seed=9)
    codec, lines = Fake(), list[str]()
    photos = find_photos(folder)
    results = measure([Run(codec, (1, 2))], photos, store=store, resume=True, tell=lines.append)
    assert lines[0] == "fake is measured anew on b.png, which changed"
    assert lines[1].startswith("4 of 6 points")
    assert timeless(results) == timeless(measure([Run(Fake(), (1, 2))], photos))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"weights_sha256": "cd"}, "its weights"),
        ({"kind": "other"}, "its settings"),
        ({"description": "fake 1.1"}, "its version"),
        ({"threads": 99}, "the environment (threads)"),
    ],
)
def test_resume_notices_what_changed(
    folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], what: str
) -> None:
    photos = find_photos(folder)
    measure([Run(Fake(), (1,), "ab"), Run(Fake("same"), (1,))], photos, store=store)
    codec = Fake(kind=change.get("kind", "fake"))
    codec.description = change.get("description", codec.description)
    same = [Run(Fake("same"), (1,))]
    if "threads" in change:
        env = {**module._environment(), **change}
        monkeypatch.setattr(module, "_environment", lambda: env)
        same = []
        store.path.write_text(json.dumps(store.read()[:1]))
    run = Run(codec, (1,), change.get("weights_sha256", "ab"))
    lines: list[str] = []
    measure([run, *same], photos, store=store, resume=True, tell=lines.append)
    assert lines[0] == f"fake is measured anew: {what} changed"
    assert lines[1].startswith("0 of 3" if "threads" in change else "3 of 6")
    assert len(codec.calls) == 5


def test_resume_drops_nothing_unless_forced(folder: Path, store: Store) -> None:
    photos = find_photos(folder)
    measure([Run(Fake("one"), (1, 2)), Run(Fake("two"), (1,))], photos, store=store)
    before = store.path.read_bytes()
    with pytest.raises(UsageError, match=r"not asked for \(3 of one, 3 of two\)"):
        measure([Run(Fake("one"), (1,))], photos, store=store, resume=True)
    runs = [Run(Fake("one"), (1, 2)), Run(Fake("two"), (1,), missing="it is gone")]
    with pytest.raises(UsageError, match=r"not asked for \(3 of two\)"):
        measure(runs, photos, store=store, resume=True)
    assert store.path.read_bytes() == before
    measure([Run(Fake("one"), (1,))], photos, store=store, resume=True, force=True)
    (result,) = store.read()
    assert len(result["per_image"]) == 3


@pytest.mark.parametrize("text", ["", "3", "[3]", "{}", '[{"name": "fake"}]', '[{"published": false}]'])
def test_resume_from_something_else_is_refused(folder: Path, store: Store, text: str) -> None:
    store.path.write_text(text)
    with pytest.raises(UsageError, match="results of hpcm bench"):
        measure([Run(Fake(), (1,))], find_photos(folder), store=store, resume=True)
    assert store.path.read_text() == text


def test_writing_takes_a_small_share_of_the_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    now, cost, written = 0.0, 0.0, []

    def results() -> list[dict[str, Any]]:
        nonlocal now
        written.append(now)
        now += cost
        return []

    monkeypatch.setattr("hpcmcodec.evaluation.results.time.monotonic", lambda: now)
    for _ in range(50):  # five seconds, ten points in each
        store.write(results)
        now += 0.1
    assert len(written) == 5
    cost = 1.0
    start = now = now + 2
    while now < start + 200:
        store.write(results)
        now += 0.1
    assert len(written) == 5 + 10
    store.write(results, final=True)
    assert len(written) == 16


def test_an_output_that_cannot_be_written_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="its folder does not exist"):
        bench(folder, others=(), output=tmp_path / "nowhere" / "results.json")
    store = Store(folder, folder=False)
    with pytest.raises(HpcmError, match="cannot write"):
        measure([Run(Fake(), (1,))], find_photos(folder), store=store)


# This codec, and its process.


@pytest.mark.parametrize("tile", [None, 256])
def test_one_analysis_for_all_qualities(monkeypatch: pytest.MonkeyPatch, tile: int | None) -> None:
    """The files are byte for byte those of an encode each."""
    fake.install(monkeypatch)
    count = 0
    latent = fake.FakeModel.latent

    def counted(self: fake.FakeModel, x: Any) -> Any:
        nonlocal count
        count += 1
        return latent(self, x)

    monkeypatch.setattr(fake.FakeModel, "latent", counted)
    pixels = np.random.default_rng(0).integers(0, 256, (300, 500, 4), dtype=np.uint8)
    analysed = codec.analyse_picture(pixels, tile=tile)
    once = count
    for quality in (1, 3.7, 8, 1):
        encoded = analysed.encode(quality)
        assert count == once
        assert encoded == codec.encode_picture(pixels, quality, tile=tile)
        count = once
    with pytest.raises(UsageError, match="quality"):
        analysed.encode(9)


def test_one_analysis_of_a_real_model(tiny_weights: Callable[[int], Path]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    ours = HpcmCodec(preset="tiny", weights=tiny_weights(4))
    encode = ours.analyse(pixels)
    for quality in (8, 1, 4.5):
        data = encode(quality)
        assert (
            data
            == ours.encode(pixels, quality)
            == codec.encode(pixels, quality, preset="tiny", weights=tiny_weights(4))
        )
        decoded = ours.decode(data)
        assert decoded.shape == pixels.shape
        assert decoded.dtype == np.uint8


def test_hpcm_is_a_codec() -> None:
    ours: module.Codec = HpcmCodec(phase=2, preset="tiny")
    assert ours.name == "hpcm-rwkv-2-tiny"
    assert "phase 2" in ours.description
    assert ours.settings == {
        "codec": "hpcm",
        "family": "rwkv",
        "phase": 2,
        "preset": "tiny",
        "device": "auto",
    }


def test_a_real_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its memory is its own: what this process holds, torch among it, does not count."""
    monkeypatch.undo()
    held = np.ones(150_000_000, dtype=np.uint8)
    costs = probe.fresh(ANCHORS["jpeg"], np.zeros((64, 64, 3), dtype=np.uint8), 50, threads=1)
    del held
    assert costs is not None
    for cost in costs:
        assert cost.seconds > 0
        assert cost.memory is None or 5e6 < cost.memory < 150e6


def test_a_process_that_fails_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    pixels = np.zeros((8, 8, 3), dtype=np.uint8)
    assert probe.fresh(ANCHORS["jpeg"], pixels, 101, threads=1) is None

    class Local(Fake):
        pass

    assert probe.fresh(Local(), pixels, 1, threads=1) is None


def test_bench_is_this_codec_beside_others(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.install(monkeypatch)
    curves = folder.parent / "curves.json"
    curves.write_text(
        json.dumps({"VTM": {"bpp": [1, 9], "psnr": [10, 60]}, "jpeg": {"bpp": [1, 2], "psnr": [3, 4]}})
    )
    results = bench(
        folder,
        qualities=(1, 2.5),
        others=("jpeg", "webp"),
        limit=2,
        curves=curves,
        weights_sha256={4: "abcd"},
    )
    names = ["hpcm-rwkv-4-lite", "jpeg", "webp", "VTM", "jpeg (curves)"]
    assert [result["name"] for result in results] == names
    assert [result["published"] for result in results] == [False] * 3 + [True] * 2
    assert results[0]["qualities"] == [1, 2.5]
    assert results[0]["weights_sha256"] == "abcd"
    assert results[1]["qualities"] == list(ANCHORS["jpeg"].qualities)
    assert results[1]["settings"]["codec"] == "jpeg"
    assert math.isfinite(results[1]["bd_rate"]["webp"]["percent"])
    assert set(results[0]["bd_rate"]) == set(names[1:])
    assert results[3]["results"] == {"bpp": [1.0, 9.0], "psnr-rgb": [10.0, 60.0]}


def test_one_weight_file_serves_one_phase(folder: Path) -> None:
    with pytest.raises(UsageError, match="one phase"):
        bench(folder, phases=(3, 4), weights="w.safetensors")


# The command.


def test_command(hpcm: Hpcm, folder: Path) -> None:
    code, out, err = hpcm("bench pictures --qualities 1,3-4 --json r.json")
    assert (code, err) == (0, "")
    results = json.loads(Path("r.json").read_text())
    assert [result["name"] for result in results] == ["hpcm-rwkv-4-lite", "jpeg", "webp", "avif"]
    assert results[0]["qualities"] == [1, 3, 4]
    for part in ("3 pictures", "MS-SSIM", "BD-rate", "against", *(r["name"] for r in results)):
        assert part in out
    assert "in a process of its own: encode 1000000000.00 s in 4.1 KB, decode" in out

    code, out, err = hpcm("bench pictures --qualities 1,3-4 --json r.json --resume")
    points = sum(len(result["per_image"]) for result in results)
    assert (code, err) == (0, f"hpcm: note: {points} of {points} points taken over from r.json\n")


def test_a_bar_on_a_terminal(hpcm: Hpcm, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes that for one
    code, _, err = hpcm("bench pictures --codecs none --qualities 2")
    assert code == 0
    assert "c.bmp hpcm-rwkv-4-lite" in err
    assert "3/3" in err


def test_command_prints_json(hpcm: Hpcm, folder: Path) -> None:
    code, out, err = hpcm("bench pictures --codecs none --qualities 2 --limit 1 --json -")
    assert (code, err) == (0, "")
    (result,) = json.loads(out)
    assert result["qualities"] == [2]


def test_command_with_a_folder(hpcm: Hpcm, folder: Path) -> None:
    assert hpcm("bench pictures --codecs jpeg --qualities 2 --json results/")[0] == 0
    assert sorted(path.name for path in Path("results").iterdir()) == ["hpcm-rwkv-4-lite.json", "jpeg.json"]
    code, _, err = hpcm("bench pictures --codecs jpeg --qualities 2 --json results --resume")
    assert code == 0
    assert "36 of 36 points" in err


@pytest.mark.parametrize("words", ["--json r.json", "--json r/", "--markdown r.md"])
def test_what_appears_while_it_measures_stays(
    hpcm: Hpcm, folder: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    path = Path("r/jpeg.json") if words.endswith("/") else Path(words.split()[1])

    def appear(*_: object) -> dict[int, str]:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
        return {}

    monkeypatch.setattr("hpcmcodec.cli.bench._digests", appear)
    words = f"bench pictures --codecs jpeg --qualities 2 {words}"
    monkeypatch.setattr("hpcmcodec.evaluation.results.Store.read", lambda self: [])  # nothing is there yet
    code, _, err = hpcm(words)
    assert code == 1
    assert "exists" in err and err.count("\n") == 1
    assert path.read_text() == "mine"


def test_command_draws_and_reports(hpcm: Hpcm, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []

    def draw(results: Results, path: Path, replace: bool) -> None:
        calls.append(([result["name"] for result in results], path, replace))

    def write(results: Results, pictures: Path, path: Path, **options: Any) -> None:
        options.pop("progress")(0.5)
        calls.append(([result["name"] for result in results], pictures, path, options))

    monkeypatch.setattr("hpcmcodec.evaluation.plot.draw", draw)
    monkeypatch.setattr("hpcmcodec.evaluation.report.write", write)
    Path("report.html").touch()
    words = "bench pictures --codecs jpeg --qualities 2,3 --plot rd.png --html report.html"
    assert "report.html exists" in hpcm(words)[2]
    code, _, err = hpcm(f"{words} --force")
    assert (code, err) == (0, "")
    names = ["hpcm-rwkv-4-lite", "jpeg"]
    assert calls == [
        (names, Path("rd.png"), True),
        (names, Path("pictures"), Path("report.html"), {"weights": None, "replace": True}),
    ]
    Path("report.html").unlink()
    assert hpcm(words)[0] == 0
    assert calls[2][-1] is calls[3][-1]["replace"] is False


def test_a_broken_picture_costs_only_itself(hpcm: Hpcm, folder: Path) -> None:
    (folder / "aa.png").write_bytes((folder / "a.png").read_bytes()[:200])
    words = "bench pictures --codecs jpeg,webp --qualities 2,4 --json r.json --markdown r.md --html r.html"
    code, out, err = hpcm(words)
    assert code == 0
    assert err.count("\n") == 1
    assert err.startswith("hpcm: note: left out: ") and "aa.png" in err
    assert "3 pictures" in out
    assert all(result["complete"] for result in json.loads(Path("r.json").read_text()))
    assert Path("r.md").is_file() and Path("r.html").is_file()


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("no kernel")])
def test_a_codec_that_fails_costs_only_itself(
    hpcm: Hpcm, folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*arguments: Any) -> Any:
        raise error

    monkeypatch.setattr(fake.FakeModel, "compress_latent", fail)
    code, out, err = hpcm("bench pictures --codecs jpeg --qualities 2,4 --json r.json --html r.html")
    assert code == 0
    assert "jpeg: 3 pictures" in out and "hpcm-rwkv-4-lite:" not in out
    assert err.count("hpcm: note: left out: hpcm-rwkv-4-lite on ") == err.count("\n") == 3
    ours, jpeg = json.loads(Path("r.json").read_text())
    assert ours["skipped"].startswith("hpcm-rwkv-4-lite on a.png: quality 2: ") and jpeg["complete"]
    assert Path("r.html").is_file()

    code, out, err = hpcm("bench pictures --codecs none --qualities 2,4 --json s.json")
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].startswith("hpcm: hpcm-rwkv-4-lite on a.png: quality 2: ")
    assert not Path("s.json").exists()


def test_an_output_that_fails_costs_only_itself(
    hpcm: Hpcm, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any, **options: Any) -> None:
        raise HpcmError("cannot write: No space left on device")

    monkeypatch.setattr("hpcmcodec.evaluation.plot.draw", full)
    monkeypatch.setattr("hpcmcodec.evaluation.report.write", full)
    words = "bench pictures --codecs jpeg --qualities 2,3 --plot rd.png --html r.html --markdown r.md"
    code, out, err = hpcm(words)
    assert code == 1
    assert "jpeg: 3 pictures" in out
    assert err == (
        "hpcm: note: cannot write: No space left on device\nhpcm: cannot write: No space left on device\n"
    )
    assert Path("r.md").is_file()


@pytest.mark.parametrize("option", ["--plot rd.png", "--html r.html"])
def test_a_plot_that_nobody_can_draw_is_refused_before_anything_runs(
    hpcm: Hpcm, folder: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr(module, "measure", pytest.fail)
    code, out, err = hpcm(f"bench pictures --codecs none {option}")
    assert (code, out) == (1, "")
    assert "matplotlib" in err and err.count("\n") == 1


def test_an_interrupt_before_anything_is_measured_promises_nothing(
    hpcm: Hpcm, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(fake.FakeModel, "compress_latent", interrupted)
    code, out, err = hpcm("bench pictures --codecs none --qualities 1-2 --json r.json")
    assert (code, out, err) == (130, "", "hpcm: interrupted\n")
    assert not Path("r.json").exists()


def test_command_without_a_codec(hpcm: Hpcm, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)
    code, out, err = hpcm("bench pictures --codecs jxl --qualities 2 --json r.json")
    assert code == 0
    assert err.startswith("hpcm: note: jxl is left out: ")
    assert err.count("\n") == 1
    assert "jxl" not in out
    skipped = json.loads(Path("r.json").read_text())[1]
    assert "pillow-jxl-plugin" in skipped["skipped"]


def test_command_interrupted_and_resumed(hpcm: Hpcm, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compress, calls = fake.FakeModel.compress_latent, itertools.count(1)

    def interrupted(self: fake.FakeModel, *words: Any) -> Any:
        if next(calls) == 7:
            raise KeyboardInterrupt
        return compress(self, *words)

    with monkeypatch.context() as patch:
        patch.setattr(fake.FakeModel, "compress_latent", interrupted)
        code, out, err = hpcm("bench pictures --codecs none --qualities 1-2 --json r.json")
    assert (code, out) == (130, "")
    assert err == (
        "hpcm: note: r.json holds what was measured; --resume goes on from there\nhpcm: interrupted\n"
    )
    code, _, err = hpcm("bench pictures --codecs none --qualities 1-2 --json r.json --resume")
    assert (code, err) == (0, "hpcm: note: 3 of 6 points taken over from r.json\n")
    (result,) = json.loads(Path("r.json").read_text())
    assert result["complete"]


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        ("bench pictures --json r.json", 2, "r.json exists: go on with it with --resume"),
        ("bench pictures --json no/r.json", 2, "cannot write no/r.json: its folder does not exist"),
        ("bench pictures --resume", 2, "--json"),
        ("bench pictures --json - --resume", 2, "--json"),
        ("bench pictures --plot there.png", 2, "there.png is a folder"),
        ("bench pictures --plot rd.bmp", 2, "not rd.bmp"),
        ("bench pictures --html no/r.html", 2, "the folder no does not exist"),
        ("bench pictures --codecs gif", 2, "'gif'"),
        ("bench pictures --effort much", 2, "much"),
        ("bench pictures --curves r.json --codecs none", 2, "r.json is not a file of curves"),
        ("bench pictures --phases 2", 4, "no weights for phase 2"),
        ("bench pictures --qualities 0-3", 2, "quality goes from 1 to 8"),
        ("bench pictures --qualities 5-3", 2, "nothing to measure"),
        ("bench nowhere", 2, "cannot read the folder nowhere: No such file or directory"),
        ("bench .", 2, "no pictures in ."),
        ("bench broken", 1, "broken/a.png is not a picture"),
    ],
)
def test_complaints(hpcm: Hpcm, folder: Path, words: str, code: int, part: str) -> None:
    Path("r.json").write_text('[{"name": "other"}]')
    Path("there.png").mkdir()
    Path("broken").mkdir()
    Path("broken/a.png").write_text("broken")
    result = hpcm(words)
    assert result[0] == code, result
    assert result[1] == ""
    assert result[2].startswith("hpcm: ")
    assert result[2].count("\n") == 1
    assert part in result[2]
    assert Path("r.json").read_text() == '[{"name": "other"}]'

from __future__ import annotations

import io
import json
from dataclasses import fields
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from hpcmcodec import codec
from hpcmcodec.errors import HpcmError, ImageError, ModelMismatchError, UsageError
from hpcmcodec.evaluation.codecs import ANCHORS, Anchor
from hpcmcodec.evaluation.compare import GAP, Sample, Window, compare, detailed_window, sheet
from hpcmcodec.evaluation.ours import HpcmCodec
from tests import fake
from tests.conftest import Hpcm

CROP = Path(__file__).parent / "data" / "kodim23-crop.png"


@pytest.fixture
def hpcm(hpcm: Hpcm) -> Hpcm:
    """The same for `compare` alone."""
    return partial(hpcm, "compare")


def complaint(result: tuple[int, str, str], code: int) -> str:
    assert result[:2] == (code, ""), result
    assert result[2].startswith("hpcm: ") and result[2].count("\n") == 1
    return result[2]


def photo() -> NDArray[np.uint8]:
    with Image.open(CROP) as image:
        return np.array(image.convert("RGB"))


def sample(pixels: NDArray[np.uint8], note: str = "", psnr: float = 30.0) -> Sample:
    return Sample("a", "A codec", "description", pixels, 12345, 1.5, psnr, 5, note)


def test_all_codecs_come_to_the_same_size() -> None:
    pixels, shares = photo(), list[float]()
    others = [ANCHORS[name] for name in ("jpeg", "webp", "jpeg2000")]
    samples = compare(pixels, others, 1.0, shares.append)
    assert [s.name for s in samples] == ["jpeg", "webp", "jpeg2000"]
    assert [s.title for s in samples] == ["JPEG", "WebP", "JPEG 2000"]
    for s, other in zip(samples, others, strict=True):
        assert s.bpp == 8 * s.bytes / 256**2 == pytest.approx(1, rel=0.05)
        assert s.note == ""
        data = other.encode(pixels, s.quality)
        assert len(data) == s.bytes
        assert (other.decode(data) == s.pixels).all()
        assert 25 < s.psnr < 50
        assert s.facts == f"{s.bytes:,} bytes · {s.bpp:.3f} bpp · {s.psnr:.2f} dB"
    assert shares == pytest.approx([1 / 3, 2 / 3, 1])


def test_ours_searches_with_its_own_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    fake.install(monkeypatch)
    (ours,) = compare(photo(), [HpcmCodec(4, "rwkv", "tiny")], 0.5)
    assert ours.name == "hpcm-rwkv-4-tiny"
    assert (ours.pixels == photo()).all()
    assert ours.facts.endswith(" · without loss")
    assert "cannot reach 0.5 bpp" in ours.note


def test_a_size_out_of_reach_is_told() -> None:
    jpeg, webp = compare(photo(), [ANCHORS["jpeg"], ANCHORS["webp"]], 0.1)
    assert jpeg.note == "cannot reach 0.1 bpp: this is its nearest"
    assert jpeg.bpp > 0.2
    assert jpeg.quality == ANCHORS["jpeg"].low
    assert webp.bpp < jpeg.bpp


class Failing(Anchor):
    """Of all pictures, at all qualities."""

    error: Exception

    def encode(self, pixels: NDArray[np.uint8], quality: float) -> bytes:
        raise self.error


def failing(error: Exception) -> Failing:
    row = ANCHORS["jpeg"]
    made = Failing(**{field.name: getattr(row, field.name) for field in fields(row)} | {"name": "failing"})
    object.__setattr__(made, "error", error)
    return made


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MemoryError(), "out of memory"),
        (ImageError("it has no such mode"), "it has no such mode"),
        (RuntimeError("a\nb"), "RuntimeError: a b"),
    ],
)
def test_a_codec_that_fails_is_left_out(error: Exception, reason: str) -> None:
    lines: list[str] = []
    samples = compare(photo(), [failing(error), ANCHORS["jpeg"]], 1.0, tell=lines.append)
    assert [s.name for s in samples] == ["jpeg"]
    assert lines == [f"left out: failing: {reason}"]
    with pytest.raises(HpcmError, match=f"^failing: {reason}$"):
        compare(photo(), [failing(error)], 1.0, tell=lines.append)
    assert len(lines) == 1


def test_a_decoder_that_fails_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    fake.install(monkeypatch)

    def fail(*arguments: object) -> None:
        raise ModelMismatchError("decoded to something else")

    monkeypatch.setattr(fake.FakeModel, "decompress_latent", fail)
    lines: list[str] = []
    samples = compare(photo(), [HpcmCodec(4, "rwkv", "tiny"), ANCHORS["webp"]], 0.5, tell=lines.append)
    assert [s.name for s in samples] == ["webp"]
    assert lines == ["left out: hpcm-rwkv-4-tiny: decoded to something else"]


@pytest.mark.parametrize("shape", [(100, 300), (1, 1), (64, 64), (3, 200)])
@pytest.mark.parametrize("value", [0, 128, 255])
@pytest.mark.parametrize("bpp", [0.01, 1.0, 500.0])
def test_flat_and_tiny_pictures_are_compared(shape: tuple[int, int], value: int, bpp: float) -> None:
    pixels, lines = np.full((*shape, 3), value, np.uint8), list[str]()
    codecs = [ANCHORS[name] for name in ("jpeg", "webp", "jxl", "jpeg2000")]
    samples = compare(pixels, codecs, bpp, tell=lines.append)
    assert [s.name for s in samples] == ["jpeg", "webp", "jxl", "jpeg2000"]
    assert not lines


@pytest.mark.parametrize("bpp", [0, -1, float("nan"), float("inf")])
def test_a_size_that_is_none_is_refused(bpp: float) -> None:
    with pytest.raises(UsageError, match="positive number of bits per pixel"):
        compare(photo(), [ANCHORS["jpeg"]], bpp)


def test_the_window_is_where_the_detail_is() -> None:
    pixels = np.full((200, 300, 3), 128, np.uint8)
    dice = np.random.default_rng(0)
    pixels[100:132, 208:240] = dice.integers(0, 256, (32, 32, 3))
    window = detailed_window(pixels, 64, 48)
    assert window[2:] == (64, 48)
    assert window.x <= 208 and window.x + 64 >= 240
    assert window.y <= 100 and window.y + 48 >= 132
    assert window.of(pixels).shape == (48, 64, 3)
    assert detailed_window(pixels, 64, 48) == window


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (17, 33), (64, 64), (100, 70)])
@pytest.mark.parametrize("side", [1, 16, 40, 64])
def test_the_window_is_inside_whatever_the_size(shape: tuple[int, int], side: int) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)
    x, y, width, height = detailed_window(pixels, side, side)
    assert (width, height) == (min(side, shape[1]), min(side, shape[0]))
    assert 0 <= x <= shape[1] - width
    assert 0 <= y <= shape[0] - height
    assert x % 16 == y % 16 == 0


def test_the_window_is_the_best_of_all_on_its_grid() -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (90, 120, 3), np.uint8)
    pixels[:, 60:] //= 2

    def detail(x: int, y: int) -> float:
        grey = pixels.sum(axis=2, dtype=np.int64)
        across = np.pad(np.square(np.diff(grey, axis=1)), ((0, 0), (0, 1)))
        down = np.pad(np.square(np.diff(grey, axis=0)), ((0, 1), (0, 0)))
        return float((across + down)[y : y + 32, x : x + 48].sum())

    places = [(x, y) for x in range(0, 120 - 47, 16) for y in range(0, 90 - 31, 16)]
    assert detailed_window(pixels, 48, 32)[:2] == max(places, key=lambda place: detail(*place))


def find(whole: NDArray[np.uint8], part: NDArray[np.uint8]) -> tuple[int, int]:
    """Where in a sheet a picture is."""
    height, width = part.shape[:2]
    for y, x in np.argwhere((whole == part[0, 0]).all(axis=2)):
        if np.array_equal(whole[y : y + height, x : x + width], part):
            return int(x), int(y)
    raise AssertionError("the picture is not on the sheet")


def test_a_sheet_shows_every_picture_at_its_size() -> None:
    dice = np.random.default_rng(3)
    pictures = [dice.integers(0, 256, (60, 300, 3), np.uint8) for _ in range(4)]
    samples = [sample(pixels) for pixels in pictures[1:]]
    made = sheet(pictures[0], samples)
    whole = np.array(made)
    assert made.mode == "RGB"
    places = [find(whole, picture) for picture in pictures]
    assert places[0][0] == GAP
    assert len(set(places)) == 4
    assert places == sorted(places, key=lambda place: (place[1], place[0]))
    assert (whole[0] == 255).all() and (whole[:, 0] == 255).all() and (whole[:, -1] == 255).all()


def test_a_sheet_shows_only_the_window() -> None:
    dice = np.random.default_rng(4)
    pictures = [dice.integers(0, 256, (200, 200, 3), np.uint8) for _ in range(2)]
    window = Window(20, 30, 50, 40)
    whole = np.array(sheet(pictures[0], [sample(pictures[1])], window))
    first, second = (find(whole, window.of(picture)) for picture in pictures)
    assert first != second
    assert whole.shape[1] > 200  # room for the words


def test_a_note_takes_room_in_its_row_alone() -> None:
    pixels = photo()
    plain = sheet(pixels, [sample(pixels)] * 5)
    noted = sheet(pixels, [sample(pixels)] * 4 + [sample(pixels, "out of reach")])
    assert plain.width == noted.width
    assert 0 < noted.height - plain.height < 30
    top = np.array(plain)[:300], np.array(noted)[:300]
    assert (top[0] == top[1]).all()


def test_one_pixel_makes_a_sheet() -> None:
    pixels = np.zeros((1, 1, 3), np.uint8)
    assert sheet(pixels, [sample(pixels, psnr=float("inf"))]).height > 40


def test_command(hpcm: Hpcm, tmp_path: Path) -> None:
    code, out, err = hpcm(CROP, "--bpp", 1, "--codecs", "jpeg,webp", "-o", "c.png")
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["codec", "bytes", "bpp", "PSNR", "dB"]
    assert [line[0] for line in lines[1:]] == ["hpcm-rwkv-4-lite", "jpeg", "webp"]
    assert "cannot reach 1 bpp" in out.splitlines()[1]
    assert len(lines[2]) == 4 and 0.9 < float(lines[2][2]) < 1.1
    with Image.open(tmp_path / "c.png") as image:
        assert image.format == "PNG"
        assert err == f"c.png: {image.width} x {image.height}\n"
        found = find(np.array(image), photo())
    assert found[0] == GAP
    assert [path.name for path in tmp_path.iterdir()] == ["c.png"]


def test_the_sheet_stands_beside_the_picture(hpcm: Hpcm, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    Image.fromarray(photo()).save(tmp_path / "there" / "p.bmp")
    assert hpcm("there/p.bmp", "--bpp", 2, "--codecs", "jpeg")[0] == 0
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == ["p-compare.png", "p.bmp"]


def test_nothing_is_overwritten_without_force(hpcm: Hpcm, tmp_path: Path) -> None:
    path = tmp_path / "c.png"
    path.write_bytes(b"before")
    words = (CROP, "--bpp", 1, "--codecs", "jpeg", "-o", "c.png")
    assert complaint(hpcm(*words), 1) == (
        "hpcm: c.png exists: name another file with -o, or overwrite it with --force\n"
    )
    assert path.read_bytes() == b"before"
    assert hpcm(*words, "--force")[0] == 0
    assert path.read_bytes().startswith(b"\x89PNG")


def test_json(hpcm: Hpcm) -> None:
    code, out, err = hpcm(
        CROP, "--bpp", 0.1, "--codecs", "jpeg", "-o", "c.png", "--crop", "1,2,30,40", "--json"
    )
    assert code == 0
    assert err.startswith("c.png: ") and "shows" not in err
    record = json.loads(out)
    codecs = record.pop("codecs")
    assert record == {
        "path": str(CROP),
        "output": "c.png",
        "target_bpp": 0.1,
        "width": 256,
        "height": 256,
        "crop": [1, 2, 30, 40],
    }
    ours, jpeg = codecs
    assert list(ours) == list(jpeg) == ["name", "description", "quality", "bytes", "bpp", "psnr", "note"]
    assert ours["psnr"] is None  # without loss
    assert jpeg["name"] == "jpeg" and 10 < jpeg["psnr"] < 40
    assert jpeg["note"].startswith("cannot reach")


def test_pipes(hpcm: Hpcm, tmp_path: Path) -> None:
    data = CROP.read_bytes()
    code, out, err = hpcm("-", "--bpp", 1, "--codecs", "jpeg", stdin=data)
    assert code == 0
    with Image.open(io.BytesIO(out.encode(errors="surrogateescape"))) as image:
        assert image.format == "PNG"
    assert "jpeg" in err and "standard output: " in err
    assert not list(tmp_path.iterdir())
    line = complaint(hpcm("-", "--bpp", 1, "--json", stdin=data), 2)
    assert "--json and the picture" in line


def test_large_pictures_are_shown_in_part(hpcm: Hpcm, tmp_path: Path) -> None:
    pixels = np.full((1100, 1000, 3), 90, np.uint8)
    pixels[600:700, 800:900] = np.random.default_rng(5).integers(0, 256, (100, 100, 3))
    Image.fromarray(pixels).save(tmp_path / "a.png")
    code, out, err = hpcm("a.png", "--bpp", 1, "--codecs", "jpeg", "--json")
    assert code == 0
    x, y, width, height = json.loads(out)["crop"]
    assert (width, height) == (640, 640)
    assert x <= 800 and x + width >= 900 and y <= 600 and y + height >= 700
    assert f"shows 640 x 640 at {x},{y} (--crop shows another part)" in err
    with Image.open(tmp_path / "a-compare.png") as image:
        assert find(np.array(image), pixels[y : y + height, x : x + width])[0] == GAP


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--bpp", "0"), "--bpp takes a number above zero, not 0"),
        (("--bpp", "nan"), "--bpp takes a number above zero, not nan"),
        ((), "Missing option '--bpp'"),
        (
            ("--bpp", "1", "-o", "c.jpg"),
            "the comparison is a PNG: name a file that ends with .png, not c.jpg",
        ),
        (("--bpp", "1", "--crop", "1,2,3"), "--crop takes four whole numbers"),
        (("--bpp", "1", "--crop", "200,0,57,10"), "--crop takes a part inside the picture of 256 x 256"),
        (("--bpp", "1", "--codecs", "jpg"), "there is no codec 'jpg': choose from jpeg"),
        (("--bpp", "1", "--phase", "9"), "phase"),
    ],
)
def test_mistakes_are_one_line(hpcm: Hpcm, tmp_path: Path, words: tuple[str, ...], says: str) -> None:
    assert says in complaint(hpcm(CROP, *words), 2)
    assert not list(tmp_path.iterdir())


def test_pictures_that_cannot_be_compared_are_named(hpcm: Hpcm, tmp_path: Path) -> None:
    assert "nowhere.png" in complaint(hpcm("nowhere.png", "--bpp", 1), 1)
    (tmp_path / "bad.png").write_bytes(b"no picture")
    assert "bad.png is not a picture" in complaint(hpcm("bad.png", "--bpp", 1), 1)
    Image.new("RGBA", (20, 20)).save(tmp_path / "clear.png")
    assert "clear.png: it has transparency" in complaint(hpcm("clear.png", "--bpp", 1), 1)
    assert "no weights" in complaint(hpcm(CROP, "--bpp", 1, "--phase", 0, "-o", "c.png"), 4)
    line = complaint(hpcm("clear.png", "--bpp", 1, "-o", "clear.png", "--force"), 2)
    assert "is the input itself" in line


def test_a_missing_codec_is_left_out_with_a_note(hpcm: Hpcm, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = Anchor.missing

    def gone(self: Anchor) -> str | None:
        return "JPEG XL: not here" if self.name == "jxl" else missing(self)

    monkeypatch.setattr(Anchor, "missing", gone)
    code, out, err = hpcm(CROP, "--bpp", 1, "--codecs", "jxl,jpeg", "-o", "c.png")
    assert code == 0
    assert "hpcm: note: left out: JPEG XL: not here\n" in err
    assert "jxl" not in out and "jpeg" in out


def test_what_fails_is_left_out_with_a_note(
    hpcm: Hpcm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise MemoryError

    monkeypatch.setattr(fake.FakeModel, "compress_latent", fail)
    code, out, err = hpcm(CROP, "--bpp", 1, "--codecs", "jpeg,webp", "-o", "c.png")
    assert code == 0
    assert "jpeg" in out and "webp" in out and "hpcm-" not in out
    assert err.startswith("hpcm: note: left out: hpcm-rwkv-4-lite: out of memory\nc.png: ")
    line = complaint(hpcm(CROP, "--bpp", 1, "--codecs", ",", "-o", "d.png"), 1)
    assert line == "hpcm: hpcm-rwkv-4-lite: out of memory\n"
    assert [path.name for path in tmp_path.iterdir()] == ["c.png"]


def test_all_codecs_that_are_there_are_the_default(hpcm: Hpcm) -> None:
    code, out, _ = hpcm(CROP, "--bpp", 1, "--json", "-o", "c.png")
    assert code == 0
    names = [row["name"] for row in json.loads(out)["codecs"]]
    there = [name for name, row in ANCHORS.items() if not name.endswith("-best") and row.available()]
    assert names == ["hpcm-rwkv-4-lite", *there]
    assert {"jpeg", "webp", "avif"} <= set(names)


def test_a_full_disk_leaves_nothing(hpcm: Hpcm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes, replace: bool) -> None:
        raise HpcmError(f"{path}: No space left on device")

    monkeypatch.setattr("hpcmcodec.cli.compare.write_bytes", full)
    assert "No space left" in complaint(hpcm(CROP, "--bpp", 1, "--codecs", "jpeg", "-o", "c.png"), 1)
    assert not list(tmp_path.iterdir())


def test_grey_pictures_are_compared(hpcm: Hpcm, tmp_path: Path) -> None:
    Image.fromarray(photo()).convert("L").save(tmp_path / "grey.png")
    assert hpcm("grey.png", "--bpp", 1, "--codecs", "jpeg")[0] == 0
    with Image.open(tmp_path / "grey-compare.png") as image, Image.open(tmp_path / "grey.png") as grey:
        find(np.array(image), codec.to_rgb(grey))

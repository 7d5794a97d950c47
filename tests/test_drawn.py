"""Drawn pictures: what they hold, that a seed says it all, fonts and their split, the tar."""

from __future__ import annotations

import random
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFont

from hpcmcodec.errors import UsageError
from hpcmcodec.training.data import read_pictures
from hpcmcodec.training.drawn import GROUPS, KINDS, drawn_pictures, write_drawn
from hpcmcodec.training.drawn.__main__ import main
from hpcmcodec.training.drawn.fonts import Face, Fonts
from hpcmcodec.training.drawn.kinds import Kind, draw
from hpcmcodec.training.drawn.sheet import Sheet
from hpcmcodec.training.drawn.text import wrapped
from hpcmcodec.training.process import Process
from hpcmcodec.training.run import TrainOptions, train
from hpcmcodec.training.sources import read_crops

from .conftest import DATA, TINY

PILLOW = Fonts()


def sheet(seed: int = 0, width: int = 120, height: int = 40) -> Sheet:
    return Sheet(random.Random(seed), PILLOW, width, height)


def pixels(sheet: Sheet) -> np.ndarray:
    return np.array(sheet.image).astype(int)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_kind_is_drawn_from_its_seed(kind: Kind) -> None:
    state = random.getstate(), repr(np.random.get_state())
    one, again, other = (list(draw(2, seed, PILLOW, [kind], (260, 300))) for seed in (1, 1, 2))
    for picture, twin in zip(one, again, strict=True):
        np.testing.assert_array_equal(picture.pixels, twin.pixels)
    assert any(a.pixels.tobytes() != b.pixels.tobytes() for a, b in zip(one, other, strict=True))
    for picture in one:
        assert picture.kind == kind.name and picture.pixels.dtype == np.uint8
        assert all(260 <= side <= 300 for side in picture.pixels.shape[:2]) and picture.pixels.shape[2] == 3
        assert np.ptp(picture.pixels.reshape(-1, 3), axis=0).max() > 8, "it is not left empty"
    assert state == (random.getstate(), repr(np.random.get_state()))


def test_kinds_come_by_their_weight() -> None:
    dots = [Kind(name, "text", weight, lambda sheet: None) for name, weight in (("a", 3), ("b", 1))]
    seen = Counter(picture.kind for picture in draw(40, 5, PILLOW, dots, (8, 9)))
    assert 28 <= seen["a"] <= 32 and seen["a"] + seen["b"] == 40
    assert {kind.group for kind in KINDS} | {"all"} == set(GROUPS)
    assert len({kind.name for kind in KINDS}) == len(KINDS)


def test_a_picture_hangs_on_its_number_alone() -> None:
    few, more = (list(draw(n, 3, PILLOW, sides=(200, 210))) for n in (3, 5))
    for one, same in zip(few, more, strict=False):
        np.testing.assert_array_equal(one.pixels, same.pixels)


def test_text_without_antialiasing_has_two_colours() -> None:
    page = sheet()
    page.text((4, 4), "Words", Face("Pillow", ""), 18, (10, 20, 30), hand="bilevel")
    assert {tuple(c) for c in pixels(page).reshape(-1, 3)} == {(255, 255, 255), (10, 20, 30)}


@pytest.mark.parametrize("hand", ["hinted", "soft"])
def test_smooth_text_is_grey(hand: str) -> None:
    page = sheet()
    page.text((4, 4), "Words", Face("Pillow", ""), 18, (0, 0, 0), hand=hand)
    drawn = pixels(page)
    assert (np.ptp(drawn, axis=2) == 0).all() and len(np.unique(drawn)) > 10 and drawn.min() < 40


def test_subpixel_text_is_a_third_of_a_pixel_apart() -> None:
    """Red lies left of green, blue right of it; all together are as dark as grey text is."""
    shades = {}
    for hand in ("soft", "rgb", "bgr"):
        page = sheet()
        page.text((20.0, 4), "HIIH", Face("Pillow", ""), 24, (0, 0, 0), hand=hand)
        shades[hand] = 255 - pixels(page)
    across = np.arange(120)
    for hand, sign in (("rgb", 1), ("bgr", -1)):
        ink = shades[hand].sum(0)
        red, green, blue = across @ ink / ink.sum(0)
        # A channel at the left of its pixel sees what lies left: its ink lands further right.
        assert red - green == pytest.approx(sign / 3, abs=0.04)
        assert green - blue == pytest.approx(sign / 3, abs=0.04)
        assert shades[hand].sum() == pytest.approx(shades["soft"].sum(), rel=0.01)
    np.testing.assert_array_equal(shades["rgb"], shades["bgr"][..., ::-1])


def test_figures_cover_what_they_should() -> None:
    for smooth, error in ((True, 0.01), (False, 0.03)):
        page = sheet(width=100, height=100)
        page.smooth = smooth
        page.disc(50, 50, 30, (0, 0, 0))
        assert (255 - pixels(page)[..., 0]).sum() / 255 == pytest.approx(np.pi * 900, rel=error)
        page.fill((255, 255, 255))
        page.block((10, 20, 40, 50), (0, 0, 0))
        assert (pixels(page)[20:50, 10:40] == 0).all() and (pixels(page) == 0).sum() == 3 * 900
        page.fill((255, 255, 255))
        page.line([(10, 20), (90, 20)], (0, 0, 0), 2)
        assert (255 - pixels(page)[..., 0]).sum() / 255 == pytest.approx(160, rel=0.05)


def test_grids_hold_grey_lines_of_one_pixel() -> None:
    """What is one pixel wide differs from both its neighbours, which are alike."""
    (kind,) = (kind for kind in KINDS if kind.name == "grids")
    grey = [p.pixels for p in draw(40, 0, PILLOW, [kind], (200, 220)) if not np.ptp(p.pixels, axis=2).any()]
    thin = 0
    for picture in (p[..., 0].astype(int) for p in grey):
        across = picture[:, 1:-1]
        line = (across != picture[:, :-2]) & (picture[:, :-2] == picture[:, 2:])
        thin += bool((line & (across > 0) & (across < 255)).any())
    assert len(grey) >= 10 and thin >= 5


def test_lines_are_broken_at_spaces() -> None:
    font = ImageFont.load_default(12)
    assert isinstance(font, ImageFont.FreeTypeFont)
    text = "some words that fill more than one line of the given width"
    lines = list(wrapped(text, font, 90))
    assert len(lines) > 2 and "".join(lines).split() == text.split()
    assert all(font.getlength(line.rstrip()) <= 90 for line in lines)


def families(folder: Path | None, split: str) -> set[str]:
    return set(Fonts.found(folder, split).families)


def test_fonts_are_split_by_family() -> None:
    everything, training, validation = (families(None, split) for split in ("all", "train", "val"))
    assert training | validation == everything and not training & validation
    assert not {name.split()[0] for name in training} & {name.split()[0] for name in validation}


def test_without_fonts_there_is_the_one_of_pillow(tmp_path: Path) -> None:
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    fonts = Fonts.found(tmp_path)
    assert fonts.families == {}
    assert fonts.choose(random.Random(0), mono=True).at(12).getname()[0]


@pytest.mark.skipif(not families(None, "all"), reason="no fonts here")
def test_equal_fonts_in_other_folders_draw_equal_pictures(tmp_path: Path) -> None:
    faces = next(iter(Fonts.found().families.values()))
    for name in ("a", "z"):
        (tmp_path / name).mkdir()
        for number, face in enumerate(faces):
            assert face.path
            target = tmp_path / name / f"{number if name == 'a' else 99 - number}{face.path.suffix}"
            target.write_bytes(face.path.read_bytes())
    one, other = (list(draw(3, 0, Fonts.found(tmp_path / name), sides=(200, 220))) for name in ("a", "z"))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a.pixels, b.pixels)


def test_a_tar_of_drawn_pictures(tmp_path: Path) -> None:
    fonts = tmp_path / "fonts"
    fonts.mkdir()
    for name in ("a.tar", "b.tar"):
        write_drawn(tmp_path / name, 3, 7, fonts, group="graphics")
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    pictures = read_pictures([tmp_path / "a.tar"])
    graphics = [kind for kind in KINDS if kind.group == "graphics"]
    for i, (drawn, name, read) in enumerate(
        zip(draw(3, 7, PILLOW, graphics), pictures.names, pictures.pixels, strict=True)
    ):
        assert name == f"{i:05d}-{drawn.kind}.webp"
        np.testing.assert_array_equal(drawn.pixels, read)


def test_a_tar_from_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "fonts").mkdir()
    line = f"{tmp_path}/out.tar --count 2 --seed 3 --fonts {tmp_path}/fonts --split val --group text"
    subprocess.run([sys.executable, "-m", "hpcmcodec.training.drawn", *line.split()], check=True)
    write_drawn(tmp_path / "same.tar", 2, 3, tmp_path / "fonts", "val", "text")
    assert (tmp_path / "out.tar").read_bytes() == (tmp_path / "same.tar").read_bytes()
    with tarfile.open(tmp_path / "out.tar") as tar:
        names = {name.split("-")[1].split(".")[0] for name in tar.getnames()}
    assert names <= {kind.name for kind in KINDS if kind.group == "text"}


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("out.tar --fonts nowhere", 2, "nowhere is no folder"),
        ("out.tar --count 0", 2, "at least 1"),
        ("nowhere/out.tar --count 1 --fonts .", 1, "cannot write nowhere/out.tar"),
    ],
)
def test_what_is_wrong_with_a_tar_is_said_in_a_line(
    line: str,
    code: int,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(line.split()) == code
    error = capfd.readouterr().err
    assert says in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir()), "nothing half-written is left"


def test_a_tar_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    (tmp_path / "fonts").mkdir()
    write_drawn(tmp_path / "a.tar", 1, 3, tmp_path / "fonts")
    before = (tmp_path / "a.tar").read_bytes()
    monkeypatch.setattr(Image.Image, "save", fails)
    assert main([str(tmp_path / "a.tar"), "--fonts", str(tmp_path / "fonts")]) == 130
    assert (tmp_path / "a.tar").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tar", "fonts"]


def options(output: Path, **changed: object) -> TrainOptions:
    usual = {"config": TINY[0], "data": (DATA,), "steps": 1, "batch": 2, "crop": 64, "device": "cpu"}
    return TrainOptions(output=output, **(usual | changed))  # type: ignore[arg-type]


def test_a_share_of_the_crops_is_drawn(tmp_path: Path) -> None:
    """The share counts, not how many pictures there are; without one each picture is as likely."""
    torch.manual_seed(0)
    Image.new("RGB", (64, 64), (1, 2, 3)).save(tmp_path / "a.png")
    photos = read_pictures([DATA]).pixels
    large = sum(min(p.shape[:2]) >= 64 for p in photos)
    for share, expected in ((0.5, 0.5), (None, 1 / (large + 1))):
        asked = options(tmp_path, drawn_data=(tmp_path,), drawn_share=share)
        source, counts = read_crops(asked, Process.start("cpu"), 0)
        crops = source.batch(1000).mul(255).round().flatten(2).amax(2)
        drawn = float((crops == torch.tensor([1, 2, 3])).all(1).float().mean())
        assert drawn == pytest.approx(expected, abs=0.05)
        assert counts == [len(photos) + 1, 0, large + 1]


def test_shares_that_make_no_sense(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs drawn pictures"):
        train(options(tmp_path, drawn_share=0.1))
    with pytest.raises(UsageError, match="below 1"):
        train(options(tmp_path, drawn=2, drawn_share=1.0))


def test_each_fifth_is_a_photograph_in_other_colours() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    assert [p.shape == photo.shape for p in drawn_pictures(6, [photo], 1)] == [False] * 4 + [True, False]

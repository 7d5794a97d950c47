from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from hpcmcodec import __version__
from hpcmcodec.cli._files import open_picture
from hpcmcodec.config import model_config
from hpcmcodec.errors import ImageError
from tests import fake
from tests.conftest import Hpcm

CROP = Path(__file__).parent / "data" / "kodim23-crop.png"


def complaint(result: tuple[int, str, str], code: int) -> str:
    """The one plain line that a failure is."""
    assert result[0] == code, result
    assert result[1] == ""
    assert result[2].startswith("hpcm: ")
    assert result[2].count("\n") == 1
    assert "Traceback" not in result[2]
    return result[2]


def raw(out: str) -> bytes:
    """The bytes behind an output that is not text."""
    return out.encode(errors="surrogateescape")


def pixels(path: Path) -> bytes:
    with Image.open(path) as image:
        return image.convert("RGB").tobytes()


def test_round_trip(hpcm: Hpcm, tmp_path: Path) -> None:
    code, out, err = hpcm("encode", CROP, "-o", "a.hpcm")
    assert (code, out) == (0, "")
    size = (tmp_path / "a.hpcm").stat().st_size
    assert err.startswith(f"a.hpcm: {size:,} bytes, {8 * size / 256**2:.3f} bpp, ")
    code, out, err = hpcm("decode", "a.hpcm")
    assert (code, out) == (0, "")
    assert err.startswith("a.png: 256 x 256, ")
    assert pixels(tmp_path / "a.png") == pixels(CROP)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.hpcm", "a.png"]


def test_output_stands_beside_the_input(hpcm: Hpcm, tmp_path: Path) -> None:
    picture = tmp_path / "there" / "p.jpg"
    picture.parent.mkdir()
    Image.new("L", (20, 10), 128).save(picture)
    assert hpcm("encode", picture)[0] == 0
    assert hpcm("decode", picture.with_suffix(".hpcm"))[0] == 0
    assert sorted(path.name for path in picture.parent.iterdir()) == ["p.hpcm", "p.jpg", "p.png"]


def test_format_names_the_output(hpcm: Hpcm, tmp_path: Path) -> None:
    hpcm("encode", CROP, "-o", "a.hpcm")
    assert hpcm("decode", "a.hpcm", "--format", "JPEG")[0] == 0
    with Image.open("a.jpeg") as image:
        assert image.format == "JPEG"
    assert not Path("a.png").exists()


def test_part_of_a_damaged_file(hpcm: Hpcm, tmp_path: Path) -> None:
    Image.new("RGB", (512, 300), "teal").save("wide.png")
    assert hpcm("encode", "wide.png", "-o", "a.hpcm", "--tile", 256, "--verify")[0] == 0
    data = bytearray(Path("a.hpcm").read_bytes())
    data[-9] ^= 1
    Path("a.hpcm").write_bytes(data)
    assert complaint(hpcm("decode", "a.hpcm"), 3)
    code, _, err = hpcm("decode", "a.hpcm", "--partial", "--crop", "0,0,512,290")
    assert code == 0
    assert "\nhpcm: note: a.hpcm: tile 3, " in err
    with Image.open("a.png") as image:
        assert image.size == (512, 290)
        assert (image.getpixel((0, 0)), image.getpixel((511, 289))) == ((0, 128, 128), (128, 128, 128))


def test_large_pictures_are_opened(tmp_path: Path) -> None:
    """Pillow would refuse what is over 179 megapixels; the codec takes 536."""
    for size, fits in (((15_000, 13_000), True), ((25_000, 25_000), False)):
        buffer = io.BytesIO()
        Image.new("1", (8, 8)).save(buffer, "BMP")
        data = bytearray(buffer.getvalue())
        data[18:26] = struct.pack("<II", *size)
        if fits:
            assert open_picture(bytes(data), Path("a.bmp")).size == size
        else:
            with pytest.raises(ImageError, match=r"a\.bmp: "):
                open_picture(bytes(data), Path("a.bmp"))


def test_a_limit_on_pixels(hpcm: Hpcm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hpcm("encode", CROP, "-o", "a.hpcm")
    for words in (("info", "a.hpcm"), ("decode", "a.hpcm"), ("encode", CROP, "-o", "b.hpcm")):
        line = complaint(hpcm(*words, "--max-pixels", 256 * 256 - 1), 1)
        assert "256 x 256: more than 65535 pixels" in line and str(words[1]) in line
        monkeypatch.setenv("HPCM_MAX_PIXELS", "9999")
        assert "more than 9999 pixels" in complaint(hpcm(*words), 1)
        assert hpcm(*words, "--max-pixels", 256 * 256)[0] == 0
        (tmp_path / "b.hpcm").unlink(missing_ok=True)
        monkeypatch.setenv("HPCM_MAX_PIXELS", "many")
        (tmp_path / "a.png").unlink(missing_ok=True)
        assert "HPCM_MAX_PIXELS takes a number of pixels" in complaint(hpcm(*words), 2)
        monkeypatch.delenv("HPCM_MAX_PIXELS")


def test_compare(hpcm: Hpcm) -> None:
    hpcm("encode", CROP, "-o", "a.hpcm")
    assert ", PSNR inf dB, " in hpcm("decode", "a.hpcm", "--compare", CROP)[2]
    Image.new("RGB", (3, 3)).save("small.png")
    assert "3 x 3" in complaint(hpcm("decode", "a.hpcm", "-o", "b.png", "--compare", "small.png"), 1)


@pytest.mark.parametrize(
    ("name", "kind"), [("b.jpg", "JPEG"), ("b.WEBP", "WEBP"), ("b.tif", "TIFF"), ("b.ppm", "PPM")]
)
def test_decode_writes_other_types(hpcm: Hpcm, name: str, kind: str) -> None:
    hpcm("encode", CROP, "-o", "a.hpcm")
    assert hpcm("decode", "a.hpcm", "-o", name)[0] == 0
    with Image.open(name) as image:
        assert (image.format, image.size) == (kind, (256, 256))


def test_pipes(hpcm: Hpcm, tmp_path: Path) -> None:
    code, coded, err = hpcm("encode", "-", "-o", "-", stdin=CROP.read_bytes())
    assert code == 0
    assert err.startswith("standard output: ")
    code, picture, _ = hpcm("decode", "-", "--format", "png", stdin=raw(coded))
    assert code == 0
    (tmp_path / "p.png").write_bytes(raw(picture))
    assert pixels(tmp_path / "p.png") == pixels(CROP)
    assert "--format" in complaint(hpcm("decode", "-", stdin=raw(coded)), 2)


def test_terminal_gets_no_binary(hpcm: Hpcm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpcmcodec.cli._files.sys.stdout.isatty", lambda: True)
    assert "terminal" in complaint(hpcm("encode", CROP, "-o", "-"), 2)


def test_nothing_is_overwritten_unasked(hpcm: Hpcm, tmp_path: Path) -> None:
    (tmp_path / "a.hpcm").write_text("mine")
    (tmp_path / "a.png").write_text("mine")
    line = complaint(hpcm("encode", CROP, "-o", "a.hpcm"), 1)
    assert "-o" in line
    assert "--force" in line
    assert (tmp_path / "a.hpcm").read_text() == "mine"
    assert hpcm("encode", CROP, "-o", "a.hpcm", "--force")[0] == 0
    assert "a.png exists" in complaint(hpcm("decode", "a.hpcm"), 1)
    assert (tmp_path / "a.png").read_text() == "mine"
    assert hpcm("decode", "a.hpcm", "--force")[0] == 0
    assert pixels(tmp_path / "a.png") == pixels(CROP)


def test_output_follows_links_and_devices(hpcm: Hpcm, tmp_path: Path) -> None:
    (tmp_path / "real.hpcm").write_text("old")
    (tmp_path / "link.hpcm").symlink_to("real.hpcm")
    assert hpcm("encode", CROP, "-o", "link.hpcm", "--force")[0] == 0
    assert (tmp_path / "link.hpcm").is_symlink()
    assert (tmp_path / "real.hpcm").stat().st_size > 1000
    assert hpcm("encode", CROP, "-o", os.devnull)[0] == 0
    assert not Path(os.devnull).is_file()


def test_output_has_the_usual_rights(hpcm: Hpcm, tmp_path: Path) -> None:
    (tmp_path / "usual").write_text("")
    hpcm("encode", CROP, "-o", "a.hpcm")
    assert (tmp_path / "a.hpcm").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_failed_write_leaves_nothing(hpcm: Hpcm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    for force in ((), ("--force",)):
        assert "No space left" in complaint(hpcm("encode", CROP, "-o", "a.hpcm", *force), 1)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (("encode", "missing.png"), 1, "missing.png: No such file"),
        (("encode", "empty"), 2, "no pictures in empty"),
        (("encode", "notes.txt"), 1, "notes.txt is not a picture"),
        (("encode", "broken.png", "-o", "x.hpcm"), 1, "broken.png: the picture cannot be read"),
        (("encode", "pages.gif"), 1, "pages.gif: the picture is an animation"),
        (("encode", "pages.gif", "--frame", "2"), 2, "no frame 2"),
        (("encode", CROP, "-o", "x.hpcm", "--tile", "100"), 2, "--tile"),
        (("encode", CROP, "-o", "no/where.hpcm"), 1, "the folder no does not exist"),
        (("encode", CROP, "-o", "."), 1, "is a folder"),
        (("encode", "good.hpcm", "-o", "good.hpcm", "--force"), 2, "the input itself"),
        (("encode", CROP, "-o", "x.hpcm", "--phase", "7"), 2, "phases 0 to 4"),
        (("encode", CROP, "-o", "x.hpcm", "--phase", "2", "--preset", "base"), 4, "no weights for phase 2"),
        (("encode", CROP, "-o", "x.hpcm", "--preset", "huge"), 2, "huge"),
        (("encode", CROP, "-o", "x.hpcm", "-q", "9"), 2, "--quality"),
        (("encode", CROP, "-o", "x.hpcm", "-q", "nan"), 2, "quality"),
        (("encode", CROP, "-o", "x.hpcm", "--device", "abacus"), 2, "abacus"),
        (("encode", CROP, "-o", "x.hpcm", "--threads", "0"), 2, "--threads"),
        (("encode", CROP, "-o", "x.hpcm", "--threads", 10**12), 2, "--threads"),
        (("encode", CROP, "-o", "x.hpcm", "--phase="), 2, "--phase= is empty"),
        (("encode", "", CROP), 2, "what follows encode is empty"),
        (("encode", CROP, "-o", "broken.png/x.hpcm"), 1, "Not a directory"),
        (("encode",), 2, "Missing argument 'INPUT' (see hpcm encode --help)"),
        (("encode", CROP, "--what"), 2, "--what"),
        (("conjure",), 2, "conjure"),
        (("decode", "missing.hpcm"), 1, "missing.hpcm: No such file"),
        (("decode", "notes.txt"), 3, "notes.txt: "),
        (("decode", "good.hpcm", "-o", "x.xyz"), 2, "'.xyz'"),
        (("decode", "good.hpcm", "-o", "x"), 2, "unknown extension"),
        (("decode", "good.hpcm", "--format", "xyz"), 2, "'xyz'"),
        (("decode", "good.hpcm", "--crop", "200,0,57,1"), 2, "not inside"),
        (("decode", "cut.hpcm"), 3, "cut.hpcm: "),
        (("decode", "other.hpcm"), 4, "other.hpcm: "),
        (("info", "cut.hpcm"), 3, "cut.hpcm: "),
        (("bench", "empty"), 2, "no pictures in empty"),
        (("bench", "empty", "--phases", "x"), 2, "--phases"),
        (("bench", "empty", "--phases", "1.5"), 2, "1.5"),
    ],
)
def test_complaints(
    hpcm: Hpcm,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[object, ...],
    code: int,
    part: str,
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / "broken.png").write_bytes(CROP.read_bytes()[:5000])
    Image.new("L", (4, 4)).save(
        tmp_path / "pages.gif", save_all=True, append_images=[Image.new("L", (4, 4), 9)]
    )
    with monkeypatch.context() as other:
        other.setattr(fake.FakeModel, "entropy_id", b"\xff\xff\xff\xff")
        hpcm("encode", CROP, "-o", "other.hpcm")
    hpcm("encode", CROP, "-o", "good.hpcm")
    (tmp_path / "cut.hpcm").write_bytes((tmp_path / "good.hpcm").read_bytes()[:-9])

    before = sorted(tmp_path.iterdir())
    assert part in complaint(hpcm(*words), code)
    assert sorted(tmp_path.iterdir()) == before


def test_of_several_files_one_that_may_not_be_read_is_told(
    hpcm: Hpcm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("closed.png", "open.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    may, read = os.access, Path.read_bytes

    def denied(path: Path) -> bytes:
        if path.name == "closed.png":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(os, "access", lambda path, mode: "closed" not in str(path) and may(path, mode))
    monkeypatch.setattr(Path, "read_bytes", denied)
    code, out, err = hpcm("encode", tmp_path / "closed.png", tmp_path / "open.png")
    assert (code, out) == (1, "")
    first, last = err.splitlines()
    assert first == f"hpcm: {tmp_path / 'closed.png'}: Permission denied"
    assert last.startswith("1 encoded, 1 failed"), err
    assert (tmp_path / "open.hpcm").is_file()


def test_an_output_that_may_not_be_read_is_replaced(
    hpcm: Hpcm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture, output = tmp_path / "a.png", tmp_path / "closed.hpcm"
    Image.new("RGB", (8, 8)).save(picture)
    output.touch()
    may = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: "closed" not in str(path) and may(path, mode))
    assert hpcm("encode", picture, "-o", output, "--force")[0] == 0
    assert output.stat().st_size > 0


def test_a_terminal_obeys_no_name_of_a_file(hpcm: Hpcm, tmp_path: Path) -> None:
    name = "a\x1b[2J\r\n b\u202e é漢.png"
    (tmp_path / name).write_bytes(b"junk")
    shown = f"{tmp_path}/a\\x1b[2J\\r\\n b\\u202e é漢.png"
    collapsed = f"{tmp_path}/a\\x1b[2J b\\u202e é漢.png"
    assert hpcm("encode", tmp_path / name)[2] == f"hpcm: {collapsed} is not a picture that can be read\n"
    first, last = hpcm("encode", tmp_path)[2].splitlines()
    assert first == f"hpcm: {collapsed} is not a picture that can be read"
    assert last == "1 failed"
    Image.new("RGB", (8, 8)).save(tmp_path / name)
    told = hpcm("encode", tmp_path / name)[2]
    assert told.startswith(shown.replace(".png", ".hpcm") + ": ") and told.count("\n") == 1


def test_another_synthesis_is_noted(hpcm: Hpcm, monkeypatch: pytest.MonkeyPatch) -> None:
    hpcm("encode", CROP, "-o", "a.hpcm")
    monkeypatch.setattr(fake.FakeModel, "synthesis_id", b"\xff\xff\xff\xff")
    code, _, err = hpcm("decode", "a.hpcm")
    assert code == 0
    assert err.startswith("hpcm: note: a.hpcm: ")
    assert err.count("\n") == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_what_is_not_foreseen(
    hpcm: Hpcm, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    def fail(*_: object) -> None:
        raise error("a long\nstory")

    monkeypatch.setattr(fake.FakeModel, "compress_latent", fail)
    line = complaint(hpcm("encode", CROP, "-o", "a.hpcm"), 130 if error is KeyboardInterrupt else 1)
    assert line == "hpcm: interrupted\n" or "RuntimeError: a long story" in line
    assert not Path("a.hpcm").exists()


@pytest.mark.parametrize("place", [0, 1, 2])
def test_debug_shows_where(hpcm: Hpcm, place: int) -> None:
    words = ["encode", "missing.png"]
    words.insert(place, "--debug")
    code, _, err = hpcm(*words)
    assert code == 1
    assert "Traceback" in err
    assert err.endswith("hpcm: missing.png: No such file or directory\n")


def test_info(hpcm: Hpcm) -> None:
    hpcm("encode", CROP, "-o", "a.hpcm", "-q", "3.5")
    code, out, _ = hpcm("info", "a.hpcm", "--json")
    facts = json.loads(out)
    assert code == 0
    assert (facts["width"], facts["height"], facts["quality"], facts["phase"]) == (256, 256, 3.5, 4)
    code, out, _ = hpcm("info", "a.hpcm")
    assert code == 0
    for fact in ("3.5", "lite", "rwkv", "256", "01020304"):
        assert fact in out


def test_models(hpcm: Hpcm, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {"parameters": 30_269_947, "macs_per_pixel": 386_443.6}
    monkeypatch.setattr("hpcmcodec.models.complexity.complexity", lambda _: counts)
    monkeypatch.setattr("hpcmcodec.zoo.available", lambda: [model_config(4, "lite")])
    code, out, _ = hpcm("models", "--json")
    assert code == 0
    rows = json.loads(out)
    assert len({(row["family"], row["phase"], row["preset"]) for row in rows}) == len(rows) == 15
    assert [(row["phase"], row["preset"]) for row in rows if row["weights"]] == [(4, "lite")]
    code, out, _ = hpcm("models", "--preset", "lite")
    assert code == 0
    assert len(out.splitlines()) == 1 + 5
    assert out.splitlines()[-1].split() == ["rwkv", "4", "lite", "30.27", "M", "386", "yes"]
    assert "huge" in complaint(hpcm("models", "--preset", "huge"), 2)


def test_train(hpcm: Hpcm, monkeypatch: pytest.MonkeyPatch) -> None:
    from hpcmcodec.training import run

    asked: list[run.TrainOptions] = []

    def train(
        options: run.TrainOptions, report: Callable[[run.Report], None], note: Callable[[str], None]
    ) -> Path:
        asked.append(options)
        report(run.Report(0.25, 5, 60.0, 700.0, 1.5, 0.5, 30.0, 9.0, 1.0))
        note("a note")
        return options.output / "weights.safetensors"

    monkeypatch.setattr(run, "train", train)
    words = "train --data a --data b.tar -o runs/1 --init runs/0 --preset tiny --seconds 240 --force"
    recipe = "--matrix-rate 2e-3 --vector-rate 3e-4 --warmup 0.1 --decay 0 --ema-decay 0.99 --save-every 60"
    code, out, err = hpcm(*words.split(), *recipe.split())
    assert (code, out) == (0, f"{Path('runs/1/weights.safetensors')}\n")
    line, said = err.splitlines()
    assert " ".join(line.split()) == "25% step 5 60 s 700 crops/s loss 1.5000 0.5000 bpp mse 30.00"
    assert said == "a note"
    (options,) = asked
    assert (options.data, options.output) == ((Path("a"), Path("b.tar")), Path("runs/1"))
    assert (options.init, options.resume, options.force) == (Path("runs/0"), False, True)
    assert (options.steps, options.seconds, options.quiet) == (None, 240, 30)
    assert (options.matrix_rate, options.vector_rate) == (2e-3, 3e-4)
    assert (options.warmup, options.decay, options.ema_decay, options.save_every) == (0.1, 0, 0.99, 60)

    monkeypatch.setenv("FORCE_COLOR", "1")  # a terminal, as far as rich can tell
    code, out, err = hpcm(*words.split(), "--resume")
    assert (code, out) == (0, f"{Path('runs/1/weights.safetensors')}\n")
    assert "loading" in err and "0:03:00 left" in err and "700 crops/s" in err and "a note" in err
    assert asked[1].resume and asked[1].quiet < 30
    monkeypatch.setenv("RANK", "3")
    assert "loading" not in hpcm(*words.split())[2], "one bar for all processes"

    assert "--decay" in complaint(hpcm(*words.split(), "--decay", 2), 2)


def test_train_fails_in_one_line(hpcm: Hpcm) -> None:
    words = "train --data . -o run --preset tiny --batch 1 --crop 64 --device cpu --steps 1"
    assert "no readable picture in ." in complaint(hpcm(*words.split()), 1)
    assert "no-such does not exist" in complaint(hpcm(*words.split(), "--data", "no-such"), 1)
    assert "--resume" not in complaint(hpcm(*words.split(), "--init", "no-such"), 4)
    Path("run/weights.safetensors").touch()
    assert "--force" in complaint(hpcm(*words.split()), 2)


def test_version_and_help(hpcm: Hpcm) -> None:
    assert hpcm("--version") == (0, f"hpcm {__version__}\n", "")
    code, out, err = hpcm()
    assert (code, err) == (2, "")
    assert "encode" in out
    code, out, err = hpcm("--help")
    assert (code, err) == (0, "")
    for command in ("encode", "decode", "info", "models", "bench", "train"):
        assert command in out
        assert hpcm(command, "--help")[0] == 0


def test_a_reader_that_leaves(tmp_path: Path) -> None:
    """`hpcm --help | head -1` ends without a word."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "hpcmcodec", "--help"]
    result = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert result.stderr == ""

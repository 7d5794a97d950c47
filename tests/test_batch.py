"""Many files, targets, progress, interruption. The codec is a stand-in, save where other processes help."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from hpcmcodec import cli, codec
from hpcmcodec.container import Header, Tile, describe, pack, unpack
from hpcmcodec.errors import CorruptFileError, ImageError, UsageError, WeightsError

CROP = Path(__file__).parent / "data" / "kodim23-crop.png"
Run = Callable[..., "subprocess.Popen[str]"]
BAD = (13, 13)  # the size of a picture that cannot be coded


@dataclass
class Bench:
    """A folder to work in, and the command line with a codec that keeps a picture as PNG."""

    capture: pytest.CaptureFixture[bytes]
    asked: list[dict[str, Any]] = field(default_factory=list)
    error: Exception | None = None
    notes: tuple[str, ...] = ()
    meanwhile: Callable[[], None] = lambda: None

    def __call__(self, *words: object) -> tuple[int, str, str]:
        code = cli.main([str(word) for word in words])
        out, err = self.capture.readouterr()
        return code, out.decode(errors="surrogateescape"), err.decode()

    def encode(
        self,
        image: Image.Image,
        quality: float = 5,
        *,
        progress: Callable[[float], None],
        target: codec.Target | None = None,
        **options: Any,
    ) -> codec.Encoded:
        self.asked.append({"quality": quality, "target": target, **options})
        if image.size == BAD:
            raise self.error or ImageError("cannot be coded")
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        progress(0.5)
        self.meanwhile()
        header = Header("rwkv", 4, "tiny", 4.25 if target else quality, *image.size, bytes(4), bytes(4))
        psnr = 35.016 if target and target.psnr else None
        data = pack(header, [Tile(b"", buffer.getvalue(), bytes(8))])
        return codec.Encoded(data, header.quality, self.notes, psnr)

    def decode(
        self, data: bytes, *_: object, progress: Callable[[float], None], **options: Any
    ) -> codec.Decoded:
        self.asked.append(options)
        tile, *others = unpack(data, options["partial"]).tiles
        if None in others:
            return codec.Decoded(Image.new("RGB", (16, 8)), ("a note",), ("tile 3 is lost",))
        assert tile
        image: Image.Image = Image.open(io.BytesIO(tile.y))
        if options["crop"]:
            x, y, width, height = options["crop"]
            image = image.crop((x, y, x + width, y + height))
        progress(0.5)
        return codec.Decoded(image, self.notes, ())


@pytest.fixture
def hpcm(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> Bench:
    bench = Bench(capsysbinary)
    monkeypatch.setattr(codec, "encode_picture", bench.encode)
    monkeypatch.setattr(codec, "decode_picture", bench.decode)
    monkeypatch.chdir(tmp_path)
    return bench


def picture(*names: str, size: tuple[int, int] = (16, 8)) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, "teal").save(name, "PNG")


def files(folder: str = ".") -> list[str]:
    paths = Path(folder).rglob("*")
    return sorted(path.relative_to(folder).as_posix() for path in paths if path.is_file())


def records(out: str) -> dict[str, dict[str, Any]]:
    """By the name of the input, the JSON lines of an output."""
    lines = [json.loads(line) for line in out.splitlines()]
    return {Path(line["path"]).name: line for line in lines}


def usage_error(result: tuple[int, str, str], part: str) -> None:
    code, out, err = result
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("hpcm: ")
    assert part in err


def test_several_files(hpcm: Bench) -> None:
    picture("a.png", "there/b.png")
    code, out, err = hpcm("encode", "a.png", "there/b.png")
    assert (code, out) == (0, "")
    assert err.startswith("2 encoded, ")
    assert files() == ["a.hpcm", "a.png", "there/b.hpcm", "there/b.png"]
    code, out, err = hpcm("decode", "a.hpcm", "there/b.hpcm", "--output-dir", "out/deep")
    assert (code, out) == (0, "")
    assert err.startswith("2 decoded, ")
    assert files("out") == ["deep/a.png", "deep/b.png"]


def test_folders(hpcm: Bench) -> None:
    picture("in/a.png", "in/B.JPG", "in/x/y/c.png", "in/.hidden/d.png", "in/._a.png")
    Path("in/notes.txt").write_text("not a picture")
    assert hpcm("encode", "in", "--output-dir", "flat")[0] == 0
    assert files("flat") == ["B.hpcm", "a.hpcm"]
    assert hpcm("encode", "in", "-r", "--output-dir", "deep")[0] == 0
    assert files("deep") == ["B.hpcm", "a.hpcm", "x/y/c.hpcm"]
    assert hpcm("decode", "deep", "-r", "--output-dir", "back", "--format", "ppm")[0] == 0
    assert files("back") == ["B.ppm", "a.ppm", "x/y/c.ppm"]
    with Image.open("back/a.ppm") as image:
        assert image.format == "PPM"
    assert hpcm("decode", "deep")[0] == 0, "beside the inputs"
    assert files("deep") == ["B.hpcm", "B.png", "a.hpcm", "a.png", "x/y/c.hpcm"]


def test_patterns(hpcm: Bench) -> None:
    picture("in/a.png", "in/b.png", "in/x/c.png", "in/odd[1].png")
    assert hpcm("encode", "in/[ab].png", "--output-dir", "one")[0] == 0
    assert files("one") == ["a.hpcm", "b.hpcm"]
    assert hpcm("encode", "in/**/*.png", "--output-dir", "all")[0] == 0
    assert files("all") == ["a.hpcm", "b.hpcm", "odd[1].hpcm", "x/c.hpcm"]
    assert hpcm("encode", "in/odd[1].png")[0] == 0, "a file of that name comes first"
    assert Path("in/odd[1].hpcm").exists()


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("encode a.png b.png -o out.hpcm", "--output-dir"),
        ("encode in -o out.hpcm", "--output-dir"),
        ("encode a.png -o out.hpcm --output-dir out", "one of -o and --output-dir"),
        ("encode - a.png", "standard input"),
        ("encode - --output-dir out", "standard input"),
        ("encode a.png a.jpg", "a.png and a.jpg would both become a.hpcm"),
        ("encode a.png in/a.png --output-dir out", "would both become"),
        ("encode a.png b.hpcm", "b.hpcm, is an input"),
        ("encode empty", "no pictures in empty (-r"),
        ("encode empty -r", "no pictures in empty"),
        ("decode in", "no .hpcm files in in"),
        ("encode *.gif", "nothing matches *.gif"),
        ("encode in/a**.png", "in/a**.png"),
        ("encode a.png b.png --force --skip-existing", "--skip-existing"),
        ("encode a.png -o - --json", "--json"),
        ("encode a.png -q 4 --target-bpp 1", "--quality"),
        ("encode a.png --target-size 1KB --target-bpp 1", "--target-size"),
        ("encode a.png --target-bpp 0", "--target-bpp"),
        ("encode a.png --target-psnr nan", "--target-psnr"),
        ("encode a.png --target-size 0", "--target-size"),
        ("encode a.png --target-size big", "'big'"),
        ("encode a.png --target-size 1.2.3", "'1.2.3'"),
        ("encode a.png --tile 100", "--tile"),
        ("encode a.png --tile 128", "--tile"),
        ("encode a.png --tile 4096", "--tile"),
        ("encode a.png --frame -1", "--frame"),
        ("encode a.png --jobs 0", "--jobs"),
        ("decode b.hpcm --crop 1,2,3", "--crop"),
        ("decode b.hpcm --crop 1,2,0,4", "--crop"),
        ("decode b.hpcm --crop a,b,c,d", "--crop"),
        ("decode b.hpcm b.hpcm in/c.hpcm --compare a.png", "--compare"),
        ("decode b.hpcm b.hpcm in/c.hpcm --format xyz", "'xyz'"),
    ],
)
def test_usage_errors_come_before_any_work(hpcm: Bench, words: str, part: str) -> None:
    picture("a.png", "a.jpg", "b.png", "b.hpcm", "in/a.png")
    Path("empty").mkdir()
    before = files()
    usage_error(hpcm(*words.split()), part)
    assert files() == before
    assert hpcm.asked == []


def test_a_bad_picture_does_not_stop_the_rest(hpcm: Bench) -> None:
    picture("a.png", "d.png", "e.png")
    picture("c.png", size=BAD)
    Path("b.png").write_bytes(CROP.read_bytes()[:50])
    Path("e.hpcm").write_text("mine")
    code, out, err = hpcm("encode", "a.png", "b.png", "c.png", "d.png", "e.png", "missing.png")
    assert (code, out) == (1, "")
    lines = err.splitlines()
    assert "e.hpcm exists" in lines[0]
    assert lines[1].startswith("hpcm: b.png")
    assert lines[2:4] == ["hpcm: c.png: cannot be coded", "hpcm: missing.png: No such file or directory"]
    assert lines[4].startswith("2 encoded, 4 failed, ")
    assert len(lines) == 5
    assert Path("a.hpcm").exists() and Path("d.hpcm").exists()
    assert Path("e.hpcm").read_text() == "mine"

    Path("bad.hpcm").write_text("not one")
    code, _, err = hpcm("decode", "bad.hpcm", "a.hpcm", "d.hpcm", "--output-dir", "out")
    assert code == 1
    assert err.startswith("hpcm: bad.hpcm: not a .hpcm file")
    assert "2 decoded, 1 failed" in err


def test_a_name_that_the_system_refuses_fails_alone(hpcm: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    long = "a" * 251
    picture("b.png", f"{long}.png")
    Path("loop.png").symlink_to("loop.png")
    Path("nowhere.png").symlink_to("gone.png")
    Path("out.hpcm").symlink_to("out.hpcm")
    code, _, err = hpcm("encode", f"{long}.png", "loop.png", "nowhere.png", "b.png")
    assert code == 1
    assert err.splitlines()[:3] == [
        f"hpcm: {long}.png: cannot write {long}.hpcm: File name too long",
        "hpcm: loop.png: Too many levels of symbolic links",
        "hpcm: nowhere.png: No such file or directory",
    ]
    assert "\n1 encoded, 3 failed, " in err
    assert "1 encoded, 3 failed, " in hpcm("encode", ".", "--output-dir", "out")[2]
    assert files("out") == ["b.hpcm"]
    line = "hpcm: cannot write out.hpcm: Too many levels of symbolic links\n"
    assert hpcm("encode", "b.png", "-o", "out.hpcm") == (1, "", line)
    for word in ("b" * 300, "[" + "b" * 300 + "]"):
        assert hpcm("encode", word, "b.png", "--force")[0] in (1, 2)
        assert hpcm("info", word, "b.hpcm")[0] == 1


def test_a_folder_that_cannot_be_searched_fails_alone(hpcm: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: str | Path) -> Any:
        if Path(folder).name == "locked":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(folder))
        return scan(folder)

    scan = os.scandir
    monkeypatch.setattr("os.scandir", refuse)
    picture("in/a.png", "in/locked/b.png", "in/z/c.png", "d.png")
    code, out, err = hpcm("encode", "in", "-r", "--json")
    assert code == 1
    assert err.startswith("hpcm: in/locked: Permission denied\n2 encoded, 1 failed, ")
    assert records(out)["locked"]["error"] == "in/locked: Permission denied"
    assert hpcm("encode", "in/locked") == (1, "", "hpcm: in/locked: Permission denied\n")
    assert "1 encoded, 1 failed, " in hpcm("encode", "in/locked", "d.png")[2]


def test_pictures_that_cannot_be_read_are_counted(hpcm: Bench) -> None:
    picture("in/a.png", "in/IMG_1.HEIC", "in/x/b.cr2", "in/.hidden.heic")
    Path("in/notes.txt").write_text("not a picture")
    code, out, err = hpcm("encode", "in", "--json")
    assert code == 1
    assert err.startswith("1 encoded, 1 left out that cannot be read (1 .heic), ")
    assert records(out)["IMG_1.HEIC"]["error"] == ".heic pictures cannot be read"
    code, _, err = hpcm("encode", "in", "-r", "--force")
    assert code == 1
    assert err.startswith("1 encoded, 2 left out that cannot be read (1 .cr2, 1 .heic), ")
    Path("in/x/b.cr2").rename("in/x/b.txt")
    Path("in/IMG_1.HEIC").unlink()
    assert hpcm("encode", "in", "-r", "--force")[0] == 0, "not everything is a picture"
    assert hpcm("decode", "in", "--force")[0] == 0
    picture("other/a.jxl", "other/b.jxl")
    usage_error(hpcm("encode", "other"), "no pictures that can be read in other: 2 .jxl cannot")


def test_folders_are_searched_for_what_can_be_read() -> None:
    from hpcmcodec.cli._jobs import OTHER_PICTURES, PICTURES
    from hpcmcodec.pictures.opening import is_picture_name

    Image.init()
    assert not [suffix for suffix in PICTURES if not is_picture_name(f"a{suffix}")]
    assert not set(PICTURES) & set(OTHER_PICTURES)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_nobody_waits_for_a_named_pipe_in_a_folder(hpcm: Bench) -> None:
    picture("in/a.png")
    os.mkfifo("in/b.png")
    assert hpcm("encode", "in")[0] == 0
    assert hpcm("encode", "in/*.png", "--force")[0] == 0


def test_even_a_bug_does_not(hpcm: Bench) -> None:
    picture("a.png")
    picture("c.png", size=BAD)
    for error, words in ((RuntimeError("a bug"), "RuntimeError: a bug"), (MemoryError(), "out of memory")):
        hpcm.error = error
        code, _, err = hpcm("encode", "c.png", "a.png", "--force")
        assert code == 1
        assert err.startswith(f"hpcm: c.png: {words}")
        assert "1 encoded, 1 failed" in err


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."
        ),
        RuntimeError("CUDA out of memory. Tried to allocate 9 GiB."),
        RuntimeError("std::bad_alloc"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
    ],
)
def test_too_little_memory_is_told_as_that(hpcm: Bench, error: Exception) -> None:
    picture("a.png", size=BAD)
    hpcm.error = error
    line = "hpcm: a.png: out of memory: end other programs, or encode in smaller tiles (--tile 256)\n"
    assert hpcm("encode", "a.png") == (1, "", line)
    assert "Traceback" in hpcm("encode", "a.png", "--debug")[2]


def test_what_no_picture_can_change_ends_it(hpcm: Bench) -> None:
    picture("b.png")
    picture("a.png", size=BAD)
    hpcm.error = WeightsError("no such weights")
    assert hpcm("encode", "a.png", "b.png") == (4, "", "hpcm: no such weights\n")
    assert not Path("b.hpcm").exists()
    hpcm.error = UsageError("needs tiles")  # this one does
    assert hpcm("encode", "a.png", "b.png")[0] == 1
    assert Path("b.hpcm").exists()


def test_one_input_ends_with_its_own_error(hpcm: Bench) -> None:
    picture("a.png", size=BAD)
    for error, code in ((UsageError("x"), 2), (CorruptFileError("x"), 3), (WeightsError("x"), 4)):
        hpcm.error = error
        result = hpcm("encode", "a.png", "--json")
        assert (result[0], result[2].count("\n")) == (code, 1)
        assert records(result[1])["a.png"]["error"].endswith("x")


def test_existing_outputs(hpcm: Bench) -> None:
    picture("a.png", "b.png")
    Path("a.hpcm").write_text("mine")
    code, _, err = hpcm("encode", "a.png", "b.png", "--skip-existing")
    assert code == 0
    assert err.startswith("1 encoded, 1 skipped, ")
    assert Path("a.hpcm").read_text() == "mine"
    assert hpcm("encode", "a.png", "--skip-existing") == (0, "", "a.hpcm: skipped, it exists\n")
    assert hpcm("encode", "a.png", "b.png", "--force")[0] == 0
    assert describe(Path("a.hpcm").read_bytes())["width"] == 16
    assert hpcm("encode", "a.png", "b.png", "--skip-existing")[2] == "2 skipped\n"


def test_an_output_that_appears_meanwhile_stays(hpcm: Bench) -> None:
    picture("a.png", "b.png")

    def appear() -> None:
        for name in "ab":
            Path(f"{name}.hpcm").write_text("mine")

    hpcm.meanwhile = appear
    code, out, err = hpcm("encode", "a.png")
    assert (code, out) == (1, "")
    assert err.startswith("hpcm: a.hpcm exists: ") and "--force" in err
    Path("a.hpcm").unlink()
    code, _, err = hpcm("encode", "a.png", "--skip-existing")
    assert (code, err) == (0, "a.hpcm: skipped, it exists\n")
    Path("a.hpcm").unlink()
    Path("b.hpcm").unlink()
    assert hpcm("encode", "a.png", "b.png", "--skip-existing") == (0, "", "2 skipped\n")
    assert Path("a.hpcm").read_text() == Path("b.hpcm").read_text() == "mine"
    assert len(hpcm.asked) == 3, "the second of two was not even begun"
    assert hpcm("encode", "a.png", "--force")[0] == 0
    assert describe(Path("a.hpcm").read_bytes())["width"] == 16


@pytest.mark.skipif(sys.platform != "linux", reason="only there one process knows what another is making")
def test_two_batches_at_the_same_time_share_the_work(hpcm: Bench) -> None:
    picture("a.png", "b.png", "c.png")
    words = "encode", ".", "--skip-existing", "--output-dir", "out"
    told: list[tuple[int, str, str]] = []

    def another() -> None:
        hpcm.meanwhile = lambda: None
        told.append(hpcm(*words))

    hpcm.meanwhile = another
    code, _, err = hpcm(*words)
    assert (code, told[0][0]) == (0, 0)
    assert told[0][2].startswith("2 encoded, 1 skipped, "), "the first is being made"
    assert err.startswith("1 encoded, 2 skipped, ")
    assert len(hpcm.asked) == 3
    assert files("out") == ["a.hpcm", "b.hpcm", "c.hpcm"]


@pytest.mark.skipif(sys.platform != "linux", reason="only there one process knows what another is making")
def test_a_claim_ends_with_its_job(hpcm: Bench) -> None:
    picture("a.png", size=BAD)
    assert hpcm("encode", "a.png", "--skip-existing")[0] == 1
    hpcm.error = KeyboardInterrupt()  # type: ignore[assignment]
    assert hpcm("encode", "a.png", "--skip-existing")[0] == 130
    picture("a.png")
    assert hpcm("encode", "a.png", "--skip-existing")[0] == 0


def test_summary_adds_up(hpcm: Bench) -> None:
    picture("a.png")
    picture("b.png", size=(160, 80))
    err = hpcm("encode", "a.png", "b.png")[2]
    written = sum(Path(name).stat().st_size for name in ("a.hpcm", "b.hpcm"))
    read = sum(Path(name).stat().st_size for name in ("a.png", "b.png"))
    assert written < 1000 and read < 1000
    bpp = 8 * written / (16 * 8 + 160 * 80)
    assert err == f"2 encoded, {written} bytes from {read} bytes, {bpp:.2f} bpp\n"
    back = hpcm("decode", "a.hpcm", "b.hpcm", "--output-dir", "out")[2]
    assert back.startswith("2 decoded, ") and back.endswith(f" from {written} bytes, {bpp:.2f} bpp\n")


def test_sizes_as_people_say_them() -> None:
    from hpcmcodec.cli._show import size

    assert [size(n) for n in (999, 80_000, 12_345_678, 3_000_000_000)] == [
        "999 bytes",
        "80.0 KB",
        "12.3 MB",
        "3.0 GB",
    ]


def test_json(hpcm: Bench) -> None:
    picture("a.png", "b.png")
    picture("c.png", size=BAD)
    Path("b.hpcm").write_text("mine")
    hpcm.notes = ("a note",)
    code, out, _ = hpcm("encode", "a.png", "b.png", "c.png", "--skip-existing", "--json")
    assert code == 1
    told = records(out)
    keys = ["path", "output", "bytes", "bpp", "quality", "seconds", "psnr", "notes", "skipped", "error"]
    assert all(list(record) == keys for record in told.values())
    size = Path("a.hpcm").stat().st_size
    a = told["a.png"]
    assert (a["path"], a["output"], a["bytes"], a["quality"]) == ("a.png", "a.hpcm", size, 5)
    assert (a["bpp"], a["notes"], a["error"]) == (8 * size / 128, ["a note"], None)
    assert a["seconds"] >= 0
    assert told["b.png"]["skipped"] and told["b.png"]["bytes"] is None
    assert told["c.png"]["error"] == "c.png: cannot be coded"
    a = records(hpcm("decode", "a.hpcm", "--json", "--compare", "a.png", "--force")[1])["a.hpcm"]
    assert (a["bytes"], a["bpp"], a["quality"]) == (Path("a.png").stat().st_size, 8 * size / 128, 5)
    assert a["psnr"] is None, "infinite, which JSON cannot say"


@pytest.mark.parametrize(
    ("words", "target", "line"),
    [
        ("--target-bpp 0.5", codec.Target(bpp=0.5), "wanted 0.5 bpp, reached {bpp:.3f} at quality 4.25"),
        ("--target-size 80KB", codec.Target(size=80_000), "wanted 80,000 bytes, reached {size} at quality"),
        ("--target-size 1.5MB", codec.Target(size=1_500_000), "wanted 1,500,000 bytes"),
        ("--target-size 2KiB", codec.Target(size=2048), "wanted 2,048 bytes"),
        ("--target-size 80000", codec.Target(size=80_000), "wanted 80,000 bytes"),
        ("--target-size 700b", codec.Target(size=700), "wanted 700 bytes"),
        ("--target-psnr 35", codec.Target(psnr=35), "wanted 35.0 dB, reached 35.02 at quality 4.25"),
    ],
)
def test_targets(hpcm: Bench, words: str, target: codec.Target, line: str) -> None:
    picture("a.png")
    code, out, err = hpcm("encode", "a.png", *words.split(), "--json")
    assert code == 0
    assert [asked["target"] for asked in hpcm.asked] == [target]
    size = Path("a.hpcm").stat().st_size
    assert line.format(bpp=size / 16, size=size) in err
    assert records(out)["a.png"]["quality"] == 4.25
    assert records(out)["a.png"]["psnr"] == (35.016 if target.psnr else None)


def test_options_reach_the_codec(hpcm: Bench) -> None:
    picture("a.png")
    hpcm("encode", "a.png")
    words = "--tile 512 --strip --frame 2 --verify -q 3 --preset tiny --weights w --device cpu --force"
    words += " --max-pixels 999999"
    hpcm("encode", "a.png", *words.split())
    hpcm("encode", "a.png", "--tile", 0, "--force")
    usual, asked, never = hpcm.asked
    common = {"phase": 4, "family": "rwkv", "target": None}
    defaults = {"tile": None, "strip": False, "frame": None, "verify": False, "quality": 5}
    defaults |= {"max_pixels": None}
    assert usual == {**common, **defaults, "preset": "lite", "weights": None, "device": "auto"}
    wanted = {"tile": 512, "strip": True, "frame": 2, "verify": True, "quality": 3, "max_pixels": 999999}
    assert asked == {**common, **wanted, "preset": "tiny", "weights": Path("w"), "device": "cpu"}
    assert never["tile"] == 0


def test_crop(hpcm: Bench) -> None:
    picture("a.png")
    hpcm("encode", "a.png")
    code, _, err = hpcm("decode", "a.hpcm", "--crop", "2,3,8,4", "-o", "b.png", "--compare", "a.png")
    assert code == 0
    assert err.startswith("b.png: 8 x 4, PSNR inf dB, ")
    with Image.open("b.png") as image:
        assert image.size == (8, 4)


def test_partial(hpcm: Bench) -> None:
    header = Header("rwkv", 4, "tiny", 5, 512, 256, bytes(4), bytes(4), tile=256)
    data = bytearray(pack(header, [Tile(b"", b"left", bytes(8)), Tile(b"", b"right", bytes(8))]))
    data[-9] ^= 1
    Path("a.hpcm").write_bytes(data)
    assert hpcm("decode", "a.hpcm", "-o", "b.png")[0] == 3
    code, out, err = hpcm("decode", "a.hpcm", "-o", "b.png", "--partial", "--json")
    assert code == 0
    notes = ["hpcm: note: a.hpcm: a note", "hpcm: note: a.hpcm: tile 3 is lost"]
    assert err.splitlines()[:2] == notes
    assert Path("b.png").exists()
    told = records(out)["a.hpcm"]
    assert (told["bpp"], told["quality"], told["error"]) == (len(data) / 2**14, 5, None)
    assert told["notes"] == ["a note", "tile 3 is lost"]


def test_notes_name_the_file(hpcm: Bench) -> None:
    picture("a.png", "b.png")
    hpcm.notes = ("converted",)
    err = hpcm("encode", "a.png", "b.png")[2]
    assert err.splitlines()[:2] == ["hpcm: note: a.png: converted", "hpcm: note: b.png: converted"]


def test_progress_is_for_a_terminal(hpcm: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    picture("a.png", "b.png")
    assert "%" not in hpcm("encode", "a.png", "b.png")[2]
    monkeypatch.setattr("hpcmcodec.cli._show.sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    shown: list[float] = []
    from rich.progress import Progress

    update = Progress.update

    def record(self: Progress, task: Any, **changes: Any) -> None:
        shown.append(changes["completed"])
        update(self, task, **changes)

    monkeypatch.setattr(Progress, "update", record)
    err = hpcm("encode", "a.png", "--force")[2]
    assert "encoding" in err and "100%" in err
    assert shown == [0.5, 1]
    shown.clear()
    err = hpcm("decode", "a.hpcm", "b.hpcm", "--force")[2]
    assert "decoding 2 files" in err and "2 decoded" in err
    assert shown == [0.5, 1, 1.5, 2]


def test_a_full_disk_leaves_nothing(hpcm: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    picture("a.png", "b.png")
    write = Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        write(self, data[:20])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    writes: Callable[..., int] = full
    monkeypatch.setattr(Path, "write_bytes", writes)
    assert hpcm("encode", "a.png") == (1, "", "hpcm: cannot write a.hpcm: No space left on device\n")
    code, _, err = hpcm("encode", "a.png", "b.png", "--output-dir", "out")
    assert code == 1
    lines = [f"hpcm: {name}.png: cannot write out/{name}.hpcm: No space left on device" for name in "ab"]
    assert err.splitlines() == [*lines, "2 failed"]
    assert files() == ["a.png", "b.png"]
    monkeypatch.setattr(Path, "write_bytes", write)
    assert hpcm("encode", "a.png")[0] == 0


def test_an_interrupted_write_leaves_nothing(hpcm: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    picture("a.png", "b.png")
    monkeypatch.setattr("os.link", interrupt)
    monkeypatch.setattr("pathlib.Path.replace", interrupt)
    for force in ((), ("--force",)):
        assert hpcm("encode", "a.png", "b.png", *force) == (130, "", "hpcm: interrupted\n")
        assert files() == ["a.png", "b.png"]


def test_info_of_several(hpcm: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    picture("a.png", "b.png")
    hpcm("encode", "a.png", "b.png")
    told = records(hpcm("info", "a.hpcm", "b.hpcm", "--json")[1])
    assert told["a.hpcm"] == {
        "path": "a.hpcm",
        **json.loads(json.dumps(describe(Path("a.hpcm").read_bytes()))),
    }
    Path("c.hpcm").write_text("not one")
    code, out, err = hpcm("info", "a.hpcm", "c.hpcm", "b.hpcm")
    assert code == 1
    assert err.startswith("hpcm: c.hpcm: ") and err.count("\n") == 1
    assert out.startswith("a.hpcm\n") and "\n\nb.hpcm\n" in out


def test_info_shows_what_is_new(hpcm: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = {
        "wide_key": 0.123456789,
        "alpha": True,
        "profile": None,
        "metadata": {"exif": 12, "icc_profile": 3144},
        "tiles": [{"x": 0, "z_bytes": 1000}, {"x": 256, "z_bytes": 7, "broken": True}],
        "words": ["one", "two"],
        "nothing": {},
    }
    Path("a.hpcm").touch()
    monkeypatch.setattr("hpcmcodec.container.describe", lambda data, max_pixels: facts)
    assert hpcm("info", "a.hpcm")[1].splitlines() == [
        "wide key  0.123457",
        "alpha     yes",
        "profile   -",
        "metadata",
        "  exif         12",
        "  icc profile  3144",
        "tiles",
        "  x    z bytes  broken",
        "  0    1000     -",
        "  256  7        yes",
        "words",
        "  one",
        "  two",
        "nothing   -",
    ]


def workers(pid: int) -> list[int]:
    """The processes that do a command's work, as far as they can be found here."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    found = children.read_text().split() if children.exists() else []
    return [int(child) for child in found if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text()]


class TestProcesses:
    """With a real model, since a stand-in does not reach another process."""

    @pytest.fixture
    def run(self, tiny_weights: Callable[[int], Path], tmp_path: Path) -> Iterator[Run]:
        started: list[subprocess.Popen[str]] = []

        def run(command: str, *words: object) -> subprocess.Popen[str]:
            line = [sys.executable, "-m", "hpcmcodec", command, "--weights", tiny_weights(4), *words]
            pipe = subprocess.PIPE
            child = subprocess.Popen(
                [str(word) for word in line], stdout=pipe, stderr=pipe, text=True, start_new_session=True
            )
            started.append(child)
            return child

        yield run
        for child in started:
            with suppress(ProcessLookupError):  # as it should be
                os.killpg(child.pid, signal.SIGKILL)

    def test_same_as_one(self, run: Run, tmp_path: Path) -> None:
        sources, out_dir = tmp_path / "in", tmp_path / "out"
        places = "--output-dir", out_dir, "--jobs", 2
        picture(*(f"{sources}/{name}.png" for name in "abc"), size=(70, 40))
        (sources / "bad.png").write_text("not a picture")
        child = run("encode", sources, *places, "--json", "--preset", "tiny", "-q", 3)
        out, err = child.communicate()
        told = records(out)
        assert child.returncode == 1
        assert sorted(told) == ["a.png", "b.png", "bad.png", "c.png"]
        assert f"hpcm: {sources / 'bad.png'} is not a picture" in err
        assert "\n3 encoded, 1 failed, " in err
        assert files(str(out_dir)) == ["a.hpcm", "b.hpcm", "c.hpcm"]
        child = run("decode", out_dir, "--output-dir", tmp_path / "back", "--jobs", 2)
        assert child.communicate()[1].startswith("3 decoded, ")
        assert child.returncode == 0

    @pytest.mark.skipif(os.name != "posix", reason="no process groups")
    @pytest.mark.parametrize(
        ("jobs", "number", "line"),
        [
            (1, signal.SIGINT, "hpcm: interrupted\n"),
            (2, signal.SIGINT, "hpcm: interrupted\n"),
            (2, signal.SIGTERM, "hpcm: ended by SIGTERM\n"),
        ],
    )
    def test_interrupted(self, run: Run, tmp_path: Path, jobs: int, number: int, line: str) -> None:
        sources, out = tmp_path / "in", tmp_path / "out"
        picture(*(f"{sources}/{number}.png" for number in range(400)), size=(70, 40))
        child = run("encode", sources, "--preset", "tiny", "--output-dir", out, "--jobs", jobs)
        while not (out.is_dir() and any(out.iterdir())):
            assert child.poll() is None
            time.sleep(0.01)
        children = workers(child.pid)
        assert len(children) == (jobs if jobs > 1 and Path("/proc").is_dir() else 0)
        for busy in children[:1]:
            os.kill(busy, signal.SIGSTOP)  # as good as one with hours of work before it
        if number == signal.SIGINT:
            os.killpg(child.pid, number)  # as a terminal does
        else:
            os.kill(child.pid, number)  # as `kill` does
        said, err = child.communicate(timeout=20)
        assert (child.returncode, said, err) == (128 + number, "", line)
        assert all(name.endswith(".hpcm") for name in files(str(out)))
        assert all(describe(path.read_bytes()) for path in out.iterdir())
        for pid in children:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)

    @pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc to find a child")
    def test_a_process_that_is_killed(self, run: Run, tmp_path: Path) -> None:
        sources, out = tmp_path / "in", tmp_path / "out"
        picture(*(f"{sources}/{number}.png" for number in range(40)), size=(70, 40))
        child = run("encode", sources, "--preset", "tiny", "--output-dir", out, "--jobs", 2)
        while not (out.is_dir() and any(out.iterdir())):
            assert child.poll() is None
            time.sleep(0.01)
        os.kill(workers(child.pid)[0], signal.SIGKILL)
        _, err = child.communicate(timeout=60)
        assert child.returncode == 1
        assert err.count("its process was ended") == 1
        assert "39 encoded, 1 failed" in err

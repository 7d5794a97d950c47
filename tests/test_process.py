"""The command as a process: signals at any moment, streams that are missing, full or left by their reader."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcmcodec.container import describe

CROP = Path(__file__).parent / "data" / "kodim23-crop.png"
pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and descriptors are of POSIX")
SIGNALS = [
    (signal.SIGINT, 130, "hpcm: interrupted\n"),
    (signal.SIGTERM, 143, "hpcm: ended by SIGTERM\n"),
    (signal.SIGHUP, 129, "hpcm: ended by SIGHUP\n"),
]
each_signal = pytest.mark.parametrize(("number", "code", "line"), SIGNALS, ids=["INT", "TERM", "HUP"])

START = "import os, signal, sys\nfrom hpcmcodec.cli import run\n"
# A signal at the very moment when a module is about to be imported.
AT_IMPORT = """
class Finder:
    def find_spec(name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), {number})
sys.meta_path.insert(0, Finder)
"""


def command(code: str, *words: object, **options: object) -> subprocess.CompletedProcess[bytes]:
    """Run the command after some code in a process of its own."""
    line = [sys.executable, "-c", f"{START}{code}\nrun()", *map(str, words)]
    return subprocess.run(line, capture_output=True, timeout=120, **options)  # type: ignore[call-overload]


def shell(words: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    """Run `hpcm ...` as a shell does, with what it does to streams."""
    hpcm = f'hpcm() {{ {sys.executable} -m hpcmcodec "$@"; }}; '
    return subprocess.run(
        ["bash", "-c", hpcm + words], capture_output=True, timeout=120, env={**os.environ, **variables}
    )


@pytest.fixture
def a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Something for `hpcm info`, in the folder that the test runs in."""
    from hpcmcodec.container import Header, Tile, pack

    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.hpcm"
    header = Header("rwkv", 4, "tiny", 5, 16, 8, bytes(4), bytes(4))
    path.write_bytes(pack(header, [Tile(b"", b"y", bytes(8))]))
    return path


class TestSignals:
    @pytest.mark.parametrize(
        "module", ["hpcmcodec.cli._signals", "hpcmcodec.cli.app", "typer", "hpcmcodec.cli.info"]
    )
    def test_at_the_start(self, module: str) -> None:
        result = command(AT_IMPORT.format(module=module, number=2), "--help")
        assert (result.returncode, result.stdout, result.stderr) == (130, b"", b"hpcm: interrupted\n")

    @pytest.mark.parametrize(
        "module", ["torch", "torch._C", "numpy", "numpy.linalg", "torch.nn", "PIL.Image"]
    )
    def test_while_a_library_is_imported(self, module: str, tmp_path: Path) -> None:
        """Some answer an exception there by aborting the process."""
        (tmp_path / "a.png").write_bytes(CROP.read_bytes())
        words = "bench", tmp_path, "--limit", 1, "--qualities", 5, "--codecs", "none", "--preset", "tiny"
        result = command(AT_IMPORT.format(module=module, number=2), *words)
        assert (result.returncode, result.stdout, result.stderr) == (130, b"", b"hpcm: interrupted\n")

    @each_signal
    def test_while_a_file_is_written(
        self, tmp_path: Path, tiny_weights: Callable[[int], Path], number: int, code: int, line: str
    ) -> None:
        out = tmp_path / "a.hpcm"
        out.write_text("mine")
        now = f"os.fsync = lambda handle: os.kill(os.getpid(), {int(number)})"
        words = "encode", CROP, "-o", out, "--force", "--preset", "tiny", "--weights", tiny_weights(4)
        result = command(now, *words)
        assert (result.returncode, result.stdout, result.stderr) == (code, b"", line.encode())
        assert [path.name for path in tmp_path.iterdir()] == ["a.hpcm"]
        assert out.read_text() == "mine"

    def test_again_and_again(self, a_file: Path) -> None:
        """A second signal does not keep the first from being cleaned up after."""
        code = """
def kill(*_):
    os.kill(os.getpid(), signal.SIGINT)
def reads(path):
    from hpcmcodec.files import whole_file
    from pathlib import Path
    with whole_file(Path("b")) as part:
        unlink = Path.unlink
        Path.unlink = lambda self, **kw: (kill(), os.kill(os.getpid(), signal.SIGTERM), unlink(self, **kw))
        kill()
import hpcmcodec.cli.info
hpcmcodec.cli.info.read_bytes = reads
"""
        result = command(code, "info", "a.hpcm")
        assert (result.returncode, result.stdout, result.stderr) == (130, b"", b"hpcm: interrupted\n")
        assert list(a_file.parent.iterdir()) == [a_file]

    def test_where_exceptions_are_dropped(self, a_file: Path) -> None:
        code = """
class Dying:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1000): pass
import hpcmcodec.cli.info
hpcmcodec.cli.info.read_bytes = lambda path: Dying() and b""
"""
        result = command(code, "info", "a.hpcm")
        assert (result.returncode, result.stderr) == (143, b"hpcm: ended by SIGTERM\n")

    def test_what_nohup_ignores_stays_ignored(self, a_file: Path) -> None:
        code = "signal.signal(signal.SIGHUP, signal.SIG_IGN)" + AT_IMPORT.format(module="typer", number=1)
        result = command(code, "info", "a.hpcm")
        assert (result.returncode, result.stderr) == (0, b"")

    def test_nothing_listens_in_a_library(self) -> None:
        code = "import signal; before = signal.getsignal(2), signal.getsignal(15)\n"
        code += "from hpcmcodec.cli import main; main(['--help']); import sys\n"
        code += "sys.exit(before != (signal.getsignal(2), signal.getsignal(15)))"
        assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc to see a process end")
def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    """In the middle of a job that would take for ever."""
    script = tmp_path / "script.py"
    script.write_text("""
import time
from pathlib import Path
from hpcmcodec.cli import _batch

def work(path, progress):
    Path(path).touch()
    time.sleep(1000)

if __name__ == "__main__":
    connection, process = _batch._start(work)
    connection.send(Path("begun"))
    print(process.pid, flush=True)
    time.sleep(1000)
""")
    parent = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, cwd=tmp_path)
    assert parent.stdout
    with parent.stdout:
        worker = int(parent.stdout.readline())
    while not (tmp_path / "begun").exists():
        assert parent.poll() is None
        time.sleep(0.01)
    parent.kill()
    parent.wait()
    status = Path(f"/proc/{worker}/stat")
    while status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)  # the test fails by its time limit


class TestStreams:
    @pytest.mark.parametrize(
        ("words", "code", "out", "error"),
        [
            ("hpcm info a.hpcm --json >&-", 1, b"", b"hpcm: standard output: it is closed\n"),
            ("hpcm info no.hpcm >&-", 1, b"", b"hpcm: no.hpcm: No such file or directory\n"),
            ("hpcm info no.hpcm 2>&-", 1, b"", b""),
            ("hpcm info no.hpcm a.hpcm 2>&- >/dev/null", 1, b"", b""),
            ("hpcm info cut.hpcm >&- 2>&- <&-", 3, b"", b""),
            ("hpcm info - <&-", 1, b"", b"hpcm: standard input: it is closed\n"),
            ("hpcm info - <a.hpcm 2>&- >/dev/null", 0, b"", b""),
            ("hpcm --what 2>&-", 2, b"", b""),
            ("hpcm info a.hpcm >/dev/full", 1, b"", b"hpcm: standard output: No space left on device\n"),
            ("hpcm --help >/dev/full", 1, b"", b"hpcm: standard output: No space left on device\n"),
            ("hpcm info no.hpcm 2>/dev/full", 1, b"", b""),
            ("hpcm info a.hpcm no.hpcm >/dev/null 2>/dev/full", 1, b"", b""),
        ],
    )
    @pytest.mark.parametrize("unbuffered", ["", "1"])
    def test_missing_or_full(
        self, a_file: Path, words: str, code: int, out: bytes, error: bytes, unbuffered: str
    ) -> None:
        (a_file.parent / "cut.hpcm").write_bytes(a_file.read_bytes()[:-3])
        if "full" in words and not Path("/dev/full").exists():
            pytest.skip("no device that is full")
        result = shell(words, PYTHONUNBUFFERED=unbuffered)
        assert (result.returncode, result.stdout, result.stderr) == (code, out, error)

    @pytest.mark.parametrize("unbuffered", ["", "1"])
    @pytest.mark.parametrize("words", ["--version", "--help", "info a.hpcm", "info a.hpcm --json"])
    def test_a_reader_that_leaves(self, a_file: Path, words: str, unbuffered: str) -> None:
        read, write = os.pipe()
        os.close(read)
        line = [sys.executable, "-m", "hpcmcodec", *words.split()]
        environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
        result = subprocess.run(line, stdout=write, stderr=subprocess.PIPE, env=environment)
        os.close(write)
        assert (result.returncode, result.stderr) == (1, b"")

    def test_short_writes_are_gone_on_with(self, a_file: Path) -> None:
        """A disk that fills up takes a part first, which an unbuffered stream would count as all."""
        code = """
import io
import hpcmcodec.cli._streams as streams
class Short(io.FileIO):
    def write(self, data):
        return super().write(bytes(data)[:7])
streams._Output.__bases__ = (Short,)
"""
        whole = command("", "info", "a.hpcm", "--json").stdout
        assert len(whole) > 100
        assert command(code, "info", "a.hpcm", "--json").stdout == whole

    def test_names_that_are_not_text(self, a_file: Path) -> None:
        name = b"\xff.hpcm"
        a_file.with_name(os.fsdecode(name)).write_bytes(a_file.read_bytes())
        result = shell("hpcm info $'\\xff.hpcm' a.hpcm; hpcm info $'\\xfe.hpcm'")
        assert result.stdout.splitlines()[0] == name
        assert result.stderr == b"hpcm: \\udcfe.hpcm: No such file or directory\n"

    def test_binary_output_holds_nothing_else(
        self, a_file: Path, tiny_weights: Callable[[int], Path]
    ) -> None:
        options = f"--preset tiny --weights {tiny_weights(4)}"
        encode = f"hpcm encode {CROP} {options}"
        lines = (
            f"{encode} -o - >b.hpcm 2>&-",
            f"{encode} -o c.hpcm >&- 2>&- <&-",
            f"{encode} -o /dev/stdout >d.hpcm",
            f"mkfifo p; cat p >e.hpcm & {encode} -o p && wait",
        )
        for line in lines:
            assert shell(line).returncode == 0, line
        data = Path("b.hpcm").read_bytes()
        assert describe(data)["width"] == 256
        for name in "cde":
            assert Path(f"{name}.hpcm").read_bytes() == data
        full = shell(
            f"hpcm decode b.hpcm -o - --format png --weights {tiny_weights(4)} >/dev/full",
            PYTHONUNBUFFERED="1",
        )
        assert (full.returncode, full.stderr) == (1, b"hpcm: standard output: No space left on device\n")


@pytest.mark.parametrize("words", ["encode ''", "decode ''", "info ''", "compare '' --bpp 1", "bench ''"])
def test_an_empty_argument_is_a_mistake(tmp_path: Path, words: str) -> None:
    (tmp_path / "a.png").write_bytes(CROP.read_bytes())
    result = shell(f"cd {tmp_path}; hpcm {words}")
    assert (result.returncode, result.stdout, result.stderr.count(b"\n")) == (2, b"", 1)
    assert b"is empty" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]

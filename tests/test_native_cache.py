"""The kept library: loaded only if it is whole and nobody else's, else built anew, or done without."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hpcmcodec.ops import exact, native
from tests.test_native import test_gate as computes

if exact.no_native():
    pytest.skip(exact.no_native(), allow_module_level=True)

LIBRARY = native._built(native._source(exact.SOURCE))
SCRIPT = """#!/bin/sh
{before}
echo "$@" >>{log}
while [ "$1" != -o ]; do shift; done
cp {library} "$2"
"""


class Compiler:
    """A command that is quick, and notes down how it was called: what it makes was made before."""

    def __init__(self, folder: Path, before: str = "") -> None:
        self.log, self.script = folder / "log", folder / "compiler"
        self.script.write_text(SCRIPT.format(before=before, log=self.log, library=LIBRARY))
        self.script.chmod(0o755)

    @property
    def builds(self) -> int:
        calls = self.log.read_text().splitlines() if self.log.exists() else []
        return sum("-shared" in call for call in calls)


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield
    monkeypatch.undo()
    native._load.cache_clear()


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Compiler:
    made = Compiler(tmp_path)
    monkeypatch.setenv("CXX", str(made.script))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    native._load.cache_clear()
    return made


def told() -> str:
    """Why there is no library, asked anew; what is computed is the same, with it or without."""
    native._load.cache_clear()
    reason = exact.no_native()
    computes()
    return reason


def kept(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache" / "hpcmcodec").iterdir())


def halved(path: Path) -> None:
    data = path.read_bytes()
    path.unlink()  # it may be mapped into this process
    path.write_bytes(data[: len(data) // 2])


def replaced_by(data: bytes) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        path.unlink()
        path.write_bytes(data)

    return damage


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.unlink()
    path.write_bytes(data)
    path.chmod(0o700)


def linked(path: Path) -> None:
    elsewhere = path.parent.parent / "elsewhere.so"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def given_away(path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can give files away")
    os.chown(path, 12345, -1)


DAMAGE: dict[str, Callable[[Path], None]] = {
    "halved": halved,
    "empty": replaced_by(b""),
    "foreign": replaced_by(b"\x7fELF" + bytes(5000)),
    "flipped": flipped,
    "linked": linked,
    "dangling": dangling,
    "group": lambda path: path.chmod(0o720),
    "others": lambda path: path.chmod(0o702),
    "owner": given_away,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_not_as_it_was_built_is_built_anew(damage: str, compiler: Compiler, tmp_path: Path) -> None:
    assert not told() and not told() and compiler.builds == 1
    (library,) = kept(tmp_path)
    DAMAGE[damage](library)
    assert not told() and not told() and compiler.builds == 2
    assert [library] == kept(tmp_path) and native._own(library)


def test_a_name_alone_is_not_enough(compiler: Compiler, tmp_path: Path) -> None:
    """A whole library under another digest: the name tells of the content."""
    assert not told()
    (library,) = kept(tmp_path)
    library.rename(library.with_name(f"{library.stem[:-32]}{'0' * 32}.so"))
    assert not told() and compiler.builds == 2
    assert kept(tmp_path) == [library]


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_a_folder_that_others_may_write_to(mode: int, compiler: Compiler, tmp_path: Path) -> None:
    assert not told()
    (tmp_path / "cache" / "hpcmcodec").chmod(mode)
    assert "others may write to" in told() and compiler.builds == 1


def test_a_folder_of_another_user(
    compiler: Compiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not told()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert "not yours" in told() and compiler.builds == 1


@pytest.mark.parametrize("given", ["", "cache", "./cache", "~/cache"])
def test_a_relative_cache_is_ignored(
    given: str, compiler: Compiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("XDG_CACHE_HOME", given)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert not told() and not list(here.iterdir())
    assert len(list((tmp_path / "home" / ".cache" / "hpcmcodec").iterdir())) == 1


@pytest.mark.parametrize("home", ["relative", None])
def test_without_a_home(
    home: str | None, compiler: Compiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XDG_CACHE_HOME")
    before = set(tmp_path.iterdir())

    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    if home is None:
        monkeypatch.setattr(Path, "home", unknown)
    else:
        monkeypatch.setenv("HOME", home)
    assert "set HOME or XDG_CACHE_HOME" in told()
    assert set(tmp_path.iterdir()) == before and not compiler.builds


LATIN = """import sys
sys.stderr.buffer.write(b"d\\xe9faut\\nerror: cha\\xeene\\xff\\n")
sys.exit(1)
"""


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("c++ '-O2", "CXX is no command: No closing quotation"),
        ('c++ "', "CXX is no command"),
        ("{python} {latin}", "fails: error: cha"),
        ("sh -c 'kill -9 $$'", "ended by signal 9"),
        ("sh -c 'echo no libomp: error >&2; exit 1'", "fails: no libomp: error"),
        ("''", "there is no C++ compiler"),
    ],
)
def test_compilers_that_fail(
    command: str, reason: str, compiler: Compiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    latin = tmp_path / "latin.py"
    latin.write_text(LATIN)
    monkeypatch.setenv("CXX", command.format(python=sys.executable, latin=latin))
    assert reason in told()
    folder = tmp_path / "cache" / "hpcmcodec"
    assert not folder.exists() or not list(folder.iterdir())


def test_without_openmp_the_reason_is_told(
    compiler: Compiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What links without OpenMP cannot be loaded, and with it does not link."""
    nothing = tmp_path / "nothing.so"
    nothing.write_bytes(b"no library")
    script = tmp_path / "clang"
    script.write_text(
        '#!/bin/sh\ncase "$*" in *-shared*-fopenmp*) echo "error: cannot find -lomp" >&2; exit 1;; esac\n'
        f'while [ "$1" != -o ]; do shift; done\ncp {nothing} "$2"\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("CXX", str(script))
    assert told() == f"{script} fails: error: cannot find -lomp"


def test_a_compiler_has_its_time(compiler: Compiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that would take longer is ended, together with what it has started."""
    slow = Compiler(tmp_path, before=f"sleep 30 & echo $! >{tmp_path}/child; wait")
    monkeypatch.setattr(native, "SECONDS", 2)
    assert told() == f"{slow.script} takes longer than 2 seconds"
    child = int((tmp_path / "child").read_text())
    assert not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split()
    assert not kept(tmp_path)


def test_another_processor_has_its_own(
    compiler: Compiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not told() and not told() and compiler.builds == 1
    monkeypatch.setattr(native, "_processor", lambda: b"another")
    assert not told() and compiler.builds == 2
    assert len(kept(tmp_path)) == 2


def test_another_source_or_command_has_its_own(
    compiler: Compiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not told()
    monkeypatch.setenv("CXX", f"{compiler.script} -DOTHER")
    assert not told() and compiler.builds == 2
    monkeypatch.setattr(native, "FLAGS", (*native.FLAGS, "-g"))
    assert not told() and compiler.builds == 3
    assert len(kept(tmp_path)) == 3


def test_it_is_on_the_disk_before_it_has_its_name(
    compiler: Compiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []

    def sync(descriptor: int) -> None:
        assert len(kept(tmp_path)) == 1  # the folder that it is made in
        synced.append(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", sync)
    assert not told()
    (library,) = kept(tmp_path)
    assert synced == [library.stat().st_ino]


def test_what_a_killed_build_left_goes(compiler: Compiler, tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "hpcmcodec"
    old, young = folder / "build-old", folder / "build-young"
    for left in (old, young):
        left.mkdir(mode=0o700, parents=True)
        (left / "compiled.o").write_bytes(b"half")
    folder.chmod(0o700)
    then = time.time() - 20 * native.SECONDS
    os.utime(old, (then, then))
    assert not told()
    assert young in kept(tmp_path) and old not in kept(tmp_path)


def test_two_processes_at_once(compiler: Compiler, tmp_path: Path) -> None:
    """Both compile, and either finds a whole library."""
    Compiler(tmp_path, before="sleep 1")
    code = "from hpcmcodec.ops import exact; assert not exact.no_native(), exact.no_native()"
    both = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) for _ in range(2)]
    for process in both:
        _, said = process.communicate()
        assert process.returncode == 0, said.decode()
    assert len(kept(tmp_path)) == 1 and not told()

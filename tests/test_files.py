"""Files are written whole or not at all."""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcmcodec.errors import HpcmError, OutputExistsError
from hpcmcodec.files import whole_file, write_whole


def test_writes_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    write_whole(path, b"before")
    write_whole(path, b"after")
    assert path.read_bytes() == b"after"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.bin"]
    plain = tmp_path / "plain"
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    target, link = tmp_path / "folder" / "a.bin", tmp_path / "link"
    target.write_bytes(b"before")
    link.symlink_to(target)
    write_whole(link, b"after")
    assert link.is_symlink() and target.read_bytes() == b"after"


def test_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.html"
    path.write_bytes(b"before")

    def full(self: Path, data: bytes) -> int:
        with io.FileIO(self, "w") as file:
            file.write(data[:2])
        raise OSError(28, "No space left on device")

    writes: Callable[..., int] = full
    monkeypatch.setattr(Path, "write_bytes", writes)
    with pytest.raises(HpcmError, match=r"cannot write .*a\.html: No space left"):
        write_whole(path, b"after")
    assert path.read_bytes() == b"before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.html"]


def test_any_failure_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"before")

    def interrupted() -> None:
        with whole_file(path) as part:
            part.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.bin"]


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(HpcmError, match=r"cannot write .*No such file"):
        write_whole(tmp_path / "no" / "a.bin", b"")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_bytes_are_on_the_disk_before_the_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a power cut a name without its bytes would be an empty file."""
    path, done = tmp_path / "a.bin", list[str]()

    def record(module: object, name: str) -> None:
        function = getattr(module, name)

        def recording(*words: object) -> object:
            what = ""
            if name == "fsync":
                mode = os.fstat(words[0]).st_mode  # type: ignore[arg-type]
                what = " folder" if stat.S_ISDIR(mode) else " file"
            done.append(name + what)
            return function(*words)

        monkeypatch.setattr(module, name, recording)

    record(os, "fsync")
    record(os, "link")
    record(Path, "replace")
    record(Path, "write_bytes")
    write_whole(path, b"new", replace=False)
    write_whole(path, b"newer")
    new, newer = done[:4], done[4:]
    assert new == ["write_bytes", "fsync file", "link", "fsync folder"]
    assert newer == ["write_bytes", "fsync file", "replace", "fsync folder"]


@pytest.fixture(params=["hard links", "no hard links"])
def links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a test on a file system that has hard links, and as if on one that has none."""

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    if request.param == "no hard links":
        monkeypatch.setattr("os.link", refuse)


@pytest.mark.usefixtures("links")
def test_what_appears_meanwhile_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"

    def write() -> None:
        with whole_file(path, replace=False) as part:
            part.write_bytes(b"ours")
            path.write_bytes(b"theirs")

    with pytest.raises(OutputExistsError, match=r"a\.bin exists"):
        write()
    assert path.read_bytes() == b"theirs"
    assert names(tmp_path) == ["a.bin"]


@pytest.mark.usefixtures("links")
def test_a_new_file_is_whole_and_usual(tmp_path: Path) -> None:
    path, usual = tmp_path / "a.bin", tmp_path / "usual"
    usual.touch()
    write_whole(path, b"ours", replace=False)
    assert path.read_bytes() == b"ours"
    assert path.stat().st_mode == usual.stat().st_mode
    assert path.stat().st_nlink == 1
    assert names(tmp_path) == ["a.bin", "usual"]


def test_without_hard_links_an_end_leaves_no_empty_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.link", refuse)
    monkeypatch.setattr("pathlib.Path.replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "a.bin", b"ours", replace=False)
    assert names(tmp_path) == []


@pytest.mark.skipif(os.name != "posix", reason="modes are of POSIX")
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o666])
def test_the_mode_stays(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"before")
    path.chmod(mode)
    with whole_file(path) as part:
        assert stat.S_IMODE(part.stat().st_mode) == 0o600, "nobody looks in before it is finished"
        part.write_bytes(b"after")
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert path.read_bytes() == b"after"


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 1)() != 0, reason="only root gives files away")
def test_the_owner_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"before")
    os.chown(path, 1234, 5678)
    write_whole(path, b"after")
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 5678)


def test_others_may_own_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    path = tmp_path / "a.bin"
    path.write_bytes(b"before")
    monkeypatch.setattr("os.chown", refuse, raising=False)
    write_whole(path, b"after")
    assert path.read_bytes() == b"after"


@pytest.mark.parametrize("name", ["字" * 83 + ".hpcm", "a" * 255])
def test_names_as_long_as_they_may_be(tmp_path: Path, name: str) -> None:
    """File systems count bytes, and these have 254 and 255."""
    for data in (b"before", b"after"):
        write_whole(tmp_path / name, data)
    write_whole(tmp_path / ("b" + name[1:]), b"new", replace=False)
    assert (tmp_path / name).read_bytes() == b"after"
    assert names(tmp_path) == sorted([name, "b" + name[1:]])


def test_a_link_that_leads_nowhere_does_so_no_longer(tmp_path: Path) -> None:
    target, link = tmp_path / "a.bin", tmp_path / "link"
    link.symlink_to(target)
    write_whole(link, b"new", replace=False)
    assert link.is_symlink() and target.read_bytes() == b"new"
    with pytest.raises(OutputExistsError):
        write_whole(link, b"newer", replace=False)

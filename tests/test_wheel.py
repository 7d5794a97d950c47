"""The wheel stands on its own: built, installed into a fresh environment, used from another folder."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(*command: object, cwd: Path) -> str:
    result = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def build(target: str, folder: Path) -> Path:
    run(sys.executable, "-m", "hatchling", "build", "-t", target, "-d", folder, cwd=ROOT)
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", tmp_path_factory.mktemp("wheel"))


def test_wheel_carries_weights_and_sources(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("csrc", "weights"):
        files = [path for path in (ROOT / folder).rglob("*") if path.is_file()]
        assert files
        assert {f"hpcmcodec/{path.relative_to(ROOT).as_posix()}" for path in files} <= names
    assert not any(name.startswith("tests") for name in names)


def test_wheel_works_away_from_the_checkout(wheel: Path, tmp_path: Path) -> None:
    environment, elsewhere = tmp_path / "environment", tmp_path / "elsewhere"
    elsewhere.mkdir()
    venv.create(environment, with_pip=False)
    bin = environment / ("Scripts" if sys.platform == "win32" else "bin")
    # The dependencies of this environment, without what its own .pth files add (an editable install).
    here = sysconfig.get_path("purelib")
    purelib = run(
        bin / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=elsewhere
    )
    Path(purelib.strip(), "dependencies.pth").write_text(here)
    pip = (sys.executable, "-m", "pip", "--python", bin / "python", "install", "--no-deps", "--no-index")
    run(*pip, "--ignore-installed", "--quiet", wheel, cwd=elsewhere)

    where = run(bin / "python", "-c", "import hpcmcodec; print(hpcmcodec.__file__)", cwd=elsewhere)
    assert Path(where.strip()).is_relative_to(environment)
    run(bin / "hpcm", "encode", ROOT / "tests" / "data" / "kodim20-crop.png", "-o", "a.hpcm", cwd=elsewhere)
    run(bin / "hpcm", "decode", "a.hpcm", cwd=elsewhere)
    assert (elsewhere / "a.png").stat().st_size > 1000


def test_sdist_is_whole(tmp_path: Path) -> None:
    import tarfile

    with tarfile.open(build("sdist", tmp_path)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "hpcmcodec/codec/encoding.py",
        "tests/test_wheel.py",
    } <= names
    assert any(name.startswith("weights/") for name in names)
    assert any(name.startswith("csrc/") for name in names)

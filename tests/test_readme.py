"""What the README shows is run: every `hpcm` line of its shell blocks, and its Python."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent

RUN = ("hpcm ", "torchrun ", "python -m hpcmcodec")

# What is shown, and what is run in its place because the real thing takes long.
SUBSTITUTIONS = {
    "bench kodak/ --qualities 1-8": "bench kodak/ --qualities 1 --limit 1",
    "bench kodak/ --phases 0-4": "bench kodak/ --phases 0,4 --qualities 1 --limit 1",
    "export runs/3 ": "export runs/3 --preset tiny ",
    "export runs/zero ": "export runs/zero --preset tiny ",
    "selftest photos/ --device cuda": "selftest",
    "--seconds 3600": "--preset tiny --steps 2 --batch 2 --crop 64",
    "--seconds 1800": "--steps 1 --batch 1 --crop 64",
    "--weights runs/": "--preset tiny --weights runs/",
    "--count 1500": "--count 1",
    "--count 24": "--count 1",
    "--nproc-per-node 4": "--nproc-per-node 2",
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """The commands of every line; what installs and tests is run by `.ci/run`."""
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    return [part for line in lines for part in line.split(" && ") if part.startswith(RUN)]


def substituted(command: str) -> str:
    for shown, run in SUBSTITUTIONS.items():
        command = command.replace(shown, run)
    return command


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a reader would be, with the pictures that the README names."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("readme")
    data = ROOT / "tests" / "data"
    shutil.copytree(data, folder / "tests" / "data")
    (folder / "weights").symlink_to(ROOT / "weights")
    for name in ("kodak", "pictures"):
        (folder / name).mkdir()
        shutil.copy(data / "kodim20-crop.png", folder / name)
    shutil.copy(data / "kodim23-crop.png", folder / "pictures")  # one for each process
    (folder / "curves.json").write_text('{"VTM": {"bpp": [0.1, 1.0], "psnr": [30.0, 40.0]}}')
    (folder / "runs").mkdir()
    with Image.open(data / "kodim04-crop.png") as image:
        image.save(folder / "photo.jpg")
    (folder / "photos" / "2026").mkdir(parents=True)
    for name in ("a.jpg", "2026/b.jpg"):
        shutil.copy(folder / "photo.jpg", folder / "photos" / name)
    return folder


@pytest.mark.parametrize("command", commands())
def test_command(command: str, folder: Path) -> None:
    assert (BIN / "hpcm").exists(), "install the package first: pip install -e '.[test]'"
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    shell = ("bash", "-euo", "pipefail", "-c", substituted(command))
    result = subprocess.run(shell, cwd=folder, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    if "--compare" in command:
        assert re.search(r"PSNR \d+\.\d\d dB", result.stderr)


@pytest.mark.parametrize("code", blocks("python"))
def test_python(code: str, folder: Path) -> None:
    result = subprocess.run([sys.executable, "-c", code], cwd=folder, text=True)
    assert result.returncode == 0


def test_substitutions_are_of_what_is_shown() -> None:
    for shown in SUBSTITUTIONS:
        assert shown in README


def test_ci_runs_the_first_two_lines() -> None:
    install, test, *_ = blocks("sh")
    assert install.count("\n") == test.count("\n") == 1
    assert "pip install . && hpcm encode" in install
    assert "pip install -e '.[test]' && python -m pytest" in test

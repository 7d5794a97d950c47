"""The Markdown tables of a bench, and those of the README, which come from stored results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hpcmcodec import zoo
from hpcmcodec.errors import HpcmError
from hpcmcodec.evaluation import markdown
from hpcmcodec.evaluation.results import Process, summarise
from tests.test_report import NAMES, record, results

ROOT = Path(__file__).parent.parent


def test_tables() -> None:
    text = markdown.tables(results(record("jxl", "JPEG XL", 26, {"codec": "jxl"}, skipped="not here")))
    assert text.startswith("HPCM, mean over ") and "JPEG XL" not in text
    lines = text.splitlines()
    assert "| 1 | 0.4000 | 31.10 | 0.9500 |" in lines
    assert "| quality | bpp | PSNR, dB | MS-SSIM |" in lines
    (avif,) = [line for line in lines if line.startswith("| AVIF |") and "measured" in line]
    assert avif == "| AVIF | -20.0 % | 31.1, 36.3 | measured beside ours |"
    assert any(line.startswith("| VTM | ") and line.endswith(" | published |") for line in lines)
    assert "| HPCM | 0.25 | 0.12 | 4.5 | 3.2 | 943 MB |" in lines
    assert "| JPEG | 0.25 | 0.12 | - | - | - |" in lines
    for table in text.split("\n\n")[1::2]:
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_phases_side_by_side() -> None:
    """Points in one table, and what each costs in percent of phase 0."""
    process = Process(NAMES[0], "0" * 16, 4.0, 3.0, 2.0, 500_000_000, 800_000_000)
    half = Process(NAMES[0], "0" * 16, 4.0, 2.9, 1.8, 400_000_000, 300_000_000)
    kin = {"family": "rwkv", "preset": "lite", "device": "auto", "codec": "hpcm"}
    records = [
        record("zero", "Phase 0", 31.1 - 3.1, {**kin, "phase": 0}, process=process),
        record("four", "Phase 4", 32 - 3.1, {**kin, "phase": 4}, process=half),
        record("other", "Tiny", 32 - 3.1, {**kin, "phase": 4, "preset": "tiny"}, process=half),
    ]
    text = markdown.tables(summarise(records, NAMES))
    lines = text.splitlines()
    assert lines[0] == "bpp / PSNR, dB / MS-SSIM, mean over 3 pictures:"
    assert "| quality | Phase 0 | Phase 4 | Tiny |" in lines
    assert "| 1 | 0.4000 / 31.10 / 0.9500 | 0.4000 / 32.00 / 0.9500 | 0.4000 / 32.00 / 0.9500 |" in lines
    # 0.9 dB at 3.1 dB for twice the bits
    assert f"| Phase 4 | {100 * 2 ** (-0.9 / 3.1):.1f} % | 100 % | 100 % | 50 % |" in lines
    assert text.count("100 % | 100 %") == 1
    unfinished = markdown.tables(summarise(records, [*NAMES, "not-yet.png"]))
    assert "| quality | Phase 0 | Phase 4 | Tiny |" in unfinished and "percent of phase 0" not in unfinished


def test_nothing_measured() -> None:
    curve = {
        "name": "VTM",
        "title": "VTM",
        "published": True,
        "skipped": None,
        "results": {"bpp": [1], "psnr-rgb": [3]},
    }
    assert markdown.tables([curve]) == ""


def test_write(tmp_path: Path) -> None:
    markdown.write(results(), tmp_path / "a.md")
    assert (tmp_path / "a.md").read_text() == markdown.tables(results())
    with pytest.raises(HpcmError, match="cannot write"):
        markdown.write(results(), tmp_path / "no" / "a.md")


def test_the_readme_shows_what_was_measured_with_these_weights() -> None:
    stored = json.loads((ROOT / "weights" / "kodak.json").read_text())
    assert markdown.tables(stored) in (ROOT / "README.md").read_text()
    digests = {entry["sha256"] for entry in zoo.manifest()["models"].values()}
    assert {r["weights_sha256"] for r in stored if r.get("weights_sha256")} == digests

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from hpcmcodec.errors import HpcmError, UsageError
from hpcmcodec.evaluation import plot

BPP = [0.2, 0.4, 0.8]
SVG = "{http://www.w3.org/2000/svg}"


def result(
    name: str, psnr: list[float | None], ms_ssim: list[float | None] | None = None, **more: Any
) -> dict[str, Any]:
    results: dict[str, Any] = {"bpp": BPP[: len(psnr)], "psnr-rgb": psnr}
    if ms_ssim is not None:
        results["ms-ssim-rgb"] = ms_ssim
    return {"name": name, "results": results, **more}


OURS = result("hpcm-rwkv-4-lite", [30, 32, 34], [0.9, 0.95, 0.99], settings={"codec": "hpcm"}, title="HPCM")
JPEG = result("jpeg", [26, 28, 31], [0.8, 0.9, 0.97], settings={"codec": "jpeg"}, title="JPEG")
AVIF = result("avif", [29, 31.5, 34.5], [0.9, 0.94, 0.98], settings={"codec": "avif"}, title="AVIF")
PAPER = result("ELIC (paper)", [31, 33, 35], published=True, description="published")
ALL = [JPEG, AVIF, OURS, PAPER]


def test_curves_go_from_the_best_to_the_worst() -> None:
    curves = plot.curves(ALL)
    assert [curve.name for curve in curves] == ["ELIC (paper)", "hpcm-rwkv-4-lite", "avif", "jpeg"]
    assert [curve.kind for curve in curves] == ["published", "ours", "measured", "measured"]
    assert [curve.label for curve in curves] == ["ELIC (paper, published)", "HPCM", "AVIF", "JPEG"]
    assert plot.curves([result("VTM", [30], published=True)])[0].label == "VTM (published)"


def test_curves_without_a_shared_rate_have_a_place_too() -> None:
    low = {"name": "low", "results": {"bpp": [0.01, 0.02], "psnr-rgb": [20, 21]}}
    high = {"name": "high", "results": {"bpp": [3, 4], "psnr-rgb": [45, 47]}}
    assert [curve.name for curve in plot.curves([low, OURS, high])] == ["high", "hpcm-rwkv-4-lite", "low"]


def test_points_are_sorted_and_unknown_ones_left_out() -> None:
    table = {"name": "a", "results": {"bpp": [0.8, 0.2, 0.4], "psnr-rgb": [34, None, 32]}}
    table["results"]["ms-ssim-rgb"] = [1.0, 0.9, None]  # type: ignore[index]
    (curve,) = plot.curves([table])
    assert curve.points["psnr-rgb"] == ((0.4, 32.0), (0.8, 34.0))
    ((rate, decibels),) = curve.points["ms-ssim-rgb"]
    assert rate == 0.2
    assert decibels == pytest.approx(10)


def test_nothing_measured_is_no_curve() -> None:
    empty = {"name": "a", "results": {"bpp": [], "psnr-rgb": []}}
    assert plot.curves([]) == plot.curves([empty]) == []
    assert len(plot.curves([empty, JPEG])) == 1


def test_no_two_curves_look_alike() -> None:
    ours = [result(f"hpcm-{phase}", [30, 31, 32], settings={"codec": "hpcm"}) for phase in range(5)]
    measured = [result(f"codec {i}", [30, 31, 32]) for i in range(10)]
    published = [result(f"paper {i}", [30, 31, 32], published=True) for i in range(15)]
    for count in range(6):
        curves = plot.curves([*ours[:count], *measured, *(published if count < 3 else published[:6])])
        assert len({curve.style for curve in curves}) == len(curves)
        inks = {curve.style.ink for curve in curves if curve.kind == "ours"}
        assert not inks & {curve.style.ink for curve in curves if curve.kind != "ours"}
        for curve in curves:
            assert bool(curve.style.dashes) == (curve.kind == "published")
            assert (curve.style.width > 2) == (curve.kind == "ours")


def linear(colour: str) -> NDArray[np.float64]:
    srgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def luminance(colour: str) -> float:
    return float(linear(colour) @ (0.2126, 0.7152, 0.0722))


@pytest.mark.parametrize(("side", "page"), [(0, "#ffffff"), (1, "#14171a")])
def test_colours_stand_out_from_the_page(side: int, page: str) -> None:
    for pair in plot.INK:
        light, dark = sorted((luminance(pair[side]), luminance(page)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 3


# Of linear RGB: Machado, Oliveira, Fernandes 2009, severity 1.
BLINDNESS = {
    "none": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deuteranopia": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "tritanopia": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}
XYZ = np.array(((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505)))


@pytest.mark.parametrize("blindness", BLINDNESS)
@pytest.mark.parametrize("side", [0, 1])
def test_colours_can_be_told_apart(side: int, blindness: str) -> None:
    def lab(colour: str) -> NDArray[np.float64]:
        seen = np.clip(np.array(BLINDNESS[blindness]) @ linear(colour), 0, 1)
        x, y, z = np.cbrt(XYZ @ seen / XYZ.sum(axis=1))
        return np.array((116 * y - 16, 500 * (x - y), 200 * (y - z)))

    for a, b in itertools.combinations(plot.INK, 2):
        assert np.linalg.norm(lab(a[side]) - lab(b[side])) > 12, (a, b)


@pytest.mark.parametrize(
    ("suffix", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF"), (".PNG", b"\x89PNG")]
)
def test_the_same_results_make_the_same_file(tmp_path: Path, suffix: str, start: bytes) -> None:
    paths = [tmp_path / f"{name}{suffix}" for name in "ab"]
    for path in paths:
        plot.draw(ALL, path, title="Title")
    a, b = (path.read_bytes() for path in paths)
    assert a.startswith(start)
    assert a == b
    assert len(list(tmp_path.iterdir())) == 2


def test_ms_ssim_is_a_second_panel_where_there_is_any(tmp_path: Path) -> None:
    widths = []
    for name, results in {"both": ALL, "psnr": [PAPER, {**PAPER, "name": "ELIC (later)"}]}.items():
        plot.draw(results, tmp_path / f"{name}.png")
        with Image.open(tmp_path / f"{name}.png") as image:
            widths.append(image.width)
            assert image.height == 880
            pixels = np.array(image.convert("RGB"))
        assert (pixels[0] == 255).all()
    assert widths[0] - widths[1] == pytest.approx(920, abs=5)


def test_the_legend_names_all_curves_in_order(tmp_path: Path) -> None:
    plot.draw(ALL, tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text()
    places = [text.index(f"<!-- {curve.label} -->") for curve in plot.curves(ALL)]
    assert places == sorted(places)


def test_names_are_text_not_markup(tmp_path: Path) -> None:
    plot.draw([result("<b> & $x^2$", [30, 31, 32]), result("_hidden", [30, 31, 32])], tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text()
    ElementTree.fromstring(text)
    assert "$x^2$" in text
    assert "_hidden" in text


def test_one_curve_of_one_point_is_drawn(tmp_path: Path) -> None:
    plot.draw([result("a", [30])], tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_nothing_of_matplotlib_is_touched(tmp_path: Path) -> None:
    """In a process of its own: other packages import pyplot."""
    code = (
        "import json, sys, matplotlib\n"
        "from hpcmcodec.evaluation import plot\n"
        "results = json.load(sys.stdin)\n"
        "plot.draw(results, 'a.png')\n"
        "plot.inline_svg(plot.curves(results), 'psnr-rgb', 'x')\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "matplotlib.rcParams['font.size'] = 30\n"
        "matplotlib.rcParams['axes.facecolor'] = 'red'\n"
        "before = matplotlib.rcParams.copy()\n"
        "plot.draw(results, 'b.png')\n"
        "assert before == matplotlib.rcParams.copy()\n"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    subprocess.run(command, input=json.dumps(ALL), text=True, cwd=tmp_path, check=True)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("name", ["plot.jpg", "plot"])
def test_another_suffix_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"\.pdf, \.png, \.svg, not"):
        plot.draw(ALL, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_results_without_a_point_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to plot"):
        plot.draw([{"name": "a", "results": {"bpp": [], "psnr-rgb": []}}], tmp_path / "a.png")


def test_a_path_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    for path in (tmp_path / "nowhere" / "a.png", tmp_path / "folder.png"):
        with pytest.raises(HpcmError, match="cannot write"):
            plot.draw(ALL, path)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.png"]


def test_missing_matplotlib_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(HpcmError, match=r"matplotlib cannot be imported.*extra 'bench'"):
        plot.draw(ALL, tmp_path / "a.png")


def inline(metric: str) -> ElementTree.Element:
    text = plot.inline_svg(plot.curves(ALL), metric, 'A "label" & more')
    return ElementTree.fromstring(text.replace("<svg ", f'<svg xmlns="{SVG[1:-1]}" ', 1))


def test_an_inline_svg_takes_colours_and_font_from_the_page() -> None:
    root = inline("psnr-rgb")
    assert root.get("role") == "img"
    assert root.get("aria-label") == 'A "label" & more'
    assert root.get("width") is None
    text = ElementTree.tostring(root, encoding="unicode")
    assert "font-family" not in text
    assert "<style" not in text
    for colour in ("#161616", "#d9d9d9", *(light for light, _ in plot.INK)):
        assert colour not in text
    for name in ("text", "grid", "ink-0"):
        assert f"var(--{name})" in text
    words = ["".join(element.itertext()) for element in root.iter(f"{SVG}text")]
    assert {"bits per pixel", "PSNR (RGB), dB"} <= set(words)


def test_two_inline_svgs_share_no_ids() -> None:
    ids = [[e.get("id") for e in inline(metric).iter() if e.get("id")] for metric in plot.METRICS]
    assert len(set(itertools.chain(*ids))) == sum(map(len, ids)) > 0
    for metric in plot.METRICS:
        text = ElementTree.tostring(inline(metric), encoding="unicode")
        for element in inline(metric).iter():
            if name := element.get("id"):
                assert f'href="#{name}"' in text or f"url(#{name})" in text


def test_markers_are_those_of_matplotlib() -> None:
    from matplotlib.markers import MarkerStyle

    for marker, outline in plot.MARKERS.items():
        assert MarkerStyle(marker).is_filled()
        assert outline.startswith("M") and outline.endswith("Z")


def test_heights_are_means_over_shared_rates() -> None:
    assert [curve.name for curve in plot.curves([OURS, AVIF])] == ["hpcm-rwkv-4-lite", "avif"]
    crossing = result("crossing", [29, 33, 37])
    assert [curve.name for curve in plot.curves([OURS, crossing])] == ["crossing", "hpcm-rwkv-4-lite"]
    assert math.isfinite(plot.curves([OURS])[0].points["ms-ssim-rgb"][0][1])

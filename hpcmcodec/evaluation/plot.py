"""Rate-distortion curves, drawn for a paper or for a page that may be light or dark."""

from __future__ import annotations

import io
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import HpcmError, UsageError
from ..files import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "FORMATS",
    "INK",
    "MARKERS",
    "METRICS",
    "Curve",
    "Style",
    "curves",
    "draw",
    "inline_svg",
    "require_matplotlib",
]

FORMATS = (".pdf", ".png", ".svg")

KINDS = ("ours", "measured", "published")
METRICS = {"psnr-rgb": "PSNR (RGB), dB", "ms-ssim-rgb": "MS-SSIM, dB"}
RATE = "bits per pixel"

# For light and for dark pages. The colours of a page can be told apart with every common kind of colour
# blindness, and each has a contrast of 3 or more with the page.
INK: tuple[tuple[str, str], ...] = (
    ("#d04a02", "#ff8a4c"),  # vermilion
    ("#2050c8", "#4a8df8"),  # blue
    ("#17a068", "#2de0a4"),  # green
    ("#a45cc0", "#d183df"),  # purple
    ("#9a9436", "#f0e44a"),  # olive, yellow
    ("#123b4a", "#cbeaff"),  # petrol, pale blue
    ("#666666", "#8a8a8a"),  # grey
)
TEXT, GRID = "#161616", "#d9d9d9"

# Matplotlib's name of each, and its outline in a box from -1 to 1. The first is ours. There are seven others,
# so that with two to six colours they come in all combinations.
MARKERS = {
    "o": "M-1 0A1 1 0 1 1 1 0A1 1 0 1 1 -1 0Z",
    "s": "M-.9-.9H.9V.9H-.9Z",
    "^": "M0-1L1 .9H-1Z",
    "v": "M0 1L1-.9H-1Z",
    "D": "M0-1.2L1.2 0L0 1.2L-1.2 0Z",
    "P": "M-.35-1H.35V-.35H1V.35H.35V1H-.35V.35H-1V-.35H-.35Z",
    ">": "M1 0L-.9 1V-1Z",
    "X": "M-.5-1L0-.5L.5-1L1-.5L.5 0L1 .5L.5 1L0 .5L-.5 1L-1 .5L-.5 0L-1-.5Z",
}
DASHES = ((5.0, 2.0), (1.5, 1.5), (6.0, 1.8, 1.5, 1.8))


@dataclass(frozen=True)
class Style:
    """How a curve looks.

    ink: an index into `INK`. width: of the line, in points. marker: a key of `MARKERS`, or empty. dashes:
    their lengths and those of the gaps, in widths.
    """

    ink: int
    width: float
    marker: str
    dashes: tuple[float, ...]


@dataclass(frozen=True)
class Curve:
    """One object of the results as it is drawn.

    name: as in the results. title: for a reader. kind: one of `KINDS`. points: per key of `METRICS`, bits per
    pixel and dB by rising rate; MS-SSIM is -10 log10(1 - MS-SSIM).
    """

    name: str
    title: str
    kind: str
    points: Mapping[str, tuple[tuple[float, float], ...]]
    style: Style

    @property
    def label(self) -> str:
        if self.kind != "published":
            return self.title
        return f"{self.title[:-1]}, published)" if self.title.endswith(")") else f"{self.title} (published)"


def curves(results: Sequence[Mapping[str, Any]]) -> list[Curve]:
    """The curves of a bench's results, best first: by the mean of PSNR above the first one of ours.

    What has no points is left out.
    """
    found = [
        (result, points)
        for result in results
        if (points := {metric: values for metric in METRICS if (values := _points(result, metric))})
    ]
    ours = sum(_kind(result) == "ours" for result, _ in found)
    counts = dict.fromkeys(KINDS, 0)
    drawn = []
    for result, points in found:
        kind = _kind(result)
        style = _style(kind, counts[kind], ours)
        name = result["name"]
        drawn.append(Curve(name, result.get("title") or name, kind, points, style))
        counts[kind] += 1
    reference = next((curve for kind in KINDS for curve in drawn if curve.kind == kind), None)
    return sorted(drawn, key=lambda curve: -_height(curve, reference)) if reference else []


def draw(
    results: Sequence[Mapping[str, Any]],
    path: str | os.PathLike[str],
    *,
    title: str | None = None,
    replace: bool = True,
) -> None:
    """Draw the curves of a bench: PSNR over rate, and beside it MS-SSIM where it was measured.

    Ours are thick, other measured codecs thin, published curves dashed; the legend goes from the best curve
    to the worst. The rates shown are those of our curves, or where there are none those of the measured ones.

    Args:
        results: as `hpcmcodec.evaluation.bench.bench` returns them.
        path: what to write, as .png, .svg or .pdf; the file is replaced in one go, never half written.
        title: a line above the panels.
        replace: a file that is there gives way; otherwise it stays, and this fails.

    Raises:
        UsageError: another suffix, or results without a point.
        HpcmError: it cannot be written, or matplotlib is missing.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise UsageError(f"a plot is written as {', '.join(FORMATS)}, not {path.suffix or path.name!r}")
    drawn = curves(results)
    if not drawn:
        raise UsageError("there is nothing to plot: the results have no point yet")
    matplotlib = require_matplotlib()
    metrics = [metric for metric in METRICS if any(metric in curve.points for curve in drawn)]
    out = io.BytesIO()
    with matplotlib.rc_context(_settings(matplotlib)):
        from matplotlib.figure import Figure

        legend = 0.8 + 0.068 * max(len(curve.label) for curve in drawn)
        figure = Figure(figsize=(4.6 * len(metrics) + legend, 4.4), layout="constrained")
        for axes, metric in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
            _panel(axes, drawn, metric)
        handles = [_handle(curve) for curve in drawn]
        figure.legend(handles=handles, loc="outside right center", frameon=False, handlelength=2.8)
        if title:
            figure.suptitle(title)
        figure.savefig(out, format=suffix[1:], dpi=200, metadata=_NO_DATE.get(suffix))
    write_whole(path, out.getvalue(), replace)


def inline_svg(drawn: Sequence[Curve], metric: str, label: str) -> str:
    """One panel as an SVG element for a page of HTML, without a legend.

    Colours are the page's: `var(--ink-0)` and on for `INK`, `var(--text)` and `var(--grid)`; so is the font.
    `label` is what it shows, for those who do not see it.

    Raises:
        HpcmError: matplotlib is missing.
    """
    matplotlib = require_matplotlib()
    out = io.StringIO()
    with matplotlib.rc_context({**_settings(matplotlib), "svg.fonttype": "none", "font.size": 11}):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(5.2, 4.1), layout="constrained")
        _panel(figure.subplots(), drawn, metric)
        figure.savefig(out, format="svg", transparent=True, metadata=_NO_DATE[".svg"])
    return _themed(out.getvalue(), metric, label)


# The same results make the same file.
_NO_DATE: dict[str, dict[str, None]] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}


def require_matplotlib() -> Any:
    """The package that draws, imported when it is first needed.

    Raises:
        HpcmError: it is missing.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise HpcmError(
            f"the package matplotlib cannot be imported ({error}): install hpcmcodec with its extra 'bench'"
        ) from error
    return matplotlib


def _settings(matplotlib: Any) -> dict[str, Any]:
    """Matplotlib's own defaults, whatever the caller's are, and what is ours."""
    return {
        **{key: value for key, value in matplotlib.rcParamsDefault.items() if key != "backend"},
        "axes.edgecolor": TEXT,
        "axes.labelcolor": TEXT,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "font.size": 10,
        "grid.color": GRID,
        "grid.linewidth": 0.6,
        "legend.fontsize": 9,
        "pdf.fonttype": 42,
        "svg.hashsalt": "hpcmcodec",
        "text.color": TEXT,
        "text.parse_math": False,
        "xtick.color": TEXT,
        "ytick.color": TEXT,
    }


def _kind(result: Mapping[str, Any]) -> str:
    if result.get("published"):
        return "published"
    return "ours" if (result.get("settings") or {}).get("codec") == "hpcm" else "measured"


def _points(result: Mapping[str, Any], metric: str) -> tuple[tuple[float, float], ...]:
    rates, values = (result["results"].get(key) or () for key in ("bpp", metric))
    scale = _decibels if metric == "ms-ssim-rgb" else float
    pairs = zip(rates, values, strict=False)
    points = ((rate, scale(value)) for rate, value in pairs if rate and value is not None)
    return tuple(sorted(point for point in points if math.isfinite(point[1])))


def _decibels(ms_ssim: float) -> float:
    return -10 * math.log10(1 - ms_ssim) if ms_ssim < 1 else math.inf


def _style(kind: str, number: int, ours: int) -> Style:
    """Of the curve with this number among those of its kind; others get no colour of ours if possible."""
    if kind == "ours":
        return Style(number % len(INK), 2.4, "o", ())
    inks = range(min(max(ours, 1), len(INK) - 2), len(INK))
    ink = inks[number % len(inks)]
    if kind == "measured":
        markers = tuple(MARKERS)[1:]
        return Style(ink, 1.3, markers[number % len(markers)], ())
    return Style(ink, 1.1, "", DASHES[number // len(inks) % len(DASHES)])


def _height(curve: Curve, reference: Curve) -> float:
    """Mean distance in dB above another curve over the logarithm of the rates that both have."""
    metric = next((m for m in METRICS if m in curve.points and m in reference.points), None)
    if metric is None:
        return -math.inf
    (x, y), (x_0, y_0) = (np.array(c.points[metric]).T for c in (curve, reference))
    x, x_0 = np.log(x), np.log(x_0)
    grid = np.linspace(max(x[0], x_0[0]), min(x[-1], x_0[-1]), 64)
    return float(np.mean(np.interp(grid, x, y) - np.interp(grid, x_0, y_0)))


def _panel(axes: Axes, drawn: Sequence[Curve], metric: str) -> None:
    for curve in sorted(drawn, key=lambda curve: -KINDS.index(curve.kind)):  # ours on top
        if metric in curve.points:
            axes.plot(*zip(*curve.points[metric], strict=True), **_look(curve), label=curve.label)
    left, right, bottom, top = _window(drawn, metric)
    axes.set(xlim=(left, right), ylim=(bottom, top), xlabel=RATE, ylabel=METRICS[metric])
    axes.grid(visible=True)
    axes.set_axisbelow(True)


def _window(drawn: Sequence[Curve], metric: str) -> tuple[float, float, float, float]:
    """What to show: the rates of our curves, and all that has these rates, down to some way below ours."""
    shown = [curve for curve in drawn if metric in curve.points]
    first = min((curve.kind for curve in shown), key=KINDS.index)
    main = [point for curve in shown if curve.kind == first for point in curve.points[metric]]
    right = 1.04 * max(rate for rate, _ in main)
    top = bottom = main[0][1]
    for curve in shown:
        rates, values = np.array(curve.points[metric]).T
        inside = values[rates <= right]
        if rates[0] < right < rates[-1]:
            inside = np.append(inside, np.interp(right, rates, values))
        if len(inside):
            top, bottom = max(top, inside.max()), min(bottom, inside.min())
    lowest, highest = min(value for _, value in main), max(value for _, value in main)
    if first == "ours":
        bottom = max(bottom, lowest - 0.35 * (highest - lowest))
    margin = 0.03 * (top - bottom) or 0.5
    return 0.0, right, bottom - margin, top + margin


def _look(curve: Curve) -> dict[str, Any]:
    style = curve.style
    return {
        "color": INK[style.ink][0],
        "linewidth": style.width,
        "linestyle": (0, style.dashes) if style.dashes else "solid",
        "marker": style.marker,
        "markersize": 5.5 if curve.kind == "ours" else 4,
    }


def _handle(curve: Curve) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], **_look(curve), label=curve.label)


def _themed(svg: str, metric: str, label: str) -> str:
    """Matplotlib's SVG as an element of a page: its own names, the page's colours, no size of its own."""
    from html import escape

    # Its own style sheet, which would be the whole page's, ends with the first definitions.
    body = svg[svg.index("</defs>") + len("</defs>") : svg.rindex("</svg>")]
    box = re.search(r'viewBox="([^"]+)"', svg)
    assert box
    colours = {TEXT: "text", GRID: "grid", **{light: f"ink-{i}" for i, (light, _) in enumerate(INK)}}
    for colour, name in colours.items():
        body = body.replace(colour, f"var(--{name})")
    body = re.sub(r"font-family: [^;\"]*(?:; )?", "", body)
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', body))
    body = re.sub(r' id="([^"]+)"', lambda m: f' id="{metric}-{m[1]}"' if m[1] in used else "", body)
    body = re.sub(r"(url\(#|href=\"#)", rf"\g<1>{metric}-", body)
    body = re.sub(r"<!--.*?-->", "", body.replace("xlink:href", "href"), flags=re.DOTALL)
    body = re.sub(r"\s*\n\s*", "\n", body).strip()
    return f'<svg viewBox="{box[1]}" role="img" aria-label="{escape(label)}">\n{body}</svg>'

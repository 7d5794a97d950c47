"""The results of a bench as one page of HTML that needs nothing else: curves, tables, crops to look at."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import UsageError
from ..files import write_whole
from . import plot
from .codecs import ANCHORS
from .compare import Codec, Pixels, Window, compare, detailed_window
from .ours import HpcmCodec
from .photos import Photo, find_photos, read_photo
from .results import mean_of_known

__all__ = ["write"]

Result = Mapping[str, Any]

BPP = 0.3
PICTURES = 3
SIDE = 256  # of a crop, in pixels
SHOWN = 3  # codecs beside the original: as many crops as fit in a row
PREFERRED = ("avif", "jpeg")

NARROW = "\u202f"  # a space that no line breaks at
FULL_TINT = 60  # per cent of bits, from which on a cell of the matrix gets no darker


def write(
    results: Sequence[Result],
    folder: str | os.PathLike[str] | None,
    path: str | os.PathLike[str],
    *,
    codecs: Sequence[Codec] | None = None,
    weights: str | os.PathLike[str] | None = None,
    bpp: float = BPP,
    pictures: int = PICTURES,
    title: str | None = None,
    progress: Callable[[float], None] | None = None,
    replace: bool = True,
) -> None:
    """Write the report of a bench.

    It is one file, without scripts or anything to fetch, for light and dark screens, phones and paper.

    Args:
        results: as `hpcmcodec.evaluation.bench.bench` returns them.
        folder: where the pictures are, to crop some of them; None for a report without crops. Those taken are
            spread evenly over the names of the ones measured; of each the part with the most detail is shown.
        path: the HTML file; it is replaced in one go, never half written.
        codecs: which to show the crops of; None for the best one of ours, AVIF and JPEG, as far as measured.
        weights: the weights file of ours, if it is not the one that comes with the package.
        bpp: the size at which all codecs code these pictures, in bits per pixel of whole files.
        pictures: how many to crop, at most.
        title: the heading, as plain text.
        progress: called with the share done, 0 to 1; the crops are what takes time.
        replace: a file that is there gives way; otherwise it stays, and this fails.

    Raises:
        UsageError: there is no point in the results; a folder without pictures; a size that is not positive.
        ImageError: no picture can be read, or all codecs fail on one.
        WeightsError: there are no weights for the codec of ours.
        HpcmError: it cannot be written, or matplotlib is missing.
    """
    drawn = plot.curves(results)
    if not drawn:
        raise UsageError("there is nothing to report: the results have no point yet")
    crops: list[str] = []
    if folder is not None and pictures > 0:
        chosen = _choose(results, drawn, weights) if codecs is None else codecs
        photos = _spread(_measured_photos(results, folder), pictures)
        for done, photo in enumerate(photos):
            crops += _crops(photo, chosen, bpp)
            if progress:
                progress((done + 1) / len(photos))
    page = "\n".join(_page(results, drawn, crops, bpp, title))
    write_whole(Path(path), page.encode(), replace)


def _choose(
    results: Sequence[Result], drawn: Sequence[plot.Curve], weights: str | os.PathLike[str] | None
) -> list[Codec]:
    ours = next((curve.name for curve in drawn if curve.kind == "ours"), None)
    others = [curve.name for curve in drawn if curve.kind == "measured" and curve.name in ANCHORS]
    others.sort(key=lambda name: PREFERRED.index(name) if name in PREFERRED else len(PREFERRED))
    chosen: list[Codec] = []
    if ours is not None:
        settings = next(result["settings"] for result in results if result["name"] == ours)
        names = ("phase", "family", "preset", "device")
        path = None if weights is None else Path(weights)
        chosen.append(HpcmCodec(**{name: settings[name] for name in names}, weights=path))
    chosen += [ANCHORS[name] for name in others if ANCHORS[name].available()]
    return chosen[:SHOWN]


def _measured_photos(results: Sequence[Result], folder: str | os.PathLike[str]) -> list[Photo]:
    names = {row["image"] for result in results for row in result.get("per_image") or ()}
    photos = find_photos(folder)
    return [photo for photo in photos if photo.name in names] or photos


def _spread(photos: Sequence[Photo], count: int) -> list[Photo]:
    """So many, as far apart as they can be: the middle ones of equal parts."""
    count = min(count, len(photos))
    return [photos[(2 * i + 1) * len(photos) // (2 * count)] for i in range(count)]


def _page(
    results: Sequence[Result],
    drawn: Sequence[plot.Curve],
    crops: Sequence[str],
    bpp: float,
    title: str | None,
) -> Iterator[str]:
    measured = [result for result in results if not result.get("published")]
    points = [result for result in measured if result["results"].get("bpp")]
    order = {curve.name: place for place, curve in enumerate(drawn)}
    # A codec without loss has no curve to draw, and comes last.
    points.sort(key=lambda result: order.get(result["name"], len(order)))
    heading = escape(title or "Rate and quality of picture codecs")
    yield f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{heading}</title>'
    yield f'<meta http-equiv="Content-Security-Policy" content="{_NOTHING_TO_FETCH}">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield '<meta name="color-scheme" content="light dark">'
    yield f"<style>\n{_style()}</style>\n</head>\n<body>\n<header>\n<h1>{heading}</h1>"
    yield f"<p>{_what(points)}</p>"
    yield from _in_short(points, drawn)
    yield "</header>\n<main>"
    yield from _curves(drawn)
    yield from _bd_rates(points, drawn)
    if crops:
        yield (
            "<section>\n<h2>Side by side</h2>\n"
            f"<p>Every codec has coded the whole picture at {bpp:g} bits per pixel, or as near as it gets."
            " Shown is the part with the most detail, pixel for pixel; sizes and PSNR are of the whole"
            " picture.</p>"
        )
        yield from crops
        yield "</section>"
    yield from _times(points)
    yield from _tables(points)
    yield from _method(measured)
    yield "</main>\n</body>\n</html>\n"


def _what(points: Sequence[Result]) -> str:
    counts = sorted({result["pictures"] for result in points})
    codecs = f"{len(points)} codec{'s' * (len(points) != 1)}"
    if not counts:
        return "Published curves."
    pictures = f"{counts[-1]} picture{'s' * (counts[-1] != 1)}"
    unfinished = "" if all(result["complete"] for result in points) else ", not finished yet"
    what = "bytes of whole files, decoded 8-bit pictures"
    return f"{codecs} measured on the same {pictures}{unfinished}: {what}."


def _in_short(points: Sequence[Result], drawn: Sequence[plot.Curve]) -> Iterator[str]:
    """What most readers want to know: the best one of ours against those measured beside it."""
    ours = {curve.name for curve in drawn if curve.kind == "ours"}
    best = next((result for result in points if result["name"] in ours), None)
    if best is None or not best["bd_rate"]:
        return
    rates = [
        (other, rate)
        for other in points
        if other["name"] not in ours and (rate := (best["bd_rate"].get(other["name"]) or {}).get("percent"))
    ]
    if not rates:
        return
    parts = [
        f"<strong>{abs(rate):.1f}{NARROW}% {'fewer' if rate < 0 else 'more'} bits</strong>"
        f" than {_title(other)}"
        for other, rate in rates
    ]
    listed = " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))
    yield f'<p class="short">At equal PSNR, {_title(best)} takes {listed}.</p>'


def _curves(drawn: Sequence[plot.Curve]) -> Iterator[str]:
    yield '<section>\n<h2>Curves</h2>\n<figure>\n<div class="panels">'
    names = ", ".join(curve.label for curve in drawn)
    for metric, axis in plot.METRICS.items():
        if any(metric in curve.points for curve in drawn):
            yield plot.inline_svg(drawn, metric, f"{axis} over {plot.RATE}. From best to worst: {names}.")
    yield '</div>\n<figcaption>\n<ol class="legend">'
    yield from (f"<li>{_swatch(curve)}{_label(curve)}</li>" for curve in drawn)
    yield (
        "</ol>\n<p>From the best to the worst. MS-SSIM in decibels is −10 log<sub>10</sub>(1 − MS-SSIM)."
        " Published curves are what others measured, maybe on other pictures.</p>\n</figcaption>\n</figure>\n"
        "</section>"
    )


def _label(curve: plot.Curve) -> str:
    label = escape(curve.label)
    return f"<strong>{label}</strong>" if curve.kind == "ours" else label


def _swatch(curve: plot.Curve) -> str:
    style = curve.style
    width = round(1.33 * style.width, 2)  # points in pixels
    dashes = " ".join(f"{dash * width:.2f}" for dash in style.dashes)
    marker = plot.MARKERS.get(style.marker, "")
    size = 4 if curve.kind == "ours" else 3
    return (
        f'<svg class="swatch" viewBox="0 0 36 12" aria-hidden="true" style="--ink: var(--ink-{style.ink})">'
        f'<path d="M1 6H35" stroke-width="{width}" stroke-dasharray="{dashes or "none"}"/>'
        + (f'<path d="{marker}" transform="translate(18 6) scale({size})" class="marker"/>' if marker else "")
        + "</svg>"
    )


def _bd_rates(points: Sequence[Result], drawn: Sequence[plot.Curve]) -> Iterator[str]:
    columns = [result for result in points if result["bd_rate"]]
    rows = [curve for curve in drawn if any(curve.name in result["bd_rate"] for result in columns)]
    if not rows:
        return
    yield "<section>\n<h2>Bits at equal PSNR</h2>"
    yield (
        "<p>BD-rate: by how many per cent more bits, or fewer (−), the codec of a column takes than the one"
        " of a row. Below it stands the range of PSNR that it is taken over, in dB: all that both have.</p>"
    )
    heads = "".join(f'<th scope="col">{_title(result)}</th>' for result in columns)
    yield f'{_SCROLL}<table class="matrix">'
    yield f'<thead><tr><th scope="col">against</th>{heads}</tr></thead>\n<tbody>'
    for curve in rows:
        cells = "".join(_bd_cell(result, curve.name) for result in columns)
        yield f'<tr><th scope="row">{_label(curve)}</th>{cells}</tr>'
    yield f'</tbody>\n</table></div>\n<p class="fine">{escape(columns[0]["bd_method"])}.</p>\n</section>'


def _bd_cell(result: Result, other: str) -> str:
    if other == result["name"]:
        return '<td class="none"></td>'
    rate = result["bd_rate"].get(other) or {}
    percent = rate.get("percent")
    if percent is None:
        return '<td class="none">–</td>'
    tint = min(1, abs(percent) / FULL_TINT)
    side = "fewer" if percent < 0 else "more"
    extent = f"<small>{rate['psnr_from']:.1f} to {rate['psnr_to']:.1f}</small>"
    return f'<td class="{side}" style="--tint: {tint:.2f}">{_signed(percent)}{extent}</td>'


def _crops(photo: Photo, codecs: Sequence[Codec], bpp: float) -> Iterator[str]:
    pixels = read_photo(photo.path)
    window = detailed_window(pixels, SIDE, SIDE)
    height, width = pixels.shape[:2]
    yield (
        f'<div class="picture">\n<h3>{escape(photo.name)}</h3>\n'
        f'<p class="fine">{width} × {height} pixels; {window.width} × {window.height} of them from'
        f' {window.x}, {window.y}.</p>\n<div class="crops">'
    )
    yield _crop(photo.name, "Original", "before coding", "", pixels, window)
    left_out: list[str] = []
    for sample in compare(pixels, codecs, bpp, tell=left_out.append):
        yield _crop(photo.name, sample.title, sample.facts, sample.note, sample.pixels, window)
    yield "</div>"
    yield from (f'<p class="fine">{escape(line)}</p>' for line in left_out)
    yield "</div>"


def _crop(name: str, title: str, facts: str, note: str, pixels: Pixels, window: Window) -> str:
    file = io.BytesIO()
    Image.fromarray(window.of(pixels)).save(file, "WEBP", lossless=True, quality=100, method=4)
    data = base64.b64encode(file.getvalue()).decode()
    note = f'<span class="note">{escape(note)}</span>' if note else ""
    alt = escape(f"Part of {name}, {title}: {facts}")
    return (
        f'<figure><img src="data:image/webp;base64,{data}" width="{window.width}" height="{window.height}"'
        f' alt="{alt}">\n<figcaption><strong>{escape(title)}</strong><span>{escape(facts)}</span>{note}'
        "</figcaption></figure>"
    )


def _times(points: Sequence[Result]) -> Iterator[str]:
    if not points:
        return
    yield "<section>\n<h2>Time and memory</h2>"
    yield (
        "<p>Seconds per picture in a process that is warm, the mean over all qualities and pictures; and of"
        " one picture in a process of its own, from start to end, with the most memory it held.</p>"
    )
    yield (
        f'{_SCROLL}<table>\n<thead><tr><th scope="col" rowspan="2">codec</th>'
        '<th scope="colgroup" colspan="2">warm</th><th scope="colgroup" colspan="2">own process, encode</th>'
        '<th scope="colgroup" colspan="2">own process, decode</th></tr>\n<tr>'
        + "".join(f'<th scope="col">{head}</th>' for head in ("encode, s", "decode, s", "s", "MB", "s", "MB"))
        + "</tr></thead>\n<tbody>"
    )
    for result in points:
        values = [mean_of_known(result["results"].get(f"{what}_time")) for what in ("encoding", "decoding")]
        cells = [_number(value, ".3f") for value in values]
        process = result.get("process") or {}
        for what in ("encoding", "decoding"):
            memory = process.get(f"{what}_memory")
            cells += [_number(process.get(f"{what}_time"), ".2f"), _number(memory and memory / 1e6, ".0f")]
        yield _row(_title(result), cells)
    yield "</tbody>\n</table></div>\n</section>"


def _tables(points: Sequence[Result]) -> Iterator[str]:
    if not points:
        return
    yield '<section>\n<h2>All points</h2>\n<p>Means over the pictures.</p>\n<div class="tables">'
    columns = {
        "bpp": ("bpp", ".4f"),
        "PSNR, dB": ("psnr-rgb", ".2f"),
        "MS-SSIM": ("ms-ssim-rgb", ".4f"),
        "encode, s": ("encoding_time", ".3f"),
        "decode, s": ("decoding_time", ".3f"),
    }
    heads = "".join(f'<th scope="col">{head}</th>' for head in ("quality", *columns))
    for result in points:
        yield (
            f'<div class="codec">\n<h3>{_title(result)}</h3>\n'
            f'<p class="fine">{escape(result["description"])}</p>\n'
            f"{_SCROLL}<table>\n<thead><tr>{heads}</tr></thead>\n<tbody>"
        )
        values = result["results"]
        for index, quality in enumerate(result["qualities"]):
            yield _row(
                f"{quality:g}",
                [_number(values[key][index], form) for key, form in columns.values()],
            )
        yield "</tbody>\n</table></div>\n</div>"
    yield "</div>\n</section>"


def _method(measured: Sequence[Result]) -> Iterator[str]:
    if not measured:
        return
    yield "<section>\n<h2>How this was measured</h2>\n<ul>"
    yield (
        "<li>Bits per pixel are 8 × the bytes of the whole file, container included, / pixels.</li>\n"
        "<li>PSNR is over all pixels and channels of the decoded 8-bit RGB picture; MS-SSIM by"
        " pytorch-msssim, of the same.</li>\n"
        "<li>Each point of a curve is the mean of bits per pixel and the mean of the metric over the pictures"
        " at one quality.</li>\n"
        "<li>All codecs ran on the same machine, one at a time, on the same pictures.</li>"
    )
    for result in measured:
        if result.get("skipped"):
            yield f"<li>{_title(result)} was left out: {escape(result['skipped'])}</li>"
    yield "</ul>\n<dl>"
    for result in measured:
        if digest := result.get("weights_sha256"):
            yield f"<dt>Weights of {_title(result)}</dt><dd><code>{escape(digest)}</code></dd>"
    for name, value in _environment(measured[0].get("env") or {}):
        yield f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>"
    yield "</dl>\n</section>"


def _environment(env: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in env.items():
        if isinstance(value, Mapping):
            listed = ", ".join(f"{name} {version}" for name, version in value.items() if version is not None)
            yield key.capitalize(), listed
        elif value is not None:
            yield "GPU" if key == "gpu" else "CPUs" if key == "cpus" else key.capitalize(), str(value)


def _title(result: Result) -> str:
    return escape(result.get("title") or result["name"])


def _row(head: str, cells: Sequence[str]) -> str:
    return f'<tr><th scope="row">{head}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "−")


_NOTHING_TO_FETCH = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_SCROLL = '<div class="scroll" tabindex="0">'


def _style() -> str:
    light, dark = (
        "".join(f"  --ink-{i}: {pair[side]};\n" for i, pair in enumerate(plot.INK)) for side in (0, 1)
    )
    return _SHEET.replace("/* light inks */\n", light).replace("/* dark inks */\n", dark)


_SHEET = """\
:root {
  --page: #ffffff; --text: #17191c; --faint: #5b6169; --rule: #dcdfe3; --grid: #e3e5e8;
  --few: 0 103 165; --many: 208 74 2; --strong: .34; --note: #b03a00;
/* light inks */
}
@media screen and (prefers-color-scheme: dark) {
  :root {
  --page: #14171a; --text: #e7e9eb; --faint: #a0a7af; --rule: #343a41; --grid: #2b3036;
  --few: 92 179 240; --many: 255 138 76; --strong: .42; --note: #ff9d66;
/* dark inks */
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; padding: 2rem 1rem 4rem; max-width: 70rem; background: var(--page); color: var(--text);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", sans-serif;
}
h1 { margin: 0 0 .5rem; font-size: 1.9rem; line-height: 1.2; text-wrap: balance; }
h2 { margin: 3rem 0 .5rem; font-size: 1.35rem; line-height: 1.25; }
h3 { margin: 1.75rem 0 .25rem; font-size: 1.05rem; overflow-wrap: anywhere; }
p, ul { margin: .25rem 0 1rem; max-width: 46rem; }
.short { font-size: 1.15rem; }
.fine { color: var(--faint); font-size: .875rem; overflow-wrap: anywhere; }
figure { margin: 0; }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); gap: 1rem; }
.panels svg { width: 100%; max-width: 40rem; height: auto; stroke-linejoin: round; }
.legend {
  columns: 17rem; column-gap: 1.5rem; margin: .75rem 0; padding: 0; list-style: none; font-size: .9rem;
}
.legend li { display: flex; align-items: center; gap: .6rem; padding: .1rem 0; break-inside: avoid; }
.swatch { flex: none; width: 36px; height: 12px; }
.swatch path { fill: none; stroke: var(--ink); }
.swatch .marker { fill: var(--ink); stroke: none; }
figcaption p { color: var(--faint); font-size: .875rem; }
.scroll { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--rule); text-align: right; white-space: nowrap; }
th { font-weight: 600; }
thead th { vertical-align: bottom; color: var(--faint); }
th[scope="colgroup"] { text-align: center; }
tbody th, thead tr:first-child th:first-child { padding-left: 0; text-align: left; }
tbody th { font-weight: 400; }
.matrix td { padding: .25rem .7rem; }
.matrix small { display: block; color: var(--faint); font-size: .72rem; line-height: 1.2; }
.matrix thead th:not(:first-child) { min-width: 6.5rem; white-space: normal; }
.fewer { background: rgb(var(--few) / calc(var(--tint) * var(--strong))); }
.more { background: rgb(var(--many) / calc(var(--tint) * var(--strong))); }
.none { color: var(--faint); }
.crops { display: flex; flex-wrap: wrap; gap: 1rem; }
.crops figure { width: 16rem; max-width: 100%; }
.crops img { display: block; max-width: 100%; height: auto; }
.crops figcaption { display: grid; padding-top: .35rem; font-size: .85rem; line-height: 1.35; }
.crops span { color: var(--faint); }
.crops .note { color: var(--note); }
.tables {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 30rem), 1fr)); gap: 0 2.5rem;
}
.codec { min-width: 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.25rem; font-size: .9rem; }
dt { color: var(--faint); }
dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 36rem) {
  h1 { font-size: 1.5rem; }
  h2 { margin-top: 2.25rem; }
  table { font-size: .8rem; }
  th, td, .matrix td { padding: .3rem .35rem; }
  th { white-space: normal; }
  tbody th, thead tr:first-child th:first-child { position: sticky; left: 0; background: var(--page); }
  .matrix tbody th { min-width: 7.5rem; }
  .matrix thead th:not(:first-child) { min-width: 4.4rem; }
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: .6rem; }
}
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  .scroll { overflow: visible; }
  .matrix td { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  figure, tr, .codec, .picture { break-inside: avoid; }
  .crops { gap: .5rem; }
  .crops figure { width: calc(25% - .5rem); }
  .tables { grid-template-columns: 1fr 1fr; }
  .codec table { font-size: 7.5pt; }
  h2, h3 { break-after: avoid; }
  th, td { padding: .15rem .4rem; }
}
"""

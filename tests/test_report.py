from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
from collections import Counter
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hpcmcodec.errors import HpcmError, ImageError, UsageError
from hpcmcodec.evaluation import plot, report
from hpcmcodec.evaluation.codecs import ANCHORS
from hpcmcodec.evaluation.compare import detailed_window
from hpcmcodec.evaluation.photos import read_photo
from hpcmcodec.evaluation.results import Point, Process, Record, summarise
from tests import fake

DATA = Path(__file__).parent / "data"
NAMES = ["kodim04-crop.png", "kodim20-crop.png", "kodim23-crop.png"]
ENV = {"python": "3.11.1", "packages": {"torch": "2.6.0", "absent": None}, "cpus": 2, "gpu": None}
HPCM = {"codec": "hpcm", "phase": 4, "family": "rwkv", "preset": "lite", "device": "auto"}

VOID = {"meta", "img", "br", "path", "use"}
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None
)


def record(name: str, title: str, psnr: float, settings: dict[str, Any], **more: Any) -> Record:
    """A codec with points at three qualities, as many dB as `psnr` at the first."""
    points = {
        (image, quality): Point(
            image=image,
            sha256="0" * 16,
            width=256,
            height=256,
            quality=quality,
            bytes=int(8192 * 0.2 * 2**quality),
            bpp=0.2 * 2**quality,
            psnr=psnr + 3.1 * quality,
            ms_ssim=1 - 0.1 / 2**quality,
            encoding_time=0.25,
            decoding_time=0.125,
        )
        for image in NAMES
        for quality in (1.0, 2.0, 3.0)
    }
    return Record(name, title, f"{title} 1.0", settings, (1.0, 2.0, 3.0), ENV, points=points, **more)


def results(*more: Record) -> list[dict[str, Any]]:
    cost = Process(NAMES[0], "0" * 16, 2.0, 4.5, 3.25, 943_000_000, None)
    records = [
        record("hpcm-rwkv-4-lite", "HPCM", 28, HPCM, weights_sha256="ab" * 32, process=cost),
        record("jpeg", "JPEG", 24, {"codec": "jpeg"}),
        record("avif", "AVIF", 27, {"codec": "avif"}),
        *more,
    ]
    curve = {"bpp": [0.2, 0.8, 1.8], "psnr-rgb": [31.5, 35.0, 38.0]}
    published = {"name": "VTM", "title": "VTM", "description": "published", "published": True}
    return summarise(records, NAMES, [{**published, "results": curve}])


class Page(HTMLParser):
    """Elements with their attributes, and the text outside the style sheet; checks that tags match."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag, f"</{tag}> at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def written(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def page_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with all there can be in one, its crops by codecs of the real kind."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    missing = Record("jxl", "JPEG XL", "missing", {}, (1.0,), ENV, skipped="the package <jxl> is missing")
    report.write(results(missing), DATA, path, codecs=[ANCHORS["webp"], ANCHORS["jpeg"]], bpp=0.15)
    return path


@pytest.fixture(scope="module")
def page(page_path: Path) -> Page:
    return written(page_path)


def test_it_is_one_file_without_anything_to_fetch(page_path: Path, page: Page) -> None:
    assert [path.name for path in page_path.parent.iterdir()] == ["report.html"]
    text = page_path.read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>\n<html lang=")
    assert not {"script", "link", "iframe", "object", "base", "form"} & {tag for tag, _ in page.elements}
    for tag, attributes in page.elements:
        for name in ("src", "href", "xlink:href", "srcset", "poster", "action"):
            value = attributes.get(name, "#")
            assert value.startswith(("#", "data:image/webp;base64,")), (tag, value[:50])
    style = text[text.index("<style>") : text.index("</style>")]
    assert "@import" not in style and "url(" not in style
    assert len(text) < 3_000_000


def test_it_says_what_it_is(page: Page) -> None:
    (html,) = page.all("html")
    assert html["lang"] == "en"
    metas = {
        attributes.get("name") or attributes.get("http-equiv"): attributes.get("content")
        for attributes in page.all("meta")
    }
    assert metas["viewport"] == "width=device-width, initial-scale=1"
    assert metas["color-scheme"] == "light dark"
    assert str(metas["Content-Security-Policy"]).startswith("default-src 'none'")
    tags = Counter(tag for tag, _ in page.elements)
    assert tags["h1"] == tags["main"] == tags["header"] == tags["title"] == 1
    assert tags["h2"] == tags["section"] == 6


def test_the_first_lines_say_how_we_do(page: Page) -> None:
    assert "3 codecs measured on the same 3 pictures: bytes of" in page.text
    sentence = re.search(r"At equal PSNR, HPCM takes (\S+) % fewer bits than AVIF and (\S+) %", page.text)
    assert sentence
    avif, jpeg = map(float, sentence.groups())
    assert 0 < avif < jpeg
    ours = results()[0]
    assert ours["bd_rate"]["avif"]["percent"] == pytest.approx(-avif, abs=0.05)
    assert ours["bd_rate"]["jpeg"]["percent"] == pytest.approx(-jpeg, abs=0.05)


def test_curves_are_there_with_words_for_those_who_do_not_see_them(page: Page) -> None:
    shown = [svg for svg in page.all("svg") if svg.get("role") == "img"]
    assert [svg["aria-label"].partition(" over")[0] for svg in shown] == ["PSNR (RGB), dB", "MS-SSIM, dB"]
    for svg in shown:
        assert "VTM (published), HPCM, AVIF, JPEG" in svg["aria-label"]
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_the_matrix_has_all_rates_with_their_range(page: Page) -> None:
    for result in results():
        for rate in (result.get("bd_rate") or {}).values():
            assert f"{rate['percent']:+.1f}".replace("-", "−") in page.text
            assert f"{rate['psnr_from']:.1f} to {rate['psnr_to']:.1f}" in page.text
    sides = [cell.get("class") for cell in page.all("td") if "--tint" in cell.get("style", "")]
    assert Counter(sides) == {"fewer": 3, "more": 6}
    assert results()[0]["bd_method"] in page.text


def test_times_memory_and_circumstances_are_told(page: Page) -> None:
    assert "HPCM 0.250 0.125 4.50 943 3.25 –" in page.text
    assert "JPEG 0.250 0.125 – – – –" in page.text
    assert "ab" * 32 in page.text
    assert "torch 2.6.0" in page.text and "absent" not in page.text
    assert "JPEG XL was left out: the package <jxl> is missing" in page.text
    assert "3 3.2000 37.30 0.9875 0.250 0.125" not in page.text
    assert "2 0.8000 34.20 0.9750 0.250 0.125" in page.text


def test_crops_are_the_decoded_pictures(page: Page) -> None:
    images = page.all("img")
    assert len(images) == 3 * 3
    for photo, three in zip(NAMES, (images[i : i + 3] for i in (0, 3, 6)), strict=True):
        for shown, title in zip(three, ("Original", "WebP", "JPEG"), strict=True):
            assert shown["alt"].startswith(f"Part of {photo}, {title}: ")
            data = base64.b64decode(shown["src"].partition(",")[2])
            with Image.open(io.BytesIO(data)) as image:
                assert (str(image.width), str(image.height)) == (shown["width"], shown["height"])
                pixels = np.array(image.convert("RGB"))
            original = read_photo(DATA / photo)
            part = detailed_window(original, 256, 256).of(original)
            assert (pixels == part).all() == (title == "Original")
            assert abs(pixels.astype(float) - part).mean() < 40
    assert page.text.count("cannot reach 0.15 bpp: this is its nearest") == 3


def test_pictures_are_spread_over_those_that_were_measured(tmp_path: Path) -> None:
    for i in range(9):
        Image.new("RGB", (40, 30), (i, 0, 0)).save(tmp_path / f"{i}.png")
    table = results()
    for result in table[:3]:
        result["per_image"] = [{"image": f"{i}.png"} for i in range(7)]
    path = tmp_path / "report.html"
    report.write(table, tmp_path, path, codecs=[], pictures=3)
    assert re.findall(r"<h3>(\d).png</h3>", path.read_text()) == ["1", "3", "5"]
    shares: list[float] = []
    report.write(table, tmp_path, path, codecs=[], pictures=20, progress=shares.append)
    assert re.findall(r"<h3>(\d).png</h3>", path.read_text()) == list("0123456")
    assert shares[-1] == 1 and shares == sorted(shares)


def test_ours_avif_and_jpeg_are_shown_if_nobody_chooses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.install(monkeypatch)
    webp = record("webp", "WebP", 26, {"codec": "webp"})
    report.write(results(webp), DATA, tmp_path / "a.html", pictures=1, bpp=1)
    alts = [image["alt"] for image in written(tmp_path / "a.html").all("img")]
    titles = [alt.removeprefix("Part of kodim20-crop.png, ").partition(":")[0] for alt in alts]
    assert titles == ["Original", "HPCM phase 4, lite", "AVIF", "JPEG"]


def test_names_are_text_not_markup(tmp_path: Path) -> None:
    evil = '<script>alert("1")</script>&'
    (tmp_path / "p").mkdir()
    photo = 'a"<b>&.png'
    Image.new("RGB", (20, 20)).save(tmp_path / "p" / photo)
    table = results()
    for result in table:
        result.update(title=evil, description=evil)
    table[0]["env"] = {evil: evil}
    table[0]["weights_sha256"] = evil
    path = tmp_path / "a.html"
    report.write(table, tmp_path / "p", path, codecs=[ANCHORS["jpeg"]], title=evil)
    page = written(path)
    assert not page.all("script")
    assert page.text.count(evil) > 10
    assert photo in page.text
    assert page.all("img")[0]["alt"] == f"Part of {photo}, Original: before coding"


def test_the_same_results_make_the_same_page(page_path: Path, tmp_path: Path) -> None:
    for name in "ab":
        report.write(results(), None, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert not written(tmp_path / "a").all("img")


def test_results_without_ours_or_without_bd_rate_make_a_page(tmp_path: Path) -> None:
    _, *others = results()
    report.write(others, None, tmp_path / "a.html")
    assert "At equal PSNR, " not in written(tmp_path / "a.html").text
    published = others[-1:]
    report.write(published, None, tmp_path / "a.html")
    assert "Published curves." in written(tmp_path / "a.html").text
    some = [record("jpeg", "JPEG", 24, {"codec": "jpeg"})]
    del some[0].points[NAMES[2], 3.0]
    report.write(summarise(some, NAMES), None, tmp_path / "a.html")
    text = written(tmp_path / "a.html").text
    assert "the same 2 pictures, not finished yet" in text
    assert "Bits at equal PSNR" not in text


def test_mistakes_are_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to report"):
        report.write([], DATA, tmp_path / "a.html")
    with pytest.raises(HpcmError, match="cannot write"):
        report.write(results(), None, tmp_path / "no" / "a.html")
    with pytest.raises(UsageError, match="no pictures in"):
        report.write(results(), tmp_path, tmp_path / "a.html")
    with pytest.raises(UsageError, match="positive number of bits"):
        report.write(results(), DATA, tmp_path / "a.html", codecs=[ANCHORS["jpeg"]], bpp=0)
    (tmp_path / "bad.png").write_bytes(b"bad")
    with pytest.raises(ImageError, match=r"bad\.png"):
        report.write(results(), tmp_path, tmp_path / "a.html")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.png"]


# Looks at the report in a frame as wide as a phone, and writes what it finds.
FRAME = """<!DOCTYPE html><meta charset="utf-8"><style>:root { color-scheme: light dark }</style>
<iframe id="frame" width="400" height="800" srcdoc="PAGE"></iframe><pre id="found"></pre>
<script>
onload = () => {
  const page = frame.contentDocument, root = page.documentElement;
  const style = (element) => frame.contentWindow.getComputedStyle(element);
  found.textContent = JSON.stringify({
    width: root.scrollWidth,
    height: root.scrollHeight,
    page: style(page.body).backgroundColor,
    text: style(page.body).color,
    curve: style(page.querySelector(".swatch path")).stroke,
    images: [...page.images].map((image) => [image.naturalWidth, image.width]),
    fetched: frame.contentWindow.performance.getEntriesByType("resource").map((entry) => entry.name),
    narrow: [...page.querySelectorAll("main > section, header")].map((e) => e.getBoundingClientRect().right),
  });
};
</script>
"""


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here to look at the report")
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_looks_right_in_a_browser(page_path: Path, tmp_path: Path, dark: bool) -> None:
    frame = tmp_path / "frame.html"
    text = page_path.read_text(encoding="utf-8")
    frame.write_text(FRAME.replace("PAGE", escape(text)), encoding="utf-8")
    command = [
        *(str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
        *("--no-first-run", "--disable-background-networking", f"--user-data-dir={tmp_path / 'profile'}"),
        *("--enable-logging=stderr", "--hide-scrollbars"),
        *(f"--blink-settings=preferredColorScheme={0 if dark else 1}", "--virtual-time-budget=10000"),
        *("--dump-dom", frame.as_uri()),
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert [line for line in result.stderr.splitlines() if "CONSOLE" in line] == []
    dumped = re.search(r'<pre id="found">(.*?)</pre>', result.stdout, re.DOTALL)
    assert dumped and dumped[1], result.stdout[-2000:]
    found = json.loads(dumped[1].replace("&amp;", "&"))
    assert found["width"] == 400
    assert found["height"] > 2000
    assert max(found["narrow"]) <= 400
    assert found["fetched"] == []
    assert [natural for natural, _ in found["images"]] == [256] * 9
    assert [shown for _, shown in found["images"]] == [256] * 9
    colours = {key: tuple(map(int, re.findall(r"\d+", found[key])[:3])) for key in ("page", "text", "curve")}
    paper, ink = ("text", "page") if dark else ("page", "text")
    assert min(colours[paper]) > 200 and max(colours[ink]) < 60
    assert "#{:02x}{:02x}{:02x}".format(*colours["curve"]) in [pair[dark] for pair in plot.INK]

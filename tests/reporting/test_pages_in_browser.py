"""The pages as a browser shows them: order, width, dark mode, print, saved figures, and an accessibility checker."""

import base64
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deep_clustering.reporting.comparison import write_comparison
from deep_clustering.reporting.shared_map import draw_shared_map
from reporting.test_report_map import grey_images, page_of
from reporting.test_reporting import TestComparison as Compared

SIZES = [(1280, 900), (390, 844)]
TOP = "Math.round(document.querySelector('%s').getBoundingClientRect().top)"
SAVE = """(async () => {
  const saved = [];
  HTMLAnchorElement.prototype.click = function () { saved.push([this.download, this.href]); };
  for (const button of document.querySelectorAll('.save')[0].querySelectorAll('button')) button.click();
  return saved;
})()"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A report and a comparison of six methods with long names."""
    folder = tmp_path_factory.mktemp("pages")
    names = [f"a_method_with_a_name_{i}" for i in range(6)]
    all_scores = Compared.runs(**{name: {"acc": 0.1 * i, "nmi": 0.5} for i, name in enumerate(names)})
    clusters = {name: (np.arange(40) // (i + 1)) % 3 for i, name in enumerate(names)}
    advice = Compared.advice()
    one = advice["scores"]["plain"]
    advice |= {"method": names[0], "scores": dict.fromkeys(names, one), "agreement": dict.fromkeys(names[1:], 0.5)}
    comparison = write_comparison(
        table=Compared.table(all_scores),
        all_scores=all_scores,
        recommendation=advice,
        failures={"gone": "no rows"},
        agreement={name: dict.fromkeys(names, 0.95) for name in names},
        shared_map=draw_shared_map(np.random.default_rng(0).normal(size=(40, 4)), clusters, names[0]),
        reported=names,
    )
    files = {"report": page_of(grey_images()), "comparison": comparison}
    for name, page in files.items():
        (folder / f"{name}.html").write_text(page, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in files}


def prefer(browser, scheme):
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("page", ["report", "comparison"])
def test_pages_fit_and_ask_for_nothing(browser, pages, page, width, height):
    browser.requests.clear()
    browser.open(pages[page], width=width, height=height)
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert [url for url in browser.requests if not url.startswith("data:")] == [pages[page].as_uri()]
    assert browser.complaints == []
    first = {"report": ".map", "comparison": "figure"}[page]
    assert 0 < browser.run(TOP % first) < 2 * height
    tops = json.loads(
        browser.run(
            "JSON.stringify([...document.querySelectorAll('section')].map((e) => e.getBoundingClientRect().top))"
        )
    )
    assert tops == sorted(tops)


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_no_column_of_the_comparison_is_off_the_screen(browser, pages, width, height):
    browser.open(pages["comparison"], width=width, height=height)
    right = "Math.max(...[...document.querySelectorAll('th, td')].map((e) => e.getBoundingClientRect().right))"
    assert browser.run(right) <= width


def test_figures_are_saved_as_svg_and_png_without_a_request(browser, pages):
    browser.open(pages["report"])
    browser.requests.clear()
    (svg_name, svg), (png_name, png) = browser.run(SAVE)
    assert (svg_name, png_name) == (
        "kmeans_on_blobs_seed_7_By_cluster.svg",
        "kmeans_on_blobs_seed_7_By_cluster.png",
    )
    assert base64.b64decode(svg.partition(",")[2]).startswith(b"<?xml")
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(png.partition(",")[2]))).convert("L"))
    shown = browser.run("document.querySelector('figure img').naturalWidth")
    assert pixels.shape[1] == 3 * shown
    assert pixels.min() < 128 < pixels.max()  # dots on white
    assert [url for url in browser.requests if not url.startswith("data:")] == []
    assert browser.complaints == []


def test_folded_parts_open_where_a_link_leads_and_in_print(browser, pages):
    opened = "[...document.querySelectorAll('details')].map((part) => part.open)"
    browser.open(pages["report"])
    assert browser.run(opened) == [False, False]
    browser.run("document.querySelector('a[href=\"#run\"]').click()")
    browser.run("new Promise((done) => setTimeout(done, 100))")
    assert browser.run(opened) == [False, True]
    browser.run("window.dispatchEvent(new Event('beforeprint'))")
    assert browser.run(opened) == [True, True]
    browser.run("window.dispatchEvent(new Event('afterprint'))")
    assert browser.run(opened) == [False, True]


@pytest.mark.parametrize("page", ["report", "comparison"])
def test_dark_where_the_reader_prefers_it_and_figures_on_white(browser, pages, page):
    light = (
        "['backgroundColor', 'color'].map((name) => getComputedStyle(document.body)[name].match(/[\\d.]+/g)"
        ".slice(0, 3).reduce((sum, channel) => sum + Number(channel), 0))"
    )
    try:
        prefer(browser, "dark")
        browser.open(pages[page])
        paper, ink = browser.run(light)
        assert paper < 100 < 600 < ink  # sums of three channels
        assert "brightness" in browser.run("getComputedStyle(document.querySelector('.plot')).filter")
    finally:
        prefer(browser, "light")
    browser.open(pages[page])
    paper, ink = browser.run(light)
    assert ink < 200 < paper == 765


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("page", ["report", "comparison"])
def test_an_accessibility_checker_finds_nothing(browser, pages, page, width, height, scheme):
    folder = os.environ.get("DEEP_CLUSTERING_AXE")
    if not folder:
        pytest.skip("DEEP_CLUSTERING_AXE names no folder with axe.min.js, of the npm package axe-core")
    try:
        prefer(browser, scheme)
        browser.open(pages[page], width=width, height=height)
        browser.run("for (const part of document.querySelectorAll('details')) part.open = true")
        browser.run(Path(folder, "axe.min.js").read_text(encoding="utf-8") + "; 0")
        found = browser.run("axe.run().then((r) => JSON.stringify(r.violations.map((v) => [v.id, v.nodes[0].target])))")
    finally:
        prefer(browser, "light")
    assert json.loads(found) == []

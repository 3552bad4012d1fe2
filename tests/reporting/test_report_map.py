"""The maps of a report under the pointer: what is drawn, shown, escaped and permitted; and the page in a browser."""

import base64
import hashlib
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from scipy import sparse

from deep_clustering.reporting.figures import PALETTE, encode_figure, encode_image
from deep_clustering.reporting.hover import arrange_sheet, pick_shown, shrink
from deep_clustering.reporting.map_figures import draw_certainty_map, frame_of
from deep_clustering.reporting.members import select_members
from deep_clustering.reporting.page import write_report
from deep_clustering.reporting.panels import map_panels
from deep_clustering.reporting.projection import draw_points
from deep_clustering.reporting.terms import describe_clusters, describe_rows, top_terms
from reporting.test_reporting import ATTACK, certainty_from, one_hot, scores_of

# Linear RGB as people without one kind of cone see it (Machado, Oliveira and Fernandes, IEEE TVCG 2009, severity 1).
COLOUR_BLIND = {
    "none": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def page_of(samples, *, terms=(), ids=(), names=None, n_shown=2000):
    """Report of a run on samples in two clusters, one of each class, on a map where row i is at (i, i % 2)."""
    n_samples = samples.shape[0]
    assignments = np.arange(n_samples) % 2
    certainty = certainty_from(assignments, one_hot(assignments, 2) * 0.8 + 0.1, samples)
    parts = {"assignments": assignments, "certainty": certainty, "samples": samples}
    card = {"name": "blobs", "source": "drawn", "licence": "CC0", "n_samples": n_samples, "n_classes": 2}
    card |= {"shape": list(samples.shape[1:]), "dtype": "uint8", "value_range": [0, 255], "class_names": names}
    card |= {"protocol": "all rows", "sha256": {"samples": "0" * 64}}
    map_ = {
        "coordinates": np.stack([np.arange(n_samples), assignments], axis=1).astype(np.float32),
        "assignments": assignments,
        "certainty": certainty.certainty,
        "labels": assignments,
        **pick_shown(samples, terms=terms, n_shown=n_shown, seed=0, ids=ids),
    }
    return write_report(
        scores=scores_of(assignments, assignments, 2, names=names),
        map_=map_,
        gallery=select_members(**parts, n_clusters=2, n_members=3, terms=terms, ids=ids),
        data_card=card,
        options={"epochs": 3, "views": {"kind": ATTACK}},
        cluster_names=[ATTACK, "odd"],
    )


def grey_images(n_samples=40):
    """Images whose pixels all have the value 6 times their row."""
    return np.broadcast_to(6 * np.arange(n_samples, dtype=np.uint8)[:, None, None, None], (n_samples, 1, 4, 4)).copy()


class Elements(HTMLParser):
    """Every element with its attributes, and the text of the scripts, as a browser's parser finds them."""

    def __init__(self, page):
        super().__init__()
        self.found, self.scripts, self._is_script = [], [], False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        self._is_script = tag == "script"
        if self._is_script:
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._is_script = False

    def handle_data(self, data):
        if self._is_script:
            self.scripts[-1] += data


@pytest.fixture(scope="module")
def images_page():
    return page_of(grey_images(), names=[ATTACK, "even <b>"], ids=[f"{ATTACK}{i}.png" for i in range(40)])


@pytest.fixture(scope="module")
def documents():
    """Six documents of four terms, one of which is an attack; the last is empty."""
    rows = [[3, 1, 0, 0], [2, 0, 0, 1], [0, 2, 0, 3], [1, 0, 0, 4], [5, 0, 0, 2], [0, 0, 0, 0]]
    return sparse.csr_matrix(np.array(rows, dtype=np.float32)), ["cat", "dog", "never", ATTACK]


@pytest.mark.parametrize("most", [10, 49])
def test_of_many_rows_a_draw_without_repetition_is_on_the_map(most):
    drawn = draw_points(50, most, seed=0)
    assert len(np.unique(drawn)) == most
    assert (np.diff(drawn) > 0).all()
    assert set(drawn) <= set(range(50))
    np.testing.assert_array_equal(draw_points(most, most, seed=0), np.arange(most))


def test_the_page_says_what_share_is_on_the_map():
    """Rows without a place are in no picture."""
    there = np.isin(np.arange(40), [1, 4, 9, 16])
    points = np.where(there[:, None], np.stack([np.arange(40.0), np.arange(40.0) % 3], axis=1), np.nan)
    map_ = {"coordinates": points, "assignments": np.arange(40) % 2, "certainty": np.ones(40), "labels": -np.ones(40)}
    panel = map_panels(map_, [-1, -1], {})[0]
    assert "Of 40 samples 4, drawn at random, are on the map." in panel.caption
    assert "Map of 4 samples" in panel.alt


class TestShown:
    def test_a_seeded_draw_without_repetition_in_order(self):
        shown = pick_shown(np.zeros((50, 3)), terms=(), n_shown=20, seed=1)
        assert set(shown) == {"shown"}
        assert len(shown["shown"]) == 20
        assert (np.diff(shown["shown"]) > 0).all()
        again = pick_shown(np.zeros((50, 3)), terms=(), n_shown=20, seed=1)
        np.testing.assert_array_equal(again["shown"], shown["shown"])

    def test_only_rows_on_the_map_are_shown(self):
        among = np.array([3, 20, 41])
        shown = pick_shown(np.zeros((50, 3)), terms=(), n_shown=20, seed=1, among=among)
        np.testing.assert_array_equal(shown["shown"], among)

    def test_small_images_stay_as_they_are(self):
        images = grey_images()
        shown = pick_shown(images, terms=(), n_shown=100, seed=0)
        np.testing.assert_array_equal(shown["thumbnails"], images)

    def test_large_images_become_means_of_their_blocks(self):
        images = np.random.default_rng(0).integers(0, 256, size=(3, 3, 64, 32), dtype=np.uint8)
        blocks = images.reshape(3, 3, 32, 2, 16, 2).mean(axis=(3, 5))
        np.testing.assert_allclose(shrink(images, 32), blocks, atol=1.01)  # rows and columns are rounded in turn

    def test_the_sheet_has_each_thumbnail_at_its_place(self):
        thumbnails = np.random.default_rng(0).integers(0, 256, size=(7, 3, 2, 5), dtype=np.uint8)
        sheet, columns = arrange_sheet(thumbnails)
        assert (sheet.shape, columns) == ((3, 6, 15), 3)  # three columns of width 5, three lines of height 2
        for i, thumbnail in enumerate(thumbnails):
            top, left = 2 * (i // columns), 5 * (i % columns)
            np.testing.assert_array_equal(sheet[:, top : top + 2, left : left + 5], thumbnail)

    def test_none_is_none(self):
        page = page_of(grey_images(), n_shown=0)
        assert page.count("<script") == 1  # that of any page
        assert 'id="points"' not in page
        assert "Point at a dot" not in page


class TestTerms:
    def test_strongest_first_and_none_that_is_absent(self):
        assert top_terms(np.array([0.0, 2.0, 3.0, 1.0]), ["a", "b", "c", "d"], 2) == ["c", "b"]
        assert top_terms(np.zeros(2), ["a", "b"], 2) == []

    def test_documents(self, documents):
        samples, terms = documents
        assert describe_rows(samples, terms, np.array([0, 2, 5, -1]), 2) == ["cat, dog", f"{ATTACK}, dog", "", ""]

    def test_clusters_by_what_sets_them_apart(self, documents):
        samples, terms = documents
        # means of all: cat 11/6, dog 3/6, attack 10/6; of rows 0, 1: 5/2, 1/2, 1/2; of rows 2, 3: 1/2, 1, 7/2
        # only dog is in at most a quarter of the documents outside of a cluster
        assignments = np.array([0, 0, 1, 1, 2, 2])
        texts = describe_clusters(samples, assignments, 4, terms, 3)
        assert texts == ["cat", f"dog, {ATTACK}", "cat", ""]

    def test_what_stands_in_all_documents_comes_last_however_often_it_stands_there(self):
        terms = ["the", "oil", "wheat", "gold"]
        rows = np.float32([[9, 1, 0, 0], [8, 2, 0, 0], [1, 0, 2, 0], [2, 0, 1, 0], [1, 0, 0, 3]])
        texts = describe_clusters(sparse.csr_matrix(rows), np.array([0, 0, 1, 1, 2]), 3, terms, 2)
        assert texts == ["oil, the", "wheat", "gold"]

    def test_are_on_the_page(self, documents):
        samples, terms = documents
        page = page_of(samples, terms=terms)
        points = json.loads(Elements(page).scripts[0])
        assert points["note"][0] == "cat, dog"
        assert '<p class="terms">dog, cat' in page
        assert "cat, dog <small>row</small> 0" in page


class TestPolicy:
    def test_nothing_but_this_script_may_run_and_nothing_be_loaded(self, images_page):
        elements = Elements(images_page)
        (policy,) = [a["content"] for tag, a in elements.found if a.get("http-equiv") == "Content-Security-Policy"]
        directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
        data, script = elements.scripts
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert directives == {
            "default-src": "'none'",
            "img-src": "data:",
            "style-src": "'unsafe-inline'",
            "script-src": f"'sha256-{digest}'",
            "base-uri": "'none'",
            "form-action": "'none'",
        }
        assert json.loads(data)["row"] == list(range(40))

    def test_labels_files_terms_and_options_are_text(self, images_page, documents):
        samples, terms = documents
        for page in (images_page, page_of(samples, terms=terms)):
            assert page.count("<script") == 2
            assert ATTACK not in page
        assert "even <b>" not in images_page
        assert "even &lt;b&gt;" in images_page
        points = json.loads(Elements(images_page).scripts[0])
        assert points["label"][0] == ATTACK
        assert points["note"][1] == f"{ATTACK}1.png"
        assert points["names"] == [ATTACK, "odd"]

    def test_rows_without_ids_have_no_note(self):
        assert json.loads(Elements(page_of(grey_images())).scripts[0])["note"] == []

    def test_ids_stand_beside_the_terms_and_in_place_of_the_row(self, documents):
        samples, terms = documents
        page = page_of(samples, terms=terms, ids=["k-0", "k-1", "k-2", "k-3", "k-4", "17"])
        notes = json.loads(Elements(page).scripts[0])["note"]
        assert (notes[0], notes[5]) == ("k-0\ncat, dog", "id 17")
        assert re.search(r'title="row 0, certainty [.0-9]+, class [^,]*, k-0">cat, dog k-0 <small>', page)
        assert re.search(r'title="row 5, certainty [.0-9]+, class [^,]*, id 17">id 17 <small>', page)

    def test_options_and_versions_of_the_run(self, images_page):
        text = re.sub(r"<[^>]+>", " ", images_page)
        assert re.search(r"epochs\s+3\s+views.kind", text)
        assert re.search(r"deep-clustering \S+, Python \S+, torch \S+, scikit-learn \S+, numpy \S+\.", text)


class TestPictures:
    def test_the_frame_says_where_a_dot_is(self):
        points = np.array([[0, 0], [10, 0], [0, 7], [10, 7], [8, 2]], dtype=np.float32)
        figure = draw_certainty_map(points, np.array([1.0, 1, 1, 1, 0]))
        a, b, c, d = frame_of(figure)
        content = base64.b64decode(encode_figure(figure, vector=False).split(",")[1])
        pixels = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), dtype=int)
        height, width = pixels.shape[:2]
        # the only dark blue above the colour bar is the dot of certainty 0
        is_dot = (np.abs(pixels - [0, 34, 78]).sum(axis=2) < 40) & (np.arange(height)[:, None] < 0.85 * height)
        y, x = np.argwhere(is_dot).mean(axis=0)
        assert (a * 8 + b) * width == pytest.approx(x, abs=3)
        assert (c * 2 + d) * height == pytest.approx(y, abs=3)

    def test_photographs_are_jpeg_and_all_else_is_exact(self):
        image = np.random.default_rng(0).integers(0, 256, size=(3, 20, 20), dtype=np.uint8)
        assert encode_image(image, value_range=[0, 255]).startswith("data:image/jpeg;")
        for exact in (image[:1], image[:, :8]):
            uri = encode_image(exact, value_range=[0, 255])
            pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("RGB"))
            np.testing.assert_array_equal(pixels, np.broadcast_to(exact, (3, *exact.shape[1:])).transpose(1, 2, 0))

    def test_colours_are_told_apart_without_any_kind_of_cone(self):
        """Distances in CIELAB of at least 15, several times what is just noticeable side by side."""
        values = np.array([[int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)] for colour in PALETTE])
        linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
        for kind, matrix in COLOUR_BLIND.items():
            lab = to_lab(np.clip(linear @ np.array(matrix).T, 0, 1))
            distances = np.linalg.norm(lab[:, None] - lab, axis=2)[np.triu_indices(len(PALETTE), 1)]
            assert distances.min() > 15, kind


def to_lab(linear):
    """CIELAB of linear sRGB, shape (n, 3), white D65."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear @ to_xyz.T / [0.9505, 1, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


PLACE = """(() => {
  const map = document.querySelector('.map'), box = map.getBoundingClientRect();
  const [a, b, c, d] = map.dataset.frame.split(' ').map(Number);
  return [box.left + (a * %d + b) * box.width, box.top + (c * %d + d) * box.height];
})()"""
SEEN = """(() => {
  const tip = document.getElementById('tip'), canvas = tip.querySelector('canvas');
  const copy = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  if (!canvas.hidden) copy.drawImage(canvas, 0, 0);
  const pixel = [...copy.getImageData(2, 2, 1, 1).data];
  const rings = [...document.querySelectorAll('.ring')].filter((ring) => !ring.hidden).length;
  return {hidden: tip.hidden, text: tip.innerText, pixel, rings};
})()"""


@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_shows_the_sample_under_the_pointer(browser, images_page, tmp_path, width):
    file = tmp_path / "report.html"
    file.write_text(images_page, encoding="utf-8")
    browser.requests.clear()
    browser.open(file, width=width)
    assert browser.run("document.documentElement.scrollWidth") <= width  # nothing sticks out sideways
    browser.run("document.querySelector('.map').scrollIntoView({block: 'center'})")
    browser.run("new Promise((done) => setTimeout(done, 100))")  # the scrolling hides what was shown
    browser.point(*browser.run(PLACE % (25, 1)))  # row 25 is at (25, 1), alone
    seen = browser.run(SEEN)
    assert not seen["hidden"]
    assert seen["text"].split("\n")[:2] == ["row 25", "cluster 1 (odd), certainty 0.90"]
    assert f"{ATTACK}25.png" in seen["text"]
    assert seen["pixel"] == [150, 150, 150, 255]  # 6 times its row
    assert seen["rings"] == 3
    browser.run("document.querySelector('.map').focus()")
    browser.press("ArrowRight")
    assert browser.run(SEEN)["text"].startswith("row 26\n")
    browser.press("Escape")
    assert browser.run(SEEN)["hidden"]
    assert [url for url in browser.requests if not url.startswith("data:")] == [file.as_uri()]
    assert browser.complaints == []


def test_the_policy_stops_a_script_that_is_not_ours(browser, images_page, tmp_path):
    file = tmp_path / "report.html"
    file.write_text(images_page.replace("<main>", "<main><script>document.title = 'taken'</script>"), encoding="utf-8")
    browser.open(file)
    assert browser.run("document.title") != "taken"
    assert any("Content Security Policy" in text for text in browser.complaints)
    browser.complaints.clear()

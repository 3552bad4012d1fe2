"""Labels of pictures in any script: a font that has them, or letters that every font has; never a warning or a box."""

import logging
import warnings

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.figure import Figure

from deep_clustering.reporting import figures, labels, map_figures

FAMILY = "Cat Hei Test"


@pytest.fixture(autouse=True)
def fonts(monkeypatch):
    """Only what matplotlib brings along, whatever this machine has."""
    ours = [entry for entry in font_manager.fontManager.ttflist if "matplotlib" in entry.fname]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", ours)
    labels._fonts_for.cache_clear()
    yield ours
    labels._fonts_for.cache_clear()


@pytest.fixture
def cat_font(tmp_path, fonts):
    """A font with a square for 猫 and nothing for 狗."""
    pen = TTGlyphPen(None)
    for move, point in zip(("moveTo", "lineTo", "lineTo", "lineTo"), [(0, 0), (0, 9), (9, 9), (9, 0)], strict=True):
        getattr(pen, move)((60 * point[0], 60 * point[1]))
    pen.closePath()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "cat"])
    builder.setupCharacterMap({ord("猫"): "cat"})
    glyph = pen.glyph()
    builder.setupGlyf({".notdef": glyph, "cat": glyph})
    builder.setupHorizontalMetrics({".notdef": (600, 0), "cat": (600, 0)})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": FAMILY, "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=800, usWinAscent=800, usWinDescent=200)
    builder.setupPost()
    builder.save(tmp_path / "cat.ttf")
    font_manager.fontManager.addfont(str(tmp_path / "cat.ttf"))


def draw(figure: Figure) -> list[str]:
    """Draw a figure; the messages of its warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        figures.encode_figure(figure, vector=True)
        figures.encode_figure(figure, vector=False)
    return [str(one.message) for one in caught]


@pytest.mark.parametrize("text", ["cat", "Кошка", "γάτα", "chat noir é", "$x_1$"])
def test_what_the_default_font_has_stays_as_it_is(text, caplog):
    assert labels.drawable([text], 20) == ([text], ["sans-serif"])
    assert not caplog.records


def test_a_font_that_has_them_is_taken(cat_font, caplog):
    assert labels.drawable(["猫", "cat"], 20) == (["猫", "cat"], ["sans-serif", FAMILY])
    assert not caplog.records


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("猫狗 2", "U+732B 72D7 2"),
        ("ねこ", "neko"),
        ("고양이", "goyangi"),
        ("ネコ", "neko"),
        ("ｃａｔ①", "cat①"),
        ("a猫b", "aU+732Bb"),
        ("แมว", "saraaemomawowaen"),
        ("\u200bcat\x07", "cat"),
    ],
)
def test_without_one_they_are_transliterated_or_given_by_their_codes(text, label):
    assert labels.drawable([text], 40)[0] == [label]


def test_one_line_of_the_log_says_so(caplog):
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            labels.drawable(["猫", "狗", "ok"], 14)
    (record,) = caplog.records
    assert "no installed font has 2 of their characters, such as 狗猫" in record.getMessage()
    assert "\n" not in record.getMessage()


def test_what_one_font_lacks_is_still_written_otherwise(cat_font):
    texts, families = labels.drawable(["猫狗"], 14)
    assert texts == ["猫U+72D7"]
    assert families == ["sans-serif", FAMILY]


@pytest.mark.parametrize("with_font", [True, False])
def test_pictures_of_any_names_are_drawn_without_a_warning(with_font, request):
    if with_font:
        request.getfixturevalue("cat_font")
    names = ["猫", "狗", "ねこ", "😀"]
    counts = np.eye(4, dtype=int)
    points = np.random.default_rng(0).normal(size=(8, 2))
    groups = np.arange(8) % 4
    texts = dict(enumerate(names))
    assert draw(figures.draw_confusion(counts, matched_class=[0, 1, 2, 3], class_names=names)) == []
    assert draw(map_figures.draw_map(map_figures.Painted(points, groups, {}, texts))) == []
    assert draw(figures.draw_comparison(names, {"ACC": np.arange(4.0)})) == []
    assert draw(figures.draw_intervals(names, np.arange(4.0), np.zeros((4, 2)), [np.zeros(1)] * 4)) == []


@pytest.mark.parametrize(("text", "short"), [("a  b\nc", "a b c"), ("x" * 14, "x" * 14), ("x" * 15, "x" * 13 + "…")])
def test_a_label_is_one_short_line(text, short):
    assert labels.shorten(text) == short

"""The pictures that stand in the catalog: what they show of runs with and without labels and epochs."""

import numpy as np
import pandas as pd
import pytest

from deep_clustering.reporting import certainty_figures, figures, map_figures
from deep_clustering.reporting.pictures import draw_comparison, draw_pictures

CLUSTERS = np.array([0, 0, 1, 1, 1])
LABELS = np.array([1, 1, 0, 0, 1])
CARD = {"class_names": None}


def pictures_of(labels, *, curves=None, n_points=5, **more):
    known = (labels >= 0).any()
    counts = [[0, 2], [2, 1]]
    scores = {
        "method": "some_method",
        "n_clusters": 2,
        "occupancy": [2, 3],
        "contingency": {"counts": counts, "class_names": ["a", "$b_$"], "matched_class": [1, 0]} if known else None,
        "curves": curves or {},
        **more,
    }
    points = np.random.default_rng(0).normal(size=(n_points, 2))
    map_ = {"coordinates": points, "assignments": CLUSTERS[:n_points], "labels": labels[:n_points]}
    return draw_pictures(scores, map_, CARD, {})


def texts_of(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_with_labels_the_map_is_there_twice_and_clusters_stand_by_classes():
    pictures = pictures_of(LABELS)
    assert [axes.get_title() for axes in pictures.map.axes] == [
        "by cluster",
        "by class, in the colour of the matched cluster",
    ]
    by_cluster, by_class = (axes.collections[0].get_facecolor() for axes in pictures.map.axes)
    same = (by_cluster == by_class).all(axis=1)
    assert same.tolist() == [True, True, True, True, False]  # the last row's class is matched with the other cluster
    assert set(texts_of(pictures.map)) == {"0", "1", "a", "$b_$"}
    assert sorted(texts_of(pictures.clusters)) == ["1", "2", "2"]


@pytest.mark.parametrize(("width", "named"), [(3, 30), (4, 0)])
def test_many_classes_are_named_on_maps_where_their_names_are_short(width, named):
    rows = np.arange(30)
    map_ = {"coordinates": np.zeros((30, 2)), "assignments": rows % 2, "labels": rows}
    _, of_classes = map_figures.paint(map_, [0, 1], {row: f"{row:0{width}d}" for row in rows})
    assert len(of_classes.names) == named


def test_without_labels_there_is_one_map_and_sizes_instead_of_a_confusion():
    pictures = pictures_of(np.full(5, -1))
    assert len(pictures.map.axes) == 1
    (axes,) = pictures.clusters.axes
    assert not axes.images
    assert [bar.get_height() for bar in axes.patches] == [2, 3]


def test_a_cluster_that_was_merged_on_request_is_not_called_empty():
    assert texts_of(pictures_of(np.full(5, -1), occupancy=[5, 0]).clusters) == ["5", " empty"]
    assert texts_of(pictures_of(np.full(5, -1), occupancy=[5, 0], retired=[1]).clusters) == ["5", "\N{EN DASH}"]


def test_curves_have_a_panel_each():
    history = {"epoch": [1, 2, 3], "loss": [3.0, 2.0, 1.5], "churn": [0.5, 0.2, None]}
    figure = pictures_of(LABELS, curves={"history": history, "snapshots": {}}).curves
    drawn = [axes.lines[0].get_ydata() for axes in figure.axes if axes.lines]
    np.testing.assert_array_equal(drawn, [[3, 2, 1.5], [0.5, 0.2, np.nan]])


def test_without_epochs_or_rows_the_picture_says_so():
    assert texts_of(pictures_of(LABELS).curves) == ["some_method has no epochs: nothing was recorded over them"]
    assert texts_of(pictures_of(LABELS, n_points=0).map) == ["no rows to draw"]


@pytest.mark.parametrize(
    ("columns", "order", "plotted"),
    [
        ({"acc": [0.2, 0.9, None], "nmi": [0.3, 0.5, None], "neighbour_score": [3.0, 2.0, 1.0]}, "bac", 2),
        ({"acc": [None] * 3, "neighbour_score": [1.0, 3.0, 2.0], "silhouette_of_features": [0.1, 0.2, 0.3]}, "bca", 1),
        ({"neighbour_score": [None] * 3, "silhouette_of_features": [0.1, 0.2, 0.3]}, "cba", 1),
    ],
)
def test_methods_are_compared_best_first_by_classes_or_else_without(columns, order, plotted):
    (axes,) = draw_comparison(pd.DataFrame({"method": list("abc"), **columns})).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == list(order)
    assert len(axes.lines) == plotted
    best = next(iter(name for name, values in columns.items() if values[0] is not None))
    expected = sorted((value for value in columns[best] if value is not None), reverse=True)
    assert [value for value in axes.lines[0].get_xdata() if value == value] == expected


def test_methods_without_any_score_are_not_compared():
    assert texts_of(draw_comparison(pd.DataFrame({"method": ["a"], "n_occupied": [2]}))) == ["no method has a score"]


MANY = np.arange(1.0, 2001.0)
TEN = np.linspace(0, 1, 11)
NAMES = ["a name that is longer than any label and so on and on", "Wider NAMES", "c"]
EDGES = np.array([[-1.0, 2.0], [0.1, 0.2], [np.nan, np.nan]])
DRAWN = {
    "long numbers": lambda: figures.draw_curves(MANY, {"a": -0.00123 - 1e-8 * MANY}, reference=(-0.00125, "level")),
    "millions": lambda: figures.draw_curves(1e6 * MANY, {"a": -1e6 * MANY}),
    "billionths": lambda: figures.draw_curves([0, 100_000], {"acc": [1e-9, 2e-9], "nmi": [None, 1e-9]}),
    "on a million": lambda: figures.draw_curves([1, 2], {"a": [1e6 + 0.01, 1e6 + 0.02]}),
    "nothing": lambda: figures.draw_curves([1], {"a": [None]}),
    "sizes": lambda: figures.draw_occupancy([9_234_567, 3, 0, 55_555], [3]),
    "many sizes": lambda: figures.draw_occupancy([60_000 + number for number in range(100)]),
    "confusion": lambda: figures.draw_confusion(np.eye(3, dtype=int), matched_class=[0, 1, 2], class_names=NAMES),
    "small confusion": lambda: figures.draw_confusion(np.ones((2, 1), int), matched_class=[0, -1], class_names=NAMES),
    "comparison": lambda: figures.draw_comparison(NAMES, {"ACC": np.array([-0.2, 0.9, np.nan]), "NMI": np.ones(3)}),
    "one method": lambda: figures.draw_comparison(["c"], {"Neighbour score": np.array([-123.4])}),
    "intervals": lambda: figures.draw_intervals(NAMES, np.array([0.5, 0.15, np.nan]), EDGES, [np.ones(2)] * 3),
    "reliability": lambda: certainty_figures.draw_reliability(TEN, TEN[1:], TEN[:-1], np.eye(10)[9]),
    "selection": lambda: certainty_figures.draw_selection(
        [2, 3, 4], -1e4 * TEN[1:4], 500 * TEN[1:4], 1e6 * TEN[1:4], suggested=3, n_classes=4
    ),
    "certainty": lambda: map_figures.draw_certainty_map(np.stack([MANY, MANY], axis=1), 1 - 1e-10 * MANY),
}


@pytest.mark.parametrize("name", DRAWN)
def test_no_label_is_cut_and_a_figure_is_drawn_once_when_it_is_saved(name):
    figure = DRAWN[name]()
    assert figure.get_layout_engine() is None  # it would draw it twice
    figure.draw_without_rendering()
    seen = figure.get_tightbbox()
    (width, height), slack = figure.get_size_inches(), 0.01
    assert min(seen.x0, seen.y0) > -slack
    assert seen.x1 < width + slack
    assert seen.y1 < height + slack


def test_no_label_of_curves_side_by_side_reaches_the_next():
    history = {"epoch": [1, 2, 3], "loss": [-0.00123, -0.00124, -0.001245], "churn": [1e6, 2e6, 3.5e6], "a": [1, 2, 3]}
    figure = pictures_of(LABELS, curves={"history": history, "snapshots": {}}).curves
    figure.draw_without_rendering()
    boxes = [axes.get_tightbbox() for axes in figure.axes if axes.lines]
    assert len(boxes) == 3
    assert not any(one.overlaps(other) for number, one in enumerate(boxes) for other in boxes[:number])
    width, height = figure.bbox.size
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height for box in boxes)

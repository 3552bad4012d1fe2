"""The pictures that stand in the catalog: what they show of runs with and without labels and epochs."""

import numpy as np
import pandas as pd
import pytest

from deep_clustering.reporting.pictures import draw_comparison, draw_pictures

CLUSTERS = np.array([0, 0, 1, 1, 1])
LABELS = np.array([1, 1, 0, 0, 1])
CARD = {"class_names": None}


def pictures_of(labels, *, curves=None, n_points=5):
    known = (labels >= 0).any()
    counts = [[0, 2], [2, 1]]
    scores = {
        "method": "some_method",
        "n_clusters": 2,
        "occupancy": [2, 3],
        "contingency": {"counts": counts, "class_names": ["a", "$b_$"], "matched_class": [1, 0]} if known else None,
        "curves": curves or {},
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


def test_without_labels_there_is_one_map_and_sizes_instead_of_a_confusion():
    pictures = pictures_of(np.full(5, -1))
    assert len(pictures.map.axes) == 1
    (axes,) = pictures.clusters.axes
    assert not axes.images
    assert [bar.get_height() for bar in axes.patches] == [2, 3]


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
        ({"acc": [None] * 3, "neighbour_score": [1.0, 3.0, 2.0], "silhouette": [0.1, 0.2, 0.3]}, "bca", 1),
        ({"neighbour_score": [None] * 3, "silhouette": [0.1, 0.2, 0.3]}, "cba", 1),
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

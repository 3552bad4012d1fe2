"""The pictures of a run and of a comparison that stand in the catalog by themselves, as matplotlib figures."""

from collections.abc import Mapping
from math import ceil, sqrt
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from deep_clustering.reporting import figures
from deep_clustering.reporting.hover import is_on_map
from deep_clustering.reporting.page import class_names, fixed_noise, matched_classes
from deep_clustering.reporting.panels import curves_of
from deep_clustering.reporting.texts import describe_curve, describe_metric

# Metrics that stand side by side, the first group of which a comparison has any; the first of them sorts.
_COMPARED = (("acc", "nmi", "ari"), ("neighbour_score",), ("silhouette_of_features",))
_MAX_COLUMNS = 4


class Pictures(NamedTuple):
    """The pictures of one run."""

    map: Figure
    """The rows in two dimensions by cluster, and beside it by class where classes are known."""
    clusters: Figure
    """Clusters by classes; their sizes where no classes are known."""
    curves: Figure
    """What was recorded over the epochs."""


def draw_pictures(
    scores: Mapping[str, Any],
    map_: Mapping[str, np.ndarray],
    data_card: Mapping[str, Any],
    options: Mapping[str, Any],
) -> Pictures:
    """Draw a run.

    Args:
        scores: What `deep_clustering.scores.evaluation.score_clustering` says, with the name of the method.
        map_: "coordinates" (n, 2), "assignments" and "labels" (n,), -1 for unknown.
        data_card: What the data is.
        options: The method's hyper-parameters.

    Returns:
        The pictures; where there is nothing to draw, one says so.
    """
    contingency = scores["contingency"]
    if contingency:
        matched, names = contingency["matched_class"], contingency["class_names"]
        clusters = figures.draw_confusion(
            np.asarray(contingency["counts"]), matched_class=matched, class_names=list(map(str, names))
        )
    else:
        clusters = figures.draw_occupancy(scores["occupancy"], scores.get("retired", ()))
    maps = _draw_maps(map_, matched_classes(scores), class_names(scores, data_card))
    return Pictures(maps, clusters, _draw_curves(scores, options))


def draw_comparison(table: pd.DataFrame) -> Figure:
    """Draw the scores of several methods, the best first.

    Args:
        table: One row per method, with a column "method" and one per metric.

    Returns:
        A dot plot of the agreement with classes where these are known, else of a score without labels.
    """
    for group in _COMPARED:
        measured = [name for name in group if name in table and table[name].notna().any()]
        if measured:
            ranked = table.sort_values(measured[0], ascending=False, kind="stable", na_position="last")
            metrics = {describe_metric(name).label: ranked[name].to_numpy(dtype=float) for name in measured}
            return figures.draw_comparison([str(name) for name in ranked["method"]], metrics)
    return _draw_note("no method has a score")


def _draw_maps(map_: Mapping[str, np.ndarray], matched: list[int], names: Mapping[int, str]) -> Figure:
    there = is_on_map(map_)
    points, clusters, labels = map_["coordinates"][there], map_["assignments"][there], map_["labels"][there]
    if not len(points):
        return _draw_note("no rows to draw")
    colours = {cluster: figures.PALETTE[cluster % len(figures.PALETTE)] for cluster in range(len(matched))}
    has_classes = bool((labels >= 0).any())
    figure, axes = figures.make_axes(8.2 if has_classes else 4.2, 4.3, 1, 2 if has_classes else 1)
    for one in axes:
        one.axis("off")
    figures.plot_map(axes[0], points, clusters, colours=colours, names={k: str(k) for k in colours})
    axes[0].set_title("by cluster", fontsize=10, color=figures.INK)
    if has_classes:
        of_classes = {class_: colours[cluster] for cluster, class_ in enumerate(matched) if class_ >= 0}
        texts = {int(c): names.get(int(c), str(c)) for c in np.unique(labels[labels >= 0])}
        has_room = len(texts) <= figures.MAX_ANNOTATED
        figures.plot_map(axes[1], points, labels, colours=of_classes, names=texts if has_room else {})
        axes[1].set_title("by class, in the colour of the matched cluster", fontsize=10, color=figures.INK)
    return figure


def _draw_curves(scores: Mapping[str, Any], options: Mapping[str, Any]) -> Figure:
    curves = curves_of(
        scores.get("curves") or {},
        scores["n_clusters"],
        is_suggested=bool(scores.get("selection")),
        pair_noise=fixed_noise(options),
    )
    if not curves:
        return _draw_note(f"{scores['method']} has no epochs: nothing was recorded over them")
    n_columns = min(_MAX_COLUMNS, ceil(sqrt(len(curves))))
    n_rows = ceil(len(curves) / n_columns)
    width, height = 3.3 * n_columns, 2.4 * n_rows
    edges = {"left": 0.6 / width, "right": 1 - 0.15 / width, "bottom": 0.5 / height, "top": 1 - 0.35 / height}
    spaces = {"wspace": 0.25, "hspace": 0.6}
    figure, axes = figures.make_axes(width, height, n_rows, n_columns, gridspec_kw=edges | spaces)
    figure.set_layout_engine("none")  # the constrained one takes a second for so many axes
    for one, curve in zip(axes, curves, strict=False):
        figures.plot_curves(one, curve.epoch, curve.series, curve.reference)
        one.set_title(describe_curve(curve.name)[0], fontsize=10, color=figures.INK)
    for one in axes[len(curves) :]:
        one.axis("off")
    return figure


def _draw_note(text: str) -> Figure:
    figure, (axes,) = figures.make_axes(4.8, 0.9, 1, 1)
    axes.axis("off")
    axes.text(0.5, 0.5, text, ha="center", va="center", fontsize=10, color=figures.INK, parse_math=False)
    return figure

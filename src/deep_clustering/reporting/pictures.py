"""The pictures of a run and of a comparison that stand in the catalog by themselves, as matplotlib figures."""

from collections.abc import Mapping
from math import ceil, sqrt
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from deep_clustering.reporting import figures
from deep_clustering.reporting.map_figures import make_maps, paint, plot_map
from deep_clustering.reporting.page import class_names, fixed_noise, matched_classes
from deep_clustering.reporting.panels import curves_of
from deep_clustering.reporting.texts import describe_curve, describe_metric

# Metrics that stand side by side, the first group of which a comparison has any; the first of them sorts.
PLOTTED = (("acc", "nmi", "ari"), ("neighbour_score",), ("silhouette_of_features",))
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
    ranked, _ = rank_methods(table.set_index("method"))
    plotted = plotted_metrics(ranked)
    if not plotted:
        return _draw_note("no method has a score")
    return figures.draw_comparison([str(name) for name in ranked.index], plotted)


def rank_methods(table: pd.DataFrame) -> tuple[pd.DataFrame, str | None]:
    """Sort methods by accuracy where it is known, else by the score of neighbours, else by the silhouette of features.

    Args:
        table: One row per method, a column per metric.

    Returns:
        ranked: the table, best first; a method without the value comes last.
        key: the metric, None if there is none of them: then the order stays.
    """
    key = next((group[0] for group in PLOTTED if group[0] in table and table[group[0]].notna().any()), None)
    if key is None:
        return table, None
    return table.sort_values(key, ascending=False, kind="stable", na_position="last"), key


def plotted_metrics(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """Values of the metrics that are drawn side by side, by their labels: of classes, or else without labels."""
    for group in PLOTTED:
        measured = [name for name in group if name in table and table[name].notna().any()]
        if measured:
            return {describe_metric(name).label: table[name].to_numpy(dtype=float) for name in measured}
    return {}


def _draw_maps(map_: Mapping[str, np.ndarray], matched: list[int], names: Mapping[int, str]) -> Figure:
    painted = paint(map_, matched, names)
    if not painted:
        return _draw_note("no rows to draw")
    figure, grid = make_maps(4.1 * len(painted), 4.3, len(painted), has_titles=True)
    titles = ("by cluster", "by class, in the colour of the matched cluster")
    for axes, one, title in zip(grid, painted, titles, strict=False):
        plot_map(axes, one)
        axes.set_title(title, fontsize=10, color=figures.INK)
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
    figure, axes = figures.make_axes(3.3 * n_columns, 2.4 * n_rows, n_rows, n_columns)
    for one, curve in zip(axes, curves, strict=False):
        figures.plot_curves(one, curve.epoch, curve.series, curve.reference)
        one.set_title(describe_curve(curve.name)[0], fontsize=10, color=figures.INK)
    for one in axes[len(curves) :]:
        one.axis("off")
    figures.fit_numbers(figure, list(axes), n_columns=n_columns, above=0.35)
    return figure


def _draw_note(text: str) -> Figure:
    figure, (axes,) = make_maps(4.8, 0.9)
    axes.text(0.5, 0.5, text, ha="center", va="center", fontsize=10, color=figures.INK, parse_math=False)
    return figure

"""The comparison of all methods on one data set, as one HTML page."""

from collections.abc import Collection, Mapping
from typing import Any

import pandas as pd

from deep_clustering.reporting import figures
from deep_clustering.reporting.page import address_of, render
from deep_clustering.reporting.panels import Panel, make_panel
from deep_clustering.reporting.pictures import plotted_metrics, rank_methods
from deep_clustering.reporting.shared_map import SharedMap, shared_panels
from deep_clustering.reporting.texts import describe_metric, format_number

# What compares: scores against the same labels, or in a space that is the same for all. Values that a method gives of
# itself, such as the silhouette of its latent, or how many rows moved between its last snapshots, do not.
COMPARED = ("acc", "nmi", "ari", "purity", "neighbour_score", "silhouette_of_features", "n_occupied", "largest_share")
COST = ("cpu_seconds", "peak_memory_mb")
WHOLE = ("n_occupied", "peak_memory_mb")
_ADVICE = ("Kind", "Neighbour score", "95 % interval", "By chance", "Pairs in one cluster", "Clusters")


def write_comparison(
    *,
    table: pd.DataFrame,
    all_scores: Mapping[str, Mapping[str, Any]],
    recommendation: Mapping[str, Any] | None = None,
    failures: Mapping[str, str] | None = None,
    agreement: Mapping[str, Mapping[str, float]] | None = None,
    shared_map: SharedMap | None = None,
    reported: Collection[str] = (),
) -> str:
    """One self-contained HTML page: what is recommended, maps side by side, then methods by metrics, the best first.

    Sorted by acc where it is present, else by the score of neighbours, else by the silhouette of the features; a method
    without that value comes last.

    Args:
        table: one row per method, named by a column "method" or by the index; columns that do not compare are left out.
        all_scores: scores of each method, for its warnings and to check that all runs saw the same data.
        recommendation: what `deep_clustering.scores.recommending.make_recommendation` says; None for no advice.
        failures: what went wrong with methods that are missing, by name.
        agreement: adjusted Rand index of each two methods; None leaves it out.
        shared_map: the rows in the plane, needs `agreement`; None leaves it out.
        reported: methods whose own page the same run writes; the others are not linked.

    Returns:
        The page, with every text that comes from the data escaped.

    Raises:
        ValueError: if the table has no rows.
    """
    if table.empty:
        raise ValueError("write_comparison: expected at least one method in the table, got none")
    named = table.set_index("method") if "method" in table.columns else table
    metrics = named[[name for name in (*COMPARED, *COST) if name in named and named[name].notna().any()]].astype(float)
    metrics, key = rank_methods(metrics)
    order = [str(name) for name in metrics.index]
    linked = set(reported) - set(failures or {})
    texts = [describe_metric(str(name)) for name in metrics.columns]
    return render(
        "comparison.html.jinja",
        methods=_rows(metrics),
        columns=[(text.label, text.sentence) for text in texts],
        sorted_by=describe_metric(key).label if key else "the order of the runs",
        data_sets=_listed(all_scores, "data_set"),
        seeds=_listed(all_scores, "seed"),
        recommendation=_advice(recommendation) if recommendation else None,
        addresses={name: address_of(name) if name in linked else "" for name in order},
        alarms=_failed(failures or {}) + _alarms(all_scores),
        panel=_panel(metrics),
        agreement=[(name, [agreement[name][other] for other in order]) for name in order] if agreement else None,
        maps=shared_panels(shared_map, order, agreement, (recommendation or {}).get("method"))
        if shared_map and agreement
        else [],
        n_mapped=len(shared_map.coordinates) if shared_map else 0,
        reference=shared_map.reference if shared_map else "",
    )


def tabulate(
    all_scores: Mapping[str, Mapping[str, Any]],
    recommendation: Mapping[str, Any],
    silhouettes: Mapping[str, float | None],
) -> pd.DataFrame:
    """A row for each method: its metrics but the silhouette in its own space, what compares without labels, and cost.

    Args:
        all_scores: scores of each method.
        recommendation: what `deep_clustering.scores.recommending.make_recommendation` says.
        silhouettes: silhouette of each method in the space of the features.

    Returns:
        The table, with the column "method".
    """
    label_free = {name: one["score"] for name, one in recommendation["scores"].items()}
    rows = []
    for name, scores in all_scores.items():
        metrics = {key: value for key, value in scores["metrics"].items() if key != "silhouette"}
        cost = {key: (scores.get("cost") or {}).get(key) for key in COST}
        shared = {"silhouette_of_features": silhouettes[name], "neighbour_score": label_free.get(name)}
        rows.append({"method": name, **metrics, **shared, **cost})
    return pd.DataFrame(rows)


def _advice(recommendation: Mapping[str, Any]) -> dict[str, Any]:
    """First lines of the page, and a row of cells for each method, best first."""
    rows = []
    for name, one in recommendation["scores"].items():
        low, high = (format_number(value) for value in one["interval"])
        agreement = recommendation["agreement"].get(name)
        figures = (one["score"], one["chance"], one["same_cluster"], agreement)
        score, chance, same, agreement = (format_number(value) for value in figures)
        kind = "baseline" if one["is_baseline"] else "neural"
        cells = [kind, score, f"{low} to {high}", chance, same, str(one["n_clusters"]), agreement]
        rows.append({"name": name, "is_taken": name == recommendation["method"], "cells": cells})
    return {**recommendation, "rows": rows, "labels": [*_ADVICE, f"ARI with {recommendation['method']}"]}


def _failed(failures: Mapping[str, str]) -> list[str]:
    return [f"{name} failed and was left out: {message}" for name, message in failures.items()]


def _rows(metrics: pd.DataFrame) -> list[dict[str, Any]]:
    """Name and cells (text, is best, label) of each method; values that read the same rank the same."""
    shown = metrics.round(3)
    ranking = [name for name in shown if describe_metric(str(name)).ranks and shown[name].nunique() > 1]
    best = shown[ranking].max()
    rows = []
    for method, values in shown.iterrows():
        cells = []
        for name, value in values.items():
            text = _cell(str(name), value)
            cells.append((text, value == best.get(name), describe_metric(str(name)).label))
        rows.append({"name": str(method), "cells": cells})
    return rows


def _cell(name: str, value: float) -> str:
    if value == value and name in WHOLE:
        return format_number(round(value))
    return f"{value:,.1f}" if value == value and name == "cpu_seconds" else format_number(value)


def _panel(metrics: pd.DataFrame) -> Panel | None:
    """Dot plot of the supervised metrics, or else of the label-free ones; None without either."""
    plotted = plotted_metrics(metrics)
    if not plotted:
        return None
    figure = figures.draw_comparison([str(name) for name in metrics.index], plotted)
    alt = f"Dot plot of {', '.join(plotted)} for {len(metrics)} methods; the values are those of the table."
    caption = "Further right is better. The rows are in the order of the table."
    return make_panel("", figure, alt=alt, caption=caption)


def _alarms(all_scores: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Collapsed runs, warnings of runs, and runs that do not compare."""
    alarms = []
    for key, name in (("data_sha256", "data"), ("seed", "seed"), ("protocol", "protocol")):
        if len({str(scores.get(key)) for scores in all_scores.values()}) > 1:
            alarms.append(f"The runs do not share one {name}: compare them with care.")
    for scores in all_scores.values():
        if scores["collapsed"]:
            alarms.append(f"{scores['method']} collapsed.")
        alarms.extend(f"{scores['method']}: {warning}" for warning in scores["warnings"])
    return alarms


def _listed(all_scores: Mapping[str, Mapping[str, Any]], key: str) -> str:
    return ", ".join(sorted({str(scores[key]) for scores in all_scores.values()}))

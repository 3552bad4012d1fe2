"""A run's scores: label-free always, against ground truth where it is known."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from deep_clustering import metrics
from deep_clustering.checks import check_labels
from deep_clustering.cost import costs_of
from deep_clustering.methods import is_curve
from deep_clustering.options import build, check_range
from deep_clustering.sources.samples import ASSIGNED, FITTED

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """Options of the evaluation."""

    silhouette_samples: int
    """Samples used for the silhouette at most."""

    def __post_init__(self) -> None:
        check_range("silhouette_samples", self.silhouette_samples, 10)


def score_clustering(
    assignments: np.ndarray,
    representation: Mapping[str, np.ndarray],
    history: Mapping[str, np.ndarray],
    labels: np.ndarray,
    split: np.ndarray,
    data_card: Mapping[str, Any],
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Everything that is said of a clustering in figures.

    Args:
        assignments: Cluster of each sample, shape (n_samples,).
        representation: "latent" and "responsibilities" of each sample.
        history: Columns per epoch, snapshots of the assignments and costs.
        labels: Class of each sample, -1 where unknown; unknown samples count only in the label-free scores.
        split: What each sample is for: the final scores are of those assigned, the curves of those fitted.
        data_card: Says how many classes there are.
        options: Fields of `EvaluationOptions`.

    Returns:
        "metrics", "collapsed", "warnings", "occupancy", "contingency", "curves" and "cost", all plain JSON values.

    Raises:
        ValueError: if labels, assignments or options do not fit.
    """
    evaluation = build(EvaluationOptions, options, "evaluation")
    check_labels(labels, len(assignments), "evaluation")
    n_clusters = representation["responsibilities"].shape[1]
    curves = {
        "history": _columns(history),
        "snapshots": _snapshot_curves(history, labels[(split & FITTED) > 0], n_clusters, data_card),
    }
    oracle_gap = _oracle_gap(history, labels[(split & FITTED) > 0], n_clusters, data_card)
    is_assigned = (split & ASSIGNED) > 0
    assignments, labels, latent = assignments[is_assigned], labels[is_assigned], representation["latent"][is_assigned]
    counts = metrics.occupancy(assignments, n_clusters)
    warnings = metrics.collapse_warnings(counts)
    for warning in warnings:
        logger.warning("collapse: %s (occupancy %s)", warning, counts.tolist())
    values = _label_free(assignments, latent, history, counts, evaluation)
    known = labels >= 0
    contingency = None
    if known.any():
        n_classes = int(data_card["n_classes"])
        values = metrics.labelled_scores(assignments[known], labels[known], n_clusters, n_classes) | values
        values |= oracle_gap
        contingency = _contingency(assignments[known], labels[known], n_clusters, data_card)
    return {
        "n_samples": len(assignments),
        "n_clusters": n_clusters,
        "metrics": values,
        "collapsed": bool(warnings),
        "warnings": warnings,
        "occupancy": counts.tolist(),
        "contingency": contingency,
        "curves": curves,
        "cost": costs_of(history),
    }


def _label_free(
    assignments: np.ndarray,
    latent: np.ndarray,
    history: Mapping[str, np.ndarray],
    counts: np.ndarray,
    evaluation: EvaluationOptions,
) -> dict[str, float]:
    values: dict[str, float | None] = {
        "n_occupied": int((counts > 0).sum()),
        "balance": metrics.balance(counts),
        "largest_share": float(counts.max() / counts.sum()),
        "silhouette": metrics.silhouette(latent, assignments, evaluation.silhouette_samples, seed=0),
    }
    snapshots = history["snapshot_assignments"]
    if len(snapshots) >= 2:
        values["stability"] = 1 - metrics.churn(snapshots[-2], snapshots[-1], len(counts))
    # The last epoch's value of each diagnostic that says how good the fit is.
    for name in ("log_likelihood", "agreement", "within_share", "js_divergence"):
        if len(history.get(name, ())):
            values[name] = float(history[name][-1])
    values |= {
        name.removeprefix("final_"): float(value) for name, value in history.items() if name.startswith("final_")
    }
    return {name: value for name, value in values.items() if value is not None}


def _contingency(
    assignments: np.ndarray, labels: np.ndarray, n_clusters: int, data_card: Mapping[str, Any]
) -> dict[str, Any]:
    counts = metrics.contingency(assignments, labels, n_clusters, int(data_card["n_classes"]))
    return {
        "counts": counts.tolist(),
        "class_names": list(data_card["class_names"]),
        "matched_class": metrics.match_clusters(counts).tolist(),
    }


def _oracle_gap(
    history: Mapping[str, np.ndarray], labels: np.ndarray, n_clusters: int, data_card: Mapping[str, Any]
) -> dict[str, float]:
    """What the choice without labels among a fit's candidates cost: the best accuracy minus the chosen one's."""
    candidates, known = history.get("candidate_assignments", np.zeros((0, 0))), labels >= 0
    if len(candidates) < 2 or not known.any():
        return {}
    accuracies = [
        metrics.labelled_scores(candidate[known], labels[known], n_clusters, int(data_card["n_classes"]))["acc"]
        for candidate in candidates
    ]
    chosen = int(np.argmax(history["candidate_scores"]))
    return {"candidate_acc_mean": float(np.mean(accuracies)), "oracle_gap": max(accuracies) - accuracies[chosen]}


def _columns(history: Mapping[str, np.ndarray]) -> dict[str, list[float]]:
    return {name: column.tolist() for name, column in history.items() if is_curve(name)}


def _snapshot_curves(
    history: Mapping[str, np.ndarray], labels: np.ndarray, n_clusters: int, data_card: Mapping[str, Any]
) -> dict[str, list[float]]:
    """Scores of each snapshot; churn is the share of samples that moved since the one before."""
    snapshots, known = history["snapshot_assignments"], labels >= 0
    curves: dict[str, list[float]] = {"epoch": history["snapshot_epoch"].tolist(), "n_occupied": [], "churn": []}
    for index, snapshot in enumerate(snapshots):
        before = snapshots[index - 1] if index else snapshot
        curves["n_occupied"].append(int((metrics.occupancy(snapshot, n_clusters) > 0).sum()))
        curves["churn"].append(metrics.churn(before, snapshot, n_clusters))
        if known.any():
            scores = metrics.labelled_scores(snapshot[known], labels[known], n_clusters, int(data_card["n_classes"]))
            for name in ("acc", "nmi", "ari"):
                curves.setdefault(name, []).append(scores[name])
    return curves

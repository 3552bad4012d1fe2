"""A run's scores: label-free always, against ground truth where it is known."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge

from deep_clustering.checks import check_labels
from deep_clustering.data.sources.samples import ASSIGNED, FITTED
from deep_clustering.methods import is_curve
from deep_clustering.options import build
from deep_clustering.scores import metrics
from deep_clustering.scores.cost import costs_of
from deep_clustering.scores.number_of_clusters import describe_selection, selection_metrics

logger = logging.getLogger(__name__)

# Equally wide bins of confidence in the calibration error.
_CONFIDENCE_BINS = 15


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """Options of the evaluation."""

    silhouette_samples: Annotated[int, Ge(10)]
    """Samples used for the silhouette at most."""


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
        representation: "latent", "responsibilities" and "certainty" of each sample; the largest responsibility stands
            in for a certainty that is missing.
        history: Columns per epoch, snapshots of the assignments, candidates, a selection and costs.
        labels: Class of each sample, -1 where unknown; unknown samples count only in the label-free scores.
        split: What each sample is for: the final scores are of those assigned, the curves of those fitted.
        data_card: Says how many classes there are.
        options: Fields of `EvaluationOptions`.

    Returns:
        "metrics", "collapsed", "warnings", "occupancy", "retired" (numbers whose clusters went into others), "feedback"
        (parameters that change the clusters in the same way again), "contingency", "reliability" (None without labels
        or of a hard clustering without certainties), "selection" (None unless the number of clusters was a range),
        "candidates" (empty if there was nothing to choose from), "curves" and "cost", all plain JSON values.

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
    candidates = _candidates(history, labels[(split & FITTED) > 0], n_clusters, data_card)
    is_assigned = (split & ASSIGNED) > 0
    assignments, labels, latent = assignments[is_assigned], labels[is_assigned], representation["latent"]
    if not is_assigned.all():  # else no copy of what may be a map
        latent = latent[is_assigned]
    counts = metrics.occupancy(assignments, n_clusters)
    there = np.delete(counts, representation.get("retired", []))  # a number whose cluster is gone is no empty cluster
    values = _label_free(assignments, latent, history, there, evaluation)
    warnings = metrics.collapse_warnings(there, *_explained(values))
    for warning in warnings:
        logger.warning("collapse: %s (occupancy %s)", warning, there.tolist())
    contingency, table, n_classes = None, None, None
    if (known := labels >= 0).any():
        n_classes = int(data_card["n_classes"])
        pairs, confidence = (assignments[known], labels[known]), _confidence(representation)
        of_pairs = None if confidence is None else confidence[is_assigned][known]
        labelled, table = _against_labels(*pairs, of_pairs, n_clusters, n_classes)
        values = labelled | values | _oracle_gap(candidates)
        contingency = _contingency(*pairs, n_clusters, data_card)
    selection = describe_selection(history, n_clusters, n_classes)
    if selection:
        values |= selection_metrics(selection)
    return {
        "n_samples": len(assignments),
        "n_clusters": len(there),
        "metrics": values,
        "collapsed": bool(warnings),
        "warnings": warnings,
        "occupancy": counts.tolist(),
        "retired": np.asarray(representation.get("retired", []), dtype=np.int64).tolist(),
        "feedback": str(history.get("under_feedback", "")),
        "contingency": contingency,
        "reliability": _plain(table) if table else None,
        "selection": selection,
        "candidates": candidates,
        "curves": curves,
        "cost": costs_of(history),
    }


def _against_labels(
    assignments: np.ndarray, labels: np.ndarray, confidence: np.ndarray | None, n_clusters: int, n_classes: int
) -> tuple[dict[str, float], metrics.Reliability | None]:
    """Scores of rows whose class is known, and the reliability of their certainties if there are any."""
    scores = metrics.labelled_scores(assignments, labels, n_clusters, n_classes)
    if confidence is None:
        return scores, None
    is_right = metrics.is_matched(assignments, labels, n_clusters, n_classes)
    table = metrics.reliability(confidence, is_right, _CONFIDENCE_BINS)
    return scores | {"ece": metrics.expected_calibration_error(table)}, table


def _confidence(representation: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """Certainty of each sample, or what versions without it have: the largest responsibility, unless all are hard."""
    if "certainty" in representation:
        return representation["certainty"]
    responsibilities = representation["responsibilities"]
    return None if metrics.is_hard(responsibilities) else responsibilities.max(axis=1)


def _label_free(
    assignments: np.ndarray,
    latent: np.ndarray,
    history: Mapping[str, np.ndarray],
    counts: np.ndarray,
    evaluation: EvaluationOptions,
) -> dict[str, float]:
    values: dict[str, float | None] = {
        **metrics.occupancy_scores(counts),
        "silhouette": metrics.silhouette(latent, assignments, evaluation.silhouette_samples, seed=0),
    }
    snapshots = history["snapshot_assignments"]
    if len(snapshots) >= 2:
        n_clusters = _n_clusters(snapshots[-2:], len(counts))
        values["stability"] = 1 - metrics.churn(snapshots[-2], snapshots[-1], n_clusters)
    # The last epoch's value of each diagnostic that says how good the fit is.
    for name in ("log_likelihood", "agreement", "within_share", "js_divergence"):
        if len(history.get(name, ())):
            values[name] = float(history[name][-1])
    values |= {
        name.removeprefix("final_"): float(value) for name, value in history.items() if name.startswith("final_")
    }
    return {name: value for name, value in values.items() if value is not None}


def _explained(values: Mapping[str, float]) -> list[float]:
    """What the clusters of two views of a sample share and what they would by chance, if the method says so."""
    names = ("view_information", "chance_information")
    return [values[name] for name in names] if values.keys() >= set(names) else []


def _contingency(
    assignments: np.ndarray, labels: np.ndarray, n_clusters: int, data_card: Mapping[str, Any]
) -> dict[str, Any]:
    counts = metrics.contingency(assignments, labels, n_clusters, int(data_card["n_classes"]))
    return {
        "counts": counts.tolist(),
        "class_names": list(data_card["class_names"]),
        "matched_class": metrics.match_clusters(counts).tolist(),
    }


def _plain(table: metrics.Reliability) -> dict[str, list[float | None]]:
    return {name: [None if np.isnan(v) else v for v in column.tolist()] for name, column in table._asdict().items()}


def _n_clusters(assignments: np.ndarray, kept: int) -> int:
    """Number of clusters of assignments of the training, where there may be more of them than were kept."""
    return max(kept, int(assignments.max(initial=-1)) + 1)


def _scores(
    assignments: np.ndarray, labels: np.ndarray, n_clusters: int, data_card: Mapping[str, Any]
) -> dict[str, float]:
    n_classes = int(data_card["n_classes"])
    return metrics.labelled_scores(assignments, labels, _n_clusters(assignments, n_clusters), n_classes)


def _candidates(
    history: Mapping[str, np.ndarray], labels: np.ndarray, n_clusters: int, data_card: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """What a fit chose from without labels: origin, score, whether it was chosen, and accuracy where it is known."""
    assignments, known = history.get("candidate_assignments", np.zeros((0, 0))), labels >= 0
    if len(assignments) < 2:
        return []
    scores = history["candidate_scores"]
    origins = str(history["candidate_origins"]).split("\n") if "candidate_origins" in history else [""] * len(scores)
    return [
        {
            "origin": origin,
            "score": float(score) if np.isfinite(score) else None,
            "is_chosen": place == int(np.argmax(scores)),
            "acc": _scores(of_rows[known], labels[known], n_clusters, data_card)["acc"] if known.any() else None,
        }
        for place, (origin, score, of_rows) in enumerate(zip(origins, scores, assignments, strict=True))
    ]


def _oracle_gap(candidates: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """What the choice without labels among a fit's candidates cost: the best accuracy minus the chosen one's."""
    accuracies = [candidate["acc"] for candidate in candidates]
    if not candidates or None in accuracies:
        return {}
    chosen = next(candidate["acc"] for candidate in candidates if candidate["is_chosen"])
    return {"candidate_acc_mean": float(np.mean(accuracies)), "oracle_gap": max(accuracies) - chosen}


def _columns(history: Mapping[str, np.ndarray]) -> dict[str, list[float]]:
    return {name: column.tolist() for name, column in history.items() if is_curve(name)}


def _snapshot_curves(
    history: Mapping[str, np.ndarray], labels: np.ndarray, n_clusters: int, data_card: Mapping[str, Any]
) -> dict[str, list[float]]:
    """Scores of each snapshot, which may have more clusters than were kept.

    Churn is the share of samples that moved since the snapshot before.
    """
    snapshots, known = history["snapshot_assignments"], labels >= 0
    n_clusters = _n_clusters(snapshots, n_clusters)
    curves: dict[str, list[float]] = {"epoch": history["snapshot_epoch"].tolist(), "n_occupied": [], "churn": []}
    for index, snapshot in enumerate(snapshots):
        before = snapshots[index - 1] if index else snapshot
        curves["n_occupied"].append(int((metrics.occupancy(snapshot, n_clusters) > 0).sum()))
        curves["churn"].append(metrics.churn(before, snapshot, n_clusters))
        if known.any():
            scores = _scores(snapshot[known], labels[known], n_clusters, data_card)
            for name in ("acc", "nmi", "ari"):
                curves.setdefault(name, []).append(scores[name])
    return curves

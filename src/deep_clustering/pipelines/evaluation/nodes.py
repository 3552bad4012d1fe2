"""Nodes of the evaluation pipeline."""

from typing import Any

import numpy as np


def score(
    assignments: np.ndarray,
    representation: dict[str, np.ndarray],
    history: dict[str, np.ndarray],
    labels: np.ndarray,
    split: np.ndarray,
    data_card: dict[str, Any],
    options: dict[str, Any],
    evaluation: dict[str, Any],
) -> dict[str, Any]:
    """Score a clustering, with its method, seed and data beside the figures.

    Args:
        assignments: Cluster of each sample.
        representation: Latent and responsibilities of each sample.
        history: Diagnostics per epoch and snapshots.
        labels: Class of each sample, -1 where unknown.
        split: What each sample is for: final scores are of those to be assigned, curves of those fitted.
        data_card: What the data is.
        options: The method's hyper-parameters.
        evaluation: Options of the evaluation.

    Returns:
        Plain JSON values, see `deep_clustering.scores.evaluation.score_clustering`.
    """
    from deep_clustering.scores.evaluation import score_clustering

    return {
        "method": options["method"],
        "data_set": data_card["name"],
        "data_sha256": data_card["sha256"]["samples"],
        "protocol": data_card["protocol"],
        "seed": options.get("seed"),
        **score_clustering(assignments, representation, history, labels, split, data_card, evaluation),
    }

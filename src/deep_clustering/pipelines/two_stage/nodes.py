"""Nodes of the two-stage pipeline."""

from typing import Any

import numpy as np

from deep_clustering.data.preparation import Preparation
from deep_clustering.methods import Model


def learn(
    features: np.ndarray,
    split: np.ndarray,
    row_weights: np.ndarray,
    options: dict[str, Any],
    checkpoints: dict[str, Any],
) -> tuple[Model, dict[str, np.ndarray]]:
    """Let a trunk learn from the rows, without clusters.

    Args:
        features: Rows, shape (n_samples, ...), float32.
        split: What each row is for; only those to be fitted are used.
        row_weights: How much each row counts, shape (n_samples,), float32.
        options: Fields of `deep_clustering.methods.trunk.Trunk`.
        checkpoints: Options, see `deep_clustering.training.checkpoints.CheckpointOptions`.

    Returns:
        trunk: its options and weights as plain data.
        history: its loss per epoch, and what the fit cost.
    """
    from deep_clustering.data.sources import select_fitted
    from deep_clustering.methods.trunk import make_trunk, trunk_options
    from deep_clustering.options import build
    from deep_clustering.scores.cost import measure_cost
    from deep_clustering.training.checkpoints import CheckpointOptions, Checkpoints

    trunk, weights = make_trunk(options), select_fitted(row_weights, split)
    kept = Checkpoints(build(CheckpointOptions, checkpoints, "checkpoints"), trunk.name)
    is_weighted = bool((weights != weights[0]).any())
    with measure_cost() as cost:
        trunk.fit(select_fitted(features, split), kept, weights if is_weighted else None)
    return Model(trunk.name, trunk_options(trunk), trunk.get_arrays()), trunk.history_ | cost


def embed(
    features: np.ndarray, split: np.ndarray, preparation: Preparation, trunk: Model
) -> tuple[np.ndarray, Preparation]:
    """Turn rows into what the trunk makes of them.

    Args:
        features: Rows, shape (n_samples, ...), float32.
        split: What each row is for.
        preparation: How samples became these rows.
        trunk: What `learn` gave.

    Returns:
        features: rows of length one about the mean, shape (n_samples, n_latent), float32.
        preparation: how samples become such rows.
    """
    from deep_clustering.data.preparation import embed_rows

    return embed_rows(features, split, preparation, trunk.options, trunk.arrays)


def choose_certain(
    assignments: np.ndarray, representation: dict[str, np.ndarray], options: dict[str, Any]
) -> np.ndarray:
    """Choose the rows whose clusters the trunk is to learn.

    Args:
        assignments: Cluster of each sample by heads on the trunk.
        representation: With "log_odds", how much likelier its cluster is than the next.
        options: Of the training that follows; its start says how many are chosen.

    Returns:
        Cluster of each sample, -1 for those that are not chosen, shape (n_samples,), int64.
    """
    from deep_clustering.methods.partitions import most_certain

    return most_certain(assignments, representation["log_odds"], options["start"]["core"])

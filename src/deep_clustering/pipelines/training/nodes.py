"""Nodes of the training pipeline."""

from typing import Any

import numpy as np

from deep_clustering.data.preparation import Preparation
from deep_clustering.inference.predictor import Predictor
from deep_clustering.methods import Model


def fit(
    features: np.ndarray,
    split: np.ndarray,
    neighbours: np.ndarray,
    options: dict[str, Any],
    checkpoints: dict[str, Any],
) -> tuple[Model, dict[str, np.ndarray]]:
    """Fit a method to the rows.

    Args:
        features: Rows, shape (n_samples, ...), float32.
        split: What each row is for; only those to be fitted are used.
        neighbours: Nearest of the fitted rows to each of them, shape (n_fitted, k).
        options: `method`, a key of `METHODS`, and every hyper-parameter of it.
        checkpoints: Options, see `deep_clustering.training.checkpoints.CheckpointOptions`.

    Returns:
        model: the fitted method as plain data.
        history: diagnostics per epoch, snapshots of the assignments, and what the fit cost.
    """
    from deep_clustering.data.sources import select_fitted
    from deep_clustering.methods import make_method, save_method
    from deep_clustering.options import build
    from deep_clustering.scores.cost import measure_cost
    from deep_clustering.training.checkpoints import CheckpointOptions, Checkpoints

    estimator, rows = make_method(options), select_fitted(features, split)
    kept = Checkpoints(build(CheckpointOptions, checkpoints, "checkpoints"), options["method"])
    with measure_cost() as cost:
        estimator.fit(rows, neighbours, kept)
    return save_method(estimator), estimator.history_ | cost


def assign(model: Model, features: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Apply a fitted method to the rows.

    Args:
        model: The fitted method as plain data.
        features: Rows, shape (n_samples, ...), float32.

    Returns:
        assignments: cluster of each row, shape (n_samples,), int64.
        representation: "latent" (n_samples, latent_dim) and "responsibilities" (n_samples, n_clusters), float32.
    """
    from deep_clustering.methods import load_method

    described = load_method(model).describe(features)
    return described.assignments, {"latent": described.latent, "responsibilities": described.responsibilities}


def bundle(
    model: Model,
    preparation: Preparation,
    history: dict[str, np.ndarray],
    features: np.ndarray,
    split: np.ndarray,
    options: dict[str, Any],
) -> Predictor:
    """Join a fitted method and the preparation of its rows to what takes raw rows.

    Args:
        model: The fitted method as plain data.
        preparation: How samples became rows.
        history: Diagnostics of the training, with its label-free score.
        features: Rows, shape (n_samples, ...), float32.
        split: What each row is for.
        options: Options, see `deep_clustering.inference.predictor.PredictorOptions`.

    Returns:
        The predictor as plain data.
    """
    from deep_clustering.inference.predictor import PredictorOptions, make_predictor
    from deep_clustering.options import build

    chosen = build(PredictorOptions, options, "predictor")
    return make_predictor(model, preparation, history, features, split, chosen)

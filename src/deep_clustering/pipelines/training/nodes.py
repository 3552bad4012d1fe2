"""Nodes of the training pipeline."""

from typing import Any

import numpy as np

from deep_clustering.methods import Model


def fit(
    features: np.ndarray, split: np.ndarray, neighbours: np.ndarray, options: dict[str, Any]
) -> tuple[Model, dict[str, np.ndarray]]:
    """Fit a method to the rows.

    Args:
        features: Rows, shape (n_samples, ...), float32.
        split: What each row is for; only those to be fitted are used.
        neighbours: Nearest of the fitted rows to each of them, shape (n_fitted, k).
        options: `method`, a key of `METHODS`, and every hyper-parameter of it.

    Returns:
        model: the fitted method as plain data.
        history: diagnostics per epoch and snapshots of the assignments.
    """
    from deep_clustering.methods import make_method, save_method
    from deep_clustering.sources import select_fitted

    estimator = make_method(options).fit(select_fitted(features, split), neighbours)
    return save_method(estimator), estimator.history_


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

    estimator = load_method(model)
    representation = {
        "latent": estimator.transform(features),
        "responsibilities": estimator.predict_proba(features),
    }
    return estimator.predict(features), representation

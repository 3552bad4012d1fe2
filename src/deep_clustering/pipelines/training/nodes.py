"""Nodes of the training pipeline."""

import logging
from typing import Any

import numpy as np

from deep_clustering.data.preparation import Preparation
from deep_clustering.inference.predictor import Predictor
from deep_clustering.methods import Model

logger = logging.getLogger(__name__)

# Clusters whose names a log line has.
_NAMED = 20


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
        representation: "latent" (n_samples, latent_dim) and "responsibilities" (n_samples, n_clusters), float32;
            of a method with densities also "log_density" (n_samples,), in nats.
    """
    from deep_clustering.methods import load_method

    described = load_method(model).describe(features)
    representation = {"latent": described.latent, "responsibilities": described.responsibilities}
    if described.log_density is not None:
        representation["log_density"] = described.log_density
    return described.assignments, representation


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


def name_clusters(
    assignments: np.ndarray,
    representation: dict[str, np.ndarray],
    samples: np.ndarray,
    vocabulary: dict[str, Any],
    row_ids: Any,  # noqa: ANN401 - pandas is imported when it is needed
) -> list[str]:
    """Name each cluster, without labels.

    Args:
        assignments: Cluster of each sample.
        representation: Latent and responsibilities of each sample.
        samples: The samples.
        vocabulary: Terms of a text's columns.
        row_ids: A line for each row of the source.

    Returns:
        A name for each cluster, see `deep_clustering.reporting.cluster_names`.
    """
    from deep_clustering.reporting import cluster_names

    names = cluster_names.name_clusters(
        assignments,
        representation["latent"],
        n_clusters=representation["responsibilities"].shape[1],
        ids=row_ids.loc[row_ids["sample"] >= 0, "id"].tolist(),
        samples=samples,
        terms=vocabulary["terms"],
    )
    sizes = np.bincount(assignments, minlength=len(names))
    listed = "; ".join(f"{cluster}: {name} ({sizes[cluster]})" for cluster, name in enumerate(names[:_NAMED]))
    logger.info("clusters, with their sizes: %s%s", listed, "; ..." if len(names) > _NAMED else "")
    return names


def tabulate(
    assignments: np.ndarray,
    representation: dict[str, np.ndarray],
    names: list[str],
    row_ids: Any,  # noqa: ANN401
    predictor: Predictor,
) -> tuple[Any, Any]:
    """Put the result into a table, without labels.

    Args:
        assignments: Cluster of each sample.
        representation: Responsibilities of each sample, and log density if the method has densities.
        names: Name of each cluster.
        row_ids: A line for each row of the source.
        predictor: Knows below which density a sample is an outlier.

    Returns:
        shown: a pandas.DataFrame for a CSV file, safe to open in a spreadsheet.
        table: the same with all digits, see `deep_clustering.reporting.assignment_table`.
    """
    from deep_clustering.reporting import assignment_table

    table = assignment_table.tabulate(
        row_ids,
        assignments,
        representation["responsibilities"],
        names=names,
        log_density=representation.get("log_density"),
        threshold=predictor.threshold,
    )
    return assignment_table.for_spreadsheets(table), table

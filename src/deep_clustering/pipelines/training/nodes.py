"""Nodes of the training pipeline."""

import logging
from textwrap import wrap
from typing import Any

import numpy as np

from deep_clustering.data.preparation import Preparation
from deep_clustering.inference.predictor import Predictor
from deep_clustering.methods import Model

logger = logging.getLogger(__name__)

# Clusters whose names a log line has.
_NAMED = 20
# Characters of a line of the log, without its time and level.
_WIDTH = 100


def fit(
    features: np.ndarray,
    split: np.ndarray,
    neighbours: np.ndarray,
    row_keys: np.ndarray,
    row_weights: np.ndarray,
    options: dict[str, Any],
    checkpoints: dict[str, Any],
    clusters: dict[str, Any],
    parallel: dict[str, Any],
    certain_rows: np.ndarray | None = None,
    trunk: Model | None = None,
) -> tuple[Model, dict[str, np.ndarray]]:
    """Fit a method to the rows, or change the clusters of a former fit as somebody's feedback says.

    Args:
        features: Rows, shape (n_samples, ...), float32.
        split: What each row is for; only those to be fitted are used.
        neighbours: Nearest of the fitted rows to each of them, shape (n_fitted, k).
        row_keys: Key of each row's content, shape (n_samples,), uint64.
        row_weights: How much each row counts, shape (n_samples,), float32.
        options: `method`, a key of `METHODS`, and every hyper-parameter of it.
        checkpoints: Options, see `deep_clustering.training.checkpoints.CheckpointOptions`.
        clusters: Options, see `deep_clustering.pipelines.training.clusters.ClusterOptions`.
        parallel: Options, see `deep_clustering.training.parallel.ParallelOptions`.
        certain_rows: For a start of kind given: cluster of each sample, -1 for those that are not chosen, shape
            (n_samples,). None for every other start.
        trunk: With them, what made the rows in which those clusters were found.

    Returns:
        model: the fitted method as plain data.
        history: diagnostics per epoch, snapshots of the assignments, and what the fit cost.
    """
    from deep_clustering.data.sources import select_fitted
    from deep_clustering.methods import make_method, note_rows, save_method
    from deep_clustering.methods.baselines import no_history
    from deep_clustering.methods.starts import Given
    from deep_clustering.options import build
    from deep_clustering.pipelines.training.clusters import ClusterOptions, correct_former, settle_numbers
    from deep_clustering.scores.cost import measure_cost
    from deep_clustering.training.checkpoints import CheckpointOptions, Checkpoints, fingerprint
    from deep_clustering.training.launched import fit_of
    from deep_clustering.training.parallel import ParallelOptions

    estimator, chosen = make_method(options), build(ClusterOptions, clusters, "clusters")
    rows, keys = select_fitted(features, split), select_fitted(row_keys, split)
    kept = Checkpoints(build(CheckpointOptions, checkpoints, "checkpoints"), options["method"])
    with measure_cost() as cost:
        if chosen.feedback is None:
            weights = select_fitted(row_weights, split)
            is_weighted = bool((weights != weights[0]).any())
            more = {}
            if certain_rows is not None and trunk is not None:
                more = {"given": Given(select_fitted(certain_rows, split), trunk.arrays)}
            fit_ = fit_of(estimator, build(ParallelOptions, parallel, "parallel"))
            history = fit_(estimator, rows, neighbours, kept, weights if is_weighted else None, **more).history_
        else:
            settled = correct_former(chosen, estimator, options["method"], features, split, keys)
            history = no_history() | {"under_feedback": np.array(settled.feedback)}
    if chosen.feedback is None:
        settled = settle_numbers(chosen, estimator, options["method"], rows, keys)
    model = save_method(settled.method)
    noted = note_rows(
        model, sha256=fingerprint(rows), keys=keys, clusters=settled.clusters, n_numbers=settled.n_numbers
    )
    return noted, history | cost


def assign(
    model: Model, features: np.ndarray, split: np.ndarray, space: dict[str, Any]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Apply a fitted method to the rows.

    Args:
        model: The fitted method as plain data.
        features: Rows, shape (n_samples, ...), float32.
        split: What each row is for; near rows among the fitted ones say what certainties are worth.
        space: Options of the neighbours, in which rows are near.

    Returns:
        assignments: cluster of each row, shape (n_samples,), int64.
        representation: "latent" (n_samples, latent_dim) and "responsibilities" (n_samples, n_clusters), float32;
            "certainty", "log_odds" and "silhouette" (n_samples,), float64, see `deep_clustering.scores.certainty`;
            of a method with densities also "log_density" (n_samples,), in nats; of changed clusters also "retired",
            numbers of clusters that there are no more, and "names", one for each number, empty where there is none.
    """
    from deep_clustering.data.sources.samples import FITTED
    from deep_clustering.methods import load_method
    from deep_clustering.methods.corrections import Corrected
    from deep_clustering.scores.certainty import rate_certainty

    method = load_method(model)
    described = method.describe(features)
    certainty = rate_certainty(described, features, space, (split & FITTED) > 0)
    representation = {"latent": described.latent, "responsibilities": described.responsibilities}
    representation |= certainty._asdict()
    if described.log_density is not None:
        representation["log_density"] = described.log_density
    if isinstance(method, Corrected):
        width = described.responsibilities.shape[1]
        representation["retired"] = np.setdiff1d(np.arange(width), method.there(width))
        representation["names"] = np.array([method.names.get(number, "") for number in range(width)], dtype=np.str_)
    return described.assignments, representation


def bundle(
    model: Model,
    preparation: Preparation,
    history: dict[str, np.ndarray],
    representation: dict[str, np.ndarray],
    split: np.ndarray,
    options: dict[str, Any],
) -> Predictor:
    """Join a fitted method and the preparation of its rows to what takes raw rows.

    Args:
        model: The fitted method as plain data.
        preparation: How samples became rows.
        history: Diagnostics of the training, with its label-free score.
        representation: Of a method with densities "log_density" of each sample, in nats.
        split: What each row is for.
        options: Options, see `deep_clustering.inference.predictor.PredictorOptions`.

    Returns:
        The predictor as plain data.
    """
    from deep_clustering.inference.predictor import PredictorOptions, make_predictor
    from deep_clustering.options import build

    chosen = build(PredictorOptions, options, "predictor")
    return make_predictor(model, preparation, history, representation.get("log_density"), split, chosen)


def name_clusters(
    assignments: np.ndarray,
    representation: dict[str, np.ndarray],
    samples: np.ndarray,
    vocabulary: dict[str, Any],
    row_ids: Any,  # noqa: ANN401 - pandas is imported when it is needed
    preparation: Preparation,
) -> list[str]:
    """Name each cluster, without labels.

    Args:
        assignments: Cluster of each sample.
        representation: Latent and responsibilities of each sample.
        samples: The samples.
        vocabulary: Terms of a text's columns.
        row_ids: A line for each row of the source.
        preparation: Knows the columns of a table.

    Returns:
        A name for each cluster, a person's where there is one, see `deep_clustering.reporting.cluster_names`.
    """
    from deep_clustering.reporting import cluster_names

    retired = representation.get("retired", np.zeros(0, dtype=np.int64)).tolist()
    names = cluster_names.name_clusters(
        assignments,
        representation["latent"],
        n_clusters=representation["responsibilities"].shape[1],
        ids=row_ids.loc[row_ids["sample"] >= 0, "id"].tolist(),
        samples=samples,
        terms=vocabulary["terms"],
        columns=preparation.reading.get("columns", ()),
        retired=retired,
    )
    names = cluster_names.with_given(names, representation.get("names", np.zeros(0, dtype=np.str_)).tolist())
    sizes = np.bincount(assignments, minlength=len(names))
    there = [cluster for cluster in range(len(names)) if cluster not in retired]
    listed = "; ".join(f"{cluster}: {names[cluster]} ({sizes[cluster]})" for cluster in there[:_NAMED])
    for line in wrap(f"clusters: {listed}{'; ...' if len(there) > _NAMED else ''}", _WIDTH):
        logger.info("%s", line)
    return names


def tabulate(
    assignments: np.ndarray,
    representation: dict[str, np.ndarray],
    names: list[str],
    row_ids: Any,  # noqa: ANN401
    predictor: Predictor,
    features: np.ndarray,
) -> tuple[Any, Any]:
    """Put the result into a table, without labels.

    Args:
        assignments: Cluster of each sample.
        representation: Responsibilities of each sample, and log density if the method has densities.
        names: Name of each cluster.
        row_ids: A line for each row of the source.
        predictor: Knows below which density a sample is an outlier.
        features: Rows, shape (n_samples, ...); zeros for a text without a known term.

    Returns:
        shown: a pandas.DataFrame for a CSV file, safe to open in a spreadsheet.
        table: the same with all digits, see `deep_clustering.reporting.assignment_table`.
    """
    from deep_clustering.data.preparation import has_no_terms
    from deep_clustering.reporting import assignment_table

    table = assignment_table.tabulate(
        row_ids,
        assignments,
        representation["responsibilities"],
        names=names,
        log_density=representation.get("log_density"),
        threshold=predictor.threshold,
        is_blank=has_no_terms(predictor.preparation, features),
    )
    return assignment_table.for_spreadsheets(table), table

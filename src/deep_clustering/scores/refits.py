"""Whether a method finds the same clusters again: with another seed, on a part of the rows."""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.metrics import adjusted_rand_score

from deep_clustering.data.neighbours import leave_out, search_neighbours
from deep_clustering.methods import make_method
from deep_clustering.training.progress import phase

logger = logging.getLogger(__name__)


def refit_agreements(
    features: np.ndarray | sparse.csr_matrix,
    assignments: np.ndarray,
    options: Mapping[str, Any],
    neighbours: Mapping[str, Any],
    *,
    n_refits: int,
    share: float,
) -> list[float]:
    """Fit a method again and compare the clusters.

    Args:
        features: Rows, shape (n_samples, ...).
        assignments: Cluster of each row in the fit that is in question.
        options: `method` and its hyper-parameters; each further fit takes the next seed.
        neighbours: Options of the neighbours, which are found anew among the rows of each fit.
        n_refits: Number of further fits.
        share: Share of the rows in each, drawn without replacement.

    Returns:
        Adjusted Rand index of each further fit with the assignments, on its rows.

    Raises:
        ValueError: if the rows of a fit do not suit the method.
    """
    n_samples = features.shape[0]
    agreements = []
    for number in range(1, n_refits + 1):
        seed = (int(options["seed"]) + number) % 2**32
        rows = np.sort(np.random.default_rng(seed).permutation(n_samples)[: max(1, round(share * n_samples))])
        logger.info("%s: fit %d of %d again, seed %d, %d rows", options["method"], number, n_refits, seed, len(rows))
        drawn = features[rows]
        found = search_neighbours(drawn, {**neighbours, "k": min(neighbours["k"], len(rows) - 1)})
        near = leave_out(found, neighbours["held_out"])
        with phase(f"fit {number} of {n_refits} again"):
            estimator = make_method({**options, "seed": seed}).fit(drawn, near)
        agreements.append(float(adjusted_rand_score(assignments[rows], estimator.predict(drawn))))
    return agreements

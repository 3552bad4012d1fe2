"""Partitions of the same rows, compared in one space: that of the features, which no method has shaped."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import sparse
from sklearn.metrics import adjusted_rand_score

from deep_clustering.scores import metrics


class SharedSpace(NamedTuple):
    """What partitions look like in the space of the features, and how far they agree."""

    silhouette: dict[str, float | None]
    """Of the features, of the same rows for all; None where fewer than two clusters are occupied."""
    agreement: dict[str, dict[str, float]]
    """Adjusted Rand index of each two, in both orders, with 1 for each and itself."""


def compare_partitions(
    features: np.ndarray | sparse.csr_matrix, assignments: Mapping[str, np.ndarray], max_rows: int
) -> SharedSpace:
    """Silhouettes in one space, and the agreement of each two partitions.

    Args:
        features: Rows, shape (n_samples, ...).
        assignments: Cluster of each row under each name, shape (n_samples,).
        max_rows: Rows of the silhouette at most.

    Returns:
        The comparison.
    """
    rows = draw_rows(features.shape[0], max_rows)
    drawn = flatten_rows(features[rows])
    return SharedSpace(
        {name: metrics.silhouette(drawn, clusters[rows], max_rows, seed=0) for name, clusters in assignments.items()},
        {
            name: {other: float(adjusted_rand_score(clusters, others)) for other, others in assignments.items()}
            for name, clusters in assignments.items()
        },
    )


def draw_rows(n_samples: int, max_rows: int) -> np.ndarray:
    """A seeded draw of at most `max_rows` rows, in ascending order, int64."""
    return np.sort(np.random.default_rng(0).permutation(n_samples)[:max_rows])


def flatten_rows(features: np.ndarray | sparse.csr_matrix) -> np.ndarray | sparse.csr_matrix:
    """Rows of any shape as vectors, shape (n_samples, n_features)."""
    return features if sparse.issparse(features) else features.reshape(len(features), -1)


def match_partition(clusters: np.ndarray, reference: np.ndarray) -> list[int]:
    """Number that each cluster of a partition goes by in another one, one to one, so that they overlap the most.

    Args:
        clusters: Cluster of each row, shape (n_samples,), from 0.
        reference: The other partition, shape (n_samples,).

    Returns:
        A number for each cluster, all different: that of the matched cluster, or a further one for a cluster left over.
    """
    n_reference = int(reference.max()) + 1
    counts = metrics.contingency(clusters, reference, int(clusters.max()) + 1, n_reference)
    matched: Sequence[int] = metrics.match_clusters(counts).tolist()
    further = iter(range(n_reference, n_reference + len(matched)))
    return [number if number >= 0 else next(further) for number in matched]

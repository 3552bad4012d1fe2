"""How compact and apart the clusters of a partition are, and weights of partitions by it.

The weights follow clusterBMA: Forbes, Santos-Fernandez, Wu, Xie, Schwenn, Lagopoulos, Mills, Sacks, Hermens and
Mengersen, "clusterBMA: Bayesian model averaging for clustering", PLoS ONE 18, 2023, arXiv 2209.04117, where two indices
stand for the probability of a model. Partition m has clusters of n_k rows about means c_k, in all K of n rows:

    (1) Calinski-Harabasz   CH_m = [sum_k n_k |c_k - c|^2 / (K - 1)] / [sum_i |x_i - c_(s_i)|^2 / (n - K)]
    (2) Xie-Beni            XB_m = sum_i |x_i - c_(s_i)|^2 / (n min_(k != l) |c_k - c_l|^2)
    (3) weight              w_m = (CH_m / sum_l CH_l + XB_m^-1 / sum_l XB_l^-1) / 2

Departures, or choices where the paper was not available and the authors' code tells no more
    B1 both parts of (3) grow with how good a partition is: CH itself, and the inverse of XB
    B2 (2) has the distance of means, as Xie and Beni define it, not that of the two nearest rows
    B3 a cluster without rows does not count; a partition of one cluster has weight 0, beside others
    B4 what is averaged by these weights are posteriors or co-associations (`scores.consensus`), and the partition comes
       from them as with any weights, not by factorising a matrix of similarities
"""

import numpy as np
from scipy import sparse
from scipy.spatial.distance import pdist

# Rows made dense at a time.
_CHUNK = 4096
# Least variance within clusters, as a share of that between them: copies of as many rows as clusters have none.
_LEAST = 1e-12


def validity(rows: np.ndarray | sparse.csr_matrix, assignments: np.ndarray) -> tuple[float, float]:
    """Equation (1), and the inverse of (2).

    Args:
        rows: Shape (n_samples, ...), dense or CSR.
        assignments: Cluster of each, shape (n_samples,), integers from 0.

    Returns:
        Two figures that grow with how compact and apart the clusters are; both 0 of a single cluster.

    Raises:
        ValueError: if there is not one assignment for each row.
    """
    if rows.shape[0] != len(assignments):
        raise ValueError(f"validity: expected one assignment for each of {rows.shape[0]} rows, got {len(assignments)}")
    clusters, own = np.unique(assignments, return_inverse=True)
    n_samples, n_clusters = len(own), len(clusters)
    if n_clusters < 2:
        return 0.0, 0.0
    counts = np.bincount(own)
    starts = range(0, n_samples, _CHUNK)
    sums = sum(_by_cluster(own[start : start + _CHUNK], n_clusters) @ _dense(rows, start) for start in starts)
    means = np.asarray(sums) / counts[:, None]
    within = float(sum(np.square(_dense(rows, start) - means[own[start : start + _CHUNK]]).sum() for start in starts))
    between = float(counts @ np.square(means - counts @ means / n_samples).sum(axis=1))
    within = max(within, _LEAST * between, np.finfo(np.float64).tiny)
    calinski_harabasz = between / (n_clusters - 1) * max(1, n_samples - n_clusters) / within
    return calinski_harabasz, n_samples * float(pdist(means, "sqeuclidean").min()) / within


def weigh_by_validity(validities: np.ndarray) -> np.ndarray:
    """Equation (3).

    Args:
        validities: What `validity` gives of each partition, shape (n_partitions, 2).

    Returns:
        Shape (n_partitions,), not negative, sums to 1; equal where no partition has two clusters.
    """
    totals = validities.sum(axis=0)
    if not totals.all():
        return np.full(len(validities), 1 / len(validities))
    return (validities / totals).mean(axis=1)


def _by_cluster(own: np.ndarray, n_clusters: int) -> sparse.csr_matrix:
    """One row for each cluster with a 1 for each of its members, shape (n_clusters, n)."""
    return sparse.csr_matrix((np.ones(len(own)), (own, np.arange(len(own)))), shape=(n_clusters, len(own)))


def _dense(rows: np.ndarray | sparse.csr_matrix, start: int) -> np.ndarray:
    """Some rows as vectors, float64."""
    part = rows[start : start + _CHUNK]
    dense = part if isinstance(part, np.ndarray) else part.toarray()
    return dense.reshape(len(dense), -1).astype(np.float64)

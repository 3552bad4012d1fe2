"""Scores of a clustering: against ground truth where there is one, and without."""

from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, silhouette_score


def contingency(assignments: np.ndarray, labels: np.ndarray, n_clusters: int, n_classes: int) -> np.ndarray:
    """Number of samples of each cluster and class.

    Args:
        assignments: Cluster of each sample, shape (n_samples,), integers in 0..n_clusters-1.
        labels: Class of each sample, shape (n_samples,), integers in 0..n_classes-1.
        n_clusters: Number of clusters.
        n_classes: Number of classes.

    Returns:
        Counts, shape (n_clusters, n_classes), int64.

    Raises:
        ValueError: if lengths differ or a value is out of range.
    """
    _check_indices("assignments", assignments, n_clusters)
    _check_indices("labels", labels, n_classes)
    if len(assignments) != len(labels):
        raise ValueError(
            f"contingency: expected as many labels as assignments, got {len(labels)} for {len(assignments)}"
        )
    flat = np.asarray(assignments, dtype=np.int64) * n_classes + np.asarray(labels, dtype=np.int64)
    return np.bincount(flat, minlength=n_clusters * n_classes).reshape(n_clusters, n_classes)


def _check_indices(name: str, values: np.ndarray, n_values: int) -> None:
    values = np.asarray(values)
    if values.ndim != 1 or not len(values) or values.dtype.kind not in "iu":
        raise ValueError(f"{name}: expected integers of shape (n_samples,), got {values.dtype} {values.shape}")
    if values.min() < 0 or values.max() >= n_values:
        raise ValueError(f"{name}: expected values in 0..{n_values - 1}, got {values.min()}..{values.max()}")


def match_clusters(counts: np.ndarray) -> np.ndarray:
    """One-to-one matching of clusters to classes that agrees on the most samples (Hungarian method).

    Args:
        counts: Contingency table, shape (n_clusters, n_classes); it need not be square.

    Returns:
        Class of each cluster, shape (n_clusters,), int64; -1 for a cluster left over.
    """
    matched = np.full(len(counts), -1, dtype=np.int64)
    clusters, classes = linear_sum_assignment(counts, maximize=True)
    matched[clusters] = classes
    return matched


def accuracy(counts: np.ndarray) -> float:
    """Share of samples in the class matched to their cluster, in [0, 1].

    Args:
        counts: Contingency table, shape (n_clusters, n_classes).

    Returns:
        ACC; samples of a cluster left over count as wrong.
    """
    matched = match_clusters(counts)
    clusters = np.flatnonzero(matched >= 0)
    return float(counts[clusters, matched[clusters]].sum() / counts.sum())


def purity(counts: np.ndarray) -> float:
    """Share of samples in the most frequent class of their cluster, in [0, 1].

    Args:
        counts: Contingency table, shape (n_clusters, n_classes).

    Returns:
        Purity; it cannot fall below ACC and grows with the number of clusters.
    """
    return float(counts.max(axis=1).sum() / counts.sum())


def labelled_scores(assignments: np.ndarray, labels: np.ndarray, n_clusters: int, n_classes: int) -> dict[str, float]:
    """ACC, NMI, ARI and purity.

    Args:
        assignments: Cluster of each sample, shape (n_samples,).
        labels: Class of each sample, shape (n_samples,).
        n_clusters: Number of clusters.
        n_classes: Number of classes.

    Returns:
        "acc", "nmi" (arithmetic mean of the entropies), "ari", "purity".

    Raises:
        ValueError: if lengths differ or a value is out of range.
    """
    counts = contingency(assignments, labels, n_clusters, n_classes)
    return {
        "acc": accuracy(counts),
        "nmi": float(normalized_mutual_info_score(labels, assignments)),
        "ari": float(adjusted_rand_score(labels, assignments)),
        "purity": purity(counts),
    }


class Reliability(NamedTuple):
    """How often samples of each confidence are right, in equally wide bins of [0, 1]."""

    edges: np.ndarray
    """Ends of the bins, shape (n_bins + 1,); a bin holds its upper end, the first one also 0."""
    confidence: np.ndarray
    """Mean confidence conf_b in each bin, shape (n_bins,); NaN in an empty one."""
    accuracy: np.ndarray
    """Share acc_b of each bin's samples that are right, shape (n_bins,); NaN in an empty one."""
    counts: np.ndarray
    """Samples n_b of each bin, shape (n_bins,), int64."""


def is_hard(responsibilities: np.ndarray) -> bool:
    """Whether all responsibilities, shape (n_samples, n_clusters), are 0 or 1, and so say nothing of certainty."""
    return bool(((responsibilities == 0) | (responsibilities == 1)).all())


def is_matched(assignments: np.ndarray, labels: np.ndarray, n_clusters: int, n_classes: int) -> np.ndarray:
    """Whether each sample is in the class matched to its cluster, so that the mean is ACC.

    Args:
        assignments: Cluster of each sample, shape (n_samples,).
        labels: Class of each sample, shape (n_samples,).
        n_clusters: Number of clusters.
        n_classes: Number of classes.

    Returns:
        Shape (n_samples,), bool; False in a cluster left over.

    Raises:
        ValueError: if lengths differ or a value is out of range.
    """
    return match_clusters(contingency(assignments, labels, n_clusters, n_classes))[assignments] == labels


def reliability(confidence: np.ndarray, is_right: np.ndarray, n_bins: int) -> Reliability:
    """Table of confidence against accuracy: conf_b and acc_b are means over the n_b samples with confidence in bin b.

    Args:
        confidence: Largest responsibility of each sample, shape (n_samples,), in [0, 1].
        is_right: Whether each sample is in the class matched to its cluster, shape (n_samples,).
        n_bins: Number of bins ((b - 1) / n_bins, b / n_bins].

    Returns:
        The table.

    Raises:
        ValueError: if lengths differ, there is no sample, or a confidence lies outside [0, 1].
    """
    confidence = np.asarray(confidence, dtype=np.float64)
    if confidence.shape != np.shape(is_right) or confidence.ndim != 1 or not len(confidence):
        raise ValueError(
            "reliability: expected confidence and is_right of one shape (n_samples,), got "
            f"{confidence.shape} and {np.shape(is_right)}"
        )
    # responsibilities in single precision may exceed 1 by a rounding error
    if not (confidence.min() >= 0 and confidence.max() <= 1 + 1e-5):
        raise ValueError(
            f"reliability: expected confidences in 0..1, got {confidence.min():.6g}..{confidence.max():.6g}"
        )
    edges = np.linspace(0, 1, n_bins + 1)
    bins = np.searchsorted(edges[1:-1], confidence, side="left")
    count = np.bincount(bins, minlength=n_bins)

    def mean(values: np.ndarray) -> np.ndarray:
        total = np.bincount(bins, weights=values, minlength=n_bins)
        return np.divide(total, count, out=np.full(n_bins, np.nan), where=count > 0)

    return Reliability(edges, mean(confidence), mean(is_right), count)


def expected_calibration_error(table: Reliability) -> float:
    """ECE = sum_b n_b / n |acc_b - conf_b|, in [0, 1]; 0 if each confidence is right as often as it says."""
    gaps = np.abs(table.accuracy - table.confidence)
    return float(np.nansum(table.counts * gaps) / table.counts.sum())


def occupancy(assignments: np.ndarray, n_clusters: int) -> np.ndarray:
    """Number of samples of each cluster, shape (n_clusters,), int64."""
    _check_indices("assignments", assignments, n_clusters)
    return np.bincount(np.asarray(assignments, dtype=np.int64), minlength=n_clusters)


def balance(counts: np.ndarray) -> float:
    """Entropy of the occupancy over log K: 1 for equal clusters, 0 for a single one.

    Args:
        counts: Samples of each cluster, shape (n_clusters,), n_clusters >= 2.

    Returns:
        Balance in [0, 1].
    """
    shares = counts[counts > 0] / counts.sum()
    return float(abs(-(shares * np.log(shares)).sum()) / np.log(len(counts)))


def occupancy_scores(counts: np.ndarray) -> dict[str, float]:
    """What the occupancy says of a clustering without labels.

    Args:
        counts: Samples of each cluster, shape (n_clusters,), n_clusters >= 2.

    Returns:
        "n_occupied", clusters with a sample; "balance"; "largest_share", of the samples in one cluster.
    """
    return {
        "n_occupied": int((counts > 0).sum()),
        "balance": balance(counts),
        "largest_share": float(counts.max() / counts.sum()),
    }


def churn(before: np.ndarray, after: np.ndarray, n_clusters: int) -> float:
    """Share of samples that changed their cluster, up to a renaming of the clusters, in [0, 1].

    Args:
        before: Assignments, shape (n_samples,).
        after: Assignments of the same samples later, shape (n_samples,).
        n_clusters: Number of clusters.

    Returns:
        1 minus the share that stayed; its complement is called stability.
    """
    return 1.0 - accuracy(contingency(before, after, n_clusters, n_clusters))


def silhouette(latent: np.ndarray, assignments: np.ndarray, max_samples: int, seed: int) -> float | None:
    """Mean silhouette in the latent, on a seeded subsample when there are many samples.

    Args:
        latent: Shape (n_samples, latent_dim).
        assignments: Shape (n_samples,).
        max_samples: Samples used at most.
        seed: Seed of the subsample.

    Returns:
        Silhouette in [-1, 1]; None if fewer than two clusters, or as many as samples, are occupied.
    """
    if latent.shape[0] > max_samples:
        rows = np.random.default_rng(seed).choice(latent.shape[0], max_samples, replace=False)
        latent, assignments = latent[rows], assignments[rows]
    if not 2 <= len(np.unique(assignments)) < len(assignments):
        return None
    return float(silhouette_score(latent, assignments))


def collapse_warnings(counts: np.ndarray, information: float | None = None, chance: float = 0.0) -> list[str]:
    """What is wrong with a clustering, in words; a large cluster is not.

    Args:
        counts: Samples of each cluster, shape (n_clusters,).
        information: What the clusters of two views of a sample share, in nats; None if the method does not say.
        chance: What clusters of these shares have by chance.

    Returns:
        One sentence each for empty clusters and for clusters that explain no more than chance; none if all is well.
    """
    n_occupied = int((counts > 0).sum())
    found = []
    if n_occupied < len(counts):
        found.append(f"only {n_occupied} of {len(counts)} clusters are occupied")
    if information is not None and information <= chance:
        found.append(
            f"the clusters of two views of a sample share {information:.3g} nats, no more than by chance ({chance:.3g})"
        )
    return found

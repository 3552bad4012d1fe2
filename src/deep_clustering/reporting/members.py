"""How certain an assignment is, and which members show a cluster best and worst."""

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from deep_clustering.reporting.terms import describe_clusters, describe_rows

CHUNK_ROWS = 4096
CLUSTER_TERMS = 10
MEMBER_TERMS = 4


def certainty(*, assignments: np.ndarray, responsibilities: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Certainty of each assignment.

    The largest responsibility; when that is 1 of every row (to within 1e-6), and so says nothing, the simplified
    silhouette (b - a) / max(a, b) with a the distance of a sample to the mean of its own cluster and b to the nearest
    other mean (0 when there is no other cluster).

    Args:
        assignments: shape (n_samples,), in 0..n_clusters-1.
        responsibilities: shape (n_samples, n_clusters), rows sum to 1.
        samples: shape (n_samples, ...), read only for the silhouette.

    Returns:
        Shape (n_samples,), float32; in [0, 1], or in [-1, 1] for the silhouette.

    Raises:
        ValueError: if the three arrays do not describe the same samples.
    """
    _check_rows(assignments, responsibilities, samples)
    largest = responsibilities.max(axis=1, initial=0)
    if (largest >= 1 - 1e-6).all():
        return _simplified_silhouette(samples, assignments)
    return largest.astype(np.float32)


def select_members(
    *,
    assignments: np.ndarray,
    responsibilities: np.ndarray,
    samples: np.ndarray,
    n_clusters: int,
    n_members: int,
    terms: Sequence[str] = (),
) -> dict[str, np.ndarray]:
    """Most and least certain members of each cluster.

    No member is shown twice: a cluster with fewer than 2 * n_members members is split in halves.

    Args:
        assignments: shape (n_samples,), in 0..n_clusters-1.
        responsibilities: shape (n_samples, n_clusters), rows sum to 1.
        samples: images uint8 (n_samples, C, H, W), or anything else of shape (n_samples, ...).
        n_clusters: number of clusters, empty ones included.
        n_members: members shown on either side.
        terms: term of each column of documents; empty for other data.

    Returns:
        "rows" int64 and "certainty" float32, shape (n_clusters, 2, n_members): on axis 1 first the most
        certain members, most certain first, then the least certain, least certain first; a blank has row -1
        and certainty nan. For images also "images", uint8 (n_clusters, 2, n_members, C, H, W), blanks 0. For documents
        also "terms", those that set each cluster apart, text (n_clusters,), and "member_terms", the strongest of each
        member, text (n_clusters, 2, n_members).

    Raises:
        ValueError: if an assignment lies outside 0..n_clusters-1, n_members < 1, or lengths differ.
    """
    if n_members < 1:
        raise ValueError(f"select_members: n_members must be at least 1, got {n_members}")
    if len(assignments) and not (assignments.min() >= 0 and assignments.max() < n_clusters):
        raise ValueError(
            f"select_members: assignments must lie in 0..{n_clusters - 1}, got {assignments.min()}..{assignments.max()}"
        )
    values = certainty(assignments=assignments, responsibilities=responsibilities, samples=samples)
    rows = np.full((n_clusters, 2, n_members), -1, dtype=np.int64)
    for cluster in range(n_clusters):
        members = np.flatnonzero(assignments == cluster)
        members = members[np.argsort(-values[members], kind="stable")]
        half = (len(members) + 1) // 2
        for side, chosen in enumerate((members[:half], members[half:][::-1])):
            rows[cluster, side, : len(chosen[:n_members])] = chosen[:n_members]
    shown = rows >= 0
    shown_certainty = np.full(rows.shape, np.nan, dtype=np.float32)
    shown_certainty[shown] = values[rows[shown]]
    if len(terms) and sparse.issparse(samples):
        of_members = describe_rows(samples, terms, rows.ravel(), MEMBER_TERMS)
        return {
            "rows": rows,
            "certainty": shown_certainty,
            "terms": np.array(describe_clusters(samples, assignments, n_clusters, terms, CLUSTER_TERMS), dtype=np.str_),
            "member_terms": np.array(of_members, dtype=np.str_).reshape(rows.shape),
        }
    if samples.ndim != 4:
        return {"rows": rows, "certainty": shown_certainty}
    images = np.zeros((*rows.shape, *samples.shape[1:]), dtype=samples.dtype)
    images[shown] = samples[rows[shown]]
    return {"rows": rows, "certainty": shown_certainty, "images": images}


def _simplified_silhouette(samples: np.ndarray, assignments: np.ndarray) -> np.ndarray:
    """Silhouette against cluster means instead of against all pairs, (n_samples,) float32."""
    n_samples = samples.shape[0]
    flat = samples.reshape(n_samples, -1)
    occupied, own = np.unique(assignments, return_inverse=True)
    if len(occupied) < 2:
        return np.zeros(n_samples, dtype=np.float32)
    means = np.stack([np.ravel(flat[own == k].mean(axis=0, dtype=np.float64)) for k in range(len(occupied))])
    result = np.empty(n_samples, dtype=np.float32)
    for start in range(0, n_samples, CHUNK_ROWS):
        part = slice(start, start + CHUNK_ROWS)
        rows = flat[part] if isinstance(flat, np.ndarray) else flat[part].toarray()
        distances = _distances(rows.astype(np.float64), means)
        mine = np.arange(len(distances)), own[part]
        own_distance = distances[mine]
        distances[mine] = np.inf
        other_distance = distances.min(axis=1)
        larger = np.maximum(own_distance, other_distance)
        gap = other_distance - own_distance
        result[part] = np.divide(gap, larger, out=np.zeros_like(gap), where=larger > 0)
    return result


def _distances(rows: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Euclidean distances, (n_rows, n_means)."""
    squared = (rows**2).sum(axis=1)[:, None] - 2 * rows @ means.T + (means**2).sum(axis=1)[None]
    return np.sqrt(np.maximum(squared, 0))


def _check_rows(assignments: np.ndarray, responsibilities: np.ndarray, samples: np.ndarray) -> None:
    lengths = (len(assignments), len(responsibilities), samples.shape[0])
    if len(set(lengths)) != 1:
        raise ValueError(
            "certainty: assignments, responsibilities and samples must have the same length, "
            f"got {lengths[0]}, {lengths[1]} and {lengths[2]}"
        )

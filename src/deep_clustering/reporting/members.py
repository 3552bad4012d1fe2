"""Which members show a cluster best and worst: those whose assignment is most and least certain."""

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from deep_clustering.reporting.columns import describe_columns, is_named_table
from deep_clustering.reporting.terms import describe_clusters, describe_rows
from deep_clustering.scores.certainty import Certainty

CLUSTER_TERMS = 10
MEMBER_TERMS = 4
CLUSTER_COLUMNS = 5


def select_members(
    *,
    assignments: np.ndarray,
    certainty: Certainty,
    samples: np.ndarray,
    n_clusters: int,
    n_members: int,
    terms: Sequence[str] = (),
    ids: Sequence[str] = (),
    columns: Sequence[str] = (),
) -> dict[str, np.ndarray]:
    """Most and least certain members of each cluster.

    No member is shown twice: a cluster with fewer than 2 * n_members members is split in halves.

    Args:
        assignments: shape (n_samples,), in 0..n_clusters-1.
        certainty: how certain each assignment is; members are in its order, by log odds and then by silhouette.
        samples: images uint8 (n_samples, C, H, W), or anything else of shape (n_samples, ...).
        n_clusters: number of clusters, empty ones included.
        n_members: members shown on either side.
        terms: term of each column of documents; empty for other data.
        ids: file or id of each sample, shape (n_samples,); empty where they have only their numbers.
        columns: name of each column of a table; empty for other data.

    Returns:
        "rows" int64 and "certainty" float32, shape (n_clusters, 2, n_members): on axis 1 first the most
        certain members, most certain first, then the least certain, least certain first; a blank has row -1
        and certainty nan. For images also "images", uint8 (n_clusters, 2, n_members, C, H, W), blanks 0. For documents
        also "terms", those that set each cluster apart, text (n_clusters,), and "member_terms", the strongest of each
        member, text (n_clusters, 2, n_members). With ids also "ids" of the members, text (n_clusters, 2, n_members).
        For tables also what `columns.describe_columns` says of the clusters.

    Raises:
        ValueError: if an assignment lies outside 0..n_clusters-1, n_members < 1, or lengths differ.
    """
    if n_members < 1:
        raise ValueError(f"select_members: n_members must be at least 1, got {n_members}")
    if len(assignments) and not (assignments.min() >= 0 and assignments.max() < n_clusters):
        raise ValueError(
            f"select_members: assignments must lie in 0..{n_clusters - 1}, got {assignments.min()}..{assignments.max()}"
        )
    _check_rows(assignments, certainty, samples)
    order = certainty.order()
    rows = np.full((n_clusters, 2, n_members), -1, dtype=np.int64)
    for cluster in range(n_clusters):
        members = order[assignments[order] == cluster]
        half = (len(members) + 1) // 2
        for side, chosen in enumerate((members[:half], members[half:][::-1])):
            rows[cluster, side, : len(chosen[:n_members])] = chosen[:n_members]
    shown = rows >= 0
    shown_certainty = np.full(rows.shape, np.nan, dtype=np.float32)
    shown_certainty[shown] = certainty.certainty[rows[shown]]
    gallery: dict[str, np.ndarray] = {"rows": rows, "certainty": shown_certainty}
    if len(ids):
        of_members = [ids[row] if row >= 0 else "" for row in rows.ravel().tolist()]
        gallery["ids"] = np.array(of_members, dtype=np.str_).reshape(rows.shape)
    if is_named_table(samples, columns):
        return gallery | describe_columns(samples, assignments, n_clusters, columns, CLUSTER_COLUMNS)
    return gallery | _contents(samples, rows, assignments, n_clusters, terms)


def _contents(
    samples: np.ndarray, rows: np.ndarray, assignments: np.ndarray, n_clusters: int, terms: Sequence[str]
) -> dict[str, np.ndarray]:
    """What there is to see of the members: of images themselves, of documents their terms."""
    if len(terms) and sparse.issparse(samples):
        of_members = describe_rows(samples, terms, rows.ravel(), MEMBER_TERMS)
        of_clusters = describe_clusters(samples, assignments, n_clusters, terms, CLUSTER_TERMS)
        return {
            "terms": np.array(of_clusters, dtype=np.str_),
            "member_terms": np.array(of_members, dtype=np.str_).reshape(rows.shape),
        }
    if samples.ndim != 4:
        return {}
    images = np.zeros((*rows.shape, *samples.shape[1:]), dtype=samples.dtype)
    images[rows >= 0] = samples[rows[rows >= 0]]
    return {"images": images}


def _check_rows(assignments: np.ndarray, certainty: Certainty, samples: np.ndarray) -> None:
    lengths = (len(assignments), len(certainty.certainty), samples.shape[0])
    if len(set(lengths)) != 1:
        raise ValueError(
            "select_members: assignments, certainty and samples must have the same length, "
            f"got {lengths[0]}, {lengths[1]} and {lengths[2]}"
        )

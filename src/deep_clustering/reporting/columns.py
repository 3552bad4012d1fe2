"""The columns of a table that set its clusters apart: those whose mean is furthest from that of all rows."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

# Rows that are in memory at once in double precision.
_CHUNK = 4096
# A deviation of this share of the mean is one of its rounding.
_EXACT = 1e-9
# Deviations that a mean must be from that of all rows to be told, so that it is not shown as +0.0.
_TOLD = 0.05


class ColumnMeans(NamedTuple):
    """Means of the columns, in their own units."""

    of_clusters: np.ndarray
    """Shape (n_clusters, n_columns); of an empty cluster that of all."""
    overall: np.ndarray
    """Shape (n_columns,)."""
    shifts: np.ndarray
    """How far a cluster's mean lies above that of all rows, in standard deviations of all rows, shape (n_clusters,
    n_columns); 0 of a column of one value."""


def is_named_table(samples: Any, columns: Sequence[str]) -> bool:  # noqa: ANN401 - dense or sparse
    """Whether there is a name for each column of dense rows."""
    return not sparse.issparse(samples) and samples.ndim == 2 and samples.shape[1] == len(columns) > 0


def column_means(samples: np.ndarray, assignments: np.ndarray, n_clusters: int) -> ColumnMeans:
    """Means of the columns of each cluster and of all rows.

    Args:
        samples: The table, shape (n_samples, n_columns), at least one row; a memory map is read in pieces.
        assignments: Cluster of each row, shape (n_samples,).
        n_clusters: Number of clusters, empty ones included.

    Returns:
        The means, and how far apart they are.
    """
    starts = range(0, len(samples), _CHUNK)
    sums = np.zeros((n_clusters, samples.shape[1]))
    for start in starts:
        rows, clusters = np.asarray(samples[start : start + _CHUNK], np.float64), assignments[start : start + _CHUNK]
        places = (clusters, np.arange(len(rows)))
        sums += sparse.csr_matrix((np.ones(len(rows)), places), shape=(n_clusters, len(rows))) @ rows
    overall = sums.sum(axis=0) / len(samples)
    squares = sum(((np.asarray(samples[start : start + _CHUNK], np.float64) - overall) ** 2).sum(0) for start in starts)
    deviations = np.sqrt(squares / len(samples))
    sizes = np.bincount(assignments, minlength=n_clusters)[:, None]
    of_clusters = np.where(sizes > 0, sums / np.maximum(sizes, 1), overall)
    varies = deviations > _EXACT * np.abs(overall)
    shifts = np.where(varies, (of_clusters - overall) / np.where(varies, deviations, 1), 0)
    return ColumnMeans(of_clusters, overall, shifts)


def strongest(shifts: np.ndarray) -> np.ndarray:
    """Columns of one cluster, the one whose mean is furthest from that of all rows first, shape (n_columns,)."""
    return np.argsort(-np.abs(shifts), kind="stable")


def describe_columns(
    samples: np.ndarray, assignments: np.ndarray, n_clusters: int, columns: Sequence[str], n_shown: int
) -> dict[str, np.ndarray]:
    """The columns that set each cluster apart.

    Args:
        samples: The table, shape (n_samples, n_columns).
        assignments: Cluster of each row, shape (n_samples,).
        n_clusters: Number of clusters.
        columns: Name of each column.
        n_shown: Columns of a cluster at most.

    Returns:
        "columns", names, the furthest from the mean first, empty where there are fewer; "column_means" of the cluster
        and "column_overall" of all rows, in the units of the table; "column_shifts", their difference in standard
        deviations of all rows; each of shape (n_clusters, n_shown).
    """
    means = column_means(samples, assignments, n_clusters)
    n_shown = min(n_shown, len(columns))
    order = np.array([strongest(shifts)[:n_shown] for shifts in means.shifts])
    shifts = np.take_along_axis(means.shifts, order, axis=1)
    names = np.array([[columns[place] for place in row] for row in order.tolist()], dtype=np.str_)
    return {
        "columns": np.where(np.abs(shifts) >= _TOLD, names, ""),
        "column_means": np.take_along_axis(means.of_clusters, order, axis=1),
        "column_overall": means.overall[order],
        "column_shifts": shifts,
    }

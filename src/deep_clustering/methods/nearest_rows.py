"""For methods that group the rows they are given and have no rule for others: a new row goes with its nearest one."""

import hashlib

import numpy as np
from scipy import sparse
from sklearn.metrics import pairwise_distances_argmin

from deep_clustering.checks import check_rows


def dense_rows(features: np.ndarray | sparse.csr_matrix) -> np.ndarray:
    """Flattened rows, shape (n_samples, n_features), in one block of memory."""
    if isinstance(features, np.ndarray):
        return np.ascontiguousarray(features.reshape(len(features), -1))
    return features.toarray()


def dense_rows_like(features: np.ndarray | sparse.csr_matrix, n_features: int, where: str) -> np.ndarray:
    """Flattened rows, shape (n_samples, n_features).

    Raises:
        ValueError: if the rows are not finite numbers, or have another number of values.
    """
    check_rows(features, where)
    flat = dense_rows(features)
    if flat.shape[1] != n_features:
        raise ValueError(f"{where}: each row must have {n_features} values, got {flat.shape[1]}")
    return flat


def draw_rows(n_samples: int, max_rows: int, seed: int) -> np.ndarray:
    """Indices, ascending, of at most `max_rows` of the rows: all, or a draw without replacement."""
    if n_samples <= max_rows:
        return np.arange(n_samples)
    return np.sort(np.random.default_rng(seed).choice(n_samples, max_rows, replace=False))


class TrainingRows:
    """Training rows with their responsibilities; a new row takes those of the nearest one."""

    def __init__(self, where: str, rows: np.ndarray, responsibilities: np.ndarray) -> None:
        """Keep a copy of the rows, which may be a view of the caller's array.

        Args:
            where: Who asks, for the messages.
            rows: Shape (n_samples, n_features).
            responsibilities: Shape (n_samples, n_clusters).
        """
        self.where, self.rows, self.responsibilities = where, rows.copy(), responsibilities
        self._known: dict[bytes, int] = {}
        self._first = np.array([self._known.setdefault(_digest(row), i) for i, row in enumerate(self.rows)])

    def nearest(self, features: np.ndarray | sparse.csr_matrix) -> np.ndarray:
        """Index of the nearest training row of each row; of equal training rows the first.

        Raises:
            ValueError: if the rows are not finite numbers, or have another number of values.
        """
        flat = dense_rows_like(features, self.rows.shape[1], self.where).astype(self.rows.dtype, copy=False)
        index = np.array([self._known.get(_digest(row), -1) for row in flat])
        new = np.flatnonzero(index < 0)
        if len(new):
            # Which of two equal rows is found depends on the rows searched together; their first does not.
            index[new] = self._first[pairwise_distances_argmin(flat[new], self.rows)]
        return index

    def arrays(self) -> dict[str, np.ndarray]:
        """Rows and responsibilities."""
        return {"rows": self.rows, "responsibilities": self.responsibilities}


def _digest(row: np.ndarray) -> bytes:
    return hashlib.blake2b(row.tobytes(), digest_size=16).digest()

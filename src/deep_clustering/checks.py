"""What arrays must look like at the doors of the library."""

import numpy as np
from scipy import sparse

# Rows are checked for NaN in pieces, so that a memory map is never read whole into memory.
_CHUNK = 4096


def check_features(features: np.ndarray | sparse.csr_matrix, n_clusters: int, where: str) -> None:
    """Refuse rows that cannot be clustered into `n_clusters` groups.

    Args:
        features: Rows, shape (n_samples, ...), float32 or float64; vectors may be CSR.
        n_clusters: Number of clusters asked for.
        where: Who asks, for the messages.

    Raises:
        ValueError: for a wrong type, too few rows or clusters, NaN or infinite values, or rows that are all equal.
    """
    check_rows(features, where)
    n_samples = features.shape[0]
    if n_clusters < 2:
        raise ValueError(f"{where}: n_clusters must be at least 2, got {n_clusters}")
    if n_clusters > n_samples:
        raise ValueError(
            f"{where}: n_clusters must be at most the number of rows, got {n_clusters} for {n_samples} rows"
        )
    if sparse.issparse(features):
        differs = bool((features.max(axis=0) != features.min(axis=0)).nnz)
    else:
        differs = any((features[i : i + _CHUNK] != features[0]).any() for i in range(0, n_samples, _CHUNK))
    if not differs:
        raise ValueError(f"{where}: all {n_samples} rows are equal (constant features), there is nothing to cluster")
    n_distinct = count_distinct(features, n_clusters)
    if n_distinct < n_clusters:
        raise ValueError(
            f"{where}: n_clusters must be at most the number of distinct rows, got {n_clusters} for {n_samples} rows "
            f"of which {n_distinct} differ"
        )


def count_distinct(features: np.ndarray | sparse.csr_matrix, enough: int) -> int:
    """Number of distinct rows, up to a number that is enough.

    Args:
        features: Rows, shape (n_samples, ...); vectors may be CSR, without duplicate or unsorted indices.
        enough: Counting ends here, as a rule after as many rows.

    Returns:
        The number of distinct rows, at most `enough`.
    """
    seen: set[bytes] = set()
    for index in range(features.shape[0]):
        row = features[index]
        # 0.0 is added because -0.0 equals 0.0 and has other bytes.
        parts = (row,) if isinstance(row, np.ndarray) else (row.indices, row.data)
        seen.add(b"".join(np.ascontiguousarray(part + part.dtype.type(0)).tobytes() for part in parts))
        if len(seen) == enough:
            break
    return len(seen)


def check_rows(features: np.ndarray | sparse.csr_matrix, where: str, row_shape: tuple[int, ...] | None = None) -> None:
    """Refuse rows of a wrong type or shape, or with values that are not finite.

    Args:
        features: Rows, shape (n_samples, ...); vectors may be CSR.
        where: Who asks, for the messages.
        row_shape: The shape one row must have, or None for any.

    Raises:
        ValueError: saying what was got, what was expected, and in which row.
    """
    is_csr = isinstance(features, sparse.csr_matrix)
    if not (is_csr or isinstance(features, np.ndarray)) or features.dtype not in (np.float32, np.float64):
        got = f"{type(features).__name__} of {getattr(features, 'dtype', 'no dtype')}"
        raise ValueError(f"{where}: features must be a float32 array or CSR matrix, got {got}")
    if features.ndim not in (2, 4):
        raise ValueError(
            f"{where}: features must have shape (n_samples, n_features) or (n_samples, channels, height, width), "
            f"got {features.shape}"
        )
    if 0 in features.shape:
        raise ValueError(f"{where}: features must not be empty, got shape {features.shape}")
    if row_shape is not None and features.shape[1:] != tuple(row_shape):
        raise ValueError(f"{where}: each row must have shape {tuple(row_shape)}, got {features.shape[1:]}")
    row = _first_not_finite(features)
    if row is not None:
        raise ValueError(f"{where}: features must be finite, got NaN or infinity first in row {row}")


def _first_not_finite(features: np.ndarray | sparse.csr_matrix) -> int | None:
    if not isinstance(features, np.ndarray):
        places = np.flatnonzero(~_is_finite(features.data))
        return int(np.searchsorted(features.indptr, places[0], side="right")) - 1 if len(places) else None
    for start in range(0, len(features), _CHUNK):
        finite = _is_finite(features[start : start + _CHUNK])
        if not finite.all():
            return start + int(np.flatnonzero(~finite.reshape(len(finite), -1).all(axis=1))[0])
    return None


def _is_finite(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.isfinite(values.astype(np.float32, copy=False))


def check_labels(labels: np.ndarray, n_samples: int, where: str) -> None:
    """Refuse ground truth that does not belong to the rows.

    Args:
        labels: Class of each row, shape (n_samples,), integers from 0; -1 means unknown.
        n_samples: Number of rows.
        where: Who asks, for the messages.

    Raises:
        ValueError: for a wrong type, shape, length or value.
    """
    if not isinstance(labels, np.ndarray) or labels.dtype.kind not in "iu" or labels.ndim != 1:
        got = f"{labels.dtype} {labels.shape}" if isinstance(labels, np.ndarray) else type(labels).__name__
        raise ValueError(f"{where}: labels must be integers of shape (n_samples,), got {got}")
    if len(labels) != n_samples:
        raise ValueError(f"{where}: expected one label for each of the {n_samples} rows, got {len(labels)}")
    if len(labels) and int(labels.min()) < -1:
        raise ValueError(f"{where}: labels must be at least 0, or -1 for unknown, got {int(labels.min())}")

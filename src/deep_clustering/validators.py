"""What Kedro checks on every load and save of an array, named in the catalog under `validator`."""

import numpy as np
from scipy import sparse

from deep_clustering.checks import check_rows


def samples(array: np.ndarray | sparse.csr_matrix) -> None:
    """Refuse samples that are neither uint8 images (n, channels, height, width) nor finite float32 vectors."""
    if array.dtype != np.uint8:
        check_rows(array, "samples")
    elif array.ndim != 4 or 0 in array.shape:
        raise ValueError(f"samples: uint8 images must have shape (n, channels, height, width), got {array.shape}")


def features(array: np.ndarray | sparse.csr_matrix) -> None:
    """Refuse rows that are not finite float32 of shape (n, n_features) or (n, channels, height, width)."""
    check_rows(array, "features")


def labels(array: np.ndarray) -> None:
    """Refuse classes that are not int64 (n,), at least -1."""
    _check_integers(array, "labels", np.int64, -1)


def split(array: np.ndarray) -> None:
    """Refuse flags that are not uint8 (n,), each FITTED, ASSIGNED or both, and some rows FITTED."""
    _check_integers(array, "split", np.uint8, 1)
    if array.max() > 3 or not (array & 1).any():
        raise ValueError(
            f"split: expected flags 1, 2 or 3 with some rows to be fitted, got {np.unique(array).tolist()}"
        )


def assignments(array: np.ndarray) -> None:
    """Refuse clusters that are not int64 (n,), at least 0."""
    _check_integers(array, "assignments", np.int64, 0)


def _check_integers(array: np.ndarray, name: str, dtype: type, lowest: int) -> None:
    if array.ndim != 1 or array.dtype != dtype or not len(array):
        raise ValueError(f"{name}: expected {np.dtype(dtype)} of shape (n,), got {array.dtype} {array.shape}")
    if array.min() < lowest:
        raise ValueError(f"{name}: expected values of at least {lowest}, got {array.min()}")

"""Which rows stand for all."""

import numpy as np


def evenly_spaced(n_rows: int, most: int) -> np.ndarray:
    """Places of rows, the first and the last among them.

    Args:
        n_rows: Number of all rows, at least 1.
        most: Number of places to give; of fewer rows all.

    Returns:
        Ascending, shape (min(n_rows, most),), int64.
    """
    return np.unique(np.linspace(0, n_rows - 1, min(n_rows, most)).astype(np.int64))

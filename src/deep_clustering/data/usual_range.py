"""Cells of a table that lie far beyond the others of their column, as a slip does, and the range of the others."""

import numpy as np

# A cell is wild if it is so many times further from the middle than almost all others.
FAR = 1e3
MIDDLE = (0.01, 0.99)
# More than so many wild cells, and more than this share, are a long tail and no accident.
FEW_CELLS, FEW_SHARE = 5, 1e-4

# Rows are read in pieces, so that a memory map is never read whole into memory.
_CHUNK = 4096
# Values that the middle of each column is taken from, of evenly spaced rows.
_SAMPLED = 1_000_000


def usual_range(rows: np.ndarray, is_fitted: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Lowest and highest value of each column without its wild cells.

    Args:
        rows: Shape (n, ...), float32.
        is_fitted: Rows that have a say, shape (n,), boolean.

    Returns:
        Both of the shape of a row, float32; None if no cell is wild, or so many that they are a long tail.
    """
    places = np.flatnonzero(is_fitted)
    sample = rows[places[:: max(1, -(-len(places) * int(np.prod(rows.shape[1:])) // _SAMPLED))]]
    middle, spread = np.median(sample, axis=0), inner_range(sample, MIDDLE, axis=0)
    reach = np.where(spread > 0, FAR * spread, np.inf)
    lowest, highest = middle.astype(np.float32), middle.astype(np.float32)
    n_wild = 0
    for start in range(0, len(rows), _CHUNK):
        chosen = rows[start : start + _CHUNK][is_fitted[start : start + _CHUNK]]
        if not len(chosen):
            continue
        is_wild = np.abs(chosen - middle) > reach
        n_wild += int(np.count_nonzero(is_wild))
        usual = np.where(is_wild, middle.astype(np.float32), chosen)
        lowest, highest = np.minimum(lowest, usual.min(axis=0)), np.maximum(highest, usual.max(axis=0))
    is_few = n_wild <= max(FEW_CELLS, FEW_SHARE * len(places) * middle.size)
    return (lowest, highest) if n_wild and is_few else None


def inner_range(sample: np.ndarray, shares: tuple[float, float], axis: int | None) -> np.ndarray:
    """Range of the values without a share at either end, which has at least one value if there are three."""
    low = np.quantile(sample, shares[0], axis=axis, method="higher")
    return np.maximum(np.quantile(sample, shares[1], axis=axis, method="lower") - low, 0)

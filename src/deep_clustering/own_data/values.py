"""All values of an array in one pass: their range, what is not finite, and cells that lie far beyond all others."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy import sparse

from deep_clustering.data.sources.wrong_cells import fits_float32, refuse_cells
from deep_clustering.data.usual_range import FAR, FEW_CELLS, FEW_SHARE, MIDDLE, inner_range

# Rows are read in pieces, so that a memory map is never read whole into memory.
_CHUNK = 4096
# Values that the usual range is taken from: evenly spaced rows over the whole of large arrays.
_SAMPLED = 4_000_000
# What is usual in an array that is no table.
_ALMOST_ALL = (0.0005, 0.9995)
_NAMED = 3


class WildCell(NamedTuple):
    """A cell far beyond the others."""

    row: int
    column: int
    value: float


@dataclass(frozen=True, kw_only=True)
class Values:
    """What a pass over all values has found."""

    low: float
    """Lowest value."""
    high: float
    """Highest value."""
    usual: tuple[float, float]
    """Lowest and highest value without the wild cells."""
    deviations: np.ndarray
    """Standard deviation of each column without the wild cells, shape (n_columns,)."""
    n_wild: int
    """Number of wild cells."""
    wild: list[WildCell]
    """The first of them."""

    def attention(self) -> list[tuple[str, str]]:
        """What the user should know of wild cells; nothing without any."""
        if not self.n_wild:
            return []
        cells = ", ".join(f"{value:.6g} in row {row}, column {column}" for row, column, value in self.wild)
        more = f" and {self.n_wild - len(self.wild)} more" if self.n_wild > len(self.wild) else ""
        low, high = self.usual
        return [
            (
                "attention",
                f"{cells}{more}: all other cells lie in {low:g} to {high:g}. Such a cell may take its row to a "
                "cluster of its own, and counts as the nearest of the others where columns are standardised; remove "
                "the row, or save np.clip(array, lowest, highest)",
            )
        ]


def look_at_values(array: np.ndarray) -> Values:
    """Pass over an array once, in pieces.

    Args:
        array: Numbers, shape (n, ...), at least one; a memory map will do.

    Returns:
        What was found; cells of images have no columns of their own and are compared with all others.

    Raises:
        ValueError: if values are not finite, or float32 cannot hold them, saying how many, and where the first is.
    """
    width = int(np.prod(array.shape[1:]))
    seen = _Pass(*_usual_reach(_sample(array, width), by_column=array.ndim == 2), width)
    for start in range(0, len(array), _CHUNK):
        piece = array[start : start + _CHUNK]
        values = piece.reshape(len(piece), width).astype(np.float64)
        if not fits_float32(values).all():
            refuse_cells(array, "new-data")
        seen.add(start, values)
    return seen.close()


class _Pass:
    """What has been seen of the rows by now."""

    def __init__(self, middle: np.ndarray, reach: np.ndarray, width: int) -> None:
        self._middle, self._reach = middle, reach
        self._low, self._high = np.inf, -np.inf
        self._usual = (np.inf, -np.inf)
        self._counts, self._total, self._squares = np.zeros(width), np.zeros(width), np.zeros(width)
        self._n_cells, self._n_wild = 0, 0
        self._wild: list[WildCell] = []

    def add(self, start: int, values: np.ndarray) -> None:
        """See the rows from `start` on, shape (n, width), float64."""
        self._n_cells += values.size
        self._low, self._high = min(self._low, values.min()), max(self._high, values.max())
        shifted = values - self._middle
        is_usual = np.abs(shifted) <= self._reach
        places = np.argwhere(~is_usual)
        self._n_wild += len(places)
        for row, column in places[: _NAMED - len(self._wild)]:
            self._wild.append(WildCell(start + int(row), int(column), float(values[row, column])))
        low, high = self._usual
        usual = np.where(is_usual, values, self._middle)
        self._usual = min(low, float(usual.min())), max(high, float(usual.max()))
        shifted[~is_usual] = 0
        self._counts += np.count_nonzero(is_usual, axis=0)
        self._total += shifted.sum(axis=0)
        self._squares += (shifted**2).sum(axis=0)

    def close(self) -> Values:
        """The findings."""
        is_tail = self._n_wild > max(FEW_CELLS, FEW_SHARE * self._n_cells)
        counts = np.maximum(self._counts, 1)
        variances = self._squares / counts - (self._total / counts) ** 2
        return Values(
            low=float(self._low),
            high=float(self._high),
            usual=(float(self._low), float(self._high)) if is_tail else self._usual,
            deviations=np.sqrt(np.maximum(variances, 0)),
            n_wild=0 if is_tail else self._n_wild,
            wild=[] if is_tail else self._wild,
        )


def look_at_sparse_values(rows: sparse.csr_matrix) -> Values:
    """The same for the values of sparse rows that are not zero, each of which is compared with all others.

    Args:
        rows: CSR.

    Returns:
        What was found; deviations are those of all such values together, shape (1,).

    Raises:
        ValueError: if values are not finite, saying in how many rows, and where the first is.
    """
    is_wrong = ~np.isfinite(rows.data)
    if is_wrong.any():
        rows_of = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))[is_wrong]
        raise ValueError(
            f"new-data: samples must be finite and fit float32 (3.4e38), got another value first in row {rows_of[0]}, "
            f"column {rows.indices[is_wrong][0]} (from 0); {len(np.unique(rows_of))} of {rows.shape[0]} rows have such "
            "values"
        )
    values = look_at_values(rows.data[:, None] if rows.nnz else np.zeros((1, 1)))
    places = [
        WildCell(int(np.searchsorted(rows.indptr, at, side="right")) - 1, int(rows.indices[at]), value)
        for at, _, value in values.wild
    ]
    return replace(values, wild=places)


def _sample(array: np.ndarray, width: int) -> np.ndarray:
    """Evenly spaced rows over the whole array, shape (n, width); what will be refused is 0."""
    step = max(1, -(-array.size // _SAMPLED))
    rows = np.asarray(array[::step], dtype=np.float64).reshape(-1, width)
    return np.where(fits_float32(rows), rows, 0.0)


def _usual_reach(sample: np.ndarray, *, by_column: bool) -> tuple[np.ndarray, np.ndarray]:
    """Middle of each column, and how far from it is no longer usual; both broadcast against rows.

    A column is compared with itself; one that hardly varies with the whole array.
    """
    whole = float(inner_range(sample, _ALMOST_ALL, axis=None))
    if not by_column:
        return np.median(sample, keepdims=True), np.full((1, 1), FAR * whole or np.inf)
    spread = inner_range(sample, MIDDLE, axis=0)
    return np.median(sample, axis=0), np.where(spread > 0, FAR * spread, FAR * whole or np.inf)

"""Samples to the rows that every method gets: scaled as they are, or seen by a pretrained network."""

from collections.abc import Mapping, Sequence
from typing import get_args

import numpy as np
from scipy import sparse

from deep_clustering.data.feature_options import Scaling
from deep_clustering.data.usual_range import usual_range
from deep_clustering.options import check_choice
from deep_clustering.training.scratch import room

# Rows are changed in pieces, so that a memory map is never read whole into memory.
_CHUNK = 4096


def scale_samples(
    samples: np.ndarray | sparse.csr_matrix, value_range: Sequence[float], scaling: str, *, copy: bool = True
) -> np.ndarray | sparse.csr_matrix:
    """Samples as float32 rows.

    Args:
        samples: Images or vectors, any shape; vectors may be CSR.
        value_range: Lowest and highest possible value.
        scaling: range or none, see `FeatureOptions`.
        copy: Whether rows that are as they should be are copied; else they are the samples, a memory map perhaps.

    Returns:
        Rows of the same shape, float32; many scaled ones are a map of a scratch file, see `scratch.room`.

    Raises:
        ValueError: if the scaling is unknown, or the range is empty.
    """
    check_choice("scaling", scaling, get_args(Scaling))
    if scaling == "none":
        if copy and isinstance(samples, np.memmap):
            return _copied(samples)
        return samples.astype(np.float32, copy=copy)
    low, high = value_range
    if not high > low:
        raise ValueError(
            f"features: scaling 'range' needs different values, got the range {low}..{high} (constant features)"
        )
    if sparse.issparse(samples):
        if low != 0:
            raise ValueError(
                f"features: scaling 'range' of sparse rows needs a range from 0, got {low}..{high}; set scaling to none"
            )
        return samples.astype(np.float32) / np.float32(high)
    rows = _copied(samples)
    for start in range(0, len(rows), _CHUNK):
        part = rows[start : start + _CHUNK]
        # In place: there is a copy already, and a second one would be the peak of the whole ingestion.
        part -= np.float32(low)
        part /= np.float32(high - low)
    return rows


def _copied(samples: np.ndarray) -> np.ndarray:
    """The same values, float32, in memory or in a scratch file."""
    rows = room(samples.shape, np.float32)
    for start in range(0, len(samples), _CHUNK):
        rows[start : start + _CHUNK] = samples[start : start + _CHUNK]
    return rows


WIDTHS = "widths"
"""Name of the array with the number of columns of each space, in rows of several encoders side by side."""


LOWEST, HIGHEST = "lowest", "highest"
"""Names of the arrays with the usual range of each column, where cells lie far beyond it."""


def fit_statistics(rows: np.ndarray | sparse.csr_matrix, is_fitted: np.ndarray, how: str) -> dict[str, np.ndarray]:
    """Means and deviations by which rows are centred and scaled.

    Args:
        rows: Shape (n, ...), float32.
        is_fitted: Rows that they are taken from, shape (n,), boolean.
        how: none, standardise or centre_l2, see `FeatureOptions`.

    Returns:
        Nothing, "mean", or "mean" and "deviation", each of the shape of a row, float64; a deviation is 1 where a
        feature is constant. To standardise columns with a few wild cells also their usual range, `LOWEST` and
        `HIGHEST`: a wild cell counts as the end of it, lest its column says nothing of all other rows.

    Raises:
        ValueError: if the rows are sparse, which centring would undo.
    """
    if how == "none":
        return {}
    if sparse.issparse(rows):
        raise ValueError(f"features: postprocess '{how}' would make sparse rows dense; set it to none")
    if how != "standardise":
        return {"mean": _mean(rows, is_fitted, None)}
    usual = usual_range(rows, is_fitted)
    mean = _mean(rows, is_fitted, usual)
    ends = {} if usual is None else dict(zip((LOWEST, HIGHEST), usual, strict=True))
    return {"mean": mean, "deviation": _deviation(rows, is_fitted, mean, usual), **ends}


def postprocess_rows(
    rows: np.ndarray | sparse.csr_matrix, statistics: Mapping[str, np.ndarray], how: str
) -> np.ndarray | sparse.csr_matrix:
    """Centre and scale rows in place, each by itself.

    Args:
        rows: Shape (n, ...), float32; a memory map is changed in pieces.
        statistics: What `fit_statistics` gave, and perhaps `WIDTHS`: centre_l2 then makes the part of a row in each
            space equally long, so that a linear function of the row weighs its spaces alike.
        how: none, standardise or centre_l2, see `FeatureOptions`.

    Returns:
        The same rows. Constant features become 0, and a row of zeros stays one.
    """
    if how == "none":
        return rows
    mean = statistics["mean"]
    scale = 1 / statistics["deviation"] if how == "standardise" else np.ones_like(mean)
    ends = np.cumsum(statistics.get(WIDTHS, [rows.shape[1]]))
    usual = (statistics[LOWEST], statistics[HIGHEST]) if LOWEST in statistics else None
    for start in range(0, len(rows), _CHUNK):
        chunk = (_clipped(rows[start : start + _CHUNK], usual) - mean) * scale
        if how == "centre_l2":
            for part in np.split(chunk, ends[:-1], axis=1):  # views of the chunk
                norm = np.linalg.norm(part.reshape(len(part), -1), axis=1) * np.sqrt(len(ends))
                part /= np.where(norm > 0, norm, 1).reshape(-1, *[1] * (chunk.ndim - 1))
        rows[start : start + _CHUNK] = chunk
    return rows


_Ends = tuple[np.ndarray, np.ndarray] | None


def _clipped(chunk: np.ndarray, usual: _Ends) -> np.ndarray:
    return chunk if usual is None else np.clip(chunk, *usual)


def _mean(rows: np.ndarray, is_fitted: np.ndarray, usual: _Ends) -> np.ndarray:
    total = np.zeros(rows.shape[1:])
    for start in range(0, len(rows), _CHUNK):
        chosen = _clipped(rows[start : start + _CHUNK][is_fitted[start : start + _CHUNK]], usual)
        total += chosen.sum(axis=0, dtype=np.float64)
    return total / np.count_nonzero(is_fitted)


def _deviation(rows: np.ndarray, is_fitted: np.ndarray, mean: np.ndarray, usual: _Ends) -> np.ndarray:
    """Standard deviations; 1 where a feature is constant."""
    total = np.zeros(rows.shape[1:])
    for start in range(0, len(rows), _CHUNK):
        chosen = _clipped(rows[start : start + _CHUNK][is_fitted[start : start + _CHUNK]], usual)
        total += ((chosen - mean) ** 2).sum(axis=0)
    deviation = np.sqrt(total / np.count_nonzero(is_fitted))
    return np.where(deviation > 0, deviation, 1)

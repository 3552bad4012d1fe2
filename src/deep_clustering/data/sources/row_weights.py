"""How much each row counts in training."""

from typing import Any

import numpy as np

from deep_clustering.data.sources.samples import FITTED, Samples


def as_weights(values: Any, where: str) -> np.ndarray:  # noqa: ANN401 - a column or an array
    """Weights as numbers.

    Args:
        values: One for each row of the source.
        where: The column or file, for the messages.

    Returns:
        Shape (n,), float32.

    Raises:
        ValueError: naming the first row whose weight is no number, negative or not finite, or if all are 0.
    """
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"ingestion: {where}: weights must have shape (n,), got {array.shape}")
    try:
        weights = array.astype(np.float64)
    except (TypeError, ValueError):
        row = next(row for row, value in enumerate(array) if not _is_number(value))
        raise ValueError(f"ingestion: {where}: row {row} has weight {array[row]!r:.80}; expected a number") from None
    wrong = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if len(wrong):
        row = int(wrong[0])
        raise ValueError(f"ingestion: {where}: row {row} has weight {weights[row]}; expected a number of at least 0")
    if not weights.any():
        raise ValueError(f"ingestion: {where}: all {len(weights)} weights are 0; nothing would be trained on")
    return weights.astype(np.float32)


def _is_number(value: Any) -> bool:  # noqa: ANN401
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def check_number(weights: np.ndarray, n_samples: int) -> None:
    """Refuse more or fewer weights than samples.

    Args:
        weights: What `as_weights` gave.
        n_samples: Number of samples.

    Raises:
        ValueError: saying both numbers.
    """
    if len(weights) != n_samples:
        raise ValueError(f"ingestion: expected a weight for each of {n_samples} samples, got {len(weights)}")


def weighted(loaded: Samples, weights: np.ndarray) -> Samples:
    """Samples of which those of weight 0 are assigned, but not fitted.

    Args:
        loaded: The samples.
        weights: Of each, shape (n,), at least 0.

    Returns:
        The same with another split.

    Raises:
        ValueError: if there are more or fewer weights than samples.
    """
    check_number(weights, len(loaded.split))
    return loaded._replace(split=np.where(weights > 0, loaded.split, loaded.split & ~np.uint8(FITTED)))

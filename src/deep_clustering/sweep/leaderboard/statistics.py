"""Means over seeds with their uncertainty."""

import warnings
from typing import NamedTuple

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
_RESAMPLES = 9999


class Summary(NamedTuple):
    """Several runs in figures; what cannot be said of so few is NaN."""

    n: int
    """Number of values."""
    mean: float
    """Their mean."""
    std: float
    """Standard deviation of the values, with n - 1."""
    low: float
    """Lower end of the 95 % interval of the mean."""
    high: float
    """Upper end."""


def summarise(values: np.ndarray, *, is_constant: bool = False) -> Summary:
    """Mean, spread and uncertainty of a sample.

    Args:
        values: Shape (n,); missing values (NaN) do not count.
        is_constant: Whether nothing about them is random, so that a single one is known for certain.

    Returns:
        The summary. A single random value says nothing of spread and interval; for constants and equal values both
        are 0 wide.
    """
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    if len(known) == 0:
        return Summary(0, np.nan, np.nan, np.nan, np.nan)
    if is_constant:
        return Summary(len(known), float(known[0]), 0.0, float(known[0]), float(known[0]))
    if len(known) == 1:
        return Summary(1, float(known[0]), np.nan, np.nan, np.nan)
    return Summary(len(known), float(known.mean()), float(known.std(ddof=1)), *bootstrap_interval(known))


def bootstrap_interval(values: np.ndarray) -> tuple[float, float]:
    """95 % bootstrap interval of a mean.

    BCa, which corrects bias and skewness; where it is undefined, the percentiles of the resampled means.

    Args:
        values: Shape (n,), n at least 2, all finite.

    Returns:
        Lower and upper end; the same values give the same ends.
    """
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        interval = _bootstrap(values, "BCa")
        if not np.isfinite(interval).all():
            interval = _bootstrap(values, "percentile")
    return interval


def _bootstrap(values: np.ndarray, method: str) -> tuple[float, float]:
    interval = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=_RESAMPLES,
        confidence_level=CONFIDENCE,
        method=method,
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(interval.low), float(interval.high)

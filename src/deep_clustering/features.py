"""Samples to the rows that every method gets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deep_clustering.options import build, check_choice


@dataclass(frozen=True, kw_only=True)
class FeatureOptions:
    """Options of the features."""

    scaling: str
    """range: the data card's value range becomes [0, 1]; none: values as they are."""

    def __post_init__(self) -> None:
        check_choice("scaling", self.scaling, ("range", "none"))


def scale_samples(samples: np.ndarray, value_range: Sequence[float], options: Mapping[str, Any]) -> np.ndarray:
    """Samples as float32 rows.

    Args:
        samples: Images or vectors, any shape.
        value_range: Lowest and highest possible value.
        options: Fields of `FeatureOptions`.

    Returns:
        Rows of the same shape, float32.

    Raises:
        ValueError: if an option is wrong, or the range is empty.
    """
    scaling = build(FeatureOptions, options, "features").scaling
    rows = samples.astype(np.float32)
    if scaling == "none":
        return rows
    low, high = value_range
    if not high > low:
        raise ValueError(
            f"features: scaling 'range' needs different values, got the range {low}..{high} (constant features)"
        )
    return (rows - np.float32(low)) / np.float32(high - low)

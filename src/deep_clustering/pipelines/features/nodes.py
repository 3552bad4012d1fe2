"""Nodes of the features pipeline."""

from typing import Any

import numpy as np


def extract_features(samples: np.ndarray, data_card: dict[str, Any], features: dict[str, Any]) -> np.ndarray:
    """Turn samples into the rows that every method gets.

    Args:
        samples: Images, uint8, or vectors, float32.
        data_card: Knows the range of the values.
        features: Options, see `deep_clustering.features.FeatureOptions`.

    Returns:
        Rows of the shape of the samples, float32.
    """
    from deep_clustering.features import scale_samples

    return scale_samples(samples, data_card["value_range"], features)

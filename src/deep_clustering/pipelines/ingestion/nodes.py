"""Nodes of the ingestion pipeline."""

from typing import Any

import numpy as np


def load_samples(ingestion: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Read a data set from its source.

    Args:
        ingestion: Options of the source, see `deep_clustering.sources`.

    Returns:
        samples: images, shape (n, channels, height, width), uint8; or vectors, shape (n, n_features), float32.
        labels: class of each sample, shape (n,), int64; -1 where unknown.
        data_card: what the data is, with its fingerprint.
    """
    from deep_clustering.sources import load_source

    return load_source(ingestion)

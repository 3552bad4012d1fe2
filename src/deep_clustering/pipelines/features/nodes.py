"""Nodes of the features pipeline."""

from typing import Any

import numpy as np

from deep_clustering.data.preparation import Preparation


def extract_features(
    samples: np.ndarray,
    split: np.ndarray,
    data_card: dict[str, Any],
    vocabulary: dict[str, Any],
    texts: list[str],
    features: dict[str, Any],
) -> tuple[np.ndarray, Preparation]:
    """Turn samples into the rows that every method gets.

    Args:
        samples: Images, uint8, or vectors, float32, dense or CSR.
        split: What each sample is for, shape (n,), uint8.
        data_card: Knows the range of the values and the sha256 of the samples.
        vocabulary: Terms of a text's columns and their weights.
        texts: The texts themselves, one for each sample; empty for other data.
        features: Options, see `deep_clustering.data.feature_options.FeatureOptions`.

    Returns:
        features: rows, float32: of the shape of the samples, or (n, n_features) with a backbone or an encoder.
        preparation: how they were made, for new samples.
    """
    from deep_clustering.data.preparation import prepare

    return prepare(samples, split, data_card, vocabulary, features, texts)


def nearest(features: np.ndarray, split: np.ndarray, neighbours: dict[str, Any]) -> tuple[np.ndarray, dict[str, Any]]:
    """Find the nearest neighbours of the rows to be fitted, among themselves.

    Args:
        features: Rows, float32, dense or CSR.
        split: What each row is for.
        neighbours: Options, see `deep_clustering.data.neighbours.NeighbourOptions`.

    Returns:
        neighbours: indices into the fitted rows, shape (n_fitted, k), int32; -1 where there is none, or it is held out.
        neighbours_card: how they were searched, and of an approximate search the share of the true ones that it found.
    """
    from deep_clustering.data.neighbours import find_neighbours, leave_out
    from deep_clustering.data.sources import select_fitted

    found = find_neighbours(select_fitted(features, split), neighbours)
    card = {"k": found.table.shape[1], "n_rows": found.table.shape[0], **found.card}
    return leave_out(found.table, neighbours["held_out"]), card

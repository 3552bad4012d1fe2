"""Nodes of the ingestion pipeline."""

from typing import Any

import numpy as np


def load_samples(
    ingestion: dict[str, Any],
) -> tuple[Any, np.ndarray, np.ndarray, dict[str, Any], list[str], Any, np.ndarray, dict[str, Any]]:
    """Read a data set from its source.

    Args:
        ingestion: Options of the source, see `deep_clustering.data.sources`.

    Returns:
        samples: images, shape (n, channels, height, width), uint8; or vectors, (n, n_features), float32, dense or CSR.
        labels: class of each sample, shape (n,), int64; -1 where unknown.
        split: what each sample is for, shape (n,), uint8: fitted, assigned or both.
        vocabulary: "terms", one for each column of a text's rows, empty for other data; "idf", the weight of each
            term, or None.
        texts: the texts themselves, one for each sample; empty for other data.
        row_ids: a pandas.DataFrame with a line for each row of the source, see `deep_clustering.data.sources.row_ids`.
        row_weights: how much each sample counts in training, shape (n,), float32.
        data_card: what the data is, with its sha256.
    """
    from deep_clustering.data.sources import load_source
    from deep_clustering.data.sources.row_ids import row_ids

    loaded, data_card = load_source(ingestion)
    vocabulary = {"terms": loaded.vocabulary, "idf": None if loaded.idf is None else loaded.idf.tolist()}
    rows, texts, labels = row_ids(loaded), list(loaded.texts), loaded.labels.astype(np.int64)
    weights = np.ones(len(labels), dtype=np.float32) if loaded.weights is None else loaded.weights
    return loaded.samples, labels, loaded.split, vocabulary, texts, rows, weights, data_card


def key_rows(samples: Any, texts: list[str]) -> np.ndarray:  # noqa: ANN401 - dense or sparse
    """Give each row a key of its content, by which it is found again in other versions of the data.

    Args:
        samples: Images or vectors, dense or CSR.
        texts: The texts themselves, one for each sample; empty for other data.

    Returns:
        Shape (n,), uint64.
    """
    from deep_clustering.data.row_keys import row_keys

    return row_keys(samples, texts)

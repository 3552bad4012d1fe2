"""Nodes of the ingestion pipeline."""

from typing import Any

import numpy as np


def load_samples(
    ingestion: dict[str, Any],
) -> tuple[Any, np.ndarray, np.ndarray, dict[str, Any], list[str], Any, dict[str, Any]]:
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
        data_card: what the data is, with its sha256.
    """
    from deep_clustering.data.sources import load_source
    from deep_clustering.data.sources.row_ids import row_ids

    loaded, data_card = load_source(ingestion)
    vocabulary = {"terms": loaded.vocabulary, "idf": None if loaded.idf is None else loaded.idf.tolist()}
    texts, rows = list(loaded.texts), row_ids(loaded)
    return loaded.samples, loaded.labels.astype(np.int64), loaded.split, vocabulary, texts, rows, data_card

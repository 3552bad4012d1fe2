"""The terms that say what a document, or a cluster of documents, is about."""

from collections.abc import Sequence

import numpy as np
from scipy import sparse


def top_terms(weights: np.ndarray, terms: Sequence[str], n_terms: int) -> list[str]:
    """The terms of greatest weight, the greatest first; none whose weight is not positive.

    Args:
        weights: Shape (n_features,).
        terms: One for each column.
        n_terms: How many at most.

    Returns:
        At most n_terms of them.
    """
    best = np.argsort(-weights, kind="stable")[:n_terms]
    return [terms[column] for column in best if weights[column] > 0]


def describe_rows(samples: sparse.csr_matrix, terms: Sequence[str], rows: np.ndarray, n_terms: int) -> list[str]:
    """The terms of greatest weight of documents, joined by commas.

    Args:
        samples: Weights of the terms, shape (n_samples, n_features).
        terms: One for each column.
        rows: Which documents, shape (n,); -1 for none.
        n_terms: How many terms at most.

    Returns:
        One text each, empty for a row of zeros and for none.
    """
    texts = []
    for row in rows:
        document = samples[max(row, 0)]
        own = [terms[column] for column in document.indices]
        texts.append(", ".join(top_terms(document.data, own, n_terms)) if row >= 0 else "")
    return texts


def describe_clusters(
    samples: sparse.csr_matrix, assignments: np.ndarray, n_clusters: int, terms: Sequence[str], n_terms: int
) -> list[str]:
    """The terms that set each cluster apart, joined by commas: those whose mean is the most above that of all rows.

    Args:
        samples: Weights of the terms, shape (n_samples, n_features).
        assignments: Cluster of each row, shape (n_samples,).
        n_clusters: Number of clusters.
        terms: One for each column.
        n_terms: How many terms at most.

    Returns:
        One text for each cluster, empty for an empty one.
    """
    overall = np.asarray(samples.mean(axis=0)).ravel()
    texts = []
    for cluster in range(n_clusters):
        members = samples[assignments == cluster]
        excess = np.asarray(members.mean(axis=0)).ravel() - overall if members.shape[0] else np.zeros_like(overall)
        texts.append(", ".join(top_terms(excess, terms, n_terms)))
    return texts

"""The terms that say what a document, or a cluster of documents, is about."""

from collections.abc import Sequence

import numpy as np
from scipy import sparse

# Share of the documents outside of a cluster, above which a term that stands in them does not set it apart.
_COMMON = 0.25


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

    Words that stand everywhere have the greatest means, and in few documents these differ by chance. So terms that more
    than a quarter of the documents outside of a cluster have come behind all others.

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
    stands = samples > 0
    holders = np.asarray(stands.sum(axis=0)).ravel()
    texts = []
    for cluster in range(n_clusters):
        is_member = assignments == cluster
        n_members = np.count_nonzero(is_member)
        excess = np.asarray(samples[is_member].mean(axis=0)).ravel() - overall if n_members else np.zeros_like(overall)
        elsewhere = holders - np.asarray(stands[is_member].sum(axis=0)).ravel()
        is_own = elsewhere <= _COMMON * (len(assignments) - n_members)
        own, common = (top_terms(np.where(which, excess, 0), terms, n_terms) for which in (is_own, ~is_own))
        texts.append(", ".join([*own, *common][:n_terms]))
    return texts

"""Whether rows of two spaces say more side by side than those of the first alone; no labels are asked.

Rows are compared by partitions: k-means of the rows of the first space, and of both side by side. Each is scored by the
log-likelihood of pairs of near rows under its clusters (`methods.shared_information`), in either space, and log
densities of spaces add up. A space that is noise to the other has neighbours that no common partition explains, so that
to follow it costs more than it gains.
"""

import logging
from collections.abc import Sequence

import numpy as np
import torch

from deep_clustering.training.draws import evenly_spaced

logger = logging.getLogger(__name__)

# Rows that are asked, evenly spaced; numbers of clusters, the best of which counts; neighbours of a row.
_ROWS, _CLUSTERS, _NEIGHBOURS = 2000, (4, 8, 16, 32), 20
_FEWEST_ROWS = 4 * _NEIGHBOURS


def say_more_together(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether a partition of both spaces explains the neighbours in both better than one of the first.

    Args:
        first: Rows, shape (n, n_first).
        second: The same rows in another space, shape (n, n_second).

    Returns:
        The answer; no for fewer than 80 rows, which cannot tell.
    """
    if len(first) < _FEWEST_ROWS:
        return False
    chosen = evenly_spaced(len(first), _ROWS)
    spaces = [_unit(space[chosen]) for space in (first, second)]
    pairs = [_mutual(space) for space in spaces]
    alone, together = (_best_score(rows, pairs) for rows in (spaces[0], np.concatenate(spaces, axis=1)))
    logger.info("features: log-likelihood of pairs: %.3f alone, %.3f side by side", alone, together)
    return together > alone


def _best_score(rows: np.ndarray, pairs: Sequence[np.ndarray]) -> float:
    """The greatest sum over the spaces of what a partition of k-means says of their pairs."""
    from sklearn.cluster import KMeans

    partitions = (KMeans(k, n_init=1, random_state=0).fit_predict(rows) for k in _CLUSTERS)
    return max(sum(_pair_score(clusters, near) for near in pairs) for clusters in partitions)


def _unit(rows: np.ndarray) -> np.ndarray:
    """Rows centred and of length one."""
    rows = rows - rows.mean(axis=0)
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norm > 0, norm, 1)


def _mutual(rows: np.ndarray) -> np.ndarray:
    """Pairs of rows that are among each other's nearest, shape (n_pairs, 2)."""
    from sklearn.neighbors import kneighbors_graph

    graph = kneighbors_graph(rows, _NEIGHBOURS, mode="connectivity")
    return np.stack(graph.multiply(graph.T).nonzero(), axis=1)


def _pair_score(clusters: np.ndarray, pairs: np.ndarray) -> float:
    from deep_clustering.methods.shared_information import pair_log_likelihood

    first, second = (torch.from_numpy(clusters[column].astype(np.int64)) for column in pairs.T)
    return float(pair_log_likelihood(first, second, int(clusters.max()) + 1))

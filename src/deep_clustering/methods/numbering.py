"""Clusters of a new fit get the numbers of those of a former one that are still there."""

from itertools import count

import numpy as np
from scipy.optimize import linear_sum_assignment


def match_numbers(
    former: np.ndarray, new: np.ndarray, *, n_former: int, n_clusters: int
) -> tuple[list[int], dict[int, int]]:
    """Numbers for new clusters, by the rows that they have in common with former ones.

    The one-to-one matching of most rows in common is found (Hungarian algorithm). A former cluster is still there if
    it and its match share more than half of the smaller one's rows.

    Args:
        former: Former cluster of each row that both fits know, shape (n,), int64.
        new: New cluster of the same rows, shape (n,), int64.
        n_former: Numbers that former clusters have had, from 0.
        n_clusters: Number of new clusters.

    Returns:
        numbers: the number of each new cluster; one that has no match gets the next that no former one has had.
        kept: the new cluster of each former one that is still there.
    """
    counts = np.zeros((n_former, n_clusters), dtype=np.int64)
    np.add.at(counts, (former, new), 1)
    smaller = np.minimum(counts.sum(axis=1)[:, None], counts.sum(axis=0)[None])
    pairs = zip(*linear_sum_assignment(counts, maximize=True), strict=True)
    kept = {int(theirs): int(mine) for theirs, mine in pairs if 2 * counts[theirs, mine] > smaller[theirs, mine]}
    numbers = {mine: theirs for theirs, mine in kept.items()}
    free = count(n_former)
    return [numbers[cluster] if cluster in numbers else next(free) for cluster in range(n_clusters)], kept


def rows_in_common(former: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places of the rows that two data sets share.

    Args:
        former: Key of each row of one, shape (n_former,).
        new: Key of each row of the other, shape (n_new,).

    Returns:
        Places in the first and in the second, two of (n_common,), int64; of equal rows the first of each.
    """
    _, of_former, of_new = np.intersect1d(former, new, return_indices=True)
    return of_former, of_new

"""One partition out of several of the same rows.

Clusters have no names of their own, so partitions cannot simply be averaged. Two ways around it:

posteriors: the clusters of each run are matched one to one with those of a common mean, and the posteriors averaged.
With runs R_i (n, K), weights w_i and permutations P_i, it looks for the P_i that minimise

    sum_i w_i || R_i P_i - M ||^2    with    M = sum_i w_i R_i P_i    (weights sum to 1),

by turns: M for given P_i, and for a given M each P_i by the Hungarian method. No turn can raise the sum, and there are
finitely many permutations, so it ends; the start decides where.

co-association (evidence accumulation, Fred and Jain, IEEE PAMI 2005): two rows are as near as the weight of the runs
that put them into one cluster, and average linkage cuts that matrix. It needs no equal numbers of clusters.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.stats import entropy
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score, mutual_info_score

from deep_clustering.options import closest
from deep_clustering.scores.metrics import contingency, match_clusters

MAX_TURNS = 100
MAX_ROWS = 2000
KINDS = ("posteriors", "coassociation")


class Consensus(NamedTuple):
    """What several runs say together."""

    assignments: np.ndarray
    """Cluster of each row, shape (n_samples,), int64."""
    responsibilities: np.ndarray
    """Weighted mean of the aligned posteriors, or of a co-association the mean likeness of a row to the members of
    each cluster, shape (n_samples, n_clusters); rows sum to 1."""
    agreement: np.ndarray
    """Share of the weight whose runs put a row into the cluster that is matched with its own, shape (n_samples,)."""
    weights: np.ndarray
    """Weight of each run, shape (n_runs,), sums to 1."""
    nmi: np.ndarray
    """Of each run with the consensus, shape (n_runs,): how stable it is."""
    ari: np.ndarray
    """The same as adjusted Rand index, shape (n_runs,)."""
    n_turns: int
    """Alignments to the mean until nothing changed; 0 of a co-association."""


def weigh(scores: np.ndarray, better: str = "max") -> np.ndarray:
    """Weights of runs by their label-free score: softmax of the standardised scores.

    Standardising takes the unit away, so that nats of one method count as much as those of another. No weight can
    exceed that of one run far above all the others (of ten runs 0.76), and a run that fell far behind nearly vanishes.

    Args:
        scores: Score of each run, shape (n_runs,); a missing one (NaN) counts as the mean of the others.
        better: "max" if a greater score is better, "min" if a smaller one is.

    Returns:
        Shape (n_runs,), positive, sums to 1; equal if no score is known or all are the same.

    Raises:
        ValueError: if there are no runs, a score is infinite, or `better` is neither "max" nor "min".
    """
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 1 or not len(scores) or np.isinf(scores).any():
        raise ValueError(f"weigh: expected finite scores of shape (n_runs,), got {scores}")
    if better not in ("max", "min"):
        raise ValueError(f"weigh: better must be 'max' or 'min', got {better!r}")
    known = ~np.isnan(scores)
    deviation = scores[known].std() if known.any() else 0.0
    # equal scores may differ in their last bits, which is no difference to weigh by
    if deviation <= 1e-12 * np.abs(scores[known]).max(initial=0.0):
        return np.full(len(scores), 1 / len(scores))
    standard = np.where(known, scores - scores[known].mean(), 0.0) / deviation
    weights = np.exp(standard if better == "max" else -standard)
    return weights / weights.sum()


def make_consensus(
    responsibilities: Sequence[np.ndarray],
    weights: np.ndarray | None = None,
    *,
    kind: str = "posteriors",
    n_clusters: int | None = None,
) -> Consensus:
    """One partition out of several, and how much each run agrees with it.

    Args:
        responsibilities: For each run shape (n_samples, n_clusters of the run), rows sum to 1.
        weights: Shape (n_runs,), not negative; None for equal ones.
        kind: One of `KINDS`.
        n_clusters: Number of clusters of a co-association; None for the runs' own, or the one of greatest weight.

    Returns:
        The consensus.

    Raises:
        ValueError: if the kind is unknown, or runs and weights do not fit each other.
    """
    weights = _check(responsibilities, weights)
    partitions = [run.argmax(axis=1) for run in responsibilities]
    mean, n_turns = combine(responsibilities, weights, kind=kind, n_clusters=n_clusters)
    assignments = mean.argmax(axis=1)
    agreement = np.zeros(len(assignments))
    for partition, weight in zip(partitions, weights, strict=True):
        matched = match_clusters(contingency(partition, assignments, int(partition.max()) + 1, mean.shape[1]))
        agreement += weight * (matched[partition] == assignments)
    return Consensus(
        assignments=assignments.astype(np.int64),
        responsibilities=mean,
        agreement=np.minimum(agreement, 1.0),
        weights=weights,
        nmi=np.array([_nmi(partition, assignments) for partition in partitions]),
        ari=np.array([adjusted_rand_score(partition, assignments) for partition in partitions]),
        n_turns=n_turns,
    )


def combine(
    responsibilities: Sequence[np.ndarray], weights: np.ndarray, *, kind: str, n_clusters: int | None = None
) -> tuple[np.ndarray, int]:
    """The bare consensus, without what is said of the runs.

    Args:
        responsibilities: For each run shape (n_samples, n_clusters of the run).
        weights: Shape (n_runs,).
        kind: One of `KINDS`.
        n_clusters: See `make_consensus`.

    Returns:
        responsibilities: of the consensus, shape (n_samples, n_clusters); the cluster of a row is its argmax.
        n_turns: alignments until nothing changed; 0 of a co-association.

    Raises:
        ValueError: if the kind is unknown, or runs and weights do not fit each other.
    """
    if kind not in KINDS:
        raise ValueError(f"consensus: unknown kind '{kind}' ({closest(kind, KINDS)})")
    if kind == "posteriors":
        return average_posteriors(responsibilities, weights)
    weights = _check(responsibilities, weights)
    partitions = [run.argmax(axis=1) for run in responsibilities]
    number = n_clusters or int(np.bincount([run.shape[1] for run in responsibilities], weights=weights).argmax())
    return link_coassociation(partitions, number, weights), 0


def average_posteriors(responsibilities: Sequence[np.ndarray], weights: np.ndarray | None) -> tuple[np.ndarray, int]:
    """The weighted mean of the aligned posteriors of runs with equal numbers of clusters.

    The start is the run of greatest weight, or, if that is no single one, the medoid among those by NMI; its clusters
    give the consensus its numbers.

    Args:
        responsibilities: For each run shape (n_samples, n_clusters), rows sum to 1.
        weights: Shape (n_runs,), not negative; None for equal ones.

    Returns:
        mean: shape (n_samples, n_clusters), float64.
        n_turns: alignments until nothing changed, the last one included.

    Raises:
        ValueError: if runs or weights do not fit each other.
    """
    weights = _check(responsibilities, weights)
    numbers = sorted({run.shape[1] for run in responsibilities})
    if len(numbers) > 1:
        raise ValueError(
            f"consensus of posteriors: expected runs of one number of clusters, got {numbers}; a co-association takes "
            "several"
        )
    reference = _reference([run.argmax(axis=1) for run in responsibilities], weights)
    orders = _align(responsibilities, responsibilities[reference])
    mean = _mean(responsibilities, orders, weights)
    distance = _distance(responsibilities, orders, weights, mean)
    n_turns, former = 0, np.inf
    # as good as before means at most other orders of runs that fit equally well
    while distance < former - 1e-9 and n_turns < MAX_TURNS:
        orders = _align(responsibilities, mean)
        mean = _mean(responsibilities, orders, weights)
        n_turns, former, distance = n_turns + 1, distance, _distance(responsibilities, orders, weights, mean)
    return mean, n_turns


def link_coassociation(
    partitions: Sequence[np.ndarray],
    n_clusters: int,
    weights: np.ndarray | None,
    *,
    max_rows: int = MAX_ROWS,
    seed: int = 0,
) -> np.ndarray:
    """Average linkage of the co-association, whatever the runs' numbers of clusters.

    The matrix is of at most `max_rows` rows, a seeded draw. Each further row goes to the cluster to whose drawn members
    it is nearest on average.

    Args:
        partitions: Cluster of each row for each run, shape (n_samples,), integers from 0.
        n_clusters: Number of clusters of the consensus, at least 2.
        weights: Shape (n_runs,), not negative; None for equal ones.
        max_rows: Largest number of rows of the matrix.
        seed: Seed of the draw.

    Returns:
        Likeness of each row to the members of each cluster, shape (n_samples, n_clusters), rows sum to 1; the cluster
        of a row is its argmax.

    Raises:
        ValueError: if runs or weights do not fit each other, or there are fewer rows than clusters.
    """
    weights = _check(partitions, weights)
    n_samples = len(partitions[0])
    if not 2 <= n_clusters <= min(n_samples, max_rows):
        raise ValueError(
            f"consensus by co-association: expected n_clusters in 2..{min(n_samples, max_rows)} (rows of the matrix), "
            f"got {n_clusters}"
        )
    drawn = np.sort(np.random.default_rng(seed).permutation(n_samples)[:max_rows])
    near = coassociation([partition[drawn] for partition in partitions], weights)
    linkage = AgglomerativeClustering(n_clusters=n_clusters, metric="precomputed", linkage="average")
    found = linkage.fit_predict(1 - near)
    # Mean likeness to the drawn members of each cluster, by the clusters that these have in each run.
    likeness = np.zeros((n_samples, n_clusters))
    for partition, weight in zip(partitions, weights, strict=True):
        counts = contingency(partition[drawn], found, int(partition.max()) + 1, n_clusters)
        likeness += weight * (counts / counts.sum(axis=0))[partition]
    # A drawn row stays where the linkage has put it, also where it is as near to another cluster.
    likeness[drawn, found] = likeness[drawn].max(axis=1) * (1 + 1e-9)
    # A row that is like nobody drawn is as much of one cluster as of another.
    likeness[likeness.sum(axis=1) == 0] = 1.0
    return likeness / likeness.sum(axis=1, keepdims=True)


def coassociation(partitions: Sequence[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """Weight of the runs that put two rows into one cluster.

    Args:
        partitions: For each run shape (n_samples,).
        weights: Shape (n_runs,), sums to 1.

    Returns:
        Shape (n_samples, n_samples), in [0, 1], symmetric, 1 on the diagonal.
    """
    total = np.zeros((len(partitions[0]),) * 2)
    for partition, weight in zip(partitions, weights, strict=True):
        total += weight * (partition[:, None] == partition)
    np.fill_diagonal(total, 1.0)
    return np.minimum(total, 1.0)


def _check(runs: Sequence[np.ndarray], weights: np.ndarray | None) -> np.ndarray:
    """Refuse runs that do not fit each other; the weights, with a sum of 1."""
    if not runs:
        raise ValueError("consensus: expected at least one run, got none")
    lengths = sorted({len(run) for run in runs})
    if len(lengths) > 1 or not lengths[0]:
        raise ValueError(f"consensus: expected runs of the same rows, got {lengths} rows")
    weights = np.ones(len(runs)) if weights is None else np.asarray(weights, dtype=np.float64)
    if weights.shape != (len(runs),) or not (weights >= 0).all() or not 0 < weights.sum() < np.inf:
        raise ValueError(f"consensus: expected {len(runs)} weights that are not negative, nor all 0, got {weights}")
    return weights / weights.sum()


def _reference(partitions: Sequence[np.ndarray], weights: np.ndarray) -> int:
    """The run of greatest weight; among several, the one that agrees the most with all runs."""
    heaviest = np.flatnonzero(weights >= weights.max() * (1 - 1e-9)).tolist()
    if len(heaviest) == 1:
        return heaviest[0]
    scores = [np.dot(weights, [_nmi(partitions[i], other) for other in partitions]) for i in heaviest]
    return heaviest[int(np.argmax(scores))]


def _nmi(first: np.ndarray, second: np.ndarray) -> float:
    """NMI from the table of counts, which spares the checks of every row that scikit-learn makes."""
    counts = contingency(first, second, int(first.max()) + 1, int(second.max()) + 1)
    entropies = entropy(counts.sum(axis=0)) + entropy(counts.sum(axis=1))
    return 1.0 if entropies == 0 else float(2 * mutual_info_score(None, None, contingency=counts) / entropies)


def _align(runs: Sequence[np.ndarray], mean: np.ndarray) -> list[np.ndarray]:
    """For each run the order of its columns, shape (n_clusters,), that brings it nearest to the mean."""
    # The lengths do not depend on the order, so the nearest is that of the greatest inner product.
    return [linear_sum_assignment(mean.T.astype(np.float64) @ run, maximize=True)[1] for run in runs]


def _mean(runs: Sequence[np.ndarray], orders: Sequence[np.ndarray], weights: np.ndarray) -> np.ndarray:
    mean = np.zeros(runs[0].shape)
    for run, order, weight in zip(runs, orders, weights, strict=True):
        mean += weight * run[:, order]
    return mean


def _distance(runs: Sequence[np.ndarray], orders: Sequence[np.ndarray], weights: np.ndarray, mean: np.ndarray) -> float:
    """Weighted mean squared distance of the aligned runs to the mean, per row."""
    squares = [((run[:, order] - mean) ** 2).sum() / len(run) for run, order in zip(runs, orders, strict=True)]
    return float(np.dot(weights, squares))

"""Partitions of the rows as they come, from which a training may start."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge, Le
from scipy import sparse

from deep_clustering.methods.baselines import KMeansClusterer, TSNEMixtureClusterer, WardClusterer
from deep_clustering.methods.nearest_rows import dense_rows


@dataclass(frozen=True, kw_only=True)
class KMeansStart:
    """The partition of k-means on the rows as they come."""

    hold: Annotated[float, Ge(0), Le(1)]
    """Share of the epochs in which the partition stands in for the assignments."""
    n_init: Annotated[int, Ge(1)]
    """Runs of k-means, of which the best is taken."""

    def partitions(self, features: np.ndarray, n_clusters: Sequence[int], seed: int) -> np.ndarray:
        """Cluster of each row for each number of clusters, shape (n_samples, len(n_clusters)), int64."""
        fitted = (KMeansClusterer(n_clusters=n, seed=seed, n_init=self.n_init).fit(features) for n in n_clusters)
        return np.stack([kmeans.nearest(features) for kmeans in fitted], axis=1)


@dataclass(frozen=True, kw_only=True)
class NeighbourKMeansStart(KMeansStart):
    """The partition of k-means on rows that were brought nearer to their neighbours.

    Its single runs differ more than those on the rows as they come, so that restarts have something to choose from.
    """

    rounds: Annotated[int, Ge(1), Le(100)]
    """Times that each row becomes the mean of itself and of the mean of its neighbours, then of length one, unless it
    is a single value, of which only the sign would be left."""

    def smoothed(self, features: np.ndarray | sparse.csr_matrix, neighbours: np.ndarray) -> np.ndarray:
        """The rows that k-means sees, shape (n_samples, n_features), float32.

        Args:
            features: Rows, shape (n_samples, ...), dense or CSR.
            neighbours: Nearest rows of each row, shape (n_samples, k), -1 for none.
        """
        rows = dense_rows(features)
        is_there = neighbours >= 0
        weights = is_there / np.maximum(is_there.sum(axis=1, keepdims=True), 1)
        place = np.arange(len(rows)).repeat(is_there.sum(axis=1)), neighbours[is_there]
        mean = sparse.csr_matrix((weights[is_there], place), shape=(len(rows), len(rows)), dtype=np.float32)
        for _ in range(self.rounds):
            rows = rows + mean @ rows
            length = np.linalg.norm(rows, axis=1, keepdims=True) if rows.shape[1] > 1 else 2.0  # of one value: the mean
            rows = rows / np.maximum(length, np.finfo(np.float32).tiny)
        return rows


@dataclass(frozen=True, kw_only=True)
class WardStart:
    """The partition of Ward's agglomeration of the rows as they come."""

    hold: Annotated[float, Ge(0), Le(1)]
    """Share of the epochs in which the partition stands in for the assignments."""
    max_rows: Annotated[int, Ge(2)]
    """Rows in the tree; of more rows a draw of so many, and the others go with the nearest of these."""

    def partitions(self, features: np.ndarray, n_clusters: Sequence[int], seed: int) -> np.ndarray:
        """Cluster of each row for each number of clusters, shape (n_samples, len(n_clusters)), int64."""
        fitted = (WardClusterer(n_clusters=n, seed=seed, max_rows=self.max_rows).fit(features) for n in n_clusters)
        return np.stack([ward.predict(features) for ward in fitted], axis=1)


@dataclass(frozen=True, kw_only=True)
class TSNEStart:
    """The partition of a Gaussian mixture on a t-SNE map of the rows as they come."""

    hold: Annotated[float, Ge(0), Le(1)]
    """Share of the epochs in which the partition stands in for the assignments."""
    perplexity: float
    """Perplexity of t-SNE."""
    n_init: Annotated[int, Ge(1)]
    """Number of starts of the mixture."""
    pca_dim: int
    """Rows of more values are reduced to so many principal components before t-SNE."""
    barnes_hut_rows: int
    """Up to so many rows the map is scikit-learn's Barnes-Hut t-SNE, above openTSNE's."""
    map_rows: Annotated[int, Ge(2)]
    """Rows on the map; of more rows a draw of so many, and the others go with the nearest of these."""

    def __post_init__(self) -> None:
        self._clusterer(2, 0)  # checks the rest

    def partitions(self, features: np.ndarray, n_clusters: Sequence[int], seed: int) -> np.ndarray:
        """Cluster of each row for each number of clusters on one map, (n_samples, len(n_clusters)), int64."""
        first = self._clusterer(n_clusters[0], seed).fit(features)
        fitted = [first, *map(first.regrouped, n_clusters[1:])]
        return np.stack([clusterer.predict(features) for clusterer in fitted], axis=1)

    def _clusterer(self, n_clusters: int, seed: int) -> TSNEMixtureClusterer:
        return TSNEMixtureClusterer(
            n_clusters=n_clusters,
            seed=seed,
            perplexity=self.perplexity,
            n_init=self.n_init,
            pca_dim=self.pca_dim,
            barnes_hut_rows=self.barnes_hut_rows,
            max_rows=self.map_rows,
        )


StartOfRows = KMeansStart | NeighbourKMeansStart | WardStart | TSNEStart
"""What finds a partition of the rows as they come."""

STARTS_OF_ROWS: dict[str, type[StartOfRows]] = {
    "kmeans": KMeansStart,
    "neighbour_kmeans": NeighbourKMeansStart,
    "ward": WardStart,
    "tsne_gmm": TSNEStart,
}


def check_neighbours(start: StartOfRows, neighbours: np.ndarray | None) -> None:
    """Refuse a start on neighbours where there are none.

    Args:
        start: The options of the start.
        neighbours: Nearest rows of each row, or None.

    Raises:
        ValueError: if the start needs neighbours and there are none.
    """
    if isinstance(start, NeighbourKMeansStart) and (neighbours is None or neighbours.shape[1] == 0):
        raise ValueError("start (neighbour_kmeans): expected the neighbours of every row, got none; set neighbours.k")


def find_partitions(
    start: StartOfRows,
    features: np.ndarray | sparse.csr_matrix,
    neighbours: np.ndarray | None,
    n_clusters: Sequence[int],
    seed: int,
) -> np.ndarray:
    """Cluster of each row for each number of clusters, shape (n_samples, len(n_clusters)), int64.

    Args:
        start: The options of the start.
        features: The rows as they come.
        neighbours: Nearest rows of each row, or None; only for kind neighbour_kmeans.
        n_clusters: Numbers of clusters.
        seed: Seed of the partitions.

    Raises:
        ValueError: if neighbours are missing, or the rows cannot be clustered.
    """
    check_neighbours(start, neighbours)
    if isinstance(start, NeighbourKMeansStart) and neighbours is not None:
        features = start.smoothed(features, neighbours)
    return start.partitions(features, n_clusters, seed)


def most_certain(partition: np.ndarray, certainty: np.ndarray, share: float) -> np.ndarray:
    """The partition of the rows of each cluster that are most certain.

    Args:
        partition: Cluster of each row, shape (n_samples,), int64.
        certainty: The greater the surer, shape (n_samples,).
        share: Share of each cluster's rows to keep; at least one row is kept.

    Returns:
        The partition with -1 for the rows that are not kept, shape (n_samples,), int64.
    """
    kept = np.full_like(partition, -1)
    for cluster in np.unique(partition):
        members = np.flatnonzero(partition == cluster)
        surest = members[np.argsort(-certainty[members], kind="stable")[: max(1, round(share * len(members)))]]
        kept[surest] = cluster
    return kept

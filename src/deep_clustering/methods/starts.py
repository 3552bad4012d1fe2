"""Where training starts from: nothing, or a partition that is held for the first epochs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, ClassVar, TypeVar

import numpy as np
from annotated_types import Ge, Le
from scipy import sparse
from scipy.cluster.hierarchy import cut_tree, ward
from sklearn.metrics import pairwise_distances_argmin

from deep_clustering.methods.baselines import KMeansClusterer, TSNEMixtureClusterer, WardClusterer
from deep_clustering.methods.nearest_rows import dense_rows, draw_rows
from deep_clustering.options import build_kind
from deep_clustering.training.checkpoints import Checkpoints

# The dataclass of a method that has a start.
Fitted = TypeVar("Fitted", bound=Any)


@dataclass(frozen=True, kw_only=True)
class NoStart:
    """The untrained network's own clusters."""

    hold: ClassVar[float] = 0.0


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
        return np.stack([kmeans.predict(features) for kmeans in fitted], axis=1)


@dataclass(frozen=True, kw_only=True)
class NeighbourKMeansStart(KMeansStart):
    """The partition of k-means on rows that were brought nearer to their neighbours.

    Its single runs differ more than those on the rows as they come, so that restarts have something to choose from.
    """

    rounds: Annotated[int, Ge(1), Le(100)]
    """Times that each row becomes the mean of itself and of the mean of its neighbours, then of length one."""

    def smoothed(self, features: np.ndarray | sparse.csr_matrix, neighbours: np.ndarray | None) -> np.ndarray:
        """The rows that k-means sees, shape (n_samples, n_features), float32.

        Args:
            features: Rows, shape (n_samples, ...), dense or CSR.
            neighbours: Nearest rows of each row, shape (n_samples, k), -1 for none.

        Raises:
            ValueError: if there are no neighbours.
        """
        if neighbours is None or neighbours.shape[1] == 0:
            raise ValueError(
                "start (neighbour_kmeans): expected the neighbours of every row, got none; set neighbours.k"
            )
        rows = dense_rows(features)
        is_there = neighbours >= 0
        weights = is_there / np.maximum(is_there.sum(axis=1, keepdims=True), 1)
        place = np.arange(len(rows)).repeat(is_there.sum(axis=1)), neighbours[is_there]
        mean = sparse.csr_matrix((weights[is_there], place), shape=(len(rows), len(rows)), dtype=np.float32)
        for _ in range(self.rounds):
            rows = rows + mean @ rows
            rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float32).tiny)
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


@dataclass(frozen=True, kw_only=True)
class Overclustering:
    """More clusters than asked for are fitted first, then merged by Ward's agglomeration of what they say of the rows.

    A cluster that two groups share, or a group that two clusters share, is a local optimum that training does not
    leave. With several clusters for each group neither is needed, and which belong together is seen afterwards.
    """

    components_per_cluster: Annotated[float, Ge(1), Le(1000)]
    """Clusters that are fitted first, for each one asked for; at most as many as rows in a batch."""
    epochs: Annotated[float, Ge(0), Le(100)]
    """Passes over the rows for them, as a share of the fit's epochs."""
    hold: Annotated[float, Ge(0), Le(1)]
    """Share of the fit's epochs in which the merged partition stands in for the assignments."""
    core: Annotated[float, Ge(0.01), Le(1)]
    """Share of each cluster's rows, those nearest to its mean, of which the partition is held: in the doubtful rest
    of the tree are whole components that went with the wrong cluster."""
    max_rows: Annotated[int, Ge(2)]
    """Rows in Ward's tree, as in `WardStart`."""

    def n_components(self, n_clusters: int, batch_size: int) -> int:
        """Number of clusters that are fitted first."""
        return min(max(n_clusters, round(self.components_per_cluster * n_clusters)), batch_size)

    def merge(self, points: np.ndarray, n_clusters: Sequence[int], seed: int) -> np.ndarray:
        """Merge components into clusters by Ward's agglomeration of what they say of the rows.

        Args:
            points: One for each row, shape (n_samples, n_dimensions), near to each other where components share rows.
            n_clusters: Numbers of clusters at which the tree is cut.
            seed: Seed of the draw, if there are more rows than `max_rows`.

        Returns:
            Cluster of each row at each cut, shape (n_samples, len(n_clusters)), int64; -1 outside the core.
        """
        drawn = draw_rows(len(points), self.max_rows, seed)
        cuts = cut_tree(ward(points[drawn]), n_clusters=list(n_clusters)).astype(np.int64)
        if len(drawn) < len(points):
            cuts = cuts[pairwise_distances_argmin(points, points[drawn])]
        return np.stack([keep_core(points, cut, self.core) for cut in cuts.T], axis=1)


@dataclass(frozen=True, kw_only=True)
class Consensus:
    """Heads are fitted first, each from weights of its own; then what they agree on, and other partitions, are tried.

    Each head ends in a local optimum, and more steps do not join them. What most of them say of a row is better than
    what one of them does: a partition that k-means finds in their votes, after Topchy, Jain and Punch, "Clustering
    ensembles: models of consensus and weak partitions", TPAMI 2005. From several such partitions, that of the best
    head and those of other starts, one for each head of the fit, training goes on.
    """

    heads: Annotated[int, Ge(2)]
    """Heads that are fitted first, without a start."""
    epochs: Annotated[float, Ge(0), Le(100)]
    """Passes over the rows for them, as a share of the fit's epochs."""
    hold: Annotated[float, Ge(0), Le(1)]
    """Share of the fit's epochs in which the partitions stand in for the assignments."""
    others: list[dict[str, Any]]
    """Starts whose partitions are tried beside: kind and its options but `hold`."""

    def __post_init__(self) -> None:
        self._others()  # checks them

    def origins(self, n_partitions: int) -> list[str]:
        """What each of so many partitions comes from."""
        others = [str(options["kind"]) for options in self.others]
        names = ["best head", "consensus", *others, "consensus of the better half"][:n_partitions]
        return names + ["consensus of a random half"] * (n_partitions - len(names))

    def find(
        self,
        features: np.ndarray | sparse.csr_matrix,
        neighbours: np.ndarray | None,
        candidates: np.ndarray,
        scores: np.ndarray,
        n_clusters: int,
        n_partitions: int,
        seed: int,
    ) -> np.ndarray:
        """Partitions to go on from.

        Args:
            features: The rows.
            neighbours: Nearest rows of each row, or None.
            candidates: Clusters of all rows by each head that was fitted first, shape (heads, n_samples).
            scores: Of the heads, the greater the better, shape (heads,).
            n_clusters: Number of clusters.
            n_partitions: How many partitions.
            seed: Seed of k-means and of the halves.

        Returns:
            Cluster of each row in each, as `origins` names them, shape (n_samples, n_partitions), int64.
        """
        order, half = np.argsort(-scores, kind="stable"), max(2, len(scores) // 2)
        draws, others, found = np.random.default_rng(seed), iter(self._others()), []
        for place, origin in enumerate(self.origins(n_partitions)):
            if origin == "best head":
                found.append(candidates[order[0]].astype(np.int64))
            elif origin.startswith("consensus"):
                some = {"consensus": order, "consensus of the better half": order[:half]}.get(
                    origin, draws.choice(order, half, replace=False)
                )
                found.append(find_consensus(candidates[some], n_clusters, seed + place))
            else:
                other = next(others)
                found.append(find_partitions(other, features, neighbours, [n_clusters], seed + place)[:, 0])
        return np.stack(found, axis=1)

    def _others(self) -> list["StartOfRows"]:
        kinds = {kind: STARTS[kind] for kind in ("kmeans", "neighbour_kmeans", "ward", "tsne_gmm")}
        return [build_kind(kinds, {"hold": 0.0, **options}, "start.others") for options in self.others]


def find_consensus(partitions: np.ndarray, n_clusters: int, seed: int) -> np.ndarray:
    """What several partitions agree on: k-means on their votes.

    Args:
        partitions: Clusters of all rows, shape (n_partitions, n_samples), from 0.
        n_clusters: Number of clusters.
        seed: Seed of k-means.

    Returns:
        Cluster of each row, shape (n_samples,), int64; the first partition where the votes tell fewer rows apart.
    """
    n_partitions, n_samples = partitions.shape
    if len(np.unique(partitions, axis=1).T) < n_clusters:
        return partitions[0].astype(np.int64)
    width = int(partitions.max()) + 1
    columns = partitions.astype(np.int64) + width * np.arange(n_partitions)[:, None]
    ends = np.arange(n_samples + 1) * n_partitions
    shape = (n_samples, n_partitions * width)
    votes = sparse.csr_matrix((np.ones(columns.size, np.float32), columns.T.ravel(), ends), shape=shape)
    return KMeansClusterer(n_clusters=n_clusters, seed=seed, n_init=3).fit(votes).predict(votes)


def fit_before(
    start: Overclustering | Consensus,
    estimator: Fitted,
    features: np.ndarray,
    neighbours: np.ndarray | None,
    checkpoints: Checkpoints | None,
) -> Fitted:
    """Fit what a start merges or finds agreement in.

    Args:
        start: The start.
        estimator: The method with its options and number of clusters or heads; it is not changed.
        features: The rows.
        neighbours: Nearest rows of each row, or None.
        checkpoints: Those of the fit that this is the start of, or None.

    Returns:
        A copy of it, fitted once without a start, for the start's share of its epochs, at least one.
    """
    n_epochs = max(1, round(start.epochs * estimator.epochs))
    once = replace(estimator, epochs=n_epochs, record_every=n_epochs, restarts=1, start={"kind": "none"})
    return once.fit(features, neighbours, checkpoints.within("components") if checkpoints else None)


def keep_core(points: np.ndarray, partition: np.ndarray, share: float) -> np.ndarray:
    """The partition of the rows that are nearest to the mean of their cluster.

    Args:
        points: One for each row, shape (n_samples, n_dimensions).
        partition: Cluster of each row, shape (n_samples,), int64.
        share: Share of each cluster's rows to keep; at least one row is kept.

    Returns:
        The partition with -1 for the rows that are not kept, shape (n_samples,), int64.
    """
    kept = np.full_like(partition, -1)
    for cluster in np.unique(partition):
        members = np.flatnonzero(partition == cluster)
        distances = np.square(points[members] - points[members].mean(axis=0)).sum(axis=1)
        nearest = members[np.argsort(distances, kind="stable")[: max(1, round(share * len(members)))]]
        kept[nearest] = cluster
    return kept


STARTS: dict[str, type] = {
    "none": NoStart,
    "kmeans": KMeansStart,
    "neighbour_kmeans": NeighbourKMeansStart,
    "ward": WardStart,
    "tsne_gmm": TSNEStart,
    "overclustering": Overclustering,
    "consensus": Consensus,
}

StartOfRows = KMeansStart | NeighbourKMeansStart | WardStart | TSNEStart
"""What finds a partition of the rows as they come."""

Start = NoStart | KMeansStart | NeighbourKMeansStart | WardStart | TSNEStart | Overclustering | Consensus


def make_start(options: Mapping[str, Any], kinds: Sequence[str]) -> Start:
    """Make the options of a start.

    Args:
        options: `kind` and the options of that kind.
        kinds: Those of `STARTS` that the method knows.

    Returns:
        The options.

    Raises:
        ValueError: if the kind or an option is unknown, missing or out of range.
    """
    known = {kind: STARTS[kind] for kind in kinds}
    # What configurations merged key by key have left of a kind that this method does not know.
    foreign = _names_of(STARTS.values()) - _names_of(known.values())
    if isinstance(options, Mapping):
        options = {name: value for name, value in options.items() if name not in foreign}
    dropped = dict.fromkeys(STARTS.keys() - known, "dropped in 0.3.0 for this method; use tsne_gmm, ward or kmeans")
    return build_kind(known, options, "start", dropped)


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
    if isinstance(start, NeighbourKMeansStart):
        features = start.smoothed(features, neighbours)
    return start.partitions(features, n_clusters, seed)


def _names_of(kinds: Iterable[type]) -> set[str]:
    return {field.name for kind in kinds for field in fields(kind)}


def check_drawn_rows(start: Start, n_clusters: int) -> None:
    """Refuse a start that would look for clusters among fewer rows.

    Args:
        start: The options of the start.
        n_clusters: The most clusters that are asked for.

    Raises:
        ValueError: if the rows in the tree or on the map are fewer.
    """
    for name in ("max_rows", "map_rows"):
        n_rows = getattr(start, name, n_clusters)
        if n_rows < n_clusters:
            raise ValueError(f"start: {name} must be at least n_clusters, got {n_rows} for {n_clusters} clusters")


def origins(start: Start, n_partitions: int) -> list[str]:
    """What each of so many heads begins with; nothing where one start is that of all."""
    return start.origins(n_partitions) if isinstance(start, Consensus) else []


def held_epochs(start: Start, epochs: int) -> int:
    """Number of first epochs in which the partition of a start stands in for the assignments."""
    return max(1, round(start.hold * epochs)) if start.hold else 0

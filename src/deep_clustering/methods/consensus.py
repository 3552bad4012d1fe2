"""The start from what heads that were fitted first agree on, and from other partitions beside it."""

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Le
from scipy import sparse

from deep_clustering.methods.baselines import KMeansClusterer
from deep_clustering.methods.partitions import STARTS_OF_ROWS, StartOfRows, find_partitions
from deep_clustering.options import build_kind


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
    """Starts whose partitions are tried beside, as far as there are heads: kind and its options but `hold`."""

    def __post_init__(self) -> None:
        self.other_starts()  # checks them

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
        draws, others, found = np.random.default_rng(seed), iter(self.other_starts()), []
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

    def other_starts(self) -> list[StartOfRows]:
        """The options of the starts that are tried beside."""
        return [build_kind(STARTS_OF_ROWS, {"hold": 0.0, **options}, "others") for options in self.others]


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

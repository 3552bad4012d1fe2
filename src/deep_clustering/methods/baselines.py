"""Baselines behind the interface of the two methods: k-means, Gaussian mixture, Ward, and t-SNE + Gaussian mixture.

Images are flattened. Ward and t-SNE have no prediction for new rows of their own: a row takes the cluster of the
nearest training row, so that a training row keeps the cluster it was given.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from scipy import sparse
from scipy.special import softmax
from sklearn.cluster import AgglomerativeClustering, KMeans
from sklearn.manifold import TSNE
from sklearn.metrics import pairwise_distances_argmin
from sklearn.mixture import GaussianMixture

from deep_clustering.checks import check_features, check_rows
from deep_clustering.options import check_choice, check_range


def _no_history() -> dict[str, np.ndarray]:
    return {
        "epoch": np.zeros(0),
        "snapshot_epoch": np.zeros(0, dtype=np.int64),
        "snapshot_assignments": np.zeros((0, 0), dtype=np.int16),
    }


def _flat(features: np.ndarray | sparse.csr_matrix, n_clusters: int, where: str) -> np.ndarray:
    check_features(features, n_clusters, where)
    return _dense(features)


def _dense(features: np.ndarray | sparse.csr_matrix) -> np.ndarray:
    if isinstance(features, np.ndarray):
        return np.ascontiguousarray(features.reshape(len(features), -1))
    return features.toarray()


def _flat_like(features: np.ndarray | sparse.csr_matrix, n_features: int, where: str) -> np.ndarray:
    check_rows(features, where)
    flat = _dense(features)
    if flat.shape[1] != n_features:
        raise ValueError(f"{where}: each row must have {n_features} values, got {flat.shape[1]}")
    return flat


@dataclass(kw_only=True)
class KMeansClusterer:
    """k-means; its responsibilities are those of equal spherical Gaussians around the centres."""

    n_clusters: int
    """Number of clusters."""
    seed: int
    """Seed of the starts."""
    n_init: int
    """Number of starts; the one of least inertia is kept."""
    history_: dict[str, np.ndarray] = field(default_factory=_no_history, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_range("n_clusters", self.n_clusters, 2)
        check_range("seed", self.seed, 0, 2**32 - 1)
        check_range("n_init", self.n_init, 1)

    def fit(self, features: np.ndarray, neighbours: np.ndarray | None = None) -> Self:
        """Find the centres."""
        flat = _flat(features, self.n_clusters, "kmeans")
        kmeans = KMeans(self.n_clusters, n_init=self.n_init, random_state=self.seed).fit(flat)
        self.centroids_ = kmeans.cluster_centers_
        self.variance_ = np.float32(max(kmeans.inertia_ / flat.size, np.finfo(np.float32).tiny))
        return self

    def predict(self, features: np.ndarray) -> np.ndarray:
        """The nearest centre of each row."""
        return pairwise_distances_argmin(self.transform(features), self.centroids_).astype(np.int64)

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        """Softmax of minus half the squared distance over the variance within clusters."""
        flat = self.transform(features).astype(np.float64)
        centroids = self.centroids_.astype(np.float64)
        squares = (flat**2).sum(1)[:, None] - 2 * flat @ centroids.T + (centroids**2).sum(1)
        return softmax(-squares / (2 * self.variance_), axis=1).astype(np.float32)

    def transform(self, features: np.ndarray) -> np.ndarray:
        """The flattened rows themselves."""
        return _flat_like(features, self.centroids_.shape[1], "kmeans")

    def get_arrays(self) -> dict[str, np.ndarray]:
        """Centres and variance."""
        return {"centroids": self.centroids_, "variance": np.asarray(self.variance_)}

    def set_arrays(self, arrays: Mapping[str, np.ndarray]) -> Self:
        """Take over centres and variance."""
        self.centroids_, self.variance_ = arrays["centroids"], np.float32(arrays["variance"])
        return self


@dataclass(kw_only=True)
class GaussianMixtureClusterer:
    """Gaussian mixture by EM, started from k-means."""

    n_clusters: int
    """Number of components."""
    seed: int
    """Seed of the starts."""
    covariance: str
    """full, tied, diag or spherical."""
    regularisation: float
    """Added to the variances."""
    n_init: int
    """Number of starts; the one of greatest likelihood is kept."""
    max_iterations: int
    """EM iterations at most."""
    history_: dict[str, np.ndarray] = field(default_factory=_no_history, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_range("n_clusters", self.n_clusters, 2)
        check_range("seed", self.seed, 0, 2**32 - 1)
        check_choice("covariance", self.covariance, ("full", "tied", "diag", "spherical"))
        check_range("regularisation", self.regularisation, 0)
        check_range("n_init", self.n_init, 1)
        check_range("max_iterations", self.max_iterations, 1)

    def fit(self, features: np.ndarray, neighbours: np.ndarray | None = None) -> Self:
        """Find weights, means and covariances."""
        flat = _flat(features, self.n_clusters, "gmm").astype(np.float64)
        self._mixture = self._empty().fit(flat)
        return self

    def _empty(self) -> GaussianMixture:
        return GaussianMixture(
            self.n_clusters,
            covariance_type=self.covariance,
            reg_covar=self.regularisation,
            n_init=self.n_init,
            max_iter=self.max_iterations,
            random_state=self.seed,
        )

    def predict(self, features: np.ndarray) -> np.ndarray:
        """The component of greatest responsibility."""
        return self._mixture.predict(self.transform(features)).astype(np.int64)

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        """Responsibilities."""
        return self._mixture.predict_proba(self.transform(features)).astype(np.float32)

    def transform(self, features: np.ndarray) -> np.ndarray:
        """The flattened rows themselves."""
        return _flat_like(features, self._mixture.means_.shape[1], "gmm")

    def get_arrays(self) -> dict[str, np.ndarray]:
        """Weights, means, covariances and the Cholesky factors of their inverses."""
        names = ("weights_", "means_", "covariances_", "precisions_cholesky_")
        return {name.rstrip("_"): getattr(self._mixture, name) for name in names}

    def set_arrays(self, arrays: Mapping[str, np.ndarray]) -> Self:
        """Take over what `get_arrays` gave."""
        self._mixture = self._empty()
        for name, array in arrays.items():
            setattr(self._mixture, f"{name}_", array)
        return self


class _TrainingRows:
    """Training rows with their responsibilities; a new row takes those of the nearest one."""

    def __init__(self, where: str, rows: np.ndarray, responsibilities: np.ndarray) -> None:
        # A copy: the rows may be a view of the caller's array.
        self.where, self.rows, self.responsibilities = where, rows.copy(), responsibilities
        self._first: dict[bytes, int] = {}
        for index, row in enumerate(self.rows):
            self._first.setdefault(row.tobytes(), index)

    def nearest(self, features: np.ndarray) -> np.ndarray:
        """Index of the nearest training row of each row; of equal training rows the first."""
        flat = _flat_like(features, self.rows.shape[1], self.where)
        index = np.array([self._first.get(row.tobytes(), -1) for row in flat.astype(self.rows.dtype)])
        new = np.flatnonzero(index < 0)
        if len(new):
            index[new] = pairwise_distances_argmin(flat[new], self.rows)
        return index

    def arrays(self) -> dict[str, np.ndarray]:
        """Rows and responsibilities."""
        return {"rows": self.rows, "responsibilities": self.responsibilities}


@dataclass(kw_only=True)
class WardClusterer:
    """Agglomerative clustering by Ward's criterion; its responsibilities are hard."""

    n_clusters: int
    """Number of clusters at which the tree is cut."""
    history_: dict[str, np.ndarray] = field(default_factory=_no_history, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_range("n_clusters", self.n_clusters, 2)

    def fit(self, features: np.ndarray, neighbours: np.ndarray | None = None) -> Self:
        """Build the tree and cut it."""
        flat = _flat(features, self.n_clusters, "ward")
        clusters = AgglomerativeClustering(self.n_clusters, linkage="ward").fit_predict(flat)
        self._training = _TrainingRows("ward", flat, np.eye(self.n_clusters, dtype=np.float32)[clusters])
        return self

    def predict(self, features: np.ndarray) -> np.ndarray:
        """The cluster of the nearest training row."""
        return self.predict_proba(features).argmax(axis=1).astype(np.int64)

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        """One for the cluster, zero elsewhere."""
        return self._training.responsibilities[self._training.nearest(features)]

    def transform(self, features: np.ndarray) -> np.ndarray:
        """The flattened rows themselves."""
        return _flat_like(features, self._training.rows.shape[1], "ward")

    def get_arrays(self) -> dict[str, np.ndarray]:
        """Training rows and their clusters."""
        return self._training.arrays()

    def set_arrays(self, arrays: Mapping[str, np.ndarray]) -> Self:
        """Take over training rows and their clusters."""
        self._training = _TrainingRows("ward", **arrays)
        return self


@dataclass(kw_only=True)
class TSNEMixtureClusterer:
    """Gaussian mixture on a two-dimensional t-SNE map."""

    n_clusters: int
    """Number of components."""
    seed: int
    """Seed of the mixture's starts; the map starts from the principal components."""
    perplexity: float
    """Perplexity of t-SNE."""
    n_init: int
    """Number of starts of the mixture."""
    history_: dict[str, np.ndarray] = field(default_factory=_no_history, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_range("n_clusters", self.n_clusters, 2)
        check_range("seed", self.seed, 0, 2**32 - 1)
        check_range("perplexity", self.perplexity, 1)
        check_range("n_init", self.n_init, 1)

    def fit(self, features: np.ndarray, neighbours: np.ndarray | None = None) -> Self:
        """Map the rows and fit the mixture on the map."""
        flat = _flat(features, self.n_clusters, "tsne_gmm")
        perplexity = min(self.perplexity, (len(flat) - 1) / 3)  # t-SNE needs about three neighbours per unit
        latent = TSNE(2, perplexity=perplexity, init="pca", random_state=self.seed).fit_transform(flat)
        mixture = GaussianMixture(self.n_clusters, n_init=self.n_init, random_state=self.seed).fit(latent)
        responsibilities = mixture.predict_proba(latent).astype(np.float32)
        self._training = _TrainingRows("tsne_gmm", flat, responsibilities)
        self.map_ = latent.astype(np.float32)
        return self

    def predict(self, features: np.ndarray) -> np.ndarray:
        """The component of greatest responsibility of the nearest training row."""
        return self.predict_proba(features).argmax(axis=1).astype(np.int64)

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        """Responsibilities of the nearest training row."""
        return self._training.responsibilities[self._training.nearest(features)]

    def transform(self, features: np.ndarray) -> np.ndarray:
        """Place of the nearest training row on the map."""
        return self.map_[self._training.nearest(features)]

    def get_arrays(self) -> dict[str, np.ndarray]:
        """Training rows, their responsibilities and the map."""
        return self._training.arrays() | {"map": self.map_}

    def set_arrays(self, arrays: Mapping[str, np.ndarray]) -> Self:
        """Take over training rows, their responsibilities and the map."""
        self._training = _TrainingRows("tsne_gmm", arrays["rows"], arrays["responsibilities"])
        self.map_ = arrays["map"]
        return self

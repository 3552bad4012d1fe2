"""Baselines behind the interface of the methods: k-means, Gaussian mixture, Ward, and t-SNE + Gaussian mixture.

Images are flattened. Ward and t-SNE have no prediction for new rows of their own: a row takes the cluster of the
nearest training row, so that a training row keeps the cluster it was given. Ward needs memory that grows with the
square of the rows; beyond `max_rows` both methods learn from a seeded draw, and every row that was not drawn is a new
row to them.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from annotated_types import Ge, Le
from scipy import sparse
from scipy.special import log_softmax, softmax
from sklearn.cluster import AgglomerativeClustering, KMeans
from sklearn.metrics import pairwise_distances_argmin
from sklearn.mixture import GaussianMixture

from deep_clustering.checks import check_features
from deep_clustering.methods.nearest_rows import TrainingRows, dense_rows, dense_rows_like, draw_rows
from deep_clustering.methods.tsne import fit_on_map, tsne_map, tsne_needs
from deep_clustering.methods.weighted_mixture import fit_weighted
from deep_clustering.options import check_fields, check_range
from deep_clustering.training.checkpoints import Checkpoints
from deep_clustering.training.described import Described, Describing
from deep_clustering.training.needs import free_memory
from deep_clustering.training.scratch import room

logger = logging.getLogger(__name__)

# Numbers of rows at a time that k-means looks at in double precision, or copies of a map.
_NUMBERS = 2**23


def no_history() -> dict[str, np.ndarray]:
    """The history of a fit without epochs."""
    return {
        "epoch": np.zeros(0),
        "snapshot_epoch": np.zeros(0, dtype=np.int64),
        "snapshot_assignments": np.zeros((0, 0), dtype=np.int16),
    }


def _flat(features: np.ndarray | sparse.csr_matrix, n_clusters: int, where: str) -> np.ndarray:
    check_features(features, n_clusters, where)
    return dense_rows(features)


def _say_unweighted(where: str, weights: np.ndarray | None) -> None:
    if weights is not None:
        logger.info("%s knows no weights of rows: all of those above 0 count alike", where)


def _copied(flat: np.ndarray) -> np.ndarray:
    """A copy of mapped rows that may be written to: in memory, or of many rows in a scratch file."""
    copy = room(flat.shape, flat.dtype)
    step = max(1, _NUMBERS // flat.shape[1])
    for start in range(0, len(flat), step):
        copy[start : start + step] = flat[start : start + step]
    return copy


class _OfMappedRows(KMeans):
    """scikit-learn's k-means, whose tolerance is found without the copy of all rows that `numpy.var` makes."""

    tol: float

    def _check_params_vs_input(self, X: np.ndarray) -> None:  # noqa: N803 - scikit-learn's
        relative, self.tol = self.tol, 0
        super()._check_params_vs_input(X)
        self.tol = relative
        self._tol = relative * _mean_variance(X)


def _mean_variance(rows: np.ndarray) -> float:
    """Mean of the variances of the columns, in pieces."""
    mean, total = rows.mean(axis=0, dtype=np.float64), 0.0
    step = max(1, _NUMBERS // rows.shape[1])
    for start in range(0, len(rows), step):
        total += float(np.square(rows[start : start + step] - mean).sum())
    return total / rows.size


def _single(rows: np.ndarray) -> np.ndarray:
    """Rows as a latent, float32; rows that are so already are not copied."""
    return rows.astype(np.float32, copy=False)


def _announce(where: str, n_used: int, n_samples: int, gigabytes: float, seconds: float) -> None:
    """Say what a fit will need before it begins.

    Raises:
        MemoryError: if it needs more than there is, which would end this and other programs.
    """
    time = "seconds" if seconds < 60 else "minutes" if seconds < 3600 else "hours"
    rest = "" if n_used == n_samples else "; max_rows: each other row goes with the nearest of these"
    logger.info("%s: %d of %d rows: %.2g GB, %s on one core%s", where, n_used, n_samples, gigabytes, time, rest)
    free = free_memory()
    if free is not None and gigabytes > free / 1e9:
        raise MemoryError(
            f"{where}: {n_used} rows need about {gigabytes:.2g} GB of memory and {free / 1e9:.2g} GB are free; lower "
            "max_rows"
        )


@dataclass(kw_only=True)
class Baseline(Describing):
    """A method without a network, which has nothing to tell of epochs."""

    baseline: ClassVar = True
    history_: dict[str, np.ndarray] = field(default_factory=no_history, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(kw_only=True)
class KMeansClusterer(Baseline):
    """k-means; its responsibilities are those of equal spherical Gaussians around the centres."""

    n_clusters: Annotated[int, Ge(2)]
    """Number of clusters."""
    seed: Annotated[int, Ge(0), Le(2**32 - 1)]
    """Seed of the starts."""
    n_init: Annotated[int, Ge(1)]
    """Number of starts; the one of least inertia is kept."""

    def fit(
        self,
        features: np.ndarray,
        neighbours: np.ndarray | None = None,
        checkpoints: Checkpoints | None = None,
        weights: np.ndarray | None = None,
    ) -> Self:
        """Find the centres."""
        flat, is_mapped = _flat(features, self.n_clusters, "kmeans"), isinstance(features, np.memmap)
        make = _OfMappedRows if is_mapped else KMeans
        kmeans = make(self.n_clusters, n_init=self.n_init, random_state=self.seed, copy_x=not is_mapped)
        kmeans.fit(_copied(flat) if is_mapped else flat, sample_weight=weights)
        self.centroids_ = kmeans.cluster_centers_
        total = flat.size if weights is None else flat.shape[1] * float(weights.sum())
        self.variance_ = np.float32(max(kmeans.inertia_ / total, np.finfo(np.float32).tiny))
        return self

    def describe(self, features: np.ndarray) -> Described:
        """The nearest centre; softmax of minus half the squared distance over the variance within; the rows."""
        flat = dense_rows_like(features, self.centroids_.shape[1], "kmeans")
        shape = (len(flat), len(self.centroids_))
        responsibilities, log_responsibilities = room(shape, np.float32), room(shape, np.float64)
        step = max(1, _NUMBERS // flat.shape[1])
        for part in (slice(start, start + step) for start in range(0, len(flat), step)):
            log_joint = -self._squares(flat[part]) / (2 * self.variance_)
            responsibilities[part] = softmax(log_joint, axis=1)
            log_responsibilities[part] = log_softmax(log_joint, axis=1)
        return Described(self._nearest(flat), responsibilities, _single(flat), None, log_responsibilities)

    def nearest(self, features: np.ndarray) -> np.ndarray:
        """Cluster of each row as `predict` gives it, and nothing else is found, shape (n,), int64."""
        return self._nearest(dense_rows_like(features, self.centroids_.shape[1], "kmeans"))

    def _nearest(self, flat: np.ndarray) -> np.ndarray:
        return pairwise_distances_argmin(flat, self.centroids_).astype(np.int64)

    def _squares(self, flat: np.ndarray) -> np.ndarray:
        """Squared distance of each row to each centre, float64."""
        rows, centroids = flat.astype(np.float64), self.centroids_.astype(np.float64)
        return (rows**2).sum(1)[:, None] - 2 * rows @ centroids.T + (centroids**2).sum(1)

    def get_arrays(self) -> dict[str, np.ndarray]:
        """Centres and variance."""
        return {"centroids": self.centroids_, "variance": np.asarray(self.variance_)}

    def set_arrays(self, arrays: Mapping[str, np.ndarray]) -> Self:
        """Take over centres and variance."""
        self.centroids_, self.variance_ = arrays["centroids"], np.float32(arrays["variance"])
        return self


@dataclass(kw_only=True)
class GaussianMixtureClusterer(Baseline):
    """Gaussian mixture by EM, started from k-means."""

    n_clusters: Annotated[int, Ge(2)]
    """Number of components."""
    seed: Annotated[int, Ge(0), Le(2**32 - 1)]
    """Seed of the starts."""
    covariance: Literal["full", "tied", "diag", "spherical"]
    """Form of the covariances."""
    regularisation: Annotated[float, Ge(0)]
    """Added to the variances."""
    n_init: Annotated[int, Ge(1)]
    """Number of starts; the one of greatest likelihood is kept."""
    max_iterations: Annotated[int, Ge(1)]
    """EM iterations at most."""

    def fit(
        self,
        features: np.ndarray,
        neighbours: np.ndarray | None = None,
        checkpoints: Checkpoints | None = None,
        weights: np.ndarray | None = None,
    ) -> Self:
        """Find weights, means and covariances."""
        flat = _flat(features, self.n_clusters, "gmm").astype(np.float64)
        if weights is None:
            self._mixture = self._empty().fit(flat)
        else:
            self._mixture = fit_weighted(self._empty(), flat, weights.astype(np.float64))
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

    def describe(self, features: np.ndarray) -> Described:
        """The component of greatest responsibility, the responsibilities, and the flattened rows themselves."""
        flat = dense_rows_like(features, self._mixture.means_.shape[1], "gmm")
        _, log_responsibilities = self._mixture._estimate_log_prob_resp(flat)
        assignments = log_responsibilities.argmax(axis=1).astype(np.int64)
        responsibilities = np.exp(log_responsibilities).astype(np.float32)
        return Described(assignments, responsibilities, _single(flat), None, log_responsibilities)

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


@dataclass(kw_only=True)
class WardClusterer(Baseline):
    """Agglomerative clustering by Ward's criterion; its responsibilities are hard."""

    n_clusters: Annotated[int, Ge(2)]
    """Number of clusters at which the tree is cut."""
    seed: Annotated[int, Ge(0), Le(2**32 - 1)]
    """Seed of the draw; without a draw there is no chance."""
    max_rows: int
    """Rows in the tree; of more rows a draw of so many. Memory in bytes: eight times the square of it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("max_rows", self.max_rows, self.n_clusters)

    def fit(
        self,
        features: np.ndarray,
        neighbours: np.ndarray | None = None,
        checkpoints: Checkpoints | None = None,
        weights: np.ndarray | None = None,
    ) -> Self:
        """Build the tree and cut it."""
        _say_unweighted("ward", weights)
        flat = _flat(features, self.n_clusters, "ward")
        n_samples, n_features = flat.shape
        n_used = min(n_samples, self.max_rows)
        # The distances of all pairs, and scipy's working copy of them.
        gigabytes, seconds = 8e-9 * n_used * (n_used + n_features), n_used**2 * (2.5e-10 * n_features + 5e-8)
        _announce("ward", n_used, n_samples, gigabytes, seconds)
        flat = flat[draw_rows(n_samples, self.max_rows, self.seed)]
        clusters = AgglomerativeClustering(self.n_clusters, linkage="ward").fit_predict(flat)
        self._training = TrainingRows("ward", flat, np.eye(self.n_clusters, dtype=np.float32)[clusters])
        return self

    def describe(self, features: np.ndarray) -> Described:
        """The cluster of the nearest training row, as hard responsibilities, and the flattened rows themselves."""
        responsibilities = self._training.responsibilities[self._training.nearest(features)]
        flat = dense_rows_like(features, self._training.rows.shape[1], "ward")
        return Described(responsibilities.argmax(axis=1).astype(np.int64), responsibilities, _single(flat), None)

    def get_arrays(self) -> dict[str, np.ndarray]:
        """Training rows and their clusters."""
        return self._training.arrays()

    def set_arrays(self, arrays: Mapping[str, np.ndarray]) -> Self:
        """Take over training rows and their clusters."""
        self._training = TrainingRows("ward", **arrays)
        return self


@dataclass(kw_only=True)
class TSNEMixtureClusterer(Baseline):
    """Gaussian mixture on a two-dimensional t-SNE map."""

    n_clusters: Annotated[int, Ge(2)]
    """Number of components."""
    seed: Annotated[int, Ge(0), Le(2**32 - 1)]
    """Seed of the mixture's starts and of the draw; the map starts from the principal components."""
    perplexity: Annotated[float, Ge(1)]
    """Perplexity of t-SNE."""
    n_init: Annotated[int, Ge(1)]
    """Number of starts of the mixture."""
    pca_dim: Annotated[int, Ge(2)]
    """Rows of more values are reduced to so many principal components before t-SNE."""
    barnes_hut_rows: Annotated[int, Ge(0)]
    """Up to so many rows the map is scikit-learn's Barnes-Hut t-SNE, above openTSNE's."""
    max_rows: int
    """Rows on the map; of more rows a draw of so many."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("max_rows", self.max_rows, self.n_clusters)

    def fit(
        self,
        features: np.ndarray,
        neighbours: np.ndarray | None = None,
        checkpoints: Checkpoints | None = None,
        weights: np.ndarray | None = None,
    ) -> Self:
        """Map the rows and fit the mixture on the map."""
        _say_unweighted("tsne_gmm", weights)
        flat = _flat(features, self.n_clusters, "tsne_gmm")
        n_samples, n_features = flat.shape
        n_used = min(n_samples, self.max_rows)
        needs = tsne_needs(n_used, n_features, perplexity=self.perplexity, barnes_hut_rows=self.barnes_hut_rows)
        _announce("tsne_gmm", n_used, n_samples, *needs)
        flat = flat[draw_rows(n_samples, self.max_rows, self.seed)]
        latent = tsne_map(
            flat,
            perplexity=self.perplexity,
            pca_dim=self.pca_dim,
            barnes_hut_rows=self.barnes_hut_rows,
            seed=self.seed,
        )
        self._group(latent, flat)
        return self

    def _group(self, latent: np.ndarray, rows: np.ndarray) -> None:
        """Fit the mixture on the places of rows on a map."""
        mixture = fit_on_map(latent, self.n_clusters, self.n_init, self.seed)
        self._training = TrainingRows("tsne_gmm", rows, mixture.predict_proba(latent).astype(np.float32))
        self.map_ = latent.astype(np.float32)

    def regrouped(self, n_clusters: int) -> Self:
        """Another number of components on the map that was fitted."""
        other = replace(self, n_clusters=n_clusters)
        other._group(self.map_.astype(np.float64), self._training.rows)
        return other

    def describe(self, features: np.ndarray) -> Described:
        """What is known of the nearest training row: greatest responsibility, responsibilities, place on the map."""
        nearest = self._training.nearest(features)
        responsibilities = self._training.responsibilities[nearest]
        assignments = responsibilities.argmax(axis=1).astype(np.int64)
        return Described(assignments, responsibilities, self.map_[nearest], None)

    def get_arrays(self) -> dict[str, np.ndarray]:
        """Training rows, their responsibilities and the map."""
        return self._training.arrays() | {"map": self.map_}

    def set_arrays(self, arrays: Mapping[str, np.ndarray]) -> Self:
        """Take over training rows, their responsibilities and the map."""
        self._training = TrainingRows("tsne_gmm", arrays["rows"], arrays["responsibilities"])
        self.map_ = arrays["map"]
        return self

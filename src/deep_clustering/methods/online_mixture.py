"""An online mixture of Gaussians: batches of a stream update it, open components where rows are new, and merge others.

Its parts are known ones: EM by steps of Cappé and Moulines, "On-line expectation-maximization algorithm for latent data
models", Journal of the Royal Statistical Society B 71, 2009; a component for rows that are far from all, as in Engel
and Heinen, "Incremental learning of multivariate Gaussian mixture models", SBIA 2010; and Runnalls' bound of what a
merge costs, "Kullback-Leibler approach to Gaussian mixture reduction", IEEE Transactions on Aerospace and Electronic
Systems 43, 2007. With a whole set it passes over shuffled batches of it; `partial_fit` takes one batch of a stream.

Symbols
    z           row in the space of the mixture        _project                        (n, n_dims)
    n_m         rows of component m, fading            counts_                         (n_components,)
    a_m, b_m    sums of its rows and of their squares  sums_, squares_                 (n_components, n_dims) each
    mu_m, v_m   mean and variances                     moments                         (n_components, n_dims) each
    D           n_dims
    K, M        clusters, and components at most       n_clusters, components_per_cluster
    rho         what is left of the past in a batch    memory

Equations
    (1) density   p(z) = sum_m w_m N(z; mu_m, diag v_m), w_m = n_m / sum_l n_l
    (2) update    (n, a, b)_m <- rho (n, a, b)_m + sum_i r_im (1, z_i, z_i^2) over the rows of a batch that are not new,
                  r_im the probability of m for z_i by (1)
    (3) moments   mu_m = a_m / n_m, v_m = (b_m - n_m mu_m^2 + n_0 v) / (n_m + n_0), v the variance within all
    (4) new       a row is new where min_m (z - mu_m)^T diag(v_m)^-1 (z - mu_m) / D > novelty; the new rows of a batch
                  are cut by k-means into at most M new components
    (5) merge     what the log-likelihood loses at most where components k and l become one with their joint moments,
                  B_kl = 1/2 sum_d ((n_k + n_l) ln v_kl - n_k ln v_k - n_l ln v_l)
    (6) room      the two of least B_kl merge while there are more than M components
    (7) clusters  merges by (5) go on, in a copy, until K are left: a cluster is all components that went into it, and
                  p(k | z) the sum of their probabilities

Departures, or choices where the papers leave one
    O1 (4) is in units of what a component's own rows have, 1 on average: rows of real clusters lie farther out than
       those of a Gaussian, so that a quantile of its distribution would call many of them new
    O2 rho instead of a step size that falls: components follow a stream that changes
    O3 no test decides that a component is one too many: there is room for M, and those merge that lose least
    O4 z are the first principal components of the first batch, or in `fit` of the whole set; the axes stay
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Self

import numpy as np
from annotated_types import Ge, Gt, Le
from scipy import sparse
from scipy.special import log_softmax, logsumexp
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from deep_clustering.checks import check_features, check_rows
from deep_clustering.methods.baselines import no_history
from deep_clustering.methods.nearest_rows import dense_rows, draw_rows
from deep_clustering.options import check_fields
from deep_clustering.training.checkpoints import Checkpoints
from deep_clustering.training.described import Described, Describing

# Bound of a log density in single precision.
_LEAST_DENSITY = -1e38
# Least variance of a component, as a share of the mean one within components.
_FLOOR = 1e-3
# Where squares overflow no component is nearer than another: equal shares, and no NaN.
_FARTHEST = 1e300
# Rows that the axes of a whole set are found by.
_AXES_ROWS = 20_000


def log_joint(points: np.ndarray, weights: np.ndarray, means: np.ndarray, variances: np.ndarray) -> np.ndarray:
    """Log w_m + log N(z; mu_m, diag v_m) of (1), shape (n, n_components)."""
    normaliser = np.log(2 * np.pi * variances).sum(axis=1)
    return np.log(weights) - (squared_lengths(points, means, variances) + normaliser) / 2


def squared_lengths(points: np.ndarray, means: np.ndarray, variances: np.ndarray) -> np.ndarray:
    """Squared distance to each mean in units of the variances, shape (n, n_components)."""
    with np.errstate(over="ignore"):
        lengths = [
            ((points - mean) ** 2 / variance).sum(axis=1) for mean, variance in zip(means, variances, strict=True)
        ]
    return np.minimum(np.stack(lengths, axis=1), _FARTHEST)


def merge_costs(counts: np.ndarray, means: np.ndarray, variances: np.ndarray) -> np.ndarray:
    """Equation (5) of all pairs, shape (n_components, n_components), infinite on the diagonal."""
    pairs = counts[:, None] + counts
    share = (counts[:, None] / pairs)[:, :, None]
    gaps = (means[:, None] - means) ** 2
    joint = share * variances[:, None] + (1 - share) * variances + share * (1 - share) * gaps
    own = counts * np.log(variances).sum(axis=1)
    costs = (pairs * np.log(joint).sum(axis=2) - own[:, None] - own) / 2
    np.fill_diagonal(costs, np.inf)
    return costs


def cheapest_pair(costs: np.ndarray) -> tuple[int, int]:
    """Places of the two components whose merge costs least, the lower one first."""
    first, second = np.unravel_index(costs.argmin(), costs.shape)
    return min(int(first), int(second)), max(int(first), int(second))


@dataclass(kw_only=True)
class OnlineMixture(Describing):
    """An online mixture; fields are its hyper-parameters, learned state ends in an underscore."""

    name: ClassVar = "online_mixture"

    n_clusters: Annotated[int, Ge(2)]
    """Number of clusters K that components are merged to."""
    seed: Annotated[int, Ge(0), Le(2**32 - 1)]
    """Seed of the shuffles and of k-means."""
    components_per_cluster: Annotated[int, Ge(1)]
    """M as a multiple of K; from 2 on a cluster need not be one Gaussian."""
    pca_dim: Annotated[int, Ge(0)]
    """Dimensions of the space of the mixture (O4); 0 or more than there are: all."""
    passes: Annotated[int, Ge(1)]
    """Passes over a whole set."""
    batch_size: Annotated[int, Ge(2)]
    """Rows in a batch of a whole set."""
    novelty: Annotated[float, Gt(0)]
    """Mean squared distance, in units of a component's own, above which a row is new (4)."""
    memory: Annotated[float, Gt(0), Le(1)]
    """rho of (2); 1 forgets nothing."""
    prior_rows: Annotated[float, Gt(0)]
    """n_0 of (3)."""
    history_: dict[str, np.ndarray] = field(default_factory=no_history, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_fields(self)
        self.n_features_: int | None = None

    @property
    def n_components(self) -> int:
        """M."""
        return self.components_per_cluster * self.n_clusters

    def fit(
        self,
        features: np.ndarray,
        neighbours: np.ndarray | None = None,
        checkpoints: Checkpoints | None = None,
        weights: np.ndarray | None = None,
    ) -> Self:
        """Forget what was learned, and pass over shuffled batches of a whole set.

        Args:
            features: Shape (n_samples, ...), dense or CSR; float.
            neighbours: Not used.
            checkpoints: Not used.
            weights: How much each row counts, shape (n_samples,), above 0.

        Returns:
            The fitted estimator.

        Raises:
            ValueError: if the features cannot be used.
        """
        check_features(features, self.n_clusters, self.name)
        self._begin(features[draw_rows(features.shape[0], _AXES_ROWS, self.seed)])
        shares = np.ones(features.shape[0]) if weights is None else weights / weights.mean()
        generator = np.random.default_rng(self.seed)
        for _ in range(self.passes):
            order = generator.permutation(len(shares))
            for batch in np.array_split(order, max(1, len(order) // self.batch_size)):
                self._learn(self._project(features[batch]), shares[batch])
        return self

    def partial_fit(self, features: np.ndarray | sparse.csr_matrix) -> Self:
        """Learn from the next batch of a stream, of the width of the first.

        Args:
            features: Shape (n, ...), dense or CSR; float.

        Returns:
            The estimator, which describes rows from then on.

        Raises:
            ValueError: if the rows have another width than those before, are not finite, or are too few in the first
                batch, whose axes stay.
        """
        check_rows(features, self.name)
        if self.n_features_ is None:
            n_rows, width = features.shape[0], int(np.prod(features.shape[1:]))
            if n_rows <= self.pca_dim < width:
                raise ValueError(
                    f"{self.name}: the first batch has {n_rows} rows, expected more than pca_dim ({self.pca_dim}): the "
                    "axes that are found in it stay"
                )
            self._begin(features)
        points = self._project(features)
        self._learn(points, np.ones(len(points)))
        return self

    def _begin(self, features: np.ndarray | sparse.csr_matrix) -> None:
        """Axes (O4), and no components."""
        flat = dense_rows(features).astype(np.float64)
        self.n_features_ = flat.shape[1]
        n_dims = min(self.pca_dim or self.n_features_, self.n_features_)
        self.origin_, self.axes_ = flat.mean(axis=0), np.eye(self.n_features_)
        if n_dims < self.n_features_:
            most = min(n_dims, len(flat))
            self.axes_ = PCA(most, random_state=self.seed).fit(flat).components_.T
        n_dims = self.axes_.shape[1]
        self.counts_, self.sums_, self.squares_ = np.zeros(0), np.zeros((0, n_dims)), np.zeros((0, n_dims))

    def _project(self, features: np.ndarray | sparse.csr_matrix) -> np.ndarray:
        """Rows in the space of the mixture, shape (n, n_dims), float64."""
        check_rows(features, self.name)
        if self.n_features_ is None:
            raise ValueError(f"{self.name}: not fitted: call fit or partial_fit first")
        flat = dense_rows(features)
        if flat.shape[1] != self.n_features_:
            raise ValueError(f"{self.name}: each row must have {self.n_features_} values, got {flat.shape[1]}")
        return (flat.astype(np.float64) - self.origin_) @ self.axes_

    def moments(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Weights (n_components,), means and variances (n_components, n_dims): (3)."""
        counts = self.counts_[:, None]
        means = self.sums_ / counts
        within = np.maximum(self.squares_ - counts * means**2, 0)
        shared = within.sum(axis=0) / counts.sum()
        floor = _FLOOR * shared.mean() + np.finfo(np.float32).tiny
        variances = (within + self.prior_rows * shared) / (counts + self.prior_rows)
        return self.counts_ / self.counts_.sum(), means, np.maximum(variances, floor)

    def _learn(self, points: np.ndarray, shares: np.ndarray) -> None:
        """A batch: (2) for the rows that are known, (4) for the others, and (6)."""
        is_new = np.ones(len(points), dtype=bool)
        self.counts_, self.sums_, self.squares_ = (self.memory * part for part in self._state())
        if len(self.counts_):
            weights, means, variances = self.moments()
            lengths = squared_lengths(points, means, variances)
            is_new = lengths.min(axis=1) > self.novelty * points.shape[1]
            known = points[~is_new]
            log_r = log_softmax(log_joint(known, weights, means, variances), axis=1)
            self._add(known, np.exp(log_r) * shares[~is_new, None])
        if is_new.any():
            self._open(points[is_new], shares[is_new])
        self._reduce()

    def _state(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.counts_, self.sums_, self.squares_

    def _add(self, points: np.ndarray, responsibilities: np.ndarray) -> None:
        self.counts_ += responsibilities.sum(axis=0)
        self.sums_ += responsibilities.T @ points
        self.squares_ += responsibilities.T @ points**2

    def _open(self, points: np.ndarray, shares: np.ndarray) -> None:
        """Components of new rows."""
        n_groups = min(self.n_components, len(np.unique(points, axis=0)))
        found = KMeans(n_groups, n_init=1, random_state=self.seed).fit_predict(points, sample_weight=shares)
        members = (found[:, None] == np.unique(found)) * shares[:, None]
        n_new = members.shape[1]
        opened = (np.zeros(n_new), *(np.zeros((n_new, points.shape[1])) for _ in range(2)))
        self.counts_, self.sums_, self.squares_ = (
            np.concatenate(parts) for parts in zip(self._state(), opened, strict=True)
        )
        everywhere = np.zeros((len(points), len(self.counts_)))
        everywhere[:, -n_new:] = members
        self._add(points, everywhere)

    def _reduce(self) -> None:
        """Drop what has faded, and make room (6)."""
        kept = self.counts_ > np.finfo(np.float32).eps * self.counts_.sum()
        self.counts_, self.sums_, self.squares_ = (part[kept] for part in self._state())
        while len(self.counts_) > self.n_components:
            first, second = cheapest_pair(merge_costs(self.counts_, *self.moments()[1:]))
            for part in self._state():
                part[first] += part[second]
            self.counts_, self.sums_, self.squares_ = (np.delete(part, second, axis=0) for part in self._state())

    def clusters(self) -> np.ndarray:
        """Cluster of each component by (7), shape (n_components,), int64."""
        _, means, variances = self.moments()
        counts, squares, floor = self.counts_.copy(), variances + means**2, variances.min()
        groups = [[place] for place in range(len(counts))]
        while len(groups) > self.n_clusters:
            first, second = cheapest_pair(merge_costs(counts, means, np.maximum(squares - means**2, floor)))
            share = counts[first] / (counts[first] + counts[second])
            for part in (means, squares):
                part[first] = share * part[first] + (1 - share) * part[second]
            counts[first] += counts[second]
            groups[first] += groups.pop(second)
            counts, means, squares = (np.delete(part, second, axis=0) for part in (counts, means, squares))
        of_components = np.zeros(len(self.counts_), dtype=np.int64)
        for cluster, group in enumerate(groups):
            of_components[group] = cluster
        return of_components

    def describe(self, features: np.ndarray) -> Described:
        """Most probable cluster, probabilities (7), z, and the log of (1) in nats, which is a density of z."""
        points = self._project(features)
        joint = log_joint(points, *self.moments())
        clusters = self.clusters()
        of_clusters = np.full((len(points), self.n_clusters), -np.inf)
        for cluster in range(clusters.max() + 1):
            of_clusters[:, cluster] = logsumexp(joint[:, clusters == cluster], axis=1)
        log_density = logsumexp(of_clusters, axis=1)
        logs = of_clusters - log_density[:, None]
        responsibilities = np.exp(logs).astype(np.float32)
        assignments = responsibilities.argmax(axis=1).astype(np.int64)
        density = log_density.clip(_LEAST_DENSITY).astype(np.float32)
        return Described(assignments, responsibilities, points.astype(np.float32), density, logs)

    def get_arrays(self) -> dict[str, np.ndarray]:
        """Axes and components: all that further batches need."""
        names = ("origin", "axes", "counts", "sums", "squares")
        return {name: getattr(self, f"{name}_") for name in names}

    def set_arrays(self, arrays: Mapping[str, np.ndarray]) -> Self:
        """Take over what `get_arrays` gave."""
        for name, array in arrays.items():
            setattr(self, f"{name}_", array)
        self.n_features_ = len(self.origin_)
        return self

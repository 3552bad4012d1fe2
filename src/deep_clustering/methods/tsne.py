"""Two-dimensional maps by t-SNE: scikit-learn's Barnes-Hut for few rows, openTSNE for many.

Van der Maaten, Accelerating t-SNE using tree-based algorithms, JMLR 2014; Linderman et al., Fast interpolation-based
t-SNE, Nature Methods 2019, which openTSNE takes beyond 10,000 rows. Both start from the principal components and take
exact nearest neighbours.
"""

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import NearestNeighbors

NEIGHBOURS_PER_PERPLEXITY = 3


def tsne_needs(n_rows: int, n_features: int, *, perplexity: float, barnes_hut_rows: int) -> tuple[float, float]:
    """Memory in GB and seconds on one core that a map of so many rows takes, roughly."""
    # Copies of the rows; the joint probabilities are made symmetric, and exist twice while they are.
    gigabytes = n_rows * (8 * n_features + 48 * NEIGHBOURS_PER_PERPLEXITY * perplexity) / 1e9
    seconds = 8e-3 * n_rows if n_rows <= barnes_hut_rows else 40 + 2e-3 * n_rows + 6e-9 * n_rows**2
    return gigabytes, seconds


def tsne_map(rows: np.ndarray, *, perplexity: float, pca_dim: int, barnes_hut_rows: int, seed: int) -> np.ndarray:
    """Place rows in the plane so that near ones stay near.

    Args:
        rows: Shape (n_samples, n_features), finite.
        perplexity: Effective number of neighbours; lowered to a third of the other rows if it is larger.
        pca_dim: Rows of more values are reduced to so many principal components first.
        barnes_hut_rows: Up to so many rows the map is scikit-learn's; the time of openTSNE's grows linearly.
        seed: Seed of the principal components.

    Returns:
        Coordinates without unit, shape (n_samples, 2), float32.
    """
    n_samples, n_features = rows.shape
    perplexity = min(perplexity, (n_samples - 1) / NEIGHBOURS_PER_PERPLEXITY)
    if n_features == 1:  # a second value for the second component that both start from; no distance changes
        rows = np.pad(rows, ((0, 0), (0, 1)))
    elif n_features > pca_dim:
        rows = PCA(min(pca_dim, n_samples), random_state=seed).fit_transform(rows)
    if n_samples <= barnes_hut_rows:
        return TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(rows)
    return _interpolated_map(rows, perplexity, seed)


def fit_on_map(places: np.ndarray, n_clusters: int, n_init: int, seed: int) -> GaussianMixture:
    """Gaussian mixture of the places of rows on a map.

    Args:
        places: Shape (n_samples, 2); several rows may have one place.
        n_clusters: Number of components.
        n_init: Number of starts.
        seed: Seed of the starts.

    Returns:
        The fitted mixture.
    """
    mixture = GaussianMixture(n_clusters, n_init=n_init, random_state=seed)
    try:
        return mixture.fit(places)
    except ValueError:  # equal rows have one place, where a covariance vanishes beside the width of the map
        places = places.astype(np.float64)
        return mixture.set_params(reg_covar=1e-6 * places.var()).fit(places)


def _interpolated_map(rows: np.ndarray, perplexity: float, seed: int) -> np.ndarray:
    import openTSNE
    from openTSNE.affinity import PerplexityBasedNN
    from openTSNE.nearest_neighbors import PrecomputedNeighbors

    # Its own search is approximate, and different from one version to the next.
    search = NearestNeighbors(n_neighbors=int(NEIGHBOURS_PER_PERPLEXITY * perplexity), algorithm="brute").fit(rows)
    distances, indices = search.kneighbors()
    affinities = PerplexityBasedNN(perplexity=perplexity, knn_index=PrecomputedNeighbors(indices, distances))
    start = openTSNE.initialization.pca(rows, random_state=seed)
    embedding = openTSNE.TSNE(random_state=seed).fit(affinities=affinities, initialization=start)
    return np.asarray(embedding, dtype=np.float32)

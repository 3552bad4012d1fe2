"""Two-dimensional picture of a latent space: principal axes, then t-SNE on a bounded number of rows."""

import hashlib

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

MIN_TSNE_ROWS = 10
MAX_AXES = 50
MAX_ITERATIONS = 500
PERPLEXITY = 30.0
N_ANCHORS = 3

# The last maps of this process, the oldest first, by what they are of.
_MOST_KEPT = 8
_kept: dict[tuple[object, ...], np.ndarray] = {}


def place_rows(rows: np.ndarray, *, seed: int, max_points: int = 5000) -> np.ndarray:
    """What `project_latent` says, worked out once for the same rows.

    Methods without a network have the rows themselves for their latent, and a comparison has a map of the rows as well.

    Args:
        rows: shape (n_samples, n_features), finite.
        seed: as in `project_latent`.
        max_points: as in `project_latent`.

    Returns:
        Coordinates, shape (n_samples, 2), float32; those of the caller alone.
    """
    content = hashlib.blake2b(np.ascontiguousarray(rows).data).digest()
    key = (content, rows.shape, rows.dtype.str, seed, min(max_points, len(rows)))
    found = _kept.pop(key, None)
    if found is None:
        found = project_latent(rows, seed=seed, max_points=max_points)
    _kept[key] = found
    if len(_kept) > _MOST_KEPT:
        del _kept[next(iter(_kept))]
    return found.copy()


def project_latent(latent: np.ndarray, *, seed: int, max_points: int = 5000) -> np.ndarray:
    """Place samples in the plane so that neighbours in the latent space stay neighbours.

    At most `max_points` rows, a seeded draw, go through t-SNE; each further row is put at the mean of its
    nearest embedded neighbours. Fewer than ten rows are shown on their two principal axes instead.

    Args:
        latent: shape (n_samples, latent_dim), finite.
        seed: seed of the draw and of t-SNE; the same seed gives the same coordinates.
        max_points: largest number of rows that t-SNE sees, at least 10.

    Returns:
        Coordinates without unit, shape (n_samples, 2), float32; all zero when the latent is constant.

    Raises:
        ValueError: if latent is not a finite matrix with at least one row and column, or max_points < 10.
    """
    if latent.ndim != 2 or latent.size == 0 or not np.isfinite(latent).all():
        raise ValueError(f"project_latent: latent must be finite (n_samples, latent_dim), got shape {latent.shape}")
    if max_points < MIN_TSNE_ROWS:
        raise ValueError(f"project_latent: max_points must be at least {MIN_TSNE_ROWS}, got {max_points}")
    # one thread: a parallel sum changes its last bits with the number of threads, and t-SNE amplifies them
    with threadpool_limits(limits=1):
        axes = _principal_axes(latent, seed=seed)
        if len(axes) < MIN_TSNE_ROWS or not axes.any():
            return axes[:, :2]
        return _embed_and_place(axes, seed=seed, max_points=max_points)


def draw_points(n_samples: int, most: int, *, seed: int) -> np.ndarray:
    """Rows that are on a map.

    Args:
        n_samples: How many there are.
        most: How many are shown at most.
        seed: Of the draw.

    Returns:
        Their numbers in ascending order, shape (min(n_samples, most),), int64; all of them unless there are more.
    """
    if n_samples <= most:
        return np.arange(n_samples)
    return np.sort(np.random.default_rng(seed).choice(n_samples, most, replace=False))


def _principal_axes(latent: np.ndarray, *, seed: int) -> np.ndarray:
    """Scores on the leading principal axes, (n_samples, 2..50) float32, largest absolute value about 1."""
    n_samples = len(latent)
    if not np.ptp(latent, axis=0).any():
        return np.zeros((n_samples, 2), dtype=np.float32)
    centred = latent - latent.mean(axis=0, dtype=np.float64)
    centred = (centred / np.abs(centred).max()).astype(np.float32)
    n_axes = min(MAX_AXES, *latent.shape)
    axes = PCA(n_components=n_axes, random_state=seed).fit_transform(centred)
    missing = max(0, 2 - n_axes)
    return np.pad(axes, ((0, 0), (0, missing))).astype(np.float32)


def _embed_and_place(axes: np.ndarray, *, seed: int, max_points: int) -> np.ndarray:
    """Embed a seeded draw of rows by t-SNE and place the others among them."""
    order = np.random.default_rng(seed).permutation(len(axes))
    drawn, others = np.sort(order[:max_points]), order[max_points:]
    coordinates = np.empty((len(axes), 2), dtype=np.float32)
    coordinates[drawn] = _tsne(axes[drawn], seed=seed)
    if len(others):
        neighbours = NearestNeighbors(n_neighbors=N_ANCHORS).fit(axes[drawn])
        anchors = neighbours.kneighbors(axes[others], return_distance=False)
        coordinates[others] = coordinates[drawn][anchors].mean(axis=1)
    return coordinates


def _tsne(axes: np.ndarray, *, seed: int) -> np.ndarray:
    """t-SNE started from the first two principal axes."""
    spread = float(axes[:, 0].std()) or 1.0
    # a little noise lets a latent of dimension one, or repeated rows, leave their line or point
    noise = np.random.default_rng(seed).normal(scale=1e-6, size=(len(axes), 2))
    start = (axes[:, :2] / spread * 1e-4 + noise).astype(np.float32)
    tsne = TSNE(
        init=start,
        perplexity=min(PERPLEXITY, (len(axes) - 1) / 3),
        max_iter=MAX_ITERATIONS,
        random_state=seed,
        n_jobs=1,
    )
    return tsne.fit_transform(axes)

"""Every method on few, equal or one-dimensional rows gives a partition, or says beforehand what is amiss."""

import re

import numpy as np
import pytest

from deep_clustering.methods import METHODS, make_method
from deep_clustering.methods.starts import STARTS

STARTS_OF_VECTORS = {
    "dcan": ("none", "kmeans", "ward", "tsne_gmm"),
    "neural_mixture": ("none", "kmeans", "ward", "tsne_gmm", "overclustering", "dac"),
}
START = {
    "n_init": 1,
    "hold": 0.5,
    "max_rows": 1000,
    "map_rows": 1000,
    "perplexity": 30.0,
    "pca_dim": 50,
    "barnes_hut_rows": 1000,
    "components_per_cluster": 5,
    "epochs": 0.5,
    "core": 0.6,
    "trainings": 1,
    "learning_rate": 1.0e-3,
    "upper": 0.95,
    "lower": 0.455,
    "growth": 1.0,
}
CASES = [(method, start) for method in METHODS for start in STARTS_OF_VECTORS.get(method, (None,))]


def two_groups(n_rows, n_columns=4):
    """Two groups that are far apart."""
    rows = np.random.default_rng(0).normal(size=(n_rows, n_columns)).astype(np.float32)
    rows[n_rows // 2 :] += 9
    return rows


TINY = {
    "3 rows": (two_groups(3), 2),
    "10 rows": (two_groups(10), 3),
    "40 rows": (two_groups(40), 3),
    "one column": (two_groups(40, 1), 2),
    "constant columns": (np.pad(two_groups(40), ((0, 0), (0, 2)), constant_values=1), 2),
    "equal rows": (np.repeat(two_groups(6), 7, axis=0), 4),
    "as many clusters as different rows": (np.repeat(two_groups(4), 10, axis=0), 4),
}


def make(tiny_options, method, start, n_clusters):
    changes = {"n_clusters": n_clusters}
    if method == "dcan":
        changes["latent_dim"] = 2
    if start is not None:
        assert start in STARTS
        changes["start"] = {"kind": start, **(START if start != "none" else {})}
    return make_method(tiny_options(method, "vectors", **changes))


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("rows", TINY)
@pytest.mark.parametrize(("method", "start"), CASES, ids=str)
def test_few_or_equal_rows_are_clustered(tiny_options, method, start, rows):
    features, n_clusters = TINY[rows]
    estimator = make(tiny_options, method, start, n_clusters).fit(features)
    described = estimator.describe(features)
    assert described.assignments.shape == (len(features),)
    assert set(described.assignments.tolist()) <= set(range(n_clusters))
    np.testing.assert_allclose(described.responsibilities.sum(axis=1), 1, rtol=1e-4)
    _, first, inverse = np.unique(features, axis=0, return_index=True, return_inverse=True)
    np.testing.assert_array_equal(described.assignments, described.assignments[first][inverse.ravel()])


@pytest.mark.parametrize(("method", "start"), CASES, ids=str)
@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.repeat(two_groups(3), 10, axis=0), "must be at most the number of distinct rows, got 4 for 30 rows of"),
        (two_groups(3), "must be at most the number of rows, got 4 for 3 rows"),
        (np.ones((20, 4), dtype=np.float32), "all 20 rows are equal (constant features), there is nothing to cluster"),
        (np.zeros((0, 4), dtype=np.float32), "must not be empty, got shape (0, 4)"),
        (np.zeros((20, 0), dtype=np.float32), "must not be empty, got shape (20, 0)"),
    ],
)
def test_too_few_rows_are_refused_with_what_was_got(tiny_options, method, start, features, message):
    with pytest.raises(ValueError, match=rf"^{method}: .*{re.escape(message)}"):
        make(tiny_options, method, start, 4).fit(features)


def test_a_latent_too_wide_for_the_rows_is_refused(tiny_options):
    options = tiny_options("dcan", "vectors", n_clusters=2, latent_dim=10)
    with pytest.raises(ValueError, match=r"dcan: latent_dim must be below .*, got 10 for 6 \(two views of 3 rows"):
        make_method(options).fit(two_groups(3))

"""The baselines against scikit-learn called directly, and their own rules for responsibilities and new rows."""

import logging
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import multivariate_normal
from sklearn.cluster import AgglomerativeClustering, KMeans
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE, trustworthiness
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

from deep_clustering.methods import baselines, make_method
from deep_clustering.methods.nearest_rows import TrainingRows, draw_rows
from deep_clustering.training import scratch


def fitted(tiny_options, name, features, **changes):
    return make_method(tiny_options(name, "vectors", n_clusters=3, **changes)).fit(features)


@pytest.fixture
def noisy() -> np.ndarray:
    """Overlapping groups (90, 4), so that responsibilities are soft."""
    rng = np.random.default_rng(0)
    return (rng.normal(size=(90, 4)) + 2 * np.eye(3, 4)[np.arange(90) % 3]).astype(np.float32)


def test_kmeans_is_scikit_learns(tiny_options, noisy):
    oracle = KMeans(3, n_init=4, random_state=0).fit(noisy)
    estimator = fitted(tiny_options, "kmeans", noisy, n_init=4, seed=0)
    np.testing.assert_array_equal(estimator.predict(noisy), oracle.predict(noisy))
    np.testing.assert_allclose(estimator.get_arrays()["centroids"], oracle.cluster_centers_)


def test_kmeans_responsibilities_are_those_of_equal_spherical_gaussians(tiny_options, noisy):
    estimator = fitted(tiny_options, "kmeans", noisy)
    centroids = estimator.get_arrays()["centroids"].astype(np.float64)
    residuals = noisy - centroids[estimator.predict(noisy)]
    variance = (residuals**2).mean()  # maximum likelihood of a spherical variance
    densities = np.stack([multivariate_normal(centre, variance).pdf(noisy) for centre in centroids], axis=1)
    expected = densities / densities.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(estimator.predict_proba(noisy), expected, atol=1e-4)


def test_kmeans_of_mapped_rows_in_pieces_is_that_of_rows_in_memory(tiny_options, noisy, tmp_path, monkeypatch):
    np.save(tmp_path / "rows.npy", noisy)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    expected = fitted(tiny_options, "kmeans", noisy)
    said = expected.describe(noisy)
    monkeypatch.setattr(baselines, "_NUMBERS", 40)  # ten rows
    monkeypatch.setattr(scratch, "MOST_IN_MEMORY", 1000)
    got = fitted(tiny_options, "kmeans", mapped)
    np.testing.assert_array_equal(got.get_arrays()["centroids"], expected.get_arrays()["centroids"])
    of_pieces = got.describe(mapped)
    np.testing.assert_array_equal(of_pieces.assignments, said.assignments)
    np.testing.assert_allclose(of_pieces.responsibilities, said.responsibilities, rtol=1e-6)
    np.testing.assert_allclose(of_pieces.log_responsibilities, said.log_responsibilities, rtol=1e-9)
    np.testing.assert_array_equal(mapped, noisy)  # nobody wrote to it


def test_kmeans_of_mapped_rows_holds_no_copy_of_them(tiny_options, tmp_path, monkeypatch):
    """Not even scikit-learn, which finds its tolerance by `numpy.var` of all rows; a start asks for clusters alone."""
    rows = np.random.default_rng(0).normal(size=(40_000, 128)).astype(np.float32) + 3
    rows[::2] *= -1
    np.save(tmp_path / "rows.npy", rows)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    monkeypatch.setattr(baselines, "_NUMBERS", 2**16)
    monkeypatch.setattr(scratch, "MOST_IN_MEMORY", 2**20)
    kmeans = fitted(tiny_options, "kmeans", mapped[:1000])  # imports and first buffers
    tracemalloc.start()
    kmeans.fit(mapped)
    clusters = kmeans.nearest(mapped)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < rows.nbytes / 2
    np.testing.assert_array_equal(clusters, kmeans.predict(mapped))


def test_kmeans_of_mapped_rows_stops_where_scikit_learn_does(tmp_path):
    """Whose tolerance is a share of the mean variance of the columns."""
    rows = np.random.default_rng(0).normal(size=(500, 7)) * np.arange(1, 8)
    kmeans = baselines._OfMappedRows(3, n_init=1, random_state=0, copy_x=False).fit(rows.copy())
    assert kmeans._tol == pytest.approx(1e-4 * rows.var(axis=0).mean(), rel=1e-9)
    assert kmeans.tol == 1e-4
    assert kmeans.n_iter_ == KMeans(3, n_init=1, random_state=0).fit(rows).n_iter_


def test_kmeans_with_a_cluster_per_row_has_hard_responsibilities(tiny_options):
    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    estimator = fitted(tiny_options, "kmeans", rows)
    assignments = estimator.predict(rows)
    assert sorted(assignments) == [0, 1, 2]
    np.testing.assert_array_equal(estimator.predict_proba(rows), np.eye(3)[assignments])


@pytest.mark.parametrize("covariance", ["full", "tied", "diag", "spherical"])
def test_mixture_is_scikit_learns_before_and_after_loading(tiny_options, noisy, covariance):
    options = {"covariance": covariance, "n_init": 2, "seed": 1, "regularisation": 1e-3, "max_iterations": 50}
    oracle = GaussianMixture(3, covariance_type=covariance, n_init=2, random_state=1, reg_covar=1e-3, max_iter=50).fit(
        noisy.astype(np.float64)
    )
    estimator = fitted(tiny_options, "gmm", noisy, **options)
    loaded = make_method(tiny_options("gmm", "vectors", n_clusters=3, **options)).set_arrays(estimator.get_arrays())
    for method in (estimator, loaded):
        np.testing.assert_array_equal(method.predict(noisy), oracle.predict(noisy))
        np.testing.assert_allclose(method.predict_proba(noisy), oracle.predict_proba(noisy), atol=1e-5)


def test_mixture_responsibilities_are_bayes_rule(tiny_options, noisy):
    estimator = fitted(tiny_options, "gmm", noisy, covariance="full")
    learned = estimator.get_arrays()
    densities = np.stack(
        [
            weight * multivariate_normal(mean, covariance).pdf(noisy)
            for weight, mean, covariance in zip(
                learned["weights"], learned["means"], learned["covariances"], strict=True
            )
        ],
        axis=1,
    )
    expected = densities / densities.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(estimator.predict_proba(noisy), expected, atol=1e-4)


def test_ward_is_scikit_learns_and_hard(tiny_options, noisy):
    oracle = AgglomerativeClustering(3, linkage="ward").fit_predict(noisy)
    estimator = fitted(tiny_options, "ward", noisy)
    np.testing.assert_array_equal(estimator.predict(noisy), oracle)
    np.testing.assert_array_equal(estimator.predict_proba(noisy), np.eye(3)[oracle])


@pytest.mark.parametrize("name", ["ward", "tsne_gmm"])
def test_a_new_row_takes_what_its_nearest_training_row_has(tiny_options, noisy, name):
    estimator = fitted(tiny_options, name, noisy)
    new = noisy[:30] + np.random.default_rng(1).normal(0, 0.5, size=(30, 4)).astype(np.float32)
    nearest = cdist(new, noisy).argmin(axis=1)
    assert (nearest != np.arange(30)).any()
    np.testing.assert_array_equal(estimator.predict(new), estimator.predict(noisy)[nearest])
    np.testing.assert_array_equal(estimator.predict_proba(new), estimator.predict_proba(noisy)[nearest])
    if name == "tsne_gmm":
        np.testing.assert_array_equal(estimator.transform(new), estimator.transform(noisy)[nearest])


@pytest.mark.parametrize("name", ["kmeans", "gmm", "ward"])
def test_images_are_flattened(tiny_options, digits, name):
    estimator = make_method(tiny_options(name)).fit(digits)
    flat = digits.reshape(len(digits), -1)
    np.testing.assert_array_equal(estimator.transform(digits), flat)
    other = make_method(tiny_options(name)).fit(flat)
    np.testing.assert_array_equal(estimator.predict(digits), other.predict(flat))


def test_tsne_mixture_is_a_mixture_on_the_map(tiny_options, noisy):
    estimator = fitted(tiny_options, "tsne_gmm", noisy, n_init=3)
    latent = TSNE(2, perplexity=10.0, init="pca", random_state=0).fit_transform(noisy)
    np.testing.assert_allclose(estimator.transform(noisy), latent, rtol=1e-4)
    oracle = GaussianMixture(3, n_init=3, random_state=0).fit(latent)
    np.testing.assert_array_equal(estimator.predict(noisy), oracle.predict(latent))


@pytest.mark.parametrize("barnes_hut_rows", [0, 1000])
def test_rows_of_one_value_have_a_map(tiny_options, barnes_hut_rows):
    groups = np.arange(90) % 3
    rows = (100.0 * groups + np.random.default_rng(0).normal(size=90)).astype(np.float32)[:, None]
    estimator = fitted(tiny_options, "tsne_gmm", rows, barnes_hut_rows=barnes_hut_rows, n_init=5)
    assert estimator.transform(rows).shape == (90, 2)
    assert adjusted_rand_score(estimator.predict(rows), groups) == 1


def test_tsne_lowers_a_perplexity_that_is_too_large_for_the_rows(tiny_options, blobs):
    few = blobs[::4]
    estimator = fitted(tiny_options, "tsne_gmm", few, perplexity=500.0)
    latent = TSNE(2, perplexity=(len(few) - 1) / 3, init="pca", random_state=0).fit_transform(few)
    np.testing.assert_allclose(estimator.transform(few), latent, rtol=1e-4)


@pytest.mark.parametrize("name", ["kmeans", "gmm"])
def test_another_seed_finds_the_same_groups_under_other_names(tiny_options, blobs, name):
    assignments = [fitted(tiny_options, name, blobs, seed=seed, n_init=5).predict(blobs) for seed in range(3)]
    assert all(adjusted_rand_score(assignments[0], other) == 1 for other in assignments[1:])


# More rows than fit


def test_all_rows_are_drawn_in_order_if_they_fit():
    np.testing.assert_array_equal(draw_rows(5, 5, seed=0), np.arange(5))


def test_a_draw_is_of_different_rows_in_order_and_of_its_seed():
    drawn = draw_rows(1000, 100, seed=3)
    assert len(drawn) == 100
    assert (np.diff(drawn) > 0).all()
    assert 0 <= drawn[0] < drawn[-1] < 1000
    np.testing.assert_array_equal(drawn, draw_rows(1000, 100, seed=3))
    assert (drawn != draw_rows(1000, 100, seed=4)).any()


def test_ward_of_a_draw_gives_the_other_rows_to_their_nearest(tiny_options, noisy):
    estimator = fitted(tiny_options, "ward", noisy, max_rows=40, seed=5)
    drawn = noisy[draw_rows(len(noisy), 40, seed=5)]
    oracle = AgglomerativeClustering(3, linkage="ward").fit_predict(drawn)
    np.testing.assert_array_equal(estimator.predict(noisy), oracle[cdist(noisy, drawn).argmin(axis=1)])
    assert len(estimator.get_arrays()["rows"]) == 40


def test_the_map_of_a_draw_gives_the_other_rows_to_their_nearest(tiny_options, noisy):
    estimator = fitted(tiny_options, "tsne_gmm", noisy, max_rows=40, seed=5)
    drawn = noisy[draw_rows(len(noisy), 40, seed=5)]
    latent = TSNE(2, perplexity=10.0, init="pca", random_state=5).fit_transform(drawn)
    np.testing.assert_allclose(estimator.transform(noisy), latent[cdist(noisy, drawn).argmin(axis=1)], rtol=1e-4)


def test_long_rows_are_reduced_to_principal_components_before_the_map(tiny_options, digits):
    flat = digits.reshape(len(digits), -1)
    estimator = fitted(tiny_options, "tsne_gmm", flat, pca_dim=5)
    components = PCA(5, random_state=0).fit_transform(flat)
    latent = TSNE(2, perplexity=10.0, init="pca", random_state=0).fit_transform(components)
    np.testing.assert_allclose(estimator.transform(flat), latent, rtol=1e-3)


def test_the_map_of_many_rows_keeps_neighbours_and_repeats(tiny_options, digits):
    flat = digits.reshape(len(digits), -1)
    maps = [fitted(tiny_options, "tsne_gmm", flat, barnes_hut_rows=0).transform(flat) for _ in range(2)]
    np.testing.assert_array_equal(maps[0], maps[1])
    exact = TSNE(2, perplexity=10.0, init="pca", method="exact", random_state=0).fit_transform(flat)
    assert trustworthiness(flat, maps[0]) > trustworthiness(flat, exact) - 0.02
    assert trustworthiness(flat, maps[0]) > trustworthiness(flat, PCA(2).fit_transform(flat)) + 0.05


def test_the_map_of_many_rows_separates_what_is_separate(tiny_options, blobs, blob_labels):
    estimator = fitted(tiny_options, "tsne_gmm", blobs, barnes_hut_rows=0, perplexity=500.0)
    assert adjusted_rand_score(blob_labels, estimator.predict(blobs)) == 1


def test_a_new_row_between_equal_training_rows_goes_with_their_first():
    rows = np.float32([[0, 0], [4, 0], [0, 0], [4, 0], [0, 0]])
    training = TrainingRows("test", rows, np.eye(5, dtype=np.float32))
    np.testing.assert_array_equal(training.nearest(np.float32([[1, 0], [3, 0], [0, 0], [4, 0]])), [0, 1, 0, 1])


@pytest.mark.parametrize(("name", "work"), [("ward", "AgglomerativeClustering"), ("tsne_gmm", "tsne_map")])
def test_what_a_fit_needs_is_said_before_it_begins(tiny_options, noisy, monkeypatch, caplog, name, work):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(baselines, work, stop)
    with caplog.at_level(logging.INFO), pytest.raises(KeyboardInterrupt):
        fitted(tiny_options, name, noisy, max_rows=40)
    (message,) = caplog.messages
    assert message.startswith(f"{name}: 40 of 90 rows: ")
    assert "GB, seconds on one core; max_rows: " in message


def test_more_memory_than_is_free_is_refused_before_it_is_taken(tiny_options, monkeypatch):
    rows = np.random.default_rng(0).normal(size=(3000, 2)).astype(np.float32)
    monkeypatch.setattr(baselines, "free_memory", lambda: 4096 * 1000)
    with pytest.raises(MemoryError, match=r"ward: 3000 rows need about 0.072 GB .* 0.0041 GB are free; lower max_rows"):
        fitted(tiny_options, "ward", rows)
    fitted(tiny_options, "ward", rows, max_rows=300)  # 8 * 300^2 bytes fit into 4 MB


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("ward", {"max_rows": 2}, "max_rows must be at least 3, got 2"),
        ("ward", {"seed": -1}, "seed must be at least 0 and at most 4294967295"),
        ("tsne_gmm", {"max_rows": 2}, "max_rows must be at least 3, got 2"),
        ("tsne_gmm", {"pca_dim": 1}, "pca_dim must be at least 2, got 1"),
        ("tsne_gmm", {"barnes_hut_rows": -1}, "barnes_hut_rows must be at least 0, got -1"),
    ],
)
def test_bounds_that_make_no_sense_are_refused(tiny_options, name, changes, message):
    with pytest.raises(ValueError, match=message):
        make_method(tiny_options(name, "vectors", n_clusters=3, **changes))


def test_a_run_without_a_network_does_not_load_torch():
    """Importing it takes seconds, and the options of all methods are checked before every run."""
    code = (
        "import sys; import deep_clustering.training.checkpoints; from deep_clustering.methods import baselines; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

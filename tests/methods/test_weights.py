"""Rows that count more or less: a row of weight 2 is the row twice."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import make_blobs
from sklearn.mixture import GaussianMixture

from deep_clustering.methods import METHODS, make_method
from deep_clustering.methods.weighted_mixture import fit_weighted
from deep_clustering.training.rows import Rows, index_batches

# Groups that overlap, so that weights move the centres.
FEATURES = make_blobs(90, centers=[[0, 0], [3, 0], [0, 3]], cluster_std=1.0, random_state=0)[0].astype(np.float32)
WEIGHTS = np.random.default_rng(0).integers(1, 4, size=90).astype(np.float32)
TWICE = np.repeat(FEATURES, WEIGHTS.astype(int), axis=0)
CPU = torch.device("cpu")


def test_a_row_of_weight_two_is_the_row_twice_to_kmeans(tiny_options):
    options = tiny_options("kmeans", "vectors", n_clusters=3, n_init=20)
    weighted = make_method(options).fit(FEATURES, weights=WEIGHTS).get_arrays()
    repeated = make_method(options).fit(TWICE).get_arrays()
    unweighted = make_method(options).fit(FEATURES).get_arrays()
    centroids = (arrays["centroids"] for arrays in (weighted, repeated, unweighted))
    one, other, plain = (places[places[:, 0].argsort()] for places in centroids)
    np.testing.assert_allclose(one, other, atol=1e-5)
    np.testing.assert_allclose(weighted["variance"], repeated["variance"], rtol=1e-5)
    assert not np.allclose(one, plain, atol=1e-2)


@pytest.mark.parametrize("covariance", ["full", "diag", "spherical"])
def test_a_row_of_weight_two_is_the_row_twice_to_a_mixture(covariance):
    # To the end, where the starts, which do not know the weights, are forgotten.
    mixture = GaussianMixture(3, covariance_type=covariance, n_init=5, tol=1e-10, max_iter=5000, random_state=0)
    weighted = fit_weighted(mixture, FEATURES.astype(np.float64), WEIGHTS.astype(np.float64))
    repeated = clone(mixture).fit(TWICE.astype(np.float64))
    unweighted = clone(mixture).fit(FEATURES.astype(np.float64))
    one, other, plain = (fitted.means_[:, 0].argsort() for fitted in (weighted, repeated, unweighted))
    for name in ("weights_", "means_", "covariances_"):
        np.testing.assert_allclose(getattr(weighted, name)[one], getattr(repeated, name)[other], atol=1e-4)
    np.testing.assert_allclose(weighted.lower_bound_, repeated.lower_bound_, rtol=1e-6)
    assert not np.allclose(weighted.means_[one], unweighted.means_[plain], atol=1e-2)


def test_the_method_fits_the_weighted_mixture(tiny_options):
    options = tiny_options("gmm", "vectors", n_clusters=3)
    heavy = np.where(FEATURES[:, 0] > 1.5, 100.0, 1.0)
    assert make_method(options).fit(FEATURES, weights=heavy).get_arrays()["weights"].max() > 0.8


def test_tied_covariances_know_no_weights(tiny_options):
    options = tiny_options("gmm", "vectors", n_clusters=3, covariance="tied")
    with pytest.raises(ValueError, match="covariance tied knows no weights"):
        make_method(options).fit(FEATURES, weights=WEIGHTS)


def test_batches_have_rows_in_proportion_to_their_weights():
    weights = np.array([1.0, 2.0, 0.5, 4.5] * 10)
    ends = Rows(np.zeros((40, 1), np.float32), CPU, weights).ends
    generator, n_epochs = torch.Generator().manual_seed(0), 2000
    counts = torch.zeros(40)
    for _ in range(n_epochs):
        (order,) = index_batches(40, 40, generator, ends)
        found = order.bincount(minlength=40)
        expected = torch.tensor(40 * weights / weights.sum())
        assert ((found - expected).abs() < 1).all()  # of a systematic sample
        counts += found
    # The number of a row in an epoch is one of two neighbouring whole numbers: its deviation is at most 1/2.
    assert ((counts / n_epochs - expected).abs() < 5 * 0.5 / n_epochs**0.5).all()


def test_batches_of_a_weighted_epoch_are_shuffled():
    rows = Rows(np.zeros((100, 1), np.float32), CPU, np.linspace(1, 2, 100))
    generator = torch.Generator().manual_seed(0)
    first, second = ([batch.index for batch in rows.batches(10, generator)] for _ in range(2))
    assert len(first) == 10
    assert not torch.equal(torch.cat(first), torch.cat(first).sort().values)
    assert not torch.equal(first[0], second[0])


def test_without_weights_the_batches_are_a_permutation_as_before():
    generator, same = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    batches = torch.cat(list(index_batches(20, 5, generator)))
    assert torch.equal(batches, torch.randperm(20, generator=same))
    values = torch.arange(3)
    assert Rows(np.zeros((3, 1), np.float32), CPU).in_proportion(values) is values


@pytest.mark.parametrize(
    "method",
    [
        *("dcan", "neural_mixture", "temi", "turtle"),
        *("autoencoder", "dec", "idec", "dcn", "imsat", "vade"),
        *("dcgmm", "n2d", "dac", "lsdc", "cc", "aae", "kingdra"),
    ],
)
def test_a_batch_method_sees_a_heavy_row_more_often(method, tiny_options, blobs, monkeypatch):
    seen = torch.zeros(120)
    weights = np.ones(120, dtype=np.float32)
    weights[:10] = 5
    batches = Rows.batches

    def counted(self, size, generator):
        for batch in batches(self, size, generator):
            seen.add_(batch.index.bincount(minlength=120))
            yield batch

    monkeypatch.setattr(Rows, "batches", counted)
    changes = {"batch_size": 30, **({"epochs": 8} if method != "turtle" else {"steps": 32})}
    make_method(tiny_options(method, "vectors", n_clusters=3, **changes)).fit(blobs, weights=weights)
    # 8 epochs of 120 rows in proportion to 5 and 1, of which each is met to less than one.
    assert seen.sum() == 960
    np.testing.assert_allclose(seen[:10], 960 * 5 / 160, atol=8)
    np.testing.assert_allclose(seen[10:].mean(), 960 / 160, atol=1)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_takes_weights(method, tiny_options, blobs, caplog):
    weights = np.linspace(1, 2, 120).astype(np.float32)
    with caplog.at_level("INFO"):
        fitted = make_method(tiny_options(method, "vectors", n_clusters=3)).fit(blobs, weights=weights)
    assert fitted.predict(blobs).shape == (120,)
    assert ("knows no weights" in caplog.text) == (method in ("ward", "tsne_gmm"))
    snapshots = fitted.history_["snapshot_assignments"]
    if len(snapshots):
        np.testing.assert_array_equal(snapshots[-1], fitted.predict(blobs))


@pytest.mark.parametrize("method", ["autoencoder", "dcn", "n2d"])
def test_the_variance_around_centres_is_that_of_rows_in_proportion(tiny_options, method):
    """Rows of next to no weight lie far out; the others, which decide where the centres are, lie close to them."""
    rng, weights = np.random.default_rng(0), np.repeat([1.0, 0.01], 60)
    rows = (rng.normal(size=(120, 6)) * np.where(weights == 1, 0.1, 2.0)[:, None]).astype(np.float32)
    model = make_method(tiny_options(method, "vectors", n_clusters=3, epochs=2)).fit(rows, weights=weights)
    described = model.describe(rows)
    centroids, latent = model.get_arrays()["clusters.centroids"], described.latent
    least = ((latent[:, None] - centroids) ** 2).sum(axis=2).min(axis=1)
    counted = Rows(rows, CPU, weights).in_proportion(torch.arange(len(rows))).numpy()
    variance = float(model.get_arrays()["clusters.variance"])
    assert variance == pytest.approx(least[counted].mean() / latent.shape[1], rel=1e-4)
    assert least.mean() / latent.shape[1] > 1.2 * variance

"""The clustering step against scikit-learn's k-means, what becomes of empty clusters, and what clusters share."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.stats import multivariate_normal
from sklearn.cluster import KMeans

from deep_clustering.methods import latent_mixture
from deep_clustering.methods.latent_mixture import (
    LatentMixture,
    clustering_step,
    likeliest,
    log_joint,
    m_step,
    memberships,
    nearest_centroid,
    within_share,
)

NO_FLOOR = 1e-12


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mixture_of(rng: np.random.Generator, n_clusters: int, latent_dim: int, places: np.ndarray) -> LatentMixture:
    """Any weights and variances, centres at some of the places."""
    centroids = places[rng.choice(len(places), n_clusters, replace=False)]
    weights, variances = rng.dirichlet(np.full(n_clusters, 3.0)), rng.uniform(0.3, 2, size=(n_clusters, latent_dim))
    return LatentMixture(*(torch.from_numpy(array) for array in (np.log(weights), centroids, variances)))


def log_joint_by_scipy(points: np.ndarray, mixture: LatentMixture) -> np.ndarray:
    columns = [
        float(log_weight) + multivariate_normal.logpdf(points, centre.numpy(), np.diag(variances.numpy()))
        for log_weight, centre, variances in zip(*mixture, strict=True)
    ]
    return np.stack(columns, axis=1)


@given(st.integers(0, 10_000))
def test_nearest_centroid_is_the_brute_force_nearest(seed):
    rng = np.random.default_rng(seed)
    latent, centroids = rng.normal(size=(40, 3)), rng.normal(size=(int(rng.integers(1, 7)), 3))
    nearest = nearest_centroid(torch.from_numpy(latent), torch.from_numpy(centroids))
    np.testing.assert_array_equal(nearest, cdist(latent, centroids).argmin(axis=1))
    assert nearest.dtype == torch.int64


@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 4))
def test_log_joint_is_that_of_scipys_gaussians(seed, n_clusters, latent_dim):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(20, latent_dim))
    mixture = mixture_of(rng, n_clusters, latent_dim, points)
    np.testing.assert_allclose(
        log_joint(torch.from_numpy(points), mixture), log_joint_by_scipy(points, mixture), rtol=1e-9
    )


def test_log_joint_of_more_rows_than_a_piece_is_that_of_each_row():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(5000, 2))
    mixture = mixture_of(rng, 3, 2, points)
    np.testing.assert_allclose(
        log_joint(torch.from_numpy(points), mixture), log_joint_by_scipy(points, mixture), rtol=1e-9
    )


@given(st.integers(0, 10_000), st.integers(1, 6))
def test_memberships_are_rows_of_the_identity(seed, n_clusters):
    assignments = np.random.default_rng(seed).integers(n_clusters, size=9)
    np.testing.assert_array_equal(
        memberships(torch.from_numpy(assignments), n_clusters), np.eye(n_clusters)[assignments]
    )


@given(st.integers(0, 10_000), st.integers(2, 6), st.floats(-100, 100))
def test_a_kmeans_step_is_one_of_scikit_learn_with_the_weights_and_variances_of_the_members(seed, n_clusters, place):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(80, 3)) + place
    mixture = mixture_of(rng, n_clusters, 3, points)  # points themselves: no cluster is empty
    start = mixture.centroids.numpy()
    expected = KMeans(n_clusters, init=start, n_init=1, max_iter=1, tol=0).fit(points).cluster_centers_
    got = clustering_step(torch.from_numpy(points), mixture, NO_FLOOR, generator())
    np.testing.assert_allclose(got.centroids, expected, atol=1e-9)
    nearest = cdist(points, start).argmin(axis=1)
    for cluster in range(n_clusters):
        members = points[nearest == cluster]
        np.testing.assert_allclose(got.log_weights[cluster].exp(), len(members) / 80)
        np.testing.assert_allclose(got.variances[cluster], members.var(axis=0), atol=1e-9)


@given(st.integers(0, 10_000))
def test_a_kmeans_step_never_raises_the_inertia(seed):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(50, 2))
    mixture, inertia = mixture_of(rng, 4, 2, points), []
    for _ in range(6):
        inertia.append((cdist(points, mixture.centroids).min(axis=1) ** 2).sum())
        mixture = clustering_step(torch.from_numpy(points), mixture, NO_FLOOR, generator(seed))
    assert (np.diff(inertia) <= 1e-9).all()


def test_empty_clusters_move_to_points_and_the_others_to_their_means():
    points = torch.from_numpy(np.random.default_rng(0).normal(size=(30, 2)))
    centroids = torch.tensor([[0.0, 0.0], [1e6, 0.0], [0.0, -1e6]], dtype=torch.float64)
    mixture = LatentMixture(torch.zeros(3).double() - np.log(3), centroids, torch.ones(3, 2).double())
    got = clustering_step(points, mixture, NO_FLOOR, generator())
    np.testing.assert_allclose(got.centroids[0], points.mean(dim=0))
    np.testing.assert_allclose(got.variances[0], points.numpy().var(axis=0))
    for place, variances in zip(got.centroids[1:], got.variances[1:], strict=True):
        assert (points - place).abs().sum(dim=1).min() < 1e-12
        np.testing.assert_allclose(variances, points.numpy().var(axis=0).mean())
    np.testing.assert_allclose(got.log_weights.exp(), [30 / 32, 1 / 32, 1 / 32])
    again = clustering_step(points, mixture, NO_FLOOR, generator())
    assert torch.equal(got.centroids, again.centroids)
    steps = [clustering_step(points, mixture, NO_FLOOR, generator(seed)) for seed in range(20)]
    assert len(torch.unique(torch.stack([step.centroids[1] for step in steps]), dim=0)) > 1


@given(st.integers(0, 10_000), st.floats(1e-3, 1))
def test_variances_stay_above_their_floor_and_weights_sum_to_one(seed, floor):
    rng = np.random.default_rng(seed)
    points = torch.from_numpy(rng.normal(size=(12, 3)))
    soft = torch.from_numpy(rng.dirichlet(np.full(5, 0.1), size=12))
    mixture = m_step(points, soft, floor, generator(seed))
    assert float(mixture.variances.min()) >= floor * points.numpy().var(axis=0).mean() * (1 - 1e-9)
    assert float(mixture.log_weights.exp().sum()) == pytest.approx(1)


def test_equal_latents_have_a_mixture():
    mixture = m_step(torch.ones(8, 2), torch.full((8, 2), 0.5), 1e-3, generator())
    assert all(torch.isfinite(part).all() for part in mixture)
    assert (mixture.variances > 0).all()


@pytest.mark.parametrize("n_rows", [6, 7, 8, 30])
def test_rows_in_pieces_have_the_mixture_that_they_have_at_once(monkeypatch, n_rows):
    rng = np.random.default_rng(0)
    points = torch.from_numpy(rng.normal(size=(n_rows, 3)) + 5)
    mixture = mixture_of(rng, 3, 3, points.numpy())
    mixture.centroids[1] = 1e6  # an empty cluster moves to the same place
    at_once = clustering_step(points, mixture, 1e-3, generator())
    monkeypatch.setattr(latent_mixture, "ROWS_AT_ONCE", 7)
    for got, expected in zip(clustering_step(points, mixture, 1e-3, generator()), at_once, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_the_likeliest_cluster_of_rows_in_pieces_is_that_of_scipys_gaussians(monkeypatch):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(30, 3))
    mixture = mixture_of(rng, 4, 3, points)
    monkeypatch.setattr(latent_mixture, "ROWS_AT_ONCE", 7)
    np.testing.assert_array_equal(
        likeliest(torch.from_numpy(points), mixture), log_joint_by_scipy(points, mixture).argmax(axis=1)
    )


# What is said of the clusters


@given(st.integers(0, 10_000))
def test_within_share_is_one_less_the_share_between_the_means(seed):
    rng = np.random.default_rng(seed)
    latent, assignments = rng.normal(size=(12, 3)) + 5, rng.integers(4, size=12)
    between = sum(
        (assignments == k).sum() * ((latent[assignments == k].mean(axis=0) - latent.mean(axis=0)) ** 2).sum()
        for k in np.unique(assignments)
    )
    expected = 1 - between / ((latent - latent.mean(axis=0)) ** 2).sum()
    for at_once in (5, 100):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(latent_mixture, "ROWS_AT_ONCE", at_once)
            got = within_share(torch.from_numpy(latent), torch.from_numpy(assignments), 5)
        assert float(got) == pytest.approx(expected)

"""The whitening of DCAN's latent: its statistics against NumPy, what it ignores, and singular covariances."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deep_clustering.methods import latent_mixture
from deep_clustering.methods import whitening as module
from deep_clustering.methods.latent_mixture import m_step, memberships
from deep_clustering.methods.whitening import settle, whiten, whitening


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@st.composite
def codes(draw) -> torch.Tensor:
    """Correlated codes of full rank (n, d), n > d, at any scale and place."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    latent_dim = draw(st.integers(2, 6))
    n_samples = draw(st.integers(3 * latent_dim, 60))
    mixing = np.eye(latent_dim) + 0.4 * rng.normal(size=(latent_dim, latent_dim))
    scale, place = draw(st.floats(1e-3, 1e3)), draw(st.floats(-10, 10))
    return torch.from_numpy(scale * (rng.normal(size=(n_samples, latent_dim)) @ mixing + place))


def covariance_of(latent: torch.Tensor) -> np.ndarray:
    return np.cov(latent.numpy(), rowvar=False, bias=True)


def whitened(raw: torch.Tensor, epsilon: float) -> torch.Tensor:
    mean, factor, _ = whitening(raw, epsilon)
    return whiten(raw, mean, factor)


@given(codes(), st.floats(1e-6, 0.5))
def test_whitened_codes_have_mean_zero_and_regularised_identity_covariance(raw, epsilon):
    """Along each principal direction of variance v the whitened variance is v / (v + ridge)."""
    mean, factor, _ = whitening(raw, epsilon)
    latent = whiten(raw, mean, factor)
    np.testing.assert_allclose(latent.mean(dim=0), 0, atol=1e-8)
    variances = np.linalg.eigvalsh(covariance_of(raw))
    ridge = epsilon * np.trace(covariance_of(raw)) / raw.shape[1]
    expected = variances / (variances + ridge)
    np.testing.assert_allclose(np.linalg.eigvalsh(covariance_of(latent)), np.sort(expected), rtol=1e-5, atol=1e-8)


@given(codes())
def test_without_ridge_the_covariance_is_the_identity(raw):
    latent = whitened(raw, 0.0)
    np.testing.assert_allclose(covariance_of(latent), np.eye(raw.shape[1]), atol=1e-6)


@pytest.mark.parametrize("counts", [(50, 50, 50, 50), (180, 10, 10), (100, 60, 30, 10), (220, 180, 5)])
def test_tight_groups_of_any_shares_are_white_at_distances_that_their_shares_give(counts):
    """K points of shares s_k are white in K - 1 dimensions, and only at squared distances 1 / s_k + 1 / s_l."""
    shares, n_groups = np.array(counts) / sum(counts), len(counts)
    places = np.random.default_rng(0).normal(size=(n_groups, n_groups - 1))
    latent = whitened(torch.from_numpy(np.repeat(places, counts, axis=0)), 0.0).numpy()
    centres = latent[np.cumsum(counts) - 1]
    squares = np.square(centres[:, None] - centres).sum(axis=2)
    expected = (1 / shares[:, None] + 1 / shares) * (1 - np.eye(n_groups))
    np.testing.assert_allclose(squares, expected, rtol=1e-6, atol=1e-9)


def test_in_fewer_dimensions_equal_groups_are_nearer_in_the_mean():
    """Of K points in d < K - 1 dimensions squared distances are 2 d K / (K - 1) in the mean, and 2 K in K - 1."""
    n_groups, latent_dim = 20, 10
    codes = torch.from_numpy(np.random.default_rng(0).normal(size=(n_groups, latent_dim)))
    found = whitening(codes, 0.0)
    latent = whiten(codes, found.mean, found.factor)
    expected = 2 * latent_dim * n_groups / (n_groups - 1)
    assert float(torch.pdist(latent).square().mean()) == pytest.approx(expected)


@given(codes(), st.integers(0, 1000))
def test_factor_is_the_lower_triangular_root_of_the_covariance(raw, seed):
    mean, factor, _ = whitening(raw, 0.0)
    np.testing.assert_allclose(mean, raw.numpy().mean(axis=0))
    np.testing.assert_array_equal(factor, np.tril(factor))
    assert (factor.diagonal() > 0).all()
    np.testing.assert_allclose(factor @ factor.T, covariance_of(raw), rtol=1e-6, atol=1e-8 * float(raw.var()))
    latent = torch.from_numpy(np.random.default_rng(seed).normal(size=(4, raw.shape[1])))
    np.testing.assert_allclose(whiten(latent @ factor.T + mean, mean, factor), latent, atol=1e-7)


@given(codes(), st.integers(0, 1000))
def test_whitened_inner_products_ignore_affine_maps_of_the_codes(raw, seed):
    rng = np.random.default_rng(seed)
    latent_dim = raw.shape[1]
    matrix = torch.from_numpy(np.eye(latent_dim) + 0.2 * rng.uniform(-1, 1, size=(latent_dim, latent_dim)) / latent_dim)
    moved = raw @ matrix.T + torch.from_numpy(rng.normal(size=latent_dim)) * raw.std()
    before, after = (whitened(rows, 0.0) for rows in (raw, moved))
    np.testing.assert_allclose(after @ after.T, before @ before.T, atol=1e-5)


@given(codes(), st.integers(0, 1000), st.floats(1e-3, 1e3), st.floats(1e-4, 0.5))
def test_with_a_ridge_they_ignore_rotation_scale_and_place(raw, seed, scale, epsilon):
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(raw.shape[1], raw.shape[1])))
    moved = scale * (raw @ torch.from_numpy(rotation)) + scale * float(raw.std())
    before, after = (whitened(rows, epsilon) for rows in (raw, moved))
    np.testing.assert_allclose(after @ after.T, before @ before.T, atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 3), (5, 6), (4, 10)])
def test_a_ridge_whitens_fewer_codes_than_dimensions(shape):
    raw = torch.randn(shape, generator=generator())
    latent = whitened(raw, 1e-3)
    assert torch.isfinite(latent).all()
    assert np.linalg.eigvalsh(covariance_of(latent)).max() <= 1 + 1e-3


@given(codes())
def test_a_covariance_of_full_rank_needs_no_correction(raw):
    assert float(whitening(raw, 0.0).correction) == 0


def test_a_singular_covariance_gets_the_ridge_that_it_says():
    raw = torch.randn(50, 2, generator=generator())[:, [0, 1, 1]]  # two codes are the same
    mean, factor, correction = whitening(raw, 0.0)
    assert 0 < float(correction) < 0.1
    ridge = float(correction) * np.trace(covariance_of(raw)) / 3
    np.testing.assert_allclose(factor @ factor.T, covariance_of(raw) + ridge * np.eye(3), atol=1e-6)
    assert np.linalg.eigvalsh(covariance_of(whiten(raw, mean, factor))).max() <= 1 + 1e-5


def test_codes_that_are_not_finite_stay_so():
    raw = torch.randn(10, 3, generator=generator())
    raw[4, 1] = torch.nan
    assert not torch.isfinite(whitened(raw, 1e-3)).any()


def test_equal_codes_become_zero_instead_of_nan():
    raw = torch.full((10, 3), 2.5)
    np.testing.assert_array_equal(whitened(raw, 1e-3), 0)


def test_gradient_passes_through_the_whitening():
    raw = torch.randn(12, 3, generator=generator(), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda rows: whitened(rows, 1e-2), raw)


def test_rows_in_pieces_settle_as_they_do_at_once(monkeypatch):
    rng = np.random.default_rng(0)
    raw = torch.from_numpy(np.repeat(rng.normal(size=(3, 4)) * 9, 20, axis=0) + rng.normal(size=(60, 4))).float()
    start = m_step(raw, memberships(torch.arange(60) % 3, 3), 1e-3, generator())
    options = {"epsilon": 1e-3, "iterations": 5, "variance_floor": 1e-3}
    expected, clusters = settle(raw, start, **options, generator=generator())
    for place in (latent_mixture, module):
        monkeypatch.setattr(place, "ROWS_AT_ONCE", 7)
    got, of_pieces = settle(raw, start, **options, generator=generator())
    assert torch.equal(of_pieces, clusters)
    for name, array in expected.arrays().items():
        np.testing.assert_allclose(got.arrays()[name], array, rtol=1e-4, atol=1e-5)

"""VaDE's densities and divergences against torch's distributions, and its bound against the likelihood itself."""

import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.special import logsumexp
from torch.distributions import Bernoulli, Normal, kl_divergence

from deep_clustering.methods import load_method, make_method, save_method
from deep_clustering.methods.vade import Mixture, latent_divergence, row_log_likelihood, typical_deviation
from deep_clustering.training.rows import Rows

N, K, D = 9, 3, 4


@pytest.fixture
def mixture():
    torch.manual_seed(0)
    found = Mixture(K, D).double()
    for parameter in found.parameters():
        parameter.data.normal_()
    return found.requires_grad_(False)


def component(mixture: Mixture, k: int) -> Normal:
    return Normal(mixture.means[k], (mixture.log_variances[k] / 2).exp())


def test_the_joint_density_is_that_of_the_distributions(mixture):
    latent = torch.randn(N, D, dtype=torch.float64)
    weights = torch.softmax(mixture.logits, dim=0)
    expected = torch.stack([weights[k].log() + component(mixture, k).log_prob(latent).sum(dim=1) for k in range(K)])
    np.testing.assert_allclose(mixture.log_joint(latent), expected.T, rtol=1e-9)


def test_what_the_bound_loses_is_the_divergence_from_the_prior(mixture):
    mean, log_variance, latent = (torch.randn(N, D, dtype=torch.float64) for _ in range(3))
    posterior = Normal(mean, (log_variance / 2).exp())
    gamma = torch.softmax(mixture.log_joint(latent), dim=1)
    weights = torch.softmax(mixture.logits, dim=0)
    expected = torch.zeros(N, dtype=torch.float64)
    for k in range(K):
        of_cluster = kl_divergence(posterior, component(mixture, k)).sum(dim=1)
        expected += gamma[:, k] * (of_cluster + (gamma[:, k] / weights[k]).log())
    np.testing.assert_allclose(latent_divergence(mixture, mean, log_variance, latent), expected, rtol=1e-9)


def test_likelihoods_are_those_of_the_distributions():
    rows, decoded = torch.rand(N, 1, 2, 3).double(), torch.randn(N, 6).double()
    flat = rows.flatten(1)
    gaussian = Normal(decoded, 0.3).log_prob(flat).sum(dim=1)
    np.testing.assert_allclose(row_log_likelihood(rows, decoded, "gaussian", 0.3), gaussian, rtol=1e-9)
    bernoulli = Bernoulli(logits=decoded, validate_args=False).log_prob(flat).sum(dim=1)
    np.testing.assert_allclose(row_log_likelihood(rows, decoded, "bernoulli", 1.0), bernoulli, rtol=1e-9)


def test_the_mean_of_the_bound_lies_below_the_likelihood(mixture):
    """Of a decoder that is the identity the likelihood is that of a mixture of Gaussians, which has a formula."""
    noise, row = 0.7, torch.randn(1, D, dtype=torch.float64)
    mean, log_variance = torch.randn(1, D, dtype=torch.float64), torch.zeros(1, D, dtype=torch.float64)
    draws = mean + torch.randn(20000, D, dtype=torch.float64)
    lost = latent_divergence(mixture, mean.expand(20000, D), log_variance.expand(20000, D), draws)
    bound = (row_log_likelihood(row.expand(20000, D), draws, "gaussian", noise) - lost).mean()
    joint = []
    for k in range(K):
        spread = (mixture.log_variances[k].exp() + noise**2).sqrt()
        weight = torch.softmax(mixture.logits, dim=0)[k].log()
        joint.append(float(weight + Normal(mixture.means[k], spread).log_prob(row).sum()))
    assert float(bound) < logsumexp(joint)


def test_variances_that_vanish_leave_finite_terms_and_gradients():
    mixture = Mixture(2, 2)
    mixture.log_variances.data.fill_(-1e6)
    mean = torch.randn(5, 2, requires_grad=True)
    lost = latent_divergence(mixture, mean, torch.full((5, 2), -10.0), mean)
    lost.sum().backward()
    assert torch.isfinite(lost).all()
    assert all(torch.isfinite(one.grad).all() for one in (mean, *mixture.parameters()) if one.grad is not None)


def test_rows_outside_of_the_unit_interval_are_refused_for_bernoulli(tiny_options, blobs):
    with pytest.raises(ValueError, match=r"^vade: likelihood: bernoulli needs rows in \[0, 1\], got values from -"):
        make_method(tiny_options("vade", "vectors", n_clusters=3, likelihood="bernoulli", views={"kind": "same"})).fit(
            blobs
        )


@pytest.mark.parametrize("views", [{"kind": "noise", "scale": 0.1}, {"kind": "dropout", "rate": 0.5}])
def test_views_outside_of_the_unit_interval_are_refused_for_bernoulli(tiny_options, views):
    with pytest.raises(
        ValueError, match=f"bernoulli needs views in .0, 1., which those of kind {views['kind']} are not"
    ):
        make_method(tiny_options("vade", "vectors", likelihood="bernoulli", views=views))


def test_usual_rows_are_denser_than_strange_ones(tiny_options, blobs):
    options = tiny_options("vade", "vectors", n_clusters=3, epochs=40, batch_size=40)
    fitted = make_method(options).fit(blobs)
    assert fitted.log_density(blobs).min() > fitted.log_density(blobs * np.float32(10)).max()


@pytest.mark.parametrize("as_rows", [np.asarray, sparse.csr_matrix])
def test_the_unit_of_the_noise_is_the_deviation_of_the_values_within_their_columns(as_rows):
    rows = np.random.default_rng(0).normal(3, 1e-2, size=(N, 5)).astype(np.float32)
    expected = np.sqrt(rows.astype(np.float64).var(axis=0).mean())
    assert typical_deviation(Rows(as_rows(rows), torch.device("cpu"))) == pytest.approx(expected, rel=1e-5)
    weighted = Rows(as_rows(rows[:4]), torch.device("cpu"), np.array([2.0, 1.0, 1.0, 1e-9]))
    expected = np.sqrt(rows[[0, 0, 1, 2]].astype(np.float64).var(axis=0).mean())
    assert typical_deviation(weighted) == pytest.approx(expected, rel=1e-5)


def test_the_unit_of_the_noise_is_saved(blobs, tiny_options):
    options = tiny_options("vade", "vectors", n_clusters=3, likelihood="gaussian", epochs=2)
    first = make_method(options).fit(blobs)
    assert first.networks_["clusters"].unit == pytest.approx(np.sqrt(blobs.var(axis=0).mean()), rel=1e-5)
    learned = load_method(save_method(first))
    np.testing.assert_array_equal(learned.log_density(blobs), first.log_density(blobs))

"""DC-GMM's iteration against scikit-learn's, and its divergence against torch's."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from torch.distributions import Normal, kl_divergence

from deep_clustering.methods import make_method
from deep_clustering.methods.dcgmm import em_iteration
from deep_clustering.methods.vade import Mixture
from deep_clustering.training.fitting import make_data

N, K, D = 60, 3, 4


def test_an_iteration_of_em_is_that_of_scikit_learn_with_the_variances_of_the_rows_on_top():
    rng = np.random.default_rng(0)
    points, means, variances = rng.normal(size=(N, D)), rng.normal(size=(K, D)), rng.uniform(0.5, 2, size=(K, D))
    weights = rng.dirichlet(np.ones(K))
    mixture = Mixture(K, D).double()
    for parameter, value in zip(mixture.parameters(), (np.log(weights), means, np.log(variances)), strict=True):
        parameter.data.copy_(torch.from_numpy(value))
    em_iteration(mixture, torch.from_numpy(points), torch.from_numpy(np.full((N, D), 0.3)))
    start = {"weights_init": weights, "means_init": means, "precisions_init": 1 / variances}
    oracle = GaussianMixture(K, covariance_type="diag", max_iter=1, reg_covar=0, **start)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        oracle.fit(points)
    np.testing.assert_allclose(mixture.log_weights().exp().detach(), oracle.weights_, rtol=1e-9)
    np.testing.assert_allclose(mixture.means.detach(), oracle.means_, rtol=1e-7)
    np.testing.assert_allclose(mixture.log_variances.exp().detach(), oracle.covariances_ + 0.3, rtol=1e-7)


def test_a_cluster_of_equal_points_keeps_a_variance():
    mixture = Mixture(2, 2)
    em_iteration(mixture, torch.tensor([[0.0, 0.0]] * 5 + [[1.0, 1.0]] * 5), torch.zeros(10, 2))
    assert torch.isfinite(mixture.log_variances).all()


def test_each_row_is_drawn_to_its_own_cluster(tiny_options, blobs):
    model = make_method(tiny_options("dcgmm", "vectors", n_clusters=3, latent_dim=2, pull=0.5, epochs=3)).fit(blobs)
    training = model.training(make_data(model, blobs, None))
    training.prepare()
    mean, log_variance, index = torch.randn(5, 2), torch.randn(5, 2), torch.tensor([3, 1, 50, 2, 70])
    found = training.divergence(mean, log_variance, mean, index)
    own, mixture = training._own[index], model.networks_["clusters"]
    posterior = Normal(mean, (log_variance / 2).exp())
    of_own = Normal(mixture.means[own], (mixture.log_variances[own] / 2).exp())
    assert found.detach() == pytest.approx(0.5 * kl_divergence(posterior, of_own).sum(dim=1).detach(), rel=1e-4)

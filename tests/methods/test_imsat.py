"""IMSAT against its paper's equations, written once more by scipy."""

import logging

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.stats import entropy
from torch import nn

from deep_clustering.methods import make_method
from deep_clustering.methods.imsat import (
    conditional_entropy,
    distant_neighbours,
    invariance,
    marginal_entropy,
    still_statistics,
    unit,
)
from deep_clustering.scores.metrics import accuracy, contingency
from deep_clustering.training.fitting import make_data

N, K = 10, 4


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_entropies_and_invariance_are_those_of_scipy(rng):
    p, moved = rng.dirichlet(np.ones(K), size=N), rng.dirichlet(np.ones(K), size=N)
    log_p, log_moved = (torch.from_numpy(np.log(one)) for one in (p, moved))
    np.testing.assert_allclose(conditional_entropy(log_p), np.mean([entropy(row) for row in p]), rtol=1e-9)
    np.testing.assert_allclose(marginal_entropy(log_p), entropy(p.mean(axis=0)), rtol=1e-9)
    np.testing.assert_allclose(invariance(log_p, log_moved), np.mean(entropy(p, moved, axis=1)), rtol=1e-9)


def test_gradients_of_the_invariance_reach_the_moved_rows_alone():
    plain, moved = (torch.randn(N, K, requires_grad=True) for _ in range(2))
    invariance(plain.log_softmax(dim=1), moved.log_softmax(dim=1)).backward()
    assert plain.grad is None
    assert (moved.grad != 0).all()


def test_a_batch_of_one_cluster_has_finite_gradients():
    logits = torch.zeros(N, K)
    logits[:, 0] = 500  # the others have no share in single precision
    logits.requires_grad_()
    log_p = logits.log_softmax(dim=1)
    assert float(marginal_entropy(log_p).detach()) == pytest.approx(0, abs=1e-30)
    (conditional_entropy(log_p) - 4 * marginal_entropy(log_p)).backward()
    assert torch.isfinite(logits.grad).all()


def test_the_neighbour_is_that_of_its_number(rng):
    rows = rng.normal(size=(30, 3)).astype(np.float32)
    found = distant_neighbours(rows, 4)
    distances = cdist(rows, rows)
    assert found.shape == (30, 1)
    expected = np.sort(distances, axis=1)[:, 4]  # behind the row itself
    np.testing.assert_allclose(distances[np.arange(30), found[:, 0]], expected)
    np.testing.assert_array_equal(distant_neighbours(rows * np.float32(1e37), 4), found)


def test_directions_have_length_one_and_none_stays_none():
    directions = torch.randn(3, 2, 5, 5)
    directions[1] = 0
    np.testing.assert_allclose(unit(directions).flatten(1).norm(dim=1), [1, 0, 1], rtol=1e-6)


def test_statistics_stand_still_and_move_again_afterwards():
    layer = nn.BatchNorm1d(3)
    with still_statistics(nn.Sequential(layer)):
        normalised = layer(5 + torch.randn(20, 3))
    np.testing.assert_allclose(normalised.detach().mean(dim=0), np.zeros(3), atol=1e-5)  # by those of the batch
    np.testing.assert_array_equal(layer.running_mean, np.zeros(3))
    layer(5 + torch.randn(20, 3))
    assert (layer.running_mean != 0).all()


def test_the_adversarial_direction_changes_more_than_random_ones(tiny_options, blobs):
    options = tiny_options("imsat", "vectors", n_clusters=3, trial_step=0.1, epochs=10)
    model = make_method(options).fit(blobs)
    training = model.training(make_data(model, blobs, model.find_neighbours(blobs, None)))
    training.network.eval()
    rows = torch.tensor(blobs)
    log_p = training._log_p(rows)

    def change(direction: torch.Tensor) -> float:
        return float(invariance(log_p, training._log_p(rows + 0.1 * direction)).detach())

    adversarial = change(training._direction(rows, log_p))
    randoms = [change(unit(torch.randn_like(rows))) for _ in range(20)]
    assert adversarial > max(randoms)


def test_fewer_rows_than_neighbours_are_said(tiny_options, caplog):
    rows = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    with caplog.at_level(logging.WARNING):
        make_method(tiny_options("imsat", "vectors", n_clusters=2)).fit(rows)
    assert "imsat: n_neighbours is 10, there are 4 other rows" in caplog.text


@pytest.mark.parametrize("perturbation", ["adversarial", "random"])
def test_well_separated_groups_are_found(tiny_options, blobs, blob_labels, perturbation):
    changes = {"perturbation": perturbation, "epochs": 60, "batch_size": 40, "restarts": 3}
    found = make_method(tiny_options("imsat", "vectors", n_clusters=3, **changes)).fit(blobs).predict(blobs)
    assert accuracy(contingency(found, blob_labels, 3, 3)) == 1

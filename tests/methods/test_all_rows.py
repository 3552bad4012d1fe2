"""What is said of many rows piece by piece is what is said of them at once."""

import math

import numpy as np
import pytest
import torch

from deep_clustering.methods import all_rows, make_method, neural_mixture
from deep_clustering.methods.all_rows import counted_pieces, normaliser_in_pieces

SCALE = 8.0


@pytest.fixture(scope="module")
def scores():
    return torch.from_numpy(np.random.default_rng(0).normal(3, 2, size=(50, 2, 3))).float()


def in_pieces(scores, size):
    return lambda: iter(scores.split(size))


@pytest.mark.parametrize("size", [1, 7, 50])
def test_moments_and_the_mean_density_are_those_of_all_rows(scores, size):
    found = normaliser_in_pieces(in_pieces(scores, size), "exponential", SCALE)
    values = scores.double().numpy()
    np.testing.assert_allclose(found.mean, values.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found.std, values.std(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found.log_normaliser, np.log(np.exp(values).mean(axis=0)), rtol=1e-6)


def test_the_mean_sigmoid_density_is_that_of_standardised_scores(scores):
    found = normaliser_in_pieces(in_pieces(scores, 7), "sigmoid", SCALE)
    values = scores.double().numpy()
    standardised = (values - values.mean(axis=0)) / values.std(axis=0)
    expected = np.log((1 / (1 + np.exp(-SCALE * standardised))).mean(axis=0))
    np.testing.assert_allclose(found.log_normaliser, expected, rtol=1e-5)


def test_rows_count_as_often_as_they_are_said_to(scores):
    times = torch.tensor([0, 3, 1, 0, 1] * 10)
    counted = torch.cat(list(counted_pieces(in_pieces(scores, 3), times)()))
    np.testing.assert_array_equal(counted, np.repeat(scores.numpy(), times.numpy(), axis=0))


@pytest.mark.parametrize("density", ["exponential", "sigmoid"])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_fit_in_pieces_is_the_fit_at_once(tiny_options, blobs, monkeypatch, density, weighted):
    """Training steps see batches alone; the two differ in rounding, behind the training."""
    options = tiny_options("neural_mixture", "vectors", n_clusters=3, heads=2, density=density)
    weights = np.linspace(1, 3, len(blobs)) if weighted else None
    at_once = make_method(options).fit(blobs, weights=weights)
    monkeypatch.setattr(all_rows, "MOST_AT_ONCE", 0)
    monkeypatch.setattr(neural_mixture, "MOST_AT_ONCE", 0)
    in_pieces = make_method(options).fit(blobs, weights=weights)
    for name, array in at_once.get_arrays().items():
        np.testing.assert_allclose(in_pieces.get_arrays()[name], array, atol=1e-5, err_msg=name)
    for name, array in at_once.history_.items():
        if array.dtype.kind == "i":
            np.testing.assert_array_equal(in_pieces.history_[name], array, err_msg=name)
    share = float(in_pieces.history_["final_log_likelihood_share"])
    assert math.isclose(share, float(at_once.history_["final_log_likelihood_share"]), rel_tol=1e-4)

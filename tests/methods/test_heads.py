"""Several heads on one trunk: their sizes, what they compare by, and which is kept."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from deep_clustering.methods.heads import (
    comparable,
    head_sizes,
    keep_head,
    probable_numbers,
    uniform_weights,
)

CPU = torch.device("cpu")


def test_a_range_has_a_head_for_each_number():
    assert head_sizes({"min": 3, "max": 6}, 1, "uniform") == [3, 4, 5, 6]
    assert head_sizes(4, 3, "learned") == [4, 4, 4]


def test_weights_are_uniform_over_the_clusters_that_a_head_has():
    weights = uniform_weights([2, 4], CPU)
    np.testing.assert_allclose(weights.exp(), [[0.5, 0.5, 0, 0], [0.25, 0.25, 0.25, 0.25]], rtol=1e-6)
    assert torch.isfinite(weights).all()  # a gradient of 0 times infinity would be none


def test_heads_of_one_number_compare_by_their_log_likelihood():
    log_likelihoods = torch.tensor([0.3, -0.1, 0.7])
    assert torch.equal(comparable(log_likelihoods, [5, 5, 5], 0.3), log_likelihoods)
    assert torch.equal(comparable(log_likelihoods, [5, 5], 0.0), log_likelihoods[:2])  # an auxiliary head is behind


@pytest.mark.parametrize("noise", [0.0, 0.4])
def test_heads_of_several_numbers_compare_by_the_share_of_their_bound(noise):
    log_likelihoods = torch.tensor([[0.2, 0.9, 5.0], [0.1, 0.3, 5.0]])
    expected = log_likelihoods[:, :2] / torch.tensor([math.log((1 - noise) * k + noise) for k in (2, 8)])
    np.testing.assert_allclose(comparable(log_likelihoods, [2, 8], noise), expected, rtol=1e-6)


def test_a_perfect_head_of_any_number_has_the_same_share_of_its_bound():
    """With pair noise, shares of log K would favour larger numbers: of a perfect head .85 for K = 2 and .93 for 20."""
    noise, sizes = 0.2, [2, 5, 20]
    perfect = torch.tensor([[math.log((1 - noise) * size + noise) for size in sizes]])
    np.testing.assert_allclose(comparable(perfect, sizes, noise), [[1, 1, 1]], rtol=1e-6)


def test_probable_numbers_are_sure_of_a_clear_winner_and_divided_between_equals():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(500, 1, generator=generator)
    log_likelihoods = torch.tensor([0.5, 0.5]) + 0.01 * noise
    clear = probable_numbers(comparable(log_likelihoods, [2, 4], 0.0), generator)
    np.testing.assert_allclose(clear, [1, 0], atol=1e-6)  # .5 is a larger share of ln 2 than of ln 4
    independent = torch.randn(500, 2, generator=generator)
    equal = probable_numbers(independent - independent.mean(dim=0), generator)
    assert 0.3 < float(equal[0]) < 0.7
    assert float(equal.sum()) == pytest.approx(1)


@pytest.mark.parametrize("head", [0, 1, 2])
def test_the_kept_head_says_what_it_said_among_the_others(head):
    network = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 3 * 5))
    rows = torch.randn(8, 3, generator=torch.Generator().manual_seed(1))
    expected = network(rows).view(8, 3, 5)[:, head, :4]
    keep_head(network, head, width=5, size=4)
    torch.testing.assert_close(network(rows), expected)

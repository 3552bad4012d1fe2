"""Several heads on one trunk: their sizes, what they compare by, and which is kept."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from deep_clustering.methods import heads
from deep_clustering.methods.heads import (
    agreement_of_best,
    bounds,
    comparable,
    head_sizes,
    keep_head,
    late_rise,
    probable_numbers,
    rms_length,
    uniform_weights,
    warn_of_small_batches,
)
from deep_clustering.methods.pair_bound import bound
from deep_clustering.training.loop import Data
from deep_clustering.training.networks import Fourier
from deep_clustering.training.rows import Rows
from deep_clustering.training.views import make_view

CPU = torch.device("cpu")


def noise_of(n_heads: int, noise: float) -> torch.Tensor:
    return torch.full((n_heads,), noise)


def test_a_range_has_a_head_for_each_number():
    assert head_sizes({"min": 3, "max": 6}, 1, "uniform") == [3, 4, 5, 6]
    assert head_sizes(4, 3, "learned") == [4, 4, 4]


def test_weights_are_uniform_over_the_clusters_that_a_head_has():
    weights = uniform_weights([2, 4], CPU)
    np.testing.assert_allclose(weights.exp(), [[0.5, 0.5, 0, 0], [0.25, 0.25, 0.25, 0.25]], rtol=1e-6)
    assert torch.isfinite(weights).all()  # a gradient of 0 times infinity would be none


def test_heads_of_one_number_compare_by_their_log_likelihood():
    log_likelihoods = torch.tensor([0.3, -0.1, 0.7])
    assert torch.equal(comparable(log_likelihoods, [5, 5, 5], noise_of(3, 0.3)), log_likelihoods)
    assert torch.equal(
        comparable(log_likelihoods, [5, 5], noise_of(3, 0.0)), log_likelihoods[:2]
    )  # an auxiliary head is behind


@pytest.mark.parametrize("noise", [0.0, 0.4])
def test_heads_of_several_numbers_compare_by_the_share_of_their_bound(noise):
    log_likelihoods = torch.tensor([[0.2, 0.9, 5.0], [0.1, 0.3, 5.0]])
    expected = log_likelihoods[:, :2] / torch.tensor([math.log((1 - noise) * k + noise) for k in (2, 8)])
    np.testing.assert_allclose(comparable(log_likelihoods, [2, 8], noise_of(3, noise)), expected, rtol=1e-6)


def test_a_perfect_head_of_any_number_has_the_same_share_of_its_bound():
    """With pair noise, shares of log K would favour larger numbers: of a perfect head .85 for K = 2 and .93 for 20."""
    noise, sizes = 0.2, [2, 5, 20]
    perfect = torch.tensor([[math.log((1 - noise) * size + noise) for size in sizes]])
    np.testing.assert_allclose(comparable(perfect, sizes, noise_of(3, noise)), [[1, 1, 1]], rtol=1e-6)


def test_each_candidate_has_the_bound_of_its_number_and_its_noise():
    sizes, noises = [2, 5, 20], [0.0, 0.1, 0.7]
    expected = [bound(size, noise) for size, noise in zip(sizes, noises, strict=True)]
    np.testing.assert_allclose(bounds(sizes, torch.tensor([*noises, 0.5])), expected, rtol=1e-6)  # one is behind them
    assert expected == pytest.approx([math.log(2), math.log(0.9 * 5 + 0.1), math.log(0.3 * 20 + 0.7)])
    log_likelihoods = torch.tensor([0.3, 0.3, 0.3, 9.0])
    np.testing.assert_allclose(
        comparable(log_likelihoods, sizes, torch.tensor([*noises, 0.5])), 0.3 / np.array(expected), rtol=1e-6
    )


@pytest.mark.parametrize(
    ("log_likelihoods", "expected"),
    [
        ([0.7], 0.0),
        ([0.1, 0.7], 0.6),
        ([0.5, 0.1, 0.7], 0.6),
        ([9.0] * 8 + [0.2, 0.3], 0.1),  # a tenth of ten epochs is one
        ([9.0] * 16 + [0.1, 0.3, 0.6, 0.4], 0.3),  # (.6 + .4) / 2 - (.1 + .3) / 2
        ([9.0] * 25 + [0.1, 0.3, 0.6, 0.4], 0.3),  # of 29 two
        ([0.5] * 40, 0.0),
        ([-0.2, -0.5], -0.3),
    ],
)
def test_the_late_rise_is_that_of_the_last_tenth_of_the_epochs(log_likelihoods, expected):
    assert float(late_rise(log_likelihoods)) == pytest.approx(expected, abs=1e-6)


def adjusted_rand(first: np.ndarray, second: np.ndarray) -> float:
    """Hubert and Arabie's index from the pairs of rows, one pair at a time."""
    pairs = [(i, j) for i in range(len(first)) for j in range(i)]
    in_first, in_second = (np.array([labels[i] == labels[j] for i, j in pairs]) for labels in (first, second))
    expected = in_first.mean() * in_second.mean()
    return ((in_first & in_second).mean() - expected) / ((in_first.mean() + in_second.mean()) / 2 - expected)


@given(st.integers(0, 10_000))
def test_the_two_best_are_compared_by_the_pairs_of_rows_that_they_put_together(seed):
    rng = np.random.default_rng(seed)
    assignments, scores = rng.integers(0, 3, size=(4, 12)), rng.permutation(4).astype(np.float32)
    assignments[:, :3] = [0, 1, 2]  # no candidate has one cluster
    best, second = np.argsort(-scores)[:2]
    found = agreement_of_best([torch.from_numpy(one) for one in assignments], torch.from_numpy(scores))
    assert float(found) == pytest.approx(adjusted_rand(assignments[best], assignments[second]), abs=1e-6)


def test_names_of_clusters_do_not_matter_to_the_agreement():
    first = torch.tensor([0, 0, 1, 1, 2, 2])
    other = torch.tensor([0, 1, 0, 1, 0, 1])
    assert float(agreement_of_best([first, other, (first + 1) % 3], torch.tensor([0.5, -1.0, 0.7]))) == 1


def data_of(rows: np.ndarray) -> Data:
    generator = torch.Generator()
    return Data(
        rows=Rows(rows, CPU),
        view=make_view({"kind": "noise", "scale": 1.0}),
        neighbours=None,
        view_shape=rows.shape[1:],
        generator=generator,
        draws=generator,
    )


def test_the_length_of_the_rows_is_the_root_of_the_mean_square():
    rows = np.array([[3, 4], [0, 0], [1, 0]], dtype=np.float32)
    trunk = nn.Flatten()
    assert rms_length(data_of(rows), trunk) == pytest.approx(math.sqrt((25 + 0 + 1) / 3))
    assert rms_length(data_of(8 * rows), trunk) == 8 * rms_length(data_of(rows), trunk)
    assert rms_length(data_of(0 * rows), trunk) == 1
    assert rms_length(data_of(rows), Fourier(waves=7, scale=2.0).build((2,), 3)[:-1]) == pytest.approx(1)


def test_probable_numbers_are_sure_of_a_clear_winner_and_divided_between_equals():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(500, 1, generator=generator)
    log_likelihoods = torch.tensor([0.5, 0.5]) + 0.01 * noise
    clear = probable_numbers(comparable(log_likelihoods, [2, 4], noise_of(2, 0.0)), generator)
    np.testing.assert_allclose(clear, [1, 0], atol=1e-6)  # .5 is a larger share of ln 2 than of ln 4
    independent = torch.randn(500, 2, generator=generator)
    equal = probable_numbers(independent - independent.mean(dim=0), generator)
    assert 0.3 < float(equal[0]) < 0.7
    assert float(equal.sum()) == pytest.approx(1)


@pytest.mark.parametrize("distance", [-1.0, 0.0, 0.5, 2.0])
@pytest.mark.parametrize("most", [1000, 10**6])
def test_probable_numbers_follow_the_distribution_of_a_mean(monkeypatch, distance, most):
    """Of many rows drawn from its limit, of few by resampling: the difference of two means is normal in both."""
    monkeypatch.setattr(heads, "_MOST_RESAMPLED", most)
    generator = torch.Generator().manual_seed(0)
    shares = torch.randn(2500, 2, generator=generator)
    apart = shares[:, 0] - shares[:, 1]
    shares[:, 0] += distance * apart.std() / 50 - apart.mean()  # standard errors between the means
    expected = scipy.stats.norm.cdf(distance)
    found = float(probable_numbers(shares + 100, generator)[0])
    assert found == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / 500))


@pytest.mark.parametrize("head", [0, 1, 2])
def test_the_kept_head_says_what_it_said_among_the_others(head):
    network = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 3 * 5))
    rows = torch.randn(8, 3, generator=torch.Generator().manual_seed(1))
    expected = network(rows).view(8, 3, 5)[:, head, :4]
    keep_head(network, head, width=5, size=4)
    torch.testing.assert_close(network(rows), expected)


def test_batches_with_few_rows_of_a_cluster_are_warned_of(caplog):
    """Where there are more rows that a batch could have."""
    warn_of_small_batches(512, 10_000, 32)
    warn_of_small_batches(300, 300, 100)
    assert not caplog.messages
    warn_of_small_batches(512, 10_000, 100)
    warn_of_small_batches(512, 3000, 100)
    first, second = caplog.messages
    assert "batches of 512 rows have 5 for each of 100 clusters" in first
    assert "batch_size: 5000" in first
    assert "batch_size: 3000" in second

"""What the clusters of two views say of each other: against scikit-learn, definitions and permutations."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import entropy
from sklearn.metrics import mutual_info_score

from deep_clustering.methods import shared_information
from deep_clustering.methods.shared_information import chance_information, mutual_information, pair_log_likelihood


def random_pairs(seed: int, n_clusters: int, n: int = 50) -> tuple[np.ndarray, np.ndarray]:
    """Clusters of unequal shares, of which some agree."""
    rng = np.random.default_rng(seed)
    first, other = rng.choice(n_clusters, (2, n), p=rng.dirichlet(np.ones(n_clusters)))
    return first, np.where(rng.random(n) < rng.random(), first, other)


def tensors(*arrays: np.ndarray) -> tuple[torch.Tensor, ...]:
    return tuple(map(torch.from_numpy, arrays))


@given(st.integers(0, 10_000))
def test_shared_information_is_that_of_scikit_learn(seed):
    first, second = random_pairs(seed, 4)
    expected = mutual_info_score(np.append(first, second), np.append(second, first))  # nats
    assert float(mutual_information(*tensors(first, second), 4)) == pytest.approx(expected, abs=1e-5)


def test_views_that_agree_on_balanced_clusters_share_ln_k():
    clusters = torch.arange(12) % 3
    assert float(mutual_information(clusters, clusters, 3)) == pytest.approx(math.log(3))
    assert float(mutual_information(clusters, clusters * 0, 3)) < math.log(3) / 2


def test_pairs_in_pieces_and_in_small_integers_share_what_they_do_at_once(monkeypatch):
    pairs = random_pairs(1, 4)
    at_once = [f(*tensors(*pairs), 4) for f in (mutual_information, pair_log_likelihood)]
    chance = chance_of(*pairs, 4)
    monkeypatch.setattr(shared_information, "_PAIRS", 7)
    small = [array.astype(np.int16) for array in pairs]
    assert at_once == [f(*tensors(*small), 4) for f in (mutual_information, pair_log_likelihood)]
    assert chance_of(*small, 4) == chance


def test_small_integers_hold_numbers_whose_products_they_do_not():
    first, second = random_pairs(2, 400)
    expected = mutual_info_score(np.append(first, second), np.append(second, first))
    got = mutual_information(*tensors(first.astype(np.int16), second.astype(np.int16)), 400)
    assert float(got) == pytest.approx(expected, abs=1e-5)


# Log-likelihood of pairs, equation (13)


@given(st.integers(0, 10_000), st.integers(2, 5))
def test_the_likelihood_of_pairs_is_its_definition_at_the_best_noise(seed, n_clusters):
    first, second = random_pairs(seed, n_clusters)
    shares = np.bincount(np.append(first, second), minlength=n_clusters) / (2 * len(first))

    def loss(noise):
        return -np.mean(np.log((1 - noise) * (first == second) / shares[first] + noise))

    best = minimize_scalar(loss, bounds=(1e-12, 1), method="bounded", options={"xatol": 1e-10})
    got = float(pair_log_likelihood(*tensors(first, second), n_clusters))
    assert got == pytest.approx(-min(best.fun, loss(1.0)), abs=1e-6)
    assert -1e-6 <= got <= float(mutual_information(*tensors(first, second), n_clusters)) + 1e-5


@pytest.mark.parametrize("counts", [(4, 4, 4), (10, 1, 1), (9, 3, 0), (12, 0, 0)])
def test_views_that_agree_have_the_entropy_of_the_shares(counts):
    clusters = torch.from_numpy(np.repeat(np.arange(3), counts))
    assert float(pair_log_likelihood(clusters, clusters, 3)) == pytest.approx(entropy(counts), abs=1e-6)


def test_views_that_never_agree_are_all_noise():
    clusters = torch.arange(10) % 2
    assert float(pair_log_likelihood(clusters, 1 - clusters, 2)) == pytest.approx(0, abs=1e-6)


def test_a_large_group_is_likelier_whole_than_cut_where_information_prefers_the_cut():
    """Groups of .9, .05 and .05; the cut halves the first through 30 % of its pairs, and joins the others."""
    whole = np.repeat([0, 1, 2], [900, 50, 50])
    cut = np.repeat([0, 1, 2, 0, 1], [315, 315, 100, 135, 135]), np.repeat([0, 1, 2, 1, 0], [315, 315, 100, 135, 135])
    scores = {
        f: (f(*tensors(whole, whole), 3), f(*tensors(*cut), 3)) for f in (mutual_information, pair_log_likelihood)
    }
    assert scores[mutual_information][0] < scores[mutual_information][1]
    assert scores[pair_log_likelihood][0] > scores[pair_log_likelihood][1] + 0.05


# Chance


def chance_of(first: np.ndarray, second: np.ndarray, n_clusters: int, seed: int = 0) -> float:
    return float(chance_information(*tensors(first, second), n_clusters, torch.Generator().manual_seed(seed)))


def test_views_that_know_nothing_of_each_other_share_more_than_chance_once_in_twenty_times():
    rng = np.random.default_rng(0)
    above = 0
    for seed in range(400):
        first, second = rng.choice(3, (2, 200), p=[0.8, 0.1, 0.1])
        above += float(mutual_information(*tensors(first, second), 3)) > chance_of(first, second, 3, seed)
    assert 5 <= above <= 38  # 20 expected; four standard deviations


@pytest.mark.parametrize("counts", [(100, 100), (1800, 100, 100), (220, 180), (391, 9)])
def test_views_that_agree_share_more_than_chance_whatever_the_shares(counts):
    clusters = np.repeat(np.arange(len(counts)), counts)
    assert chance_of(clusters, clusters, len(counts)) < entropy(counts) / 2


def test_one_cluster_is_no_more_than_chance():
    clusters = np.zeros(30, dtype=np.int64)
    assert chance_of(clusters, clusters, 2) == float(mutual_information(*tensors(clusters, clusters), 2)) == 0


def test_several_pairs_of_a_row_are_no_more_rows():
    """Five times the same pairs share by chance what the pairs do."""
    first, second = random_pairs(1, 3, 40)
    often = np.tile(first, (5, 1)), np.tile(second, (5, 1))
    assert chance_of(*often, 3) == pytest.approx(chance_of(first, second, 3), abs=1e-6)

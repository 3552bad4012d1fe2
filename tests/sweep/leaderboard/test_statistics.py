"""Means and differences with their uncertainty: coverage by simulation, against scipy, and by hand."""

import math
from itertools import product

import numpy as np
import pytest
from scipy import stats

from deep_clustering.sweep.leaderboard.statistics import paired_difference, sign_flip_p, summarise, unpaired_difference

VALUES = np.array([0.81, 0.90, 0.95, 0.88, 0.62, 0.93, 0.89])
N_DRAWS = 4000


def coverage(samples: np.ndarray, truth: float) -> int:
    summaries = [summarise(sample) for sample in samples]
    return sum(summary.low <= truth <= summary.high for summary in summaries)


@pytest.mark.parametrize("n", [5, 10])
def test_the_interval_covers_the_mean_of_normal_draws_in_95_of_100_cases(n):
    # Student's t is exact here: the number of hits is binomial, and leaves these bounds once in a million cases
    low, high = stats.binom.ppf([5e-7, 1 - 5e-7], N_DRAWS, 0.95)
    samples = np.random.default_rng(n).normal(3.0, 2.0, size=(N_DRAWS, n))
    assert low <= coverage(samples, 3.0) <= high


@pytest.mark.parametrize("n", [5, 10])
def test_the_interval_of_bounded_and_skewed_draws_is_not_far_from_what_it_says(n):
    # Beta(12, 2) has mean 6/7, deviation 0.09 and a tail to the left, as accuracies have. No theory gives the coverage
    # of t there; by twenty thousand draws with its textbook formula it is 0.93 for both n.
    samples = np.random.default_rng(n).beta(12, 2, size=(N_DRAWS, n))
    assert 0.91 * N_DRAWS <= coverage(samples, 12 / 14) <= 0.96 * N_DRAWS


def test_three_values_have_no_interval_and_are_shown_themselves():
    summary = summarise(np.array([0.985, 0.986, 0.9855]))
    assert (summary.n, summary.mean) == (3, pytest.approx(0.9855))
    assert summary.std == pytest.approx(0.0005)
    assert np.isnan([summary.low, summary.high]).all()
    assert summary.values == "0.985 0.986 0.9855"


def test_a_summary_is_mean_deviation_and_students_interval():
    summary = summarise(VALUES)
    mean, std = VALUES.sum() / 7, math.sqrt(sum((VALUES - VALUES.sum() / 7) ** 2) / 6)
    assert summary[:3] == (7, pytest.approx(mean), pytest.approx(std))
    half = 2.446912 * std / math.sqrt(7)  # the 97.5 % point of t with 6 degrees of freedom, from a printed table
    assert (summary.low, summary.high) == pytest.approx((mean - half, mean + half), abs=1e-6)
    assert summary.values == ""


def test_equal_values_have_an_interval_of_no_width():
    assert summarise(np.full(10, 0.95)) == (10, pytest.approx(0.95), 0.0, 0.95, 0.95, "")


def test_a_single_value_says_nothing_of_its_spread_unless_it_is_a_constant():
    summary = summarise(np.array([0.5]))
    assert summary[:2] == (1, 0.5)
    assert np.isnan(summary[2:5]).all()
    assert summarise(np.array([0.5]), is_constant=True) == (1, 0.5, 0.0, 0.5, 0.5, "")


def test_missing_values_do_not_count():
    assert summarise(np.array([0.5, np.nan, 0.7]))[:2] == (2, pytest.approx(0.6))
    nothing = summarise(np.array([np.nan]))
    assert nothing.n == 0
    assert np.isnan(nothing[1:5]).all()


@pytest.mark.parametrize("n", [3, 5, 8, 10])
def test_the_p_value_of_a_sign_flip_is_that_of_scipys_permutation_test(n):
    differences = np.random.default_rng(n).normal(0.5, 1.0, size=n)
    wanted = stats.permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
    assert sign_flip_p(differences) == pytest.approx(wanted)


def test_without_a_difference_every_possible_p_value_is_equally_likely():
    # The definition of an exact test: of five pairs the signs are 32 equally likely ones, in pairs of opposite sums.
    sizes = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    found = sorted(sign_flip_p(sizes * signs) for signs in product([-1, 1], repeat=5))
    assert found == pytest.approx(np.repeat(np.arange(1, 17) / 16, 2))


def test_five_pairs_of_one_sign_have_the_smallest_p_value_there_is():
    found = paired_difference(np.array([0.03, 0.031, 0.029, 0.03, 0.032]))
    assert (found.p, found.test, found.pairs) == (0.0625, "sign-flip", 5)


def test_ties_and_zeros_are_no_trouble():
    assert sign_flip_p(np.zeros(6)) == 1
    # three differences that count: 2 of the 8 choices of their signs are as far out, whatever the zeros' signs
    assert sign_flip_p(np.array([0.1, 0.1, 0.1, 0.0, 0.0])) == 0.25


def test_many_pairs_are_drawn_and_give_the_same_each_time():
    differences = np.random.default_rng(0).normal(0.1, 1.0, size=40)
    assert sign_flip_p(differences) == sign_flip_p(differences.copy())
    # of so many the test is that of the normal distribution; the draws have a deviation of at most 0.005
    wanted = 2 * stats.norm.sf(abs(differences.sum()) / math.sqrt((differences**2).sum()))
    assert sign_flip_p(differences) == pytest.approx(wanted, abs=0.02)


def test_fewer_than_five_pairs_have_neither_interval_nor_p_value():
    found = paired_difference(np.array([0.2, 0.25, 0.1, 0.05]))
    assert (found.pairs, found.mean, found.test) == (4, pytest.approx(0.15), "")
    assert np.isnan([found.low, found.high, found.p]).all()
    assert found.values == "0.2 0.25 0.1 0.05"


def test_two_methods_without_chance_have_a_difference_and_no_test():
    found = paired_difference(np.full(10, 0.11))
    assert (found.mean, found.low, found.high, found.test) == (pytest.approx(0.11), 0.11, 0.11, "")
    assert np.isnan(found.p)


def test_a_difference_without_pairs_is_welchs():
    first, second = VALUES, np.array([0.70, 0.72, 0.69, 0.75, 0.71])
    found = unpaired_difference(first, second)
    parts = first.var(ddof=1) / 7, second.var(ddof=1) / 5
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / 6 + parts[1] ** 2 / 4)  # Welch and Satterthwaite
    mean, error = first.mean() - second.mean(), math.sqrt(sum(parts))
    half = stats.t.ppf(0.975, freedom) * error
    assert (found.pairs, found.test, found.mean) == (0, "Welch", pytest.approx(mean))
    assert (found.low, found.high) == pytest.approx((mean - half, mean + half))
    assert found.p == pytest.approx(2 * stats.t.sf(abs(mean) / error, freedom))


def test_four_values_on_one_side_have_a_difference_and_no_interval():
    found = unpaired_difference(VALUES, np.array([0.70, 0.72, 0.69, 0.75]))
    assert found.mean == pytest.approx(VALUES.mean() - 0.715)
    assert np.isnan([found.low, found.high, found.p]).all()

"""Means with their uncertainty, against scipy and by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from deep_clustering.sweep.leaderboard.statistics import bootstrap_interval, summarise


def test_a_summary_is_mean_deviation_and_scipys_bca_interval():
    values = np.array([0.81, 0.90, 0.95, 0.88, 0.62, 0.93, 0.89])
    summary = summarise(values)
    assert summary.n == 7
    assert summary.mean == pytest.approx(sum(values) / 7)
    assert summary.std == pytest.approx(math.sqrt(sum((values - sum(values) / 7) ** 2) / 6))
    rng = np.random.default_rng(1)  # not the seed of the code: both must come close to the same limits
    wanted = stats.bootstrap((values,), np.mean, n_resamples=200_000, method="BCa", rng=rng).confidence_interval
    assert (summary.low, summary.high) == pytest.approx(tuple(wanted), abs=0.004)


def test_the_interval_of_two_values_reaches_from_one_to_the_other():
    # Resampling two values gives the lower one twice in a quarter of the cases, and the higher one as often.
    assert bootstrap_interval(np.array([0.2, 0.6])) == pytest.approx((0.2, 0.6))


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    samples = rng.normal(3.0, 2.0, size=(40, 30))
    covered = sum(low <= 3.0 <= high for low, high in map(bootstrap_interval, samples))
    # 40 draws at 93 %: fewer than 32 has a probability below 0.002
    assert covered >= 32


def test_equal_values_have_an_interval_of_no_width():
    assert summarise(np.array([0.5, 0.5, 0.5])) == (3, 0.5, 0.0, 0.5, 0.5)


def test_a_single_value_says_nothing_of_its_spread_unless_it_is_a_constant():
    summary = summarise(np.array([0.5]))
    assert summary[:2] == (1, 0.5)
    assert np.isnan(summary[2:]).all()
    assert summarise(np.array([0.5]), is_constant=True) == (1, 0.5, 0.0, 0.5, 0.5)


def test_missing_values_do_not_count():
    assert summarise(np.array([0.5, np.nan, 0.7]))[:2] == (2, pytest.approx(0.6))
    nothing = summarise(np.array([np.nan]))
    assert nothing.n == 0
    assert np.isnan(nothing[1:]).all()


def test_the_same_values_give_the_same_interval():
    values = np.random.default_rng(0).normal(size=9)
    assert bootstrap_interval(values) == bootstrap_interval(values.copy())

"""The suggested number of clusters: its interval against brute force, and what is said of it."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deep_clustering.scores.number_of_clusters import describe_selection, probable_range, selection_metrics

HISTORY = {
    "epoch": np.array([1.0]),
    "selection_n_clusters": np.array([2.0, 3.0, 4.0, 5.0]),
    "selection_log_likelihood": np.array([0.2, 0.8, 0.9, 0.5]),
    "selection_log_likelihood_deviation": np.array([0.01, 0.02, 0.03, 0.04]),
    "selection_bound": np.log([2.0, 3.0, 4.0, 5.0]),
    "selection_probability": np.array([0.0, 0.75, 0.21, 0.04]),
}


@pytest.mark.parametrize(
    ("probability", "level", "expected"),
    [
        ([1, 0, 0, 0], 0.95, (2, 2)),
        ([0, 0, 0, 1], 0.95, (5, 5)),
        ([0.25, 0.25, 0.25, 0.25], 0.95, (2, 5)),
        ([0.02, 0.5, 0.46, 0.02], 0.95, (3, 4)),
        ([0.5, 0, 0, 0.5], 0.95, (2, 5)),
        ([0.3, 0.3, 0.4, 0], 0.6, (3, 4)),  # of two pairs that reach the level the more probable one
        ([0.3, 0.3, 0.3, 0.1], 0.6, (2, 3)),  # of two equal ones the first
        ([0.05, 0.95, 0, 0], 0.95, (3, 3)),  # exactly the level is enough
    ],
)
def test_range_by_hand(probability, level, expected):
    assert probable_range([2, 3, 4, 5], probability, level) == expected


@given(st.lists(st.integers(0, 20), min_size=1, max_size=8).filter(any), st.sampled_from([0.5, 0.8, 0.95, 1.0]))
def test_no_smaller_range_reaches_the_level(weights, level):
    numbers = list(range(3, 3 + len(weights)))
    probability = np.array(weights) / sum(weights)
    low, high = probable_range(numbers, probability.tolist(), level)

    def mass(first: int, last: int) -> float:
        return sum(p for number, p in zip(numbers, probability, strict=True) if first <= number <= last)

    assert mass(low, high) >= level - 1e-5
    for first, last in itertools.combinations_with_replacement(numbers, 2):
        if last - first < high - low:
            assert mass(first, last) < level
        if last - first == high - low:
            assert mass(first, last) <= mass(low, high) + 1e-12


def test_probabilities_in_single_precision_reach_the_level():
    probability = (np.array([475, 25], dtype=np.float32) / np.float32(500)).astype(float)
    assert probability[0] < 0.95
    assert probable_range([2, 3], probability.tolist(), 0.95) == (2, 2)


def test_probabilities_that_do_not_sum_to_one_are_refused():
    with pytest.raises(ValueError, match=r"expected probabilities that sum to 1, got 0\.5"):
        probable_range([2, 3], [0.25, 0.25], 0.95)


def test_selection_with_labels():
    selection = describe_selection(HISTORY, suggested=3, n_classes=4)
    assert selection == {
        "n_clusters": [2, 3, 4, 5],
        "log_likelihood": [0.2, 0.8, 0.9, 0.5],
        "log_likelihood_deviation": [0.01, 0.02, 0.03, 0.04],
        "bound": np.log([2, 3, 4, 5]).tolist(),
        "probability": [0.0, 0.75, 0.21, 0.04],
        "suggested": 3,
        "interval": [3, 4],
        "n_classes": 4,
        "difference": -1,
    }
    assert selection_metrics(selection) == {
        "n_clusters_suggested": 3,
        "n_clusters_probability": 0.75,
        "n_clusters_off": -1,
    }


def test_selection_without_labels_says_nothing_of_classes():
    selection = describe_selection(HISTORY, suggested=3, n_classes=None)
    assert selection["n_classes"] is selection["difference"] is None
    assert set(selection_metrics(selection)) == {"n_clusters_suggested", "n_clusters_probability"}


def test_one_number_of_clusters_is_no_selection():
    assert describe_selection({"epoch": np.array([1.0])}, suggested=3, n_classes=3) is None

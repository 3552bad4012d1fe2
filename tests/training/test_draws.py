"""Rows that stand for all."""

import numpy as np
import pytest

from deep_clustering.training.draws import evenly_spaced


def test_places_are_those_that_a_ruler_marks():
    np.testing.assert_array_equal(evenly_spaced(9, 3), [0, 4, 8])
    np.testing.assert_array_equal(evenly_spaced(3, 9), [0, 1, 2])
    np.testing.assert_array_equal(evenly_spaced(1, 5), [0])


@pytest.mark.parametrize(("n_rows", "most"), [(10, 7), (1000, 999), (70_000, 2000)])
def test_there_are_as_many_as_asked_for_with_both_ends_and_gaps_that_differ_by_one(n_rows, most):
    places = evenly_spaced(n_rows, most)
    assert len(places) == most
    assert (places[0], places[-1]) == (0, n_rows - 1)
    assert np.ptp(np.diff(places)) <= 1

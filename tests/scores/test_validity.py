"""Indices of validity against scikit-learn and their definitions, and the weights that come of them."""

from itertools import combinations

import numpy as np
import pytest
from scipy import sparse
from sklearn.metrics import calinski_harabasz_score

from deep_clustering.scores import validity as module
from deep_clustering.scores.validity import validity, weigh_by_validity


@pytest.fixture
def rows() -> np.ndarray:
    return np.random.default_rng(0).normal(100, 1, size=(40, 1, 2, 3)).astype(np.float32)


@pytest.mark.parametrize("as_rows", [np.asarray, lambda rows: sparse.csr_matrix(rows.reshape(len(rows), -1))])
def test_indices_are_those_of_their_definitions(rows, as_rows, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", 16)
    assignments = np.random.default_rng(1).choice([0, 2, 3], 40)  # a number without rows does not count
    flat = rows.reshape(40, -1).astype(np.float64)
    means = {k: flat[assignments == k].mean(axis=0) for k in (0, 2, 3)}
    within = sum(((row - means[k]) ** 2).sum() for row, k in zip(flat, assignments, strict=True))
    apart = min(((means[k] - means[other]) ** 2).sum() for k, other in combinations(means, 2))
    found = validity(as_rows(rows), assignments)
    assert found == pytest.approx((calinski_harabasz_score(flat, assignments), 40 * apart / within), rel=1e-6)


def test_one_cluster_says_nothing_and_perfect_ones_are_finite(rows):
    assert validity(rows, np.full(40, 3)) == (0, 0)
    copies = np.repeat(np.eye(2), 5, axis=0)
    found = validity(copies, np.repeat([0, 1], 5))
    assert np.isfinite(found).all()
    assert min(found) > 0
    with pytest.raises(ValueError, match="one assignment for each of 40 rows, got 39"):
        validity(rows, np.zeros(39, dtype=int))


def test_weights_are_the_mean_of_the_shares_in_both_indices():
    found = weigh_by_validity(np.array([[3.0, 1.0], [1.0, 1.0], [0.0, 0.0]]))
    np.testing.assert_allclose(found, [(3 / 4 + 1 / 2) / 2, (1 / 4 + 1 / 2) / 2, 0])
    np.testing.assert_allclose(weigh_by_validity(np.zeros((4, 2))), 1 / 4)

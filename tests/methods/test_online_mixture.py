"""The online mixture: its density and the cost of a merge against their definitions, and streams."""

import numpy as np
import pytest
from scipy import sparse
from scipy.stats import multivariate_normal

from deep_clustering.methods import load_method, make_method, save_method
from deep_clustering.methods.online_mixture import cheapest_pair, log_joint, merge_costs
from deep_clustering.scores.metrics import accuracy, contingency

M, D = 4, 3


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def stream(rng):
    """Function (groups) that gives a batch of rows of these of four far groups, and their groups."""

    def draw(*groups: int) -> tuple[np.ndarray, np.ndarray]:
        own = rng.permutation(np.repeat(groups, 30))
        return (20 * np.eye(4)[own] + rng.normal(size=(len(own), 4))).astype(np.float32), own

    return draw


def components(rng):
    return rng.dirichlet(np.ones(M)), rng.normal(size=(M, D)), rng.gamma(2, size=(M, D))


def test_the_density_is_that_of_gaussians(rng):
    weights, means, variances = components(rng)
    points = rng.normal(size=(7, D))
    expected = [
        [np.log(weights[m]) + multivariate_normal(means[m], np.diag(variances[m])).logpdf(point) for m in range(M)]
        for point in points
    ]
    np.testing.assert_allclose(log_joint(points, weights, means, variances), expected)


def test_a_merge_costs_what_the_likelihood_of_the_rows_loses(rng):
    """Of hard groups, whose Gaussians have the moments of their rows, the bound is the loss itself."""
    groups = [rng.normal(rng.normal(size=D), 1, size=(n, D)) for n in (20, 30, 50)]

    def likelihood(rows: np.ndarray) -> float:
        return multivariate_normal(rows.mean(axis=0), np.diag(rows.var(axis=0))).logpdf(rows).sum()

    moments = [np.array([part(group, axis=0) for group in groups]) for part in (np.mean, np.var)]
    costs = merge_costs(np.array([20.0, 30.0, 50.0]), *moments)
    for first in range(3):
        for second in set(range(3)) - {first}:
            apart = likelihood(groups[first]) + likelihood(groups[second])
            together = likelihood(np.concatenate([groups[first], groups[second]]))
            assert costs[first, second] == pytest.approx(apart - together, rel=1e-9)
    assert cheapest_pair(costs) == min((costs[i, j], (i, j)) for i in range(3) for j in range(i + 1, 3))[1]


def test_moments_of_components_are_those_of_their_rows(tiny_options, stream):
    rows, own = stream(0, 1, 2, 3)
    changes = {"components_per_cluster": 1, "pca_dim": 0, "prior_rows": 1e-9}
    estimator = make_method(tiny_options("online_mixture", "vectors", n_clusters=4, **changes)).partial_fit(rows)
    weights, means, variances = estimator.moments()
    found = (means + estimator.origin_)[:, :4].argmax(axis=1)
    np.testing.assert_allclose(weights, 1 / 4)
    for place, group in enumerate(found):
        members = rows[own == group].astype(np.float64)
        np.testing.assert_allclose(means[place] + estimator.origin_, members.mean(axis=0), atol=1e-5)
        np.testing.assert_allclose(variances[place], members.var(axis=0), rtol=1e-4)


@pytest.mark.parametrize("as_rows", [np.asarray, sparse.csr_matrix])
def test_a_stream_opens_a_cluster_where_rows_are_new(tiny_options, stream, as_rows):
    estimator = make_method(tiny_options("online_mixture", "vectors", n_clusters=4, pca_dim=0))
    for groups in ((0, 1), (0, 1, 2), (1, 2), (3,), (0, 3)):
        estimator.partial_fit(as_rows(stream(*groups)[0]))
    rows, own = stream(0, 1, 2, 3)
    found = estimator.predict(as_rows(rows))
    assert accuracy(contingency(found, own, 4, 4)) == 1
    loaded = load_method(save_method(estimator))
    more = as_rows(stream(0, 2)[0])
    np.testing.assert_array_equal(
        loaded.partial_fit(more).predict_proba(rows), estimator.partial_fit(more).predict_proba(rows)
    )


def test_a_cluster_that_the_stream_has_left_fades(tiny_options, stream):
    options = tiny_options("online_mixture", "vectors", n_clusters=2, pca_dim=0, memory=0.3)
    estimator = make_method(options).partial_fit(stream(0, 1)[0])
    for _ in range(20):
        estimator.partial_fit(stream(1)[0])
    weights, means, _ = estimator.moments()
    assert weights[(means + estimator.origin_)[:, 1] > 10].sum() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("n_features", [3, 5])
def test_a_stream_of_another_width_is_refused_and_changes_nothing(tiny_options, stream, n_features):
    estimator = make_method(tiny_options("online_mixture", "vectors", n_clusters=2)).partial_fit(stream(0, 1)[0])
    before = {name: array.copy() for name, array in estimator.get_arrays().items()}
    with pytest.raises(ValueError, match=f"online_mixture: each row must have 4 values, got {n_features}"):
        estimator.partial_fit(np.ones((6, n_features), dtype=np.float32))
    with pytest.raises(ValueError, match="online_mixture: features must be finite, got NaN or infinity first in row 1"):
        estimator.partial_fit(np.array([[0, 0, 0, 0], [0, np.nan, 0, 0]], dtype=np.float32))
    for name, array in estimator.get_arrays().items():
        np.testing.assert_array_equal(array, before[name])


def test_a_first_batch_without_rows_for_its_axes_is_refused(tiny_options, stream):
    estimator = make_method(tiny_options("online_mixture", "vectors", n_clusters=2, pca_dim=3))
    rows = stream(0, 1)[0]
    with pytest.raises(ValueError, match=r"has 3 rows, expected more than pca_dim \(3\)"):
        estimator.partial_fit(rows[:3])
    assert estimator.partial_fit(rows[:4]).axes_.shape == (4, 3)


def test_rows_are_not_described_before_a_fit(tiny_options, stream):
    with pytest.raises(ValueError, match="not fitted"):
        make_method(tiny_options("online_mixture", "vectors", n_clusters=2)).predict(stream(0)[0])


def test_a_first_batch_of_one_row_and_equal_rows_is_no_end(tiny_options, stream):
    estimator = make_method(tiny_options("online_mixture", "vectors", n_clusters=2, pca_dim=0))
    estimator.partial_fit(np.ones((1, 4), dtype=np.float32)).partial_fit(np.ones((5, 4), dtype=np.float32))
    rows, own = stream(0, 1)
    found = estimator.partial_fit(rows).partial_fit(rows).describe(rows)
    assert np.isfinite(found.responsibilities).all()
    assert np.isfinite(found.log_density).all()
    assert accuracy(contingency(found.assignments, own, 2, 4)) == 1


def test_a_row_of_weight_two_is_the_row_twice(tiny_options, blobs):
    one_batch = {"passes": 1, "batch_size": 500, "components_per_cluster": 1}
    options = tiny_options("online_mixture", "vectors", n_clusters=3, **one_batch)
    weights = np.where(np.arange(len(blobs)) < 40, 2.0, 1.0).astype(np.float32)
    weighted = make_method(options).fit(blobs, weights=weights).moments()
    twice = make_method(options).fit(np.concatenate([blobs, blobs[:40]])).moments()
    assert np.sort(weighted[0]) == pytest.approx(np.sort(twice[0]), rel=1e-6)

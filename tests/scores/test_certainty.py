"""How certain assignments are: against the definitions, and as properties of any rows."""

import math

import numpy as np
import pytest
from scipy import sparse
from scipy.special import expit, log_softmax

import spaces
from deep_clustering.methods import make_method
from deep_clustering.reporting.members import select_members
from deep_clustering.scores import metrics
from deep_clustering.scores.certainty import (
    Certainty,
    certainty_of,
    fit_temperature,
    log_odds,
    log_of,
    rate_certainty,
    simplified_silhouette,
)
from deep_clustering.training.described import Described


def saturated(n_samples=300, n_clusters=3, seed=0):
    """Rows around three centres, far enough apart that most responsibilities are 1 in single precision."""
    rng = np.random.default_rng(seed)
    group = rng.integers(n_clusters, size=n_samples)
    rows = (rng.normal(size=(n_samples, 4)) * 2 + 10 * np.eye(n_clusters, 4)[group]).astype(np.float32)
    squares = ((rows[:, None].astype(np.float64) - 10 * np.eye(n_clusters, 4)) ** 2).sum(axis=2)
    logs = log_softmax(-2 * squares, axis=1)
    return rows, Described(logs.argmax(axis=1), np.exp(logs).astype(np.float32), rows, None, logs)


def rated(rows, said, space=spaces.ROWS):
    return rate_certainty(said, rows, space, np.ones(rows.shape[0], dtype=bool))


def in_order(said, order):
    return Described(*(None if part is None else part[order] for part in said))


class TestLogOdds:
    def test_two_clusters_are_the_logit(self):
        p = np.array([0.5, 0.7, 0.99])
        odds = log_odds(np.zeros(3, dtype=int), np.log(np.stack([p, 1 - p], axis=1)))
        np.testing.assert_allclose(odds, np.log(p / (1 - p)), atol=1e-12)

    def test_a_constant_of_a_row_changes_nothing_and_a_cluster_alone_is_certain(self):
        logs = np.random.default_rng(0).normal(size=(20, 5))
        clusters = logs.argmax(axis=1)
        moved = log_odds(clusters, logs + np.arange(20)[:, None])
        np.testing.assert_allclose(moved, log_odds(clusters, logs), atol=1e-12)
        assert np.isposinf(log_odds(np.zeros(2, dtype=int), np.zeros((2, 1)))).all()

    def test_hard_responsibilities_are_infinite(self):
        clusters = np.array([0, 1])
        assert np.isposinf(log_odds(clusters, log_of(np.eye(2)))).all()


class TestSilhouette:
    def test_by_hand(self):
        # means 1 and 10; the point at 2 is 1 from its own and 8 from the other: (8 - 1) / 8
        latent, clusters = np.array([[0.0], [2.0], [10.0], [10.0]]), np.array([0, 0, 1, 1])
        np.testing.assert_allclose(simplified_silhouette(latent, clusters), [(10 - 1) / 10, (8 - 1) / 8, 1, 1])

    def test_member_nearer_to_another_mean_is_negative(self):
        # means (0 + 0 + 9) / 3 = 3 and 10: the point at 9 is 6 from its own and 1 from the other
        values = simplified_silhouette(np.array([[0.0], [0.0], [9.0], [10.0]]), np.array([0, 0, 0, 1]))
        assert values[2] == pytest.approx((1 - 6) / 6)

    @pytest.mark.parametrize("clusters", [[1, 1, 1], [0, 1, 1]])
    def test_one_cluster_or_equal_rows_say_nothing(self, clusters):
        np.testing.assert_array_equal(simplified_silhouette(np.ones((3, 2)), np.array(clusters)), 0)


class TestTemperature:
    @pytest.mark.parametrize("temperature", [0.5, 20.0])
    def test_that_by_which_agreement_was_drawn_is_found(self, temperature):
        rng = np.random.default_rng(0)
        score = rng.exponential(3 * temperature, size=100_000)
        agrees = rng.random(len(score)) < expit(score / temperature)
        assert fit_temperature(score, agrees) == pytest.approx(temperature, rel=0.03)

    @pytest.mark.parametrize("agrees", [True, False])
    def test_all_or_none_agree(self, agrees):
        temperature = fit_temperature(np.array([1.0, 2.0]), np.array([agrees, agrees]))
        assert math.isfinite(temperature)
        assert temperature > 0


class TestRated:
    def test_saturated_rows_are_told_apart_in_the_order_of_their_logarithms(self):
        rows, said = saturated()
        found = rated(rows, said)
        assert (said.responsibilities.max(axis=1) == 1).mean() > 0.5  # what single precision has left of them
        top = np.sort(said.log_responsibilities, axis=1)
        np.testing.assert_allclose(found.log_odds, top[:, -1] - top[:, -2])
        np.testing.assert_array_equal(found.order(), np.argsort(top[:, -2] - top[:, -1], kind="stable"))
        assert ((found.certainty >= 0.5) & (found.certainty <= 1)).all()
        assert len(np.unique(found.certainty)) > 0.9 * len(rows)

    def test_certainty_is_how_often_near_rows_are_in_the_cluster(self):
        rows, said = saturated(n_samples=1500)
        found = rated(rows, said)
        distances = ((rows[:, None] - rows) ** 2).sum(axis=2) + np.diag(np.full(len(rows), np.inf))
        near = np.argsort(distances, axis=1)[:, :5]
        agreement = (said.assignments[near] == said.assignments[:, None]).mean(axis=1)
        assert found.certainty.mean() == pytest.approx(agreement.mean(), abs=0.02)

    @pytest.mark.parametrize("what", ["soft", "hard"])
    def test_the_order_of_rows_changes_neither_certainties_nor_members(self, what):
        rows, said = saturated()
        if what == "hard":
            said = Described(said.assignments, np.eye(3, dtype=np.float32)[said.assignments], rows, None)
        order = np.random.default_rng(1).permutation(len(rows))
        found, moved = rated(rows, said), rated(rows[order], in_order(said, order))
        np.testing.assert_allclose(moved.certainty, found.certainty[order], rtol=1e-5)
        galleries = [
            select_members(assignments=clusters, certainty=values, samples=samples, n_clusters=3, n_members=8)["rows"]
            for clusters, values, samples in (
                (said.assignments, found, rows),
                (said.assignments[order], moved, rows[order]),
            )
        ]
        np.testing.assert_array_equal(order[galleries[1]], galleries[0])
        assert not (np.diff(galleries[0][:, 0]) > 0).all()  # the members are not the first rows

    def test_hard_clusterings_are_told_apart_by_silhouette(self):
        rows, said = saturated()
        found = rated(rows, Described(said.assignments, np.eye(3, dtype=np.float32)[said.assignments], rows, None))
        np.testing.assert_array_equal(found.order(), np.argsort(-found.silhouette, kind="stable"))
        assert (np.diff(found.certainty[found.order()]) <= 0).all()
        assert len(np.unique(found.certainty)) > 0.9 * len(rows)

    def test_a_few_infinite_log_odds_are_the_greatest(self):
        rows, said = saturated()
        logs = said.log_responsibilities.copy()
        logs[:5] = np.where(np.eye(3, dtype=bool)[said.assignments[:5]], 0.0, -np.inf)
        found = rated(rows, said._replace(log_responsibilities=logs))
        assert set(found.order()[:5]) == set(range(5))
        assert np.isfinite(found.certainty).all()
        assert found.certainty[:5].min() == found.certainty.max()

    @pytest.mark.parametrize("n_rows", [1, 2, 3])
    def test_few_rows(self, n_rows):
        rows, said = saturated()
        first = in_order(said, slice(n_rows))
        assert np.isfinite(rated(rows[:n_rows], first).certainty).all()

    def test_a_projection_of_longer_rows_is_passed_over(self):
        rows, said = saturated()
        np.testing.assert_array_equal(
            rated(rows, said, spaces.ROWS | {"projection": 50}).certainty, rated(rows, said).certainty
        )


def test_what_versions_without_certainty_stored_is_ranked_by_its_responsibilities():
    rows, said = saturated()
    stored = {"responsibilities": said.responsibilities, "latent": rows}
    found = certainty_of(said.assignments, stored)
    top = np.sort(said.responsibilities.astype(np.float64), axis=1)
    np.testing.assert_allclose(found.certainty, top[:, -1] / (top[:, -1] + top[:, -2]))
    known = Certainty(*np.random.default_rng(0).random((3, len(rows))))
    np.testing.assert_array_equal(certainty_of(said.assignments, stored | known._asdict()), known)


@pytest.mark.parametrize(
    "options",
    [
        {"method": "kmeans", "n_init": 1},
        {
            "method": "gmm",
            "covariance": "diag",
            "regularisation": 1e-3,
            "n_init": 1,
            "max_iterations": 20,
        },
        {"method": "ward", "max_rows": 1000},
    ],
)
def test_certainties_of_baselines_fill_map_and_reliability(options):
    rows, said = saturated(n_samples=400)
    method = make_method(options | {"n_clusters": 3, "seed": 0}).fit(rows)
    found = rated(rows, method.describe(rows))
    is_right = metrics.is_matched(method.predict(rows), said.assignments, 3, 3)
    assert len(np.unique(found.certainty)) > 200
    assert (metrics.reliability(found.certainty, is_right, 15).counts > 0).sum() > 1


@pytest.mark.parametrize(("width", "n_asked"), [(400_000, 250), (20, 600)])  # 0.4 GB of single precision
def test_few_rows_are_asked_where_rows_are_long_and_become_dense(width, n_asked, monkeypatch):
    seen = []

    def search(rows, options):
        seen.append(rows.shape)
        return np.zeros((rows.shape[0], 1), dtype=np.int32)

    monkeypatch.setattr("deep_clustering.scores.certainty.search_neighbours", search)
    _, said = saturated(600)
    rated(sparse.csr_matrix((600, width), dtype=np.float32), said)
    assert seen == [(n_asked, width)]

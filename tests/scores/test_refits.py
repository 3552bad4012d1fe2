"""Whether a method finds the same clusters again on a part of the rows."""

import numpy as np
import pytest

from deep_clustering.scores import refits
from deep_clustering.scores.recommending import Candidates, make_recommendation
from deep_clustering.scores.refits import refit_agreements

KMEANS = {"method": "kmeans", "n_clusters": 3, "seed": 5, "n_init": 3}
OPTIONS = {"max_rows": 1000, "resamples": 20, "refits": 1, "refit_share": 0.8}


@pytest.fixture
def space(tmp_path):
    return {
        "k": 0,
        "metric": "cosine",
        "held_out": 0.0,
        "centre": True,
        "projection": 0,
        "exact_rows": 99999,
        "cache": str(tmp_path),
    }


def groups(n_each=30):
    labels = np.repeat(np.arange(3), n_each)
    rows = 10 * np.eye(3)[labels] + np.random.default_rng(0).normal(size=(3 * n_each, 3))
    return rows.astype(np.float32), labels.astype(np.int64)


def test_clear_groups_are_found_again_and_drawn_ones_are_not(space):
    rows, labels = groups()
    assert refit_agreements(rows, labels, KMEANS, space, n_refits=2, share=0.8) == [1.0, 1.0]
    drawn = np.random.default_rng(1).permutation(labels)
    (agreement,) = refit_agreements(rows, drawn, KMEANS, space, n_refits=1, share=0.8)
    assert abs(agreement) < 0.2


def test_each_fit_has_a_seed_and_rows_of_its_own(space, monkeypatch):
    seen = []

    class Recorded:
        def __init__(self, options):
            self.seed = options["seed"]

        def fit(self, features, neighbours):
            seen.append((self.seed, features[:, 0].astype(int).tolist(), neighbours))
            return self

        def predict(self, features):
            return np.zeros(len(features), dtype=np.int64)

    monkeypatch.setattr(refits, "make_method", Recorded)
    rows = np.stack([np.arange(40), np.ones(40)], axis=1).astype(np.float32)
    options = {**space, "k": 3, "centre": False}
    refit_agreements(rows, np.zeros(40, dtype=np.int64), KMEANS, options, n_refits=2, share=0.5)
    assert [seed for seed, _, _ in seen] == [6, 7]
    for _, drawn, neighbours in seen:
        assert len(set(drawn)) == len(drawn) == 20
        assert neighbours.shape == (20, 3)
        assert neighbours.max() < 20
    assert seen[0][1] != seen[1][1]


def candidates(rows, assignments):
    options = {name: {**KMEANS, "method": name} for name in assignments}
    return Candidates(rows, assignments, options)


def test_a_recommendation_says_how_sure_it_is(space):
    rows, labels = groups()
    told = make_recommendation(candidates(rows, {"kmeans": labels}), space, OPTIONS)
    assert (told["method"], told["stability"], told["is_repeatable"]) == ("kmeans", [1.0], True)
    assert told["certainty"] == "A second fit on 80 % of the rows agrees with ARI 1.00: repeatable."


def test_refits_can_be_switched_off(space):
    rows, labels = groups()
    told = make_recommendation(candidates(rows, {"kmeans": labels}), space, {**OPTIONS, "refits": 0})
    assert (told["stability"], told["certainty"], told["is_repeatable"]) == ([], "", None)


@pytest.mark.parametrize("k", [0, 10])
def test_no_more_rows_are_scored_than_are_asked_for(space, k):
    """With neighbours of the methods, too: pairs of all rows would take memory that grows with the rows."""
    rows, labels = groups(100)
    of = candidates(rows, {"kmeans": labels})
    told = make_recommendation(of, {**space, "k": k}, {**OPTIONS, "refits": 0, "max_rows": 90})
    assert 60 <= told["n_rows"] <= 90
    every = make_recommendation(of, {**space, "k": k}, {**OPTIONS, "refits": 0})
    assert every["n_rows"] > 250
    assert every["n_pairs"] > 1.5 * told["n_pairs"]
    assert told["scores"]["kmeans"]["score"] == pytest.approx(every["scores"]["kmeans"]["score"], abs=0.1)


def test_rows_that_are_too_few_to_fit_again_leave_the_recommendation(space):
    rows, _ = groups(n_each=1)
    told = make_recommendation(candidates(rows, {"kmeans": np.arange(3)}), space, OPTIONS)
    assert told["method"] == "kmeans"
    assert told["is_repeatable"] is None
    assert told["certainty"].startswith(
        "Whether it is found again cannot be said: fitting again failed (kmeans: n_clusters"
    )


def test_without_any_partition_it_is_refused(space):
    with pytest.raises(ValueError, match="at least one method, got none"):
        make_recommendation(candidates(groups()[0], {}), space, OPTIONS)

"""Which partition is recommended: scores from their definition, intervals, the rule, the words."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.spatial.distance import cdist

from deep_clustering.data.neighbours import leave_out
from deep_clustering.methods import METHODS, is_baseline
from deep_clustering.methods.shared_information import pair_log_likelihood
from deep_clustering.scores.recommendation import (
    NeighbourScores,
    Pairs,
    choose,
    describe_recommendation,
    describe_stability,
    mutual_pairs,
    neighbour_scores,
)


def score_by_definition(first, second):
    """Greatest mean of log ((1 - e) [j = k] / s_k + e) over e, pairs in both orders."""
    ones, others = np.concatenate([first, second]), np.concatenate([second, first])
    shares = np.bincount(ones) / len(ones)

    def loss(noise):
        return -np.mean(np.log((1 - noise) * (ones == others) / shares[ones] + noise))

    return -minimize_scalar(loss, bounds=(1e-12, 1), method="bounded", options={"xatol": 1e-10}).fun


def blobs(n_each, n_clusters, seed=0, n_features=4):
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(n_clusters), n_each)
    centres = generator.normal(scale=20, size=(n_clusters, n_features))
    return (centres[labels] + generator.normal(size=(len(labels), n_features))).astype(np.float32), labels


def nearest(rows, k):
    return cdist(rows, rows).argsort(axis=1)[:, 1 : k + 1]


def near(rows, k=5):
    return mutual_pairs(nearest(rows, k), 0.0)


class TestPairs:
    def test_they_are_rows_among_each_others_nearest_in_both_orders(self):
        rows = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
        table = nearest(rows, 4)
        expected = {(i, j) for i in range(60) for j in table[i] if i in table[j]}
        pairs = mutual_pairs(table, 0.0)
        assert len(pairs.first) == len(expected)
        assert set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) == expected

    def test_no_pair_was_given_to_training_if_a_share_is_held_out(self):
        rows = np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)
        table = nearest(rows, 8)
        trained = leave_out(table, 0.25)
        pairs = mutual_pairs(table, 0.25)
        seen = {(i, j) for i in range(300) for j in trained[i] if j >= 0}
        held = set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
        assert held
        assert not held & seen
        assert {(j, i) for i, j in held} == held
        mutual = mutual_pairs(table, 0.0)
        assert 0.15 < len(held) / len(mutual.first) < 0.35

    def test_rows_without_a_mutual_neighbour_are_taken_as_they_are(self):
        """On a circle each row's nearest is the next one, whose nearest is another."""
        table = ((np.arange(7) + 1) % 7)[:, None]
        pairs = mutual_pairs(table, 0.0)
        np.testing.assert_array_equal(pairs.first, np.arange(7))
        np.testing.assert_array_equal(pairs.second, table.ravel())
        assert not pairs.are_seen

    def test_without_a_mutual_pair_that_was_held_out_others_are_that_no_method_saw(self):
        """Rows on circles, each with the next one: of so many some are held out."""
        table = ((np.arange(500) + 1) % 500)[:, None]
        pairs = mutual_pairs(table, 0.25)
        trained = leave_out(table, 0.25)
        np.testing.assert_array_equal(pairs.first, np.flatnonzero(trained.ravel() < 0))
        assert not pairs.are_seen

    def test_it_is_said_if_there_is_no_pair_that_no_method_saw(self):
        pairs = mutual_pairs(np.array([[1], [0]]), 1e-9)
        assert pairs.are_seen
        np.testing.assert_array_equal(pairs.second, [1, 0])

    def test_a_row_may_have_fewer_neighbours_than_others(self):
        rows = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
        table = nearest(rows, 4)
        table[::3, 2:] = -1
        expected = {(i, j) for i in range(60) for j in table[i] if j >= 0 and i in table[j]}
        pairs = mutual_pairs(table, 0.0)
        assert set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) == expected


class TestScores:
    def test_they_are_the_definition(self):
        rows, labels = blobs(30, 4)
        generator = np.random.default_rng(1)
        noisy = np.where(generator.random(120) < 0.3, generator.integers(4, size=120), labels)
        pairs = near(rows)
        scores = neighbour_scores({"true": labels, "noisy": noisy}, pairs, 20)
        for name, clusters in (("true", labels), ("noisy", noisy)):
            first, second = clusters[pairs.first], clusters[pairs.second]
            assert scores.score[name] == pytest.approx(score_by_definition(first, second), abs=1e-6)
            assert scores.same[name] == pytest.approx(np.mean(first == second))
            oracle = pair_log_likelihood(torch.from_numpy(first), torch.from_numpy(second), 4)
            assert scores.score[name] == pytest.approx(float(oracle), abs=2e-6)  # counts in float32

    def test_a_resample_is_the_score_of_its_rows(self):
        rows, labels = blobs(30, 4)
        noisy = np.where(np.arange(120) % 5 == 0, (labels + 1) % 4, labels)
        pairs = near(rows)
        resampled = neighbour_scores({"noisy": noisy}, pairs, 3).resampled["noisy"]
        generator = np.random.default_rng(0)
        owners = np.unique(pairs.first)
        for found in resampled:
            draw = owners[generator.integers(len(owners), size=len(owners))]
            places = np.concatenate([np.flatnonzero(pairs.first == row) for row in draw])
            again = neighbour_scores({"noisy": noisy}, Pairs(pairs.first[places], pairs.second[places]), 0)
            assert found == pytest.approx(again.score["noisy"], abs=1e-9)

    def test_clusters_that_near_rows_always_share_score_their_entropy(self):
        rows, labels = blobs(30, 4)
        pairs = near(rows)
        scores = neighbour_scores({"true": labels}, pairs, 20)
        shares = np.bincount(labels[pairs.first]) / len(pairs.first)
        assert scores.score["true"] == pytest.approx(-np.sum(shares * np.log(shares)), abs=1e-6)
        assert scores.same["true"] == 1

    def test_names_of_clusters_do_not_matter(self):
        rows, labels = blobs(30, 4)
        pairs = near(rows)
        renamed = np.array([9, 2, 7, 0])[labels]
        scores = neighbour_scores({"one": labels, "other": renamed}, pairs, 20)
        np.testing.assert_allclose(scores.resampled["one"], scores.resampled["other"])
        assert scores.interval("one", over="other") == pytest.approx((0, 0))

    def test_clusters_that_know_nothing_stay_within_chance_19_times_in_20(self):
        rows = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
        pairs = near(rows)
        drawn = {str(i): np.random.default_rng(i).integers(3, size=300) for i in range(100)}
        scores = neighbour_scores(drawn, pairs, 20)
        above = sum(scores.score[name] > scores.chance[name] for name in drawn)
        assert above <= 14  # of Binomial(100, 1/20) more than 14 has probability 5e-5

    def test_the_interval_covers_the_score_of_the_population(self):
        """Pairs that agree with probability .8 in four clusters of equal shares: the score is known."""
        agree = 0.8
        noise = (1 - agree) / 0.75  # of the others 3 in 4 differ
        expected = agree * np.log((1 - noise) / 0.25 + noise) + (1 - agree) * np.log(noise)
        covered = 0
        for seed in range(60):
            generator = np.random.default_rng(seed)
            first = generator.integers(4, size=400)
            other = (first + generator.integers(1, 4, size=400)) % 4
            second = np.where(generator.random(400) < agree, first, other)
            pairs = Pairs(np.arange(400), np.arange(400, 800))
            scores = neighbour_scores({"it": np.concatenate([first, second])}, pairs, 200)
            low, high = scores.interval("it")
            covered += low <= expected <= high
        assert covered >= 50  # of Binomial(60, .95) fewer than 50 has probability 2e-4


def made_up(score, spread=None, chance=0.0):
    """Scores with resamples that lie around them."""
    noise = np.random.default_rng(0).normal(size=200)
    spread = spread or {}
    resampled = {name: value + spread.get(name, 0.0) * noise for name, value in score.items()}
    return NeighbourScores(dict(score), resampled, dict.fromkeys(score, chance), dict.fromkeys(score, 0.5))


class TestChoice:
    def test_a_neural_method_that_certainly_says_more_is_recommended(self):
        choice = choose(made_up({"net": 1.5, "other": 1.2, "base": 1.0, "poor": 0.2}), ["poor", "base"])
        assert choice.method == "net"
        assert choice.sentence.startswith("Recommended: net. It explains the neighbours of a row better than")
        assert choice.gain["over"] == "base"
        assert choice.gain["difference"] == pytest.approx(0.5)

    def test_a_neural_method_that_says_more_is_recommended_and_doubt_is_said(self):
        choice = choose(made_up({"net": 1.1, "tree": 1.05, "base": 1.0}, spread={"tree": 0.2}), ["base", "tree"])
        assert choice.method == "net"
        assert "better than the best baseline tree, which is not certain (net +0.050 nats" in choice.sentence

    def test_the_plainest_baseline_is_recommended_where_no_neural_method_says_more(self):
        choice = choose(made_up({"net": 0.9, "tree": 1.05, "base": 1.0}, spread={"tree": 0.2}), ["base", "tree"])
        assert choice.method == "base"
        assert choice.sentence.startswith("Recommended: base. No neural partition explains the neighbours")

    def test_the_same_partition_under_other_numbers_is_no_reason_to_leave_the_plainest(self):
        assert choose(made_up({"net": 1.0 + 1e-14, "base": 1.0}), ["base"]).method == "base"

    @pytest.mark.parametrize("net", [1.1, 0.9])
    def test_a_baseline_that_certainly_says_more_than_the_others_is_recommended(self, net):
        choice = choose(made_up({"net": net, "tree": 1.5, "base": 1.0}), ["base", "tree"])
        assert choice.method == "tree"
        assert choice.sentence.startswith("Recommended: tree. No neural partition explains the neighbours")
        assert (choice.gain["method"], choice.gain["over"]) == ("net", "tree")

    def test_a_baseline_that_may_be_better_by_chance_is_named(self):
        score = {"lucky": 1.4, "net": 1.2, "base": 1.0}
        choice = choose(made_up(score, spread={"lucky": 1.0}), ["base", "lucky"])
        assert choice.method == "net"
        assert choice.gain["difference"] == pytest.approx(-0.2)
        assert "better than base; lucky explains them better still, which is not certain (net -0.200" in choice.sentence

    def test_the_comparison_is_paired(self):
        """Both scores vary widely, in the same resamples: their difference hardly does."""
        choice = choose(made_up({"net": 1.1, "base": 1.0}, spread={"net": 0.3, "base": 0.3}), ["base"])
        assert choice.method == "net"

    @pytest.mark.parametrize("baselines", [[], ["one", "other"]])
    def test_without_one_kind_the_best_is_recommended(self, baselines):
        choice = choose(made_up({"one": 0.3, "other": 0.4}), baselines)
        assert (choice.method, choice.gain) == ("other", None)
        assert choice.sentence == "Recommended: other. Of 2 partitions it explains the neighbours of a row best."

    def test_one_method_alone(self):
        assert "no other partition" in choose(made_up({"one": 0.3}), ["one"]).sentence

    def test_what_is_no_more_than_chance_is_said(self):
        assert "no more than by chance" in choose(made_up({"one": 0.01}, chance=0.02), ["one"]).sentence

    def test_all_is_described_best_first(self):
        rows, labels = blobs(30, 4)
        pairs = near(rows)
        partitions = {"base": labels // 2, "net": labels}
        scores = neighbour_scores(partitions, pairs, 20)
        told = describe_recommendation(choose(scores, ["base"]), scores, partitions, ["base"], pairs)
        assert list(told["scores"]) == ["net", "base"]
        assert [one["n_clusters"] for one in told["scores"].values()] == [4, 2]
        assert [one["is_baseline"] for one in told["scores"].values()] == [False, True]
        assert told["beats_baseline"] is True
        # The adjusted Rand index of four equal groups of 30 and pairs of them: (a - e) / (m - e) over pairs of rows.
        inside, joined, all_pairs = 4 * 435, 2 * 1770, 7140
        expected = inside * joined / all_pairs
        assert told["agreement"] == {"base": pytest.approx((inside - expected) / ((inside + joined) / 2 - expected))}


@pytest.mark.parametrize(
    ("agreements", "sentence"),
    [
        ([], ""),
        ([0.934], "A second fit on 80 % of the rows agrees with ARI .93: repeatable."),
        ([1.0], "A second fit on 80 % of the rows agrees with ARI 1.00: repeatable."),
        ([0.75], "A second fit on 80 % of the rows agrees with ARI .75: fairly repeatable."),
        ([-0.01], "A second fit on 80 % of the rows agrees with ARI -.01: not repeatable."),
        ([0.95, 0.2], "2 further fits on 80 % of the rows agree with ARI .95, .20: not repeatable."),
    ],
)
def test_certainty_in_words(agreements, sentence):
    assert describe_stability(agreements, 0.8) == sentence


def test_the_baselines_are_those_without_a_network():
    assert {name for name in METHODS if is_baseline(name)} == {"kmeans", "gmm", "ward", "tsne_gmm"}

"""The consensus of runs: by hand, against brute force, and what must not matter."""

from itertools import permutations

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from deep_clustering.scores.consensus import (
    KINDS,
    average_posteriors,
    coassociation,
    link_coassociation,
    make_consensus,
    weigh,
)


def one_hot(partition, n_clusters):
    return np.eye(n_clusters)[partition]


def copies_of(partition, n_clusters, n_runs, seed=0):
    """The same partition with its clusters numbered anew in each run."""
    rng = np.random.default_rng(seed)
    return [one_hot(rng.permutation(n_clusters)[partition], n_clusters) for _ in range(n_runs)]


def noisy_runs(n_samples=60, n_clusters=3, n_runs=4, seed=0):
    """Posteriors around one partition, numbered anew in each run."""
    rng = np.random.default_rng(seed)
    partition = rng.integers(n_clusters, size=n_samples)
    runs = []
    for _ in range(n_runs):
        scores = 2.5 * np.eye(n_clusters)[partition] + rng.normal(size=(n_samples, n_clusters))
        run = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        runs.append(run[:, rng.permutation(n_clusters)])
    return partition, runs


@pytest.mark.parametrize("kind", KINDS)
def test_renamed_copies_of_a_partition_give_it_back(kind):
    partition = np.random.default_rng(1).integers(5, size=80)
    result = make_consensus(copies_of(partition, 5, 6), kind=kind)
    assert adjusted_rand_score(result.assignments, partition) == 1
    np.testing.assert_allclose(result.agreement, 1)
    np.testing.assert_allclose(result.nmi, 1)
    np.testing.assert_allclose(result.ari, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_one_run_is_its_own_consensus(kind):
    _, (run,) = noisy_runs(n_runs=1)
    result = make_consensus([run], kind=kind)
    assert adjusted_rand_score(result.assignments, run.argmax(axis=1)) == 1
    assert result.weights.tolist() == [1]
    np.testing.assert_allclose(result.agreement, 1)


def test_the_mean_is_nearest_over_all_orders():
    """Brute force over all permutations of three runs: no alignment has a smaller sum of squares."""
    _, runs = noisy_runs(n_runs=3)
    weights = np.array([0.5, 0.3, 0.2])

    def distance(orders):
        aligned = [run[:, list(order)] for run, order in zip(runs, orders, strict=True)]
        mean = sum(w * a for w, a in zip(weights, aligned, strict=True))
        return sum(w * ((a - mean) ** 2).sum() for w, a in zip(weights, aligned, strict=True)), mean

    best = min(distance((range(3), a, b)) for a in permutations(range(3)) for b in permutations(range(3)))[1]
    mean, _ = average_posteriors(runs, weights)
    np.testing.assert_allclose(mean, best)  # numbered as the run of greatest weight is, which brute force holds fixed
    np.testing.assert_allclose(mean.sum(axis=1), 1)


def test_alignment_goes_on_after_the_reference():
    """Two runs that the reference confuses, and that only their mean brings together, end as one."""
    rng = np.random.default_rng(4)
    for seed in range(20):
        _, runs = noisy_runs(n_samples=30, n_clusters=4, n_runs=5, seed=seed)
        runs[0] = rng.dirichlet(np.full(4, 0.4), size=30)  # says nothing, and is the reference
        weights = np.array([0.24, 0.19, 0.19, 0.19, 0.19])
        mean, n_turns = average_posteriors(runs, weights)
        # at the end each run is as near to the mean as any order of its columns could bring it
        total = 0.0
        for run, weight in zip(runs, weights, strict=True):
            products = [(run[:, list(order)] * mean).sum() for order in permutations(range(4))]
            total += weight * max(products)
        assert total == pytest.approx((mean**2).sum())
        if n_turns > 1:
            return
    raise AssertionError("no start needed a second turn: the test says nothing")


def test_a_noisy_run_of_low_weight_changes_nothing():
    partition, runs = noisy_runs(seed=3)
    noise = one_hot(np.random.default_rng(9).integers(3, size=60), 3)
    alone = make_consensus(runs)
    for kind in KINDS:
        joined = make_consensus([*runs, noise], np.array([1, 1, 1, 1, 1e-6]), kind=kind)
        assert adjusted_rand_score(joined.assignments, make_consensus(runs, kind=kind).assignments) == 1
    assert adjusted_rand_score(alone.assignments, partition) > 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_rows_in_another_order_are_the_same_consensus_in_that_order(kind):
    _, runs = noisy_runs(seed=5)
    order = np.random.default_rng(2).permutation(60)
    straight, shuffled = make_consensus(runs, kind=kind), make_consensus([run[order] for run in runs], kind=kind)
    assert adjusted_rand_score(straight.assignments[order], shuffled.assignments) == 1
    np.testing.assert_allclose(np.sort(straight.agreement), np.sort(shuffled.agreement))


def test_agreement_and_stability_by_hand():
    runs = [one_hot([0, 0, 1, 1], 2), one_hot([1, 1, 0, 0], 2), one_hot([0, 1, 1, 1], 2)]
    result = make_consensus(runs, np.array([2, 2, 1]))
    assert adjusted_rand_score(result.assignments, [0, 0, 1, 1]) == 1
    np.testing.assert_allclose(result.agreement, [1, 0.8, 1, 1])  # only the third run moves row 1
    np.testing.assert_allclose(result.nmi, [1, 1, normalized_mutual_info_score([0, 0, 1, 1], [0, 1, 1, 1])])
    np.testing.assert_allclose(result.ari, [1, 1, adjusted_rand_score([0, 0, 1, 1], [0, 1, 1, 1])])


def test_the_reference_of_equal_weights_is_the_medoid():
    """Two equal runs outvote an odd one, wherever it stands, and the consensus has their numbers."""
    partition = np.repeat([0, 1, 2], 20)
    odd = (partition + 1) % 3  # numbered otherwise, and wrong in every fourth row
    odd[::4] = partition[::4]
    for runs in ([odd, partition, partition], [partition, partition, odd], [partition, odd, partition]):
        result = make_consensus([one_hot(run, 3) for run in runs])
        assert result.assignments.tolist() == partition.tolist()  # by the numbers of the medoid


def test_coassociation_is_the_weight_of_the_runs_that_join_two_rows():
    partitions, weights = [np.array([0, 0, 1]), np.array([2, 1, 1])], np.array([0.75, 0.25])
    expected = [[1, 0.75, 0], [0.75, 1, 0.25], [0, 0.25, 1]]
    np.testing.assert_allclose(coassociation(partitions, weights), expected)


def test_linkage_of_the_coassociation_is_scipys():
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.ones(7))
    partitions = [rng.integers(4, size=25) for _ in weights]
    distance = np.array(
        [
            [1 - sum(w * (p[i] == p[j]) for w, p in zip(weights, partitions, strict=True)) for j in range(25)]
            for i in range(25)
        ]
    )
    np.fill_diagonal(distance, 0)
    expected = fcluster(linkage(squareform(distance, checks=False), "average"), 4, "maxclust")
    found = link_coassociation(partitions, 4, weights).argmax(axis=1)
    assert adjusted_rand_score(found, expected) == 1


def test_rows_outside_of_the_draw_join_the_cluster_that_is_most_like_them():
    partition = np.random.default_rng(1).integers(4, size=500)
    runs = [np.random.default_rng(seed).permutation(4)[partition] for seed in range(3)]
    found = link_coassociation(runs, 4, None, max_rows=60, seed=1).argmax(axis=1)
    assert adjusted_rand_score(found, partition) == 1


def test_different_numbers_of_clusters_are_for_coassociation_alone():
    fine, coarse = one_hot([0, 0, 1, 1, 2, 2], 3), one_hot([0, 0, 1, 1, 1, 1], 2)
    with pytest.raises(ValueError, match=r"one number of clusters, got \[2, 3\]; a co-association takes several"):
        make_consensus([fine, coarse])
    result = make_consensus([fine, coarse], np.array([0.6, 0.4]), kind="coassociation")
    assert result.responsibilities.shape == (6, 3)  # the number of greatest weight
    assert adjusted_rand_score(result.assignments, [0, 0, 1, 1, 2, 2]) == 1
    two = make_consensus([fine, coarse], kind="coassociation", n_clusters=2)
    assert adjusted_rand_score(two.assignments, [0, 0, 1, 1, 1, 1]) == 1


@pytest.mark.parametrize(
    ("runs", "options", "message"),
    [
        ([], {}, "at least one run"),
        ([np.eye(2), np.eye(3)[:, :2]], {}, r"the same rows, got \[2, 3\]"),
        ([np.eye(2)], {"weights": np.array([0.0])}, "nor all 0"),
        ([np.eye(2)], {"weights": np.array([1.0, 1.0])}, "expected 1 weights"),
        ([np.eye(2)], {"kind": "posterior"}, "did you mean 'posteriors'"),
        ([np.eye(2)], {"kind": "coassociation", "n_clusters": 3}, r"expected n_clusters in 2\.\.2"),
    ],
)
def test_what_has_no_consensus_is_refused(runs, options, message):
    with pytest.raises(ValueError, match=message):
        make_consensus(runs, **options)


class TestWeigh:
    def test_softmax_of_the_standardised_scores(self):
        # mean 2, deviation sqrt(2/3): standardised -1.2247, 0, 1.2247
        weights = weigh(np.array([1.0, 2.0, 3.0]))
        assert weights[2] / weights[1] == pytest.approx(np.exp(1.224745), rel=1e-5)
        assert weights[1] / weights[0] == pytest.approx(np.exp(1.224745), rel=1e-5)
        assert weights.sum() == pytest.approx(1)

    def test_the_unit_does_not_matter_and_the_direction_does(self):
        scores = np.array([0.1, 0.4, 0.2])
        np.testing.assert_allclose(weigh(scores), weigh(1000 * scores - 7))
        np.testing.assert_allclose(weigh(scores), weigh(-scores, "min"))

    def test_equal_where_nothing_is_known_or_differs(self):
        for scores in ([np.nan, np.nan], [0.3, 0.3 + 1e-17], [0.0, 0.0]):
            np.testing.assert_allclose(weigh(np.array(scores)), [0.5, 0.5])

    def test_a_missing_score_counts_as_the_mean(self):
        np.testing.assert_allclose(
            weigh(np.array([1.0, np.nan, 3.0]))[1] ** 2, np.prod(weigh(np.array([1, np.nan, 3]))[::2])
        )

    def test_no_run_outweighs_all_others_without_bound(self):
        assert weigh(np.array([1e9, *[0.0] * 9])).max() == pytest.approx(np.exp(3) / (np.exp(3) + 9 * np.exp(-1 / 3)))

    @pytest.mark.parametrize(("scores", "better"), [([], "max"), ([np.inf, 1], "max"), ([1, 2], "more")])
    def test_refused(self, scores, better):
        with pytest.raises(ValueError, match="weigh: "):
            weigh(np.array(scores, dtype=float), better)

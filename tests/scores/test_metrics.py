"""Scores against brute force, scikit-learn, and what must hold for every clustering."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, silhouette_score

from deep_clustering.scores import metrics


@st.composite
def clusterings(draw, max_clusters: int = 5) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Assignments, labels, numbers of clusters and classes; some may be empty."""
    n_clusters, n_classes = draw(st.integers(2, max_clusters)), draw(st.integers(2, max_clusters))
    n_samples = draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    return rng.integers(n_clusters, size=n_samples), rng.integers(n_classes, size=n_samples), n_clusters, n_classes


def brute_force_accuracy(assignments: np.ndarray, labels: np.ndarray, n_clusters: int, n_classes: int) -> float:
    """Best agreement over all injective matchings of the fewer to the more."""
    best = 0
    if n_clusters <= n_classes:
        for classes in itertools.permutations(range(n_classes), n_clusters):
            best = max(best, sum(classes[k] == label for k, label in zip(assignments, labels, strict=True)))
    else:
        for clusters in itertools.permutations(range(n_clusters), n_classes):
            best = max(best, sum(clusters[label] == k for k, label in zip(assignments, labels, strict=True)))
    return best / len(labels)


# Contingency and matching


@given(clusterings())
def test_contingency_counts_every_pair(case):
    assignments, labels, n_clusters, n_classes = case
    counts = metrics.contingency(*case)
    assert counts.shape == (n_clusters, n_classes)
    for cluster, label in itertools.product(range(n_clusters), range(n_classes)):
        assert counts[cluster, label] == ((assignments == cluster) & (labels == label)).sum()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.uint64])
def test_contingency_takes_any_integer_type(dtype):
    assignments, labels = np.array([0, 200, 200]), np.array([1, 0, 1])
    counts = metrics.contingency(assignments.astype(dtype), labels.astype(dtype), 201, 2)
    assert counts[0, 1] == counts[200, 0] == counts[200, 1] == 1
    assert counts.sum() == 3


@given(clusterings())
def test_accuracy_is_the_best_injective_matching(case):
    counts = metrics.contingency(*case)
    assert metrics.accuracy(counts) == pytest.approx(brute_force_accuracy(*case))


@pytest.mark.parametrize(("n_clusters", "n_classes"), [(3, 5), (5, 3), (2, 5), (5, 2), (4, 4)])
def test_accuracy_of_rectangular_tables(n_clusters, n_classes):
    rng = np.random.default_rng(n_clusters * 10 + n_classes)
    case = rng.integers(n_clusters, size=60), rng.integers(n_classes, size=60), n_clusters, n_classes
    assert metrics.accuracy(metrics.contingency(*case)) == pytest.approx(brute_force_accuracy(*case))


@given(clusterings())
def test_matching_is_one_to_one_and_complete(case):
    counts = metrics.contingency(*case)
    matched = metrics.match_clusters(counts)
    used = matched[matched >= 0]
    assert matched.shape == (len(counts),)
    assert matched.dtype == np.int64
    assert len(used) == len(set(used)) == min(counts.shape)


def test_matching_by_hand():
    counts = np.array([[1, 9], [8, 2], [3, 3]])
    np.testing.assert_array_equal(metrics.match_clusters(counts), [1, 0, -1])
    assert metrics.accuracy(counts) == 17 / 26
    assert metrics.purity(counts) == 20 / 26


# Labelled scores


@given(clusterings(), st.integers(0, 1000))
def test_the_truth_under_other_names_is_perfect(case, seed):
    _, labels, _, n_classes = case
    names = np.random.default_rng(seed).permutation(n_classes)
    scores = metrics.labelled_scores(names[labels], labels, n_classes, n_classes)
    assert scores == pytest.approx({"acc": 1, "nmi": 1, "ari": 1, "purity": 1})


@given(clusterings(), st.integers(0, 1000))
def test_scores_ignore_the_names_of_clusters_and_classes(case, seed):
    assignments, labels, n_clusters, n_classes = case
    rng = np.random.default_rng(seed)
    renamed = rng.permutation(n_clusters)[assignments], rng.permutation(n_classes)[labels]
    expected = metrics.labelled_scores(*case)
    assert metrics.labelled_scores(*renamed, n_clusters, n_classes) == pytest.approx(expected, abs=1e-12)


@given(clusterings())
def test_collapse_to_one_cluster_scores_the_share_of_the_largest_class(case):
    _, labels, n_clusters, n_classes = case
    scores = metrics.labelled_scores(np.zeros_like(labels), labels, n_clusters, n_classes)
    largest = np.bincount(labels).max() / len(labels)
    assert scores["acc"] == scores["purity"] == pytest.approx(largest)
    if len(np.unique(labels)) > 1:
        assert scores["nmi"] == pytest.approx(0, abs=1e-12)
        assert scores["ari"] == pytest.approx(0, abs=1e-12)


@given(clusterings())
def test_nmi_and_ari_are_scikit_learns(case):
    assignments, labels, _, _ = case
    scores = metrics.labelled_scores(*case)
    assert scores["nmi"] == normalized_mutual_info_score(labels, assignments, average_method="arithmetic")
    assert scores["ari"] == adjusted_rand_score(labels, assignments)


def test_nmi_is_mutual_information_over_the_mean_entropy():
    assignments, labels = np.repeat([0, 0, 1, 1], [6, 2, 1, 7]), np.repeat([0, 1, 0, 1], [6, 2, 1, 7])
    joint = np.array([[6, 2], [1, 7]]) / 16
    rows, columns = joint.sum(axis=1), joint.sum(axis=0)
    information = (joint * np.log(joint / np.outer(rows, columns))).sum()
    entropies = [-(share * np.log(share)).sum() for share in (rows, columns)]
    scores = metrics.labelled_scores(assignments, labels, 2, 2)
    assert scores["nmi"] == pytest.approx(information / np.mean(entropies))


@given(clusterings())
def test_ranges_and_purity_not_below_accuracy(case):
    scores = metrics.labelled_scores(*case)
    assert 0 < scores["acc"] <= scores["purity"] <= 1
    assert -1e-12 <= scores["nmi"] <= 1 + 1e-12
    assert -0.5 <= scores["ari"] <= 1 + 1e-12
    assert all(type(value) is float for value in scores.values())


# Calibration


@st.composite
def confident_samples(draw) -> tuple[np.ndarray, np.ndarray, int]:
    """Confidences with some at 0 and 1, whether each is right, and a number of bins."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    confidence = rng.uniform(size=draw(st.integers(1, 50)))
    confidence[rng.uniform(size=len(confidence)) < 0.2] = draw(st.sampled_from([0.0, 1.0]))
    return confidence, rng.uniform(size=len(confidence)) < 0.6, draw(st.integers(1, 20))


def test_reliability_by_hand():
    """Five bins of width .2: two samples in the third, four in the fifth, the upper end of a bin belongs to it."""
    confidence = np.array([0.5, 0.6, 0.9, 0.9, 1.0, 0.82])
    is_right = np.array([True, False, True, True, True, False])
    table = metrics.reliability(confidence, is_right, 5)
    np.testing.assert_allclose(table.edges, [0, 0.2, 0.4, 0.6, 0.8, 1])
    np.testing.assert_array_equal(table.counts, [0, 0, 2, 0, 4])
    np.testing.assert_allclose(table.confidence, [np.nan, np.nan, 0.55, np.nan, 0.905])
    np.testing.assert_allclose(table.accuracy, [np.nan, np.nan, 0.5, np.nan, 0.75])
    expected = 2 / 6 * 0.05 + 4 / 6 * 0.155
    assert metrics.expected_calibration_error(table) == pytest.approx(expected)


@given(confident_samples())
def test_calibration_error_is_that_of_a_loop_over_bins(case):
    confidence, is_right, n_bins = case
    table, expected = metrics.reliability(*case), 0.0
    for b in range(n_bins):
        inside = [
            (c, r)
            for c, r in zip(confidence, is_right, strict=True)
            if b / n_bins < c <= (b + 1) / n_bins or (b == 0 and c == 0)
        ]
        assert table.counts[b] == len(inside)
        if inside:
            accuracy = sum(r for _, r in inside) / len(inside)
            mean = sum(c for c, _ in inside) / len(inside)
            assert table.accuracy[b] == pytest.approx(accuracy)
            assert table.confidence[b] == pytest.approx(mean)
            expected += len(inside) / len(confidence) * abs(accuracy - mean)
        else:
            assert np.isnan(table.accuracy[b])
            assert np.isnan(table.confidence[b])
    assert metrics.expected_calibration_error(table) == pytest.approx(expected)


@given(confident_samples())
def test_calibration_error_lies_between_the_gap_of_the_means_and_one(case):
    confidence, is_right, _ = case
    error = metrics.expected_calibration_error(metrics.reliability(*case))
    assert abs(confidence.mean() - is_right.mean()) - 1e-12 <= error <= 1


def test_confidences_that_keep_their_word_have_no_error():
    confidence = np.repeat([0.25, 0.75, 1.0], 4)
    is_right = np.array([1, 0, 0, 0, 1, 1, 1, 0, 1, 1, 1, 1], dtype=bool)
    assert metrics.expected_calibration_error(metrics.reliability(confidence, is_right, 15)) == pytest.approx(0)


@given(clusterings())
def test_the_error_of_full_confidence_is_what_accuracy_lacks(case):
    assignments, _, _, _ = case
    is_right = metrics.is_matched(*case)
    table = metrics.reliability(np.ones(len(assignments), dtype=np.float32), is_right, 15)
    assert metrics.expected_calibration_error(table) == pytest.approx(1 - brute_force_accuracy(*case))


@given(clusterings())
def test_samples_of_a_cluster_left_over_are_wrong(case):
    assignments, labels, _, _ = case
    matched = metrics.match_clusters(metrics.contingency(*case))
    expected = [matched[cluster] == label for cluster, label in zip(assignments, labels, strict=True)]
    np.testing.assert_array_equal(metrics.is_matched(*case), expected)


def test_rounding_above_one_is_no_error():
    confidence = np.array([1 + 1e-6, 1.0], dtype=np.float32)
    assert confidence[0] > 1
    np.testing.assert_array_equal(metrics.reliability(confidence, np.array([True, True]), 3).counts, [0, 0, 2])


@pytest.mark.parametrize(
    ("confidence", "is_right", "message"),
    [
        ([0.5, 1.1], [True, True], r"expected confidences in 0\.\.1, got 0\.5\.\.1\.1"),
        ([-0.1, 0.5], [True, True], r"got -0\.1\.\.0\.5"),
        ([0.5, np.nan], [True, True], "got nan"),
        ([0.5], [True, True], r"of one shape \(n_samples,\), got \(1,\) and \(2,\)"),
        ([], [], r"got \(0,\) and \(0,\)"),
    ],
)
def test_what_is_no_confidence_is_refused(confidence, is_right, message):
    with pytest.raises(ValueError, match=message):
        metrics.reliability(np.array(confidence), np.array(is_right), 15)


@pytest.mark.parametrize(
    ("responsibilities", "expected"),
    [([[0, 1], [1, 0]], True), ([[0.5, 0.5], [1, 0]], False), ([[1e-9, 1], [1, 0]], False)],
)
def test_hard_responsibilities_are_told_from_soft_ones(responsibilities, expected):
    assert metrics.is_hard(np.array(responsibilities)) is expected


# Occupancy, balance, churn


@given(clusterings())
def test_occupancy_counts(case):
    assignments, _, n_clusters, _ = case
    counts = metrics.occupancy(assignments, n_clusters)
    np.testing.assert_array_equal(counts, [(assignments == k).sum() for k in range(n_clusters)])


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=12).filter(any))
def test_balance_is_the_normalised_entropy_within_its_bounds(counts):
    shares = [count / sum(counts) for count in counts if count]
    expected = -sum(share * math.log(share) for share in shares) / math.log(len(counts))
    got = metrics.balance(np.array(counts))
    assert got == pytest.approx(expected, abs=1e-12)
    assert 0 <= got <= 1 + 1e-12


def test_balance_at_its_ends():
    assert metrics.balance(np.array([7, 7, 7, 7])) == pytest.approx(1)
    assert metrics.balance(np.array([0, 12, 0])) == 0


@given(clusterings(), st.integers(0, 1000))
def test_churn_is_zero_under_renaming(case, seed):
    assignments, _, n_clusters, _ = case
    renamed = np.random.default_rng(seed).permutation(n_clusters)[assignments]
    assert metrics.churn(assignments, renamed, n_clusters) == 0


def test_churn_is_the_share_that_moved():
    before = np.repeat([0, 1, 2], 10)
    after = np.repeat([2, 0, 1], 10)
    after[:3] = 0  # three of thirty leave their group
    assert metrics.churn(before, after, 3) == pytest.approx(0.1)


@given(clusterings())
def test_churn_is_symmetric_and_a_share(case):
    assignments, labels, n_clusters, n_classes = case
    n_values = max(n_clusters, n_classes)
    there, back = metrics.churn(assignments, labels, n_values), metrics.churn(labels, assignments, n_values)
    assert there == pytest.approx(back)
    assert 0 <= there < 1


# Silhouette


def test_silhouette_is_scikit_learns(blobs, blob_labels):
    got = metrics.silhouette(blobs, blob_labels, max_samples=1000, seed=0)
    assert got == pytest.approx(silhouette_score(blobs, blob_labels))
    assert got > 0.7


def test_silhouette_by_hand():
    """Two pairs on a line: own distance 1, the other pair 9 to 11 away."""
    latent, assignments = np.array([[0.0], [1.0], [10.0], [11.0]]), np.array([0, 0, 1, 1])
    expected = np.mean([1 - 1 / 10.5, 1 - 1 / 9.5, 1 - 1 / 9.5, 1 - 1 / 10.5])
    assert metrics.silhouette(latent, assignments, 10, seed=0) == pytest.approx(expected)


def test_silhouette_of_many_samples_is_that_of_a_seeded_subsample(blobs, blob_labels):
    first = metrics.silhouette(blobs, blob_labels, max_samples=30, seed=1)
    assert first == metrics.silhouette(blobs, blob_labels, max_samples=30, seed=1)
    others = {metrics.silhouette(blobs, blob_labels, max_samples=30, seed=seed) for seed in range(2, 6)}
    assert others != {first}
    assert all(abs(other - first) < 0.2 for other in others)


@pytest.mark.parametrize("assignments", [np.zeros(6, dtype=int), np.arange(6)])
def test_silhouette_is_undefined_for_one_cluster_or_one_sample_each(assignments):
    assert metrics.silhouette(np.random.default_rng(0).normal(size=(6, 2)), assignments, 100, seed=0) is None


# Collapse


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([5, 5, 5], []),
        ([5, 5], []),
        ([220, 180], []),
        ([1800, 100, 100], []),
        ([5, 0, 5], ["only 2 of 3 clusters are occupied"]),
        ([0, 9, 1], ["only 2 of 3 clusters are occupied"]),
    ],
)
def test_a_cluster_too_many_is_a_collapse_and_a_large_one_is_not(counts, expected):
    assert metrics.collapse_warnings(np.array(counts)) == expected


def test_clusters_that_explain_no_more_than_chance_are_a_collapse():
    counts = np.array([9, 1])
    assert metrics.collapse_warnings(counts, 0.3, 0.02) == []
    expected = ["the clusters of two views of a sample share 0.02 nats, no more than by chance (0.02)"]
    assert metrics.collapse_warnings(counts, 0.02, 0.02) == expected


# Inputs


@given(clusterings())
def test_inputs_are_not_modified(case):
    assignments, labels, n_clusters, _ = case
    copies = assignments.copy(), labels.copy()
    counts = metrics.contingency(*case)
    counts_copy = counts.copy()
    metrics.labelled_scores(*case)
    metrics.churn(assignments, assignments, n_clusters)
    metrics.silhouette(assignments[:, None].astype(float), assignments, 5, seed=0)
    metrics.match_clusters(counts)
    metrics.balance(metrics.occupancy(assignments, n_clusters))
    metrics.collapse_warnings(counts.sum(axis=1))
    np.testing.assert_array_equal(assignments, copies[0])
    np.testing.assert_array_equal(labels, copies[1])
    np.testing.assert_array_equal(counts, counts_copy)


@pytest.mark.parametrize(
    ("assignments", "labels", "message"),
    [
        ([0, 1, 3], [0, 1, 1], r"assignments: expected values in 0\.\.2, got 0\.\.3"),
        ([0, -1, 1], [0, 1, 1], r"assignments: expected values in 0\.\.2, got -1\.\.1"),
        ([0, 1, 2], [0, 1, 2], r"labels: expected values in 0\.\.1, got 0\.\.2"),
        ([0, 1, 2], [-1, 1, 0], r"labels: expected values in 0\.\.1, got -1\.\.1"),
        ([0, 1], [0, 1, 1], "expected as many labels as assignments, got 3 for 2"),
        ([0.0, 1.0], [0, 1], r"assignments: expected integers of shape \(n_samples,\), got float64 \(2,\)"),
        ([[0], [1]], [0, 1], r"assignments: expected integers of shape \(n_samples,\), got int64 \(2, 1\)"),
        ([], [], "assignments: expected integers"),
        ([True, False], [0, 1], "assignments: expected integers of shape .* got bool"),
    ],
)
def test_wrong_indices_are_refused(assignments, labels, message):
    for function in (metrics.contingency, metrics.labelled_scores):
        with pytest.raises(ValueError, match=message):
            function(np.array(assignments), np.array(labels), 3, 2)


def test_occupancy_refuses_values_out_of_range():
    with pytest.raises(ValueError, match=r"assignments: expected values in 0\.\.1, got 0\.\.2"):
        metrics.occupancy(np.array([0, 2]), 2)

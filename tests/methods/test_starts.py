"""Starts: each gives the partition of the method that it is named after, and refuses what that method refuses."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.metrics import adjusted_rand_score
from sklearn.neighbors import NearestNeighbors

from deep_clustering.methods import baselines, dcan, make_method, mixture_starts
from deep_clustering.methods.partitions import find_partitions
from deep_clustering.methods.starts import STARTS as STARTS_OF_ALL
from deep_clustering.methods.starts import epochs_before, held_epochs, make_start

TSNE = {"perplexity": 8.0, "n_init": 3, "pca_dim": 5, "barnes_hut_rows": 1000}
STARTS = {
    "kmeans": ({"n_init": 3}, {"n_init": 3}),
    "ward": ({"max_rows": 50}, {"max_rows": 50}),
    "tsne_gmm": ({"map_rows": 50, **TSNE}, {"max_rows": 50, **TSNE}),
}


@pytest.mark.parametrize("kind", STARTS)
def test_a_start_is_the_partition_of_its_method(blobs, kind):
    of_start, of_method = STARTS[kind]
    partitions = make_start({"kind": kind, "hold": 0.5, **of_start}, list(STARTS)).partitions(blobs, [3, 2, 5], seed=4)
    assert partitions.shape == (len(blobs), 3)
    for partition, n_clusters in zip(partitions.T, (3, 2, 5), strict=True):
        method = make_method({"method": kind, "n_clusters": n_clusters, "seed": 4, **of_method})
        assert adjusted_rand_score(partition, method.fit(blobs).predict(blobs)) == 1


SMOOTHED = {"kind": "neighbour_kmeans", "hold": 0.5, "n_init": 3, "rounds": 1}


def test_rows_become_means_of_themselves_and_their_neighbours_of_length_one():
    rows = np.float32([[4, 0], [0, 2], [0, 4], [3, 0]])
    neighbours = np.array([[1, 2], [2, -1], [-1, -1], [0, 1]])
    once = np.array([[4, 3], [0, 6], [0, 4], [5, 1]])  # rows plus the mean of those there are
    once = once / np.linalg.norm(once, axis=1, keepdims=True)
    twice = once + np.array([(once[1] + once[2]) / 2, once[2], [0, 0], (once[0] + once[1]) / 2])
    for n_rounds, expected in ((1, once), (2, twice / np.linalg.norm(twice, axis=1, keepdims=True))):
        start = make_start(SMOOTHED | {"rounds": n_rounds}, ["neighbour_kmeans"])
        for given in (rows, sparse.csr_matrix(rows)):
            np.testing.assert_allclose(start.smoothed(given, neighbours), expected, rtol=1e-6)
    np.testing.assert_array_equal(rows, np.float32([[4, 0], [0, 2], [0, 4], [3, 0]]))


def test_rows_of_a_single_value_become_means_only():
    rows, neighbours = np.float32([[1], [3], [-2], [8]]), np.array([[1], [0], [3], [-1]])
    start = make_start(SMOOTHED, ["neighbour_kmeans"])
    np.testing.assert_allclose(start.smoothed(rows, neighbours), [[2], [2], [3], [4]])


def test_three_groups_of_one_column_are_found_from_smoothed_rows():
    generator = np.random.default_rng(0)
    groups = np.repeat(np.arange(3), 30)
    rows = (10 * (groups + 1) + generator.normal(size=90)).astype(np.float32)[:, None]
    neighbours = NearestNeighbors(n_neighbors=5).fit(rows).kneighbors(return_distance=False)
    partition = find_partitions(make_start(SMOOTHED, ["neighbour_kmeans"]), rows, neighbours, [3], seed=0)[:, 0]
    assert adjusted_rand_score(groups, partition) == 1


def test_a_start_on_smoothed_rows_is_k_means_on_them(blobs):
    neighbours = NearestNeighbors(n_neighbors=6).fit(blobs).kneighbors(blobs, return_distance=False)[:, 1:]
    start = make_start(SMOOTHED, ["neighbour_kmeans"])
    partition = find_partitions(start, blobs, neighbours, [4], seed=2)[:, 0]
    kmeans = make_method({"method": "kmeans", "n_clusters": 4, "seed": 2, "n_init": 3})
    smoothed = start.smoothed(blobs, neighbours)
    np.testing.assert_array_equal(partition, kmeans.fit(smoothed).predict(smoothed))


@pytest.mark.parametrize("neighbours", [None, np.zeros((120, 0), dtype=np.int32)])
def test_a_start_on_smoothed_rows_needs_neighbours(blobs, neighbours):
    with pytest.raises(ValueError, match=r"neighbour_kmeans.*: expected the neighbours of every row, got none"):
        find_partitions(make_start(SMOOTHED, ["neighbour_kmeans"]), blobs, neighbours, [3], seed=0)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            "overclustering",
            "start: kind 'overclustering' was dropped in 0.3.0 for this method; use tsne_gmm, ward or k",
        ),
        ("consensus", "start: unknown kind 'consensus' .known: kmeans, none"),  # no version of it knew this one
    ],
)
def test_a_method_refuses_the_starts_of_others(kind, message):
    with pytest.raises(ValueError, match=message):
        make_start({"kind": kind, "hold": 0.5}, ["none", "kmeans"])


def test_what_merged_configurations_left_of_other_starts_is_passed_over():
    left = {"heads": 12, "others": [{"kind": "unheard_of"}], "components_per_cluster": 5, "rounds": 1}
    options = {"kind": "kmeans", "hold": 0.5, "n_init": 3}
    assert make_start(options | left, ["none", "kmeans"]) == make_start(options, ["none", "kmeans"])


def test_several_numbers_share_one_map(blobs, monkeypatch):
    maps, original = [], baselines.tsne_map
    monkeypatch.setattr(baselines, "tsne_map", lambda *given, **more: maps.append(1) or original(*given, **more))
    start = make_start({"kind": "tsne_gmm", "hold": 0.5, "map_rows": 50, **TSNE}, list(STARTS))
    start.partitions(blobs, [2, 3, 4], seed=0)
    assert maps == [1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"perplexity": 0.5}, "start .*perplexity must be at least 1, got 0.5"),
        ({"map_rows": 1}, "start .*map_rows must be at least 2, got 1"),
        ({"hold": 2.0}, "start .*hold must be at least 0 and at most 1, got 2"),
        ({"hold": -0.1}, "start .*hold must be at least 0 and at most 1, got -0.1"),
        ({"kind": "tsne"}, r"start: unknown kind 'tsne' \(did you mean 'tsne_gmm'\?\)"),
    ],
)
def test_bad_options_are_refused_before_anything_is_fitted(changes, message):
    with pytest.raises(ValueError, match=message):
        make_start({"kind": "tsne_gmm", "hold": 0.5, "map_rows": 50, **TSNE} | changes, list(STARTS))


@pytest.mark.parametrize(
    ("hold", "epochs", "expected"),
    [(0.0, 100, 0), (0.0, 1, 0), (0.001, 100, 1), (0.25, 30, 8), (0.33, 3, 1), (1.0, 7, 7), (1.0, 1, 1)],
)
def test_a_share_of_the_epochs_is_held_at_least_one_unless_it_is_zero(hold, epochs, expected):
    start = make_start({"kind": "kmeans", "hold": hold, "n_init": 1}, ["kmeans"])
    assert held_epochs(start, epochs) == expected


def test_without_a_start_no_epoch_is_held():
    assert held_epochs(make_start({"kind": "none"}, ["none"]), 30) == 0


@pytest.mark.parametrize(
    ("method", "start", "name"),
    [
        ("dcan", {"kind": "ward", "max_rows": 2}, "max_rows"),
        ("dcan", {"kind": "tsne_gmm", "map_rows": 2, **TSNE}, "map_rows"),
        (
            "neural_mixture",
            {"kind": "overclustering", "components_per_cluster": 2.0, "epochs": 0.5, "core": 0.8, "max_rows": 2},
            "max_rows",
        ),
    ],
)
def test_fewer_rows_than_clusters_are_refused_before_anything_is_fitted(tiny_options, method, start, name):
    def options(n_clusters) -> dict:
        return tiny_options(method, "vectors", n_clusters=n_clusters, start={"hold": 0.5, **start})

    make_method(options(2))
    with pytest.raises(ValueError, match=f"{method}: start: {name} must be at least n_clusters, got 2 for 3 clusters"):
        make_method(options(3))
    if method == "neural_mixture":
        with pytest.raises(ValueError, match="got 2 for 4 clusters"):
            make_method(options({"min": 2, "max": 4}))


DAC = {"trainings": 2, "learning_rate": 1.0e-2, "upper": 0.95, "lower": 0.455, "growth": 1.0, "core": 0.5}
DAC_START = {"kind": "dac", "epochs": 1.0, "hold": 0.5, **DAC}
NOISE = {"views": {"kind": "noise", "scale": 0.3}, "encoder": {"kind": "mlp", "hidden": [32]}, "learning_rate": 0.01}


def test_of_the_clusters_of_dac_the_surest_rows_are_held(tiny_options, blobs, blob_labels):
    model = make_method(tiny_options("neural_mixture", "vectors", n_clusters=3, epochs=30, **NOISE))
    start = make_start(DAC_START, list(STARTS_OF_ALL))
    held = start.find(model, 3, blobs, None, "fp32", None)
    dac = make_method(
        tiny_options("dac", "vectors", n_clusters=3, **NOISE)
        | {"epochs": 30, "restarts": 2, "seed": model.seed, "batch_size": model.batch_size, "record_every": 30}
    ).fit(blobs)
    clusters, (second, first) = dac.predict(blobs), np.sort(dac.predict_proba(blobs), axis=1)[:, -2:].T
    odds = first / second
    is_held = held >= 0
    assert adjusted_rand_score(blob_labels[is_held], held[is_held]) == 1
    np.testing.assert_array_equal(held[is_held], clusters[is_held])
    for cluster in range(3):
        members = clusters == cluster
        assert is_held[members].sum() == round(members.sum() / 2)
        assert odds[members & is_held].min() >= odds[members & ~is_held].max()


def test_its_epochs_are_a_share_of_those_of_the_fit_for_each_training():
    start = make_start(DAC_START | {"epochs": 0.3}, list(STARTS_OF_ALL))
    assert epochs_before(start, 10) == 6
    assert epochs_before(start, 1) == 2


IN_TURN = [{"kind": "kmeans", "hold": 1.0, "n_init": 1}, {"kind": "ward", "hold": 1.0, "max_rows": 1000}]


def test_trainings_take_turns_and_the_likelihood_chooses(tiny_options, blobs, blob_labels, monkeypatch):
    """What is held in the whole of one training joins two groups, and in that of the other none."""
    joined = np.where(blob_labels == 2, 1, blob_labels)
    joined[np.flatnonzero(blob_labels == 2)[:2]] = 2
    kinds = {kind: name for name, kind in STARTS_OF_ALL.items()}
    found = {"kmeans": joined, "ward": blob_labels}
    monkeypatch.setattr(
        mixture_starts, "find_partitions", lambda start, *_: found[kinds[type(start)]][:, None].astype(np.int64)
    )
    for order in (IN_TURN, IN_TURN[::-1]):
        options = tiny_options("neural_mixture", "vectors", n_clusters=3, restarts=2, epochs=20, **NOISE)
        model = make_method({**options, "start": {"kind": "in_turn", "starts": order}}).fit(blobs)
        assert adjusted_rand_score(blob_labels, model.predict(blobs)) == 1
        scores = model.history_["candidate_scores"]
        assert int(np.argmax(scores)) == [one["kind"] for one in order].index("ward")


def test_trainings_of_dcan_take_turns(tiny_options, blobs, monkeypatch):
    begun, find = [], dcan.find_partitions
    monkeypatch.setattr(dcan, "find_partitions", lambda start, *more: begun.append(start) or find(start, *more))
    start = {"kind": "in_turn", "starts": IN_TURN}
    model = make_method(tiny_options("dcan", "vectors", n_clusters=3, restarts=3, start=start)).fit(blobs)
    assert begun == [make_start(IN_TURN[place], list(STARTS_OF_ALL)) for place in (0, 1, 0)]
    assert len(model.history_["candidate_scores"]) == 3


@pytest.mark.parametrize(
    ("starts", "restarts", "message"),
    [
        ([{"kind": "none"}], 2, r"start \(in_turn\): expected at least 2 starts, got 1"),
        ([{"kind": "none"}, {"kind": "in_turn", "starts": []}], 2, "start: unknown kind 'in_turn'"),
        ([{"kind": "none"}, {"kind": "given", "core": 0.5, "hold": 0.5}], 2, "start: unknown kind 'given'"),
        ([{"kind": "none"}, {"kind": "kmeans", "hold": 0.5}], 2, "n_init"),
        ([{"kind": "none"}, {"kind": "kmeans", "hold": 0.5, "n_init": 1}], 1, "2 starts need as many restarts, got 1"),
        (
            [{"kind": "none"}, {"kind": "ward", "hold": 0.5, "max_rows": 2}],
            2,
            r"start.starts: max_rows must be at least",
        ),
    ],
)
def test_starts_in_turn_are_refused_before_anything_is_fitted(tiny_options, starts, restarts, message):
    start = {"kind": "in_turn", "starts": starts}
    with pytest.raises(ValueError, match=message):
        make_method(tiny_options("neural_mixture", "vectors", n_clusters=3, restarts=restarts, start=start))


def test_dcan_refuses_starts_in_turn_that_it_does_not_know(tiny_options):
    starts = [{"kind": "none"}, {"kind": "consensus", "heads": 3, "epochs": 0.5, "hold": 0.5, "others": []}]
    with pytest.raises(ValueError, match="start: unknown kind 'consensus'"):
        make_method(tiny_options("dcan", restarts=2, start={"kind": "in_turn", "starts": starts}))


def test_a_fit_of_starts_in_turn_counts_the_epochs_of_the_longest():
    start = make_start({"kind": "in_turn", "starts": [{"kind": "none"}, DAC_START]}, list(STARTS_OF_ALL))
    assert epochs_before(start, 10) == 20
    assert held_epochs(start, 10) == 0

"""The start from what heads agree on: k-means on their votes, the partitions it gives, and a fit that begins there."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score
from sklearn.neighbors import NearestNeighbors

from deep_clustering.methods import make_method, mixture_starts, neural_mixture
from deep_clustering.methods.consensus import Consensus, find_consensus
from deep_clustering.methods.mixture_training import MixtureTraining
from deep_clustering.methods.partitions import find_partitions
from deep_clustering.methods.starts import make_start
from deep_clustering.training.checkpoints import CheckpointOptions, Checkpoints

KMEANS = {"kind": "kmeans", "n_init": 3}
WARD = {"kind": "ward", "max_rows": 1000}
SMOOTHED = {"kind": "neighbour_kmeans", "n_init": 3, "rounds": 1}
CONSENSUS = {"kind": "consensus", "heads": 4, "epochs": 1.0, "hold": 0.5, "others": [WARD, KMEANS]}


def start_of(**changes) -> Consensus:
    return make_start(CONSENSUS | changes, ["consensus"])


# k-means on votes


def renamed(rng: np.random.Generator, partition: np.ndarray) -> np.ndarray:
    return rng.permutation(partition.max() + 1)[partition]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n_copies", [1, 2, 5])
def test_copies_of_a_partition_under_other_names_agree_on_it(n_copies, seed):
    rng = np.random.default_rng(seed)
    partition = rng.integers(0, 4, size=60)
    partition[:4] = range(4)
    found = find_consensus(np.stack([renamed(rng, partition) for _ in range(n_copies)]), 4, seed)
    assert found.dtype == np.int64
    assert adjusted_rand_score(partition, found) == 1


@pytest.mark.parametrize("seed", range(5))
def test_what_noisy_copies_agree_on_is_better_than_each_of_them(seed):
    rng = np.random.default_rng(seed)
    partition = np.repeat(range(4), 75)
    copies = []
    for _ in range(7):
        is_wrong = rng.random(300) < 0.25
        copies.append(renamed(rng, np.where(is_wrong, rng.integers(0, 4, size=300), partition)))
    agreed = adjusted_rand_score(partition, find_consensus(np.stack(copies), 4, seed))
    assert agreed > max(adjusted_rand_score(partition, copy) for copy in copies)
    assert agreed > 0.9


def test_votes_that_tell_too_few_rows_apart_leave_the_first_partition():
    two, same = np.arange(12) % 2, 1 - np.arange(12) % 2
    found = find_consensus(np.stack([two, same]).astype(np.int16), 3, 0)
    np.testing.assert_array_equal(found, two)
    assert found.dtype == np.int64
    apart = np.stack([two, np.arange(12) // 6])  # four kinds of rows
    assert len(set(find_consensus(apart, 3, 0))) == 3


def test_the_same_seed_agrees_on_the_same():
    candidates = np.random.default_rng(0).integers(0, 3, size=(5, 40))
    np.testing.assert_array_equal(find_consensus(candidates, 3, 1), find_consensus(candidates, 3, 1))


# The partitions to go on from


@pytest.mark.parametrize(
    ("n_partitions", "expected"),
    [
        (1, ["best head"]),
        (2, ["best head", "consensus"]),
        (3, ["best head", "consensus", "ward"]),  # the others as far as there are heads
        (5, ["best head", "consensus", "ward", "kmeans", "consensus of the better half"]),
        (
            7,
            ["best head", "consensus", "ward", "kmeans", "consensus of the better half"]
            + 2 * ["consensus of a random half"],
        ),
    ],
)
def test_each_head_of_the_fit_has_an_origin(n_partitions, expected):
    assert start_of().origins(n_partitions) == expected


def test_partitions_come_in_the_order_of_their_origins(blobs, blob_labels):
    """The better half of the heads has cut the rows one way, the other half another way; all agree on six parts."""
    better, worse, rng = np.arange(120) % 3, np.arange(120) // 4 % 3, np.random.default_rng(0)
    candidates = np.stack([renamed(rng, one) for one in (worse, better, better, worse)]).astype(np.int16)
    scores = np.array([0.1, 0.7, 0.6, 0.2])
    neighbours = NearestNeighbors(n_neighbors=4).fit(blobs).kneighbors(blobs, return_distance=False)[:, 1:]
    start = start_of(others=[WARD, SMOOTHED])
    found = start.find(blobs, neighbours, candidates, scores, 3, 7, seed=5)
    assert (found.shape, found.dtype) == ((120, 7), np.int64)
    columns = dict(zip(start.origins(7)[:5], found.T[:5], strict=True))
    np.testing.assert_array_equal(columns["best head"], candidates[1])
    assert adjusted_rand_score(columns["consensus of the better half"], better) == 1
    assert adjusted_rand_score(columns["ward"], blob_labels) == 1
    smoothed = make_start(SMOOTHED | {"hold": 0.0}, ["neighbour_kmeans"])
    expected = find_partitions(smoothed, blobs, neighbours, [3], 0)[:, 0]
    assert adjusted_rand_score(columns["neighbour_kmeans"], expected) == 1
    # Rows that neither way of cutting tells apart are together in what all agree on.
    for kind in range(9):
        assert len(set(columns["consensus"][3 * better + worse == kind])) == 1
    np.testing.assert_array_equal(start.find(blobs, neighbours, candidates, scores, 3, 7, seed=5), found)


def test_halves_of_copies_agree_on_what_was_copied(blobs):
    rng, partition = np.random.default_rng(0), np.arange(120) % 3
    candidates = np.stack([renamed(rng, partition) for _ in range(4)])
    found = start_of(others=[]).find(blobs, None, candidates, np.zeros(4), 3, 5, seed=0)
    assert [adjusted_rand_score(partition, column) for column in found.T] == [1] * 5


# Options


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 1}, r"start \(consensus\): heads must be at least 2, got 1"),
        ({"epochs": -1.0}, r"start \(consensus\): epochs must be at least 0 and at most 100, got -1"),
        ({"hold": 1.5}, r"start \(consensus\): hold must be at least 0 and at most 1, got 1.5"),
        ({"others": [{"kind": "kmean", "n_init": 3}]}, r"others: unknown kind 'kmean' \(did you mean 'kmeans'\?\)"),
        ({"others": [KMEANS, {"kind": "kmeans"}]}, r"others \(kmeans\): missing option 'n_init'"),
        ({"others": [{"kind": "kmeans", "n_init": 0}]}, r"others \(kmeans\): n_init must be at least 1, got 0"),
        ({"others": [{"n_init": 3}]}, "others: expected a mapping with 'kind'"),
        ({"others": [CONSENSUS]}, "others: unknown kind 'consensus'"),
        ({"others": [{"kind": "none"}]}, "others: unknown kind 'none'"),
        ({"others": KMEANS}, "'others' got"),
        ({"others": [{"kind": "ward", "max_rows": 2}]}, "others: max_rows must be at least n_clusters, got 2 for 3 cl"),
    ],
)
def test_bad_options_are_refused_before_anything_is_fitted(tiny_options, changes, message):
    with pytest.raises(ValueError, match=f"neural_mixture: .*{message}"):
        make_method(tiny_options("neural_mixture", "vectors", n_clusters=3, start=CONSENSUS | changes))


def test_each_option_is_needed():
    for name in ("heads", "epochs", "hold", "others"):
        with pytest.raises(ValueError, match=rf"start \(consensus\): missing option '{name}'"):
            make_start({key: value for key, value in CONSENSUS.items() if key != name}, ["consensus"])


def test_a_range_of_numbers_of_clusters_is_refused(tiny_options):
    options = tiny_options("neural_mixture", "vectors", n_clusters={"min": 2, "max": 4}, start=CONSENSUS)
    with pytest.raises(ValueError, match=r"n_clusters: a range needs another start, .*, got kind consensus"):
        make_method(options)


def test_missing_neighbours_are_refused_before_the_first_heads_are_fitted(tiny_options, blobs, monkeypatch):
    def fitted(*_):
        raise AssertionError("the first heads were fitted")

    monkeypatch.setattr(mixture_starts, "fit_before", fitted)
    start = CONSENSUS | {"others": [SMOOTHED]}
    with pytest.raises(ValueError, match=r"neighbour_kmeans.*: expected the neighbours of every row, got none"):
        make_method(tiny_options("neural_mixture", "vectors", n_clusters=3, start=start)).fit(blobs)


# A fit


def options_of(tiny_options, **changes) -> dict:
    common = {"n_clusters": 3, "heads": 5, "epochs": 4, "start": CONSENSUS, "learning_rate": 0.01}
    return tiny_options("neural_mixture", "vectors", **common | changes)


def test_a_fit_names_what_each_candidate_began_with_and_repeats(tiny_options, blobs, blob_labels):
    options = options_of(tiny_options, epochs=20, learning_rate=0.02)
    first, again = (make_method(options).fit(blobs) for _ in range(2))
    origins = str(first.history_["candidate_origins"]).split("\n")
    assert origins == ["best head", "consensus", "ward", "kmeans", "consensus of the better half"]
    assert first.history_["candidate_assignments"].shape == (5, len(blobs))
    assert adjusted_rand_score(blob_labels, first.predict(blobs)) == 1
    for name, array in first.get_arrays().items():
        np.testing.assert_array_equal(again.get_arrays()[name], array, err_msg=name)


def test_other_starts_name_no_origins(tiny_options, blobs):
    start = KMEANS | {"hold": 0.5}
    assert "candidate_origins" not in make_method(options_of(tiny_options, start=start)).fit(blobs).history_


def test_each_head_holds_the_partition_of_its_origin_with_its_shares(tiny_options, blobs, monkeypatch):
    partitions = np.stack([np.repeat([0, 1, 2], [20 + 5 * k, 40, 60 - 5 * k]) for k in range(5)], axis=1)
    monkeypatch.setattr(Consensus, "find", lambda *_: partitions)
    seen, original = [], MixtureTraining.step

    def step(self, views, index, held):
        if self._model.heads == 5:
            seen.append((held, self._model.log_mixing_weights_.exp()))
        return original(self, views, index, held)

    monkeypatch.setattr(MixtureTraining, "step", step)
    changes = {"mixing": "learned", "mixing_momentum": 1.0, "mixing_floor": 0.0}
    make_method(options_of(tiny_options, **changes)).fit(blobs)
    held, weights = seen[0]
    np.testing.assert_array_equal(held, partitions)
    expected = [np.bincount(column, minlength=3) / 120 for column in partitions.T]
    np.testing.assert_allclose(weights, expected, atol=1e-6)
    assert seen[-1][0] is None


def test_a_partition_with_an_empty_cluster_may_be_held_without_a_floor(tiny_options, blobs, monkeypatch):
    """The best of the first heads may have left one of its clusters empty."""
    partitions = np.repeat(np.arange(120)[:, None] // 60, 5, axis=1)  # two of three clusters
    monkeypatch.setattr(Consensus, "find", lambda *_: partitions)
    changes = {"mixing": "learned", "mixing_momentum": 0.5, "mixing_floor": 0.0}
    estimator = make_method(options_of(tiny_options, **changes)).fit(blobs)
    assert np.isfinite(estimator.predict_proba(blobs)).all()
    assert np.isfinite(estimator.get_arrays()["log_mixing_weights"]).all()


def test_the_first_heads_are_fitted_once_without_a_start_for_their_share_of_the_epochs(
    tiny_options, blobs, monkeypatch, tmp_path
):
    fits, parts, original = [], [], neural_mixture.NeuralMixture.fit

    def fit(self, features, neighbours=None, checkpoints=None):
        fits.append(self)
        return original(self, features, neighbours, checkpoints)

    monkeypatch.setattr(neural_mixture.NeuralMixture, "fit", fit)
    within = Checkpoints.within
    monkeypatch.setattr(Checkpoints, "within", lambda self, name: parts.append(name) or within(self, name))
    start = CONSENSUS | {"heads": 7, "epochs": 0.5}
    checkpoints = Checkpoints(CheckpointOptions(every=1, resume=True, folder=str(tmp_path)), "one")
    make_method(options_of(tiny_options, start=start)).fit(blobs, None, checkpoints)
    assert parts == ["components"]
    whole, first = fits
    assert (first.heads, first.epochs, first.start, first.restarts) == (7, 2, {"kind": "none"}, 1)
    assert (whole.heads, whole.epochs, whole.start) == (5, 4, start)
    assert first.history_["candidate_scores"].shape == (7,)
    assert list(tmp_path.rglob("*.safetensors")) == []

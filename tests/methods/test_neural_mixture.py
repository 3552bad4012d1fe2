"""The neural mixture: what a step, a fit and a fitted estimator do, against plain arithmetic on the scores."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score
from sklearn.neighbors import NearestNeighbors

from deep_clustering.methods import make_method, mixture_training, neural_mixture
from deep_clustering.methods.mixture_training import MixtureTraining
from deep_clustering.methods.pair_mixture import e_step, log_relative_density, m_step_loss
from deep_clustering.methods.partitions import KMeansStart
from deep_clustering.methods.starts import Overclustering, keep_core
from deep_clustering.scores.metrics import accuracy, contingency
from deep_clustering.training.checkpoints import CheckpointOptions, Checkpoints
from deep_clustering.training.fitting import make_data
from deep_clustering.training.streams import derived_seed
from still_views import PLAIN_PHOTO
from waits import Waits

DENSITIES = ("exponential", "sigmoid")
OBJECTIVES = ("pair", "single", "consistency", "single_and_consistency")

BY_CONSENSUS = {
    "kind": "consensus",
    "heads": 4,
    "epochs": 1.0,
    "hold": 0.1,
    "others": [{"kind": "kmeans", "n_init": 20}],
}


@pytest.mark.parametrize("mixing", ["learned", "neutral"])
def test_weights_begin_with_the_shares_of_the_start(tiny_options, blobs, mixing):
    start = {"kind": "kmeans", "hold": 0.5, "n_init": 1}
    options = tiny_options(
        "neural_mixture", "vectors", n_clusters=3, mixing=mixing, mixing_momentum=1.0, mixing_floor=0.0, start=start
    )
    partition = np.repeat([0, 1, 2], [60, 36, 24])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KMeansStart, "partitions", lambda *_: partition[:, None])
        estimator = make_method(options).fit(blobs)
    expected = {"learned": [0.5, 0.3, 0.2], "neutral": np.array([0.25, 0.09, 0.04]) / 0.38}[mixing]
    np.testing.assert_allclose(np.exp(estimator.get_arrays()["log_mixing_weights"]), expected, rtol=1e-5)


# The estimator


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("mixing", ["uniform", "learned"])
def test_prediction_is_the_e_step_of_one_view_with_the_training_normalisers(tiny_options, blobs, density, mixing):
    """Recomputed in numpy from the network's scores: deviation N10."""
    options = tiny_options(
        "neural_mixture", "vectors", n_clusters=3, density=density, mixing=mixing, mixing_momentum=0.5, epochs=3
    )
    estimator = make_method(options).fit(blobs)
    with torch.inference_mode():
        scores = estimator.encoder_.eval()(torch.tensor(blobs)).double().numpy()
    if density == "sigmoid":
        standardised = (scores - scores.mean(axis=0)) / scores.std(axis=0)
        relevance = 1 / (1 + np.exp(-options["density_scale"] * standardised))
    else:
        relevance = np.exp(scores)
    densities = relevance / relevance.mean(axis=0)
    weights = np.exp(estimator.get_arrays()["log_mixing_weights"].astype(np.float64))
    assert weights.sum() == pytest.approx(1, abs=1e-5)
    if mixing == "uniform":
        np.testing.assert_allclose(weights, 1 / 3, rtol=1e-6)
    else:
        assert np.ptp(weights) > 0
    posterior = weights * densities / (weights * densities).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(estimator.predict_proba(blobs), posterior, atol=1e-4)


def test_a_step_works_on_the_pair_mixture_of_both_views(tiny_options, blobs, monkeypatch):
    """Equation (3): the joint density that E-step and M-step see is the product of the densities of the two views."""
    densities, m_steps, e_steps = [], [], []
    monkeypatch.setattr(
        mixture_training,
        "log_relative_density",
        lambda *args: densities.append(log_relative_density(*args)) or densities[-1],
    )
    monkeypatch.setattr(mixture_training, "m_step_loss", lambda *args: m_steps.append(args) or m_step_loss(*args))
    monkeypatch.setattr(mixture_training, "e_step", lambda *args: e_steps.append(args) or e_step(*args))
    options = tiny_options("neural_mixture", "vectors", n_clusters=3, views={"kind": "noise", "scale": 1.0}, epochs=1)
    make_method(options).fit(blobs)
    first, second = densities[:2]
    assert not torch.equal(first, second)
    (responsibilities, joint, weights), (joint_in_e_step, weights_in_e_step, _) = m_steps[0], e_steps[0]
    assert torch.equal(joint, first + second)
    assert torch.equal(joint_in_e_step, joint)
    assert torch.equal(weights, weights_in_e_step)
    assert torch.equal(responsibilities, e_step(joint, weights)[0])


def test_transform_is_the_input_of_the_last_layer(tiny_options, blobs):
    estimator = make_method(tiny_options("neural_mixture", "vectors", n_clusters=3)).fit(blobs)
    latent = estimator.transform(blobs)
    assert latent.shape == (len(blobs), 16)
    assert (latent >= 0).all()  # it comes out of a ReLU
    last = estimator.encoder_[-1]
    scores = latent @ last.weight.detach().numpy().T + last.bias.detach().numpy()
    with torch.inference_mode():
        np.testing.assert_allclose(estimator.encoder_(torch.tensor(blobs)), scores, atol=1e-4)


def full_batch(tiny_options, blobs, **changes):
    options = tiny_options(
        "neural_mixture",
        "vectors",
        n_clusters=3,
        views={"kind": "noise", "scale": 0.0},
        batch_size=len(blobs),
        weight_decay=0.0,
        record_every=100,
    )
    return make_method(options | changes).fit(blobs)


@pytest.mark.parametrize("density", DENSITIES)
def test_log_likelihood_rises_in_a_full_batch_run_with_small_steps(tiny_options, blobs, density):
    history = full_batch(tiny_options, blobs, density=density, learning_rate=1e-3, epochs=25).history_
    log_likelihood = history["log_likelihood"]
    assert (np.diff(log_likelihood) > -1e-5).all()
    assert log_likelihood[-1] > log_likelihood[0]
    assert (log_likelihood <= math.log(3) + 1e-5).all()


@pytest.mark.parametrize("density", DENSITIES)
def test_separated_groups_are_found_and_the_bound_is_approached(tiny_options, blobs, blob_labels, density):
    estimator = full_batch(tiny_options, blobs, density=density, learning_rate=0.02, epochs=80)
    assert accuracy(contingency(estimator.predict(blobs), blob_labels, 3, 3)) == 1
    assert estimator.history_["log_likelihood"][-1] > 0.8 * math.log(3)


def test_diagnostics_stay_in_their_ranges(tiny_options, digits):
    estimator = make_method(tiny_options("neural_mixture", mixing="learned", mixing_momentum=0.5)).fit(digits)
    history = estimator.history_
    assert set(history) >= {"loss", "log_likelihood", "entropy", "agreement"}
    assert ((history["entropy"] >= 0) & (history["entropy"] <= math.log(10) + 1e-6)).all()
    assert ((history["agreement"] >= 0) & (history["agreement"] <= 1)).all()
    weights = np.exp(estimator.get_arrays()["log_mixing_weights"])
    assert weights.min() >= 0.5 / 10 - 1e-6  # the configured floor


def test_snapshots_are_taken_as_often_as_asked_and_at_both_ends(tiny_options, blobs):
    options = tiny_options("neural_mixture", "vectors", n_clusters=3, epochs=5, record_every=2)
    history = make_method(options).fit(blobs).history_
    np.testing.assert_array_equal(history["snapshot_epoch"], [0, 2, 4, 5])


# Heads


def test_the_head_of_greatest_log_likelihood_is_kept(tiny_options, blobs):
    """With views that do not vary, the pair log-likelihood is recomputed in numpy from the scores of all heads."""
    still = {"kind": "noise", "scale": 0.0}
    options = tiny_options("neural_mixture", "vectors", n_clusters=3, heads=4, views=still, epochs=1)
    seen = {}
    original = neural_mixture.NeuralMixture.keep

    def keep(self, head):
        with torch.inference_mode():
            seen["scores"] = self.encoder_.eval()(torch.tensor(blobs)).double().numpy().reshape(-1, 4, 3)
        seen["head"] = head
        original(self, head)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neural_mixture.NeuralMixture, "keep", keep)
        estimator = make_method(options).fit(blobs)
    densities = np.exp(seen["scores"]) / np.exp(seen["scores"]).mean(axis=0)
    expected = np.log((densities**2 / 3).sum(axis=2)).mean(axis=0)
    np.testing.assert_allclose(estimator.history_["candidate_scores"], expected, rtol=1e-4)
    assert seen["head"] == expected.argmax()
    assert estimator.history_["final_log_likelihood"] == pytest.approx(expected.max(), rel=1e-4)
    assert estimator.history_["final_log_likelihood_share"] == pytest.approx(expected.max() / math.log(3), rel=1e-4)
    np.testing.assert_array_equal(estimator.predict(blobs), densities[:, seen["head"]].argmax(axis=1))
    np.testing.assert_array_equal(estimator.history_["candidate_assignments"][seen["head"]], estimator.predict(blobs))


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_a_share_of_the_bound_is_of_the_bound_with_its_noise(tiny_options, blobs, noise):
    still = {"kind": "noise", "scale": 0.0}
    options = tiny_options("neural_mixture", "vectors", n_clusters=3, views=still, pair_noise=noise)
    estimator = make_method(options).fit(blobs)
    with torch.inference_mode():
        scores = estimator.encoder_.eval()(torch.tensor(blobs)).double().numpy()
    densities = np.exp(scores) / np.exp(scores).mean(axis=0)
    expected = np.log((1 - noise) * (densities**2 / 3).sum(axis=1) + noise).mean()
    history = estimator.history_
    assert history["final_log_likelihood"] == pytest.approx(expected, rel=1e-4)
    assert history["final_log_likelihood_share"] == pytest.approx(
        expected / math.log((1 - noise) * 3 + noise), rel=1e-4
    )


def test_an_auxiliary_head_shapes_the_trunk_and_is_never_kept(tiny_options, blobs):
    """The trunk's gradient is that of all heads; the candidates, the partition held and the model know the others."""
    start = {"kind": "kmeans", "hold": 0.5, "n_init": 1}
    options = tiny_options("neural_mixture", "vectors", n_clusters=3, heads=2, auxiliary_clusters=7, start=start)
    held = []
    original = MixtureTraining.step

    def step(self, views, index, partition):
        held.append(partition)
        terms = original(self, views, index, partition)
        last = self.networks["encoder"][-1]
        assert all(parameter.grad.abs().sum() > 0 for parameter in last.parameters())
        assert last.weight.grad.view(3, 7, -1)[2].abs().sum() > 0  # heads are padded to the widest
        return terms

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MixtureTraining, "step", step)
        estimator = make_method(options).fit(blobs)
    assert held[0].shape == (len(blobs), 3)
    assert (held[0][:, 2] == -1).all()
    assert (held[0][:, :2] >= 0).all()
    assert estimator.history_["candidate_assignments"].shape == (2, len(blobs))
    assert estimator.history_["candidate_scores"].max() <= math.log(3)
    assert estimator.encoder_[-1].out_features == 3
    assert set(estimator.predict(blobs)) <= {0, 1, 2}


# Pairs of fresh views


def test_responsibilities_of_pairs_are_the_e_step_of_both_views(tiny_options, blobs):
    """Each row with its only neighbour: nothing is drawn, and the pair of every round is the same."""
    options = tiny_options("neural_mixture", "vectors", n_clusters=3, views={"kind": "neighbours"})
    neighbours = np.roll(np.arange(len(blobs)), 1)[:, None]
    estimator = make_method(options).fit(blobs, neighbours)
    with torch.inference_mode():
        scores = estimator.encoder_.eval()(torch.tensor(blobs)).double().numpy()
    densities = np.exp(scores) / np.exp(scores).mean(axis=0)
    joint = densities * densities[neighbours[:, 0]]
    expected = joint / joint.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(estimator.pair_responsibilities(blobs, neighbours), expected, atol=1e-4)


# What a device would see


@pytest.mark.parametrize("mixing", ["uniform", "learned"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_no_step_waits_for_the_device(tiny_options, blobs, monkeypatch, objective, mixing):
    """AdamW on a processor keeps its step count on the host, which is no wait; plain descent has none."""
    waits, steps, original = Waits(), [], MixtureTraining.step

    def watched(self, views, index, held):
        steps.append(held is not None)
        with waits:
            return original(self, views, index, held)

    def descent(_, parameters, learning_rate, *__, **___):
        return torch.optim.SGD(parameters, lr=learning_rate, momentum=0.9)

    monkeypatch.setattr(mixture_training, "make_optimiser", descent)
    monkeypatch.setattr(MixtureTraining, "step", watched)
    start = {"kind": "kmeans", "hold": 0.5, "n_init": 1}
    options = {"objective": objective, "mixing": mixing, "heads": 2, "start": start, "epochs": 2, "pair_noise": 0.1}
    make_method(tiny_options("neural_mixture", "vectors", n_clusters=3, **options)).fit(blobs)
    assert set(steps) == {True, False}
    assert waits.found == []


def rate_in_a_tensor(kind, parameters, learning_rate, _, *, is_fused, **options):
    """What `make_optimiser` makes for CUDA, as far as a processor can."""
    assert not is_fused  # the kernels would take the momentum as a number
    return kind(parameters, lr=torch.tensor(learning_rate), foreach=False, **options)


def test_a_learning_rate_on_the_device_is_scheduled_and_kept_like_a_number(tiny_options, blobs, monkeypatch, tmp_path):
    options = tiny_options("neural_mixture", "vectors", n_clusters=3, epochs=4)
    expected = make_method(options).fit(blobs)
    monkeypatch.setattr(mixture_training, "make_optimiser", rate_in_a_tensor)
    np.testing.assert_allclose(
        make_method(options).fit(blobs).predict_proba(blobs), expected.predict_proba(blobs), atol=1e-5
    )
    checkpoints = Checkpoints(CheckpointOptions(every=2, resume=True, folder=str(tmp_path)), "rate")
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "clear", lambda _: None)  # as if killed right after the last checkpoint
        make_method(options).fit(blobs, None, checkpoints)
    for newest in sorted(tmp_path.rglob("*.safetensors"))[1:]:
        newest.unlink()  # the one after two epochs stays
    resumed = make_method(options).fit(blobs, None, checkpoints)
    np.testing.assert_allclose(resumed.predict_proba(blobs), expected.predict_proba(blobs), atol=1e-5)


# The density of rows


@pytest.mark.parametrize("density", DENSITIES)
def test_the_density_of_the_training_rows_integrates_to_one(tiny_options, blobs, density):
    """Every f_k has mean one over the training rows, hence the mixture too."""
    estimator = make_method(tiny_options("neural_mixture", "vectors", n_clusters=3, density=density)).fit(blobs)
    assert np.exp(estimator.log_density(blobs).astype(np.float64)).mean() == pytest.approx(1, rel=1e-4)


def test_the_log_density_is_that_of_the_mixture(tiny_options, blobs):
    estimator = make_method(tiny_options("neural_mixture", "vectors", n_clusters=3)).fit(blobs)
    with torch.inference_mode():
        scores = estimator.encoder_.eval()(torch.tensor(blobs)).double().numpy()
    expected = np.log((np.exp(scores) / np.exp(scores).mean(axis=0) / 3).sum(axis=1))
    np.testing.assert_allclose(estimator.log_density(blobs), expected, atol=1e-4)


# The readings


def test_all_readings_learn_the_same_of_a_partition_that_is_held_throughout(tiny_options, blobs):
    start = {"kind": "kmeans", "hold": 1.0, "n_init": 1}
    options = tiny_options("neural_mixture", "vectors", n_clusters=3, start=start)
    fitted = [make_method(options | {"objective": objective}).fit(blobs) for objective in OBJECTIVES]
    pair, *others = (estimator.get_arrays() for estimator in fitted)
    for name, array in pair.items():
        for other in others:
            np.testing.assert_array_equal(other[name], array, err_msg=name)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_loss_of_each_reading_is_its_equation(tiny_options, blobs, objective):
    options = tiny_options("neural_mixture", "vectors", n_clusters=3, objective=objective, consistency_weight=0.3)
    estimator = make_method(options)
    estimator.device_ = torch.device("cpu")
    estimator.build(blobs.shape[1:])
    training = estimator.training(make_data(estimator, blobs, None))
    rng = np.random.default_rng(0)
    scores = (torch.from_numpy(rng.normal(size=(6, 1, 3))) for _ in range(2))
    log_a, log_b = (log_relative_density(view, "exponential", 1.0) for view in scores)
    estimator.log_mixing_weights_ = torch.full((1, 3), -math.log(3), dtype=torch.float64)

    def posterior(log_joint: torch.Tensor) -> np.ndarray:
        """Bayes' rule with equal weights."""
        densities = log_joint[:, 0].exp().numpy()
        return densities / densities.sum(axis=1, keepdims=True)

    def em(log_joint: torch.Tensor) -> float:
        """Expected complete log-likelihood, negative."""
        return -(posterior(log_joint) * (log_joint[:, 0].numpy() - math.log(3))).sum(axis=1).mean()

    consistency = -np.log((posterior(log_a) * posterior(log_b)).sum(axis=1)).mean()
    expected = {
        "pair": em(log_a + log_b),
        "single": em(log_a) + em(log_b),
        "consistency": consistency,
        "single_and_consistency": em(log_a) + em(log_b) + 0.3 * consistency,
    }[objective]
    responsibilities = e_step(log_a + log_b, estimator.log_mixing_weights_)[0]
    assert float(training._loss([log_a, log_b], log_a + log_b, responsibilities)) == pytest.approx(expected)


# The start


def test_a_held_partition_is_learned(tiny_options, blobs, monkeypatch):
    """Thirds along a feature in which the groups do not differ: nothing but the partition says where to cut."""
    crossed = np.digitize(blobs[:, 4], np.quantile(blobs[:, 4], [1 / 3, 2 / 3])).astype(np.int64)
    monkeypatch.setattr(KMeansStart, "partitions", lambda *_: crossed[:, None])
    options = tiny_options(
        "neural_mixture",
        "vectors",
        n_clusters=3,
        views={"kind": "noise", "scale": 0.0},
        start={"kind": "kmeans", "hold": 1.0, "n_init": 1},
        epochs=80,
        learning_rate=0.02,
        weight_decay=0.0,
        heads=2,
    )
    estimator = make_method(options).fit(blobs)
    for candidate in estimator.history_["candidate_assignments"]:
        assert (candidate == crossed).mean() > 0.8


def test_merging_joins_components_that_share_rows():
    """Six components, two for each of three groups: rows of a group divide their responsibility between its two."""
    rng = np.random.default_rng(0)
    group = rng.integers(0, 3, size=90)
    share = rng.uniform(0.1, 0.9, size=90)
    responsibilities = np.full((90, 6), 0.01)
    responsibilities[np.arange(90), 2 * group] += share
    responsibilities[np.arange(90), 2 * group + 1] += 1 - share
    responsibilities /= responsibilities.sum(axis=1, keepdims=True)
    start = Overclustering(components_per_cluster=2, epochs=1, hold=1, core=1, max_rows=1000)
    merged = start.merge(np.sqrt(responsibilities), [3, 6], seed=0)
    assert merged.shape == (90, 2)
    assert adjusted_rand_score(group, merged[:, 0]) == 1
    assert len(set(merged[:, 1])) == 6


def test_merging_a_draw_gives_every_row_the_cluster_of_its_nearest():
    rng = np.random.default_rng(1)
    group = rng.integers(0, 3, size=300)
    responsibilities = np.eye(3)[group] * 0.9 + rng.dirichlet(np.ones(3), size=300) * 0.1
    merged = Overclustering(components_per_cluster=2, epochs=1, hold=1, core=1, max_rows=30).merge(
        responsibilities, [3], seed=0
    )
    assert adjusted_rand_score(group, merged[:, 0]) == 1


def test_the_core_is_the_rows_nearest_to_the_mean_of_their_cluster():
    points = np.array([[0.0], [1.0], [5.0], [10.0], [10.5], [11.0], [20.0]])
    partition = np.array([0, 0, 0, 1, 1, 1, 1])
    # Means 2 and 12.875: distances 2, 1, 3 and 2.875, 2.375, 1.875, 7.125.
    np.testing.assert_array_equal(keep_core(points, partition, 0.34), [-1, 0, -1, -1, -1, 1, -1])
    np.testing.assert_array_equal(keep_core(points, partition, 0.7), [0, 0, -1, 1, 1, 1, -1])
    np.testing.assert_array_equal(keep_core(points, partition, 1.0), partition)
    np.testing.assert_array_equal(np.unique(keep_core(points, partition, 0.01)), [-1, 0, 1])  # at least one row each


def test_rows_outside_the_core_keep_the_responsibilities_of_the_e_step(tiny_options, blobs):
    """With the whole partition outside the core, holding it is not holding it."""
    options = tiny_options("neural_mixture", "vectors", n_clusters=3, epochs=2, start={"kind": "none"})
    free = make_method(options).fit(blobs)
    held = make_method({**options, "start": {"kind": "kmeans", "hold": 1.0, "n_init": 1}})
    held._start = SimpleNamespace(hold=1.0, partitions=lambda rows, *_: np.full((len(rows), 1), -1))
    held.fit(blobs)
    np.testing.assert_allclose(held.predict_proba(blobs), free.predict_proba(blobs), atol=1e-6)


def test_overclustering_finds_separated_groups(tiny_options, blobs, blob_labels):
    start = {
        "kind": "overclustering",
        "components_per_cluster": 3,
        "epochs": 0.75,
        "hold": 0.5,
        "core": 0.8,
        "max_rows": 1000,
    }
    options = tiny_options("neural_mixture", "vectors", n_clusters=3, start=start, epochs=40, learning_rate=0.01)
    estimator = make_method(options).fit(blobs)
    assert adjusted_rand_score(blob_labels, estimator.predict(blobs)) == 1


# The number of clusters


def test_a_range_suggests_the_number_of_separated_groups(tiny_options, blobs, blob_labels):
    options = tiny_options(
        "neural_mixture",
        "vectors",
        n_clusters={"min": 2, "max": 6},
        views={"kind": "noise", "scale": 0.5},
        start={"kind": "ward", "hold": 0.5, "max_rows": 1000},
        epochs=40,
        learning_rate=0.01,
    )
    estimator = make_method(options).fit(blobs)
    history = estimator.history_
    np.testing.assert_array_equal(history["selection_n_clusters"], [2, 3, 4, 5, 6])
    assert (history["selection_log_likelihood"] <= np.log([2, 3, 4, 5, 6]) + 1e-5).all()
    assert history["selection_probability"].sum() == pytest.approx(1)
    assert history["selection_n_clusters"][history["selection_probability"].argmax()] == 3
    assert estimator.predict_proba(blobs).shape == (len(blobs), 3)
    assert adjusted_rand_score(blob_labels, estimator.predict(blobs)) == 1
    again = make_method(options).set_arrays(estimator.get_arrays())
    np.testing.assert_array_equal(again.predict(blobs), estimator.predict(blobs))


@pytest.mark.parametrize("restarts", [1, 2])
@pytest.mark.parametrize("changes", [{"n_clusters": 3, "heads": 5}, {"n_clusters": {"min": 2, "max": 6}}])
def test_the_last_snapshot_is_the_clustering(tiny_options, blobs, changes, restarts):
    """Also where another head than the one that leads in the training is kept, as among equals after one epoch."""
    for seed in range(4):
        options = tiny_options("neural_mixture", "vectors", seed=seed, epochs=1, restarts=restarts, **changes)
        estimator = make_method(options).fit(blobs)
        np.testing.assert_array_equal(estimator.history_["snapshot_epoch"], [0, 1])
        np.testing.assert_array_equal(estimator.history_["snapshot_assignments"][-1], estimator.predict(blobs))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_clusters": {"min": 2}}, "expected a number or min and max"),
        ({"n_clusters": {"min": 5, "max": 5}}, "n_clusters.max must be at least 6, got 5"),
        ({"n_clusters": {"min": 2, "max": 4}, "mixing": "learned"}, "a range needs mixing = uniform, got learned"),
        (
            {"n_clusters": {"min": 2, "max": 4}, "mixing": "learned", "heads": 8, "start": BY_CONSENSUS},
            r"heads = 1 for each number, got 8; mixing = uniform, got learned; another start, .* got kind consensus",
        ),
        ({"n_clusters": {"min": 2, "max": 4}, "heads": 2}, "a range needs heads = 1"),
        ({"heads": 0}, "heads must be at least 1"),
        ({"auxiliary_clusters": -1}, "auxiliary_clusters must be at least 0"),
        ({"auxiliary_clusters": 20, "mixing": "learned"}, "auxiliary_clusters: more than 0 needs mixing = uniform"),
        ({"objective": "pairs"}, "objective got 'pairs' .did you mean 'pair'"),
        ({"precision": "fp16"}, "precision got 'fp16'"),
        ({"start": {"kind": "wards"}}, "start: unknown kind 'wards'"),
        ({"start": {"kind": "kmeans", "hold": 2, "n_init": 1}}, "hold must be at least 0 and at most 1, got 2"),
    ],
)
def test_bad_options_are_refused(tiny_options, changes, message):
    with pytest.raises(ValueError, match=message):
        make_method(tiny_options("neural_mixture") | changes)


def test_more_clusters_than_rows_in_a_batch_are_refused(tiny_options, digits):
    with pytest.raises(ValueError, match="n_clusters must be at most batch_size, got 10 for batches of 8"):
        make_method(tiny_options("neural_mixture", batch_size=8)).fit(digits)


def test_an_auxiliary_head_wider_than_a_batch_is_refused(tiny_options, digits):
    with pytest.raises(ValueError, match="auxiliary_clusters must be at most batch_size, got 11 for batches of 10"):
        make_method(tiny_options("neural_mixture", batch_size=10, auxiliary_clusters=11)).fit(digits)


def test_half_precision_trains_a_similar_model(tiny_options, blobs, blob_labels):
    estimator = full_batch(tiny_options, blobs, precision="bf16", learning_rate=0.02, epochs=80)
    assert adjusted_rand_score(blob_labels, estimator.predict(blobs)) == 1
    assert estimator.encoder_[-1].weight.dtype == torch.float32


def test_the_restart_of_greatest_log_likelihood_is_kept(tiny_options, blobs):
    options = tiny_options("neural_mixture", "vectors", n_clusters=3)
    both = make_method(options | {"restarts": 2}).fit(blobs)
    alone = [make_method(options | {"seed": derived_seed(options["seed"], restart)}).fit(blobs) for restart in (0, 1)]
    expected = [float(one.history_["final_log_likelihood_share"]) for one in alone]
    np.testing.assert_allclose(both.history_["candidate_scores"], expected)
    best = alone[int(np.argmax(expected))]
    np.testing.assert_array_equal(both.predict(blobs), best.predict(blobs))
    np.testing.assert_array_equal(both.history_["loss"], best.history_["loss"])
    assert derived_seed(7, 0) == 7
    assert len({derived_seed(7, restart) for restart in range(20)}) == 20


# Representation learning beside the mixture

INFONCE = {"kind": "infonce", "weight": 1.0, "projection": [8, 4], "temperature": 0.2}
VICREG = {"kind": "vicreg", "weight": 1.0, "projection": [8], "invariance": 25.0, "variance": 25.0, "covariance": 1.0}


BYOL = {"kind": "byol", "weight": 1.0, "projection": [8, 4], "prediction": [8, 4], "momentum": 0.9}


@pytest.mark.parametrize("representation", [INFONCE, VICREG, BYOL], ids=lambda options: options["kind"])
def test_representation_learning_shapes_the_trunk_and_is_noted(tiny_options, blobs, representation):
    options = tiny_options("neural_mixture", "vectors", n_clusters=3, epochs=4)
    alone = make_method(options).fit(blobs)
    beside = make_method(options | {"representation": representation}).fit(blobs)
    weights = "encoder.1.weight"
    assert not np.array_equal(beside.get_arrays()[weights], alone.get_arrays()[weights])
    assert set(beside.get_arrays()) == set(alone.get_arrays())  # the projector is left behind
    assert "representation_loss" not in alone.history_
    losses = beside.history_["representation_loss"]
    assert losses[-1] < losses[0]


def test_representation_learning_of_weight_zero_is_none(tiny_options, blobs):
    options = tiny_options("neural_mixture", "vectors", n_clusters=3)
    alone = make_method(options).fit(blobs)
    beside = make_method(options | {"representation": INFONCE | {"weight": 0.0}}).fit(blobs)
    for name, array in alone.get_arrays().items():
        np.testing.assert_array_equal(beside.get_arrays()[name], array, err_msg=name)


def test_the_loss_of_the_representation_is_that_of_the_projections_times_its_weight(tiny_options, blobs, monkeypatch):
    seen = []

    def fixed(_, projections, targets):
        assert targets is None
        seen.append(projections.shape)
        return projections.sum() * 0 + 2.0

    monkeypatch.setattr("deep_clustering.training.representations.infonce.InfoNCE.loss", fixed)
    representation = INFONCE | {"weight": 1.5}
    options = tiny_options("neural_mixture", "vectors", n_clusters=3, epochs=1, representation=representation)
    history = make_method(options).fit(blobs).history_
    assert set(seen) == {(2 * options["batch_size"], 4)}
    np.testing.assert_array_equal(history["representation_loss"], [3.0])


# An average of the network, and more than two views

CROPS = PLAIN_PHOTO | {"kind": "photo_crops", "crop": 0.6, "small_views": 2, "small_size": 6, "small_crop": 0.3}
RESNET = {"kind": "resnet", "blocks": [1, 1], "width": 4, "stem_stride": 1}


def e_and_m_steps(monkeypatch):
    """Lists that fill with what E-steps and M-steps were given, and with what E-steps gave."""
    e_steps, m_steps, given = [], [], []

    def seen(*args):
        e_steps.append(args)
        given.append(e_step(*args))
        return given[-1]

    monkeypatch.setattr(mixture_training, "e_step", seen)
    monkeypatch.setattr(mixture_training, "m_step_loss", lambda *args: m_steps.append(args) or m_step_loss(*args))
    return e_steps, m_steps, given


def test_of_more_views_the_joint_density_is_the_product_of_all(tiny_options, digits, monkeypatch):
    """Equation (11); what is noted is the likelihood of the first two."""
    densities = []
    monkeypatch.setattr(
        mixture_training,
        "log_relative_density",
        lambda *args: densities.append(log_relative_density(*args)) or densities[-1],
    )
    e_steps, m_steps, given = e_and_m_steps(monkeypatch)
    options = tiny_options("neural_mixture", n_clusters=3, views=CROPS, encoder=RESNET, epochs=1, batch_size=200)
    history = make_method(options).fit(digits).history_
    assert [len(density) for density in densities[:4]] == [200] * 4
    responsibilities, joint, _ = m_steps[0]
    torch.testing.assert_close(joint, sum(densities[:4]))
    torch.testing.assert_close(e_steps[0][0], joint.detach())
    assert responsibilities is given[0][0]
    torch.testing.assert_close(e_steps[1][0], (densities[0] + densities[1]).detach())
    assert history["log_likelihood"][0] == pytest.approx(float(given[1][1].mean()), rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": "single"}, "more than two of a row need objective = pair, got single"),
        ({"encoder": {"kind": "conv", "channels": [4], "hidden": [8]}}, "crops of two sizes need encoder resnet"),
    ],
)
def test_more_views_need_a_network_and_a_reading_that_take_them(tiny_options, changes, message):
    with pytest.raises(ValueError, match=message):
        make_method(tiny_options("neural_mixture", **{"views": CROPS, "encoder": RESNET, **changes}))


def test_a_teacher_does_the_e_step(tiny_options, blobs, monkeypatch):
    e_steps, m_steps, given = e_and_m_steps(monkeypatch)
    views = {"kind": "noise", "scale": 0.1}
    options = tiny_options("neural_mixture", "vectors", n_clusters=3, teacher_momentum=0.5, views=views, epochs=3)
    estimator = make_method(options).fit(blobs)
    own, by_teacher = e_steps[:2]
    torch.testing.assert_close(own[0], by_teacher[0])  # it begins as a copy
    assert not torch.equal(e_steps[2][0], e_steps[3][0])  # and follows
    assert m_steps[1][0] is given[3][0]
    assert "teacher" not in " ".join(estimator.get_arrays())


def test_a_teacher_without_memory_is_the_network(tiny_options, blobs):
    options = tiny_options("neural_mixture", "vectors", n_clusters=3)
    alone = make_method(options).fit(blobs)
    taught = make_method(options | {"teacher_momentum": 1e-30}).fit(blobs)
    np.testing.assert_allclose(taught.predict_proba(blobs), alone.predict_proba(blobs), atol=1e-4)


# Linear heads on rows, with neighbours as views

LINEAR = {
    "views": {"kind": "neighbours"},
    "encoder": {"kind": "mlp", "hidden": []},
    "mixing": "learned",
    "mixing_momentum": 0.5,
    "mixing_floor": 0.02,
    "pair_noise": 0.01,
    "estimate_noise": True,
    "learning_rate": 1.0,
    "weight_decay": 0.0,
    "weight_prior": 3e-4,
}
BY_KMEANS = {"kind": "kmeans", "hold": 0.1, "n_init": 20}


def sampled(shares: list[float], n_samples: int, strange: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of length one of three groups that hold so much of all, ten rows of the same group as the neighbours of
    each, as the model has it, or of any group with a probability; and the group of each."""
    rng = np.random.default_rng(3)
    group = rng.choice(3, size=n_samples, p=shares)
    rows = np.eye(3, 5)[group] + 0.15 * rng.normal(size=(n_samples, 5))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    neighbours = np.stack([rng.choice(np.flatnonzero(group == own), size=10) for own in group])
    is_strange = rng.random(neighbours.shape) < strange
    return rows, np.where(is_strange, rng.integers(0, n_samples, size=neighbours.shape), neighbours), group


@pytest.mark.parametrize("shares", [[0.9, 0.05, 0.05], [0.5, 0.3, 0.2], [1 / 3, 1 / 3, 1 / 3]], ids=str)
@pytest.mark.parametrize("start", [BY_KMEANS, BY_CONSENSUS], ids=lambda start: start["kind"])
def test_learned_weights_are_the_shares_of_a_sampled_mixture(tiny_options, start, shares):
    n_samples, n_batch = 2000, 500
    rows, neighbours, group = sampled(shares, n_samples)
    options = tiny_options(
        "neural_mixture",
        "vectors",
        n_clusters=3,
        heads=3,
        start=start,
        **LINEAR | {"epochs": 15, "batch_size": n_batch},
    )
    estimator = make_method(options).fit(rows, neighbours)
    table = contingency(estimator.predict(rows), group, 3, 3)
    assert accuracy(table) > 0.99
    floor = 0.02 / (1 - 0.98 * 0.5)  # that of the updates with their momentum: deviation N4
    weights = np.exp(estimator.get_arrays()["log_mixing_weights"])[table.argmax(axis=0)]
    true = np.array(shares)
    # Four deviations of the groups that were drawn and of a moving average of batches, (1 - m) / (1 + m) of one's.
    tolerance = 4 * np.sqrt(true * (1 - true) * (1 / n_samples + 1 / (3 * n_batch)))
    assert (np.abs(weights - ((1 - floor) * true + floor / 3)) < tolerance).all()


@pytest.mark.parametrize("factor", [2**-20, 8, 1024])
@pytest.mark.parametrize("changes", [{}, {"weight_decay": 0.1}, {"start": BY_KMEANS}, {"density": "sigmoid"}])
def test_a_fit_of_linear_heads_does_not_depend_on_the_scale_of_the_rows(tiny_options, changes, factor):
    rows, neighbours, _ = sampled([0.4, 0.35, 0.25], 400)
    options = tiny_options("neural_mixture", "vectors", n_clusters=3, heads=2, **LINEAR) | {"epochs": 4} | changes
    plain, scaled = (make_method(options).fit(rows * np.float32(scale), neighbours) for scale in (1, factor))
    np.testing.assert_array_equal(scaled.predict(rows * np.float32(factor)), plain.predict(rows))
    np.testing.assert_allclose(scaled.predict_proba(rows * np.float32(factor)), plain.predict_proba(rows), atol=2e-3)


@pytest.mark.parametrize("encoder", [{"kind": "mlp", "hidden": []}, {"kind": "fourier", "waves": 64, "scale": 4.0}])
def test_groups_between_others_are_found_by_waves_alone(tiny_options, encoder):
    """Four groups in a line: the middle ones are at the end of no direction, deviation N23."""
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(4), 75)
    rows = group[:, None] + rng.normal(scale=0.15, size=(300, 3))
    rows = ((rows - rows.mean(axis=0)) / rows.std(axis=0)).astype(np.float32)
    neighbours = NearestNeighbors(n_neighbors=11).fit(rows).kneighbors(return_distance=False)[:, 1:].astype(np.int32)
    changes = LINEAR | {"encoder": encoder, "heads": 4, "start": BY_KMEANS, "epochs": 40}
    estimator = make_method(tiny_options("neural_mixture", "vectors", n_clusters=4, **changes)).fit(rows, neighbours)
    found = accuracy(contingency(estimator.predict(rows), group, 4, 4))
    assert found > 0.97 if encoder["kind"] == "fourier" else found < 0.8


@pytest.mark.parametrize("hidden", [[], [16]])
def test_the_prior_is_gaussian_in_units_of_the_length_of_the_rows(tiny_options, blobs, hidden):
    """d/dw of p/2 |L w|^2 is p L^2 w; of several layers L is left out, as their last one does not see the rows."""
    encoder = {"kind": "mlp", "hidden": hidden}
    options = tiny_options("neural_mixture", "vectors", n_clusters=3, heads=2, encoder=encoder, weight_prior=0.3)
    estimator = make_method(options)
    estimator.device_ = torch.device("cpu")
    estimator.build(blobs.shape[1:])
    prior = estimator.training(make_data(estimator, blobs, None))._prior()
    prior.backward()
    last = estimator.encoder_[-1]
    length = 1.0 if hidden else math.sqrt((blobs.astype(np.float64) ** 2).sum(axis=1).mean())
    weights = last.weight.detach().double().numpy()
    np.testing.assert_allclose(last.weight.grad, 0.3 * length**2 * weights, rtol=1e-5)
    assert float(prior.detach()) == pytest.approx(0.15 * ((length * weights) ** 2).sum(), rel=1e-5)
    assert last.bias.grad is None


def test_a_strong_prior_leaves_smaller_weights(tiny_options):
    rows, neighbours, _ = sampled([0.4, 0.35, 0.25], 400)
    options = tiny_options("neural_mixture", "vectors", n_clusters=3, **LINEAR) | {"epochs": 10}
    lengths = [
        make_method(options | {"weight_prior": prior}).fit(rows, neighbours).encoder_[-1].weight.square().sum().item()
        for prior in (0.0, 3e-3, 3e-1)
    ]
    assert lengths[0] > lengths[1] > lengths[2]


def test_more_strange_neighbours_make_more_noise(tiny_options):
    options = tiny_options("neural_mixture", "vectors", n_clusters=3, start=BY_KMEANS, **LINEAR)
    options |= {"epochs": 15, "batch_size": 500}
    found = []
    for strange in (0.0, 0.1, 0.3):
        rows, neighbours, _ = sampled([1 / 3, 1 / 3, 1 / 3], 1500, strange)
        found.append(float(make_method(options).fit(rows, neighbours).history_["final_pair_noise"]))
    assert found[0] < 0.01  # clusters that are less sure stand for some of the noise, never for more than that
    assert found[0] < found[1] < 0.1
    assert found[1] < found[2] < 0.3


def test_without_estimation_the_noise_stays_as_it_was_given(tiny_options, blobs):
    options = tiny_options("neural_mixture", "vectors", n_clusters=3, heads=2, pair_noise=0.1)
    assert make_method(options).fit(blobs).history_["final_pair_noise"] == pytest.approx(0.1)


def test_the_rise_and_the_agreement_of_the_candidates_are_noted(tiny_options, blobs):
    history = (
        make_method(tiny_options("neural_mixture", "vectors", n_clusters=3, heads=3, epochs=4)).fit(blobs).history_
    )
    assert history["final_log_likelihood_rise"] == pytest.approx(np.diff(history["log_likelihood"])[-1], abs=1e-6)
    best = np.argsort(-history["candidate_scores"], kind="stable")[:2]
    expected = adjusted_rand_score(*history["candidate_assignments"][best])
    assert history["final_candidate_agreement"] == pytest.approx(expected, abs=1e-6)
    alone = make_method(tiny_options("neural_mixture", "vectors", n_clusters=3)).fit(blobs).history_
    assert "final_candidate_agreement" not in alone

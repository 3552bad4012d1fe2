"""DCAN: what each part of a training step may move, what each switch does, and what the fitted estimator says."""

import logging
import math

import numpy as np
import pytest
import torch
from scipy.stats import entropy, multivariate_normal
from sklearn.neighbors import NearestNeighbors

from deep_clustering.methods import dcan_training, game, latent_mixture, make_method, shared_information, whitening
from deep_clustering.scores.metrics import accuracy, contingency
from deep_clustering.training.fitting import make_data
from deep_clustering.training.streams import derived_seed
from waits import Waits

LOSSES = ("adversarial", "euclidean", "gaussian_kl")


# Who moves in a step


def parameters_of(module: torch.nn.Module) -> torch.Tensor:
    return torch.nn.utils.parameters_to_vector(module.parameters()).detach()


def fitted(tiny_options, blobs, **changes):
    return make_method(tiny_options("dcan", "vectors", n_clusters=3, latent_dim=3) | changes).fit(blobs)


def trained(tiny_options, blobs, encoder_rate: float, discriminator_rate: float, **changes):
    rates = {"encoder_learning_rate": encoder_rate, "discriminator_learning_rate": discriminator_rate}
    return fitted(tiny_options, blobs, epochs=1, **rates, **changes)


@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_each_update_moves_only_its_own_network(tiny_options, blobs, optimiser):
    """With a learning rate of zero a network must stay where it was initialised."""
    start = trained(tiny_options, blobs, 0.0, 0.0, optimiser=optimiser)
    only_encoder = trained(tiny_options, blobs, 0.01, 0.0, optimiser=optimiser)
    only_discriminator = trained(tiny_options, blobs, 0.0, 0.01, optimiser=optimiser)
    for moved, where in (("encoder", only_encoder), ("discriminator", only_discriminator)):
        for name, before in start.networks_.items():
            has_stayed = torch.equal(parameters_of(where.networks_[name]), parameters_of(before))
            assert has_stayed == (name != moved)


def test_every_parameter_of_all_networks_is_trained(tiny_options, blobs):
    start, end = (trained(tiny_options, blobs, rate, rate) for rate in (0.0, 0.01))
    for network in ("encoder", "discriminator"):
        pairs = zip(start.networks_[network].named_parameters(), end.networks_[network].named_parameters(), strict=True)
        for (name, before), (_, after) in pairs:
            # Whitening takes out the mean of the codes, and with it the last layer's bias.
            assert not torch.equal(before, after) or (network == "encoder" and name.endswith("bias")), (network, name)
        assert all(parameter.requires_grad for parameter in end.networks_[network].parameters())


def test_the_discriminators_loss_has_no_gradient_in_the_encoder(tiny_options, blobs, monkeypatch):
    seen = []
    original = game.discriminator_loss

    def spy(*terms):
        loss = original(*terms)
        estimator_parameters = list(estimator.networks_["encoder"].parameters())
        gradients = torch.autograd.grad(loss, estimator_parameters, retain_graph=True, allow_unused=True)
        seen.append(all(gradient is None for gradient in gradients))
        return loss

    monkeypatch.setattr(game, "discriminator_loss", spy)
    estimator = make_method(tiny_options("dcan", "vectors", n_clusters=3, epochs=1))
    estimator.fit(blobs)
    assert seen == [True] * (len(blobs) // 64)


def test_both_updates_share_one_pass_of_the_encoder(tiny_options, blobs):
    estimator = make_method(tiny_options("dcan", "vectors", n_clusters=3, epochs=1))
    passes, build = [], estimator.build

    def building(row_shape):
        build(row_shape)
        encoder = estimator.networks_["encoder"]
        encoder.register_forward_hook(lambda module, inputs, _: passes.append((module.training, inputs[0])))

    estimator.build = building
    estimator.fit(blobs)
    in_training = [len(rows) for is_training, rows in passes if is_training]
    assert in_training == [2 * len(blobs), 2 * 64]  # the first queue, then one pass over both views of the only batch


def begun(estimator, features: np.ndarray, partition: torch.Tensor | None = None):
    """A training of new networks and its rows, about to take the first step."""
    estimator.device_ = torch.device("cpu")
    estimator.build(features.shape[1:])
    data = make_data(estimator, features, None)
    training = estimator.training(data)
    training.begin(partition)
    for network in training.networks.values():
        network.train()
    return training, data


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("rows", ["vectors", "images"])
def test_no_step_waits_for_the_device(tiny_options, blobs, digits, loss, rows):
    """Adam on a processor keeps its step count on the host, which is no wait; momentum has none."""
    features = {"vectors": blobs, "images": digits}[rows]
    partition = torch.arange(len(features)) % 3
    estimator = make_method(tiny_options("dcan", rows, n_clusters=3, loss=loss, optimiser="sgd"))
    training, data = begun(estimator, features, partition)
    waits = Waits()
    for held, batch in zip((partition, None), data.rows.batches(64, data.generator), strict=False):
        with waits:
            training.step(data.pairs(batch.place), batch.index, held)
    assert waits.found == []


# Switches


def test_the_encoders_objective_follows_its_switch(tiny_options, blobs, monkeypatch):
    seen, original = [], game.encoder_loss
    monkeypatch.setattr(game, "encoder_loss", lambda *terms: seen.append(terms) or original(*terms))
    for saturating in (True, False):
        history = fitted(tiny_options, blobs, saturating=saturating, epochs=1).history_
        assert seen[-1][2] is saturating
        assert (history["loss_encoder"] < 0).all() == saturating  # ln(1 - D) is negative, a cross-entropy is not


@pytest.mark.parametrize("whitening_on", [True, False])
@pytest.mark.parametrize("conditioning", ["none", "k_way"])
@pytest.mark.parametrize("cross_view", [True, False])
def test_every_combination_of_switches_runs(tiny_options, blobs, whitening_on, conditioning, cross_view):
    switches = {"whitening": whitening_on, "conditioning": conditioning, "cross_view": cross_view}
    estimator = fitted(tiny_options, blobs, **switches)
    assert estimator.predict(blobs).shape == (len(blobs),)
    n_outputs = parameters_of(estimator.networks_["discriminator"][-1]).numel() // (16 + 1)
    assert n_outputs == (1 if conditioning == "none" else 3)
    history = estimator.history_
    assert (history["js_divergence"] <= math.log(2) + 1e-6).all()
    shares = ("agreement", "churn", "within_share", "largest_share")
    for name in (*shares, "discriminator_accuracy_positive", "discriminator_accuracy_negative"):
        assert ((history[name] >= 0) & (history[name] <= 1 + 1e-6)).all()
    assert ((history["occupancy_entropy"] >= 0) & (history["occupancy_entropy"] <= math.log(3) + 1e-6)).all()


@pytest.mark.parametrize("loss", ["euclidean", "gaussian_kl"])
def test_a_closed_form_needs_no_discriminator(tiny_options, blobs, monkeypatch, loss):
    monkeypatch.setattr(dcan_training, "play", lambda *_: pytest.fail("a discriminator was trained"))
    estimator = fitted(tiny_options, blobs, loss=loss)
    assert list(estimator.networks_) == ["encoder"]
    assert not any(name.startswith("discriminator") for name in estimator.get_arrays())
    assert not {"loss_discriminator", "js_divergence"} & set(estimator.history_)
    assert np.isfinite(estimator.history_["loss_encoder"]).all()


@pytest.mark.parametrize("loss", ["euclidean", "gaussian_kl"])
def test_a_closed_form_uses_its_equation(tiny_options, blobs, monkeypatch, loss):
    seen = []
    name = f"{loss}_loss"
    original = getattr(dcan_training, name)
    monkeypatch.setattr(dcan_training, name, lambda *terms: seen.append((terms, original(*terms))) or seen[-1][1])
    history = fitted(tiny_options, blobs, loss=loss, instance_noise=0.5, epochs=1).history_
    ((terms, value),) = seen
    assert history["loss_encoder"][0] == pytest.approx(value.item(), rel=1e-6)
    if loss == "gaussian_kl":
        np.testing.assert_array_equal(terms[3], np.full((3, 3), 0.25))  # of what the discriminator would be shown
        assert terms[4] == 0.5


@pytest.mark.parametrize("cross_view", [True, False])
def test_assignments_come_from_the_other_view_only_when_asked(tiny_options, blobs, monkeypatch, cross_view):
    own, used = [], []
    nearest, wanted = dcan_training.nearest_centroid, game.wanted_outputs
    monkeypatch.setattr(dcan_training, "nearest_centroid", lambda *args: own.append(nearest(*args)) or own[-1])
    monkeypatch.setattr(game, "wanted_outputs", lambda *args: used.append(args[0]) or wanted(*args))
    far_apart = {"kind": "noise", "scale": 3.0}  # so that the two views of a row often fall into different clusters
    fitted(tiny_options, blobs, views=far_apart, cross_view=cross_view)
    assert len(used) == len(own) == 2 * (len(blobs) // 64)
    order = np.r_[64:128, 0:64] if cross_view else np.arange(128)
    for assignments, found in zip(used, own, strict=True):
        np.testing.assert_array_equal(assignments, found[order])
    assert all((found[:64] != found[64:]).any() for found in own)


def test_draws_and_latents_get_the_instance_noise(tiny_options, blobs, monkeypatch):
    """Without noise the discriminator sees the centres and the latents themselves."""
    seen = []
    original = game.discriminator_loss
    monkeypatch.setattr(game, "discriminator_loss", lambda *terms: seen.append(terms) or original(*terms))
    same_twice = {"kind": "noise", "scale": 0.0}
    for noise, few in ((0.0, True), (0.5, False)):
        seen.clear()
        fitted(tiny_options, blobs, instance_noise=noise, views=same_twice)
        for positive, negative, *_ in seen:
            assert (len(np.unique(positive.detach().numpy().round(4), axis=0)) <= 3) == few
            first, second = negative.detach().chunk(2)
            assert torch.allclose(first, second, atol=1e-5) == few


@pytest.mark.parametrize("n_clusters", [2, 4, 10, 40])
def test_automatic_noise_is_the_same_share_of_the_distance_of_equal_clusters(tiny_options, n_clusters):
    """K equal clusters that are tight and white lie at distances sqrt(1 / s + 1 / s) with s = 1 / K."""
    noise = make_method(tiny_options("dcan", "vectors", n_clusters=n_clusters, instance_noise="auto")).noise
    assert noise / math.sqrt(2 * n_clusters) == pytest.approx(1 / math.sqrt(20))  # for ten clusters it is 1


def test_momentum_and_betas_reach_the_optimisers(tiny_options, blobs):
    options = tiny_options("dcan", "vectors", n_clusters=3)
    sgd, _ = begun(make_method(options | {"optimiser": "sgd", "momentum": 0.7}), blobs)
    adam, _ = begun(make_method(options | {"beta1": 0.3, "beta2": 0.9}), blobs)
    assert set(sgd.optimisers) == set(adam.optimisers) == {"encoder", "discriminator"}
    for optimiser in sgd.optimisers.values():
        assert isinstance(optimiser, torch.optim.SGD)
        assert optimiser.param_groups[0]["momentum"] == 0.7
    for optimiser in adam.optimisers.values():
        assert isinstance(optimiser, torch.optim.Adam)
        assert optimiser.param_groups[0]["betas"] == (0.3, 0.9)


def test_the_encoder_runs_in_half_precision_only_in_training(tiny_options, blobs):
    estimator = make_method(tiny_options("dcan", "vectors", n_clusters=3, precision="bf16"))
    kinds, build = set(), estimator.build

    def building(row_shape):
        build(row_shape)
        last = estimator.networks_["encoder"][-1]
        last.register_forward_hook(lambda module, _, output: kinds.add((module.training, output.dtype)))

    estimator.build = building
    estimator.fit(blobs)
    assert kinds == {(True, torch.bfloat16), (False, torch.float32)}
    assert estimator.transform(blobs).dtype == np.float32


# The start, deviation D15


def watch_steps(monkeypatch, look) -> None:
    """Call `look(training, index, held, step)` in place of each step; `step()` takes it."""
    original = dcan_training.GameTraining.step

    def watched(self, views, index, held):
        terms = []
        look(self, index, held, lambda: terms.append(original(self, views, index, held)))
        return terms[0]

    monkeypatch.setattr(dcan_training.GameTraining, "step", watched)


@pytest.mark.parametrize(
    ("hold", "expected"), [(2 / 3, [True, True, False]), (0.0, [False] * 3), (0.01, [True, False, False])]
)
def test_a_held_partition_stands_in_for_assignments_and_centres(tiny_options, blobs, monkeypatch, hold, expected):
    """With hold: 0 it gives the first centres alone."""
    used, were_held, wanted = [], [], game.wanted_outputs
    monkeypatch.setattr(game, "wanted_outputs", lambda *args: used.append(args[0]) or wanted(*args))

    def look(training, index, held, step):
        step()
        were_held.append(held is not None)
        if held is not None:
            np.testing.assert_array_equal(used[-1], np.tile(held[index], 2))
            clusters = held[training._queue_rows].numpy()
            for cluster in range(3):
                members = training._queue[clusters == cluster].numpy()
                np.testing.assert_allclose(training._mixture.centroids[cluster], members.mean(axis=0), atol=1e-5)

    watch_steps(monkeypatch, look)
    start = {"kind": "kmeans", "hold": hold, "n_init": 3}
    estimator = fitted(tiny_options, blobs, epochs=3, start=start)
    assert were_held == expected
    assert estimator.predict(blobs).shape == (len(blobs),)


def test_rows_that_are_not_held_have_their_own_assignments_and_no_part_in_the_centres(tiny_options, blobs, monkeypatch):
    """As by the surest rows of another method: of every third row nothing is known."""
    partition = torch.arange(len(blobs)) % 3
    partition[::5] = -1
    model = make_method(tiny_options("dcan", "vectors", n_clusters=3, cross_view=False))
    training, data = begun(model, blobs, partition)
    used, wanted = [], game.wanted_outputs
    monkeypatch.setattr(game, "wanted_outputs", lambda *args: used.append(args[0]) or wanted(*args))
    for batch in data.rows.batches(64, data.generator):
        training.step(data.pairs(batch.place), batch.index, partition)
        known = partition[batch.index].repeat(2)
        latent = training._queue[: len(known)]
        nearest = torch.cdist(latent, training._mixture.centroids).argmin(dim=1)
        assert 0 < (known < 0).sum() < len(known)
        np.testing.assert_array_equal(used[-1], torch.where(known < 0, nearest, known))
        clusters = partition[training._queue_rows]
        for cluster in range(3):
            members = training._queue[clusters == cluster].numpy()
            np.testing.assert_allclose(training._mixture.centroids[cluster], members.mean(axis=0), atol=1e-5)


def test_the_first_centres_are_those_of_the_partition(tiny_options, blobs):
    partition = torch.arange(len(blobs)) % 3
    training, _ = begun(make_method(tiny_options("dcan", "vectors", n_clusters=3)), blobs, partition)
    for cluster in range(3):
        members = training._queue[partition[training._queue_rows] == cluster].numpy()
        np.testing.assert_allclose(training._mixture.centroids[cluster], members.mean(axis=0), atol=1e-5)


@pytest.mark.parametrize(
    "start",
    [
        {"kind": "kmeans", "hold": 0.33, "n_init": 3},
        {"kind": "ward", "hold": 0.33, "max_rows": 1000},
        {
            "kind": "tsne_gmm",
            "hold": 0.33,
            "map_rows": 1000,
            "perplexity": 8.0,
            "n_init": 3,
            "pca_dim": 5,
            "barnes_hut_rows": 1000,
        },
        {
            "kind": "dac",
            "hold": 0.33,
            "epochs": 1.0,
            "trainings": 2,
            "learning_rate": 1.0e-2,
            "upper": 0.95,
            "lower": 0.455,
            "growth": 1.0,
            "core": 0.9,
        },
    ],
    ids=lambda start: start["kind"],
)
def test_separated_groups_are_found_from_every_start(tiny_options, blobs, blob_labels, start):
    rates = {"encoder_learning_rate": 5e-3, "discriminator_learning_rate": 5e-3}
    estimator = fitted(tiny_options, blobs, epochs=30, record_every=30, start=start, **rates)
    wrong = 1 if start["kind"] == "dac" else 0  # rows at most
    assert accuracy(contingency(estimator.predict(blobs), blob_labels, 3, 3)) >= 1 - wrong / len(blobs)


def unequal_groups(counts: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of Gaussian groups far apart in 16 dimensions, the ten nearest rows of each, and the groups."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(len(counts)), counts)
    rows = (8 * np.eye(len(counts), 16)[groups] + rng.normal(size=(len(groups), 16))).astype(np.float32)
    neighbours = NearestNeighbors(n_neighbors=11).fit(rows).kneighbors(rows, return_distance=False)[:, 1:]
    return rows, neighbours, groups


@pytest.mark.parametrize("counts", [(220, 180), (560, 20, 20), (300, 180, 90, 30)])
def test_groups_of_unequal_size_are_kept_and_end_no_restart(tiny_options, counts):
    rows, neighbours, groups = unequal_groups(counts)
    n_clusters = len(counts)
    options = tiny_options(
        "dcan",
        "vectors",
        n_clusters=n_clusters,
        latent_dim=max(2, n_clusters - 1),  # what so many tight groups need
        instance_noise=1.0,
        views={"kind": "neighbours"},
        encoder={"kind": "mlp", "hidden": [64]},
        discriminator_hidden=[64],
        encoder_learning_rate=5e-3,
        discriminator_learning_rate=5e-3,
        start={"kind": "kmeans", "hold": 0.3, "n_init": 5},
        epochs=20,
        record_every=20,
        restarts=2,
    )
    estimator = make_method(options).fit(rows, neighbours)
    assert len(estimator.history_["epoch"]) == 20  # neither was ended as collapsed
    found = contingency(estimator.predict(rows), groups, n_clusters, n_clusters)
    assert accuracy(found) > 0.98
    assert estimator.history_["final_view_information"] > 10 * estimator.history_["final_chance_information"]


# Restarts, deviation D16


@pytest.mark.filterwarnings("error::DeprecationWarning")
def test_of_several_trainings_the_one_of_likeliest_pairs_is_kept(tiny_options, blobs):
    three = fitted(tiny_options, blobs, restarts=3, seed=5)
    alone = [fitted(tiny_options, blobs, seed=derived_seed(5, restart)) for restart in range(3)]
    likelihoods = [float(one.history_["final_pair_log_likelihood"]) for one in alone]
    best = int(np.argmax(likelihoods))
    np.testing.assert_allclose(three.history_["candidate_scores"], likelihoods)
    for candidate, one in zip(three.history_["candidate_assignments"], alone, strict=True):
        np.testing.assert_array_equal(candidate, one.predict(blobs))
    np.testing.assert_array_equal(three.predict_proba(blobs), alone[best].predict_proba(blobs))
    for name, array in alone[best].history_.items():
        np.testing.assert_array_equal(three.history_[name], array, err_msg=name)


# Diagnostics of a training


def test_churn_is_the_share_of_rows_that_moved_since_they_were_seen(tiny_options, blobs, monkeypatch):
    expected = []

    def look(training, index, held, step):
        before = training._newest.clone()
        step()
        expected.append((before != training._newest).sum() / len(index))
        assert (before == training._newest)[np.setdiff1d(np.arange(len(before)), index)].all()

    watch_steps(monkeypatch, look)
    history = fitted(tiny_options, blobs, epochs=3, views={"kind": "noise", "scale": 2.0}).history_
    np.testing.assert_allclose(history["churn"], expected, rtol=1e-6)
    assert (history["churn"] > 0).all()


def test_occupancy_is_that_of_all_rows_when_they_were_seen_last(tiny_options, blobs, monkeypatch):
    newest, close = [], dcan_training.GameTraining.close_epoch

    def watched(self, epoch):
        newest.append(np.bincount(self._newest, minlength=3))
        return close(self, epoch)

    monkeypatch.setattr(dcan_training.GameTraining, "close_epoch", watched)
    history = fitted(tiny_options, blobs, epochs=3).history_
    np.testing.assert_allclose(history["occupancy_entropy"], [entropy(counts) for counts in newest], rtol=1e-5)
    np.testing.assert_array_equal(history["n_occupied"], [(counts > 0).sum() for counts in newest])
    np.testing.assert_allclose(history["largest_share"], [counts.max() / 120 for counts in newest], rtol=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_progress_line_shows_what_the_loss_has(tiny_options, blobs, caplog, loss):
    with caplog.at_level(logging.INFO):
        fitted(tiny_options, blobs, loss=loss)
    line = next(record.getMessage() for record in caplog.records if "epoch 2 of 2" in record.getMessage())
    assert "within_share" in line
    assert "agreement" in line
    assert ("js_divergence" in line) == (loss == "adversarial")


def test_snapshots_do_not_disturb_training(tiny_options, blobs):
    often, seldom = (fitted(tiny_options, blobs, epochs=4, record_every=every) for every in (1, 4))
    np.testing.assert_array_equal(often.history_["loss_encoder"], seldom.history_["loss_encoder"])
    np.testing.assert_array_equal(often.predict(blobs), seldom.predict(blobs))
    np.testing.assert_array_equal(seldom.history_["snapshot_epoch"], [0, 4])
    np.testing.assert_array_equal(seldom.history_["snapshot_assignments"][-1], seldom.predict(blobs))


@pytest.mark.parametrize("is_weighted", [False, True])
def test_many_rows_in_pieces_have_the_clusters_that_they_have_at_once(tiny_options, blobs, monkeypatch, is_weighted):
    weights = np.random.default_rng(0).uniform(0.5, 2, len(blobs)).astype(np.float32) if is_weighted else None
    options = tiny_options("dcan", "vectors", n_clusters=3, latent_dim=3)
    at_once = make_method(options).fit(blobs, weights=weights)
    for module in (latent_mixture, whitening, dcan_training):
        monkeypatch.setattr(module, "ROWS_AT_ONCE", 50)
    monkeypatch.setattr(shared_information, "_PAIRS", 50)
    in_pieces = make_method(options).fit(blobs, weights=weights)
    for name in ("snapshot_assignments", "final_pair_log_likelihood"):
        np.testing.assert_allclose(in_pieces.history_[name], at_once.history_[name], atol=1e-6)
    np.testing.assert_array_equal(in_pieces.predict(blobs), at_once.predict(blobs))


def test_a_cluster_that_is_kept_of_each_row_takes_two_bytes(tiny_options, blobs):
    training, _ = begun(make_method(tiny_options("dcan", "vectors", n_clusters=3, latent_dim=3)), blobs)
    kept = training.tensors()
    assert {kept["newest"].dtype, kept["partners"].dtype} == {torch.int16}
    training.take(kept | {"newest": kept["newest"].long()})  # as checkpoints of former versions have them
    assert training.tensors()["newest"].dtype == torch.int16


# The fitted estimator


def test_training_rows_are_white_after_training(tiny_options, digits):
    """Deviation D14: the final whitening is that of all rows without random views."""
    options = tiny_options("dcan", latent_dim=4, whitening_epsilon=1e-4)
    latent = make_method(options).fit(digits).transform(digits)
    assert latent.shape == (len(digits), 4)
    np.testing.assert_allclose(latent.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(np.cov(latent, rowvar=False, bias=True), np.eye(4), atol=0.02)


def test_without_whitening_the_latent_is_the_networks_output(tiny_options, blobs):
    estimator = fitted(tiny_options, blobs, whitening=False)
    with torch.inference_mode():
        codes = estimator.networks_["encoder"](torch.tensor(blobs))
    np.testing.assert_allclose(estimator.transform(blobs), codes, atol=1e-5)


def test_prediction_is_the_posterior_of_the_latent_mixture(tiny_options, blobs):
    estimator = fitted(tiny_options, blobs, epochs=5)
    learned = {name: array.astype(np.float64) for name, array in estimator.get_arrays().items()}
    latent = estimator.transform(blobs).astype(np.float64)
    densities = np.stack(
        [
            np.exp(log_weight) * multivariate_normal.pdf(latent, centre, np.diag(variances))
            for log_weight, centre, variances in zip(
                learned["log_weights"], learned["centroids"], learned["variances"], strict=True
            )
        ],
        axis=1,
    )
    np.testing.assert_allclose(estimator.log_density(blobs), np.log(densities.sum(axis=1)), atol=1e-3)
    np.testing.assert_allclose(estimator.predict_proba(blobs), densities / densities.sum(axis=1)[:, None], atol=1e-4)
    np.testing.assert_array_equal(estimator.predict(blobs), densities.argmax(axis=1))
    assert np.exp(learned["log_weights"]).sum() == pytest.approx(1, abs=1e-5)


def test_the_mixture_is_that_of_all_rows(tiny_options, blobs):
    """After many iterations on all rows the centres are the means of the rows nearest to them."""
    estimator = fitted(tiny_options, blobs, final_iterations=200)
    latent, centroids = estimator.transform(blobs), estimator.get_arrays()["centroids"]
    nearest = ((latent[:, None] - centroids) ** 2).sum(axis=2).argmin(axis=1)
    for cluster in range(3):
        np.testing.assert_allclose(centroids[cluster], latent[nearest == cluster].mean(axis=0), atol=1e-4)


def test_an_outlier_has_a_low_density(tiny_options, blobs):
    estimator = fitted(tiny_options, blobs, epochs=5)
    assert estimator.log_density(blobs * 10).mean() < estimator.log_density(blobs).min()


def test_one_row_alone_has_the_density_that_it_has_in_a_batch(tiny_options, blobs):
    estimator = fitted(tiny_options, blobs)
    alone = np.concatenate([estimator.log_density(row[None]) for row in blobs])
    np.testing.assert_allclose(alone, estimator.log_density(blobs), atol=1e-3)


def test_separated_groups_are_found(tiny_options, blobs, blob_labels):
    rates = {"encoder_learning_rate": 5e-3, "discriminator_learning_rate": 5e-3}
    estimator = fitted(tiny_options, blobs, latent_dim=2, epochs=100, record_every=100, **rates)
    assert accuracy(contingency(estimator.predict(blobs), blob_labels, 3, 3)) == 1


def test_a_discriminator_of_another_conditioning_does_not_fit(tiny_options, blobs):
    arrays = fitted(tiny_options, blobs).get_arrays()
    other = make_method(tiny_options("dcan", "vectors", n_clusters=3, latent_dim=3, conditioning="none"))
    with pytest.raises(ValueError, match="discriminator: the saved weights do not fit the network of the options"):
        other.set_arrays(arrays)


# The queue


def test_a_queue_longer_than_the_data_takes_what_there_is(tiny_options, blobs, monkeypatch):
    sizes = set()
    watch_steps(monkeypatch, lambda training, index, held, step: sizes.add(len(training._queue)) or step())
    fitted(tiny_options, blobs, queue_size=100_000)
    assert sizes == {2 * len(blobs)}


def test_a_queue_keeps_the_newest_latents_first(tiny_options, digits, monkeypatch):
    latents, latent = [], dcan_training.GameTraining._latent
    monkeypatch.setattr(
        dcan_training.GameTraining, "_latent", lambda self, v: latents.append(latent(self, v)) or latents[-1]
    )

    def look(training, index, held, step):
        step()
        assert torch.equal(training._queue[:128], latents[-1][0].detach())
        assert torch.equal(training._queue_rows[:128], index.repeat(2))
        if len(latents) > 2:  # the first made the queue
            assert torch.equal(training._queue[128:256], latents[-2][0].detach())

    watch_steps(monkeypatch, look)
    make_method(tiny_options("dcan")).fit(digits)
    assert len(latents) == 1 + 2 * 3


# Refusals


@pytest.mark.parametrize("queue_size", [1, 599])
def test_a_queue_below_the_papers_bound_is_refused(tiny_options, queue_size):
    message = f"queue_size must be at least 600 .the paper's bound for a clustering step.*got {queue_size}"
    with pytest.raises(ValueError, match=message):
        make_method(tiny_options("dcan", queue_size=queue_size))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_clusters": 9, "batch_size": 8}, "dcan: n_clusters must be at most batch_size, got 9 for batches of 8"),
        ({"latent_dim": 240}, r"dcan: latent_dim must be below the points of a clustering step, got 240 for 240 \(two"),
    ],
)
def test_sizes_that_do_not_fit_the_rows_are_refused(tiny_options, blobs, changes, message):
    with pytest.raises(ValueError, match=message):
        make_method(tiny_options("dcan", "vectors") | changes).fit(blobs)


@pytest.mark.parametrize(
    ("option", "value", "instead"),
    [
        (
            "clustering",
            "gmm",
            "option 'clustering' was dropped in 0.3.0; leave it out, the clustering step is an iteration of k",
        ),
        (
            "clustering",
            "kmeans",
            "option 'clustering' was dropped in 0.3.0; leave it out, the clustering step is an iteration of k",
        ),
        (
            "positives",
            "sample",
            "option 'positives' was dropped in 0.3.0; leave it out, draws .* as wide as instance_noise",
        ),
        (
            "reconstruction_weight",
            0.1,
            "'reconstruction_weight' was dropped in 0.3.0 .*; leave it out, whitening keeps",
        ),
        ("decoder_hidden", [16], "option 'decoder_hidden' was dropped in 0.3.0 .*; leave it out, whitening keeps"),
        ("conditioning", "projection", "conditioning: projection was dropped in 0.3.0; use k_way"),
        (
            "start",
            {"kind": "overclustering", "components_per_cluster": 2.7, "epochs": 1.0, "hold": 0.33},
            "start: kind 'overclustering' was dropped in 0.3.0 for this method; use tsne_gmm, ward or kmeans",
        ),
    ],
)
def test_what_this_version_dropped_is_refused_with_what_to_use(tiny_options, option, value, instead):
    with pytest.raises(ValueError, match=f"^dcan: .*{instead}"):
        make_method(tiny_options("dcan") | {option: value})

"""DCAN: each function against its definition or scikit-learn, and what each part of a training step may move."""

import logging
import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy, kstest, multivariate_normal
from sklearn.metrics import mutual_info_score

from deep_clustering.methods import dcan, make_method
from deep_clustering.methods.dcan import (
    discriminator_loss,
    draw_positives,
    encoder_loss,
    euclidean_loss,
    find_failure,
    gaussian_kl,
    gaussian_kl_loss,
    js_divergence,
    mutual_information,
    positive_variances,
    wanted_outputs,
    whiten,
    whitening,
    within_share,
)
from deep_clustering.methods.latent_mixture import LatentMixture
from deep_clustering.scores.metrics import accuracy, contingency
from deep_clustering.training.restarts import derived_seed
from waits import Waits

LOSSES = ("adversarial", "euclidean", "gaussian_kl")
CONDITIONINGS = ("none", "projection", "k_way")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@st.composite
def codes(draw) -> torch.Tensor:
    """Correlated codes of full rank (n, d), n > d, at any scale and place."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    latent_dim = draw(st.integers(2, 6))
    n_samples = draw(st.integers(3 * latent_dim, 60))
    mixing = np.eye(latent_dim) + 0.4 * rng.normal(size=(latent_dim, latent_dim))
    scale, place = draw(st.floats(1e-3, 1e3)), draw(st.floats(-10, 10))
    return torch.from_numpy(scale * (rng.normal(size=(n_samples, latent_dim)) @ mixing + place))


def covariance_of(latent: torch.Tensor) -> np.ndarray:
    return np.cov(latent.numpy(), rowvar=False, bias=True)


def whitened(raw: torch.Tensor, epsilon: float) -> torch.Tensor:
    mean, factor, _ = whitening(raw, epsilon)
    return whiten(raw, mean, factor)


# Whitening, deviation D11


@given(codes(), st.floats(1e-6, 0.5))
def test_whitened_codes_have_mean_zero_and_regularised_identity_covariance(raw, epsilon):
    """Along each principal direction of variance v the whitened variance is v / (v + ridge)."""
    mean, factor, _ = whitening(raw, epsilon)
    latent = whiten(raw, mean, factor)
    np.testing.assert_allclose(latent.mean(dim=0), 0, atol=1e-8)
    variances = np.linalg.eigvalsh(covariance_of(raw))
    ridge = epsilon * np.trace(covariance_of(raw)) / raw.shape[1]
    expected = variances / (variances + ridge)
    np.testing.assert_allclose(np.linalg.eigvalsh(covariance_of(latent)), np.sort(expected), rtol=1e-5, atol=1e-8)


@given(codes())
def test_without_ridge_the_covariance_is_the_identity(raw):
    latent = whitened(raw, 0.0)
    np.testing.assert_allclose(covariance_of(latent), np.eye(raw.shape[1]), atol=1e-6)


@given(codes(), st.integers(0, 1000))
def test_factor_is_the_lower_triangular_root_of_the_covariance(raw, seed):
    mean, factor, _ = whitening(raw, 0.0)
    np.testing.assert_allclose(mean, raw.numpy().mean(axis=0))
    np.testing.assert_array_equal(factor, np.tril(factor))
    assert (factor.diagonal() > 0).all()
    np.testing.assert_allclose(factor @ factor.T, covariance_of(raw), rtol=1e-6, atol=1e-8 * float(raw.var()))
    latent = torch.from_numpy(np.random.default_rng(seed).normal(size=(4, raw.shape[1])))
    np.testing.assert_allclose(whiten(latent @ factor.T + mean, mean, factor), latent, atol=1e-7)


@given(codes(), st.integers(0, 1000))
def test_whitened_inner_products_ignore_affine_maps_of_the_codes(raw, seed):
    rng = np.random.default_rng(seed)
    latent_dim = raw.shape[1]
    matrix = torch.from_numpy(np.eye(latent_dim) + 0.2 * rng.uniform(-1, 1, size=(latent_dim, latent_dim)) / latent_dim)
    moved = raw @ matrix.T + torch.from_numpy(rng.normal(size=latent_dim)) * raw.std()
    before, after = (whitened(rows, 0.0) for rows in (raw, moved))
    np.testing.assert_allclose(after @ after.T, before @ before.T, atol=1e-5)


@given(codes(), st.integers(0, 1000), st.floats(1e-3, 1e3), st.floats(1e-4, 0.5))
def test_with_a_ridge_they_ignore_rotation_scale_and_place(raw, seed, scale, epsilon):
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(raw.shape[1], raw.shape[1])))
    moved = scale * (raw @ torch.from_numpy(rotation)) + scale * float(raw.std())
    before, after = (whitened(rows, epsilon) for rows in (raw, moved))
    np.testing.assert_allclose(after @ after.T, before @ before.T, atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 3), (5, 6), (4, 10)])
def test_a_ridge_whitens_fewer_codes_than_dimensions(shape):
    raw = torch.randn(shape, generator=generator())
    latent = whitened(raw, 1e-3)
    assert torch.isfinite(latent).all()
    assert np.linalg.eigvalsh(covariance_of(latent)).max() <= 1 + 1e-3


@given(codes())
def test_a_covariance_of_full_rank_needs_no_correction(raw):
    assert float(whitening(raw, 0.0).correction) == 0


def test_a_singular_covariance_gets_the_ridge_that_it_says():
    raw = torch.randn(50, 2, generator=generator())[:, [0, 1, 1]]  # two codes are the same
    mean, factor, correction = whitening(raw, 0.0)
    assert 0 < float(correction) < 0.1
    ridge = float(correction) * np.trace(covariance_of(raw)) / 3
    np.testing.assert_allclose(factor @ factor.T, covariance_of(raw) + ridge * np.eye(3), atol=1e-6)
    assert np.linalg.eigvalsh(covariance_of(whiten(raw, mean, factor))).max() <= 1 + 1e-5


def test_codes_that_are_not_finite_stay_so():
    raw = torch.randn(10, 3, generator=generator())
    raw[4, 1] = torch.nan
    assert not torch.isfinite(whitened(raw, 1e-3)).any()


def test_equal_codes_become_zero_instead_of_nan():
    raw = torch.full((10, 3), 2.5)
    np.testing.assert_array_equal(whitened(raw, 1e-3), 0)


def test_gradient_passes_through_the_whitening():
    raw = torch.randn(12, 3, generator=generator(), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda rows: whitened(rows, 1e-2), raw)


# Positives, equation (4)


def some_mixture(n_clusters: int = 3, latent_dim: int = 2, seed: int = 0) -> LatentMixture:
    rng = np.random.default_rng(seed)
    centroids, variances = rng.normal(size=(n_clusters, latent_dim)), rng.uniform(0.1, 2, size=(n_clusters, latent_dim))
    weights = np.full(n_clusters, 1 / n_clusters)
    return LatentMixture(*(torch.tensor(array) for array in (np.log(weights), centroids, variances)))


def test_variances_of_the_positives_by_hand():
    mixture = some_mixture()
    np.testing.assert_allclose(positive_variances(mixture, "mean", 0.5), np.full((3, 2), 0.25))
    np.testing.assert_allclose(positive_variances(mixture, "mean", 0.0), np.zeros((3, 2)))
    np.testing.assert_allclose(positive_variances(mixture, "sample", 0.5), mixture.variances + 0.25)


def test_positives_are_draws_from_their_clusters_gaussian():
    mixture = some_mixture()
    variances = positive_variances(mixture, "sample", 0.3)
    draws = draw_positives(torch.arange(3).repeat(2000), mixture.centroids, variances, generator()).numpy()
    for cluster in range(3):
        standard = (draws[cluster::3] - mixture.centroids[cluster].numpy()) / np.sqrt(variances[cluster].numpy())
        for axis in range(2):
            assert kstest(standard[:, axis], "norm").pvalue > 1e-3
        assert abs(np.corrcoef(standard.T)[0, 1]) < 0.1


def test_without_width_the_positives_are_the_centres_themselves():
    mixture, assignments = some_mixture(), torch.tensor([2, 0, 2])
    draws = draw_positives(assignments, mixture.centroids, torch.zeros(3, 2).double(), generator())
    np.testing.assert_array_equal(draws, mixture.centroids[assignments])


# Losses, equations (1), (2), (5), (10) and (11)


@pytest.mark.parametrize(
    ("conditioning", "targets", "mask"),
    [
        ("none", [[1], [1]], [[1], [1]]),
        ("projection", [[0, 0, 1], [1, 0, 0]], [[0, 0, 1], [1, 0, 0]]),
        ("k_way", [[0, 0, 1], [1, 0, 0]], [[1, 1, 1], [1, 1, 1]]),
    ],
)
def test_wanted_outputs_by_hand(conditioning, targets, mask):
    got = wanted_outputs(torch.tensor([2, 0]), 3, conditioning)
    np.testing.assert_array_equal(got[0], targets)
    np.testing.assert_array_equal(got[1], mask)


def cross_entropy(logit: float, target: float) -> float:
    probability = 1 / (1 + math.exp(-logit))
    return -target * math.log(probability) - (1 - target) * math.log(1 - probability)


@given(st.integers(0, 10_000), st.integers(2, 5), st.sampled_from(CONDITIONINGS))
def test_losses_equal_their_definition(seed, n_clusters, conditioning):
    """Sums over the outputs that count: all, or that of the assigned cluster alone."""
    rng = np.random.default_rng(seed)
    assignments = rng.integers(n_clusters, size=6)
    n_outputs = 1 if conditioning == "none" else n_clusters
    positive, negative = rng.normal(0, 3, size=(2, 6, n_outputs))
    expected = expected_encoder = expected_saturating = 0.0
    for row, assigned in enumerate(assignments):
        judged = 0 if conditioning == "none" else assigned
        for output in range(n_outputs):
            if conditioning != "projection" or output == judged:
                expected += (cross_entropy(positive[row, output], float(output == judged))) / 6
                expected += cross_entropy(negative[row, output], 0) / 6
                expected_encoder += cross_entropy(negative[row, output], float(output == judged)) / 6
        expected_saturating -= cross_entropy(negative[row, judged], 0) / 6  # ln(1 - D_k)
    outputs = [torch.from_numpy(array) for array in (positive, negative)]
    wanted = wanted_outputs(torch.from_numpy(assignments), n_clusters, conditioning)
    assert float(discriminator_loss(*outputs, *wanted)) == pytest.approx(expected, rel=1e-6)
    assert float(encoder_loss(outputs[1], *wanted, False)) == pytest.approx(expected_encoder, rel=1e-6)
    assert float(encoder_loss(outputs[1], *wanted, True)) == pytest.approx(expected_saturating, rel=1e-6)


@pytest.mark.parametrize("saturating", [True, False])
def test_both_games_of_the_encoder_raise_the_output_of_the_assigned_cluster(saturating):
    logits = torch.zeros(4, 3, requires_grad=True)
    targets, mask = wanted_outputs(torch.tensor([0, 1, 2, 1]), 3, "k_way")
    encoder_loss(logits, targets, mask, saturating).backward()
    assert (logits.grad[targets == 1] < 0).all()
    assert (logits.grad[targets == 0] == 0).all() if saturating else (logits.grad[targets == 0] > 0).all()


def test_undecided_discriminator_costs_ln_2_per_output():
    logits, wanted = torch.zeros(7, 4), wanted_outputs(torch.arange(7) % 4, 4, "k_way")
    assert float(discriminator_loss(logits, logits, *wanted)) == pytest.approx(8 * math.log(2))
    assert float(encoder_loss(logits, *wanted, False)) == pytest.approx(4 * math.log(2))
    assert float(encoder_loss(logits, *wanted, True)) == pytest.approx(-math.log(2))
    assert float(js_divergence(logits[:, 0], logits[:, 0])) == pytest.approx(0, abs=1e-7)


@given(st.integers(0, 10_000))
def test_euclidean_loss_equals_its_definition(seed):
    rng = np.random.default_rng(seed)
    latent, centroids, assignments = rng.normal(size=(7, 3)), rng.normal(size=(4, 3)), rng.integers(4, size=7)
    expected = sum(((z - centroids[k]) ** 2).sum() for z, k in zip(latent, assignments, strict=True)) / 7
    got = euclidean_loss(*(torch.from_numpy(array) for array in (latent, centroids, assignments)))
    assert float(got) == pytest.approx(expected)


@given(st.integers(0, 10_000))
def test_gaussian_kl_is_torchs_divergence(seed):
    rng = np.random.default_rng(seed)
    means, deviations = torch.from_numpy(rng.normal(size=(2, 4, 3))), torch.from_numpy(rng.uniform(0.2, 3, (2, 4, 3)))
    one, other = (torch.distributions.Normal(*pair) for pair in zip(means, deviations, strict=True))
    expected = torch.distributions.kl_divergence(one, other).sum(dim=1)
    got = gaussian_kl(means[0], deviations[0] ** 2, means[1], deviations[1] ** 2)
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)


def test_gaussian_kl_with_unit_variances_is_half_the_squared_distance():
    """Equations (8) and (6): the loss of ABC is what is left without second-order terms."""
    one, ones = torch.tensor([1.0, -2.0]), torch.ones(2)
    assert float(gaussian_kl(one, ones, torch.zeros(2), ones)) == pytest.approx(2.5)


@given(st.integers(0, 10_000), st.floats(0.1, 2))
def test_gaussian_kl_loss_sums_the_clusters_by_their_occupancy(seed, noise):
    rng = np.random.default_rng(seed)
    latent, assignments = rng.normal(size=(9, 2)), rng.integers(4, size=9)  # some clusters are empty or of one row
    centroids, variances = rng.normal(size=(4, 2)), rng.uniform(0.3, 2, size=(4, 2))
    expected = 0.0
    for cluster in np.unique(assignments):
        members = latent[assignments == cluster]
        mean, own = members.mean(axis=0), members.var(axis=0) + noise**2
        ratio, distance = own / variances[cluster], (mean - centroids[cluster]) ** 2 / variances[cluster]
        expected += len(members) / 9 * 0.5 * (ratio - np.log(ratio) - 1 + distance).sum()
    arrays = (torch.from_numpy(array) for array in (latent, assignments, centroids, variances))
    assert float(gaussian_kl_loss(*arrays, noise)) == pytest.approx(expected, rel=1e-6)


def test_gaussian_kl_loss_has_a_finite_gradient_for_a_cluster_of_one():
    latent = torch.tensor([[1.0, 2.0], [0.0, 0.0], [0.5, 0.1]], requires_grad=True)
    gaussian_kl_loss(latent, torch.tensor([0, 1, 1]), torch.zeros(3, 2), torch.ones(3, 2), 0.0).backward()
    assert torch.isfinite(latent.grad).all()
    np.testing.assert_allclose(latent.grad[0], [1 / 3, 2 / 3])  # of |z|^2 / 2, a third of the rows


@given(st.integers(0, 10_000), st.floats(0.01, 1000))
def test_js_divergence_is_at_most_ln_2(seed, spread):
    logits = torch.from_numpy(np.random.default_rng(seed).normal(0, spread, size=(2, 20)))
    assert float(js_divergence(*logits)) <= math.log(2)


def test_js_divergence_of_a_perfect_discriminator_is_ln_2_and_of_a_wrong_one_has_no_bound():
    assert float(js_divergence(torch.full((5,), 100.0), torch.full((3,), -100.0))) == pytest.approx(math.log(2))
    assert float(js_divergence(torch.full((5,), -100.0), torch.full((3,), 100.0))) == pytest.approx(-100 + math.log(2))


@st.composite
def two_distributions(draw) -> tuple[np.ndarray, np.ndarray]:
    """Counts of draws on the same values, as many in total from each distribution."""
    n_values = draw(st.integers(2, 5))
    counts = st.lists(st.integers(1, 9), min_size=n_values, max_size=n_values)
    return np.array(draw(counts)), np.array(draw(counts))


@given(two_distributions(), st.integers(0, 1000))
def test_js_divergence_is_reached_by_the_optimal_discriminator_and_bounds_all_others(counts, seed):
    p, q = (count / count.sum() for count in counts)
    values = np.arange(len(p))
    at_p, at_q = np.repeat(values, counts[0]), np.repeat(values, counts[1])
    optimal = np.log(p / q)  # the logit of D = p / (p + q)
    divergence = jensenshannon(p, q) ** 2
    got = js_divergence(torch.from_numpy(optimal[at_p]), torch.from_numpy(optimal[at_q]))
    assert float(got) == pytest.approx(divergence, abs=1e-9)
    other = np.random.default_rng(seed).normal(0, 2, size=len(p))
    assert float(js_divergence(torch.from_numpy(other[at_p]), torch.from_numpy(other[at_q]))) <= divergence + 1e-9


# Diagnostics


@given(st.integers(0, 10_000))
def test_within_share_is_one_less_the_share_between_the_means(seed):
    rng = np.random.default_rng(seed)
    latent, assignments = rng.normal(size=(12, 3)) + 5, rng.integers(4, size=12)
    between = sum(
        (assignments == k).sum() * ((latent[assignments == k].mean(axis=0) - latent.mean(axis=0)) ** 2).sum()
        for k in np.unique(assignments)
    )
    expected = 1 - between / ((latent - latent.mean(axis=0)) ** 2).sum()
    assert float(within_share(torch.from_numpy(latent), torch.from_numpy(assignments), 5)) == pytest.approx(expected)


FINE = {"n_occupied": [4.0] * 5, "largest_share": [0.3] * 5}
JUDGED = {
    "discriminator_accuracy_positive": [0.6] * 5,
    "discriminator_accuracy_negative": [0.6] * 5,
    "js_divergence": [0.1] * 5,
}
SURE = {
    "discriminator_accuracy_positive": [0.6, 0.9, 1.0, 0.995, 0.998],
    "discriminator_accuracy_negative": [0.6, 0.9, 0.999, 0.999, 1.0],
    "js_divergence": [0.1, 0.3, 0.69, 0.68, 0.685],
}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (FINE, None),
        (FINE | JUDGED, None),
        (FINE | {"n_occupied": [4, 4, 3, 2, 3]}, "collapse: only 3 of 4 clusters are occupied; try"),
        (FINE | {"n_occupied": [2, 2, 4, 3, 3]}, None),
        (FINE | {"largest_share": [0.5, 0.6, 0.91, 0.95, 0.93]}, "collapse: one cluster holds 93% of the rows"),
        (FINE | {"largest_share": [0.95, 0.95, 0.95, 0.95, 0.9]}, None),
        (
            FINE | SURE,
            r"overpowers the encoder: accuracy 0.998 on draws and 1.000 on latents, JS 0.685 of at most ln 2",
        ),
        (FINE | SURE | {"js_divergence": [0.69, 0.69, 0.6, 0.69, 0.69]}, None),
        (FINE | SURE | {"discriminator_accuracy_negative": [0.5] * 5}, None),
        ({name: column[:2] for name, column in (FINE | {"n_occupied": [1, 1, 1]}).items()}, None),
    ],
)
def test_a_failure_must_last_and_is_named_with_advice(columns, message):
    found = find_failure(columns, 4, 3)
    if message is None:
        assert found is None
    else:
        assert re.search(message, found)


def test_two_clusters_may_be_as_uneven_as_they_like():
    assert find_failure({"n_occupied": [2.0] * 3, "largest_share": [0.99] * 3}, 2, 3) is None


def test_derived_seeds_are_valid_and_differ_and_the_first_is_the_seed_itself():
    seeds = [derived_seed(seed, restart) for seed in range(20) for restart in range(20)]
    assert len(set(seeds)) == len(seeds)
    assert min(seeds) >= 0
    assert max(seeds) < 2**32
    assert derived_seed(7, 0) == 7


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
    assert not torch.equal(parameters_of(only_encoder.encoder_), parameters_of(start.encoder_))
    assert torch.equal(parameters_of(only_encoder.discriminator_), parameters_of(start.discriminator_))
    assert torch.equal(parameters_of(only_discriminator.encoder_), parameters_of(start.encoder_))
    assert not torch.equal(parameters_of(only_discriminator.discriminator_), parameters_of(start.discriminator_))


def test_every_parameter_of_all_networks_is_trained(tiny_options, blobs):
    start, end = (trained(tiny_options, blobs, rate, rate, reconstruction_weight=1.0) for rate in (0.0, 0.01))
    for network in ("encoder_", "discriminator_", "decoder_"):
        pairs = zip(getattr(start, network).named_parameters(), getattr(end, network).named_parameters(), strict=True)
        for (name, before), (_, after) in pairs:
            # Whitening takes out the mean of the codes, and with it the last layer's bias.
            assert not torch.equal(before, after) or (network == "encoder_" and name.endswith("bias")), (network, name)
        assert all(parameter.requires_grad for parameter in getattr(end, network).parameters())


def test_the_discriminators_loss_has_no_gradient_in_the_encoder(tiny_options, blobs, monkeypatch):
    seen = []
    original = dcan.discriminator_loss

    def spy(*terms):
        loss = original(*terms)
        estimator_parameters = list(estimator.encoder_.parameters())
        gradients = torch.autograd.grad(loss, estimator_parameters, retain_graph=True, allow_unused=True)
        seen.append(all(gradient is None for gradient in gradients))
        return loss

    monkeypatch.setattr(dcan, "discriminator_loss", spy)
    estimator = make_method(tiny_options("dcan", "vectors", n_clusters=3, epochs=1))
    estimator.fit(blobs)
    assert seen == [True] * (len(blobs) // 64)


def test_both_updates_share_one_pass_of_the_encoder(tiny_options, blobs):
    estimator = make_method(tiny_options("dcan", "vectors", n_clusters=3, epochs=1))
    passes, build = [], estimator._build

    def building(row_shape):
        build(row_shape)
        estimator.encoder_.register_forward_hook(lambda module, inputs, _: passes.append((module.training, inputs[0])))

    estimator._build = building
    estimator.fit(blobs)
    in_training = [len(rows) for is_training, rows in passes if is_training]
    assert in_training == [2 * len(blobs), 2 * 64]  # the first queue, then one pass over both views of the only batch


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("clustering", ["kmeans", "gmm"])
def test_no_step_waits_for_the_device(tiny_options, blobs, monkeypatch, loss, clustering):
    """Adam on a processor keeps its step count on the host, which is no wait; momentum has none."""
    waits, steps, original = Waits(), [], dcan.DCAN._step

    def watched(self, *args):
        steps.append(1)
        with waits:
            original(self, *args)

    monkeypatch.setattr(dcan.DCAN, "_step", watched)
    start = {"kind": "kmeans", "hold": 0.5, "n_init": 1}
    options = {"loss": loss, "clustering": clustering, "start": start, "positives": "sample"}
    fitted(tiny_options, blobs, optimiser="sgd", reconstruction_weight=0.1, **options)
    assert len(steps) == 2  # one with the partition held, one without
    assert waits.found == []
    with waits:
        torch.ones(2).sum().item()
    assert waits.found  # it would have been seen


# Switches


def test_the_encoders_objective_follows_its_switch(tiny_options, blobs, monkeypatch):
    seen = []
    monkeypatch.setattr(dcan, "encoder_loss", lambda *terms: seen.append(terms) or encoder_loss(*terms))
    for saturating in (True, False):
        history = fitted(tiny_options, blobs, saturating=saturating, epochs=1).history_
        assert seen[-1][3] is saturating
        assert (history["loss_encoder"] < 0).all() == saturating  # ln(1 - D) is negative, a cross-entropy is not


@pytest.mark.parametrize("whitening_on", [True, False])
@pytest.mark.parametrize("conditioning", CONDITIONINGS)
@pytest.mark.parametrize("positives", ["mean", "sample"])
@pytest.mark.parametrize("clustering", ["kmeans", "gmm"])
def test_every_combination_of_switches_runs(tiny_options, blobs, whitening_on, conditioning, positives, clustering):
    switches = {"whitening": whitening_on, "conditioning": conditioning, "positives": positives}
    estimator = fitted(tiny_options, blobs, clustering=clustering, **switches)
    assert estimator.predict(blobs).shape == (len(blobs),)
    n_outputs = parameters_of(estimator.discriminator_[-1]).numel() // (16 + 1)
    assert n_outputs == (1 if conditioning == "none" else 3)
    history = estimator.history_
    assert (history["js_divergence"] <= math.log(2) + 1e-6).all()
    shares = ("agreement", "churn", "within_share", "largest_share")
    for name in (*shares, "discriminator_accuracy_positive", "discriminator_accuracy_negative"):
        assert ((history[name] >= 0) & (history[name] <= 1 + 1e-6)).all()
    assert ((history["occupancy_entropy"] >= 0) & (history["occupancy_entropy"] <= math.log(3) + 1e-6)).all()


@pytest.mark.parametrize("loss", ["euclidean", "gaussian_kl"])
@pytest.mark.parametrize("positives", ["mean", "sample"])
def test_a_closed_form_needs_no_discriminator(tiny_options, blobs, monkeypatch, loss, positives):
    monkeypatch.setattr(dcan, "discriminator_loss", lambda *_: pytest.fail("a discriminator was trained"))
    estimator = fitted(tiny_options, blobs, loss=loss, positives=positives)
    assert estimator.discriminator_ is None
    assert not any(name.startswith("discriminator") for name in estimator.get_arrays())
    assert not {"loss_discriminator", "js_divergence"} & set(estimator.history_)
    assert np.isfinite(estimator.history_["loss_encoder"]).all()


@pytest.mark.parametrize("loss", ["euclidean", "gaussian_kl"])
def test_a_closed_form_uses_its_equation(tiny_options, blobs, monkeypatch, loss):
    seen = []
    name = f"{loss}_loss"
    original = getattr(dcan, name)
    monkeypatch.setattr(dcan, name, lambda *terms: seen.append((terms, original(*terms))) or seen[-1][1])
    history = fitted(tiny_options, blobs, loss=loss, positives="sample", instance_noise=0.5, epochs=1).history_
    ((terms, value),) = seen
    assert history["loss_encoder"][0] == pytest.approx(value.item(), rel=1e-6)
    if loss == "gaussian_kl":
        assert (terms[3] >= 0.25).all()  # the clusters' own variances besides those of the noise
        assert terms[4] == 0.5


@pytest.mark.parametrize("cross_view", [True, False])
def test_assignments_come_from_the_other_view_only_when_asked(tiny_options, blobs, monkeypatch, cross_view):
    own, used = [], []
    assign, wanted = dcan.assign, dcan.wanted_outputs
    monkeypatch.setattr(dcan, "assign", lambda *args: own.append(assign(*args)) or own[-1])
    monkeypatch.setattr(dcan, "wanted_outputs", lambda *args: used.append(args[0]) or wanted(*args))
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
    original = dcan.discriminator_loss
    monkeypatch.setattr(dcan, "discriminator_loss", lambda *terms: seen.append(terms) or original(*terms))
    same_twice = {"kind": "noise", "scale": 0.0}
    for noise, few in ((0.0, True), (0.5, False)):
        seen.clear()
        fitted(tiny_options, blobs, instance_noise=noise, views=same_twice)
        for positive, negative, *_ in seen:
            assert (len(np.unique(positive.detach().numpy().round(4), axis=0)) <= 3) == few
            first, second = negative.detach().chunk(2)
            assert torch.allclose(first, second, atol=1e-5) == few


def test_the_reconstruction_is_the_mean_squared_error_of_the_views(tiny_options, blobs, monkeypatch):
    seen, original = [], dcan.F.mse_loss
    monkeypatch.setattr(dcan.F, "mse_loss", lambda *terms: seen.append(terms) or original(*terms))
    estimator = fitted(tiny_options, blobs, reconstruction_weight=0.5, epochs=1)
    ((rebuilt, views),) = seen
    assert rebuilt.shape == views.shape == (2 * 64, 5)
    expected = ((rebuilt - views) ** 2).mean()
    assert estimator.history_["reconstruction"][0] == pytest.approx(expected.item(), rel=1e-5)
    assert fitted(tiny_options, blobs).decoder_ is None


def test_a_heavy_reconstruction_is_learned(tiny_options, blobs):
    rates = {"encoder_learning_rate": 0.01, "reconstruction_weight": 100.0}
    error = fitted(tiny_options, blobs, epochs=60, record_every=60, **rates).history_["reconstruction"]
    assert error[-1] < 0.5 * error[0]


def test_images_are_reconstructed_too(tiny_options, digits):
    estimator = make_method(tiny_options("dcan", reconstruction_weight=1.0)).fit(digits)
    assert estimator.decoder_[-1].out_features == 8 * 8


def test_momentum_and_betas_reach_the_optimisers(tiny_options, blobs):
    sgd = make_method(tiny_options("dcan", "vectors", n_clusters=3, optimiser="sgd", momentum=0.7)).fit(blobs)
    adam = make_method(tiny_options("dcan", "vectors", n_clusters=3, beta1=0.3, beta2=0.9)).fit(blobs)
    for optimiser in sgd._make_optimisers().values():
        assert isinstance(optimiser, torch.optim.SGD)
        assert optimiser.param_groups[0]["momentum"] == 0.7
    for optimiser in adam._make_optimisers().values():
        assert isinstance(optimiser, torch.optim.Adam)
        assert optimiser.param_groups[0]["betas"] == (0.3, 0.9)


def test_the_encoder_runs_in_half_precision_only_in_training(tiny_options, blobs):
    estimator = make_method(tiny_options("dcan", "vectors", n_clusters=3, precision="bf16"))
    kinds, build = set(), estimator._build

    def building(row_shape):
        build(row_shape)
        last = estimator.encoder_[-1]
        last.register_forward_hook(lambda module, _, output: kinds.add((module.training, output.dtype)))

    estimator._build = building
    estimator.fit(blobs)
    assert kinds == {(True, torch.bfloat16), (False, torch.float32)}
    assert estimator.transform(blobs).dtype == np.float32


# The start, deviation D15


@pytest.mark.parametrize("clustering", ["kmeans", "gmm"])
def test_a_held_partition_stands_in_for_assignments_and_centres(tiny_options, blobs, monkeypatch, clustering):
    used, held = [], []
    wanted, step = dcan.wanted_outputs, dcan.DCAN._step
    monkeypatch.setattr(dcan, "wanted_outputs", lambda *args: used.append(args[0]) or wanted(*args))

    def watched(self, views, index, partition, training, *rest):
        step(self, views, index, partition, training, *rest)
        held.append(partition is not None)
        if partition is not None:
            np.testing.assert_array_equal(used[-1], np.tile(partition[index], 2))
            clusters = partition[training.queue_rows].numpy()
            for cluster in range(3):
                members = training.queue[clusters == cluster].numpy()
                np.testing.assert_allclose(training.mixture.centroids[cluster], members.mean(axis=0), atol=1e-5)

    monkeypatch.setattr(dcan.DCAN, "_step", watched)
    start = {"kind": "kmeans", "hold": 2 / 3, "n_init": 3}
    estimator = fitted(tiny_options, blobs, epochs=3, start=start, clustering=clustering)
    assert held == [True, True, False]
    assert estimator.predict(blobs).shape == (len(blobs),)


def test_rows_outside_the_core_follow_their_other_view_and_move_no_centre(tiny_options, blobs, monkeypatch):
    used, own, n_free = [], [], []
    wanted, assign, step = dcan.wanted_outputs, dcan.assign, dcan.DCAN._step
    monkeypatch.setattr(dcan, "wanted_outputs", lambda *args: used.append(args[0]) or wanted(*args))
    monkeypatch.setattr(dcan, "assign", lambda *args: own.append(assign(*args)) or own[-1])

    def watched(self, views, index, partition, training, *rest):
        partition = torch.where(torch.arange(len(partition)) % 3 == 0, -1, partition)
        own.clear()
        step(self, views, index, partition, training, *rest)
        held, other_view = np.tile(partition[index], 2), torch.cat(own[0].chunk(2)[::-1]).numpy()
        np.testing.assert_array_equal(used[-1], np.where(held < 0, other_view, held))
        clusters = partition[training.queue_rows].numpy()
        for cluster in range(3):
            members = training.queue[clusters == cluster].numpy()
            np.testing.assert_allclose(training.mixture.centroids[cluster], members.mean(axis=0), atol=1e-5)
        n_free.append((held < 0).sum())

    monkeypatch.setattr(dcan.DCAN, "_step", watched)
    fitted(tiny_options, blobs, epochs=2, start={"kind": "kmeans", "hold": 1.0, "n_init": 3})
    assert min(n_free) > 0


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
            "kind": "overclustering",
            "components_per_cluster": 2.7,
            "epochs": 1.0,
            "hold": 0.33,
            "core": 1.0,
            "max_rows": 1000,
        },
    ],
    ids=lambda start: start["kind"],
)
def test_separated_groups_are_found_from_every_start(tiny_options, blobs, blob_labels, start):
    rates = {"encoder_learning_rate": 5e-3, "discriminator_learning_rate": 5e-3}
    estimator = fitted(tiny_options, blobs, epochs=30, record_every=30, start=start, **rates)
    assert accuracy(contingency(estimator.predict(blobs), blob_labels, 3, 3)) == 1


# Restarts, deviation D16


@given(st.integers(0, 10_000))
def test_shared_information_is_that_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    first, second = rng.integers(0, 4, size=(2, 50))
    expected = mutual_info_score(np.append(first, second), np.append(second, first))  # nats
    got = mutual_information(torch.from_numpy(first), torch.from_numpy(second), 4)
    assert float(got) == pytest.approx(expected, abs=1e-5)


def test_views_that_agree_on_balanced_clusters_share_ln_k():
    clusters = torch.arange(12) % 3
    assert float(mutual_information(clusters, clusters, 3)) == pytest.approx(math.log(3))
    assert float(mutual_information(clusters, clusters * 0, 3)) < math.log(3) / 2


def test_of_several_trainings_the_one_of_most_shared_information_is_kept(tiny_options, blobs):
    three = fitted(tiny_options, blobs, restarts=3, seed=5)
    alone = [fitted(tiny_options, blobs, seed=derived_seed(5, restart)) for restart in range(3)]
    shared = [float(one.history_["final_view_information"]) for one in alone]
    best = int(np.argmax(shared))
    np.testing.assert_allclose(three.history_["candidate_scores"], shared)
    for candidate, one in zip(three.history_["candidate_assignments"], alone, strict=True):
        np.testing.assert_array_equal(candidate, one.predict(blobs))
    np.testing.assert_array_equal(three.predict_proba(blobs), alone[best].predict_proba(blobs))
    for name, array in alone[best].history_.items():
        np.testing.assert_array_equal(three.history_[name], array, err_msg=name)


def fail_from(monkeypatch, epoch: int) -> None:
    def failure(columns, *_):
        return "collapse: something" if len(columns["n_occupied"]) >= epoch else None

    monkeypatch.setattr(dcan, "find_failure", failure)


def test_a_failure_ends_a_restart_but_not_the_only_training(tiny_options, blobs, monkeypatch, caplog):
    fail_from(monkeypatch, 2)
    with caplog.at_level(logging.WARNING):
        alone = fitted(tiny_options, blobs, epochs=4)
    assert len(alone.history_["epoch"]) == 4
    assert [record.getMessage() for record in caplog.records] == ["dcan: epoch 2: collapse: something"]
    several = fitted(tiny_options, blobs, epochs=4, restarts=2)
    assert len(several.history_["epoch"]) == 2
    np.testing.assert_array_equal(several.history_["snapshot_epoch"], [0, 1, 2])
    assert several.history_["candidate_scores"].max() < -1


def test_a_restart_that_failed_loses_against_any_other(tiny_options, blobs, monkeypatch):
    fine = fitted(tiny_options, blobs, restarts=2, epochs=4)
    winner = int(np.argmax(fine.history_["candidate_scores"]))
    monkeypatch.setattr(
        dcan.DCAN, "_has_failed", lambda self, history: self.seed == derived_seed(0, winner) and history.n_epochs == 3
    )
    other = fitted(tiny_options, blobs, restarts=2, epochs=4)
    scores = other.history_["candidate_scores"]
    assert scores[winner] < -1 <= scores[1 - winner]
    assert len(other.history_["epoch"]) == 4
    np.testing.assert_array_equal(other.predict(blobs), fine.history_["candidate_assignments"][1 - winner])


def test_a_held_partition_is_no_collapse(tiny_options, blobs, monkeypatch):
    seen = []
    monkeypatch.setattr(dcan, "find_failure", lambda columns, *_: seen.append(len(columns["n_occupied"])))
    fitted(tiny_options, blobs, epochs=4, start={"kind": "kmeans", "hold": 0.5, "n_init": 1})
    assert seen == [0, 0, 1, 2]


class Seer(torch.nn.Linear):
    """A discriminator that knows: the first half of what it is shown are draws."""

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        is_draw = torch.arange(len(latent)).unsqueeze(1) < len(latent) / 2
        return torch.where(is_draw, 20.0, -20.0) + 0 * super().forward(latent)


def test_a_discriminator_that_sees_through_the_encoder_is_named_once(tiny_options, blobs, monkeypatch, caplog):
    monkeypatch.setattr(dcan, "discriminator", lambda latent_dim, _, n_outputs, __: Seer(latent_dim, n_outputs))
    with caplog.at_level(logging.WARNING):
        history = fitted(tiny_options, blobs, epochs=6, patience=4).history_
    (record,) = caplog.records
    assert re.match(
        r"dcan: epoch 4: the discriminator overpowers the encoder: accuracy 1.000 .*, JS 0.693", record.message
    )
    np.testing.assert_allclose(history["js_divergence"], math.log(2), rtol=1e-6)


# Diagnostics of a training


def test_churn_is_the_share_of_rows_that_moved_since_they_were_seen(tiny_options, blobs, monkeypatch):
    expected, step = [], dcan.DCAN._step

    def watched(self, views, index, partition, training, *rest):
        before = training.newest.clone()
        step(self, views, index, partition, training, *rest)
        expected.append((before != training.newest).sum() / len(index))
        assert (before == training.newest)[np.setdiff1d(np.arange(len(before)), index)].all()

    monkeypatch.setattr(dcan.DCAN, "_step", watched)
    history = fitted(tiny_options, blobs, epochs=3, views={"kind": "noise", "scale": 2.0}).history_
    np.testing.assert_allclose(history["churn"], expected, rtol=1e-6)
    assert (history["churn"] > 0).all()


def test_occupancy_is_that_of_all_rows_when_they_were_seen_last(tiny_options, blobs, monkeypatch):
    newest, close = [], dcan.DCAN._close_epoch

    def watched(self, epoch, training, history):
        newest.append(np.bincount(training.newest, minlength=3))
        close(self, epoch, training, history)

    monkeypatch.setattr(dcan.DCAN, "_close_epoch", watched)
    history = fitted(tiny_options, blobs, epochs=3).history_
    np.testing.assert_allclose(history["occupancy_entropy"], [entropy(counts) for counts in newest], rtol=1e-5)
    np.testing.assert_array_equal(history["n_occupied"], [(counts > 0).sum() for counts in newest])
    np.testing.assert_allclose(history["largest_share"], [counts.max() / 120 for counts in newest], rtol=1e-6)


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
        np.testing.assert_allclose(estimator.transform(blobs), estimator.encoder_(torch.tensor(blobs)), atol=1e-5)


@pytest.mark.parametrize("clustering", ["kmeans", "gmm"])
def test_prediction_is_the_posterior_of_the_latent_mixture(tiny_options, blobs, clustering):
    estimator = fitted(tiny_options, blobs, clustering=clustering, epochs=5)
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


# Refusals


@pytest.mark.parametrize("queue_size", [1, 599])
def test_a_queue_below_the_papers_bound_is_refused(tiny_options, queue_size):
    message = f"queue_size must be at least 600 .the paper's bound for a clustering step.*got {queue_size}"
    with pytest.raises(ValueError, match=message):
        make_method(tiny_options("dcan", queue_size=queue_size))


def test_a_queue_longer_than_the_data_takes_what_there_is(tiny_options, blobs, monkeypatch):
    sizes, step = set(), dcan.DCAN._step
    monkeypatch.setattr(dcan.DCAN, "_step", lambda self, *args: sizes.add(len(args[3].queue)) or step(self, *args))
    fitted(tiny_options, blobs, queue_size=100_000)
    assert sizes == {2 * len(blobs)}


def test_a_queue_keeps_the_newest_latents_first(tiny_options, digits, monkeypatch):
    latents, step, views_latent = [], dcan.DCAN._step, dcan.DCAN._latent
    monkeypatch.setattr(dcan.DCAN, "_latent", lambda self, v: latents.append(views_latent(self, v)) or latents[-1])

    def watched(self, views, index, partition, training, *rest):
        step(self, views, index, partition, training, *rest)
        assert torch.equal(training.queue[:128], latents[-1][0].detach())
        assert torch.equal(training.queue_rows[:128], index.repeat(2))
        if len(latents) > 2:  # the first made the queue
            assert torch.equal(training.queue[128:256], latents[-2][0].detach())

    monkeypatch.setattr(dcan.DCAN, "_step", watched)
    make_method(tiny_options("dcan")).fit(digits)
    assert len(latents) == 1 + 2 * 3


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


def test_a_singular_covariance_is_named_once_with_the_size_of_its_correction(tiny_options, blobs, caplog):
    with caplog.at_level(logging.WARNING):
        estimator = fitted(tiny_options, blobs, latent_dim=150, batch_size=32, whitening_epsilon=0.0, patience=100)
    messages = [record.getMessage() for record in caplog.records if "singular" in record.getMessage()]
    assert len(messages) == 1
    assert "dcan: the covariance of the codes was singular in epoch 1; 0.01 of the mean variance was" in messages[0]
    assert np.isfinite(estimator.transform(blobs)).all()


@pytest.mark.parametrize("first_bad", [0, 1])
def test_views_that_are_not_finite_are_named(tiny_options, blobs, monkeypatch, first_bad):
    estimator = make_method(tiny_options("dcan", "vectors", n_clusters=3))
    calls, pair = [], type(estimator._view).pair

    def spoiled(self, *args):
        views = pair(self, *args)
        calls.append(1)
        if len(calls) > first_bad:
            views[3, 1] = torch.nan
        return views

    monkeypatch.setattr(type(estimator._view), "pair", spoiled)
    message = rf"dcan: the views hold NaN or infinity \(epoch {first_bad}\); look at the options of views \(noise\)"
    with pytest.raises(FloatingPointError, match=message):
        estimator.fit(blobs)


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

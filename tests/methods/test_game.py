"""The game of DCAN: draws and losses against their definition, SciPy or torch's own."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import kstest

from deep_clustering.methods import game
from deep_clustering.methods.game import (
    discriminator_loss,
    draw_positives,
    encoder_loss,
    euclidean_loss,
    gaussian_kl,
    gaussian_kl_loss,
    js_divergence,
    play,
    positive_variances,
    wanted_outputs,
)
from deep_clustering.methods.latent_mixture import LatentMixture
from deep_clustering.training.networks import discriminator


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Positives, equation (4)


def some_mixture(n_clusters: int = 3, latent_dim: int = 2, seed: int = 0) -> LatentMixture:
    rng = np.random.default_rng(seed)
    centroids, variances = rng.normal(size=(n_clusters, latent_dim)), rng.uniform(0.1, 2, size=(n_clusters, latent_dim))
    weights = np.full(n_clusters, 1 / n_clusters)
    return LatentMixture(*(torch.tensor(array) for array in (np.log(weights), centroids, variances)))


def test_variances_of_the_positives_by_hand():
    mixture = some_mixture()
    np.testing.assert_allclose(positive_variances(mixture, 0.5), np.full((3, 2), 0.25))
    np.testing.assert_allclose(positive_variances(mixture, 0.0), np.zeros((3, 2)))


def test_positives_are_draws_from_their_clusters_gaussian():
    mixture = some_mixture()
    variances = mixture.variances  # of other widths along each axis
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


@pytest.mark.parametrize(("conditioning", "targets"), [("none", [[1], [1]]), ("k_way", [[0, 0, 1], [1, 0, 0]])])
def test_wanted_outputs_by_hand(conditioning, targets):
    np.testing.assert_array_equal(wanted_outputs(torch.tensor([2, 0]), 3, conditioning), targets)


def cross_entropy(logit: float, target: float) -> float:
    probability = 1 / (1 + math.exp(-logit))
    return -target * math.log(probability) - (1 - target) * math.log(1 - probability)


@given(st.integers(0, 10_000), st.integers(2, 5), st.sampled_from(["none", "k_way"]))
def test_losses_equal_their_definition(seed, n_clusters, conditioning):
    """Sums over all outputs; of them only that of the assigned cluster is wanted 1."""
    rng = np.random.default_rng(seed)
    assignments = rng.integers(n_clusters, size=6)
    n_outputs = 1 if conditioning == "none" else n_clusters
    positive, negative = rng.normal(0, 3, size=(2, 6, n_outputs))
    expected = expected_encoder = expected_saturating = 0.0
    for row, assigned in enumerate(assignments):
        judged = 0 if conditioning == "none" else assigned
        for output in range(n_outputs):
            expected += cross_entropy(positive[row, output], float(output == judged)) / 6
            expected += cross_entropy(negative[row, output], 0) / 6
            expected_encoder += cross_entropy(negative[row, output], float(output == judged)) / 6
        expected_saturating -= cross_entropy(negative[row, judged], 0) / 6  # ln(1 - D_k)
    outputs = [torch.from_numpy(array) for array in (positive, negative)]
    wanted = wanted_outputs(torch.from_numpy(assignments), n_clusters, conditioning)
    assert float(discriminator_loss(*outputs, wanted)) == pytest.approx(expected, rel=1e-6)
    assert float(encoder_loss(outputs[1], wanted, False)) == pytest.approx(expected_encoder, rel=1e-6)
    assert float(encoder_loss(outputs[1], wanted, True)) == pytest.approx(expected_saturating, rel=1e-6)


@pytest.mark.parametrize("saturating", [True, False])
def test_both_games_of_the_encoder_raise_the_output_of_the_assigned_cluster(saturating):
    logits = torch.zeros(4, 3, requires_grad=True)
    targets = wanted_outputs(torch.tensor([0, 1, 2, 1]), 3, "k_way")
    encoder_loss(logits, targets, saturating).backward()
    assert (logits.grad[targets == 1] < 0).all()
    assert (logits.grad[targets == 0] == 0).all() if saturating else (logits.grad[targets == 0] > 0).all()


def test_undecided_discriminator_costs_ln_2_per_output():
    logits, wanted = torch.zeros(7, 4), wanted_outputs(torch.arange(7) % 4, 4, "k_way")
    assert float(discriminator_loss(logits, logits, wanted)) == pytest.approx(8 * math.log(2))
    assert float(encoder_loss(logits, wanted, False)) == pytest.approx(4 * math.log(2))
    assert float(encoder_loss(logits, wanted, True)) == pytest.approx(-math.log(2))
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


# Clusters of unequal size, equation (10)


def test_the_discriminator_is_shown_each_cluster_as_often_as_rows_are_in_it(monkeypatch):
    assignments = torch.from_numpy(np.repeat([0, 1, 2], [180, 10, 10]))
    centroids = torch.eye(3) * 100
    mixture = LatentMixture(torch.full((3,), -math.log(3)), centroids, torch.ones(3, 3))
    judge, shown = torch.nn.Linear(3, 3), []
    judge.register_forward_hook(lambda _, inputs, __: shown.append(inputs[0].detach()))
    targets, loss = [], game.discriminator_loss
    monkeypatch.setattr(game, "discriminator_loss", lambda *terms: targets.append(terms[2]) or loss(*terms))
    optimiser = torch.optim.SGD(judge.parameters(), 0.0)
    options = {"conditioning": "k_way", "instance_noise": 1.0, "saturating": False, "precision": "fp32"}
    latent = torch.zeros(200, 3, requires_grad=True)
    play(judge, optimiser, latent, assignments, mixture, **options, generator=generator())
    draws = shown[0][:200]
    np.testing.assert_array_equal(torch.cdist(draws, centroids).argmin(dim=1), assignments)
    np.testing.assert_array_equal(targets[0].sum(dim=0), [180, 10, 10])


def test_half_precision_is_of_the_discriminators_passes_alone():
    """Products are in bfloat16; losses, gradients and weights are in single precision, and near those without it."""
    mixture = LatentMixture(torch.full((4,), -math.log(4)), torch.eye(4) * 3, torch.ones(4, 4))
    assignments, passes, rounds = torch.arange(128) % 4, [], {}
    latent = (mixture.centroids[assignments] + torch.randn((128, 4), generator=generator())).requires_grad_()
    for precision in ("fp32", "bf16"):
        torch.manual_seed(0)
        judge = discriminator(4, [64, 64], 4, 0.2)
        judge.register_forward_hook(lambda _, __, output: passes.append(output.dtype))
        optimiser, latent.grad = torch.optim.SGD(judge.parameters(), 0.1), None
        options = {"conditioning": "k_way", "instance_noise": 1.0, "saturating": False, "precision": precision}
        loss, terms = play(judge, optimiser, latent, assignments, mixture, **options, generator=generator())
        loss.backward()
        assert {value.dtype for value in (loss, latent.grad, *terms.values(), *judge.parameters())} == {torch.float32}
        rounds[precision] = torch.stack([loss.detach(), terms["loss_discriminator"].detach()]), latent.grad
    assert passes == [torch.float32] * 2 + [torch.bfloat16] * 2
    torch.testing.assert_close(rounds["bf16"][0], rounds["fp32"][0], rtol=0.01, atol=0)
    assert torch.cosine_similarity(rounds["bf16"][1].flatten(), rounds["fp32"][1].flatten(), dim=0) > 0.99


@given(st.lists(st.integers(1, 30), min_size=2, max_size=5), st.integers(0, 1000))
def test_the_best_discriminator_weighs_each_cluster_by_its_share(counts, seed):
    """On values z the loss is least at D_k(z) = s_k p_k(z) / (sum_l s_l p_l(z) + q(z)), with shares s of the draws."""
    rng, n_clusters, n_values = np.random.default_rng(seed), len(counts), 4
    clusters = np.repeat(np.arange(n_clusters), counts)
    draws, latents = rng.integers(n_values, size=(2, len(clusters)))
    weighted = np.zeros((n_values, n_clusters))  # s_k p_k(z), times the number of draws
    np.add.at(weighted, (draws, clusters), 1)
    total = weighted.sum(axis=1) + np.bincount(latents, minlength=n_values)
    share = weighted / total.clip(1)[:, None]
    logits = torch.tensor(np.log(share.clip(1e-12) / (1 - share).clip(1e-12)), requires_grad=True)
    targets = torch.from_numpy(np.eye(n_clusters)[clusters])
    discriminator_loss(logits[draws], logits[latents], targets).backward()
    np.testing.assert_allclose(logits.grad, 0, atol=1e-9)

"""The neural mixture: each equation against its definition, its bounds, and its behaviour in training."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import softmax
from scipy.stats import norm
from sklearn.metrics import adjusted_rand_score

from deep_clustering.methods import make_method, neural_mixture
from deep_clustering.methods.neural_mixture import (
    choose_temperature,
    consistency_loss,
    e_step,
    log_density,
    log_mean_exp,
    m_step_loss,
    mixing_weights,
    probable_numbers,
    sigmoid_relevance,
    update_shares,
)
from deep_clustering.methods.starts import KMeansStart, Overclustering, keep_core
from deep_clustering.scores.metrics import accuracy, contingency
from deep_clustering.training.checkpoints import CheckpointOptions, Checkpoints
from deep_clustering.training.restarts import derived_seed
from waits import Waits

DENSITIES = ("exponential", "sigmoid")


def tables(low: float = -20, high: float = 20) -> st.SearchStrategy[np.ndarray]:
    """Scores (n, K) with 1 to 12 rows and 2 to 5 clusters."""
    shapes = st.tuples(st.integers(1, 12), st.integers(2, 5))
    return shapes.flatmap(lambda shape: arrays(np.float64, shape, elements=st.floats(low, high)))


def weights_of(n_clusters: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(n_clusters, 2.0))


def bayes(densities: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, float]:
    """Posterior and mean log evidence by plain arithmetic, one number at a time."""
    posterior = np.zeros_like(densities)
    total = 0.0
    for row, cluster in itertools.product(*map(range, densities.shape)):
        evidence = sum(weights[k] * densities[row, k] for k in range(len(weights)))
        posterior[row, cluster] = weights[cluster] * densities[row, cluster] / evidence
        total += math.log(evidence) / densities.size
    return posterior, total


# Densities, equations (1) and (2)


def test_log_mean_exp_by_hand():
    values = torch.tensor([[0.0, math.log(3)], [math.log(3), math.log(5)]], dtype=torch.float64)
    np.testing.assert_allclose(log_mean_exp(values), [math.log(2), math.log(4)])


def test_log_mean_exp_does_not_overflow():
    np.testing.assert_allclose(log_mean_exp(torch.tensor([[1000.0], [1000.0]])), [1000.0])


@given(tables(), st.sampled_from(DENSITIES), st.floats(0.1, 10))
def test_every_density_integrates_to_one_over_the_sample(scores, density, scale):
    density_values = log_density(torch.from_numpy(scores), density, scale).exp().numpy()
    np.testing.assert_allclose(density_values.mean(axis=0), 1, rtol=1e-9)


@given(tables(-5, 5), st.floats(-100, 100))
def test_exponential_density_equals_its_definition_and_ignores_a_shift(scores, shift):
    expected = np.exp(scores) / np.exp(scores).mean(axis=0)
    np.testing.assert_allclose(log_density(torch.from_numpy(scores), "exponential", 1).exp(), expected, rtol=1e-8)
    moved = log_density(torch.from_numpy(scores + shift), "exponential", 1).exp()
    np.testing.assert_allclose(moved, expected, rtol=1e-8)


def test_sigmoid_density_equals_its_definition():
    scores, scale = np.random.default_rng(0).normal(2, 3, size=(9, 4)), 3.0
    standardised = (scores - scores.mean(axis=0)) / scores.std(axis=0)
    sigmoid = 1 / (1 + np.exp(-scale * standardised))
    expected = sigmoid / sigmoid.mean(axis=0)
    np.testing.assert_allclose(log_density(torch.from_numpy(scores), "sigmoid", scale).exp(), expected, rtol=1e-9)


def test_sigmoid_density_ignores_shift_and_positive_factor_of_the_scores():
    scores = torch.from_numpy(np.random.default_rng(1).normal(size=(20, 3)))
    factor, shift = torch.tensor([0.5, 3.0, 10.0]), torch.tensor([-4.0, 0.0, 9.0])
    np.testing.assert_allclose(
        log_density(scores * factor + shift, "sigmoid", 5.0), log_density(scores, "sigmoid", 5.0), atol=1e-9
    )


def test_sigmoid_relevance_of_equal_scores_is_one_half():
    scores = torch.full((4, 2), 7.0)
    relevance = sigmoid_relevance(scores, scores.mean(dim=0), scores.std(dim=0, correction=0), 8.0)
    np.testing.assert_allclose(relevance.exp(), 0.5)


# E-step, equations (3) and (4)


@given(tables(-8, 8), st.integers(0, 1000))
def test_e_step_is_bayes_rule(log_joint, seed):
    weights = weights_of(log_joint.shape[1], seed)
    log_responsibilities, log_likelihood = e_step(torch.from_numpy(log_joint), torch.from_numpy(np.log(weights)))
    posterior, expected = bayes(np.exp(log_joint), weights)
    np.testing.assert_allclose(log_responsibilities.exp(), posterior, rtol=1e-7)
    assert float(log_likelihood.mean()) == pytest.approx(expected, rel=1e-7, abs=1e-9)


@given(tables(-500, 500), st.integers(0, 1000))
def test_responsibilities_sum_to_one_even_where_densities_overflow(log_joint, seed):
    weights = weights_of(log_joint.shape[1], seed)
    responsibilities = e_step(torch.from_numpy(log_joint), torch.from_numpy(np.log(weights)))[0].exp().numpy()
    np.testing.assert_allclose(responsibilities.sum(axis=1), 1, rtol=1e-9)


@given(tables(), st.integers(0, 1000))
def test_permuting_the_clusters_permutes_the_columns(log_joint, seed):
    n_clusters = log_joint.shape[1]
    order = np.random.default_rng(seed).permutation(n_clusters)
    weights = np.log(weights_of(n_clusters, seed))
    first, likelihood = e_step(torch.from_numpy(log_joint), torch.from_numpy(weights))
    second, permuted = e_step(torch.from_numpy(log_joint[:, order]), torch.from_numpy(weights[order]))
    np.testing.assert_allclose(second, first[:, order], atol=1e-9)
    np.testing.assert_allclose(permuted, likelihood, atol=1e-9)


def test_e_step_refuses_weights_of_another_length():
    with pytest.raises(ValueError, match=r"e_step: expected 3 mixing weights, got shape \(2,\)"):
        e_step(torch.zeros(4, 3), torch.zeros(2))


def test_gaussian_components_give_the_textbook_posterior():
    x = np.linspace(-3, 3, 13)
    weights = np.array([0.3, 0.7])
    log_components = np.stack([norm.logpdf(x, -1, 1), norm.logpdf(x, 1, 1)], axis=1)
    log_responsibilities, _ = e_step(torch.from_numpy(log_components), torch.from_numpy(np.log(weights)))
    # Equal variances: the log odds are linear in x.
    expected = 1 / (1 + np.exp(-(2 * x + math.log(0.7 / 0.3))))
    np.testing.assert_allclose(log_responsibilities[:, 1].exp(), expected, rtol=1e-9)


def known_pairs() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Two components on four values, and 128 pairs of views that occur exactly as often as the model says."""
    components = np.array([[4, 2, 1, 1], [1, 1, 2, 4]]) / 8  # p(x | k)
    joint = 0.5 * np.einsum("ka,kb->ab", components, components)  # p(x, x')
    counts = np.rint(joint * 128).astype(int)
    np.testing.assert_allclose(counts, joint * 128)
    first, second = (np.repeat(index.ravel(), counts.ravel()) for index in np.indices(counts.shape))
    return components, joint, first, second


def test_scores_that_are_true_density_ratios_give_the_known_posterior_and_the_mutual_information():
    components, joint, first, second = known_pairs()
    marginal = joint.sum(axis=1)
    ratio = np.log(components / marginal).T  # log p(x | k) / p(x), shape (values, K)
    offsets = np.array([3.0, -5.0])  # the normaliser must take out any constant
    densities = [log_density(torch.from_numpy(ratio[view] + offsets), "exponential", 1.0) for view in (first, second)]
    np.testing.assert_allclose(densities[0], ratio[first], atol=1e-12)
    uniform = torch.full((2,), -math.log(2), dtype=torch.float64)
    log_responsibilities, log_likelihood = e_step(densities[0] + densities[1], uniform)
    posterior = components[:, first] * components[:, second] / 2 / joint[first, second]
    np.testing.assert_allclose(log_responsibilities.exp().T, posterior, rtol=1e-9)
    mutual_information = (joint * np.log(joint / np.outer(marginal, marginal))).sum()
    assert float(log_likelihood.mean()) == pytest.approx(mutual_information, rel=1e-9)


# The bound, equation (6)


@given(st.integers(0, 10_000), st.sampled_from(DENSITIES), st.floats(0.1, 30))
def test_pair_log_likelihood_is_at_most_log_k(seed, density, spread):
    rng = np.random.default_rng(seed)
    n_samples, n_clusters = int(rng.integers(2, 20)), int(rng.integers(2, 6))
    shared = rng.normal(0, spread, size=(n_samples, n_clusters))
    views = [torch.from_numpy(shared + rng.normal(0, rng.uniform(0, 2), size=shared.shape)) for _ in range(2)]
    log_joint = log_density(views[0], density, 8.0) + log_density(views[1], density, 8.0)
    uniform = torch.full((n_clusters,), -math.log(n_clusters), dtype=torch.float64)
    assert float(e_step(log_joint, uniform)[1].mean()) <= math.log(n_clusters) + 1e-9


@pytest.mark.parametrize("sizes", [(4, 4, 4), (6, 4, 2), (1, 1, 10), (3, 3)])
def test_hard_identical_views_reach_twice_the_entropy_less_log_k(sizes):
    """For hard clusters f_k = n / n_k on the members of k, so the mean of log p is 2 H - log K; log K if balanced."""
    n_clusters, n_samples = len(sizes), sum(sizes)
    scores = torch.from_numpy(80.0 * np.eye(n_clusters)[np.repeat(np.arange(n_clusters), sizes)])
    log_joint = 2 * log_density(scores, "exponential", 1.0)
    uniform = torch.full((n_clusters,), -math.log(n_clusters), dtype=torch.float64)
    shares = np.array(sizes) / n_samples
    expected = -2 * (shares * np.log(shares)).sum() - math.log(n_clusters)
    log_likelihood = float(e_step(log_joint, uniform)[1].mean())
    assert log_likelihood == pytest.approx(expected, abs=1e-9)
    if len(set(sizes)) == 1:
        assert log_likelihood == pytest.approx(math.log(n_clusters), abs=1e-9)


# Pairs without a common cluster, equation (9)


@given(tables(-8, 8), st.integers(0, 1000), st.floats(0.01, 0.95))
def test_noise_is_one_more_component_of_density_one(log_joint, seed, noise):
    weights = weights_of(log_joint.shape[1], seed)
    with_noise = np.concatenate([np.exp(log_joint), np.ones((len(log_joint), 1))], axis=1)
    posterior, expected = bayes(with_noise, np.append((1 - noise) * weights, noise))
    arguments = torch.from_numpy(log_joint), torch.from_numpy(np.log(weights)), noise
    log_responsibilities, log_likelihood = e_step(*arguments)
    np.testing.assert_allclose(log_responsibilities.exp(), posterior[:, :-1], rtol=1e-7)
    assert float(log_likelihood.mean()) == pytest.approx(expected, rel=1e-7, abs=1e-9)


@pytest.mark.parametrize("noise", [0.1, 0.5])
def test_fishers_identity_holds_with_noise(noise):
    rng = np.random.default_rng(1)
    scores = [torch.tensor(rng.normal(size=(7, 3)), requires_grad=True) for _ in range(2)]
    weights = torch.from_numpy(weights_of(3, 1))
    joint = log_density(scores[0], "exponential", 1.0) + log_density(scores[1], "exponential", 1.0)
    likelihood = ((1 - noise) * (weights * joint.exp()).sum(dim=1) + noise).log().mean()
    expected = torch.autograd.grad(-likelihood, scores, retain_graph=True)
    loss = m_step_loss(e_step(joint.detach(), weights.log(), noise)[0], joint, weights.log())
    for got, wanted in zip(torch.autograd.grad(loss, scores), expected, strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-12)


# M-step, equation (5)


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("seed", range(5))
def test_fishers_identity(density, seed):
    """The gradient of the M-step's loss is that of minus the log-likelihood."""
    rng = np.random.default_rng(seed)
    scores = [torch.tensor(rng.normal(size=(7, 3)), requires_grad=True) for _ in range(2)]
    weights = torch.from_numpy(weights_of(3, seed))
    joint = log_density(scores[0], density, 2.0) + log_density(scores[1], density, 2.0)
    likelihood = (weights * joint.exp()).sum(dim=1).log().mean()  # plain arithmetic, no logsumexp
    expected = torch.autograd.grad(-likelihood, scores, retain_graph=True)
    log_responsibilities, _ = e_step(joint.detach(), weights.log())
    loss = m_step_loss(log_responsibilities, joint, weights.log())
    for got, wanted in zip(torch.autograd.grad(loss, scores), expected, strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-12)


def test_m_step_loss_equals_its_definition():
    rng = np.random.default_rng(3)
    log_joint, weights = rng.normal(size=(6, 4)), weights_of(4, 3)
    responsibilities = rng.dirichlet(np.ones(4), size=6)
    expected = 0.0
    for row, cluster in itertools.product(range(6), range(4)):
        expected -= responsibilities[row, cluster] * (math.log(weights[cluster]) + log_joint[row, cluster]) / 6
    arguments = (torch.from_numpy(value) for value in (np.log(responsibilities), log_joint, np.log(weights)))
    assert float(m_step_loss(*arguments)) == pytest.approx(expected)


def test_no_gradient_flows_through_the_responsibilities():
    log_responsibilities = torch.zeros(3, 2, requires_grad=True)
    log_joint = torch.zeros(3, 2, requires_grad=True)
    m_step_loss(log_responsibilities, log_joint, torch.zeros(2)).backward()
    assert log_responsibilities.grad is None
    assert log_joint.grad is not None


@given(st.integers(0, 10_000), st.floats(0, 1), st.floats(0, 1))
def test_shares_sum_to_one_and_keep_the_floor(seed, momentum, floor):
    rng = np.random.default_rng(seed)
    n_clusters = int(rng.integers(2, 8))
    log_weights = torch.from_numpy(np.log(weights_of(n_clusters, seed)))
    log_responsibilities = torch.from_numpy(np.log(rng.dirichlet(np.full(n_clusters, 0.3), size=9) + 1e-300))
    updated = update_shares(log_weights, log_responsibilities, momentum, floor).exp().numpy()
    assert updated.sum() == pytest.approx(1)
    assert (updated >= floor / n_clusters - 1e-12).all()


def test_shares_are_a_moving_average():
    weights, responsibilities = np.array([0.2, 0.8]), np.array([[1.0, 0.0], [0.5, 0.5]]) + 1e-300
    arguments = torch.from_numpy(np.log(weights)), torch.from_numpy(np.log(responsibilities))
    np.testing.assert_allclose(update_shares(*arguments, 0.9, 0.0).exp(), [0.255, 0.745])
    np.testing.assert_allclose(update_shares(*arguments, 1.0, 0.0).exp(), weights)
    np.testing.assert_allclose(update_shares(*arguments, 0.0, 0.0).exp(), [0.75, 0.25])
    np.testing.assert_allclose(update_shares(*arguments, 0.0, 1.0).exp(), [0.5, 0.5])


def hard_log_likelihood(shares: np.ndarray, weights: np.ndarray) -> float:
    """Of hard clusters that both views agree on: f_k = 1 / s_k on the members of k, which are s_k of the rows."""
    return float((shares * np.log(weights / shares**2)).sum())


@given(st.integers(0, 10_000))
def test_neutral_weights_leave_any_shares_where_they_are_and_learned_ones_flatten_them(seed):
    """Shares move along the gradient of the likelihood at fixed weights, within those that sum to one."""
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.full(4, 3.0))
    larger, smaller = shares.argmax(), shares.argmin()
    move = np.zeros(4)
    move[smaller], move[larger] = 1, -1  # from the largest cluster to the smallest

    def slope(mixing: str) -> float:
        weights = mixing_weights(torch.from_numpy(np.log(shares)), mixing).exp().numpy()
        assert weights.sum() == pytest.approx(1)
        step = 1e-4 * shares.min()
        ahead, behind = (hard_log_likelihood(shares + sign * step * move, weights) for sign in (1, -1))
        return (ahead - behind) / (2 * step)

    assert slope("neutral") == pytest.approx(0, abs=1e-4)
    expected = math.log(shares[larger] / shares[smaller])  # d/ds (log pi - 2 log s - 2) at pi = s
    assert slope("learned") == pytest.approx(expected, abs=1e-4)


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
        neural_mixture, "log_density", lambda *args: densities.append(log_density(*args)) or densities[-1]
    )
    monkeypatch.setattr(neural_mixture, "m_step_loss", lambda *args: m_steps.append(args) or m_step_loss(*args))
    monkeypatch.setattr(neural_mixture, "e_step", lambda *args: e_steps.append(args) or e_step(*args))
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


@given(st.integers(0, 10_000))
def test_each_head_is_a_mixture_of_its_own(seed):
    rng = np.random.default_rng(seed)
    scores = torch.from_numpy(rng.normal(size=(7, 3, 4)))
    log_weights = torch.from_numpy(np.log(rng.dirichlet(np.ones(4), size=3)))
    log_f = log_density(scores, "exponential", 1.0)
    log_responsibilities, log_likelihood = e_step(log_f, log_weights)
    loss = m_step_loss(log_responsibilities, log_f, log_weights)
    updated = update_shares(log_weights, log_responsibilities, 0.5, 0.1)
    for head in range(3):
        own = log_density(scores[:, head], "exponential", 1.0)
        alone = e_step(own, log_weights[head])
        np.testing.assert_allclose(log_f[:, head], own)
        np.testing.assert_allclose(log_responsibilities[:, head], alone[0])
        np.testing.assert_allclose(log_likelihood[:, head], alone[1])
        assert float(loss[head]) == pytest.approx(float(m_step_loss(alone[0], own, log_weights[head])))
        np.testing.assert_allclose(updated[head], update_shares(log_weights[head], alone[0], 0.5, 0.1))


def test_the_head_of_greatest_log_likelihood_is_kept(tiny_options, blobs):
    """With views that do not vary, the pair log-likelihood is recomputed in numpy from the scores of all heads."""
    still = {"kind": "noise", "scale": 0.0}
    options = tiny_options("neural_mixture", "vectors", n_clusters=3, heads=4, views=still, epochs=1)
    seen = {}
    original = neural_mixture.NeuralMixture._keep_head

    def keep(self, head):
        with torch.inference_mode():
            seen["scores"] = self.encoder_.eval()(torch.tensor(blobs)).double().numpy().reshape(-1, 4, 3)
        seen["head"] = head
        original(self, head)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neural_mixture.NeuralMixture, "_keep_head", keep)
        estimator = make_method(options).fit(blobs)
    densities = np.exp(seen["scores"]) / np.exp(seen["scores"]).mean(axis=0)
    expected = np.log((densities**2 / 3).sum(axis=2)).mean(axis=0)
    np.testing.assert_allclose(estimator.history_["candidate_scores"], expected, rtol=1e-4)
    assert seen["head"] == expected.argmax()
    assert estimator.history_["final_log_likelihood"] == pytest.approx(expected.max(), rel=1e-4)
    assert estimator.history_["final_log_likelihood_share"] == pytest.approx(expected.max() / math.log(3), rel=1e-4)
    np.testing.assert_array_equal(estimator.predict(blobs), densities[:, seen["head"]].argmax(axis=1))
    np.testing.assert_array_equal(estimator.history_["candidate_assignments"][seen["head"]], estimator.predict(blobs))


def test_an_auxiliary_head_shapes_the_trunk_and_is_never_kept(tiny_options, blobs):
    """The trunk's gradient is that of all heads; the candidates, the partition held and the model know the others."""
    start = {"kind": "kmeans", "hold": 0.5, "n_init": 1}
    options = tiny_options("neural_mixture", "vectors", n_clusters=3, heads=2, auxiliary_clusters=7, start=start)
    held = []
    original = neural_mixture.NeuralMixture._step

    def step(self, views, held_rows, *rest):
        held.append(held_rows)
        moved = original(self, views, held_rows, *rest)
        assert all(parameter.grad.abs().sum() > 0 for parameter in self.encoder_[-1].parameters())
        assert self.encoder_[-1].weight.grad.view(3, 7, -1)[2].abs().sum() > 0  # heads are padded to the widest
        return moved

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neural_mixture.NeuralMixture, "_step", step)
        estimator = make_method(options).fit(blobs)
    assert held[0].shape == (options["batch_size"], 3)
    assert (held[0][:, 2] == -1).all()
    assert (held[0][:, :2] >= 0).all()
    assert estimator.history_["candidate_assignments"].shape == (2, len(blobs))
    assert estimator.history_["candidate_scores"].max() <= math.log(3)
    assert estimator.encoder_[-1].out_features == 3
    assert set(estimator.predict(blobs)) <= {0, 1, 2}


# What a device would see


@pytest.mark.parametrize("mixing", ["uniform", "learned"])
@pytest.mark.parametrize("objective", neural_mixture.OBJECTIVES)
def test_no_step_waits_for_the_device(tiny_options, blobs, monkeypatch, objective, mixing):
    """AdamW on a processor keeps its step count on the host, which is no wait; plain descent has none."""
    waits, steps, original = Waits(), [], neural_mixture.NeuralMixture._step

    def watched(self, views, held, *rest):
        steps.append(held is not None)
        with waits:
            return original(self, views, held, *rest)

    def descent(_, parameters, learning_rate, *__, **___):
        return torch.optim.SGD(parameters, lr=learning_rate, momentum=0.9)

    monkeypatch.setattr(neural_mixture, "make_optimiser", descent)
    monkeypatch.setattr(neural_mixture.NeuralMixture, "_step", watched)
    start = {"kind": "kmeans", "hold": 0.5, "n_init": 1}
    options = {"objective": objective, "mixing": mixing, "heads": 2, "start": start, "epochs": 2, "pair_noise": 0.1}
    make_method(tiny_options("neural_mixture", "vectors", n_clusters=3, **options)).fit(blobs)
    assert set(steps) == {True, False}
    assert waits.found == []


def rate_in_a_tensor(kind, parameters, learning_rate, _, **options):
    """What `make_optimiser` makes for CUDA, as far as a processor can."""
    return kind(parameters, lr=torch.tensor(learning_rate), foreach=False, **options)


def test_a_learning_rate_on_the_device_is_scheduled_and_kept_like_a_number(tiny_options, blobs, monkeypatch, tmp_path):
    options = tiny_options("neural_mixture", "vectors", n_clusters=3, epochs=4)
    expected = make_method(options).fit(blobs)
    monkeypatch.setattr(neural_mixture, "make_optimiser", rate_in_a_tensor)
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


# The density of rows, and the score


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


def test_score_is_the_pair_log_likelihood_and_its_share_of_the_bound(tiny_options, blobs):
    still = {"kind": "noise", "scale": 0.0}
    estimator = make_method(tiny_options("neural_mixture", "vectors", n_clusters=3, views=still)).fit(blobs)
    with torch.inference_mode():
        scores = estimator.encoder_.eval()(torch.tensor(blobs)).double().numpy()
    densities = np.exp(scores) / np.exp(scores).mean(axis=0)
    expected = np.log((densities**2 / 3).sum(axis=1)).mean()
    score = estimator.score(blobs)
    assert score.log_likelihood == pytest.approx(expected, rel=1e-4)
    assert score.share == pytest.approx(expected / math.log(3), rel=1e-4)


# The readings


@given(tables(-5, 5), st.integers(0, 1000))
def test_consistency_is_the_probability_of_the_same_cluster(scores, seed):
    other = np.random.default_rng(seed).normal(size=scores.shape)
    first, second = (np.exp(value) / np.exp(value).sum(axis=1, keepdims=True) for value in (scores, other))
    expected = -np.log([sum(a * b for a, b in zip(*pair, strict=True)) for pair in zip(first, second, strict=True)])
    got = consistency_loss(torch.from_numpy(np.log(first)), torch.from_numpy(np.log(second)))
    assert float(got) == pytest.approx(expected.mean(), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("objective", neural_mixture.OBJECTIVES)
def test_loss_of_each_reading_is_its_equation(tiny_options, objective):
    options = tiny_options("neural_mixture", "vectors", n_clusters=3, objective=objective, consistency_weight=0.3)
    estimator = make_method(options)
    rng = np.random.default_rng(0)
    log_a, log_b = (log_density(torch.from_numpy(rng.normal(size=(6, 1, 3))), "exponential", 1.0) for _ in range(2))
    estimator.log_mixing_weights_ = torch.full((1, 3), -math.log(3), dtype=torch.float64)
    weights = np.full(3, 1 / 3)

    def em(log_joint: torch.Tensor) -> float:
        """Expected complete log-likelihood with the responsibilities of Bayes' rule, negative."""
        joint = log_joint[:, 0].numpy()
        return -(bayes(np.exp(joint), weights)[0] * (joint - math.log(3))).sum(axis=1).mean()

    posteriors = [bayes(np.exp(value[:, 0].numpy()), weights)[0] for value in (log_a, log_b)]
    consistency = -np.log((posteriors[0] * posteriors[1]).sum(axis=1)).mean()
    expected = {
        "pair": em(log_a + log_b),
        "single": em(log_a) + em(log_b),
        "consistency": consistency,
        "single_and_consistency": em(log_a) + em(log_b) + 0.3 * consistency,
    }[objective]
    responsibilities = e_step(log_a + log_b, estimator.log_mixing_weights_)[0]
    assert float(estimator._loss(log_a, log_b, responsibilities)) == pytest.approx(expected)


@given(tables(-5, 5), st.integers(0, 1000))
def test_the_pair_mixture_is_em_on_each_view_plus_consistency(scores, seed):
    """With uniform weights: log p(x, x') = log p(x) + log p(x') + log sum_k gamma_k gamma'_k + log K."""
    other = torch.from_numpy(np.random.default_rng(seed).normal(size=scores.shape))
    first, second = (log_density(view, "exponential", 1.0) for view in (torch.from_numpy(scores), other))
    n_clusters = scores.shape[1]
    uniform = torch.full((n_clusters,), -math.log(n_clusters), dtype=torch.float64)
    pair = e_step(first + second, uniform)[1].mean()
    singles = [e_step(view, uniform) for view in (first, second)]
    consistency = consistency_loss(singles[0][0], singles[1][0])
    expected = singles[0][1].mean() + singles[1][1].mean() - consistency + math.log(n_clusters)
    assert float(pair) == pytest.approx(float(expected), abs=1e-9)


# Temperature


def test_temperature_minimises_the_cross_entropy_with_the_other_view():
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(400, 4))
    first, second = (torch.from_numpy(8 * (shared + rng.normal(size=shared.shape))) for _ in range(2))

    def cross_entropy(temperature: float) -> float:
        total = 0.0
        for one, other in ((first, second), (second, first)):
            probabilities = softmax(one.numpy() / temperature, axis=1)
            total -= np.log(probabilities[np.arange(400), other.numpy().argmax(axis=1)]).mean()
        return total

    grid = np.exp(np.linspace(math.log(0.1), math.log(100), 2000))
    expected = grid[np.argmin([cross_entropy(value) for value in grid])]
    assert choose_temperature(first, second) == pytest.approx(expected, rel=0.01)


def test_calibration_softens_the_responsibilities_and_keeps_the_clusters(tiny_options, blobs):
    options = tiny_options("neural_mixture", "vectors", n_clusters=3, views={"kind": "noise", "scale": 6.0})
    plain = make_method(options).fit(blobs)
    calibrated = make_method(options | {"calibration": "agreement"}).fit(blobs)
    np.testing.assert_array_equal(calibrated.predict(blobs), plain.predict(blobs))
    temperature = float(calibrated.get_arrays()["temperature"])
    assert temperature != 1
    powered = plain.predict_proba(blobs).astype(np.float64) ** (1 / temperature)
    expected = powered / powered.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(calibrated.predict_proba(blobs), expected, atol=1e-4)


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


def test_probable_numbers_are_sure_of_a_clear_winner_and_divided_between_equals():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(500, 1, generator=generator)
    sizes = torch.tensor([2, 4])
    clear = probable_numbers(torch.tensor([0.5, 0.5]) + 0.01 * noise, sizes, generator)
    np.testing.assert_allclose(clear, [1, 0], atol=1e-6)  # .5 is a larger share of ln 2 than of ln 4
    independent = torch.randn(500, 2, generator=generator) * sizes.log()
    equal = probable_numbers(independent - independent.mean(dim=0), sizes, generator)
    assert 0.3 < float(equal[0]) < 0.7
    assert float(equal.sum()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_clusters": {"min": 2}}, "expected a number or min and max"),
        ({"n_clusters": {"min": 5, "max": 5}}, "n_clusters.max must be at least 6, got 5"),
        ({"n_clusters": {"min": 2, "max": 4}, "mixing": "learned"}, "a range needs heads = 1"),
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

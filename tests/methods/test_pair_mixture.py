"""The equations of the neural mixture: each against its definition, and the bound of the log-likelihood."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import norm

from deep_clustering.methods.pair_bound import bound
from deep_clustering.methods.pair_mixture import (
    consistency_loss,
    e_step,
    log_mean_exp,
    log_relative_density,
    m_step_loss,
    mixing_weights,
    sigmoid_relevance,
    update_noise,
    update_shares,
)

DENSITIES = ("exponential", "sigmoid")


def tables(low: float = -20, high: float = 20) -> st.SearchStrategy[np.ndarray]:
    """Scores (n, K) with 1 to 12 rows and 2 to 5 clusters."""
    shapes = st.tuples(st.integers(1, 12), st.integers(2, 5))
    return shapes.flatmap(lambda shape: arrays(np.float64, shape, elements=st.floats(low, high)))


def double(values: float | list[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


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
    density_values = log_relative_density(torch.from_numpy(scores), density, scale).exp().numpy()
    np.testing.assert_allclose(density_values.mean(axis=0), 1, rtol=1e-9)


@given(tables(-5, 5), st.floats(-100, 100))
def test_exponential_density_equals_its_definition_and_ignores_a_shift(scores, shift):
    expected = np.exp(scores) / np.exp(scores).mean(axis=0)
    np.testing.assert_allclose(
        log_relative_density(torch.from_numpy(scores), "exponential", 1).exp(), expected, rtol=1e-8
    )
    moved = log_relative_density(torch.from_numpy(scores + shift), "exponential", 1).exp()
    np.testing.assert_allclose(moved, expected, rtol=1e-8)


def test_sigmoid_density_equals_its_definition():
    scores, scale = np.random.default_rng(0).normal(2, 3, size=(9, 4)), 3.0
    standardised = (scores - scores.mean(axis=0)) / scores.std(axis=0)
    sigmoid = 1 / (1 + np.exp(-scale * standardised))
    expected = sigmoid / sigmoid.mean(axis=0)
    np.testing.assert_allclose(
        log_relative_density(torch.from_numpy(scores), "sigmoid", scale).exp(), expected, rtol=1e-9
    )


def test_sigmoid_density_ignores_shift_and_positive_factor_of_the_scores():
    scores = torch.from_numpy(np.random.default_rng(1).normal(size=(20, 3)))
    factor, shift = torch.tensor([0.5, 3.0, 10.0]), torch.tensor([-4.0, 0.0, 9.0])
    np.testing.assert_allclose(
        log_relative_density(scores * factor + shift, "sigmoid", 5.0),
        log_relative_density(scores, "sigmoid", 5.0),
        atol=1e-9,
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
    densities = [
        log_relative_density(torch.from_numpy(ratio[view] + offsets), "exponential", 1.0) for view in (first, second)
    ]
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
    log_joint = log_relative_density(views[0], density, 8.0) + log_relative_density(views[1], density, 8.0)
    uniform = torch.full((n_clusters,), -math.log(n_clusters), dtype=torch.float64)
    assert float(e_step(log_joint, uniform)[1].mean()) <= math.log(n_clusters) + 1e-9


@pytest.mark.parametrize("sizes", [(4, 4, 4), (6, 4, 2), (1, 1, 10), (3, 3)])
def test_hard_identical_views_reach_twice_the_entropy_less_log_k(sizes):
    """For hard clusters f_k = n / n_k on the members of k, so the mean of log p is 2 H - log K; log K if balanced."""
    n_clusters, n_samples = len(sizes), sum(sizes)
    scores = torch.from_numpy(80.0 * np.eye(n_clusters)[np.repeat(np.arange(n_clusters), sizes)])
    log_joint = 2 * log_relative_density(scores, "exponential", 1.0)
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
    arguments = torch.from_numpy(log_joint), torch.from_numpy(np.log(weights)), double(noise)
    log_responsibilities, log_likelihood = e_step(*arguments)
    np.testing.assert_allclose(log_responsibilities.exp(), posterior[:, :-1], rtol=1e-7)
    assert float(log_likelihood.mean()) == pytest.approx(expected, rel=1e-7, abs=1e-9)


@given(tables(-8, 8), st.integers(0, 1000), st.floats(0.01, 0.95), st.floats(0.01, 0.95))
def test_each_head_has_a_noise_of_its_own(log_joint, seed, first, second):
    n_clusters = log_joint.shape[1]
    weights = np.stack([weights_of(n_clusters, seed), weights_of(n_clusters, seed + 1)])
    of_heads = np.stack([log_joint, -log_joint], axis=1)
    found = e_step(torch.from_numpy(of_heads), torch.from_numpy(np.log(weights)), double([first, second]))
    for head, noise in enumerate((first, second)):
        with_noise = np.concatenate([np.exp(of_heads[:, head]), np.ones((len(log_joint), 1))], axis=1)
        posterior, expected = bayes(with_noise, np.append((1 - noise) * weights[head], noise))
        np.testing.assert_allclose(found[0][:, head].exp(), posterior[:, :-1], rtol=1e-7)
        assert float(found[1][:, head].mean()) == pytest.approx(expected, rel=1e-7, abs=1e-9)


@given(tables(-8, 8), st.integers(0, 1000))
def test_no_noise_is_a_noise_of_zero(log_joint, seed):
    arguments = torch.from_numpy(log_joint), torch.from_numpy(np.log(weights_of(log_joint.shape[1], seed)))
    for found, expected in zip(e_step(*arguments, double(0.0)), e_step(*arguments), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-12)


def unexplained(seed: int, n_samples: int, n_heads: int) -> tuple[torch.Tensor, np.ndarray]:
    """Log responsibilities (n, heads, 3), and what each row's leave to none of the clusters, (n, heads)."""
    rng = np.random.default_rng(seed)
    left = rng.uniform(0.01, 0.98, size=(n_samples, n_heads))
    responsibilities = (1 - left)[..., None] * rng.dirichlet(np.ones(3), size=left.shape)
    return torch.from_numpy(np.log(responsibilities)), left


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_noise_becomes_the_mean_of_what_no_cluster_is_responsible_for(seed, momentum):
    log_responsibilities, left = unexplained(seed, 7, 2)
    updated = update_noise(double([0.3, 0.6]), log_responsibilities, momentum)
    expected = momentum * np.array([0.3, 0.6]) + (1 - momentum) * left.mean(axis=0)
    np.testing.assert_allclose(updated, expected, rtol=1e-9)


@given(st.integers(0, 10_000), st.floats(0, 1), st.floats(0, 1), st.sampled_from([-60.0, -1.0, 0.0]))
def test_noise_stays_where_it_can_rise_and_something_can_be_learned(seed, noise, momentum, shift):
    log_responsibilities = unexplained(seed, 5, 1)[0] + shift
    assert 1e-4 <= float(update_noise(double([noise]), log_responsibilities, momentum)) <= 0.99


def test_noise_ends_at_its_bounds_where_all_or_nothing_is_explained():
    all_explained, nothing = torch.full((4, 1, 2), math.log(0.5)), torch.full((4, 1, 2), -1e30)
    assert float(update_noise(torch.tensor([0.5]), all_explained, 0.0)) == pytest.approx(1e-4)
    assert float(update_noise(torch.tensor([0.5]), nothing, 0.0)) == pytest.approx(0.99)


def test_em_finds_the_noise_of_sampled_pairs_of_a_known_mixture():
    """Two heads see pairs of their own, with noise of .05 and .4; the error is that of the maximum likelihood."""
    rng, n_samples, noises = np.random.default_rng(0), 20_000, np.array([0.05, 0.4])
    components, weights = np.array([[12, 2, 1, 1], [1, 1, 2, 12]]) / 16, np.array([0.7, 0.3])  # p(x | k), pi
    marginal = weights @ components
    log_f = np.log(components / marginal).T  # (values, K)
    log_joint = []
    for noise in noises:
        cluster = rng.choice(2, size=n_samples, p=weights)
        first, second = (
            (rng.random(n_samples)[:, None] > components[cluster].cumsum(axis=1)).sum(axis=1) for _ in "ab"
        )
        stranger = rng.choice(4, size=n_samples, p=marginal)  # of the second view, where the pair has nothing in common
        log_joint.append(log_f[first] + log_f[np.where(rng.random(n_samples) < noise, stranger, second)])
    of_heads, log_pi = torch.from_numpy(np.stack(log_joint, axis=1)), torch.from_numpy(np.log(np.stack([weights] * 2)))
    ratio = (np.exp(of_heads.numpy()) * weights).sum(axis=2)  # sum_k pi_k f_k(x) f_k(x')
    information = (((1 - ratio) / ((1 - noises) * ratio + noises)) ** 2).mean(axis=0)
    for begin in (1e-4, 0.9):
        found = double([begin, begin])
        for _ in range(1000):
            found = update_noise(found, e_step(of_heads, log_pi, found)[0], 0.5)
        assert (np.abs(found.numpy() - noises) < 4 / np.sqrt(n_samples * information)).all()


@pytest.mark.parametrize("noise", [0.1, 0.5])
def test_fishers_identity_holds_with_noise(noise):
    rng = np.random.default_rng(1)
    scores = [torch.tensor(rng.normal(size=(7, 3)), requires_grad=True) for _ in range(2)]
    weights = torch.from_numpy(weights_of(3, 1))
    joint = log_relative_density(scores[0], "exponential", 1.0) + log_relative_density(scores[1], "exponential", 1.0)
    likelihood = ((1 - noise) * (weights * joint.exp()).sum(dim=1) + noise).log().mean()
    expected = torch.autograd.grad(-likelihood, scores, retain_graph=True)
    loss = m_step_loss(e_step(joint.detach(), weights.log(), double(noise))[0], joint, weights.log())
    for got, wanted in zip(torch.autograd.grad(loss, scores), expected, strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-12)


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("n_clusters", [2, 3, 7])
def test_the_bound_is_reached_by_hard_balanced_clusters_that_both_views_agree_on(n_clusters, noise):
    scores = torch.from_numpy(80.0 * np.eye(n_clusters)[np.arange(4 * n_clusters) % n_clusters])
    log_joint = 2 * log_relative_density(scores, "exponential", 1.0)
    uniform = torch.full((n_clusters,), -math.log(n_clusters), dtype=torch.float64)
    assert float(e_step(log_joint, uniform, double(noise))[1].mean()) == pytest.approx(
        bound(n_clusters, noise), abs=1e-9
    )


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("n_clusters", [2, 3, 10, 100])
def test_hard_clusters_of_other_shares_do_not_exceed_the_bound(n_clusters, noise):
    """Shares s have mean log p = sum_k s_k log((1 - e) / (K s_k^2) + e), which is concave in small shares and convex
    in large ones: nothing exceeds one large cluster beside others of equal shares."""
    large = np.linspace(1e-3, 0.999, 2000)
    shares = np.stack([large, *[(1 - large) / (n_clusters - 1)] * (n_clusters - 1)])
    log_likelihoods = (shares * np.log((1 - noise) / (n_clusters * shares**2) + noise)).sum(axis=0)
    assert log_likelihoods.max() <= bound(n_clusters, noise) + 1e-9


@given(st.integers(0, 10_000), st.floats(0, 0.5), st.booleans(), st.floats(0, 60))
def test_no_random_partition_exceeds_the_bound(seed, noise, is_shared, sharpness):
    """Partitions of any shares, hard or soft, that both views share or not."""
    rng = np.random.default_rng(seed)
    n_clusters, n_samples = int(rng.integers(2, 7)), int(rng.integers(2, 30))
    first = rng.choice(n_clusters, size=n_samples, p=rng.dirichlet(np.ones(n_clusters)))
    second = first if is_shared else rng.integers(n_clusters, size=n_samples)
    log_joint = sum(
        log_relative_density(torch.from_numpy(sharpness * np.eye(n_clusters)[view]), "exponential", 1.0)
        for view in (first, second)
    )
    uniform = torch.full((n_clusters,), -math.log(n_clusters), dtype=torch.float64)
    assert float(e_step(log_joint, uniform, double(noise))[1].mean()) <= bound(n_clusters, noise) + 1e-9


# M-step, equation (5)


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("seed", range(5))
def test_fishers_identity(density, seed):
    """The gradient of the M-step's loss is that of minus the log-likelihood."""
    rng = np.random.default_rng(seed)
    scores = [torch.tensor(rng.normal(size=(7, 3)), requires_grad=True) for _ in range(2)]
    weights = torch.from_numpy(weights_of(3, seed))
    joint = log_relative_density(scores[0], density, 2.0) + log_relative_density(scores[1], density, 2.0)
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


@given(st.integers(0, 10_000), st.floats(0.01, 0.9))
def test_the_floor_makes_shares_the_mode_under_a_dirichlet_prior(seed, floor):
    """The log posterior is sum_k (n_k + c) log s_k: over shares that sum to one greatest where (n_k + c) / s_k is the
    same for all, and of any other shares it is less."""
    rng = np.random.default_rng(seed)
    n_clusters, n_samples = int(rng.integers(2, 7)), int(rng.integers(1, 30))
    responsibilities = rng.dirichlet(np.ones(n_clusters), size=n_samples)
    uniform = torch.full((n_clusters,), -math.log(n_clusters), dtype=torch.float64)
    shares = update_shares(uniform, torch.from_numpy(np.log(responsibilities)), 0.0, floor).exp().numpy()
    counts = responsibilities.sum(axis=0) + n_samples * floor / ((1 - floor) * n_clusters)
    np.testing.assert_allclose(counts / shares, np.full(n_clusters, counts.sum()), rtol=1e-7)
    for other in rng.dirichlet(np.ones(n_clusters), size=20):
        assert (counts * np.log(np.maximum(other, 1e-300))).sum() <= (counts * np.log(shares)).sum() + 1e-9


@given(st.integers(0, 10_000), st.floats(0, 0.95), st.floats(0.01, 0.9))
def test_shares_settle_at_the_floor_that_momentum_makes_of_it(seed, momentum, floor):
    """Solved for s in s = (1 - a) (m s + (1 - m) g) + a / K."""
    rng = np.random.default_rng(seed)
    mean = rng.dirichlet(np.ones(4))
    log_shares, of_batch = torch.full((4,), -math.log(4), dtype=torch.float64), torch.from_numpy(np.log(mean))[None]
    for _ in range(1500):
        log_shares = update_shares(log_shares, of_batch, momentum, floor)
    settled = floor / (1 - (1 - floor) * momentum)
    np.testing.assert_allclose(log_shares.exp(), (1 - settled) * mean + settled / 4, rtol=1e-6)


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


# Heads


@given(st.integers(0, 10_000))
def test_each_head_is_a_mixture_of_its_own(seed):
    rng = np.random.default_rng(seed)
    scores = torch.from_numpy(rng.normal(size=(7, 3, 4)))
    log_weights = torch.from_numpy(np.log(rng.dirichlet(np.ones(4), size=3)))
    log_f = log_relative_density(scores, "exponential", 1.0)
    log_responsibilities, log_likelihood = e_step(log_f, log_weights)
    loss = m_step_loss(log_responsibilities, log_f, log_weights)
    updated = update_shares(log_weights, log_responsibilities, 0.5, 0.1)
    for head in range(3):
        own = log_relative_density(scores[:, head], "exponential", 1.0)
        alone = e_step(own, log_weights[head])
        np.testing.assert_allclose(log_f[:, head], own)
        np.testing.assert_allclose(log_responsibilities[:, head], alone[0])
        np.testing.assert_allclose(log_likelihood[:, head], alone[1])
        assert float(loss[head]) == pytest.approx(float(m_step_loss(alone[0], own, log_weights[head])))
        np.testing.assert_allclose(updated[head], update_shares(log_weights[head], alone[0], 0.5, 0.1))


# Consistency, equation (8)


@given(tables(-5, 5), st.integers(0, 1000))
def test_consistency_is_the_probability_of_the_same_cluster(scores, seed):
    other = np.random.default_rng(seed).normal(size=scores.shape)
    first, second = (np.exp(value) / np.exp(value).sum(axis=1, keepdims=True) for value in (scores, other))
    expected = -np.log([sum(a * b for a, b in zip(*pair, strict=True)) for pair in zip(first, second, strict=True)])
    got = consistency_loss(torch.from_numpy(np.log(first)), torch.from_numpy(np.log(second)))
    assert float(got) == pytest.approx(expected.mean(), rel=1e-9, abs=1e-9)


@given(tables(-5, 5), st.integers(0, 1000))
def test_the_pair_mixture_is_em_on_each_view_plus_consistency(scores, seed):
    """With uniform weights: log p(x, x') = log p(x) + log p(x') + log sum_k gamma_k gamma'_k + log K."""
    other = torch.from_numpy(np.random.default_rng(seed).normal(size=scores.shape))
    first, second = (log_relative_density(view, "exponential", 1.0) for view in (torch.from_numpy(scores), other))
    n_clusters = scores.shape[1]
    uniform = torch.full((n_clusters,), -math.log(n_clusters), dtype=torch.float64)
    pair = e_step(first + second, uniform)[1].mean()
    singles = [e_step(view, uniform) for view in (first, second)]
    consistency = consistency_loss(singles[0][0], singles[1][0])
    expected = singles[0][1].mean() + singles[1][1].mean() - consistency + math.log(n_clusters)
    assert float(pair) == pytest.approx(float(expected), abs=1e-9)

"""DCAN: each function against its definition or scikit-learn, and what each part of a training step may move."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist, jensenshannon
from sklearn.cluster import KMeans

from deep_clustering.methods import dcan, make_method
from deep_clustering.methods.dcan import (
    discriminator_loss,
    encoder_loss,
    js_divergence,
    kmeans_step,
    nearest_centroid,
    whiten,
    whitening,
)
from deep_clustering.metrics import accuracy, contingency


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


# Whitening, deviation D11


@given(codes(), st.floats(1e-6, 0.5))
def test_whitened_codes_have_mean_zero_and_regularised_identity_covariance(raw, epsilon):
    """Along each principal direction of variance v the whitened variance is v / (v + ridge)."""
    mean, factor = whitening(raw, epsilon)
    latent = whiten(raw, mean, factor)
    np.testing.assert_allclose(latent.mean(dim=0), 0, atol=1e-8)
    variances = np.linalg.eigvalsh(covariance_of(raw))
    ridge = epsilon * np.trace(covariance_of(raw)) / raw.shape[1]
    expected = variances / (variances + ridge)
    np.testing.assert_allclose(np.linalg.eigvalsh(covariance_of(latent)), np.sort(expected), rtol=1e-5, atol=1e-8)


@given(codes())
def test_without_ridge_the_covariance_is_the_identity(raw):
    latent = whiten(raw, *whitening(raw, 0.0))
    np.testing.assert_allclose(covariance_of(latent), np.eye(raw.shape[1]), atol=1e-6)


@given(codes(), st.integers(0, 1000))
def test_factor_is_the_lower_triangular_root_of_the_covariance(raw, seed):
    mean, factor = whitening(raw, 0.0)
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
    before, after = (whiten(rows, *whitening(rows, 0.0)) for rows in (raw, moved))
    np.testing.assert_allclose(after @ after.T, before @ before.T, atol=1e-5)


@given(codes(), st.integers(0, 1000), st.floats(1e-3, 1e3), st.floats(1e-4, 0.5))
def test_with_a_ridge_they_ignore_rotation_scale_and_place(raw, seed, scale, epsilon):
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(raw.shape[1], raw.shape[1])))
    moved = scale * (raw @ torch.from_numpy(rotation)) + scale * float(raw.std())
    before, after = (whiten(rows, *whitening(rows, epsilon)) for rows in (raw, moved))
    np.testing.assert_allclose(after @ after.T, before @ before.T, atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 3), (5, 6), (4, 10)])
def test_a_ridge_whitens_fewer_codes_than_dimensions(shape):
    raw = torch.randn(shape, generator=generator())
    latent = whiten(raw, *whitening(raw, 1e-3))
    assert torch.isfinite(latent).all()
    assert np.linalg.eigvalsh(covariance_of(latent)).max() <= 1 + 1e-3


@pytest.mark.parametrize("shape", [(3, 3), (5, 6)])
def test_a_covariance_that_cannot_be_factored_shows_as_not_finite(shape):
    raw = torch.randn(shape, generator=generator())
    _, factor = whitening(raw, 0.0)
    assert not torch.isfinite(factor).all() or (factor.diagonal() > 0).all()


def test_equal_codes_become_zero_instead_of_nan():
    raw = torch.full((10, 3), 2.5)
    np.testing.assert_array_equal(whiten(raw, *whitening(raw, 1e-3)), 0)


def test_gradient_passes_through_the_whitening():
    raw = torch.randn(12, 3, generator=generator(), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda rows: whiten(rows, *whitening(rows, 1e-2)), raw)


# The clustering step, deviation D5


@given(st.integers(0, 10_000))
def test_nearest_centroid_is_the_brute_force_nearest(seed):
    rng = np.random.default_rng(seed)
    latent, centroids = rng.normal(size=(40, 3)), rng.normal(size=(int(rng.integers(1, 7)), 3))
    nearest = nearest_centroid(torch.from_numpy(latent), torch.from_numpy(centroids))
    np.testing.assert_array_equal(nearest, cdist(latent, centroids).argmin(axis=1))
    assert nearest.dtype == torch.int64


@given(st.integers(0, 10_000), st.integers(2, 6))
def test_kmeans_step_is_one_step_of_scikit_learn(seed, n_clusters):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(80, 3))
    start = points[rng.choice(80, n_clusters, replace=False)]  # points themselves: no cluster is empty
    expected = KMeans(n_clusters, init=start, n_init=1, max_iter=1, tol=0).fit(points).cluster_centers_
    got = kmeans_step(torch.from_numpy(points), torch.from_numpy(start), generator())
    np.testing.assert_allclose(got, expected, atol=1e-9)


@given(st.integers(0, 10_000))
def test_kmeans_step_never_raises_the_inertia(seed):
    rng = np.random.default_rng(seed)
    points = torch.from_numpy(rng.normal(size=(50, 2)))
    centroids = points[:4].clone()
    inertia = []
    for _ in range(6):
        inertia.append((cdist(points, centroids).min(axis=1) ** 2).sum())
        centroids = kmeans_step(points, centroids, generator(seed))
    assert (np.diff(inertia) <= 1e-9).all()


def test_empty_clusters_move_to_points_and_the_others_to_their_means():
    points = torch.from_numpy(np.random.default_rng(0).normal(size=(30, 2)))
    centroids = torch.tensor([[0.0, 0.0], [1e6, 0.0], [0.0, -1e6]], dtype=torch.float64)
    got = kmeans_step(points, centroids, generator())
    np.testing.assert_allclose(got[0], points.mean(dim=0))
    for place in got[1:]:
        assert (points == place).all(dim=1).any()
    np.testing.assert_array_equal(got, kmeans_step(points, centroids, generator()))
    places = torch.stack([kmeans_step(points, centroids, generator(seed))[1] for seed in range(20)])
    assert len(torch.unique(places, dim=0)) > 1


# Losses, equations (1) and (11)


def cross_entropy(logit: float, target: float) -> float:
    probability = 1 / (1 + math.exp(-logit))
    return -target * math.log(probability) - (1 - target) * math.log(1 - probability)


@given(st.integers(0, 10_000), st.integers(1, 5))
def test_losses_equal_their_definition(seed, n_outputs):
    rng = np.random.default_rng(seed)
    positive, negative = rng.normal(0, 3, size=(2, 6, n_outputs))
    targets = np.eye(n_outputs)[rng.integers(n_outputs, size=6)]
    expected_encoder = sum(map(cross_entropy, negative.ravel(), targets.ravel())) / 6
    expected = sum(map(cross_entropy, positive.ravel(), targets.ravel())) / 6
    expected += sum(cross_entropy(logit, 0.0) for logit in negative.ravel()) / 6
    tensors = [torch.from_numpy(array) for array in (positive, negative, targets)]
    assert float(discriminator_loss(*tensors)) == pytest.approx(expected, rel=1e-9)
    assert float(encoder_loss(tensors[1], tensors[2])) == pytest.approx(expected_encoder, rel=1e-9)


def test_undecided_discriminator_costs_ln_2_per_output():
    logits, targets = torch.zeros(7, 4), torch.eye(4)[torch.arange(7) % 4]
    assert float(discriminator_loss(logits, logits, targets)) == pytest.approx(8 * math.log(2))
    assert float(encoder_loss(logits, targets)) == pytest.approx(4 * math.log(2))
    assert float(js_divergence(logits[:, 0], logits[:, 0])) == pytest.approx(0, abs=1e-7)


@given(st.integers(0, 10_000), st.floats(0.01, 1000))
def test_js_divergence_is_at_most_ln_2(seed, spread):
    logits = torch.from_numpy(np.random.default_rng(seed).normal(0, spread, size=(2, 20)))
    assert float(js_divergence(*logits)) <= math.log(2)


def test_js_divergence_of_a_perfect_discriminator_is_ln_2():
    assert float(js_divergence(torch.full((5,), 100.0), torch.full((3,), -100.0))) == pytest.approx(math.log(2))


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


# Who moves in a step


def parameters_of(module: torch.nn.Module) -> torch.Tensor:
    return torch.nn.utils.parameters_to_vector(module.parameters()).detach()


def trained(tiny_options, blobs, encoder_rate: float, discriminator_rate: float):
    options = tiny_options(
        "dcan",
        "vectors",
        n_clusters=3,
        epochs=1,
        encoder_learning_rate=encoder_rate,
        discriminator_learning_rate=discriminator_rate,
    )
    return make_method(options).fit(blobs)


def test_each_update_moves_only_its_own_network(tiny_options, blobs):
    """With a learning rate of zero a network must stay where it was initialised."""
    start = trained(tiny_options, blobs, 0.0, 0.0)
    only_encoder = trained(tiny_options, blobs, 0.01, 0.0)
    only_discriminator = trained(tiny_options, blobs, 0.0, 0.01)
    assert not torch.equal(parameters_of(only_encoder.encoder_), parameters_of(start.encoder_))
    assert torch.equal(parameters_of(only_encoder.discriminator_), parameters_of(start.discriminator_))
    assert torch.equal(parameters_of(only_discriminator.encoder_), parameters_of(start.encoder_))
    assert not torch.equal(parameters_of(only_discriminator.discriminator_), parameters_of(start.discriminator_))


def test_every_parameter_of_both_networks_is_trained(tiny_options, blobs):
    start, end = trained(tiny_options, blobs, 0.0, 0.0), trained(tiny_options, blobs, 0.01, 0.01)
    for network in ("encoder_", "discriminator_"):
        pairs = zip(getattr(start, network).named_parameters(), getattr(end, network).named_parameters(), strict=True)
        for (name, before), (_, after) in pairs:
            # Whitening takes out the mean of the codes, and with it the last layer's bias.
            assert not torch.equal(before, after) or name.endswith("bias"), (network, name)
        assert all(parameter.requires_grad for parameter in getattr(end, network).parameters())


def test_the_discriminators_loss_has_no_gradient_in_the_encoder(tiny_options, blobs, monkeypatch):
    seen = []
    original = dcan.discriminator_loss

    def spy(positive, negative, targets):
        loss = original(positive, negative, targets)
        estimator_parameters = list(estimator.encoder_.parameters())
        gradients = torch.autograd.grad(loss, estimator_parameters, retain_graph=True, allow_unused=True)
        seen.append(all(gradient is None for gradient in gradients))
        return loss

    monkeypatch.setattr(dcan, "discriminator_loss", spy)
    estimator = make_method(tiny_options("dcan", "vectors", n_clusters=3, epochs=1))
    estimator.fit(blobs)
    assert seen == [True] * (len(blobs) // 64)


# Switches


@pytest.mark.parametrize("whitening_on", [True, False])
@pytest.mark.parametrize("cross_view", [True, False])
@pytest.mark.parametrize("conditional", [True, False])
@pytest.mark.parametrize("noise", [0.5, 0.0])
def test_every_combination_of_switches_runs(tiny_options, blobs, whitening_on, cross_view, conditional, noise):
    switches = {"whitening": whitening_on, "cross_view": cross_view, "conditional": conditional, "noise": noise}
    estimator = make_method(tiny_options("dcan", "vectors", n_clusters=3, **switches)).fit(blobs)
    assert estimator.predict(blobs).shape == (len(blobs),)
    n_outputs = parameters_of(estimator.discriminator_[-1]).numel() // (16 + 1)
    assert n_outputs == (3 if conditional else 1)
    history = estimator.history_
    assert (history["js_divergence"] <= math.log(2) + 1e-6).all()
    for name in ("agreement", "discriminator_accuracy_positive", "discriminator_accuracy_negative"):
        assert ((history[name] >= 0) & (history[name] <= 1)).all()
    assert (history["within_share"] >= 0).all()


@pytest.mark.parametrize("conditional", [True, False])
@pytest.mark.parametrize("cross_view", [True, False])
def test_targets_come_from_the_other_view_only_when_asked(tiny_options, blobs, monkeypatch, cross_view, conditional):
    own, targets = [], []
    nearest, loss = dcan.nearest_centroid, dcan.discriminator_loss

    def spy_nearest(latent, centroids):
        own.append(nearest(latent, centroids))
        return own[-1]

    def spy_loss(positive, negative, wanted):
        targets.append((own[-1], wanted))
        return loss(positive, negative, wanted)

    monkeypatch.setattr(dcan, "nearest_centroid", spy_nearest)
    monkeypatch.setattr(dcan, "discriminator_loss", spy_loss)
    switches = {"cross_view": cross_view, "conditional": conditional}
    far_apart = {"kind": "noise", "scale": 3.0}  # so that the two views of a row often fall into different clusters
    options = tiny_options("dcan", "vectors", n_clusters=3, views=far_apart, **switches)
    make_method(options).fit(blobs)
    assert len(targets) == 2 * (len(blobs) // 64)
    for assignments, wanted in targets:
        assert len(assignments) == 2 * 64
        if conditional:
            order = np.r_[64:128, 0:64] if cross_view else np.arange(128)
            np.testing.assert_array_equal(wanted, np.eye(3)[assignments.numpy()[order]])
        else:
            np.testing.assert_array_equal(wanted, np.ones((128, 1)))
    assert all((assignments[:64] != assignments[64:]).any() for assignments, _ in targets)


def test_without_noise_the_positives_are_the_centres_themselves(tiny_options, blobs, monkeypatch):
    seen = []
    original = dcan.discriminator_loss
    monkeypatch.setattr(dcan, "discriminator_loss", lambda *logits: seen.append(logits[0]) or original(*logits))
    make_method(tiny_options("dcan", "vectors", n_clusters=3, noise=0.0)).fit(blobs)
    assert all(len(np.unique(logits.detach().numpy().round(4), axis=0)) <= 3 for logits in seen)
    seen.clear()
    make_method(tiny_options("dcan", "vectors", n_clusters=3, noise=0.5)).fit(blobs)
    assert all(len(np.unique(logits.detach().numpy().round(4), axis=0)) > 64 for logits in seen)


# The fitted estimator


def test_training_rows_are_white_after_training(tiny_options, digits):
    """Deviation D14: the final whitening is that of all rows without random views."""
    options = tiny_options("dcan", latent_dim=4, whitening_epsilon=1e-4)
    latent = make_method(options).fit(digits).transform(digits)
    assert latent.shape == (len(digits), 4)
    np.testing.assert_allclose(latent.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(np.cov(latent, rowvar=False, bias=True), np.eye(4), atol=0.02)


def test_without_whitening_the_latent_is_the_networks_output(tiny_options, blobs):
    estimator = make_method(tiny_options("dcan", "vectors", n_clusters=3, whitening=False)).fit(blobs)
    with torch.inference_mode():
        np.testing.assert_allclose(estimator.transform(blobs), estimator.encoder_(torch.tensor(blobs)), atol=1e-5)


def test_prediction_is_the_nearest_centre_and_its_gaussian_responsibility(tiny_options, blobs):
    estimator = make_method(tiny_options("dcan", "vectors", n_clusters=3)).fit(blobs)
    learned = estimator.get_arrays()
    squares = cdist(estimator.transform(blobs), learned["centroids"]) ** 2
    np.testing.assert_array_equal(estimator.predict(blobs), squares.argmin(axis=1))
    # The variance of the Gaussians is that of the training rows around their centres, per dimension.
    variance = squares.min(axis=1).mean() / learned["centroids"].shape[1]
    weights = np.exp(-(squares - squares.min(axis=1, keepdims=True)) / (2 * variance))
    np.testing.assert_allclose(estimator.predict_proba(blobs), weights / weights.sum(axis=1, keepdims=True), atol=1e-4)


def test_separated_groups_are_found(tiny_options, blobs, blob_labels):
    rates = {"encoder_learning_rate": 5e-3, "discriminator_learning_rate": 5e-3}
    options = tiny_options("dcan", "vectors", n_clusters=3, latent_dim=3, epochs=100, record_every=100, **rates)
    estimator = make_method(options).fit(blobs)
    assert accuracy(contingency(estimator.predict(blobs), blob_labels, 3, 3)) == 1


@pytest.mark.parametrize("queue_size", [1, 599])
def test_a_queue_below_the_papers_bound_is_refused(tiny_options, queue_size):
    message = f"queue_size must be at least 600 .the paper's bound for a clustering step.*got {queue_size}"
    with pytest.raises(ValueError, match=message):
        make_method(tiny_options("dcan", queue_size=queue_size))


def test_a_queue_longer_than_the_data_takes_what_there_is(tiny_options, blobs):
    options = tiny_options("dcan", "vectors", n_clusters=3, queue_size=100_000)
    assert make_method(options).fit(blobs).predict(blobs).shape == (len(blobs),)


def test_snapshots_do_not_disturb_training(tiny_options, blobs):
    often, seldom = (
        make_method(tiny_options("dcan", "vectors", n_clusters=3, epochs=4, record_every=every)).fit(blobs)
        for every in (1, 4)
    )
    np.testing.assert_array_equal(often.history_["loss_encoder"], seldom.history_["loss_encoder"])
    np.testing.assert_array_equal(often.predict(blobs), seldom.predict(blobs))
    np.testing.assert_array_equal(seldom.history_["snapshot_epoch"], [0, 4])

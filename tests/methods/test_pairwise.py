"""CC, LSD-C and DAC, which learn from two views, against their papers' equations, written once more by pairs."""

import numpy as np
import pytest
import torch

from deep_clustering.methods import make_method
from deep_clustering.methods.cc import column_contrast
from deep_clustering.methods.dac import chosen_pair_loss, label_features, thresholds
from deep_clustering.methods.lsdc import consistency, near_pairs, pair_loss
from deep_clustering.scores.metrics import accuracy, contingency
from deep_clustering.training.fitting import make_data

N, K, D = 9, 3, 4


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


# CC


def test_columns_are_contrasted_as_in_the_paper(rng):
    p, other = rng.dirichlet(np.ones(K), size=N), rng.dirichlet(np.ones(K), size=N)
    columns = [*p.T, *other.T]
    expected = 0.0
    for k, column in enumerate(columns):
        terms = [np.exp(cosine(column, one) / 0.7) for place, one in enumerate(columns) if place != k]
        expected -= np.log(np.exp(cosine(column, columns[(k + K) % (2 * K)]) / 0.7) / sum(terms)) / (2 * K)
    found = column_contrast(torch.from_numpy(np.concatenate([p, other])), 0.7)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


# LSD-C


@pytest.mark.parametrize("m", [1, 3, 20])
def test_near_pairs_are_neighbours_of_one_another_or_of_one_of_both(rng, m):
    latent = rng.normal(size=(N, D))
    expected = np.eye(N)
    for i in range(N):
        others = sorted(set(range(N)) - {i}, key=lambda j: -cosine(latent[i], latent[j]))
        for j in others[:m]:
            expected[i, j] = expected[j, i] = 1
    np.testing.assert_array_equal(near_pairs(torch.from_numpy(latent), m), expected)


def test_the_losses_of_pairs_and_of_views_are_those_of_the_paper(rng):
    p, other = rng.dirichlet(np.ones(K), size=N), rng.dirichlet(np.ones(K), size=N)
    near = (rng.random((N, N)) < 0.5).astype(float)
    pairs = 0.0
    for i in range(N):
        for j in range(N):
            pairs -= np.log(p[i] @ other[j] if near[i, j] else 1 - p[i] @ other[j]) / N**2
    logs = [torch.from_numpy(np.log(one)) for one in (p, other)]
    np.testing.assert_allclose(pair_loss(*logs, torch.from_numpy(near)), pairs, rtol=1e-5)
    views = sum((p[i, k] - other[i, k]) ** 2 for i in range(N) for k in range(K)) / (N * K)
    np.testing.assert_allclose(consistency(*logs), views, rtol=1e-9)


def test_pairs_that_contradict_each_other_entirely_have_a_loss_and_gradients():
    logits = torch.tensor([[400.0, 0.0], [0.0, 400.0]], requires_grad=True)
    log_p = logits.log_softmax(dim=1)
    loss = pair_loss(log_p, log_p, torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


def test_the_weight_of_the_consistency_rises_as_in_the_paper(tiny_options, blobs):
    model = make_method(tiny_options("lsdc", "vectors", n_clusters=3, epochs=10, ramp=0.4, consistency_weight=2.0))
    model.device_ = torch.device("cpu")
    model.build(blobs.shape[1:])
    training = model.training(make_data(model, blobs, None))
    for epoch, expected in [(0, 2 * np.exp(-5)), (2, 2 * np.exp(-5 / 4)), (4, 2.0), (9, 2.0)]:
        training.stage(epoch, None)
        assert float(training._weight) == pytest.approx(expected)
    model.ramp = 0.0  # no rise: the whole weight from the first epoch on
    training.stage(0, None)
    assert float(training._weight) == 2.0


# DAC


def test_label_features_have_length_one_and_no_value_below_zero(rng):
    found = label_features(torch.from_numpy(rng.normal(size=(N, K))))
    assert (found >= 0).all()
    np.testing.assert_allclose(found.square().sum(dim=1), 1, rtol=1e-9)


def test_thresholds_move_as_in_the_paper_until_they_meet():
    """In the paper u = .95 - lambda and l = .455 + .1 lambda, which are one number at lambda = .45."""
    assert thresholds(0.95, 0.455, 0.0) == pytest.approx((0.95, 0.455))
    assert thresholds(0.95, 0.455, 0.5) == pytest.approx((0.95 - 0.225, 0.455 + 0.0225))
    assert thresholds(0.95, 0.455, 1.0) == pytest.approx((0.5, 0.5))


def test_the_loss_is_the_mean_over_known_pairs(rng):
    cosines, wanted, known = rng.random((N, N)), rng.random((N, N)) < 0.5, rng.random((N, N)) < 0.5
    terms = [
        -np.log(cosines[i, j] if wanted[i, j] else 1 - cosines[i, j]) for i in range(N) for j in range(N) if known[i, j]
    ]
    arguments = [torch.from_numpy(one.astype(float)) for one in (cosines, wanted, known)]
    np.testing.assert_allclose(chosen_pair_loss(*arguments), np.mean(terms), rtol=1e-5)
    assert float(chosen_pair_loss(*arguments[:2], torch.zeros(N, N))) == 0


@pytest.mark.parametrize("method", ["cc", "lsdc", "dac"])
def test_well_separated_groups_are_found(tiny_options, blobs, blob_labels, method):
    options = tiny_options(method, "vectors", n_clusters=3, epochs=15, batch_size=60, learning_rate=0.01)
    found = make_method(options).fit(blobs).predict(blobs)
    assert accuracy(contingency(found, blob_labels, 3, 3)) == 1

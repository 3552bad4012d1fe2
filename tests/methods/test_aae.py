"""The adversarial autoencoder: its losses against torch's, its draws, and what each of its three steps moves."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from deep_clustering.methods import make_method
from deep_clustering.methods.aae import deception_loss, draw_codes, judgement_loss
from deep_clustering.scores.metrics import accuracy, contingency
from deep_clustering.training.streams import seeded

CPU = torch.device("cpu")


def test_losses_are_binary_cross_entropies():
    draws, codes = torch.randn(7, 1), torch.randn(7, 1)
    ones, zeros = torch.ones(7, 1), torch.zeros(7, 1)
    judged = F.binary_cross_entropy_with_logits(draws, ones) + F.binary_cross_entropy_with_logits(codes, zeros)
    np.testing.assert_allclose(judgement_loss(draws, codes), judged, rtol=1e-6)
    np.testing.assert_allclose(deception_loss(codes), F.binary_cross_entropy_with_logits(codes, ones), rtol=1e-6)


def test_draws_are_of_equal_clusters_and_normal_styles():
    clusters, styles = draw_codes(40000, 4, 2, torch.Generator().manual_seed(0))
    np.testing.assert_array_equal(clusters.sum(dim=1), 1)
    np.testing.assert_allclose(clusters.mean(dim=0), 1 / 4, atol=0.01)
    np.testing.assert_allclose(styles.mean(dim=0), 0, atol=0.02)
    np.testing.assert_allclose(styles.T.cov(), np.eye(2), atol=0.03)


@pytest.mark.parametrize(
    ("still", "moved"),
    [
        ("learning_rate", {"judge_of_clusters", "judge_of_style", "encoder"}),
        ("adversarial_learning_rate", {"encoder", "decoder"}),
    ],
)
def test_each_step_moves_what_it_should(tiny_options, blobs, still, moved):
    model = make_method(tiny_options("aae", "vectors", n_clusters=3, **{still: 0.0})).fit(blobs)
    learned = {name: [one.clone() for one in network.parameters()] for name, network in model.networks_.items()}
    with seeded(model.seed, CPU):
        model.build(blobs.shape[1:])
    for name, network in model.networks_.items():
        is_moved = [not torch.equal(*pair) for pair in zip(network.parameters(), learned[name], strict=True)]
        assert all(is_moved) if name in moved else not any(is_moved), name


def test_well_separated_groups_are_found(tiny_options, blobs, blob_labels):
    options = tiny_options("aae", "vectors", n_clusters=3, epochs=60, batch_size=40, style_dim=1, restarts=3)
    found = make_method(options).fit(blobs).predict(blobs)
    assert accuracy(contingency(found, blob_labels, 3, 3)) == 1

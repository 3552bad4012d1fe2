"""Losses of representation learning in a training: pairs of views, targets, and what is trained."""

import itertools

import pytest
import torch
from torch import nn

from deep_clustering.training.averaging import Averaged
from deep_clustering.training.networks import Conv
from deep_clustering.training.representations import make_representation
from deep_clustering.training.representations.learning import Learning

INFONCE = {"kind": "infonce", "weight": 2.0, "projection": [8, 4], "temperature": 0.2}
VICREG = {"kind": "vicreg", "weight": 1.0, "projection": [4], "invariance": 25.0, "variance": 25.0, "covariance": 1.0}
BYOL = {"kind": "byol", "weight": 1.0, "projection": [8, 4], "prediction": [8, 4], "momentum": 0.9}
CPU = torch.device("cpu")


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def learning(options: dict) -> Learning:
    torch.manual_seed(0)
    return Learning(make_representation(options), Conv(channels=[4], hidden=[6]).build((1, 8, 8), 3), 6, CPU)


@pytest.mark.parametrize("n_views", [2, 3, 5])
@pytest.mark.parametrize("options", [INFONCE, VICREG, BYOL], ids=lambda options: options["kind"])
def test_views_are_compared_with_the_first_two(options, n_views):
    representation = make_representation(options)
    z, targets = draw(n_views, 6, 4), draw(n_views, 6, 4, seed=1)
    pairs = [pair for pair in itertools.combinations(range(n_views), 2) if pair[0] < 2]
    expected = [representation.loss(z[list(pair)].flatten(0, 1), targets[list(pair)].flatten(0, 1)) for pair in pairs]
    found = representation.loss_of_views(z.flatten(0, 1), targets.flatten(0, 1), n_views)
    torch.testing.assert_close(found, torch.stack(expected).mean())


def test_without_a_loss_the_encoder_stands_alone():
    alone = learning({"kind": "none"})
    outputs, terms = alone(draw(8, 1, 8, 8), None, "fp32")
    assert (outputs.shape, terms, set(alone.networks)) == ((8, 3), {}, {"encoder"})
    assert set(learning(INFONCE | {"weight": 0.0}).networks) == {"encoder"}


def test_the_term_is_the_weighted_loss_of_the_projections():
    beside = learning(INFONCE)
    views = draw(8, 1, 8, 8)
    _, terms = beside(views, None, "fp32")
    projections = beside.networks["projector"](beside.networks["encoder"][:-1](views))
    expected = 2 * make_representation(INFONCE).loss(projections)
    torch.testing.assert_close(terms["representation_loss"], expected, rtol=1e-4, atol=1e-5)


def test_targets_of_byol_come_from_the_average_and_train_all_but_it():
    beside = learning(BYOL)
    target = beside.networks["target"]
    assert isinstance(target, Averaged)
    before = [parameter.clone() for parameter in target.parameters()]
    optimiser = torch.optim.SGD([p for n in ("encoder", "projector") for p in beside.networks[n].parameters()], lr=0.1)
    for _ in range(2):
        outputs, terms = beside(draw(8, 1, 8, 8), None, "fp32")
        optimiser.zero_grad()
        terms["representation_loss"].backward()
        optimiser.step()
    assert not outputs.isnan().any()
    assert all(parameter.grad is None for parameter in target.parameters())
    trunk, projector = beside.networks["encoder"][:-1], beside.networks["projector"]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in trunk.parameters())
    assert any((now != old).any() for now, old in zip(target.parameters(), before, strict=True))
    # The average is of trunk and projector, and has no predictor.
    assert len(before) == len([*trunk.parameters(), *projector[0].parameters()])
    assert isinstance(projector, nn.Sequential)


def test_views_of_one_size_go_through_at_once():
    options = {"kind": "coding_rate", "weight": 0.5, "projection": [4], "invariance": 9.0, "distortion": 0.2}
    beside, views = learning(options), draw(12, 1, 8, 8)
    outputs, terms = beside(views, None, "fp32", n_views=4)
    projections = beside.networks["projector"](beside.networks["encoder"][:-1](views))
    expected = make_representation(options).loss_of_views(projections, None, 4) / 2
    assert outputs.shape == (12, 3)
    torch.testing.assert_close(terms["representation_loss"], expected, rtol=1e-4, atol=1e-5)


def test_small_views_go_through_the_same_networks():
    beside = learning(INFONCE)
    outputs, terms = beside(draw(8, 1, 8, 8), draw(12, 1, 8, 8, seed=1), "fp32")
    assert outputs.shape == (20, 3)
    assert torch.isfinite(terms["representation_loss"])

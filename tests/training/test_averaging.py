"""A moving average of a network against its definition."""

import pytest
import torch
from torch import nn

from deep_clustering.training.averaging import Averaged


def test_weights_follow_as_a_moving_average():
    network = nn.Linear(3, 2)
    averaged = Averaged(network, 0.9)
    expected = network.weight.detach().clone()
    for step in range(3):
        with torch.no_grad():
            network.weight.copy_(torch.full((2, 3), float(step)))
        averaged.follow()
        expected = 0.9 * expected + 0.1 * step
        torch.testing.assert_close(averaged.copy.weight, expected)


def test_the_average_is_not_trained_and_gives_no_gradient():
    network = nn.Linear(3, 2)
    averaged = Averaged(network, 0.9)
    assert not any(parameter.requires_grad for parameter in averaged.parameters())
    assert not averaged(torch.ones(1, 3, requires_grad=True)).requires_grad
    assert set(averaged.state_dict()) == {"copy.weight", "copy.bias"}


@pytest.mark.parametrize("is_training", [True, False])
def test_it_is_in_the_mode_of_the_training(is_training):
    averaged = Averaged(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), 0.5)
    averaged.train(is_training)
    before = averaged.copy[1].num_batches_tracked.clone()
    averaged(torch.randn(4, 2, generator=torch.Generator().manual_seed(0)))
    assert averaged.copy[1].num_batches_tracked - before == int(is_training)

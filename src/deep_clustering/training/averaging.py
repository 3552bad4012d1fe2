"""Moving averages of networks, which say what a network learns from without being trained themselves."""

import copy

import torch
from torch import Tensor, nn


class Averaged(nn.Module):
    """A copy of a network whose weights follow as a moving average; it is in training mode as the network is.

    Statistics of batch normalisation are not averaged: the copy sees batches of its own.
    """

    def __init__(self, network: nn.Module, momentum: float) -> None:
        """A copy as it is now.

        Args:
            network: What is copied and followed.
            momentum: Share of the old weights in each update, in [0, 1].
        """
        super().__init__()
        self.copy = copy.deepcopy(network).requires_grad_(False)
        self._followed = tuple(network.parameters())
        self._momentum = momentum

    @torch.no_grad()
    def follow(self) -> None:
        """One update, in place."""
        torch._foreach_lerp_(list(self.copy.parameters()), list(self._followed), 1 - self._momentum)

    @torch.no_grad()
    def forward(self, views: Tensor) -> Tensor:
        """What the copy makes of views."""
        return self.copy(views)

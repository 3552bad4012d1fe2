"""What losses of representation learning have in common."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, MinLen
from torch import Tensor, nn

from deep_clustering.options import check_fields
from deep_clustering.training.networks import MLP


class Representation(ABC):
    """A loss on projections of what the trunk makes of two views."""

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    @abstractmethod
    def share(self) -> float:
        """Weight beside the clustering loss; 0 leaves the projections out."""

    @abstractmethod
    def projector(self, n_inputs: int) -> nn.Module:
        """The network from so many outputs of the trunk to projections."""

    @property
    def target_momentum(self) -> float:
        """Of the moving average of trunk and projector whose projections are targets; 0: there are no targets."""
        return 0.0

    def averaged_part(self, projector: nn.Module) -> nn.Module:
        """The part of a projector that makes targets."""
        return projector

    @abstractmethod
    def loss(self, projections: Tensor, targets: Tensor | None = None) -> Tensor:
        """The loss of a batch.

        Args:
            projections: Of first views, then of second views in the same order, shape (2n, d).
            targets: Projections of the same views by the moving average, same shape, without a gradient; None without.

        Returns:
            Scalar.
        """

    def loss_of_views(self, projections: Tensor, targets: Tensor | None, n_views: int) -> Tensor:
        """The loss of several views of each row: here the mean over pairs of which one at least is of the first two.

        Args:
            projections: Of all first views, then of all second views, and so on, shape (n_views n, d).
            targets: Of the same views, or None.
            n_views: Views of a row, at least 2.

        Returns:
            Scalar.
        """
        if n_views == 2:
            return self.loss(projections, targets)
        of_view = projections.chunk(n_views)
        targets_of_view = [None] * n_views if targets is None else targets.chunk(n_views)
        losses = []
        for first in (0, 1):
            for second in range(first + 1, n_views):
                pair = torch.cat([of_view[first], of_view[second]])
                a, b = targets_of_view[first], targets_of_view[second]
                losses.append(self.loss(pair, None if a is None or b is None else torch.cat([a, b])))
        return torch.stack(losses).mean()


@dataclass(frozen=True, kw_only=True)
class NoRepresentation(Representation):
    """Only the clustering loss shapes the trunk."""

    share = 0.0

    def projector(self, n_inputs: int) -> nn.Module:
        """None is wanted."""
        raise NotImplementedError

    def loss(self, projections: Tensor, targets: Tensor | None = None) -> Tensor:
        """Nothing."""
        return projections.new_zeros(())


@dataclass(frozen=True, kw_only=True)
class ProjectedRepresentation(Representation):
    """A loss with a projector of its own, which is left behind after training."""

    weight: Annotated[float, Ge(0)]
    """Of the loss beside the clustering loss; 0 leaves it out."""
    projection: Annotated[list[Annotated[int, Ge(1)]], MinLen(1)]
    """Width of each layer of the projector; all but the last with batch normalisation and ReLU."""

    @property
    def share(self) -> float:
        """The option."""
        return self.weight

    def projector(self, n_inputs: int) -> nn.Module:
        """Fully connected layers."""
        *hidden, n_outputs = self.projection
        return MLP(hidden=hidden).build((n_inputs,), n_outputs)

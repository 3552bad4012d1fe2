"""What losses of representation learning have in common."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated

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

    @abstractmethod
    def loss(self, projections: Tensor) -> Tensor:
        """The loss of a batch.

        Args:
            projections: Of first views, then of second views in the same order, shape (2n, d).

        Returns:
            Scalar.
        """


@dataclass(frozen=True, kw_only=True)
class NoRepresentation(Representation):
    """Only the clustering loss shapes the trunk."""

    share = 0.0

    def projector(self, n_inputs: int) -> nn.Module:
        """None is wanted."""
        raise NotImplementedError

    def loss(self, projections: Tensor) -> Tensor:
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


class WithProjector(nn.Module):
    """An encoder and a projector on the same trunk, in one pass; all of their layers stay those that were given."""

    def __init__(self, encoder: nn.Sequential, projector: nn.Module) -> None:
        """The encoder ends in a layer of its own, which the projector stands beside."""
        super().__init__()
        self.trunk, self.last, self.projector = encoder[:-1], encoder[-1], projector

    def forward(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs of the encoder and projections, each of shape (n, ...)."""
        latent = self.trunk(views)
        return self.last(latent), self.projector(latent)

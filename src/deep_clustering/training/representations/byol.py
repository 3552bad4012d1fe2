"""BYOL: each view foretells what a moving average of the network makes of the other view of its row.

Grill et al., "Bootstrap your own latent: a new approach to self-supervised learning", arXiv 2006.07733, equations (1)
and (2). Deviations: the momentum stays as it is, where the authors' rises to 1 with a cosine; the trunk's own optimiser
and schedule serve for the rest.
"""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Lt, MinLen
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from deep_clustering.training.networks import MLP
from deep_clustering.training.representations.base import ProjectedRepresentation


def byol(predictions: Tensor, targets: Tensor) -> Tensor:
    """Squared distance of unit predictions to unit targets of the other view, 2 - 2 cos, summed over both directions.

    Args:
        predictions: From first views, then from second views in the same order, shape (2n, d).
        targets: Of the same views in the same order, same shape.

    Returns:
        Scalar, mean over rows, in [0, 8].
    """
    others = targets.float().roll(len(targets) // 2, dims=0)
    cosine = F.cosine_similarity(predictions.float(), others, dim=1)
    return 2 * (2 - 2 * cosine).mean()


@dataclass(frozen=True, kw_only=True)
class BYOL(ProjectedRepresentation):
    """The options of BYOL; targets are projections without the predictor."""

    prediction: Annotated[list[Annotated[int, Ge(1)]], MinLen(1)]
    """Width of each layer of the predictor; the last must be that of the projections."""
    momentum: Annotated[float, Ge(0.5), Lt(1)]
    """Of the moving average: share of the old weights in each step."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prediction[-1] != self.projection[-1]:
            raise ValueError(
                f"prediction must end in the {self.projection[-1]} values of a projection, got {self.prediction}"
            )

    @property
    def target_momentum(self) -> float:
        """The option."""
        return self.momentum

    def projector(self, n_inputs: int) -> nn.Module:
        """The projector, and the predictor behind it."""
        *hidden, n_outputs = self.prediction
        predictor = MLP(hidden=hidden).build((self.projection[-1],), n_outputs)
        return nn.Sequential(super().projector(n_inputs), predictor)

    def averaged_part(self, projector: nn.Module) -> nn.Module:
        """The projector without the predictor."""
        assert isinstance(projector, nn.Sequential)
        return projector[0]

    def loss(self, projections: Tensor, targets: Tensor | None = None) -> Tensor:
        """See `byol`."""
        assert targets is not None
        return byol(projections, targets)

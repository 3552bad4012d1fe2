"""VICReg: both views of a row are projected alike, while each dimension varies and no two of them vary together.

Bardes et al., "VICReg: variance-invariance-covariance regularization for self-supervised learning", arXiv 2105.04906,
equations (1) to (6), with the sum over dimensions of the invariance divided by their number, as in the authors' code.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from deep_clustering.training.representations.base import ProjectedRepresentation

# Under the root of the variance, whose gradient is else infinite where there is none.
_EPSILON = 1e-4


def vicreg(projections: Tensor, invariance: float, variance: float, covariance: float) -> Tensor:
    """Weighted sum of three terms.

    The mean square of the difference between both views; for each view the mean over dimensions of
    max(0, 1 - standard deviation), of which the mean over both views is taken; for each view the sum of the squares of
    the covariances between different dimensions, divided by their number.

    Args:
        projections: Of first views, then of second views in the same order, shape (2n, d), n at least 2.
        invariance: Weight of the first term.
        variance: Of the second.
        covariance: Of the third.

    Returns:
        Scalar.
    """
    views = projections.float().unflatten(0, (2, -1))  # (2, n, d)
    n_rows, n_dimensions = views.shape[1:]
    alike = (views[0] - views[1]).square().mean()
    centred = views - views.mean(dim=1, keepdim=True)
    covariances = centred.mT @ centred / (n_rows - 1)  # (2, d, d)
    variances = covariances.diagonal(dim1=1, dim2=2)
    spread = torch.relu(1 - (variances + _EPSILON).sqrt()).mean()
    together = (covariances.square().sum() - variances.square().sum()) / n_dimensions
    return invariance * alike + variance * spread + covariance * together


@dataclass(frozen=True, kw_only=True)
class VICReg(ProjectedRepresentation):
    """The options of VICReg."""

    invariance: Annotated[float, Ge(0)]
    """Weight of the difference between both views."""
    variance: Annotated[float, Ge(0)]
    """Weight of the dimensions' lack of variance."""
    covariance: Annotated[float, Ge(0)]
    """Weight of the covariances between dimensions."""

    def loss(self, projections: Tensor, targets: Tensor | None = None) -> Tensor:
        """See `vicreg`."""
        return vicreg(projections, self.invariance, self.variance, self.covariance)

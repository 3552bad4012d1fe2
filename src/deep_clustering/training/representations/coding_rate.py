"""Total coding rate: all views of a row are projected alike, while the projections of each view fill their space.

Tong et al., "EMP-SSL: towards self-supervised learning in one training epoch", arXiv 2304.03977, as in the authors'
code; the rate is that of Yu et al., "Learning diverse and discriminative representations via the principle of maximal
coding rate reduction", arXiv 2006.08558:

    L = -1 / V sum_v R(Z_v) - invariance / (n V) sum_(i, v) cos(z_iv, 1 / V sum_u z_iu)
    R(Z) = 1 / 2 log det(I + d / (n distortion) Z' Z)

with Z_v the projections of view v of n rows, of length one, d values each. Deviation: AdamW and the one-cycle schedule
of what is trained stand in for LARS.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from deep_clustering.training.representations.base import ProjectedRepresentation


def coding_rate(unit: Tensor, distortion: float) -> Tensor:
    """R = 1/2 log det(I + d / (n distortion) Z' Z), about what it takes to tell n rows apart up to the distortion.

    Args:
        unit: Rows of length one, shape (..., n, d).
        distortion: Squared error that a row may be told with, above 0.

    Returns:
        Shape (...), in nats.
    """
    n, d = unit.shape[-2:]
    products = unit @ unit.mT if n < d else unit.mT @ unit  # the determinant is the same
    identity = torch.eye(products.shape[-1], device=unit.device, dtype=unit.dtype)
    # The unchecked form waits for no device; the matrix is positive definite by its first term.
    factor = torch.linalg.cholesky_ex(identity + d / (n * distortion) * products).L
    return factor.diagonal(dim1=-2, dim2=-1).log().sum(dim=-1)


def total_coding_rate(projections: Tensor, n_views: int, invariance: float, distortion: float) -> Tensor:
    """Negative mean rate of the views, less `invariance` times their mean cosine to the mean of their row.

    Args:
        projections: Of all first views, then of all second views in the same order, and so on, shape (n_views n, d).
        n_views: Views of a row.
        invariance: Weight of the cosine.
        distortion: Of the rate, see `coding_rate`.

    Returns:
        Scalar, in nats.
    """
    views = F.normalize(projections.float(), dim=1).unflatten(0, (n_views, -1))  # (n_views, n, d)
    alike = F.cosine_similarity(views, views.mean(dim=0), dim=2).mean()
    return -coding_rate(views, distortion).mean() - invariance * alike


@dataclass(frozen=True, kw_only=True)
class CodingRate(ProjectedRepresentation):
    """The options of the total coding rate."""

    invariance: Annotated[float, Ge(0)]
    """Weight of the cosine between a view and the mean of the views of its row."""
    distortion: Annotated[float, Gt(0)]
    """Squared error that a row may be told with; the less, the more of the directions count."""

    def loss(self, projections: Tensor, targets: Tensor | None = None) -> Tensor:
        """See `total_coding_rate`, of two views."""
        return self.loss_of_views(projections, targets, 2)

    def loss_of_views(self, projections: Tensor, targets: Tensor | None, n_views: int) -> Tensor:
        """See `total_coding_rate`; all views count alike."""
        return total_coding_rate(projections, n_views, self.invariance, self.distortion)

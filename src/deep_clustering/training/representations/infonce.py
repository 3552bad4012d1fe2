"""InfoNCE in the form of SimCLR: the other view of a row is told from all other views of the batch.

Chen et al., "A simple framework for contrastive learning of visual representations", arXiv 2002.05709, equation (1);
van den Oord et al., "Representation learning with contrastive predictive coding", arXiv 1807.03748.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from deep_clustering.training.representations.base import ProjectedRepresentation


def info_nce(projections: Tensor, temperature: float) -> Tensor:
    """Mean over views i of -log exp(s_ij / t) / sum_{k != i} exp(s_ik / t), j the other view of its row, s the cosine.

    Args:
        projections: Of first views, then of second views in the same order, shape (2n, d).
        temperature: t.

    Returns:
        Scalar, in nats; log(2n - 1) where all projections are the same.
    """
    unit = F.normalize(projections.float(), dim=1)
    similarities = unit @ unit.T / temperature
    places = torch.arange(len(unit), device=unit.device)
    itself = places.unsqueeze(1) == places
    return F.cross_entropy(similarities.masked_fill(itself, -torch.inf), places.roll(len(unit) // 2))


@dataclass(frozen=True, kw_only=True)
class InfoNCE(ProjectedRepresentation):
    """The options of InfoNCE."""

    temperature: Annotated[float, Ge(0.01)]
    """Of the softmax over the views of the batch."""

    def loss(self, projections: Tensor, targets: Tensor | None = None) -> Tensor:
        """See `info_nce`."""
        return info_nce(projections, self.temperature)

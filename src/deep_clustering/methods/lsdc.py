"""LSD-C: linearly separable deep clusters, learned from pairs of rows that are near or not near within a batch.

Rebuffi, Ehrhardt, Han, Vedaldi and Zisserman, "LSD-C: linearly separable deep clusters", ICCV workshops 2021, arXiv
2006.10039.

Symbols
    x_i, x_i'   two views of row i                          views
    z_i         what is in front of the last layer          latent                    (n, width)
    p_i         probabilities of the clusters               softmax(logits)           (n, n_clusters)
    s_ij        whether rows i and j are near               near_pairs                (n, n)
    m           neighbours in a batch                       neighbours
    w(t)        weight of the consistency                   consistency_weight, ramp

Equations
    (1) loss         L = L_pairs + w(t) L_consistency
    (2) pairs        L_pairs = -1 / n^2 sum_ij (s_ij ln p_i.p_j' + (1 - s_ij) ln(1 - p_i.p_j'))
    (3) near         s_ij = 1 where i = j, or one of i and j is among the m rows of the batch whose z is nearest to that
                     of the other by cosine; no gradient passes through s
    (4) consistency  L_consistency = 1 / (n K) sum_ik (p_ik - p_ik')^2
    (5) ramp         w(t) = w exp(-5 (1 - min(1, t / ramp))^2), t in epochs

Deviations from the paper, or choices where it is silent
    L1 the network is not trained before to tell rotations; the first neighbours are those of an untrained network
    L2 of the paper's three ways to say what is near, this is that by neighbours
    L3 rows are not mixed with others
    L4 restarts and runs compare by the likelihood of two views, (13) of `methods.dcan`
"""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, final

import torch
from annotated_types import Ge, Le
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from deep_clustering.methods.classifying import OfViews, StepsOfViews
from deep_clustering.training.loop import Data

# Added to probabilities in front of their logarithm, as in the authors' code.
_LEAST = 1e-7


def near_pairs(latent: Tensor, neighbours: int) -> Tensor:
    """Equation (3) of latents (n, width): symmetric, (n, n), 0 or 1; of fewer rows all are near."""
    unit = F.normalize(latent, dim=1)
    similarity = unit @ unit.T
    similarity.fill_diagonal_(torch.inf)
    nearest = similarity.topk(min(neighbours + 1, len(unit)), dim=1).indices
    near = torch.zeros_like(similarity).scatter_(1, nearest, 1.0)
    return torch.maximum(near, near.T)


def pair_loss(log_p: Tensor, log_other: Tensor, near: Tensor) -> Tensor:
    """Binary cross-entropy of pairs, equation (2).

    Args:
        log_p: Log probabilities of first views, shape (n, n_clusters).
        log_other: Of second views, shape (n, n_clusters).
        near: s, shape (n, n).

    Returns:
        Scalar.
    """
    same = log_p.exp() @ log_other.exp().T
    return -(near * same + (1 - near) * (1 - same) + _LEAST).log().mean()


def consistency(log_p: Tensor, log_other: Tensor) -> Tensor:
    """Equation (4), scalar."""
    return (log_p.exp() - log_other.exp()).square().mean()


@dataclass(kw_only=True)
class LSDC(OfViews):
    """LSD-C; fields are its hyper-parameters, learned state ends in an underscore."""

    name: ClassVar = "lsdc"
    shown: ClassVar = ("loss_pairs", "loss_consistency")

    neighbours: Annotated[int, Ge(1)]
    """m of (3)."""
    consistency_weight: Annotated[float, Ge(0)]
    """w of (5)."""
    ramp: Annotated[float, Ge(0), Le(1)]
    """Share of the epochs in which the weight of the consistency rises."""

    def training(self, data: Data) -> "_Training":
        """A training of the network that was built."""
        return _Training(self, data)


@final
class _Training(StepsOfViews):
    """One training; see `deep_clustering.training.loop.Training`."""

    model: LSDC

    def __init__(self, model: LSDC, data: Data) -> None:
        super().__init__(model, data)
        self._weight = torch.zeros((), device=model.device_)

    def stage(self, epoch: int, held: Tensor | None) -> int:
        """All epochs are alike but for w(t), which a step reads where it lies."""
        length = self.model.ramp * self.model.epochs
        share = min(1.0, epoch / length) if length > 0 else 1.0
        self._weight.fill_(self.model.consistency_weight * math.exp(-5 * (1 - share) ** 2))
        return 0

    def terms(self, logits: Tensor, latent: Tensor) -> dict[str, Tensor]:
        """The parts of (1)."""
        log_p, log_other = torch.log_softmax(logits, dim=1).chunk(2)
        near = near_pairs(latent.detach().chunk(2)[0], self.model.neighbours)
        pairs, agreement = pair_loss(log_p, log_other, near), consistency(log_p, log_other)
        return {"loss": pairs + self._weight * agreement, "loss_pairs": pairs, "loss_consistency": agreement}

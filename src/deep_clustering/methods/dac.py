"""Deep adaptive clustering: pairs of rows of which the network is sure teach it, and with time it may be less sure.

Chang, Wang, Meng, Xiang and Pan, "Deep adaptive image clustering", ICCV 2017.

Symbols
    x_i, x_i'    two views of row i                       views
    p_i          probabilities of the clusters            softmax(logits)           (n, n_clusters)
    l_i          label feature                            label_features            (n, n_clusters)
    g_ij         cosine of two label features             l_i.l_j
    r_ij         whether rows i and j belong together     wanted, where chosen      (n, n)
    u, d         above it they do, below it they do not   upper, lower
    lambda       grows from 0 to its end                  growth

Equations
    (1) label features  l_i = p_i / |p_i|: no value is below 0, the length is one
    (2) wanted          r_ij = 1 where g_ij > u(lambda), 0 where g_ij <= d(lambda), and unknown in between
    (3) thresholds      u(lambda) = upper - lambda, d(lambda) = lower + lambda / 10; lambda ends where they meet
    (4) loss            L = mean over the known pairs of -r_ij ln g_ij' - (1 - r_ij) ln(1 - g_ij'), g_ij' = l_i.l_j'
    (5) prediction      the largest value of l_i

Deviations from the paper, or choices where it is silent
    G1 which pairs are known is decided by first views, and (4) is that of first with second ones: a row and its own
       other view always belong together; the paper decides by plain images
    G2 lambda grows linearly over a share of the epochs and then stays; the paper: by .0099 for each epoch    growth
    G3 batch normalisation in front of the softmax, as in the authors' code but without their ReLU, and with a gain that
       begins at 2: else all rows begin with nearly one label feature, and all pairs belong together
    G4 restarts and runs compare by the likelihood of two views, (13) of `methods.dcan`
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, final

import torch
from annotated_types import Gt, Le
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from deep_clustering.methods.classifying import OfViews, StepsOfViews
from deep_clustering.training.loop import Data

# Added to cosines in front of their logarithm.
_LEAST = 1e-7
# Gain that the batch normalisation begins with (G3).
_GAIN = 2.0
# How much the lower threshold rises where the upper one falls by one.
_RISE = 0.1


def label_features(logits: Tensor) -> Tensor:
    """Equation (1), shape (n, n_clusters)."""
    return F.normalize(torch.softmax(logits, dim=1), dim=1)


def thresholds(upper: float, lower: float, progress: float) -> tuple[float, float]:
    """Equation (3) at a share of the way, 0 to 1, to where they meet."""
    end = (upper - lower) / (1 + _RISE)
    return upper - progress * end, lower + _RISE * progress * end


def chosen_pair_loss(cosines: Tensor, wanted: Tensor, known: Tensor) -> Tensor:
    """Equation (4).

    Args:
        cosines: g', shape (n, n).
        wanted: r where it is known, shape (n, n), 0 or 1.
        known: Shape (n, n), 0 or 1.

    Returns:
        Scalar, 0 where no pair is known.
    """
    given = torch.where(wanted > 0, cosines, 1 - cosines).clamp_min(0) + _LEAST
    return -(known * given.log()).sum() / known.sum().clamp_min(1)


@dataclass(kw_only=True)
class DAC(OfViews):
    """Deep adaptive clustering; fields are its hyper-parameters, learned state ends in an underscore."""

    name: ClassVar = "dac"
    shown: ClassVar = ("loss", "known")

    upper: Annotated[float, Gt(0), Le(1)]
    """u(0) of (3)."""
    lower: Annotated[float, Gt(0), Le(1)]
    """d(0) of (3)."""
    growth: Annotated[float, Gt(0), Le(1)]
    """Share of the epochs in which lambda grows."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lower > self.upper:
            raise ValueError(f"lower must be at most upper, got {self.lower} and {self.upper}")

    def build(self, row_shape: tuple[int, ...]) -> None:
        """Make a new network for rows of a shape, with G3."""
        super().build(row_shape)
        encoder = self.networks_["encoder"]
        assert isinstance(encoder, nn.Sequential)
        normalisation = nn.BatchNorm1d(self.n_clusters, device=self.device_)
        nn.init.constant_(normalisation.weight, _GAIN)
        encoder[-1] = nn.Sequential(encoder[-1], normalisation)

    def training(self, data: Data) -> "_Training":
        """A training of the network that was built."""
        return _Training(self, data)


@final
class _Training(StepsOfViews):
    """One training; see `deep_clustering.training.loop.Training`."""

    model: DAC

    def __init__(self, model: DAC, data: Data) -> None:
        super().__init__(model, data)
        self._thresholds = torch.zeros(2, device=model.device_)

    def stage(self, epoch: int, held: Tensor | None) -> int:
        """All epochs are alike but for (3), which a step reads where it lies."""
        model = self.model
        progress = min(1.0, epoch / (model.growth * model.epochs))
        for place, value in zip(self._thresholds, thresholds(model.upper, model.lower, progress), strict=True):
            place.fill_(value)
        return 0

    def terms(self, logits: Tensor, latent: Tensor) -> dict[str, Tensor]:
        """Equation (4), and the share of the pairs that are known."""
        first, second = label_features(logits).chunk(2)
        decided = first.detach() @ first.detach().T
        wanted, other = (decided > self._thresholds[0]).float(), (decided <= self._thresholds[1]).float()
        known = torch.maximum(wanted, other)
        loss = chosen_pair_loss(first @ second.T, wanted, known)
        return {"loss": loss, "known": known.mean(), "together": wanted.mean()}

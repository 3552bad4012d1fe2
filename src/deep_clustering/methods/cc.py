"""Contrastive clustering: rows of a batch are told apart by their projections, clusters by their columns.

Li, Hu, Liu, Peng, Zhou and Peng, "Contrastive clustering", AAAI 2021, arXiv 2009.09687.

Symbols
    x_i^a, x_i^b   two views of row i                     views
    h              what is in front of the last layer     latent                      (2n, width)
    z_i            projection                             projections                 (2n, projection[-1])
    y_i            probabilities of the clusters          softmax(logits)             (2n, n_clusters)
    c_k            column k: y_ik of all rows of a batch  columns                     (2 n_clusters, n)
    s              cosine
    t_I, t_C       temperatures of rows and of columns    row_temperature, column_temperature

Equations
    (1) loss       L = L_rows + L_columns - H
    (2) rows       L_rows = mean over the 2n views i of -ln(e^(s(z_i, z_j) / t_I) / sum_(l != i) e^(s(z_i, z_l) / t_I)),
                   j the other view of the row
    (3) columns    L_columns = mean over the 2K columns k of -ln(e^(s(c_k, c_j) / t_C) / sum_(l != k) e^(s(c_k, c_l) /
                   t_C)), j the same cluster of the other view
    (4) entropy    H = sum over both views of -sum_k P_k ln P_k, P_k = 1 / n sum_i y_ik

Deviations from the paper, or choices where it is silent
    K1 the clusters are the last layer of the encoder; the paper has two layers of its own behind a ResNet
    K2 views are those of the configuration; the paper crops, blurs and colours photographs    views
    K3 restarts and runs compare by the likelihood of two views, (13) of `methods.dcan`
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, final

import torch
from annotated_types import Ge, MinLen
from torch import Tensor, nn

from deep_clustering.methods.classifying import OfViews, StepsOfViews
from deep_clustering.methods.imsat import marginal_entropy
from deep_clustering.training.loop import Data
from deep_clustering.training.networks import MLP
from deep_clustering.training.representations.infonce import info_nce


def column_contrast(p: Tensor, temperature: float) -> Tensor:
    """Equation (3) of probabilities of first views, then of second ones, (2n, n_clusters); scalar."""
    return info_nce(torch.cat([view.T for view in p.chunk(2)]), temperature)


@dataclass(kw_only=True)
class CC(OfViews):
    """Contrastive clustering; fields are its hyper-parameters, learned state ends in an underscore."""

    name: ClassVar = "cc"
    shown: ClassVar = ("loss_rows", "loss_columns")

    projection: Annotated[list[Annotated[int, Ge(1)]], MinLen(1)]
    """Width of each layer of the projector; all but the last with batch normalisation and ReLU."""
    row_temperature: Annotated[float, Ge(0.01)]
    """t_I of (2)."""
    column_temperature: Annotated[float, Ge(0.01)]
    """t_C of (3)."""

    def build(self, row_shape: tuple[int, ...]) -> None:
        """Make new networks for rows of a shape."""
        super().build(row_shape)
        encoder = self.networks_["encoder"]
        assert isinstance(encoder, nn.Sequential)
        last = encoder[-1]
        assert isinstance(last, nn.Linear)
        *hidden, n_outputs = self.projection
        projector = MLP(hidden=hidden).build((last.in_features,), n_outputs)
        self.networks_["projector"] = projector.to(self.device_)

    def training(self, data: Data) -> "_Training":
        """A training of the networks that were built."""
        return _Training(self, data)


@final
class _Training(StepsOfViews):
    """One training; see `deep_clustering.training.loop.Training`."""

    model: CC

    def terms(self, logits: Tensor, latent: Tensor) -> dict[str, Tensor]:
        """The parts of (1)."""
        log_p = torch.log_softmax(logits, dim=1)
        rows = info_nce(self.networks["projector"](latent), self.model.row_temperature)
        columns = column_contrast(log_p.exp(), self.model.column_temperature)
        entropy = torch.stack([marginal_entropy(view) for view in log_p.chunk(2)])
        loss = rows + columns - entropy.sum()
        return {"loss": loss, "loss_rows": rows, "loss_columns": columns, "occupancy_entropy": entropy.mean()}

"""Improved deep embedded clustering: DEC whose decoder stays, so that the latents keep what tells the rows apart.

Guo, Gao, Liu and Yin, "Improved deep embedded clustering with local structure preservation", IJCAI 2017.

Symbols
    f(x), z     encoder and latent                     encoder, latent                (n, latent_dim)
    g(z)        decoder                                decoder                        (n, values of a row)
    q, p        soft assignment and target             see `methods.dec`              (n, n_clusters)
    gamma       weight of the clustering               clustering_weight
    P           values of a row

Equations
    (1) loss            L = L_r + gamma L_c
    (2) reconstruction  L_r = 1 / n sum_i |x_i - g(f(x_i))|^2 / P
    (3) assignment      q_ik = (1 + |z_i - m_k|^2)^-1 / sum_l (1 + |z_i - m_l|^2)^-1
    (4) target          p_ik = (q_ik^2 / f_k) / sum_l (q_il^2 / f_l), f_k = sum_i q_ik
    (5) clustering      L_c = 1 / n sum_ik p_ik ln(p_ik / q_ik)

Deviations from the paper, or choices where it is silent
    I1 pretraining is of all layers at once, without noise on the rows, not layer by layer    pretraining
    I2 the target is computed before each epoch on all rows; the paper: each so many steps
    I3 both parts are means, over rows and over the values of a row, as in the authors' code
    I4 training ends with its last epoch, whatever share of the rows still changes cluster
    I5 rows may be seen by random views in training, after DEC-DA; see `methods.autoencoding`               views
    I6 rows are scaled to values of a mean square of 1, as DEC's are, if asked to                           row_unit
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, final

from annotated_types import Ge
from torch import Tensor

from deep_clustering.methods.dec import DEC, Sharpening
from deep_clustering.training.loop import Data


@dataclass(kw_only=True)
class IDEC(DEC):
    """Improved deep embedded clustering; fields are its hyper-parameters, learned state ends in an underscore."""

    name: ClassVar = "idec"

    clustering_weight: Annotated[float, Ge(0)]
    """gamma of (1)."""

    def training(self, data: Data) -> "_Training":
        """A training of the networks that were built."""
        return _Training(self, data)


@final
class _Training(Sharpening):
    """One training; see `deep_clustering.training.loop.Training`."""

    model: IDEC

    def clustering_terms(self, views: Tensor, latent: Tensor, index: Tensor) -> dict[str, Tensor]:
        """The parts of (1)."""
        reconstruction, clustering = self.reconstruction(views, latent), self.sharpening(latent, index)
        loss = reconstruction + self.model.clustering_weight * clustering
        return {"loss": loss, "reconstruction": reconstruction, "clustering": clustering}

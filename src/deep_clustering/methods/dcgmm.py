"""Deep clustering with a Gaussian mixture: an autoencoder of distributions, each drawn to its cluster's by divergence.

Lim, Jiang and Yi, "Deep clustering with variational autoencoder", IEEE Signal Processing Letters 27, 2020, which DCAN's
paper has as its reference 4 and calls DC-GMM. Of it the abstract was available: it takes ABC's pull
(`methods.autoencoder`) from points to distributions.

Symbols
    m(x), v(x)  mean and variance of q(z | x)          moments                        (n, latent_dim) each
    w_k         weights of the mixture                 Mixture.logits                 (n_clusters,)
    eta_k, S_k  means and variances of the mixture     Mixture.means, log_variances   (n_clusters, latent_dim)
    s_i         cluster of row i                       own                            (n,)
    g(z)        decoder                                decoder                        (n, values of a row)
    lambda      weight of the clustering               pull

Equations
    (1) loss         L = 1 / n sum_i -ln p(x_i | z_i) + lambda / n sum_i KL(N(m_i, v_i) || N(eta_(s_i), S_(s_i))),
                     one draw z_i of q(z | x_i) for each row
    (2) assignment   s_i = argmax_k w_k N(m(x_i); eta_k, S_k)
    (3) mixture      by one iteration of EM: with r_ik the probabilities (4), n_k = sum_i r_ik, w_k = n_k / n,
                     eta_k = 1 / n_k sum_i r_ik m_i, S_k = 1 / n_k sum_i r_ik ((m_i - eta_k)^2 + v_i), which makes the
                     divergences in (1) least
    (4) prediction   p(k | x) in proportion to w_k N(m(x); eta_k, S_k)

Deviations from the paper, or choices where it is silent
    Z1 the first epochs reconstruct alone, at z = m(x), and a mixture is fitted to m(x) then      pretraining, n_init
    Z2 (2) and (3) are done once before each epoch on all rows; the mixture is by maximum likelihood with a floor under
       its variances, not Bayesian
    Z3 ln p(x | z), bounds of variances and the first v(x) are those of VaDE (`methods.vade`: (4), (5), V2, V3, V5, V7)
    Z4 encoder with ReLU and, but for `encoder.kind: plain_mlp`, batch normalisation, Adam
    Z5 rows may be seen by random views in training, after DEC-DA; see `methods.autoencoding`               views
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, final

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

from deep_clustering.methods.autoencoding import Autoencoding
from deep_clustering.methods.vade import Mixture, VaDE, VariationalSteps
from deep_clustering.training.described import Described
from deep_clustering.training.loop import Data

# Least variance of a cluster, as a share of the mean variance of the means (Z2).
_FLOOR = 1e-3


@torch.no_grad()
def em_iteration(mixture: Mixture, points: Tensor, spread: Tensor) -> None:
    """Equation (3): the mixture moves to what its responsibilities for distributions ask for.

    Args:
        mixture: What moves.
        points: Means m, shape (n, latent_dim).
        spread: Variances v, shape (n, latent_dim).
    """
    responsibilities = torch.softmax(mixture.log_joint(points), dim=1)
    counts = responsibilities.sum(dim=0).clamp_min(torch.finfo(points.dtype).tiny)
    centre = points.mean(dim=0)
    centred = points - centre  # so that the difference of squares does not cancel
    means = responsibilities.T @ centred / counts.unsqueeze(1)
    variances = responsibilities.T @ (centred.square() + spread) / counts.unsqueeze(1) - means.square()
    floor = _FLOOR * centred.square().mean() + torch.finfo(points.dtype).tiny
    mixture.logits.copy_((counts / len(points)).log())
    mixture.means.copy_(means + centre)
    mixture.log_variances.copy_(variances.maximum(floor).log())


@dataclass(kw_only=True)
class DCGMM(VaDE):
    """Deep clustering with a Gaussian mixture; fields are its hyper-parameters, learned state ends in an underscore."""

    name: ClassVar = "dcgmm"
    label_free_score: ClassVar[tuple[str, str]] = ("within_share", "min")

    pull: Annotated[float, Ge(0)]
    """lambda of (1)."""

    def describe(self, features: np.ndarray) -> Described:
        """Most probable cluster, responsibilities (4) and m(x) of each row; no densities."""
        return Autoencoding.describe(self, features)

    def training(self, data: Data) -> "_Training":
        """A training of the networks that were built."""
        return _Training(self, data)


@final
class _Training(VariationalSteps):
    """One training; see `deep_clustering.training.loop.Training`."""

    model: DCGMM

    def __init__(self, model: DCGMM, data: Data) -> None:
        super().__init__(model, data)
        self.clusters.requires_grad_(False)
        self._own = torch.zeros(len(data.rows), dtype=torch.int64, device=model.device_)

    @torch.no_grad()
    def prepare(self) -> None:
        """Mixture and clusters of all rows (Z2)."""
        moments = self.of_all_rows(lambda views: torch.cat(self.model.moments(views), dim=1))
        means, log_variances = self.data.rows.in_proportion(moments).chunk(2, dim=1)
        em_iteration(self.clusters, means, log_variances.exp())
        self._own.copy_(self.model.clusters_of(moments.chunk(2, dim=1)[0]))

    def divergence(self, mean: Tensor, log_variance: Tensor, latent: Tensor, index: Tensor) -> Tensor:
        """The second part of (1)."""
        of_clusters = self.clusters.divergences(mean, log_variance)
        return self.model.pull * of_clusters.gather(1, self._own[index].unsqueeze(1)).squeeze(1)

"""Deep clustering network: an autoencoder whose latents suit k-means, which goes on beside it row by row.

Yang, Fu, Sidiropoulos and Hong, "Towards k-means-friendly spaces: simultaneous deep learning and clustering", ICML
2017, arXiv 1610.04794.

Symbols
    f(x), z     encoder and latent                     encoder, latent                (n, latent_dim)
    g(z)        decoder                                decoder                        (n, values of a row)
    m_k         centre of cluster k                    Centroids.centroids            (n_clusters, latent_dim)
    s_i         cluster of row i                       own                            (n,)
    c_k         rows that the centre has seen          Centroids.counts               (n_clusters,)
    lambda      weight of the clustering               pull
    P           values of a row

Equations
    (1) loss         L = 1 / n sum_i |x_i - g(f(x_i))|^2 / P + lambda / 2n sum_i |f(x_i) - m_(s_i)|^2
    (2) assignment   s_i = argmin_k |f(x_i) - m_k|^2
    (3) centres      row by row: c_k <- c_k + 1, m_k <- m_k - (m_k - f(x_i)) / c_k for k = s_i
    (4) of a batch   with n_k rows of cluster k:  m_k <- (c_k m_k + sum_(s_i = k) f(x_i)) / (c_k + n_k),
                     c_k <- c_k + n_k, which is what (3) comes to
    (5) prediction   p(k | x) in proportion to exp(-|f(x) - m_k|^2 / (2 v)), v the variance of the latents around
                     their centres

Deviations from the paper, or choices where it is silent
    C1 pretraining is of all layers at once, not layer by layer                               pretraining
    C2 a step assigns and moves the centres by the latents that its loss was computed of; the paper computes them anew
       with the moved network
    C3 the counts begin with a number, so that the first rows of a cluster do not carry its centre away  first_count
    C4 the reconstruction is a mean over the values of a row, so that lambda does not depend on their number
    C5 rows may be seen by random views in training, after DEC-DA; see `methods.autoencoding`               views
       each view has the centre that is nearest to it
    C6 rows may be seen in units of their own, as DEC's are; see `methods.autoencoding`                     row_unit
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, final

import torch
from annotated_types import Ge
from torch import Tensor

from deep_clustering.methods.autoencoder import pull_loss
from deep_clustering.methods.autoencoding import Centroids, Scaled, ScaledSteps, squared_distances
from deep_clustering.methods.latent_mixture import memberships
from deep_clustering.training.loop import Data


def moved_centroids(centroids: Tensor, counts: Tensor, latents: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """Equation (4).

    Args:
        centroids: m, shape (n_clusters, latent_dim).
        counts: c, shape (n_clusters,).
        latents: Of a batch, shape (n, latent_dim).
        own: s, shape (n,).

    Returns:
        Centres and counts behind the batch.
    """
    of_clusters = memberships(own, len(centroids), latents.dtype)
    after = counts + of_clusters.sum(dim=0)
    total = counts.unsqueeze(1) * centroids + of_clusters.T @ latents
    return torch.where(after.unsqueeze(1) > 0, total / after.clamp_min(1).unsqueeze(1), centroids), after


@dataclass(kw_only=True)
class DCN(Scaled):
    """Deep clustering network; fields are its hyper-parameters, learned state ends in an underscore."""

    name: ClassVar = "dcn"

    pull: Annotated[float, Ge(0)]
    """lambda of (1)."""
    first_count: Annotated[int, Ge(0)]
    """Rows that each centre counts as seen when it is placed (C3)."""

    def training(self, data: Data) -> "_Training":
        """A training of the networks that were built."""
        return _Training(self, data)


@final
class _Training(ScaledSteps):
    """One training; see `deep_clustering.training.loop.Training`."""

    model: DCN
    clusters: Centroids

    @torch.no_grad()
    def place(self, latents: Tensor) -> None:
        """Centres by k-means, with counts that begin anew."""
        super().place(latents)
        self.clusters.counts.fill_(self.model.first_count)

    def clustering_terms(self, views: Tensor, latent: Tensor, index: Tensor) -> dict[str, Tensor]:
        """The parts of (1); centres and counts move on by (4)."""
        centroids, fixed = self.clusters.centroids.detach(), latent.detach()
        own = squared_distances(fixed, centroids).argmin(dim=1)
        reconstruction, pull = self.reconstruction(views, latent), pull_loss(latent, centroids, own)
        moved, counts = moved_centroids(centroids, self.clusters.counts, fixed, own)
        centroids.copy_(moved)
        self.clusters.counts.copy_(counts)
        loss = reconstruction + self.model.pull / 2 * pull
        return {"loss": loss, "reconstruction": reconstruction, "clustering": pull}

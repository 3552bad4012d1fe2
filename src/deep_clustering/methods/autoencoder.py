"""Autoencoder-based clustering: an autoencoder whose latents are pulled to the centre of their cluster.

Song, Liu, Huang, Wang and Tan, "Auto-encoder based data clustering", CIARP 2013. It is the loss that DCAN's paper calls
ABC and starts from. With `pretraining: 1.0` there is no pull: an autoencoder, then k-means on its latents.

Symbols
    f(x), z     encoder and latent                     encoder, latent                (n, latent_dim)
    g(z)        decoder                                decoder                        (n, values of a row)
    c_k         centre of cluster k                    Centroids.centroids            (n_clusters, latent_dim)
    s_i         cluster of row i                       own                            (n,)
    lambda      how strong the pull is                 pull
    P           values of a row

Equations
    (1) loss         L = 1 / n sum_i |x_i - g(f(x_i))|^2 / P + lambda / n sum_i |f(x_i) - c_(s_i)|^2
    (2) assignment   s_i = argmin_k |f(x_i) - c_k|^2
    (3) centres      c_k = mean of f(x_i) over s_i = k; a cluster without rows keeps its centre
    (4) prediction   p(k | x) in proportion to exp(-|f(x) - c_k|^2 / (2 v)), v the variance of the latents around
                     their centres

Deviations from the paper, or choices where it is silent
    A1 the first epochs reconstruct alone and k-means places the centres then; the paper draws both at random
                                                                                             pretraining, n_init
    A2 (2) and (3) are done once before each epoch on all rows, one iteration of k-means
    A3 the reconstruction is a mean over the values of a row, so that lambda does not depend on their number
    A4 encoder with batch normalisation and ReLU, linear latent, Adam; the paper has sigmoid layers and plain descent
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, final

import torch
from annotated_types import Ge
from torch import Tensor

from deep_clustering.methods.autoencoding import Autoencoding, AutoencodingSteps, Centroids, squared_distances
from deep_clustering.methods.latent_mixture import memberships
from deep_clustering.training.loop import Data


def pull_loss(latent: Tensor, centroids: Tensor, own: Tensor) -> Tensor:
    """Mean squared distance of latents (n, latent_dim) to the centres of their clusters, the second part of (1)."""
    return (latent - centroids[own]).square().sum(dim=1).mean()


def cluster_means(latents: Tensor, own: Tensor, centroids: Tensor) -> Tensor:
    """Equation (3) of latents (n, latent_dim) in clusters (n,), shape (n_clusters, latent_dim)."""
    of_clusters = memberships(own, len(centroids), latents.dtype)
    counts = of_clusters.sum(dim=0).unsqueeze(1)
    return torch.where(counts > 0, of_clusters.T @ latents / counts.clamp_min(1), centroids)


@dataclass(kw_only=True)
class AutoencoderClustering(Autoencoding):
    """Autoencoder-based clustering; fields are its hyper-parameters, learned state ends in an underscore."""

    name: ClassVar = "autoencoder"

    pull: Annotated[float, Ge(0)]
    """lambda of (1); 0 leaves an autoencoder whose centres follow its latents."""

    def training(self, data: Data) -> "_Training":
        """A training of the networks that were built."""
        return _Training(self, data)


@final
class _Training(AutoencodingSteps):
    """One training; see `deep_clustering.training.loop.Training`."""

    model: AutoencoderClustering
    clusters: Centroids

    def __init__(self, model: AutoencoderClustering, data: Data) -> None:
        super().__init__(model, data)
        self._own = torch.zeros(len(data.rows), dtype=torch.int64, device=model.device_)

    @torch.no_grad()
    def prepare(self) -> None:
        """One iteration of k-means on all rows (A2)."""
        latents, centroids = self.latents(), self.clusters.centroids
        counted = self.data.rows.in_proportion(latents)
        nearest = squared_distances(counted, centroids).argmin(dim=1)
        centroids.copy_(cluster_means(counted, nearest, centroids))
        self._own.copy_(squared_distances(latents, centroids).argmin(dim=1))

    def clustering_terms(self, views: Tensor, latent: Tensor, index: Tensor) -> dict[str, Tensor]:
        """The parts of (1)."""
        reconstruction = self.reconstruction(views, latent)
        pull = pull_loss(latent, self.clusters.centroids.detach(), self._own[index])
        return {"loss": reconstruction + self.model.pull * pull, "reconstruction": reconstruction, "clustering": pull}

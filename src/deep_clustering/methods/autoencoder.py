"""Autoencoder-based clustering: an autoencoder whose latents are pulled to the centre of their cluster.

Song, Liu, Huang, Wang and Tan, "Auto-encoder based data clustering", CIARP 2013. It is the loss that DCAN's paper calls
ABC and starts from. With `pretraining: 1.0` there is no pull: an autoencoder, then k-means on its latents.

As an option, the soft nearest neighbour loss of Frosst, Papernot and Hinton, "Analyzing and improving representations
with the soft nearest neighbor loss", ICML 2019, arXiv 1902.01889, without the classes that it takes there: rows that
are near are to stay nearer in latent space than others are.

Symbols
    f(x), z     encoder and latent                     encoder, latent                (n, latent_dim)
    g(z)        decoder                                decoder                        (n, values of a row)
    c_k         centre of cluster k                    Centroids.centroids            (n_clusters, latent_dim)
    s_i         cluster of row i                       own                            (n,)
    lambda      how strong the pull is                 pull
    N_i         rows near to row i in a batch          near_rows                      (b, b)
    T           temperature                            temperature
    P           values of a row

Equations
    (1) loss         L = 1 / n sum_i |x_i - g(f(x_i))|^2 / P + lambda / n sum_i |f(x_i) - c_(s_i)|^2
    (2) assignment   s_i = argmin_k |f(x_i) - c_k|^2
    (3) centres      c_k = mean of f(x_i) over s_i = k; a cluster without rows keeps its centre
    (4) prediction   p(k | x) in proportion to exp(-|f(x) - c_k|^2 / (2 v)), v the variance of the latents around
                     their centres
    (5) neighbours   S = -1 / b sum_i ln(sum_(j in N_i) exp(-|z_i - z_j|^2 / T) / sum_(j != i) exp(-|z_i - z_j|^2 / T))
                     over a batch of b rows; `neighbour_weight` S is added to (1)

Deviations from the paper, or choices where it is silent
    A1 the first epochs reconstruct alone and k-means places the centres then; the paper draws both at random
                                                                                             pretraining, n_init
    A2 (2) and (3) are done once before each epoch on all rows, one iteration of k-means
    A3 the reconstruction is a mean over the values of a row, so that lambda does not depend on their number
    A4 encoder with ReLU and, but for `encoder.kind: plain_mlp`, batch normalisation, linear latent, Adam; the paper has
       sigmoid layers and plain descent
    A5 N_i of (5) are the `near` rows of the batch whose values are nearest to those of row i; the paper: those of its
       class, in each hidden layer
    A6 T of (5) is a share of the mean squared distance of the batch's latents, so that their unit does not matter; the
       paper learns it                                                                                  temperature
    A7 (5) is on from the first epoch and is made small; the paper, beside a classifier of the classes, makes it large
    A8 rows may be seen by random views in training, after DEC-DA; see `methods.autoencoding`               views
       a view of the same row may be among the near ones of (5)
    A9 rows may be seen in units of their own, as DEC's are; see `methods.autoencoding`                     row_unit
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, final

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from deep_clustering.methods.autoencoding import FARTHEST, Centroids, Scaled, ScaledSteps, squared_distances
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


def near_rows(rows: Tensor, near: int) -> Tensor:
    """The rows of a batch that are nearest to each, itself aside (A5).

    Args:
        rows: Shape (b, ...), at least two.
        near: How many; of a smaller batch all others.

    Returns:
        Shape (b, b), bool.
    """
    flat = rows.flatten(1)
    distances = torch.cdist(flat, flat).nan_to_num(torch.inf).fill_diagonal_(torch.inf)
    nearest = distances.topk(min(near, len(flat) - 1), dim=1, largest=False).indices
    is_near = torch.zeros_like(distances, dtype=torch.bool).scatter_(1, nearest, True)
    return is_near.fill_diagonal_(False)


def soft_neighbour_loss(latent: Tensor, is_near: Tensor, temperature: float) -> Tensor:
    """Equation (5).

    Args:
        latent: Shape (b, latent_dim).
        is_near: N, shape (b, b), bool, false on the diagonal.
        temperature: T as a share of the mean squared distance (A6).

    Returns:
        Scalar, at least 0.
    """
    squares = squared_distances(latent, latent)
    n_pairs = len(latent) * (len(latent) - 1)
    typical = (squares.detach() / n_pairs).sum().clamp(torch.finfo(squares.dtype).tiny, FARTHEST)
    logits = -squares / (temperature * typical)
    itself = torch.eye(len(latent), dtype=torch.bool, device=latent.device)
    others = logits.masked_fill(itself, -torch.inf).logsumexp(dim=1)
    return (others - logits.masked_fill(~is_near, -torch.inf).logsumexp(dim=1)).mean()


@dataclass(kw_only=True)
class AutoencoderClustering(Scaled):
    """Autoencoder-based clustering; fields are its hyper-parameters, learned state ends in an underscore."""

    name: ClassVar = "autoencoder"

    pull: Annotated[float, Ge(0)]
    """lambda of (1); 0 leaves an autoencoder whose centres follow its latents."""
    neighbour_weight: Annotated[float, Ge(0)]
    """Weight of (5); 0 for none."""
    near: Annotated[int, Ge(1)]
    """Rows of a batch that count as near to a row (A5)."""
    temperature: Annotated[float, Gt(0)]
    """T of (5), as a share of the mean squared distance of latents (A6)."""

    def training(self, data: Data) -> "_Training":
        """A training of the networks that were built."""
        return _Training(self, data)


@final
class _Training(ScaledSteps):
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

    def pretraining_terms(self, views: Tensor, latent: Tensor) -> dict[str, Tensor]:
        """Reconstruction, and (5)."""
        return self._with_neighbours(super().pretraining_terms(views, latent), views, latent)

    def clustering_terms(self, views: Tensor, latent: Tensor, index: Tensor) -> dict[str, Tensor]:
        """The parts of (1)."""
        reconstruction = self.reconstruction(views, latent)
        pull = pull_loss(latent, self.clusters.centroids.detach(), self._own[index])
        loss = reconstruction + self.model.pull * pull
        terms = {"loss": loss, "reconstruction": reconstruction, "clustering": pull}
        return self._with_neighbours(terms, views, latent)

    def _with_neighbours(self, terms: dict[str, Tensor], views: Tensor, latent: Tensor) -> dict[str, Tensor]:
        model = self.model
        if not model.neighbour_weight:
            return terms
        apart = soft_neighbour_loss(latent, near_rows(views, model.near), model.temperature)
        return terms | {"loss": terms["loss"] + model.neighbour_weight * apart, "neighbours": apart}

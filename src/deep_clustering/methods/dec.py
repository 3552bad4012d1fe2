"""Deep embedded clustering: an encoder and centres that sharpen their own soft assignments.

Xie, Girshick and Farhadi, "Unsupervised deep embedding for clustering analysis", ICML 2016, arXiv 1511.06335.

Symbols
    f(x), z     encoder and latent                     encoder, latent                (n, latent_dim)
    m_k         centre of cluster k                    Centroids.centroids            (n_clusters, latent_dim)
    q_ik        soft assignment                        log_soft_assignments           (n, n_clusters)
    f_k         soft size of cluster k
    p_ik        target                                 target_distribution            (n, n_clusters)

Equations
    (1) assignment   q_ik = (1 + |z_i - m_k|^2)^-1 / sum_l (1 + |z_i - m_l|^2)^-1, Student's t of one degree of freedom
    (2) loss         L = KL(P || Q) = 1 / n sum_ik p_ik ln(p_ik / q_ik), by which encoder and centres move
    (3) target       p_ik = (q_ik^2 / f_k) / sum_l (q_il^2 / f_l), f_k = sum_i q_ik; fixed in between

Deviations from the paper, or choices where it is silent
    E1 pretraining is of all layers at once, without noise on the rows, not layer by layer    pretraining
    E2 the target is computed before each epoch on all rows; the paper: each so many steps
    E3 (2) is a mean over rows, not their sum; Adam instead of descent with momentum
    E4 training ends with its last epoch, whatever share of the rows still changes cluster
    E5 encoder with batch normalisation behind each hidden layer, unless its kind is plain_mlp
    E6 rows may be seen by random views in training, after DEC-DA; see `methods.autoencoding`               views
    E7 rows are scaled to values of a mean square of 1, as in the paper, if asked to                        row_unit
"""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from deep_clustering.methods.autoencoding import Centroids, Scaled, ScaledSteps, squared_distances
from deep_clustering.training.loop import Data


def log_similarity(latent: Tensor, centroids: Tensor) -> Tensor:
    """Log of Student's t of one degree of freedom up to a constant, shape (n, n_clusters)."""
    return -squared_distances(latent, centroids).log1p()


def log_soft_assignments(latent: Tensor, centroids: Tensor) -> Tensor:
    """Log q of (1), shape (n, n_clusters)."""
    return torch.log_softmax(log_similarity(latent, centroids), dim=1)


def target_distribution(log_q: Tensor, log_sizes: Tensor) -> Tensor:
    """Equation (3).

    In logarithms a cluster that no row is near has a target like any other, where 0 / 0 has none.

    Args:
        log_q: Log soft assignments, shape (n, n_clusters).
        log_sizes: Log f, shape (n_clusters,).

    Returns:
        P, shape (n, n_clusters); rows sum to 1.
    """
    return torch.softmax(2 * log_q - log_sizes, dim=1)


def divergence(targets: Tensor, log_q: Tensor) -> Tensor:
    """Equation (2), scalar."""
    return (torch.special.xlogy(targets, targets) - targets * log_q).sum(dim=1).mean()


@dataclass(kw_only=True)
class DEC(Scaled):
    """Deep embedded clustering; fields are its hyper-parameters, learned state ends in an underscore."""

    name: ClassVar = "dec"

    def log_joint(self, latent: Tensor) -> Tensor:
        """Log q of (1), up to a constant of the row."""
        clusters = self.networks_["clusters"]
        assert isinstance(clusters, Centroids)
        return log_similarity(latent, clusters.centroids)

    def training(self, data: Data) -> "Sharpening":
        """A training of the networks that were built."""
        return _Training(self, data)


class Sharpening(ScaledSteps):
    """What a training by (2) has, whatever it adds."""

    clusters: Centroids

    def __init__(self, model: DEC, data: Data) -> None:
        """As in `ScaledSteps`, with a target for each row."""
        super().__init__(model, data)
        self._targets = torch.zeros(len(data.rows), model.n_clusters, device=model.device_)

    @torch.no_grad()
    def prepare(self) -> None:
        """The targets of all rows (E2)."""
        log_q = log_soft_assignments(self.latents(), self.clusters.centroids)
        log_sizes = torch.logsumexp(self.data.rows.in_proportion(log_q), dim=0)
        self._targets.copy_(target_distribution(log_q, log_sizes))

    def sharpening(self, latent: Tensor, index: Tensor) -> Tensor:
        """Equation (2) of a batch."""
        return divergence(self._targets[index], log_soft_assignments(latent, self.clusters.centroids))


@final
class _Training(Sharpening):
    """One training; see `deep_clustering.training.loop.Training`."""

    def clustering_terms(self, views: Tensor, latent: Tensor, index: Tensor) -> dict[str, Tensor]:
        """Equation (2); the decoder rests."""
        loss = self.sharpening(latent, index)
        return {"loss": loss, "reconstruction": torch.zeros_like(loss), "clustering": loss}

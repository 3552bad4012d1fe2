"""The clustering step of DCAN: a mixture of diagonal Gaussians in latent space, moved by one iteration of k-means."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

# Rows at a time in the density, so that (n, n_clusters, latent_dim) never stands in memory whole.
_CHUNK = 2048
# A cluster of fewer rows than this is empty.
_EMPTY = 0.5


class LatentMixture(NamedTuple):
    """p(z) = sum_k w_k N(z; eta_k, diag(Sigma_k))."""

    log_weights: Tensor
    """log w_k, shape (n_clusters,)."""
    centroids: Tensor
    """eta_k, shape (n_clusters, latent_dim)."""
    variances: Tensor
    """Diagonal of Sigma_k, shape (n_clusters, latent_dim)."""


def nearest_centroid(latent: Tensor, centroids: Tensor) -> Tensor:
    """Index of the nearest centre in Euclidean distance, shape (n,), int64."""
    return torch.cdist(latent, centroids).argmin(dim=1)


def log_joint(latent: Tensor, mixture: LatentMixture) -> Tensor:
    """Log w_k + log N(z_i; eta_k, Sigma_k), shape (n, n_clusters), in nats."""
    log_norm = mixture.log_weights - (mixture.variances.log() + math.log(2 * math.pi)).sum(dim=1) / 2
    squares = [
        ((part.unsqueeze(1) - mixture.centroids).square() / mixture.variances).sum(dim=2)
        for part in latent.split(_CHUNK)
    ]
    return log_norm - torch.cat(squares) / 2


def memberships(assignments: Tensor, n_clusters: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """One-hot rows, shape (n, n_clusters); unlike torch's own it never waits for the device."""
    return (assignments.unsqueeze(1) == torch.arange(n_clusters, device=assignments.device)).to(dtype)


def m_step(
    latent: Tensor, responsibilities: Tensor, variance_floor: float, generator: torch.Generator
) -> LatentMixture:
    """The mixture that memberships ask for; an empty cluster moves to a random latent.

    Args:
        latent: Shape (n, latent_dim).
        responsibilities: Memberships, shape (n, n_clusters); rows sum to 1.
        variance_floor: Smallest variance, as a share of the mean variance of the latents.
        generator: Source of the new places of empty clusters.

    Returns:
        Weights n_k / n, means and variances of the members. An empty cluster has the weight of one row and the mean
        variance of the latents.
    """
    counts = responsibilities.sum(dim=0).unsqueeze(1)
    is_empty = counts < _EMPTY
    centre = latent.mean(dim=0)
    centred = latent - centre  # so that the difference of squares below does not cancel
    mean_variance = centred.square().mean()
    means = responsibilities.T @ centred / counts.clamp_min(_EMPTY)
    variances = responsibilities.T @ centred.square() / counts.clamp_min(_EMPTY) - means.square()
    places = torch.randint(len(latent), (len(counts),), generator=generator, device=latent.device)
    means = torch.where(is_empty, centred[places], means)
    floor = variance_floor * mean_variance + torch.finfo(latent.dtype).tiny
    variances = torch.where(is_empty, mean_variance, variances).maximum(floor)
    counts = counts.masked_fill(is_empty, 1).squeeze(1)
    return LatentMixture((counts / counts.sum()).log(), means + centre, variances)


def clustering_step(
    latent: Tensor, mixture: LatentMixture, variance_floor: float, generator: torch.Generator
) -> LatentMixture:
    """One iteration of k-means, in which the nearest centre decides.

    Args:
        latent: Shape (n, latent_dim).
        mixture: Where the iteration starts.
        variance_floor: As in `m_step`.
        generator: As in `m_step`.

    Returns:
        The mixture after the iteration.
    """
    nearest = nearest_centroid(latent, mixture.centroids)
    return m_step(latent, memberships(nearest, len(mixture.centroids), latent.dtype), variance_floor, generator)


def within_share(latent: Tensor, assignments: Tensor, n_clusters: int) -> Tensor:
    """Share of the variance of the latents that is left within clusters, scalar in [0, 1]."""
    one_hot = memberships(assignments, n_clusters, latent.dtype)
    centred = latent - latent.mean(dim=0)
    means = one_hot.T @ centred / one_hot.sum(dim=0).clamp_min(1).unsqueeze(1)
    return (centred - means[assignments]).square().sum() / centred.square().sum().clamp_min(1e-12)

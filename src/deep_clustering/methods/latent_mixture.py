"""The clustering step of DCAN: a mixture of diagonal Gaussians in latent space, moved by one iteration of k-means."""

import math
from collections.abc import Callable, Iterable
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

# Rows at a time in the density, so that (n, n_clusters, latent_dim) never stands in memory whole.
_CHUNK = 2048
ROWS_AT_ONCE = 2**18
"""Latents that are looked at together: of more, what is found out about them does not take memory for each."""
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
    return _mixture_of(latent, [responsibilities], variance_floor, generator)


def _mixture_of(
    latent: Tensor, responsibilities: Iterable[Tensor], variance_floor: float, generator: torch.Generator
) -> LatentMixture:
    """As `m_step`, of memberships that come in pieces of `ROWS_AT_ONCE` rows, or all of them at once."""
    centre, start = latent.mean(dim=0), 0
    found: list[Tensor] = []
    for part in responsibilities:
        centred = latent[start : start + len(part)] - centre  # so that the difference of squares below does not cancel
        start += len(part)
        share = centred.square().mean() * (len(part) / len(latent))
        sums = [part.sum(dim=0).unsqueeze(1), part.T @ centred, part.T @ centred.square(), share]
        found = [before + own for before, own in zip(found, sums, strict=True)] if found else sums
    counts, totals, squares, mean_variance = found
    is_empty = counts < _EMPTY
    means = totals / counts.clamp_min(_EMPTY)
    variances = squares / counts.clamp_min(_EMPTY) - means.square()
    places = torch.randint(len(latent), (len(counts),), generator=generator, device=latent.device)
    means = torch.where(is_empty, latent[places] - centre, means)
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
    centroids, n_clusters = mixture.centroids, len(mixture.centroids)
    parts = latent.split(ROWS_AT_ONCE)
    hard = (memberships(nearest_centroid(part, centroids), n_clusters, latent.dtype) for part in parts)
    return _mixture_of(latent, hard, variance_floor, generator)


def likeliest(latent: Tensor, mixture: LatentMixture) -> Tensor:
    """Cluster of the greatest responsibility, shape (n,), int64."""
    return torch.cat([log_joint(part, mixture).argmax(dim=1) for part in latent.split(ROWS_AT_ONCE)])


def within_share(latent: Tensor, assignments: Tensor, n_clusters: int) -> Tensor:
    """Share of the variance of the latents that is left within clusters, scalar in [0, 1]."""
    centre = latent.mean(dim=0)
    parts = list(zip(latent.split(ROWS_AT_ONCE), assignments.split(ROWS_AT_ONCE), strict=True))

    def total(of_part: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        return reduce(torch.add, (of_part(part - centre, own) for part, own in parts))

    counts = total(lambda _, own: memberships(own, n_clusters, latent.dtype).sum(dim=0))
    sums = total(lambda centred, own: memberships(own, n_clusters, latent.dtype).T @ centred)
    means = sums / counts.clamp_min(1).unsqueeze(1)
    within = total(lambda centred, own: (centred - means[own]).square().sum())
    return within / total(lambda centred, _: centred.square().sum()).clamp_min(1e-12)

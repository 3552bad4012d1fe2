"""The whitening of DCAN's latent and what is settled with it after training: deviations D11 and D14 of `dcan`."""

from collections.abc import Mapping
from functools import reduce
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from deep_clustering.methods.latent_mixture import (
    ROWS_AT_ONCE,
    LatentMixture,
    clustering_step,
    likeliest,
    within_share,
)
from deep_clustering.training.rows import joined

# Ridge, as a share of the mean variance, for a covariance that cannot be factored with the ridge of the options.
_STRONG_RIDGE = 1e-2
_SETTLED = ("code_mean", "code_factor", "within_share", *LatentMixture._fields)


class Whitening(NamedTuple):
    """What turns codes into latents of mean zero and identity covariance."""

    mean: Tensor
    """Shape (latent_dim,)."""
    factor: Tensor
    """Lower triangular L with L L' = covariance, shape (latent_dim, latent_dim)."""
    correction: Tensor
    """Ridge that a singular covariance needed beyond epsilon, as a share of the mean variance; scalar, mostly 0."""


def whitening(codes: Tensor, epsilon: float) -> Whitening:
    """Statistics that whiten a batch: deviation D11.

    Args:
        codes: Encoder outputs, shape (n, latent_dim).
        epsilon: Added to the diagonal of the covariance, as a share of its mean.

    Returns:
        Mean, factor and correction; the factor is NaN where the codes are.
    """
    mean = codes.mean(dim=0)
    covariance = reduce(torch.add, (_scatter(part - mean) for part in codes.split(ROWS_AT_ONCE))) / len(codes)
    identity = torch.eye(codes.shape[1], device=codes.device, dtype=codes.dtype)
    mean_variance = covariance.diagonal().mean()
    ridge = torch.finfo(codes.dtype).tiny + epsilon * mean_variance
    # cholesky_ex does not wait for the device to report a failure. Where it fails, or a pivot is all rounding, a
    # strong ridge takes the place of the small one.
    trial, failed = torch.linalg.cholesky_ex(covariance.detach() + ridge.detach() * identity)
    rounding = codes.shape[1] * torch.finfo(codes.dtype).eps * mean_variance.detach()
    is_singular = (failed > 0) | (trial.diagonal().square().amin() < rounding)
    correction = torch.where(is_singular, _STRONG_RIDGE, 0.0)
    factor, failed = torch.linalg.cholesky_ex(covariance + (ridge + correction * mean_variance) * identity)
    return Whitening(mean, factor.masked_fill(failed > 0, torch.nan), correction)


def _scatter(centred: Tensor) -> Tensor:
    return centred.T @ centred


def whiten(codes: Tensor, mean: Tensor, factor: Tensor) -> Tensor:
    """Latent z = L^{-1} (E(x) - mean), shape (n, latent_dim)."""
    return torch.linalg.solve_triangular(factor, (codes - mean).T, upper=False).T


class Settled(NamedTuple):
    """What turns codes into clusters once training has ended: whitening and mixture of all rows (D14)."""

    code_mean: Tensor
    code_factor: Tensor
    """As in `Whitening`."""
    mixture: LatentMixture
    within_share: Tensor
    """Share of the variance of the latents that is left within clusters, scalar."""

    def latent(self, codes: Tensor) -> Tensor:
        """Whitened latent of codes, shape (n, latent_dim)."""
        return whiten(codes, self.code_mean, self.code_factor)

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it as arrays on the host."""
        own = {"code_mean": self.code_mean, "code_factor": self.code_factor, "within_share": self.within_share}
        return {name: tensor.cpu().numpy() for name, tensor in (own | self.mixture._asdict()).items()}


def settle(
    codes: Tensor,
    mixture: LatentMixture,
    *,
    epsilon: float | None,
    iterations: int,
    variance_floor: float,
    generator: torch.Generator,
) -> tuple[Settled, Tensor]:
    """Find whitening and mixture anew from the codes of all rows: deviation D14.

    Args:
        codes: Encoder outputs of plain views, shape (n, latent_dim).
        mixture: Where the clustering steps start.
        epsilon: Ridge of the whitening, as a share of the mean variance; None leaves the codes as they are.
        iterations: Clustering steps.
        variance_floor: As in `latent_mixture.m_step`.
        generator: As in `latent_mixture.m_step`.

    Returns:
        What was found, and the cluster of each row, shape (n,), int64.
    """
    mean, factor = torch.zeros_like(codes[0]), torch.eye(codes.shape[1], device=codes.device)
    if epsilon is not None:
        mean, factor, _ = whitening(codes, epsilon)
    # The latents of all rows and nothing else of their size.
    latent = joined((whiten(part, mean, factor) for part in codes.split(ROWS_AT_ONCE)), len(codes))
    for _ in range(iterations):
        mixture = clustering_step(latent, mixture, variance_floor, generator)
    assignments = likeliest(latent, mixture)
    share = within_share(latent, assignments, len(mixture.centroids))
    return Settled(mean, factor, mixture, share), assignments


def settled_from(arrays: Mapping[str, np.ndarray], device: torch.device) -> Settled:
    """What `Settled.arrays` gave, on a device; other arrays may be among them."""
    tensors = {name: torch.tensor(arrays[name], device=device) for name in _SETTLED}
    mixture = LatentMixture(*(tensors[name] for name in LatentMixture._fields))
    return Settled(tensors["code_mean"], tensors["code_factor"], mixture, tensors["within_share"])

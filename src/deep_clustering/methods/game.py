"""The game of DCAN and the losses that stand beside it: equations (1) to (5), (10) and (11) of `dcan`."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from deep_clustering.methods.latent_mixture import LatentMixture, memberships
from deep_clustering.training.precision import autocast
from deep_clustering.training.workers import current


def positive_variances(mixture: LatentMixture, instance_noise: float) -> Tensor:
    """Variances of what the discriminator is shown as cluster k, equation (4), shape (n_clusters, latent_dim)."""
    return torch.zeros_like(mixture.variances) + instance_noise**2


def draw_positives(assignments: Tensor, centroids: Tensor, variances: Tensor, generator: torch.Generator) -> Tensor:
    """A draw from N(eta_k, variances_k) for each assignment k, equation (4), shape (n, latent_dim)."""
    normal = torch.randn(
        (len(assignments), centroids.shape[1]), generator=generator, device=centroids.device, dtype=centroids.dtype
    )
    return centroids[assignments] + variances.sqrt()[assignments] * normal


def wanted_outputs(assignments: Tensor, n_clusters: int, conditioning: str) -> Tensor:
    """What the discriminator is to say of a draw, equation (1).

    Args:
        assignments: Cluster of each draw, shape (n,).
        n_clusters: Number of clusters.
        conditioning: "k_way" or "none".

    Returns:
        t, shape (n, n_outputs); one output of each row is 1.
    """
    one_hot = memberships(assignments, n_clusters)
    return torch.ones_like(one_hot[:, :1]) if conditioning == "none" else one_hot


def discriminator_loss(logits_positive: Tensor, logits_negative: Tensor, targets: Tensor) -> Tensor:
    """Equation (1): binary cross-entropy summed over the outputs, mean over samples, in nats.

    Args:
        logits_positive: D of draws from the assigned cluster, shape (n, n_outputs).
        logits_negative: D of encoder latents, shape (n, n_outputs).
        targets: Wanted outputs for the draws, shape (n, n_outputs); for latents all outputs are wanted 0.

    Returns:
        Scalar.
    """
    positive = F.binary_cross_entropy_with_logits(logits_positive, targets, reduction="none")
    return (positive + F.softplus(logits_negative)).sum() / len(targets)


def encoder_loss(logits: Tensor, targets: Tensor, saturating: bool) -> Tensor:
    """The encoder's side of (10), or deviation D6, in nats.

    Args:
        logits: D of encoder latents, shape (n, n_outputs).
        targets: Outputs wanted for draws from their cluster, shape (n, n_outputs).
        saturating: E ln(1 - D_k) as in (10), else the binary cross-entropy towards the targets (D6).

    Returns:
        Scalar, summed over outputs, mean over samples.
    """
    if saturating:
        return -(targets * F.softplus(logits)).sum(dim=1).mean()
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(dim=1).mean()


def js_divergence(judged_positive: Tensor, judged_negative: Tensor) -> Tensor:
    """Equation (11): lower bound of the Jensen-Shannon divergence, in (-inf, ln 2] nats; below 0 it says nothing.

    Args:
        judged_positive: Logits for draws at the output of their cluster, shape (n,).
        judged_negative: Logits for latents at the output of their cluster, shape (n,).

    Returns:
        (E ln D + E ln(1 - D) + 2 ln 2) / 2, scalar.
    """
    value = F.logsigmoid(judged_positive).mean() + F.logsigmoid(-judged_negative).mean()
    return value / 2 + math.log(2)


def euclidean_loss(latent: Tensor, centroids: Tensor, assignments: Tensor) -> Tensor:
    """Equation (2): mean squared distance to the assigned centre, scalar."""
    return (latent - centroids[assignments]).square().sum(dim=1).mean()


def gaussian_kl(mean: Tensor, variances: Tensor, other_mean: Tensor, other_variances: Tensor) -> Tensor:
    """KL(N(mean, variances) || N(other_mean, other_variances)) of diagonal Gaussians, in nats.

    Args:
        mean: Shape (..., d).
        variances: Shape (..., d), positive.
        other_mean: Shape (..., d).
        other_variances: Shape (..., d), positive.

    Returns:
        Shape (...).
    """
    ratio = variances / other_variances
    return (ratio - 1 - ratio.log() + (mean - other_mean).square() / other_variances).sum(dim=-1) / 2


def gaussian_kl_loss(
    latent: Tensor, assignments: Tensor, centroids: Tensor, variances: Tensor, instance_noise: float
) -> Tensor:
    """Equation (5): divergence of each cluster's latents from the cluster, weighted by occupancy.

    Args:
        latent: Shape (n, latent_dim).
        assignments: Shape (n,).
        centroids: eta, shape (n_clusters, latent_dim).
        variances: Those of (4), shape (n_clusters, latent_dim), positive.
        instance_noise: s.

    Returns:
        Scalar, in nats.
    """
    one_hot = memberships(assignments, len(centroids), latent.dtype)
    counts = one_hot.sum(dim=0).unsqueeze(1)
    means = one_hot.T @ latent / counts.clamp_min(1)
    own = one_hot.T @ (latent - means[assignments]).square() / counts.clamp_min(1)
    # A single latent has no variance; its logarithm must stay finite.
    divergences = gaussian_kl(means, (own + instance_noise**2).clamp_min(1e-6), centroids, variances)
    return (counts.squeeze(1) * divergences).sum() / len(latent)


def play(
    judge: nn.Module,
    optimiser: torch.optim.Optimizer,
    latent: Tensor,
    assignments: Tensor,
    mixture: LatentMixture,
    *,
    conditioning: str,
    instance_noise: float,
    saturating: bool,
    precision: str,
    generator: torch.Generator,
) -> tuple[Tensor, dict[str, Tensor]]:
    """One round of (10): the discriminator is updated, then judges for the encoder. Each worker shows it its share.

    Args:
        judge: The discriminator.
        optimiser: Moves it.
        latent: Of the encoder, with its gradient, shape (n, latent_dim).
        assignments: Cluster of each latent, shape (n,).
        mixture: The clusters.
        conditioning: As in `wanted_outputs`.
        instance_noise: s, on draws and latents (D13).
        saturating: As in `encoder_loss`.
        precision: fp32 or bf16, of the discriminator's passes; what it says is in single precision.
        generator: Source of draws and noise.

    Returns:
        The encoder's loss, over the share of this worker, and scalars for the history.
    """
    workers = current()
    draws = draw_positives(assignments, mixture.centroids, positive_variances(mixture, instance_noise), generator)
    noise = torch.randn(latent.shape, generator=generator, device=latent.device, dtype=latent.dtype)
    noisy = workers.share(latent + instance_noise * noise)
    targets = workers.share(wanted_outputs(assignments, len(mixture.centroids), conditioning))
    with autocast(precision, latent.device):
        judged_both = judge(torch.cat([workers.share(draws), noisy.detach()]))
    positive, negative = judged_both.float().chunk(2)
    loss = discriminator_loss(positive, negative, targets)
    optimiser.zero_grad(set_to_none=True)
    (loss / workers.n).backward()
    judged = (targets * positive).sum(dim=1).detach(), (targets * negative).sum(dim=1).detach()
    terms = {
        "loss_discriminator": loss,
        "discriminator_accuracy_positive": (judged[0] > 0).float().mean(),
        "discriminator_accuracy_negative": (judged[1] < 0).float().mean(),
        "js_divergence": js_divergence(*judged),
    }
    of_batch = workers.sum_gradients(judge.parameters(), *terms.values())
    optimiser.step()
    # The encoder's gradient passes through the discriminator but must not move it.
    judge.requires_grad_(False)
    with autocast(precision, latent.device):
        judged_noisy = judge(noisy)
    loss_encoder = encoder_loss(judged_noisy.float(), targets, saturating)
    judge.requires_grad_(True)
    return loss_encoder, dict(zip(terms, of_batch, strict=True))

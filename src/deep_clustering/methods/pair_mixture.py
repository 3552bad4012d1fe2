"""Densities, E-step, M-step and mixing weights of NMM-EM: equations (1) to (10) of `neural_mixture`, as functions."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

# An e of zero would stay there, and one of one leaves nothing to learn from.
_LEAST_NOISE, _MOST_NOISE = 1e-4, 0.99


def log_mean_exp(values: Tensor) -> Tensor:
    """Compute log mean_j exp(values_jk) over the first axis, shape (..., n_clusters)."""
    return torch.logsumexp(values, dim=0) - math.log(len(values))


def sigmoid_relevance(scores: Tensor, mean: Tensor, std: Tensor, scale: float) -> Tensor:
    """Log of the unnormalised sigmoid density, equation (2).

    Args:
        scores: a, shape (n, ..., n_clusters).
        mean: Mean of each score over the sample, shape (..., n_clusters).
        std: Standard deviation of each score over the sample, shape (..., n_clusters).
        scale: c, the steepness.

    Returns:
        log s(c h), shape (n, ..., n_clusters), in nats.
    """
    return F.logsigmoid(scale * (scores - mean) / std.clamp_min(1e-6))


def log_relative_density(scores: Tensor, density: str, scale: float) -> Tensor:
    """Log density of each cluster relative to the data distribution, equations (1) and (2).

    Args:
        scores: a, shape (n, ..., n_clusters); the n rows stand for the sample space.
        density: "exponential" or "sigmoid".
        scale: c of the sigmoid density.

    Returns:
        log f, shape (n, ..., n_clusters), in nats; the mean over rows of exp(log f) is 1 for each cluster.
    """
    if density == "sigmoid":
        scores = sigmoid_relevance(scores, scores.mean(dim=0), scores.std(dim=0, correction=0), scale)
    return scores - log_mean_exp(scores)


def e_step(log_joint_density: Tensor, log_mixing_weights: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Posterior over clusters for each sample, and the log-likelihood, equations (3), (4), (7) and (9).

    Args:
        log_joint_density: log f_k(x_i) + log f_k(x'_i) (or of one view alone), shape (n, ..., n_clusters), in nats.
        log_mixing_weights: log pi_k, shape (..., n_clusters), in nats.
        noise: e, the probability of a pair without a common cluster, in [0, 1), shape (...); None for 0.

    Returns:
        log_responsibilities: shape (n, ..., n_clusters); exp sums over the last axis to 1, with noise to less.
        log_likelihood: log p of each sample, shape (n, ...), in nats.

    Raises:
        ValueError: if the axes behind the samples differ.
    """
    if log_joint_density.shape[1:] != log_mixing_weights.shape:
        expected = " x ".join(map(str, log_joint_density.shape[1:]))
        raise ValueError(f"e_step: expected {expected} mixing weights, got shape {tuple(log_mixing_weights.shape)}")
    weighted = log_joint_density + log_mixing_weights
    if noise is not None:
        weighted = weighted + torch.log1p(-noise).unsqueeze(-1)
    log_evidence = torch.logsumexp(weighted, dim=-1, keepdim=True)
    if noise is not None:
        log_evidence = torch.logaddexp(log_evidence, noise.log().unsqueeze(-1).expand_as(log_evidence))
    return weighted - log_evidence, log_evidence.squeeze(-1)


def m_step_loss(log_responsibilities: Tensor, log_joint_density: Tensor, log_mixing_weights: Tensor) -> Tensor:
    """Negative expected complete log-likelihood, equation (5).

    Args:
        log_responsibilities: From the E-step, shape (n, ..., n_clusters); no gradient flows through them.
        log_joint_density: As given to the E-step.
        log_mixing_weights: As given to the E-step.

    Returns:
        Shape (...), mean over samples, in nats; its gradient is that of the negative log-likelihood.
    """
    responsibilities = log_responsibilities.detach().exp()  # deviation N3
    return -(responsibilities * (log_joint_density + log_mixing_weights)).sum(dim=-1).mean(dim=0)


def consistency_loss(log_responsibilities_a: Tensor, log_responsibilities_b: Tensor) -> Tensor:
    """Negative log probability that two views fall into the same cluster, equation (8).

    Args:
        log_responsibilities_a: Of first views, shape (n, ..., n_clusters).
        log_responsibilities_b: Of second views, same shape.

    Returns:
        Shape (...), mean over samples, in nats, at least 0.
    """
    return -torch.logsumexp(log_responsibilities_a + log_responsibilities_b, dim=-1).mean(dim=0)


def update_shares(log_shares: Tensor, log_responsibilities: Tensor, momentum: float, floor: float) -> Tensor:
    """Moving average of the mean responsibilities, kept above a floor: deviation N4.

    Args:
        log_shares: Current log average s_k, shape (..., n_clusters).
        log_responsibilities: Of a batch, shape (n, ..., n_clusters).
        momentum: Share of the old average, in [0, 1].
        floor: Smallest average, as a share of 1 / n_clusters, in [0, 1].

    Returns:
        New log s_k, shape (..., n_clusters); exp sums to 1 over the last axis.
    """
    batch = log_responsibilities.detach().exp().mean(dim=0)
    shares = momentum * log_shares.exp() + (1 - momentum) * batch
    shares = (1 - floor) * shares / shares.sum(dim=-1, keepdim=True) + floor / shares.shape[-1]
    return shares.clamp_min(torch.finfo(shares.dtype).tiny).log()  # finite also of an empty cluster without a floor


def update_noise(noise: Tensor, log_responsibilities: Tensor, momentum: float) -> Tensor:
    """M-step of the pair noise, equation (10): the mean probability that no cluster is responsible.

    Args:
        noise: Current e, shape (...).
        log_responsibilities: Of a batch, from the E-step with that noise, shape (n, ..., n_clusters).
        momentum: Share of the old value, in [0, 1].

    Returns:
        New e, shape (...), in [1e-4, 0.99]: from zero itself it could not rise again.
    """
    unexplained = 1 - log_responsibilities.detach().exp().sum(dim=-1).mean(dim=0)
    return (momentum * noise + (1 - momentum) * unexplained).clamp(_LEAST_NOISE, _MOST_NOISE)


def mixing_weights(log_shares: Tensor, mixing: str) -> Tensor:
    """Mixing weights for average responsibilities: deviation N4.

    Args:
        log_shares: log s_k, shape (..., n_clusters).
        mixing: "learned" for pi_k = s_k, or "neutral" for pi_k proportional to the square of s_k.

    Returns:
        log pi_k, shape (..., n_clusters); exp sums to 1 over the last axis.
    """
    return torch.log_softmax((2 if mixing == "neutral" else 1) * log_shares, dim=-1)

"""What the clusters of the two views of rows say of each other: equations (12) and (13) of `dcan`."""

import torch
from torch import Tensor

# Permutations that information must exceed: by chance it does so once in so many and one.
_PERMUTATIONS = 19
# Halvings of the interval that holds the best share of noise.
_HALVINGS = 50


def mutual_information(first: Tensor, second: Tensor, n_clusters: int) -> Tensor:
    """Information that the clusters of two views share, equation (12).

    Args:
        first: Cluster of the first view of each pair, shape (n,), int64.
        second: Of the second view, same shape.
        n_clusters: Number of clusters.

    Returns:
        Scalar in [0, ln n_clusters], in nats; pairs count in both orders.
    """
    joint = _joint(first, second, n_clusters)
    shares = joint.sum(dim=1)
    return torch.special.xlogy(joint, joint / (shares.unsqueeze(1) * shares).clamp_min(1e-30)).sum()


def chance_information(first: Tensor, second: Tensor, n_clusters: int, generator: torch.Generator) -> Tensor:
    """Information that clusters of these shares have by chance: the most of 19 permutations of the rows.

    Args:
        first: Cluster of the first view of each row, shape (..., n), int64.
        second: Of the second view, same shape; all pairs of a row are permuted together.
        n_clusters: Number of clusters.
        generator: Source of the permutations.

    Returns:
        Scalar, in nats. Views that know nothing of each other have more of it once in twenty times.
    """
    n_rows = first.shape[-1]
    found = []
    for _ in range(_PERMUTATIONS):
        order = torch.randperm(n_rows, generator=generator, device=first.device)
        found.append(mutual_information(first.flatten(), second[..., order].flatten(), n_clusters))
    return torch.stack(found).amax()


def pair_log_likelihood(first: Tensor, second: Tensor, n_clusters: int) -> Tensor:
    """Log-likelihood of pairs under the hard clusters that they have, of the shares that they have, equation (13).

    Args:
        first: Cluster of the first view of each pair, shape (n,), int64.
        second: Of the second view, same shape.
        n_clusters: Number of clusters.

    Returns:
        Scalar in [0, entropy of the shares], in nats, at the share of noise that is best; pairs count in both orders.
    """
    joint = _joint(first, second, n_clusters).cpu().double()
    same, shares = joint.diagonal(), joint.sum(dim=1)
    is_used = same > 0
    same, excess = same[is_used], 1 / shares[is_used] - 1
    differing = (1 - same.sum()).clamp_min(0)
    # Concave in the noise e: its slope falls, and the best e is where it passes 0, or an end of [0, 1].
    low, high = torch.zeros(()).double(), torch.ones(()).double()
    for _ in range(_HALVINGS):
        noise = (low + high) / 2
        rises = differing / noise > (same * excess / (1 + (1 - noise) * excess)).sum()
        low, high = torch.where(rises, noise, low), torch.where(rises, high, noise)
    noise = (low + high) / 2
    return (same * torch.log1p((1 - noise) * excess)).sum() + torch.special.xlogy(differing, noise)


def _joint(first: Tensor, second: Tensor, n_clusters: int) -> Tensor:
    """Share of the pairs in each two clusters, in both orders, shape (n_clusters, n_clusters)."""
    places = torch.cat([first * n_clusters + second, second * n_clusters + first])
    return places.bincount(minlength=n_clusters**2).reshape(n_clusters, n_clusters) / len(places)

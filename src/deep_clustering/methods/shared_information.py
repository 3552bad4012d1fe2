"""What the clusters of the two views of rows say of each other: equations (12) and (13) of `dcan`."""

from collections.abc import Iterable, Iterator
from functools import reduce

import torch
from torch import Tensor

# Permutations that information must exceed: by chance it does so once in so many and one.
_PERMUTATIONS = 19
# Halvings of the interval that holds the best share of noise.
_HALVINGS = 50
# Pairs that are counted at a time, which bounds what counting takes.
_PAIRS = 2**18


def mutual_information(first: Tensor, second: Tensor, n_clusters: int) -> Tensor:
    """Information that the clusters of two views share, equation (12).

    Args:
        first: Cluster of the first view of each pair, shape (n,), integers.
        second: Of the second view, same shape.
        n_clusters: Number of clusters.

    Returns:
        Scalar in [0, ln n_clusters], in nats; pairs count in both orders.
    """
    return _information(_joint([(first, second)], n_clusters))


def _information(joint: Tensor) -> Tensor:
    shares = joint.sum(dim=1)
    return torch.special.xlogy(joint, joint / (shares.unsqueeze(1) * shares).clamp_min(1e-30)).sum()


def chance_information(first: Tensor, second: Tensor, n_clusters: int, generator: torch.Generator) -> Tensor:
    """Information that clusters of these shares have by chance: the most of 19 permutations of the rows.

    Args:
        first: Cluster of the first view of each row, shape (..., n), integers.
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
        pairs = zip(first.split(_PAIRS, dim=-1), order.split(_PAIRS), strict=True)
        permuted = ((part.flatten(), second[..., places].flatten()) for part, places in pairs)
        found.append(_information(_joint(permuted, n_clusters)))
    return torch.stack(found).amax()


def pair_log_likelihood(first: Tensor, second: Tensor, n_clusters: int) -> Tensor:
    """Log-likelihood of pairs under the hard clusters that they have, of the shares that they have, equation (13).

    Args:
        first: Cluster of the first view of each pair, shape (n,), integers.
        second: Of the second view, same shape.
        n_clusters: Number of clusters.

    Returns:
        Scalar in [0, entropy of the shares], in nats, at the share of noise that is best; pairs count in both orders.
    """
    joint = _joint([(first, second)], n_clusters).cpu().double()
    return best_log_likelihood(joint.diagonal(), joint.sum(dim=1))


def best_log_likelihood(same: Tensor, shares: Tensor) -> Tensor:
    """Equation (13) of any number of partitions at once, from what it depends on.

    Args:
        same: Share of the pairs that lie both in each cluster, shape (..., n_clusters), double precision.
        shares: Share of the rows of pairs in each cluster, same shape.

    Returns:
        Shape (...), in nats, at the share of noise that is best.
    """
    is_used = same > 0
    excess = torch.where(is_used, 1 / torch.where(is_used, shares, 1.0) - 1, 0.0)
    differing = (1 - same.sum(dim=-1)).clamp_min(0)
    # Concave in the noise e: its slope falls, and the best e is where it passes 0, or an end of [0, 1].
    low, high = torch.zeros_like(differing), torch.ones_like(differing)
    for _ in range(_HALVINGS):
        noise = (low + high) / 2
        rises = differing / noise > (same * excess / (1 + (1 - noise.unsqueeze(-1)) * excess)).sum(dim=-1)
        low, high = torch.where(rises, noise, low), torch.where(rises, high, noise)
    noise = (low + high) / 2
    kept = (same * torch.log1p((1 - noise.unsqueeze(-1)) * excess)).sum(dim=-1)
    return kept + torch.special.xlogy(differing, noise)


def _joint(pairs: Iterable[tuple[Tensor, Tensor]], n_clusters: int) -> Tensor:
    """Share of the pairs, which come in pieces, in each two clusters, in both orders, (n_clusters, n_clusters)."""

    def counts() -> Iterator[Tensor]:
        for first, second in pairs:
            for one, other in zip(first.split(_PAIRS), second.split(_PAIRS), strict=True):
                yield (one.long() * n_clusters + other).bincount(minlength=n_clusters**2)

    one_way = reduce(torch.add, counts()).reshape(n_clusters, n_clusters)
    return (one_way + one_way.T) / (2 * one_way.sum())

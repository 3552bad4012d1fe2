"""Several heads of NMM-EM on one trunk: their sizes, what they compare by, and which is kept.

Deviations N11 and N14 of `neural_mixture`.
"""

import logging
from collections.abc import Mapping, Sequence

import torch
from sklearn.metrics import adjusted_rand_score
from torch import Tensor, nn

from deep_clustering.training.loop import Data

logger = logging.getLogger(__name__)

# Rows of each cluster in a batch below which, and to which, a batch should grow.
_FEW_ROWS, _ENOUGH_ROWS = 16, 50
# Resamplings of the rows behind the probability of each number of clusters.
_RESAMPLINGS = 500
# Means of resamplings of more rows are drawn from their normal distribution.
_MOST_RESAMPLED = 100_000
# Log weight of clusters that a head narrower than the widest does not have; finite, so that 0 times it is 0.
_ABSENT = -1e30
# Fresh pairs of views of each row that choose a head or merge components: four, or as few as one
# where the rows are so many that one pair of each says enough.
_ROUNDS, _ENOUGH_PAIRS = 4, 40_000


def head_sizes(n_clusters: int | Mapping[str, int], heads: int, mixing: str, start_kind: str = "none") -> list[int]:
    """Number of clusters of each head that may be kept.

    Args:
        n_clusters: The number of all heads, or min and max of a range with one head for each number.
        heads: How many heads there are of one number.
        mixing: The kind of mixing weights.
        start_kind: The kind of the start.

    Returns:
        The numbers, in the order of the heads.

    Raises:
        ValueError: if a range is not one, or comes with several heads of a number, with weights that are learned or
            with a start of one number, saying all at once.
    """
    if isinstance(n_clusters, int):
        return [n_clusters] * heads
    if set(n_clusters) != {"min", "max"}:
        raise ValueError(f"n_clusters: expected a number or min and max, got {n_clusters}")
    if n_clusters["min"] < 2:
        raise ValueError(f"n_clusters.min must be at least 2, got {n_clusters['min']}")
    if n_clusters["max"] <= n_clusters["min"]:
        raise ValueError(f"n_clusters.max must be at least {n_clusters['min'] + 1}, got {n_clusters['max']}")
    needs = []
    if heads != 1:
        needs.append(f"heads = 1 for each number, got {heads}")
    if mixing != "uniform":
        needs.append(f"mixing = uniform, got {mixing}")
    if start_kind in ("consensus", "given"):
        needs.append(f"another start, as {{kind: kmeans, n_init: 10, hold: 0.1}}, got kind {start_kind}")
    if needs:
        raise ValueError(f"n_clusters: a range needs {'; '.join(needs)}")
    return list(range(n_clusters["min"], n_clusters["max"] + 1))


def warn_of_small_batches(n_batch: int, n_samples: int, n_clusters: int) -> None:
    """Say that densities (1) which are made of a few rows of a cluster in each batch are poor ones."""
    if n_batch < min(n_samples, _FEW_ROWS * n_clusters):
        logger.warning(
            "neural_mixture: batches of %d rows have %d for each of %d clusters, of which it makes their densities; "
            "batch_size: %d is better by far",
            n_batch,
            n_batch // n_clusters,
            n_clusters,
            min(n_samples, _ENOUGH_ROWS * n_clusters),
        )


def n_rounds(n_samples: int) -> int:
    """Fresh pairs of views of each row that are enough to look at a model."""
    return max(1, min(_ROUNDS, _ENOUGH_PAIRS // n_samples))


def rms_length(data: Data, trunk: nn.Module) -> float:
    """Root mean square length of what the last layer sees of the plain rows of a training; 1 if all are zero."""
    length = data.apply(lambda views: trunk(views).float().square().sum(dim=1)).mean().sqrt()
    return float(length) or 1.0


def uniform_weights(sizes: Sequence[int], device: torch.device) -> Tensor:
    """Log mixing weights 1 / K of heads as wide as the widest, shape (heads, n_clusters), in nats."""
    n_clusters = torch.tensor(sizes, device=device).unsqueeze(1)
    is_there = torch.arange(max(sizes), device=device) < n_clusters
    return torch.where(is_there, -n_clusters.log(), torch.tensor(_ABSENT))


def bounds(sizes: Sequence[int], noise: Tensor) -> Tensor:
    """Greatest log-likelihood of each candidate, `pair_bound.bound`, shape (n_candidates,), in nats.

    Args:
        sizes: Number of clusters of each candidate.
        noise: e of each head; those behind the candidates are left out, shape (n_heads,).
    """
    n_clusters, of_candidates = torch.tensor(sizes, device=noise.device), noise[: len(sizes)]
    return torch.log((1 - of_candidates) * n_clusters + of_candidates)


def comparable(log_likelihoods: Tensor, sizes: Sequence[int], noise: Tensor) -> Tensor:
    """What candidates are compared by: log-likelihood, as a share of the bound if their numbers of clusters differ.

    Args:
        log_likelihoods: Of each head, in nats; those behind the candidates are left out, shape (..., n_heads).
        sizes: Number of clusters of each candidate.
        noise: e of each head, shape (n_heads,).

    Returns:
        Shape (..., n_candidates).
    """
    of_candidates = log_likelihoods[..., : len(sizes)]
    if len(set(sizes)) == 1:
        return of_candidates
    return of_candidates / bounds(sizes, noise)


def late_rise(log_likelihoods: Sequence[float]) -> Tensor:
    """How much the log-likelihood still rose in the end: the last tenth of the epochs against the tenth before.

    Args:
        log_likelihoods: Of each epoch, in nats.

    Returns:
        Scalar, in nats; 0 of a single epoch.
    """
    tenth = max(1, len(log_likelihoods) // 10)
    last, before = log_likelihoods[-tenth:], log_likelihoods[-2 * tenth : -tenth]
    return torch.tensor(sum(last) / tenth - sum(before) / len(before) if before else 0.0)


def agreement_of_best(assignments: Sequence[Tensor], scores: Tensor) -> Tensor:
    """Adjusted Rand index of the two candidates of greatest score: 1 where both found the same clusters.

    Args:
        assignments: Clusters of all rows by each of at least two candidates, shape (n_samples,).
        scores: Of the candidates, shape (n_candidates,).

    Returns:
        Scalar.
    """
    best, second = scores.topk(2).indices.tolist()
    return torch.tensor(adjusted_rand_score(assignments[best].cpu(), assignments[second].cpu()))


def probable_numbers(shares: Tensor, generator: torch.Generator) -> Tensor:
    """How often each number of clusters has the greatest log-likelihood as a share of its bound: deviation N14.

    Args:
        shares: Of each row by the head of each number, see `comparable`, shape (n, n_heads).
        generator: Source of the resampling of rows (bootstrap).

    Returns:
        Share of the resamplings that each number wins, shape (n_heads,); sums to 1.
    """
    n = len(shares)
    if n > _MOST_RESAMPLED:
        winners = _means_of_many(shares, generator).argmax(dim=1).to(shares.device)
    else:
        drawn = (torch.randint(n, (n,), generator=generator, device=shares.device) for _ in range(_RESAMPLINGS))
        winners = torch.stack([shares[rows].mean(dim=0).argmax() for rows in drawn])
    return winners.bincount(minlength=shares.shape[1]) / _RESAMPLINGS


def _means_of_many(shares: Tensor, generator: torch.Generator) -> Tensor:
    """Means of resamplings of so many rows that they are normally distributed, (_RESAMPLINGS, n_heads).

    Their mean is that of the rows and their covariance a share 1 / n of that of the rows, which one pass finds.
    """
    n, origin = len(shares), shares[:1].cpu().double()
    total, products = torch.zeros_like(origin[0]), torch.zeros(shares.shape[1], shares.shape[1]).double()
    for piece in shares.split(_MOST_RESAMPLED):
        apart = piece.cpu().double() - origin
        total, products = total + apart.sum(dim=0), products + apart.T @ apart
    mean = total / n
    variances, axes = torch.linalg.eigh(products / n - mean[:, None] * mean)
    noise = torch.randn(_RESAMPLINGS, len(mean), generator=generator, device=shares.device).cpu().double()
    return mean + noise @ (axes * (variances.clamp_min(0) / n).sqrt()).T + origin


def keep_head(network: nn.Sequential, head: int, width: int, size: int) -> None:
    """Cut the last layer of a network down to one head, in place.

    Args:
        network: Ends in a linear layer with `width` outputs for each head.
        head: Which one to keep.
        width: Outputs of each head.
        size: Its first outputs, that are clusters of it.
    """
    last = network[-1]
    assert isinstance(last, nn.Linear)
    places = slice(head * width, head * width + size)
    kept = nn.Linear(last.in_features, size).to(last.weight.device)
    with torch.no_grad():
        kept.weight.copy_(last.weight[places])
        kept.bias.copy_(last.bias[places])
    network[-1] = kept

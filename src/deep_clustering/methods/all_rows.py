"""Densities of all rows, normalised over all of them: at once, or piece by piece where rows are many.

In pieces the network looks at the rows again instead of keeping what it said of them: once for what densities are
normalised by, the sigmoid density twice, and once for the densities. What is held does not grow with the rows.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from deep_clustering.methods.pair_mixture import log_mean_exp, log_relative_density, sigmoid_relevance
from deep_clustering.training.needs import MOST_OUTPUTS
from deep_clustering.training.rows import joined

# Scores of all rows that are in memory at once, 134 MB of each view; of more they come in pieces.
MOST_AT_ONCE = MOST_OUTPUTS

Scores = Callable[[], Iterator[Tensor]]
"""Scores of all rows in order, in pieces of shape (n, ..., n_clusters); the same at every call."""


class Normaliser(NamedTuple):
    """What makes scores densities, each of shape (..., n_clusters)."""

    mean: Tensor
    std: Tensor
    log_normaliser: Tensor

    def relevance(self, scores: Tensor, density: str, scale: float) -> Tensor:
        """Log of the unnormalised density, shape (n, ..., n_clusters)."""
        return sigmoid_relevance(scores, self.mean, self.std, scale) if density == "sigmoid" else scores


class _Moments:
    """Mean and variance of rows that come in pieces, in double precision where the device has it."""

    def __init__(self) -> None:
        self._n, self._mean, self._squares = 0, torch.zeros(()), torch.zeros(())

    def add(self, rows: Tensor) -> None:
        if not len(rows):
            return
        mean, variance = _wide(rows).mean(dim=0), _wide(rows).var(dim=0, correction=0)
        if not self._n:
            self._mean, self._squares = torch.zeros_like(mean), torch.zeros_like(mean)
        n, apart = self._n + len(rows), mean - self._mean
        self._squares = self._squares + variance * len(rows) + apart.square() * self._n * len(rows) / n
        self._mean = self._mean + apart * len(rows) / n
        self._n = n

    def mean_and_std(self) -> tuple[Tensor, Tensor]:
        return self._mean.float(), (self._squares / self._n).sqrt().float()


class _LogMean:
    """Log of the mean of exp of rows that come in pieces, in double precision where the device has it."""

    def __init__(self) -> None:
        self._n, self._total = 0, torch.full((), -math.inf)

    def add(self, rows: Tensor) -> None:
        self._n += len(rows)
        self._total = torch.logaddexp(self._total.to(rows.device), torch.logsumexp(_wide(rows), dim=0))

    def value(self) -> Tensor:
        return (self._total - math.log(self._n)).float()


def normaliser_in_pieces(scores: Scores, density: str, scale: float) -> Normaliser:
    """What scores of all rows are normalised by, without having them at once.

    Args:
        scores: Of all rows that count, each as often as it does.
        density: exponential or sigmoid.
        scale: c of the sigmoid density.

    Returns:
        Mean and deviation of the scores, and the log of the mean unnormalised density.
    """
    moments, total = _Moments(), _LogMean()
    for piece in scores():
        moments.add(piece)
        total.add(piece)
    found = Normaliser(*moments.mean_and_std(), total.value())
    if density != "sigmoid":
        return found
    total = _LogMean()
    for piece in scores():
        total.add(found.relevance(piece, density, scale))
    return found._replace(log_normaliser=total.value())


def _wide(values: Tensor) -> Tensor:
    return values if values.device.type == "mps" else values.double()


def densities_of_pairs(
    scores: Scores, n_rows: int, n_scores: int, density: str, scale: float
) -> Iterator[tuple[Tensor, Tensor]]:
    """Log densities of both views of all rows, each view normalised over all rows.

    Args:
        scores: In each piece those of first views, then those of second views, shape (2 n, ..., n_clusters).
        n_rows: Number of rows.
        n_scores: Scores of one view of a row.
        density: exponential or sigmoid.
        scale: c of the sigmoid density.

    Yields:
        log f of first and of second views, shape (n, ..., n_clusters) each, in nats: of all rows at once, unless they
        have more than `MOST_AT_ONCE` scores.
    """
    if n_rows * n_scores <= MOST_AT_ONCE:
        # Each set of scores is let go as soon as there is what is made of it.
        whole = joined((torch.stack(piece.chunk(2), dim=1) for piece in scores()), n_rows)
        views = [view.contiguous() for view in whole.unbind(dim=1)]
        del whole
        first = log_relative_density(views.pop(0), density, scale)
        yield first, log_relative_density(views.pop(), density, scale)
        return

    def of_both() -> Iterator[Tensor]:  # side by side, so that each view has its own normalisers
        for piece in scores():
            yield torch.stack(piece.chunk(2), dim=1)

    found = normaliser_in_pieces(of_both, density, scale)
    for piece in of_both():
        log_density = found.relevance(piece, density, scale) - found.log_normaliser
        first, second = log_density.unbind(dim=1)
        yield first, second


def normaliser_at_once(scores: Tensor, density: str, scale: float) -> Normaliser:
    """The same as `normaliser_in_pieces` of scores that are in memory, shape (n, ..., n_clusters)."""
    found = Normaliser(scores.mean(dim=0), scores.std(dim=0, correction=0), torch.zeros(()))
    return found._replace(log_normaliser=log_mean_exp(found.relevance(scores, density, scale)))


def counted_pieces(scores: Scores, times: Tensor | None) -> Scores:
    """Scores in which each row is as often as it counts.

    Args:
        scores: Of each row once.
        times: How often each row counts, shape (n_rows,), int64; None: once.
    """
    if times is None:
        return scores

    def counted() -> Iterator[Tensor]:
        start = 0
        for piece in scores():
            yield piece.repeat_interleave(times[start : start + len(piece)], dim=0)
            start += len(piece)

    return counted

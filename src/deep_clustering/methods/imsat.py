"""IMSAT: information maximising self-augmented training.

Hu, Miyato, Tokui, Matsumoto and Sugiyama, "Learning discrete representations via information maximizing self-augmented
training", ICML 2017, arXiv 1702.08720. A network gives the clusters; they are to say much of the rows, and to stay what
they are where a row is moved a little in the direction that changes them most.

Symbols
    p(y | x)    probabilities of the clusters          softmax(encoder)               (n, n_clusters)
    H           entropy in nats
    r_i         perturbation of row i                  adversarial_direction, random_direction
    x_i'        its neighbour of number n_neighbours   the second half of the views
    alpha, xi   radius, size of the trial step         radius, trial_step
    lambda, mu  weights                                information_weight, balance_weight

Equations
    (1) loss          L = R + lambda (H(Y | X) - mu H(Y))
    (2) conditional   H(Y | X) = -1 / n sum_ik p(k | x_i) ln p(k | x_i)
    (3) marginal      H(Y) = -sum_k p_k ln p_k, p_k = 1 / n sum_i p(k | x_i) over the batch
    (4) invariance    R = 1 / n sum_i KL(p(. | x_i) || p(. | x_i + r_i)), the first argument being fixed
    (5) length        |r_i| = e_i = alpha |x_i - x_i'|
    (6) adversarial   r_i = e_i g / |g|, g = gradient of KL(p(. | x_i) || p(. | x_i + xi d)) by d, |d| = 1 at random
    (7) random        r_i = e_i d, |d| = 1 at random

Deviations from the paper, or choices where it is silent
    S1 weights start as torch has them, not by the authors' scales
    S2 neighbours are exact, by Euclidean distance; of fewer rows the last one there is
    S3 a step passes each row through the network with the batch's own statistics; only the plain rows move the running
       ones, which prediction uses
    S4 restarts and runs compare by (1) of the last epoch, the mean over its batches
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, final

import numpy as np
import torch
from annotated_types import Ge, Gt
from scipy import sparse
from sklearn.neighbors import NearestNeighbors
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from deep_clustering.methods.classifying import Classifying, ClassifyingSteps
from deep_clustering.training.history import History
from deep_clustering.training.loop import Data
from deep_clustering.training.precision import autocast
from deep_clustering.training.views import View, make_view

logger = logging.getLogger(__name__)


def conditional_entropy(log_p: Tensor) -> Tensor:
    """Equation (2) of log probabilities (n, n_clusters), scalar."""
    return -(log_p.exp() * log_p).sum(dim=1).mean()


def marginal_entropy(log_p: Tensor) -> Tensor:
    """Equation (3), scalar; its gradient is finite where a cluster has no row."""
    shares = log_p.exp().mean(dim=0).clamp_min(torch.finfo(log_p.dtype).tiny)
    return -(shares * shares.log()).sum()


def invariance(log_p: Tensor, log_moved: Tensor) -> Tensor:
    """Equation (4) of log probabilities of rows and of moved rows, scalar; gradients reach the moved ones alone."""
    return F.kl_div(log_moved, log_p.detach(), reduction="batchmean", log_target=True)


def unit(directions: Tensor) -> Tensor:
    """Directions (n, ...) of Euclidean length one each; that of length zero stays."""
    return F.normalize(directions.flatten(1), dim=1).view_as(directions)


@contextmanager
def still_statistics(network: nn.Module) -> Iterator[None]:
    """Let batch normalisation use the statistics of a batch without noting them."""
    layers = [module for module in network.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    before = [layer.momentum for layer in layers]
    try:
        for layer in layers:
            layer.momentum = 0.0
        yield
    finally:
        for layer, momentum in zip(layers, before, strict=True):
            layer.momentum = momentum


def distant_neighbours(features: np.ndarray | sparse.csr_matrix, n_neighbours: int) -> np.ndarray:
    """The neighbour of a number of each row by Euclidean distance, shape (n_samples, 1)."""
    rows = features.reshape(len(features), -1) if isinstance(features, np.ndarray) else features
    rows = rows / max(float(abs(rows).max()), np.finfo(np.float32).tiny)  # so that no square overflows
    index = NearestNeighbors(n_neighbors=n_neighbours, algorithm="brute").fit(rows)
    return index.kneighbors(return_distance=False)[:, -1:]  # without an argument a row is not its own neighbour


@dataclass(kw_only=True)
class IMSAT(Classifying):
    """IMSAT; fields are its hyper-parameters, learned state ends in an underscore."""

    name: ClassVar = "imsat"
    label_free_score: ClassVar[tuple[str, str]] = ("imsat_loss", "min")
    shown: ClassVar = ("loss", "invariance")

    perturbation: Literal["adversarial", "random"]
    """Direction in which rows are moved: (6) or (7)."""
    radius: Annotated[float, Ge(0)]
    """alpha of (5)."""
    n_neighbours: Annotated[int, Ge(1)]
    """Which of the nearest rows the length of a move is a share of the distance to (S2)."""
    trial_step: Annotated[float, Gt(0)]
    """xi of (6)."""
    information_weight: Annotated[float, Ge(0)]
    """lambda of (1)."""
    balance_weight: Annotated[float, Ge(0)]
    """mu of (1); above 1 it prefers clusters of one size."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.view: View = make_view({"kind": "neighbours"})

    def find_neighbours(self, features: np.ndarray | sparse.csr_matrix, given: np.ndarray | None) -> np.ndarray:
        """The one neighbour of each row that (5) asks for, whatever is given."""
        n_others = features.shape[0] - 1
        if n_others < self.n_neighbours:
            logger.warning("imsat: n_neighbours is %d, there are %d other rows", self.n_neighbours, n_others)
        return distant_neighbours(features, min(self.n_neighbours, n_others))

    def training(self, data: Data) -> "_Training":
        """A training of the network that was built."""
        return _Training(self, data)


@final
class _Training(ClassifyingSteps):
    """One training; see `deep_clustering.training.loop.Training`."""

    model: IMSAT

    def step(self, views: Tensor, index: Tensor, held: Tensor | None) -> dict[str, Tensor]:
        """One step on a batch of rows, the first half of the views."""
        model = self.model
        rows, others = views.chunk(2)
        length = model.radius * (rows - others).flatten(1).norm(dim=1).view(-1, *[1] * (rows.ndim - 1))
        log_p = self._log_p(rows)
        with still_statistics(self.network):
            moved = rows + length * self._direction(rows, log_p)
            invariance_ = invariance(log_p, self._log_p(moved))
        conditional, marginal = conditional_entropy(log_p), marginal_entropy(log_p)
        loss = invariance_ + model.information_weight * (conditional - model.balance_weight * marginal)
        self.descend(loss)
        return {"loss": loss, "invariance": invariance_, "entropy": conditional, "occupancy_entropy": marginal}

    def _log_p(self, rows: Tensor) -> Tensor:
        with autocast(self.precision, rows.device):
            logits = self.network(rows)
        return torch.log_softmax(logits.float(), dim=1)

    def _direction(self, rows: Tensor, log_p: Tensor) -> Tensor:
        """Unit directions of (6) or (7)."""
        generator = self.data.generator
        direction = unit(torch.randn(rows.shape, generator=generator, device=rows.device))
        if self.model.perturbation == "random":
            return direction
        trial = direction.requires_grad_()
        change = invariance(log_p, self._log_p(rows + self.model.trial_step * trial))
        (gradient,) = torch.autograd.grad(change, trial)
        return unit(gradient)

    def finish(self, history: History) -> Tensor:
        """Clusters of all rows, and (1) of the last epoch (S4)."""
        history.final(imsat_loss=torch.tensor(history.column("loss")[-1]))
        return self.assign()

"""TURTLE: the assignments of a data set that a linear classifier learns fastest.

Gadetsky, Jiang and Brbic, "Let go of your labels with unsupervised transfer", ICML 2024, arXiv 2406.07236. Equations
and settings as in the authors' public code, mlbio-epfl/turtle. Linear task encoders assign the rows; a linear
classifier that starts anew learns these assignments by a few steps; they are moved towards what it has learned.

Symbols
    z_s       the row in space s: its columns of representation s                 spaces
    theta_s   task encoder of space s, linear                                     TaskEncoder
    tau_k(x)  probability of cluster k                                            tau
    w_s       inner classifier of space s, linear                                 inner
    gamma     weight of the entropy                                               entropy_weight
    M, T      inner steps for each outer step, and outer steps                    inner_steps, steps
    H         task encoders that are trained side by side                         heads

Equations
    (1) assignments    tau(x) = mean_s tau_s(x),  tau_s(x) = softmax(g * v/|v| z_s + b),  |v| by cluster
    (2) inner problem  w = M steps of Adam from a random start on sum_s mean_i CE(w_s(z_si), tau(x_i)), tau fixed
    (3) outer problem  one step of Adam on sum_s mean_i CE(w_s(z_si), tau(x_i)) - gamma sum_s H(mean_i tau_s(x_i)),
                       w fixed: only tau has a gradient
    (4) cross-entropy  CE(a, t) = -sum_k t_k log softmax_k(a),  entropy H(p) = -sum_k p_k log p_k
    (5) Adam, step t   m = .9 m + .1 g,  v = .999 v + .001 g^2,  w -= rate m / (1 - .9^t) / (sqrt(v / (1 - .999^t)) + e)

Deviations from the paper, or choices where it is silent
    T1 batches are those of a shuffled pass over the rows, not draws of their own; of at most as many rows as a batch
        has, each batch is all of them, as there. The last pass is finished, so that there may be some more steps
    T2 several task encoders may be trained side by side on the same batches, each as if it were alone; the one of
        least (3) is kept, a mean over about the last hundred steps, since each inner start is random        heads
    T3 the paper tells settings apart by the cross-validated accuracy of a classifier on its own assignments; here runs
        compare by (3), too
    T4 several representations stand side by side in the columns of the rows                                 spaces
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Self, final

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn

from deep_clustering.checks import check_features, check_rows
from deep_clustering.methods.estimator import Idle, Networked
from deep_clustering.options import check_fields
from deep_clustering.training.checkpoints import Checkpoints
from deep_clustering.training.described import Described, Describing
from deep_clustering.training.fitting import fit
from deep_clustering.training.history import History
from deep_clustering.training.loop import Data
from deep_clustering.training.optimisers import Schedule, make_optimiser
from deep_clustering.training.rows import Rows, describe_in_chunks, n_batches, resolve_device
from deep_clustering.training.views import View
from deep_clustering.training.views.same import Same

# Adam's, of both problems.
_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8
# Weight of the newest step in the mean objective that heads compare by.
_NEWEST = 0.01

Linear = tuple[Tensor, Tensor]
"""Weights (heads, n_clusters, d) and biases (heads, n_clusters)."""


def linear(rows: Tensor, weights: Tensor, biases: Tensor) -> Tensor:
    """Linear functions of rows (n, d) by (heads, n_clusters, d) and (heads, n_clusters): (n, heads, n_clusters)."""
    flat = torch.addmm(biases.reshape(-1), rows, weights.reshape(-1, weights.shape[2]).t())
    return flat.view(len(rows), *biases.shape)


def draw_linear(n_heads: int, n_clusters: int, width: int, generator: torch.Generator | None = None) -> Linear:
    """A random start as torch's linear layers have it: uniform within 1 / sqrt(width)."""
    device = generator.device if generator else None
    bound = 1 / math.sqrt(width)
    weights = torch.empty(n_heads, n_clusters, width, device=device).uniform_(-bound, bound, generator=generator)
    return weights, torch.empty(n_heads, n_clusters, device=device).uniform_(-bound, bound, generator=generator)


def cross_entropy(logits: Tensor, tau: Tensor) -> Tensor:
    """Equation (4), mean over the rows (n, heads, n_clusters): shape (heads,)."""
    return -(tau * torch.log_softmax(logits, dim=2)).sum(dim=2).mean(dim=0)


def fit_inner(rows: Tensor, tau: Tensor, start: Linear, n_steps: int, rate: float) -> Linear:
    """Equation (2) in one space: steps of Adam on the cross-entropy from a start.

    Args:
        rows: The batch in the space, shape (n, d).
        tau: (1), shape (n, heads, n_clusters).
        start: Weights and biases, left as they are.
        n_steps: M.
        rate: Learning rate.

    Returns:
        The fitted weights and biases, each head by itself.
    """
    fitted = tuple(part.clone() for part in start)
    means, squares = ([torch.zeros_like(part) for part in start] for _ in range(2))
    for step in range(1, n_steps + 1):
        # The gradient of (4) by the logits, tau sums to one.
        error = (torch.softmax(linear(rows, *fitted), dim=2) - tau).div_(len(rows))
        gradients = (error.flatten(1).t() @ rows).view_as(fitted[0]), error.sum(dim=0)
        for part, gradient, mean, square in zip(fitted, gradients, means, squares, strict=True):
            mean.lerp_(gradient, 1 - _BETA1)
            square.mul_(_BETA2).addcmul_(gradient, gradient, value=1 - _BETA2)
            root = (square.sqrt() / math.sqrt(1 - _BETA2**step)).add_(_EPSILON)
            part.addcdiv_(mean, root, value=-rate / (1 - _BETA1**step))
    return fitted[0], fitted[1]


def outer_objective(
    logits: Sequence[Tensor], of_spaces: Sequence[Tensor], entropy_weight: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Equation (3), its cross-entropy, and the mean entropy of the shares over the spaces, each of shape (heads,).

    Args:
        logits: Of the fitted inner classifiers in each space, shape (n, heads, n_clusters).
        of_spaces: tau_s, shape (n, heads, n_clusters).
        entropy_weight: gamma.

    Returns:
        Objective, cross-entropy and entropy; gradients reach tau only.
    """
    tau = torch.stack(list(of_spaces)).mean(dim=0)
    fit_of_tau = torch.stack([cross_entropy(one.detach(), tau) for one in logits]).sum(dim=0)
    entropies = torch.stack([torch.special.entr(one.mean(dim=0)).sum(dim=1) for one in of_spaces])
    return fit_of_tau - entropy_weight * entropies.sum(dim=0), fit_of_tau, entropies.mean(dim=0)


class TaskEncoder(nn.Module):
    """Equation (1) before the softmax: weight-normalised linear functions in each space, of several heads."""

    def __init__(self, widths: Sequence[int], n_heads: int, n_clusters: int) -> None:
        super().__init__()
        self.widths = list(widths)
        starts = [draw_linear(n_heads, n_clusters, width) for width in widths]
        self.directions = nn.ParameterList([nn.Parameter(weights) for weights, _ in starts])
        self.gains = nn.ParameterList([nn.Parameter(weights.norm(dim=2, keepdim=True)) for weights, _ in starts])
        self.biases = nn.ParameterList([nn.Parameter(biases) for _, biases in starts])

    def split(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Rows (n, ...) by space, each of shape (n, width)."""
        return rows.flatten(1).split(self.widths, dim=1)

    def forward(self, rows: Tensor) -> Tensor:
        """Logits in each space, shape (n, spaces, heads, n_clusters)."""
        parts = zip(self.split(rows), self.directions, self.gains, self.biases, strict=True)
        return torch.stack([linear(z, g * v / v.norm(dim=2, keepdim=True), b) for z, v, g, b in parts], dim=1)


@dataclass(frozen=True, kw_only=True)
class _Network:
    """Builds the task encoders."""

    spaces: list[int]
    heads: int

    def build(self, row_shape: tuple[int, ...], n_outputs: int) -> nn.Sequential:
        """The task encoders of rows of a shape; raises ValueError if the spaces are not all of their columns."""
        width = math.prod(row_shape)
        if self.spaces and sum(self.spaces) != width:
            raise ValueError(
                f"turtle: the widths in spaces must sum to the {width} values of a row, got {self.spaces} with sum "
                f"{sum(self.spaces)}"
            )
        return nn.Sequential(TaskEncoder(self.spaces or [width], self.heads, n_outputs))


@dataclass(kw_only=True)
class TURTLE(Networked, Describing):
    """TURTLE; fields are its hyper-parameters, learned state ends in an underscore."""

    name: ClassVar = "turtle"
    label_free_score: ClassVar[tuple[str, str]] = ("objective", "min")
    shown: ClassVar = ("objective", "entropy")
    precision: ClassVar = "fp32"
    compile: ClassVar = "off"
    epochs_before: ClassVar = 0
    turns: ClassVar[tuple[dict[str, Any], ...]] = ({},)
    held_epochs: ClassVar = 0

    n_clusters: Annotated[int, Ge(2)]
    """Number of clusters K."""
    seed: Annotated[int, Ge(0), Le(2**32 - 1)]
    """Seed of first weights, inner starts and batches."""
    device: str
    """auto, cpu, cuda, ..."""
    spaces: list[Annotated[int, Ge(1)]]
    """Widths of the representations that stand side by side in the columns (T4); [] for one of all columns."""
    heads: Annotated[int, Ge(1)]
    """Task encoders trained side by side, of which the one of least (3) is kept (T2)."""
    entropy_weight: Annotated[float, Ge(0)]
    """gamma."""
    inner_steps: Annotated[int, Ge(1)]
    """Steps M of each inner classifier."""
    inner_learning_rate: Annotated[float, Gt(0), Le(10)]
    """Adam's rate in the inner problem."""
    steps: Annotated[int, Ge(1)]
    """Outer steps T."""
    batch_size: Annotated[int, Ge(2)]
    """Rows in a batch, or all if there are fewer."""
    learning_rate: Annotated[float, Ge(0), Le(10)]
    """Adam's rate in the outer problem."""
    record_every: Annotated[int, Ge(1)]
    """Epochs between snapshots of the assignments; where a batch is all rows, an epoch is one outer step."""
    epochs: int = field(init=False, default=0)
    """Passes over the rows that make so many steps, set by `fit`."""
    restarts: int = field(init=False, default=1)
    """There is one training; heads are what there are several of."""

    def __post_init__(self) -> None:
        check_fields(self)
        self.view: View = Same()
        self.network = _Network(spaces=self.spaces, heads=self.heads)
        self.n_outputs = self.n_clusters

    def fit(
        self,
        features: np.ndarray,
        neighbours: np.ndarray | None = None,
        checkpoints: Checkpoints | None = None,
        weights: np.ndarray | None = None,
    ) -> Self:
        """Search for tau.

        Args:
            features: Shape (n_samples, n_features), dense or CSR, or (n_samples, channels, height, width); float.
            neighbours: Not used.
            checkpoints: Where the state of the training is kept, and continued from; None for nowhere.
            weights: How much each row counts, shape (n_samples,), above 0; batches are drawn in proportion.

        Returns:
            The fitted estimator.

        Raises:
            ValueError: if the features, the spaces, the device or a checkpoint cannot be used.
            FloatingPointError: if the objective stops being finite.
        """
        check_features(features, self.n_clusters, "turtle")
        self.device_ = resolve_device(self.device)
        self.epochs = math.ceil(self.steps / n_batches(features.shape[0], self.batch_size))
        self.history_ = fit(self, features, None, checkpoints, weights).arrays()
        return self

    def build(self, row_shape: tuple[int, ...]) -> None:
        """Make new task encoders for rows of a shape."""
        self.row_shape_ = tuple(row_shape)
        self.encoder_ = self.network.build(self.row_shape_, self.n_clusters).to(self.device_)
        self.networks_ = {"encoder": self.encoder_}

    def build_kept(self, row_shape: tuple[int, ...]) -> None:
        """The same of one head."""
        self.build(row_shape)
        self.keep(0)

    def training(self, data: Data) -> "_Training":
        """A training of the task encoders that were built."""
        return _Training(self, data)

    def tau_of_spaces(self, rows: Tensor) -> Tensor:
        """tau_s of rows, equation (1), shape (n, spaces, heads, n_clusters)."""
        return torch.softmax(self.encoder_(rows), dim=3)

    def describe(self, features: np.ndarray) -> Described:
        """Greatest tau, tau, and the logits in all spaces; there are no densities."""
        check_rows(features, "turtle", self.row_shape_)
        self.encoder_.eval()

        def describe(batch: Tensor) -> tuple[Tensor, ...]:
            logits = self.encoder_(batch)[:, :, 0]
            tau = torch.softmax(logits, dim=2).mean(dim=1)
            log_tau = torch.logsumexp(torch.log_softmax(logits, dim=2), dim=1)
            return tau.argmax(dim=1), tau, logits.flatten(1), tau.sum(dim=1), log_tau

        return describe_in_chunks(describe, Rows(features, self.device_))._replace(log_density=None)

    def keep(self, head: int) -> None:
        """Forget all heads but one."""
        for parameter in self.encoder_.parameters():
            parameter.data = parameter.data[head : head + 1].clone()


@final
class _Training(Idle):
    """One training of TURTLE; see `deep_clustering.training.loop.Training`."""

    def __init__(self, model: TURTLE, data: Data) -> None:
        self._model, self._data = model, data
        optimiser = make_optimiser(
            torch.optim.Adam,
            model.encoder_.parameters(),
            model.learning_rate,
            model.device_,
            betas=(_BETA1, _BETA2),
            eps=_EPSILON,
        )
        self.networks: dict[str, nn.Module] = {"encoder": model.encoder_}
        self.network = model.encoder_
        self.optimisers: dict[str, torch.optim.Optimizer] = {"encoder": optimiser}
        self.schedules: dict[str, Schedule] = {}
        self._objective = torch.zeros(model.heads, device=model.device_)  # moving sum, and the weight that is in it
        self._weight = torch.zeros(1, device=model.device_)

    def begin(self, partition: Tensor | None) -> Tensor:
        """Clusters of the untrained first head."""
        return self.assign()

    def step(self, views: Tensor, index: Tensor, held: Tensor | None) -> dict[str, Tensor]:
        """Fit inner classifiers of a random start to tau of a batch, then move tau."""
        model, spaces = self._model, self.networks["encoder"][0].split(views)  # type: ignore[index]
        of_spaces = model.tau_of_spaces(views).unbind(dim=1)
        with torch.no_grad():
            tau = torch.stack(of_spaces).mean(dim=0)
            logits = [linear(rows, *self._inner(rows, tau)) for rows in spaces]
        objective, fit_of_tau, entropy = outer_objective(logits, of_spaces, model.entropy_weight)
        optimiser = self.optimisers["encoder"]
        optimiser.zero_grad(set_to_none=True)
        objective.sum().backward()
        optimiser.step()
        self._objective.lerp_(objective.detach(), _NEWEST)
        self._weight.lerp_(torch.ones_like(self._weight), _NEWEST)
        terms = {"objective": objective, "cross_entropy": fit_of_tau, "entropy": entropy}
        leading = self._leading()
        return {name: term.detach().index_select(0, leading).squeeze(0) for name, term in terms.items()}

    def _inner(self, rows: Tensor, tau: Tensor) -> Linear:
        """An inner classifier for each head, from a start of its own."""
        model = self._model
        start = draw_linear(model.heads, model.n_clusters, rows.shape[1], self._data.generator)
        return fit_inner(rows, tau, start, model.inner_steps, model.inner_learning_rate)

    def _leading(self) -> Tensor:
        """The head of least mean objective, shape (1,)."""
        return self._objective.argmin(dim=0, keepdim=True)

    @torch.inference_mode()
    def assign(self) -> Tensor:
        """Clusters of all rows by the leading head."""
        return self._all_assignments().index_select(1, self._leading()).squeeze(1)

    def _all_assignments(self) -> Tensor:
        """Clusters of all rows by each head, shape (n_samples, heads)."""
        return self._data.apply(lambda rows: self._model.tau_of_spaces(rows).mean(dim=1).argmax(dim=2))

    @torch.inference_mode()
    def finish(self, history: History) -> Tensor:
        """Keep the head of least mean objective (T2)."""
        clusters, objectives = self._all_assignments(), self._objective / self._weight
        head = int(objectives.argmin())
        self._model.keep(head)
        clusters[:, head] = self._all_assignments()[:, 0]  # as prediction rounds
        history.candidates(clusters.unbind(dim=1), -objectives)
        history.final(objective=objectives[head])
        return clusters[:, head]

    def tensors(self) -> dict[str, Tensor]:
        """The mean objectives."""
        return {"objective": self._objective, "weight": self._weight}

    def take(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `tensors` gave."""
        self._objective, self._weight = tensors["objective"], tensors["weight"]

"""TEMI: heads on fixed features that see as much of a row in its neighbours as they can, taught by their own average.

Adaloglou, Michels, Kalisch and Kollmann, "Exploring the limits of deep image clustering using pretrained models",
BMVC 2023, arXiv 2303.17896. Equations and settings as in the authors' public code, HHU-MMBS/TEMI-official-BMVC2023,
with the command that it gives for CIFAR-10.

Symbols
    x, x'     a row and one of its nearest neighbours by cosine                   views
    z_k       logits of a head                                                    Heads
    q_s, q_t  probabilities of student and teacher, softmax(z / temperature)      log_probabilities
    p_k       share of cluster k in a head, a moving average of q_t               shares
    w         how much a pair counts: agreement of the teacher's heads            pair_weights
    beta      keeps the heads from one-sided clusters                             beta
    H         heads, each with a network of its own                               heads

Equations
    (1) head      z = g * (V / |V|) (u / |u|),  u = B GELU(A x + a) + b,  |V| by cluster
    (2) shares    p <- m p + (1 - m) mean over the batch and both views of q_t, before the loss
    (3) weights   w = mean over heads of sum_k q_t(k|x) q_t(k|x')
    (4) loss      L = -1/2 mean_i w_i [log sum_k (q_s(k|x) q_t(k|x'))^beta / p_k + the same with the views changed over]
                  of each head; what is minimised is the mean over the heads. Gradients reach the student alone
    (5) teacher   theta_t <- m_t theta_t + (1 - m_t) theta_s for all weights, behind each step of the student

Deviations from the paper, or choices where it is silent
    M1 all heads are trained at once by batched products; each has its own start and its own teacher, as there
    M2 the rate of a batch of B rows is the given one times B / 256, of the rows that a batch has where there are
        fewer; it rises linearly from nothing over the warm-up and stays                       learning_rate, warmup
    M3 of the trained heads the one of least loss in the last epoch is kept, with its teacher's weights; the authors'
        evaluation also reports the best checkpoint by the classes, which nothing here does
    M4 an epoch leaves out the rows that fill no batch, as there; of fewer rows than a batch has, all are one batch
    M5 neighbours are found by the method itself among the rows as they come, so that those which other methods are
        given do not change it                                                                 n_neighbours
"""

import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, Self, final

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from scipy import sparse
from sklearn.neighbors import NearestNeighbors
from torch import Tensor, nn

from deep_clustering.checks import check_features, check_rows
from deep_clustering.methods.estimator import Idle, Networked
from deep_clustering.options import check_fields
from deep_clustering.training.checkpoints import Checkpoints
from deep_clustering.training.described import Described, Describing
from deep_clustering.training.fitting import fit
from deep_clustering.training.history import History
from deep_clustering.training.loop import Data
from deep_clustering.training.optimisers import Schedule, WarmUp, make_optimiser
from deep_clustering.training.precision import autocast
from deep_clustering.training.rows import Rows, describe_in_chunks, n_batches, resolve_device
from deep_clustering.training.views import View, make_view

logger = logging.getLogger(__name__)

# Rows of the batch that the learning rate is given for.
_RATE_ROWS = 256
# Standard deviation of the first weights.
_DEVIATION = 0.02


def log_probabilities(logits: Tensor, temperature: float) -> Tensor:
    """Log q of logits (heads, n, n_clusters)."""
    return torch.log_softmax(logits / temperature, dim=2)


def update_shares(shares: Tensor, log_teacher: Tensor, momentum: float) -> Tensor:
    """Equation (2) of shares (heads, n_clusters) and log q_t of both views (heads, 2 n, n_clusters)."""
    return momentum * shares + (1 - momentum) * log_teacher.exp().mean(dim=1)


def pair_weights(log_teacher: Tensor) -> Tensor:
    """Equation (3) of both views, shape (heads, 2 n, n_clusters): shape (n,)."""
    first, second = log_teacher.chunk(2, dim=1)
    return (first + second).exp().sum(dim=2).mean(dim=0)


def temi_loss(log_student: Tensor, log_teacher: Tensor, shares: Tensor, weights: Tensor, beta: float) -> Tensor:
    """Equation (4) of each head.

    Args:
        log_student: Log q_s of both views, one behind the other, shape (heads, 2 n, n_clusters).
        log_teacher: Log q_t of the same.
        shares: p, shape (heads, n_clusters).
        weights: w, shape (n,).
        beta: The exponent.

    Returns:
        Shape (heads,).
    """
    others = torch.cat(log_teacher.chunk(2, dim=1)[::-1], dim=1)
    information = torch.logsumexp(beta * (log_student + others) - shares.log().unsqueeze(1), dim=2)
    return -(weights.repeat(2) * information).mean(dim=1)


def cosine_neighbours(features: np.ndarray | sparse.csr_matrix, n_neighbours: int) -> np.ndarray:
    """Exact nearest neighbours of every row among the others by cosine similarity, shape (n_samples, n_neighbours)."""
    rows = features.reshape(len(features), -1) if isinstance(features, np.ndarray) else features
    rows = rows / max(float(abs(rows).max()), np.finfo(np.float32).tiny)  # so that no square overflows
    index = NearestNeighbors(n_neighbors=n_neighbours, metric="cosine", algorithm="brute").fit(rows)
    return index.kneighbors(return_distance=False)  # without an argument a row is not its own neighbour


class _Linear(nn.Module):
    """A linear layer of each head; from rows that the heads share, (n, d), or of each, to (heads, n, width)."""

    def __init__(self, n_heads: int, n_inputs: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_heads, width, n_inputs))
        self.bias = nn.Parameter(torch.zeros(n_heads, 1, width))
        nn.init.trunc_normal_(self.weight, std=_DEVIATION)

    def forward(self, rows: Tensor) -> Tensor:
        if rows.ndim == 2:
            product = rows @ self.weight.flatten(0, 1).t()  # one product for all heads
            return product.unflatten(1, self.weight.shape[:2]).transpose(0, 1) + self.bias
        return torch.baddbmm(self.bias, rows, self.weight.mT)


class _Cosine(nn.Module):
    """The last layer: unit length, then weights of a direction and a gain for each cluster."""

    def __init__(self, n_heads: int, n_inputs: int, n_clusters: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(n_inputs)  # torch's own start of a linear layer
        self.direction = nn.Parameter(torch.empty(n_heads, n_clusters, n_inputs).uniform_(-bound, bound))
        self.gain = nn.Parameter(torch.ones(n_heads, n_clusters, 1))

    def forward(self, rows: Tensor) -> Tensor:
        weight = self.gain * self.direction / self.direction.norm(dim=2, keepdim=True)
        return torch.bmm(nn.functional.normalize(rows, dim=2), weight.mT)


@dataclass(frozen=True, kw_only=True)
class Heads:
    """Builds the networks of equation (1)."""

    heads: int
    hidden: int
    bottleneck: int

    def build(self, row_shape: tuple[int, ...], n_outputs: int) -> nn.Sequential:
        """From rows of a shape to logits of shape (heads, n, n_outputs)."""
        return nn.Sequential(
            nn.Flatten(),
            _Linear(self.heads, math.prod(row_shape), self.hidden),
            nn.GELU(),
            _Linear(self.heads, self.hidden, self.bottleneck),
            _Cosine(self.heads, self.bottleneck, n_outputs),
        )


@dataclass(kw_only=True)
class TEMI(Networked, Describing):
    """TEMI; fields are its hyper-parameters, learned state ends in an underscore."""

    name: ClassVar = "temi"
    label_free_score: ClassVar[tuple[str, str]] = ("pair_loss", "min")
    compile: ClassVar = "off"
    shown: ClassVar = ("loss", "agreement")
    epochs_before: ClassVar = 0
    turns: ClassVar[tuple[dict[str, Any], ...]] = ({},)
    held_epochs: ClassVar = 0

    n_clusters: Annotated[int, Ge(2)]
    """Number of clusters K."""
    seed: Annotated[int, Ge(0), Le(2**32 - 1)]
    """Seed of first weights, batches and neighbours drawn."""
    device: str
    """auto, cpu, cuda, ..."""
    n_neighbours: Annotated[int, Ge(1)]
    """Nearest rows by cosine, one of which is drawn as a row's second view (M5)."""
    heads: Annotated[int, Ge(1)]
    """Heads trained side by side, of which the one of least loss is kept (M3)."""
    hidden: Annotated[int, Ge(1)]
    """Width of a head's hidden layer."""
    bottleneck: Annotated[int, Ge(1)]
    """Width of what is brought to unit length."""
    temperature: Annotated[float, Ge(1e-3)]
    """By which logits are divided, of student and teacher."""
    beta: Annotated[float, Gt(0), Le(1)]
    """Exponent of (4)."""
    share_momentum: Annotated[float, Ge(0), Le(1)]
    """m of (2)."""
    teacher_momentum: Annotated[float, Ge(0), Le(1)]
    """m_t of (5)."""
    frozen_epochs: Annotated[int, Ge(0)]
    """First epochs in which the last layer stays as it is."""
    epochs: Annotated[int, Ge(1)]
    """Passes over the rows."""
    batch_size: Annotated[int, Ge(2)]
    """Rows in a batch (each with one neighbour)."""
    learning_rate: Annotated[float, Ge(0), Le(10)]
    """AdamW's rate for a batch of 256 rows (M2)."""
    warmup: Annotated[float, Ge(0), Le(1)]
    """Share of the epochs in which the rate rises."""
    weight_decay: Annotated[float, Ge(0), Le(1)]
    """AdamW's decay, of all weights but biases."""
    precision: Literal["auto", "fp32", "bf16"]
    """fp32, bf16, or auto, the faster: of the networks' passes in training; everything else is fp32."""
    record_every: Annotated[int, Ge(1)]
    """Epochs between snapshots of the assignments."""
    restarts: int = field(init=False, default=1)
    """There is one training; heads are what there are several of."""

    def __post_init__(self) -> None:
        check_fields(self)
        self.view: View = make_view({"kind": "neighbours"})
        self.network = Heads(heads=self.heads, hidden=self.hidden, bottleneck=self.bottleneck)
        self.n_outputs = self.n_clusters

    def fit(
        self,
        features: np.ndarray,
        neighbours: np.ndarray | None = None,
        checkpoints: Checkpoints | None = None,
        weights: np.ndarray | None = None,
    ) -> Self:
        """Train the heads on the rows.

        Args:
            features: Shape (n_samples, n_features), dense or CSR, or (n_samples, channels, height, width); float.
            neighbours: Not used: M5.
            checkpoints: Where the state of the training is kept, and continued from; None for nowhere.
            weights: How much each row counts, shape (n_samples,), above 0; batches are drawn in proportion.

        Returns:
            The fitted estimator.

        Raises:
            ValueError: if the features, the device or a checkpoint cannot be used.
            FloatingPointError: if the loss stops being finite.
        """
        check_features(features, self.n_clusters, "temi")
        n_neighbours = min(self.n_neighbours, features.shape[0] - 1)
        if n_neighbours < self.n_neighbours:
            logger.warning(
                "temi: n_neighbours is %d, there are %d other rows: all are taken", self.n_neighbours, n_neighbours
            )
        self.device_ = resolve_device(self.device)
        own = cosine_neighbours(features, n_neighbours)
        self.history_ = fit(self, features, own, checkpoints, weights).arrays()
        return self

    def build(self, row_shape: tuple[int, ...]) -> None:
        """Make a student with new weights and a teacher with the same."""
        self.row_shape_ = tuple(row_shape)
        student, teacher = (self.network.build(self.row_shape_, self.n_clusters) for _ in range(2))
        teacher.load_state_dict(student.state_dict())
        self.encoder_, self.student_ = teacher.requires_grad_(False).to(self.device_), student.to(self.device_)
        self.networks_ = {"encoder": self.encoder_}

    def build_kept(self, row_shape: tuple[int, ...]) -> None:
        """The same of one head."""
        self.build(row_shape)
        self.keep(0)

    def training(self, data: Data) -> "_Training":
        """A training of the networks that were built."""
        return _Training(self, data)

    def keep(self, head: int) -> None:
        """Forget the student, and of the teacher all heads but one."""
        for parameter in self.encoder_.parameters():
            parameter.data = parameter.data[head : head + 1].clone()
        del self.student_

    def describe(self, features: np.ndarray) -> Described:
        """Most probable cluster, probabilities, and what the last layer sees, of length one; no densities."""
        check_rows(features, "temi", self.row_shape_)
        encoder = self.encoder_.eval()

        def describe(batch: Tensor) -> tuple[Tensor, ...]:
            latent = encoder[:-1](batch)
            log_probability = log_probabilities(encoder[-1](latent), self.temperature)[0]
            probabilities = log_probability.exp()
            unit = nn.functional.normalize(latent[0], dim=1)
            return probabilities.argmax(dim=1), probabilities, unit, probabilities.sum(dim=1), log_probability

        return describe_in_chunks(describe, Rows(features, self.device_))._replace(log_density=None)


@final
class _Training(Idle):
    """One training of TEMI; see `deep_clustering.training.loop.Training`."""

    def __init__(self, model: TEMI, data: Data) -> None:
        self._model, self._data = model, data
        self._student, self._teacher = model.student_, model.encoder_
        self._last = list(self._student[-1].parameters())
        self.networks: dict[str, nn.Module] = {"encoder": self._student, "teacher": self._teacher}
        biases = [parameter for name, parameter in self._student.named_parameters() if name.endswith("bias")]
        weights = [parameter for name, parameter in self._student.named_parameters() if not name.endswith("bias")]
        rate = model.learning_rate * min(model.batch_size, len(data.rows)) / _RATE_ROWS

        def make(parameters: Iterable[nn.Parameter], decay: float) -> torch.optim.Optimizer:
            return make_optimiser(torch.optim.AdamW, parameters, rate, model.device_, weight_decay=decay)

        self.optimisers = {"weights": make(weights, model.weight_decay), "biases": make(biases, 0.0)}
        n_steps = round(model.warmup * model.epochs) * n_batches(len(data.rows), model.batch_size)
        self.schedules: dict[str, Schedule] = {
            name: WarmUp(optimiser, rate, n_steps) for name, optimiser in self.optimisers.items()
        }
        self.network = self._student
        self._is_frozen = False
        self._shares = torch.full((model.heads, model.n_clusters), 1 / model.n_clusters, device=model.device_)
        self._totals = torch.zeros(model.heads, device=model.device_)  # losses of the heads this epoch
        self._losses = torch.zeros(model.heads, device=model.device_)  # and of the epoch before

    def begin(self, partition: Tensor | None) -> Tensor:
        """Clusters of the untrained first head."""
        return self.assign()

    def stage(self, epoch: int, held: Tensor | None) -> int:
        """The last layer of the student is frozen in the first epochs."""
        self._is_frozen = epoch < self._model.frozen_epochs
        return int(self._is_frozen)

    def step(self, views: Tensor, index: Tensor, held: Tensor | None) -> dict[str, Tensor]:
        """One step of the student on a batch and its neighbours, and of the teacher behind it."""
        model = self._model
        with autocast(self.precision, views.device):
            logits = self._student(views)
            with torch.no_grad():
                taught = self._teacher(views)
        log_student = log_probabilities(logits.float(), model.temperature)
        log_teacher = log_probabilities(taught.float(), model.temperature)
        self._shares = update_shares(self._shares, log_teacher, model.share_momentum)
        weights = pair_weights(log_teacher)
        loss = temi_loss(log_student, log_teacher, self._shares, weights, model.beta)
        self._descend(loss.mean())
        loss = loss.detach()
        self._totals += loss
        first, second = log_teacher.argmax(dim=2).chunk(2, dim=1)
        agreement, share_entropy = (first == second).float().mean(dim=1), torch.special.entr(self._shares).sum(dim=1)
        of_heads = torch.stack([loss, agreement, share_entropy]).index_select(1, self._leading()).squeeze(1)
        names = ("loss", "agreement", "share_entropy")
        return {**dict(zip(names, of_heads.unbind(), strict=True)), "pair_weight": weights.mean()}

    def _descend(self, loss: Tensor) -> None:
        """Move the student, but for its last layer in the first epochs, and the teacher a little towards it."""
        self._student.zero_grad(set_to_none=True)
        loss.backward()
        if self._is_frozen:
            for parameter in self._last:
                parameter.grad = None
        for optimiser in self.optimisers.values():
            optimiser.step()
        with torch.no_grad():
            for of_teacher, of_student in zip(self._teacher.parameters(), self._student.parameters(), strict=True):
                of_teacher.lerp_(of_student, 1 - self._model.teacher_momentum)

    def _leading(self) -> Tensor:
        """The head of least loss in the epoch before, of which the history speaks, shape (1,)."""
        return self._losses.argmin(dim=0, keepdim=True)

    def close_epoch(self, epoch: int) -> dict[str, Tensor]:
        """The head of least loss in the epoch leads in the next."""
        self._losses = self._totals / n_batches(len(self._data.rows), self._model.batch_size)
        self._totals.zero_()
        return {}

    @torch.inference_mode()
    def assign(self) -> Tensor:
        """Clusters of all rows by the teacher of the leading head."""
        return self._all_assignments().index_select(1, self._leading()).squeeze(1)

    def _all_assignments(self) -> Tensor:
        """Clusters of all rows by each head's teacher, shape (n_samples, heads)."""
        return self._data.apply(lambda rows: self._teacher(rows).argmax(dim=2).t())

    @torch.inference_mode()
    def finish(self, history: History) -> Tensor:
        """Keep the head of least loss in the last epoch (M3)."""
        clusters, head = self._all_assignments(), int(self._losses.argmin())
        self._model.keep(head)
        clusters[:, head] = self._all_assignments()[:, 0]  # as prediction rounds
        history.candidates(clusters.unbind(dim=1), -self._losses)
        history.final(pair_loss=self._losses[head])
        return clusters[:, head]

    def tensors(self) -> dict[str, Tensor]:
        """Shares, and losses of the heads."""
        return {"shares": self._shares, "losses": self._losses}

    def take(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `tensors` gave."""
        self._shares, self._losses = tensors["shares"], tensors["losses"]

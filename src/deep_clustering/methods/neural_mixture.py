"""NMM-EM: a neural mixture model trained by batch-wise EM.

Tissera et al., "Neural mixture models with expectation-maximization for end-to-end deep clustering",
arXiv 2107.02453, Neurocomputing 505 (2022). The equations of the paper are not available to us beyond its abstract;
what follows is a formulation that keeps its idea: the final layer plus a transformation give the density of each
cluster, the forward pass is the E-step, the backward pass the M-step, and consistency between views is part of it.

Symbols
    a_ik      relevance score, the network's output for sample i and cluster k      scores
    f_k(x)    density of cluster k relative to the data distribution                exp(log_density)
    pi_k      mixing weight                                                         exp(log_mixing_weights)
    gamma_ik  responsibility                                                        exp(log_responsibilities)
    H         heads: mixtures that share all layers but the last                    heads

Equations
    (1) exponential density  log f_ik = a_ik - log mean_j exp(a_jk)
    (2) sigmoid density      log f_ik = log s(c h_ik) - log mean_j s(c h_jk),  h = a standardised over the batch
        Both integrate to one over the sample, which rules out the trivial solution f = const.
    (3) pair mixture         p(x, x') = sum_k pi_k f_k(x) f_k(x'),  two views independent given the cluster
    (4) E-step               gamma_ik = pi_k f_k(x_i) f_k(x'_i) / p(x_i, x'_i)
    (5) M-step               one optimiser step on -(1/B) sum_ik gamma_ik [log pi_k + log f_k(x_i) + log f_k(x'_i)]
        By Fisher's identity its gradient is that of -(1/B) sum_i log p(x_i, x'_i).
    (6) bound                mean log p(x, x') <= log K for pi = 1/K, reached by clusters that are balanced, hard and
        the same on both views: a score of a run that needs no ground truth.
    (7) one view             p(x) = sum_k pi_k f_k(x), responsibilities and EM as above with f_k(x') left out
    (8) consistency          -(1/B) sum_i log sum_k gamma_k(x_i) gamma_k(x'_i), the one-view responsibilities of (7)
        By Bayes' rule p(x, x') = p(x) p(x') sum_k gamma_k(x) gamma_k(x') / pi_k: for uniform weights the pair
        mixture is EM on each view plus consistency of weight one, exactly.
    (9) pair noise           p(x, x') = (1 - e) sum_k pi_k f_k(x) f_k(x') + e: with probability e the two views have
        nothing in common, as a neighbour that is none; responsibilities then sum to less than one

Readings of the paper (`objective`)
    pair                     (3) to (5): EM and consistency as one model; the default
    single                   (7): EM on each view by itself; any hard partition is optimal
    consistency              (8) alone
    single_and_consistency   (7) plus `consistency_weight` times (8)

Deviations from the paper, or choices where it is silent
    N1 the constant of the transformation is the batch mean, so every density integrates to exactly one
    N2 the exponential density is the default; the sigmoid of the paper, with a scale, is an option
    N3 no gradient flows through the responsibilities
    N4 mixing weights are uniform; or learned: a moving average of the responsibilities with a floor; or neutral:
        proportional to its square. Hard clusters of shares s_k that both views agree on have mean log p =
        sum_k s_k (log pi_k - 2 log s_k), greatest at s_k proportional to sqrt(pi_k). So uniform weights pull towards
        equal clusters, learned ones too (the root of any pi is flatter), and neutral ones leave the shares alone
    N6 consistency is not a second loss but the pair mixture (3); the other readings are options
    N7 a small convolutional or fully connected network instead of the paper's; ResNet-18 is an option
    N8 affine views for images, term dropout or noise for vectors, neighbours for features
    N9 AdamW with a one-cycle learning rate
    N10 prediction uses the training set's normalisers, found in one pass after training
    N11 several heads are trained side by side; the one of greatest pair log-likelihood (3) on fresh views is kept
    N12 a partition may stand in for the E-step's responsibilities in the first epochs: that of the merged components
        of a mixture of more clusters (of the rows near the middle of their cluster; the others keep the E-step's),
        or of k-means, Ward or a t-SNE map of the rows
    N13 responsibilities may be softened by one temperature, chosen by the agreement of two views
    N14 of a range of K one head for each is trained; the K of greatest log-likelihood as a share of log K is kept
    N15 of several trainings the one of greatest pair log-likelihood on fresh views is kept
    N16 one more head, of more clusters, may shape the trunk with the others; it is never kept
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from deep_clustering.checks import check_features, check_rows
from deep_clustering.methods.starts import NoStart, Overclustering, held_epochs, make_start
from deep_clustering.options import check_choice, check_range
from deep_clustering.training.checkpoints import Checkpoints, fingerprint, random_state, restore_random_state
from deep_clustering.training.history import History
from deep_clustering.training.networks import load_module, make_encoder, module_arrays
from deep_clustering.training.optimisers import make_optimiser
from deep_clustering.training.precision import training_precision
from deep_clustering.training.progress import epochs
from deep_clustering.training.restarts import Trained, best_of_restarts, derived_seed
from deep_clustering.training.rows import Rows, apply_in_chunks, index_batches, n_batches, resolve_device
from deep_clustering.training.views import make_view, neighbour_table

OBJECTIVES = ("pair", "single", "consistency", "single_and_consistency")

# Fresh views are drawn from a stream of their own, so that looking at a model does not disturb its training.
_FRESH = 2**40
# Fresh pairs of views of each row that choose a head, merge components or find a temperature: four, or as few as one
# where the rows are so many that one pair of each says enough.
_ROUNDS, _ENOUGH_PAIRS = 4, 40_000
# Log weight of clusters that a head narrower than the widest does not have; finite, so that 0 times it is 0.
_ABSENT = -1e30
# Resamplings of the rows behind the probability of each number of clusters.
_RESAMPLINGS = 500


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


def log_density(scores: Tensor, density: str, scale: float) -> Tensor:
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


def e_step(log_joint_density: Tensor, log_mixing_weights: Tensor, noise: float = 0.0) -> tuple[Tensor, Tensor]:
    """Posterior over clusters for each sample, and the log-likelihood, equations (3), (4), (7) and (9).

    Args:
        log_joint_density: log f_k(x_i) + log f_k(x'_i) (or of one view alone), shape (n, ..., n_clusters), in nats.
        log_mixing_weights: log pi_k, shape (..., n_clusters), in nats.
        noise: e, the probability of a pair without a common cluster, in [0, 1).

    Returns:
        log_responsibilities: shape (n, ..., n_clusters); exp sums over the last axis to 1, with noise to less.
        log_likelihood: log p of each sample, shape (n, ...), in nats.

    Raises:
        ValueError: if the axes behind the samples differ.
    """
    if log_joint_density.shape[1:] != log_mixing_weights.shape:
        expected = " x ".join(map(str, log_joint_density.shape[1:]))
        raise ValueError(f"e_step: expected {expected} mixing weights, got shape {tuple(log_mixing_weights.shape)}")
    weighted = log_joint_density + log_mixing_weights + math.log1p(-noise)
    log_evidence = torch.logsumexp(weighted, dim=-1, keepdim=True)
    if noise:
        log_evidence = torch.logaddexp(log_evidence, torch.full_like(log_evidence, math.log(noise)))
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
    return shares.log()


def mixing_weights(log_shares: Tensor, mixing: str) -> Tensor:
    """Mixing weights for average responsibilities: deviation N4.

    Args:
        log_shares: log s_k, shape (..., n_clusters).
        mixing: "learned" for pi_k = s_k, or "neutral" for pi_k proportional to the square of s_k.

    Returns:
        log pi_k, shape (..., n_clusters); exp sums to 1 over the last axis.
    """
    return torch.log_softmax((2 if mixing == "neutral" else 1) * log_shares, dim=-1)


def _n_rounds(n_samples: int) -> int:
    return max(1, min(_ROUNDS, _ENOUGH_PAIRS // n_samples))


def choose_temperature(log_joint_a: Tensor, log_joint_b: Tensor) -> float:
    """Temperature at which the responsibilities of one view best foretell the cluster of the other: deviation N13.

    Args:
        log_joint_a: log pi_k + log f_k of first views, shape (n, n_clusters), in nats.
        log_joint_b: Of second views, same shape.

    Returns:
        T in [.1, 100] that minimises the cross-entropy of softmax(log_joint / T) with the other view's cluster.
    """
    first, second = log_joint_a.double().cpu(), log_joint_b.double().cpu()

    def cross_entropy(log_temperature: float) -> float:
        factor = math.exp(-log_temperature)
        there = F.cross_entropy(first * factor, second.argmax(dim=1))
        return float(there + F.cross_entropy(second * factor, first.argmax(dim=1)))

    found = minimize_scalar(cross_entropy, bounds=(math.log(0.1), math.log(100)), method="bounded")
    return math.exp(found.x)


def probable_numbers(log_likelihoods: Tensor, n_clusters: Tensor, generator: torch.Generator) -> Tensor:
    """How often each number of clusters has the greatest log-likelihood as a share of log K: deviation N14.

    Args:
        log_likelihoods: Of each row by the head of each number, shape (n, n_heads), in nats.
        n_clusters: Number of clusters of each head, shape (n_heads,).
        generator: Source of the resampling of rows (bootstrap).

    Returns:
        Share of the resamplings that each number wins, shape (n_heads,); sums to 1.
    """
    shares, n = log_likelihoods / n_clusters.log(), len(log_likelihoods)
    winners = [
        shares[torch.randint(n, (n,), generator=generator, device=shares.device)].mean(dim=0).argmax()
        for _ in range(_RESAMPLINGS)
    ]
    return torch.stack(winners).bincount(minlength=len(n_clusters)) / _RESAMPLINGS


class PairScore(NamedTuple):
    """How well a mixture explains pairs of views."""

    log_likelihood: float
    """Mean log p(x, x'), in nats."""
    share: float
    """The same as a share of its bound log K."""


@dataclass(kw_only=True)
class NeuralMixture:
    """The neural mixture model; fields are its hyper-parameters, learned state ends in an underscore."""

    label_free_score: ClassVar = ("log_likelihood", "max")

    n_clusters: int | dict[str, int]
    """Number of clusters K, or min and max of a range in which one is suggested."""
    seed: int
    """Seed of initialisation, shuffling and views."""
    device: str
    """auto, cpu, cuda, ..."""
    density: str
    """exponential or sigmoid: equation (1) or (2)."""
    density_scale: float
    """c of the sigmoid density."""
    objective: str
    """The reading of the paper, one of `OBJECTIVES`."""
    consistency_weight: float
    """Weight of (8) in the objective single_and_consistency."""
    mixing: str
    """uniform, learned or neutral mixing weights (N4)."""
    mixing_momentum: float
    """Share of the old average in each update, when not uniform."""
    mixing_floor: float
    """Smallest average responsibility as a share of 1 / K, when not uniform."""
    pair_noise: float
    """Probability e that the views of a pair have nothing in common (9), as neighbours that are none."""
    heads: int
    """Mixtures trained side by side on one trunk, of which the best by (3) is kept."""
    auxiliary_clusters: int
    """Clusters of one more head beside them (N16), which is never kept; 0 for none."""
    start: dict[str, Any]
    """Partition held for the first epochs (N12): kind and its options."""
    restarts: int
    """Trainings from derived seeds, of which the best by (3) is kept (N15)."""
    calibration: str
    """none, or agreement: soften the responsibilities by the temperature of N13."""
    views: dict[str, Any]
    """Random views: kind and its options."""
    encoder: dict[str, Any]
    """Network: kind and its options."""
    epochs: int
    """Passes over the rows."""
    batch_size: int
    """Rows in a batch (each gives two views)."""
    learning_rate: float
    """Peak of the one-cycle schedule."""
    weight_decay: float
    """AdamW's decay."""
    precision: str
    """fp32, bf16, or auto, the faster: of the training steps' network passes; everything else is fp32."""
    record_every: int
    """Epochs between snapshots of the assignments."""

    def __post_init__(self) -> None:
        self._candidates = self._sizes_of_heads()
        self._sizes = self._candidates + [self.auxiliary_clusters] * (self.auxiliary_clusters > 0)
        self._width = max(self._sizes)
        check_range("seed", self.seed, 0, 2**32 - 1)
        check_choice("density", self.density, ("exponential", "sigmoid"))
        check_range("density_scale", self.density_scale, 1e-3)
        check_choice("objective", self.objective, OBJECTIVES)
        check_range("consistency_weight", self.consistency_weight, 0)
        check_choice("mixing", self.mixing, ("uniform", "learned", "neutral"))
        check_range("mixing_momentum", self.mixing_momentum, 0, 1)
        check_range("mixing_floor", self.mixing_floor, 0, 1)
        check_range("pair_noise", self.pair_noise, 0, 0.99)
        check_range("restarts", self.restarts, 1)
        check_choice("calibration", self.calibration, ("none", "agreement"))
        check_range("epochs", self.epochs, 1)
        check_range("batch_size", self.batch_size, 2)
        check_range("learning_rate", self.learning_rate, 0, 10)
        check_range("weight_decay", self.weight_decay, 0, 1)
        check_range("record_every", self.record_every, 1)
        check_choice("precision", self.precision, ("auto", "fp32", "bf16"))
        self._view = make_view(self.views)
        self._encoder_options = make_encoder(self.encoder)
        self._start = make_start(self.start)

    def _sizes_of_heads(self) -> list[int]:
        """Number of clusters of each head that may be kept."""
        check_range("heads", self.heads, 1)
        check_range("auxiliary_clusters", self.auxiliary_clusters, 0)
        if self.auxiliary_clusters and self.mixing != "uniform":
            raise ValueError(f"auxiliary_clusters: more than 0 needs mixing = uniform, got {self.mixing}")
        if isinstance(self.n_clusters, int):
            check_range("n_clusters", self.n_clusters, 2)
            return [self.n_clusters] * self.heads
        if set(self.n_clusters) != {"min", "max"}:
            raise ValueError(f"n_clusters: expected a number or min and max, got {self.n_clusters}")
        check_range("n_clusters.min", self.n_clusters["min"], 2)
        check_range("n_clusters.max", self.n_clusters["max"], self.n_clusters["min"] + 1)
        if self.heads != 1 or self.mixing != "uniform":
            raise ValueError(
                "n_clusters: a range needs heads = 1 for each number and mixing = uniform, got "
                f"{self.heads} and {self.mixing}"
            )
        return list(range(self.n_clusters["min"], self.n_clusters["max"] + 1))

    def fit(
        self, features: np.ndarray, neighbours: np.ndarray | None = None, checkpoints: Checkpoints | None = None
    ) -> Self:
        """Train on the rows by batch-wise EM.

        Args:
            features: Shape (n_samples, n_features), dense or CSR, or (n_samples, channels, height, width); float.
            neighbours: Nearest rows of each row, shape (n_samples, k), for views of kind neighbours.
            checkpoints: Where the state of the training is kept, and continued from; None for nowhere.

        Returns:
            The fitted estimator.

        Raises:
            ValueError: if the features, the device or a checkpoint cannot be used.
            FloatingPointError: if a term of the loss stops being finite.
        """
        check_features(features, self._width, "neural_mixture")
        if self._width > min(self.batch_size, features.shape[0]):
            option = "n_clusters" if self._width == max(self._candidates) else "auxiliary_clusters"
            raise ValueError(
                f"neural_mixture: {option} must be at most batch_size, got {self._width} for batches of "
                f"{min(self.batch_size, features.shape[0])}: a density is normalised over a batch"
            )
        self._device = resolve_device(self.device)
        if self.restarts > 1:
            best = best_of_restarts(
                partial(self._fit_restart, features, neighbours),
                self.restarts,
                "neural_mixture",
                checkpoints,
                self._identity(features),
            )
            self.set_arrays(best.arrays)
            self._neighbours = neighbour_table(neighbours, features.shape[0], self._device)
            self.history_ = best.history.arrays()
        else:
            self.history_ = self._fit_once(features, neighbours, checkpoints).arrays()
        return self

    def _fit_restart(
        self, features: np.ndarray, neighbours: np.ndarray | None, restart: int, checkpoints: Checkpoints | None
    ) -> Trained:
        """One of several trainings: deviation N15."""
        one = replace(self, seed=derived_seed(self.seed, restart), restarts=1)
        one._device = self._device
        history = one._fit_once(features, neighbours, checkpoints)
        return Trained(one.get_arrays(), history, history.newest_final("log_likelihood_share"))

    def _fit_once(
        self, features: np.ndarray, neighbours: np.ndarray | None, checkpoints: Checkpoints | None
    ) -> History:
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            self._build(features.shape[1:], self._sizes)
            self._neighbours = neighbour_table(neighbours, features.shape[0], self._device)
            return self._train(features, neighbours, checkpoints)

    def _build(self, row_shape: tuple[int, ...], sizes: list[int]) -> None:
        """A new network and uniform mixing weights for heads of so many clusters, all as wide as the widest."""
        self.row_shape_ = tuple(row_shape)
        network = self._encoder_options.build(self._view.output_shape(self.row_shape_), len(sizes) * max(sizes))
        self.encoder_ = network.to(self._device)
        n_clusters = torch.tensor(sizes, device=self._device).unsqueeze(1)
        is_there = torch.arange(max(sizes), device=self._device) < n_clusters
        self.log_mixing_weights_ = torch.where(is_there, -n_clusters.log(), torch.tensor(_ABSENT))
        self.score_mean_, self.score_std_ = torch.zeros_like(is_there.float()), torch.ones_like(is_there.float())
        self.log_normaliser_ = torch.zeros_like(self.score_mean_)
        self.temperature_ = 1.0

    def _train(self, features: np.ndarray, neighbours: np.ndarray | None, checkpoints: Checkpoints | None) -> History:
        rows = Rows(features, self._device)
        generator = torch.Generator(self._device).manual_seed(self.seed)
        optimiser = make_optimiser(
            torch.optim.AdamW,
            self.encoder_.parameters(),
            self.learning_rate,
            self._device,
            weight_decay=self.weight_decay,
        )
        n_steps = self.epochs * n_batches(len(rows), self.batch_size)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, self.learning_rate, total_steps=n_steps)
        history = History("neural_mixture")
        leading = torch.zeros(1, dtype=torch.int64, device=self._device)  # the head that the diagnostics speak of
        partition = None
        state = checkpoints.begin(self._identity(features)) if checkpoints else None
        if state is None:
            view_shape = self._view.output_shape(self.row_shape_)
            n_views = 2 * min(self.batch_size, len(rows))
            self._precision = training_precision(self.precision, self.encoder_, (n_views, *view_shape), self._device)
            partition = self._find_partition(features, neighbours, checkpoints)
            self._begin_mixing(partition)
            history.snapshot(0, self._finalise(rows)[:, 0])
            if checkpoints and checkpoints.is_due(0) and partition is not None:
                checkpoints.save(0, self._state(optimiser, schedule, history, generator, leading, partition))
        else:
            leading, partition = self._restore(state, optimiser, schedule, history, generator)

        def status() -> str:
            return history.last("log_likelihood", "agreement")

        for epoch in epochs(self.epochs, "neural_mixture", status, first=history.n_epochs):
            self.encoder_.train()
            held_rows = partition if epoch < held_epochs(self._start, self.epochs) else None
            total = torch.zeros(len(self._sizes), device=self._device)
            for index in index_batches(len(rows), self.batch_size, generator):
                views = self._view.pair(rows, index, self._neighbours, generator)
                held = None if held_rows is None else held_rows[index]
                total += self._step(views, held, leading, optimiser, history)
                schedule.step()
            leading = self._comparable(total).argmax(dim=0, keepdim=True)
            history.close_epoch(epoch + 1)
            if (epoch + 1) % self.record_every == 0 or epoch + 1 == self.epochs:
                history.snapshot(epoch + 1, self._finalise(rows).index_select(1, leading).squeeze(1))
            if checkpoints and checkpoints.is_due(epoch + 1):
                checkpoints.save(epoch + 1, self._state(optimiser, schedule, history, generator, leading, partition))
        self._choose_head(rows, history)
        if checkpoints:
            checkpoints.clear()
        return history

    def _find_partition(
        self, features: np.ndarray, neighbours: np.ndarray | None, checkpoints: Checkpoints | None
    ) -> Tensor | None:
        """The partition that is held for the first epochs, (n_samples, 1) or one for each head, or None: N12."""
        if isinstance(self._start, NoStart):
            return None
        sizes = sorted(set(self._candidates))  # heads of one size share one partition
        if isinstance(self._start, Overclustering):
            n_components = self._start.n_components(max(sizes), min(self.batch_size, features.shape[0]))
            several = replace(self, n_clusters=n_components, heads=1, auxiliary_clusters=0, calibration="none")
            many = self._start.fit_components(several, features, neighbours, checkpoints)
            # The Euclidean distance of square roots is Hellinger's between the rows' distributions over the components.
            partitions = self._start.merge(np.sqrt(many.pair_responsibilities(features)), sizes, self.seed)
        else:
            partitions = self._start.partitions(features, sizes, self.seed)
        if self.auxiliary_clusters:  # of which nothing is held
            of_candidates = np.broadcast_to(partitions, (len(partitions), len(self._candidates)))
            partitions = np.pad(of_candidates, ((0, 0), (0, 1)), constant_values=-1)
        return torch.from_numpy(partitions).to(self._device)

    def _begin_mixing(self, partition: Tensor | None) -> None:
        """Average responsibilities, and the weights that follow, before the first step: uniform or the partition's."""
        self._log_shares = self.log_mixing_weights_
        if partition is not None and self.mixing != "uniform":
            log_held = self._log_memberships(partition).expand(-1, self.heads, -1)
            self._log_shares = update_shares(self._log_shares, log_held, 0.0, self.mixing_floor)
            self.log_mixing_weights_ = mixing_weights(self._log_shares, self.mixing)

    def _log_memberships(self, partition: Tensor) -> Tensor:
        """Log responsibilities that say the same as a partition, shape (n, 1 or heads, n_clusters): 0 or -inf."""
        return (partition.unsqueeze(-1) == torch.arange(self._width, device=partition.device)).float().log()

    def _step(
        self,
        views: Tensor,
        held: Tensor | None,
        leading: Tensor,
        optimiser: torch.optim.Optimizer,
        history: History,
    ) -> Tensor:
        """One E-step and M-step on two views of a batch, one behind the other; returns (3) of each head."""
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._precision == "bf16"):
            outputs = self.encoder_(views)
        scores_a, scores_b = self._split(outputs.float()).chunk(2)
        log_density_a = log_density(scores_a, self.density, self.density_scale)
        log_density_b = log_density(scores_b, self.density, self.density_scale)
        log_joint = log_density_a + log_density_b
        log_responsibilities, of_pairs = e_step(log_joint.detach(), self.log_mixing_weights_, self.pair_noise)
        log_likelihood = of_pairs.mean(dim=0)
        if held is None:
            loss = self._loss(log_density_a, log_density_b, log_responsibilities)
        else:
            is_free = held.unsqueeze(-1) < 0  # (B, 1 or heads, 1)
            log_held = torch.where(is_free, log_responsibilities, self._log_memberships(held))
            loss = m_step_loss(log_held, log_joint, self.log_mixing_weights_)
        optimiser.zero_grad(set_to_none=True)
        loss.sum().backward()
        optimiser.step()
        if self.mixing != "uniform":
            self._log_shares = update_shares(
                self._log_shares, log_responsibilities, self.mixing_momentum, self.mixing_floor
            )
            self.log_mixing_weights_ = mixing_weights(self._log_shares, self.mixing)
        responsibilities = log_responsibilities.exp()
        terms = {
            "loss": loss,
            "log_likelihood": log_likelihood,
            "entropy": -(responsibilities * log_responsibilities).sum(dim=-1).mean(dim=0),
            "agreement": (self._cluster(log_density_a) == self._cluster(log_density_b)).float().mean(dim=0),
        }
        history.add(**{name: term.index_select(0, leading).squeeze(0) for name, term in terms.items()})
        return log_likelihood

    def _cluster(self, log_density: Tensor) -> Tensor:
        return (log_density + self.log_mixing_weights_).argmax(dim=-1)

    def _comparable(self, log_likelihoods: Tensor) -> Tensor:
        """What candidates are compared by: log-likelihood, as a share of log K if their numbers of clusters differ."""
        of_candidates = log_likelihoods[: len(self._candidates)]
        if len(set(self._candidates)) == 1:
            return of_candidates
        return of_candidates / torch.tensor(self._candidates, device=log_likelihoods.device).log()

    def _loss(self, log_density_a: Tensor, log_density_b: Tensor, log_responsibilities: Tensor) -> Tensor:
        """What the objective makes of a batch, shape (heads,), in nats."""
        log_pi = self.log_mixing_weights_
        if self.objective == "pair":
            return m_step_loss(log_responsibilities, log_density_a + log_density_b, log_pi)
        own_a, own_b = e_step(log_density_a, log_pi)[0], e_step(log_density_b, log_pi)[0]
        single = m_step_loss(own_a, log_density_a, log_pi) + m_step_loss(own_b, log_density_b, log_pi)
        if self.objective == "single":
            return single
        consistency = consistency_loss(own_a, own_b)
        return consistency if self.objective == "consistency" else single + self.consistency_weight * consistency

    @torch.inference_mode()
    def _pair_log_joint(self, rows: Rows, round_: int) -> tuple[Tensor, Tensor]:
        """Weighted log f_k of fresh views of all rows, two of (n, heads, n_clusters), normalised over all rows."""
        self.encoder_.eval()
        generator = torch.Generator(self._device).manual_seed(_FRESH + self.seed * _ROUNDS + round_)
        scores = [
            self._split(self.encoder_(self._view.pair(rows, index, self._neighbours, generator))).chunk(2)
            for index in torch.arange(len(rows), device=self._device).split(1024)
        ]
        first, second = (torch.cat(views) for views in zip(*scores, strict=True))
        log_pi = self.log_mixing_weights_
        return tuple(log_density(view, self.density, self.density_scale) + log_pi for view in (first, second))  # type: ignore[return-value]

    def _of_pairs(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """E-step of pairs given as `_pair_log_joint` gives them."""
        log_pi = self.log_mixing_weights_
        return e_step(first + second - 2 * log_pi, log_pi, self.pair_noise)

    def pair_responsibilities(self, features: np.ndarray) -> np.ndarray:
        """Responsibilities of pairs of fresh views of the training rows, equation (4), averaged over several pairs.

        Args:
            features: The training rows, of which the neighbours are known.

        Returns:
            Shape (n_samples, n_clusters), float32.
        """
        rows = self._rows(features)
        total = torch.zeros(len(rows), self.log_mixing_weights_.shape[1], device=self._device)
        n_rounds = _n_rounds(len(rows))
        for round_ in range(n_rounds):
            first, second = self._pair_log_joint(rows, round_)
            total += torch.softmax(self._of_pairs(first, second)[0][:, 0], dim=1)
        return (total / n_rounds).cpu().numpy()

    def _choose_head(self, rows: Rows, history: History) -> None:
        """Keep the head of greatest pair log-likelihood on fresh views: deviations N11 and N14."""
        n_candidates = len(self._candidates)
        of_rows = torch.zeros(len(rows), n_candidates, device=self._device)
        n_rounds = _n_rounds(len(rows))
        for round_ in range(n_rounds):
            first, second = self._pair_log_joint(rows, round_)
            of_rows += self._of_pairs(first, second)[1][:, :n_candidates] / n_rounds
        log_likelihoods = of_rows.mean(dim=0)
        best = self._comparable(log_likelihoods).argmax(dim=0, keepdim=True)
        if self.calibration == "agreement":
            self.temperature_ = choose_temperature(*(view[:, best].squeeze(1) for view in (first, second)))
        history.candidates(self._finalise(rows)[:, :n_candidates].unbind(dim=1), self._comparable(log_likelihoods))
        if len(set(self._candidates)) > 1:
            generator = torch.Generator(self._device).manual_seed(self.seed)
            sizes = torch.tensor(self._candidates, device=self._device)
            deviations = of_rows.std(dim=0) / math.sqrt(len(rows))
            history.selection(
                n_clusters=sizes,
                log_likelihood=log_likelihoods,
                log_likelihood_deviation=deviations,
                probability=probable_numbers(of_rows, sizes, generator),
            )
        self._keep_head(int(best))
        value = log_likelihoods[best].squeeze(0)
        history.final(log_likelihood=value, log_likelihood_share=value / math.log(self._n_clusters()))

    def _n_clusters(self) -> int:
        """Number of clusters of the head that was kept."""
        return self.log_mixing_weights_.shape[1]

    def _keep_head(self, head: int) -> None:
        """Cut the last layer and all that is learned for each cluster down to one head."""
        last = self.encoder_[-1]
        assert isinstance(last, nn.Linear)
        places = slice(head * self._width, head * self._width + self._sizes[head])
        kept = nn.Linear(last.in_features, self._sizes[head]).to(last.weight.device)
        with torch.no_grad():
            kept.weight.copy_(last.weight[places])
            kept.bias.copy_(last.bias[places])
        self.encoder_[-1] = kept
        for name in ("log_mixing_weights_", "score_mean_", "score_std_", "log_normaliser_"):
            setattr(self, name, getattr(self, name)[head : head + 1, : self._sizes[head]].clone())

    def score(self, features: np.ndarray, neighbours: np.ndarray | None = None) -> PairScore:
        """Mean pair log-likelihood of rows on fresh views, equation (3), and its share of the bound (6).

        Args:
            features: Rows, at least as many as clusters: the densities are normalised over them.
            neighbours: Nearest rows of each row, for views of kind neighbours.

        Returns:
            In nats, and as a share of log K.
        """
        check_features(features, self._n_clusters(), "neural_mixture")
        rows, trained_on = self._rows(features), getattr(self, "_neighbours", None)
        self._neighbours = neighbour_table(neighbours, len(rows), self._device)
        values = []
        for round_ in range(_n_rounds(len(rows))):
            first, second = self._pair_log_joint(rows, round_)
            values.append(self._of_pairs(first, second)[1].mean())
        self._neighbours = trained_on
        value = float(torch.stack(values).mean())
        return PairScore(value, value / math.log(self._n_clusters()))

    @torch.inference_mode()
    def _finalise(self, rows: Rows) -> Tensor:
        """Normalisers of the densities over all training rows (N10); returns each head's clusters, (n, heads)."""
        self.encoder_.eval()
        scores = apply_in_chunks(self._scores, rows)
        self.score_mean_, self.score_std_ = scores.mean(dim=0), scores.std(dim=0, correction=0)
        relevance = self._relevance(scores)
        self.log_normaliser_ = log_mean_exp(relevance)
        return self._cluster(relevance - self.log_normaliser_)

    def _split(self, outputs: Tensor) -> Tensor:
        """The network's outputs by head, shape (n, heads, n_clusters)."""
        return outputs.view(len(outputs), *self.log_mixing_weights_.shape)

    def _scores(self, batch: Tensor) -> Tensor:
        return self._split(self.encoder_(self._view.plain(batch)))

    def _relevance(self, scores: Tensor) -> Tensor:
        if self.density == "sigmoid":
            return sigmoid_relevance(scores, self.score_mean_, self.score_std_, self.density_scale)
        return scores

    def _log_joint(self, batch: Tensor) -> Tensor:
        """Weighted log densities log pi_k + log f_k of plain views, shape (n, heads, n_clusters)."""
        return self._relevance(self._scores(batch)) - self.log_normaliser_ + self.log_mixing_weights_

    def _rows(self, features: np.ndarray) -> Rows:
        check_rows(features, "neural_mixture", self.row_shape_)
        self.encoder_.eval()
        return Rows(features, self._device)

    def _predicted(self, features: np.ndarray) -> Tensor:
        """Weighted log densities log pi_k + log f_k of each row, shape (n, n_clusters)."""
        return apply_in_chunks(lambda batch: self._log_joint(batch)[:, 0], self._rows(features))

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Cluster of each row: argmax_k pi_k f_k(x), shape (n,), int64."""
        return self._predicted(features).argmax(dim=1).cpu().numpy()

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        """Responsibilities of one view alone, equation (7), at the temperature of N13; (n, n_clusters), float32."""
        return torch.softmax(self._predicted(features) / self.temperature_, dim=1).cpu().numpy()

    def log_density(self, features: np.ndarray) -> np.ndarray:
        """Log p(x) of each row under the mixture (7), shape (n,), in nats relative to the data distribution.

        An outlier has a low value.
        """
        return torch.logsumexp(self._predicted(features), dim=1).cpu().numpy()

    def transform(self, features: np.ndarray) -> np.ndarray:
        """Activations in front of the last layer, shape (n, width), float32."""
        trunk = self.encoder_[:-1]
        return apply_in_chunks(lambda batch: trunk(self._view.plain(batch)), self._rows(features)).cpu().numpy()

    def get_arrays(self) -> dict[str, np.ndarray]:
        """Weights, mixing weights, normalisers and temperature."""
        vectors = {
            "log_mixing_weights": self.log_mixing_weights_,
            "score_mean": self.score_mean_,
            "score_std": self.score_std_,
            "log_normaliser": self.log_normaliser_,
        }
        arrays = {name: vector[0].cpu().numpy() for name, vector in vectors.items()}
        plain = {"row_shape": np.array(self.row_shape_), "temperature": np.array(self.temperature_)}
        return plain | arrays | module_arrays("encoder", self.encoder_)

    def set_arrays(self, arrays: Mapping[str, np.ndarray]) -> Self:
        """Take over what `get_arrays` gave."""
        self._device = resolve_device(self.device)
        self._build(tuple(int(side) for side in arrays["row_shape"]), [len(arrays["log_mixing_weights"])])
        load_module("encoder", self.encoder_, arrays)
        self.log_mixing_weights_, self.score_mean_, self.score_std_, self.log_normaliser_ = (
            torch.tensor(arrays[name], device=self._device).unsqueeze(0)
            for name in ("log_mixing_weights", "score_mean", "score_std", "log_normaliser")
        )
        self.temperature_ = float(arrays["temperature"])
        return self

    def _identity(self, features: np.ndarray) -> dict[str, Any]:
        """What a checkpoint must share to be of this training."""
        options = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {"method": "neural_mixture", "options": options, "rows": fingerprint(features)}

    def _state(
        self,
        optimiser: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        history: History,
        generator: torch.Generator,
        leading: Tensor,
        partition: Tensor | None,
    ) -> dict[str, Any]:
        return {
            "encoder": self.encoder_.state_dict(),
            "log_mixing_weights": self.log_mixing_weights_,
            "log_shares": self._log_shares,
            "optimiser": optimiser.state_dict(),
            "schedule": {name: value for name, value in schedule.state_dict().items() if not callable(value)},
            "history": history.state(),
            "random": random_state(generator),
            "leading": leading,
            "partition": partition,
            "precision": self._precision,
        }

    def _restore(
        self,
        state: Mapping[str, Any],
        optimiser: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        history: History,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor | None]:
        """Take over what `_state` gave; returns leading head and partition."""
        self._precision = state["precision"]
        self.encoder_.load_state_dict(state["encoder"])
        self.log_mixing_weights_ = state["log_mixing_weights"].to(self._device)
        self._log_shares = state["log_shares"].to(self._device)
        optimiser.load_state_dict(state["optimiser"])
        schedule.load_state_dict(state["schedule"])
        history.restore(state["history"])
        restore_random_state(state["random"], generator)
        partition = state["partition"]
        return state["leading"].to(self._device), None if partition is None else partition.to(self._device)

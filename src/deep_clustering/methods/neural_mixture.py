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

Deviations from the paper, or choices where it is silent
    N1 the constant of the transformation is the batch mean, so every density integrates to exactly one
    N2 the exponential density is the default; the sigmoid of the paper, with a scale, is an option
    N3 no gradient flows through the responsibilities
    N4 mixing weights are uniform; a moving average of the responsibilities with a floor is an option
    N6 consistency is not a second loss but the pair mixture (3)
    N7 a small convolutional or fully connected network instead of the paper's
    N8 affine views for images, term dropout or noise for vectors
    N9 AdamW with a one-cycle learning rate
    N10 prediction uses the training set's normalisers, found in one pass after training
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from deep_clustering.batching import Rows, apply_in_chunks, index_batches, n_batches, resolve_device
from deep_clustering.checks import check_features, check_rows
from deep_clustering.methods.history import History
from deep_clustering.networks import load_module, make_encoder, module_arrays
from deep_clustering.options import check_choice, check_range
from deep_clustering.progress import epochs
from deep_clustering.views import make_view, neighbour_table


def log_mean_exp(values: Tensor) -> Tensor:
    """Compute log mean_j exp(values_jk) over the first axis, shape (n_clusters,)."""
    return torch.logsumexp(values, dim=0) - math.log(len(values))


def sigmoid_relevance(scores: Tensor, mean: Tensor, std: Tensor, scale: float) -> Tensor:
    """Log of the unnormalised sigmoid density, equation (2).

    Args:
        scores: a, shape (n, n_clusters).
        mean: Mean of each score over the sample, shape (n_clusters,).
        std: Standard deviation of each score over the sample, shape (n_clusters,).
        scale: c, the steepness.

    Returns:
        log s(c h), shape (n, n_clusters), in nats.
    """
    return F.logsigmoid(scale * (scores - mean) / std.clamp_min(1e-6))


def log_density(scores: Tensor, density: str, scale: float) -> Tensor:
    """Log density of each cluster relative to the data distribution, equations (1) and (2).

    Args:
        scores: a, shape (n, n_clusters); the n rows stand for the sample space.
        density: "exponential" or "sigmoid".
        scale: c of the sigmoid density.

    Returns:
        log f, shape (n, n_clusters), in nats; the mean over rows of exp(log f) is 1 for each cluster.
    """
    if density == "sigmoid":
        scores = sigmoid_relevance(scores, scores.mean(dim=0), scores.std(dim=0, correction=0), scale)
    return scores - log_mean_exp(scores)


def e_step(log_joint_density: Tensor, log_mixing_weights: Tensor) -> tuple[Tensor, Tensor]:
    """Posterior over clusters for each sample, and the mean log-likelihood, equations (3) and (4).

    Args:
        log_joint_density: log f_k(x_i) + log f_k(x'_i) (or of one view alone), shape (n, n_clusters), in nats.
        log_mixing_weights: log pi_k, shape (n_clusters,), in nats.

    Returns:
        log_responsibilities: shape (n, n_clusters); each row's exp sums to 1.
        log_likelihood: scalar, mean over samples, in nats.

    Raises:
        ValueError: if the two cluster axes differ.
    """
    if log_joint_density.shape[1:] != log_mixing_weights.shape:
        raise ValueError(
            f"e_step: expected {log_joint_density.shape[1]} mixing weights, got shape {tuple(log_mixing_weights.shape)}"
        )
    weighted = log_joint_density + log_mixing_weights
    log_evidence = torch.logsumexp(weighted, dim=1, keepdim=True)
    return weighted - log_evidence, log_evidence.mean()


def m_step_loss(log_responsibilities: Tensor, log_joint_density: Tensor, log_mixing_weights: Tensor) -> Tensor:
    """Negative expected complete log-likelihood, equation (5).

    Args:
        log_responsibilities: From the E-step, shape (n, n_clusters); no gradient flows through them.
        log_joint_density: As given to the E-step.
        log_mixing_weights: As given to the E-step.

    Returns:
        Scalar, mean over samples, in nats; its gradient is that of the negative log-likelihood.
    """
    responsibilities = log_responsibilities.detach().exp()  # deviation N3
    return -(responsibilities * (log_joint_density + log_mixing_weights)).sum(dim=1).mean()


def update_mixing_weights(
    log_mixing_weights: Tensor, log_responsibilities: Tensor, momentum: float, floor: float
) -> Tensor:
    """Moving average of the mean responsibilities, kept above a floor.

    Args:
        log_mixing_weights: Current log pi_k, shape (n_clusters,).
        log_responsibilities: Of a batch, shape (n, n_clusters).
        momentum: Share of the old weights, in [0, 1].
        floor: Smallest weight, as a share of 1 / n_clusters, in [0, 1].

    Returns:
        New log pi_k, shape (n_clusters,); exp sums to 1.
    """
    batch = log_responsibilities.detach().exp().mean(dim=0)
    weights = momentum * log_mixing_weights.exp() + (1 - momentum) * batch
    weights = (1 - floor) * weights / weights.sum() + floor / len(weights)
    return weights.log()


@dataclass(kw_only=True)
class NeuralMixture:
    """The neural mixture model; fields are its hyper-parameters, learned state ends in an underscore."""

    n_clusters: int
    """Number of clusters K."""
    seed: int
    """Seed of initialisation, shuffling and views."""
    device: str
    """auto, cpu, cuda, ..."""
    density: str
    """exponential or sigmoid: equation (1) or (2)."""
    density_scale: float
    """c of the sigmoid density."""
    mixing: str
    """uniform or learned mixing weights."""
    mixing_momentum: float
    """Share of the old mixing weights in each update, when learned."""
    mixing_floor: float
    """Smallest mixing weight as a share of 1 / K, when learned."""
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
    record_every: int
    """Epochs between snapshots of the assignments."""

    def __post_init__(self) -> None:
        check_range("n_clusters", self.n_clusters, 2)
        check_range("seed", self.seed, 0, 2**32 - 1)
        check_choice("density", self.density, ("exponential", "sigmoid"))
        check_range("density_scale", self.density_scale, 1e-3)
        check_choice("mixing", self.mixing, ("uniform", "learned"))
        check_range("mixing_momentum", self.mixing_momentum, 0, 1)
        check_range("mixing_floor", self.mixing_floor, 0, 1)
        check_range("epochs", self.epochs, 1)
        check_range("batch_size", self.batch_size, 2)
        check_range("learning_rate", self.learning_rate, 0, 10)
        check_range("weight_decay", self.weight_decay, 0, 1)
        check_range("record_every", self.record_every, 1)
        self._view = make_view(self.views)
        self._encoder_options = make_encoder(self.encoder)

    def fit(self, features: np.ndarray, neighbours: np.ndarray | None = None) -> Self:
        """Train on the rows by batch-wise EM.

        Args:
            features: Shape (n_samples, n_features), dense or CSR, or (n_samples, channels, height, width); float.
            neighbours: Nearest rows of each row, shape (n_samples, k), for views of kind neighbours.

        Returns:
            The fitted estimator.

        Raises:
            ValueError: if the features or the device cannot be used.
            FloatingPointError: if a term of the loss stops being finite.
        """
        check_features(features, self.n_clusters, "neural_mixture")
        self._device = resolve_device(self.device)
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            self._build(features.shape[1:])
            self._neighbours = neighbour_table(neighbours, features.shape[0], self._device)
            self._train(Rows(features, self._device))
        return self

    def _build(self, row_shape: tuple[int, ...]) -> None:
        self.row_shape_ = tuple(row_shape)
        network = self._encoder_options.build(self._view.output_shape(self.row_shape_), self.n_clusters)
        self.encoder_ = network.to(self._device)
        uniform = torch.full((self.n_clusters,), -math.log(self.n_clusters), device=self._device)
        self.log_mixing_weights_ = uniform
        self.score_mean_, self.score_std_ = torch.zeros_like(uniform), torch.ones_like(uniform)
        self.log_normaliser_ = torch.zeros_like(uniform)

    def _train(self, rows: Rows) -> None:
        generator = torch.Generator(self._device).manual_seed(self.seed)
        optimiser = torch.optim.AdamW(self.encoder_.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
        n_steps = self.epochs * n_batches(len(rows), self.batch_size)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, self.learning_rate, total_steps=n_steps)
        history = History("neural_mixture")
        self._finalise(rows)
        history.snapshot(0, self._assign(rows))
        for epoch in epochs(self.epochs, "neural_mixture", lambda: history.last("log_likelihood", "agreement")):
            self.encoder_.train()
            for index in index_batches(len(rows), self.batch_size, generator):
                views = self._view.pair(rows, index, self._neighbours, generator)
                self._step(views, optimiser, history)
                schedule.step()
            history.close_epoch(epoch + 1)
            if (epoch + 1) % self.record_every == 0 or epoch + 1 == self.epochs:
                self._finalise(rows)
                history.snapshot(epoch + 1, self._assign(rows))
        self.history_ = history.arrays()

    def _step(self, views: Tensor, optimiser: torch.optim.Optimizer, history: History) -> None:
        """One E-step and M-step on two views of a batch, one behind the other."""
        scores_a, scores_b = self.encoder_(views).chunk(2)
        log_density_a = log_density(scores_a, self.density, self.density_scale)
        log_density_b = log_density(scores_b, self.density, self.density_scale)
        log_joint = log_density_a + log_density_b
        log_responsibilities, log_likelihood = e_step(log_joint.detach(), self.log_mixing_weights_)
        loss = m_step_loss(log_responsibilities, log_joint, self.log_mixing_weights_)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        if self.mixing == "learned":
            self.log_mixing_weights_ = update_mixing_weights(
                self.log_mixing_weights_, log_responsibilities, self.mixing_momentum, self.mixing_floor
            )
        responsibilities = log_responsibilities.exp()
        history.add(
            loss=loss,
            log_likelihood=log_likelihood,
            entropy=-(responsibilities * log_responsibilities).sum(dim=1).mean(),
            agreement=(log_density_a.argmax(dim=1) == log_density_b.argmax(dim=1)).float().mean(),
        )

    @torch.inference_mode()
    def _finalise(self, rows: Rows) -> None:
        """Normalisers of the densities over all training rows: deviation N10."""
        self.encoder_.eval()
        scores = apply_in_chunks(self._scores, rows)
        self.score_mean_, self.score_std_ = scores.mean(dim=0), scores.std(dim=0, correction=0)
        self.log_normaliser_ = log_mean_exp(self._relevance(scores))

    def _scores(self, batch: Tensor) -> Tensor:
        return self.encoder_(self._view.plain(batch))

    def _relevance(self, scores: Tensor) -> Tensor:
        if self.density == "sigmoid":
            return sigmoid_relevance(scores, self.score_mean_, self.score_std_, self.density_scale)
        return scores

    def _log_density(self, batch: Tensor) -> Tensor:
        return self._relevance(self._scores(batch)) - self.log_normaliser_

    def _assign(self, rows: Rows) -> Tensor:
        return apply_in_chunks(lambda batch: self._log_density(batch) + self.log_mixing_weights_, rows).argmax(dim=1)

    def _rows(self, features: np.ndarray) -> Rows:
        check_rows(features, "neural_mixture", self.row_shape_)
        self.encoder_.eval()
        return Rows(features, self._device)

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Cluster of each row: argmax_k pi_k f_k(x), shape (n,), int64."""
        return self._assign(self._rows(features)).cpu().numpy()

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        """Responsibilities of one view alone, equation (4), shape (n, n_clusters), float32."""
        log_joint = apply_in_chunks(self._log_density, self._rows(features))
        return e_step(log_joint, self.log_mixing_weights_)[0].exp().cpu().numpy()

    def transform(self, features: np.ndarray) -> np.ndarray:
        """Activations in front of the last layer, shape (n, width), float32."""
        trunk = self.encoder_[:-1]
        return apply_in_chunks(lambda batch: trunk(self._view.plain(batch)), self._rows(features)).cpu().numpy()

    def get_arrays(self) -> dict[str, np.ndarray]:
        """Weights, mixing weights and normalisers."""
        vectors = {
            "log_mixing_weights": self.log_mixing_weights_,
            "score_mean": self.score_mean_,
            "score_std": self.score_std_,
            "log_normaliser": self.log_normaliser_,
        }
        arrays = {name: vector.cpu().numpy() for name, vector in vectors.items()}
        return {"row_shape": np.array(self.row_shape_)} | arrays | module_arrays("encoder", self.encoder_)

    def set_arrays(self, arrays: Mapping[str, np.ndarray]) -> Self:
        """Take over what `get_arrays` gave."""
        self._device = resolve_device(self.device)
        self._build(tuple(int(side) for side in arrays["row_shape"]))
        load_module("encoder", self.encoder_, arrays)
        self.log_mixing_weights_, self.score_mean_, self.score_std_, self.log_normaliser_ = (
            torch.tensor(arrays[name], device=self._device)
            for name in ("log_mixing_weights", "score_mean", "score_std", "log_normaliser")
        )
        return self

"""DCAN: deep clustering with an adversarial clustering loss in latent space.

Lim, "Deep clustering via adversarial nets", arXiv 2412.08933. An encoder maps a sample to a latent; a discriminator
learns to tell draws from the sample's assigned cluster from the encoder's latents; the encoder learns to fool it, so
that the Jensen-Shannon divergence between both shrinks. There is no pretraining, and unless asked for no decoder.

Symbols
    E(x), z          encoder and whitened latent              encoder, latent       (n, latent_dim)
    w, eta, Sigma    weights, centres, diagonal covariances   LatentMixture         (n_clusters, ...)
    k                cluster a sample is assigned to          assignments           (n,)
    D                discriminator                            discriminator         (n, n_outputs) logits
    t, m             wanted outputs, and which count          targets, mask         (n, n_outputs)
    s                instance noise                           instance_noise

Equations (the paper's order and numbers; its typography is not available to us)
    (1)  binary cross-entropy over the outputs: t for draws from cluster k, 0 for latents
             conditioning  k_way       K outputs, t = one-hot(k), all count
                           projection  K outputs, t = one-hot(k), only output k counts
                           none        one output, t = 1
    (2)  ABC: mean |z - eta_k|^2, and a reconstruction term mean |x - R(z)|^2 / size of x
    (4)  p(z | k) = N(eta_k, Sigma_k + s^2), k the assigned cluster; Sigma_k left out for positives: mean
    (5)  sum_k n_k / n KL(N(m_k, v_k + s^2) || p(z | k)), m_k and v_k mean and variances of the latents of cluster k:
         sum_k n_k / 2n sum_d [ln p_kd - ln q_kd + (q_kd + (m_kd - eta_kd)^2) / p_kd - 1], q = v + s^2, p that of (4)
    (10) min_E max_D  E_{z ~ p(z|k)} [ln D_k(z)] + E_x [ln(1 - D_k(E(x)))]
    (11) at the optimal D the value is -2 ln 2 + 2 JS, hence for any D  JS >= (value + 2 ln 2) / 2, which lies in
         (-inf, ln 2]
    (12) I = sum_kl p_kl ln(p_kl / (p_k p_l)), p_kl the share of rows of whose two views one is in cluster k and the
         other in l; at most ln K, for balanced clusters that both views agree on. Not of the paper

Losses (`loss`), all under the same encoder, views, clustering and assignments
    adversarial   (10)        euclidean   (2)        gaussian_kl   (5), between the densities that D compares

Deviations from the paper, or choices where it is silent; those with a name behind them are switches. Read literally,
the loop collapses; D7 and D11 to D13 are what keeps it from that.
    D1  sizes of encoder, discriminator and latent are options
    D2  ReLU with batch normalisation in the encoder, LeakyReLU in the discriminator         leaky_slope
    D3  Adam(.5, .999), batches of 256; the paper's gradient ascent with momentum            optimiser
    D4  positives: the centre (mean), or a draw from the fitted cluster (sample)             positives
    D5  the clustering step is one warm-started iteration on a queue of latents per update   clustering, queue_size
    D6  the encoder is trained towards t instead of minimising ln(1 - D_k)                   saturating
    D7  the discriminator has an output per cluster: it knows which cluster it judges        conditioning
    D8  reconstruction against collapse                                                      reconstruction_weight
    D11 the latent is whitened: the only way for K tight groups to have identity covariance
        is to be separated and balanced                                                      whitening
    D12 a view is assigned by the other view of the same sample                              cross_view
    D13 draws and latents get the same Gaussian noise, so that both densities overlap        instance_noise
    D14 after training, whitening and mixture are found anew from all rows without random
        views; prediction takes the greatest responsibility under that mixture               final_iterations
    D15 a partition stands in for the assignments of both views in the first epochs          start
    D16 of several trainings the one is kept whose clusters of two fresh views of a sample
        share most information (12)                                                          restarts
"""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from deep_clustering.checks import check_features, check_rows
from deep_clustering.methods.latent_mixture import (
    CLUSTERINGS,
    LatentMixture,
    assign,
    clustering_step,
    log_joint,
    m_step,
    memberships,
)
from deep_clustering.methods.starts import NoStart, Overclustering, held_epochs, make_start
from deep_clustering.options import check_choice, check_range
from deep_clustering.training.checkpoints import Checkpoints, fingerprint, random_state, restore_random_state
from deep_clustering.training.history import History
from deep_clustering.training.networks import MLP, discriminator, load_module, make_encoder, module_arrays
from deep_clustering.training.optimisers import make_optimiser
from deep_clustering.training.precision import training_precision
from deep_clustering.training.progress import epochs
from deep_clustering.training.restarts import Trained, best_of_restarts, derived_seed
from deep_clustering.training.rows import Rows, apply_in_chunks, index_batches, resolve_device
from deep_clustering.training.views import make_view, neighbour_table

logger = logging.getLogger(__name__)

LOSSES = ("adversarial", "euclidean", "gaussian_kl")
CONDITIONINGS = ("none", "projection", "k_way")

# The paper's lower bound for the points of one clustering step.
_FEWEST_POINTS = 600
# Ridge, as a share of the mean variance, for a covariance that cannot be factored with the ridge of the options.
_STRONG_RIDGE = 1e-2
# Fresh views are drawn from a stream of their own, so many pairs for each row.
_FRESH = 2**40
_ROUNDS = 4


class Whitening(NamedTuple):
    """What turns codes into latents of mean zero and identity covariance."""

    mean: Tensor
    """Shape (latent_dim,)."""
    factor: Tensor
    """Lower triangular L with L L' = covariance, shape (latent_dim, latent_dim)."""
    correction: Tensor
    """Ridge that a singular covariance needed beyond epsilon, as a share of the mean variance; scalar, mostly 0."""


def whitening(codes: Tensor, epsilon: float) -> Whitening:
    """Statistics that whiten a batch: deviation D11.

    Args:
        codes: Encoder outputs, shape (n, latent_dim).
        epsilon: Added to the diagonal of the covariance, as a share of its mean.

    Returns:
        Mean, factor and correction; the factor is NaN where the codes are.
    """
    mean = codes.mean(dim=0)
    centred = codes - mean
    covariance = centred.T @ centred / len(codes)
    identity = torch.eye(codes.shape[1], device=codes.device, dtype=codes.dtype)
    mean_variance = covariance.diagonal().mean()
    ridge = torch.finfo(codes.dtype).tiny + epsilon * mean_variance
    # cholesky_ex does not wait for the device to report a failure. Where it fails, or a pivot is all rounding, a
    # strong ridge takes the place of the small one.
    trial, failed = torch.linalg.cholesky_ex(covariance.detach() + ridge.detach() * identity)
    rounding = codes.shape[1] * torch.finfo(codes.dtype).eps * mean_variance.detach()
    is_singular = (failed > 0) | (trial.diagonal().square().amin() < rounding)
    correction = torch.where(is_singular, _STRONG_RIDGE, 0.0)
    factor, failed = torch.linalg.cholesky_ex(covariance + (ridge + correction * mean_variance) * identity)
    return Whitening(mean, factor.masked_fill(failed > 0, torch.nan), correction)


def whiten(codes: Tensor, mean: Tensor, factor: Tensor) -> Tensor:
    """Latent z = L^{-1} (E(x) - mean), shape (n, latent_dim)."""
    return torch.linalg.solve_triangular(factor, (codes - mean).T, upper=False).T


def positive_variances(mixture: LatentMixture, positives: str, instance_noise: float) -> Tensor:
    """Variances of what the discriminator is shown as cluster k, equation (4), shape (n_clusters, latent_dim)."""
    own = mixture.variances if positives == "sample" else torch.zeros_like(mixture.variances)
    return own + instance_noise**2


def draw_positives(assignments: Tensor, centroids: Tensor, variances: Tensor, generator: torch.Generator) -> Tensor:
    """A draw from N(eta_k, variances_k) for each assignment k, equation (4), shape (n, latent_dim)."""
    normal = torch.randn(
        (len(assignments), centroids.shape[1]), generator=generator, device=centroids.device, dtype=centroids.dtype
    )
    return centroids[assignments] + variances.sqrt()[assignments] * normal


def wanted_outputs(assignments: Tensor, n_clusters: int, conditioning: str) -> tuple[Tensor, Tensor]:
    """What the discriminator is to say of a draw, equation (1).

    Args:
        assignments: Cluster of each draw, shape (n,).
        n_clusters: Number of clusters.
        conditioning: One of `CONDITIONINGS`.

    Returns:
        targets: t, shape (n, n_outputs); one output of each row is 1.
        mask: 1 for the outputs that count, 0 for the others, same shape.
    """
    one_hot = memberships(assignments, n_clusters)
    if conditioning == "none":
        return torch.ones_like(one_hot[:, :1]), torch.ones_like(one_hot[:, :1])
    return one_hot, one_hot if conditioning == "projection" else torch.ones_like(one_hot)


def discriminator_loss(logits_positive: Tensor, logits_negative: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """Equation (1): binary cross-entropy summed over the outputs that count, mean over samples, in nats.

    Args:
        logits_positive: D of draws from the assigned cluster, shape (n, n_outputs).
        logits_negative: D of encoder latents, shape (n, n_outputs).
        targets: Wanted outputs for the draws, shape (n, n_outputs); for latents all outputs are wanted 0.
        mask: Outputs that count, shape (n, n_outputs).

    Returns:
        Scalar.
    """
    positive = F.binary_cross_entropy_with_logits(logits_positive, targets, reduction="none")
    negative = F.softplus(logits_negative)
    return (mask * (positive + negative)).sum(dim=1).mean()


def encoder_loss(logits: Tensor, targets: Tensor, mask: Tensor, saturating: bool) -> Tensor:
    """The encoder's side of (10), or deviation D6, in nats.

    Args:
        logits: D of encoder latents, shape (n, n_outputs).
        targets: Outputs wanted for draws from their cluster, shape (n, n_outputs).
        mask: Outputs that count, shape (n, n_outputs).
        saturating: E ln(1 - D_k) as in (10), else the binary cross-entropy towards the targets (D6).

    Returns:
        Scalar, summed over outputs, mean over samples.
    """
    if saturating:
        return -(targets * F.softplus(logits)).sum(dim=1).mean()
    cross_entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return (mask * cross_entropy).sum(dim=1).mean()


def js_divergence(judged_positive: Tensor, judged_negative: Tensor) -> Tensor:
    """Equation (11): lower bound of the Jensen-Shannon divergence, in (-inf, ln 2] nats; below 0 it says nothing.

    Args:
        judged_positive: Logits for draws at the output of their cluster, shape (n,).
        judged_negative: Logits for latents at the output of their cluster, shape (n,).

    Returns:
        (E ln D + E ln(1 - D) + 2 ln 2) / 2, scalar.
    """
    value = F.logsigmoid(judged_positive).mean() + F.logsigmoid(-judged_negative).mean()
    return value / 2 + math.log(2)


def euclidean_loss(latent: Tensor, centroids: Tensor, assignments: Tensor) -> Tensor:
    """Equation (2): mean squared distance to the assigned centre, scalar."""
    return (latent - centroids[assignments]).square().sum(dim=1).mean()


def gaussian_kl(mean: Tensor, variances: Tensor, other_mean: Tensor, other_variances: Tensor) -> Tensor:
    """KL(N(mean, variances) || N(other_mean, other_variances)) of diagonal Gaussians, in nats.

    Args:
        mean: Shape (..., d).
        variances: Shape (..., d), positive.
        other_mean: Shape (..., d).
        other_variances: Shape (..., d), positive.

    Returns:
        Shape (...).
    """
    ratio = variances / other_variances
    return (ratio - 1 - ratio.log() + (mean - other_mean).square() / other_variances).sum(dim=-1) / 2


def gaussian_kl_loss(
    latent: Tensor, assignments: Tensor, centroids: Tensor, variances: Tensor, instance_noise: float
) -> Tensor:
    """Equation (5): divergence of each cluster's latents from the cluster, weighted by occupancy.

    Args:
        latent: Shape (n, latent_dim).
        assignments: Shape (n,).
        centroids: eta, shape (n_clusters, latent_dim).
        variances: Those of (4), shape (n_clusters, latent_dim), positive.
        instance_noise: s.

    Returns:
        Scalar, in nats.
    """
    one_hot = memberships(assignments, len(centroids), latent.dtype)
    counts = one_hot.sum(dim=0).unsqueeze(1)
    means = one_hot.T @ latent / counts.clamp_min(1)
    own = one_hot.T @ (latent - means[assignments]).square() / counts.clamp_min(1)
    # A single latent has no variance; its logarithm must stay finite.
    divergences = gaussian_kl(means, (own + instance_noise**2).clamp_min(1e-6), centroids, variances)
    return (counts.squeeze(1) * divergences).sum() / len(latent)


def within_share(latent: Tensor, assignments: Tensor, n_clusters: int) -> Tensor:
    """Share of the variance of the latents that is left within clusters, scalar in [0, 1]."""
    one_hot = memberships(assignments, n_clusters, latent.dtype)
    centred = latent - latent.mean(dim=0)
    means = one_hot.T @ centred / one_hot.sum(dim=0).clamp_min(1).unsqueeze(1)
    return (centred - means[assignments]).square().sum() / centred.square().sum().clamp_min(1e-12)


def find_failure(columns: Mapping[str, list[float]], n_clusters: int, patience: int) -> str | None:
    """What has gone wrong with a training for some epochs, with advice.

    Args:
        columns: Values per epoch of "n_occupied" and "largest_share", and of an adversarial loss also of
            "discriminator_accuracy_positive", "discriminator_accuracy_negative" and "js_divergence".
        n_clusters: Number of clusters wanted.
        patience: Epochs that something must last.

    Returns:
        A sentence, or None.
    """
    newest = {name: column[-patience:] for name, column in columns.items()}
    if len(newest["n_occupied"]) < patience:
        return None
    remedy = "try another seed or a start, more instance_noise, or switch whitening and cross_view on"
    if max(newest["n_occupied"]) < n_clusters:
        return f"collapse: only {newest['n_occupied'][-1]:.0f} of {n_clusters} clusters are occupied; {remedy}"
    if n_clusters > 2 and min(newest["largest_share"]) > 0.9:
        return f"collapse: one cluster holds {newest['largest_share'][-1]:.0%} of the rows; {remedy}"
    judged = [newest.get(f"discriminator_accuracy_{side}", [0.0]) for side in ("positive", "negative")]
    if min(map(min, judged)) > 0.99 and min(newest["js_divergence"]) > 0.95 * math.log(2):
        return (
            f"the discriminator overpowers the encoder: accuracy {judged[0][-1]:.3f} on draws and {judged[1][-1]:.3f} "
            f"on latents, JS {newest['js_divergence'][-1]:.3f} of at most ln 2; raise instance_noise or lower "
            "discriminator_learning_rate"
        )
    return None


@dataclass
class _Training:
    """What changes from step to step besides the networks; all on the device."""

    queue: Tensor
    """Newest latents first, shape (n_queue, latent_dim)."""
    queue_rows: Tensor
    """The row that each of them is a view of, shape (n_queue,)."""
    mixture: LatentMixture
    """The clusters."""
    newest: Tensor
    """Cluster of each row's first view when it was seen last, shape (n_samples,)."""
    correction: Tensor
    """Greatest correction of the whitening in this epoch, scalar."""
    views_are_finite: Tensor
    """Whether all views of this epoch were, scalar."""


def mutual_information(first: Tensor, second: Tensor, n_clusters: int) -> Tensor:
    """Information that the clusters of two views share, equation (12).

    Args:
        first: Cluster of the first view of each pair, shape (n,), int64.
        second: Of the second view, same shape.
        n_clusters: Number of clusters.

    Returns:
        Scalar in [0, ln n_clusters], in nats; pairs count in both orders.
    """
    places = torch.cat([first * n_clusters + second, second * n_clusters + first])
    joint = places.bincount(minlength=n_clusters**2).reshape(n_clusters, n_clusters) / len(places)
    shares = joint.sum(dim=1)
    return torch.special.xlogy(joint, joint / (shares.unsqueeze(1) * shares).clamp_min(1e-30)).sum()


@dataclass(kw_only=True)
class DCAN:
    """Deep clustering via adversarial nets; fields are its hyper-parameters, learned state ends in an underscore."""

    label_free_score: ClassVar[tuple[str, str]] = ("view_information", "max")
    """The score by which runs compare without labels, and whether more or less is better."""

    n_clusters: int
    """Number of clusters K."""
    seed: int
    """Seed of initialisation, shuffling, views and draws."""
    device: str
    """auto, cpu, cuda, ..."""
    latent_dim: int
    """Size of the latent; with whitening about K."""
    whitening: bool
    """Whiten the latent (D11)."""
    whitening_epsilon: float
    """Ridge of the whitening, as a share of the mean variance."""
    clustering: str
    """kmeans or gmm: the clustering step (D5)."""
    queue_size: int
    """Latents kept for the clustering step; the paper asks for at least 600. Of fewer rows all are kept."""
    n_init: int
    """Starts of the k-means that finds the first centres."""
    variance_floor: float
    """Smallest variance of a cluster, as a share of the mean variance of the latents."""
    final_iterations: int
    """Clustering steps on all rows after training or for a snapshot (D14)."""
    cross_view: bool
    """Assign a view by the other view of the sample (D12), instead of by itself."""
    start: dict[str, Any]
    """Partition held for the first epochs (D15): kind and its options."""
    loss: str
    """The clustering loss, one of `LOSSES`."""
    conditioning: str
    """none, projection or k_way: what the discriminator knows of the cluster (D7)."""
    positives: str
    """mean or sample: the centre, or a draw from the fitted cluster (D4)."""
    instance_noise: float
    """Standard deviation s of the noise on positives and latents (D13)."""
    saturating: bool
    """Minimise ln(1 - D_k) as the paper does, instead of D6."""
    discriminator_hidden: list[int]
    """Width of each hidden layer of the discriminator."""
    leaky_slope: float
    """Slope of its LeakyReLU below zero."""
    reconstruction_weight: float
    """Weight of the reconstruction in (2) (D8); 0 builds no decoder."""
    decoder_hidden: list[int]
    """Width of each hidden layer of the decoder."""
    views: dict[str, Any]
    """Random views: kind and its options."""
    encoder: dict[str, Any]
    """Network: kind and its options."""
    epochs: int
    """Passes over the rows."""
    batch_size: int
    """Rows in a batch (each gives two views)."""
    optimiser: str
    """adam, or sgd as in the paper (D3)."""
    beta1: float
    """Adam's decay of the mean gradient."""
    beta2: float
    """Adam's decay of the mean squared gradient."""
    momentum: float
    """Momentum of sgd."""
    encoder_learning_rate: float
    """Rate of the encoder and the decoder."""
    discriminator_learning_rate: float
    """Rate of the discriminator."""
    precision: str
    """fp32, bf16, or auto, the faster: of the encoder's passes in training; everything else is fp32."""
    restarts: int
    """Trainings from different seeds, of which the best by view_information is kept (D16)."""
    patience: int
    """Epochs after which a collapse or an overpowering discriminator is believed; it then ends a restart."""
    record_every: int
    """Epochs between snapshots of the assignments."""

    def __post_init__(self) -> None:
        check_range("n_clusters", self.n_clusters, 2)
        check_range("seed", self.seed, 0, 2**32 - 1)
        check_range("latent_dim", self.latent_dim, 2)
        check_range("whitening_epsilon", self.whitening_epsilon, 0, 1)
        check_choice("clustering", self.clustering, CLUSTERINGS)
        if self.queue_size < max(_FEWEST_POINTS, self.latent_dim + 1):
            raise ValueError(
                f"queue_size must be at least {_FEWEST_POINTS} (the paper's bound for a clustering step) and above "
                f"latent_dim, got {self.queue_size}"
            )
        check_range("n_init", self.n_init, 1)
        check_range("variance_floor", self.variance_floor, 1e-6, 1)
        check_range("final_iterations", self.final_iterations, 1)
        check_choice("loss", self.loss, LOSSES)
        check_choice("conditioning", self.conditioning, CONDITIONINGS)
        check_choice("positives", self.positives, ("mean", "sample"))
        check_range("instance_noise", self.instance_noise, 0)
        check_range("leaky_slope", self.leaky_slope, 0, 1)
        check_range("reconstruction_weight", self.reconstruction_weight, 0)
        for name in ("discriminator_hidden", "decoder_hidden"):
            for width in getattr(self, name):
                check_range(name, width, 1)
        check_range("epochs", self.epochs, 1)
        check_range("batch_size", self.batch_size, 2)
        check_choice("optimiser", self.optimiser, ("adam", "sgd"))
        for name in ("beta1", "beta2", "momentum"):
            check_range(name, getattr(self, name), 0, 0.9999)
        check_range("encoder_learning_rate", self.encoder_learning_rate, 0, 10)
        check_range("discriminator_learning_rate", self.discriminator_learning_rate, 0, 10)
        check_choice("precision", self.precision, ("auto", "fp32", "bf16"))
        check_range("restarts", self.restarts, 1)
        check_range("patience", self.patience, 1)
        check_range("record_every", self.record_every, 1)
        self._check_the_game()
        self._view = make_view(self.views)
        self._encoder_options = make_encoder(self.encoder)
        self._start = make_start(self.start)

    def _check_the_game(self) -> None:
        """Refuse a loss and a discriminator that cannot do what they are for."""
        if self.loss == "adversarial" and self.conditioning == "none" and not self.discriminator_hidden:
            raise ValueError(
                "discriminator_hidden must not be empty with conditioning: none, where one half-space would have to "
                "hold all clusters; add a layer, or use conditioning: k_way or projection"
            )
        if self.loss == "gaussian_kl" and self.positives == "mean" and self.instance_noise == 0:
            raise ValueError(
                "loss: gaussian_kl needs clusters of some width, got positives: mean with instance_noise: 0; raise "
                "instance_noise or use positives: sample"
            )

    def fit(
        self, features: np.ndarray, neighbours: np.ndarray | None = None, checkpoints: Checkpoints | None = None
    ) -> Self:
        """Train encoder and discriminator against each other.

        Args:
            features: Shape (n_samples, n_features), dense or CSR, or (n_samples, channels, height, width); float.
            neighbours: Nearest rows of each row, shape (n_samples, k), for views of kind neighbours.
            checkpoints: Where the state of the training is kept, and continued from; None for nowhere.

        Returns:
            The fitted estimator.

        Raises:
            ValueError: if the features, the device or a checkpoint cannot be used.
            FloatingPointError: if the views or a term of the losses stop being finite.
        """
        check_features(features, self.n_clusters, "dcan")
        self._check_sizes(features.shape[0])
        self._device = resolve_device(self.device)
        if self.restarts == 1:
            history = self._fit_once(features, neighbours, checkpoints, ends_early=False)
        else:
            best = best_of_restarts(
                partial(self._fit_restart, features, neighbours),
                self.restarts,
                "dcan",
                checkpoints,
                self._identity(features),
            )
            self.set_arrays(best.arrays)
            history = best.history
        self.history_ = history.arrays()
        return self

    def _check_sizes(self, n_samples: int) -> None:
        n_batch, n_queue = min(self.batch_size, n_samples), min(self.queue_size, 2 * n_samples)
        if self.n_clusters > n_batch:
            raise ValueError(
                f"dcan: n_clusters must be at most batch_size, got {self.n_clusters} for batches of {n_batch}"
            )
        if self.latent_dim >= n_queue:
            raise ValueError(
                f"dcan: latent_dim must be below the points of a clustering step, got {self.latent_dim} for {n_queue} "
                f"(two views of {n_samples} rows, at most queue_size)"
            )

    def _fit_restart(
        self, features: np.ndarray, neighbours: np.ndarray | None, restart: int, checkpoints: Checkpoints | None
    ) -> Trained:
        """One of several trainings, compared by what two views know of each other: deviation D16."""
        one = replace(self, seed=derived_seed(self.seed, restart), restarts=1)
        one._device = self._device
        history = one._fit_once(features, neighbours, checkpoints, ends_early=True)
        # Information lies in [0, ln K]: a restart that was ended early ranks behind all that were not.
        handicap = (1 + math.log(self.n_clusters)) * one.ended_early_
        return Trained(one.get_arrays(), history, history.newest_final("view_information") - handicap)

    def _fit_once(
        self,
        features: np.ndarray,
        neighbours: np.ndarray | None,
        checkpoints: Checkpoints | None,
        *,
        ends_early: bool,
    ) -> History:
        """One training; `ends_early` lets a failure end it."""
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            self._build(features.shape[1:])
            self._neighbours = neighbour_table(neighbours, features.shape[0], self._device)
            return self._train(features, neighbours, checkpoints, ends_early)

    def _build(self, row_shape: tuple[int, ...]) -> None:
        self.row_shape_ = tuple(row_shape)
        view_shape = self._view.output_shape(self.row_shape_)
        self.encoder_ = self._encoder_options.build(view_shape, self.latent_dim).to(self._device)
        self.discriminator_, self.decoder_ = None, None
        if self.loss == "adversarial":
            n_outputs = 1 if self.conditioning == "none" else self.n_clusters
            network = discriminator(self.latent_dim, self.discriminator_hidden, n_outputs, self.leaky_slope)
            self.discriminator_ = network.to(self._device)
        if self.reconstruction_weight:
            decoder = MLP(hidden=self.decoder_hidden).build((self.latent_dim,), math.prod(view_shape))
            self.decoder_ = decoder.to(self._device)
        self.code_mean_ = torch.zeros(self.latent_dim, device=self._device)
        self.code_factor_ = torch.eye(self.latent_dim, device=self._device)
        empty = torch.zeros(self.n_clusters, self.latent_dim, device=self._device)
        self.mixture_ = LatentMixture(empty[:, 0], empty, torch.ones_like(empty))
        self.within_share_ = torch.ones((), device=self._device)
        self.ended_early_ = False
        self._has_warned = False

    def _networks(self) -> dict[str, nn.Sequential]:
        """The networks that this configuration has, by name."""
        all_ = {"encoder": self.encoder_, "discriminator": self.discriminator_, "decoder": self.decoder_}
        return {name: network for name, network in all_.items() if network is not None}

    def _make_optimisers(self) -> dict[str, torch.optim.Optimizer]:
        """An optimiser for encoder and decoder, and one for the discriminator."""
        own = [*self.encoder_.parameters(), *(self.decoder_.parameters() if self.decoder_ else ())]
        groups = {"encoder": (own, self.encoder_learning_rate)}
        if self.discriminator_:
            groups["discriminator"] = (list(self.discriminator_.parameters()), self.discriminator_learning_rate)
        if self.optimiser == "sgd":
            make = partial(make_optimiser, torch.optim.SGD, momentum=self.momentum)
        else:
            make = partial(make_optimiser, torch.optim.Adam, betas=(self.beta1, self.beta2))
        return {name: make(own, rate, self._device) for name, (own, rate) in groups.items()}

    def _train(
        self, features: np.ndarray, neighbours: np.ndarray | None, checkpoints: Checkpoints | None, ends_early: bool
    ) -> History:
        rows = Rows(features, self._device)
        generator = torch.Generator(self._device).manual_seed(self.seed)
        optimisers = self._make_optimisers()
        history = History("dcan")
        state = checkpoints.begin(self._identity(features)) if checkpoints else None
        if state is None:
            view_shape = self._view.output_shape(self.row_shape_)
            n_views = 2 * min(self.batch_size, len(rows))
            self._precision = training_precision(self.precision, self.encoder_, (n_views, *view_shape), self._device)
            partition = self._find_partition(features, neighbours, checkpoints)
            training = self._begin(rows, partition, generator)
            history.snapshot(0, training.newest)
            if checkpoints and checkpoints.is_due(0) and partition is not None:
                checkpoints.save(0, self._state(training, optimisers, history, generator, partition))
        else:
            training, partition = self._restore(state, optimisers, history, generator)

        def status() -> str:
            shown = ["within_share", "agreement", *(["js_divergence"] if self.discriminator_ else [])]
            return history.last(*shown)

        for epoch in epochs(self.epochs, "dcan", status, first=history.n_epochs):
            self.encoder_.train()
            held = partition if epoch < held_epochs(self._start, self.epochs) else None
            for index in index_batches(len(rows), self.batch_size, generator):
                views = self._view.pair(rows, index, self._neighbours, generator)
                self._step(views, index, held, training, optimisers, generator, history)
            self._close_epoch(epoch + 1, training, history)
            self.ended_early_ = self._has_failed(history) and ends_early
            is_last = self.ended_early_ or epoch + 1 == self.epochs
            if (epoch + 1) % self.record_every == 0 or is_last:
                history.snapshot(epoch + 1, self._finalise(rows, training.mixture))
            if self.ended_early_:
                break
            if checkpoints and checkpoints.is_due(epoch + 1):
                checkpoints.save(epoch + 1, self._state(training, optimisers, history, generator, partition))
        history.final(within_share=self.within_share_, view_information=self._view_information(rows))
        if checkpoints:
            checkpoints.clear()
        return history

    def _find_partition(
        self, features: np.ndarray, neighbours: np.ndarray | None, checkpoints: Checkpoints | None
    ) -> Tensor | None:
        """The partition that is held for the first epochs, shape (n_samples,), or None: deviation D15."""
        if isinstance(self._start, NoStart):
            return None
        if isinstance(self._start, Overclustering):
            n_components = self._start.n_components(self.n_clusters, min(self.batch_size, features.shape[0]))
            # room in the latent for so many separated groups
            several = replace(self, n_clusters=n_components, latent_dim=max(self.latent_dim, n_components))
            many = self._start.fit_components(several, features, neighbours, checkpoints)
            partition = self._start.merge(many.transform(features), [self.n_clusters], self.seed)[:, 0]
        else:
            partition = self._start.partitions(features, [self.n_clusters], self.seed)[:, 0]
        return torch.from_numpy(partition).to(self._device)

    @torch.no_grad()
    def _begin(self, rows: Rows, partition: Tensor | None, generator: torch.Generator) -> _Training:
        """A queue of latents of the untrained encoder, and the mixture of the partition or of k-means on it."""
        n_queue = min(self.queue_size, 2 * len(rows))
        index = torch.randperm(len(rows), generator=generator, device=self._device)[: (n_queue + 1) // 2]
        self.encoder_.train()
        views = self._view.pair(rows, index, self._neighbours, generator)
        self._check_views(torch.isfinite(views).all(), 0)
        queue = self._latent(views)[0][:n_queue]
        if not torch.isfinite(queue).all():
            raise FloatingPointError(
                "dcan: 'latent' of the untrained encoder is not finite (epoch 0); look for extreme values in the rows"
            )
        queue_rows = torch.cat([index, index])[:n_queue]
        if partition is None:
            from sklearn.cluster import KMeans

            kmeans = KMeans(self.n_clusters, n_init=self.n_init, random_state=self.seed)
            clusters = torch.from_numpy(kmeans.fit_predict(queue.cpu())).to(self._device)
        else:
            clusters = partition[queue_rows]
        mixture = m_step(queue, memberships(clusters, self.n_clusters), self.variance_floor, generator)
        return _Training(
            queue=queue,
            queue_rows=queue_rows,
            mixture=mixture,
            newest=self._finalise(rows, mixture),
            correction=torch.zeros((), device=self._device),
            views_are_finite=torch.ones((), device=self._device, dtype=torch.bool),
        )

    def _latent(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """Latent of a training batch, whitened by its own statistics, and the correction that took."""
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._precision == "bf16"):
            codes = self.encoder_(views)
        codes = codes.float()
        if not self.whitening:
            return codes, torch.zeros((), device=codes.device)
        mean, factor, correction = whitening(codes, self.whitening_epsilon)
        return whiten(codes, mean, factor), correction

    def _step(
        self,
        views: Tensor,
        index: Tensor,
        partition: Tensor | None,
        training: _Training,
        optimisers: dict[str, torch.optim.Optimizer],
        generator: torch.Generator,
        history: History,
    ) -> None:
        """One clustering step and one update of each network, on one encoder forward pass over both views."""
        latent, correction = self._latent(views)  # (2B, latent_dim)
        fixed = latent.detach()
        n_queue = len(training.queue)
        training.queue = torch.cat([fixed, training.queue])[:n_queue]
        training.queue_rows = torch.cat([index, index, training.queue_rows])[:n_queue]
        training.mixture = self._move_mixture(training, partition, generator)
        own = assign(fixed, training.mixture, self.clustering)
        first, second = own.chunk(2)
        assignments = torch.cat([second, first]) if self.cross_view else own
        if partition is not None:
            held = partition[index].repeat(2)
            assignments = torch.where(held < 0, assignments, held)
        if self.discriminator_ is not None:
            loss, terms = self._play(latent, assignments, training.mixture, optimisers["discriminator"], generator)
        else:
            loss, terms = self._pull(latent, assignments, training.mixture), {}
        terms["loss_encoder"] = loss
        if self.decoder_ is not None:
            terms["reconstruction"] = F.mse_loss(self.decoder_(latent), views.flatten(1))
            loss = loss + self.reconstruction_weight * terms["reconstruction"]
        optimisers["encoder"].zero_grad(set_to_none=True)
        loss.backward()
        optimisers["encoder"].step()
        history.add(
            **terms,
            within_share=within_share(fixed, own, self.n_clusters),
            agreement=(first == second).float().mean(),
            churn=(training.newest[index] != first).float().mean(),
        )
        training.newest[index] = first
        training.correction = torch.maximum(training.correction, correction)
        training.views_are_finite = training.views_are_finite & torch.isfinite(views).all()

    def _move_mixture(self, training: _Training, partition: Tensor | None, generator: torch.Generator) -> LatentMixture:
        """The clustering step (D5), or the mixture of the partition that is held (D15)."""
        if partition is None:
            return clustering_step(training.queue, training.mixture, self.clustering, self.variance_floor, generator)
        held = memberships(partition[training.queue_rows], self.n_clusters)
        return m_step(training.queue, held, self.variance_floor, generator)

    def _play(
        self,
        latent: Tensor,
        assignments: Tensor,
        mixture: LatentMixture,
        optimiser: torch.optim.Optimizer,
        generator: torch.Generator,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Update the discriminator; returns the encoder's loss and what is to be noted."""
        assert self.discriminator_ is not None
        variances = positive_variances(mixture, self.positives, self.instance_noise)
        draws = draw_positives(assignments, mixture.centroids, variances, generator)
        noise = torch.randn(latent.shape, generator=generator, device=latent.device, dtype=latent.dtype)
        noisy = latent + self.instance_noise * noise
        targets, mask = wanted_outputs(assignments, self.n_clusters, self.conditioning)
        positive, negative = self.discriminator_(torch.cat([draws, noisy.detach()])).chunk(2)
        loss = discriminator_loss(positive, negative, targets, mask)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        # The encoder's gradient passes through the discriminator but must not move it.
        self.discriminator_.requires_grad_(False)
        loss_encoder = encoder_loss(self.discriminator_(noisy), targets, mask, self.saturating)
        self.discriminator_.requires_grad_(True)
        judged = (targets * positive).sum(dim=1).detach(), (targets * negative).sum(dim=1).detach()
        terms = {
            "loss_discriminator": loss,
            "discriminator_accuracy_positive": (judged[0] > 0).float().mean(),
            "discriminator_accuracy_negative": (judged[1] < 0).float().mean(),
            "js_divergence": js_divergence(*judged),
        }
        return loss_encoder, terms

    def _pull(self, latent: Tensor, assignments: Tensor, mixture: LatentMixture) -> Tensor:
        """The losses that need no discriminator."""
        if self.loss == "euclidean":
            return euclidean_loss(latent, mixture.centroids, assignments)
        variances = positive_variances(mixture, self.positives, self.instance_noise)
        return gaussian_kl_loss(latent, assignments, mixture.centroids, variances, self.instance_noise)

    def _close_epoch(self, epoch: int, training: _Training, history: History) -> None:
        """Read what the epoch noted on the device, and say what was amiss."""
        self._check_views(training.views_are_finite, epoch)
        shares = memberships(training.newest, self.n_clusters).mean(dim=0)
        history.close_epoch(
            epoch,
            occupancy_entropy=torch.special.entr(shares).sum(),
            n_occupied=(shares > 0).sum(),
            largest_share=shares.max(),
        )
        correction = float(training.correction)
        if correction and not self._has_warned:
            self._has_warned = True
            logger.warning(
                "dcan: the covariance of the codes was singular in epoch %d; %g of the mean variance was added to its "
                "diagonal, besides whitening_epsilon. Lower latent_dim, or raise batch_size or whitening_epsilon",
                epoch,
                correction,
            )
        training.correction = torch.zeros_like(training.correction)

    def _check_views(self, are_finite: Tensor, epoch: int) -> None:
        if not are_finite:
            raise FloatingPointError(
                f"dcan: the views hold NaN or infinity (epoch {epoch}); look at the options of views "
                f"({self.views['kind']}) and for extreme values in the rows"
            )

    def _has_failed(self, history: History) -> bool:
        """Whether the training has failed by now; the log is told in the first epoch in which it has."""
        names = ["n_occupied", "largest_share"]
        if self.discriminator_:
            names += ["discriminator_accuracy_positive", "discriminator_accuracy_negative", "js_divergence"]
        columns = {name: history.column(name)[held_epochs(self._start, self.epochs) :] for name in names}
        failure = find_failure(columns, self.n_clusters, self.patience)
        before = {name: column[:-1] for name, column in columns.items()}
        if failure and not find_failure(before, self.n_clusters, self.patience):
            logger.warning("dcan: epoch %d: %s", history.n_epochs, failure)
        return failure is not None

    @torch.no_grad()
    def _finalise(self, rows: Rows, mixture: LatentMixture) -> Tensor:
        """Whitening and mixture of all rows without random views (D14); returns the assignments."""
        self.encoder_.eval()
        codes = apply_in_chunks(self._codes, rows).clone()  # no inference tensor may enter the training
        if self.whitening:
            self.code_mean_, self.code_factor_, _ = whitening(codes, self.whitening_epsilon)
        latent = whiten(codes, self.code_mean_, self.code_factor_)
        generator = torch.Generator(self._device).manual_seed(self.seed)  # a snapshot must not disturb training
        for _ in range(self.final_iterations):
            mixture = clustering_step(latent, mixture, self.clustering, self.variance_floor, generator)
        assignments = log_joint(latent, mixture).argmax(dim=1)
        self.mixture_ = mixture
        self.within_share_ = within_share(latent, assignments, self.n_clusters)
        return assignments

    @torch.inference_mode()
    def _view_information(self, rows: Rows) -> Tensor:
        """Equation (12) on fresh views of the training rows, scalar, in nats."""
        self.encoder_.eval()
        generator = torch.Generator(self._device).manual_seed(_FRESH + self.seed)
        pairs = []
        for index in torch.arange(len(rows), device=self._device).split(1024):
            for _ in range(_ROUNDS):
                views = self._view.pair(rows, index, self._neighbours, generator)
                latent = whiten(self.encoder_(views), self.code_mean_, self.code_factor_)
                pairs.append(torch.stack(log_joint(latent, self.mixture_).argmax(dim=1).chunk(2)))
        first, second = torch.cat(pairs, dim=1)
        return mutual_information(first, second, self.n_clusters)

    def _codes(self, batch: Tensor) -> Tensor:
        return self.encoder_(self._view.plain(batch))

    def _latent_of(self, batch: Tensor) -> Tensor:
        return whiten(self._codes(batch), self.code_mean_, self.code_factor_)

    def _rows(self, features: np.ndarray) -> Rows:
        check_rows(features, "dcan", self.row_shape_)
        self.encoder_.eval()
        return Rows(features, self._device)

    def _predicted(self, features: np.ndarray) -> Tensor:
        """Log w_k + log N(z; eta_k, Sigma_k) of each row, shape (n, n_clusters)."""
        return apply_in_chunks(lambda batch: log_joint(self._latent_of(batch), self.mixture_), self._rows(features))

    def transform(self, features: np.ndarray) -> np.ndarray:
        """Whitened latent of each row, shape (n, latent_dim), float32."""
        return apply_in_chunks(self._latent_of, self._rows(features)).cpu().numpy()

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Cluster of each row: the greatest responsibility, shape (n,), int64."""
        return self._predicted(features).argmax(dim=1).cpu().numpy()

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        """Responsibilities under the latent mixture, shape (n, n_clusters), float32."""
        return torch.softmax(self._predicted(features), dim=1).cpu().numpy()

    def log_density(self, features: np.ndarray) -> np.ndarray:
        """Log p(z) of each row under the latent mixture, shape (n,), in nats; an outlier has a low value."""
        return torch.logsumexp(self._predicted(features), dim=1).cpu().numpy()

    def get_arrays(self) -> dict[str, np.ndarray]:
        """Weights of the networks, whitening and mixture."""
        vectors = {"code_mean": self.code_mean_, "code_factor": self.code_factor_, **self.mixture_._asdict()}
        arrays = {"row_shape": np.array(self.row_shape_), "within_share": self.within_share_.cpu().numpy()}
        arrays |= {name: vector.cpu().numpy() for name, vector in vectors.items()}
        for name, network in self._networks().items():
            arrays |= module_arrays(name, network)
        return arrays

    def set_arrays(self, arrays: Mapping[str, np.ndarray]) -> Self:
        """Take over what `get_arrays` gave."""
        self._device = resolve_device(self.device)
        self._build(tuple(int(side) for side in arrays["row_shape"]))
        for name, network in self._networks().items():
            load_module(name, network, arrays)
        names = ("within_share", "code_mean", "code_factor", *LatentMixture._fields)
        loaded = [torch.tensor(arrays[name], device=self._device) for name in names]
        self.within_share_, self.code_mean_, self.code_factor_ = loaded[:3]
        self.mixture_ = LatentMixture(*loaded[3:])
        return self

    def _identity(self, features: np.ndarray) -> dict[str, Any]:
        """What a checkpoint must share to be of this training."""
        options = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {"method": "dcan", "options": options, "rows": fingerprint(features)}

    def _state(
        self,
        training: _Training,
        optimisers: Mapping[str, torch.optim.Optimizer],
        history: History,
        generator: torch.Generator,
        partition: Tensor | None,
    ) -> dict[str, Any]:
        return {
            "networks": {name: network.state_dict() for name, network in self._networks().items()},
            "optimisers": {name: optimiser.state_dict() for name, optimiser in optimisers.items()},
            "history": history.state(),
            "random": random_state(generator),
            "training": vars(training) | {"mixture": training.mixture._asdict()},
            "partition": partition,
            "precision": self._precision,
        }

    def _restore(
        self,
        state: Mapping[str, Any],
        optimisers: Mapping[str, torch.optim.Optimizer],
        history: History,
        generator: torch.Generator,
    ) -> tuple[_Training, Tensor | None]:
        """Take over what `_state` gave; returns it and the partition."""
        self._precision = state["precision"]
        for name, network in self._networks().items():
            network.load_state_dict(state["networks"][name])
        for name, optimiser in optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
        history.restore(state["history"])
        restore_random_state(state["random"], generator)
        saved = dict(state["training"])
        mixture = LatentMixture(**{name: part.to(self._device) for name, part in saved.pop("mixture").items()})
        tensors = {name: tensor.to(self._device) for name, tensor in saved.items()}
        partition = state["partition"]
        return _Training(mixture=mixture, **tensors), None if partition is None else partition.to(self._device)

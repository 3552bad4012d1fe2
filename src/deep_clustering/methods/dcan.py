"""DCAN: deep clustering with an adversarial clustering loss in latent space.

Lim, "Deep clustering using adversarial net based clustering loss", arXiv 2412.08933. An encoder maps a sample to a
latent; a discriminator learns to tell draws from the sample's assigned cluster from the encoder's latents; the encoder
learns to fool it, so that the Jensen-Shannon divergence between both shrinks. There is no pretraining and no decoder.

Symbols
    E(x), z          encoder and whitened latent              encoder, latent       (n, latent_dim)
    w, eta, Sigma    weights, centres, diagonal covariances   LatentMixture         (n_clusters, ...)
    k                cluster a sample is assigned to          assignments           (n,)
    D                discriminator                            discriminator         (n, n_outputs) logits
    t                wanted outputs                           targets               (n, n_outputs)
    s                instance noise                           instance_noise

Equations (the paper's order and numbers; its typography is not available to us)
    (1)  binary cross-entropy over the outputs: t for draws from cluster k, 0 for latents
             conditioning  k_way       K outputs, t = one-hot(k)
                           none        one output, t = 1
    (2)  ABC: mean |z - eta_k|^2; its reconstruction term is left out
    (4)  p(z | k) = N(eta_k, s^2), k the assigned cluster
    (5)  sum_k n_k / n KL(N(m_k, v_k + s^2) || p(z | k)), m_k and v_k mean and variances of the latents of cluster k:
         sum_k n_k / 2n sum_d [ln p_kd - ln q_kd + (q_kd + (m_kd - eta_kd)^2) / p_kd - 1], q = v + s^2, p that of (4)
    (10) min_E max_D  E_{z ~ p(z|k)} [ln D_k(z)] + E_x [ln(1 - D_k(E(x)))]
    (11) at the optimal D the value is -2 ln 2 + 2 JS, hence for any D  JS >= (value + 2 ln 2) / 2, which lies in
         (-inf, ln 2]
    (12) I = sum_kl p_kl ln(p_kl / (p_k p_l)), p_kl the share of rows of whose two views one is in cluster k and the
         other in l; at most ln K, for balanced clusters that both views agree on. Not of the paper
    (13) L = sum_kl p_kl ln((1 - e) [k = l] / p_k + e), e in [0, 1] the best: log-likelihood of the pairs under hard
         clusters of the shares they have, relative to views that know nothing of each other; at most I. Not of the
         paper

Losses (`loss`), all under the same encoder, views, clustering and assignments
    adversarial   (10)        euclidean   (2)        gaussian_kl   (5), between the densities that D compares

Deviations from the paper, or choices where it is silent; those with a name behind them are switches. Read literally,
the loop collapses; D7 and D11 to D13 are what keeps it from that.
    D1  sizes of encoder, discriminator and latent are options
    D2  ReLU with batch normalisation in the encoder, LeakyReLU in the discriminator         leaky_slope
    D3  Adam(.5, .999), batches of 256; the paper's gradient ascent with momentum            optimiser
    D4  positives are draws around the centre, as wide as the instance noise
    D5  the clustering step is one warm-started iteration of k-means on a queue of latents per update
    D6  the encoder is trained towards t instead of minimising ln(1 - D_k)                   saturating
    D7  the discriminator has an output per cluster: it knows which cluster it judges        conditioning
    D11 the latent is whitened: the only way for K tight groups to have identity covariance
        is to be separated, at squared distances 1 / s_k + 1 / s_l for whatever shares s in K - 1 dimensions or more; in
        fewer, d, they cannot all be so far apart: of equal shares 2 d K / (K - 1) in the mean   whitening
    D12 a view is assigned by the other view of the same sample                              cross_view
    D13 draws and latents get the same Gaussian noise, so that both densities overlap        instance_noise
    D14 after training, whitening and mixture are found anew from all rows without random
        views; prediction takes the greatest responsibility under that mixture               final_iterations
    D15 a partition stands in for the assignments of both views in the first epochs          start
    D16 of several trainings the one is kept under whose clusters pairs of fresh views are
        likeliest (13)                                                                       restarts
    D17 rows may have weights: the rows of an epoch, of the first queue and of the final clustering are a systematic
        sample in proportion to them, whose expected sums are the weighted ones. Starts, and the scores that
        trainings compare by, count each row once
    D18 a loss of representation learning on projections of the input of the encoder's last layer may shape all but
        that layer beside the game, which is played on the latent                                representation

The functions behind the equations are in `game`, `whitening`, `latent_mixture`, `shared_information` and `failures`,
the steps of a training in `dcan_training`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import torch
from annotated_types import Ge, Le
from torch import Tensor, nn

from deep_clustering.checks import check_features, check_rows
from deep_clustering.methods.dac_start import DACStart
from deep_clustering.methods.dcan_training import GameTraining
from deep_clustering.methods.estimator import Networked
from deep_clustering.methods.latent_mixture import log_joint
from deep_clustering.methods.partitions import StartOfRows, find_partitions
from deep_clustering.methods.starts import (
    NoStart,
    check_drawn_rows,
    check_turns,
    epochs_before,
    held_epochs,
    make_start,
    turns_of,
)
from deep_clustering.methods.whitening import settled_from
from deep_clustering.options import check_fields
from deep_clustering.training.checkpoints import Checkpoints
from deep_clustering.training.described import Described, Describing
from deep_clustering.training.fitting import fit
from deep_clustering.training.history import History
from deep_clustering.training.loop import Data
from deep_clustering.training.networks import discriminator, make_encoder
from deep_clustering.training.representations import make_representation
from deep_clustering.training.representations.learning import Learning
from deep_clustering.training.rows import Rows, describe_in_chunks, resolve_device
from deep_clustering.training.views import make_view

# The kinds of `start`.
_STARTS = ("none", "kmeans", "neighbour_kmeans", "ward", "tsne_gmm", "dac", "in_turn")
# The paper's lower bound for the points of one clustering step.
_FEWEST_POINTS = 600
# Log density of a row that is too far from everything for single precision, in nats.
_LEAST_LOG_DENSITY = -1e38


@dataclass(kw_only=True)
class DCAN(Networked, Describing):
    """Deep clustering via adversarial nets; fields are its hyper-parameters, learned state ends in an underscore."""

    name: ClassVar = "dcan"
    trains_in_parallel: ClassVar = True
    label_free_score: ClassVar[tuple[str, str]] = ("pair_log_likelihood", "max")
    former_label_free_score: ClassVar[tuple[str, str]] = ("view_information", "max")
    """That of runs which were made before there was the other; it prefers clusters of one size."""
    dropped: ClassVar[dict[str, str]] = {
        "clustering": "dropped in 0.3.0; leave it out, the clustering step is an iteration of k-means",
        "positives": "dropped in 0.3.0; leave it out, draws lie around the centre, as wide as instance_noise",
        "reconstruction_weight": "dropped in 0.3.0 with the decoder; leave it out, whitening keeps from collapse",
        "decoder_hidden": "dropped in 0.3.0 with the decoder; leave it out, whitening keeps from collapse",
        "conditioning: projection": "dropped in 0.3.0; use k_way",
    }

    n_clusters: Annotated[int, Ge(2)]
    """Number of clusters K."""
    seed: Annotated[int, Ge(0), Le(2**32 - 1)]
    """Seed of initialisation, shuffling, views and draws."""
    device: str
    """auto, cpu, cuda, ..."""
    latent_dim: Annotated[int, Ge(2)]
    """Size of the latent; with whitening about K."""
    whitening: bool
    """Whiten the latent (D11)."""
    whitening_epsilon: Annotated[float, Ge(0), Le(1)]
    """Ridge of the whitening, as a share of the mean variance."""
    queue_size: int
    """Latents kept for the clustering step; the paper asks for at least 600. Of fewer rows all are kept."""
    n_init: Annotated[int, Ge(1)]
    """Starts of the k-means that finds the first centres."""
    variance_floor: Annotated[float, Ge(1e-6), Le(1)]
    """Smallest variance of a cluster, as a share of the mean variance of the latents."""
    final_iterations: Annotated[int, Ge(1)]
    """Clustering steps on all rows after training or for a snapshot (D14)."""
    cross_view: bool
    """Assign a view by the other view of the sample (D12), instead of by itself."""
    start: dict[str, Any]
    """Partition held for the first epochs (D15): kind and its options."""
    loss: Literal["adversarial", "euclidean", "gaussian_kl"]
    """The clustering loss."""
    conditioning: Literal["k_way", "none"]
    """What the discriminator knows of the cluster (D7)."""
    instance_noise: Annotated[float, Ge(0)] | Literal["auto"]
    """Standard deviation s of the noise on positives and latents (D13); auto: sqrt(K / 10), a share of the distance
    sqrt(2 K) of equal clusters in a white latent, so that few clusters overlap no more than many."""
    saturating: bool
    """Minimise ln(1 - D_k) as the paper does, instead of D6."""
    discriminator_hidden: list[Annotated[int, Ge(1)]]
    """Width of each hidden layer of the discriminator."""
    leaky_slope: Annotated[float, Ge(0), Le(1)]
    """Slope of its LeakyReLU below zero."""
    representation: dict[str, Any]
    """Loss of representation learning beside the game (D18): kind and its options."""
    views: dict[str, Any]
    """Random views: kind and its options."""
    encoder: dict[str, Any]
    """Network: kind and its options."""
    epochs: Annotated[int, Ge(1)]
    """Passes over the rows."""
    batch_size: Annotated[int, Ge(2)]
    """Rows in a batch (each gives two views)."""
    optimiser: Literal["adam", "sgd"]
    """adam, or sgd as in the paper (D3)."""
    beta1: Annotated[float, Ge(0), Le(0.9999)]
    """Adam's decay of the mean gradient."""
    beta2: Annotated[float, Ge(0), Le(0.9999)]
    """Adam's decay of the mean squared gradient."""
    momentum: Annotated[float, Ge(0), Le(0.9999)]
    """Momentum of sgd."""
    encoder_learning_rate: Annotated[float, Ge(0), Le(10)]
    """Rate of the encoder."""
    discriminator_learning_rate: Annotated[float, Ge(0), Le(10)]
    """Rate of the discriminator."""
    precision: Literal["auto", "fp32", "bf16"]
    """fp32, bf16, or auto, the faster for the encoder: of both networks' passes in training; all else is fp32."""
    compile: Literal["auto", "off"]
    """auto compiles the network for training steps on CUDA, if the training is long and a trial is faster."""
    restarts: Annotated[int, Ge(1)]
    """Trainings from different seeds, of which the best by pair_log_likelihood is kept (D16)."""
    patience: Annotated[int, Ge(1)]
    """Epochs after which a collapse or an overpowering discriminator is believed; it then ends a restart."""
    record_every: Annotated[int, Ge(1)]
    """Epochs between snapshots of the assignments."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.queue_size < max(_FEWEST_POINTS, self.latent_dim + 1):
            raise ValueError(
                f"queue_size must be at least {_FEWEST_POINTS} (the paper's bound for a clustering step) and above "
                f"latent_dim, got {self.queue_size}"
            )
        if self.loss == "adversarial" and self.conditioning == "none" and not self.discriminator_hidden:
            raise ValueError(
                "discriminator_hidden must not be empty with conditioning: none, where one half-space would have to "
                "hold all clusters; add a layer, or use conditioning: k_way"
            )
        self.noise = math.sqrt(self.n_clusters / 10) if self.instance_noise == "auto" else self.instance_noise
        if self.loss == "gaussian_kl" and self.noise == 0:
            raise ValueError(
                "loss: gaussian_kl needs clusters of some width, got instance_noise: 0; raise instance_noise"
            )
        self.learned_representation = make_representation(self.representation)
        self.view, self.network, self.n_outputs = make_view(self.views), make_encoder(self.encoder), self.latent_dim
        self._start = make_start(self.start, _STARTS)
        check_drawn_rows(self._start, self.n_clusters)
        check_turns(self._start, self.restarts, _STARTS)
        self.epochs_before = epochs_before(self._start, self.epochs)
        self.held_epochs = held_epochs(self._start, self.epochs)
        self.turns = turns_of(self._start)
        self.shown = ("within_share", "agreement", *(["js_divergence"] if self.loss == "adversarial" else []))

    def fit(
        self,
        features: np.ndarray,
        neighbours: np.ndarray | None = None,
        checkpoints: Checkpoints | None = None,
        weights: np.ndarray | None = None,
    ) -> Self:
        """Train encoder and discriminator against each other.

        Args:
            features: Shape (n_samples, n_features), dense or CSR, or (n_samples, channels, height, width); float.
            neighbours: Nearest rows of each row, shape (n_samples, k), for views of kind neighbours.
            checkpoints: Where the state of the training is kept, and continued from; None for nowhere.
            weights: How much each row counts, shape (n_samples,), above 0; batches are drawn in proportion.

        Returns:
            The fitted estimator.

        Raises:
            ValueError: if the features, the device or a checkpoint cannot be used.
            FloatingPointError: if the views or a term of the losses stop being finite.
        """
        check_features(features, self.n_clusters, "dcan")
        n_samples = features.shape[0]
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
        self.device_ = resolve_device(self.device)
        self.history_ = fit(self, features, neighbours, checkpoints, weights).arrays()
        return self

    def build(self, row_shape: tuple[int, ...]) -> None:
        """Make new networks for rows of a shape."""
        self.row_shape_ = tuple(row_shape)
        encoder = self.network.build(self.view.output_shape(self.row_shape_), self.latent_dim).to(self.device_)
        self.networks_ = {"encoder": encoder}
        if self.loss == "adversarial":
            n_judged = 1 if self.conditioning == "none" else self.n_clusters
            judge = discriminator(self.latent_dim, self.discriminator_hidden, n_judged, self.leaky_slope)
            self.networks_["discriminator"] = judge.to(self.device_)
        last = encoder[-1]
        assert isinstance(last, nn.Linear)
        self.learning_ = Learning(self.learned_representation, encoder, last.in_features, self.device_)

    def training(self, data: Data) -> GameTraining:
        """A training of the networks that were built."""
        return GameTraining(self, data)

    def find_partition(
        self, features: np.ndarray, neighbours: np.ndarray | None, precision: str, checkpoints: Checkpoints | None
    ) -> Tensor | None:
        """The partition that is held for the first epochs, shape (n_samples,), or None: deviation D15."""
        if isinstance(self._start, NoStart):
            return None
        if isinstance(self._start, DACStart):
            partition = self._start.find(self, self.n_clusters, features, neighbours, precision, checkpoints)
        else:
            assert isinstance(self._start, StartOfRows)  # of starts in turn each training has one
            partition = find_partitions(self._start, features, neighbours, [self.n_clusters], self.seed)[:, 0]
        return torch.from_numpy(partition).to(self.device_)

    def restart_score(self, history: History) -> float:
        """How likely two views are (D16); a training that was ended early ranks behind all that were not."""
        # It lies in [0, ln K].
        return history.newest_final("pair_log_likelihood") - (1 + math.log(self.n_clusters)) * history.ended_early

    def describe(self, features: np.ndarray) -> Described:
        """Greatest responsibility, responsibilities, whitened latent and log p(z) of each row, in nats."""
        check_rows(features, "dcan", self.row_shape_)
        encoder = self.networks_["encoder"].eval()

        def describe(batch: Tensor) -> tuple[Tensor, ...]:
            latent = self.settled_.latent(encoder(self.view.plain(batch)))
            # Where the squares of a row overflow, no cluster is nearer than another: equal shares, and no NaN.
            joint = log_joint(latent, self.settled_.mixture).clamp_min(_LEAST_LOG_DENSITY)
            return joint.argmax(dim=1), torch.softmax(joint, dim=1), latent, torch.logsumexp(joint, dim=1), joint

        return describe_in_chunks(describe, Rows(features, self.device_))

    def get_arrays(self) -> dict[str, np.ndarray]:
        """Weights of the networks, whitening and mixture."""
        return super().get_arrays() | self.settled_.arrays()

    def set_arrays(self, arrays: Mapping[str, np.ndarray]) -> Self:
        """Take over what `get_arrays` gave."""
        super().set_arrays(arrays)
        self.settled_ = settled_from(arrays, self.device_)
        return self

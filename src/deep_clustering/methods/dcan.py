"""DCAN: deep clustering with an adversarial clustering loss in latent space.

Lim, "Deep clustering via adversarial nets", arXiv 2412.08933. An encoder maps a sample to a latent; a discriminator
learns to tell draws from the sample's assigned cluster from the encoder's latents; the encoder learns to fool it, so
that the Jensen-Shannon divergence between both shrinks. There is no decoder and no pretraining.

Symbols
    E(x), z     encoder and whitened latent            encoder, latent      (n, latent_dim)
    eta_k       centre of cluster k                    centroids            (n_clusters, latent_dim)
    k           cluster a sample is assigned to        assignments          (n,)
    D           discriminator, one output per cluster  discriminator        (n, n_clusters) logits
    s           instance noise                         noise

Equations (the paper's order; its typography is not available to us)
    (1)  binary cross-entropy summed over the outputs: t = one-hot(k) for draws from cluster k, t = 0 for latents
    (4)  p(z | theta*) = N(eta_k, s^2), k the assigned cluster
    (10) min_E max_D  E_{z ~ p(z|k)} [ln D_k(z)] + E_x [ln(1 - D_k(E(x)))]
    (11) at the optimal D the value is -2 ln 2 + 2 JS, hence JS >= (value + 2 ln 2) / 2 for any D

Deviations from the paper, or choices where it is silent; those marked * are switches. Read literally, the loop
collapses; D7 to D13 are what keeps it from that.
    D1  sizes of encoder, discriminator and latent are options
    D3  Adam(.5, .999), batches of 256
    D4  positives are draws eta_k + s eps                                                              * noise
    D5  k-means as the clustering step: one warm-started iteration on a queue of latents per update
    D6  the encoder is trained towards one-hot(k) instead of minimising ln(1 - D)
    D7  the discriminator has an output per cluster, so that it knows which cluster it judges          * conditional
    D11 the latent is whitened: the only way for K tight groups to have identity covariance is to be
        separated and balanced                                                                         * whitening
    D12 a view is assigned by the nearest centre of the other view of the same sample                  * cross_view
    D13 latents get the same instance noise as the draws, so that both densities overlap               * noise
    D14 after training, whitening and centres are found anew from all rows without random views
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from deep_clustering.batching import Rows, apply_in_chunks, index_batches, resolve_device
from deep_clustering.checks import check_features, check_rows
from deep_clustering.methods.history import History
from deep_clustering.networks import discriminator, load_module, make_encoder, module_arrays
from deep_clustering.options import check_range
from deep_clustering.progress import epochs
from deep_clustering.views import make_view, neighbour_table

# The paper's lower bound for the points of one clustering step.
_FEWEST_POINTS = 600
# Iterations of k-means on all rows that settle the centres after training or for a snapshot.
_FINAL_ITERATIONS = 10


def whitening(codes: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """Statistics that whiten a batch: deviation D11.

    Args:
        codes: Encoder outputs, shape (n, latent_dim).
        epsilon: Added to the diagonal of the covariance, as a share of its mean.

    Returns:
        mean: shape (latent_dim,).
        factor: lower triangular L with L L' = covariance, shape (latent_dim, latent_dim).
    """
    mean = codes.mean(dim=0)
    centred = codes - mean
    covariance = centred.T @ centred / len(codes)
    ridge = epsilon * covariance.diagonal().mean() + torch.finfo(codes.dtype).tiny
    identity = torch.eye(codes.shape[1], device=codes.device, dtype=codes.dtype)
    # cholesky_ex does not wait for the device to report a failure: a failed factor becomes NaN, which the loss shows.
    factor, failed = torch.linalg.cholesky_ex(covariance + ridge * identity)
    return mean, factor.masked_fill(failed > 0, torch.nan)


def whiten(codes: Tensor, mean: Tensor, factor: Tensor) -> Tensor:
    """Latent z = L^{-1} (E(x) - mean), shape (n, latent_dim)."""
    return torch.linalg.solve_triangular(factor, (codes - mean).T, upper=False).T


def nearest_centroid(latent: Tensor, centroids: Tensor) -> Tensor:
    """Index of the nearest centre in Euclidean distance, shape (n,), int64."""
    return torch.cdist(latent, centroids).argmin(dim=1)


def kmeans_step(points: Tensor, centroids: Tensor, generator: torch.Generator) -> Tensor:
    """One iteration of k-means; an empty cluster moves to a random point.

    Args:
        points: Latents, shape (n, latent_dim).
        centroids: Current centres, shape (n_clusters, latent_dim).
        generator: Source of the new places of empty clusters.

    Returns:
        New centres, shape (n_clusters, latent_dim).
    """
    members = F.one_hot(nearest_centroid(points, centroids), len(centroids)).to(points.dtype)  # (n, K)
    counts = members.sum(dim=0).unsqueeze(1)
    means = members.T @ points / counts.clamp_min(1)
    places = torch.randint(len(points), (len(centroids),), generator=generator, device=points.device)
    return torch.where(counts > 0, means, points[places])


def discriminator_loss(logits_positive: Tensor, logits_negative: Tensor, targets: Tensor) -> Tensor:
    """Equation (1): binary cross-entropy summed over outputs, mean over samples, in nats.

    Args:
        logits_positive: D of draws from the assigned cluster, shape (n, n_outputs).
        logits_negative: D of encoder latents, shape (n, n_outputs).
        targets: Wanted outputs for the draws, shape (n, n_outputs); for latents all outputs are wanted 0.

    Returns:
        Scalar.
    """
    positive = F.binary_cross_entropy_with_logits(logits_positive, targets, reduction="none")
    negative = F.binary_cross_entropy_with_logits(logits_negative, torch.zeros_like(targets), reduction="none")
    return (positive + negative).sum(dim=1).mean()


def encoder_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Deviation D6: binary cross-entropy of the latents towards their cluster's targets, in nats.

    Args:
        logits: D of encoder latents, shape (n, n_outputs).
        targets: Outputs wanted for draws from their cluster, shape (n, n_outputs).

    Returns:
        Scalar, summed over outputs, mean over samples.
    """
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(dim=1).mean()


def js_divergence(judged_positive: Tensor, judged_negative: Tensor) -> Tensor:
    """Equation (11): lower bound of the Jensen-Shannon divergence, at most ln 2 nats.

    Args:
        judged_positive: Logits for draws at the output of their cluster, shape (n,).
        judged_negative: Logits for latents at the output of their cluster, shape (n,).

    Returns:
        (E ln D + E ln(1 - D) + 2 ln 2) / 2, scalar.
    """
    value = F.logsigmoid(judged_positive).mean() + F.logsigmoid(-judged_negative).mean()
    return value / 2 + math.log(2)


@dataclass(kw_only=True)
class DCAN:
    """Deep clustering via adversarial nets; fields are its hyper-parameters, learned state ends in an underscore."""

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
    cross_view: bool
    """Assign a view by the other view of the sample (D12), instead of by itself."""
    conditional: bool
    """One discriminator output per cluster (D7), instead of one for all."""
    noise: float
    """Standard deviation s of draws and instance noise (D4, D13); 0 makes the centres themselves the positives."""
    queue_size: int
    """Latents kept for the clustering step; the paper asks for at least 600."""
    views: dict[str, Any]
    """Random views: kind and its options."""
    encoder: dict[str, Any]
    """Network: kind and its options."""
    discriminator_hidden: list[int]
    """Width of each hidden layer of the discriminator."""
    epochs: int
    """Passes over the rows."""
    batch_size: int
    """Rows in a batch (each gives two views)."""
    encoder_learning_rate: float
    """Adam's rate for the encoder."""
    discriminator_learning_rate: float
    """Adam's rate for the discriminator."""
    record_every: int
    """Epochs between snapshots of the assignments."""

    def __post_init__(self) -> None:
        check_range("n_clusters", self.n_clusters, 2)
        check_range("seed", self.seed, 0, 2**32 - 1)
        check_range("latent_dim", self.latent_dim, 2)
        check_range("whitening_epsilon", self.whitening_epsilon, 0, 1)
        check_range("noise", self.noise, 0)
        if self.queue_size < max(_FEWEST_POINTS, self.latent_dim + 1):
            raise ValueError(
                f"queue_size must be at least {_FEWEST_POINTS} (the paper's bound for a clustering step) and above "
                f"latent_dim, got {self.queue_size}"
            )
        for width in self.discriminator_hidden:
            check_range("discriminator_hidden", width, 1)
        check_range("epochs", self.epochs, 1)
        check_range("batch_size", self.batch_size, 2)
        check_range("encoder_learning_rate", self.encoder_learning_rate, 0, 10)
        check_range("discriminator_learning_rate", self.discriminator_learning_rate, 0, 10)
        check_range("record_every", self.record_every, 1)
        self._view = make_view(self.views)
        self._encoder_options = make_encoder(self.encoder)

    def fit(self, features: np.ndarray, neighbours: np.ndarray | None = None) -> Self:
        """Train encoder and discriminator against each other.

        Args:
            features: Shape (n_samples, n_features), dense or CSR, or (n_samples, channels, height, width); float.
            neighbours: Nearest rows of each row, shape (n_samples, k), for views of kind neighbours.

        Returns:
            The fitted estimator.

        Raises:
            ValueError: if the features or the device cannot be used.
            FloatingPointError: if a term of the losses stops being finite.
        """
        check_features(features, self.n_clusters, "dcan")
        self._device = resolve_device(self.device)
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            self._build(features.shape[1:])
            self._neighbours = neighbour_table(neighbours, features.shape[0], self._device)
            self._train(Rows(features, self._device))
        return self

    def _build(self, row_shape: tuple[int, ...]) -> None:
        self.row_shape_ = tuple(row_shape)
        network = self._encoder_options.build(self._view.output_shape(self.row_shape_), self.latent_dim)
        self.encoder_ = network.to(self._device)
        n_outputs = self.n_clusters if self.conditional else 1
        self.discriminator_ = discriminator(self.latent_dim, self.discriminator_hidden, n_outputs).to(self._device)
        self.code_mean_ = torch.zeros(self.latent_dim, device=self._device)
        self.code_factor_ = torch.eye(self.latent_dim, device=self._device)
        self.centroids_ = torch.zeros(self.n_clusters, self.latent_dim, device=self._device)
        self.within_variance_ = torch.ones((), device=self._device)

    def _train(self, rows: Rows) -> None:
        generator = torch.Generator(self._device).manual_seed(self.seed)
        optimisers = (
            torch.optim.Adam(self.encoder_.parameters(), lr=self.encoder_learning_rate, betas=(0.5, 0.999)),
            torch.optim.Adam(self.discriminator_.parameters(), lr=self.discriminator_learning_rate, betas=(0.5, 0.999)),
        )
        history = History("dcan")
        queue, centroids = self._start(rows, generator)
        history.snapshot(0, self._finalise(rows, centroids))
        for epoch in epochs(self.epochs, "dcan", lambda: history.last("within_share", "agreement", "js_divergence")):
            self.encoder_.train()
            for index in index_batches(len(rows), self.batch_size, generator):
                views = self._view.pair(rows, index, self._neighbours, generator)
                queue, centroids = self._step(views, queue, centroids, optimisers, generator, history)
            history.close_epoch(epoch + 1)
            if (epoch + 1) % self.record_every == 0 or epoch + 1 == self.epochs:
                history.snapshot(epoch + 1, self._finalise(rows, centroids))
        self.history_ = history.arrays()

    @torch.no_grad()
    def _start(self, rows: Rows, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Queue of latents of the untrained encoder, and the centres of k-means on it."""
        from sklearn.cluster import KMeans

        n_queue = min(self.queue_size, 2 * len(rows))
        order = torch.randperm(len(rows), generator=generator, device=self._device)
        self.encoder_.train()
        views = self._view.pair(rows, order[: (n_queue + 1) // 2], self._neighbours, generator)
        queue = self._latent(views)[:n_queue]
        if not torch.isfinite(queue).all():
            raise FloatingPointError(
                "dcan: 'latent' of the untrained encoder is not finite (epoch 0); look for extreme values in the rows"
            )
        kmeans = KMeans(self.n_clusters, n_init=10, random_state=self.seed).fit(queue.cpu().numpy())
        return queue, torch.tensor(kmeans.cluster_centers_, dtype=queue.dtype, device=self._device)

    def _latent(self, views: Tensor) -> Tensor:
        """Latent of a training batch, whitened by its own statistics."""
        codes = self.encoder_(views)
        return whiten(codes, *whitening(codes, self.whitening_epsilon)) if self.whitening else codes

    def _step(
        self,
        views: Tensor,
        queue: Tensor,
        centroids: Tensor,
        optimisers: tuple[torch.optim.Optimizer, torch.optim.Optimizer],
        generator: torch.Generator,
        history: History,
    ) -> tuple[Tensor, Tensor]:
        """One clustering step, one discriminator update and one encoder update, on one encoder forward pass."""
        latent = self._latent(views)  # (2B, d)
        fixed = latent.detach()
        queue = torch.cat([fixed, queue])[: len(queue)]
        centroids = kmeans_step(queue, centroids, generator)
        own = nearest_centroid(fixed, centroids)
        assignments = torch.cat(own.chunk(2)[::-1]) if self.cross_view else own
        draws = centroids[assignments] + self._instance_noise(fixed, generator)
        noise = self._instance_noise(fixed, generator)
        targets = F.one_hot(assignments, self.n_clusters).to(fixed.dtype)
        if not self.conditional:
            targets = torch.ones_like(targets[:, :1])
        logits_positive = self.discriminator_(draws)
        logits_negative = self.discriminator_(fixed + noise)
        loss_discriminator = discriminator_loss(logits_positive, logits_negative, targets)
        optimisers[1].zero_grad(set_to_none=True)
        loss_discriminator.backward()
        optimisers[1].step()
        # The encoder's gradient passes through the discriminator but must not move it.
        self.discriminator_.requires_grad_(False)
        loss_encoder = encoder_loss(self.discriminator_(latent + noise), targets)
        optimisers[0].zero_grad(set_to_none=True)
        loss_encoder.backward()
        optimisers[0].step()
        self.discriminator_.requires_grad_(True)
        judged = (targets * logits_positive).sum(dim=1).detach(), (targets * logits_negative).sum(dim=1).detach()
        history.add(
            loss_encoder=loss_encoder,
            loss_discriminator=loss_discriminator,
            discriminator_accuracy_positive=(judged[0] > 0).float().mean(),
            discriminator_accuracy_negative=(judged[1] < 0).float().mean(),
            js_divergence=js_divergence(*judged),
            within_share=(fixed - centroids[own]).square().sum() / (fixed - fixed.mean(dim=0)).square().sum(),
            agreement=(own.chunk(2)[0] == own.chunk(2)[1]).float().mean(),
        )
        return queue, centroids

    def _instance_noise(self, like: Tensor, generator: torch.Generator) -> Tensor:
        return self.noise * torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)

    @torch.inference_mode()
    def _finalise(self, rows: Rows, centroids: Tensor) -> Tensor:
        """Whitening and centres of all rows without random views (D14); returns the assignments."""
        self.encoder_.eval()
        codes = apply_in_chunks(self._codes, rows)
        if self.whitening:
            self.code_mean_, self.code_factor_ = whitening(codes, self.whitening_epsilon)
        latent = whiten(codes, self.code_mean_, self.code_factor_)
        generator = torch.Generator(self._device).manual_seed(self.seed)  # a snapshot must not disturb training
        for _ in range(_FINAL_ITERATIONS):
            centroids = kmeans_step(latent, centroids, generator)
        assignments = nearest_centroid(latent, centroids)
        self.centroids_ = centroids
        self.within_variance_ = (latent - centroids[assignments]).square().mean()
        return assignments

    def _codes(self, batch: Tensor) -> Tensor:
        return self.encoder_(self._view.plain(batch))

    def _transform(self, features: np.ndarray) -> Tensor:
        check_rows(features, "dcan", self.row_shape_)
        self.encoder_.eval()
        rows = Rows(features, self._device)
        return apply_in_chunks(lambda batch: whiten(self._codes(batch), self.code_mean_, self.code_factor_), rows)

    def transform(self, features: np.ndarray) -> np.ndarray:
        """Whitened latent of each row, shape (n, latent_dim), float32."""
        return self._transform(features).cpu().numpy()

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Cluster of each row: the nearest centre, shape (n,), int64."""
        return nearest_centroid(self._transform(features), self.centroids_).cpu().numpy()

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        """Responsibilities under equal spherical Gaussians around the centres, shape (n, n_clusters), float32."""
        squares = torch.cdist(self._transform(features), self.centroids_).square()
        return torch.softmax(-squares / (2 * self.within_variance_.clamp_min(1e-12)), dim=1).cpu().numpy()

    def get_arrays(self) -> dict[str, np.ndarray]:
        """Weights, whitening, centres and variance."""
        vectors = {
            "code_mean": self.code_mean_,
            "code_factor": self.code_factor_,
            "centroids": self.centroids_,
            "within_variance": self.within_variance_,
        }
        arrays = {name: vector.cpu().numpy() for name, vector in vectors.items()}
        weights = module_arrays("encoder", self.encoder_) | module_arrays("discriminator", self.discriminator_)
        return {"row_shape": np.array(self.row_shape_)} | arrays | weights

    def set_arrays(self, arrays: Mapping[str, np.ndarray]) -> Self:
        """Take over what `get_arrays` gave."""
        self._device = resolve_device(self.device)
        self._build(tuple(int(side) for side in arrays["row_shape"]))
        load_module("encoder", self.encoder_, arrays)
        load_module("discriminator", self.discriminator_, arrays)
        self.code_mean_, self.code_factor_, self.centroids_, self.within_variance_ = (
            torch.tensor(arrays[name], device=self._device)
            for name in ("code_mean", "code_factor", "centroids", "within_variance")
        )
        return self

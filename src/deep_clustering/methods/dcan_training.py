"""One training of DCAN: its clustering step, its game, and how it is settled; see `dcan`."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Protocol, final

import torch
from sklearn.cluster import KMeans
from torch import Tensor, nn

from deep_clustering.methods.estimator import Idle
from deep_clustering.methods.failures import Watch
from deep_clustering.methods.game import euclidean_loss, gaussian_kl_loss, play, positive_variances
from deep_clustering.methods.latent_mixture import (
    ROWS_AT_ONCE,
    LatentMixture,
    clustering_step,
    likeliest,
    log_joint,
    m_step,
    memberships,
    nearest_centroid,
    within_share,
)
from deep_clustering.methods.shared_information import chance_information, mutual_information, pair_log_likelihood
from deep_clustering.methods.whitening import Settled, settle, whiten, whitening
from deep_clustering.training.history import History
from deep_clustering.training.loop import Data
from deep_clustering.training.optimisers import Schedule, make_optimiser
from deep_clustering.training.representations.learning import Learning
from deep_clustering.training.rows import index_batches, joined
from deep_clustering.training.streams import stream
from deep_clustering.training.workers import alone, current

# Fresh pairs of views of each row behind (12).
_ROUNDS = 4
# Clusters whose numbers take two bytes.
_FEW_CLUSTERS = 2**15


class Game(Protocol):
    """What a training reads and moves of the model, a `DCAN`: options, and what ends in an underscore."""

    n_clusters: int
    seed: int
    whitening: bool
    whitening_epsilon: float
    queue_size: int
    n_init: int
    variance_floor: float
    final_iterations: int
    cross_view: bool
    saturating: bool
    views: dict[str, Any]
    beta1: float
    beta2: float
    momentum: float
    encoder_learning_rate: float
    discriminator_learning_rate: float
    patience: int
    device_: torch.device
    networks_: dict[str, nn.Module]
    learning_: Learning
    settled_: Settled

    @property
    def noise(self) -> float:
        """Standard deviation of the instance noise."""

    @property
    def loss(self) -> str:
        """Kind of the clustering loss."""

    @property
    def conditioning(self) -> str:
        """What the discriminator knows of the cluster."""

    @property
    def optimiser(self) -> str:
        """Kind of the optimiser."""

    @property
    def held_epochs(self) -> int:
        """First epochs in which a partition is held."""


@final
class GameTraining(Idle):
    """One training of DCAN; see `deep_clustering.training.loop.Training`."""

    def __init__(self, model: Game, data: Data) -> None:
        self._model, self._data = model, data
        self.networks = model.networks_ | model.learning_.networks
        self.network = model.learning_.network
        self.schedules: dict[str, Schedule] = {}
        rates = {"encoder": model.encoder_learning_rate, "discriminator": model.discriminator_learning_rate}
        if model.optimiser == "sgd":
            make = partial(make_optimiser, torch.optim.SGD, momentum=model.momentum)
        else:
            make = partial(make_optimiser, torch.optim.Adam, betas=(model.beta1, model.beta2))
        trained = {name: list(network.parameters()) for name, network in model.networks_.items()}
        if "projector" in self.networks:
            trained["encoder"] += self.networks["projector"].parameters()
        self.optimisers = {name: make(trained[name], rates[name], model.device_) for name in trained}
        self._watch = Watch(model.views["kind"], model.device_)
        self._number = torch.int16 if model.n_clusters <= _FEW_CLUSTERS else torch.int64  # of clusters kept of each row

    @torch.no_grad()
    def begin(self, partition: Tensor | None) -> Tensor:
        """A queue of latents of the untrained encoder, and the mixture of the partition or of k-means on it."""
        model, rows, generator = self._model, self._data.rows, self._data.generator
        n_queue = min(model.queue_size, 2 * len(rows))
        index = next(index_batches(len(rows), len(rows), generator, rows.ends))[: (n_queue + 1) // 2].clone()
        self.networks["encoder"].train()
        views = self._data.pairs(index.to(rows.place))
        with alone():
            self._queue, correction, _ = self._latent(views)  # newest first, (n_queue, latent_dim)
        self._watch.see(views, torch.zeros_like(correction))
        self._watch.close_epoch(0)
        if not torch.isfinite(self._queue).all():
            raise FloatingPointError(
                "dcan: 'latent' of the untrained encoder is not finite (epoch 0); look for extreme values in the rows"
            )
        self._queue = self._queue[:n_queue]
        self._queue_rows = torch.cat([index, index])[:n_queue]  # the row that each of them is a view of
        if partition is None:
            kmeans = KMeans(model.n_clusters, n_init=model.n_init, random_state=model.seed)
            clusters = torch.from_numpy(kmeans.fit_predict(self._queue.cpu())).to(model.device_)
        else:
            clusters = partition[self._queue_rows]
        self._mixture = self._mixture_of(clusters)
        assignments = self.assign()
        self._newest = assignments.to(self._number)  # cluster of each row's first view when it was seen last
        self._partners = self._newest.clone()  # of its second view
        return assignments

    def step(self, views: Tensor, index: Tensor, held: Tensor | None) -> dict[str, Tensor]:
        """One clustering step and one update of each network, on one encoder forward pass over both views."""
        latent, correction, of_representation = self._latent(views)  # (2B, latent_dim)
        fixed = latent.detach()
        n_queue = len(self._queue)
        self._queue = torch.cat([fixed, self._queue])[:n_queue]
        self._queue_rows = torch.cat([index, index, self._queue_rows])[:n_queue]
        self._mixture = self._move_mixture(held)
        own = nearest_centroid(fixed, self._mixture.centroids)
        first, second = own.chunk(2)
        assignments = torch.cat([second, first]) if self._model.cross_view else own  # D12
        if held is not None:
            of_rows = held[index].repeat(2)  # D15
            assignments = torch.where(of_rows >= 0, of_rows, assignments)
        loss, terms = self._loss(latent, assignments)
        self.optimisers["encoder"].zero_grad(set_to_none=True)
        (loss + sum(of_representation.values())).backward()
        moved = [parameter for group in self.optimisers["encoder"].param_groups for parameter in group["params"]]
        (loss,) = current().sum_gradients(moved, loss)
        self.optimisers["encoder"].step()
        terms |= of_representation | {
            "loss_encoder": loss,
            "within_share": within_share(fixed, own, self._model.n_clusters),
            "agreement": (first == second).float().mean(),
            "churn": (self._newest[index] != first).float().mean(),
        }
        self._newest[index], self._partners[index] = first.to(self._number), second.to(self._number)
        self._watch.see(views, correction)
        return terms

    def _latent(self, views: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Latent of a training batch, whitened by its own statistics, the correction that took, and the loss of D18.

        Views are a worker's own, the latent is of the rows of all workers.
        """
        codes, of_representation = self._model.learning_(views, None, self.precision)
        (codes,) = current().gather(2, codes.float())
        if not self._model.whitening:
            return codes, torch.zeros((), device=codes.device), of_representation
        mean, factor, correction = whitening(codes, self._model.whitening_epsilon)
        return whiten(codes, mean, factor), correction, of_representation

    def _mixture_of(self, clusters: Tensor) -> LatentMixture:
        """The mixture of a partition of the queue; a row of no cluster, -1, has no part in it."""
        hard = memberships(clusters, self._model.n_clusters)
        return m_step(self._queue, hard, self._model.variance_floor, self._data.generator)

    def _move_mixture(self, held: Tensor | None) -> LatentMixture:
        """The clustering step (D5), or the mixture of the partition that is held (D15)."""
        if held is not None:
            return self._mixture_of(held[self._queue_rows])
        return clustering_step(self._queue, self._mixture, self._model.variance_floor, self._data.generator)

    def _loss(self, latent: Tensor, assignments: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The encoder's loss, and what is to be noted; the discriminator, if there is one, is updated first."""
        model, mixture, noise = self._model, self._mixture, self._model.noise
        if model.loss == "euclidean":
            return euclidean_loss(latent, mixture.centroids, assignments), {}
        if model.loss == "gaussian_kl":
            variances = positive_variances(mixture, noise)
            return gaussian_kl_loss(latent, assignments, mixture.centroids, variances, noise), {}
        return play(
            self.networks["discriminator"],
            self.optimisers["discriminator"],
            latent,
            assignments,
            mixture,
            conditioning=model.conditioning,
            instance_noise=noise,
            saturating=model.saturating,
            precision=self.precision,
            generator=self._data.generator,
        )

    def close_epoch(self, epoch: int) -> dict[str, Tensor]:
        """Shares of the clusters; says what was amiss with views and whitening."""
        self._watch.close_epoch(epoch)
        model = self._model
        shares = self._newest.long().bincount(minlength=model.n_clusters) / len(self._newest)
        generator = stream(model.seed, "chance", model.device_, epoch)
        return {
            "occupancy_entropy": torch.special.entr(shares).sum(),
            "n_occupied": (shares > 0).sum(),
            "largest_share": shares.max(),
            "view_information": mutual_information(self._newest, self._partners, model.n_clusters),
            "chance_information": chance_information(self._newest, self._partners, model.n_clusters, generator),
        }

    def has_failed(self, history: History) -> bool:
        """Whether the training has collapsed by now, or the discriminator overpowers the encoder."""
        return self._watch.has_failed(history, self._model.n_clusters, self._model.patience, self._model.held_epochs)

    @torch.no_grad()
    def assign(self) -> Tensor:
        """Settle whitening and mixture on all rows as if the training ended now (D14); clusters of all rows."""
        model = self._model
        codes = self._data.apply(self.networks["encoder"].eval())
        model.settled_, assignments = settle(
            self._data.rows.in_proportion(codes),
            self._mixture,
            epsilon=model.whitening_epsilon if model.whitening else None,
            iterations=model.final_iterations,
            variance_floor=model.variance_floor,
            generator=stream(model.seed, "settling", model.device_),
        )
        if self._data.rows.ends is None:
            return assignments
        latents = map(model.settled_.latent, codes.split(ROWS_AT_ONCE))
        return torch.cat([likeliest(latent, model.settled_.mixture) for latent in latents])

    @torch.inference_mode()
    def finish(self, history: History) -> Tensor:
        """Settle the model (D14), and note what two fresh views of the rows know of each other, (12) and (13)."""
        model, assignments = self._model, self.assign()
        settled, encoder, data = model.settled_, self.networks["encoder"], self._data

        def clusters() -> Iterator[Tensor]:
            for round_ in range(_ROUNDS):
                for views in data.fresh_pairs(stream(model.seed, "fresh views", assignments.device, round_)):
                    joint = log_joint(settled.latent(encoder(views)), settled.mixture)
                    yield torch.stack(joint.argmax(dim=1).to(self._number).chunk(2), dim=1)

        first, second = joined(clusters(), _ROUNDS * len(data.rows)).unbind(dim=1)
        by_row = first.reshape(_ROUNDS, -1), second.reshape(_ROUNDS, -1)
        history.final(
            within_share=settled.within_share,
            view_information=mutual_information(first, second, model.n_clusters),
            chance_information=chance_information(
                *by_row, model.n_clusters, stream(model.seed, "chance", assignments.device)
            ),
            pair_log_likelihood=pair_log_likelihood(first, second, model.n_clusters),
        )
        return assignments

    def tensors(self) -> dict[str, Tensor]:
        """The queue, the mixture and the newest clusters."""
        own = {"queue": self._queue, "queue_rows": self._queue_rows, "newest": self._newest, "partners": self._partners}
        return own | self._mixture._asdict()

    def take(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `tensors` gave."""
        self._queue, self._queue_rows = tensors["queue"], tensors["queue_rows"]
        self._newest, self._partners = tensors["newest"].to(self._number), tensors["partners"].to(self._number)
        self._mixture = LatentMixture(*(tensors[name] for name in LatentMixture._fields))

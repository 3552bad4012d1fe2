"""What methods on an autoencoder have in common: a decoder, epochs that only reconstruct, and centres by k-means.

Pretraining is a part of the fit: its epochs are the first ones of the loop, in its checkpoints, history and time. At
their end k-means on the latents of all rows places the centres, and the method's own loss takes over.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod, sqrt
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Ge, Le
from scipy import sparse
from sklearn.cluster import KMeans
from torch import Tensor, nn

from deep_clustering.checks import check_rows
from deep_clustering.methods.estimator import Estimator, Steps
from deep_clustering.methods.latent_mixture import within_share
from deep_clustering.training.described import Described
from deep_clustering.training.history import History
from deep_clustering.training.loop import Data
from deep_clustering.training.networks import MLP, PlainMLP
from deep_clustering.training.precision import autocast
from deep_clustering.training.rows import Rows, describe_in_chunks
from deep_clustering.training.views import make_view

# Rows at a time in the distances, so that (n, n_clusters, latent_dim) never stands in memory whole.
CHUNK = 2048
# Least unit of rows: of those that are 0, or differ in their last bits alone.
_LEAST_UNIT = 1e-37
# Where squares overflow no cluster is nearer than another: equal shares, and no NaN.
FARTHEST = 1e38


def squared_distances(latent: Tensor, centroids: Tensor) -> Tensor:
    """|z_i - m_k|^2, shape (n, n_clusters); at most a number that single precision holds."""
    parts = [(part.unsqueeze(1) - centroids).square().sum(dim=2) for part in latent.split(CHUNK)]
    return torch.cat(parts).clamp_max(FARTHEST)


def reconstruction_error(rows: Tensor, decoded: Tensor) -> Tensor:
    """Mean squared error per value, scalar."""
    return (decoded.float() - rows.flatten(1)).square().mean()


def root_mean_square(rows: Rows, middle: Tensor | None = None) -> float:
    """Of all values about 0 or about a row (values,), each row as often as its weight says; at least 1e-37."""
    order = rows.in_proportion(torch.arange(len(rows), device=rows.device)).to(rows.place)
    squares = 0.0
    for part in order.split(CHUNK):
        values = rows[part].flatten(1).cpu().double()
        squares += float((values if middle is None else values - middle).square().mean(dim=1).sum())
    return max(sqrt(squares / len(rows)), _LEAST_UNIT)


class Centroids(nn.Module):
    """The centres of the clusters in latent space, the variance around them, and the unit that rows are seen in."""

    variance: Tensor
    counts: Tensor
    unit: Tensor

    def __init__(self, n_clusters: int, latent_dim: int) -> None:
        """All centres are at 0 until they are placed."""
        super().__init__()
        self.centroids = nn.Parameter(torch.zeros(n_clusters, latent_dim))
        self.register_buffer("variance", torch.ones(()))
        self.register_buffer("counts", torch.zeros(n_clusters))
        self.register_buffer("unit", torch.ones(()))


@dataclass(kw_only=True)
class Decoding(Estimator):
    """A method whose decoder gives the values of what its encoder saw.

    With random views it is trained on them in the place of the rows, as by Guo, Zhu, Liu and Yin, "Deep embedded
    clustering with data augmentation", ACML 2018: each is to be decoded as it is. What a method fixes before an epoch,
    the cluster or the target of a row, is that of its view without randomness and holds for the others.
    """

    views: dict[str, Any]
    """What is encoded and decoded in training: kind and its options; kind: same for the rows themselves."""
    decoder: list[Annotated[int, Ge(1)]]
    """Width of each hidden layer of the decoder, which gives all values of a row; normalised as `encoder` is."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.view = make_view(self.views, takes_one=True)

    def find_neighbours(self, features: np.ndarray | sparse.csr_matrix, given: np.ndarray | None) -> np.ndarray | None:
        """Those that are given, if the views are of them."""
        return given if self.views["kind"] == "neighbours" else None

    def coders(self, row_shape: tuple[int, ...], n_latents: int) -> dict[str, nn.Module]:
        """Make new networks for rows of a shape, of which so many numbers are decoded: "encoder" and "decoder"."""
        view_shape = self.view.output_shape(row_shape)
        kind = PlainMLP if isinstance(self.network, PlainMLP) else MLP
        return {
            "encoder": self.network.build(view_shape, self.n_outputs),
            "decoder": kind(hidden=self.decoder).build((n_latents,), prod(view_shape)),
        }


@dataclass(kw_only=True)
class Autoencoding(Decoding):
    """A method on an autoencoder."""

    label_free_score: ClassVar[tuple[str, str]] = ("within_share", "min")
    shown: ClassVar[tuple[str, ...]] = ("reconstruction", "clustering")

    latent_dim: Annotated[int, Ge(1)]
    """Size of the latent."""
    pretraining: Annotated[float, Ge(0), Le(1)]
    """Share of the epochs, the first ones, in which the loss is the reconstruction alone."""
    n_init: Annotated[int, Ge(1)]
    """Starts of the k-means that places the centres."""

    @property
    def n_outputs(self) -> int:
        """Numbers that the encoder gives for a row."""
        return self.latent_dim

    @property
    def n_pretraining(self) -> int:
        """Epochs of pretraining."""
        return round(self.pretraining * self.epochs)

    def build(self, row_shape: tuple[int, ...]) -> None:
        """Make new networks for rows of a shape."""
        self.row_shape_ = tuple(row_shape)
        networks = {**self.coders(self.row_shape_, self.latent_dim), "clusters": self.clusters()}
        self.networks_ = {name: network.to(self.device_) for name, network in networks.items()}

    def clusters(self) -> nn.Module:
        """What holds the places of the clusters."""
        return Centroids(self.n_clusters, self.latent_dim)

    def encode(self, views: Tensor) -> Tensor:
        """Latents of views, shape (n, latent_dim)."""
        return self.networks_["encoder"](views)

    def log_joint(self, latent: Tensor) -> Tensor:
        """How well each cluster suits, up to a constant of the row: here equal spherical Gaussians, (n, n_clusters)."""
        clusters = self.networks_["clusters"]
        assert isinstance(clusters, Centroids)
        squares = squared_distances(latent, clusters.centroids)
        return (-squares / (2 * clusters.variance)).clamp_min(-FARTHEST)

    def clusters_of(self, latent: Tensor) -> Tensor:
        """The most probable cluster, shape (n,), int64."""
        return torch.softmax(self.log_joint(latent), dim=1).argmax(dim=1)

    def describe(self, features: np.ndarray) -> Described:
        """Most probable cluster, its probability and the latent of each row; no densities."""
        check_rows(features, self.name, self.row_shape_)
        self.networks_["encoder"].eval()

        def describe(batch: Tensor) -> tuple[Tensor, ...]:
            latent = self.encode(self.view.plain(batch))
            joint = self.log_joint(latent)
            responsibilities = torch.softmax(joint, dim=1)
            return responsibilities.argmax(dim=1), responsibilities, latent, latent.sum(dim=1), joint

        return describe_in_chunks(describe, Rows(features, self.device_))._replace(log_density=None)


@dataclass(kw_only=True)
class Scaled(Autoencoding):
    """A method whose loss, or a part of it, is a reconstruction that is a mean over the values of rows.

    It depends on the unit of the rows, and so do the latents. DEC's authors scale the rows of each data set such that
    the mean square of their values is 1 (Xie et al. 2016, section 5.3). Rows of length one with 1,280 values have 1 /
    1,280: what they are decoded to hardly counts then, and the latents fall together.
    """

    row_unit: Literal["one", "root_mean_square"]
    """What encoder and decoder see rows in: one, as they are, or the root mean square of their values."""

    def encode(self, views: Tensor) -> Tensor:
        """Latents of views, shape (n, latent_dim)."""
        return super().encode(self.in_units(views))

    def in_units(self, views: Tensor) -> Tensor:
        """Views as encoder and decoder see them."""
        clusters = self.networks_["clusters"]
        assert isinstance(clusters, Centroids)
        return views / clusters.unit


class AutoencodingSteps(Steps):
    """A training in two stages: reconstruction, then what the method adds by `clustering_terms`."""

    def __init__(self, model: Autoencoding, data: Data) -> None:
        """As in `Steps`."""
        super().__init__(model, data)
        self.model = model
        self.decoder, self.clusters = model.networks_["decoder"], model.networks_["clusters"]
        self._is_pretraining = True

    def begin(self, partition: Tensor | None) -> Tensor:
        """Clusters of the untrained latents by k-means."""
        return self.assign()

    def stage(self, epoch: int, held: Tensor | None) -> int:
        """0 while the autoencoder learns alone, then 1, which begins with placing the centres."""
        self._is_pretraining = epoch < self.model.n_pretraining
        if epoch == self.model.n_pretraining:
            self.place(self.latents())
        if not self._is_pretraining:
            self.prepare()
        return int(not self._is_pretraining)

    def prepare(self) -> None:
        """What is done on all rows before an epoch behind pretraining; the same from the same networks."""

    def step(self, views: Tensor, index: Tensor, held: Tensor | None) -> dict[str, Tensor]:
        """One step of all networks on a batch."""
        with autocast(self.precision, views.device):
            latent = self.model.encode(views)
        if self._is_pretraining:
            terms = self.pretraining_terms(views, latent.float())
        else:
            terms = self.clustering_terms(views, latent.float(), self.of_views(index))
        self.descend(terms["loss"])
        return terms

    def of_views(self, index: Tensor) -> Tensor:
        """The row of each view of the rows of a batch, shape (n_views n,)."""
        return index.repeat(self.data.view.n_views)

    def pretraining_terms(self, views: Tensor, latent: Tensor) -> dict[str, Tensor]:
        """The loss of the first epochs; the same names as those of `clustering_terms`."""
        loss = self.reconstruction(views, latent)
        return {"loss": loss, "reconstruction": loss, "clustering": torch.zeros_like(loss)}

    def clustering_terms(self, views: Tensor, latent: Tensor, index: Tensor) -> dict[str, Tensor]:
        """The loss of the other epochs and its parts; reconstruction alone for a method that adds nothing."""
        return self.pretraining_terms(views, latent)

    def reconstruction(self, views: Tensor, latent: Tensor) -> Tensor:
        """How far what is decoded of latents is from the rows."""
        with autocast(self.precision, views.device):
            decoded = self.decoder(latent)
        return reconstruction_error(views, decoded)

    def latents(self) -> Tensor:
        """Latents of all rows as prediction has them."""
        return self.of_all_rows(self.model.encode)

    def of_all_rows(self, encode: Callable[[Tensor], Tensor]) -> Tensor:
        """What the encoder says of all rows as prediction has it; it is left in the mode that it was in."""
        with self.evaluation():
            latents = self.data.apply(encode).clone()  # no inference tensor may enter the training
        if not torch.isfinite(latents).all():
            raise FloatingPointError(
                f"{self.model.name}: 'latent' is not finite; look for extreme values in the rows, or lower the "
                "learning rate"
            )
        return latents

    @torch.no_grad()
    def place(self, latents: Tensor) -> None:
        """Centres by k-means on the latents, shape (n_samples, latent_dim)."""
        model, points = self.model, self.data.rows.in_proportion(latents).cpu().numpy().astype(np.float64)
        kmeans = KMeans(model.n_clusters, n_init=model.n_init, random_state=model.seed).fit(points)
        centroids = torch.from_numpy(kmeans.cluster_centers_.astype(np.float32))
        assert isinstance(self.clusters, Centroids)
        self.clusters.centroids.copy_(centroids)

    def settle(self, latents: Tensor) -> None:
        """What of the clusters is not learned: the variance around the centres."""
        assert isinstance(self.clusters, Centroids)
        least = self.data.rows.in_proportion(squared_distances(latents, self.clusters.centroids).min(dim=1).values)
        tiny = torch.finfo(least.dtype).tiny
        self.clusters.variance.copy_((least.mean() / latents.shape[1]).clamp_min(tiny))

    @torch.no_grad()
    def assign(self) -> Tensor:
        """Clusters of all rows; while there are no centres yet, those that k-means finds."""
        return self._assign(self.latents(), is_placed=not self._is_pretraining)

    def _assign(self, latents: Tensor, *, is_placed: bool) -> Tensor:
        if not is_placed:
            self.place(latents)
        self.settle(latents)
        return self.model.clusters_of(latents)

    @torch.no_grad()
    def finish(self, history: History) -> Tensor:
        """Clusters of all rows, and the share of the latents' variance that is left within them."""
        latents = self.latents()
        assignments = self._assign(latents, is_placed=history.n_epochs > self.model.n_pretraining)
        history.final(within_share=within_share(latents, assignments, self.model.n_clusters))
        return assignments


class ScaledSteps(AutoencodingSteps):
    """A training whose rows are seen in their unit."""

    model: Scaled
    clusters: Centroids

    def begin(self, partition: Tensor | None) -> Tensor:
        """The unit of the rows; clusters of the untrained latents."""
        if self.model.row_unit == "root_mean_square":
            self.clusters.unit.fill_(root_mean_square(self.data.rows))
        return super().begin(partition)

    def reconstruction(self, views: Tensor, latent: Tensor) -> Tensor:
        """How far what is decoded of latents is from the rows, in squares of their unit."""
        return super().reconstruction(self.model.in_units(views), latent)

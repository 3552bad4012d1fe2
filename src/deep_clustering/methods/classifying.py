"""What methods have in common whose network gives the clusters of a row themselves, and learns from two views of it."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from deep_clustering.checks import check_rows
from deep_clustering.methods.estimator import Estimator, Steps
from deep_clustering.methods.shared_information import pair_log_likelihood
from deep_clustering.training.described import Described
from deep_clustering.training.history import History
from deep_clustering.training.loop import Data
from deep_clustering.training.precision import autocast
from deep_clustering.training.rows import Rows, describe_in_chunks
from deep_clustering.training.streams import stream
from deep_clustering.training.views import make_view


@dataclass(kw_only=True)
class Classifying(Estimator):
    """A method whose encoder gives a logit for each cluster."""

    @property
    def n_outputs(self) -> int:
        """Logits: one for each cluster."""
        return self.n_clusters

    def build(self, row_shape: tuple[int, ...]) -> None:
        """Make a new network for rows of a shape."""
        self.row_shape_ = tuple(row_shape)
        encoder = self.network.build(self.view.output_shape(self.row_shape_), self.n_outputs)
        self.networks_ = {"encoder": encoder.to(self.device_)}

    def log_p(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """What the last layer sees of views, and log probabilities of their clusters, shape (n, n_clusters)."""
        encoder = self.networks_["encoder"]
        assert isinstance(encoder, nn.Sequential)
        latent = encoder[:-1](views)
        return latent, torch.log_softmax(encoder[-1](latent), dim=1)

    def describe(self, features: np.ndarray) -> Described:
        """Most probable cluster, probabilities, and what the last layer sees of each row; no densities."""
        check_rows(features, self.name, self.row_shape_)
        for network in self.networks_.values():
            network.eval()

        def describe(batch: Tensor) -> tuple[Tensor, ...]:
            latent, log_p = self.log_p(self.view.plain(batch))
            p = log_p.exp()
            return p.argmax(dim=1), p, latent, latent.sum(dim=1), log_p

        return describe_in_chunks(describe, Rows(features, self.device_))._replace(log_density=None)


@dataclass(kw_only=True)
class OfViews(Classifying):
    """One that learns from views of the configuration.

    Losses do not compare trainings: pairs that all belong together, say, cost nothing in one cluster. What does is how
    likely two views of a row are under the hard clusters, equation (13) of `methods.dcan`.
    """

    label_free_score: ClassVar[tuple[str, str]] = ("pair_log_likelihood", "max")

    views: dict[str, Any]
    """Random views: kind and its options."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.view = make_view(self.views)

    def find_neighbours(self, features: np.ndarray | sparse.csr_matrix, given: np.ndarray | None) -> np.ndarray | None:
        """Those that are given."""
        return given


class ClassifyingSteps(Steps):
    """A training of a network that gives clusters."""

    def __init__(self, model: Classifying, data: Data) -> None:
        """As in `Steps`."""
        super().__init__(model, data)
        self.model = model

    def begin(self, partition: Tensor | None) -> Tensor:
        """Clusters of the untrained network."""
        return self.assign()

    @torch.inference_mode()
    def assign(self) -> Tensor:
        """Clusters of all rows by their plain views."""
        with self.evaluation():
            return self.data.apply(lambda rows: self.model.log_p(rows)[1].exp().argmax(dim=1))


class StepsOfViews(ClassifyingSteps):
    """A training by views of the configuration; a method adds `terms`."""

    def step(self, views: Tensor, index: Tensor, held: Tensor | None) -> dict[str, Tensor]:
        """One step on two views of each row of a batch."""
        terms = self.terms(*self.outputs(views))
        self.descend(terms["loss"])
        return terms

    def outputs(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of views and what is in front of the last layer, shape (2 batch, ...), in single precision."""
        assert isinstance(self.network, nn.Sequential)
        with autocast(self.precision, views.device):
            latent = self.network[:-1](views)
            logits = self.network[-1](latent)
        return logits.float(), latent.float()

    def terms(self, logits: Tensor, latent: Tensor) -> dict[str, Tensor]:
        """The loss, "loss", and its parts, of what `outputs` gives."""
        raise NotImplementedError

    @torch.inference_mode()
    def finish(self, history: History) -> Tensor:
        """Clusters of all rows, and the likelihood of the clusters of two fresh views, by which trainings compare."""
        model = self.model
        for network in self.networks.values():
            network.eval()
        pairs = self.data.fresh_pairs(stream(model.seed, "fresh views", model.device_))
        clusters = torch.cat([torch.stack(model.log_p(views)[1].argmax(dim=1).chunk(2), dim=1) for views in pairs])
        first, second = self.data.rows.in_proportion(clusters).T
        history.final(pair_log_likelihood=pair_log_likelihood(first, second, model.n_clusters))
        return self.assign()

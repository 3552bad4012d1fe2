"""A trunk: a network that learns by itself what views of a row share, for methods to find clusters in its embeddings.

It is the first of two stages, as in Van Gansbeke et al., "SCAN: learning to classify images without labels", ECCV 2020,
arXiv 2005.12320: representation, then clusters of near rows on the fixed trunk, then the trunk again with the rows that
these are most certain of. The losses are those that may also stand beside a mixture.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import reduce
from operator import add
from typing import Annotated, Any, ClassVar, Literal, Self, final

import numpy as np
import torch
from annotated_types import Ge, Le
from torch import Tensor, nn

from deep_clustering.checks import check_features, check_rows
from deep_clustering.methods.estimator import Idle, Networked
from deep_clustering.options import build, check_fields
from deep_clustering.training.averaging import Averaged
from deep_clustering.training.checkpoints import Checkpoints
from deep_clustering.training.fitting import fit
from deep_clustering.training.history import History
from deep_clustering.training.loop import Data
from deep_clustering.training.networks import make_encoder
from deep_clustering.training.optimisers import OneCycle, Schedule, make_optimiser
from deep_clustering.training.representations import make_representation
from deep_clustering.training.representations.learning import Learning
from deep_clustering.training.rows import Rows, apply_in_chunks, resolve_device
from deep_clustering.training.views import View, check_sizes, make_view
from deep_clustering.training.views.several import Several


@dataclass(kw_only=True)
class Trunk(Networked):
    """A network that learns a representation; fields are its hyper-parameters, learned state ends in an underscore."""

    name: ClassVar = "trunk"
    shown: ClassVar = ("representation_loss",)
    epochs_before: ClassVar = 0
    turns: ClassVar[tuple[dict[str, Any], ...]] = ({},)
    held_epochs: ClassVar = 0
    n_outputs: ClassVar = 1

    seed: Annotated[int, Ge(0), Le(2**32 - 1)]
    """Seed of initialisation, shuffling and views."""
    device: str
    """auto, cpu, cuda, ..."""
    representation: dict[str, Any]
    """What it learns: kind and its options; another kind than none, of a weight above 0."""
    views: dict[str, Any]
    """Random views: kind and its options."""
    n_views: Annotated[int, Ge(2)]
    """Views of a row in a batch; losses compare those behind the first two with these, `coding_rate` all alike."""
    encoder: dict[str, Any]
    """Network: kind and its options; what embeds a row is all but its last layer."""
    embedding: Literal["whole", "parts"]
    """whole, or parts: what embeds a row is the mean over crops on a grid, where views are crops."""
    epochs: Annotated[int, Ge(1)]
    """Passes over the rows."""
    batch_size: Annotated[int, Ge(2)]
    """Rows in a batch."""
    learning_rate: Annotated[float, Ge(0), Le(10)]
    """Peak of the one-cycle schedule."""
    weight_decay: Annotated[float, Ge(0), Le(1)]
    """AdamW's decay."""
    precision: Literal["auto", "fp32", "bf16"]
    """fp32, bf16, or auto, the faster: of the training steps' network passes; everything else is fp32."""
    compile: Literal["auto", "off"]
    """auto or off, see `compile_if_it_pays`."""

    def __post_init__(self) -> None:
        check_fields(self)
        self.learned_representation = make_representation(self.representation)
        if not self.learned_representation.share:
            raise ValueError(
                "representation: a trunk learns nothing without a loss, got kind "
                f"{self.representation['kind']} of weight 0; choose another kind, or a weight above 0"
            )
        self.view: View
        self.view, self.network = make_view(self.views, takes_small=True), make_encoder(self.encoder)
        check_sizes(self.view, self.encoder)
        if self.embedding == "parts" and not self.view.parts(torch.zeros(1, 3, 8, 8)):
            raise ValueError(f"embedding: parts needs views that crop, of kind photo, got kind {self.views['kind']}")
        if self.n_views > 2:
            self.view = Several(self.view, self.n_views)
        self.restarts, self.record_every = 1, self.epochs

    def fit(
        self, features: np.ndarray, checkpoints: Checkpoints | None = None, weights: np.ndarray | None = None
    ) -> Self:
        """Learn from the rows.

        Args:
            features: Shape (n_samples, n_features), dense or CSR, or (n_samples, channels, height, width); float.
            checkpoints: Where the state of the training is kept, and continued from; None for nowhere.
            weights: How much each row counts, shape (n_samples,), above 0; batches are drawn in proportion.

        Returns:
            The fitted trunk.

        Raises:
            ValueError: if the features, the device or a checkpoint cannot be used.
            FloatingPointError: if the loss stops being finite.
        """
        if features.shape[0] < 2:
            raise ValueError(f"trunk: expected rows to tell apart, at least 2, got {features.shape[0]}")
        check_features(features, 2, "trunk")
        self.device_ = resolve_device(self.device)
        self.history_ = fit(self, features, None, checkpoints, weights).arrays()
        return self

    def build(self, row_shape: tuple[int, ...]) -> None:
        """Make a new network for rows of a shape, and what is to stand beside it."""
        self.row_shape_ = tuple(row_shape)
        network = self.network.build(self.view.output_shape(self.row_shape_), self.n_outputs)
        last = network[-1]
        assert isinstance(last, nn.Linear)
        self.trunk_ = network[:-1].to(self.device_)
        self.networks_ = {"trunk": self.trunk_}  # projectors are left behind
        # Nothing stands behind the trunk but the projector.
        encoder = nn.Sequential(*self.trunk_, nn.Identity())
        self.n_latent = last.in_features
        self.learning_ = Learning(self.learned_representation, encoder, self.n_latent, self.device_)

    def training(self, data: Data) -> "_Training":
        """A training of the network that was built."""
        return _Training(self, data)

    def restart_score(self, history: History) -> float:
        """Nothing: there is one training."""
        raise NotImplementedError

    def embed(self, features: np.ndarray) -> np.ndarray:
        """What the trunk makes of rows without random views.

        Args:
            features: Shape (n, ...), of the shape of the training rows.

        Returns:
            Shape (n, n_latent), float32.

        Raises:
            ValueError: if the rows are not of that shape, or not finite.
        """
        check_rows(features, "trunk", self.row_shape_)
        trunk = self.trunk_.eval()

        def embedded(rows: Tensor) -> Tensor:
            parts = self.view.parts(rows) if self.embedding == "parts" else [self.view.plain(rows)]
            return reduce(add, map(trunk, parts)) / len(parts)

        return apply_in_chunks(embedded, Rows(features, self.device_)).cpu().numpy()


def make_trunk(options: Mapping[str, Any]) -> Trunk:
    """Make an untrained trunk from its options; raises ValueError if one is unknown, missing or out of range."""
    return build(Trunk, options, "trunk")


def trunk_options(trunk: Trunk) -> dict[str, Any]:
    """The options that `make_trunk` takes."""
    return {item.name: getattr(trunk, item.name) for item in fields(trunk) if item.init}


@final
class _Training(Idle):
    """One training of a trunk; see `deep_clustering.training.loop.Training`."""

    def __init__(self, model: Trunk, data: Data) -> None:
        self._learning, self._data = model.learning_, data
        self.networks, self.network = self._learning.networks, self._learning.network
        trained = [network for network in self.networks.values() if not isinstance(network, Averaged)]
        optimiser = make_optimiser(
            torch.optim.AdamW,
            [parameter for network in trained for parameter in network.parameters()],
            model.learning_rate,
            model.device_,
            is_fused=False,
            weight_decay=model.weight_decay,
        )
        n_steps = data.n_steps(model.batch_size, model.epochs)
        self.optimisers: dict[str, torch.optim.Optimizer] = {"encoder": optimiser}
        self.schedules: dict[str, Schedule] = {"encoder": OneCycle(optimiser, model.learning_rate, n_steps)}

    def begin(self, partition: Tensor | None) -> Tensor:
        """Nothing is to be set up."""
        return self.assign()

    def step(self, views: Tensor, index: Tensor, held: Tensor | None, small: Tensor | None = None) -> dict[str, Tensor]:
        """One step on the views of a batch."""
        _, terms = self._learning(views, small, self.precision, self._data.view.n_views)
        optimiser = self.optimisers["encoder"]
        optimiser.zero_grad(set_to_none=True)
        terms["representation_loss"].backward()
        optimiser.step()
        return terms

    def assign(self) -> Tensor:
        """All rows are in one cluster: none are found here."""
        return torch.zeros(len(self._data.rows), dtype=torch.int64, device=self._data.rows.device)

    def finish(self, history: History) -> Tensor:
        """Nothing is left to settle."""
        return self.assign()

"""What methods with networks have in common: first options, the fit, what is saved, the idle half of a training.

A method adds its own options, `build`, `training` and `describe`. All that it learns is in `networks_`, the places of
its clusters included, as parameters or buffers of a module: the loop then checkpoints it, and a model is saved by it.
One with other first options, or a start, has the halves of it that have none: `Networked` and `Idle`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import torch
from annotated_types import Ge, Le
from scipy import sparse
from torch import Tensor, nn

from deep_clustering.checks import check_features
from deep_clustering.options import check_fields
from deep_clustering.training.checkpoints import Checkpoints
from deep_clustering.training.described import Describing
from deep_clustering.training.fitting import fit
from deep_clustering.training.history import History
from deep_clustering.training.loop import Data, Training
from deep_clustering.training.networks import load_module, make_encoder, module_arrays
from deep_clustering.training.optimisers import Schedule, make_optimiser
from deep_clustering.training.rows import resolve_device
from deep_clustering.training.streams import seeded
from deep_clustering.training.views import View
from deep_clustering.training.views.same import Same


class Networked(ABC):
    """What is learned in networks and saved with them; a dataclass adds the options."""

    label_free_score: ClassVar[tuple[str, str]]
    """The final figure by which restarts and runs compare without labels, and whether more or less is better."""
    seed: int
    device: str
    device_: torch.device
    row_shape_: tuple[int, ...]
    networks_: dict[str, nn.Module]
    """All that is saved, by its name in the arrays."""

    @abstractmethod
    def build(self, row_shape: tuple[int, ...]) -> None:
        """Make new networks for rows of a shape, and set `networks_` and `row_shape_`."""

    def build_kept(self, row_shape: tuple[int, ...]) -> None:
        """The same of what a training keeps, which here is all."""
        self.build(row_shape)

    def find_partition(self, *_: Any, **__: Any) -> Tensor | None:  # noqa: ANN401
        """None: there is no start from a partition of the rows."""
        return None

    def restart_score(self, history: History) -> float:
        """The label-free score, such that the greatest wins."""
        name, better = self.label_free_score
        return history.newest_final(name) if better == "max" else -history.newest_final(name)

    def get_arrays(self) -> dict[str, np.ndarray]:
        """Parameters and buffers of the networks."""
        arrays: dict[str, np.ndarray] = {"row_shape": np.array(self.row_shape_)}
        for name, network in self.networks_.items():
            arrays |= module_arrays(name, network)
        return arrays

    def set_arrays(self, arrays: Mapping[str, np.ndarray]) -> Self:
        """Take over what `get_arrays` gave."""
        self.device_ = resolve_device(self.device)
        with seeded(self.seed, self.device_):  # first weights are drawn, and then replaced
            self.build_kept(tuple(int(side) for side in arrays["row_shape"]))
        for name, network in self.networks_.items():
            load_module(name, network, arrays)
        return self


@dataclass(kw_only=True)
class Estimator(Networked, Describing):
    """A method trained through the loop, an "encoder" among its networks; learned state ends in an underscore."""

    name: ClassVar[str]
    label_free_score: ClassVar[tuple[str, str]]
    shown: ClassVar[tuple[str, ...]]
    compile: ClassVar = "off"
    epochs_before: ClassVar = 0
    turns: ClassVar[tuple[dict[str, Any], ...]] = ({},)
    held_epochs: ClassVar = 0

    n_clusters: Annotated[int, Ge(2)]
    """Number of clusters K."""
    seed: Annotated[int, Ge(0), Le(2**32 - 1)]
    """Seed of initialisation, shuffling and draws."""
    device: str
    """auto, cpu, cuda, ..."""
    encoder: dict[str, Any]
    """Network: kind and its options."""
    epochs: Annotated[int, Ge(1)]
    """Passes over the rows."""
    batch_size: Annotated[int, Ge(2)]
    """Rows in a batch."""
    learning_rate: Annotated[float, Ge(0), Le(10)]
    """Adam's rate."""
    precision: Literal["auto", "fp32", "bf16"]
    """fp32, bf16, or auto, the faster: of the networks' passes in training; everything else is fp32."""
    restarts: Annotated[int, Ge(1)]
    """Trainings from different seeds, of which the best by the label-free score is kept."""
    record_every: Annotated[int, Ge(1)]
    """Epochs between snapshots of the assignments."""

    def __post_init__(self) -> None:
        check_fields(self)
        self.view: View = Same()
        self.network = make_encoder(self.encoder)
        self.row_shape_: tuple[int, ...] = ()
        self.networks_: dict[str, nn.Module] = {}

    @property
    @abstractmethod
    def n_outputs(self) -> int:
        """Numbers that the encoder gives for a row."""

    @abstractmethod
    def training(self, data: Data) -> Training:
        """A training of the networks that were built."""

    def fit(
        self,
        features: np.ndarray,
        neighbours: np.ndarray | None = None,
        checkpoints: Checkpoints | None = None,
        weights: np.ndarray | None = None,
    ) -> Self:
        """Train the networks.

        Args:
            features: Shape (n_samples, n_features), dense or CSR, or (n_samples, channels, height, width); float.
            neighbours: Nearest rows of each row, shape (n_samples, k), for views of kind neighbours.
            checkpoints: Where the state of the training is kept, and continued from; None for nowhere.
            weights: How much each row counts, shape (n_samples,), above 0; batches are drawn in proportion.

        Returns:
            The fitted estimator.

        Raises:
            ValueError: if the features, the device or a checkpoint cannot be used.
            FloatingPointError: if a term of the loss stops being finite.
        """
        self.check(features)
        self.device_ = resolve_device(self.device)
        self.history_ = fit(self, features, self.find_neighbours(features, neighbours), checkpoints, weights).arrays()
        return self

    def check(self, features: np.ndarray | sparse.csr_matrix) -> None:
        """Refuse rows that the method cannot be fitted to; raises ValueError."""
        check_features(features, self.n_clusters, self.name)

    def find_neighbours(self, features: np.ndarray | sparse.csr_matrix, given: np.ndarray | None) -> np.ndarray | None:
        """Nearest rows that the views need, shape (n_samples, k); here none, whatever is given."""
        return None


class Idle:
    """What a training may leave as it is: epochs alike, no state beside the networks, no early end."""

    precision = "fp32"

    def stage(self, epoch: int, held: Tensor | None) -> int:
        """All epochs are alike."""
        return 0

    def close_epoch(self, epoch: int) -> dict[str, Tensor]:
        """Nothing is to be said of an epoch as a whole."""
        return {}

    def has_failed(self, history: History) -> bool:
        """Never: a poor training has a poor score."""
        return False

    def tensors(self) -> dict[str, Tensor]:
        """All is in the networks, or changed in place."""
        return {}

    def take(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `tensors` gave."""


class Steps(Idle):
    """What most trainings leave as it is: one Adam over all networks."""

    def __init__(self, model: Estimator, data: Data) -> None:
        """A training of the networks of a model on rows."""
        self.data = data
        self.networks = model.networks_
        self.network = self.networks["encoder"]
        parameters = [parameter for network in self.networks.values() for parameter in network.parameters()]
        adam = make_optimiser(torch.optim.Adam, parameters, model.learning_rate, model.device_)
        self.optimisers: dict[str, torch.optim.Optimizer] = {"adam": adam}
        self.schedules: dict[str, Schedule] = {}

    def descend(self, loss: Tensor) -> None:
        """Move all that the loss depends on; what it does not depend on stays, momentum or not."""
        self.optimisers["adam"].zero_grad(set_to_none=True)
        loss.backward()
        self.optimisers["adam"].step()

    @contextmanager
    def evaluation(self) -> Iterator[None]:
        """Networks as they predict, and afterwards as they were."""
        before = {name: network.training for name, network in self.networks.items()}
        try:
            for network in self.networks.values():
                network.eval()
            yield
        finally:
            for name, network in self.networks.items():
                network.train(before[name])

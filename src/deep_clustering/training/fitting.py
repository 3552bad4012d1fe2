"""A fit of a method with networks: one training, or the best of several, each through the one loop."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from deep_clustering.training.checkpoints import Checkpoints, fingerprint, identify
from deep_clustering.training.history import History
from deep_clustering.training.loop import Data, Plan, Training, train
from deep_clustering.training.needs import check_memory, free_memory, needs_of_fit
from deep_clustering.training.networks import Encoder
from deep_clustering.training.precision import full_single_precision, training_precision
from deep_clustering.training.progress import phase, whole
from deep_clustering.training.restarts import Trained, best_of_restarts
from deep_clustering.training.rows import Rows
from deep_clustering.training.streams import derived_seed, seeded, stream
from deep_clustering.training.views import View, neighbour_table
from deep_clustering.training.workers import current, share_norms


class Trainable(Protocol):
    """A dataclass of hyper-parameters that can be trained; what ends in an underscore is set by a fit."""

    device_: torch.device
    seed: int
    restarts: int
    epochs: int
    batch_size: int
    record_every: int

    @property
    def name(self) -> str:
        """The method, for the log and for messages."""

    @property
    def precision(self) -> str:
        """auto, fp32 or bf16."""

    @property
    def compile(self) -> str:
        """Auto or off."""

    @property
    def view(self) -> View:
        """Its random views."""

    @property
    def network(self) -> Encoder:
        """The options of its encoder."""

    @property
    def n_outputs(self) -> int:
        """Numbers that the encoder gives for a row."""

    @property
    def epochs_before(self) -> int:
        """Epochs of the fit that its start is made of; 0 without one."""

    @property
    def held_epochs(self) -> int:
        """First epochs in which the partition of a start stands in for the assignments."""

    @property
    def turns(self) -> Sequence[Mapping[str, Any]]:
        """Options that restarts take turns with, beside their seeds; at least one set, which may be empty."""

    @property
    def shown(self) -> tuple[str, ...]:
        """Terms on the progress display."""

    def build(self, row_shape: tuple[int, ...]) -> None:
        """Make the networks anew."""

    def training(self, data: Data) -> Training:
        """A training of the networks that were built."""

    def find_partition(
        self, features: np.ndarray, neighbours: np.ndarray | None, precision: str, checkpoints: Checkpoints | None
    ) -> Tensor | None:
        """The partition of its start, one column of clusters or several, or None."""

    def restart_score(self, history: History) -> float:
        """What restarts compare by; the greatest wins."""

    def get_arrays(self) -> dict[str, np.ndarray]:
        """Everything that a training learned."""

    def set_arrays(self, arrays: dict[str, np.ndarray]) -> Self:
        """Take over what `get_arrays` gave."""


def fit(
    model: Trainable,
    features: np.ndarray,
    neighbours: np.ndarray | None,
    checkpoints: Checkpoints | None,
    weights: np.ndarray | None = None,
) -> History:
    """Train a model as often as its options say, and leave it as the best training left it.

    Args:
        model: What is fitted; `device_` is set, and the rows have been checked.
        features: The rows, shape (n_samples, ...), dense or CSR.
        neighbours: Nearest rows of each row, shape (n_samples, k), or None.
        checkpoints: Where the state of the training is kept, and continued from; None for nowhere.
        weights: How much each row counts, shape (n_samples,), above 0; None: all alike.

    Returns:
        What was noted.

    Raises:
        ValueError: if a checkpoint is of another training, or the fit has not memory enough.
        FloatingPointError: if the training stops being finite.
    """
    _check_memory(model, features, neighbours)
    with whole(model.restarts * (model.epochs_before + model.epochs)):
        if model.restarts == 1:
            return _fit_once(model, features, neighbours, weights, checkpoints, ends_early=False)
        best = best_of_restarts(
            partial(_fit_restart, model, features, neighbours, weights),
            model.restarts,
            model.name,
            partial(_decide_precision, model, features),
            checkpoints,
            _identity(model, features, neighbours, weights),
        )
    model.set_arrays(best.arrays)
    return best.history


def _check_memory(model: Trainable, features: np.ndarray, neighbours: np.ndarray | None) -> None:
    """Say what a fit of many rows needs, and refuse one that the machine has not; raises ValueError."""
    needs = needs_of_fit(
        features,
        n_neighbours=0 if neighbours is None else sum(neighbours.shape[1:2]),  # no columns are refused with the rows
        n_outputs=model.n_outputs,
        n_snapshots=2 + (model.epochs - 1) // model.record_every,
        device=model.device_,
    )
    check_memory(model.name, features.shape[0], needs, free_memory())


def _fit_restart(
    model: Any,  # noqa: ANN401 - a Trainable that is a dataclass
    features: np.ndarray,
    neighbours: np.ndarray | None,
    weights: np.ndarray | None,
    restart: int,
    precision: str,
    checkpoints: Checkpoints | None,
) -> Trained:
    changes = {"seed": derived_seed(model.seed, restart), "restarts": 1, "precision": precision}
    one = replace(model, **changes, **model.turns[restart % len(model.turns)])
    vars(one).update({name: value for name, value in vars(model).items() if name.endswith("_")})  # what a fit set
    n_epochs = model.epochs_before + model.epochs
    with whole(model.restarts * n_epochs) as work, phase(f"restart {restart + 1} of {model.restarts}"):
        work.reach(restart * n_epochs)
        history = _fit_once(one, features, neighbours, weights, checkpoints, ends_early=True)
    return Trained(one.get_arrays(), history, one.restart_score(history))


def _fit_once(
    model: Trainable,
    features: np.ndarray,
    neighbours: np.ndarray | None,
    weights: np.ndarray | None,
    checkpoints: Checkpoints | None,
    *,
    ends_early: bool,
) -> History:
    """One training; `ends_early` lets a failure end it."""
    with seeded(model.seed, model.device_):
        model.build(features.shape[1:])
        share_norms(getattr(model, "networks_", {}))
        data = make_data(model, features, neighbours, weights)
        plan = Plan(
            name=model.name,
            epochs=model.epochs,
            epochs_before=model.epochs_before,
            held_epochs=model.held_epochs,
            batch_size=model.batch_size,
            precision=model.precision,
            compile=model.compile,
            record_every=model.record_every,
            ends_early=ends_early,
            shown=model.shown,
        )

        def find_partition(precision: str) -> Tensor | None:
            return model.find_partition(features, neighbours, precision, checkpoints)

        identity = _identity(model, features, neighbours, weights)
        return train(model.training(data), data, plan, find_partition, checkpoints, identity)


def make_data(
    model: Trainable, features: np.ndarray, neighbours: np.ndarray | None, weights: np.ndarray | None = None
) -> Data:
    """Rows on the device of a model, with its views and a generator of its seed."""
    rows = Rows(features, model.device_, weights)
    generator = torch.Generator(model.device_).manual_seed(model.seed)
    return Data(
        rows=rows,
        view=model.view,
        neighbours=neighbour_table(neighbours, len(rows), rows.place),
        view_shape=model.view.output_shape(tuple(features.shape[1:])),
        generator=generator,
        draws=generator if current().n == 1 else stream(model.seed, "views", model.device_),
    )


def _decide_precision(model: Trainable, features: np.ndarray) -> str:
    """One decision for all restarts, on a network like theirs."""
    shape = model.view.output_shape(tuple(features.shape[1:]))
    with seeded(model.seed, model.device_):
        network = model.network.build(shape, model.n_outputs).to(model.device_)
    n_views = model.view.n_views * min(model.batch_size, features.shape[0])
    with full_single_precision(model.device_):  # as in the training
        return training_precision(model.precision, network, (n_views, *shape), model.device_)


def _identity(
    model: Any,  # noqa: ANN401 - a Trainable that is a dataclass
    features: np.ndarray,
    neighbours: np.ndarray | None,
    weights: np.ndarray | None,
) -> dict[str, Any]:
    # A training may be continued on another device.
    options = {name: getattr(model, name) for name in model.__dataclass_fields__ if name not in ("device", "compile")}
    identity = identify(model.name, options, features, neighbours)
    if (given := getattr(model, "given_", None)) is not None:
        identity["given"] = [fingerprint(np.atleast_1d(array)) for array in (given.partition, *given.trunk.values())]
    return identity if weights is None else {**identity, "weights": fingerprint(weights)}

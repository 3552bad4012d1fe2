"""The one training loop: epochs, schedules, checkpoints, history and precision of every method, by composition."""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from deep_clustering.training.capture import CapturedSteps
from deep_clustering.training.checkpoints import Checkpoints, random_state, restore_random_state
from deep_clustering.training.compilation import Compiled, compile_if_it_pays, in_use
from deep_clustering.training.history import History
from deep_clustering.training.optimisers import Schedule, restore_optimiser
from deep_clustering.training.precision import full_single_precision, training_precision
from deep_clustering.training.progress import epochs, skip_epochs, speed_of_steps
from deep_clustering.training.rows import Batch, Rows, apply_in_chunks, n_batches
from deep_clustering.training.streams import stream
from deep_clustering.training.views import View
from deep_clustering.training.workers import current

logger = logging.getLogger(__name__)

# Rows at a time of which fresh views are drawn behind a training.
_FRESH_ROWS = 1024
# Rows at a time of which plain views are taken.
_PLAIN_ROWS = 2048


@dataclass(frozen=True, kw_only=True)
class Data:
    """The rows of a training and how they are seen."""

    rows: Rows
    view: View
    neighbours: Tensor | None
    """Nearest rows of every row, see `neighbour_table`; where the rows are."""
    view_shape: tuple[int, ...]
    """Shape of one viewed row."""
    generator: torch.Generator
    """Source of shuffles, views and draws."""
    draws: torch.Generator
    """Source of the views of a batch: the same, but for one of several workers."""

    def n_steps(self, size: int, epochs_: int) -> int:
        """Steps of so many epochs."""
        return epochs_ * n_batches(len(self.rows), size)

    def pairs(self, place: Tensor) -> Tensor:
        """Views of each row of a batch, those of a kind behind one another, (n_views batch, ...); see `Batch.place`."""
        return self.view.pair(self.rows, place, self.neighbours, self.draws)

    def small(self, place: Tensor) -> Tensor | None:
        """Further views of each row of a batch, see `View.small`."""
        return self.view.small(self.rows, place, self.draws)

    def fresh_pairs(self, generator: torch.Generator) -> Iterator[Tensor]:
        """Views of every row from a stream of their own, in pieces."""
        for place in torch.arange(len(self.rows), device=self.rows.place).split(_FRESH_ROWS):
            yield self.view.pair(self.rows, place, self.neighbours, generator)

    def pieces(self, function: Callable[[Tensor], Tensor]) -> Iterator[Tensor]:
        """The same as `apply` gives, piece by piece."""
        for chunk in self.rows.chunks(_PLAIN_ROWS):
            yield function(self.view.plain(chunk))

    def apply(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """What a function says of the plain views of all rows, in order."""
        return apply_in_chunks(lambda batch: function(self.view.plain(batch)), self.rows)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long a training is and what is kept of it."""

    name: str
    """The method, for the log and for messages."""
    epochs: int
    epochs_before: int
    """Epochs of what it begins with."""
    held_epochs: int
    """First epochs in which the partition of a start stands in for the assignments."""
    batch_size: int
    precision: str
    """auto, fp32 or bf16, see `training_precision`."""
    compile: str
    """off, or auto: as `compile_if_it_pays` finds."""
    record_every: int
    """Epochs between snapshots."""
    ends_early: bool
    """Whether a failure ends the training, as where there are others to choose from."""
    shown: tuple[str, ...]
    """Terms on the progress display."""


class Training(Protocol):
    """One training of one method, alive during a fit only."""

    networks: dict[str, nn.Module]
    """Saved, restored and put in training mode by the loop."""
    network: nn.Module
    """What a step passes its views through; the loop may compile it."""
    optimisers: dict[str, torch.optim.Optimizer]
    """Saved and restored by the loop."""
    schedules: dict[str, Schedule]
    """Moved on behind each step, saved and restored by the loop."""
    precision: str
    """fp32 or bf16, set by the loop before anything else is called."""

    def begin(self, partition: Tensor | None) -> Tensor:
        """Set up what steps need besides networks; returns the clusters of all rows at epoch 0."""

    def stage(self, epoch: int, held: Tensor | None) -> int:
        """Make ready for an epoch, from 0; epochs of one stage have steps that do the same operations.

        A step that is captured on CUDA is captured anew where the stage changes.

        Args:
            epoch: The epoch.
            held: Partition of all rows that stands in for their assignments, or None; may be renewed, in place.
        """

    def step(self, views: Tensor, index: Tensor, held: Tensor | None) -> dict[str, Tensor]:
        """Learn from the views of each row of a batch.

        Where views of more than two are taken, the further ones come as `small`, see `View.small`.

        Args:
            views: First views, then second views if there are two, shape (n_views batch, ...).
            index: The rows, shape (batch,).
            held: Partition of all rows that stands in for their assignments, or None.

        Returns:
            Scalars on the device, for the history; nothing waits for it.
        """

    def close_epoch(self, epoch: int) -> dict[str, Tensor]:
        """Scalars of the epoch as a whole; may say what was amiss."""

    def assign(self) -> Tensor:
        """Clusters of all rows without random views, shape (n_samples,)."""

    def has_failed(self, history: History) -> bool:
        """Whether the training has failed by now."""

    def finish(self, history: History) -> Tensor:
        """Settle the model and note its final figures; returns the clusters of all rows.

        It runs at the end of every training, also of one that is resumed behind its last epoch.
        """

    def tensors(self) -> dict[str, Tensor]:
        """Further state of a checkpoint, and all of which a step makes new tensors for the next one."""

    def take(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `tensors` gave."""


def train(
    training: Training,
    data: Data,
    plan: Plan,
    find_partition: Callable[[str], Tensor | None],
    checkpoints: Checkpoints | None,
    identity: Mapping[str, Any],
) -> History:
    """Train to the end, from the beginning or from a checkpoint.

    Args:
        training: What is trained.
        data: The rows and their views.
        plan: How long, and what is kept.
        find_partition: Finds the partition to begin with, if there is to be one; it is asked once, and told the
            precision that was decided on.
        checkpoints: Where the state is kept, and continued from; None for nowhere.
        identity: What a checkpoint must share to be of this training.

    Returns:
        What was noted; its last snapshot is the clustering.

    Raises:
        FloatingPointError: if a term stops being finite.
        ValueError: if there are checkpoints of another training only.
    """
    history, device = History(plan.name), data.rows.device
    if device.type == "cuda":
        logger.info("precision: TF32 is off on %s", device)
    with full_single_precision(device):
        state = checkpoints.begin(identity) if checkpoints else None
        if state is None or "networks" not in state:
            training.precision = state["precision"] if state else _decide_precision(training, data, plan)
            if checkpoints and checkpoints.is_due(0) and plan.precision == "auto":
                checkpoints.save(0, {"precision": training.precision})  # the clock may say otherwise another time
            partition = find_partition(training.precision)
            history.circumstances(precision=training.precision, device=device.type)
            history.snapshot(0, training.begin(partition))
            if checkpoints and checkpoints.is_due(0) and partition is not None:
                checkpoints.save(0, _state(training, data, history, partition))
        else:
            partition = _restore(training, data, history, state)
            skip_epochs(plan.epochs_before)
        steps, compiled = _steps(training, data), _compile(training, data, plan, plan.epochs - history.n_epochs)
        for epoch in epochs(plan.epochs, plan.name, lambda: history.last(*plan.shown), first=history.n_epochs):
            held = partition if epoch < plan.held_epochs else None
            steps.begin_epoch(training.stage(epoch, held), held)
            with in_use(training.network, compiled):
                _run_epoch(training, data, plan, history, steps)
            history.close_epoch(epoch + 1, **training.close_epoch(epoch + 1))
            history.ended_early = training.has_failed(history) and plan.ends_early
            if history.ended_early:
                break
            if (epoch + 1) % plan.record_every == 0 and epoch + 1 < plan.epochs:
                history.snapshot(epoch + 1, training.assign())
            if checkpoints and checkpoints.is_due(epoch + 1):
                checkpoints.save(epoch + 1, _state(training, data, history, partition))
        history.snapshot(history.n_epochs, training.finish(history))
    if checkpoints:
        checkpoints.clear()
    return history


def _decide_precision(training: Training, data: Data, plan: Plan) -> str:
    return training_precision(plan.precision, training.networks["encoder"], _views_shape(data, plan), data.rows.device)


def _compile(training: Training, data: Data, plan: Plan, n_epochs: int) -> Compiled | None:
    if plan.compile == "off":
        return None
    n_steps = data.n_steps(plan.batch_size, n_epochs)
    return compile_if_it_pays(training.network, _views_shape(data, plan), training.precision, n_steps, data.rows.device)


def _views_shape(data: Data, plan: Plan) -> tuple[int, ...]:
    return (data.view.n_views * min(plan.batch_size, len(data.rows)), *data.view_shape)


def _steps(training: Training, data: Data) -> CapturedSteps:
    """What runs the steps of a training."""

    def step(batch: Batch, held: Tensor | None) -> dict[str, Tensor]:
        place = current().share(batch.place)
        views = data.pairs(place)
        if not data.view.n_small:
            return training.step(views, batch.index, held)
        return training.step(views, batch.index, held, small=data.small(place))  # type: ignore[call-arg]

    return CapturedSteps(step, training, data.generator, rows_are_near=data.rows.place == data.rows.device)


def _run_epoch(training: Training, data: Data, plan: Plan, history: History, steps: CapturedSteps) -> None:
    for network in training.networks.values():
        network.train()
    if current().n > 1:  # each has its own views, in each epoch from the beginning of a stream
        purpose, seed = f"views of worker {current().rank}", data.generator.initial_seed()
        data.draws.set_state(stream(seed, purpose, data.draws.device, history.n_epochs).get_state())
    n_rows = min(plan.batch_size, len(data.rows))
    count = speed_of_steps(plan.name, data.n_steps(plan.batch_size, 1), n_rows) if not history.n_epochs else None
    for batch in data.rows.batches(plan.batch_size, data.generator):
        history.add(steps(batch))
        if count is not None:
            count()
        for schedule in training.schedules.values():
            schedule.step()


def _state(training: Training, data: Data, history: History, partition: Tensor | None) -> dict[str, Any]:
    return {
        "networks": {name: network.state_dict() for name, network in training.networks.items()},
        "optimisers": {name: optimiser.state_dict() for name, optimiser in training.optimisers.items()},
        "schedules": {name: schedule.state_dict() for name, schedule in training.schedules.items()},
        "tensors": training.tensors(),
        "history": history.state(),
        "random": random_state(data.generator),
        "partition": partition,
        "precision": training.precision,
    }


def _restore(training: Training, data: Data, history: History, state: Mapping[str, Any]) -> Tensor | None:
    """Take over what `_state` gave; returns the partition."""
    device = data.rows.device
    training.precision = state["precision"]
    for name, network in training.networks.items():
        network.load_state_dict(state["networks"][name])
    for name, optimiser in training.optimisers.items():
        restore_optimiser(optimiser, state["optimisers"][name])
    for name, schedule in training.schedules.items():
        schedule.load_state_dict(state["schedules"][name])
    training.take({name: tensor.to(device) for name, tensor in state["tensors"].items()})
    history.restore(state["history"])
    restore_random_state(state["random"], data.generator)
    partition = state["partition"]
    return None if partition is None else partition.to(device)

"""A step of a training as a CUDA graph: recorded once and then replayed, without Python and with one launch."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor

from deep_clustering.training.history import Terms
from deep_clustering.training.rows import Batch

logger = logging.getLogger(__name__)

# Steps that run as they come before one is recorded: they set up what is made only once, such as an optimiser's state.
_FIRST_STEPS = 3

Step = Callable[[Batch, Tensor | None], dict[str, Tensor]]
"""Maps a batch and the partition that is held to scalars on the device."""


class Carries(Protocol):
    """What takes the steps, with the state that one step leaves to the next."""

    def tensors(self) -> dict[str, Tensor]:
        """That state, as far as a step makes new tensors of it; what it changes in place is not needed here."""

    def take(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on with these tensors."""


class CapturedSteps:
    """Runs steps; on CUDA all but the first ones are replays of one that was recorded there.

    A replay reads and writes fixed places. So the index of each batch is copied into one tensor, and the state that a
    step carries to the next is copied back into the tensors that it was read from.
    """

    def __init__(self, step: Step, carrier: Carries, generator: torch.Generator, *, rows_are_near: bool) -> None:
        """Nothing is recorded yet.

        Args:
            step: One step of the training, whose shapes and operators are the same each time.
            carrier: Its state.
            generator: Source of its draws, on the device.
            rows_are_near: Whether the rows are on the device; from the host they cannot be read in a replay.
        """
        self._step, self._carrier, self._generator = step, carrier, generator
        self._is_captured = can_capture(generator.device) and rows_are_near
        if can_capture(generator.device) and not rows_are_near:
            logger.info("training steps are not captured in a CUDA graph: the rows are on the host")
        self._n_steps = 0
        self._stage = 0
        self._held: Tensor | None = None
        self._index = torch.empty(0)
        self._fixed: dict[str, Tensor] = {}
        self._terms: Terms | None = None
        self.replay: Callable[[], None] | None = None
        """Does the recorded step again on the batch before, once there is one."""
        self._side = side_stream(generator.device) if self._is_captured else None

    def begin_epoch(self, stage: int, held: Tensor | None) -> None:
        """Take over the state from outside the steps; steps of another stage or partition are recorded anew.

        Args:
            stage: Steps of one stage do the same operations.
            held: Partition that is held in the epoch, or None.
        """
        if stage != self._stage or held is not self._held:
            self.replay, self._terms = None, None  # it is another step
            self._n_steps = 0
        self._stage, self._held = stage, held
        if self.replay is not None:
            self._keep_places()

    def __call__(self, batch: Batch) -> Terms:
        """One step; the terms are to be read before the next one."""
        if self.replay is None and self._is_captured and self._n_steps >= _FIRST_STEPS:
            self._capture(batch)
        if self.replay is not None:
            assert self._terms is not None
            self._index.copy_(batch.index)
            self.replay()
            return self._terms
        self._n_steps += 1
        # What autograd keeps from step to step must be of the stream on which a step is recorded.
        with _beside(self._side):
            return Terms(self._step(batch, self._held))

    def _capture(self, batch: Batch) -> None:
        """Record a step, without running it; where that fails all steps run as they come."""
        self._index = batch.index.clone()
        self._fixed = {name: tensor.clone() for name, tensor in self._carrier.tensors().items()}
        self._carrier.take(self._fixed)
        try:
            self.replay = record(self._recorded_step, self._generator, self._side)
        except RuntimeError as error:
            self._is_captured, self._side = False, None
            self._carrier.take(self._fixed)
            reason = str(error.__context__ or error).splitlines()[0]  # what CUDA says in the end names no cause
            logger.warning("the training step cannot be captured in a CUDA graph and runs as it is: %s", reason)
        else:
            logger.info("the training step was captured in a CUDA graph")

    def _recorded_step(self) -> None:
        self._terms = Terms(self._step(Batch(self._index, self._index), self._held))
        self._keep_places()

    def _keep_places(self) -> None:
        """Bring the state back to the tensors that a replay reads."""
        for name, tensor in self._carrier.tensors().items():
            if tensor is not self._fixed[name]:
                self._fixed[name].copy_(tensor)
        self._carrier.take(self._fixed)


def can_capture(device: torch.device) -> bool:
    """Whether steps on a device can be recorded at all."""
    return device.type == "cuda"


def side_stream(device: torch.device) -> torch.cuda.Stream:
    """A stream beside the current one, on which steps are recorded."""
    return torch.cuda.Stream(device)


def record(
    function: Callable[[], None], generator: torch.Generator, stream: torch.cuda.Stream | None
) -> Callable[[], None]:
    """Record what a function does on a CUDA device; it is not done.

    Args:
        function: Neither waits for the device nor has shapes that depend on values.
        generator: Source of its draws; each replay draws anew.
        stream: Another than the current one.

    Returns:
        A function that does the same again on the same tensors.

    Raises:
        RuntimeError: if the function cannot be recorded; generators and current stream are as before.
    """
    graph = torch.cuda.CUDAGraph()
    current = torch.cuda.current_stream(generator.device)
    generators = (generator, torch.cuda.default_generators[generator.device.index or 0])
    before = [one.clone_state() for one in generators]
    graph.register_generator_state(generator)
    try:
        # Threads of others may allocate memory meanwhile.
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            function()
    except RuntimeError:
        torch.cuda.set_stream(current)
        for one, state in zip(generators, before, strict=True):
            one.graphsafe_set_state(state)  # a generator of a broken capture refuses to draw
        raise
    return graph.replay


@contextmanager
def _beside(stream: torch.cuda.Stream | None) -> Iterator[None]:
    """Work on a stream behind all that was asked of the current one, which then goes on behind it."""
    if stream is None:
        yield
        return
    stream.wait_stream(torch.cuda.current_stream(stream.device))
    with torch.cuda.stream(stream):
        yield
    torch.cuda.current_stream(stream.device).wait_stream(stream)

"""Compiling a network for a training: done on CUDA where the training is long enough, and kept if passes are faster."""

import copy
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from deep_clustering.training.precision import autocast, wait_for

logger = logging.getLogger(__name__)

# Passes that are timed, of which the median counts.
_TURNS = 10
# A trial takes about half a minute: the passes of the training must take this many seconds for it to be made.
_WORTH_SECONDS = 240.0
# Compiled passes must be faster than this share of the others.
_LEAST_GAIN = 0.95
# What a compiler raises that is missing or does not know an operator.
_REFUSALS = (RuntimeError, OSError, ImportError)

Compiled = Callable[..., object]
"""What a module calls in the place of its `forward`."""


def compile_if_it_pays(
    network: nn.Module, shape: tuple[int, ...], precision: str, n_steps: int, device: torch.device
) -> Compiled | None:
    """A compiled form of a network, if a trial shows that a training is faster with it.

    Args:
        network: The network, on the device; its weights and statistics stay as they are.
        shape: Of a batch of views.
        precision: fp32 or bf16.
        n_steps: Steps of the training.
        device: Where it is.

    Returns:
        What `in_use` takes, or None.
    """
    if not can_compile(device):
        return None
    state = copy.deepcopy(network.state_dict())
    was_training = network.training
    views = torch.rand(shape, generator=torch.Generator(device).manual_seed(0), device=device)
    try:
        return _try(network.train(), views, precision, n_steps)
    finally:
        network.load_state_dict(state)
        network.zero_grad(set_to_none=True)
        network.train(was_training)


def can_compile(device: torch.device) -> bool:
    """Whether a device is one for which networks are compiled."""
    return device.type == "cuda"


def _try(network: nn.Module, views: Tensor, precision: str, n_steps: int) -> Compiled | None:
    plain = _seconds_of_a_pass(network, views, precision)
    if plain * n_steps < _WORTH_SECONDS:
        return None
    began = time.perf_counter()
    compiled = torch.compile(network.forward)
    try:
        with in_use(network, compiled):
            seconds = _seconds_of_a_pass(network, views, precision)
    except _REFUSALS as error:
        logger.warning("the network cannot be compiled and runs as it is: %s", str(error).splitlines()[0])
        return None
    is_faster = seconds < _LEAST_GAIN * plain
    logger.info(
        "the network %s (a pass takes %.2f ms, %.2f ms compiled; the trial took %.0f s)",
        "is compiled" if is_faster else "is not compiled",
        1e3 * plain,
        1e3 * seconds,
        time.perf_counter() - began,
    )
    return compiled if is_faster else None


@contextmanager
def in_use(network: nn.Module, compiled: Compiled | None) -> Iterator[None]:
    """Let a network run in its compiled form; elsewhere, on batches of other sizes, it runs as it is."""
    if compiled is None:
        yield
        return
    network.forward = compiled
    try:
        yield
    finally:
        del network.forward  # that of its class is left


def _seconds_of_a_pass(network: nn.Module, views: Tensor, precision: str) -> float:
    """Median time of a forward and backward pass; the first passes pay for what is set up only once."""
    seconds = []
    for _ in range(3 + _TURNS):
        wait_for(views.device)
        began = time.perf_counter()
        with autocast(precision, views.device):
            outputs = network(views)
        total = sum(output.float().sum() for output in (outputs if isinstance(outputs, tuple) else (outputs,)))
        assert isinstance(total, Tensor)
        total.backward()
        wait_for(views.device)
        seconds.append(time.perf_counter() - began)
    return sorted(seconds[3:])[_TURNS // 2]

"""One training by processes that torchrun started, on one machine or several; see `workers`.

All of them are given the same command. The first one does it; the others take part in its fits, and write nothing.
"""

import atexit
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import cache, partial
from typing import Any

import numpy as np

from deep_clustering.training.checkpoints import Checkpoints
from deep_clustering.training.meeting import Meeting, introduce, named
from deep_clustering.training.on_ray import LAUNCHER, check_ray, fit_on_ray
from deep_clustering.training.parallel import ParallelOptions, check_workers, fit_alone, fit_together

logger = logging.getLogger(__name__)

# Until all processes must have answered.
_ANSWER_SECONDS = 120.0
# What the processes can do together.
_COMMANDS = ("run", "resume")


def n_launched() -> int:
    """Processes that torchrun started with this one; 1 where it did not."""
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def follows() -> bool:
    """Whether this process is one of those that take part in the fits of another."""
    return n_launched() > 1 and os.environ["RANK"] != "0"


def check_command(command: str) -> None:
    """Refuse a command that the processes of torchrun would all do, each for itself; raises ValueError."""
    if n_launched() > 1 and command not in _COMMANDS:
        raise ValueError(f"torchrun takes {' and '.join(_COMMANDS)}, got {command}; call it without torchrun")


def check_launch(options: ParallelOptions) -> None:
    """Wait for the processes that torchrun started with this one, if it did; else look for Ray, if it is to start some.

    Args:
        options: Of the training.

    Raises:
        ValueError: if further workers are asked for beside them, others have other versions, or there is no Ray.
        TimeoutError: if one does not answer.
    """
    if n_launched() == 1:
        if options.workers > 1 and options.launcher == "ray":
            check_ray(LAUNCHER)
        elif options.launcher == "ray":
            logger.warning(
                "parallel.launcher: ray has nothing to start: parallel.workers is 1, this process trains alone"
            )
        return
    if options.workers > 1:
        raise ValueError(
            f"parallel.workers: torchrun started {n_launched()} processes, which train together; expected 1, got "
            f"{options.workers}"
        )
    _meeting()


def fit_of(model: Any, options: ParallelOptions) -> Callable[..., Any]:  # noqa: ANN401
    """The fit of a method by the processes that options ask for, or that torchrun started; without epochs by this one.

    Its arguments are the method and those of the method's own fit.
    """
    if not hasattr(model, "epochs"):
        return fit_alone
    if options.workers > 1:
        return partial({"local": fit_together, "ray": fit_on_ray}[options.launcher], options.workers)
    return fit_alone if n_launched() == 1 else fit_launched


def fit_launched(
    model: Any,  # noqa: ANN401
    rows: np.ndarray,
    neighbours: np.ndarray | None,
    checkpoints: Checkpoints,
    weights: np.ndarray | None,
    **more: Any,  # noqa: ANN401
) -> Any:  # noqa: ANN401
    """Fit a method by the processes that torchrun started, of which this one is the first.

    Args:
        model: The method.
        rows: The rows, shape (n_samples, ...); a memory map is opened by each process, else all are sent the rows.
        neighbours: Nearest rows of each, or None.
        checkpoints: Where the state of the training is kept; the first process reads and writes it.
        weights: How much each row counts, or None.
        **more: Further arguments of the fit.

    Returns:
        The fitted method.

    Raises:
        ValueError: if the method or its options do not train so, or another process finds other rows.
        ChildProcessError: if a process ends before the fit does.
    """
    check_workers(model, rows, n_launched())
    from deep_clustering.training.workers import CommonCheckpoints

    meeting = _meeting()
    meeting.call()
    try:
        return meeting.fit((model, CommonCheckpoints.like(checkpoints), weights, more), (rows, neighbours))
    except RuntimeError as error:
        if "gloo" not in str(error):  # which names its own source file
            raise
        raise ChildProcessError(
            "training: another process ended before the fit did, or cannot be reached: torchrun says which; `kedro "
            "resume` goes on from the newest checkpoint"
        ) from error


def follow() -> None:
    """Take part in the fits of the first process until it ends.

    Raises:
        ValueError: if it has other versions.
        TimeoutError: if it does not answer.
    """
    meeting = _meeting()
    logging.disable(logging.CRITICAL)
    while meeting.is_called():
        with suppress(ValueError, FloatingPointError):  # which all have; the first process says so, and may go on
            meeting.fit()


def _begin(seconds: float) -> Meeting:
    """Wait for all processes that torchrun started."""
    from torch import distributed

    rank, n, patience = int(os.environ["RANK"]), n_launched(), timedelta(seconds=seconds)
    missing = [named(one) for one in range(n) if one != rank]
    try:
        store, *_ = next(distributed.rendezvous("env://", timeout=patience))
        introduce(store, rank)
        while missing:
            store.wait(missing[:1], patience)
            del missing[0]
    except distributed.DistError as error:
        address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise TimeoutError(
            f"parallel: {missing[0]} did not answer at {address} within {seconds:g} s, of {n} processes; start "
            "torchrun on each machine with the same address and numbers, and look whether it is reached from all"
        ) from error
    return Meeting.of(store, rank, n)


@cache
def _meeting() -> Meeting:
    """That of this process, which ends with it."""
    meeting = _begin(_ANSWER_SECONDS)
    if not follows():
        atexit.register(meeting.end)
        logger.info("training by %d processes that torchrun started", n_launched())
    return meeting

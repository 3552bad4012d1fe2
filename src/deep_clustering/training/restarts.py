"""Several trainings from derived seeds, of which the best is kept without labels."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from deep_clustering.training.checkpoints import Checkpoints
from deep_clustering.training.history import History

logger = logging.getLogger(__name__)


class Trained(NamedTuple):
    """A finished training."""

    arrays: dict[str, np.ndarray]
    """What it learned."""
    history: History
    """What it reported; its newest snapshot is its clustering."""
    score: float
    """By which it is compared; the greatest wins."""


def best_of_restarts(
    train: Callable[[int, str, Checkpoints | None], Trained],
    n_restarts: int,
    name: str,
    decide_precision: Callable[[], str],
    checkpoints: Checkpoints | None,
    identity: Mapping[str, Any],
) -> Trained:
    """Train several times and keep the training of greatest score.

    Args:
        train: Trains the restart of a number in a precision, with checkpoints of its own.
        n_restarts: How often.
        name: The method, for the log.
        decide_precision: Says in which precision all of them are trained.
        checkpoints: Where finished restarts are kept, and continued from; None for nowhere.
        identity: What these must share to be of this training, see `Checkpoints.begin`.

    Returns:
        The best, with the clusterings and scores of all restarts as the candidates of its history.

    Raises:
        FloatingPointError: if no training has a score that is a number.
    """
    state = checkpoints.begin(identity) if checkpoints else None
    if state is None:
        state = {"scores": [], "assignments": [], "best": None, "precision": decide_precision()}
        if checkpoints and checkpoints.is_due(0):
            checkpoints.save(0, state)  # a decision that was made by the clock is not made again
    for restart in range(len(state["scores"]), n_restarts):
        part = checkpoints.within(f"restart_{restart}") if checkpoints else None
        trained = train(restart, state["precision"], part)
        logger.info("%s: restart %d of %d, score %.4f", name, restart + 1, n_restarts, trained.score)
        best_before = max(filter(math.isfinite, state["scores"]), default=-math.inf)
        if math.isfinite(trained.score) and trained.score > best_before:
            tensors = {key: torch.from_numpy(np.array(array)) for key, array in trained.arrays.items()}
            state["best"] = {"arrays": tensors, "history": trained.history.state()}
        state["scores"].append(trained.score)
        state["assignments"].append(trained.history.newest_snapshot())
        if checkpoints and checkpoints.is_due(0):
            checkpoints.save(restart + 1, state)
    if state["best"] is None:
        scores = ", ".join(f"{score:g}" for score in state["scores"])
        raise FloatingPointError(
            f"{name}: none of {n_restarts} restarts has a score that is a number, got {scores}; look for extreme "
            "values in the features, or lower the learning rate"
        )
    history = History(name)
    history.restore(state["best"]["history"])
    history.candidates(state["assignments"], _comparable(state["scores"]))
    if checkpoints:
        checkpoints.clear()
    arrays = {key: array.numpy() for key, array in state["best"]["arrays"].items()}
    return Trained(arrays, history, max(filter(math.isfinite, state["scores"])))


def _comparable(scores: Sequence[float]) -> torch.Tensor:
    """Scores of which those that are no numbers lose."""
    return torch.tensor([score if math.isfinite(score) else -math.inf for score in scores])

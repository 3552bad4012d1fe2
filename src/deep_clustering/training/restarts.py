"""Several trainings from derived seeds, of which the best is kept without labels."""

import logging
import math
from collections.abc import Callable, Mapping
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


def derived_seed(seed: int, restart: int) -> int:
    """Seed of a restart; the first has the seed itself."""
    return seed if restart == 0 else int(np.random.SeedSequence((seed, restart)).generate_state(1)[0])


def best_of_restarts(
    train: Callable[[int, Checkpoints | None], Trained],
    n_restarts: int,
    name: str,
    checkpoints: Checkpoints | None,
    identity: Mapping[str, Any],
) -> Trained:
    """Train several times and keep the training of greatest score.

    Args:
        train: Trains the restart of a number, with checkpoints of its own.
        n_restarts: How often.
        name: The method, for the log.
        checkpoints: Where finished restarts are kept, and continued from; None for nowhere.
        identity: What these must share to be of this training, see `Checkpoints.begin`.

    Returns:
        The best, with the clusterings and scores of all restarts as the candidates of its history.
    """
    state = checkpoints.begin(identity) if checkpoints else None
    if state is None:
        state = {"scores": [], "assignments": [], "best": None}
    for restart in range(len(state["scores"]), n_restarts):
        trained = train(restart, checkpoints.within(f"restart_{restart}") if checkpoints else None)
        logger.info("%s: restart %d of %d, score %.4f", name, restart + 1, n_restarts, trained.score)
        if trained.score > max(state["scores"], default=-math.inf):
            tensors = {key: torch.from_numpy(np.array(array)) for key, array in trained.arrays.items()}
            state["best"] = {"arrays": tensors, "history": trained.history.state()}
        state["scores"].append(trained.score)
        state["assignments"].append(trained.history.newest_snapshot())
        if checkpoints and checkpoints.is_due(0):
            checkpoints.save(restart + 1, state)
    history = History(name)
    history.restore(state["best"]["history"])
    history.candidates(state["assignments"], torch.tensor(state["scores"]))
    if checkpoints:
        checkpoints.clear()
    arrays = {key: array.numpy() for key, array in state["best"]["arrays"].items()}
    return Trained(arrays, history, max(state["scores"]))

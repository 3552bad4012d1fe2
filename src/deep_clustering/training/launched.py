"""One training by processes that torchrun started, on one machine or several; see `workers`.

All of them are given the same command. The first one does it; the others take part in its fits, and write nothing.
"""

import atexit
import json
import logging
import os
import platform
import time
from contextlib import suppress
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from deep_clustering import __version__
from deep_clustering.training.checkpoints import Checkpoints, fingerprint
from deep_clustering.training.parallel import ParallelOptions, check_workers, mapped_file

if TYPE_CHECKING:
    from torch.distributed import Store

logger = logging.getLogger(__name__)

# Until all processes must have answered, and between looks for the next fit.
_ANSWER_SECONDS, _LOOK_SECONDS = 120.0, 0.2
_FIT, _END = "fit", "end"
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
    """Wait for the processes that torchrun started with this one, if it did.

    Args:
        options: Of the training.

    Raises:
        ValueError: if further workers are asked for, or others have other versions.
        TimeoutError: if one does not answer.
    """
    if n_launched() == 1:
        return
    if options.workers > 1:
        raise ValueError(
            f"parallel.workers: torchrun started {n_launched()} processes, which train together; expected 1, got "
            f"{options.workers}"
        )
    _meeting()


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
        model: The method; one without epochs is fitted by this process.
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
    if not hasattr(model, "epochs"):
        return model.fit(rows, neighbours, checkpoints, weights, **more)
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


class _Meeting:
    """The processes that torchrun started, as one of them sees them."""

    def __init__(self, store: "Store", rank: int, n: int) -> None:
        self._store, self._rank, self._n = store, rank, n
        self._n_calls = 0

    @classmethod
    def begin(cls, seconds: float) -> Self:
        """Wait for all, and compare their versions."""
        from torch import distributed

        rank, n, patience = int(os.environ["RANK"]), n_launched(), timedelta(seconds=seconds)
        missing = [f"worker {one}" for one in range(n) if one != rank]
        try:
            store, *_ = next(distributed.rendezvous("env://", timeout=patience))
            store.set(f"worker {rank}", json.dumps(_versions()))
            while missing:
                store.wait(missing[:1], patience)
                del missing[0]
        except distributed.DistError as error:
            address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
            raise TimeoutError(
                f"parallel: {missing[0]} did not answer at {address} within {seconds:g} s, of {n} processes; start "
                "torchrun on each machine with the same address and numbers, and look whether it is reached from all"
            ) from error
        _compare_versions([json.loads(store.get(f"worker {one}")) for one in range(n)])
        distributed.init_process_group(
            "gloo", store=distributed.PrefixStore("training", store), rank=rank, world_size=n
        )
        return cls(store, rank, n)

    def call(self) -> None:
        """Let the others take part in a fit."""
        self._say(_FIT)

    def end(self) -> None:
        """Let the others go."""
        from torch import distributed

        self._say(_END)
        distributed.destroy_process_group()

    def _say(self, word: str) -> None:
        self._store.set(f"call {self._n_calls}", word)
        self._n_calls += 1

    def is_called(self) -> bool:
        """Wait for the first process, however long it is at something else; whether it begins a fit or ends."""
        name = f"call {self._n_calls}"
        while not self._store.check([name]):
            time.sleep(_LOOK_SECONDS)
        self._n_calls += 1
        return self._store.get(name).decode() == _FIT

    def fit(self, task: tuple | None = None, arrays: tuple[np.ndarray | None, ...] = ()) -> Any:  # noqa: ANN401
        """One fit; the first process says of what: method, checkpoints, weights and further arguments."""
        from torch import distributed

        from deep_clustering.training.workers import joined

        said: list[Any] = [(task, [_described(array) for array in arrays])]
        distributed.broadcast_object_list(said)
        (model, checkpoints, weights, more), described = said[0]
        own = arrays or [None] * len(described)
        rows, neighbours = map(self._received, described, own)
        with joined(self._rank, self._n):
            return model.fit(rows, neighbours, checkpoints, weights, **more)

    def _received(self, described: Any, own: np.ndarray | None) -> np.ndarray | None:  # noqa: ANN401
        """An array of the first process, which has it: from the same file, or sent."""
        import torch
        from torch import distributed

        if isinstance(described, Path):
            return self._opened(described, own)
        if described is None:
            return None
        shape, dtype = described
        sent = torch.empty(shape, dtype=getattr(torch, dtype)) if own is None else torch.tensor(own)
        distributed.broadcast(sent, 0)
        return sent.numpy() if own is None else own

    def _opened(self, file: Path, own: np.ndarray | None) -> np.ndarray | None:
        """A memory map, if all find the same in the file."""
        from torch import distributed

        try:
            array = np.load(file, mmap_mode="r") if own is None else own
            found = fingerprint(array)
        except (OSError, ValueError) as error:
            found = str(error)
        of_all = [""] * self._n
        distributed.all_gather_object(of_all, found)
        for worker, of_worker in enumerate(of_all):
            if of_worker != of_all[0]:
                raise ValueError(f"parallel: worker {worker} finds other rows than the first in {file}: {of_worker}")
        return array


@cache
def _meeting() -> _Meeting:
    """That of this process, which ends with it."""
    meeting = _Meeting.begin(_ANSWER_SECONDS)
    if not follows():
        atexit.register(meeting.end)
        logger.info("training by %d processes that torchrun started", n_launched())
    return meeting


def _versions() -> dict[str, str]:
    import torch

    return {"deep-clustering": __version__, "torch": str(torch.__version__), "Python": platform.python_version()}


def _compare_versions(of_workers: list[dict[str, str]]) -> None:
    for worker, own in enumerate(of_workers):
        if own != of_workers[0]:
            raise ValueError(
                f"parallel: workers of different versions: the first has {_listed(of_workers[0])}, worker {worker} "
                f"{_listed(own)}; install the same on all machines"
            )


def _listed(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _described(array: np.ndarray | None) -> Any:  # noqa: ANN401
    """The file of a memory map, or shape and type of what is to be sent."""
    if array is None:
        return None
    return mapped_file(array) or (array.shape, array.dtype.name)

"""Fits by several processes of this machine: they are started, watched and ended here; see `workers`.

The options are checked before every run, also of methods without a network: torch is imported where one is trained.
"""

import logging
import mmap
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge
from scipy import sparse

from deep_clustering.training.checkpoints import Checkpoints

logger = logging.getLogger(__name__)

_POLL_SECONDS, _END_SECONDS = 0.05, 10.0


@dataclass(frozen=True, kw_only=True)
class ParallelOptions:
    """The parameter block `parallel`."""

    workers: Annotated[int, Ge(1)]
    """Processes that train one model, each on its share of every batch."""
    launcher: Literal["local", "ray"]
    """What starts them: local, this process on its own machine; ray, a Ray cluster, see `on_ray`."""


@dataclass(frozen=True)
class _Task:
    """What a further worker needs."""

    model: Any
    """The method, not fitted."""
    rows: np.ndarray | Path
    neighbours: np.ndarray | Path | None
    checkpoints: Checkpoints
    weights: np.ndarray | None
    more: dict[str, Any]
    n_threads: int


def fit_alone(model: Any, *data: Any, **more: Any) -> Any:  # noqa: ANN401
    """Fit a method by this process alone; arguments are those of its fit."""
    return model.fit(*data, **more)


def fit_together(
    n_workers: int,
    model: Any,  # noqa: ANN401
    rows: np.ndarray,
    neighbours: np.ndarray | None,
    checkpoints: Checkpoints,
    weights: np.ndarray | None,
    **more: Any,  # noqa: ANN401
) -> Any:  # noqa: ANN401
    """Fit a method by several processes, of which this one is the first.

    Args:
        n_workers: How many processes.
        model: The method.
        rows: The rows, shape (n_samples, ...); a memory map is opened by each worker, else they lie in a scratch file.
        neighbours: Nearest rows of each, or None.
        checkpoints: Where the state of the training is kept; all begin from it, the first one writes.
        weights: How much each row counts, or None.
        **more: Further arguments of the fit.

    Returns:
        The fitted method.

    Raises:
        ValueError: if the method or its options do not train so, or the fit raises it.
        ChildProcessError: if a worker ends before the fit does.
    """
    check_workers(model, rows, n_workers)
    import torch

    from deep_clustering.training.workers import CommonCheckpoints, joined_as

    checkpoints = CommonCheckpoints.like(checkpoints)
    with tempfile.TemporaryDirectory() as folder:
        task = _Task(
            model,
            _on_disk(rows, Path(folder) / "rows.npy"),
            None if neighbours is None else _on_disk(neighbours, Path(folder) / "neighbours.npy"),
            checkpoints,
            weights,
            more,
            torch.get_num_threads(),
        )
        with _started(task, n_workers, Path(folder)), joined_as(0, n_workers, f"{folder}/store"):
            return model.fit(rows, neighbours, checkpoints, weights, **more)


def check_workers(model: Any, rows: np.ndarray | sparse.csr_matrix, n_workers: int) -> None:  # noqa: ANN401
    """Refuse what several workers cannot train.

    Args:
        model: The method.
        rows: The rows.
        n_workers: How many.

    Raises:
        ValueError: naming all that would have to be otherwise.
    """
    name = getattr(model, "name", type(model).__name__.lower())
    if not getattr(model, "trains_in_parallel", False):
        raise ValueError(f"parallel: {name} trains on one worker; expected workers = 1, got {n_workers}")
    n_batch = min(model.batch_size, rows.shape[0])
    import torch

    if n_workers > n_batch:
        raise ValueError(f"parallel: at most one worker for each row of a batch, got {n_workers} for {n_batch} rows")
    needs = []
    if n_batch % n_workers:
        needs.append(f"batches of a multiple of {n_workers} rows, got {n_batch}")
    if sparse.issparse(rows):
        needs.append("dense rows, got sparse ones")
    if model.precision == "auto":
        needs.append("precision = fp32 or bf16, got auto")
    if model.representation["kind"] != "none":
        needs.append(f"representation = none, got {model.representation['kind']}")
    if model.device not in ("cpu", "auto") or (model.device == "auto" and torch.cuda.is_available()):
        needs.append(f"device = cpu, got {model.device}")
    if needs:
        raise ValueError(f"parallel: {n_workers} workers need {'; '.join(needs)}")


def mapped_file(array: np.ndarray) -> Path | None:
    """The file of which an array is the memory map, the whole of it and nothing else."""
    if isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap) and str(array.filename).endswith(".npy"):
        return Path(str(array.filename))
    return None


def _on_disk(array: np.ndarray, file: Path) -> Path:
    """Where another process finds an array: the file of a memory map, or a scratch file."""
    if mapped := mapped_file(array):
        return mapped
    np.save(file, array)
    return file


@contextmanager
def _started(task: _Task, n_workers: int, folder: Path) -> Iterator[None]:
    """Further workers at work; they are ended at the end, however it comes."""
    import torch.multiprocessing

    context = torch.multiprocessing.get_context("spawn")
    start: Callable[..., BaseProcess] = partial(context.Process, daemon=True)
    others = [start(target=_work, args=(rank, n_workers, str(folder), task)) for rank in range(1, n_workers)]
    for process in others:
        process.start()
    try:
        _wait_for(others, folder)
        logger.info("training by %d workers, processes %s beside this one", n_workers, _ids(others))
        yield
    except RuntimeError as error:
        # Of an error of this process the others die, too: theirs is gloo's, as is that of this one if they died first.
        if "gloo" in str(error) and (dead := _dead(others, _END_SECONDS)):
            raise ChildProcessError(_message(dead)) from error
        raise
    finally:
        for process in others:
            process.terminate()
        for process in others:
            process.join()


def _wait_for(others: list[BaseProcess], folder: Path) -> None:
    """Until all have begun; one that could not would be waited for in vain."""
    while len(list(folder.glob("ready-*"))) < len(others):
        if dead := _dead(others, 0):
            raise ChildProcessError(_message(dead))
        time.sleep(_POLL_SECONDS)


def _dead(others: list[BaseProcess], seconds: float) -> list[BaseProcess]:
    """Those that have failed, or do within some seconds."""
    until = time.monotonic() + seconds
    while not (found := [process for process in others if process.exitcode]) and time.monotonic() < until:
        time.sleep(_POLL_SECONDS)
    return found


def _message(dead: list[BaseProcess]) -> str:
    codes = ", ".join(f"process {process.pid} with exit code {process.exitcode}" for process in dead)
    return f"training: a worker ended before the fit did: {codes}; `kedro resume` goes on from the newest checkpoint"


def _ids(others: list[BaseProcess]) -> str:
    return ", ".join(str(process.pid) for process in others)


def _work(rank: int, n_workers: int, folder: str, task: _Task) -> None:
    """A further worker: the same fit, without a word."""
    import torch

    from deep_clustering.training.workers import joined_as

    logging.disable(logging.CRITICAL)
    torch.set_num_threads(task.n_threads)
    rows, neighbours = _open(task.rows), _open(task.neighbours)
    (Path(folder) / f"ready-{rank}").touch()
    with joined_as(rank, n_workers, f"{folder}/store"):
        task.model.fit(rows, neighbours, task.checkpoints, task.weights, **task.more)


def _open(array: Any) -> Any:  # noqa: ANN401
    return np.load(array, mmap_mode="r") if isinstance(array, Path) else array

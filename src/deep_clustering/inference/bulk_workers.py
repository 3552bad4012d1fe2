"""Several processes that assign the shards of one prediction: they are started, watched and ended here.

Each of them goes through the whole input and reads the rows of those shards that it has claimed; rows that are images
or lie in a mapped array cost the others nothing.
"""

import logging
import os
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from deep_clustering.inference.bulk_shards import Shard, Task, assign_shards

_POLL_SECONDS = 0.5
# What a worker may say to the process that started it; anything else is a defect.
_EXPECTED = (ValueError, OSError, MemoryError)


def assign_together(task: Task, n_workers: int, count: Callable[[int], object]) -> list[Shard]:
    """Make the shards that are missing by several processes.

    Args:
        task: What is asked for.
        n_workers: How many.
        count: Told how many more rows are done.

    Returns:
        What is said of all shards, in any order.

    Raises:
        ChildProcessError: if a worker is killed.
        OSError: if a shard cannot be written.
        ValueError: if rows are not what the model was fitted to.
    """
    import torch

    context = get_context("spawn")
    n_threads = max(1, torch.get_num_threads() // n_workers)
    claimed, done = context.Value("q", 0), context.Value("q", 0)
    start: Callable[..., BaseProcess] = partial(context.Process, target=_work, daemon=True)
    workers: dict[Connection, BaseProcess] = {}
    try:
        for _ in range(n_workers):
            reader, writer = context.Pipe(duplex=False)
            worker = workers[reader] = start(args=(task, n_threads, claimed, done, writer))
            worker.start()
            writer.close()  # this copy of it, so that the end of the worker is the end of the pipe
        return _gather(dict(workers), done, count)
    finally:
        for worker in workers.values():
            worker.terminate()
        for worker in workers.values():
            worker.join()


def _gather(
    workers: dict[Connection, BaseProcess],
    done: Any,  # noqa: ANN401 - a number in shared memory
    count: Callable[[int], object],
) -> list[Shard]:
    shards: list[Shard] = []
    counted = 0
    while workers:
        for reader in wait(list(workers), _POLL_SECONDS):
            assert isinstance(reader, Connection)
            worker = workers.pop(reader)
            shards += _answer(reader, worker)
        if (now := done.get_obj().value) > counted:  # without its lock, which a killed worker may hold
            count(now - counted)
            counted = now
    return shards


def _answer(reader: Connection, worker: BaseProcess) -> list[Shard]:
    try:
        answer = reader.recv()
    except EOFError as error:
        worker.join()
        raise ChildProcessError(
            f"predict: worker {worker.pid} ended with exit code {worker.exitcode}; the same command goes on from the "
            "shards that there are"
        ) from error
    if isinstance(answer, BaseException):
        raise answer
    return answer


def _work(task: Task, n_threads: int, claimed: Any, done: Any, writer: Connection) -> None:  # noqa: ANN401
    """One worker; it ends with the process that started it."""
    import torch

    torch.set_num_threads(n_threads)
    logging.disable(logging.INFO)
    parent = parent_process()

    def claim() -> int:
        with claimed.get_lock():
            number = int(claimed.value)
            claimed.value += 1
        return number

    def count(n_rows: int) -> None:
        if parent is not None and not parent.is_alive():
            os._exit(1)
        with done.get_lock():
            done.value += n_rows

    try:
        writer.send(assign_shards(task, count, claim))
    except _EXPECTED as error:
        writer.send(error)

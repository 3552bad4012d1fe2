"""Jobs side by side in processes of this machine."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from queue import SimpleQueue
from typing import Any

from deep_clustering.training.threads import THREAD_SETTINGS

# A job that is asked to end has so long to say goodbye to the tracking store.
_GRACE_SECONDS = 3.0


class WorkerDied(Exception):  # noqa: N818 - it tells what happened
    """The process of a job ended before the job did."""


class Processes:
    """Jobs in processes of this machine, each with a worker of its own that lives from job to job.

    The death of a worker fails its own job only; another worker takes its place. No worker outlives this process.
    """

    def __init__(self, jobs: int, threads: int, timeout: float | None) -> None:
        """See `deep_clustering.sweep.launchers`; a worker starts with its first job."""
        self._threads, self._timeout = threads, timeout
        self._ended = threading.Event()
        self._free: SimpleQueue[ProcessPoolExecutor] = SimpleQueue()
        self._workers: set[ProcessPoolExecutor] = set()
        for _ in range(jobs):
            self._free.put(self._new_worker())
        # One thread for each worker waits for it, so that a job never sits in the queue of a worker that dies.
        self._waiting = ThreadPoolExecutor(jobs, thread_name_prefix="launcher")

    def submit(self, function: Callable[..., Any], *args: Any) -> Future:  # noqa: ANN401
        """Run the job as soon as a worker is free.

        The future raises `WorkerDied` if the worker died, and `TimeoutError` if the job took too long.
        """
        return self._waiting.submit(self._run, function, args)

    def shutdown(self) -> None:
        """End all workers, whatever they do."""
        self._ended.set()
        self._waiting.shutdown(wait=False, cancel_futures=True)
        _end(list(self._workers))
        self._waiting.shutdown(wait=True)

    def _run(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:  # noqa: ANN401
        worker = self._free.get()
        try:
            worker.submit(os.getpid).result()  # the start of a worker does not count as the job's time
            future = worker.submit(function, *args)
            if not wait([future], self._timeout).done:
                worker = self._replace(worker)
                raise TimeoutError(f"it took more than {self._timeout:g} s")
            return future.result()
        except BrokenProcessPool as error:
            worker = self._replace(worker)
            raise WorkerDied("its process died: killed, out of memory, or crashed") from error
        finally:
            self._free.put(worker)

    def _new_worker(self) -> ProcessPoolExecutor:
        worker = ProcessPoolExecutor(
            1,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start_worker,
            initargs=(self._threads,),
        )
        self._workers.add(worker)
        return worker

    def _replace(self, worker: ProcessPoolExecutor) -> ProcessPoolExecutor:
        _end([worker])
        self._workers.discard(worker)
        return worker if self._ended.is_set() else self._new_worker()


def _end(workers: list[ProcessPoolExecutor]) -> None:
    """Ask the processes to end, then make them."""
    processes = [process for worker in workers for process in list((worker._processes or {}).values())]
    for worker in workers:
        worker.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        if process.is_alive():
            process.terminate()
    deadline = time.monotonic() + _GRACE_SECONDS
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()


def _start_worker(threads: int) -> None:
    """Prepare a fresh process for its jobs, before it imports anything that computes."""
    for name in THREAD_SETTINGS:
        os.environ[name] = str(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    threading.Thread(target=_follow_parent, daemon=True).start()
    import torch

    torch.set_num_threads(threads)


def _follow_parent() -> None:
    """End this process when its parent is gone, however that went."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)

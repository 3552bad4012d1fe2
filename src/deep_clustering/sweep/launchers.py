"""Where independent jobs run: in this process, in processes of this machine, or wherever another engine puts them.

An engine is a class with

    __init__(jobs, threads, timeout)     jobs at a time, threads for each, seconds that one may take or None
    submit(function, *args) -> Future    a module-level function, plain picklable arguments and result
    shutdown()                           ends what still runs, and every process behind it

`LAUNCHERS` names the classes; an engine of somebody else is named by its place, "module:Class".
"""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from importlib import import_module
from queue import SimpleQueue
from typing import Any, Protocol

from deep_clustering.options import closest

LAUNCHERS = {
    "local": "deep_clustering.sweep.launchers:Local",
    "processes": "deep_clustering.sweep.launchers:Processes",
}

# What numpy, scikit-learn and torch read when they are imported.
_THREAD_SETTINGS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

# A job that is asked to end has so long to say goodbye to the tracking store.
_GRACE_SECONDS = 3.0


class Launcher(Protocol):
    """What every engine offers."""

    def submit(self, function: Callable[..., Any], *args: Any) -> Future:  # noqa: ANN401
        """Run `function(*args)` some time; its result or error is the future's."""

    def shutdown(self) -> None:
        """End what still runs and give everything back."""


class WorkerDied(Exception):  # noqa: N818 - it tells what happened
    """The process of a job ended before the job did."""


def make_launcher(name: str, jobs: int, threads: int, timeout: float | None) -> Launcher:
    """Make a launcher.

    Args:
        name: A key of `LAUNCHERS`, or the place "module:Class" of another engine.
        jobs: Jobs at a time.
        threads: Threads of each job.
        timeout: Seconds that a job may take, or None.

    Returns:
        The launcher.

    Raises:
        ValueError: if the name is unknown, the place cannot be imported, or the engine refuses a value.
    """
    if ":" not in name and name not in LAUNCHERS:
        raise ValueError(f"--launcher: unknown launcher '{name}' ({closest(name, LAUNCHERS)}; or module:Class)")
    module, _, cls = LAUNCHERS.get(name, name).partition(":")
    try:
        launcher = getattr(import_module(module), cls)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"--launcher: expected module:Class, got '{name}': {error}") from error
    return launcher(jobs, threads, timeout)


class Local:
    """Jobs one after the other in this process."""

    def __init__(self, jobs: int, threads: int, timeout: float | None) -> None:
        """See the module.

        Raises:
            ValueError: if jobs should run side by side or be ended.
        """
        if jobs != 1 or timeout is not None:
            raise ValueError("--launcher: 'local' runs one job at a time and cannot end it; use 'processes'")
        self._threads = threads

    def submit(self, function: Callable[..., Any], *args: Any) -> Future:  # noqa: ANN401
        """Run the job now."""
        import torch  # this process computes, so it is needed anyway

        torch.set_num_threads(self._threads)
        future: Future = Future()
        try:
            future.set_result(function(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def shutdown(self) -> None:
        """Nothing runs any more."""


class Processes:
    """Jobs in processes of this machine, each with a worker of its own that lives from job to job.

    The death of a worker fails its own job only; another worker takes its place. No worker outlives this process.
    """

    def __init__(self, jobs: int, threads: int, timeout: float | None) -> None:
        """See the module; a worker starts with its first job."""
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
    for name in _THREAD_SETTINGS:
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

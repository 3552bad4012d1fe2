"""The Ray cluster that `RAY_ADDRESS` names, or one of this machine alone, and one training by processes there.

The process that is told to fit is the first worker, reads and writes all there is, and does what torchrun's first does;
Ray starts the others where it has room.
"""

import importlib.util
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from deep_clustering.training.threads import THREAD_SETTINGS

if TYPE_CHECKING:
    import numpy as np
    from torch.distributed import Store, TCPStore

    from deep_clustering.training.checkpoints import Checkpoints

logger = logging.getLogger(__name__)

# Until the machine of an address must take a connection; a cluster there, or a worker's first one, must answer.
_CONNECT_SECONDS, _ANSWER_SECONDS = 5.0, 20.0
# Until all workers must have begun, between looks whether they have, and until Ray must know of a death.
_BEGIN_SECONDS, _LOOK_SECONDS, _END_SECONDS = 120.0, 0.2, 10.0
# Ray reports its use to its makers, and under `uv run` builds the environment of each worker anew.
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
LAUNCHER = "parallel.launcher"


def check_ray(where: str) -> None:
    """Refuse a Ray that is not there, which it would itself wait for.

    Args:
        where: The option that asks for it.

    Raises:
        ValueError: if it is not installed, or no cluster answers at `RAY_ADDRESS`.
    """
    if importlib.util.find_spec("ray") is None:
        raise ValueError(f"{where}: 'ray' needs Ray, which is not installed: pip install 'deep-clustering[ray]'")
    address = os.environ.get("RAY_ADDRESS", "")
    if address in ("", "auto", "local"):
        return
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"{where}: RAY_ADDRESS expected host:port of the head of a cluster, got '{address}'")
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
        if "://" not in address:  # that of a client is no head's
            _ask(address)
    except (OSError, subprocess.SubprocessError) as error:
        raise ValueError(
            f"{where}: no Ray cluster answers at RAY_ADDRESS={address} ({error}); start its head by `ray start "
            "--head`, or unset RAY_ADDRESS for a cluster of this machine alone"
        ) from error


@cache  # a process that takes seconds, for what is looked at before a run and where it begins to compute
def _ask(address: str) -> None:
    """How a cluster is; by a process that can be ended, since Ray asks whatever is there for minutes."""
    call = [sys.executable, "-m", "ray.scripts.scripts", "status", "--address", address]
    with suppress(subprocess.CalledProcessError):  # an answer, of which `ray.init` says what is wrong
        subprocess.run(call, check=True, capture_output=True, timeout=_ANSWER_SECONDS)


def connect(where: str, n_cores: int) -> bool:
    """Join the cluster that `RAY_ADDRESS` names, or start one that has room for all jobs, however many cores there are.

    Args:
        where: The option that asks for it.
        n_cores: Processors that the jobs take together.

    Returns:
        Whether this process was not connected before.

    Raises:
        ValueError: if Ray is not installed, or no cluster answers.
    """
    check_ray(where)
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        return False
    address, quiet = os.environ.get("RAY_ADDRESS"), {"logging_level": "ERROR", "log_to_driver": False}
    try:
        if address:
            ray.init(address=address, **quiet)
        else:
            ray.init(address="local", num_cpus=n_cores, include_dashboard=False, **quiet)
    except (RuntimeError, ConnectionError, ValueError) as error:
        raise ValueError(f"{where}: no Ray cluster at {address or 'this machine'}: {error}") from error
    return True


def in_processes(function: Callable[..., Any], threads: int, n_calls: int = 0) -> Any:  # noqa: ANN401 - Ray's
    """A function that Ray calls in processes with so many threads, which take so many jobs, or with 0 any number.

    Imports take seconds, so that short jobs are better taken by processes that have taken some before.
    """
    import ray

    settings = dict.fromkeys(THREAD_SETTINGS, str(threads))
    return ray.remote(num_cpus=threads, max_calls=n_calls, max_retries=0, runtime_env={"env_vars": settings})(function)


def fit_on_ray(
    n_workers: int,
    model: Any,  # noqa: ANN401
    rows: "np.ndarray",
    neighbours: "np.ndarray | None",
    checkpoints: "Checkpoints",
    weights: "np.ndarray | None",
    **more: Any,  # noqa: ANN401
) -> Any:  # noqa: ANN401
    """Fit a method by this process and others on a Ray cluster.

    Args:
        n_workers: How many processes, with this one.
        model: The method.
        rows: The rows, shape (n_samples, ...); a memory map is opened by each process, else all are sent the rows.
        neighbours: Nearest rows of each, or None.
        checkpoints: Where the state of the training is kept; this process reads and writes it.
        weights: How much each row counts, or None.
        **more: Further arguments of the fit.

    Returns:
        The fitted method.

    Raises:
        ValueError: if the method or its options do not train so, there is no cluster, or a worker has other versions
            or finds other rows.
        TimeoutError: if the cluster has no room for the workers.
        ChildProcessError: if a worker ends before the fit does.
    """
    from deep_clustering.training.meeting import Meeting, introduce
    from deep_clustering.training.parallel import check_workers
    from deep_clustering.training.workers import CommonCheckpoints

    check_workers(model, rows, n_workers)
    import torch

    is_ours = connect(LAUNCHER, (n_workers - 1) * torch.get_num_threads())
    import ray

    store = torch.distributed.TCPStore("localhost", 0, n_workers, is_master=True, wait_for_workers=False)
    introduce(store, 0)
    try:
        with _started(store, n_workers, torch.get_num_threads()):
            meeting = Meeting.of(store, 0, n_workers)
            try:
                return meeting.fit((model, CommonCheckpoints.like(checkpoints), weights, more), (rows, neighbours))
            finally:
                meeting.end()
    finally:
        if is_ours:  # the next fit may need another room
            ray.shutdown()


@contextmanager
def _started(store: "TCPStore", n_workers: int, threads: int) -> Iterator[None]:
    """Further workers at work, as many to a node as it has room for; they are ended at the end, however it comes."""
    import ray

    start = in_processes(_work, threads, n_calls=1).options(scheduling_strategy="SPREAD")
    address = (ray.util.get_node_ip_address(), store.port)
    jobs = {start.remote(rank, n_workers, address, threads): rank for rank in range(1, n_workers)}
    try:
        _wait_for(jobs, store, threads)
        logger.info("training by %d workers, beside this process %s", n_workers, _listed(store, list(jobs.values())))
        yield
    except RuntimeError as error:
        # Of an error of this process the others die, too: theirs is gloo's, as is that of this one if they died first.
        if "gloo" in str(error) and (lost := _lost(jobs, store, _END_SECONDS)):
            raise ChildProcessError(
                f"training: a worker ended before the fit did: {lost}; `kedro resume` goes on from the newest "
                "checkpoint"
            ) from error
        raise
    finally:
        for job in jobs:
            with suppress(Exception):  # it has ended meanwhile
                ray.cancel(job, force=True)


def _work(rank: int, n_workers: int, address: tuple[str, int], threads: int) -> None:
    """A further worker: the same fit, without a word."""
    import torch

    from deep_clustering.training.meeting import Meeting, introduce

    logging.disable(logging.CRITICAL)
    torch.set_num_threads(threads)
    patience = timedelta(seconds=_ANSWER_SECONDS)
    store = torch.distributed.TCPStore(*address, n_workers, is_master=False, timeout=patience)
    store.set_timeout(timedelta(seconds=_BEGIN_SECONDS))
    store.set(_place(rank), f"process {os.getpid()} on {socket.gethostname()}")
    introduce(store, rank)
    Meeting.of(store, rank, n_workers).fit()


def _wait_for(jobs: dict[Any, int], store: "Store", threads: int) -> None:
    """Until all have begun; one that could not would be waited for in vain."""
    import ray

    from deep_clustering.training.meeting import named

    until = time.monotonic() + _BEGIN_SECONDS
    while missing := [rank for rank in jobs.values() if not store.check([named(rank)])]:
        # One that has introduced itself has failed by what this process is about to find, too.
        if (lost := _lost(jobs, store, _LOOK_SECONDS)) and not store.check([named(rank) for rank in missing]):
            raise ChildProcessError(f"{LAUNCHER}: a worker could not begin: {lost}")
        if time.monotonic() > until:
            total, free = (of.get("CPU", 0) for of in (ray.cluster_resources(), ray.available_resources()))
            raise TimeoutError(
                f"{LAUNCHER}: {_listed(store, missing)} did not begin within {_BEGIN_SECONDS:g} s: each takes "
                f"{threads} processors of a node, and of the {total:g} of the cluster {free:g} are free; expected room "
                f"for {len(jobs)} beside this process"
            )


def _lost(jobs: dict[Any, int], store: "Store", seconds: float) -> str:
    """The worker that fails first within some seconds, and why; those that only miss another one come last."""
    import ray
    from ray import exceptions

    until, running, said = time.monotonic() + seconds, list(jobs), ""
    while running and (left := until - time.monotonic()) > 0:
        ended, running = ray.wait(running, timeout=left)
        for job in ended:
            worker = _listed(store, [jobs[job]])
            try:
                ray.get(job)
            except exceptions.RayTaskError as error:
                said = said or f"{worker}: {error.cause}"
            except exceptions.RayError as error:
                return f"{worker}: its process or node died: killed, out of memory, or crashed ({error})"
    return said


def _listed(store: "Store", ranks: list[int]) -> str:
    """Workers, with where they are if that is known."""
    places = {rank: store.get(_place(rank)).decode() for rank in ranks if store.check([_place(rank)])}
    return ", ".join(f"worker {rank}" + (f" ({places[rank]})" if rank in places else "") for rank in ranks)


def _place(rank: int) -> str:
    return f"place of worker {rank}"

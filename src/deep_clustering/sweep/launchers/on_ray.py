"""Jobs on a Ray cluster: the one that `RAY_ADDRESS` names, or one of this machine that ends with the sweep."""

import importlib.util
import os
import socket
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from deep_clustering.sweep.launchers.processes import THREAD_SETTINGS, WorkerDied

# Seconds in which the head of a cluster must answer.
_ANSWER_SECONDS = 5.0
# Ray reports its use to its makers, and under `uv run` builds the environment of each worker anew.
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}


class OnRay:
    """Each job in a process of its own on some node of a cluster.

    The death of a process or of a node fails its own job only. The seconds that a job may take include the start of its
    process. Every node needs the project and its packages at the same paths.
    """

    def __init__(self, jobs: int, threads: int, timeout: float | None) -> None:
        """See `deep_clustering.sweep.launchers`.

        Raises:
            ValueError: if Ray is not installed, or no cluster answers.
        """
        if importlib.util.find_spec("ray") is None:
            raise ValueError("--launcher: 'ray' needs Ray, which is not installed: pip install 'deep-clustering[ray]'")
        address = os.environ.get("RAY_ADDRESS")
        if address:
            _check_answer(address)
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        import ray

        self._timeout, self._is_ours = timeout, not ray.is_initialized()
        if self._is_ours:
            _connect(address, jobs * threads)
        self.n_nodes = sum(bool(node["Alive"]) for node in ray.nodes())
        settings = dict.fromkeys(THREAD_SETTINGS, str(threads))
        self._job = ray.remote(
            num_cpus=threads, max_calls=1, max_retries=0, runtime_env={"env_vars": settings}
        )(_call)  # fmt: skip
        self._running: set[Any] = set()
        self._waiting = ThreadPoolExecutor(jobs, thread_name_prefix="launcher")

    def submit(self, function: Callable[..., Any], *args: Any) -> Future:  # noqa: ANN401
        """Run the job as soon as fewer than `jobs` run and a node has room for it.

        The future raises `WorkerDied` if its process or node died, and `TimeoutError` if the job took too long.
        """
        return self._waiting.submit(self._run, function, args)

    def shutdown(self) -> None:
        """End all jobs; a cluster of somebody else stays."""
        import ray

        self._waiting.shutdown(wait=False, cancel_futures=True)
        for job in list(self._running):
            with suppress(Exception):  # it has ended meanwhile
                ray.cancel(job, force=True)
        self._waiting.shutdown(wait=True)
        if self._is_ours:
            ray.shutdown()

    def _run(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:  # noqa: ANN401
        import ray
        from ray import exceptions

        job = self._job.remote(function, args)
        self._running.add(job)
        try:
            return ray.get(job, timeout=self._timeout)
        except exceptions.GetTimeoutError as error:
            ray.cancel(job, force=True)
            raise TimeoutError(f"it took more than {self._timeout:g} s") from error
        except exceptions.RayTaskError as error:
            raise error.cause from None
        except exceptions.RayError as error:
            raise WorkerDied(f"its process or node died: killed, out of memory, or crashed ({error})") from error
        finally:
            self._running.discard(job)


def _call(function: Callable[..., Any], args: tuple[Any, ...]) -> Any:  # noqa: ANN401
    return function(*args)


def _connect(address: str | None, n_cores: int) -> None:
    """Join a cluster, or start one that has room for all jobs, however many cores there are."""
    import ray

    quiet = {"logging_level": "ERROR", "log_to_driver": False}
    try:
        if address:
            ray.init(address=address, **quiet)
        else:
            ray.init(address="local", num_cpus=n_cores, include_dashboard=False, **quiet)
    except (RuntimeError, ConnectionError, ValueError) as error:
        raise ValueError(f"--launcher: no Ray cluster at {address or 'this machine'}: {error}") from error


def _check_answer(address: str) -> None:
    """Refuse an address where nothing answers, which Ray would wait for."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if address in ("auto", "local"):
        return
    if not host or not port.isdigit():
        raise ValueError(f"--launcher: RAY_ADDRESS expected host:port of the head of a cluster, got '{address}'")
    try:
        socket.create_connection((host, int(port)), timeout=_ANSWER_SECONDS).close()
    except OSError as error:
        raise ValueError(
            f"--launcher: no Ray cluster answers at RAY_ADDRESS={address} ({error}); start its head by `ray start "
            "--head`, or unset RAY_ADDRESS for a cluster of this machine alone"
        ) from error

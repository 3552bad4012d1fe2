"""Jobs on a Ray cluster: the one that `RAY_ADDRESS` names, or one of this machine that ends with the sweep."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from deep_clustering.sweep.launchers.processes import WorkerDied
from deep_clustering.training.on_ray import connect, in_processes


class OnRay:
    """Each job in a process on some node of a cluster, which lives from job to job.

    The death of a process or of a node fails its own job only. The seconds that a job may take include the start of a
    new process. Every node needs the project and its packages at the same paths.
    """

    def __init__(self, jobs: int, threads: int, timeout: float | None) -> None:
        """See `deep_clustering.sweep.launchers`.

        Raises:
            ValueError: if Ray is not installed, or no cluster answers.
        """
        self._timeout, self._is_ours = timeout, connect("--launcher", jobs * threads)
        import ray

        self.n_nodes = sum(bool(node["Alive"]) for node in ray.nodes())
        self._job = in_processes(_call, threads)
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

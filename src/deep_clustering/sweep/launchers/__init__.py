"""Where independent jobs run: in this process, in processes of this machine, or wherever another engine puts them.

An engine is a class with

    __init__(jobs, threads, timeout)     jobs at a time, threads for each, seconds that one may take or None
    submit(function, *args) -> Future    a module-level function, plain picklable arguments and result
    shutdown()                           ends what still runs, and every process behind it
    n_nodes                              machines that it uses; 1 where it does not say

`LAUNCHERS` names the classes; an engine of somebody else is named by its place, "module:Class".
"""

from collections.abc import Callable
from concurrent.futures import Future
from importlib import import_module
from typing import Any, Protocol

from deep_clustering.options import closest
from deep_clustering.sweep.launchers.local import Local
from deep_clustering.sweep.launchers.processes import Processes, WorkerDied

__all__ = ["LAUNCHERS", "Launcher", "Local", "Processes", "WorkerDied", "make_launcher"]

# Named by their place, so that an engine with libraries of its own is only imported where it is used.
LAUNCHERS = {
    "local": "deep_clustering.sweep.launchers.local:Local",
    "processes": "deep_clustering.sweep.launchers.processes:Processes",
    "ray": "deep_clustering.sweep.launchers.on_ray:OnRay",
}


class Launcher(Protocol):
    """What every engine offers."""

    def submit(self, function: Callable[..., Any], *args: Any) -> Future:  # noqa: ANN401
        """Run `function(*args)` some time; its result or error is the future's."""

    def shutdown(self) -> None:
        """End what still runs and give everything back."""


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

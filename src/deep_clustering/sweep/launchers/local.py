"""Jobs one after the other in this process."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


class Local:
    """Jobs one after the other in this process."""

    def __init__(self, jobs: int, threads: int, timeout: float | None) -> None:
        """See `deep_clustering.sweep.launchers`.

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

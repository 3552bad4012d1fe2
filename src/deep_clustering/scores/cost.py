"""What a computation costs: wall time, processor time and peak memory."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

_PREFIX = "cost_"

# The peaks that a reset would have forgotten.
_before_reset: dict[str, float] = {}


@contextmanager
def measure_cost() -> Iterator[dict[str, np.ndarray]]:
    """Measure what happens inside the `with` block.

    The peaks are those of the block where the system lets them be reset (Linux, CUDA), else of the process so far.

    Yields:
        A dictionary that is filled when the block ends: `cost_wall_seconds`, `cost_cpu_seconds` (of all threads of this
        process), `cost_peak_memory_mb` (resident, of 2^20 bytes, left out where it is unknown) and, if a graphics
        processor is used, `cost_peak_gpu_memory_mb`; each a float64 scalar.
    """
    cost: dict[str, np.ndarray] = {}
    _reset_peaks()
    wall, cpu = time.perf_counter(), time.process_time()
    yield cost
    values = {"wall_seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu, **_current_peaks()}
    cost.update({f"{_PREFIX}{name}": np.array(value, dtype=np.float64) for name, value in values.items()})


def is_cost(name: str) -> bool:
    """Whether an entry of a history is a cost, a scalar, and no diagnostic of the epochs."""
    return name.startswith(_PREFIX)


def costs_of(history: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The costs among the entries of a history, without their prefix."""
    return {name.removeprefix(_PREFIX): float(value) for name, value in history.items() if is_cost(name)}


def peak_memory() -> dict[str, float]:
    """Largest memory use of this process so far, also on the graphics processor, in MB of 2^20 bytes."""
    return {name: max(value, _before_reset.get(name, 0)) for name, value in _current_peaks().items()}


def _current_peaks() -> dict[str, float]:
    """The peaks since the last reset."""
    peaks = {}
    if sys.platform == "linux":
        lines = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace").splitlines()
        kilobytes = next((line.split()[1] for line in lines if line.startswith("VmHWM:")), None)
        if kilobytes is not None:
            peaks["peak_memory_mb"] = int(kilobytes) / 2**10
    elif sys.platform == "darwin":
        import resource

        peaks["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # in bytes there
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        peaks["peak_gpu_memory_mb"] = torch.cuda.max_memory_allocated() / 2**20
    return peaks


def _reset_peaks() -> None:
    """Let the peaks start from now, where the system permits it."""
    _before_reset.update(peak_memory())
    with suppress(OSError):  # another system, or a container that keeps the file from being written
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # 5 resets VmHWM, see proc_pid_clear_refs(5)
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()

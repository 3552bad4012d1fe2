"""The least memory that a fit of many rows takes, said before it begins; one that cannot fit is refused."""

import logging
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

if TYPE_CHECKING:  # baselines ask for the memory, too, and do without torch
    import torch

logger = logging.getLogger(__name__)

# What needs less, in bytes, is not worth a line.
_WORTH_SAYING = 2**28
# Outputs of a network for all rows that are held at once, as far as every method holds them; `methods.all_rows` has no
# more.
MOST_OUTPUTS = 2**25
_INDEX_BYTES, _OUTPUT_BYTES, _CLUSTER_BYTES = 8, 4, 2
_MEMORY_INFO, _CGROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")


@dataclass(frozen=True, kw_only=True)
class Need:
    """Memory that is held for one purpose."""

    what: str
    n_bytes: int
    remedy: str = ""
    """What makes it less; empty where nothing does."""


def needs_of_fit(
    features: np.ndarray | sparse.csr_matrix,
    *,
    n_neighbours: int,
    n_outputs: int,
    n_snapshots: int,
    device: "torch.device",
) -> list[Need]:
    """What a fit holds in main memory for all rows, beside the rows as they were given.

    Args:
        features: The rows, shape (n_samples, ...).
        n_neighbours: Nearest rows of each.
        n_outputs: Numbers that the network gives for a row.
        n_snapshots: How often the clusters of all rows are kept.
        device: Where the fit runs.

    Returns:
        The needs; their sum is a lower bound.
    """
    n_samples, on_host = features.shape[0], device.type != "cuda"
    needs = []
    if on_host and isinstance(features, np.ndarray) and not isinstance(features, np.memmap):
        n_bytes = n_samples * math.prod(features.shape[1:]) * _OUTPUT_BYTES
        needs.append(Need(what="a copy of the rows", n_bytes=n_bytes, remedy="map them: lower mmap_above of features"))
    if on_host:
        table = n_samples * n_neighbours * _INDEX_BYTES
        needs.append(Need(what="near rows", n_bytes=table, remedy="lower neighbours.k"))
        outputs = min(n_samples * n_outputs, MOST_OUTPUTS) * _OUTPUT_BYTES
        needs.append(Need(what="outputs of the network", n_bytes=outputs))
    needs.append(Need(what="the order of an epoch", n_bytes=n_samples * _INDEX_BYTES))
    # Once as they are taken, once as they are put together.
    snapshots = 2 * n_samples * n_snapshots * _CLUSTER_BYTES
    needs.append(Need(what=f"{n_snapshots} snapshots", n_bytes=snapshots, remedy="raise record_every"))
    return needs


def check_memory(name: str, n_samples: int, needs: list[Need], free: int | None) -> None:
    """Say what a fit needs if it is much, and refuse it if there is less.

    Args:
        name: The method, for the messages.
        n_samples: Number of rows.
        needs: What it holds.
        free: Bytes that a process can have here; None if nobody knows.

    Raises:
        ValueError: if they are fewer than are needed, with what would make the fit need less.
    """
    total = sum(need.n_bytes for need in needs)
    if total < _WORTH_SAYING:
        return
    if free is None or total <= free:
        beside = "" if free is None else f", {_gigabytes(free)} are free"
        logger.info("%s: %d rows need at least %s of memory%s", name, n_samples, _gigabytes(total), beside)
        return
    largest = sorted((need for need in needs if need.remedy), key=lambda need: -need.n_bytes)
    ways = "; ".join(f"{_gigabytes(need.n_bytes)} for {need.what} ({need.remedy})" for need in largest if need.n_bytes)
    raise ValueError(
        f"{name}: {n_samples} rows need at least {_gigabytes(total)} of memory and {_gigabytes(free)} are free; {ways}"
    )


def free_memory() -> int | None:
    """Bytes that this process can have without taking them from another; None where the system does not say."""
    if sys.platform != "linux":
        return None
    available = _numbers(_MEMORY_INFO).get("MemAvailable:")
    if available is None:
        return None
    free = available * 1024
    limit, used = (_number(_CGROUP / name) for name in ("memory.max", "memory.current"))
    if limit is not None and used is not None:  # a container has less than its machine
        cached = _numbers(_CGROUP / "memory.stat").get("inactive_file", 0)
        free = min(free, limit - used + cached)
    return max(free, 0)


def _numbers(file: Path) -> dict[str, int]:
    """The number behind each name, of the lines that have one."""
    try:
        lines = [line.split() for line in file.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return {}
    return {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdigit()}


def _number(file: Path) -> int | None:
    try:
        text = file.read_text(encoding="utf-8").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _gigabytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.1f} GB"

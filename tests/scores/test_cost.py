"""What a fit costs: time, memory, and where the figures go."""

import mmap
import os
import time
from types import SimpleNamespace

import numpy as np
import pytest

from deep_clustering.pipelines.training.nodes import fit
from deep_clustering.scores import cost
from deep_clustering.scores.cost import costs_of, is_cost, measure_cost, peak_memory

MB = 2**20


def touch(n_bytes: int) -> None:
    """Use fresh memory and give it back; an array might lie in memory that an earlier one has left to the process."""
    with mmap.mmap(-1, n_bytes) as block:
        block[::4096] = b"1" * len(range(0, n_bytes, 4096))


def test_waiting_costs_wall_time_and_computing_costs_processor_time():
    with measure_cost() as waiting:
        time.sleep(0.2)
    with measure_cost() as computing:
        end = time.process_time() + 0.2
        while time.process_time() < end:
            pass
    waiting, computing = costs_of(waiting), costs_of(computing)
    assert waiting["wall_seconds"] >= 0.2 > waiting["cpu_seconds"]
    assert computing["wall_seconds"] >= computing["cpu_seconds"] * 0.9
    assert computing["cpu_seconds"] >= 0.2


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="the system cannot reset the peak")
def test_the_peak_counts_memory_that_was_given_back_but_not_what_came_before():
    touch(300 * MB)
    with measure_cost() as little:
        pass
    with measure_cost() as much:
        touch(100 * MB)
    growth = costs_of(much)["peak_memory_mb"] - costs_of(little)["peak_memory_mb"]
    assert 90 < growth < 130
    assert peak_memory()["peak_memory_mb"] >= costs_of(little)["peak_memory_mb"] + 250  # of the whole process


def test_the_cost_of_a_fit_is_in_its_history_and_is_no_column_of_the_epochs(tmp_path):
    rows = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    options = {"method": "kmeans", "n_clusters": 2, "seed": 0, "n_init": 1}
    checkpoints = {"every": 0, "resume": False, "folder": str(tmp_path)}
    clusters = {"feedback": None, "model": "latest", "numbers_of": None, "folder": str(tmp_path)}
    data = rows, np.full(40, 3, dtype=np.uint8), np.zeros((40, 0), dtype=np.int32), np.arange(40, dtype=np.uint64)
    data = *data, np.ones(40, dtype=np.float32)
    _, history = fit(*data, options, checkpoints, clusters, {"workers": 1, "launcher": "local"})
    costs = costs_of(history)
    assert {"wall_seconds", "cpu_seconds"} <= set(costs)
    assert all(value >= 0 for value in costs.values())
    assert not any(is_cost(name) for name in ("epoch", "loss", "snapshot_epoch"))
    assert all(history[f"cost_{name}"].shape == () for name in costs)


@pytest.mark.parametrize("name", ["cost_wall_seconds", "cost_anything"])
def test_costs_are_told_by_their_prefix(name):
    assert costs_of({name: np.array(2.0), "loss": np.zeros(3)}) == {name.removeprefix("cost_"): 2.0}


@pytest.mark.parametrize(
    ("platform", "status", "expected"),
    [
        ("linux", "Name:\tpython\nVmHWM:\t    3072 kB\nVmRSS:\t 10 kB\n", {"peak_memory_mb": 3.0}),  # of 1,024 bytes
        ("linux", "Name:\tpython\n", {}),  # as of a kernel thread, or in some containers
        ("darwin", None, {"peak_memory_mb": 5.0}),
        ("win32", None, {}),
    ],
)
def test_the_peak_is_in_the_units_of_each_system(monkeypatch, platform, status, expected):
    monkeypatch.setattr(cost, "_before_reset", {})
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setattr(cost.Path, "read_text", lambda *_, **__: status)
    monkeypatch.setattr("resource.getrusage", lambda _: SimpleNamespace(ru_maxrss=5 * MB))  # of bytes, on macOS
    assert peak_memory() == expected

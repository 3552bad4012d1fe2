"""What a fit costs: time, memory, and where the figures go."""

import os
import time

import numpy as np
import pytest

from deep_clustering.pipelines.training.nodes import fit
from deep_clustering.scores.cost import costs_of, is_cost, measure_cost, peak_memory

MB = 2**20


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
    before = np.ones(300 * MB // 8)
    del before
    with measure_cost() as little:
        pass
    with measure_cost() as much:
        block = np.ones(100 * MB // 8)
        del block
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

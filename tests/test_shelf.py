"""The table of `benchmarks/shelf.py` in the documentation is the one that its command makes of the runs on file."""

import importlib.util
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
RUNS = ROOT / "docs/results/shelf.csv"


@pytest.fixture(scope="module")
def shelf():
    spec = importlib.util.spec_from_file_location("shelf", ROOT / "benchmarks/shelf.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_documented_table_is_made_of_the_runs_on_file(shelf):
    assert shelf.summarise(RUNS) in (ROOT / "docs/recommendation.md").read_text()


def test_every_set_is_on_file_with_three_seeds_and_one_recommendation_each(shelf):
    runs = pd.read_csv(RUNS)
    recommended = runs.groupby(["set", "seed"]).recommended.sum()
    assert set(recommended.index) == {(name, seed) for name in shelf.SHELF for seed in (0, 1, 2)}
    assert (recommended == 1).all()


def test_a_table_by_hand(shelf, tmp_path):
    """Two sets of two methods: means, gaps and correlations that are easy to check."""
    lines = [
        ("a", 0, "dcan", 0.9, 2.0, 1),
        ("a", 0, "kmeans", 0.8, 1.0, 0),
        ("a", 0, shelf.RAW, 0.5, None, 0),
        ("b", 0, "dcan", 0.6, 1.0, 0),
        ("b", 0, "kmeans", 0.7, 2.0, 1),
        ("b", 0, shelf.RAW, 0.7, None, 0),
    ]
    frame = pd.DataFrame(lines, columns=["set", "seed", "method", "acc", "score", "recommended"])
    frame["run_cpu_seconds"] = 10.0
    frame.to_csv(tmp_path / "runs.csv", index=False)
    table = shelf.summarise(tmp_path / "runs.csv")
    assert "| a | dcan | 0.900 | 0.800 | 0.500 | 1.00 | 10 |" in table
    assert "| b | kmeans | 0.700 | 0.700 | 0.700 | 1.00 | 10 |" in table
    assert "best baseline: mean +0.050, least +0.000; less k-means: mean +0.200" in table

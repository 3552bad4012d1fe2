"""Tables of `benchmarks/shelf.py` and its like in the documentation are those of the runs on file."""

import importlib
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def benchmark_module(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module


@pytest.fixture
def shelf(benchmark_module):
    return benchmark_module("shelf")


@pytest.mark.parametrize("name", ["shelf", "more_tables", "kept_aside"])
def test_the_documented_table_is_made_of_the_runs_on_file(shelf, name):
    made = shelf.summarise(ROOT / f"docs/results/{name}.csv")
    assert f"<!-- {name} -->\n{made}\n<!-- /{name} -->" in (ROOT / "docs/recommendation.md").read_text()


@pytest.mark.parametrize(("name", "sets"), [("shelf", "SHELF"), ("more_tables", "SETS"), ("kept_aside", "SETS")])
def test_every_set_is_on_file_with_three_seeds_and_one_recommendation_each(benchmark_module, name, sets):
    runs = pd.read_csv(ROOT / f"docs/results/{name}.csv")
    recommended = runs.groupby(["set", "seed"]).recommended.sum()
    named = getattr(benchmark_module(name), sets)
    assert set(recommended.index) == {(one, seed) for one in named for seed in (0, 1, 2)}
    assert (recommended == 1).all()


def test_a_table_that_was_kept_aside_keeps_its_numbers_and_classes(benchmark_module, tmp_path):
    """Rows with an empty cell, numbers of rows and columns of words are left out."""
    rows = pd.DataFrame({"a": [1.0, None, 3.0], "word": ["x", "y", "z"], "kind": ["p", "q", "p"]})
    make = benchmark_module("kept_aside").table("t", lambda _: rows, "kind")(tmp_path)
    assert make(tmp_path, tmp_path) == ["--array", str(tmp_path / "t.csv"), "--labels", "label"]
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "t.csv"), pd.DataFrame({"a": [1.0, 3.0], "label": ["p", "p"]}))


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

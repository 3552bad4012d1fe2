"""`kedro consensus` on a sweep's folder: what it writes, what it adds to the leaderboard, what it refuses."""

import json
import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy import sparse

from deep_clustering.cli import cli
from deep_clustering.datasets import NpzDataset, NumpyDataset, SparseDataset
from deep_clustering.scores.consensus import make_consensus, weigh
from deep_clustering.scores.validity import validity, weigh_by_validity
from deep_clustering.sweep.folder import write_json
from deep_clustering.sweep.leaderboard import ConsensusRequest
from deep_clustering.sweep.leaderboard.consensus_gain import Runs, draw_subsets, find_gain, subset_sizes
from deep_clustering.sweep.leaderboard.consensus_inputs import Truth

VERSION = "2026-01-01T00.00.00.000Z"
SHA = "ab" * 32
LABELS = np.repeat([0, 1, 2], 30)


def posteriors(n_wrong: int, seed: int, n_clusters: int = 3) -> np.ndarray:
    """Of a run that has so many rows in the next cluster, and numbers its clusters in its own way."""
    rng = np.random.default_rng(seed)
    partition = LABELS.copy()
    wrong = rng.permutation(90)[:n_wrong]
    partition[wrong] = (partition[wrong] + 1) % 3
    run = np.full((90, n_clusters), 0.1 / (n_clusters - 1))
    run[np.arange(90), partition] = 0.9
    return run[:, rng.permutation(n_clusters)]


def write_cell(folder: Path, pipeline: str, seed: int, run: np.ndarray, **changes) -> None:
    """A finished cell as a sweep leaves it, with the parts that a consensus reads."""
    id_ = f"{pipeline}-seed{seed}"
    place = folder / "digits" / "cells" / id_
    path = f"07_model_output/digits/{pipeline}/representation.npz/{VERSION}/representation.npz"
    NpzDataset(filepath=str(place / path)).save({"responsibilities": run.astype(np.float32)})
    record = {"env": "digits", "id": id_, "pipeline": pipeline, "variant": "", "seed": seed, "point": {}}
    record |= {"status": "finished", "data_set": "digits", "data_sha256": SHA, "protocol": "all rows"}
    record |= {"parameters": {pipeline: {"method": pipeline}}, "collapsed": False}
    record |= {"metrics": {"acc": 0.5}, "cost": {"cpu_seconds": 2.0, "peak_memory_mb": 100.0 + seed}}
    write_json(place / "cell.json", record | changes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sweep of two methods; the runs of dcan err in 5, 10, 15 and 40 rows, and their scores say so."""
    folder = tmp_path / "sweep"
    write_json(folder / "sweep.json", {"grid": {}})
    rows = folder / "digits/prepared"
    write_json(rows / "prepared.json", {"version": VERSION})
    split = np.full(90, 3, dtype=np.uint8)
    for name, array in (("labels.npy", LABELS), ("split.npy", split)):
        NumpyDataset(filepath=str(rows / f"03_primary/digits/{name}/{VERSION}/{name}")).save(array)
    card = {"n_classes": 3, "sha256": {"samples": SHA}}
    write_json(rows / f"03_primary/digits/data_card.json/{VERSION}/data_card.json", card)
    for seed, n_wrong in enumerate((5, 10, 15, 40)):
        write_cell(folder, "dcan", seed, posteriors(n_wrong, seed), metrics={"pair_log_likelihood": -n_wrong / 10})
    for seed in range(2):
        write_cell(folder, "kmeans", seed, posteriors(9, 10 + seed).round())
    return folder


def consensus(folder: Path, *options: str):
    return CliRunner().invoke(cli, ["consensus", str(folder), "--resamples=20", *options])


def summaries(folder: Path) -> dict[str, dict]:
    return {one["name"]: one for one in json.loads((folder / "consensus.json").read_text())["consensus"]}


@pytest.mark.parametrize(("kind", "word"), [("posteriors", "consensus"), ("coassociation", "co-association")])
def test_a_consensus_is_written_and_stands_in_the_leaderboard(folder, kind, word):
    result = consensus(folder, f"--kind={kind}")
    assert result.exit_code == 0, result.output
    dcan = summaries(folder)[f"dcan ({word} of 4)"]
    rows = pd.read_parquet(folder / dcan["file"])
    assert len(rows) == 90
    counts = pd.crosstab(rows["cluster"], LABELS).to_numpy()
    assert dcan["metrics"]["acc"] == pytest.approx(counts.max(axis=1).sum() / 90)  # each class has its own cluster
    assert dcan["metrics"]["acc"] > 0.9
    assert rows["agreement"].mean() == pytest.approx(dcan["agreement"], abs=1e-6)
    assert [run["acc"] for run in dcan["runs"]] == pytest.approx([85 / 90, 80 / 90, 75 / 90, 50 / 90])
    weights = [run["weight"] for run in dcan["runs"]]
    assert weights == sorted(weights, reverse=True)
    assert sum(weights) == pytest.approx(1, abs=1e-5)
    assert dcan["cost"] == {"cpu_seconds": 8.0, "peak_memory_mb": 103.0}
    assert dcan["gain"]["over_choice"]["value"] == pytest.approx(dcan["metrics"]["acc"] - 85 / 90, abs=1e-6)
    assert dcan["gain"]["over_mean"]["value"] == pytest.approx(dcan["metrics"]["acc"] - 290 / 360, abs=1e-6)
    pair = summaries(folder)[f"kmeans ({word} of 2)"]["gain"]
    assert "over_choice" not in pair
    assert pair["subsets"] == {"n": 0, "drawn": 2, "of": 2}  # a consensus of one run is that run
    assert pair["over_mean"]["low"] is None
    assert "; 2 of 4: " in (folder / "consensus.md").read_text()
    line = pd.read_csv(folder / "leaderboard.csv").set_index("method").loc[f"dcan ({word} of 4)"]
    assert line["acc_mean"] == pytest.approx(dcan["metrics"]["acc"], rel=1e-5)
    assert np.isnan(line["acc_std"])  # one consensus says nothing of another draw of the runs
    assert f"## digits: dcan ({word} of 4)" in (folder / "consensus.md").read_text()
    assert f"dcan ({word} of 4)" in result.output


def test_a_second_call_writes_the_same(folder):
    assert consensus(folder).exit_code == 0
    before = (folder / "consensus.json").read_bytes()
    assert consensus(folder).exit_code == 0
    assert (folder / "consensus.json").read_bytes() == before


def test_one_method_and_all_methods(folder):
    assert consensus(folder, "--method=dcan").exit_code == 0
    assert set(summaries(folder)) == {"dcan (consensus of 4)"}
    assert consensus(folder, "--across").exit_code == 0
    together = summaries(folder)["all methods (consensus of 6)"]
    by_method = pd.DataFrame(together["runs"]).assign(method=lambda runs: runs["id"].str.split("-").str[0])
    assert by_method.groupby("method")["weight"].sum().to_dict() == pytest.approx(
        {"dcan": 0.5, "kmeans": 0.5}, abs=1e-5
    )
    assert set(together["gain"]) == {"subsets", "over_mean"}
    assert together["gain"]["subsets"] == {"n": 12, "drawn": 3, "of": 6}  # two of four, and one of two: 6 x 2 choices


def test_a_consensus_of_fewer_runs_than_there_are_leaves_the_leaderboard(folder, caplog):
    assert consensus(folder).exit_code == 0
    write_cell(folder, "dcan", 4, posteriors(5, 4))
    result = CliRunner().invoke(cli, ["leaderboard", str(folder)])
    assert "dcan (consensus of 4)" not in result.output
    assert "kmeans (consensus of 2)" in result.output
    assert "dcan (consensus of 4) is not of all runs by now" in caplog.text


def test_rows_without_labels_have_a_consensus_and_no_scores(folder):
    (labels,) = folder.glob("digits/prepared/**/labels.npy/*/labels.npy")
    np.save(labels, np.full(90, -1))
    assert consensus(folder, "--method=dcan").exit_code == 0
    dcan = summaries(folder)["dcan (consensus of 4)"]
    assert set(dcan["metrics"]) == {"n_occupied", "balance", "largest_share"}
    assert dcan["gain"] is None
    assert {run["acc"] for run in dcan["runs"]} == {None}


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"data_sha256": "cd" * 32}, [], "dcan-seed0 and dcan-seed5 are not of the same rows .sha256 abababababab and"),
        ({}, ["--method=dcam"], "no finished run of 'dcam' .did you mean 'dcan'"),
        ({}, ["--weights=valid"], "unknown weights 'valid' .did you mean 'validity'"),
        ({}, ["--kind=posterior"], "unknown kind 'posterior' .did you mean 'posteriors'"),
    ],
)
def test_what_has_no_consensus_is_refused_and_nothing_is_written(folder, change, options, message):
    write_cell(folder, "dcan", 5, posteriors(5, 5), **change)
    result = consensus(folder, *options)
    assert result.exit_code == 1
    assert re.search(message, result.output), result.output
    assert not (folder / "consensus.json").exists()


def test_runs_of_several_numbers_of_clusters_want_the_coassociation(folder):
    write_cell(folder, "dcan", 5, posteriors(5, 5, n_clusters=4), metrics={"pair_log_likelihood": -0.4})
    result = consensus(folder, "--method=dcan")
    assert result.exit_code == 1
    assert "digits/dcan: consensus of posteriors: expected runs of one number of clusters, got [3, 4]" in result.output
    assert consensus(folder, "--method=dcan", "--kind=coassociation").exit_code == 0


def test_outputs_that_are_gone_and_folders_without_a_sweep_are_named(folder, tmp_path):
    (file,) = folder.glob("digits/cells/dcan-seed1/**/representation.npz/*/representation.npz")
    file.unlink()
    result = consensus(folder)
    assert result.exit_code == 1
    assert "dcan-seed1: no representation.npz below it" in result.output
    assert "there is no sweep.json" in consensus(tmp_path).output


@pytest.mark.parametrize("is_sparse", [False, True])
def test_runs_weigh_by_how_compact_and_apart_their_clusters_are(folder, is_sparse):
    rows = np.random.default_rng(0).normal(np.eye(3)[LABELS], 0.1)
    dataset, name = (SparseDataset, "features.npz") if is_sparse else (NumpyDataset, "features.npy")
    place = folder / f"digits/prepared/04_feature/digits/{name}/{VERSION}/{name}"
    dataset(filepath=str(place)).save(sparse.csr_matrix(rows) if is_sparse else rows)
    assert consensus(folder, "--weights=validity", "--across").exit_code == 0
    dcan = summaries(folder)["dcan (consensus of 4, weights: validity)"]
    partitions = [posteriors(n_wrong, seed).argmax(axis=1) for seed, n_wrong in enumerate((5, 10, 15, 40))]
    expected = weigh_by_validity(np.array([validity(rows, partition) for partition in partitions]))
    assert [run["weight"] for run in dcan["runs"]] == pytest.approx(expected, abs=1e-6)
    together = {
        run["id"]: run["weight"] for run in summaries(folder)["all methods (consensus of 6, weights: validity)"]["runs"]
    }
    assert max(together, key=together.__getitem__) == "dcan-seed0"  # whose rows are wrong the least
    place.unlink()
    assert "features.npy or features.npz is gone" in consensus(folder, "--weights=validity").output


def test_all_runs_may_weigh_the_same(folder):
    assert consensus(folder, "--weights=equal").exit_code == 0
    assert {run["weight"] for run in summaries(folder)["dcan (consensus of 4, weights: equal)"]["runs"]} == {0.25}


def runs_of(runs: list[np.ndarray], scores: list[float]) -> Runs:
    truth = Truth(LABELS, np.ones(90, dtype=bool), 3)
    rules = [("pair_log_likelihood", "max")]
    return Runs(responsibilities=runs, scores=[np.array(scores)], rules=rules, truth=truth, kind="posteriors")


def test_the_spread_of_equal_runs_is_a_point():
    run = posteriors(9, 0)
    gain = find_gain(runs_of([run, run, run], [1.0, 2.0, 3.0]), 10)
    point = {"value": 0, "mean": 0, "low": 0, "high": 0}
    assert gain == {"subsets": {"n": 3, "drawn": 2, "of": 3}, "over_mean": point, "over_choice": point}


def test_the_spread_is_that_of_the_consensuses_of_all_halves():
    wrong, scores = (5, 10, 15, 40, 30), [0.5, 0.1, 0.4, 0.2, 0.3]
    runs = [posteriors(n, seed) for seed, n in enumerate(wrong)]
    gain = find_gain(runs_of(runs, scores), 1000)
    over_mean, over_choice = [], []
    for some in combinations(range(5), 3):
        consensus = make_consensus([runs[i] for i in some], weigh(np.array([scores[i] for i in some])))
        acc = pd.crosstab(consensus.assignments, LABELS).to_numpy().max(axis=1).sum() / 90
        over_mean.append(acc - np.mean([1 - wrong[i] / 90 for i in some]))
        over_choice.append(acc - (1 - wrong[max(some, key=scores.__getitem__)] / 90))
    assert gain["subsets"] == {"n": 10, "drawn": 3, "of": 5}
    for name, wanted in (("over_mean", over_mean), ("over_choice", over_choice)):
        found = [gain[name][part] for part in ("mean", "low", "high")]
        assert found == pytest.approx([np.mean(wanted), *np.percentile(wanted, [2.5, 97.5])], abs=1e-5), name


def test_no_run_is_drawn_twice():
    subsets = list(draw_subsets([10, 3], [5, 2], 50))
    assert len(subsets) == 50  # of 756
    for first, second in subsets:
        assert (len(set(first.tolist())), len(set(second.tolist()))) == (5, 2)
    again = list(draw_subsets([10, 3], [5, 2], 50))
    assert [[part.tolist() for part in subset] for subset in subsets] == [
        [part.tolist() for part in subset] for subset in again
    ]
    # each of ten runs is in half of the subsets: binomial, fewer than 8 or more than 42 of 50 once in a million cases
    counts = np.bincount(np.concatenate([first for first, _ in subsets]), minlength=10)
    assert ((counts >= 8) & (counts <= 42)).all()


@pytest.mark.parametrize(
    ("sizes", "drawn"), [([10], [5]), ([5], [3]), ([3], [2]), ([2], [2]), ([4, 2], [2, 1]), ([1, 3], [1, 2])]
)
def test_a_subset_has_half_of_the_runs_rounded_up_and_at_least_two(sizes, drawn):
    assert subset_sizes(sizes) == drawn


def test_a_negative_number_of_subsets_is_refused(tmp_path):
    with pytest.raises(ValueError, match="resamples must be at least 0, got -1"):
        ConsensusRequest(folder=tmp_path, resamples=-1)

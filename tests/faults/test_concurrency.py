"""Two runs at the same time: each reads what it has written, and only one can have a version."""

import errno
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from threading import Barrier
from uuid import uuid4

import numpy as np
import pytest
from kedro.io import DataCatalog, DatasetError, Version

from command_line import kedro_run, params
from deep_clustering.datasets import JSONDataset, NumpyDataset
from deep_clustering.methods.baselines import KMeansClusterer
from drawing import spare_drawing
from pipelines.small_project import copy_project, versions

LATER = "2100-01-01T00.00.00.000Z"


def dataset(folder, version, cls=JSONDataset):
    return cls(filepath=str(folder / "value.json"), version=version)


def catalog(folder, save_version):
    entry = {"type": "deep_clustering.datasets.JSONDataset", "filepath": f"{folder}/value.json", "versioned": True}
    return DataCatalog.from_config({"value": entry}, save_version=save_version)


@pytest.mark.parametrize(("mine", "other"), [("a", "b"), ("b", "a")])
def test_each_of_two_interleaved_catalogs_loads_what_it_saved(tmp_path, mine, other):
    first, second = catalog(tmp_path, mine), catalog(tmp_path, other)
    first.save("value", mine)
    second.save("value", other)
    for _ in range(2):
        assert (first.load("value"), second.load("value")) == (mine, other)
        first.release("value")
        second.release("value")
    assert catalog(tmp_path, "c").load("value") == "b"  # the latest
    assert catalog(tmp_path, "c").load("value", version="a") == "a"


def test_a_version_asked_for_is_loaded_even_after_a_save(tmp_path):
    dataset(tmp_path, Version(None, "a")).save("a")
    pinned = dataset(tmp_path, Version("a", "b"))
    with pytest.warns(UserWarning, match="did not match"):
        pinned.save("b")
    assert pinned.load() == "a"


def test_a_run_is_not_disturbed_by_another_that_saves_everything_meanwhile(project, monkeypatch):
    """The other run has fewer rows, so that one array of it in this run would not fit."""
    spare_drawing(monkeypatch)
    other = copy_project(project.parent / "other")
    assert kedro_run(other, "--pipelines=kmeans", params(ingestion__n_rows=150)).exit_code == 0
    fit = KMeansClusterer.fit

    def interrupted_fit(self, *arguments):
        for file in versions(other, "*"):
            if file.is_file():
                target = project / file.relative_to(other).parents[1] / LATER
                target.mkdir()
                shutil.copy(file, target)
        return fit(self, *arguments)

    monkeypatch.setattr(KMeansClusterer, "fit", interrupted_fit)
    before = {path for path in project.rglob("assignments.npy") if path.is_file()}
    nodes = "--from-nodes=kmeans.fit"  # features, labels and data card are inputs of the run
    result = kedro_run(project, "--pipelines=kmeans", nodes, params())
    assert result.exit_code == 0, result.output
    written = {path for path in project.rglob("assignments.npy") if path.is_file()} - before
    (mine,) = (path for path in written if LATER not in path.parts)
    (expected,) = before
    np.testing.assert_array_equal(np.load(mine), np.load(expected))
    score = JSONDataset(
        filepath=str(project / "data/08_reporting/digits/kmeans/scores.json"), version=Version(None, None)
    )
    own, original, _ = (
        JSONDataset(filepath=str(score._filepath), version=Version(version, None)).load()
        for version in (mine.parent.name, expected.parent.name, LATER)
    )
    assert own["metrics"] == original["metrics"]
    assert sum(own["occupancy"]) == 200


def test_a_version_that_another_run_saves_first_is_not_replaced(tmp_path, monkeypatch):
    first, second = (dataset(tmp_path, Version(None, "a")) for _ in range(2))
    write = JSONDataset._write

    def late(self, data, path):
        write(self, data, path)
        if self is second:
            first.save("first")

    monkeypatch.setattr(JSONDataset, "_write", late)
    with pytest.raises(DatasetError, match=r"another run has saved this version meanwhile.* start this one again"):
        second.save("second")
    assert dataset(tmp_path, Version(None, None)).load() == "first"
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["value.json"]


def test_of_many_runs_of_one_millisecond_one_has_the_version(tmp_path):
    n_runs, start = 4, Barrier(4)

    def save(version, run):
        start.wait()
        try:
            dataset(tmp_path, Version(None, version), NumpyDataset).save(np.full(1000, run))
        except DatasetError:
            return None
        return run

    with ThreadPoolExecutor(n_runs) as pool:
        for version in map(str, range(20)):
            (winner,) = set(pool.map(save, [version] * n_runs, range(n_runs))) - {None}
            saved = dataset(tmp_path, Version(version, None), NumpyDataset).load()
            np.testing.assert_array_equal(saved, np.full(1000, winner))
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP])
def test_a_file_system_without_links_will_do(tmp_path, monkeypatch, code):
    def refuse(source, target):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuse)
    dataset(tmp_path, Version(None, "a")).save("a")
    assert dataset(tmp_path, Version(None, None)).load() == "a"
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["value.json"]


def test_what_a_killed_save_left_is_removed_once_it_is_old(tmp_path):
    old, fresh = (tmp_path / "value.json" / version / f".{uuid4().hex}.part" for version in ("a", "b"))
    for part in (old, fresh):
        part.parent.mkdir(parents=True)
        part.write_bytes(b"half")
    os.utime(old, (0, 0))
    dataset(tmp_path, Version(None, "c")).save("c")
    assert not old.exists()
    assert fresh.exists()  # another run may be writing it
    assert dataset(tmp_path, Version(None, None)).list_versions(full_path=False) == ["c"]


@pytest.mark.slow
def test_runs_of_two_processes_in_one_project_keep_apart(tmp_path):
    root = copy_project(tmp_path / "project")
    sizes = (200, 150)
    run = ["-m", "deep_clustering", "--pipelines=kmeans", "--to-nodes=kmeans.assign"]
    processes = [
        subprocess.Popen(
            [sys.executable, *run, params(ingestion__n_rows=size)],
            cwd=root,
            env=os.environ | {"DO_NOT_TRACK": "true", "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for size in sizes
    ]
    for process in processes:
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
    lengths = {}
    for name in ("samples.npy", "labels.npy", "features.npy", "assignments.npy"):
        for path in versions(root, name):
            lengths.setdefault(path.parent.name, set()).add(len(np.load(path)))
    assert sorted(lengths.values(), key=max) == [{size} for size in sorted(sizes)]
    assert all(first != second for first, second in pairwise(sorted(lengths)))

"""Shards by the workers of a Ray cluster: the rows of one process, whatever dies, and what is missing there is said."""

from collections import Counter
from functools import partial

import numpy as np
import pytest
import torch
from kedro.pipeline import Pipeline

import shard_makers
from data.pretrained.small_network import extract
from deep_clustering import hooks
from deep_clustering.data import shards as cache
from deep_clustering.data import shards_on_ray
from deep_clustering.data.shards import fill, open_shards
from deep_clustering.data.shards_on_ray import check_cluster, on_cluster
from deep_clustering.pipelines.features import create_pipeline


@pytest.fixture
def rows(monkeypatch):
    """Shards of 8, 8 and 4 rows, the first number of which is that of the row."""
    monkeypatch.setattr(cache, "ROWS_PER_SHARD", 8)
    return np.arange(20, dtype=np.float32)[:, None] * [1, 0.5]


@pytest.fixture
def given_out(tmp_path):
    """Folder in which workers note the shards that they are given, and a function that counts them."""
    folder = tmp_path / "given_out"
    folder.mkdir()
    return folder, lambda: Counter(int(path.name.split("-")[0]) for path in folder.iterdir())


def filled(tmp_path, rows, make, counts=None):
    shards = open_shards(tmp_path / "cache", {"of": "tests"}, len(rows))
    fill(shards, on_cluster(make, rows.astype(np.float32), Counter() if counts is None else counts), "row", ("numpy",))
    return shards.read()


def test_rows_of_images_are_those_of_one_process_bit_for_bit(
    two_nodes, images, make_options, forwards, monkeypatch, tmp_path
):
    """Batches of 3 in shards of 8: the last batch of a shard is smaller in both."""
    monkeypatch.setattr(cache, "ROWS_PER_SHARD", 8)
    alone = extract(images, make_options(batch_size=3, cache=str(tmp_path / "alone")))
    forwards.clear()
    by_workers = extract(images, make_options(batch_size=3, launcher="ray"))
    assert not forwards  # nothing is computed by this process
    np.testing.assert_array_equal(by_workers, alone)
    # and the shards are those that a process without Ray finds
    np.testing.assert_array_equal(extract(images, make_options(batch_size=3)), alone)
    assert not forwards


def test_a_shard_that_is_there_is_not_computed_again(two_nodes, rows, given_out, tmp_path):
    folder, counted = given_out
    make = partial(shard_makers.doubling, str(folder))
    np.testing.assert_array_equal(filled(tmp_path, rows, make), 2 * rows)
    assert counted() == {0: 1, 8: 1, 16: 1}
    (shard,) = (tmp_path / "cache").glob("*/rows_000000008_*")
    kept = {path: path.stat().st_mtime_ns for path in shard.parent.glob("*.npy") if path != shard}
    shard.unlink()
    counts = Counter()
    np.testing.assert_array_equal(filled(tmp_path, rows, make, counts), 2 * rows)
    assert counted() == {0: 1, 8: 2, 16: 1}
    assert counts == {"rows": 8}
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_a_worker_that_is_killed_loses_its_shard_only(two_nodes, rows, given_out, tmp_path, caplog):
    folder, counted = given_out
    counts = Counter()
    found = filled(tmp_path, rows, partial(shard_makers.doubling, str(folder), first_dies=True), counts)
    np.testing.assert_array_equal(found, 2 * rows)
    assert counted() == {0: 1, 8: 2, 16: 1}
    assert counts == {"rows": 20}
    assert "a worker died over rows 8 to 15: another one takes them" in caplog.text


def test_a_shard_of_which_every_worker_dies_is_named(two_nodes, rows, given_out, tmp_path):
    folder, counted = given_out
    make = partial(shard_makers.doubling, str(folder), all_die=True)
    with pytest.raises(ChildProcessError, match=r"a worker died over rows \d+ to \d+, 3 times: killed, out of memory"):
        filled(tmp_path, rows, make)
    assert max(counted().values()) == 3
    assert not list((tmp_path / "cache").glob("*/*.npy"))


def test_an_error_of_a_worker_is_that_of_the_run(two_nodes, rows, tmp_path):
    with pytest.raises(ValueError, match=r"^no such model here$"):
        filled(tmp_path, rows, shard_makers.failing)


def test_a_cluster_of_small_nodes_is_refused(two_nodes, rows, tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1000)
    with pytest.raises(
        ValueError, match=r"features\.launcher: a shard takes 1000 processors of a node.*largest node has"
    ):
        filled(tmp_path, rows, shard_makers.failing)


def test_workers_of_other_versions_are_refused(two_nodes, rows, tmp_path, monkeypatch):
    own = {**shards_on_ray.versions(), "torch": "2.13.0"}
    monkeypatch.setattr(shards_on_ray, "versions", lambda: own)
    with pytest.raises(ValueError, match=r"workers of different versions: the first has .*torch 2\.13\.0"):
        filled(tmp_path, rows, shard_makers.failing)


# Before a run


def test_ray_that_is_not_there_is_named_before_a_run(make_options, monkeypatch, parameters):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    message = r"features\.launcher: 'ray' needs Ray, .*pip install 'deep-clustering\[ray\]'"
    with pytest.raises(ValueError, match=message):
        check_cluster(make_options(launcher="ray"))
    check_cluster(make_options())
    check_cluster(make_options(launcher="ray", backbone=None))  # which has no shards
    seen = {**parameters["features"], "launcher": "ray", "backbone": "resnet18", "weights": "random"}
    with pytest.raises(ValueError, match=message):
        hooks._check_clusters(create_pipeline(), {"features": seen})
    hooks._check_clusters(Pipeline([]), {"features": seen})


def test_an_address_where_nothing_is_is_refused_before_a_run(make_options, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(ValueError, match=r"features\.launcher: no Ray cluster answers at RAY_ADDRESS=127\.0\.0\.1:1"):
        check_cluster(make_options(launcher="ray"))


def test_a_graphics_processor_is_refused_before_a_run(make_options, monkeypatch):
    monkeypatch.setattr(shards_on_ray, "check_ray", lambda where: None)
    monkeypatch.setattr("deep_clustering.training.rows.resolve_device", lambda name: torch.device("cuda"))
    with pytest.raises(ValueError, match=r"features\.launcher: ray takes processors only, .* got cuda"):
        check_cluster(make_options(launcher="ray"))

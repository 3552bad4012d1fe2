"""One training by the nodes of a Ray cluster: what is missing there is said; see also `test_workers`."""

import json
import os
import socket

import pytest
import torch

from deep_clustering.methods import make_method
from deep_clustering.training import meeting, on_ray
from deep_clustering.training.checkpoints import CheckpointOptions, Checkpoints
from deep_clustering.training.launched import check_launch
from deep_clustering.training.on_ray import check_ray, connect, fit_on_ray
from deep_clustering.training.parallel import ParallelOptions

TWO = ParallelOptions(workers=2, launcher="ray")


@pytest.fixture
def model(tiny_options):
    return make_method(tiny_options("neural_mixture", "vectors", n_clusters=3, batch_size=32, epochs=1))


@pytest.fixture
def checkpoints(tmp_path):
    return Checkpoints(CheckpointOptions(every=0, resume=False, folder=str(tmp_path)), "on_ray")


def test_ray_that_is_not_installed_is_named_before_a_run(monkeypatch, caplog):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        ValueError, match=r"parallel\.launcher: 'ray' needs Ray, .*pip install 'deep-clustering\[ray\]'"
    ):
        check_launch(TWO)
    check_launch(ParallelOptions(workers=1, launcher="ray"))
    assert [record.getMessage() for record in caplog.records] == [
        "parallel.launcher: ray has nothing to start: parallel.workers is 1, this process trains alone"
    ]


@pytest.mark.parametrize(
    ("address", "message"),
    [("head", "expected host:port of the head of a cluster, got 'head'"), ("127.0.0.1:1", "no Ray cluster answers at")],
)
def test_an_address_where_nothing_is_is_refused_before_a_run(monkeypatch, address, message):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ValueError, match=rf"parallel\.launcher: .*{message}"):
        check_launch(TWO)


def test_a_cluster_is_asked_once_however_often_it_is_looked_for(monkeypatch):
    """Before a run, and where a fit begins; whether its machine still takes connections is seen each time."""
    asked = []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr(on_ray.subprocess, "run", lambda call, **_: asked.append(call[-1]))
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"127.0.0.1:{head.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        check_launch(TWO)
        check_ray("--launcher")
    assert asked == [address]
    with pytest.raises(ValueError, match="no Ray cluster answers at"):
        check_ray("--launcher")


def test_the_address_of_a_client_is_no_heads_and_not_asked(monkeypatch):
    """What takes clients speaks another language than a head."""
    asked = []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr(on_ray.subprocess, "run", lambda *call, **_: asked.append(call))
    with socket.create_server(("127.0.0.1", 0)) as head:
        monkeypatch.setenv("RAY_ADDRESS", f"ray://127.0.0.1:{head.getsockname()[1]}")
        check_ray("--launcher")
    assert not asked


@pytest.mark.parametrize("address", ["", "auto", "local"])
def test_what_is_no_address_is_looked_for_by_ray_itself(monkeypatch, address):
    asked = []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr(on_ray.socket, "create_connection", lambda *of, **_: asked.append(of))
    monkeypatch.setenv("RAY_ADDRESS", address)
    check_ray("--launcher")
    assert not asked


def test_without_an_address_a_cluster_of_this_machine_has_room_for_all_jobs(monkeypatch):
    """More than it has processors."""
    ray = pytest.importorskip("ray", reason="Ray is not installed, the extra 'ray'")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)  # as for the cluster of `two_nodes`
    try:
        assert connect("--launcher", os.cpu_count() + 3)
        assert ray.cluster_resources()["CPU"] == os.cpu_count() + 3
    finally:
        ray.shutdown()


def test_a_process_is_connected_once(two_nodes):
    """Who was connected before does not end what another one uses."""
    import ray

    try:
        assert connect("--launcher", 1)
        assert not connect("--launcher", 1)
    finally:
        ray.shutdown()


def test_an_address_where_something_else_answers_is_refused(monkeypatch):
    """What takes connections and says nothing: Ray itself would ask it for minutes."""
    pytest.importorskip("ray", reason="Ray is not installed, the extra 'ray'")
    monkeypatch.setattr(on_ray, "_ANSWER_SECONDS", 3.0)
    with socket.create_server(("127.0.0.1", 0)) as other:
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{other.getsockname()[1]}")
        with pytest.raises(ValueError, match="--launcher: no Ray cluster answers at RAY_ADDRESS=127"):
            check_ray("--launcher")


def test_workers_that_a_cluster_has_no_room_for_are_named(two_nodes, model, blobs, checkpoints, monkeypatch):
    """Each takes as many processors as this process has threads; no node has them."""
    monkeypatch.setattr(on_ray, "_BEGIN_SECONDS", 3.0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1000)
    with pytest.raises(TimeoutError, match=r"parallel\.launcher: worker 1 did not begin within 3 s: each takes 1000"):
        fit_on_ray(2, model, blobs, None, checkpoints, None)


def test_a_worker_that_cannot_reach_this_process_is_named(two_nodes, model, blobs, checkpoints, monkeypatch):
    """It is told of an address where nobody is."""
    import ray

    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "no.such.host.invalid")
    with pytest.raises(
        ChildProcessError, match=r"parallel\.launcher: a worker could not begin: worker 1: .*no\.such\.host"
    ):
        fit_on_ray(2, model, blobs, None, checkpoints, None)


def test_workers_of_other_versions_are_refused(two_nodes, model, blobs, checkpoints, monkeypatch):
    own = json.dumps({**meeting.versions(), "torch": "2.13.0"})
    monkeypatch.setattr(meeting, "introduce", lambda store, rank: store.set(f"worker {rank}", own))
    with pytest.raises(ValueError, match=r"parallel: workers of different versions: the first has .*torch 2\.13\.0"):
        fit_on_ray(2, model, blobs, None, checkpoints, None)

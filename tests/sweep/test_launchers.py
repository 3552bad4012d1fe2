"""Launchers: results, errors, threads, and jobs whose process dies or takes too long."""

import operator
import os
import time
from contextlib import nullcontext

import pytest
import torch

from deep_clustering.sweep.checks import check_store
from deep_clustering.sweep.launchers import Local, Processes, WorkerDied, make_launcher


@pytest.fixture(scope="module")
def processes():
    launcher = Processes(jobs=2, threads=3, timeout=None)
    yield launcher
    launcher.shutdown()


def test_jobs_run_in_other_processes_and_an_error_is_the_futures(processes):
    assert processes.submit(os.getpid).result() != os.getpid()
    with pytest.raises(ZeroDivisionError):
        processes.submit(operator.truediv, 1, 0).result()


def test_a_worker_has_the_threads_it_was_given(processes):
    assert processes.submit(os.getenv, "OMP_NUM_THREADS").result() == "3"
    assert processes.submit(torch.get_num_threads).result() == 3


def test_the_death_of_a_worker_fails_its_own_job_only(processes):
    futures = [processes.submit(operator.pow, 2, n) for n in range(4)]
    dying = processes.submit(os.abort)
    futures += [processes.submit(operator.pow, 2, n) for n in range(4, 8)]
    with pytest.raises(WorkerDied, match="killed, out of memory, or crashed"):
        dying.result()
    assert [future.result() for future in futures] == [1, 2, 4, 8, 16, 32, 64, 128]


def test_a_job_that_takes_too_long_is_ended_and_the_next_one_runs():
    launcher = Processes(jobs=1, threads=1, timeout=0.5)
    try:
        with pytest.raises(TimeoutError, match=r"more than 0\.5 s"):
            launcher.submit(time.sleep, 600).result()
        assert launcher.submit(operator.add, 1, 2).result() == 3
    finally:
        launcher.shutdown()


def test_local_runs_in_this_process():
    launcher = Local(jobs=1, threads=torch.get_num_threads(), timeout=None)
    assert launcher.submit(os.getpid).result() == os.getpid()
    with pytest.raises(ZeroDivisionError):
        launcher.submit(operator.truediv, 1, 0).result()
    launcher.shutdown()


@pytest.mark.parametrize(
    ("name", "jobs", "timeout", "message"),
    [
        ("proceses", 1, None, "did you mean 'processes'"),
        ("nowhere.at_all:Engine", 1, None, "expected module:Class"),
        ("deep_clustering.sweep.launchers:Engine", 1, None, "expected module:Class"),
        ("local", 2, None, "one job at a time"),
        ("local", 1, 5.0, "cannot end it"),
    ],
)
def test_wrong_launchers_are_refused(name, jobs, timeout, message):
    with pytest.raises(ValueError, match=message):
        make_launcher(name, jobs, 1, timeout)


def test_another_engine_is_named_by_its_place():
    assert isinstance(make_launcher("deep_clustering.sweep.launchers:Local", 1, 1, None), Local)


# Ray


@pytest.fixture(scope="module")
def on_ray():
    pytest.importorskip("ray", reason="Ray is not installed, the extra 'ray'")
    launcher = make_launcher("ray", 2, 3, 60.0)
    yield launcher
    launcher.shutdown()


def test_jobs_on_ray_run_in_other_processes_that_live_from_job_to_job_with_their_threads(on_ray):
    pids = {on_ray.submit(os.getpid).result() for _ in range(8)}
    assert len(pids) < 8
    assert os.getpid() not in pids
    assert on_ray.submit(os.getenv, "OMP_NUM_THREADS").result() == "3"
    assert on_ray.n_nodes == 1


def test_an_error_on_ray_is_the_futures_as_it_was(on_ray):
    with pytest.raises(ZeroDivisionError) as found:
        on_ray.submit(operator.truediv, 1, 0).result()
    assert type(found.value) is ZeroDivisionError


def test_the_death_of_a_process_on_ray_fails_its_own_job_only(on_ray):
    dying, living = on_ray.submit(os.abort), on_ray.submit(operator.pow, 2, 5)
    with pytest.raises(WorkerDied, match="killed, out of memory, or crashed"):
        dying.result()
    assert living.result() == 32


def test_a_job_on_ray_that_takes_too_long_is_ended(on_ray, monkeypatch):
    monkeypatch.setattr(on_ray, "_timeout", 1.0)
    with pytest.raises(TimeoutError, match="more than 1 s"):
        on_ray.submit(time.sleep, 600).result()


def test_ray_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'deep-clustering\[ray\]'"):
        make_launcher("ray", 1, 1, None)


@pytest.mark.parametrize(
    ("address", "message"),
    [("head", "expected host:port of the head of a cluster, got 'head'"), ("127.0.0.1:1", "no Ray cluster answers at")],
)
def test_an_address_where_no_cluster_is_is_refused(monkeypatch, address, message):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ValueError, match=message):
        make_launcher("ray", 1, 1, None)


@pytest.mark.parametrize(
    ("n_nodes", "uri", "params", "is_refused"),
    [
        (1, "", {}, False),
        (2, "", {}, True),
        (2, "sqlite:///mlflow.db", {}, True),
        (2, "http://server:5000", {}, False),
        (2, "", {"tracking.enabled": False}, False),
    ],
)
def test_several_nodes_do_not_track_into_a_file(monkeypatch, n_nodes, uri, params, is_refused):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(ValueError, match=r"2 nodes.*mlflow server") if is_refused else nullcontext():
        check_store(n_nodes, params)

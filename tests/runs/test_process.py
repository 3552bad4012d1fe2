"""Whether the process of a run lives."""

import subprocess
import sys

import pytest

from deep_clustering.runs.tracking import process


@pytest.fixture
def child():
    """A process that waits for its end."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as popen:
        yield popen
        popen.kill()


def tags_of(popen):
    start = process._start_of(popen.pid)
    return {**process.describe_process(), "process.id": str(popen.pid), "process.start": start or ""}


def test_a_process_lives_until_it_ends(child):
    tags = tags_of(child)
    assert process.is_alive(tags) is True
    assert process.is_alive(process.describe_process()) is True
    child.kill()
    child.wait()
    assert process.is_alive(tags) is False


@pytest.mark.skipif(sys.platform != "linux", reason="only /proc tells")
def test_one_that_nobody_has_waited_for_is_dead(child):
    tags = tags_of(child)
    child.kill()
    while process._start_of(child.pid):
        pass
    assert process.is_alive(tags) is False


@pytest.mark.skipif(sys.platform != "linux", reason="only /proc tells")
def test_another_process_of_the_same_id_is_not_taken_for_it(child):
    assert process.is_alive({**tags_of(child), "process.start": "0-0 1"}) is False


def test_without_proc_the_id_must_do(child, monkeypatch):
    tags = tags_of(child)
    monkeypatch.setattr(process, "_start_of", lambda number: None)
    assert process.is_alive(tags) is True
    child.kill()
    child.wait()
    assert process.is_alive(tags) is False


@pytest.mark.parametrize("change", [{"process.host": "elsewhere"}, {"process.id": ""}, {"process.id": "-1"}])
def test_what_this_host_cannot_know_is_left_open(change):
    assert process.is_alive({**process.describe_process(), **change}) is None
    assert process.is_alive({}) is None


@pytest.mark.parametrize(
    ("status", "alive", "state"),
    [
        ("RUNNING", True, "RUNNING"),
        ("RUNNING", None, "RUNNING"),
        ("RUNNING", False, "died"),
        ("FAILED", False, "FAILED"),
        ("FINISHED", False, "FINISHED"),
    ],
)
def test_only_a_running_run_can_have_died(monkeypatch, status, alive, state):
    monkeypatch.setattr(process, "is_alive", lambda tags: alive)
    assert process.state_of(status, {}) == state

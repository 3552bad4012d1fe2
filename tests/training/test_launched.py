"""Processes that torchrun started train together; what is wrong with one of them is said.

This process is the first; what torchrun tells each of its own is in its environment.
"""

import atexit
import json
import os
import shutil
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from torch import distributed

from deep_clustering.methods import make_method
from deep_clustering.methods.mixture_training import MixtureTraining
from deep_clustering.training import launched, meeting
from deep_clustering.training.checkpoints import CheckpointOptions, Checkpoints
from deep_clustering.training.launched import check_command, check_launch, fit_launched, fit_of, follows
from deep_clustering.training.parallel import ParallelOptions, fit_alone, fit_together

WORKER = Path(__file__).parent / "launched_worker.py"


@pytest.fixture
def launch(monkeypatch):
    """Function (rank) that makes this process one of two that torchrun started; returns what it tells the other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])

    monkeypatch.setattr(launched, "_ANSWER_SECONDS", 600.0)  # a busy machine takes long to start a process

    def make(rank: int = 0) -> dict[str, str]:
        told = {"TORCHELASTIC_RUN_ID": "test", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        for name, value in {**told, "RANK": str(rank)}.items():
            monkeypatch.setenv(name, value)
        return {**told, "RANK": str(1 - rank)}

    yield make
    if distributed.is_initialized():
        ours = launched._meeting()
        ours.end()
        atexit.unregister(ours.end)
    launched._meeting.cache_clear()


@pytest.fixture
def beside(launch):
    """Function (words) that starts the other process, which takes part in fits."""
    started = []

    def start(*words: str) -> subprocess.Popen:
        environment = {**os.environ, **launch()}
        started.append(subprocess.Popen([sys.executable, str(WORKER), *words], env=environment, stderr=subprocess.PIPE))
        return started[0]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def options(tiny_options):
    return tiny_options(
        "neural_mixture", "vectors", n_clusters=3, views={"kind": "noise", "scale": 0.0}, batch_size=32, epochs=2
    )


def checkpoints(folder, resume=False):
    return Checkpoints(CheckpointOptions(every=1, resume=resume, folder=str(folder)), "launched")


def test_they_fit_rows_that_are_sent_and_rows_of_one_file(options, blobs, tmp_path, beside):
    """As one process does, one fit after the other; a file that was replaced under a fit holds other rows.

    One epoch, since random views, also those that stand still, are drawn from other streams by several. The other one
    goes when the first says that it ends.
    """
    options = {**options, "epochs": 1}
    file = tmp_path / "rows.npy"
    np.save(file, blobs)
    mapped = np.load(file, mmap_mode="r")
    alone = make_method(options).fit(blobs)
    other = beside()
    for rows in (blobs, mapped):
        together = fit_launched(make_method(options), rows, None, checkpoints(tmp_path), None)
        np.testing.assert_allclose(together.predict_proba(blobs), alone.predict_proba(blobs), atol=1e-5)
    np.save(tmp_path / "others.npy", blobs[::-1])
    shutil.move(tmp_path / "others.npy", file)
    with pytest.raises(ValueError, match=r"parallel: worker 1 finds other rows than the first in .*rows\.npy: \w+"):
        fit_launched(make_method(options), mapped, None, checkpoints(tmp_path), None)
    again = fit_launched(make_method(options), blobs, None, checkpoints(tmp_path), None)
    np.testing.assert_allclose(again.predict_proba(blobs), alone.predict_proba(blobs), atol=1e-5)
    ours = launched._meeting()
    atexit.unregister(ours.end)
    ours.end()
    assert other.wait(600) == 0


def test_one_that_is_killed_ends_the_fit_and_it_can_go_on(options, blobs, tmp_path, beside):
    """In the second of two epochs of three steps."""
    beside("5")
    with pytest.raises(ChildProcessError, match=r"another process ended before the fit did.* `kedro resume` goes on"):
        fit_launched(make_method(options), blobs, None, checkpoints(tmp_path), None)
    resumed = make_method(options).fit(blobs, None, checkpoints(tmp_path, resume=True))
    np.testing.assert_array_equal(resumed.history_["epoch"], [1, 2])


def test_an_error_of_the_first_process_is_not_laid_on_the_others(options, blobs, tmp_path, beside, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("not enough memory")

    monkeypatch.setattr(MixtureTraining, "step", fail)
    beside()
    with pytest.raises(RuntimeError, match=r"^not enough memory$"):
        fit_launched(make_method(options), blobs, None, checkpoints(tmp_path), None)


def test_without_torchrun_and_ray_nobody_is_waited_for(monkeypatch, caplog):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.setattr(launched, "check_ray", lambda _: pytest.fail("Ray was looked for"))
    monkeypatch.setattr(launched, "_meeting", lambda: pytest.fail("others were waited for"))
    for n_workers in (1, 2):
        check_launch(ParallelOptions(workers=n_workers, launcher="local"))
    assert not caplog.records


def test_a_method_is_fitted_by_those_who_are_there(launch, options, tiny_options):
    """By this process, others that it starts, or those of torchrun, which one without epochs does not need."""
    alone, two = (ParallelOptions(workers=n, launcher="local") for n in (1, 2))
    method, kmeans = make_method(options), make_method(tiny_options("kmeans", "vectors"))
    assert fit_of(method, alone) is fit_alone
    assert fit_of(method, two).func is fit_together
    assert fit_of(method, ParallelOptions(workers=3, launcher="ray")).args == (3,)
    assert fit_of(kmeans, two) is fit_alone
    launch()
    assert fit_of(method, alone) is fit_launched
    assert fit_of(kmeans, alone) is fit_alone


@pytest.mark.parametrize(("rank", "missing"), [(0, 1), (1, 0)])
def test_one_that_does_not_answer_is_named_with_the_address(launch, rank, missing):
    told = launch(rank)
    address = f"127.0.0.1:{told['MASTER_PORT']}"
    with pytest.raises(TimeoutError, match=f"worker {missing} did not answer at {address} within 1 s, of 2 processes"):
        launched._begin(1)


def test_other_versions_are_refused(launch, monkeypatch):
    """The other process is of an earlier version of the project."""
    port = int(launch()["MASTER_PORT"])
    own = {"deep-clustering": "0.3.0", "torch": "2.13.0", "Python": "3.11.1"}
    monkeypatch.setattr(meeting, "versions", lambda: own)

    def answer() -> None:
        store = distributed.TCPStore("127.0.0.1", port, world_size=2, is_master=False)
        store.set("worker 1", json.dumps({**own, "deep-clustering": "0.2.0"}))

    message = r"first has deep-clustering 0\.3\.0, .* worker 1 deep-clustering 0\.2\.0, .*; install the same"
    with ThreadPoolExecutor(1) as other:
        other.submit(answer)
        with pytest.raises(ValueError, match=f"parallel: workers of different versions: the {message}"):
            check_launch(ParallelOptions(workers=1, launcher="local"))


def test_further_workers_beside_them_are_refused(launch):
    launch()
    with pytest.raises(ValueError, match=r"parallel\.workers: torchrun started 2 processes, .*; expected 1, got 3"):
        check_launch(ParallelOptions(workers=3, launcher="local"))


@pytest.mark.parametrize("rank", [0, 1])
def test_a_command_that_every_process_would_do_by_itself_is_refused(launch, rank):
    launch(rank)
    for command in ("run", "resume"):
        check_command(command)
    with pytest.raises(ValueError, match="torchrun takes run and resume, got sweep; call it without torchrun"):
        check_command("sweep")


def test_without_torchrun_every_command_is_taken_and_nobody_follows(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    check_command("sweep")
    assert not follows()


@pytest.mark.parametrize("rank", [0, 1])
def test_all_but_the_first_process_follow(launch, rank):
    launch(rank)
    assert follows() == (rank > 0)

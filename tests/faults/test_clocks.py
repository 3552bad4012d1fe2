"""A clock that goes back between runs, or during one."""

import os

import numpy as np
import pytest
from kedro.framework.session import session

import deep_clustering.hooks
from command_line import checksums, kedro_run, params
from deep_clustering.datasets import JSONDataset
from deep_clustering.runs.tracking.reading import find_run, list_runs
from deep_clustering.runs.tracking.store import start_run
from deep_clustering.training.checkpoints import CheckpointOptions, Checkpoints
from pipelines.small_project import versions
from tracked_project import client_of, make_project

EARLIER = "2001-02-03T04.05.06.007Z"
TO_SCORES = ("--pipelines=kmeans", "--to-nodes=evaluation.score_kmeans")


@pytest.fixture
def earlier(monkeypatch):
    """The clock goes back behind all that the project has."""
    for module in (session, deep_clustering.hooks):
        monkeypatch.setattr(module, "generate_timestamp", lambda: EARLIER)


def warnings_of(caplog):
    return [record.getMessage() for record in caplog.records if "the clock says" in record.getMessage()]


def test_a_run_of_an_earlier_clock_reads_what_it_has_written_and_changes_nothing(project, earlier, caplog):
    before = checksums(project / "data")
    (later,) = (path.parent.name for path in versions(project, "assignments.npy"))
    result = kedro_run(project, *TO_SCORES, params(n_clusters=4))
    assert result.exit_code == 0, result.output
    assert before.items() <= checksums(project / "data").items()
    (mine,) = (path for path in versions(project, "assignments.npy") if path.parent.name == EARLIER)
    (scores,) = (path for path in versions(project, "scores.json") if path.parent.name == EARLIER)
    occupancy = JSONDataset(filepath=str(scores)).load()["occupancy"]
    assert occupancy == np.bincount(np.load(mine), minlength=4).tolist()
    (warning,) = warnings_of(caplog)
    assert f"the clock says {EARLIER}" in warning
    assert f"has the version {later}" in warning


def test_a_clock_that_goes_on_is_no_warning_and_names_of_people_are_none(project, caplog):
    (path,) = versions(project, "assignments.npy")
    (path.parents[1] / "mine").mkdir()
    (path.parents[1] / "mine" / path.name).write_bytes(path.read_bytes())
    result = kedro_run(project, "--pipelines=kmeans", "--nodes=kmeans.assign", params())
    assert result.exit_code == 0, result.output
    assert warnings_of(caplog) == []


def test_a_run_that_ended_before_it_began_has_no_duration(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = make_project(tmp_path / "project")
    start_run(root, "own", "first", {"kedro.pipeline": "kmeans"}).finish("FINISHED")
    (found,) = list_runs(root, last=1)
    assert found.seconds >= 0
    client = client_of(root)
    client.set_terminated(found.run_id, end_time=client.get_run(found.run_id).info.start_time - 3_600_000)
    assert find_run(root, found.run_id).seconds is None


def test_the_state_of_the_last_epoch_is_continued_whatever_the_times_of_the_files(tmp_path):
    options = CheckpointOptions(every=1, resume=True, folder=str(tmp_path))
    saving = Checkpoints(options, "any")
    saving.begin({"method": "any"})
    for epoch in (1, 2):
        saving.save(epoch, {"epoch": epoch})
    first, second = sorted(tmp_path.rglob("epoch-*.safetensors"))
    os.utime(first, (2**32, 2**32))
    os.utime(second, (0, 0))
    assert Checkpoints(options, "any").begin({"method": "any"}) == {"epoch": 2}

"""Tracked runs read back, every store that cannot be read, and the table of runs."""

import json
import re
import shutil
import sqlite3
import uuid
from contextlib import closing
from datetime import UTC, datetime

import numpy as np
import pytest

from command_line import error_of, kedro
from deep_clustering.runs.tracking import TrackingError
from deep_clustering.runs.tracking.process import describe_process
from deep_clustering.runs.tracking.reading import find_run, list_runs
from deep_clustering.runs.tracking.results import read_results
from deep_clustering.runs.tracking.store import start_run
from tracked_project import client_of, make_project

PARAMS = {"seed": 3, "dcan": {"epochs": 2, "hidden": [4, 2]}}
TAGS = {
    "kedro.pipeline": "dcan",
    "kedro.env": "mnist",
    "kedro.runtime_params": json.dumps(PARAMS),
    "kedro.selection": json.dumps({"node_names": ["dcan.fit"]}),
    "kedro.load_versions": json.dumps({"features": "v1"}),
    "kedro.save_version": "v2",
    "git.sha": "a" * 40,
    "git.dirty": "true",
    "git.branch": "main",
    "python.version": "3.11.7",
    "python.packages": json.dumps({"numpy": "2.4.6"}),
    "hardware.cpu": "a processor",
    "hardware.torch_threads": "2",
    "data.sha256.samples": "b" * 64,
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return make_project(tmp_path / "project")


def add_run(root, status="FINISHED", data_set="mnist", scores=None, **tags):
    """Record a run as the hook does; two underscores in the name of a tag stand for a dot."""
    own = {name.replace("__", "."): text for name, text in tags.items()}
    run = start_run(root, "tests", f"dcan {data_set} seed 3", {**TAGS, **own})
    run.log_params({"data_set": data_set, "seed": "3", "dcan.epochs": "2"})
    run.log_metrics([(f"{method}.{name}", value, 0) for method, all_ in (scores or {}).items() for name, value in all_])
    if status != "RUNNING":
        run.finish(status)
    return run.run_id


def add_results(root, run_id, folder, method, assignments):
    """Log the two artifacts of a method."""
    np.save(folder / "assignments.npy", assignments)
    (folder / "scores.json").write_text(json.dumps({"metrics": {"acc": 0.5}}))
    for name in ("assignments.npy", "scores.json"):
        client_of(root).log_artifact(run_id, str(folder / name), method)


def test_a_run_is_read_as_it_was_recorded(project):
    run_id = add_run(project, "FAILED", scores={"dcan": [("acc", 0.5), ("collapsed", 0.0)]})
    run = find_run(project, run_id[:6])
    assert (run.run_id, run.name, run.status, run.experiment) == (run_id, "dcan mnist seed 3", "FAILED", "tests")
    assert (run.pipelines, run.env, run.save_version) == (("dcan",), "mnist", "v2")
    assert run.runtime_params == PARAMS
    assert run.restriction == {"node_names": ["dcan.fit"]}
    assert run.load_versions == {"features": "v1"}
    assert run.git == {"sha": "a" * 40, "dirty": "true", "branch": "main"}
    assert (run.python, run.packages, run.torch_threads) == ("3.11.7", {"numpy": "2.4.6"}, 2)
    assert run.hardware["cpu"] == "a processor"
    assert run.data_sha256 == {"samples": "b" * 64}
    assert run.params == {"data_set": "mnist", "seed": "3", "dcan.epochs": "2"}
    assert run.metrics == {"dcan.acc": 0.5, "dcan.collapsed": 0.0}
    assert run.scored == ("dcan",)
    assert run.data_set == "mnist"
    assert run.redacted == []
    info = client_of(project).get_run(run_id).info
    assert run.started == datetime.fromtimestamp(info.start_time / 1000, UTC)
    assert run.seconds == (info.end_time - info.start_time) / 1000


def test_runtime_parameters_too_long_for_the_store_are_read_in_full(project):
    params = {"note": "x" * 9000}
    run_id = add_run(project, kedro__runtime_params=json.dumps(params))
    assert find_run(project, run_id).runtime_params == params
    assert [run.run_id for run in list_runs(project)] == [run_id]


def test_hidden_parameters_are_named(project):
    hidden = {"ingestion": {"token": "[redacted]", "mirrors": ["https://[redacted]@host"]}, "seed": 1}
    run_id = add_run(project, kedro__runtime_params=json.dumps(hidden))
    assert find_run(project, run_id).redacted == ["ingestion.mirrors", "ingestion.token"]


@pytest.mark.parametrize("wrong", ["abc", "abcdeg", "ABCDEF", "a" * 33, "' or 1"])
def test_what_is_no_id_is_refused(project, wrong):
    with pytest.raises(TrackingError, match="expected the id of a tracked run, or the first 6 or more"):
        find_run(project, wrong)


def test_an_unknown_run_is_answered_with_the_newest(project):
    with pytest.raises(TrackingError, match="there is no run 'abcdef'; no run is tracked yet"):
        find_run(project, "abcdef")
    ids = [add_run(project), add_run(project)]
    unknown = "0" * 32
    with pytest.raises(TrackingError) as caught:
        find_run(project, unknown)
    assert caught.value.message.startswith(f"there is no run '{unknown}'; the newest runs: ")
    for run_id in ids:
        assert f"{run_id[:12]} (dcan mnist seed 3)" in caught.value.message


def test_a_beginning_of_two_runs_is_refused(project, monkeypatch):
    numbers = [uuid.UUID("abcdef00" + "0" * 24), uuid.UUID("abcdef11" + "0" * 24)]
    with monkeypatch.context() as patch:
        patch.setattr(uuid, "uuid4", lambda: numbers.pop(0))
        first, second = add_run(project), add_run(project)
    assert [first[:8], second[:8]] == ["abcdef00", "abcdef11"]
    with pytest.raises(TrackingError, match=r"several runs begin so: .*abcdef110000.*"):
        find_run(project, "abcdef")
    assert find_run(project, "abcdef0").run_id == first


def test_runs_of_another_project_do_not_count(project):
    other = start_run(project, "other", "not ours", {"team": "another"})
    other.finish("FINISHED")
    with pytest.raises(TrackingError, match=rf"run {other.run_id} \(not ours\) is not one of this project"):
        find_run(project, other.run_id)
    assert list_runs(project) == []


def test_a_deleted_run_can_be_restored(project):
    run_id = add_run(project)
    client_of(project).delete_run(run_id)
    with pytest.raises(TrackingError, match=rf"deleted; restore it by\n    mlflow runs restore --run-id {run_id}"):
        find_run(project, run_id[:8])


def test_results_are_those_that_were_logged(project, tmp_path):
    run_id = add_run(project, scores={"dcan": [("collapsed", 0.0)]}, kedro__selection="{}")
    add_results(project, run_id, tmp_path, "dcan", np.arange(4))
    results = read_results(project, find_run(project, run_id))
    assert set(results) == {"dcan"}
    assert results["dcan"].assignments.tolist() == [0, 1, 2, 3]
    assert results["dcan"].metrics == {"acc": 0.5}


@pytest.mark.parametrize("name", ["assignments.npy", "scores.json"])
def test_a_deleted_or_damaged_artifact_is_named(project, tmp_path, name):
    run_id = add_run(project, scores={"dcan": [("collapsed", 0.0)]}, kedro__selection="{}")
    add_results(project, run_id, tmp_path, "dcan", np.arange(4))
    (path,) = (project / "mlartifacts").glob(f"**/{name}")
    path.write_bytes(b"no such thing")
    with pytest.raises(TrackingError, match=f"run {run_id}: an artifact of dcan is damaged"):
        read_results(project, find_run(project, run_id))
    path.unlink()
    with pytest.raises(TrackingError, match=f"run {run_id}: its artifact dcan/{name} is gone from file:"):
        read_results(project, find_run(project, run_id))


def test_without_a_store_nothing_is_made(project):
    (project / "mlflow.db").unlink()
    before = sorted(project.rglob("*"))
    with pytest.raises(TrackingError, match=r"no runs are tracked yet: there is no .*mlflow\.db"):
        list_runs(project)
    assert sorted(project.rglob("*")) == before


def test_what_is_no_store_is_refused(project):
    (project / "mlflow.db").write_text("no database " * 100)
    with pytest.raises(TrackingError, match=r"cannot read the tracking store sqlite.*file is not a database"):
        list_runs(project)


@pytest.mark.parametrize(
    ("revision", "remedy"),
    [("451aebb31d03", r"mlflow db upgrade sqlite:///.*mlflow\.db"), ("f" * 12, "a newer MLflow wrote it")],
)
def test_a_store_of_another_mlflow_is_refused_and_stays_as_it_is(project, revision, remedy):
    path = project / "mlflow.db"
    with closing(sqlite3.connect(path)) as store, store:
        store.execute("UPDATE alembic_version SET version_num = ?", [revision])
        store.execute("DROP TABLE trace_tags")  # a table that MLflow would make again unasked
    before = path.read_bytes()
    with pytest.raises(TrackingError, match=rf"(?s)has the schema {revision}, MLflow expects .*{remedy}"):
        list_runs(project)
    with pytest.raises(TrackingError, match=remedy):
        start_run(project, "tests", "new", {})
    assert path.read_bytes() == before


def test_a_dead_server_is_one_sentence_without_its_password(project, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hush@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TrackingError) as caught:
        list_runs(project)
    assert caught.value.message.startswith("cannot read the tracking store http://[redacted]@127.0.0.1:9")
    assert "hush" not in caught.value.message


@pytest.fixture
def several(project):
    scores = [("acc", 0.8125), ("nmi", 0.75), ("collapsed", 0.0), ("log_likelihood", -1234.5678)]
    dead = {f"process__{name}": text for name, text in (("id", "4194305"), ("start", "0-0 1"))}
    dead["process__host"] = describe_process()["process.host"]
    ids = {
        "finished": add_run(project, scores={"dcan": scores, "kmeans": scores}, kedro__pipeline="dcan+kmeans"),
        "failed": add_run(project, "FAILED", data_set="a_data_set_of_a_very_long_name"),
        "died": add_run(project, "RUNNING", **dead),
    }
    return project, ids


def test_the_table_fits_and_shows_each_method(several):
    project, ids = several
    lines = kedro(project, "runs").output.splitlines()
    assert max(map(len, lines)) <= 120
    assert [line[:8] for line in lines[1:] if line[0] != " "] == [
        ids[key][:8] for key in ("died", "failed", "finished")
    ]
    assert [line.split()[3] for line in lines[1:3]] == ["died", "FAILED"]
    assert lines[3].split()[-5:] == ["dcan", "0.812", "0.750", "-", "-1234.5~"]
    assert lines[4].split() == ["kmeans", "0.812", "0.750", "-", "-1234.5~"]


def test_a_killed_run_is_closed_by_the_command_that_sees_it_and_by_the_next_run(several):
    project, ids = several
    assert client_of(project).get_run(ids["died"]).info.status == "RUNNING"
    shown = [json.loads(kedro(project, "runs", "--json", "--last=1").output)[0] for _ in range(2)]
    assert [run["run_id"] for run in shown] == [ids["died"]] * 2
    assert [run["status"] for run in shown] == ["died", "KILLED"]
    client_of(project).update_run(ids["died"], "RUNNING")
    living = add_run(project, "RUNNING", **{f"process__{k[8:]}": v for k, v in describe_process().items()})
    add_run(project)
    states = [client_of(project).get_run(run_id).info.status for run_id in (ids["died"], living)]
    assert states == ["KILLED", "RUNNING"]


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        (["--last=1"], ["died"]),
        (["--status=Died"], ["died"]),
        (["--status=finished"], ["finished"]),
        (["--data-set=a_data_set_of_a_very_long_name"], ["failed"]),
        (["--method=kmeans"], ["finished"]),
        (["--method=dcan", "--last=2"], ["died", "failed"]),
    ],
)
def test_runs_are_chosen(several, options, shown):
    project, ids = several
    runs = json.loads(kedro(project, "runs", "--json", *options).output)
    assert [run["run_id"] for run in runs] == [ids[name] for name in shown]


def test_json_holds_the_scores_and_no_parameters(several):
    project, _ = several
    run = json.loads(kedro(project, "runs", "--json", "--status=finished").output)[0]
    assert run["scores"]["kmeans"] == {"acc": 0.8125, "nmi": 0.75, "log_likelihood": -1234.5678}
    assert (run["data_set"], run["seed"], run["pipelines"]) == ("mnist", "3", ["dcan", "kmeans"])
    assert not {"runtime_params", "params", "tags"} & set(run)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--method=dcam"], r"--method: unknown method 'dcam' \(did you mean 'dcan'\?\)"),
        (["--status=finish"], r"--status: unknown status 'finish' \(did you mean 'finished'\?\)"),
        (["--data-set=mnis"], r"--data-set: no tracked run is on 'mnis' \(did you mean 'mnist'\?\)"),
    ],
)
def test_a_slip_is_answered_with_the_nearest_name(several, options, message):
    assert re.fullmatch(message, error_of(kedro(several[0], "runs", *options)))


def test_a_moved_store_is_read_where_it_is(several, tmp_path, monkeypatch):
    project, ids = several
    shutil.move(project / "mlflow.db", tmp_path / "elsewhere.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'elsewhere.db'}")
    assert find_run(project, ids["failed"]).status == "FAILED"

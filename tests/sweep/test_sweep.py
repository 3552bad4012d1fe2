"""Sweeps of the small project: what is run, recorded, resumed and refused."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import chdir, contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from kedro.framework.startup import bootstrap_project

from deep_clustering.cli import cli

SMALL = "ingestion.n_rows=200,tracking.enabled=false"
BASE = ["--envs=digits", "--pipelines=kmeans,gmm", "--seeds=0-1", "--folder=sweep", "--launcher=local", "--threads=1"]


def sweep(project: Path, *options: str, params: str = SMALL) -> Result:
    """Call the command in this process; a later option replaces an earlier one."""
    with chdir(project):
        bootstrap_project(project)
        return CliRunner().invoke(cli, ["sweep", *BASE, f"--params={params}", *options])


def records(project: Path) -> dict[str, dict]:
    return {path.parent.name: json.loads(path.read_text()) for path in project.glob("sweep/*/cells/*/cell.json")}


def test_a_sweep_runs_every_cell_on_the_same_rows_and_only_once(project, caplog):
    result = sweep(project)
    assert result.exit_code == 0, result.output
    cells = records(project)
    assert set(cells) == {"kmeans-seed0", "kmeans-seed1", "gmm-seed0", "gmm-seed1"}
    for name, cell in cells.items():
        assert cell["status"] == "finished"
        assert cell["parameters"][cell["pipeline"]]["seed"] == cell["seed"] == int(name[-1])
        assert cell["parameters"]["ingestion"]["n_rows"] == 200
        assert 0 < cell["metrics"]["acc"] <= 1
        assert cell["cost"]["cpu_seconds"] >= 0
        assert cell["run_id"] is None
    assert len({cell["data_sha256"] for cell in cells.values()}) == 1
    assert len(list(project.glob("**/samples.npy/*/samples.npy"))) == 1
    runs = pd.read_csv(project / "sweep/runs.csv")
    assert dict(zip(runs["method"] + "-seed" + runs["seed"].astype(str), runs["acc"], strict=True)) == pytest.approx(
        {name: cell["metrics"]["acc"] for name, cell in cells.items()}, rel=1e-5
    )
    for name in ("leaderboard.csv", "leaderboard.md", "leaderboard.html"):
        assert (project / "sweep" / name).stat().st_size > 0

    times = {path: path.stat().st_mtime_ns for path in project.glob("sweep/*/cells/*/cell.json")}
    assert sweep(project, "--seeds=0-2").exit_code == 0  # it grows by one seed
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert set(records(project)) == set(cells) | {"kmeans-seed2", "gmm-seed2"}
    assert len(list(project.glob("**/samples.npy/*/samples.npy"))) == 1

    conf = project / "conf/base/parameters_baselines.yml"
    conf.write_text(conf.read_text().replace("n_init: 20", "n_init: 3"))
    assert sweep(project, "--seeds=0-2").exit_code == 0
    assert "kmeans-seed2 has run with other options (kmeans.n_init was 20, is 3)" in caplog.text
    assert {path: path.stat().st_mtime_ns for path in times} == times

    refused = sweep(project, "--seeds=3-4")
    assert refused.exit_code == 1
    assert "sweep holds another sweep: its seeds 0,1,2 are not asked for" in refused.output
    assert set(records(project)) == set(cells) | {"kmeans-seed2", "gmm-seed2"}


def test_a_cell_scores_as_the_same_run_by_hand(project):
    assert sweep(project, "--pipelines=kmeans", "--seeds=1").exit_code == 0
    with chdir(project):
        options = ["--pipelines=kmeans", "--params=seed=1,ingestion.n_rows=200,tracking.enabled=false"]
        result = CliRunner().invoke(cli, ["run", "--env=digits", *options])
    assert result.exit_code == 0, result.output
    (scores,) = project.glob("data/08_reporting/digits/kmeans/scores.json/*/scores.json")
    by_hand = json.loads(scores.read_text())
    cell = records(project)["kmeans-seed1"]
    assert cell["metrics"] == by_hand["metrics"]
    assert cell["data_sha256"] == by_hand["data_sha256"]


def test_the_rows_are_prepared_for_each_choice_of_the_data(project):
    options = ["--pipelines=kmeans", "--seeds=0", "--grid=ingestion.n_rows=100,150"]
    result = sweep(project, *options, params="tracking.enabled=false")
    assert result.exit_code == 0, result.output
    assert len(records(project)) == 2
    assert {path.parent.name for path in project.glob("sweep/digits/*/prepared.json")} == {
        "prepared-ingestion.n_rows=100",
        "prepared-ingestion.n_rows=150",
    }
    for name, cell in records(project).items():
        assert cell["point"]["ingestion.n_rows"] == cell["parameters"]["ingestion"]["n_rows"]
        assert f"n_rows={cell['point']['ingestion.n_rows']}" in name
    assert len({cell["data_sha256"] for cell in records(project).values()}) == 2


def test_rows_are_prepared_anew_when_their_options_have_changed(project, caplog):
    assert sweep(project, "--pipelines=kmeans", "--seeds=0").exit_code == 0
    conf = project / "conf/base/parameters.yml"
    conf.write_text(conf.read_text().replace("postprocess: none", "postprocess: standardise"))
    assert sweep(project, "--pipelines=kmeans", "--seeds=0-1").exit_code == 0
    assert "anew: features.postprocess was none, is standardise" in caplog.text
    (old, new) = sorted(project.glob("sweep/digits/prepared/**/features.npy/*/features.npy"))
    assert abs(np.load(old).std() - 1) > 0.1
    assert np.load(new).std() == pytest.approx(1, abs=0.1)
    table = pd.read_csv(project / "sweep/runs.csv").set_index("seed")
    assert table.loc[0, "silhouette"] != table.loc[1, "silhouette"]


def test_a_failed_cell_is_reported_and_tried_again_and_the_others_go_on(project):
    result = sweep(project, "--pipelines=gmm", "--launcher=sweep.failing:FailsGMM")
    assert result.exit_code == 1
    assert "1 cell failed; the same command tries again:" in result.output
    assert "digits/gmm-seed1: ConnectionError: node lost" in result.output
    status = {name: cell["status"] for name, cell in records(project).items()}
    assert status.pop("gmm-seed1") == "failed"
    assert status == {"gmm-seed0": "finished"}
    assert "hunter2" not in result.output + (project / "sweep/runs.csv").read_text()
    assert "(+1 failed)" in (project / "sweep/leaderboard.md").read_text()

    before = {path: path.stat().st_mtime_ns for path in project.glob("sweep/*/cells/*/cell.json")}
    assert sweep(project, "--pipelines=gmm").exit_code == 0
    after = {path: path.stat().st_mtime_ns for path in before}
    assert {path.parent.name for path in before if before[path] != after[path]} == {"gmm-seed1"}
    assert records(project)["gmm-seed1"]["status"] == "finished"


def test_a_cell_whose_worker_dies_once_its_record_is_written_has_finished(project):
    result = sweep(project, "--pipelines=kmeans", "--seeds=0", "--launcher=sweep.failing:DiesLate")
    assert result.exit_code == 0, result.output
    assert [cell["status"] for cell in records(project).values()] == ["finished"]


def test_data_that_cannot_be_prepared_fail_the_cells_of_their_environment_only(project):
    result = sweep(project, "--envs=digits,usps", "--pipelines=kmeans", "--seeds=0")
    assert result.exit_code == 1
    assert "usps/kmeans-seed0: its data: " in result.output
    status = {
        path.parts[-4]: json.loads(path.read_text())["status"] for path in project.glob("sweep/*/cells/*/cell.json")
    }
    assert status == {"digits": "finished", "usps": "failed"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--envs=digit"], "--envs: unknown name 'digit' (did you mean 'digits'?)"),
        (["--envs=local"], "--envs: unknown name 'local'"),
        (["--pipelines=kmean"], "--pipelines: unknown name 'kmean' (did you mean 'kmeans'?)"),
        (["--seeds=9-0"], "runs backwards"),
        (["--grid=kmeans.n_int=1,2"], "digits: kmeans: unknown option 'n_int' (did you mean 'n_init'?)"),
        (["--grid=kmeans.n_init=0,2"], "digits: kmeans: n_init must be at least 1, got 0"),
        (["--grid=kmeans.n_init=many,2"], "digits: kmeans: 'n_init' got 'many'"),
        (["--grid=kmean.n_init=1,2"], "unknown parameter 'kmean' (did you mean 'kmeans'?)"),
        (["--grid=ingestion.rows=1,2"], "unknown option 'rows' (did you mean 'n_rows'?)"),
        (["--grid=n_clusters=1,8"], "n_clusters must be at least 2, got 1"),
        (["--jobs=0"], "--jobs must be at least 1, got 0"),
        (["--threads=0"], "--threads must be at least 1, got 0"),
        (["--launcher=proceses"], "did you mean 'processes'"),
        (["--folder=pyproject.toml"], "is a file; expected a folder"),
        (["--folder=conf"], "holds no sweep"),
    ],
)
def test_bad_input_is_one_message_and_nothing_is_written(project, options, message):
    before = sorted(project.rglob("*"))
    result = sweep(project, *options)
    assert result.exit_code == 1
    assert message in result.output
    assert isinstance(result.exception, SystemExit)
    assert sorted(project.rglob("*")) == before


def test_credentials_reach_no_record_and_no_tag(project, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (project / "conf/local/credentials.yml").write_text("store: {password: hunter2}\n")
    params = "ingestion.n_rows=100,features.weights=https://me:hunter2@host/w.pth"
    result = sweep(project, "--pipelines=kmeans", "--seeds=0-1", params=params)
    assert result.exit_code == 0, result.output
    assert "hunter2" not in result.output
    written = [project / "mlflow.db", *project.glob("sweep/*"), *project.glob("sweep/*/cells/*/cell.json")]
    written += project.glob("mlartifacts/**/*")
    files = [path for path in written if path.is_file()]
    assert len(files) > 8
    assert [path.name for path in files if b"hunter2" in path.read_bytes()] == []
    assert any(b"[redacted]@host" in path.read_bytes() for path in files)

    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    runs = client.search_runs([item.experiment_id for item in client.search_experiments()])
    (parent,) = (run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    children = [run for run in runs if run is not parent]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert {run.data.tags["sweep.cell"] for run in children} == {"digits/kmeans-seed0", "digits/kmeans-seed1"}
    assert {run.info.run_id for run in children} == {cell["run_id"] for cell in records(project).values()}
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert parent.data.params["seeds"] == "[0, 1]"
    mean = sum(cell["metrics"]["acc"] for cell in records(project).values()) / 2
    assert parent.data.metrics["digits.kmeans.acc_mean"] == pytest.approx(mean)
    files = {item.path for item in client.list_artifacts(parent.info.run_id, "leaderboard")}
    assert "leaderboard/leaderboard.html" in files


def _wait_for(condition, what: str, seconds: float = 600.0):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"no {what} after {seconds} s"
        time.sleep(0.02)
    return found


def _workers(pid: int) -> set[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    found = {int(word) for path in children.parent.parent.glob("*/children") for word in path.read_text().split()}
    return {child for child in found if b"spawn_main" in _command_of(child)}


def _command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):  # it has ended since it was listed
        return b""


def _heed_ctrl_c():
    """Undo what shells do to the commands that they start in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def _sweep_process(project: Path, *options: str, **environment: str):
    """The command in a process of its own, writing to `log`; killed in the end if it still lives."""
    command = [sys.executable, "-m", "kedro", "sweep", *BASE, f"--params={SMALL}", "--launcher=processes", *options]
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    settings = {"DO_NOT_TRACK": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": path, **environment}
    with (project / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=project, env=os.environ | settings, stdout=log, stderr=log, preexec_fn=_heed_ctrl_c
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_sweep_keeps_its_folder_to_itself_and_ctrl_c_leaves_it_to_be_continued(project):
    cells = ("--pipelines=kmeans", "--seeds=0-1")
    gate = project / "gate"
    with _sweep_process(project, *cells, "--launcher=sweep.failing:WaitsAtGate", GATE=str(gate)) as process:
        _wait_for(lambda: "1 of 2 cells" in (project / "log").read_text(), "first cell")
        _wait_for(gate.exists, "second cell")  # it waits there, and ends only with its worker
        (worker,) = _wait_for(lambda: _workers(process.pid), "worker")
        refused = sweep(project, *cells)
        assert refused.exit_code == 1
        assert f"sweep is in use by process {process.pid} on " in refused.output
        assert isinstance(refused.exception, SystemExit)

        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=600) == 130
    _wait_for(lambda: not Path(f"/proc/{worker}").exists(), "end of the worker")
    printed = (project / "log").read_text()
    assert "ending the workers; 1 of 2 cells have finished" in printed
    assert "the same command runs only what is missing" in printed
    assert "Traceback" not in printed
    (first,) = project.glob("sweep/*/cells/*/cell.json")
    written = first.read_bytes(), first.stat().st_mtime_ns

    result = sweep(project, *cells)
    assert result.exit_code == 0, result.output
    assert [cell["status"] for cell in records(project).values()] == ["finished"] * 2
    assert (first.read_bytes(), first.stat().st_mtime_ns) == written


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_killed_worker_fails_one_cell_and_a_killed_sweep_leaves_no_worker_and_goes_on(project):
    cells = ("--pipelines=kmeans", "--seeds=0-2")
    with _sweep_process(project, *cells) as process:
        _wait_for(lambda: "1 of 3 cells" in (project / "log").read_text(), "first cell")
        first = "kmeans-seed0"
        written = (project / "sweep/digits/cells" / first / "cell.json").stat().st_mtime_ns
        (worker,) = _workers(process.pid)
        os.kill(worker, signal.SIGKILL)
        _wait_for(lambda: len(records(project)) >= 2, "second cell")
        (successor,) = _wait_for(lambda: _workers(process.pid), "new worker")
        assert successor != worker
    _wait_for(lambda: not Path(f"/proc/{successor}").exists(), "end of the worker")
    reasons = [cell["reason"] for cell in records(project).values() if cell["status"] == "failed"]
    assert reasons == ["WorkerDied: its process died: killed, out of memory, or crashed"]

    result = sweep(project, *cells)
    assert result.exit_code == 0, result.output
    assert {cell["status"] for cell in records(project).values()} == {"finished"}
    assert len(records(project)) == 3
    assert (project / "sweep/digits/cells" / first / "cell.json").stat().st_mtime_ns == written

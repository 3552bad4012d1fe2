"""Runs that are killed at any moment: no half-written file is ever taken for a version, and the work can go on."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

from command_line import params
from pipelines.small_project import copy_project
from tracked_project import client_of, make_project

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")]

OPTIONS = params(ingestion__n_rows=100, reporting__map_points=10, tracking__enabled="true", tracking__log_model="false")
RUN = ["run", "--pipelines=kmeans", OPTIONS]
ENVIRONMENT = {"DO_NOT_TRACK": "true", "OMP_NUM_THREADS": "1", "MLFLOW_TRACKING_URI": ""}
LOGGING = [*RUN[:-1], OPTIONS.replace("tracking.log_model=false", "tracking.log_model=true")]
KILLED = -9
LEFT_OVER = ".part"


@pytest.fixture(scope="module")
def command():
    """Function (root, words, seconds, step or file) that runs a command of the project, see forked_runs.py."""
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("forked_runs.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | ENVIRONMENT,
        text=True,
    ) as server:

        def run(root, words, **moment):
            server.stdin.write(json.dumps({"root": str(root), "words": words, **moment}) + "\n")
            server.stdin.flush()
            return json.loads(server.stdout.readline())

        yield run
        server.stdin.close()


@pytest.fixture(scope="module")
def unbroken(command, tmp_path_factory):
    """What an unbroken run says of itself, and the values of all its outputs."""
    root = copy_project(tmp_path_factory.mktemp("unbroken") / "project")
    command(root, RUN)  # makes the tracking store, which later runs find
    report = command(root, RUN)
    log = (root.parent / "log.txt").read_text()
    assert report["code"] == 0, log
    outputs = Outputs(root)
    outputs.check_new()
    version = max(outputs.versions("kmeans_report"))
    return report, {name: outputs.load(name, version) for name in outputs.names}


class Outputs:
    """The files of a project, through its catalog."""

    def __init__(self, root):
        bootstrap_project(root)
        with KedroSession.create(project_path=root) as session:
            self._catalog = session.load_context().catalog
        from kedro.framework.project import pipelines

        self.names = sorted(pipelines["kmeans"].all_outputs())
        self._seen = set()

    def versions(self, name):
        return self._catalog[name].list_versions(full_path=False)

    def load(self, name, version):
        """The value without what depends on the machine and the moment."""
        value = self._catalog.load(name, version=version)
        if name.endswith("_report"):
            return value[:15]
        if name.endswith("_scores"):
            return {key: value[key] for key in ("metrics", "occupancy", "contingency", "data_sha256")}
        if name.endswith("_history"):
            return {key: column for key, column in value.items() if not key.startswith("cost_")}
        if hasattr(value, "columns"):  # a table
            return value.astype(object).where(value.notna(), None).to_dict("list")
        return value

    def check_new(self, expected=None):
        """Load every version that has come since; returns how many there are."""
        new = [(name, version) for name in self.names for version in self.versions(name)]
        for name, version in set(new) - self._seen:
            value = self.load(name, version)
            if expected is not None:
                np.testing.assert_equal(value, expected[name], err_msg=f"{name} {version}")
        self._seen.update(new)
        return len(new)


def test_killed_runs_leave_only_whole_files_and_the_next_run_is_as_if_they_had_not_been(command, unbroken, tmp_path):
    report, expected = unbroken
    root = copy_project(tmp_path / "project")
    outputs, rng = Outputs(root), np.random.default_rng(0)
    steps = [{"step": int(step)} for step in rng.choice(np.arange(1, report["n_steps"]), 20, replace=False)]
    times = [{"seconds": float(share) * report["seconds"]} for share in rng.random(5)]
    n_killed, n_versions = 0, [0]
    for moment in rng.permutation(steps + times):
        code = command(root, RUN, **moment)["code"]
        assert code in (0, KILLED), (root.parent / "log.txt").read_text()
        n_killed += code == KILLED
        n_versions.append(outputs.check_new(expected))
    assert n_killed >= 20
    gained = np.diff(n_versions)
    assert len(set(gained)) > 4, "at many different places"

    left = list((root / "data").rglob(f".*{LEFT_OVER}"))
    assert left, "some must have died while they wrote"
    for path in left:
        os.utime(path, (0, 0))
    before = times_of(root / "data")
    assert command(root, RUN)["code"] == 0, (root.parent / "log.txt").read_text()
    outputs.check_new(expected)
    (version,) = set.intersection(*({max(outputs.versions(name))} for name in outputs.names))
    for name in outputs.names:
        np.testing.assert_equal(outputs.load(name, version), expected[name])
    assert not list((root / "data").rglob(f".*{LEFT_OVER}"))
    assert before.items() <= times_of(root / "data").items()


def times_of(folder):
    """When each file was written, without what killed runs have left."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != LEFT_OVER)
    return {path: path.stat().st_mtime_ns for path in files}


def test_a_run_that_is_killed_again_and_again_is_finished_by_resuming(command, unbroken, tmp_path):
    report, expected = unbroken
    root = copy_project(tmp_path / "project")
    outputs, rng = Outputs(root), np.random.default_rng(1)
    n_steps = report["n_steps"]
    assert command(root, RUN, step=n_steps // 3)["code"] == KILLED
    data = times_of(root / "data/03_primary") | times_of(root / "data/04_feature")
    assert data, "a node must have finished"
    for step in rng.integers(n_steps // 10, n_steps // 4, 3):
        assert command(root, ["resume"], step=int(step))["code"] == KILLED
        outputs.check_new(expected)
    assert command(root, ["resume"])["code"] == 0, (root.parent / "log.txt").read_text()
    outputs.check_new(expected)
    assert data.items() <= times_of(root / "data").items(), "what was finished is not done again"
    assert len({version for name in outputs.names for version in outputs.versions(name)}) == 1
    assert all(len(outputs.versions(name)) == 1 for name in outputs.names)


def test_a_process_killed_while_it_imports_or_works_does_not_disturb_the_next(command, unbroken, tmp_path):
    """Forks have the libraries loaded; these processes have not."""
    _, expected = unbroken
    root = copy_project(tmp_path / "project")
    outputs = Outputs(root)
    words = [sys.executable, "-m", "deep_clustering", *RUN[1:]]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    for is_due in (lambda: (root / "mlflow.db").exists(), lambda: True):
        with subprocess.Popen(words, cwd=root, env=os.environ | ENVIRONMENT, **silent) as process:
            time.sleep(1)
            while process.poll() is None and not is_due():
                time.sleep(0.01)
            process.kill()
        assert process.returncode == KILLED
        outputs.check_new(expected)
    assert command(root, RUN)["code"] == 0
    assert outputs.check_new(expected) >= len(outputs.names)


class Record:
    """What the tracking store holds of all runs of a project together."""

    def __init__(self, root):
        client = client_of(root)
        (experiment,) = (one for one in client.search_experiments() if one.name == "deep-clustering")
        runs = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"])
        self.statuses = [run.info.status for run in runs]
        self.tags = [run.data.tags for run in runs]
        self.ids = [run.info.run_id for run in runs]
        self.metrics = sorted(
            (name, point.step, point.value)
            for run in runs
            for name in run.data.metrics
            if not name.startswith(("wall_seconds.", "peak_memory", "kmeans.cost."))
            for point in client.get_metric_history(run.info.run_id, name)
        )
        self.params = {name: text for run in runs for name, text in run.data.params.items()}
        del self.params["checkpoints.resume"]  # which a continuation sets
        self.files = sorted(
            item.path
            for run in runs
            for folder in ("", "kmeans")
            for item in client.list_artifacts(run.info.run_id, folder)
            if not item.is_dir and item.path != "data_card.json"
        )
        self.data = {name: text for tags in self.tags for name, text in tags.items() if name.startswith("data.sha256")}
        self.models = [
            (str(one.name), str(one.status)) for one in client.search_logged_models([experiment.experiment_id])
        ]
        self.outputs = sum(len(run.outputs.model_outputs) for run in runs)
        self.versions = [(one.name, str(one.version)) for one in client.search_model_versions("")]
        self.champions = [(one.name, dict(one.aliases)) for one in client.search_registered_models()]

    def content(self):
        """All that does not depend on how many runs it took."""
        return {name: value for name, value in vars(self).items() if name not in ("statuses", "tags", "ids")}


@pytest.fixture(scope="module")
def unbroken_record(command, tmp_path_factory):
    root = make_project(tmp_path_factory.mktemp("recorded") / "project")
    assert command(root, LOGGING)["code"] == 0, (root.parent / "log.txt").read_text()
    record = Record(root)
    assert record.statuses == ["FINISHED"]
    assert record.versions == [("digits-kmeans", "1")]
    assert len(record.files) == 7
    return record


@pytest.mark.parametrize(
    "file",
    [
        "data_card.json",
        "history.npz",
        "assignments.npy",
        "predictor.safetensors",
        "scores.json",
        "report.html",
        "assignments.parquet",
    ],
)
def test_what_a_killed_run_has_saved_and_not_tracked_is_tracked_once(command, unbroken_record, tmp_path, file):
    root = make_project(tmp_path / "project")
    assert command(root, LOGGING, file=file)["code"] == KILLED
    saved = {path: path.stat().st_mtime_ns for path in (root / "data").rglob(f"{file}/*/{file}")}
    assert len(saved) == 1
    assert Record(root).statuses == ["RUNNING"]
    assert command(root, ["resume"])["code"] == 0, (root.parent / "log.txt").read_text()
    record = Record(root)
    assert record.content() == unbroken_record.content()
    if file == "assignments.parquet":  # the last output: nothing is left to run
        assert record.statuses == ["FINISHED"]
    else:
        assert record.statuses == ["KILLED", "FINISHED"]
        assert record.tags[0]["deep_clustering.resumed_by"] == record.ids[1]
    if file not in ("assignments.npy", "report.html"):  # those nodes lacked other outputs
        assert {path: path.stat().st_mtime_ns for path in saved} == saved, "it is not computed again"
    assert command(root, ["resume"])["code"] == 0
    assert (root.parent / "log.txt").read_text().endswith("no tracked run is unfinished\n")
    assert vars(Record(root)) == vars(record)


def test_resuming_passes_over_a_run_that_lacks_nothing_and_reaches_an_older_one(command, tmp_path):
    root = make_project(tmp_path / "project")
    assert command(root, RUN, file="assignments.npy")["code"] == KILLED
    assert command(root, RUN, file="assignments.parquet")["code"] == KILLED
    assert command(root, ["resume"])["code"] == 0, (root.parent / "log.txt").read_text()
    record = Record(root)
    assert record.statuses == ["KILLED", "FINISHED", "FINISHED"]
    assert record.tags[0]["deep_clustering.resumed_by"] == record.ids[2]
    assert record.tags[2]["deep_clustering.resumes"] == record.ids[0]

"""Outputs in the tracking store: whatever moment a process is killed at, what it lacks is found and written once."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from deep_clustering.runs.tracking import models
from deep_clustering.runs.tracking.outputs import Output, Recorder
from deep_clustering.runs.tracking.records import backbone_precision, circumstances
from deep_clustering.runs.tracking.store import find_tracked_run, start_run
from deep_clustering.runs.tracking.tracked_run import MAX_METRICS
from tracked_project import client_of, make_project

FEW = 10  # points that one request takes where a process is killed at each of them
EPOCHS = FEW + 1  # two requests
OPTIONS = {"seed": 0}
DATA = {
    "data_card": {
        "name": "some",
        "source": "nowhere",
        "n_samples": 3,
        "shape": [3, 2],
        "dtype": "float32",
        "sha256": {"samples": "a" * 64},
    },
    "history": {
        "epoch": np.arange(EPOCHS),
        "loss": np.linspace(1, 0, EPOCHS),
        "under_precision": np.array("bf16"),
        "under_device": np.array("cuda"),
    },
    "artifact": "page",
    "model": SimpleNamespace(
        model=SimpleNamespace(method="toy", options=OPTIONS),
        preparation=SimpleNamespace(
            options={"backbone": "net", "precision": "fp32"}, weights_sha256=None, data_sha256="a" * 64, reading={}
        ),
        score=("quality", "max", 0.5),
    ),
    "scores": {
        "metrics": {"acc": 0.5},
        "collapsed": False,
        "curves": {"snapshots": {"epoch": [0, 5], "churn": [0.0, 0.5]}},
    },
}


class Killed(BaseException):
    """A process that is no more."""


class MortalClient:
    """A client of a process that is killed before its so manieth call: none comes after it."""

    def __init__(self, client, last):
        self._client, self._last, self.n_calls = client, last, 0

    def __getattr__(self, name):
        method = getattr(self._client, name)

        def call(*arguments, **named):
            self.n_calls += 1
            if self._last is not None and self.n_calls >= self._last:
                raise Killed
            return method(*arguments, **named)

        return call


@pytest.fixture
def outputs(tmp_path, monkeypatch):
    """One of each kind, with its file."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("deep_clustering.inference.raw_rows.example_rows", lambda preparation: None)
    monkeypatch.setattr("deep_clustering.inference.raw_rows.expected_rows", lambda preparation: "none")
    monkeypatch.setattr(models, "_save_model", lambda target, *_: (target.mkdir(), (target / "MLmodel").touch()))
    (tmp_path / "files").mkdir()

    def make(kind):
        path = tmp_path / "files" / f"{kind}.json"
        path.write_text(json.dumps({"kind": kind}))
        return Output(kind=kind, method="toy", data=DATA[kind], find_file=lambda: path)

    return [make(kind) for kind in DATA]


@pytest.fixture
def root(tmp_path):
    return make_project(tmp_path / "project")


def begin(root, client):
    """A run that has begun, and what writes to it through a client."""
    run_id = start_run(root, "outputs", "toy", {}).run_id
    return run_id, recorder(root, client, run_id)


def recorder(root, client, run_id):
    run = find_tracked_run(client_of(root), root, run_id)
    run._client = client
    return Recorder(run=run, data_set=f"set-{run_id[:8]}", log_model=True, register=True)


def write_all(writer, outputs):
    for output in outputs:
        writer.write(output)


def content(root, run_id):
    """What the store has of a run, without what differs between any two."""
    client = client_of(root)
    run = client.get_run(run_id)
    found = client.search_logged_models([run.info.experiment_id], filter_string=f"source_run_id = '{run_id}'")
    name = f"set-{run_id[:8]}-toy"
    return {
        "metrics": {
            name: [(point.step, point.value) for point in client.get_metric_history(run_id, name)]
            for name in run.data.metrics
        },
        "params": run.data.params,
        "data": run.data.tags["data.sha256.samples"],
        "inputs": [one.dataset.digest for one in run.inputs.dataset_inputs],
        "files": sorted(
            (item.path, item.file_size) for path in ("", "toy") for item in client.list_artifacts(run_id, path)
        ),
        "ready": [str(one.status) for one in found].count("READY"),
        "pending": [str(one.status) for one in found].count("PENDING"),
        "outputs": len(run.outputs.model_outputs),
        "versions": [str(one.version) for one in client.search_model_versions(f"name = '{name}'")],
        "champion": dict(client.get_registered_model(name).aliases),
    }


@pytest.mark.slow
def test_what_a_process_left_half_written_is_completed_and_nothing_is_there_twice(root, outputs, monkeypatch):
    monkeypatch.setattr("deep_clustering.runs.tracking.tracked_run.MAX_METRICS", FEW)
    client = MortalClient(client_of(root), None)
    run_id, unbroken = begin(root, client)
    for output in outputs:
        assert not unbroken.has(output), output.kind
    asked, client.n_calls = client.n_calls, 0
    assert asked
    write_all(unbroken, outputs)
    n_calls = client.n_calls
    assert all(unbroken.has(output) for output in outputs)
    expected = content(root, run_id)
    assert expected["versions"] == ["1"]
    assert [len(points) for name, points in sorted(expected["metrics"].items()) if "toy.train" in name] == [EPOCHS]

    for last in range(1, n_calls + 1):
        run_id, mortal = begin(root, MortalClient(client_of(root), last))
        with pytest.raises(Killed):
            write_all(mortal, outputs)
        later = recorder(root, client_of(root), run_id)
        lacking = [output for output in outputs if not later.has(output)]
        assert lacking, f"killed before call {last} of {n_calls}"
        for output in lacking:
            later.write(output, again=True)
        assert content(root, run_id) == expected, f"killed before call {last} of {n_calls}"
        assert all(later.has(output) for output in outputs)


def test_more_points_than_mlflow_takes_at_once_are_all_there(root, outputs):
    _, complete = begin(root, client_of(root))
    (history,) = (output for output in outputs if output.kind == "history")
    epochs = MAX_METRICS + 1
    longer = history.data | {"epoch": np.arange(epochs), "loss": np.linspace(1, 0, epochs)}
    complete.write(replace(history, data=longer))
    assert complete.run.steps_of("toy.train.loss") == set(range(epochs))


def test_a_file_that_was_copied_in_part_is_not_there(root, outputs):
    _, complete = begin(root, client_of(root))
    (page,) = (output for output in outputs if output.kind == "artifact")
    complete.write(page)
    (copy,) = (root / "mlartifacts").rglob("artifact.json")
    copy.write_bytes(copy.read_bytes()[:-1])
    assert not complete.has(page)


def test_what_shall_not_be_stored_is_not_missed(root, outputs):
    run_id, _ = begin(root, client_of(root))
    run = find_tracked_run(client_of(root), root, run_id)
    (model,) = (output for output in outputs if output.kind == "model")
    assert Recorder(run=run, data_set="some", log_model=False, register=True).has(model)
    unregistered = Recorder(run=run, data_set="some", log_model=True, register=False)
    assert not unregistered.has(model)
    unregistered.write(model)
    assert unregistered.has(model)
    assert client_of(root).search_registered_models() == []


def test_what_a_training_ran_under_is_noted(root, outputs):
    run_id, complete = begin(root, client_of(root))
    write_all(complete, outputs)
    params = client_of(root).get_run(run_id).data.params
    assert params == {"toy.precision_used": "bf16", "toy.device_used": "cuda", "features.precision_used": "fp32"}


def test_what_is_not_known_is_not_noted():
    assert circumstances("toy", {"loss": np.zeros(3)}) == {}
    assert backbone_precision(SimpleNamespace(options={"backbone": None, "precision": "auto"})) == {}

"""A hand-made pipeline run with the hook, and what MLflow then has to say about it."""

import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from kedro.framework.hooks.manager import _create_hook_manager
from kedro.io import DataCatalog, Version
from kedro.pipeline import Pipeline, node
from kedro.runner import SequentialRunner, ThreadRunner

from deep_clustering.data.preparation import Preparation
from deep_clustering.datasets import PredictorDataset
from deep_clustering.inference.predictor import Predictor
from deep_clustering.methods import Model, load_method
from deep_clustering.runs.tracking import MLflowTracking, TrackingError, provenance
from deep_clustering.runs.tracking.process import describe_process
from deep_clustering.runs.tracking.records import score_points
from deep_clustering.runs.tracking.store import SWEEP, start_run
from deep_clustering.runs.tracking.tracked_run import LOST, TrackedRun

EPOCHS = 700
PARAMETERS = {
    "tracking": {"enabled": True, "experiment": "tests", "log_model": False, "register": False, "on_error": "stop"},
    "seed": 3,
    "device": "cpu",
    "n_clusters": 3,
    "ingestion": {"api_key": "hush", "token_pattern": "[a-z]+", "mirror": "https://me:hush@host/x"},
    "unused": {"never": 1},
    "toy": {"hidden": [4, 2], "nested": {"rate": 0.1, "on": True}, "long": "x" * 7000},
}
FEATURES = {
    "scaling": "none",
    "postprocess": "none",
    "backbone": None,
    "weights": "DEFAULT",
    "size": 224,
    "layer": "avgpool",
    "batch_size": 1,
    "precision": "fp32",
    "device": "cpu",
    "cache": "none",
}
CATALOG = {
    "data_card": ("JSONDataset", "data_card.json", "data_card"),
    "{method}.predictor": ("PredictorDataset", "{method}/predictor.safetensors", "model"),
    "{method}.history": ("NpzDataset", "{method}/history.npz", "history"),
    "{method}.report": ("TextDataset", "{method}/report.html", "artifact"),
    "{method}_scores": ("JSONDataset", "{method}/scores.json", "scores"),
}
CARD = {
    "name": "blobs",
    "source": "https://example.org/blobs",
    "licence": "CC0",
    "n_samples": 30,
    "shape": [30, 1, 2, 2],
    "dtype": "float32",
    "sha256": {"samples": "a" * 64, "labels": "b" * 64},
}
SCORES = {
    "method": "toy",
    "metrics": {"acc": 0.5, "n_occupied": 3},
    "collapsed": True,
    "curves": {"snapshots": {"epoch": [0, 5], "n_occupied": [1, 3], "acc": [0.25, None]}},
}


def make_features():
    return np.random.default_rng(0).random((30, 1, 2, 2), dtype=np.float32)


def make_card():
    return CARD


def fit(features, options):
    centroids = features[:3].reshape(3, -1)
    model = Model(
        "kmeans",
        {"n_clusters": 3, "seed": 0, "n_init": 1},
        {"centroids": centroids, "variance": np.asarray(0.1, dtype=np.float32)},
    )
    epoch = np.arange(EPOCHS)
    history = {"epoch": epoch, "loss": 1.0 / (1 + epoch), "gain": epoch * 2.0}
    snapshots = {"snapshot_epoch": np.zeros(1), "snapshot_assignments": np.zeros((1, 30))}
    preparation = Preparation(
        data_set="blobs",
        data_sha256="a" * 64,
        row_shape=(4,),
        dtype="float32",
        is_sparse=False,
        value_range=(0.0, 1.0),
        fit="crop",
        options=FEATURES,
        weights_sha256=None,
        terms=(),
        arrays={},
        reads_texts=False,
    )
    return Predictor(model, preparation, None, 10, None), history | snapshots


def score(predictor):
    return SCORES


def report(scores, card):
    return f"<p>é {scores['metrics']['acc']} {card['name']}</p>"


def fail(features):
    raise RuntimeError("out of luck " + "!" * 600)


def interrupt(features):
    raise KeyboardInterrupt


def toy_pipeline():
    return Pipeline(
        [
            node(make_features, None, "features", name="make_features"),
            node(make_card, None, "data_card", name="make_card"),
            node(fit, ["features", "params:toy"], ["toy.predictor", "toy.history"], name="toy.fit"),
            node(score, "toy.predictor", "toy_scores", name="toy.score"),
            node(report, ["toy_scores", "data_card"], "toy.report", name="toy.report"),
        ]
    )


def broken_pipeline(function):
    return Pipeline([node(make_features, None, "features"), node(function, "features", "nothing", name="breaks")])


@pytest.fixture(scope="module")
def migrated_store(tmp_path_factory):
    """A store with its tables: making one takes a second, copying one does not."""
    root = tmp_path_factory.mktemp("store")
    start_run(root, "template", "template", {}).finish("FINISHED")
    return root / "mlflow.db"


@pytest.fixture
def project(tmp_path, migrated_store, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(migrated_store, tmp_path / "mlflow.db")
    return tmp_path


def run_kedro(
    project, pipeline, parameters=PARAMETERS, save_version="v1", load_versions=None, runner=None, **run_params
):
    """What a Kedro session does around a run."""
    entries = {
        name: {
            "type": f"deep_clustering.datasets.{cls}",
            "filepath": str(project / "data" / file),
            "versioned": True,
            "metadata": {"mlflow": kind, "method": "toy"},
        }
        for name, (cls, file, kind) in CATALOG.items()
    }
    manager = _create_hook_manager()
    manager.register(MLflowTracking())
    hooks = manager.hook
    context = SimpleNamespace(project_path=project, config_loader={"globals": {"data_set": "blobs"}})
    hooks.after_context_created(context=context)
    catalog = DataCatalog.from_config(entries, load_versions=load_versions, save_version=save_version)
    flat = {f"params:{name}": value for name, value in parameters.items()}
    feed = {"parameters": parameters, **flat}
    for name, value in feed.items():
        catalog[name] = value
    hooks.after_catalog_created(
        catalog=catalog,
        conf_catalog=entries,
        conf_creds={},
        parameters=feed,
        save_version=save_version,
        load_versions=load_versions,
    )
    record = {"env": "test", "load_versions": load_versions, "pipeline_names": ["toy"], **run_params}
    hooks.before_pipeline_run(run_params=record, pipeline=pipeline, catalog=catalog)
    try:
        result = (runner or SequentialRunner()).run(pipeline, catalog, manager, run_id="s")
    except Exception as error:
        hooks.on_pipeline_error(error=error, run_params=record, pipeline=pipeline, catalog=catalog)
        raise
    hooks.after_pipeline_run(run_params=record, run_result=result, pipeline=pipeline, catalog=catalog)


def client_of(project):
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{project / 'mlflow.db'}")


def runs_of(project):
    client = client_of(project)
    return client.search_runs([client.get_experiment_by_name("tests").experiment_id])


def artifacts_of(project, run):
    client = client_of(project)
    files = {}

    def walk(folder):
        for item in client.list_artifacts(run.info.run_id, folder):
            if item.is_dir:
                walk(item.path)
            else:
                files[item.path] = client.download_artifacts(run.info.run_id, item.path)

    walk(None)
    return files


def with_tracking(**options):
    return {**PARAMETERS, "tracking": {**PARAMETERS["tracking"], **options}}


@pytest.mark.parametrize("runner", [SequentialRunner, ThreadRunner])
def test_run_is_recorded(project, runner, caplog):
    with caplog.at_level(logging.INFO):
        run_kedro(project, toy_pipeline(), runner=runner())
    (run,) = runs_of(project)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "toy blobs seed 3"
    assert run.info.artifact_uri.startswith((project / "mlartifacts").as_uri())
    assert f"tracked as run toy blobs seed 3 ({run.info.run_id})" in caplog.text
    assert f"in sqlite:///{project}/mlflow.db" in caplog.text
    import mlflow

    assert mlflow.active_run() is None


def test_parameters_are_flat_complete_and_redacted(project):
    run_kedro(project, toy_pipeline())
    (run,) = runs_of(project)
    params = run.data.params
    assert params["toy.hidden"] == "[4, 2]"
    assert params["toy.nested.rate"] == "0.1"
    assert params["toy.nested.on"] == "true"
    assert (params["data_set"], params["seed"], params["device"], params["n_clusters"]) == (
        "blobs",
        "3",
        "cpu",
        "3",
    )
    assert "unused.never" not in params
    assert params["ingestion.api_key"] == "[redacted]"
    assert params["ingestion.token_pattern"] == "[a-z]+"
    assert params["ingestion.mirror"] == "https://[redacted]@host/x"
    assert params["toy.long"].startswith("7000 characters, see artifact long_values/toy.long.txt")
    with open(artifacts_of(project, run)["long_values/toy.long.txt"]) as file:
        assert file.read() == "x" * 7000


def test_points_of_scores_over_epochs_and_numbers_of_clusters():
    scores = {
        "metrics": {"acc": 0.5},
        "collapsed": False,
        "cost": {"wall_seconds": 2.0},
        "selection": {
            "n_clusters": [2, 3],
            "log_likelihood": [0.25, 0.5],
            "log_likelihood_deviation": [0.01, 0.02],
            "probability": [0.1, 0.9],
            "suggested": 3,
        },
        "curves": {"snapshots": {"epoch": [0, 5], "churn": [0.0, 0.75]}},
    }
    plain = [("toy.acc", 0.5, 0), ("toy.collapsed", 0.0, 0), ("toy.cost.wall_seconds", 2.0, 0)]
    selection = [
        ("toy.selection.log_likelihood", 0.25, 2),
        ("toy.selection.log_likelihood", 0.5, 3),
        ("toy.selection.log_likelihood_deviation", 0.01, 2),
        ("toy.selection.log_likelihood_deviation", 0.02, 3),
        ("toy.selection.probability", 0.1, 2),
        ("toy.selection.probability", 0.9, 3),
    ]
    epochs = [("toy.epoch.churn", 0.0, 0), ("toy.epoch.churn", 0.75, 5)]
    assert sorted(score_points("toy", scores)) == sorted([*plain, *selection, *epochs])
    assert sorted(score_points("toy", scores | {"selection": None})) == sorted([*plain, *epochs])


def test_metrics_histories_and_files(project):
    run_kedro(project, toy_pipeline())
    client = client_of(project)
    (run,) = runs_of(project)
    metrics = run.data.metrics
    assert (metrics["toy.acc"], metrics["toy.n_occupied"], metrics["toy.collapsed"]) == (0.5, 3, 1)
    assert metrics["wall_seconds.toy.fit"] > 0
    assert metrics["peak_memory_mb"] > 10
    loss = client.get_metric_history(run.info.run_id, "toy.train.loss")
    assert [point.step for point in loss] == list(range(EPOCHS))
    assert [point.value for point in loss] == pytest.approx([1 / (1 + epoch) for epoch in range(EPOCHS)])
    occupied = client.get_metric_history(run.info.run_id, "toy.epoch.n_occupied")
    assert [(point.step, point.value) for point in occupied] == [(0, 1), (5, 3)]
    assert [point.step for point in client.get_metric_history(run.info.run_id, "toy.epoch.acc")] == [0]
    assert not [name for name in metrics if "snapshot" in name]

    files = artifacts_of(project, run)
    for logged, saved in {
        "toy/scores.json": "toy/scores.json/v1/scores.json",
        "toy/report.html": "toy/report.html/v1/report.html",
        "data_card.json": "data_card.json/v1/data_card.json",
    }.items():
        with open(files[logged], "rb") as left, open(project / "data" / saved, "rb") as right:
            assert left.read() == right.read()


def test_provenance_tags(project):
    run_kedro(project, toy_pipeline(), runtime_params={"seed": 3, "hub": {"token": "hush"}}, save_version="v7")
    (run,) = runs_of(project)
    tags = run.data.tags
    assert (tags["kedro.pipeline"], tags["kedro.env"], tags["kedro.save_version"]) == ("toy", "test", "v7")
    assert json.loads(tags["kedro.runtime_params"]) == {"seed": 3, "hub": {"token": "[redacted]"}}
    assert tags["git.sha"] == tags["git.branch"] == tags["git.dirty"] == "unknown"
    assert json.loads(tags["python.packages"])["numpy"] == np.__version__
    assert int(tags["hardware.logical_cores"]) == os.cpu_count()
    assert tags["hardware.cpu"]
    assert "hush" not in json.dumps(tags)
    assert tags["kedro.command"].startswith("kedro run --pipelines=toy --env=test --params=seed=3 ")


def test_data_card_becomes_the_input(project):
    run_kedro(project, toy_pipeline())
    (run,) = runs_of(project)
    (used,) = run.inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == ("blobs", "a" * 36)
    profile = json.loads(used.dataset.profile)
    assert (profile["num_rows"], profile["licence"]) == (30, "CC0")
    assert run.data.tags["data.sha256.samples"] == "a" * 64
    import mlflow.data
    from mlflow.data.schema import TensorDatasetSchema

    assert mlflow.data.get_source(used).url == CARD["source"]
    (tensor,) = TensorDatasetSchema.from_dict(json.loads(used.dataset.schema)).features.inputs
    assert (tensor.shape, tensor.type) == ((-1, 1, 2, 2), np.float32)


def test_later_run_names_the_versions_it_read(project):
    run_kedro(project, toy_pipeline(), save_version="v1")
    run_kedro(project, toy_pipeline(), save_version="v2")
    rest = toy_pipeline().only_nodes("toy.report")
    run_kedro(project, rest, save_version="v3")
    run_kedro(project, rest, save_version="v4", load_versions={"toy_scores": "v1"})
    pinned, latest = runs_of(project)[:2]
    assert json.loads(latest.data.tags["kedro.load_versions"]) == {"data_card": "v2", "toy_scores": "v2"}
    assert json.loads(pinned.data.tags["kedro.load_versions"]) == {"data_card": "v2", "toy_scores": "v1"}
    assert pinned.data.tags["kedro.command"].endswith("--load-versions=data_card:v2,toy_scores:v1")
    assert latest.inputs.dataset_inputs[0].dataset.name == "blobs"


def test_failure_leaves_its_reason(project):
    with pytest.raises(RuntimeError, match="out of luck"):
        run_kedro(project, broken_pipeline(fail))
    (run,) = runs_of(project)
    assert run.info.status == "FAILED"
    assert run.data.tags["error"].startswith("RuntimeError: out of luck")
    assert len(run.data.tags["error"]) == 500


@pytest.mark.parametrize("cause", ["interrupt", "sigterm"])
def test_interrupted_run_is_killed(project, cause):
    code = f"""
        import sys, time
        from pathlib import Path
        sys.path[:0] = [{os.path.dirname(__file__)!r}, {os.path.dirname(os.path.dirname(__file__))!r}]
        import test_tracking as t
        def wait(features):
            print("waiting", flush=True)
            time.sleep(60)
        function = t.interrupt if {cause!r} == "interrupt" else wait
        t.run_kedro(Path({str(project)!r}), t.broken_pipeline(function))
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        if cause == "sigterm":
            process.stdout.readline()
            process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) != 0
    (run,) = runs_of(project)
    assert run.info.status == "KILLED"
    assert run.info.end_time


def test_disabled_tracking_never_imports_mlflow(project):
    code = f"""
        import sys
        from pathlib import Path
        sys.path[:0] = [{os.path.dirname(__file__)!r}, {os.path.dirname(os.path.dirname(__file__))!r}]
        import test_tracking as t
        assert "mlflow" not in sys.modules
        t.run_kedro(Path({str(project)!r}), t.toy_pipeline(), t.with_tracking(enabled=False))
        assert "mlflow" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)
    assert client_of(project).get_experiment_by_name("tests") is None


def test_first_runs_of_a_project_share_a_store_and_say_little(tmp_path):
    code = f"""
        import sys
        from pathlib import Path
        sys.path[:0] = [{os.path.dirname(__file__)!r}, {os.path.dirname(os.path.dirname(__file__))!r}]
        import test_tracking as t
        options = t.with_tracking(log_model=True)
        t.run_kedro(Path({str(tmp_path)!r}), t.toy_pipeline(), options, save_version=sys.argv[1])
    """
    environment = {name: text for name, text in os.environ.items() if not name.startswith("MLFLOW_")}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), version],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        for version in ("v1", "v2")
    ]
    for process in processes:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output
        said = ("mlflow", "alembic", "Downloading artifacts")
        noise = [line for line in output.splitlines() if any(word in line for word in said)]
        assert len(noise) == 1
        page = r"http://127.0.0.1:5000/#/experiments/\d+/runs/\w{32}"
        assert re.search(f"mlflow.db; `mlflow ui --backend-store-uri \\S+mlflow.db` shows it at {page}$", noise[0])
        assert "tracked as run toy blobs seed 3" in output
    assert [run.info.status for run in runs_of(tmp_path)] == ["FINISHED", "FINISHED"]


def test_unusable_store_is_one_clear_error(project, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////proc/none/mlflow.db")
    started = time.perf_counter()
    with pytest.raises(TrackingError, match=r"(?s)sqlite:////proc/none/mlflow.db.*tracking.enabled=false"):
        run_kedro(project, toy_pipeline())
    (project / "text.db").write_text("no database " * 100)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project / 'text.db'}")
    with pytest.raises(TrackingError, match="file is not a database"):
        run_kedro(project, toy_pipeline())
    assert time.perf_counter() - started < 10
    assert not (project / "data").exists()


def test_unreachable_server_is_one_clear_error_without_its_password(project, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hush@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TrackingError) as caught:
        run_kedro(project, toy_pipeline())
    assert "http://[redacted]@127.0.0.1:9" in caught.value.message
    assert "hush" not in caught.value.message


@pytest.mark.parametrize("on_error", ["stop", "warn"])
def test_store_that_fails_later_does_not_end_the_run_but_fails_the_command(project, monkeypatch, caplog, on_error):
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    def refuse(*args, **kwargs):
        raise MlflowException("disk full")

    monkeypatch.setattr(MlflowClient, "log_artifact", refuse)
    if on_error == "warn":
        run_kedro(project, toy_pipeline(), with_tracking(on_error=on_error))
    else:
        with pytest.raises(TrackingError) as caught:
            run_kedro(project, toy_pipeline())
        assert "the run is done and its outputs are saved, but MLflow did not take " in caught.value.message
        assert "toy.report" in caught.value.message
    (run,) = runs_of(project)
    assert run.info.status == "FINISHED"
    assert "toy.report" in run.data.tags[LOST]
    warnings = [line.getMessage() for line in caplog.records if line.levelno == logging.WARNING]
    assert warnings[0].startswith("MLflow did not take parameters: MlflowException: disk full; the run goes on, ")
    assert len(warnings) == (2 if on_error == "warn" else 1)
    assert f"tracked in part as run {run.info.run_name}" in caplog.text
    assert "tracked as run" not in caplog.text


@pytest.fixture
def leaving_store(project):
    """A store whose file goes elsewhere when the toy fits: SQLite then says that it cannot write."""
    away = project / "elsewhere.db"

    def fit_and_lose(features, options):
        (project / "mlflow.db").rename(away)
        return fit(features, options)

    others = [one for one in toy_pipeline().nodes if one.name != "toy.fit"]
    lose = node(fit_and_lose, ["features", "params:toy"], ["toy.predictor", "toy.history"], name="toy.fit")
    return Pipeline([*others, lose]), lambda: away.rename(project / "mlflow.db")


@pytest.mark.parametrize("on_error", ["stop", "warn"])
def test_a_store_that_goes_away_is_one_message_and_no_traceback(project, leaving_store, caplog, capfd, on_error):
    pipeline, come_back = leaving_store
    with caplog.at_level(logging.INFO):
        if on_error == "warn":
            run_kedro(project, pipeline, with_tracking(on_error=on_error))
            first, message = (line.getMessage() for line in caplog.records if line.levelno >= logging.WARNING)
        else:
            with pytest.raises(TrackingError) as caught:
                run_kedro(project, pipeline)
            (first,) = (line.getMessage() for line in caplog.records if line.levelno >= logging.WARNING)
            message = caught.value.message
    reason = "OperationalError: attempt to write a readonly database"
    assert re.fullmatch(rf"MLflow did not take toy\.\w+: {reason}; the run goes on, .*", first)
    assert f"toy_scores, run times and memory, the status FINISHED ({reason})" in message
    assert "Traceback" not in caplog.text + "".join(capfd.readouterr())
    come_back()
    (run,) = runs_of(project)
    assert f"`kedro resume {run.info.run_id[:8]}` writes to it what is saved" in message
    assert message.rpartition("until ")[2].startswith("a command can write there, the record says RUNNING")
    assert (run.info.status, LOST in run.data.tags) == ("RUNNING", False)
    assert logging.getLogger("mlflow.store").level == logging.NOTSET


def test_the_next_run_of_the_same_process_closes_what_a_store_did_not_let_it_close(project, leaving_store, monkeypatch):
    pipeline, come_back = leaving_store
    hook = MLflowTracking()
    monkeypatch.setattr(sys.modules[__name__], "MLflowTracking", lambda: hook)
    run_kedro(project, pipeline, with_tracking(on_error="warn"))
    come_back()
    run_kedro(project, toy_pipeline(), save_version="v2")
    second, first = runs_of(project)
    assert (first.info.status, second.info.status) == ("FINISHED", "FINISHED")
    assert first.data.tags[LOST].endswith("run times and memory, the status FINISHED")
    assert LOST not in second.data.tags


def test_the_next_run_of_another_process_closes_it(project, leaving_store, caplog):
    pipeline, come_back = leaving_store
    run_kedro(project, pipeline, with_tracking(on_error="warn"))
    come_back()
    (run,) = runs_of(project)
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    client_of(project).set_tag(run.info.run_id, "process.id", str(gone.pid))
    with caplog.at_level(logging.INFO):
        run_kedro(project, toy_pipeline(), save_version="v2")
    assert [run.info.status for run in runs_of(project)] == ["FINISHED", "KILLED"]
    assert f"({run.info.run_id}): its process is gone; it is noted as killed" in caplog.text


def test_the_next_run_closes_the_record_of_a_sweep_that_died_and_no_other(project):
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    died = {**describe_process(), "process.id": str(gone.pid)}
    start_run(project, "tests", "sweep of mine", {SWEEP: "mine", **died})
    start_run(project, "tests", "sweep that runs", {SWEEP: "other", **describe_process()})
    start_run(project, "tests", "of another program", died)
    run_kedro(project, toy_pipeline())
    assert {run.info.run_name: run.info.status for run in runs_of(project)} == {
        "sweep of mine": "KILLED",
        "sweep that runs": "RUNNING",
        "of another program": "RUNNING",
        "toy blobs seed 3": "FINISHED",
    }


def test_a_server_that_goes_away_is_no_line_for_each_try(project, monkeypatch, caplog):
    """Nothing listens there: each request is tried again, which urllib3 logs."""
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    elsewhere = MlflowClient("http://me:hush@127.0.0.1:9")
    monkeypatch.setattr(MlflowClient, "log_inputs", lambda client, *rest: elsewhere.get_run("a" * 32))
    with caplog.at_level(logging.WARNING), pytest.raises(TrackingError, match=r"data_card \(.*refused"):
        run_kedro(project, toy_pipeline())
    assert [record.name.partition(".")[0] for record in caplog.records] == ["deep_clustering"]
    assert "hush" not in caplog.text


def test_an_experiment_is_one_of_models_unless_somebody_chose_another_kind(project):
    client, kind = client_of(project), "mlflow.experimentKind"
    client.create_experiment("older")
    client.create_experiment("chosen", tags={kind: "genai_development"})
    for name, expected in (
        ("new", "custom_model_development"),
        ("older", "custom_model_development"),
        ("chosen", "genai_development"),
    ):
        start_run(project, name, "some", {})
        assert client.get_experiment_by_name(name).tags[kind] == expected


@pytest.mark.parametrize(
    ("uri", "server"),
    [
        ("http://host:8000/", "http://host:8000"),
        ("https://me:hush@host/mlflow", "https://host/mlflow"),
        ("sqlite:////some/mlflow.db", "http://127.0.0.1:5000"),
    ],
)
def test_a_run_has_an_address_without_passwords(uri, server):
    assert TrackedRun(None, uri, "7", "a" * 32, "some").address == f"{server}/#/experiments/7/runs/{'a' * 32}"


def test_deleted_experiment_is_named(project):
    run_kedro(project, broken_pipeline(len))
    client = client_of(project)
    client.delete_experiment(client.get_experiment_by_name("tests").experiment_id)
    with pytest.raises(TrackingError, match="experiment 'tests' is deleted"):
        run_kedro(project, broken_pipeline(len))


def test_wrong_settings_are_refused_before_the_run(project, monkeypatch):
    with pytest.raises(ValueError, match="tracking: unknown option 'enable'"):
        run_kedro(project, toy_pipeline(), with_tracking(enable=False))
    monkeypatch.setitem(CATALOG, "{method}.report", ("TextDataset", "{method}/report.html", "artefact"))
    with pytest.raises(ValueError, match=r"toy\.report: mlflow got 'artefact', expected one of scores"):
        run_kedro(project, toy_pipeline())


def test_stored_model_predicts_as_the_estimator(project):
    import mlflow
    from mlflow.exceptions import MlflowException

    run_kedro(project, toy_pipeline(), with_tracking(log_model=True))
    (run,) = runs_of(project)
    client = client_of(project)
    (model,) = client.search_logged_models([run.info.experiment_id])
    assert (model.name, str(model.status), model.source_run_id) == ("toy_model", "READY", run.info.run_id)
    assert [output.model_id for output in run.outputs.model_outputs] == [model.model_id]
    folder = model.artifact_location.removeprefix("file://")
    assert not [file for _, _, files in os.walk(folder) for file in files if file.endswith((".pkl", ".pickle"))]
    with open(os.path.join(folder, "requirements.txt")) as file:
        assert f"numpy=={np.__version__}" in file.read().split()

    path = project / "data" / "toy" / "predictor.safetensors"
    estimator = load_method(PredictorDataset(filepath=str(path), version=Version("v1", None)).load().model)
    rows = make_features()[:10].reshape(10, 4)
    served = mlflow.pyfunc.load_model(folder)
    for given in (rows, rows.astype(np.float64), pd.DataFrame(rows)):
        answer = served.predict(given)
        assert answer.columns.tolist() == ["cluster", "probability", "log_density", "is_outlier"]
        np.testing.assert_array_equal(answer["cluster"], estimator.predict(rows))
        np.testing.assert_array_equal(answer["probability"], estimator.predict_proba(rows).max(axis=1))
        assert answer["log_density"].isna().all()
        assert not answer["is_outlier"].any()
    for wrong, message in [
        (np.zeros((2, 5)), r"shape \(2, 5\); expected rows of 4 numbers"),
        (np.zeros((11, 4)), "got 11; expected at most 10"),
    ]:
        with pytest.raises(MlflowException, match=message):
            served.predict(wrong)
    assert served.metadata.load_input_example(folder).shape == (1, 4)


def test_git_state_of_a_repository(tmp_path):
    def git(*command):
        subprocess.run(["git", *command], cwd=tmp_path, check=True, capture_output=True)

    git("init", "-b", "trunk")
    assert provenance.describe_git(tmp_path)["git.sha"] == "unknown"
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "--allow-empty", "-m", "first")
    state = provenance.describe_git(tmp_path)
    assert (state["git.branch"], state["git.dirty"], len(state["git.sha"])) == ("trunk", "false", 40)
    (tmp_path / "new.py").touch()
    assert provenance.describe_git(tmp_path)["git.dirty"] == "true"


def test_command_carries_lists_and_commas_and_says_what_it_cannot():
    command = provenance.command_to_repeat(
        {
            "pipeline_names": ["b", "a"],
            "tags": ("train", "predict"),
            "runner": "<kedro.runner.thread_runner.ThreadRunner object at 0x7f>",
            "runtime_params": {"dcan": {"epochs": 3, "hidden": [4, 2]}, "input": "a,b.npy", "password": "x"},
        },
        {"features": "v1"},
    )
    assert command == (
        "kedro run --pipelines=a,b --tags=train,predict --runner=ThreadRunner "
        "'--params=dcan.epochs=3,dcan.hidden=[4, 2],input=\"a,b.npy\"' --load-versions=features:v1  "
        "# and by --config: password"
    )

"""A logged model in other processes: loaded, behind HTTP, and in the pipeline `predict`."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from command_line import error_of, kedro, params
from deep_clustering.inference.predictor import Assigner
from deep_clustering.inference.stored import read_predictor
from deep_clustering.runs.tracking.reading import list_runs
from pipelines.small_project import versions
from tracked_project import client_of, make_project

MODEL = "models:/digits-dcan@champion"
IMAGES = load_digits().images[300:360].astype(np.uint8)
MAX_ROWS = 100


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Root of a project with one registered model of digits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        root = make_project(tmp_path_factory.mktemp("trained") / "project")
        options = params(tracking__enabled="true", tracking__log_model="true", predictor__max_rows=MAX_ROWS)
        result = kedro(root, "run", "--pipelines=dcan", "--to-outputs=dcan_scores,dcan.predictor", options)
        assert result.exit_code == 0, result.output
        yield root


@pytest.fixture(scope="module")
def expected(trained):
    """What the predictor says in this process."""
    predictor, name = read_predictor(trained, MODEL)
    assert name == "models:/digits-dcan/1"
    return Assigner(predictor).assign(IMAGES)


def post(port, body, kind="application/json"):
    """Status and decoded answer of a request to the server."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/invocations", content, {"Content-Type": kind})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.fixture(scope="module")
def server(trained):
    """Port of the real server with that model, on the loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["-m", "mlflow", "models", "serve", "-m", MODEL, "--env-manager", "local", "--workers", "1"]
    settings = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "MLFLOW_TRACKING_URI": f"sqlite:///{trained / 'mlflow.db'}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "OMP_NUM_THREADS": "1",
    }
    log = trained / "server.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [sys.executable, *words, "--port", str(port)],
            cwd=trained.parent,
            env=os.environ | settings,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process,
    ):
        try:
            _wait_for(port, process, log)
            yield port
        finally:
            os.killpg(process.pid, signal.SIGTERM)


def _wait_for(port, process, log):
    for _ in range(3000):  # a busy machine takes minutes to load the libraries
        assert process.poll() is None, log.read_text()
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5):
            return
        time.sleep(0.1)
    raise AssertionError(log.read_text())


WRONG = {
    "malformed": (b'{"inputs": [', "valid JSON"),
    "not utf-8": (b"\xff\xfe", "valid JSON"),
    "no known key": ({"rows": [[0] * 64]}, "instances"),
    "a list": ([[0] * 64], "Received a list"),
    "wrong width": ({"inputs": [[0] * 63]}, "got shape (1, 63); expected images of shape (n, 1, 8, 8) or 64 columns"),
    "wrong depth": ({"inputs": [0] * 64}, "got shape (64,); expected images"),
    "ragged": ({"inputs": [[0] * 64, [0] * 63]}, "inhomogeneous shape"),
    "empty": ({"inputs": []}, "expected images of shape (n, 1, 8, 8)"),
    "empty table": ({"dataframe_split": {"columns": [], "data": []}}, "expected images of shape"),
    "null": ({"inputs": [[None] + [0] * 63]}, "got NaN or infinity, first in row 0"),
    "NaN": (b'{"inputs": [[NaN' + b", 0" * 63 + b"]]}", "got NaN or infinity, first in row 0"),
    "text": ({"inputs": ["seven"]}, "got texts; expected images"),
    "object": ({"inputs": {"a": [1]}}, "expected images"),
    "beyond the range": ({"inputs": [[255] * 64]}, "got from 255 to 255; expected images"),
    "oversized": ({"inputs": [[0] * 64] * (MAX_ROWS + 1)}, f"got {MAX_ROWS + 1}; expected at most {MAX_ROWS} at once"),
}


def test_the_server_answers_as_the_predictor_and_survives_what_is_wrong(server, expected):
    images = IMAGES.tolist()
    flat = pd.DataFrame(IMAGES.reshape(len(IMAGES), 64), columns=[f"pixel {i}" for i in range(64)])
    right = {
        "inputs": {"inputs": images},
        "instances": {"instances": images},
        "records": {"dataframe_records": flat.to_dict("records")},
        "split": {"dataframe_split": flat.to_dict("split")},
    }
    for name, body in right.items():
        status, answer = post(server, body)
        assert status == 200, (name, answer)
        assert_equal(pd.DataFrame(answer["predictions"]), expected)
    status, answer = post(server, flat.to_csv(index=False).encode(), "text/csv")
    assert_equal(pd.DataFrame(answer["predictions"]), expected)
    for name, (body, message) in WRONG.items():
        status, answer = post(server, body)
        assert 400 <= status < 500, (name, status, answer)
        assert message in json.loads(answer)["message"], (name, answer)
        assert "Traceback" not in answer, name
    assert post(server, b"1", "text/plain")[0] == 415
    status, answer = post(server, {"inputs": images[:1]})
    assert_equal(pd.DataFrame(answer["predictions"]), expected[:1])


def assert_equal(table, expected):
    """Equal clusters and outliers, and numbers up to the rounding of single precision, which differs with the batch."""
    assert list(table) == list(expected)
    for column in ("cluster", "is_outlier"):
        assert table[column].tolist() == expected[column].tolist()
    for column in ("probability", "log_density"):
        np.testing.assert_allclose(table[column].astype(float), expected[column], rtol=1e-3)


def predict(root, model, rows):
    return kedro(root, "run", "--pipelines=predict", f"--params=tracking.enabled=false,model={model},input={rows}")


def test_the_pipeline_writes_a_row_for_each_new_one(trained, expected, tmp_path):
    np.save(tmp_path / "rows.npy", IMAGES)
    result = predict(trained, MODEL, tmp_path / "rows.npy")
    assert result.exit_code == 0, result.output
    table = pd.read_parquet(versions(trained, "predictions.parquet")[-1])
    assert table["id"].tolist() == list(range(60))
    assert table["skipped"].isna().all()
    assert_equal(table.drop(columns=["id", "skipped"]), expected)
    assert table.attrs["model"] == "models:/digits-dcan/1"
    shown = pd.read_csv(versions(trained, "predictions.csv")[-1])
    assert shown[["id", "cluster"]].values.tolist() == table[["id", "cluster"]].values.tolist()

    (tmp_path / "folder").mkdir()
    for index, image in enumerate(IMAGES[:3]):
        Image.fromarray(image).save(tmp_path / "folder" / f"{index}.png")
    (predictor,) = versions(trained, "predictor.safetensors")
    result = predict(trained, predictor, tmp_path / "folder")
    assert result.exit_code == 0, result.output
    table = pd.read_parquet(versions(trained, "predictions.parquet")[-1])
    assert table["id"].tolist() == ["0.png", "1.png", "2.png"]
    assert_equal(table.drop(columns=["id", "skipped"]), expected[:3])


def test_predictions_lie_with_the_model_whatever_the_environment(trained, expected, tmp_path):
    np.save(tmp_path / "rows.npy", IMAGES)
    before = versions(trained, "predictions.parquet")
    options = f"--params=model={MODEL},input={tmp_path / 'rows.npy'}"
    result = kedro(trained, "run", "--env=own", "--pipelines=predict", options)
    assert result.exit_code == 0, result.output
    (new,) = set(versions(trained, "predictions.parquet")) - set(before)
    folder = trained / "data" / "07_model_output"
    assert new.is_relative_to(folder / "digits" / "predictions")
    assert not (folder / "own").exists()
    assert pd.read_parquet(new)["cluster"].tolist() == expected["cluster"].tolist()
    (run,) = list_runs(trained, last=1)
    assert (run.data_set, run.name) == ("digits", "predict digits seed 0")


def test_the_pipeline_refuses_what_it_cannot_do_and_writes_nothing(trained, tmp_path):
    np.save(tmp_path / "wide.npy", np.zeros((2, 65)))
    np.save(tmp_path / "rows.npy", IMAGES)
    before = versions(trained, "predictions.parquet")
    for model, rows, message in [
        (MODEL, "wide.npy", r"rows: got shape (2, 65); expected images of shape (n, 1, 8, 8) or 64 columns"),
        (MODEL, "none.npy", "no file or folder at"),
        ("models:/digits-dcn@champion", "rows.npy", "did you mean 'digits-dcan'?"),
        ("models:/digits-dcan/2", "rows.npy", "has no version 2 (known: 1)"),
    ]:
        result = predict(trained, model, tmp_path / rows)
        assert message in error_of(result)
        assert "No nodes ran" not in result.output
    refused = kedro(trained, "run", "--pipelines=predict", "--params=tracking.enabled=false")
    assert "predict: no model and no input; expected --params=model=models:/" in error_of(refused)
    assert versions(trained, "predictions.parquet") == before


def test_the_run_that_trained_registered_its_model(trained):
    client = client_of(trained)
    registered = client.get_registered_model("digits-dcan")
    assert {alias: str(number) for alias, number in registered.aliases.items()} == {"champion": "1"}
    version = client.get_model_version("digits-dcan", "1")
    run = client.get_run(version.run_id)
    assert float(version.tags["score.value"]) == pytest.approx(run.data.metrics["dcan.pair_log_likelihood"])
    assert version.tags["data.sha256.samples"] == run.data.tags["data.sha256.samples"]

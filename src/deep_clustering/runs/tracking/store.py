"""One MLflow run, written through a client with an explicit run id: no active run, no global tracking URI."""

import json
import logging
import os
import re
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from deep_clustering.inference.mlflow_store import (
    TrackingError,
    check_schema,
    import_quietly,
    open_store,
    sqlite_path,
    store_uri,
    tracking_failures,
)
from deep_clustering.redaction import redact_url
from deep_clustering.runs.tracking.provenance import model_requirements

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from deep_clustering.inference.predictor import Predictor

# Limits of MLflow's stores; what is longer would be cut without a word.
MAX_METRICS = 1000
MAX_TEXTS = 100
MAX_PARAM = 6000
MAX_TAG = 8000
MAX_NAME = 250
MAX_DIGEST = 36

LOCK_SECONDS = 60.0

_PACKAGE = Path(__file__).parents[2]


class TrackedRun:
    """A run in an MLflow store."""

    def __init__(self, client: "MlflowClient", uri: str, experiment_id: str, run_id: str, name: str) -> None:
        """See `start_run`."""
        self.uri = redact_url(uri)
        self.run_id = run_id
        self.name = name
        self._client = client
        self._experiment_id = experiment_id

    def log_params(self, params: Mapping[str, str]) -> None:
        """Log parameters; a value beyond MLflow's limit is logged in full as an artifact."""
        from mlflow.entities import Param

        items = [Param(name, value) for name, value in self._shortened(params, MAX_PARAM).items()]
        for batch in _batches(items, MAX_TEXTS):
            self._client.log_batch(self.run_id, params=batch)

    def log_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags; a value beyond MLflow's limit is logged in full as an artifact."""
        from mlflow.entities import RunTag

        items = [RunTag(name, value) for name, value in self._shortened(tags, MAX_TAG).items()]
        for batch in _batches(items, MAX_TEXTS):
            self._client.log_batch(self.run_id, tags=batch)

    def log_metrics(self, points: Iterable[tuple[str, float, int]]) -> None:
        """Log (name, value, step) in as few requests as MLflow permits; a missing value is skipped."""
        from mlflow.entities import Metric

        now = time.time_ns() // 10**6
        present = [point for point in points if point[1] is not None]
        items = [Metric(_valid(name), float(value), now, step) for name, value, step in present]
        for batch in _batches(items, MAX_METRICS):
            self._client.log_batch(self.run_id, metrics=batch)

    def log_file(self, path: Path, folder: str) -> None:
        """Copy a file to the run's artifacts."""
        self._client.log_artifact(self.run_id, str(path), folder or None)

    def log_data_card(self, card: Mapping[str, Any]) -> None:
        """Log a data set as an input of the run, and its full checksums as tags."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        source = str(card["source"])
        is_url = source.startswith(("http://", "https://"))
        dataset = Dataset(
            name=card["name"],
            digest=card["sha256"]["samples"][:MAX_DIGEST],
            source_type="http" if is_url else "local",
            source=json.dumps({"url" if is_url else "uri": source}),
            schema=json.dumps({"mlflow_tensorspec": {"features": json.dumps([_tensor(card)])}}),
            profile=json.dumps({"num_rows": card["n_samples"], **card}),
        )
        tags = [InputTag("mlflow.data.context", "clustering")]
        self._client.log_inputs(self.run_id, [DatasetInput(dataset, tags)])
        self.log_tags({f"data.sha256.{part}": digest for part, digest in card["sha256"].items()})

    def log_model(self, name: str, path: Path, predictor: "Predictor") -> str:
        """Log a saved predictor in MLflow's format: the file itself, the code that reads it, pinned requirements.

        Args:
            name: Name of the model within the run, `runs:/<run id>/<name>`; without dots or slashes.
            path: The predictor's safetensors file.
            predictor: What is in it.

        Returns:
            Id of the logged model.
        """
        from mlflow.entities import LoggedModelOutput

        model = self._client.create_logged_model(self._experiment_id, name=name, source_run_id=self.run_id)
        status: Literal["READY", "FAILED"] = "FAILED"
        try:
            with tempfile.TemporaryDirectory() as folder:
                target = Path(folder) / "model"
                _save_model(target, path, predictor, self.run_id, model)
                self._client.log_model_artifacts(model.model_id, str(target))
            status = "READY"
        finally:
            self._client.finalize_logged_model(model.model_id, status)
        self._client.log_outputs(self.run_id, [LoggedModelOutput(model.model_id, step=0)])
        return str(model.model_id)

    def register_model(self, name: str, model_id: str, predictor: "Predictor") -> None:
        """Make a logged model a version of a registered one, see `registry.register`."""
        from deep_clustering.runs.tracking.registry import register

        register(self._client, name, model_id, self.run_id, predictor)

    def finish(self, status: str) -> None:
        """End the run as FINISHED, FAILED or KILLED."""
        self._client.set_terminated(self.run_id, status)

    def _shortened(self, texts: Mapping[str, str], limit: int) -> dict[str, str]:
        shortened = {}
        for name, text in texts.items():
            key = _valid(name)
            if len(text) > limit:
                file = f"long_values/{key.replace('/', '_')}.txt"
                self._client.log_text(self.run_id, text, file)
                text = f"{len(text)} characters, see artifact {file}: {text[:200]} ..."
            shortened[key] = text
        return shortened


def start_run(project_path: Path, experiment: str, name: str, tags: Mapping[str, str]) -> TrackedRun:
    """Open the tracking store and start a run in it.

    The store is `MLFLOW_TRACKING_URI` or else `mlflow.db` in the project, with artifacts in `mlartifacts`.

    Args:
        project_path: Root of the project.
        experiment: Name of the experiment; made if there is none.
        name: Name of the run.
        tags: Tags of the run.

    Returns:
        The run.

    Raises:
        TrackingError: if the store cannot be opened or written.
    """
    uri = store_uri(project_path)
    location = None if os.environ.get("MLFLOW_TRACKING_URI") else (project_path / "mlartifacts").as_uri()
    logger = import_quietly()
    logger.setLevel(logging.CRITICAL)  # MLflow logs a traceback for what becomes one sentence here
    try:
        run = _open(uri, location, experiment, name)
        run.log_tags(tags)
    except tracking_failures() as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise TrackingError(
            f"cannot open the tracking store {redact_url(uri)}: {redact_url(reason)}\n"
            "Repair it, name another in the environment variable MLFLOW_TRACKING_URI, or go on untracked, whenever "
            "it fails or always:\n"
            "    kedro run --params=tracking.on_error=warn\n"
            "    kedro run --params=tracking.enabled=false"
        ) from error
    finally:
        logger.setLevel(logging.WARNING)
    return run


def continue_run(project_path: Path, run_id: str) -> TrackedRun | None:
    """Go on writing to a run of the store.

    Args:
        project_path: Root of the project.
        run_id: Id of the run.

    Returns:
        The run, set to running; None if the store does not have it.

    Raises:
        TrackingError: if the store cannot be used.
    """
    from mlflow.exceptions import MlflowException

    with open_store(project_path) as client:
        try:
            run = client.get_run(run_id)
        except MlflowException:
            return None
        client.update_run(run_id, status="RUNNING")
    return TrackedRun(client, store_uri(project_path), run.info.experiment_id, run_id, run.info.run_name)


def _open(uri: str, location: str | None, experiment: str, name: str) -> TrackedRun:
    from mlflow import MlflowClient

    with _only_opener(uri):
        client = MlflowClient(tracking_uri=uri)
        experiment_id = _experiment_id(client, experiment, location)
        run = client.create_run(experiment_id, run_name=name)
    return TrackedRun(client, uri, experiment_id, run.info.run_id, name)


@contextmanager
def _only_opener(uri: str) -> Iterator[None]:
    """Let one process at a time open an SQLite store: MLflow makes its tables without a lock of its own.

    A file that cannot be written, or is no database, is refused at once; MLflow would retry for minutes.
    """
    path = sqlite_path(uri)
    if path is None:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(f"{path}.lock", timeout=LOCK_SECONDS)) as lock:
        lock.execute("BEGIN EXCLUSIVE")
        if not path.exists() or path.stat().st_size == 0:
            _make_tables(path)
        with closing(sqlite3.connect(path, timeout=LOCK_SECONDS)) as store:
            store.execute("BEGIN IMMEDIATE")
            store.rollback()
        check_schema(uri)
        yield


def _make_tables(path: Path) -> None:
    """Make an SQLite store under another name first: killed halfway, MLflow would leave one that it then refuses."""
    from mlflow.store.db import utils

    part = path.with_name(f"{path.name}.part")
    for left in (part, part.with_name(f"{part.name}-journal")):
        left.unlink(missing_ok=True)
    engine = utils.create_sqlalchemy_engine(f"sqlite:///{part.as_posix()}")
    try:
        utils._initialize_tables(engine)
    finally:
        engine.dispose()
    os.replace(part, path)


def _experiment_id(client: "MlflowClient", name: str, location: str | None) -> str:
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            return client.create_experiment(name, artifact_location=location)
        except MlflowException:
            experiment = client.get_experiment_by_name(name)  # another run made it in the meantime
            if experiment is None:
                raise
    if experiment.lifecycle_stage != "active":
        raise MlflowException(f"experiment '{name}' is deleted; restore it with `mlflow experiments restore`")
    return experiment.experiment_id


def _save_model(target: Path, path: Path, predictor: "Predictor", run_id: str, model: Any) -> None:  # noqa: ANN401
    import mlflow.pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, Schema

    from deep_clustering.inference.raw_rows import example_rows, expected_rows

    # No input schema: MLflow's would refuse all but one of the forms of rows, and cast pixels; raw_rows.py checks them.
    outputs = {"cluster": "long", "probability": "double", "log_density": "double", "is_outlier": "boolean"}
    mlflow.pyfunc.save_model(
        path=str(target),
        python_model=str(_PACKAGE / "inference" / "mlflow_model.py"),
        artifacts={"predictor": str(path)},
        code_paths=[str(_PACKAGE)],
        pip_requirements=model_requirements(),
        signature=ModelSignature(outputs=Schema([ColSpec(kind, name) for name, kind in outputs.items()])),
        input_example=example_rows(predictor.preparation),
        metadata={"method": predictor.model.method, "rows": expected_rows(predictor.preparation)},
        mlflow_model=Model(
            artifact_path=model.artifact_location,
            model_uuid=model.model_id,
            model_id=model.model_id,
            run_id=run_id,
        ),
    )


def _tensor(card: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "tensor", "tensor-spec": {"dtype": card["dtype"], "shape": [-1, *card["shape"][1:]]}}


def _valid(name: str) -> str:
    return re.sub(r"[^\w\-. /:]", "_", name)[:MAX_NAME]


def _batches(items: list, size: int) -> Iterable[list]:
    return (items[start : start + size] for start in range(0, len(items), size))

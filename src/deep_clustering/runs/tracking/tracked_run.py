"""One MLflow run, written through a client with an explicit run id: no active run, no global tracking URI."""

import json
import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deep_clustering.redaction import REDACTED, redact_text
from deep_clustering.runs.tracking import models
from deep_clustering.runs.tracking.registry import Training, is_settled, register

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Limits of MLflow's stores; what is longer would be cut without a word.
MAX_METRICS = 1000
MAX_TEXTS = 100
MAX_PARAM = 6000
MAX_TAG = 8000
MAX_NAME = 250
MAX_DIGEST = 36

# Tag with the names of what the store did not take while the run went on.
LOST = "deep_clustering.lost"

# Where `mlflow ui` shows a store that is no server.
LOCAL_SERVER = "http://127.0.0.1:5000"


class TrackedRun:
    """A run in an MLflow store."""

    def __init__(self, client: "MlflowClient", uri: str, experiment_id: str, run_id: str, name: str) -> None:
        """See `start_run`."""
        self.uri = redact_text(uri)
        self.run_id = run_id
        self.name = name
        self._client = client
        self._experiment_id = experiment_id

    @property
    def is_served(self) -> bool:
        """Whether the store is a server, which shows the run itself."""
        return self.uri.startswith(("http://", "https://"))

    @property
    def address(self) -> str:
        """URL of the run's page, at the store's server or at that of `mlflow ui`."""
        server = self.uri.replace(f"{REDACTED}@", "").rstrip("/") if self.is_served else LOCAL_SERVER
        return f"{server}/#/experiments/{self._experiment_id}/runs/{self.run_id}"

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

    def log_model(self, name: str, files: models.ModelFiles) -> str:
        """Log a saved predictor in MLflow's format, see `models.log_model`; returns the id of the logged model."""
        return models.log_model(self._client, self._experiment_id, self.run_id, name, files)

    def find_model(self, name: str) -> models.Found | None:
        """The whole model of that name that this run has logged, see `models.find_model`."""
        return models.find_model(self._client, self._experiment_id, self.run_id, name)

    def register_model(self, name: str, model_id: str, training: Training) -> None:
        """Make a logged model a version of a registered one, see `registry.register`."""
        register(self._client, name, model_id, self.run_id, training)

    def has_registered(self, name: str, model: models.Found) -> bool:
        """Whether a logged model has its version and has been compared with the champion."""
        return is_settled(self._client, name, self.run_id, model.place)

    def has_file(self, path: Path, folder: str) -> bool:
        """Whether the whole of a file is among the run's artifacts."""
        files = self._client.list_artifacts(self.run_id, folder or None)
        name = f"{folder}/{path.name}" if folder else path.name
        return (name, path.stat().st_size) in {(item.path, item.file_size) for item in files}

    def steps_of(self, name: str) -> set[int]:
        """Steps at which a metric has a value."""
        return {point.step for point in self._client.get_metric_history(self.run_id, _valid(name))}

    def finish(self, status: str) -> None:
        """End the run as FINISHED, FAILED or KILLED, now."""
        self._client.set_terminated(self.run_id, status)

    def note_lost(self, names: Iterable[str]) -> None:
        """Tag the run with what the store did not take, so that it is written later; nothing of the kind is no tag."""
        if listed := ", ".join(dict.fromkeys(names)):
            self.log_tags({LOST: listed})

    def forget_lost(self) -> None:
        """Note that the run has what the store once did not take."""
        self._client.delete_tag(self.run_id, LOST)

    def close(self, status: str) -> None:
        """Note how a run ended that nobody has seen ending: unlike `finish` it is not given this moment as its end."""
        self._client.update_run(self.run_id, status)

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


def _tensor(card: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "tensor", "tensor-spec": {"dtype": card["dtype"], "shape": [-1, *card["shape"][1:]]}}


def _valid(name: str) -> str:
    return re.sub(r"[^\w\-. /:]", "_", name)[:MAX_NAME]


def _batches(items: list, size: int) -> Iterable[list]:
    return (items[start : start + size] for start in range(0, len(items), size))

"""What a tracked run left of each method: the artifacts that tell whether another run equals it."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deep_clustering.data import sealed_arrays
from deep_clustering.data.plain_json import parse_object
from deep_clustering.data.sources.array_headers import DAMAGED
from deep_clustering.inference.mlflow_store import TrackingError, open_store
from deep_clustering.redaction import redact_text
from deep_clustering.runs.tracking.reading import RecordedRun

if TYPE_CHECKING:
    import numpy as np
    from mlflow import MlflowClient

# A store that does not answer is none of them.
_DAMAGED = tuple(kind for kind in DAMAGED if kind is not OSError)


@dataclass(frozen=True, kw_only=True)
class Results:
    """What a run left of one method; None for what it did not make."""

    assignments: "np.ndarray | None"
    """Cluster of each row, shape (n_samples,)."""

    metrics: Mapping[str, float] | None
    """Final scores by name."""


def read_results(project_path: Path, run: RecordedRun) -> dict[str, Results]:
    """Read the assignments and scores that a run left.

    Args:
        project_path: Root of the project.
        run: The run.

    Returns:
        Results by method; a method without any is left out.

    Raises:
        TrackingError: if an artifact that the run must have is gone or cannot be read.
    """
    with open_store(project_path) as client, tempfile.TemporaryDirectory() as folder:
        names = {item.path for item in client.list_artifacts(run.run_id) if item.is_dir} | set(run.scored)
        results = {}
        for method in sorted(names):
            files = {item.path for item in client.list_artifacts(run.run_id, method)}
            expected = {f"{method}/scores.json"} if method in run.scored else set()
            if expected and not run.restriction:
                expected |= {f"{method}/assignments.npy"}
            for file in sorted(expected - files):
                uri = client.get_run(run.run_id).info.artifact_uri
                raise TrackingError(f"run {run.run_id}: its artifact {file} is gone from {redact_text(str(uri))}")
            result = _read_method(client, run.run_id, method, files, folder)
            if result.assignments is not None or result.metrics is not None:
                results[method] = result
        return results


def _read_method(client: "MlflowClient", run_id: str, method: str, files: set[str], folder: str) -> Results:
    assignments, scores = f"{method}/assignments.npy", f"{method}/scores.json"
    values: dict[str, Any] = {"assignments": None, "metrics": None}
    try:
        if assignments in files:
            with Path(client.download_artifacts(run_id, assignments, folder)).open("rb") as file:
                values["assignments"] = sealed_arrays.read(file)
        if scores in files:
            text = Path(client.download_artifacts(run_id, scores, folder)).read_text(encoding="utf-8")
            values["metrics"] = parse_object(text)["metrics"]
    except _DAMAGED as error:
        raise TrackingError(f"run {run_id}: an artifact of {method} is damaged: {error}") from error
    return Results(**values)

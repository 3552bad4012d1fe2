"""Models of a run in MLflow's format: the file itself, the code that reads it, pinned requirements."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from deep_clustering.runs.tracking.provenance import model_requirements

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel

_PACKAGE = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class ModelFiles:
    """What a logged model is made of."""

    path: Path
    """The predictor's safetensors file."""
    input_example: Any
    """A few raw rows."""
    metadata: Mapping[str, Any]
    """What else is to be known of it, as JSON values."""


class Found(NamedTuple):
    """A logged model."""

    model_id: str
    place: str
    """URI of its files."""


def log_model(client: "MlflowClient", experiment_id: str, run_id: str, name: str, files: ModelFiles) -> str:
    """Log a model; one that a killed process has logged as a whole is not logged again.

    Args:
        client: Client of the store.
        experiment_id: Experiment of the run.
        run_id: The run.
        name: Name of the model within the run, `runs:/<run id>/<name>`; without dots or slashes.
        files: What it is made of.

    Returns:
        Id of the logged model.

    Raises:
        MlflowException: if the store refuses.
    """
    from mlflow.entities import LoggedModelOutput

    whole, cut_short = _models_of(client, experiment_id, run_id, name)
    for model in cut_short:
        client.finalize_logged_model(model.model_id, "FAILED")
    model_id = str(whole[0].model_id) if whole else _add_model(client, experiment_id, run_id, name, files)
    if model_id not in _outputs_of(client, run_id):
        client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])
    return model_id


def find_model(client: "MlflowClient", experiment_id: str, run_id: str, name: str) -> Found | None:
    """The model that a run has logged as a whole, among its outputs; None if there is none."""
    outputs = _outputs_of(client, run_id)
    whole, _ = _models_of(client, experiment_id, run_id, name)
    found = (Found(str(model.model_id), str(model.artifact_location)) for model in whole)
    return next((model for model in found if model.model_id in outputs), None)


def _models_of(
    client: "MlflowClient", experiment_id: str, run_id: str, name: str
) -> tuple[list["LoggedModel"], list["LoggedModel"]]:
    """Models of a run that are there as a whole, and those whose files were still being written."""
    condition = f"source_run_id = '{run_id}' AND name = '{name}'"
    models = list(client.search_logged_models([experiment_id], filter_string=condition))
    by_status = {status: [model for model in models if str(model.status) == status] for status in ("READY", "PENDING")}
    return by_status["READY"], by_status["PENDING"]


def _outputs_of(client: "MlflowClient", run_id: str) -> set[str]:
    outputs = client.get_run(run_id).outputs
    return {output.model_id for output in (outputs.model_outputs if outputs else [])}


def _add_model(client: "MlflowClient", experiment_id: str, run_id: str, name: str, files: ModelFiles) -> str:
    model = client.create_logged_model(experiment_id, name=name, source_run_id=run_id)
    status: Literal["READY", "FAILED"] = "FAILED"
    try:
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "model"
            _save_model(target, files, run_id, model)
            client.log_model_artifacts(model.model_id, str(target))
        status = "READY"
    finally:
        client.finalize_logged_model(model.model_id, status)
    return str(model.model_id)


def _save_model(target: Path, files: ModelFiles, run_id: str, model: "LoggedModel") -> None:
    import mlflow.pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, Schema

    # No input schema: MLflow's would refuse all but one of the forms of rows, and cast pixels; raw_rows.py checks them.
    outputs = {"cluster": "long", "probability": "double", "log_density": "double", "is_outlier": "boolean"}
    mlflow.pyfunc.save_model(
        path=str(target),
        python_model=str(_PACKAGE / "inference" / "mlflow_model.py"),
        artifacts={"predictor": files.path.resolve().as_uri()},  # a path is read as a URI, with its % and #
        code_paths=[str(_PACKAGE)],
        pip_requirements=model_requirements(),
        signature=ModelSignature(outputs=Schema([ColSpec(kind, name) for name, kind in outputs.items()])),
        input_example=files.input_example,
        metadata=dict(files.metadata),
        mlflow_model=Model(
            artifact_path=model.artifact_location,
            model_uuid=model.model_id,
            model_id=model.model_id,
            run_id=run_id,
        ),
    )

"""Predictors that were logged to MLflow, or lie in files; their own code is not run."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from deep_clustering.data.places import at_home
from deep_clustering.inference.mlflow_store import TrackingError, open_store, store_uri
from deep_clustering.inference.predictor import Predictor, from_bytes
from deep_clustering.options import closest

if TYPE_CHECKING:
    from mlflow import MlflowClient

_REGISTERED, _OF_RUN = "models:/", "runs:/"
_NO_SUCH_NAME = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
_IN_MODEL = "artifacts/predictor.safetensors"
_EXPECTED = "models:/<data set>-<method>@champion, the folder of an MLflow model, or a file predictor.safetensors"


def read_predictor(project_path: Path, model: str) -> tuple[Predictor, str]:
    """Read a predictor.

    Args:
        project_path: Root of the project, whose store is asked.
        model: `models:/<name>@<alias>`, `models:/<name>/<version>`, `runs:/<run id>/<model>`, a folder of an MLflow
            model, or a `predictor.safetensors`.

    Returns:
        predictor: the plain data.
        name: what was read: an alias is replaced by its version.

    Raises:
        TrackingError: if the store does not have the model.
        ValueError: if there is no such file, or it is not a predictor.
    """
    if not model.startswith((_REGISTERED, _OF_RUN)):
        path = at_home(model)
        return _read(path / _IN_MODEL if path.is_dir() else path), model
    with open_store(project_path) as client, tempfile.TemporaryDirectory() as folder:
        from mlflow.artifacts import download_artifacts

        # Places are asked of this client: MLflow would look up either kind of URI in its global store.
        name, place = _registered(client, model) if model.startswith(_REGISTERED) else _of_run(client, model)
        uri = f"{place.rstrip('/')}/{_IN_MODEL}"
        return _read(Path(download_artifacts(uri, dst_path=folder, tracking_uri=store_uri(project_path)))), name


def _registered(client: "MlflowClient", model: str) -> tuple[str, str]:
    """The version that is meant, and where its files are."""
    from mlflow.exceptions import MlflowException

    reference = model.removeprefix(_REGISTERED)
    name, separator, which = reference.rpartition("@" if "@" in reference else "/")
    if not (separator and name):
        raise TrackingError(f"model: got '{model}'; expected {_REGISTERED}<name>@<alias> or <name>/<version>")
    try:
        registered = client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code not in _NO_SUCH_NAME:
            raise
        known = [other.name for other in client.search_registered_models()]
        found = closest(name, known) if known else "none is registered yet"
        raise TrackingError(f"no registered model '{name}' ({found})") from error
    if separator == "/":
        versions = [str(version.version) for version in client.search_model_versions(f"name = '{name}'")]
        if which not in versions:
            raise TrackingError(f"{name} has no version {which} ({closest(which, versions)})")
        number = which
    else:
        aliases = registered.aliases
        if which not in aliases:
            found = closest(which, aliases) if aliases else "it has none"
            raise TrackingError(f"{name} has no alias '{which}' ({found})")
        number = str(aliases[which])
    return f"{_REGISTERED}{name}/{number}", client.get_model_version_download_uri(name, number)


def _of_run(client: "MlflowClient", model: str) -> tuple[str, str]:
    run_id, _, name = model.removeprefix(_OF_RUN).partition("/")
    outputs = client.get_run(run_id).outputs
    logged = [client.get_logged_model(output.model_id) for output in (outputs.model_outputs if outputs else [])]
    places = {one.name: one.artifact_location for one in logged}
    if name not in places:
        found = closest(name, places) if places else "it has none"
        raise TrackingError(f"run {run_id} has no model '{name}' ({found})")
    return model, places[name]


def _read(path: Path) -> Predictor:
    if not path.is_file():
        raise ValueError(f"no predictor at {path}; expected {_EXPECTED}")
    try:
        return from_bytes(path.read_bytes())
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected a predictor, got a file of another kind ({error})") from error

"""Opening the tracking store to write to it: a new run, or one that is there already."""

import logging
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from deep_clustering.inference.mlflow_store import (
    TrackingError,
    check_schema,
    import_quietly,
    open_store,
    reason_of,
    silent_failures,
    sqlite_path,
    sqlite_uri,
    store_uri,
    tracking_failures,
)
from deep_clustering.redaction import redact_text
from deep_clustering.runs.tracking.process import state_of
from deep_clustering.runs.tracking.tracked_run import TrackedRun

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger(__name__)

LOCK_SECONDS = 60.0

# Tag with the folder of a sweep, on the run that its cells are children of.
SWEEP = "sweep.folder"
# MLflow's tag of a child, with the run that it is one of: here of a cell of a sweep.
PARENT = "mlflow.parentRunId"

# Opens an experiment on the page of its runs; without it MLflow takes one for a language model's, with empty traces.
_KIND = {"mlflow.experimentKind": "custom_model_development"}


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
    import_quietly()
    try:
        with silent_failures():
            run = _open(uri, location, experiment, name)
            run.log_tags(tags)
    except tracking_failures() as error:
        raise TrackingError(
            f"cannot open the tracking store {redact_text(uri)}: {reason_of(error)}\n"
            "Repair it, name another in the environment variable MLFLOW_TRACKING_URI, or go on untracked, whenever "
            "it fails or always:\n"
            "    kedro run --params=tracking.on_error=warn\n"
            "    kedro run --params=tracking.enabled=false"
        ) from error
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
            run = find_tracked_run(client, project_path, run_id)
        except MlflowException:
            return None
        run.close("RUNNING")
    return run


def find_tracked_run(client: "MlflowClient", project_path: Path, run_id: str) -> TrackedRun:
    """A run of an open store, to be written to; its status stays.

    Raises:
        MlflowException: if the store does not have it.
    """
    info = client.get_run(run_id).info
    return TrackedRun(client, store_uri(project_path), info.experiment_id, run_id, info.run_name)


def _open(uri: str, location: str | None, experiment: str, name: str) -> TrackedRun:
    from mlflow import MlflowClient

    with _only_opener(uri):
        client = MlflowClient(tracking_uri=uri)
        experiment_id = _experiment_id(client, experiment, location)
        close_dead(client, [experiment_id])
        run = client.create_run(experiment_id, run_name=name)
    return TrackedRun(client, uri, experiment_id, run.info.run_id, name)


def close_dead(client: "MlflowClient", experiment_ids: Sequence[str]) -> None:
    """Let no run of these experiments say that it runs when its process, of this host, is gone: it was killed.

    Raises:
        MlflowException: if the store fails.
    """
    for run in client.search_runs(list(experiment_ids), "attributes.status = 'RUNNING'"):
        is_ours = "kedro.pipeline" in run.data.tags or SWEEP in run.data.tags
        if is_ours and state_of(run.info.status, run.data.tags) == "died":
            client.update_run(run.info.run_id, "KILLED")  # when is not known
            logger.info("run %s (%s): its process is gone; it is noted as killed", run.info.run_name, run.info.run_id)


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
    engine = utils.create_sqlalchemy_engine(sqlite_uri(part))
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
            return client.create_experiment(name, artifact_location=location, tags=_KIND)
        except MlflowException:
            experiment = client.get_experiment_by_name(name)  # another run made it in the meantime
            if experiment is None:
                raise
    if experiment.lifecycle_stage != "active":
        raise MlflowException(f"experiment '{name}' is deleted; restore it with `mlflow experiments restore`")
    for tag, kind in _KIND.items():
        if tag not in experiment.tags:  # what somebody has chosen stays
            client.set_experiment_tag(experiment.experiment_id, tag, kind)
    return experiment.experiment_id

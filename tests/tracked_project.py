"""A copy of the project with small options in conf/local and a tracking store of its own."""

import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from mlflow import MlflowClient

from command_line import checksums, error_of, kedro
from deep_clustering.runs.tracking.reading import RecordedRun, list_runs
from deep_clustering.runs.tracking.store import start_run
from pipelines.small_project import copy_project

PARAMETERS = """\
ingestion: {n_rows: 200}
dcan: {epochs: 2, batch_size: 64, encoder: {kind: conv, channels: [4, 8], hidden: [16]}, restarts: 1}
kmeans: {n_init: 2}
reporting: {map_points: 50}
tracking: {log_model: false}
"""


@cache
def _empty_store() -> Path:
    """A store with its tables: making one takes seconds, copying one does not."""
    root = Path(mkdtemp())
    start_run(root, "template", "template", {}).finish("FINISHED")
    return root / "mlflow.db"


def make_project(root: Path) -> Path:
    """Make the root of a project without data and runs."""
    copy_project(root)
    shutil.copy(_empty_store(), root / "mlflow.db")
    write_parameters(root, PARAMETERS)
    return root


def write_parameters(root: Path, text: str) -> None:
    """Write the user's own configuration."""
    folder = root / "conf/local"
    folder.mkdir(exist_ok=True)
    (folder / "parameters.yml").write_text(text)


def tracked_run(root: Path, *options: str) -> RecordedRun:
    """Run and return what was recorded, whatever came of it."""
    kedro(root, "run", *options)
    return list_runs(root, last=1)[0]


def refuse(root: Path, name: str, *words: str) -> str:
    """Call a command, expect one error and that no data has changed; returns the message."""
    before = checksums(root / "data")
    found = error_of(kedro(root, name, *words))
    assert checksums(root / "data") == before
    return found


def client_of(root: Path) -> MlflowClient:
    """Client of the project's store."""
    return MlflowClient(f"sqlite:///{root / 'mlflow.db'}")

"""What a sweep's workers do: prepare the data of an environment once, and run one cell after the other.

Everything here is a plain function of plain values, so that any launcher can carry it to another process or machine.
"""

import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from deep_clustering.pipelines.namespaces import options_of
from deep_clustering.sweep.configuration import options_read
from deep_clustering.sweep.folder import FAILED, FINISHED, write_json
from deep_clustering.sweep.grid import OF_DATA

# The data sets that a cell reads; all versions of one preparation carry the same number.
_READ = ("features", "split", "neighbours", "row_keys", "row_weights", "labels", "data_card")


def prepare(root: str, env: str, runtime_params: dict[str, Any], folder: str) -> str:
    """Prepare the data of an environment.

    Args:
        root: Root of the project.
        env: Environment.
        runtime_params: Nested options that change the data.
        folder: Where the data goes.

    Returns:
        The version of all its data sets, noted in `prepared.json` as well.
    """
    params = {**runtime_params, "data_folder": folder, "output_folder": folder, "tracking": {"enabled": False}}
    with _session(root, env, params, Path(folder) / "log.txt") as session:
        version = str(session.store["session_id"])
        session.run(pipeline_names=["prepare"])
    options = options_read(Path(root), env, runtime_params, OF_DATA)
    write_json(Path(folder) / "prepared.json", {"version": version, "parameters": options})
    return version


def run_cell(
    root: str, cell: Mapping[str, Any], runtime_params: dict[str, Any], version: str, data_folder: str, folder: str
) -> dict[str, Any]:
    """Fit a method, score it, and write the record of the cell.

    Args:
        root: Root of the project.
        cell: env, pipeline, seed, variant and point, as they go into the record.
        runtime_params: Nested options of the run.
        version: Version of the prepared data.
        data_folder: Where the prepared data is.
        folder: Where the outputs go.

    Returns:
        The record, written to `cell.json` as well.
    """
    started, pipeline = time.perf_counter(), cell["pipeline"]
    params = {**runtime_params, "data_folder": data_folder, "output_folder": folder}
    with _session(root, cell["env"], params, Path(folder) / "log.txt") as session:
        outputs = session.run(
            pipeline_names=[pipeline],
            tags=["train", "predict", "evaluate"],
            to_outputs=[f"{pipeline}_scores"],
            load_versions=dict.fromkeys(_READ, version),
        )
        scores = outputs[f"{pipeline}_scores"].load()
    record = {
        **cell,
        "status": FINISHED,
        **{name: scores[name] for name in ("data_set", "data_sha256", "protocol", "metrics", "cost", "collapsed")},
        "parameters": options_read(
            Path(root), cell["env"], runtime_params, (*options_of(pipeline), *OF_DATA, "evaluation")
        ),
        **_describe_run(Path(root)),
        "wall_seconds": time.perf_counter() - started,
    }
    write_json(Path(folder) / "cell.json", record)
    return record


def failed_record(cell: Mapping[str, Any], reason: str) -> dict[str, Any]:
    """Record of a cell that did not work out."""
    return {**cell, "status": FAILED, "reason": reason}


def _describe_run(root: Path) -> dict[str, Any]:
    """Run id, code, packages and machine."""
    from kedro.framework.project import settings

    from deep_clustering.runs.tracking import MLflowTracking
    from deep_clustering.runs.tracking.provenance import describe_environment, describe_git, describe_torch

    hook = next((hook for hook in settings.HOOKS if isinstance(hook, MLflowTracking)), None)
    return {
        "run_id": hook.last_run_id if hook else None,
        "environment": {**describe_git(root), **describe_environment(), **describe_torch()},
        "threads": os.environ.get("OMP_NUM_THREADS"),
    }


@contextmanager
def _session(root: str, env: str, runtime_params: dict[str, Any], log: Path) -> Iterator[Any]:
    """A session of Kedro, logging to a file."""
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    bootstrap_project(Path(root))
    with (
        _logging_to(log),
        KedroSession.create(project_path=root, env=env, runtime_params=runtime_params) as session,
    ):
        yield session


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Send everything that is logged and printed to a file, so that workers do not talk across each other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    root = logging.getLogger()
    former = root.handlers[:]
    with path.open("a", encoding="utf-8") as file, redirect_stdout(file), redirect_stderr(file):
        handler = logging.StreamHandler(file)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
        root.handlers[:] = [handler]
        try:
            yield
        except BaseException:
            root.error("the run ended here", exc_info=sys.exc_info())
            raise
        finally:
            root.handlers[:] = former

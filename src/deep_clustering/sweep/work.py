"""What a sweep's workers do: prepare the data of an environment once, learn a trunk once, and run cell after cell.

Everything here is a plain function of plain values, so that any launcher can carry it to another process or machine.
"""

import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, TypedDict

from deep_clustering.pipelines.namespaces import BASELINE_ON_TRUNK, NAMESPACES, options_of
from deep_clustering.sweep.configuration import options_read
from deep_clustering.sweep.folder import FAILED, FINISHED, write_json
from deep_clustering.sweep.grid import OF_DATA, OF_TRUNK

# The data sets that a cell reads of each source; all that was made together carries the same version.
_READ = {
    "data": ("features", "split", "neighbours", "row_keys", "row_weights", "labels", "data_card"),
    "trunk": ("trunk_model", "trunk_features", "trunk_neighbours"),
}
_READ_BY_TRUNK = ("features", "split", "row_weights", "preparation")


class Source(TypedDict):
    """Where something that several cells read lies."""

    folder: str
    version: str


def prepare(root: str, env: str, runtime_params: dict[str, Any], folder: str) -> dict[str, Any]:
    """Prepare the data of an environment.

    Args:
        root: Root of the project.
        env: Environment.
        runtime_params: Nested options that change the data.
        folder: Where the data goes.

    Returns:
        The note, written to `prepared.json` as well: version of all its data sets, options, and seconds that it took.
    """
    started = time.perf_counter()
    params = {**runtime_params, "data_folder": folder, "output_folder": folder, "tracking": {"enabled": False}}
    with _session(root, env, params, Path(folder) / "log.txt") as session:
        version = str(session.store["session_id"])
        session.run(pipeline_names=["prepare"])
    options = options_read(Path(root), env, runtime_params, OF_DATA)
    note = {"version": version, "parameters": options, "wall_seconds": time.perf_counter() - started}
    write_json(Path(folder) / "prepared.json", note)
    return note


def learn_trunk(root: str, env: str, runtime_params: dict[str, Any], data: Source, folder: str) -> dict[str, Any]:
    """Let a trunk learn from prepared data, and find the nearest neighbours of each row that it makes of them.

    Its own cost is in no cell's, so that one that was cut short is continued from its checkpoints.

    Args:
        root: Root of the project.
        env: Environment.
        runtime_params: Nested options that its fit reads.
        data: The prepared data.
        folder: Where the trunk, its rows and its checkpoints go.

    Returns:
        The note, written to `trunk.json` as well: version of all its data sets, options and version of the data, and
        seconds that it took.
    """
    started = time.perf_counter()
    params = {
        **runtime_params,
        "data_folder": data["folder"],
        "output_folder": folder,
        "tracking": {"enabled": False},
        "checkpoints": {"resume": "auto", **runtime_params.get("checkpoints", {})},
    }
    with _session(root, env, params, Path(folder) / "log.txt") as session:
        version = str(session.store["session_id"])
        session.run(
            pipeline_names=[BASELINE_ON_TRUNK],
            namespaces=["trunk"],
            load_versions=dict.fromkeys(_READ_BY_TRUNK, data["version"]),
        )
    options = options_of_trunk(Path(root), env, runtime_params, data["version"])
    note = {"version": version, "parameters": options, "wall_seconds": time.perf_counter() - started}
    write_json(Path(folder) / "trunk.json", note)
    return note


def options_of_trunk(root: Path, env: str, runtime_params: Mapping[str, Any], version: str) -> dict[str, Any]:
    """What makes a trunk this one: groups of options, and the version of its data."""
    return options_read(root, env, runtime_params, OF_TRUNK) | {"data": {"version": version}}


def run_cell(
    root: str, cell: Mapping[str, Any], runtime_params: dict[str, Any], sources: dict[str, Source], folder: str
) -> dict[str, Any]:
    """Fit a method, score it, and write the record of the cell.

    Args:
        root: Root of the project.
        cell: env, pipeline, seed, variant and point, as they go into the record.
        runtime_params: Nested options of the run.
        sources: The prepared `data`, and for a method on a trunk the `trunk`.
        folder: Where the outputs go.

    Returns:
        The record, written to `cell.json` as well.
    """
    started, pipeline = time.perf_counter(), cell["pipeline"]
    folders = {f"{name}_folder": source["folder"] for name, source in sources.items()}
    params = {**runtime_params, **folders, "output_folder": folder}
    versions = {data_set: source["version"] for name, source in sources.items() for data_set in _READ[name]}
    with _session(root, cell["env"], params, Path(folder) / "log.txt") as session:
        outputs = session.run(
            pipeline_names=[pipeline],
            tags=["train", "predict", "evaluate"],
            # What is in front of these, the data and a trunk, is there.
            from_nodes=[f"{name}.fit" for name in options_of(pipeline) if name in NAMESPACES],
            to_outputs=[f"{pipeline}_scores"],
            load_versions=versions,
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

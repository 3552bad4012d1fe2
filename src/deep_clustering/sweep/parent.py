"""The MLflow run that all cells of a sweep are children of."""

import logging
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from deep_clustering.inference.mlflow_store import (
    TrackingError,
    open_store,
    reason_of,
    silent_failures,
    tracking_failures,
)
from deep_clustering.options import build
from deep_clustering.redaction import flatten
from deep_clustering.runs.tracking.hook import TrackingOptions
from deep_clustering.runs.tracking.process import describe_process
from deep_clustering.runs.tracking.provenance import describe_environment, describe_git
from deep_clustering.runs.tracking.store import PARENT, SWEEP, continue_run, start_run
from deep_clustering.runs.tracking.tracked_run import TrackedRun
from deep_clustering.sweep.configuration import load_parameters
from deep_clustering.sweep.folder import read_json, read_records, write_json
from deep_clustering.sweep.grid import Grid, nest, shown

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

_PARTS = ("mean", "std", "low", "high", "difference", "difference_low", "difference_high", "difference_p")
_CHOICE = ("chosen_acc", "best_acc", "oracle_gap")


class Parent:
    """The parent run, or nothing where sweeps are not tracked."""

    def __init__(self, root: Path, run: TrackedRun | None) -> None:
        """See `following`."""
        self._root, self._run = root, run

    @property
    def run_id(self) -> str | None:
        """Id of the run, None where there is none."""
        return None if self._run is None else self._run.run_id

    def log(self, table: "pd.DataFrame", files: list[Path]) -> None:
        """Log the leaderboard: its files, and mean, spread and interval of every metric.

        Args:
            table: The leaderboard.
            files: Its files.
        """
        if self._run is None:
            return
        points = []
        for line in table.to_dict("records"):
            where = ".".join(str(line[name]) for name in ("env", "method", "variant") if line[name])
            names = [name for name in line if str(name).endswith(_PARTS) or name in _CHOICE]
            points += [(f"{where}.{name}", line[name], 0) for name in names if line[name] == line[name]]
        try:
            with silent_failures():
                self._run.log_metrics(points)
                for path in files:
                    self._run.log_file(path, "leaderboard")
        except tracking_failures() as error:
            logger.warning("MLflow did not take the leaderboard: %s", reason_of(error))

    def finish(self, status: str) -> None:
        """End the run, and the children whose process died before it could."""
        if self._run is None:
            return
        try:
            with open_store(self._root) as client:
                of_sweep = f"tags.`{PARENT}` = '{self.run_id}' and attributes.status = 'RUNNING'"
                for child in client.search_runs([client.get_run(self._run.run_id).info.experiment_id], of_sweep):
                    client.set_terminated(child.info.run_id, "KILLED")
                self._run.finish(status)
        except TrackingError as error:
            logger.warning("MLflow did not take the status %s: %s", status, error.message)


@contextmanager
def following(root: Path, folder: Path, grid: Grid) -> Iterator[Parent]:
    """Keep the parent run of a sweep while its cells run.

    A sweep that is continued keeps its run; one that has grown gets a new run, which takes the old cells along.

    Args:
        root: Root of the project.
        folder: The sweep's folder.
        grid: The sweep.

    Yields:
        The parent.

    Raises:
        TrackingError: if the tracking store cannot be used.
    """
    parameters, _ = load_parameters(root, grid.envs[0], nest(grid.params))
    options = build(TrackingOptions, parameters["tracking"], "parameters: tracking")
    parent = Parent(root, _open(root, folder, grid, options) if options.enabled else None)
    status = "KILLED"
    try:
        yield parent
        status = "FINISHED"
    except Exception:
        status = "FAILED"
        raise
    finally:
        parent.finish(status)


def command_of(grid: Grid, folder: Path) -> str:
    """The command that runs this sweep, without credentials."""
    words = ["kedro", "sweep", f"--envs={','.join(grid.envs)}", f"--pipelines={','.join(grid.pipelines)}"]
    words += [f"--seeds={','.join(map(str, grid.seeds))}"]
    words += [
        f"--grid={name}={','.join(shown(value, name) for value in values)}" for name, values in grid.options.items()
    ]
    if grid.params:
        words.append(f"--params={','.join(f'{name}={shown(value, name)}' for name, value in grid.params.items())}")
    return shlex.join([*words, f"--folder={folder}"])


def _open(root: Path, folder: Path, grid: Grid, options: TrackingOptions) -> TrackedRun:
    content, plain = read_json(folder / "sweep.json") or {}, grid.plain()
    former = content.get("mlflow") or {}
    run = continue_run(root, former["run_id"]) if former.get("grid") == plain else None
    if run is not None:
        run.log_tags(describe_process())
        return run
    shown = folder.relative_to(root) if folder.is_relative_to(root) else folder
    command = command_of(grid, shown)
    tags = {"kedro.command": command, "mlflow.source.name": command, "mlflow.source.type": "LOCAL"}
    tags |= {SWEEP: folder.name, **describe_process(), **describe_git(root), **describe_environment()}
    run = start_run(root, options.experiment, f"sweep {folder.name}", tags)
    run.log_params(flatten(plain))
    with open_store(root) as client:
        for record in read_records(folder):
            if record.get("run_id"):
                client.set_tag(record["run_id"], PARENT, run.run_id)
    write_json(folder / "sweep.json", {**content, "mlflow": {"run_id": run.run_id, "grid": plain}})
    return run

"""`kedro runs`: tracked runs as a table for people or as JSON for machines."""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from deep_clustering.inference.mlflow_store import TrackingError, open_store
from deep_clustering.options import closest
from deep_clustering.pipelines.namespaces import NAMESPACES
from deep_clustering.reporting.text_tables import aligned, number
from deep_clustering.runs.closing import RESUMED_BY
from deep_clustering.runs.reproduction import REPRODUCES, RESUMES
from deep_clustering.runs.tracking.provenance import spoken_name
from deep_clustering.runs.tracking.reading import RecordedRun, list_runs
from deep_clustering.runs.tracking.store import close_dead

SHOWN = ("acc", "nmi", "ari", "log_likelihood")

_STATUSES = ("finished", "failed", "killed", "running", "died")
_HEAD = ("run", "started", "status", "time", "pipeline", "data set", "seed", "method", "ACC", "NMI", "ARI", "log-lik.")
# Together with a blank between two columns, a line fits 120 columns.
_WIDTHS = (8, 16, 8, 6, 14, 14, 5, 14, 5, 5, 5, 8)
_NUMBERS = {3, 6, 8, 9, 10, 11}


def show_runs(
    project_path: Path,
    *,
    last: int | None,
    data_set: str | None,
    method: str | None,
    status: str | None,
    as_json: bool,
) -> str:
    """List tracked runs, newest first.

    Args:
        project_path: Root of the project.
        last: How many at most; None for all.
        data_set: Only runs on it.
        method: Only runs that fit or score it.
        status: Only runs of this status: finished, failed, killed, running or died.
        as_json: JSON instead of a table.

    Returns:
        The text to show.

    Raises:
        click.ClickException: if a name is unknown, no run is on the data set, or there is no usable store.
    """
    if method is not None and method not in NAMESPACES:
        raise click.ClickException(f"--method: unknown method '{method}' ({closest(method, NAMESPACES)})")
    if status is not None and status.lower() not in _STATUSES:
        raise click.ClickException(f"--status: unknown status '{status}' ({closest(status.lower(), _STATUSES)})")
    runs = list_runs(project_path, is_wanted=_filter(data_set, method, status), last=last)
    if data_set is not None and not runs:
        known = {run.data_set for run in list_runs(project_path)}
        if data_set not in known:
            raise click.ClickException(f"--data-set: no tracked run is on '{data_set}' ({closest(data_set, known)})")
    _close_dead(project_path, runs)
    if as_json:
        return json.dumps([_as_json(run) for run in runs], indent=1)
    if not runs:
        return "no tracked run is like that"
    rows = [_HEAD, *(line for run in runs for line in _lines(run))]
    return "\n".join(aligned(rows, widths=_WIDTHS, right=_NUMBERS, gap=" "))


def _close_dead(project_path: Path, runs: list[RecordedRun]) -> None:
    """Note of the listed runs that died that they were killed, if the store lets us."""
    dead = [run.run_id for run in runs if run.status == "died"]
    if not dead:
        return
    with suppress(TrackingError), open_store(project_path) as client:
        close_dead(client, sorted({client.get_run(run_id).info.experiment_id for run_id in dead}))


def _filter(data_set: str | None, method: str | None, status: str | None) -> Callable[[RecordedRun], bool]:
    def is_wanted(run: RecordedRun) -> bool:
        return (
            data_set in (None, run.data_set)
            and (method is None or method in (*run.scored, *map(spoken_name, run.pipelines)))
            and (status is None or status.lower() == run.status.lower())
        )

    return is_wanted


def _scores(run: RecordedRun, method: str) -> dict[str, float]:
    return {name: run.metrics[f"{method}.{name}"] for name in SHOWN if f"{method}.{name}" in run.metrics}


def _as_json(run: RecordedRun) -> dict[str, Any]:
    """What the table shows, in full; parameters stay out of it."""
    return {
        "run_id": run.run_id,
        "name": run.name,
        "started": run.started.isoformat(),
        "status": run.status,
        "seconds": run.seconds,
        "pipelines": list(run.pipelines),
        "env": run.env,
        "data_set": run.data_set,
        "seed": run.params.get("seed"),
        "version": run.save_version,
        "scores": {method: _scores(run, method) for method in run.scored},
        "reproduces": run.tags.get(REPRODUCES),
        "resumes": run.tags.get(RESUMES),
        "resumed_by": run.tags.get(RESUMED_BY),
    }


def _lines(run: RecordedRun) -> list[tuple[str, ...]]:
    """A line for each method; only the first says which run it is."""
    head = (
        run.run_id[:8],
        f"{run.started.astimezone():%Y-%m-%d %H:%M}",
        run.status,
        "" if run.seconds is None else _duration(run.seconds),
        spoken_name("+".join(run.pipelines)),
        run.data_set,
        run.params.get("seed", ""),
    )
    lines = []
    for index, method in enumerate(run.scored or ("",)):
        scores = _scores(run, method)
        values = [number(scores.get(name), missing="-", thousands="") for name in SHOWN]
        lines.append((*(head if index == 0 else ("",) * len(head)), method, *(values if method else ("",) * 4)))
    return lines


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{rest:02}s" if minutes else f"{rest}s"

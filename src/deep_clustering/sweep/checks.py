"""What a sweep refuses before any work: unknown options, wrong values, numbers of jobs, folders it cannot write."""

import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from deep_clustering.pipelines.namespaces import options_of
from deep_clustering.sweep.configuration import load_parameters
from deep_clustering.sweep.grid import Cell, Grid, nest

logger = logging.getLogger(__name__)


def known_environments(conf: Path) -> set[str]:
    """Environments that a sweep can name: the folders of conf that hold a data set's options.

    Raises:
        ValueError: if there is no such folder.
    """
    if not conf.is_dir():
        raise ValueError(f"no folder {conf}; run this in the project's root")
    return {path.name for path in conf.iterdir() if path.is_dir() and path.name not in ("base", "local")}


def check_jobs(jobs: int, threads: int | None) -> int:
    """Check the number of jobs and settle the threads of each.

    Args:
        jobs: Jobs at a time.
        threads: Threads of each job, or None for an equal share of the cores.

    Returns:
        Threads of each job.

    Raises:
        ValueError: if a number is below 1.
    """
    cores = os.cpu_count() or 1
    for name, value in (("--jobs", jobs), ("--threads", threads)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    threads = threads or max(1, cores // jobs)
    if jobs * threads > cores:
        logger.warning("%d jobs of %d threads on %d cores slow each other down", jobs, threads, cores)
    return threads


def check_grid(grid: Grid, root: Path) -> set[str]:
    """Build every combination of options once, as the runs will read them.

    Args:
        grid: The sweep.
        root: Root of the project.

    Returns:
        The pipelines without a seed.

    Raises:
        ValueError: with everything that is wrong.
    """
    from deep_clustering.pipelines.parameters import (
        shadowed_globals,
        unknown_parameters,
        unread_options,
        wrong_options,
    )

    problems = unknown_parameters(nest({**grid.params, **dict.fromkeys(grid.options)}))
    seedless: set[str] = set()
    unread: dict[str, None] = {}
    cells = grid.cells(()) if not problems else []
    for cell in _one_seed(cells):
        settings, globals_ = load_parameters(root, cell.env, cell.runtime_params)
        names = {*options_of(cell.pipeline), "evaluation", *(name.split(".")[0] for name in cell.data_params)}
        found = wrong_options(names, settings) + shadowed_globals(settings, {**globals_, **cell.runtime_params})
        problems += [f"{cell.env}: {problem}" for problem in found]
        if not found:
            of_cell = unread_options(cell.runtime_params, settings)
            unread |= dict.fromkeys(f"{cell.env}: {said.removeprefix('--params: ')}" for said in of_cell)
        if "seed" not in settings[cell.pipeline]:
            seedless.add(cell.pipeline)
    if problems:
        raise ValueError("\n".join(dict.fromkeys(problems)))
    for said in unread:
        logger.warning("%s", said)
    return seedless


def check_folder(folder: Path) -> None:
    """Refuse a folder that cannot be written.

    Raises:
        ValueError: saying what is in the way.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise ValueError(f"--folder: {existing} is a file; expected a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ValueError(f"--folder: {existing} is not writable; change its rights or name another folder")


def check_store(n_nodes: int, params: Mapping[str, Any]) -> None:
    """Refuse to track from several machines into a file of one.

    Args:
        n_nodes: Machines that cells run on.
        params: Options that all cells share, by dotted name.

    Raises:
        ValueError: if the store is SQLite.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if n_nodes > 1 and params.get("tracking.enabled") is not False and (not uri or uri.startswith("sqlite")):
        raise ValueError(
            f"cells would run on {n_nodes} nodes, and the store {uri or 'mlflow.db'} is a file of one machine; "
            "start `mlflow server` and set MLFLOW_TRACKING_URI to its address, or --params=tracking.enabled=false"
        )


def _one_seed(cells: Iterable[Cell]) -> list[Cell]:
    """One cell of each combination of options."""
    return list({(cell.env, cell.pipeline, cell.variant): cell for cell in cells}.values())

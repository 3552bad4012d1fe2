"""What `kedro sweep` does, from the words of the command line to the leaderboard."""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deep_clustering.pipelines.parameters import from_here
from deep_clustering.sweep import checks, parsing
from deep_clustering.sweep.folder import check_grid_of, open_folder
from deep_clustering.sweep.grid import Cell, Grid
from deep_clustering.sweep.launchers import Launcher, make_launcher
from deep_clustering.sweep.lock import locked
from deep_clustering.sweep.parent import following
from deep_clustering.sweep.running import Place, run_cells

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SweepRequest:
    """The options of `kedro sweep`, as they are written on the command line."""

    envs: str
    """Environments."""
    pipelines: str
    """Methods, or all."""
    seeds: str
    """Seeds and ranges of seeds."""
    grid: tuple[str, ...]
    """Options with several values."""
    params: str
    """Options that all cells share."""
    folder: Path | None
    """Where the sweep goes; None for a folder named after the grid."""
    launcher: str
    """What carries the work."""
    jobs: int
    """Cells at a time."""
    threads: int | None
    """Threads of each cell; None for an equal share of the cores."""
    timeout: float | None
    """Seconds that a cell may take."""
    here: Path | None = None
    """Where the user stands, from whose files `params` may name some; None for the root."""


# Sums up a folder of cells; gives the table and the files that it wrote.
Summarise = Callable[[Path], "tuple[pd.DataFrame, list[Path]]"]


def sweep(request: SweepRequest, root: Path, summarise: Summarise) -> list[dict[str, Any]]:
    """Run a sweep, or what is missing of it, and sum up what it says.

    Args:
        request: What was asked for.
        root: Root of the project.
        summarise: Writes the leaderboard of the folder, once all cells have ended.

    Returns:
        Records of the cells that failed.

    Raises:
        ValueError: if something is wrong with the request, or another sweep works in the folder; nothing has been
            computed then.
    """
    wanted = _parse(request, root)
    threads = checks.check_jobs(request.jobs, request.threads)
    seedless = checks.check_grid(wanted, root)
    cells = wanted.cells(seedless)
    folder = root / (request.folder or Path("data/sweeps") / wanted.name())
    checks.check_folder(folder)
    launcher = make_launcher(request.launcher, request.jobs, threads, request.timeout)
    try:
        checks.check_store(getattr(launcher, "n_nodes", 1), wanted.params)
    except ValueError:
        launcher.shutdown()
        raise
    check_grid_of(folder, wanted)
    with locked(folder):
        return _run(wanted, cells, seedless, Place(root=root, folder=folder, jobs=request.jobs), launcher, summarise)


def _run(
    wanted: Grid,
    cells: Sequence[Cell],
    seedless: set[str],
    place: Place,
    launcher: Launcher,
    summarise: Summarise,
) -> list[dict[str, Any]]:
    """Run what is missing of a sweep that has been checked, in a folder that is ours."""
    open_folder(place.folder, wanted)
    logger.info("%d cells in %s", len(cells), os.path.relpath(place.folder))
    for pipeline in sorted(seedless & set(wanted.pipelines)):
        logger.info("%s takes no seed: it is run once, and its result is a constant", pipeline)
    with following(place.root, place.folder, wanted) as parent:
        failed = run_cells(cells, replace(place, parent=parent.run_id), launcher)
        table, files = summarise(place.folder)
        parent.log(table, files)
    logger.info("the leaderboard: %s", os.path.relpath(files[-1]))
    return failed


def _parse(request: SweepRequest, root: Path) -> Grid:
    envs = parsing.parse_names("--envs", request.envs, checks.known_environments(root / "conf"))
    pipelines = parsing.parse_pipelines(request.pipelines)
    options = parsing.parse_grid(request.grid, pipelines)
    return Grid(
        envs=envs,
        pipelines=pipelines,
        seeds=parsing.parse_seeds(request.seeds),
        options=options,
        params=from_here(parsing.parse_params(request.params, pipelines, options), request.here or root, root),
    )

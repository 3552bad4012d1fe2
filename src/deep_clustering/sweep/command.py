"""What `kedro sweep` does, from the words of the command line to the leaderboard."""

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deep_clustering.launchers import make_launcher
from deep_clustering.leaderboard import write_files
from deep_clustering.namespaces import NAMESPACES
from deep_clustering.sweep import checks, parsing
from deep_clustering.sweep.folder import open_folder
from deep_clustering.sweep.grid import Grid
from deep_clustering.sweep.parent import following
from deep_clustering.sweep.running import Place, run_cells

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SweepRequest:
    """The options of `kedro sweep`, as they are written on the command line."""

    envs: str
    """Environments."""
    pipelines: str
    """Methods."""
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


def sweep(request: SweepRequest, root: Path) -> list[dict[str, Any]]:
    """Run a sweep, or what is missing of it, and write its leaderboard.

    Args:
        request: What was asked for.
        root: Root of the project.

    Returns:
        Records of the cells that failed.

    Raises:
        ValueError: if something is wrong with the request; nothing has been written then.
    """
    wanted = _parse(request, root)
    threads = checks.check_jobs(request.jobs, request.threads)
    seedless = checks.check_grid(wanted, root)
    cells = wanted.cells(seedless)
    folder = root / (request.folder or Path("data/sweeps") / wanted.name())
    checks.check_folder(folder)
    launcher = make_launcher(request.launcher, request.jobs, threads, request.timeout)
    open_folder(folder, wanted)
    logger.info("%d cells in %s", len(cells), os.path.relpath(folder))
    for pipeline in sorted(seedless & set(wanted.pipelines)):
        logger.info("%s takes no seed: it is run once, and its result is a constant", pipeline)
    with following(root, folder, wanted) as parent:
        place = Place(root=root, folder=folder, jobs=request.jobs, parent=parent.run_id)
        failed = run_cells(cells, place, launcher)
        table, files = write_files(folder)
        parent.log(table, files)
    logger.info("the leaderboard: %s", os.path.relpath(files[-1]))
    return failed


def _parse(request: SweepRequest, root: Path) -> Grid:
    envs = parsing.parse_names("--envs", request.envs, checks.known_environments(root / "conf"))
    pipelines = parsing.parse_names("--pipelines", request.pipelines, NAMESPACES)
    options = parsing.parse_grid(request.grid, pipelines)
    return Grid(
        envs=envs,
        pipelines=pipelines,
        seeds=parsing.parse_seeds(request.seeds),
        options=options,
        params=parsing.parse_params(request.params, pipelines, options),
    )

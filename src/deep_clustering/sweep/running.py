"""Running a sweep: data first, then trunks on them, then the cells that are missing, with a line for each that ends."""

import logging
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from deep_clustering.redaction import redact, redact_text
from deep_clustering.sweep import work
from deep_clustering.sweep.configuration import changed_options, options_read
from deep_clustering.sweep.folder import (
    FINISHED,
    cell_folder,
    data_folder,
    read_json,
    read_record,
    trunk_folder,
    write_json,
)
from deep_clustering.sweep.grid import OF_DATA, Cell, nest
from deep_clustering.sweep.launchers import Launcher
from deep_clustering.sweep.progress import Kind, Progress
from deep_clustering.training.signals import leaving_on_sigterm

logger = logging.getLogger(__name__)

_LONGEST_REASON = 500


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a sweep runs and writes."""

    root: Path
    """Root of the project."""
    folder: Path
    """Folder of the sweep."""
    jobs: int
    """Cells at a time."""
    parent: str | None = None
    """Id of the sweep's MLflow run, None if it is not tracked."""


@dataclass(frozen=True, kw_only=True)
class Shared:
    """What several cells read, made once in front of them."""

    sort: Literal["data", "trunk"]
    """Prepared rows, or a trunk that learns from them."""
    folder: Path
    """Where it goes."""
    cell: Cell = field(compare=False)
    """One of the cells that read it."""

    @property
    def note(self) -> Path:
        """File that says what is there, once it is there."""
        return self.folder / ("prepared.json" if self.sort == "data" else "trunk.json")

    @property
    def kind(self) -> Kind:
        """What takes about as long as this."""
        return self.sort, self.cell.env, self.cell.data_name if self.sort == "data" else self.cell.trunk_variant


Job = Shared | Cell


def run_cells(cells: Sequence[Cell], place: Place, launcher: Launcher) -> list[dict[str, Any]]:
    """Run every cell that has not finished yet; the failure of one does not keep the others.

    Args:
        cells: All cells of the sweep.
        place: Where.
        launcher: What carries the work; it is shut down at the end, however that comes.

    Returns:
        Records of the cells that failed.

    Raises:
        KeyboardInterrupt: on Ctrl-C, with all workers ended and the records of finished cells whole.
    """
    missing = [cell for cell in cells if (read_record(place.folder, cell) or {}).get("status") != FINISHED]
    if len(missing) < len(cells):
        logger.info("%d of %d cells have finished before", len(cells) - len(missing), len(cells))
        _warn_of_changes([cell for cell in cells if cell not in missing], place)
    failed, n_finished = [], len(cells) - len(missing)
    with leaving_on_sigterm():
        try:
            progress = Progress(len(cells), missing)
            for cell, record in _ended(missing, place, launcher, progress):
                progress.show(cell, record)
                if record["status"] != FINISHED:
                    write_json(cell_folder(place.folder, cell) / "cell.json", record)
                    failed.append(record)
                else:
                    n_finished += 1
        except KeyboardInterrupt:
            logger.warning("interrupted: ending the workers; %d of %d cells have finished", n_finished, len(cells))
            raise
        finally:
            launcher.shutdown()
    return failed


def _warn_of_changes(finished: Sequence[Cell], place: Place) -> None:
    """Say which cells were run with other options than the configuration has now."""
    for cell in {(cell.env, cell.pipeline, cell.variant): cell for cell in finished}.values():
        before = (read_record(place.folder, cell) or {})["parameters"]
        changes = changed_options(before, options_read(place.root, cell.env, cell.runtime_params, before))
        if changes:
            where = f"{cell.env}/{cell.id}"
            logger.warning(
                "%s has run with other options (%s); delete its folder to repeat it", where, "; ".join(changes)
            )


def _ended(
    cells: Sequence[Cell], place: Place, launcher: Launcher, progress: Progress
) -> Iterator[tuple[Cell, dict[str, Any]]]:
    """Each cell with its record, as it ends; its data come before it, and so does the trunk that it is on."""
    waiting = _waiting(cells, place.folder)
    progress.expect(job.kind for job in waiting if not job.note.exists())
    ready: deque[Job] = deque(job for job in waiting if job.sort == "data")
    sources: dict[Path, work.Source] = {}
    running: dict[Future, Job] = {}
    while ready or running:
        # No more than can run at once: a launcher without processes of its own works inside `submit`.
        while ready and len(running) < place.jobs:
            job = ready.popleft()
            if isinstance(job, Cell):
                running[_submit_cell(job, sources, place, launcher)] = job
            else:
                running[_submit_shared(job, sources, place, launcher)] = job
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            job = running.pop(future)
            if isinstance(job, Cell):
                yield job, _record(job, future, place)
            elif future.exception() is None:
                note = future.result()
                progress.count(job.kind, note["wall_seconds"])
                sources[job.folder] = {"folder": str(job.folder), "version": note["version"]}
                if job.sort == "data":
                    ready.extend(waiting[job])
                else:  # cells before further trunks, so that a sweep that is cut short has something
                    ready.extendleft(reversed(waiting[job]))
            else:
                yield from _failed(job, f"its {job.sort}: {_reason(future)}", waiting, progress)


def _waiting(cells: Sequence[Cell], folder: Path) -> dict[Shared, list[Job]]:
    """Everything that cells share, each with what comes behind it, in the order of the cells."""
    waiting: dict[Shared, list[Job]] = {}
    for cell in cells:
        above = Shared(sort="data", folder=data_folder(folder, cell), cell=cell)
        waiting.setdefault(above, [])
        if (place := trunk_folder(folder, cell)) is not None:
            trunk = Shared(sort="trunk", folder=place, cell=cell)
            if trunk not in waiting:
                waiting[above].append(trunk)
                waiting[trunk] = []
            above = trunk
        waiting[above].append(cell)
    return waiting


def _failed(
    job: Shared, reason: str, waiting: Mapping[Shared, Sequence[Job]], progress: Progress
) -> Iterator[tuple[Cell, dict[str, Any]]]:
    """All cells behind something that did not work out."""
    progress.count(job.kind, 0.0)
    for behind in waiting[job]:
        if isinstance(behind, Cell):
            yield behind, work.failed_record(describe(behind), reason)
        else:
            yield from _failed(behind, reason, waiting, progress)


def _submit_shared(job: Shared, sources: Mapping[Path, work.Source], place: Place, launcher: Launcher) -> Future:
    """Make what cells share, unless it is there with the options that it has now."""
    cell, note = job.cell, read_json(job.note)
    if job.sort == "data":
        params = nest(cell.data_params)
        now = options_read(place.root, cell.env, params, OF_DATA)
    else:
        params, data = nest(cell.trunk_params), sources[data_folder(place.folder, cell)]
        now = work.options_of_trunk(place.root, cell.env, params, data["version"])
    changes = [] if note is None else changed_options(note["parameters"], now)
    if note is not None and not changes:
        future: Future = Future()
        future.set_result({**note, "wall_seconds": 0.0})
        return future
    anew = f" anew: {'; '.join(changes)}" if changes else ""
    if job.sort == "data":
        logger.info("preparing the data of %s%s", cell.env, anew)
        return launcher.submit(work.prepare, str(place.root), cell.env, params, str(job.folder))
    logger.info("learning %s/%s%s", cell.env, cell.trunk_name, anew)
    return launcher.submit(work.learn_trunk, str(place.root), cell.env, params, data, str(job.folder))


def _submit_cell(cell: Cell, sources: Mapping[Path, work.Source], place: Place, launcher: Launcher) -> Future:
    params = cell.runtime_params
    tags = {"sweep": {"folder": place.folder.name, "cell": f"{cell.env}/{cell.id}"}}
    params["tracking"] = {**params.get("tracking", {}), "parent": place.parent, "log_model": False, "tags": tags}
    read = {"data": sources[data_folder(place.folder, cell)]}
    if (trunk := trunk_folder(place.folder, cell)) is not None:
        read["trunk"] = sources[trunk]
    folder = str(cell_folder(place.folder, cell))
    return launcher.submit(work.run_cell, str(place.root), describe(cell), params, read, folder)


def describe(cell: Cell) -> dict[str, Any]:
    """What a record says of its cell, without credentials."""
    return {
        "env": cell.env,
        "id": cell.id,
        "pipeline": cell.pipeline,
        "variant": cell.variant,
        "seed": cell.seed,
        "point": redact(dict(cell.point)),
    }


def _record(cell: Cell, future: Future, place: Place) -> dict[str, Any]:
    if future.exception() is None:
        return future.result()
    # A worker may die between writing its record and handing it over; the work is done then.
    written = read_record(place.folder, cell)
    if written is not None and written["status"] == FINISHED:
        return written
    return work.failed_record(describe(cell), _reason(future))


def _reason(future: Future) -> str:
    error = future.exception()
    text = redact_text(" ".join(str(error).split()))
    return f"{type(error).__name__}: {text}"[:_LONGEST_REASON]

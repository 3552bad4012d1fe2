"""Running a sweep: data first, then the cells that are missing, with a line for each that ends."""

import logging
import signal
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from deep_clustering.redaction import redact, redact_text
from deep_clustering.sweep import work
from deep_clustering.sweep.configuration import changed_options, options_read
from deep_clustering.sweep.folder import FINISHED, cell_folder, data_folder, read_json, read_record, write_json
from deep_clustering.sweep.grid import OF_DATA, Cell, nest
from deep_clustering.sweep.launchers import Launcher

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
    with _leaving_on_sigterm():
        try:
            progress = _Progress(len(cells), missing)
            for cell, record in _ended(missing, place, launcher):
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


def _ended(cells: Sequence[Cell], place: Place, launcher: Launcher) -> Iterator[tuple[Cell, dict[str, Any]]]:
    """Each cell with its record, as it ends; the data of a cell comes before it."""
    waiting: dict[Path, list[Cell]] = {}
    for cell in cells:
        waiting.setdefault(data_folder(place.folder, cell), []).append(cell)
    ready: deque[Path | Cell] = deque(waiting)
    versions: dict[Path, str] = {}
    running: dict[Future, Path | Cell] = {}
    while ready or running:
        # No more than can run at once: a launcher without processes of its own works inside `submit`.
        while ready and len(running) < place.jobs:
            job = ready.popleft()
            if isinstance(job, Cell):
                running[_submit_cell(job, versions[data_folder(place.folder, job)], place, launcher)] = job
            else:
                running[_submit_data(waiting[job][0], job, place, launcher)] = job
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            job = running.pop(future)
            if isinstance(job, Cell):
                yield job, _record(job, future, place)
            elif future.exception() is None:
                versions[job] = future.result()
                ready.extend(waiting[job])
            else:
                for cell in waiting[job]:
                    yield cell, work.failed_record(describe(cell), f"its data: {_reason(future)}")


def _submit_data(cell: Cell, folder: Path, place: Place, launcher: Launcher) -> Future:
    prepared, params = read_json(folder / "prepared.json"), nest(cell.data_params)
    changes = []
    if prepared is not None:
        changes = changed_options(prepared["parameters"], options_read(place.root, cell.env, params, OF_DATA))
        if not changes:
            future: Future = Future()
            future.set_result(prepared["version"])
            return future
    logger.info("preparing the data of %s%s", cell.env, f" anew: {'; '.join(changes)}" if changes else "")
    return launcher.submit(work.prepare, str(place.root), cell.env, params, str(folder))


def _submit_cell(cell: Cell, version: str, place: Place, launcher: Launcher) -> Future:
    params = cell.runtime_params
    tags = {"sweep": {"folder": place.folder.name, "cell": f"{cell.env}/{cell.id}"}}
    params["tracking"] = {**params.get("tracking", {}), "parent": place.parent, "log_model": False, "tags": tags}
    folders = str(data_folder(place.folder, cell)), str(cell_folder(place.folder, cell))
    return launcher.submit(work.run_cell, str(place.root), describe(cell), params, version, *folders)


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


class _Progress:
    """A line for each cell that ended, with the time that the others will take."""

    def __init__(self, n_cells: int, missing: Sequence[Cell]) -> None:
        self._n_cells, self._n_done = n_cells, n_cells - len(missing)
        self._left = Counter((cell.env, cell.pipeline, cell.variant) for cell in missing)
        self._seconds: dict[tuple[str, str, str], list[float]] = {}
        self._started = time.monotonic()

    def show(self, cell: Cell, record: Mapping[str, Any]) -> None:
        """Log the line of a cell."""
        kind = (cell.env, cell.pipeline, cell.variant)
        self._n_done += 1
        self._left[kind] -= 1
        self._seconds.setdefault(kind, []).append(record.get("wall_seconds", 0.0))
        if record["status"] == FINISHED:
            shown = {name: record["metrics"][name] for name in ("acc", "silhouette") if name in record["metrics"]}
            outcome = ", ".join(f"{name} {value:.3f}" for name, value in list(shown.items())[:1])
            outcome += f", {record['wall_seconds']:.1f} s"
        else:
            outcome = f"FAILED: {record['reason']}"
        where = f"{cell.env}/{cell.id}"
        logger.info("%d of %d cells%s: %s: %s", self._n_done, self._n_cells, self._time_left(), where, outcome)

    def _time_left(self) -> str:
        """Time for the rest: the work that is left, at the speed of the work that was done."""
        known = [seconds for times in self._seconds.values() for seconds in times if seconds]
        n_left = sum(self._left.values())
        if not known or not n_left:
            return ""
        mean = sum(known) / len(known)
        kinds = {kind: [value for value in times if value] for kind, times in self._seconds.items()}
        work_left = sum(
            count * (sum(kinds[kind]) / len(kinds[kind]) if kinds.get(kind) else mean)
            for kind, count in self._left.items()
        )
        seconds = work_left * (time.monotonic() - self._started) / sum(known)
        return f", {seconds / 60:.0f} min left" if seconds > 90 else f", {seconds:.0f} s left"


@contextmanager
def _leaving_on_sigterm() -> Iterator[None]:
    """Let a polite kill unwind the stack, so that the workers are ended."""

    def leave(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    former = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)

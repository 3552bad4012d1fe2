"""A line for each cell of a sweep that ended, with the time that the others will take."""

import logging
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from deep_clustering.sweep.folder import FINISHED
from deep_clustering.sweep.grid import Cell

logger = logging.getLogger(__name__)

# What takes about as long as another of its kind; the first part is its sort: a cell, or what cells share.
Kind = tuple[str, ...]


def kind_of(cell: Cell) -> Kind:
    """What takes about as long as a cell: those that differ by the seed alone."""
    return "cell", cell.env, cell.pipeline, cell.variant


class Progress:
    """A line for each cell that ended, with the time that the others will take."""

    def __init__(self, n_cells: int, missing: Sequence[Cell]) -> None:
        """All cells are counted, and the time is that of those which have not finished before."""
        self._n_cells, self._n_done = n_cells, n_cells - len(missing)
        self._left = Counter(map(kind_of, missing))
        self._seconds: dict[Kind, list[float]] = {}
        self._started = time.monotonic()

    def expect(self, kinds: Iterable[Kind]) -> None:
        """Take work into account that is to be done besides the cells."""
        self._left.update(kinds)

    def count(self, kind: Kind, seconds: float) -> None:
        """Take work into account that has ended; none if it has failed or was done before."""
        self._left[kind] = max(0, self._left[kind] - 1)
        if seconds:
            self._seconds.setdefault(kind, []).append(seconds)

    def show(self, cell: Cell, record: Mapping[str, Any]) -> None:
        """Log the line of a cell."""
        self._n_done += 1
        self.count(kind_of(cell), record.get("wall_seconds", 0.0))
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
        expected = {kind: (count, self._expected(kind)) for kind, count in self._left.items() if count}
        known = [seconds for times in self._seconds.values() for seconds in times]
        # Nothing says how long a trunk takes before one has learned.
        if not expected or not all(seconds for _, seconds in expected.values()):
            return ""
        work_left = sum(count * seconds for count, seconds in expected.values())
        seconds = work_left * (time.monotonic() - self._started) / sum(known)
        return f", {seconds / 60:.0f} min left" if seconds > 90 else f", {seconds:.0f} s left"

    def _expected(self, kind: Kind) -> float:
        """Seconds of work of a kind, or else of its sort; 0 where nothing is known."""
        of_sort = [seconds for other, times in self._seconds.items() if other[0] == kind[0] for seconds in times]
        return fmean(self._seconds.get(kind) or of_sort or [0.0])

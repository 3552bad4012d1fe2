"""Lines of a sweep: the time that is left, where cells wait for what they share."""

import pytest

from deep_clustering.sweep.folder import FAILED, FINISHED
from deep_clustering.sweep.grid import Cell
from deep_clustering.sweep.progress import Progress

CELLS = [Cell(env="e", pipeline=name, seed=seed, point={}, params={}) for seed in (0, 1) for name in ("a", "b")]
TRUNK = ("trunk", "e", "")


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets."""
    now = [0.0]
    monkeypatch.setattr("deep_clustering.sweep.progress.time.monotonic", lambda: now[0])
    return now


def finished(seconds):
    return {"status": FINISHED, "metrics": {"acc": 0.5}, "wall_seconds": seconds}


def test_the_time_left_counts_trunks_once_and_cells_by_their_kind(clock, caplog):
    progress = Progress(4, CELLS)
    progress.expect([TRUNK, TRUNK])
    clock[0] = 1010.0
    progress.count(TRUNK, 1000.0)
    progress.show(CELLS[0], finished(10.0))
    clock[0] = 1030.0
    progress.show(CELLS[1], finished(20.0))
    progress.count(TRUNK, 1000.0)
    clock[0] = 2030.0
    progress.show(CELLS[2], finished(10.0))
    # of cells and a trunk: 3 x 10 + 1000, then 10 + 20 + 1000; in the end 20 of 2040 in 2030 seconds
    assert [record.message.split(": ")[0] for record in caplog.records] == [
        "1 of 4 cells, 17 min left",
        "2 of 4 cells, 17 min left",
        "3 of 4 cells, 20 s left",
    ]


def test_no_time_is_promised_before_a_trunk_has_learned_or_all_have_failed(clock, caplog):
    progress = Progress(3, CELLS[:3])
    progress.expect([TRUNK])
    clock[0] = 10.0
    progress.show(CELLS[0], finished(10.0))
    progress.count(TRUNK, 0.0)
    progress.show(CELLS[1], {"status": FAILED, "reason": "its trunk: lost"})
    assert [record.message for record in caplog.records] == [
        "1 of 3 cells: e/a-seed0: acc 0.500, 10.0 s",
        "2 of 3 cells, 10 s left: e/b-seed0: FAILED: its trunk: lost",
    ]

"""Progress: every epoch is counted; a bar on a terminal, a few log lines elsewhere."""

import io
import logging
import sys

import pytest

from deep_clustering.training import progress


class Stream(io.StringIO):
    """A standard error stream that is a terminal or is not."""

    def __init__(self, is_terminal: bool) -> None:
        super().__init__()
        self.is_terminal = is_terminal

    def isatty(self) -> bool:
        return self.is_terminal


class Clock:
    """Seconds that pass only when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


# Called in the tests' bodies: between a fixture and its test pytest puts its own stream in place.
def use_stream(monkeypatch, is_terminal: bool) -> Stream:
    stream = Stream(is_terminal)
    monkeypatch.setattr(sys, "stderr", stream)
    return stream


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress.time, "monotonic", clock.monotonic)
    return clock


def test_epochs_that_are_passed_over_are_counted_in_a_whole_and_nowhere_else(clock):
    progress.skip_epochs(2)
    with progress.whole(2) as work:
        work.begin()
        clock.now += 5.0
        assert work.left() == 10  # two epochs, of which none was done in five seconds
        progress.skip_epochs(2)
        assert work.left() == 0


@pytest.mark.parametrize("is_terminal", [True, False])
@pytest.mark.parametrize("n_epochs", [0, 1, 7])
def test_epochs_are_counted_from_zero(monkeypatch, is_terminal, n_epochs):
    use_stream(monkeypatch, is_terminal)
    assert list(progress.epochs(n_epochs, "x", lambda: "")) == list(range(n_epochs))


def test_quick_epochs_give_one_line_at_the_end(monkeypatch, clock, caplog):
    stream = use_stream(monkeypatch, is_terminal=False)
    asked = []
    with caplog.at_level(logging.INFO):
        for _ in progress.epochs(50, "dcan", lambda: asked.append("status") or "loss 1.5"):
            pass
    assert [record.getMessage() for record in caplog.records] == ["dcan: epoch 50 of 50, loss 1.5"]
    assert stream.getvalue() == ""
    assert asked == ["status"]  # it may have to wait for the device, so it is asked only when shown


def test_slow_epochs_give_a_line_every_few_seconds_with_the_time_left(monkeypatch, clock, caplog):
    stream = use_stream(monkeypatch, is_terminal=False)
    with caplog.at_level(logging.INFO):
        for _ in progress.epochs(10, "x", lambda: "s"):
            clock.now += 2.0
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        "x: epoch 3 of 10, s, 14 s left",
        "x: epoch 6 of 10, s, 8 s left",
        "x: epoch 9 of 10, s, 2 s left",
        "x: epoch 10 of 10, s",
    ]
    assert stream.getvalue() == ""


def test_phases_are_named_and_have_one_estimate_of_one_end(monkeypatch, clock, caplog):
    use_stream(monkeypatch, is_terminal=False)
    with caplog.at_level(logging.INFO), progress.whole(2 * (2 + 4)):
        for restart in (1, 2):
            with progress.phase(f"restart {restart} of 2"):
                with progress.phase("start"):
                    for _ in progress.epochs(2, "x", lambda: "s"):
                        clock.now += 5.0
                for _ in progress.epochs(4, "x", lambda: "s"):
                    clock.now += 5.0
    lines = [record.getMessage() for record in caplog.records]
    assert lines[:3] == [
        "x, restart 1 of 2, start: epoch 1 of 2, s, 55 s left in all",
        "x, restart 1 of 2, start: epoch 2 of 2, s, 50 s left in all",
        "x, restart 1 of 2: epoch 1 of 4, s, 45 s left in all",
    ]
    assert lines[-1] == "x, restart 2 of 2: epoch 4 of 4, s"
    assert not [line for line in lines if " 0 s left" in line]


def test_what_comes_before_the_first_epoch_is_no_measure_of_the_others(monkeypatch, clock, caplog):
    use_stream(monkeypatch, is_terminal=False)
    with caplog.at_level(logging.INFO), progress.whole(4) as work:
        assert work.left() == 0
        clock.now += 60.0  # a start is found
        for _ in progress.epochs(4, "x", lambda: "s"):
            clock.now += 5.0
    assert [record.getMessage().split(", s")[1] for record in caplog.records] == [
        ", 15 s left", ", 10 s left", ", 5 s left", ""
    ]  # fmt: skip


def test_what_is_not_trained_any_more_counts_as_done_but_not_as_speed(monkeypatch, clock, caplog):
    use_stream(monkeypatch, is_terminal=False)
    with caplog.at_level(logging.INFO), progress.whole(20) as work:
        progress.skip_epochs(3)
        for epoch in progress.epochs(10, "x", lambda: "s", first=1):
            clock.now += 6.0
            if epoch == 2:
                break  # ended early
        work.reach(10)
        for _ in progress.epochs(10, "x", lambda: "s"):
            clock.now += 6.0
    assert "x: epoch 2 of 10, s, 90 s left in all" in caplog.text  # 3 + 1 + 1 are done, 15 are left
    assert "x: epoch 9 of 10, s, " in caplog.text


def test_status_is_read_after_the_epoch_it_belongs_to(monkeypatch, caplog):
    use_stream(monkeypatch, is_terminal=False)
    done = []
    with caplog.at_level(logging.INFO):
        for epoch in progress.epochs(3, "x", lambda: f"done {done}"):
            done.append(epoch)
    assert "done [0, 1, 2]" in caplog.text


def test_bar_shows_label_status_and_count_but_no_log_lines(monkeypatch, caplog):
    terminal = use_stream(monkeypatch, is_terminal=True)
    with caplog.at_level(logging.INFO):
        for _ in progress.epochs(4, "neural_mixture", lambda: "loss 0.25"):
            pass
    shown = terminal.getvalue()
    assert "neural_mixture" in shown
    assert "4/4" in shown
    assert "loss 0.25" in shown
    assert not caplog.records


@pytest.mark.parametrize("is_terminal", [True, False])
def test_an_error_in_the_loop_ends_the_progress(monkeypatch, is_terminal):
    use_stream(monkeypatch, is_terminal)
    with pytest.raises(RuntimeError, match="in epoch 1"):  # noqa: PT012 - the loop is what is tested
        for epoch in progress.epochs(5, "x", lambda: ""):
            if epoch == 1:
                raise RuntimeError("in epoch 1")


# Other work than epochs


def reading_of(monkeypatch, clock, *, total: int, first: int = 0) -> tuple[list[progress.Reading], list[str]]:
    """Readings of work that does 3 units in 2 seconds until 12 are done, and the terminal's text."""
    readings = []
    stream = use_stream(monkeypatch, is_terminal=False)
    with progress.meter("x", "row", total, lambda reading: readings.append(reading) or "s", first=first) as count:
        for _ in range(first, 12, 3):
            clock.now += 2.0
            count(3)
    return readings, [stream.getvalue()]


def test_a_reading_knows_speed_and_rest(monkeypatch, clock):
    readings, shown = reading_of(monkeypatch, clock, total=12)
    assert readings == [(9, 12, 1.5, 2.0), (12, 12, 1.5, 0.0)]
    assert shown == [""]


def test_what_an_earlier_run_did_counts_as_done_but_not_as_speed(monkeypatch, clock):
    readings, _ = reading_of(monkeypatch, clock, total=12, first=6)
    assert readings == [(12, 12, 1.5, 0.0)]


def test_without_a_total_there_are_lines_but_no_end(monkeypatch, clock):
    readings, _ = reading_of(monkeypatch, clock, total=0)
    assert readings == [(9, 0, 1.5, 0.0)]


def test_bytes_are_shown_with_a_prefix(monkeypatch):
    terminal = use_stream(monkeypatch, is_terminal=True)
    with progress.meter("download of a", "B", 3_000_000, lambda _: "") as count:
        count(3_000_000)
    assert "download of a: 100%" in terminal.getvalue()
    assert "3.00M/3.00M" in terminal.getvalue()


@pytest.mark.parametrize(("n_steps", "said"), [(999, []), (1000, ["fit: 500 rows/s, about 20 s an epoch"])])
def test_the_time_of_a_long_epoch_is_said_after_its_first_steps(monkeypatch, caplog, n_steps, said):
    """A step of 10 rows takes .02 seconds."""
    caplog.set_level("INFO")
    clock = iter([0.0, 2.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    count = progress.speed_of_steps("fit", n_steps, 10)
    for _ in range(150):
        count()
    assert caplog.messages == said

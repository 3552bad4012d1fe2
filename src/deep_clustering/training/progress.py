"""Progress of long work: a bar on a terminal, a log line every few seconds elsewhere.

The epochs of a fit, of all its restarts and of what it begins with, are one piece of work: `whole` counts them
together, so that every line has one estimate of the same end, and `phase` names the part that a line is of.
"""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 5.0
# Steps by which the time of an epoch is estimated, where it has many.
_FIRST_STEPS, _MANY_STEPS = 100, 1000
# Without the time that is left of a bar: the text behind it has that of the whole.
_BAR_OF_EPOCHS = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"


class Reading(NamedTuple):
    """How far the work is."""

    done: int
    """Units that are done, those of an earlier run too."""
    total: int
    """Units that there are; 0 if nobody knows."""
    speed: float
    """Units of this run per second."""
    left: float
    """Seconds until the end at this speed; 0 if nobody knows the total."""


class Whole:
    """Epochs of a fit, whichever of its trainings they belong to."""

    def __init__(self, n_epochs: int) -> None:
        """None is done."""
        self.n_epochs, self._done, self._worked = n_epochs, 0, 0
        self._started: float | None = None

    def begin(self) -> None:
        """Start the clock, at the first epoch of all: what finds a start first is no measure of the epochs."""
        if self._started is None:
            self._started = time.monotonic()

    def advance(self) -> None:
        """Count an epoch that was trained."""
        self._done += 1
        self._worked += 1

    def skip(self, n_epochs: int) -> None:
        """Count epochs that nobody has to train any more."""
        self._done += n_epochs

    def reach(self, n_epochs: int) -> None:
        """Count all up to a number of epochs, as where a training was ended early."""
        self._done = max(self._done, n_epochs)

    def left(self) -> float:
        """Seconds until the end at the speed of this run; 0 at the end, and before anything is known."""
        if self._started is None:
            return 0.0
        return max(self.n_epochs - self._done, 0) * (time.monotonic() - self._started) / max(self._worked, 1)


_WHOLE: ContextVar[Whole | None] = ContextVar("whole", default=None)
_PHASES: ContextVar[tuple[str, ...]] = ContextVar("phases", default=())


@contextmanager
def whole(n_epochs: int) -> Iterator[Whole]:
    """Count the epochs inside as one piece of work.

    Args:
        n_epochs: How many there are.

    Yields:
        The count; within another one, the other one.
    """
    outer = _WHOLE.get()
    if outer is not None:
        yield outer
        return
    token = _WHOLE.set(Whole(n_epochs))
    try:
        yield _WHOLE.get() or Whole(n_epochs)
    finally:
        _WHOLE.reset(token)


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Put a name behind the label of the progress inside."""
    token = _PHASES.set((*_PHASES.get(), name))
    try:
        yield
    finally:
        _PHASES.reset(token)


def skip_epochs(n_epochs: int) -> None:
    """Count epochs of the whole, if there is one, that nobody has to train any more."""
    work = _WHOLE.get()
    if work is not None:
        work.skip(n_epochs)


@contextmanager
def meter(
    label: str,
    unit: str,
    total: int,
    text: Callable[[Reading], str],
    *,
    first: int = 0,
    status: Callable[[], str] | None = None,
    bar_format: str | None = None,
) -> Iterator[Callable[[int], object]]:
    """Count units of work and show how far they are.

    Args:
        label: What is running.
        unit: What is counted, in the singular; "B" stands for bytes, which are shown with a prefix.
        total: Units that there are; 0 if nobody knows.
        text: Makes of a reading what a log line says behind the label; asked only when a line is written.
        first: Units that are done already.
        status: Gives the text behind the bar.
        bar_format: Parts of the bar, as tqdm names them; None for all.

    Yields:
        Function to be told how many more units are done.
    """
    if sys.stderr.isatty():
        from tqdm import tqdm

        scaled = unit == "B"
        shown = {"desc": label, "unit": unit, "unit_scale": scaled, "dynamic_ncols": True, "bar_format": bar_format}
        with tqdm(total=total or None, initial=first, **shown) as bar:

            def count(n_units: int) -> None:
                if status is not None:
                    bar.set_postfix_str(status(), refresh=False)
                bar.update(n_units)

            yield count
    else:
        yield _Lines(label, total, text, first).count


class _Lines:
    """A log line every few seconds, and one at the end."""

    def __init__(self, label: str, total: int, text: Callable[[Reading], str], first: int) -> None:
        self._label, self._total, self._text = label, total, text
        self._first = self._done = first
        self._started = self._shown = time.monotonic()

    def count(self, n_units: int) -> None:
        self._done += n_units
        now = time.monotonic()
        if now - self._shown >= _SECONDS_BETWEEN_LINES or self._done == self._total:
            speed = (self._done - self._first) / max(now - self._started, 1e-9)
            left = max(self._total - self._done, 0) / max(speed, 1e-9)
            logger.info("%s: %s", self._label, self._text(Reading(self._done, self._total, speed, left)))
            self._shown = now


def speed_of_steps(label: str, n_steps: int, n_rows: int) -> Callable[[], None]:
    """Say how long an epoch of many steps will take, once some steps are done.

    Args:
        label: What is running.
        n_steps: Steps of an epoch.
        n_rows: Rows of a step.

    Returns:
        Function to be called behind each step; of an epoch with fewer than 1,000 steps nothing is said.
    """
    started, done = time.monotonic(), 0

    def count() -> None:
        nonlocal done
        done += 1
        if done == _FIRST_STEPS and n_steps >= _MANY_STEPS:
            each = max(time.monotonic() - started, 1e-9) / done
            logger.info("%s: %.0f rows/s, about %.0f s an epoch", label, n_rows / each, n_steps * each)

    return count


def epochs(n_epochs: int, label: str, status: Callable[[], str], first: int = 0) -> Iterator[int]:
    """Count epochs and show how far they are, and when the whole that they are a part of ends.

    Args:
        n_epochs: Number of epochs.
        label: What is running; phases are named behind it.
        status: Gives the text behind the bar, asked only when it is shown.
        first: Epochs that are finished already.

    Yields:
        first to n_epochs - 1.
    """
    with whole(n_epochs) as work:
        work.skip(first)
        work.begin()

        def shown() -> str:
            left = work.left()
            rest = f"{left:.0f} s left{' in all' if work.n_epochs > n_epochs else ''}" if left else ""
            return ", ".join(part for part in (status(), rest) if part)

        def text(reading: Reading) -> str:
            return f"epoch {reading.done} of {reading.total}, {shown()}"

        name = ", ".join((label, *_PHASES.get()))
        with meter(name, "epoch", n_epochs, text, first=first, status=shown, bar_format=_BAR_OF_EPOCHS) as count:
            for epoch in range(first, n_epochs):
                yield epoch
                work.advance()
                count(1)

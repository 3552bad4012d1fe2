"""Progress of long work: a bar on a terminal, a log line every few seconds elsewhere."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 5.0


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


@contextmanager
def meter(
    label: str,
    unit: str,
    total: int,
    text: Callable[[Reading], str],
    *,
    first: int = 0,
    status: Callable[[], str] | None = None,
) -> Iterator[Callable[[int], object]]:
    """Count units of work and show how far they are.

    Args:
        label: What is running.
        unit: What is counted, in the singular; "B" stands for bytes, which are shown with a prefix.
        total: Units that there are; 0 if nobody knows.
        text: Makes of a reading what a log line says behind the label; asked only when a line is written.
        first: Units that are done already.
        status: Gives the text behind the bar.

    Yields:
        Function to be told how many more units are done.
    """
    if sys.stderr.isatty():
        from tqdm import tqdm

        scaled = unit == "B"
        with tqdm(
            total=total or None, initial=first, desc=label, unit=unit, unit_scale=scaled, dynamic_ncols=True
        ) as bar:

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


def epochs(n_epochs: int, label: str, status: Callable[[], str], first: int = 0) -> Iterator[int]:
    """Count epochs and show how far they are.

    Args:
        n_epochs: Number of epochs.
        label: What is running.
        status: Gives the text behind the bar, asked only when it is shown.
        first: Epochs that are finished already.

    Yields:
        first to n_epochs - 1.
    """

    def text(reading: Reading) -> str:
        return f"epoch {reading.done} of {reading.total}, {status()}, {reading.left:.0f} s left"

    with meter(label, "epoch", n_epochs, text, first=first, status=status) as count:
        for epoch in range(first, n_epochs):
            yield epoch
            count(1)

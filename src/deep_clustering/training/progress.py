"""Progress of a long loop: a bar on a terminal, a log line every few seconds elsewhere."""

import logging
import sys
import time
from collections.abc import Callable, Iterator

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 5.0


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
    if sys.stderr.isatty():
        yield from _with_bar(n_epochs, label, status, first)
    else:
        yield from _with_lines(n_epochs, label, status, first)


def _with_bar(n_epochs: int, label: str, status: Callable[[], str], first: int) -> Iterator[int]:
    from tqdm import tqdm

    with tqdm(total=n_epochs, initial=first, desc=label, unit="epoch", dynamic_ncols=True) as bar:
        for epoch in range(first, n_epochs):
            yield epoch
            bar.set_postfix_str(status(), refresh=False)
            bar.update()


def _with_lines(n_epochs: int, label: str, status: Callable[[], str], first: int) -> Iterator[int]:
    started = shown = time.monotonic()
    for epoch in range(first, n_epochs):
        yield epoch
        now, done = time.monotonic(), epoch + 1
        if now - shown >= _SECONDS_BETWEEN_LINES or done == n_epochs:
            left = (now - started) / (done - first) * (n_epochs - done)
            logger.info("%s: epoch %d of %d, %s, %.0f s left", label, done, n_epochs, status(), left)
            shown = now

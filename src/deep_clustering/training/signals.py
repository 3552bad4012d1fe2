"""A polite kill, as of systemd, docker or a scheduler, that lets a process clean up behind itself."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


def leave(number: int, frame: FrameType | None) -> None:
    """Handle a signal by leaving with its exit status, which unwinds the stack and runs the exit handlers."""
    sys.exit(128 + number)


@contextmanager
def leaving_on_sigterm() -> Iterator[None]:
    """Let SIGTERM unwind the stack, so that what is open is closed; only in the main thread."""
    former = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)

"""What workers of a Ray cluster make of shards in tests: modules of their own, as workers import them by name."""

import os
import signal
import time
from collections import Counter
from pathlib import Path


def doubling(folder, first_dies=False, all_die=False):
    """Opens a function of rows to twice their values, which notes its shards and counts them."""

    def see(rows):
        place = Path(folder) / f"{int(rows[0, 0])}"
        tries = len(list(Path(folder).glob(f"{place.name}-*")))
        place.with_name(f"{place.name}-{os.getpid()}-{time.monotonic_ns()}").touch()
        if all_die or (first_dies and place.name == "8" and not tries):
            os.kill(os.getpid(), signal.SIGKILL)
        return 2 * rows, Counter(rows=len(rows))

    return see


def failing():
    """What cannot be opened."""
    raise ValueError("no such model here")

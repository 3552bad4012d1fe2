"""One sweep at a time in a folder."""

import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from deep_clustering.data.plain_json import parse_object

try:
    import fcntl
except ImportError:  # Windows has no such locks; there, keeping sweeps apart is left to the user
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

LOCK = "sweep.lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other sweeps out of a folder.

    The kernel holds the lock and gives it back when this process ends, however that comes: the file that stays behind
    keeps nobody out. Workers do not inherit it.

    Args:
        folder: The sweep's folder; made if it is missing.

    Raises:
        ValueError: if another process holds the lock, naming it.
    """
    if fcntl is None:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    with os.fdopen(descriptor, "r+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f"{folder} is in use by {_holder(file.read())}. Wait for it, end it, or name another --folder"
            ) from error
        except OSError as error:
            logger.warning("%s cannot be locked (%s); run no other sweep in it meanwhile", folder, error.strerror)
        file.seek(0)
        file.truncate()
        started = datetime.now(UTC).isoformat(timespec="seconds")
        json.dump({"process": os.getpid(), "host": socket.gethostname(), "started": started}, file)
        file.flush()
        yield


def _holder(text: str) -> str:
    """Who wrote the lock file."""
    try:
        holder = parse_object(text)
        return f"process {holder['process']} on {holder['host']}, a sweep since {holder['started']}"
    except (ValueError, KeyError, TypeError):  # it holds the lock, and has not written its name yet
        return "another sweep, which has just started"

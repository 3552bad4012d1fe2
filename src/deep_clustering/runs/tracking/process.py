"""Which process a run belongs to, and whether it still lives."""

import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path


def describe_process() -> dict[str, str]:
    """Host, id and start of this process, as tags."""
    return {
        "process.host": socket.gethostname(),
        "process.id": str(os.getpid()),
        "process.start": _start_of(os.getpid()) or "",
    }


def is_alive(tags: Mapping[str, str]) -> bool | None:
    """Whether the process of these tags lives; None where this host cannot know.

    The start of a process tells it from a later one of the same id; without /proc the id alone must do.
    """
    if tags.get("process.host") != socket.gethostname() or not tags.get("process.id", "").isdecimal():
        return None
    process = int(tags["process.id"])
    recorded, start = tags.get("process.start"), _start_of(process)
    if recorded and start is not None:
        return recorded == start
    return _has_process(process)


def _start_of(process: int) -> str | None:
    """Boot of the machine and clock ticks since then; empty for no such process, None where /proc does not say."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    try:
        # The name of the program, in brackets, may hold anything; the ticks are the 22nd field.
        status = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if status[0] in "ZX" else f"{boot} {status[19]}"


def _has_process(process: int) -> bool | None:
    if sys.platform == "win32":  # there, signal 0 would end it
        return None
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def state_of(status: str, tags: Mapping[str, str]) -> str:
    """MLflow's status of a run, or "died" for one that says it runs and whose process is gone."""
    return "died" if status == "RUNNING" and is_alive(tags) is False else status

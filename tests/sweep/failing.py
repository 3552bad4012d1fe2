"""Engines that fail cells of a sweep, as a cluster may."""

import os
import threading
from pathlib import Path

from deep_clustering.sweep.launchers import Local, WorkerDied
from deep_clustering.sweep.launchers.processes import Processes
from deep_clustering.sweep.work import run_cell


class FailsGMM(Local):
    def submit(self, function, *args):
        if "gmm" in str(args) and "seed1" in str(args):
            return super().submit(_refuse, "node lost at https://me:hunter2@cluster/queue")
        return super().submit(function, *args)


class DiesLate(Local):
    """Its workers end with their cell, before they have said so."""

    def submit(self, function, *args):
        future = super().submit(function, *args)
        if function is run_cell and future.exception() is None:
            return super().submit(_die)
        return future


class WaitsAtGate(Processes):
    """Its second cell makes the file that $GATE names, and then waits for ever."""

    def submit(self, function, *args):
        return super().submit(_wait_at_gate if "seed1" in str(args) else function, *args)


def _wait_at_gate(*_):
    Path(os.environ["GATE"]).touch()
    threading.Event().wait()


def _die():
    raise WorkerDied("killed")


def _refuse(message):
    raise ConnectionError(message)

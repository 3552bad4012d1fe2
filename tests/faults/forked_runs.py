"""Commands of the project in children of a process that has the libraries loaded, and their death at a chosen moment.

A run takes seconds, of which most are imports; a fork after them makes many kills affordable. A line of JSON on
standard input, `{"root": ..., "words": [...], "seconds": ..., "step": ..., "file": ..., "fault": ...}`, starts a child,
and a line of JSON says how it ended. The child is killed after so many seconds, when it comes to its so manieth step of
writing, or at the first step behind the one that gives a file this name. With a fault, EIO or ENOSPC, it is not killed:
the step fails with this error, once, or, as of a disk that is full, it and all later ones but removals do. `clock` says
by how many seconds the child's is ahead.
"""

import errno
import gc
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
NAMINGS = ("os.rename", "os.link")
EVENTS = (*NAMINGS, "os.mkdir", "os.remove")


def load_libraries():
    import kedro_datasets.json
    import kedro_datasets.pandas
    import kedro_datasets.text
    import matplotlib.pyplot
    import mlflow.pyfunc
    import mlflow.store.tracking.sqlalchemy_store
    import pandas
    import sklearn.cluster
    import sklearn.manifold
    import torch

    import deep_clustering.cli
    import deep_clustering.datasets
    import deep_clustering.methods.baselines
    import deep_clustering.methods.dcan
    import deep_clustering.reporting.page
    import deep_clustering.runs.resumption
    import deep_clustering.runs.tracking.store
    import deep_clustering.scores.evaluation

    return kedro_datasets, mlflow, pandas, sklearn, torch, matplotlib, deep_clustering


def run_once():
    """Run a pipeline in a project of its own, untracked and unheard: every child begins with what is kept of it."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    import pytest

    from configuration import remember_configurations
    from deep_clustering.data import shards
    from deep_clustering.runs.tracking.store import start_run
    from drawing import spare_drawing
    from pipelines.small_project import copy_project, run
    from repeated_work import spare_migrations, spare_repeated_work

    remember_configurations()
    spare_repeated_work()
    spare_migrations()
    spare_drawing(pytest.MonkeyPatch())
    kept, nowhere = [os.dup(stream) for stream in (1, 2)], os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    with tempfile.TemporaryDirectory() as folder:
        start_run(Path(folder), "template", "template", {}).finish("FINISHED")  # children copy its tables
        run(copy_project(Path(folder) / "project"), "kmeans", ingestion={"n_rows": 100})
    for stream, former in zip((1, 2), kept, strict=True):
        os.dup2(former, stream)
    shards.ROWS_PER_SHARD = 64


class Steps:
    """Counts what this process does to files: opening to write, half a write, naming, removing, making folders."""

    def __init__(self, last, file, fault):
        self.last, self.n_done = last, 0
        self.fault, self.is_full = fault, False
        self.file, self.has_appeared = file, False

    def watch(self):
        from fsspec.implementations.local import LocalFileOpener

        write = LocalFileOpener.write

        def write_in_two(file, data):
            data = memoryview(data).cast("B")
            written = write(file, data[: len(data) // 2])
            file.flush()
            self.count()
            return written + write(file, data[len(data) // 2 :])

        LocalFileOpener.write = write_in_two
        sys.addaudithook(self.see)

    def see(self, event, arguments):
        if event in EVENTS or (event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITES):
            self.count(frees=event == "os.remove")
        if event in NAMINGS and Path(os.fsdecode(arguments[1])).name == self.file:
            self.has_appeared = True

    def count(self, *, frees=False):
        self.n_done += 1
        is_due = self.n_done == self.last or self.has_appeared
        if is_due and self.fault is None:
            os.kill(os.getpid(), signal.SIGKILL)
        self.is_full |= is_due and self.fault == "ENOSPC"
        if (is_due and self.fault) or (self.is_full and not frees):
            number = getattr(errno, self.fault)
            raise OSError(number, os.strerror(number))


def set_clock(seconds):
    """Let versions and tracked runs of this process be so many seconds later."""
    import datetime

    from kedro.framework.session import session
    from kedro.io import core

    import deep_clustering.hooks

    def version():
        now = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)
        return f"{now:%Y-%m-%dT%H.%M.%S}.{now.microsecond // 1000:03d}Z"

    true_time, true_time_ns = time.time, time.time_ns
    time.time, time.time_ns = lambda: true_time() + seconds, lambda: true_time_ns() + seconds * 10**9
    core.generate_timestamp = session.generate_timestamp = deep_clustering.hooks.generate_timestamp = version


def run_in_child(root, words, step, file, fault, clock, report):
    """Run the command and end the process; its output goes to a file beside the project."""
    log = os.open(root.parent / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chdir(root)
    from kedro.framework.startup import bootstrap_project

    from deep_clustering.cli import cli

    bootstrap_project(root)
    if clock:
        set_clock(clock)
    steps = Steps(step, file, fault)
    steps.watch()
    code = 0
    try:
        cli(words, standalone_mode=True)
    except SystemExit as leaving:
        code = int(leaving.code or 0)
    os.write(report, str(steps.n_done).encode())
    os._exit(code)


def read_configuration(root, words):
    """Read what a run of these words reads first, so that its child and all later ones find it read."""
    from deep_clustering.cli import cli
    from deep_clustering.settings import CONFIG_LOADER_ARGS, ConfigLoader

    name, *options = words
    if name == "run":
        given = cli.commands[name].make_context(name, options).params
        loader = ConfigLoader(str(root / "conf"), given["env"], runtime_params=given["params"], **CONFIG_LOADER_ARGS)
        for kind in ("globals", "parameters", "catalog"):
            assert loader[kind]


def start(root, words, seconds=None, step=None, file=None, fault=None, clock=0):
    """Run a command in a child; returns its exit code, -9 if it was killed, its seconds and its steps."""
    read_configuration(Path(root), words)
    reading, writing = os.pipe()
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        run_in_child(Path(root), words, step, file, fault, clock, writing)
    os.close(writing)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as report:
        n_steps = int(report.read() or 0)
    return {
        "code": os.waitstatus_to_exitcode(status),
        "seconds": time.monotonic() - started,
        "n_steps": n_steps,
    }


def serve():
    libraries = load_libraries()
    assert all(libraries)
    run_once()
    gc.freeze()  # a child has only its own objects to walk when it collects garbage
    for line in sys.stdin:
        sys.stdout.write(json.dumps(start(**json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    serve()

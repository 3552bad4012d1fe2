"""The hook: which moments of a Kedro run are written to MLflow.

A catalog entry says what its data set is to MLflow:

    metadata:
      mlflow: scores      metrics `<method>.<metric>`, curves over epochs and numbers of clusters, and the file
              history     metrics `<method>.train.<column>`, one step per epoch
              artifact    the file
              data_card   the run's data set, and the file
              model       an MLflow model that predicts, called `<method>_model`; registered as
                          `<data set>-<method>`
"""

import atexit
import errno
import json
import logging
import os
import shlex
import signal
import threading
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from deep_clustering.inference.mlflow_store import TrackingError, reason_of, silent_failures, tracking_failures
from deep_clustering.options import build
from deep_clustering.redaction import flatten, redact, redact_text, to_text
from deep_clustering.runs.comparing import failures_of
from deep_clustering.runs.tracking import provenance, records
from deep_clustering.runs.tracking.outputs import Output, Recorder
from deep_clustering.runs.tracking.pins import describe_lock
from deep_clustering.runs.tracking.process import describe_process
from deep_clustering.runs.tracking.store import PARENT, start_run
from deep_clustering.runs.tracking.tracked_run import TrackedRun
from deep_clustering.scores.cost import peak_memory
from deep_clustering.training.signals import leave

logger = logging.getLogger(__name__)

MAX_ERROR = 500
_N_NAMED = 5

# What is wrong with a file itself, and not with the disk it lies on.
_LASTING = {errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EROFS}


@dataclass(frozen=True, kw_only=True)
class TrackingOptions:
    """The parameter block `tracking`."""

    enabled: bool
    """Whether runs are tracked."""

    experiment: str
    """Name of the MLflow experiment."""

    log_model: bool
    """Whether fitted models are stored as MLflow models."""

    register: bool
    """Whether stored models become versions of a registered model, the best of them its champion."""

    on_error: Literal["stop", "warn"]
    """What a store that cannot be opened does to the run: stop, before anything is computed, or warn. With
    stop, one that fails later makes the command fail at its end."""

    parent: str | None = None
    """Id of the MLflow run that this one is a part of; a sweep sets it."""

    tags: dict[str, Any] = field(default_factory=dict)
    """Further tags of the run; nested names are joined by dots."""


@dataclass(kw_only=True)
class _Tracked:
    """What is known about the run in progress."""

    recorder: Recorder
    catalog: CatalogProtocol
    previous_sigterm: Any
    process: int = field(default_factory=os.getpid)
    started: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    cards: set[str] = field(default_factory=set)
    error: BaseException | None = None
    on_error: str = "stop"
    lost: list[str] = field(default_factory=list)
    reason: str = ""
    is_closed: bool = False

    @property
    def run(self) -> TrackedRun:
        """The run itself."""
        return self.recorder.run

    def close(self, status: str) -> None:
        """End the run, with the names of what the store did not take."""
        self.run.note_lost(self.lost)
        self.run.finish(status)
        self.is_closed = True

    def describe_lost(self) -> str:
        """What the store did not take, and what to do."""
        different = list(dict.fromkeys(self.lost))
        more = f" and {len(different) - _N_NAMED} more" if len(different) > _N_NAMED else ""
        status = "" if self.is_closed else "; until a command can write there, the record says RUNNING"
        return (
            f"MLflow did not take {', '.join(different[:_N_NAMED])}{more} ({self.reason}); when the store can be "
            f"written again, `kedro resume {self.run.run_id[:8]}` writes to it what is saved{status}"
        )


class MLflowTracking:
    """Kedro hooks that record each run in MLflow; register an instance in `HOOKS` of settings.py.

    Before the first node an unusable store stops the run, or is warned of, as the option `on_error` says. Later
    failures never end a training: what the store did not take is said at the end, and with `on_error: stop` the command
    fails then, when all outputs are saved.
    """

    def __init__(self) -> None:
        """Wait for a run."""
        self._lock = threading.RLock()  # ThreadRunner calls hooks from its threads
        self._tracked: _Tracked | None = None
        self.last_run_id: str | None = None
        self._open_records: list[tuple[TrackedRun, str, list[str]]] = []
        self._parameters: Mapping[str, Any] = {}
        self._save_version = ""
        self._project_path = Path.cwd()
        self._data_set = ""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Keep the project's root and the name of the data set."""
        self._project_path = Path(context.project_path).resolve()
        self._data_set = str(context.config_loader["globals"]["data_set"])

    @hook_impl
    def after_catalog_created(self, parameters: Mapping[str, Any], save_version: str) -> None:
        """Keep parameters and save version; they reach no later hook."""
        self._parameters = parameters
        self._save_version = save_version

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Start the MLflow run with parameters and provenance.

        Raises:
            TrackingError: if the store cannot be used, unless `on_error` is warn.
            ValueError: if the block `tracking` or a catalog entry's `mlflow` is wrong.
        """
        self._finish("KILLED")  # a run of this process that ended neither well nor in an error
        self.last_run_id = None
        settings = self._parameters.get("parameters", {})
        options = build(TrackingOptions, settings.get("tracking", {}), "parameters: tracking")
        if not options.enabled:
            return
        records.check_kinds(pipeline, catalog)
        if "ParallelRunner" in str(run_params.get("runner")):
            logger.warning("the processes of ParallelRunner report nothing to MLflow: no metrics, no files")
        data_set = self._data_set_of(pipeline)
        name = records.run_name(run_params, data_set, settings["seed"])
        versions = records.input_versions(pipeline, catalog) | (run_params.get("load_versions") or {})
        tags = self._describe(run_params, versions)
        if options.parent is not None:
            tags[PARENT] = options.parent
        tags |= flatten(options.tags)
        try:
            run = start_run(self._project_path, options.experiment, name, tags)
        except TrackingError as error:
            if options.on_error == "stop":
                raise
            logger.warning("this run is not tracked: %s", error.message.splitlines()[0])
            return
        self._close_records()
        self.last_run_id = run.run_id
        self._tracked = _Tracked(
            recorder=Recorder(run=run, data_set=data_set, log_model=options.log_model, register=options.register),
            catalog=catalog,
            previous_sigterm=_exit_on_sigterm(),
            on_error=options.on_error,
        )
        atexit.register(self._finish, "KILLED")
        used = {"data_set": data_set, **records.used_parameters(pipeline, self._parameters)}
        self._write("parameters", lambda tracked: tracked.run.log_params(used))

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        """Start the node's clock."""
        with self._lock:
            if self._tracked is not None:
                self._tracked.started[node.name] = time.perf_counter()

    @hook_impl
    def after_node_run(self, node: Node) -> None:
        """Stop the node's clock."""
        with self._lock:
            if self._tracked is not None:
                self._tracked.seconds[node.name] = time.perf_counter() - self._tracked.started[node.name]

    @hook_impl
    def after_dataset_loaded(self, dataset_name: str, data: Any) -> None:  # noqa: ANN401
        """Record the data card also in runs that start from stored data."""
        self._write(dataset_name, lambda tracked: _track(tracked, dataset_name, data, is_saved=False))

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:  # noqa: ANN401
        """Record what the catalog entry's `metadata: {mlflow: ...}` asks for."""
        self._write(dataset_name, lambda tracked: _track(tracked, dataset_name, data, is_saved=True))

    @hook_impl(wrapper=True)
    def after_pipeline_run(self, run_result: Mapping[str, Any]) -> Generator[None, Any, Any]:
        """End the run as FINISHED, with the methods that a comparison went on without.

        Raises:
            TrackingError: when the other hooks are done, if the store did not take all and `on_error` is stop.
        """
        messages = failures_of(run_result).messages
        if messages:
            tags = {f"failed.{name}": redact_text(text)[:MAX_ERROR] for name, text in messages.items()}
            tags["failed_methods"] = ", ".join(messages)
            self._write("the methods that failed", lambda tracked: tracked.run.log_tags(tags))
        tracked = self._tracked
        self._finish("FINISHED")
        said = yield
        if tracked is not None and tracked.lost and tracked.on_error == "stop":
            raise TrackingError(
                f"the run is done and its outputs are saved, but {tracked.describe_lost()}; "
                "to let such runs pass: --params=tracking.on_error=warn"
            )
        return said

    @hook_impl
    def on_pipeline_error(self, error: Exception) -> None:
        """End the run as FAILED, with the reason."""
        with self._lock:
            if self._tracked is not None:
                self._tracked.error = error
        reason = redact_text(f"{type(error).__name__}: {error}")[:MAX_ERROR]
        self._write("the error", lambda tracked: tracked.run.log_tags({"error": reason}))
        self._finish("FAILED")

    def _show(self, uri: str) -> str:
        """The command that shows a store; a project that the installed package made has no Makefile."""
        if (self._project_path / "Makefile").is_file():
            return "make ui"
        return f"mlflow ui --backend-store-uri {shlex.quote(uri)}"

    def _data_set_of(self, pipeline: Pipeline) -> str:
        """The data set of the environment, but of predictions that of the model, with whose outputs they lie."""
        if "params:predict" not in pipeline.inputs() or "params:ingestion" in pipeline.inputs():
            return self._data_set
        from deep_clustering.inference.prediction import data_set_of

        return data_set_of(self._parameters["params:predict"])

    def _describe(self, run_params: Mapping[str, Any], load_versions: Mapping[str, str]) -> dict[str, str]:
        command = provenance.command_to_repeat(run_params, load_versions)
        git = provenance.describe_git(self._project_path)
        runtime_params = run_params.get("runtime_params") or {}
        return {
            "kedro.pipeline": provenance.pipeline_name(run_params),
            "kedro.env": run_params.get("env") or "default",
            "kedro.runtime_params": to_text(redact(runtime_params)),
            "kedro.selection": json.dumps(provenance.restriction_of(run_params)),
            "kedro.save_version": self._save_version,
            "kedro.load_versions": to_text(load_versions),
            "kedro.command": command,
            "deep_clustering.project": self._project_path.name,
            "mlflow.source.name": command,
            "mlflow.source.type": "LOCAL",
            **({} if git["git.sha"] == provenance.UNKNOWN else {"mlflow.source.git.commit": git["git.sha"]}),
            **git,
            **provenance.describe_environment(),
            **describe_lock(self._project_path),
            **describe_process(),
        }

    def _write(self, what: str, action: Callable[[_Tracked], None]) -> None:
        """Let `action` write to the run, if there is one; a store that fails now must not end a training."""
        with self._lock:
            if self._tracked is None or self._tracked.process != os.getpid():
                return
            tracked = self._tracked
            try:
                with silent_failures():
                    action(tracked)
            except records.ElsewhereError as error:
                logger.warning("MLflow did not take %s: %s", what, reason_of(error))
            except tracking_failures() as error:
                if not tracked.lost:
                    tracked.reason = reason_of(error)
                    logger.warning(
                        "MLflow did not take %s: %s; the run goes on, and says at its end what else was not taken",
                        what,
                        tracked.reason,
                    )
                tracked.lost.append(what)

    def _close_records(self) -> None:
        """Close records of this process that the store did not let it close; others leave them while it lives."""
        former, self._open_records = self._open_records, []
        for run, status, lost in former:
            try:
                with silent_failures():
                    run.note_lost(lost)
                    run.close(status)
            except tracking_failures():
                self._open_records.append((run, status, lost))

    def _finish(self, status: str) -> None:
        with self._lock:
            if self._tracked is None or self._tracked.process != os.getpid():
                return
            self._write("run times and memory", _log_machine)
            self._write(f"the status {status}", lambda tracked: tracked.close(status))
            tracked, self._tracked = self._tracked, None
            if not tracked.is_closed:
                self._open_records.append((tracked.run, status, tracked.lost))
        atexit.unregister(self._finish)
        if tracked.previous_sigterm is not None:
            signal.signal(signal.SIGTERM, tracked.previous_sigterm)
        run = tracked.run
        logger.info("tracked%s as run %s (%s)", " in part" if tracked.lost else "", run.name, run.run_id)
        if tracked.lost and (tracked.on_error == "warn" or status != "FINISHED"):  # else it becomes the command's error
            logger.warning("%s", tracked.describe_lost())
        if run.is_served:
            logger.info("its page: %s", run.address)
        else:
            logger.info("in %s; `%s` shows it at %s", run.uri, self._show(run.uri), run.address)
        if status != "FINISHED" and tracked.seconds and _may_pass(tracked.error):
            logger.info("to continue it: kedro resume %s", run.run_id[:8])


def _may_pass(error: BaseException | None) -> bool:
    """Whether what ended a run may be over when it is continued: an interruption, or a machine that was out of order.

    What options, files and data are the reason of would fail again, since a continuation has the same ones.
    """
    if error is None or isinstance(error, MemoryError | TimeoutError | ConnectionError):
        return True
    if isinstance(error, OSError):
        return error.errno is not None and error.errno not in _LASTING
    return error.__cause__ is not None and _may_pass(error.__cause__)  # Kedro wraps what a dataset raises


def _track(tracked: _Tracked, name: str, data: Any, *, is_saved: bool) -> None:  # noqa: ANN401
    """Write a value to the run; of what is only read, a data card that the run has not got yet."""
    output = Output(
        kind=records.mlflow_kind(tracked.catalog, name),
        method=records.method_of(tracked.catalog, name),
        data=data,
        find_file=lambda: records.file_path(tracked.catalog, name, is_saved=is_saved),
    )
    is_card = output.kind == "data_card"
    if name in tracked.cards or not (is_saved or is_card):
        return
    if is_card:
        tracked.cards.add(name)
    tracked.recorder.write(output)


def _log_machine(tracked: _Tracked) -> None:
    seconds = [(f"wall_seconds.{node}", value, 0) for node, value in tracked.seconds.items()]
    memory = [(name, value, 0) for name, value in peak_memory().items()]
    tracked.run.log_metrics([*seconds, *memory])
    tracked.run.log_tags(provenance.describe_torch())


def _exit_on_sigterm() -> Any:  # noqa: ANN401
    """Let a polite kill run the exit handlers; returns the handler to restore, or None."""
    is_ours = threading.current_thread() is threading.main_thread()
    if not is_ours or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        return None
    return signal.signal(signal.SIGTERM, leave)

"""What the saved value of a catalog entry is to MLflow: how it is written to a run, and whether a run has it whole.

Whatever is written ends with what `has` looks for, so that a process that is killed in between is found out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deep_clustering.runs.tracking import records
from deep_clustering.runs.tracking.models import ModelFiles
from deep_clustering.runs.tracking.registry import Training
from deep_clustering.runs.tracking.tracked_run import TrackedRun


@dataclass(frozen=True, kw_only=True)
class Output:
    """A value of the catalog."""

    kind: str | None
    """What it is to MLflow, one of `records.KINDS`; None for nothing."""
    method: str
    """Name that it goes under; empty for none."""
    data: Any
    """The value."""
    find_file: Callable[[], Path]
    """Finds its local file."""


@dataclass(frozen=True, kw_only=True)
class Recorder:
    """Writes outputs to a run, once."""

    run: TrackedRun
    data_set: str
    """Name of the data set, for the names of registered models."""
    log_model: bool
    """Whether fitted models are stored."""
    register: bool
    """Whether stored models become versions of a registered one."""

    def write(self, output: Output, *, again: bool = False) -> None:
        """Write an output to the run.

        Args:
            output: What to write.
            again: Whether a part of it may be there already; what is there is then not written twice.

        Raises:
            MlflowException: if the store refuses.
            OSError: if a file cannot be read or copied.
        """
        if output.kind == "history":
            self.run.log_params(records.circumstances(output.method, output.data))
        points = _points(output)
        if again:
            there = {name: self.run.steps_of(name) for name in {name for name, _, _ in points}}
            points = [point for point in points if point[2] not in there[point[0]]]
        self.run.log_metrics(points)
        if output.kind == "data_card":
            self.run.log_data_card(output.data)
        elif output.kind == "model":
            self._write_model(output)
        if output.kind in records.KEPT_AS_FILES:
            self.run.log_file(output.find_file(), self._folder(output))

    def has(self, output: Output) -> bool:
        """Whether the run has all of an output."""
        if output.kind in records.KEPT_AS_FILES:
            return self.run.has_file(output.find_file(), self._folder(output))
        if output.kind == "history":
            last = _points(output)[-1:]
            return all(step in self.run.steps_of(name) for name, _, step in last)
        if output.kind == "model" and self.log_model:
            model = self.run.find_model(f"{output.method}_model")
            is_registered = model is not None and self.run.has_registered(self._registered_name(output), model)
            return model is not None and (is_registered or not self.register)
        return True

    def _write_model(self, output: Output) -> None:
        self.run.log_params(records.backbone_precision(output.data.preparation))
        if self.log_model:
            model_id = self.run.log_model(f"{output.method}_model", _model_files(output))
            if self.register:
                self.run.register_model(self._registered_name(output), model_id, _training(output.data))

    def _registered_name(self, output: Output) -> str:
        return f"{self.data_set}-{output.method}"

    @staticmethod
    def _folder(output: Output) -> str:
        return "" if output.kind == "data_card" else output.method


def _points(output: Output) -> list[tuple[str, float, int]]:
    """Metrics of an output: name, value and step."""
    if output.kind == "scores":
        return list(records.score_points(output.method, output.data))
    return list(records.history_points(output.method, output.data)) if output.kind == "history" else []


def _model_files(output: Output) -> ModelFiles:
    from deep_clustering.inference.raw_rows import example_rows, expected_rows

    preparation = output.data.preparation
    return ModelFiles(
        path=output.find_file(),
        input_example=example_rows(preparation),
        metadata={
            "method": output.data.model.method,
            "rows": expected_rows(preparation),
            "reading": preparation.reading,
        },
    )


def _training(predictor: Any) -> Training:  # noqa: ANN401 - a `Predictor`, which needs torch to be imported
    model, preparation = predictor.model, predictor.preparation
    return Training(
        method=model.method,
        options=model.options,
        features=preparation.options,
        weights_sha256=preparation.weights_sha256,
        data_sha256=preparation.data_sha256,
        score=predictor.score,
    )

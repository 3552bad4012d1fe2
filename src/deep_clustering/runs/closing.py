"""What the record of an unfinished run lacks is written to it, and the record is closed.

A process that is killed may have saved an output and not yet have tracked it, and its record says RUNNING for ever.
"""

from collections.abc import Sequence
from pathlib import Path

from kedro.pipeline import Pipeline

from deep_clustering.inference.mlflow_store import open_store
from deep_clustering.options import build
from deep_clustering.runs import repeating
from deep_clustering.runs.tracking import records
from deep_clustering.runs.tracking.hook import TrackingOptions
from deep_clustering.runs.tracking.outputs import Output, Recorder
from deep_clustering.runs.tracking.reading import RecordedRun
from deep_clustering.runs.tracking.store import find_tracked_run
from deep_clustering.runs.tracking.tracked_run import LOST

RESUMED_BY = "deep_clustering.resumed_by"


def track_late(project_path: Path, parts: Sequence[RecordedRun], plan: repeating.Plan, finished: Pipeline) -> list[str]:
    """Track the outputs that were saved and are in no record; nothing is computed.

    Args:
        project_path: Root of the project.
        parts: The run and its continuations, oldest first; the last one gets what is missing.
        plan: The whole run.
        finished: The nodes whose outputs are all there.

    Returns:
        Names of the outputs that were tracked now.

    Raises:
        TrackingError: if the store fails.
    """
    run = parts[0]
    given = {**plan.tracking, **repeating.tracking_of(run)}
    options = build(TrackingOptions, given, "parameters: tracking")
    tracked = []
    with open_store(project_path) as client:
        recorders = [
            Recorder(
                run=find_tracked_run(client, project_path, part.run_id),
                data_set=run.params.get("data_set", plan.params["data_set"]),
                log_model=options.log_model,
                register=options.register,
            )
            for part in parts
        ]
        for name in sorted(finished.all_outputs()):
            output = _saved_output(plan, name, run.save_version)
            if output is not None and not any(recorder.has(output) for recorder in recorders):
                recorders[-1].write(output, again=True)
                tracked.append(name)
        for part, recorder in zip(parts, recorders, strict=True):
            if LOST in part.tags:
                recorder.run.forget_lost()
    return tracked


def _saved_output(plan: repeating.Plan, name: str, version: str) -> Output | None:
    """An output as the run saved it; None for one that is nothing to MLflow."""
    kind = records.mlflow_kind(plan.catalog, name)
    if kind is None:
        return None
    return Output(
        kind=kind,
        method=records.method_of(plan.catalog, name),
        data=plan.catalog.load(name, version=version),
        find_file=lambda: repeating.version_path(plan, name, version),
    )


def close(project_path: Path, parts: Sequence[RecordedRun], *, is_complete: bool) -> None:
    """Let no part of a run say that it runs when its process is gone, and each name the part that went on.

    Args:
        project_path: Root of the project.
        parts: The run and its continuations, oldest first.
        is_complete: Whether nothing is left to run: the last part is then finished, unless another has finished.

    Raises:
        TrackingError: if the store fails.
    """
    is_finished = any(part.status == "FINISHED" for part in parts)
    with open_store(project_path) as client:
        for part in parts:
            run = find_tracked_run(client, project_path, part.run_id)
            if is_complete and not is_finished and part is parts[-1]:
                run.close("FINISHED")
            elif part.status == "died":
                run.close("KILLED")
            if part is not parts[-1] and part.tags.get(RESUMED_BY) != parts[-1].run_id:
                run.log_tags({RESUMED_BY: parts[-1].run_id})

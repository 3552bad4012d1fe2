"""`kedro resume`: finish a run that failed or was killed, without repeating what it had finished.

All outputs of a run carry one version, and those of its continuation carry the same: whoever loads a version gets
scores, assignments and model of one run, whether it was interrupted or not.
"""

import os
from collections.abc import Callable
from pathlib import Path

import click
from kedro.io import AbstractVersionedDataset
from kedro.pipeline import Pipeline

from deep_clustering.runs import closing, repeating
from deep_clustering.runs.reproduction import RESUMES
from deep_clustering.runs.tracking.process import is_alive
from deep_clustering.runs.tracking.reading import RecordedRun, find_run, list_runs
from deep_clustering.runs.tracking.tracked_run import LOST

UNFINISHED = ("FAILED", "KILLED", "died")


def resume(project_path: Path, run_id: str | None, say: Callable[[str], None]) -> None:
    """Run what is missing of an unfinished run, in its version, and write what its record lacks.

    Args:
        project_path: Root of the project.
        run_id: Id of the run or its beginning; None for the newest one of which something is missing.
        say: Shows a line to the user.

    Raises:
        click.ClickException: before any work, if the run still runs or cannot be continued.
    """
    if run_id is not None:
        run = find_run(project_path, run_id)
        _finish(project_path, find_run(project_path, run.tags[RESUMES]) if RESUMES in run.tags else run, say)
        return
    for found in _unfinished(project_path):
        if _finish(project_path, find_run(project_path, found), say):
            return
    say("no tracked run is unfinished")


def _unfinished(project_path: Path) -> list[str]:
    """Ids of the runs that neither ended well nor are being continued, or were, to the end; newest first."""
    runs = list_runs(project_path)
    settled = {run.tags.get(RESUMES, run.run_id) for run in runs if run.status in ("FINISHED", "RUNNING")}
    begun = [run.tags.get(RESUMES, run.run_id) for run in runs if run.status in UNFINISHED]
    known = {run.run_id for run in runs}  # whose first part is deleted cannot be continued
    return [run_id for run_id in dict.fromkeys(begun) if run_id in known - settled]


def _finish(project_path: Path, run: RecordedRun, say: Callable[[str], None]) -> bool:
    """Continue a run; returns whether there was anything to run."""
    parts = _parts(project_path, run)
    for part in parts:
        _refuse_running(part)
    params = repeating.own_params(run)
    plan = repeating.plan_run(project_path, run, params)
    missing = unfinished_part(plan, run.save_version)
    finished = plan.pipeline - missing
    versions: dict[str, str] = {}
    if missing.nodes:
        _refuse_mixture(run, plan, finished)
        own = dict.fromkeys(finished.all_outputs(), run.save_version)
        versions = repeating.input_versions(plan, missing, {**run.load_versions, **own}, run)
        _say_plan(project_path, run, plan, missing, say)
    is_over = any(part.status == "FINISHED" for part in parts) and not any(LOST in part.tags for part in parts)
    for name in [] if is_over else closing.track_late(project_path, parts, plan, finished):
        say(f"  tracked now, it was saved only: {name}")
    closing.close(project_path, parts, is_complete=not missing.nodes)
    if not missing.nodes:
        say(f"run {run.run_id} ({run.name}): all its outputs are there, in version {run.save_version}")
        return False
    for name in sorted(missing.all_outputs()):
        _set_aside(repeating.version_path(plan, name, run.save_version))
    try:
        repeating.run_again(
            project_path,
            run,
            params=repeating.with_former_models(
                run, {**params, "checkpoints": {**params.get("checkpoints", {}), "resume": "auto"}}
            ),
            restriction={"node_names": [node.name for node in missing.nodes]},
            load_versions=versions,
            version=run.save_version,
            role="resumes",
        )
    finally:
        closing.close(project_path, _parts(project_path, run), is_complete=False)
    say(f"run {run.run_id} is complete, in version {run.save_version}")
    return True


def _parts(project_path: Path, run: RecordedRun) -> list[RecordedRun]:
    """A run and its continuations, oldest first."""
    return [run, *reversed(list_runs(project_path, tags={RESUMES: run.run_id}))]


def _refuse_running(run: RecordedRun) -> None:
    if run.status != "RUNNING":
        return
    process, host = run.tags.get("process.id", "unknown"), run.tags.get("process.host", "unknown")
    if is_alive(run.tags):
        raise click.ClickException(f"run {run.run_id} still runs here, as process {process}")
    raise click.ClickException(
        f"run {run.run_id} says that it runs on host {host} as process {process}, which cannot be seen from here. "
        "If it is dead, resume it there, or start it anew by kedro run"
    )


def unfinished_part(plan: repeating.Plan, version: str) -> Pipeline:
    """The nodes of which an output is missing in a version, and all behind them.

    An output that is not versioned counts as missing: nobody knows which run it is of.

    Args:
        plan: The whole run.
        version: Version of its outputs.

    Returns:
        What is left to run; empty if nothing is.
    """
    there = {
        name
        for name in plan.pipeline.all_outputs()
        if isinstance(plan.catalog.get(name), AbstractVersionedDataset)
        and repeating.version_path(plan, name, version).exists()
    }
    starts = [node.name for node in plan.pipeline.nodes if not there.issuperset(node.outputs)]
    return plan.pipeline.from_nodes(*starts) if starts else Pipeline([])


def _refuse_mixture(run: RecordedRun, plan: repeating.Plan, finished: Pipeline) -> None:
    """Refuse to go on behind nodes that would compute something else now."""
    read = {name.removeprefix("params:") for name in finished.inputs() if name.startswith("params:")}
    changed = repeating.changed_params(run, plan).items()
    computing = {*read, "data_set"}
    mixed = {name: pair for name, pair in changed if name.partition(".")[0] in computing and not _is_place(name)}
    if mixed:
        lines = [f"    {line}" for line in repeating.describe_changes("parameter", mixed)]
        raise click.ClickException(
            f"run {run.run_id}: what it has finished was computed with other parameters than the configuration has "
            "now; restore them, or start anew by kedro run\n" + "\n".join(lines)
        )


def _is_place(name: str) -> bool:
    """Whether a parameter says only where something is computed or kept, or in what pieces."""
    block, _, option = name.partition(".")
    is_of_work = block in ("checkpoints", "parallel") or name in ("device", "features.batch_size", "features.launcher")
    return is_of_work or option in ("device", "cache", "folder")


def _say_plan(
    project_path: Path, run: RecordedRun, plan: repeating.Plan, missing: Pipeline, say: Callable[[str], None]
) -> None:
    say(f"resuming run {run.run_id} ({run.name}, {run.status}), version {run.save_version}")
    say(f"  {len(missing.nodes)} of {len(plan.pipeline.nodes)} nodes are left: {_names(missing)}")
    params = repeating.describe_changes("parameter", repeating.changed_params(run, plan))
    for change in (*repeating.changes_of_code(run, project_path), *params):
        say(f"  warning: changed since: {change}")


def _names(pipeline: Pipeline) -> str:
    return ", ".join(node.name for node in pipeline.nodes)


def _set_aside(path: Path) -> None:
    """Make room for an output that is computed again; the former file stays beside it until somebody deletes it."""
    if path.exists():
        os.replace(path, path.with_name(f"{path.name}.unfinished"))

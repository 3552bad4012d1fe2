"""`kedro reproduce`: run a tracked run again and compare what comes out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import click
import numpy as np
from kedro.io.core import DatasetError, generate_timestamp

from deep_clustering.inference.prediction import NO_CLUSTER
from deep_clustering.reporting.text_tables import aligned, number
from deep_clustering.runs import repeating
from deep_clustering.runs.tracking.reading import RecordedRun, find_run, list_runs
from deep_clustering.runs.tracking.results import Results, read_results
from deep_clustering.scores.metrics import accuracy, contingency

# Share of rows in the same cluster, up to a renaming of the clusters, from which two clusterings count as one.
MIN_AGREEMENT = 0.99

REPRODUCES = "deep_clustering.reproduces"
RESUMES = "deep_clustering.resumes"

_FOLDERS = ("data_folder", "output_folder", "trunk_folder")
_SHOWN = ("acc", "nmi", "ari", "log_likelihood")


class Verdict(IntEnum):
    """How well a repetition agrees; the worst of its parts counts."""

    IDENTICAL = 0
    WITHIN_TOLERANCE = 1
    DIFFERENT = 2

    def __str__(self) -> str:
        return self.name.lower().replace("_", " ")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One method, then and now."""

    method: str
    verdict: Verdict

    agreement: float | None
    """Share of rows in the same cluster up to a renaming, in [0, 1]; None if one of the runs left no assignments."""

    metrics: Mapping[str, tuple[float | None, float | None]]
    """Each metric then and now."""


def reproduce(
    project_path: Path, run_id: str, tolerance: float, output_folder: str | None, say: Callable[[str], None]
) -> Verdict | None:
    """Repeat a tracked run and compare the results.

    Args:
        project_path: Root of the project.
        run_id: Id of the run or its beginning.
        tolerance: Largest absolute difference of a metric that passes.
        output_folder: Where the new outputs go; None for where the recorded ones went.
        say: Shows a line to the user.

    Returns:
        The verdict; None if the recorded run left nothing to compare with.

    Raises:
        click.ClickException: before any work, if the run cannot be repeated.
    """
    run = find_run(project_path, run_id)
    if RESUMES in run.tags:
        say(f"run {run.run_id} continued run {run.tags[RESUMES]}: the whole of it is repeated")
        run = find_run(project_path, run.tags[RESUMES])
    if run.status == "RUNNING":
        raise click.ClickException(f"run {run.run_id} has not ended yet; it can be reproduced when it has")
    parts = [run, *reversed(list_runs(project_path, tags={RESUMES: run.run_id}))]
    recorded = _merged([read_results(project_path, part) for part in parts])
    params = repeating.own_params(run)
    chosen = {} if output_folder is None else {"output_folder": output_folder}
    plan = repeating.plan_run(project_path, run, {**params, **chosen})
    recorded |= _predictions(repeating.plan_run(project_path, run, params) if chosen else plan, run)
    versions = repeating.input_versions(plan, plan.pipeline, run.load_versions, run)
    _say_plan(project_path, run, plan, say)
    version = generate_timestamp()
    repeating.run_again(
        project_path,
        run,
        params=repeating.with_former_models(
            run, _with_decisions(parts, {**_without_lost_folders(params, project_path, say), **chosen}, say)
        ),
        restriction=run.restriction,
        load_versions=versions,
        version=version,
        role="reproduces",
    )
    tags = {REPRODUCES: run.run_id, "kedro.save_version": version}
    found = list_runs(project_path, tags=tags)
    if not found:
        raise click.ClickException(f"the run has finished with version {version}, but the tracking store lost it")
    results = read_results(project_path, found[0]) | _predictions(plan, found[0])
    return _judge(parts, recorded, found[0], results, tolerance, say)


def _predictions(plan: repeating.Plan, run: RecordedRun) -> dict[str, Results]:
    """The clusters that a run gave to new rows, if that is what it did.

    Raises:
        click.ClickException: if it has finished and its table is gone, or the table is damaged.
    """
    name = "predictions"
    if name not in plan.pipeline.all_outputs():
        return {}
    dataset: Any = plan.catalog.get(name)
    dataset.move_to(run.data_set)
    path = repeating.version_path(plan, name, run.save_version)
    if not path.exists():
        if run.status == "FINISHED" and not run.restriction:
            raise click.ClickException(f"the predictions of run {run.run_id} are gone: there is no {path}")
        return {}
    try:
        table = plan.catalog.load(name, version=run.save_version)
    except DatasetError as error:
        raise click.ClickException(f"the predictions of run {run.run_id} are damaged: {path}") from error
    # What was skipped has the number -1, and is a group of its own here.
    return {name: Results(assignments=table["cluster"].to_numpy() - NO_CLUSTER, metrics=None)}


def _merged(parts: list[dict[str, Results]]) -> dict[str, Results]:
    """What a run and its continuations left of each method, together."""
    merged: dict[str, Results] = {}
    for name, later in (item for part in parts for item in part.items()):
        earlier = merged.get(name, later)
        merged[name] = Results(
            assignments=earlier.assignments if later.assignments is None else later.assignments,
            metrics=earlier.metrics if later.metrics is None else later.metrics,
        )
    return merged


def _say_plan(project_path: Path, run: RecordedRun, plan: repeating.Plan, say: Callable[[str], None]) -> None:
    say(f"reproducing run {run.run_id} ({run.name}, {run.status})")
    changes = [
        *repeating.changes_of_code(run, project_path),
        *repeating.describe_changes("parameter", _changed_params(run, plan)),
        *repeating.changes_of_machine(run),
    ]
    for change in changes or ["code, packages, parameters and machine are as they were"]:
        say(f"  {change}")
    say(f"  {repeating.describe_lock_of(run, project_path)}")


def _changed_params(run: RecordedRun, plan: repeating.Plan) -> dict[str, tuple[str, str]]:
    """Parameters that have changed; predictions go by the data set of their model, whatever the environment says."""
    changed = repeating.changed_params(run, plan)
    if "predictions" in plan.pipeline.all_outputs():
        changed.pop("data_set", None)
    return changed


def _without_lost_folders(params: Mapping[str, Any], project_path: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Let a run that needs nothing from a folder that is gone write to the project's own instead."""
    kept = dict(params)
    for name in _FOLDERS:
        if name in kept and not (project_path / str(kept[name])).exists():
            say(f"  {name}: {kept[name]} is gone; the project's own is used")
            del kept[name]
    return kept


def _with_decisions(parts: list[RecordedRun], params: Mapping[str, Any], say: Callable[[str], None]) -> dict[str, Any]:
    """Give a precision that the run found out by trying: another machine or moment may find another."""
    given = dict(params)
    for name, value in sorted(_used(parts).items()):
        block, _, option = name.rpartition(".")
        if option == "precision" and parts[0].params.get(name) == "auto":
            say(f"  {name}: auto came to {value}; set to {value}")
            given[block] = {**given.get(block, {}), option: value}
    return given


def _used(parts: list[RecordedRun]) -> dict[str, str]:
    """What options came to in a run and its continuations."""
    return {name: value for part in parts for name, value in part.used.items()}


def _judge(
    parts: list[RecordedRun],
    recorded: Mapping[str, Results],
    new: RecordedRun,
    results: Mapping[str, Results],
    tolerance: float,
    say: Callable[[str], None],
) -> Verdict | None:
    comparisons = [compare(name, then, results.get(name), tolerance) for name, then in sorted(recorded.items())]
    data = {name: digest for part in parts for name, digest in part.data_sha256.items()}
    verdicts = [comparison.verdict for comparison in comparisons]
    for name in sorted(data.keys() & new.data_sha256.keys()):
        is_same = data[name] == new.data_sha256[name]
        verdicts.append(Verdict.IDENTICAL if is_same else Verdict.DIFFERENT)
        if not is_same:
            say(f"the data differ: sha256 of {name} was {data[name]}, now {new.data_sha256[name]}")
    changed = {name: (then, new.used[name]) for name, then in sorted(_used(parts).items()) if name in new.used}
    for line in repeating.describe_changes(
        "ran with", {name: pair for name, pair in changed.items() if len({*pair}) > 1}
    ):
        say(line)
    for line in table(comparisons):
        say(line)
    verdict = max(verdicts, default=Verdict.IDENTICAL)
    is_unfinished = not comparisons and all(part.status != "FINISHED" for part in parts)
    if not verdicts or (is_unfinished and verdict < Verdict.DIFFERENT):
        say(f"run {parts[0].run_id} left nothing to compare with; run {new.run_id} has finished")
        return None
    say(f"{verdict}: run {new.run_id} against run {parts[0].run_id}")
    return verdict


def compare(method: str, then: Results, now: Results | None, tolerance: float) -> Comparison:
    """Compare what two runs left of a method.

    Args:
        method: Name of the method.
        then: The recorded results.
        now: The new ones; None if there are none.
        tolerance: Largest absolute difference of a metric that passes.

    Returns:
        The worse of two verdicts. Of the assignments: identical if they are equal, within tolerance if they agree on
        at least `MIN_AGREEMENT` of the rows up to a renaming of the clusters. Of the metrics: identical if all are
        equal, within tolerance if each is. What the recorded run has not left is not asked of the new one.
    """
    now = now or Results(assignments=None, metrics=None)
    old_metrics, new_metrics = then.metrics or {}, now.metrics or {}
    metrics = {name: (old_metrics.get(name), new_metrics.get(name)) for name in sorted({*old_metrics, *new_metrics})}
    agreement = _agreement(then.assignments, now.assignments)
    verdicts = []
    if then.assignments is not None:
        is_equal = now.assignments is not None and np.array_equal(then.assignments, now.assignments)
        verdicts.append(_verdict(is_equal, agreement is not None and agreement >= MIN_AGREEMENT))
    if then.metrics is not None:
        is_close = all(_is_close(old, new, tolerance) for old, new in metrics.values())
        verdicts.append(_verdict(then.metrics == now.metrics, now.metrics is not None and is_close))
    verdict = max(verdicts, default=Verdict.IDENTICAL)
    return Comparison(method=method, verdict=verdict, agreement=agreement, metrics=metrics)


def _verdict(is_equal: bool, is_close: bool) -> Verdict:
    return Verdict.IDENTICAL if is_equal else Verdict.WITHIN_TOLERANCE if is_close else Verdict.DIFFERENT


def _is_close(old: float | None, new: float | None, tolerance: float) -> bool:
    if old is None or new is None:
        return old is new
    return abs(old - new) <= tolerance


def _agreement(then: np.ndarray | None, now: np.ndarray | None) -> float | None:
    if then is None or now is None:
        return None
    if then.shape != now.shape:
        return 0.0
    n_clusters = int(max(then.max(), now.max())) + 1
    return accuracy(contingency(then, now, n_clusters, n_clusters))


def table(comparisons: list[Comparison]) -> list[str]:
    """One line for each method: agreement of the assignments, the main metrics, the largest difference of any."""
    if not comparisons:
        return []
    rows = [["method", "same rows", *_SHOWN, "largest difference", "verdict"]]
    for comparison in comparisons:
        share = "-" if comparison.agreement is None else f"{comparison.agreement:.2%}"
        shown = [_change(*comparison.metrics.get(name, (None, None))) for name in _SHOWN]
        rows.append([comparison.method, share, *shown, _largest(comparison), str(comparison.verdict)])
    return aligned(rows)


def _change(then: float | None, now: float | None) -> str:
    texts = [number(value, missing="-", thousands="") for value in (then, now)]
    return texts[0] if then == now or texts == ["-", "-"] else "->".join(texts)


def _largest(comparison: Comparison) -> str:
    pairs = {
        name: abs(old - new)
        for name, (old, new) in comparison.metrics.items()
        if old is not None and new is not None and old != new
    }
    if not pairs:
        return "0"
    name = max(pairs, key=pairs.__getitem__)
    return f"{pairs[name]:.2g} ({name})"

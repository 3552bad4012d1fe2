"""What repeating and continuing a tracked run share: its parameters, its inputs, and what has changed since.

A run's own parameters are all of its runtime parameters but `tracking`: where a run is tracked does not make it
another one. The new run is always tracked, in the experiment of the old one.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from kedro.framework.project import pipelines as registered
from kedro.framework.project import settings
from kedro.framework.session.service_session import KedroServiceSession
from kedro.io import AbstractVersionedDataset, CatalogProtocol
from kedro.pipeline import Pipeline

from deep_clustering.options import closest
from deep_clustering.runs.comparing import ComparingRunner, is_comparison
from deep_clustering.runs.tracking import pins, provenance
from deep_clustering.runs.tracking.reading import RecordedRun
from deep_clustering.runs.tracking.records import used_parameters

MISSING = "-"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A recorded run as it would run now."""

    pipeline: Pipeline
    catalog: CatalogProtocol
    params: Mapping[str, str]
    """Flat parameters, as a run logs them."""
    tracking: Mapping[str, Any]
    """The block `tracking` of the configuration."""


def plan_run(project_path: Path, run: RecordedRun, runtime_params: Mapping[str, Any]) -> Plan:
    """Look at what a recorded run would be now; nothing is computed or written.

    Args:
        project_path: Root of the project.
        run: The recorded run.
        runtime_params: Its runtime parameters, without `tracking`.

    Returns:
        The plan.

    Raises:
        ValueError: if the project no longer has its environment, or one of its pipelines or nodes.
    """
    session = _session(project_path, run)
    context = session.load_context(dict(runtime_params))
    registered.set_requested(None)  # Kedro loads only the pipelines of the run before, unless told otherwise
    unknown = set(run.pipelines) - set(registered)
    if unknown:
        raise ValueError(f"run {run.run_id}: the project has no pipeline {', '.join(sorted(unknown))} any more")
    restriction = {"node_namespaces" if key == "namespaces" else key: names for key, names in run.restriction.items()}
    pipeline = sum((registered[name] for name in run.pipelines), Pipeline([])).filter(**restriction)
    catalog = context.catalog
    values = {name: catalog.load(name) for name in catalog if name == "parameters" or name.startswith("params:")}
    data_set = str(context.config_loader["globals"]["data_set"])
    return Plan(
        pipeline=pipeline,
        catalog=catalog,
        params={"data_set": data_set, **used_parameters(pipeline, values)},
        tracking=values["parameters"].get("tracking", {}),
    )


def own_params(run: RecordedRun) -> dict[str, Any]:
    """The runtime parameters that make the run what it is.

    Raises:
        click.ClickException: if one of them was hidden when the run was recorded.
    """
    params = {name: value for name, value in run.runtime_params.items() if name != "tracking"}
    hidden = [name for name in run.redacted if name.partition(".")[0] in params]
    if hidden:
        raise click.ClickException(
            f"run {run.run_id}: the value of {', '.join(hidden)} was hidden when it was recorded, so it cannot be run "
            "again from the record. Use `kedro run` with the value; the rest of the command is\n"
            f"    {run.tags.get('kedro.command', '')}"
        )
    return params


def with_former_models(run: RecordedRun, params: Mapping[str, Any]) -> dict[str, Any]:
    """Name the former models that were the latest when a run began: by now that may be its own, or one fitted since.

    Args:
        run: The recorded run.
        params: Its runtime parameters.

    Returns:
        The parameters; the same where the run neither changed clusters by feedback nor kept the numbers of others.
    """
    recorded = {name: run.params.get(f"clusters.{name}") for name in ("feedback", "model", "numbers_of", "folder")}
    used = [name for name, needed in (("model", "feedback"), ("numbers_of", "numbers_of")) if _is_set(recorded[needed])]
    latest = {name: f"before:{run.save_version}" for name in used if recorded[name] == "latest"}
    if not used:
        return dict(params)
    place = {"folder": recorded["folder"], **latest}
    return {**params, "clusters": {**params.get("clusters", {}), **place}}


def _is_set(value: str | None) -> bool:
    return value not in (None, "null")  # as JSON, see `flatten`


def tracking_of(run: RecordedRun) -> Mapping[str, Any]:
    """Options of tracking that were given to the run itself; its continuation is tracked in the same way."""
    return run.runtime_params.get("tracking") or {}


def input_versions(plan: Plan, pipeline: Pipeline, recorded: Mapping[str, str], run: RecordedRun) -> dict[str, str]:
    """The recorded version of each versioned input.

    Args:
        plan: Says where the inputs lie.
        pipeline: What is to run.
        recorded: Version of each input, by name.
        run: The run that they are of.

    Returns:
        The versions of those that were recorded; for others, inputs that the pipeline has got since, the newest
        version is right.

    Raises:
        click.ClickException: naming every input that is gone, with its file.
    """
    versions, problems = {}, []
    for name in sorted(pipeline.inputs()):
        dataset = plan.catalog.get(name)
        if not isinstance(dataset, AbstractVersionedDataset):
            continue
        if name in recorded:
            versions[name] = recorded[name]
            path = version_path(plan, name, recorded[name])
            if not path.exists():
                problems.append(f"run {run.run_id}: its input '{name}' is gone: there is no {path}")
        elif not dataset.exists():
            problems.append(f"run {run.run_id}: its input '{name}' has no version in {dataset._filepath}")
    if problems:
        raise click.ClickException("\n".join(problems))
    return versions


def version_path(plan: Plan, name: str, version: str) -> Path:
    """Local file of a version of a data set."""
    dataset: Any = plan.catalog.get(name)
    # Kedro offers no public way to a version's path; see tracking/records.py.
    return Path(dataset._get_versioned_path(version))


def run_again(
    project_path: Path,
    run: RecordedRun,
    *,
    params: Mapping[str, Any],
    restriction: Mapping[str, list[str]],
    load_versions: Mapping[str, str],
    version: str,
    role: str,
) -> None:
    """Run with the environment, seed and torch threads of a recorded run.

    Args:
        project_path: Root of the project.
        run: The recorded run.
        params: Runtime parameters, without `tracking`.
        restriction: What to restrict the run to, as arguments of Kedro's session.
        load_versions: Versions of the inputs.
        version: Version of the outputs.
        role: "reproduces" or "resumes": the tag `deep_clustering.<role>` of the new run names the recorded one.
    """
    if run.torch_threads is not None:
        import torch

        torch.set_num_threads(run.torch_threads)
    tracking: dict[str, Any] = {"enabled": True, "experiment": run.experiment}
    if role == "reproduces":
        tracking["register"] = False  # it is the training that is registered already
    else:
        tracking = {**tracking_of(run), **tracking}
    tracking["tags"] = {**tracking.get("tags", {}), "deep_clustering": {role: run.run_id}}
    _session(project_path, run).run(
        run_id=version,
        pipeline_names=list(run.pipelines),
        runtime_params={**params, "tracking": tracking},
        load_versions=dict(load_versions),
        runner=ComparingRunner() if is_comparison(run.pipelines) else None,
        **restriction,  # type: ignore[arg-type]
    )


def _session(project_path: Path, run: RecordedRun) -> KedroServiceSession:
    """A session that lets the caller choose the version of the outputs."""
    environments = project_path / settings.CONF_SOURCE
    if run.env and not (environments / run.env).is_dir():
        known = [path.name for path in environments.iterdir() if path.is_dir()]
        raise ValueError(
            f"run {run.run_id} is of --env={run.env}, and there is no conf/{run.env} any more "
            f"({closest(run.env, known)}); put it back, or name another run"
        )
    # KEDRO_ENV would take the place of a recorded default environment.
    default = settings.CONFIG_LOADER_ARGS["default_run_env"] if os.getenv("KEDRO_ENV") else None
    return KedroServiceSession.create(project_path=project_path, env=run.env or default)


def changes_of_code(run: RecordedRun, project_path: Path) -> list[str]:
    """What differs between then and now in code, Python and packages."""
    now = {name.removeprefix("git."): text for name, text in provenance.describe_git(project_path).items()}
    described = provenance.describe_environment()
    lines = []
    if run.git["sha"] != now["sha"]:
        lines.append(f"code: commit {run.git['sha'][:12]} ({run.git['branch']}), now {now['sha'][:12]}")
    dirty = [text for text, is_dirty in (("then", run.git["dirty"]), ("now", now["dirty"])) if is_dirty == "true"]
    if dirty:
        lines.append(f"code: with changes that no commit holds, {' and '.join(dirty)}")
    if run.python != described["python.version"]:
        lines.append(f"python: {run.python}, now {described['python.version']}")
    packages = json.loads(described["python.packages"])
    return [*lines, *describe_changes("package", _differing(run.packages, packages))]


def describe_lock_of(run: RecordedRun, project_path: Path) -> str:
    """A line on the lock of the packages then and now, and on what is installed beside it."""
    then, now = run.tags.get(pins.SHA256), pins.describe_lock(project_path)
    here = now.get(pins.SHA256)
    if here is None:
        return f"lock of the packages: {then[:12]}, now none" if then else "lock of the packages: none"
    differs = "" if then == here else f"{then[:12] if then else 'none'}, now "
    beside = "" if now[pins.BESIDE] == "none" else f"; installed beside it: {now[pins.BESIDE]}"
    return f"lock of the packages: {differs}{here[:12]} (sha256 of {pins.LOCK}){beside}"


def changed_params(run: RecordedRun, plan: Plan) -> dict[str, tuple[str, str]]:
    """Value then and now of each parameter that the configuration sets otherwise today."""
    return _differing(run.params, plan.params)


def changes_of_machine(run: RecordedRun) -> list[str]:
    """What differs in hardware and threads."""
    import torch

    now = {**provenance.describe_environment(), **provenance.describe_torch()}
    lines = []
    if run.torch_threads not in (None, torch.get_num_threads()):
        lines.append(f"torch threads: {run.torch_threads}, now {torch.get_num_threads()}; set to {run.torch_threads}")
    for name in ("cpu", "device_name"):
        then, here = run.hardware.get(name), now.get(f"hardware.{name}")
        if then and then != here:
            lines.append(f"{name.replace('_', ' ')}: {then}, now {here}")
    return lines


def describe_changes(kind: str, changes: Mapping[str, tuple[str, str]]) -> list[str]:
    """One line for each change."""
    return [f"{kind} {name}: {then}, now {now}" for name, (then, now) in changes.items()]


def _differing(then: Mapping[str, str], now: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    pairs = {name: (then.get(name, MISSING), now.get(name, MISSING)) for name in sorted({*then, *now})}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

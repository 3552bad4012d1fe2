"""`kedro export-clusters`: the samples of a tracked run, sorted into a folder for each cluster."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from deep_clustering.data.places import at_home
from deep_clustering.options import closest
from deep_clustering.runs import cluster_folders, repeating
from deep_clustering.runs.reproduction import RESUMES
from deep_clustering.runs.tracking.reading import RecordedRun, find_run, list_runs
from deep_clustering.runs.tracking.store import PARENT

_TABLE = "_assignments_parquet"
LATEST = "latest"


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """What to export, and where to."""

    run: str | None
    """Id of a tracked run or its beginning; None or "latest" for the newest that has clusters."""
    to: Path
    """The folder, which must not exist or be empty."""
    method: str | None = None
    """Which method of the run; None for the only one, or the one that the run recommends."""
    env: str | None = None
    """Environment or data set that the newest run is looked for in."""
    copy: bool = False
    """Whether images are copied instead of linked."""


def export_clusters(project_path: Path, request: ExportRequest, say: Callable[[str], None]) -> None:
    """Write a folder for each cluster of a run.

    Args:
        project_path: Root of the project.
        request: What and where to.
        say: Shows a line to the user.

    Raises:
        FileExistsError: if the folder is not empty.
        FileNotFoundError: if data of the run, or images of its source, are gone.
        TrackingError: if there is no such run.
        ValueError: if it has no clusters, or several methods and none is named.
    """
    run = _find(project_path, request)
    plan = repeating.plan_run(project_path, run, repeating.own_params(run))
    method = _method_of(plan, run, request.method)
    table = _load(plan, run, f"{method}{_TABLE}")
    names = _load(plan, run, f"{method}_cluster_names")
    target = at_home(request.to)
    say(f"exporting {method} of run {run.run_id[:8]} ({run.name}): {len(names)} clusters")
    _write(project_path, plan, run, target, table, names, copy=request.copy)
    n_skipped = int((table["skipped"] != "").sum())
    say(f"{target}: {len(table) - n_skipped} rows in {len(names)} clusters" + _without(n_skipped))


def _without(n_skipped: int) -> str:
    return f"; {n_skipped} that were skipped are in assignments.csv only" if n_skipped else ""


def _find(project_path: Path, request: ExportRequest) -> RecordedRun:
    if request.run not in (None, LATEST):
        run = find_run(project_path, str(request.run))
        return find_run(project_path, run.tags[RESUMES]) if RESUMES in run.tags else run
    found = list_runs(
        project_path,
        # Cells of sweeps score partitions and write no tables.
        is_wanted=lambda run: (
            bool(run.scored) and PARENT not in run.tags and request.env in (None, run.env, run.data_set)
        ),
        last=1,
    )
    if not found:
        where = ""
        if request.env is not None:
            known = {name for run in list_runs(project_path) if run.scored for name in (run.env, run.data_set) if name}
            where = f" in environment '{request.env}'" + (f" ({closest(request.env, known)})" if known else "")
        raise ValueError(f"export-clusters: no tracked run{where} has clusters; `kedro runs` lists the runs")
    return find_run(project_path, found[0].tags.get(RESUMES, found[0].run_id))


def _method_of(plan: repeating.Plan, run: RecordedRun, asked: str | None) -> str:
    """The method to export, one that the run has a table of."""
    outputs = [name for name in sorted(plan.pipeline.all_outputs()) if name.endswith(_TABLE)]
    found = [
        name.removesuffix(_TABLE) for name in outputs if repeating.version_path(plan, name, run.save_version).exists()
    ]
    if not found and PARENT in run.tags:
        env = "" if run.env is None else f" --env={run.env}"
        raise ValueError(
            f"export-clusters: run {run.run_id} ({run.name}) is a cell of a sweep, and these write no tables of "
            f"clusters; run its options by themselves, as by `kedro run{env} --pipelines={','.join(run.pipelines)}`"
        )
    if not found:
        raise ValueError(
            f"export-clusters: run {run.run_id} ({run.name}) has left no table of clusters; if it is unfinished, "
            f"`kedro resume {run.run_id[:8]}` goes on with it"
        )
    recommended = _recommended(plan, run)
    if asked is None and recommended in found:
        return recommended
    if asked is None and len(found) > 1:
        raise ValueError(
            f"export-clusters: run {run.run_id[:8]} has several methods; choose by --method: {', '.join(found)}"
        )
    if asked is not None and asked not in found:
        raise ValueError(f"export-clusters: --method: run {run.run_id[:8]} has no '{asked}' ({closest(asked, found)})")
    return asked or found[0]


def _recommended(plan: repeating.Plan, run: RecordedRun) -> str:
    """The method that the run recommends; empty if it has compared none."""
    name = "recommendation"
    if name not in plan.pipeline.all_outputs() or not repeating.version_path(plan, name, run.save_version).exists():
        return ""
    return str(_load(plan, run, name)["method"])


def _load(plan: repeating.Plan, run: RecordedRun, name: str) -> Any:  # noqa: ANN401
    """A value of the run: of its own version, or of the one that it has read."""
    is_own = name in plan.pipeline.all_outputs()
    version = run.save_version if is_own else run.load_versions.get(name, "")
    path = repeating.version_path(plan, name, version)
    if not path.exists():
        raise FileNotFoundError(f"export-clusters: '{name}' of run {run.run_id[:8]} is gone: there is no {path}")
    return plan.catalog.load(name, version=version)


def _write(
    project_path: Path,
    plan: repeating.Plan,
    run: RecordedRun,
    target: Path,
    table: pd.DataFrame,
    names: list[str],
    *,
    copy: bool,
) -> None:
    source = plan.catalog.load("params:ingestion")["source"]
    if source["kind"] == "image_folder":
        files = _image_files(project_path, source, table)
        write = cluster_folders.linker(files, target, copy=copy)
        cluster_folders.write_files(target, table, names, write, lambda name: name.replace("/", "__"))
        return
    texts = _load(plan, run, "texts")
    if texts:
        cluster_folders.write_files(
            target,
            table,
            names,
            lambda row, path: path.write_text(texts[row], encoding="utf-8", newline=""),  # type: ignore[arg-type]
            lambda name: f"{_padded(name, table)}.txt",
        )
        return
    samples = _load(plan, run, "samples")
    if len(samples.shape) == 4:
        write = cluster_folders.picture_writer(samples, _load(plan, run, "data_card")["value_range"])
        cluster_folders.write_files(target, table, names, write, lambda name: f"{_padded(name, table)}.png")
        return
    columns = _load(plan, run, "data_card").get("reading", {}).get("columns", ())
    cluster_folders.write_tables(target, table, names, samples, _load(plan, run, "vocabulary")["terms"], columns)


def _padded(name: str, table: pd.DataFrame) -> str:
    """The number of a row with zeros in front, so that files are in the order of the rows; other ids as they are."""
    return name.zfill(len(str(len(table)))) if name.isdecimal() else name


def _image_files(project_path: Path, source: Mapping[str, Any], table: pd.DataFrame) -> dict[int, Path]:
    """The file of each sample of a folder of images."""
    from deep_clustering.data.sources.image_files import find_images, printable

    root = project_path / at_home(source["path"])
    # the table has names that can be printed, of files whose names perhaps cannot
    found = {printable(file): root / file for file in find_images(root, source["extensions"]).images}
    assigned = table[table["skipped"] == ""]
    gone = [name for name in assigned["id"] if name not in found]
    if gone:
        raise FileNotFoundError(
            f"export-clusters: {len(gone)} of {len(assigned)} images are no longer below {root}, the first is {gone[0]}"
        )
    return {int(row): found[name] for row, name in zip(assigned["row"], assigned["id"], strict=True)}

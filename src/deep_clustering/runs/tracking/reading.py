"""Tracked runs as they were recorded; nothing here starts, changes or migrates anything."""

import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deep_clustering.data.plain_json import parse_object
from deep_clustering.inference.mlflow_store import TrackingError, open_store
from deep_clustering.redaction import REDACTED
from deep_clustering.runs.tracking.process import state_of
from deep_clustering.runs.tracking.provenance import CIRCUMSTANCES, UNKNOWN, USED

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

MIN_PREFIX = 6

_PAGE = 500
_N_NAMED = 5
_LONG_VALUE = re.compile(r"\d+ characters, see artifact (long_values/\S+\.txt): ")


@dataclass(frozen=True, kw_only=True)
class RecordedRun:
    """A tracked run."""

    run_id: str
    name: str

    status: str
    """RUNNING, FINISHED, FAILED or KILLED; "died" for a run whose process is gone without a word."""

    started: datetime
    seconds: float | None
    """Duration; None while it runs, or if it died."""

    experiment: str
    pipelines: tuple[str, ...]

    env: str | None
    """Environment; None for the default one."""

    runtime_params: Mapping[str, Any]
    restriction: Mapping[str, list[str]]
    """What the run was restricted to, as arguments of Kedro's session; empty for whole pipelines."""

    load_versions: Mapping[str, str]
    save_version: str
    git: Mapping[str, str]
    """"sha", "branch" and "dirty"."""

    python: str
    packages: Mapping[str, str]
    hardware: Mapping[str, str]
    torch_threads: int | None
    data_sha256: Mapping[str, str]
    params: Mapping[str, str]
    used: Mapping[str, str]
    """What options came to that leave it open, such as `dcan.precision` and `dcan.device`; only what was noted."""
    metrics: Mapping[str, float]
    tags: Mapping[str, str]

    @property
    def data_set(self) -> str:
        """Name of the data set."""
        return self.params.get("data_set", UNKNOWN)

    @property
    def scored(self) -> tuple[str, ...]:
        """The methods that the run scored."""
        return tuple(sorted(name.removesuffix(".collapsed") for name in self.metrics if name.endswith(".collapsed")))

    @property
    def redacted(self) -> list[str]:
        """Runtime parameters whose value was hidden, by dotted name."""
        return sorted(_redacted("", self.runtime_params))


def find_run(project_path: Path, run_id: str) -> RecordedRun:
    """Read one run.

    Args:
        project_path: Root of the project.
        run_id: Id of the run, or the first characters of it, at least `MIN_PREFIX`.

    Returns:
        The run.

    Raises:
        TrackingError: if there is no such run, several, a deleted one, one of another project, or no usable store.
    """
    if not re.fullmatch(rf"[0-9a-f]{{{MIN_PREFIX},32}}", run_id):
        raise TrackingError(
            f"run '{run_id}': expected the id of a tracked run, or the first {MIN_PREFIX} or more of its 32 "
            "characters 0-9 and a-f; `kedro runs` lists them"
        )
    with open_store(project_path) as client:
        found = _runs(client, f"attributes.run_id LIKE '{run_id}%'")
        runs = list(islice(found, _N_NAMED))
        if len(runs) > 1:
            raise TrackingError(f"run '{run_id}': several runs begin so: {_listed(runs)}")
        if not runs:
            _refuse_unknown(client, run_id)
        if not _is_ours(runs[0]):
            raise TrackingError(f"run {runs[0].info.run_id} ({runs[0].info.run_name}) is not one of this project")
        return _recorded(client, runs[0], lambda text: _full_text(client, runs[0], text))


def list_runs(
    project_path: Path,
    *,
    tags: Mapping[str, str] | None = None,
    is_wanted: Callable[[RecordedRun], bool] = lambda run: True,
    last: int | None = None,
) -> list[RecordedRun]:
    """Read the project's runs, newest first.

    Args:
        project_path: Root of the project.
        tags: Tags that a run must have.
        is_wanted: Which of the rest count.
        last: How many at most; None for all.

    Returns:
        The runs. What is too long for the store and lies among a run's artifacts is left out: see `find_run`.

    Raises:
        TrackingError: if there is no usable store.
    """
    with open_store(project_path) as client:
        condition = " and ".join(f"tags.`{name}` = '{text}'" for name, text in (tags or {}).items())
        recorded = (_recorded(client, run) for run in _runs(client, condition) if _is_ours(run))
        return list(islice((run for run in recorded if is_wanted(run)), last))


def _runs(client: "MlflowClient", condition: str = "") -> Iterator["Run"]:
    """Runs of all experiments, newest first."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    token = None
    while experiments:
        page = client.search_runs(
            experiments,
            filter_string=condition,
            max_results=_PAGE,
            order_by=["attributes.start_time DESC"],
            page_token=token,
        )
        yield from page
        token = page.token
        if not token:
            return


def _is_ours(run: "Run") -> bool:
    return "kedro.pipeline" in run.data.tags


def _refuse_unknown(client: "MlflowClient", run_id: str) -> None:
    from mlflow.entities import ViewType

    experiments = [experiment.experiment_id for experiment in client.search_experiments(ViewType.ALL)]
    deleted = client.search_runs(experiments, f"attributes.run_id LIKE '{run_id}%'", ViewType.ALL, 1)
    if deleted:
        found = deleted[0].info
        raise TrackingError(
            f"run {found.run_id} ({found.run_name}) or its experiment is deleted; restore it by\n"
            f"    mlflow runs restore --run-id {found.run_id}"
        )
    newest = list(islice(filter(_is_ours, _runs(client)), _N_NAMED))
    rest = f"the newest runs: {_listed(newest)}" if newest else "no run is tracked yet"
    raise TrackingError(f"there is no run '{run_id}'; {rest}")


def _listed(runs: list["Run"]) -> str:
    return ", ".join(f"{run.info.run_id[:12]} ({run.info.run_name})" for run in runs)


def _recorded(client: "MlflowClient", run: "Run", complete: Callable[[str], str] = str) -> RecordedRun:
    tags = {name: complete(text) for name, text in run.data.tags.items()}
    params = {name: complete(text) for name, text in run.data.params.items()}
    used = {f"{name}{USED}" for name in CIRCUMSTANCES}
    noted = {name for name in params if name.rpartition(".")[2] in used}
    info, threads = run.info, tags.get("hardware.torch_threads")
    return RecordedRun(
        run_id=info.run_id,
        name=info.run_name or "",
        status=state_of(info.status, tags),
        started=datetime.fromtimestamp(info.start_time / 1000, UTC),
        # of a run during which the clock was set back, nobody knows
        seconds=(info.end_time - info.start_time) / 1000 if (info.end_time or 0) >= info.start_time else None,
        experiment=client.get_experiment(info.experiment_id).name,
        pipelines=tuple(tags.get("kedro.pipeline", "__default__").split("+")),
        env=None if tags.get("kedro.env", "default") == "default" else tags["kedro.env"],
        runtime_params=_parsed(tags, "kedro.runtime_params"),
        restriction=_parsed(tags, "kedro.selection"),
        load_versions=_parsed(tags, "kedro.load_versions"),
        save_version=tags.get("kedro.save_version", ""),
        git={name: tags.get(f"git.{name}", UNKNOWN) for name in ("sha", "branch", "dirty")},
        python=tags.get("python.version", UNKNOWN),
        packages=_parsed(tags, "python.packages"),
        hardware=_with_prefix(tags, "hardware."),
        torch_threads=int(threads) if threads else None,
        data_sha256=_with_prefix(tags, "data.sha256."),
        params={name: text for name, text in params.items() if name not in noted},
        used={name.removesuffix(USED): params[name] for name in noted},
        metrics=run.data.metrics,
        tags=tags,
    )


def _with_prefix(tags: Mapping[str, str], prefix: str) -> dict[str, str]:
    return {name.removeprefix(prefix): text for name, text in tags.items() if name.startswith(prefix)}


def _parsed(tags: Mapping[str, str], name: str) -> dict[str, Any]:
    text = tags.get(name, "{}")
    try:
        return {} if _LONG_VALUE.match(text) else parse_object(text)
    except ValueError as error:
        raise TrackingError(f"tag {name}: expected JSON, got {text[:80]!r} ({error})") from error


def _full_text(client: "MlflowClient", run: "Run", text: str) -> str:
    """The text of a tag or parameter; one too long for the store lies among the artifacts."""
    match = _LONG_VALUE.match(text)
    if match is None:
        return text
    with tempfile.TemporaryDirectory() as folder:
        return Path(client.download_artifacts(run.info.run_id, match[1], folder)).read_text(encoding="utf-8")


def _redacted(name: str, value: Any) -> Iterator[str]:  # noqa: ANN401
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _redacted(f"{name}.{key}" if name else str(key), item)
    elif isinstance(value, list):
        for item in value:
            yield from _redacted(name, item)
    elif isinstance(value, str) and REDACTED in value:
        yield name

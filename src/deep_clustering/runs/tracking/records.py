"""From Kedro's objects and this project's artefacts to what MLflow records: names, numbers, files."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kedro.io import AbstractVersionedDataset, CatalogProtocol
from kedro.io.core import VersionNotFoundError
from kedro.pipeline import Pipeline

from deep_clustering.methods import is_curve
from deep_clustering.redaction import flatten
from deep_clustering.runs.tracking.provenance import CIRCUMSTANCES, USED, pipeline_name, spoken_name

KINDS = ("scores", "history", "artifact", "data_card", "model")
KEPT_AS_FILES = ("scores", "artifact", "data_card")
ALWAYS_LOGGED = ("seed", "device", "n_clusters", "ingestion", "features")


def mlflow_kind(catalog: CatalogProtocol, name: str) -> str | None:
    """What a catalog entry is to MLflow; None for nothing."""
    return _metadata(catalog, name).get("mlflow")


def method_of(catalog: CatalogProtocol, name: str) -> str:
    """Name that a catalog entry's metrics and files go under; empty for none."""
    return str(_metadata(catalog, name).get("method", ""))


def _metadata(catalog: CatalogProtocol, name: str) -> Mapping[str, Any]:
    metadata = getattr(catalog.get(name), "metadata", None)
    return metadata if isinstance(metadata, Mapping) else {}


def check_kinds(pipeline: Pipeline, catalog: CatalogProtocol) -> None:
    """Refuse catalog entries that MLflow could not record.

    Args:
        pipeline: The pipeline that is about to run.
        catalog: Its catalog.

    Raises:
        ValueError: if a `metadata: {mlflow: ...}` is unknown, or not on a data set kept in a file.
    """
    for name in sorted(pipeline.datasets()):
        kind = mlflow_kind(catalog, name)
        if kind is None:
            continue
        if kind not in KINDS:
            raise ValueError(f"catalog: {name}: mlflow got '{kind}', expected one of {', '.join(KINDS)}")
        if not isinstance(catalog.get(name), AbstractVersionedDataset):
            raise ValueError(f"catalog: {name}: mlflow is '{kind}', which needs a data set kept in a file")


class ElsewhereError(OSError):
    """An entry lies in a store of its own, from which nothing is copied to MLflow; no failure of MLflow's."""


def file_path(catalog: CatalogProtocol, name: str, *, is_saved: bool = True) -> Path:
    """Local file of the version just saved, or else of the one in use.

    Raises:
        ElsewhereError: if the entry is kept on another file system.
        FileNotFoundError: if the file is not there.
    """
    dataset: Any = catalog.get(name)
    version = dataset.resolve_save_version() if is_saved else dataset.resolve_load_version()
    # Kedro offers no public way to a version's path; its own save path refuses one that exists.
    path = Path(dataset._filepath if version is None else dataset._get_versioned_path(version))
    if not path.exists():
        kind = FileNotFoundError if getattr(dataset, "_protocol", "file") == "file" else ElsewhereError
        raise kind(f"{path}: only local files are copied to MLflow")
    return path


def input_versions(pipeline: Pipeline, catalog: CatalogProtocol) -> dict[str, str]:
    """Version of each versioned free input; an input without any is left for Kedro to report."""
    versions = {}
    for name in sorted(pipeline.inputs()):
        dataset = catalog.get(name)
        if not isinstance(dataset, AbstractVersionedDataset):
            continue
        try:
            number = dataset.resolve_load_version()
        except VersionNotFoundError:
            continue
        if number is not None:
            versions[name] = number
    return versions


def used_parameters(pipeline: Pipeline, parameters: Mapping[str, Any]) -> dict[str, str]:
    """The parameters that the pipeline reads, and those that every run should show."""
    names = {name.removeprefix("params:") for name in pipeline.inputs() if name.startswith("params:")}
    if "parameters" in pipeline.inputs():
        names |= set(parameters["parameters"])
    names |= {name for name in ALWAYS_LOGGED if name in parameters["parameters"]}
    return flatten({name: parameters[f"params:{name}"] for name in sorted(names)})


def circumstances(method: str, history: Mapping[str, Any]) -> dict[str, str]:
    """What the options `precision` and `device` of a method came to: `<method>.precision_used` and so on, if noted."""
    noted = {name: history[f"under_{name}"] for name in CIRCUMSTANCES if f"under_{name}" in history}
    return {f"{method}.{name}{USED}": str(value) for name, value in noted.items()}


def backbone_precision(preparation: Any) -> dict[str, str]:  # noqa: ANN401 - a `Preparation`
    """What the option `precision` of a backbone came to, `features.precision_used`; nothing without a backbone."""
    if preparation.options.get("backbone") is None:
        return {}
    return {f"features.precision{USED}": preparation.options["precision"]}


def run_name(run_params: Mapping[str, Any], data_set: str, seed: int) -> str:
    """Pipeline, data set and seed, for instance "dcan digits seed 0"."""
    return f"{spoken_name(pipeline_name(run_params))} {data_set} seed {seed}"


def score_points(method: str, scores: Mapping[str, Any]) -> Iterator[tuple[str, float, int]]:
    """Name, value and step of each score, of each curve over the recorded epochs, and of a selection over K."""
    for name, value in scores["metrics"].items():
        yield f"{method}.{name}", value, 0
    yield f"{method}.collapsed", float(scores["collapsed"]), 0
    for name, value in (scores.get("cost") or {}).items():
        yield f"{method}.cost.{name}", value, 0
    selection = scores.get("selection") or {}
    for name in ("log_likelihood", "log_likelihood_deviation", "probability") if selection else ():
        for n_clusters, value in zip(selection["n_clusters"], selection[name], strict=True):
            yield f"{method}.selection.{name}", value, n_clusters
    snapshots = dict((scores.get("curves") or {}).get("snapshots") or {})
    epochs = snapshots.pop("epoch", [])
    for name, values in snapshots.items():
        for epoch, value in zip(epochs, values, strict=True):
            yield f"{method}.epoch.{name}", value, int(epoch)


def history_points(method: str, history: Mapping[str, Any]) -> Iterator[tuple[str, float, int]]:
    """Name, value and step of each training diagnostic; snapshots of assignments are no metrics, costs are scores."""
    for name, values in history.items():
        if name == "epoch" or not is_curve(name):
            continue
        for epoch, value in zip(history["epoch"], values, strict=True):
            yield f"{method}.train.{name}", float(value), int(epoch)

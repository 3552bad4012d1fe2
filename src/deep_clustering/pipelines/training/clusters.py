"""What a run keeps or changes of the clusters of a former model."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from deep_clustering.options import build, closest

if TYPE_CHECKING:
    from deep_clustering.methods import Clusterer, Model
    from deep_clustering.methods.corrections import Corrected

logger = logging.getLogger(__name__)

_LATEST, _BEFORE, _FILE = "latest", "before:", "model.safetensors"
# Options that say where and how, not what.
_FREE = ("device", "compile", "precision")


@dataclass(frozen=True, kw_only=True)
class ClusterOptions:
    """The parameter block `clusters`."""

    feedback: str | None
    """A CSV file about the clusters of a former model, which are changed without training; null: train."""
    model: str
    """The model that feedback is about: latest, the latest `before:<version>`, a version, or a file
    `model.safetensors`."""
    numbers_of: str | None
    """A former model whose clusters give a new fit their numbers and names where they are still there, named as
    `model`; null: the numbers are the fit's own."""
    folder: str
    """Where the versions of models are: one folder for each method."""

    def __post_init__(self) -> None:
        if self.feedback is None:
            return
        if self.numbers_of is not None:
            raise ValueError("feedback keeps the numbers of its model anyway; leave out numbers_of")
        from deep_clustering.methods.feedback import read_feedback

        read_feedback(Path(self.feedback))

    def read(self, which: str, method: str) -> "Model":
        """Read a former model.

        Args:
            which: latest, the latest before a version, a version, or a file.
            method: The method that it is of.

        Raises:
            ValueError: if there is none, or it is of another method.
        """
        from deep_clustering.data.datasets import ModelDataset

        file = self._file(which, method)
        if not file.is_file():
            raise ValueError(f"clusters: there is no model {file}; expected latest, a version, or a file {_FILE}")
        model = ModelDataset(filepath=str(file)).load()
        if model.method != method:
            raise ValueError(f"clusters: {file} is a model of {model.method}; expected one of {method}")
        logger.info("clusters: of %s", file)
        return model

    def describe_feedback(self, method: str) -> str:
        """Parameters that apply the same file to the same model again, when there are newer ones."""
        file = self._file(self.model, method)
        which = file.as_posix() if self.model.endswith(".safetensors") else file.parent.name
        return f"feedback={self.feedback},clusters.model={which}"

    def _file(self, which: str, method: str) -> Path:
        return Path(which) if which.endswith(".safetensors") else self._version(which, method)

    def _version(self, which: str, method: str) -> Path:
        folder = Path(self.folder) / method / _FILE
        versions = sorted(file.parent.name for file in folder.glob(f"*/{_FILE}"))
        if not versions:
            raise ValueError(f"clusters: there is no model in {folder} yet; run --pipelines={method} first")
        if which.startswith(_BEFORE):
            bound = which.removeprefix(_BEFORE)
            versions = [version for version in versions if version < bound]
            if not versions:
                raise ValueError(f"clusters: {folder} has no version before {bound}")
            which = _LATEST
        if which != _LATEST and which not in versions:
            raise ValueError(f"clusters: {folder} has no version {which} ({closest(which, versions)})")
        return folder / (versions[-1] if which == _LATEST else which) / _FILE


def check_feedback(options: Mapping[str, Any], methods: Sequence[str]) -> None:
    """Refuse a file of feedback that is about clusters which the former models do not have, before rows are made.

    Args:
        options: Fields of `ClusterOptions`.
        methods: Those whose clusters are to be changed.

    Raises:
        ValueError: if it fits none of the methods, with what is wrong for the first.
    """
    chosen = build(ClusterOptions, options, "clusters")
    if chosen.feedback is None:
        return
    from deep_clustering.methods import load_method
    from deep_clustering.methods.corrections import as_corrected
    from deep_clustering.methods.feedback import check_clusters, read_feedback

    feedback, errors = read_feedback(Path(chosen.feedback)), []
    for method in methods:
        try:
            model = chosen.read(chosen.model, method)
            if "n_numbers" in model.clusters:  # those of versions before 0.3.0 do not say
                check_clusters(feedback, as_corrected(load_method(model)).there(model.clusters["n_numbers"]))
        except ValueError as error:
            errors.append(error)
    if errors and len(errors) == len(methods):
        raise errors[0]


class Settled(NamedTuple):
    """A fitted method whose clusters have the numbers that they are to keep."""

    method: "Clusterer | Corrected"
    clusters: np.ndarray
    """Cluster of each fitted row, shape (n_fitted,), int64."""
    n_numbers: int
    """Numbers that clusters have had, from 0."""
    feedback: str = ""
    """What `--params` has to say to change the same clusters in the same way; empty without feedback."""


def correct_former(
    chosen: ClusterOptions,
    unfitted: "Clusterer",
    name: str,
    features: np.ndarray,
    split: np.ndarray,
    keys: np.ndarray,
) -> Settled:
    """Change the clusters of a former model as a file of feedback says.

    Args:
        chosen: Which file and which model.
        unfitted: The method with the options of this run.
        name: Its name.
        features: The rows, shape (n_samples, ...).
        split: What each row is for, shape (n_samples,).
        keys: Key of each row that is fitted, shape (n_fitted,).

    Returns:
        The former method with its changes.

    Raises:
        ValueError: if the model was fitted with other options or to other rows, or the file cannot be applied.
    """
    from deep_clustering.data.sources import select_fitted
    from deep_clustering.data.sources.samples import FITTED
    from deep_clustering.methods import load_method
    from deep_clustering.methods.corrections import as_corrected
    from deep_clustering.methods.feedback import apply_feedback, read_feedback

    model = chosen.read(chosen.model, name)
    former = as_corrected(load_method(model))
    rows = select_fitted(features, split)
    differences = [*_other_options(former.method, unfitted), *_other_rows(model, rows, keys)]
    if differences:
        raise ValueError(
            "clusters: feedback changes a model that was fitted to these rows with these options, but "
            + "; ".join(differences)
        )
    said, feedback = former.describe(features), read_feedback(Path(str(chosen.feedback)))
    corrected = apply_feedback(feedback, former, said, (split & FITTED) > 0, int(getattr(unfitted, "seed", 0)))
    clusters = corrected.steps[-1].apply(said).assignments
    described = chosen.describe_feedback(name)
    return Settled(corrected, select_fitted(clusters, split), corrected.steps[-1].n_numbers, described)


def settle_numbers(
    chosen: ClusterOptions, fitted: "Clusterer", name: str, rows: np.ndarray, keys: np.ndarray
) -> Settled:
    """Give the clusters of a new fit the numbers and names of a former model's that are still there, if one is named.

    Args:
        chosen: Which former model, if any.
        fitted: The new fit.
        name: Its method.
        rows: The rows that it was fitted to, shape (n_fitted, ...).
        keys: Key of each of them, shape (n_fitted,).

    Returns:
        The new fit, with other numbers perhaps.

    Raises:
        ValueError: if the former model has no row in common with the fit, or its rows are not known.
    """
    from deep_clustering.methods import cluster_names
    from deep_clustering.methods.corrections import Step, as_corrected
    from deep_clustering.methods.numbering import match_numbers, rows_in_common

    clusters, n_clusters = _clusters_of(fitted, rows)
    if chosen.numbers_of is None:
        return Settled(fitted, clusters, n_clusters)
    model = chosen.read(chosen.numbers_of, name)
    if "rows/keys" not in model.arrays:
        raise ValueError("clusters: numbers_of names a model that does not know its rows, as those before 0.3.0")
    theirs, mine = rows_in_common(model.arrays["rows/keys"], keys)
    if not len(theirs):
        raise ValueError("clusters: numbers_of names a model that has no row in common with this data")
    former, n_former = model.arrays["rows/clusters"].astype(np.int64)[theirs], model.clusters["n_numbers"]
    numbers, kept = match_numbers(former, clusters[mine], n_former=n_former, n_clusters=n_clusters)
    new = ", ".join(str(number) for number in numbers if number >= n_former) or "none"
    logger.info(
        "clusters: %d rows in common; %d of %d clusters keep a former number, new numbers: %s",
        *(len(theirs), len(kept), n_clusters, new),
    )
    names = {number: called for number, called in cluster_names(model).items() if number in kept}
    step = Step(numbers, {}, {}, max(n_former, 1 + max(numbers)))
    return Settled(as_corrected(fitted).then(step, names), np.asarray(numbers)[clusters], step.n_numbers)


def _clusters_of(fitted: "Clusterer", rows: np.ndarray) -> tuple[np.ndarray, int]:
    """Cluster of each row of a fit, and their number; what training has noted is not computed again."""
    snapshots = fitted.history_["snapshot_assignments"]
    clusters = snapshots[-1].astype(np.int64) if len(snapshots) else fitted.predict(rows)
    return clusters, fitted.describe(rows[:1]).responsibilities.shape[1]


def _other_options(former: Any, unfitted: Any) -> list[str]:  # noqa: ANN401 - dataclasses of options
    """Options that differ, each with both values."""
    found = []
    for name in unfitted.__dataclass_fields__:
        theirs, mine = getattr(former, name), getattr(unfitted, name)
        if unfitted.__dataclass_fields__[name].init and name not in _FREE and _plain(theirs) != _plain(mine):
            found.append(f"{name} was {theirs!r:.80} and is {mine!r:.80}")
    return found


def _plain(value: Any) -> str:  # noqa: ANN401
    return json.dumps(value, sort_keys=True, default=dict)


def _other_rows(model: "Model", rows: np.ndarray, keys: np.ndarray) -> list[str]:
    """What is different about the rows that are fitted, if anything is."""
    from deep_clustering.training.checkpoints import fingerprint

    if "rows/keys" not in model.arrays:
        logger.warning("clusters: the model does not know its rows; make sure that they are these")
        return []
    theirs = model.arrays["rows/keys"]
    if not np.array_equal(theirs, keys):
        n_common = len(np.intersect1d(theirs, keys))
        what = f"it was fitted to {len(theirs)} rows and these are {len(keys)}, {n_common} of them in both"
        return [f"{what} (to fit to other rows and keep the numbers, use numbers_of)"]
    if model.clusters["rows_sha256"] != fingerprint(rows):
        return ["the samples became other rows: the options of features differ"]
    return []

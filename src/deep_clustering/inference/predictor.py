"""A fitted method with everything between raw rows and their clusters, in one file without pickle."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np
from annotated_types import Ge, Le

from deep_clustering.data import tensor_files
from deep_clustering.data.plain_json import parse_object
from deep_clustering.data.preparation import Preparation, finish_rows, has_no_terms, open_eyes
from deep_clustering.data.sources.samples import select_fitted
from deep_clustering.inference.raw_rows import as_samples
from deep_clustering.methods import Model, cluster_names, label_free_score, load_method
from deep_clustering.options import build

if TYPE_CHECKING:
    import pandas as pd

# What reading arrays and options raises that do not fit together, in a file that anybody may have written.
_UNFIT = (KeyError, IndexError, TypeError, AttributeError, RuntimeError)


@dataclass(frozen=True, kw_only=True)
class PredictorOptions:
    """The parameter block `predictor`."""

    outlier_quantile: Annotated[float, Ge(0), Le(1)]
    """Share of the training rows, those of least density, below which a row is an outlier."""

    max_rows: Annotated[int, Ge(0)]
    """Most rows that a served model takes at once; 0 takes any number."""

    data_set: str
    """Folder of the data set's outputs, where predictions go too."""


class Score(NamedTuple):
    """How good a training is without labels."""

    name: str
    direction: str
    """max or min: what is better."""
    value: float


@dataclass(frozen=True, kw_only=True)
class _Header:
    """What a predictor says besides its arrays; what has a default is not in files of versions before 0.3.0."""

    method: str
    options: dict[str, Any]
    preparation: dict[str, Any]
    threshold: float | None
    max_rows: Annotated[int, Ge(0)]
    score: tuple[str, Literal["max", "min"], float] | None
    clusters: dict[str, Any] = field(default_factory=dict)
    data_set: str | None = None


class Predictor(NamedTuple):
    """What turns raw rows into clusters, as plain data."""

    model: Model
    preparation: Preparation
    threshold: float | None
    """Log density below which a row is an outlier, in nats; None for a method without densities."""
    max_rows: int
    """Most rows that are taken at once where it is served; 0: any number."""
    score: Score | None
    data_set: str | None = None
    """Folder of the data set's outputs; None in files of versions before 0.3.0, which do not say."""


def make_predictor(
    model: Model,
    preparation: Preparation,
    history: Mapping[str, np.ndarray],
    log_density: np.ndarray | None,
    split: np.ndarray,
    options: PredictorOptions,
) -> Predictor:
    """Join a fitted method and the preparation of its rows.

    Args:
        model: The fitted method.
        preparation: How raw samples became its rows.
        history: What the training noted, with its label-free score.
        log_density: Of each row, in nats, shape (n_samples,); None for a method without densities.
        split: What each row is for, shape (n_samples,).
        options: What counts as an outlier, and how many rows are taken.

    Returns:
        The predictor.
    """
    rule = label_free_score(model.method)
    # Clusters that were changed since are of no training, and have no score of one.
    is_scored = rule is not None and f"final_{rule[0]}" in history
    score = Score(*rule, float(history[f"final_{rule[0]}"])) if rule is not None and is_scored else None
    threshold = None
    if log_density is not None:
        threshold = float(np.quantile(select_fitted(log_density, split), options.outlier_quantile))
    return Predictor(model.without_rows(), preparation, threshold, options.max_rows, score, options.data_set)


class Assigner:
    """A predictor ready to work: the method rebuilt, a backbone loaded."""

    def __init__(self, predictor: Predictor, weights: str | None = None) -> None:
        """Rebuild the method on the device that this machine has.

        Args:
            predictor: The plain data.
            weights: Where the backbone's weights are now, if not where they were.

        Raises:
            ConnectionError: if weights cannot be downloaded.
            ValueError: if weights are missing or others, the method is unknown to this version, or its arrays are not
                those of its options.
        """
        model = predictor.model
        here = {"device": "auto"} if "device" in model.options else {}
        self._predictor = predictor
        with _fitting_together():
            self._method = load_method(model._replace(options={**model.options, **here}))
            self._names = cluster_names(model)
        self._see = open_eyes(predictor.preparation, weights)
        self.n_without_terms = 0

    def assign(self, rows: Any) -> "pd.DataFrame":  # noqa: ANN401
        """Assign raw rows to clusters, one alone as in any batch.

        Nothing is known of a text without a known term: it is an outlier, as likely of any cluster, and
        `n_without_terms` counts it.

        Args:
            rows: In any form that `as_samples` takes.

        Returns:
            A row for each: `cluster`, int64; `probability`, its responsibility; `log_density`, in nats, NaN for a
            method without densities; `is_outlier`, whether that lies below the predictor's threshold, or nothing is
            known of the row; `name` of the cluster, empty where it has none, if a person named any.

        Raises:
            ValueError: if the rows are not what the method was fitted to, or it gives no probabilities for them.
        """
        import pandas as pd

        return pd.DataFrame(self.assign_columns(rows))

    def assign_columns(self, rows: Any) -> dict[str, np.ndarray]:  # noqa: ANN401
        """The columns of `assign`, of which many pieces become one table: a table of each would cost more than they."""
        preparation = self._predictor.preparation
        seen = self._see(as_samples(preparation, rows))
        is_blank = has_no_terms(preparation, seen)
        self.n_without_terms += int(np.count_nonzero(is_blank))
        features = finish_rows(preparation, seen)
        with _fitting_together():
            said = self._method.describe(features)
        clusters, responsibilities, found = said.assignments, said.responsibilities, said.log_density
        _check_result(responsibilities, found, is_blank)
        densities = np.full(len(clusters), np.nan) if found is None else found.astype(np.float64)
        threshold = -np.inf if self._predictor.threshold is None else self._predictor.threshold
        probability = np.where(is_blank, 1 / responsibilities.shape[1], responsibilities.max(axis=1))
        columns = {
            "cluster": clusters,
            "probability": probability.astype(np.float64),
            "log_density": densities,
            "is_outlier": (densities < threshold) | is_blank,
        }
        if self._names:
            columns["name"] = np.array([self._names.get(cluster, "") for cluster in clusters.tolist()], dtype=object)
        return columns


def to_bytes(predictor: Predictor) -> bytes:
    """A predictor as a safetensors file, with everything but its arrays as JSON in the header."""
    return tensor_files.to_bytes(_arrays_of(predictor), {"predictor": json.dumps(_plain_of(predictor))})


def sha256_of(predictor: Predictor) -> str:
    """sha256 of all that a predictor is, in hexadecimal; the order of names in its file says nothing."""
    digest = hashlib.sha256(json.dumps(_plain_of(predictor), sort_keys=True).encode())
    for name, array in sorted(_arrays_of(predictor).items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _arrays_of(predictor: Predictor) -> dict[str, np.ndarray]:
    arrays = {f"model/{name}": array for name, array in predictor.model.arrays.items()}
    return arrays | {f"preparation/{name}": array for name, array in predictor.preparation.arrays.items()}


def _plain_of(predictor: Predictor) -> dict[str, Any]:
    return {
        "method": predictor.model.method,
        "options": predictor.model.options,
        "clusters": dict(predictor.model.clusters),
        "preparation": predictor.preparation.to_plain(),
        "threshold": predictor.threshold,
        "max_rows": predictor.max_rows,
        "score": predictor.score,
        "data_set": predictor.data_set,
    }


def from_bytes(content: bytes) -> Predictor:
    """What `to_bytes` wrote.

    Args:
        content: All of a file.

    Returns:
        The predictor.

    Raises:
        SafetensorError: if the file is damaged.
        ValueError: if it is of another kind, has changed since it was written, or its numbers are not finite.
    """
    arrays, header = tensor_files.from_bytes(content)
    wrong = next((name for name, array in arrays.items() if _is_not_finite(array)), None)
    if wrong is not None:
        raise ValueError(f"expected finite numbers, got NaN or infinity in its array '{wrong}'")
    if "predictor" not in header:
        raise ValueError("expected a predictor, got a safetensors file of something else")
    plain = build(_Header, parse_object(header["predictor"]), "its header, of another version or damaged")
    parts: dict[str, dict[str, np.ndarray]] = {"model": {}, "preparation": {}}
    for name, array in arrays.items():
        part, _, rest = name.partition("/")
        if part not in parts:
            raise ValueError(f"expected arrays of {' and '.join(parts)}, got '{name}'")
        parts[part][rest] = array
    return Predictor(
        Model(plain.method, plain.options, parts["model"], plain.clusters),
        Preparation.from_plain(plain.preparation, parts["preparation"]),
        plain.threshold,
        plain.max_rows,
        None if plain.score is None else Score(*plain.score),
        plain.data_set,
    )


@contextmanager
def _fitting_together() -> Iterator[None]:
    """Say of options and arrays that do not fit together that they do not."""
    try:
        yield
    except _UNFIT as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"the model cannot be computed ({reason}): its file is damaged, or memory is short") from error


def _is_not_finite(array: np.ndarray) -> bool:
    """Whether there is NaN or infinity; minus infinity is the logarithm of the weight of an empty cluster."""
    return array.dtype.kind == "f" and bool((np.isnan(array) | np.isposinf(array)).any())


def _check_result(responsibilities: np.ndarray, log_density: np.ndarray | None, is_blank: np.ndarray) -> None:
    """Refuse what is no probability: the predictor is damaged, or the rows lie outside of all that it can compute."""
    is_wrong = ~np.isfinite(responsibilities).all(axis=1)
    if log_density is not None:
        is_wrong |= np.isnan(log_density)
    is_wrong &= ~is_blank  # nothing is asked of those
    if is_wrong.any():
        raise ValueError(f"the model gives NaN or infinity, first for row {int(np.flatnonzero(is_wrong)[0])}")

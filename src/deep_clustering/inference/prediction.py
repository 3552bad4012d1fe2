"""New rows to clusters: `kedro run --pipelines=predict`."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from annotated_types import Ge

from deep_clustering.data.places import at_home
from deep_clustering.data.sources.array_files import Layout
from deep_clustering.data.sources.dialects import check_marks
from deep_clustering.data.sources.text import check_encoding
from deep_clustering.inference.predictor import Assigner, Predictor
from deep_clustering.inference.raw_rows import as_samples
from deep_clustering.inference.row_files import Piece, check_input, open_rows
from deep_clustering.inference.stored import read_predictor
from deep_clustering.options import build
from deep_clustering.redaction import redact_text
from deep_clustering.training.progress import meter

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

NO_CLUSTER = -1
"""In the place of a cluster, of a row that could not be read."""


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """The parameter block `predict`."""

    model: str | None
    """Which model: `models:/<data set>-<method>@champion`, `runs:/<run id>/<method>_model`, the folder of an MLflow
    model, or a file `predictor.safetensors`."""
    input: str | None
    """The new rows, see `open_rows`."""
    chunk_rows: Annotated[int, Ge(1)]
    """Rows at a time."""
    weights: str | None
    """Where the weights of a backbone are now; null: where they were."""
    column: str | int | None
    """Column of the texts. This and all that follows says how the rows are read; null: as those of the training."""
    encoding: str | None
    """Of the characters of a table."""
    separator: str | None
    """Between the cells of a CSV or TSV: one character, or auto, which finds it."""
    quote: str | None
    """Around cells that hold the separator: one character, or auto."""
    header: bool | None
    """Whether the first line of a CSV or TSV names the columns."""
    key: str | None
    """Name of the array of rows in a `.npz` of several."""
    layout: Layout | None
    """Axes of images: nhwc where a shape such as (n, 3, 3, 3) leaves it open."""
    on_empty: Literal["skip", "error"] | None
    """skip: rows without text get no cluster; error: they are refused."""
    on_error: Literal["skip", "refuse"] | None
    """What to do about images that cannot be read."""

    def __post_init__(self) -> None:
        missing = [name for name in ("model", "input") if getattr(self, name) is None]
        if missing:
            raise ValueError(
                f"no {' and no '.join(missing)}; expected "
                "--params=model=models:/<data set>-<method>@champion,input=<file or folder>"
            )
        check_input(self.path)
        check_marks(self.separator or "auto", self.quote or "auto")
        if self.encoding is not None:
            check_encoding(self.encoding)

    @property
    def path(self) -> Path:
        """Where the new rows are."""
        return at_home(str(self.input))

    @property
    def reading(self) -> dict[str, Any]:
        """What is said of how they are read."""
        names = [item.name for item in fields(self)]
        stated = {name: getattr(self, name) for name in names[names.index("column") :]}
        return {name: value for name, value in stated.items() if value is not None}


def open_model(options: Mapping[str, Any]) -> tuple[PredictOptions, Predictor, str]:
    """Read the model that is to assign rows.

    Args:
        options: Fields of `PredictOptions`.

    Returns:
        chosen: the options.
        predictor: the model, which reads rows as the options say.
        name: what was read: an alias is replaced by its version.

    Raises:
        FileNotFoundError: if there is no input.
        TrackingError: if there is no such model.
        ValueError: if an option is wrong, or the model is none.
    """
    chosen = build(PredictOptions, options, "predict")
    predictor, name = read_predictor(Path.cwd(), str(chosen.model))
    preparation = predictor.preparation
    reading = {**preparation.reading, **chosen.reading}
    return chosen, predictor._replace(preparation=replace(preparation, reading=reading)), name


def check_first_row(options: Mapping[str, Any]) -> None:
    """Refuse a model that is not there and rows that are not for it, by the first of them and before anything runs.

    Args:
        options: Fields of `PredictOptions`.

    Raises:
        FileNotFoundError: if there is no input.
        TrackingError: if there is no such model.
        ValueError: if the rows are not what the model was fitted to.
    """
    chosen, predictor, _ = open_model(options)
    pieces = open_rows(chosen.path, predictor.preparation, 1)
    for piece in islice(pieces, 1):
        if not piece.skipped:
            try:
                as_samples(predictor.preparation, piece.rows)
            except ValueError as error:
                raise ValueError(f"predict: {chosen.input}, from row 0 on: {error}") from error


def data_set_of(options: Mapping[str, Any]) -> str:
    """Name of the data set that the model of `PredictOptions` belongs to, as its outputs do."""
    _, predictor, _ = open_model(options)
    return predictor.data_set or predictor.preparation.data_set


def predict_rows(options: Mapping[str, Any]) -> "pd.DataFrame":
    """Assign new rows to the clusters of a fitted method.

    Args:
        options: Fields of `PredictOptions`.

    Returns:
        A row for each new one: `id`, the file's name or the number of the row, `cluster`, `probability`,
        `log_density`, `is_outlier` and `skipped`, why a row has no cluster (then it is -1), else missing; what the
        table was made of is in `attrs`.

    Raises:
        FileNotFoundError: if there is no input.
        TrackingError: if there is no such model.
        ValueError: if rows are not what the model was fitted to.
    """
    chosen, predictor, name = open_model(options)
    preparation = predictor.preparation
    pieces = open_rows(chosen.path, preparation, chosen.chunk_rows)
    assigner = Assigner(predictor, chosen.weights)
    logger.info("predict: %s, a %s of %s", name, predictor.model.method, preparation.data_set)
    joined = table_of(list(_assigned(pieces, assigner, str(chosen.input))))
    joined.attrs = {
        "model": name,
        "input": redact_text(str(chosen.input)),
        "data_sha256": preparation.data_sha256,
        "data_set": predictor.data_set or preparation.data_set,
    }
    if assigner.n_without_terms:
        logger.warning("predict: %d texts have no known word; they are marked as outliers", assigner.n_without_terms)
    logger.info(
        "predict: %d rows, %d outliers, %d skipped",
        len(joined),
        int(joined["is_outlier"].sum()),
        int(joined["skipped"].notna().sum()),
    )
    return joined


def _assigned(pieces: Iterable[Piece], assigner: Assigner, where: str) -> Iterator[dict[str, np.ndarray]]:
    n_rows = 0
    with meter("predict", "row", 0, lambda reading: f"{reading.done} rows, {reading.speed:.0f} rows/s") as count:
        for piece in pieces:
            try:
                columns = assign_piece(piece, assigner)
            except ValueError as error:
                raise ValueError(f"predict: {where}, from row {n_rows} on: {error}") from error
            yield columns
            n_rows += len(piece.ids)
            count(len(piece.ids))


def assign_piece(piece: Piece, assigner: Assigner) -> dict[str, np.ndarray]:
    """Assign a piece.

    Args:
        piece: Some rows.
        assigner: The model.

    Returns:
        Columns of all rows in order, see `predict_rows`: those that could be read with their clusters, the others with
        the reason.

    Raises:
        ValueError: if the rows are not what the model was fitted to.
    """
    ids, n_rows = piece.ids, len(piece.ids)
    columns = {
        "id": np.arange(ids.start, ids.stop) if isinstance(ids, range) else np.array(ids, dtype=object),
        "cluster": np.full(n_rows, NO_CLUSTER, dtype=np.int64),
        "probability": np.full(n_rows, np.nan),
        "log_density": np.full(n_rows, np.nan),
        "is_outlier": np.zeros(n_rows, dtype=bool),
        "skipped": np.full(n_rows, None, dtype=object),
    }
    for place, reason in piece.skipped.items():
        columns["skipped"][place] = reason
    if len(piece.skipped) == n_rows:
        return columns
    found = assigner.assign_columns(piece.rows)
    if not piece.skipped:
        return columns | found
    is_read = np.array([place not in piece.skipped for place in range(n_rows)])
    for name, values in found.items():  # that of the names is there only if somebody gave some
        columns.setdefault(name, np.full(n_rows, None, dtype=object))[is_read] = values
    return columns


def table_of(pieces: Sequence[Mapping[str, np.ndarray]]) -> "pd.DataFrame":
    """One table of the columns of several pieces, of which some may lack the names: nothing of them could be read."""
    import pandas as pd

    names = max(pieces, key=len)
    joined = {
        name: np.concatenate([piece.get(name, np.full(len(piece["id"]), None, dtype=object)) for piece in pieces])
        for name in names
    }
    skipped = pd.array(joined["skipped"], dtype="string")
    # Of a list pandas finds out that it holds texts.
    return pd.DataFrame(
        {
            name: skipped if name == "skipped" else values.tolist() if values.dtype == object else values
            for name, values in joined.items()
        }
    )

"""New rows to clusters: `kedro run --pipelines=predict`."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from annotated_types import Ge

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
        return Path(str(self.input)).expanduser()

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
    import pandas as pd

    chosen, predictor, name = open_model(options)
    preparation = predictor.preparation
    pieces = open_rows(chosen.path, preparation, chosen.chunk_rows)
    assigner = Assigner(predictor, chosen.weights)
    logger.info("predict: %s, a %s of %s", name, predictor.model.method, preparation.data_set)
    joined = pd.concat(_assigned(pieces, assigner, str(chosen.input)), ignore_index=True)
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


def _assigned(pieces: Iterable[Piece], assigner: Assigner, where: str) -> "Iterator[pd.DataFrame]":
    n_rows = 0
    with meter("predict", "row", 0, lambda reading: f"{reading.done} rows, {reading.speed:.0f} rows/s") as count:
        for piece in pieces:
            try:
                table = assign_piece(piece, assigner)
            except ValueError as error:
                raise ValueError(f"predict: {where}, from row {n_rows} on: {error}") from error
            yield table
            n_rows += len(table)
            count(len(table))


def assign_piece(piece: Piece, assigner: Assigner) -> "pd.DataFrame":
    """Assign a piece.

    Args:
        piece: Some rows.
        assigner: The model.

    Returns:
        All rows in order, as `predict_rows` has them: those that could be read with their clusters, the others with the
        reason.

    Raises:
        ValueError: if the rows are not what the model was fitted to.
    """
    import pandas as pd

    n_rows = len(piece.ids)
    table = pd.DataFrame(
        {
            "id": np.asarray(piece.ids) if isinstance(piece.ids, range) else list(piece.ids),
            "cluster": np.full(n_rows, NO_CLUSTER, dtype=np.int64),
            "probability": np.nan,
            "log_density": np.nan,
            "is_outlier": False,
            "skipped": pd.Series(dict(piece.skipped), dtype="string").reindex(range(n_rows)).array,
        }
    )
    if len(piece.skipped) == n_rows:
        return table
    found = assigner.assign(piece.rows)
    places = [place for place in range(n_rows) if place not in piece.skipped] if piece.skipped else []
    for column in found.columns:  # that of the names is there only if somebody gave some
        if not piece.skipped:
            table[column] = found[column]
            continue
        values = table[column].to_numpy(copy=True) if column in table else np.full(n_rows, None, dtype=object)
        values[places] = found[column]
        table[column] = values
    return table

"""New rows to clusters: `kedro run --pipelines=predict`."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge

from deep_clustering.inference.predictor import Assigner
from deep_clustering.inference.row_files import check_input, open_rows
from deep_clustering.inference.stored import read_predictor
from deep_clustering.options import build
from deep_clustering.training.progress import meter

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)


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

    def __post_init__(self) -> None:
        missing = [name for name in ("model", "input") if getattr(self, name) is None]
        if missing:
            raise ValueError(
                f"no {' and no '.join(missing)}; expected "
                "--params=model=models:/<data set>-<method>@champion,input=<file or folder>"
            )
        check_input(Path(str(self.input)))


def predict_rows(options: Mapping[str, Any]) -> "pd.DataFrame":
    """Assign new rows to the clusters of a fitted method.

    Args:
        options: Fields of `PredictOptions`.

    Returns:
        A row for each new one: `id`, the file's name or the number of the row, `cluster`, `probability`,
        `log_density` and `is_outlier`; what it was made of is in `attrs`.

    Raises:
        FileNotFoundError: if there is no input.
        TrackingError: if there is no such model.
        ValueError: if rows are not what the model was fitted to.
    """
    import pandas as pd

    chosen = build(PredictOptions, options, "predict")
    predictor, name = read_predictor(Path.cwd(), str(chosen.model))
    pieces = open_rows(Path(str(chosen.input)), predictor.preparation, chosen.chunk_rows)
    assigner = Assigner(predictor, chosen.weights)
    logger.info("predict: %s, a %s of %s", name, predictor.model.method, predictor.preparation.data_set)
    tables: list[pd.DataFrame] = []
    n_rows = 0
    with meter("predict", "row", 0, lambda reading: f"{reading.done} rows, {reading.speed:.0f} rows/s") as count:
        for piece in pieces:
            try:
                table = assigner.assign(piece.rows)
            except ValueError as error:
                raise ValueError(f"predict: {chosen.input}, from row {n_rows} on: {error}") from error
            table.insert(0, "id", list(piece.ids))
            tables.append(table)
            n_rows += len(table)
            count(len(table))
    joined = pd.concat(tables, ignore_index=True)
    joined.attrs = {"model": name, "input": str(chosen.input), "data_sha256": predictor.preparation.data_sha256}
    logger.info("predict: %d rows, %d outliers", n_rows, int(joined["is_outlier"].sum()))
    return joined

"""The catalog entries of predictors and predictions."""

import re
from typing import IO, TYPE_CHECKING

from safetensors import SafetensorError

from deep_clustering.data.datasets.base import DAMAGED, FileDataset
from deep_clustering.data.datasets.tables import LibraryDataset, ParquetDataset, TableDataset
from deep_clustering.inference import predictor
from deep_clustering.inference.predictor import Predictor

if TYPE_CHECKING:
    import pandas as pd


class PredictorDataset(FileDataset):
    """A fitted method with the preparation of its rows, as one `.safetensors` file."""

    kind = "a predictor (.safetensors)"
    reader_errors = (*DAMAGED, SafetensorError)

    def _encode(self, data: Predictor, file: IO[bytes]) -> None:
        file.write(predictor.to_bytes(data))

    def _decode(self, file: IO[bytes]) -> Predictor:
        return predictor.from_bytes(file.read())


class _BesideTheModel(LibraryDataset):
    """A table of new rows' clusters, which lies with the outputs of the model that made it.

    Of the path `.../<data set>/<folder>/<file>`, `<data set>` is the model's own when a table is saved that names it in
    `attrs["data_set"]`: which model it is, is not known before it runs.
    """

    def save(self, data: "pd.DataFrame") -> None:
        """See the base class."""
        data_set = data.attrs.get("data_set")
        if data_set is not None:
            self.move_to(str(data_set))
        super().save(data)

    def move_to(self, data_set: str) -> None:
        """Save to, and load from, the folder of a data set."""
        here = self._filepath.parents[1]
        self._filepath = here.parent / _folder_name(data_set) / self._filepath.relative_to(here)


class PredictionsDataset(_BesideTheModel, ParquetDataset):
    """New rows' clusters as `.parquet`, with the outputs of the model that made them."""


class PredictionsTableDataset(_BesideTheModel, TableDataset):
    """New rows' clusters as `.csv`, with the outputs of the model that made them."""


def _folder_name(data_set: str) -> str:
    """A name of one folder, whatever somebody called a data set."""
    return re.sub(r"[/\\:]|^\.+$", "_", data_set)

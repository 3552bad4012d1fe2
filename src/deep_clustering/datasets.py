"""The classes that a catalog names: `type: deep_clustering.datasets.<class>`, wherever their code lies."""

from deep_clustering.data.datasets import (
    FigureDataset,
    JSONDataset,
    ModelDataset,
    NpzDataset,
    NumpyDataset,
    ParquetDataset,
    PreparationDataset,
    ScoresDataset,
    SparseDataset,
    TableDataset,
    TextDataset,
)
from deep_clustering.inference.datasets import PredictionsDataset, PredictionsTableDataset, PredictorDataset

__all__ = [
    "FigureDataset",
    "JSONDataset",
    "ModelDataset",
    "NpzDataset",
    "NumpyDataset",
    "ParquetDataset",
    "PredictionsDataset",
    "PredictionsTableDataset",
    "PredictorDataset",
    "PreparationDataset",
    "ScoresDataset",
    "SparseDataset",
    "TableDataset",
    "TextDataset",
]

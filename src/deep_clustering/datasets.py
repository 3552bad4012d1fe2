"""The classes that a catalog names: `type: deep_clustering.datasets.<class>`, wherever their code lies."""

from deep_clustering.data.datasets import (
    JSONDataset,
    ModelDataset,
    NpzDataset,
    NumpyDataset,
    PageDataset,
    ParquetDataset,
    PreparationDataset,
    SparseDataset,
    TableDataset,
    TextDataset,
)
from deep_clustering.inference.datasets import PredictionsDataset, PredictorDataset

__all__ = [
    "JSONDataset",
    "ModelDataset",
    "NpzDataset",
    "NumpyDataset",
    "PageDataset",
    "ParquetDataset",
    "PredictionsDataset",
    "PredictorDataset",
    "PreparationDataset",
    "SparseDataset",
    "TableDataset",
    "TextDataset",
]

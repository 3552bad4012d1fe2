"""Kedro datasets of this project: versioned, written atomically, read without pickle."""

from deep_clustering.data.datasets.files import (
    JSONDataset,
    ModelDataset,
    NpzDataset,
    NumpyDataset,
    ParquetDataset,
    PreparationDataset,
    SparseDataset,
    TableDataset,
    TextDataset,
)

__all__ = [
    "JSONDataset",
    "ModelDataset",
    "NpzDataset",
    "NumpyDataset",
    "ParquetDataset",
    "PreparationDataset",
    "SparseDataset",
    "TableDataset",
    "TextDataset",
]

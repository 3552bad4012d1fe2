"""Kedro datasets of this project: versioned, written atomically, read without pickle."""

from deep_clustering.data.datasets.arrays import NpzDataset, NumpyDataset, SparseDataset
from deep_clustering.data.datasets.figures import FigureDataset
from deep_clustering.data.datasets.models import ModelDataset, PreparationDataset
from deep_clustering.data.datasets.tables import JSONDataset, ParquetDataset, ScoresDataset, TableDataset, TextDataset

__all__ = [
    "FigureDataset",
    "JSONDataset",
    "ModelDataset",
    "NpzDataset",
    "NumpyDataset",
    "ParquetDataset",
    "PreparationDataset",
    "ScoresDataset",
    "SparseDataset",
    "TableDataset",
    "TextDataset",
]

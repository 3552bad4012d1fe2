"""What a consensus reads of a sweep's folder: the posteriors of its runs and, to score it, the labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from deep_clustering.data.datasets import JSONDataset, NpzDataset, NumpyDataset, SparseDataset
from deep_clustering.data.sources.samples import ASSIGNED
from deep_clustering.scores import metrics
from deep_clustering.sweep.folder import cell_folder, data_folder, read_json
from deep_clustering.sweep.grid import Cell

_OF_ROWS = ("labels.npy", "split.npy", "data_card.json")


class Truth(NamedTuple):
    """The classes of the rows, for scores and nothing else."""

    labels: np.ndarray
    """Class of each row, -1 where unknown, shape (n_samples,)."""
    is_assigned: np.ndarray
    """Whether a row counts in final scores, shape (n_samples,), bool."""
    n_classes: int
    """Number of classes, 0 without labels."""

    @property
    def is_known(self) -> np.ndarray:
        """Rows that scores against the classes are of, shape (n_samples,), bool."""
        return self.is_assigned & (self.labels >= 0)

    @property
    def is_labelled(self) -> bool:
        """Whether the class of any row is known."""
        return bool(self.is_known.any())

    def scores(self, assignments: np.ndarray, n_clusters: int) -> dict[str, float]:
        """ACC, NMI, ARI and purity of assignments (n_samples,); empty without labels."""
        if not self.is_labelled:
            return {}
        known = self.is_known
        return metrics.labelled_scores(assignments[known], self.labels[known], n_clusters, self.n_classes)

    def accuracy(self, assignments: np.ndarray, n_clusters: int) -> float | None:
        """ACC alone, which is all that a resampling needs; None without labels."""
        if not self.is_labelled:
            return None
        known = self.is_known
        counts = metrics.contingency(assignments[known], self.labels[known], n_clusters, self.n_classes)
        return metrics.accuracy(counts)


def cell_of(record: Mapping[str, Any]) -> Cell:
    """The cell that a record is of."""
    names = ("env", "pipeline", "seed", "point")
    return Cell(**{name: record[name] for name in names}, params={})


def read_responsibilities(folder: Path, records: Sequence[Mapping[str, Any]]) -> list[np.ndarray]:
    """Posteriors of runs.

    Args:
        folder: The sweep's folder.
        records: Of the runs.

    Returns:
        For each run shape (n_samples, n_clusters).

    Raises:
        ValueError: if a run's outputs are gone.
        DatasetError: if a file is damaged.
    """
    return [_read_representation(folder, record) for record in records]


def _read_representation(folder: Path, record: Mapping[str, Any]) -> np.ndarray:
    place = cell_folder(folder, cell_of(record))
    pattern = f"07_model_output/*/{record['pipeline']}/representation.npz/*/representation.npz"
    files = sorted(place.glob(pattern))
    if not files:
        raise ValueError(
            f"{place}: no representation.npz below it, so the run's posteriors are gone; delete the cell's folder and "
            "repeat the sweep"
        )
    return NpzDataset(filepath=str(files[-1])).load()["responsibilities"]


def read_features(folder: Path, record: Mapping[str, Any]) -> np.ndarray | sparse.csr_matrix:
    """Rows that a run was on, as methods read them.

    Args:
        folder: The sweep's folder.
        record: Of the run.

    Returns:
        Shape (n_samples, ...), dense or CSR; a large dense array stays on the disk.

    Raises:
        ValueError: if they are gone.
        DatasetError: if the file is damaged.
    """
    place = data_folder(folder, cell_of(record))
    version = (read_json(place / "prepared.json") or {}).get("version", "")
    file = next(iter(sorted(place.glob(f"04_feature/*/features.np[yz]/{version}/features.np[yz]"))), None)
    if not version or file is None:
        raise ValueError(f"{place}: expected the rows of the sweep, but features.npy or features.npz is gone")
    if file.suffix == ".npz":
        return SparseDataset(filepath=str(file)).load()
    return NumpyDataset(filepath=str(file), mmap=True).load()


def read_truth(folder: Path, record: Mapping[str, Any], n_samples: int) -> Truth:
    """Labels of the rows that a run was on.

    Args:
        folder: The sweep's folder.
        record: Of the run.
        n_samples: How many rows it had.

    Returns:
        The labels.

    Raises:
        ValueError: if the prepared rows are gone, or not those of the run.
        DatasetError: if a file is damaged.
    """
    place = data_folder(folder, cell_of(record))
    version = (read_json(place / "prepared.json") or {}).get("version", "")
    found = {name: place.glob(f"03_primary/*/{name}/{version}/{name}") for name in _OF_ROWS}
    files = {name: next(paths, None) for name, paths in found.items()}
    missing = [name for name, file in files.items() if file is None]
    if not version or missing:
        raise ValueError(
            f"{place}: expected the rows of the sweep, but {', '.join(missing) or 'prepared.json'} is gone"
        )
    card = JSONDataset(filepath=str(files["data_card.json"])).load()
    labels, split = (NumpyDataset(filepath=str(files[name])).load() for name in ("labels.npy", "split.npy"))
    if card["sha256"]["samples"] != record["data_sha256"] or len(labels) != n_samples:
        raise ValueError(
            f"{place}: the {len(labels)} rows (sha256 {card['sha256']['samples'][:12]}) are not those of the run "
            f"{record['id']}, {n_samples} rows (sha256 {record['data_sha256'][:12]})"
        )
    return Truth(labels, (split & ASSIGNED) > 0, int(card["n_classes"] or 0))

"""The user's own data: arrays in files, and folders of images."""

import logging
from bisect import bisect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from deep_clustering.data.places import absolute, check_folder
from deep_clustering.data.sources import image_files, image_shards
from deep_clustering.data.sources.array_files import (
    Layout,
    arrange,
    check_finite,
    check_layout,
    class_labels,
    read_array,
    read_labels,
    to_float32,
)
from deep_clustering.data.sources.compression import plain_suffix
from deep_clustering.data.sources.greys import find_ranges
from deep_clustering.data.sources.number_tables import NumberTable, besides_of, read_number_table
from deep_clustering.data.sources.row_weights import as_weights
from deep_clustering.data.sources.samples import Samples, Skipped, both
from deep_clustering.data.sources.table_columns import AUTO
from deep_clustering.data.sources.tables import SUFFIXES as TABLES
from deep_clustering.options import check_range

logger = logging.getLogger(__name__)

# A card is read by people: it names this many of many files, and of the columns that are left out.
_NAMED_FILES, _NAMED_COLUMNS = 20, 20
_LISTED_FILES = 1000


@dataclass(frozen=True, kw_only=True)
class Arrays:
    """Images or vectors of the user in a `.npy` file, an archive `.npz`, or a table."""

    name: str
    """Name of the data set."""
    samples: str
    """File of the samples: `.npy`, `.npz`, or a table `.csv`, `.tsv`, `.parquet` or `.jsonl`."""
    labels: str | int | None
    """Classes, only for scores: a `.npy` file, the name of an array in the same `.npz` or of a column, or null."""
    key: str | None
    """Name of the array of samples in a `.npz`, or of a column of lists; null takes the only one that is not `labels`,
    or all columns of numbers."""
    layout: Layout
    """Axes of the samples: nchw, nhwc, nhw (images), vectors, or auto: found from the shape."""
    value_range: tuple[float, float] | None
    """Lowest and highest possible value; null: 0 to 255 for uint8, else what occurs."""
    weights: str | None = None
    """How much each row counts in training: a `.npy` file, the name of an array in the same `.npz` or of a column, or
    null."""
    id_column: str | None = None
    """Column of a table that names the rows in tables of results; auto: found, if one plainly does; null: they have
    their numbers in the file."""

    def __post_init__(self) -> None:
        if self.value_range is not None and not self.value_range[1] > self.value_range[0]:
            raise ValueError(f"value_range must be [lowest, highest], got {list(self.value_range)}")

    def load(self) -> Samples:
        """Read the files; an object array is refused, since it would need pickle."""
        file = absolute(self.samples)
        raw, table = self._read(file)
        arranged, layout = arrange(raw, self.layout)
        samples = _as_samples(arranged)
        labels, class_names = np.full(len(samples), -1, dtype=np.int64), None
        if self.labels is not None:
            labels, class_names = class_labels(read_labels(file, str(self.labels)), len(samples))
        about = {
            "name": self.name,
            "source": file.name,
            "licence": "the user's own data",
            "class_names": class_names,
            "value_range": self._range_of(samples),
            "protocol": "all rows",
            "layout": layout,
            "reading": {"layout": layout, **({} if table is None else _reading(table))},
            **({} if table is None else _left_out(table)),
        }
        weights = None
        if self.weights is not None:
            weights = as_weights(read_labels(file, self.weights, "weights"), self.weights)
        return Samples(samples, labels, both(len(samples)), [], about, ids=table.ids if table else (), weights=weights)

    def _read(self, file: Path) -> tuple[np.ndarray, NumberTable | None]:
        """The numbers as they are stored, and the table that they are of, if they are of one."""
        labels = None if self.labels is None else str(self.labels)
        if plain_suffix(file) in TABLES and file.is_file():
            table = read_number_table(file, self.key, besides_of(labels, self.weights), self.id_column)
            return table.rows, table
        if self.id_column not in (None, AUTO):
            raise ValueError(f"ingestion: id_column: expected a column of a table, got '{self.id_column}' of {file}")
        return read_array(file, "samples", self.key, labels, lambda header: check_layout(header, self.layout)), None

    def _range_of(self, samples: np.ndarray) -> list[float]:
        if self.value_range is not None:
            return list(self.value_range)
        if samples.dtype == np.uint8:
            return [0.0, 255.0]
        return [float(samples.min()), float(samples.max())] if samples.size else [0.0, 0.0]


@dataclass(frozen=True, kw_only=True)
class ImageFolder:
    """All images below a folder, brought to one size."""

    name: str
    """Name of the data set."""
    path: str
    """The folder; its sub-folders are searched too."""
    size: int | tuple[int, int]
    """Height and width of every image in pixels, or one side for both."""
    channels: int
    """1 (grey) or 3 (colour)."""
    fit: image_files.Fit
    """What makes other proportions fit: crop (the centre), pad (with black) or stretch."""
    labels: Literal["none", "folders"]
    """Classes, only for scores: folders (the first sub-folder of each file's path) or none."""
    on_error: Literal["skip", "refuse"]
    """What to do about files that cannot be read: skip or refuse."""
    extensions: list[str]
    """Endings of the names of images, in small letters without the dot."""
    cache: str | None = None
    """Folder where what was decoded of 10,000 images or more is kept, so that a killed run goes on; null keeps none."""

    def __post_init__(self) -> None:
        for side in self.shape:
            check_range("size", side, 1, 4096)
        if self.channels not in (1, 3):
            raise ValueError(f"channels must be 1 or 3, got {self.channels}")
        if not self.extensions:
            raise ValueError("extensions must name at least one ending, got []")

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    def load(self) -> Samples:
        """Read every image, sorted by path; the card names the files that could not be read."""
        root = absolute(self.path)
        found = image_files.find_images(root, self.extensions)
        if not found.images and not found.unreadable:
            raise ValueError(
                f"ingestion: no images below {root}; expected names that end in {', '.join(self.extensions)}"
                + (f", got {len(found.others)} other files ({_some(found.others)})" if found.others else "")
            )
        if found.outside:
            n_outside, first = len(found.outside), image_files.printable(found.outside[0])
            logger.info("%d images are links to what lies outside of %s, the first is %s", n_outside, root, first)
        ranges = find_ranges(root, found.images)
        samples, files, unreadable = self._read(root, found.images, ranges)
        unreadable = found.unreadable | unreadable
        self._report(root, len(files), unreadable)
        labels, class_names = self._classes(root, files)
        about: dict[str, Any] = {
            "name": self.name,
            "source": f"folder {image_files.printable(root.name)}",
            "licence": "the user's own data",
            "class_names": class_names,
            "value_range": [0.0, 255.0],
            "protocol": "all rows",
            "fit": self.fit,
            "reading": {"grey_ranges": ranges},
            "n_files": len(files),
            "n_unreadable": len(unreadable),
            "unreadable": [f"{file}: {reason}" for file, reason in sorted(unreadable.items())[:_NAMED_FILES]],
            "n_other_files": len(found.others),
            "other_files": found.others[:_NAMED_FILES],
        }
        names = [image_files.printable(file) for file in files]
        if len(files) < _LISTED_FILES:
            about["files"] = names
        skipped = [
            Skipped(index + bisect(names, file), file, reason)
            for index, (file, reason) in enumerate(sorted(unreadable.items()))
        ]
        return Samples(samples, labels, both(len(samples)), [], about, ids=names, skipped=skipped)

    def _read(
        self, root: Path, files: list[str], ranges: Mapping[str, list[float]]
    ) -> tuple[np.ndarray, list[str], dict[str, str]]:
        how: dict[str, Any] = {"shape": self.shape, "channels": self.channels, "fit": self.fit, "ranges": ranges}
        if self.cache is None or len(files) < image_shards.LEAST_FILES:
            return image_files.read_images(root, files, **how)
        check_folder(self.cache, "ingestion.source.cache")
        return image_shards.read_in_shards(image_shards.Folder(root, files, **how), Path(self.cache))

    def _report(self, root: Path, n_read: int, unreadable: dict[str, str]) -> None:
        if not unreadable:
            return
        named = "; ".join(f"{file}: {reason}" for file, reason in sorted(unreadable.items())[:_NAMED_FILES])
        more = f"; and {len(unreadable) - _NAMED_FILES} more" if len(unreadable) > _NAMED_FILES else ""
        message = f"{len(unreadable)} of {len(unreadable) + n_read} images below {root} cannot be read ({named}{more})"
        if self.on_error == "refuse":
            raise ValueError(f"ingestion: {message}; repair or remove them, or set on_error: skip")
        if not n_read:
            raise ValueError(f"ingestion: {message}; nothing is left to cluster")
        logger.warning("%s; they are skipped", message)

    def _classes(self, root: Path, files: list[str]) -> tuple[np.ndarray, list[str] | None]:
        if self.labels == "none":
            return np.full(len(files), -1, dtype=np.int64), None
        folders = [file.partition("/")[0] if "/" in file else "" for file in files]
        if not any(folders):
            raise ValueError(f"ingestion: labels: folders expects a sub-folder for each class, got none below {root}")
        return class_labels(np.array([image_files.printable(folder) for folder in folders]), len(files))


def _as_samples(array: np.ndarray) -> np.ndarray:
    """Numbers of any type as samples have them; what is mapped and of their type stays mapped."""
    if array.dtype not in (np.uint8, np.float32):
        return to_float32(array)
    if array.dtype == np.float32:
        check_finite(array)
    return array if isinstance(array, np.memmap) else np.ascontiguousarray(array)


def _reading(table: NumberTable) -> dict[str, Any]:
    """How new tables of the kind are to be read."""
    return {"columns": table.columns.taken, "id_column": table.id_column}


def _left_out(table: NumberTable) -> dict[str, Any]:
    """Columns that hold no numbers of the rows, and why; of many the first."""
    left_out = table.columns.left_out
    return {
        "n_left_out_columns": len(left_out),
        "left_out_columns": dict(list(left_out.items())[:_NAMED_COLUMNS]),
    }


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")

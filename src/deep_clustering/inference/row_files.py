"""New rows in files and folders, in pieces: what is wrong with them as a whole is said before the first piece."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from deep_clustering.data.preparation import Preparation
from deep_clustering.data.sources.array_files import SUFFIXES as ARRAYS
from deep_clustering.data.sources.array_files import is_sparse_file, read_array
from deep_clustering.data.sources.image_files import EXTENSIONS, find_images, printable, read_images
from deep_clustering.data.sources.prepared import read_sparse
from deep_clustering.data.sources.tables import SUFFIXES as TABLES
from deep_clustering.data.sources.tables import open_table
from deep_clustering.inference.raw_rows import TEXT_COLUMN, check_shape, expected_rows
from deep_clustering.options import closest

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

_NAMED_FILES = 5
_KNOWN = (*ARRAYS, *TABLES)


class Piece(NamedTuple):
    """Some of the rows."""

    ids: Sequence[Any]
    """Row numbers from 0, or paths of files relative to their folder."""
    rows: Any
    """In a form that `as_samples` takes."""


def open_rows(path: Path, preparation: Preparation, n_rows: int) -> Iterator[Piece]:
    """Look at new rows, and give them piece by piece.

    Args:
        path: A `.npy` or `.npz` array, a sparse `.npz` of scipy, a table `.csv`, `.tsv`, `.parquet` or `.jsonl`, or a
            folder of images.
        preparation: What rows the model takes.
        n_rows: Most rows in a piece.

    Returns:
        The pieces in order. Images are decoded when their piece is asked for.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is of another kind or damaged, empty, or of rows of another shape.
    """
    if path.is_dir():
        return _folder_pieces(path, preparation, n_rows)
    check_input(path)
    if path.suffix.lower() in ARRAYS:
        rows = read_sparse(path)[0] if is_sparse_file(path) else read_array(path, "rows")
        check_shape(preparation, rows.shape)
        return (_array_piece(rows, start, n_rows) for start in range(0, rows.shape[0], n_rows))
    return _table_pieces(path, preparation, n_rows)


def check_input(path: Path) -> None:
    """Refuse what is neither a folder nor a file of a known kind.

    Args:
        path: What was named.

    Raises:
        FileNotFoundError: if there is nothing.
        ValueError: if its ending is not known.
    """
    if not path.exists():
        raise FileNotFoundError(f"predict: no file or folder at {path}")
    if path.is_file() and path.suffix.lower() not in _KNOWN:
        raise ValueError(f"predict: {path}: expected a folder of images or a file that ends in {', '.join(_KNOWN)}")


def _array_piece(rows: Any, start: int, n_rows: int) -> Piece:  # noqa: ANN401
    piece = rows[start : start + n_rows]
    return Piece(range(start, start + piece.shape[0]), piece)


def _folder_pieces(root: Path, preparation: Preparation, n_rows: int) -> Iterator[Piece]:
    if preparation.dtype != "uint8":
        raise ValueError(f"predict: {root} is a folder of images; expected {expected_rows(preparation)}")
    found = find_images(root, EXTENSIONS)
    if not found.images:
        raise ValueError(f"predict: no images below {root}; expected names that end in {', '.join(EXTENSIONS)}")
    return _decoded(root, found.images, preparation, n_rows)


def _decoded(root: Path, files: Sequence[str], preparation: Preparation, n_rows: int) -> Iterator[Piece]:
    channels, height, width = preparation.row_shape
    unreadable: dict[str, str] = {}
    ranges = preparation.reading.get("grey_ranges")
    for start in range(0, len(files), n_rows):
        images, read, damaged = read_images(
            root,
            files[start : start + n_rows],
            shape=(height, width),
            channels=channels,
            fit=preparation.fit,
            ranges=ranges,
        )
        unreadable |= damaged
        if len(images):
            yield Piece([printable(file) for file in read], images)
    if unreadable:
        named = "; ".join(f"{file}: {reason}" for file, reason in list(unreadable.items())[:_NAMED_FILES])
        message = f"{len(unreadable)} of {len(files)} images below {root} cannot be read ({named})"
        if len(unreadable) == len(files):
            raise ValueError(f"predict: {message}; nothing is left")
        logger.warning("%s; they have no row in the result", message)


def _table_pieces(path: Path, preparation: Preparation, n_rows: int) -> Iterator[Piece]:
    tables = open_table(path, "predict", text_column=TEXT_COLUMN, n_rows=n_rows, hint="save it as UTF-8")
    first = next(tables, None)
    if first is None or not len(first):
        raise ValueError(f"predict: {path}: no rows; expected at least one, {expected_rows(preparation)}")
    if not _has_texts(first, preparation, path):
        _refuse_missing_header(first, path)
        check_shape(preparation, (1, len(first.columns)))
    return _from_tables(chain([first], tables))


def _has_texts(table: "pd.DataFrame", preparation: Preparation, path: Path) -> bool:
    if TEXT_COLUMN in table.columns:
        return True
    is_wide = len(table.columns) == preparation.row_shape[0]
    if preparation.reads_texts or (preparation.takes_texts and not is_wide):
        names = [str(name) for name in table.columns]
        raise ValueError(
            f"predict: {path}: no column '{TEXT_COLUMN}' ({closest(TEXT_COLUMN, names[:_NAMED_FILES])}); expected "
            f"{expected_rows(preparation)}"
        )
    return False


def _refuse_missing_header(table: "pd.DataFrame", path: Path) -> None:
    """Refuse a first line of numbers, which would be lost; columns numbered in order are a header."""
    names = [str(name) for name in table.columns]
    if path.suffix.lower() in (".csv", ".tsv") and names not in (
        [str(i + first) for i in range(len(names))] for first in (0, 1)
    ):
        try:
            np.array(names, dtype=np.float64)
        except ValueError:
            return
        raise ValueError(f"predict: {path}: the first line holds numbers; expected the names of the columns")


def _from_tables(tables: "Iterable[pd.DataFrame]") -> Iterator[Piece]:
    start = 0
    for table in tables:
        yield Piece(range(start, start + len(table)), table)
        start += len(table)

"""Cells that are empty or no finite numbers, counted in one pass and told so that they can be mended."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np

from deep_clustering.data.sources.compression import plain_suffix
from deep_clustering.data.sources.dialects import find_dialect

NOT_FINITE = "be finite, got NaN or infinity"
# Columns that a message names.
_NAMED = 5
# Rows are looked at in pieces, so that a memory map is never read whole into memory.
_CHUNK = 4096
# What is True of the cells that are right, in the user's own words.
_IS_FINITE, _FITS = "np.isfinite(array)", "(np.abs(array) < 3.4e38)"


class WrongCells:
    """Which cells of rows are wrong, as far as the rows have been seen."""

    def __init__(self, n_columns: int) -> None:
        self.n_rows, self.n_wrong_rows = 0, 0
        self.first: tuple[int, int] | None = None
        """Row and column of the first, from 0."""
        self._counts = np.zeros(n_columns, dtype=np.int64)

    def add(self, wrong: np.ndarray) -> None:
        """See some more rows.

        Args:
            wrong: Which of their cells are wrong, shape (n, n_columns), bool.
        """
        rows = np.flatnonzero(wrong.any(axis=1))
        if self.first is None and len(rows):
            self.first = self.n_rows + int(rows[0]), int(np.flatnonzero(wrong[rows[0]])[0])
        self.n_rows, self.n_wrong_rows = self.n_rows + len(wrong), self.n_wrong_rows + len(rows)
        self._counts += wrong.sum(axis=0)

    @property
    def columns(self) -> list[int]:
        """Columns that have such cells."""
        return np.flatnonzero(self._counts).tolist()

    def spread(self, names: Sequence[str] = ()) -> str:
        """Which columns have how many of them, in words.

        Args:
            names: Of the columns; without, they are numbers from 0.
        """
        named = [f"'{names[place]}'" if len(names) else str(place) for place in self.columns[:_NAMED]]
        told = ", ".join(f"{name} ({self._counts[place]})" for name, place in zip(named, self.columns, strict=False))
        more = ", ..." if len(self.columns) > _NAMED else ""
        return f"in {len(self.columns)} of {len(self._counts)} columns: {told}{more}"

    def in_array(self, *, is_table: bool, are_right: str = _IS_FINITE) -> str:
        """Where in an array they are, and how its rows are left out.

        Args:
            is_table: Whether the array has rows and columns; else its other axes are one behind the other.
            are_right: What tells the other cells, in numpy.
        """
        assert self.first is not None
        where = f"first in row {self.first[0]}, column {self.first[1]} (from 0)"
        spread = f", {self.spread()}" if is_table else ""
        flat = "" if is_table else ".reshape(len(array), -1)"
        advice = f"fill such cells or drop these rows: array[{are_right}{flat}.all(axis=1)]"
        return f"{where}; {self.n_wrong_rows} of {self.n_rows} rows have such cells{spread}; {advice}"


def fits_float32(values: np.ndarray) -> np.ndarray:
    """Which values are finite in single precision, shape of `values`, bool."""
    with np.errstate(over="ignore"):
        return np.isfinite(values.astype(np.float32, copy=False))


def refuse_cells(array: np.ndarray, where: str) -> NoReturn:
    """Refuse an array that has values which are not finite, or else that float32 cannot hold.

    Args:
        array: Numbers, shape (n, ...), at least one such value among them; a memory map is read in pieces.
        where: Who asks, for the message.

    Raises:
        ValueError: saying how many rows are so, in which columns, where the first is, and what to do.
    """
    width = array.size // len(array)
    infinite, large = WrongCells(width), WrongCells(width)
    for start in range(0, len(array), _CHUNK):
        piece = array[start : start + _CHUNK]
        values = piece.reshape(len(piece), width).astype(np.float64)
        infinite.add(~np.isfinite(values))
        large.add(~fits_float32(values))
    is_table = array.ndim == 2
    if infinite.first is not None:
        raise ValueError(f"{where}: samples must {NOT_FINITE} {infinite.in_array(is_table=is_table)}")
    assert large.first is not None
    row, column = large.first
    value = float(array[row].reshape(width)[column])
    places = large.in_array(is_table=is_table, are_right=_FITS)
    raise ValueError(f"{where}: samples must fit float32 (3.4e38), got {value:g} {places}")


def without_empty(names: Sequence[str]) -> str:
    """How pandas leaves out the rows with empty cells in some columns, but for those that are empty elsewhere."""
    named = ", ".join(map(repr, names[:_NAMED])) + (", ..." if len(names) > _NAMED else "")
    return f"df.dropna(subset=[{named}])"


def row_in_words(row: int) -> str:
    """A row of a table, of which no line is known.

    Args:
        row: Its number, from 0.
    """
    return f"row {row + 1} (from 1, without a header)"


def row_in_file(
    file: Path, row: int, *, encoding: str = "utf-8", separator: str = "auto", quote: str = "auto", header: bool = True
) -> str:
    """A row of a table by the line that an editor shows it in.

    Args:
        file: The table.
        row: Number of the row, from 0.
        encoding: Of the characters.
        separator: Between the cells of CSV and TSV, or auto.
        quote: Around cells of CSV and TSV, or auto.
        header: Whether the first line of CSV and TSV names the columns.

    Returns:
        For instance "row 4 (line 5 of a.csv)"; without the line in a file that is compressed or has no lines.
    """
    try:
        if file.suffix.lower() != plain_suffix(file) or file.suffix.lower() == ".parquet":
            return row_in_words(row)
        if "auto" in (separator, quote):
            separator, quote, _ = find_dialect(file, encoding, separator, quote)
        with file.open(encoding=encoding, newline="") as stream:
            is_json = plain_suffix(file) == ".jsonl"
            line = _line_of(stream, row) if is_json else _line_of_record(stream, row + header, separator, quote)
    except (OSError, ValueError, csv.Error):
        return row_in_words(row)
    return row_in_words(row) if line is None else f"row {row + 1} (line {line} of {file.name})"


def _line_of(stream: io.TextIOBase, row: int) -> int | None:
    """The line of a row of JSON Lines, whose blank lines are none."""
    for line, text in enumerate(stream, 1):
        row -= bool(text.strip())
        if row < 0:
            return line
    return None


def _line_of_record(stream: io.TextIOBase, record: int, separator: str, quote: str) -> int | None:
    """The line in which a record begins: cells may hold the ends of lines, and pandas passes over blank lines."""
    before, reader = 0, csv.reader(stream, delimiter=separator, quotechar=quote)
    for cells in reader:
        record -= len(cells) > 1 or bool("".join(cells).strip())
        if record < 0:
            return before + 1
        before = reader.line_num
    return None

"""New rows in tables: in which column the texts stand, or else numbers, and how the file is written."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from deep_clustering.data.preparation import Preparation
from deep_clustering.data.sources.compression import plain_suffix
from deep_clustering.data.sources.dialects import are_numbered, is_numbers
from deep_clustering.data.sources.number_tables import form_of, numbers_of, read_whole
from deep_clustering.data.sources.row_ids import ids_of
from deep_clustering.data.sources.table_columns import some
from deep_clustering.data.sources.tables import open_table
from deep_clustering.data.sources.text import texts_of
from deep_clustering.data.sources.wrong_cells import row_in_file
from deep_clustering.inference.raw_rows import (
    are_taken_in_order,
    check_shape,
    expected_rows,
    number_columns,
    text_columns,
)
from deep_clustering.options import closest

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

_NAMED_COLUMNS = 5
_NO_TEXT = "no text"
_FORM = ("encoding", "separator", "quote", "header")
_HINT = "save it as UTF-8, or set predict.encoding"


class TablePiece(NamedTuple):
    """Some rows of a table."""

    n_rows: int
    rows: Any
    """Texts, or a table of numbers; without the rows that are skipped."""
    skipped: Mapping[int, str]
    """Places of those, with the reason."""
    ids: Sequence[str] = ()
    """What the column of ids says of each row, empty where it says nothing; nothing without such a column."""


def open_row_table(path: Path, preparation: Preparation, n_rows: int) -> Iterator[TablePiece]:
    """The rows of a table, piece by piece.

    A table is read as the training's was; where the column of its texts is not found so, its separator and quote are
    found out anew, and the column may also be called `text`. Of numbers the training's columns are taken, whatever
    stands beside them. The training's column of ids names the rows, if the table has it.

    Args:
        path: The table.
        preparation: What rows the model takes, and how they were read.
        n_rows: Most rows in a piece.

    Returns:
        The pieces in order; the first has been read.

    Raises:
        ValueError: if the file is damaged, empty, or lacks the column, or its rows have another number of cells.
    """
    whole = _find_numbers(path, preparation)
    if whole is not None:
        check_shape(preparation, whole.rows.shape)
        return _in_pieces(whole, n_rows)
    tables, column = _find_texts(path, preparation, n_rows)
    first = next(tables, None)
    if first is None or not len(first):
        raise ValueError(f"predict: {path}: no rows; expected at least one, {expected_rows(preparation)}")
    if column is not None:
        return _texts(chain([first], tables), column, path, preparation)
    if preparation.reading.get("header", True):
        _refuse_missing_header(first, path)
    check_shape(preparation, (1, len(first.columns)))
    return (TablePiece(len(table), table, {}) for table in chain([first], tables))


def _find_numbers(path: Path, preparation: Preparation) -> TablePiece | None:
    """The columns of numbers that the training took, or the one of lists that is asked for; None if they are missing.

    A table none of whose columns has such a name is read whole, as one with a column for each value in their order.
    """
    reading, columns = preparation.reading, number_columns(preparation)
    if not columns:
        return None
    stated, as_text = {name: reading[name] for name in _FORM if name in reading}, reading.get("id_column")
    if stated:
        (table,) = open_table(path, "predict", text_column=None, as_text=as_text, hint=_HINT, **stated)
        table.columns = [str(name) for name in table.columns]
    else:
        table = read_whole(path, columns[:1], as_text=as_text)
    if are_taken_in_order(preparation, list(table.columns)):
        logger.warning("predict: %s: no column is called %s: they are taken in their order", path, some(columns))
        return None
    form = stated or form_of(path, columns[:1])
    numbers = numbers_of(table, columns, f"predict: {path}", lambda row: row_in_file(path, row, **form))
    return TablePiece(len(table), numbers, {}, _ids(table, preparation))


def _ids(table: "pd.DataFrame", preparation: Preparation) -> list[str]:
    """What the rows are called in the column that named those of the training; nothing without it."""
    column = preparation.reading.get("id_column")
    return ids_of(table[column]) if column is not None and column in table.columns else []


def _in_pieces(whole: TablePiece, n_rows: int) -> Iterator[TablePiece]:
    for start in range(0, whole.n_rows, n_rows):
        rows = whole.rows[start : start + n_rows]
        yield TablePiece(len(rows), rows, {}, whole.ids[start : start + n_rows])


def _find_texts(path: Path, preparation: Preparation, n_rows: int) -> "tuple[Iterator[pd.DataFrame], str | None]":
    """A table with the column of its texts, or one of numbers and None."""
    stated = {name: preparation.reading[name] for name in _FORM if name in preparation.reading}
    found_out = {name: value for name, value in stated.items() if name == "encoding"}
    forms = [stated] if stated == found_out else [stated, found_out]
    names: list[str] = []
    for column in text_columns(preparation):
        for form in forms:
            tables = open_table(path, "predict", text_column=column, n_rows=n_rows, hint=_HINT, **form)
            try:
                first = next(tables, None)
            except ValueError:  # another separator may cut lines into unequal numbers of cells
                if form is forms[-1]:
                    raise
                continue
            if first is None:
                return iter(()), None
            if column in first.columns:
                return chain([first], tables), column
            names = names or [str(name) for name in first.columns]
    is_wide = len(names) == preparation.row_shape[0]
    if preparation.reads_texts or (preparation.takes_texts and not is_wide):
        column = text_columns(preparation)[0]
        raise ValueError(
            f"predict: {path}: no column '{column}' ({closest(column, names[:_NAMED_COLUMNS])}); expected "
            f"{expected_rows(preparation)}, or predict.column with its name"
        )
    return open_table(path, "predict", text_column=None, n_rows=n_rows, hint=_HINT, **stated), None


def _texts(tables: "Iterable[pd.DataFrame]", column: str, path: Path, preparation: Preparation) -> Iterator[TablePiece]:
    done = 0
    for table in tables:
        texts = texts_of(table[column], f"predict: {path}", done)
        empty = [place for place, text in enumerate(texts) if text is None]
        if empty and preparation.reading.get("on_empty") == "error":
            raise ValueError(
                f"predict: {path}: no text in row {done + empty[0]} (from 0) of column '{column}'; set "
                "predict.on_empty=skip to give such rows no cluster"
            )
        rows, skipped = [text for text in texts if text is not None], dict.fromkeys(empty, _NO_TEXT)
        yield TablePiece(len(texts), rows, skipped, _ids(table, preparation))
        done += len(texts)


def _refuse_missing_header(table: "pd.DataFrame", path: Path) -> None:
    """Refuse a first line of numbers, which would be lost; columns numbered in order are a header."""
    names = [str(name) for name in table.columns]
    if plain_suffix(path) in (".csv", ".tsv") and is_numbers(names) and not are_numbered(names):
        raise ValueError(
            f"predict: {path}: the first line holds numbers; expected the names of the columns, or predict.header=false"
        )

"""Tables of numbers: a column for each number, or one whose cells are lists of numbers."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from deep_clustering.data.sources.compression import plain_suffix
from deep_clustering.data.sources.dialects import find_dialect
from deep_clustering.data.sources.row_ids import ids_of
from deep_clustering.data.sources.table_columns import (
    AUTO,
    NUMBERS,
    Columns,
    check_column,
    choose_columns,
    find_ids,
    has_decimal_commas,
    holds_lists,
    may_be_thousands,
    with_points,
)
from deep_clustering.data.sources.tables import open_table
from deep_clustering.data.sources.wrong_cells import WrongCells, row_in_file, row_in_words, without_empty
from deep_clustering.options import closest

if TYPE_CHECKING:
    import pandas as pd

# What columns besides the numbers are.
_CLASSES, _WEIGHTS, _IDS = "classes", "weights", "ids"
_HINT = "save it as UTF-8"


class NumberTable(NamedTuple):
    """What is taken of a table."""

    rows: np.ndarray
    """Shape (n_rows, n_values)."""
    columns: Columns
    """Where they come from."""
    id_column: str | None
    """The column that names them; None: they have their numbers in the table."""
    ids: list[str]
    """What it says of each row, empty where it says nothing; none without such a column."""


def besides_of(labels: str | None, weights: str | None) -> dict[str, str]:
    """Columns, if they are some of the table, that hold no numbers of the rows, and what they are."""
    return {name: what for name, what in ((weights, _WEIGHTS), (labels, _CLASSES)) if name is not None}


def read_number_table(
    file: Path, key: str | None = None, besides: Mapping[str, str] | None = None, id_column: str | None = None
) -> NumberTable:
    """The numbers of a table.

    Args:
        file: A table, see `open_table`.
        key: Name of the only column that is meant, or None.
        besides: Names of columns that are not meant, and what they are, such as the classes.
        id_column: The column that names the rows; auto finds one that plainly does, None: no column does.

    Returns:
        The numbers, and what was taken.

    Raises:
        ValueError: if the table is damaged, has no such column or no numbers, or a cell holds none.
    """
    where, known = f"ingestion: {file}", dict(besides or {})
    named = [key, *known]
    if id_column == AUTO:
        id_column = find_ids(read_whole(file, named), {*known, *([] if key is None else [key])})
    table = read_whole(file, [*named, id_column], as_text=id_column)
    names, ids = list(table.columns), []
    if id_column is not None:
        check_column(id_column, names, where)
        ids = ids_of(table[id_column])
        known[id_column] = _IDS
    columns = choose_columns(table, key, {name: what for name, what in known.items() if name in names}, where)
    numbers = numbers_of(table, columns.taken, where, lambda row: row_in_file(file, row, **form_of(file, named)))
    return NumberTable(numbers, columns, id_column, ids)


def read_whole(file: Path, named: Iterable[str | None], as_text: str | None = None) -> "pd.DataFrame":
    """A table with its cells as numbers where they can be.

    Args:
        file: The table.
        named: Names of columns; one that is no number says that the first line of CSV and TSV is a header.
        as_text: A column of CSV and TSV whose cells stay as they are written.

    Returns:
        The table; its columns are named by text.
    """
    form = form_of(file, named)
    (table,) = open_table(file, "ingestion", text_column=None, as_text=as_text, hint=_HINT, **form)
    table.columns = [str(name) for name in table.columns]
    return table


def form_of(file: Path, named: Iterable[str | None]) -> dict[str, Any]:
    """How a CSV or TSV is written, see `Dialect` and `read_whole`; nothing of another table."""
    if plain_suffix(file) not in (".csv", ".tsv"):
        return {}
    form = find_dialect(file)._asdict()
    form["header"] = form["header"] or any(name is not None and not name.isdecimal() for name in named)
    return form


def numbers_of(
    table: "pd.DataFrame", columns: Sequence[str], where: str, place: Callable[[int], str] = row_in_words
) -> np.ndarray:
    """The numbers in some columns.

    Args:
        table: All rows.
        columns: What `choose_columns` gave.
        where: Who asks and of which file, for the messages.
        place: Says which row one is, of its number from 0, for the messages.

    Returns:
        Shape (n_rows, n_values); of a column of lists their numbers.

    Raises:
        ValueError: if a column is missing, or a cell holds no finite number or a list of another length than the first;
            naming the columns and the first row.
    """
    names = {str(name): place for place, name in enumerate(table.columns)}
    missing = [name for name in columns if name not in names]
    if missing:
        raise ValueError(f"{where}: no column '{missing[0]}' ({closest(missing[0], names)})")
    places = [names[name] for name in columns]
    if len(columns) == 1 and holds_lists(table.iloc[:, places[0]]):
        return _stacked(table.iloc[:, places[0]], f"{where}: column '{columns[0]}'", place)
    kinds = [dtype.kind for dtype in table.dtypes]
    is_plain = np.array([kinds[place] in NUMBERS for place in places])
    numbers = np.full((len(table), len(places)), np.nan)
    of_numbers = table.iloc[:, np.array(places)[is_plain]]
    numbers[:, is_plain] = of_numbers.to_numpy(dtype=np.float64, na_value=np.nan)
    written = {index: table.iloc[:, places[index]] for index in np.flatnonzero(~is_plain).tolist()}
    _refuse_doubtful(written, columns, where, place)
    for index in np.flatnonzero(~np.isfinite(numbers).all(axis=0)).tolist():
        numbers[:, index] = _as_numbers(table.iloc[:, places[index]])
    _refuse_wrong(table.iloc[:, places], ~np.isfinite(numbers), columns, where, place)
    return numbers


def _refuse_doubtful(
    written: Mapping[int, "pd.Series"], columns: Sequence[str], where: str, place: Callable[[int], str]
) -> None:
    """Refuse a column of which nobody can tell whether its commas part thousands or decimals: no other one says so."""
    if any(map(has_decimal_commas, written.values())):
        return
    for index, cells in written.items():
        row = may_be_thousands(cells)
        if row is not None:
            cell = str(cells.iloc[row]).strip()
            raise ValueError(
                f"{where}: the commas of column '{columns[index]}' may part thousands or decimals; got {cell!r} first "
                f"in {place(row)}, expected {cell.replace(',', '')} or {cell.replace(',', '.')}: write numbers without "
                "commas, as pandas does behind read_csv(FILE, thousands=',') or read_csv(FILE, decimal=',')"
            )


def _refuse_wrong(
    cells: "pd.DataFrame", wrong: np.ndarray, columns: Sequence[str], where: str, place: Callable[[int], str]
) -> None:
    """Refuse cells that are empty or no finite numbers: how many, in which columns, and what to do."""
    found = WrongCells(len(columns))
    found.add(wrong)
    if found.first is None:
        return
    row, column = found.first
    cell = cells.iloc[row, column]
    what = "an empty cell" if _is_empty(cell) else repr(str(cell)[:80])
    raise ValueError(
        f"{where}: {found.n_wrong_rows} of {found.n_rows} rows have empty cells or no finite numbers, "
        f"{found.spread(columns)}; got {what} first in column '{columns[column]}' of {place(row)}; fill such cells or "
        f"drop these rows, empty ones as by pandas: {without_empty([columns[index] for index in found.columns])}"
    )


def _is_empty(cell: Any) -> bool:  # noqa: ANN401 - a cell of a table
    import pandas as pd

    return (np.ndim(cell) == 0 and bool(pd.isna(cell))) or not str(cell).strip()


def _as_numbers(cells: "pd.Series") -> np.ndarray:
    """Numbers of a column, NaN for cells that are none."""
    import pandas as pd

    parsed = cells if cells.dtype.kind in NUMBERS else pd.to_numeric(with_points(cells), errors="coerce")
    return parsed.to_numpy(dtype=np.float64, na_value=np.nan)


def _stacked(cells: "pd.Series", where: str, place: Callable[[int], str]) -> np.ndarray:
    rows = [_list_of(cell) for cell in cells]
    wrong = [index for index, row in enumerate(rows) if row is None]
    if wrong:
        raise ValueError(
            f"{where}: {len(wrong)} of {len(rows)} rows have no list of finite numbers; got "
            f"{str(cells.iloc[wrong[0]])[:80]!r} first in {place(wrong[0])}; fill such cells or drop these rows, empty "
            f"ones as by pandas: {without_empty([str(cells.name)])}"
        )
    lists = [row for row in rows if row is not None]
    for index, row in enumerate(lists):
        if len(row) != len(lists[0]):
            raise ValueError(f"{where}: expected lists of {len(lists[0])} numbers, got {len(row)} in {place(index)}")
    return np.stack(lists)


def _list_of(cell: Any) -> np.ndarray | None:  # noqa: ANN401 - a cell of a table
    """A list of finite numbers as an array; None for anything else."""
    if isinstance(cell, str):
        # As of JSON, or as numpy prints short arrays.
        cell = cell.strip().removeprefix("[").removesuffix("]").replace(",", " ").split()
    elif not isinstance(cell, list | tuple | np.ndarray):
        return None
    try:
        row = np.asarray(cell)
        row = row if row.dtype.kind in NUMBERS else row.astype(np.float64)
    except (ValueError, TypeError):
        return None
    return row if row.ndim == 1 and np.isfinite(row).all() else None

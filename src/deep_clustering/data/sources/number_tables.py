"""Tables of numbers: a column for each number, or one whose cells are lists of numbers."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deep_clustering.data.sources.compression import plain_suffix
from deep_clustering.data.sources.dialects import find_dialect
from deep_clustering.data.sources.tables import open_table
from deep_clustering.options import closest

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

# Cells that are looked at to see what a column holds, evenly spaced.
_CELLS = 1000

# Kinds of dtypes that are numbers as they are.
_NUMBERS = "biuf"

# Columns that a message names.
_NAMED = 5
# Columns of these names tell rows apart, if every row has another whole number there.
_NAMES_OF_NUMBERS = ("id", "index", "row", "row_id")
_HINT = "save it as UTF-8"


def read_number_table(file: Path, key: str | None = None, besides: str | None = None) -> tuple[np.ndarray, list[str]]:
    """The numbers of a table.

    Args:
        file: A table, see `open_table`.
        key: Name of the only column that is meant, or None.
        besides: Name of a column that is not meant, such as that of the classes.

    Returns:
        rows: shape (n_rows, n_values).
        columns: those that were taken.

    Raises:
        ValueError: if the table is damaged, has no such column or no numbers, or a cell holds none.
    """
    table = read_whole(file, besides if key is None else key)
    columns = choose_columns(table, key, besides, f"ingestion: {file}")
    return numbers_of(table, columns, f"ingestion: {file}"), columns


def read_whole(file: Path, named: str | None) -> "pd.DataFrame":
    """A table with its cells as numbers where they can be.

    Args:
        file: The table.
        named: Name of a column; one that is no number says that the first line of CSV and TSV is a header.

    Returns:
        The table; its columns are named by text.
    """
    form: dict[str, Any] = {}
    if plain_suffix(file) in (".csv", ".tsv"):
        form = find_dialect(file)._asdict()
        form["header"] = form["header"] or not (named is None or named.isdecimal())
    (table,) = open_table(file, "ingestion", text_column=None, hint=_HINT, **form)
    table.columns = [str(name) for name in table.columns]
    return table


def choose_columns(table: "pd.DataFrame", key: str | None, besides: str | None, where: str) -> list[str]:
    """Names of the columns that hold the numbers of the rows.

    Args:
        table: All rows.
        key: The only one that is meant, or None: the one whose cells are lists, or else all of numbers.
        besides: One that is not meant.
        where: Who asks and of which file, for the messages.

    Returns:
        At least one name. Columns of texts, of nothing, and those that number the rows, by pandas or as an id, are left
        out, which is logged.

    Raises:
        ValueError: if there is none, more than one of lists, or not that one.
    """
    names = [str(name) for name in table.columns]
    if key is not None:
        if key not in names:
            raise ValueError(f"{where}: no column '{key}' ({closest(key, names)})")
        return [key]
    rest = [name for name in names if name != besides]
    plain = _plain_columns(table)
    lists = [name for name in rest if name not in plain and _holds_lists(table[name])]
    if len(lists) > 1:
        raise ValueError(f"{where}: columns {_some(lists)} hold lists of numbers; name one with 'key'")
    chosen = lists or [
        name
        for name in rest
        if (plain[name] if name in plain else _holds_numbers(table[name]))
        and not (_may_count_rows(name) and _counts_rows(table[name]))
    ]
    if not chosen:
        raise ValueError(f"{where}: no column of numbers, got {_some(rest) or 'none'}")
    if len(chosen) < len(rest):
        taken = set(chosen)
        left_out = [name for name in rest if name not in taken]
        what = "1 column that does not hold" if len(left_out) == 1 else f"{len(left_out)} columns that do not hold"
        logger.info("%s: left out %s numbers of the rows: %s", where, what, _some(left_out))
    return chosen


def numbers_of(table: "pd.DataFrame", columns: Sequence[str], where: str, first: int = 0) -> np.ndarray:
    """The numbers in some columns.

    Args:
        table: All rows, or a piece of them.
        columns: What `choose_columns` gave.
        where: Who asks and of which file, for the messages.
        first: Number of the first row, for the messages.

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
    if len(columns) == 1 and _holds_lists(table.iloc[:, places[0]]):
        return _stacked(table.iloc[:, places[0]], f"{where}: column '{columns[0]}'", first)
    kinds = [dtype.kind for dtype in table.dtypes]
    is_plain = np.array([kinds[place] in _NUMBERS for place in places])
    numbers = np.full((len(table), len(places)), np.nan)
    of_numbers = table.iloc[:, np.array(places)[is_plain]]
    numbers[:, is_plain] = of_numbers.to_numpy(dtype=np.float64, na_value=np.nan)
    for index in np.flatnonzero(~np.isfinite(numbers).all(axis=0)).tolist():
        numbers[:, index] = _as_numbers(table.iloc[:, places[index]])
    _refuse_wrong(table.iloc[:, places], ~np.isfinite(numbers), columns, where, first)
    return numbers


def _refuse_wrong(cells: "pd.DataFrame", wrong: np.ndarray, columns: Sequence[str], where: str, first: int) -> None:
    """Refuse cells that are empty or no finite numbers: how many, in which columns, and what to do."""
    rows = np.flatnonzero(wrong.any(axis=1))
    if not len(rows):
        return
    counts = wrong.sum(axis=0)
    found = np.flatnonzero(counts)
    named = ", ".join(f"'{columns[index]}' ({counts[index]})" for index in found[:_NAMED])
    row, column = int(rows[0]), int(np.flatnonzero(wrong[rows[0]])[0])
    cell = cells.iloc[row, column]
    what = "an empty cell" if _is_empty(cell) else repr(str(cell)[:80])
    raise ValueError(
        f"{where}: {len(rows)} of {len(wrong)} rows have empty cells or no finite numbers, in {len(found)} of "
        f"{len(columns)} columns: {named}{', ...' if len(found) > _NAMED else ''}; got {what} first in column "
        f"'{columns[column]}' of row {first + row + 1} (from 1, without a header); fill such cells or drop these rows, "
        "empty ones as by pandas: df.dropna()"
    )


def _is_empty(cell: Any) -> bool:  # noqa: ANN401 - a cell of a table
    import pandas as pd

    return (np.ndim(cell) == 0 and bool(pd.isna(cell))) or not str(cell).strip()


def _plain_columns(table: "pd.DataFrame") -> dict[str, bool]:
    """Columns that are stored as numbers, and whether they hold any: of thousands, each by itself takes seconds."""
    of_numbers = table.loc[:, [dtype.kind in _NUMBERS for dtype in table.dtypes]]
    cells = of_numbers.to_numpy(dtype=np.float64, na_value=np.nan)
    return dict(zip(map(str, of_numbers.columns), ~np.isnan(cells).all(axis=0), strict=True))


def _some(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")


def _spaced(cells: "pd.Series") -> "pd.Series":
    known = cells.dropna()
    return known.iloc[:: max(1, -(-len(known) // _CELLS))]


def _holds_lists(cells: "pd.Series") -> bool:
    """Whether most cells are lists, or lists written down as [0.1, 0.2]."""
    if cells.dtype.kind in "buifM":
        return False
    some = _spaced(cells)
    n_lists = sum(
        isinstance(cell, list | tuple | np.ndarray) or (isinstance(cell, str) and cell.lstrip().startswith("["))
        for cell in some
    )
    return 2 * n_lists > len(some)


def _holds_numbers(cells: "pd.Series") -> bool:
    """Whether most cells are numbers: a few that are not are faults, which `numbers_of` names."""
    import pandas as pd

    if cells.dtype.kind in "mM":
        return False
    some = _spaced(cells)
    return 2 * int(pd.to_numeric(_with_points(some), errors="coerce").notna().sum()) > len(some)


def _counts_rows(cells: "pd.Series") -> bool:
    """Whether a column numbers the rows: one that pandas writes without a name, or an id, each another whole number."""
    if cells.dtype.kind not in "iu":
        return False
    if _name_of(cells.name) in _NAMES_OF_NUMBERS:
        return cells.is_unique
    return bool((np.diff(cells.to_numpy()) == 1).all())


def _may_count_rows(name: str) -> bool:
    """Whether a column of that name may number the rows."""
    name = _name_of(name)
    return not name or name.startswith("unnamed: ") or name in _NAMES_OF_NUMBERS


def _name_of(name: Any) -> str:  # noqa: ANN401
    return str(name).strip().casefold()


def _with_points(cells: "pd.Series") -> "pd.Series":
    """Numbers that have a comma before their decimals, as of a spreadsheet, with a point."""
    texts = cells.astype("str")
    return texts.str.replace(",", ".", regex=False) if texts.str.fullmatch(r"\s*-?\d+,\d+\s*").any() else cells


def _as_numbers(cells: "pd.Series") -> np.ndarray:
    """Numbers of a column, NaN for cells that are none."""
    import pandas as pd

    parsed = cells if cells.dtype.kind in _NUMBERS else pd.to_numeric(_with_points(cells), errors="coerce")
    return parsed.to_numpy(dtype=np.float64, na_value=np.nan)


def _stacked(cells: "pd.Series", where: str, first: int) -> np.ndarray:
    rows: list[np.ndarray] = []
    for index, cell in enumerate(cells, first):
        row = _list_of(cell)
        if row is None or row.ndim != 1 or not np.isfinite(row).all():
            raise ValueError(f"{where}: expected a list of finite numbers, got {str(cell)[:80]!r} in row {index}")
        if rows and len(row) != len(rows[0]):
            raise ValueError(f"{where}: expected lists of {len(rows[0])} numbers, got {len(row)} in row {index}")
        rows.append(row)
    return np.stack(rows)


def _list_of(cell: Any) -> np.ndarray | None:  # noqa: ANN401 - a cell of a table
    """A list as an array; None for anything else."""
    if isinstance(cell, str):
        # As of JSON, or as numpy prints short arrays.
        cell = cell.strip().removeprefix("[").removesuffix("]").replace(",", " ").split()
    elif not isinstance(cell, list | tuple | np.ndarray):
        return None
    try:
        row = np.asarray(cell)
        return row if row.dtype.kind in "biuf" else row.astype(np.float64)
    except (ValueError, TypeError):
        return None

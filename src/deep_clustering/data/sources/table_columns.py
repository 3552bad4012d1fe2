"""What the columns of a table are: numbers of the rows, their ids, or nothing that is taken, and why not."""

import re
from collections.abc import Collection, Mapping, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from deep_clustering.options import closest

if TYPE_CHECKING:
    import pandas as pd

# Cells that are looked at to see what a column holds, evenly spaced.
_CELLS = 1000

# Kinds of dtypes that are numbers as they are.
NUMBERS = "biuf"

# Columns that a message names.
_NAMED = 5

# A number with a comma before its decimals; one whose commas part thousands; one that may be either; one with a point.
_WITH_COMMA = r"\s*-?\d+,\d+\s*"
_PARTED = r"\s*-?[1-9]\d{0,2}(,\d{3})+(\.\d*)?\s*"
_EITHER = r"\s*-?[1-9]\d{0,2},\d{3}\s*"
_WITH_POINT = r"\s*-?\d[\d,]*\.\d*\s*"

# Instead of a column of ids: it is to be found.
AUTO = "auto"
# What the last word of an id's name is, and names of columns that number rows.
_WORDS_OF_IDS = ("id", "uuid", "guid", "key")
_NUMBERING = ("index", "row")
# What pandas calls a column without a name.
_WITHOUT_NAME = "unnamed: "


class Columns(NamedTuple):
    """Which columns of a table hold the numbers of its rows."""

    taken: list[str]
    """At least one."""
    left_out: dict[str, str]
    """The others, and why."""


def choose_columns(table: "pd.DataFrame", key: str | None, besides: Mapping[str, str], where: str) -> Columns:
    """Which columns hold the numbers of the rows.

    Args:
        table: All rows.
        key: The only one that is meant, or None: the one whose cells are lists, or else all of numbers.
        besides: Others that are not meant, and what they are.
        where: Who asks and of which file, for the messages.

    Returns:
        The columns. Those of texts, of nothing, and those that number the rows, by pandas or as an id, are left out.

    Raises:
        ValueError: if there is none, more than one of lists, or not that one.
    """
    names = [str(name) for name in table.columns]
    if key is not None:
        check_column(key, names, where)
        return Columns([key], {name: besides.get(name, f"not '{key}'") for name in names if name != key})
    rest = [name for name in names if name not in besides]
    plain = _plain_columns(table)
    lists = [name for name in rest if name not in plain and holds_lists(table[name])]
    if len(lists) > 1:
        raise ValueError(f"{where}: columns {some(lists)} hold lists of numbers; name one with 'key'")
    may_be_ids = {*filter(is_called_id, rest), *_numbering(names)}
    why_not = {name: _why_not(table[name], plain.get(name), name in may_be_ids) for name in rest} if not lists else {}
    taken = lists or [name for name in rest if not why_not[name]]
    if not taken:
        raise ValueError(f"{where}: no column of numbers, got {some(rest) or 'none'}")
    chosen = set(taken)
    reasons = {**(dict.fromkeys(rest, f"not '{lists[0]}'") if lists else why_not), **besides}
    return Columns(taken, {name: reasons[name] for name in names if name not in chosen})


def find_ids(table: "pd.DataFrame", besides: Collection[str]) -> str | None:
    """The column that plainly names the rows.

    Args:
        table: All rows.
        besides: Columns that are something else.

    Returns:
        One with another whole number or text in each row that is called an id; else one that numbers the rows, unless
        that only counts them from 0; None if there is none.
    """
    names = [str(name) for name in table.columns]
    # The shortest name first: `id` is the row's own, `customer_id` perhaps that of something else.
    of_ids = sorted((name for name in names if is_called_id(name)), key=lambda name: len(_words(name)))
    numbering = [name for name in _numbering(names) if name not in of_ids]
    for name in [*of_ids, *numbering]:
        cells = table.iloc[:, names.index(name)]
        if name not in besides and _tells_rows_apart(cells) and not (name in numbering and _only_counts(cells)):
            return name
    return None


def check_column(name: str, names: Sequence[str], where: str) -> None:
    """Refuse the name of a column that is not there.

    Args:
        name: What was asked for.
        names: What there is.
        where: Who asks and of which file.

    Raises:
        ValueError: naming the nearest of what there is.
    """
    if name not in names:
        raise ValueError(f"{where}: no column '{name}' ({closest(name, names)})")


def some(names: Sequence[str]) -> str:
    """The first few names, for a message."""
    return ", ".join(f"'{name}'" for name in names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")


def holds_lists(cells: "pd.Series") -> bool:
    """Whether most cells are lists, or lists written down as [0.1, 0.2]."""
    if cells.dtype.kind in "buifM":
        return False
    known = _spaced(cells)
    n_lists = sum(
        isinstance(cell, list | tuple | np.ndarray) or (isinstance(cell, str) and cell.lstrip().startswith("["))
        for cell in known
    )
    return 2 * n_lists > len(known)


def with_points(cells: "pd.Series") -> "pd.Series":
    """Numbers that have a comma before their decimals, as of a spreadsheet, with a point; those of thousands without.

    What may be either, see `may_be_thousands`, is taken for decimals.
    """
    texts = cells.astype("str")
    if not texts.str.contains(",", regex=False).any():
        return cells
    if _are_thousands(texts):
        return texts.str.replace(",", "", regex=False)
    return texts.str.replace(",", ".", regex=False) if texts.str.fullmatch(_WITH_COMMA).any() else cells


def may_be_thousands(cells: "pd.Series") -> int | None:
    """Where a column first has a number whose comma may part thousands as well as decimals.

    Args:
        cells: A column.

    Returns:
        The place of its first number with a comma, such as `1,234`, if each with one has three digits behind it and
        none before it that says otherwise; None if nothing is in doubt.
    """
    texts = cells.astype("str")
    has_comma = texts.str.contains(",", regex=False).to_numpy(dtype=bool)
    if not has_comma.any() or _are_thousands(texts):
        return None
    in_doubt = texts[has_comma].str.fullmatch(_EITHER).to_numpy(dtype=bool)
    return int(np.flatnonzero(has_comma)[0]) if in_doubt.all() else None


def has_decimal_commas(cells: "pd.Series") -> bool:
    """Whether a column has a number whose comma can only stand before decimals, such as `0,5`."""
    texts = cells.astype("str")
    with_comma = texts[texts.str.fullmatch(_WITH_COMMA)]
    return bool(len(with_comma)) and not with_comma.str.fullmatch(_EITHER).all()


def _are_thousands(texts: "pd.Series") -> bool:
    """Whether commas part thousands beyond doubt: several in a number, or a point in one of the column."""
    with_comma = texts[texts.str.contains(",", regex=False)]
    parted = with_comma.str.fullmatch(_PARTED)
    is_certain = with_comma.str.count(",").gt(1).any() or texts.str.fullmatch(_WITH_POINT).any()
    return bool(parted.all() and is_certain)


def _why_not(cells: "pd.Series", is_plain: bool | None, may_be_ids: bool) -> str:
    """Why a column holds no numbers of the rows; empty if it does."""
    if may_be_ids and _tells_rows_apart(cells):
        counts = cells.dtype.kind in "iu" and not is_called_id(str(cells.name))
        return "numbers of the rows" if counts else "ids"
    if _holds_numbers(cells) if is_plain is None else is_plain:
        return ""
    if cells.dtype.kind in "mM":
        return "times"
    known = _spaced(cells)
    if not len(known):
        return "empty"
    return "texts" if 2 * sum(isinstance(cell, str) for cell in known) > len(known) else "no numbers"


def _plain_columns(table: "pd.DataFrame") -> dict[str, bool]:
    """Columns that are stored as numbers, and whether they hold any: of thousands, each by itself takes seconds."""
    of_numbers = table.loc[:, [dtype.kind in NUMBERS for dtype in table.dtypes]]
    cells = of_numbers.to_numpy(dtype=np.float64, na_value=np.nan)
    return dict(zip(map(str, of_numbers.columns), ~np.isnan(cells).all(axis=0), strict=True))


def _holds_numbers(cells: "pd.Series") -> bool:
    """Whether most cells are numbers: a few that are not are faults, which `numbers_of` names."""
    import pandas as pd

    if cells.dtype.kind in "mM":
        return False
    known = _spaced(cells)
    return 2 * int(pd.to_numeric(with_points(known), errors="coerce").notna().sum()) > len(known)


def _spaced(cells: "pd.Series") -> "pd.Series":
    known = cells.dropna()
    return known.iloc[:: max(1, -(-len(known) // _CELLS))]


def _tells_rows_apart(cells: "pd.Series") -> bool:
    """Whether a column has another whole number, or another text, in each row."""
    if cells.dtype.kind in "bfmMc":
        return False
    if cells.dtype.kind in "iu":
        return cells.is_unique
    return all(isinstance(cell, str) and bool(cell.strip()) for cell in cells) and cells.is_unique


def _only_counts(cells: "pd.Series") -> bool:
    """Whether a column says of each row what its place does, from 0."""
    return cells.dtype.kind in "iu" and bool((cells.to_numpy() == np.arange(len(cells))).all())


def is_called_id(name: str) -> bool:
    """Whether the last word of a column's name says that it holds ids."""
    words = _words(name)
    return bool(words) and words[-1] in _WORDS_OF_IDS


def _numbering(names: Sequence[str]) -> list[str]:
    """Columns that may count rows: pandas writes its numbers first, and without a name."""
    unnamed = takewhile(lambda name: not name.strip() or name.casefold().startswith(_WITHOUT_NAME), names)
    return [*unnamed, *(name for name in names if name.strip().casefold() in _NUMBERING)]


def _words(name: str) -> list[str]:
    """Words of a name such as customer_id, CustomerID or Customer id, in small letters."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return [word.casefold() for word in re.split(r"[\W_]+", parted) if word]

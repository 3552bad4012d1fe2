"""How a table in a text file is written: what parts its cells, what quotes them, whether its first line names them."""

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from deep_clustering.data.sources.compression import DAMAGED, open_bytes, plain_suffix

_SEPARATORS = (",", ";", "\t", "|")
_QUOTES = ('"', "'")

# How much of a file is looked at, in characters and in lines.
_LOOKED_AT = 1 << 22
_LINES = 5000
# A dialect must give this share of the lines the cells of the first one.
_ALIKE = 0.9
# What stands for a number that is missing, in small letters, where `float` does not read it.
_MISSING = frozenset(("", "na", "n/a", "<na>", "null", "none", "?", "-"))
# Names of columns are short.
_LONGEST_NAME = 60


class Dialect(NamedTuple):
    """How the lines of a table become cells."""

    separator: str
    """Between cells, one character."""
    quote: str
    """Around cells that hold the separator or the end of a line: a double or single quote."""
    header: bool
    """Whether the first line names the columns."""


def find_dialect(file: Path, encoding: str = "utf-8", separator: str = "auto", quote: str = "auto") -> Dialect:
    """Find out how a table is written.

    The separator and the quote are those by which most lines have as many cells as the first one, at least two; if none
    is such for nine lines of ten, the ones that the ending of the file's name promises.

    Args:
        file: A table .csv or .tsv, perhaps compressed.
        encoding: Of the characters; those that it does not have are passed over.
        separator: What is known already, or auto.
        quote: What is known already, or auto.

    Returns:
        The dialect. The first line is a header if its cells are short, different, not numbers, and no cell of it comes
        again in its own column; above numbers the line as a whole may, as where files were put one behind the other.

    Raises:
        ValueError: if the file cannot be decompressed.
    """
    try:
        with open_bytes(file) as stream:
            head = io.TextIOWrapper(stream, encoding=encoding, errors="replace", newline="").read(_LOOKED_AT)
    except DAMAGED as error:
        raise ValueError(f"ingestion: {file}: cannot be read as {plain_suffix(file)}: {error}") from error
    usual = "\t" if plain_suffix(file) == ".tsv" else ","
    separators = sorted(_SEPARATORS, key=lambda each: each != usual) if separator == "auto" else [separator]
    quotes = _QUOTES if quote == "auto" else (quote,)
    best, best_share = (separators[0], quotes[0]), 0.0
    for pair in ((each, mark) for mark in quotes for each in separators):
        if pair[1] != quotes[0] and not _quotes(head, *pair):
            continue  # an apostrophe is no quote
        share = _share_alike(_rows(head, *pair))
        if share > best_share and share >= _ALIKE:
            best, best_share = pair, share
        if share == 1:
            break
    return Dialect(*best, has_header(_rows(head, *best)))


def first_cells(file: Path, encoding: str, separator: str, quote: str) -> list[str]:
    """Cells of the first line that is not empty, to be looked at before anything is made of the columns.

    Args:
        file: A table .csv or .tsv, perhaps compressed.
        encoding: Of the characters.
        separator: Between cells.
        quote: Around cells.

    Returns:
        Those in the first four million characters.
    """
    with open_bytes(file) as stream:
        head = io.TextIOWrapper(stream, encoding=encoding, errors="replace", newline="").read(_LOOKED_AT)
    return next(iter(_rows(head, separator, quote, most=1)), [])


def check_marks(separator: str, quote: str) -> None:
    """Refuse what can be neither separator nor quote.

    Args:
        separator: auto or one character.
        quote: auto or one character.

    Raises:
        ValueError: saying what was got.
    """
    for name, mark in (("separator", separator), ("quote", quote)):
        if mark != "auto" and (len(mark) != 1 or mark.isalnum() or mark in "\r\n"):
            raise ValueError(f"{name} must be one character such as ',', ';' or a tab, or auto, got {mark!r}")


def has_header(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first line of a table names its columns; see `find_dialect`.

    Args:
        rows: The cells of the first lines.

    Returns:
        True as well if there is no line to judge.
    """
    if len(rows) < 2:
        return True
    names = [cell.strip() for cell in rows[0]]
    if is_numbers(names):
        return are_numbered(names)
    if max(map(len, names)) > _LONGEST_NAME or any(map(_is_fraction, names)):
        return False
    if len(set(names)) < len(names):  # above numbers two columns may have one name, which is refused where it is read
        return not any(is_numbers([name]) for name in names) and any(map(is_numbers, zip(*rows[1:], strict=False)))
    others = [row for row in rows[1:] if [cell.strip() for cell in row] != names]
    columns = zip(names, zip(*others, strict=False), strict=False)
    is_above_numbers = any(is_numbers(column) and _is_name(name) for name, column in columns)
    cells = (zip(names, row, strict=False) for row in (others if is_above_numbers else rows[1:]))
    return not any(name and name == cell.strip() for row in cells for name, cell in row)


def _is_name(cell: str) -> bool:
    """Whether a cell above numbers names them: it is neither a number nor the mark of one that is missing."""
    return not is_numbers([cell]) and cell.lower() not in _MISSING


def is_numbers(cells: Sequence[str]) -> bool:
    """Whether every cell is a number."""
    try:
        [float(cell) for cell in cells]
    except ValueError:
        return False
    return True


def are_numbered(names: Sequence[str]) -> bool:
    """Whether names only count the columns, from 0 or 1."""
    return list(names) in [[str(index + first) for index in range(len(names))] for first in (0, 1)]


def _is_fraction(cell: str) -> bool:
    return "." in cell and is_numbers([cell])


def _rows(text: str, separator: str, quote: str, most: int = _LINES + 1) -> list[list[str]]:
    """Cells of the lines at the beginning; the last line is left out where it may be cut."""
    rows: list[list[str]] = []
    limit = csv.field_size_limit(_LOOKED_AT)
    try:
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator, quotechar=quote):
            if row:
                rows.append(row)
            if len(rows) == most:
                break
    except csv.Error:
        return []
    finally:
        csv.field_size_limit(limit)
    return rows[:-1] if len(text) == _LOOKED_AT and len(rows) > 1 else rows


def _quotes(text: str, separator: str, quote: str) -> bool:
    """Whether some cell begins and some cell ends with a quote."""
    part, mark = re.escape(separator), re.escape(quote)
    begins, ends = rf"(?m)(?:^|{part}){mark}", rf"(?m){mark}(?:\r?$|{part})"
    return bool(re.search(begins, text) and re.search(ends, text))


def _share_alike(rows: Sequence[Sequence[str]]) -> float:
    """Share of the lines with as many cells as the first; 0 if that has fewer than two."""
    width = len(rows[0]) if rows else 0
    return sum(len(row) == width for row in rows) / len(rows) if width > 1 else 0.0

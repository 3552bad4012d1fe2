"""Tables of CSV, TSV, Parquet and JSON Lines, perhaps compressed: whole, or piece by piece."""

import codecs
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from deep_clustering.data.plain_json import parse_object
from deep_clustering.data.sources.compression import DAMAGED, open_bytes, plain_suffix
from deep_clustering.data.sources.dialects import find_dialect, first_cells, is_numbers

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl")

_BLOCK = 1 << 20
# Bytes of the first line of JSON Lines that are looked at.
_FIRST_LINE = 1 << 24

# Each column is looked at by itself: more of them take minutes, and are read at once as an array.
MOST_COLUMNS = 50_000

# What damaged tables make the readers of pandas and pyarrow raise, and damaged archives those of Python.
_UNREADABLE = (*DAMAGED, TypeError, AttributeError, OverflowError)

# What `pandas.read_csv` takes for a missing cell unless it is told otherwise, as its documentation has it.
_MISSING = [
    "#N/A",
    "#N/A N/A",
    "#NA",
    "-1.#IND",
    "-1.#QNAN",
    "-NaN",
    "-nan",
    "1.#IND",
    "1.#QNAN",
    "<NA>",
    "N/A",
    "NA",
    "NULL",
    "NaN",
    "None",
    "n/a",
    "nan",
    "null",
    "",
]

# Encodings that are tried to say how undecodable bytes would read, the commonest first.
_LIKELY = ("cp1252", "gb18030", "shift_jis", "cp1251")
_READ_AROUND = 12


class _Form(NamedTuple):
    """How a table is to be read."""

    n_rows: int | None
    encoding: str
    text_column: str | None
    as_text: str | None
    separator: str
    quote: str
    header: bool


def open_table(
    file: Path,
    where: str,
    *,
    text_column: str | None,
    as_text: str | None = None,
    n_rows: int | None = None,
    encoding: str = "utf-8",
    hint: str = "",
    separator: str = "auto",
    quote: str = "auto",
    header: bool = True,
) -> "Iterator[pd.DataFrame]":
    """The rows of a table in pieces.

    Args:
        file: The table; its ending, one of `SUFFIXES` and perhaps one of a compression, says what it is.
        where: Who asks, for the messages.
        text_column: A CSV or TSV with this column is read as texts, so that a cell such as "null" stays one; the
            cells of any other become numbers where they can.
        as_text: A column of such another whose cells stay as they are written, such as 007.
        n_rows: Most rows in a piece; None gives all of them at once.
        encoding: Of the characters; Parquet has its own.
        hint: What to do about another encoding, for the message.
        separator: Between the cells of CSV and TSV; auto finds it, see `find_dialect`.
        quote: Around cells of CSV and TSV; auto finds it.
        header: Whether the first line of CSV and TSV names the columns; else their names are 0, 1, ...

    Yields:
        The pieces in order; at least one of a table that has a head, but an empty Parquet file may give none.

    Raises:
        ValueError: if the file is damaged, of another kind or encoding, has rows longer than its head, or more than
            `MOST_COLUMNS` columns.
    """
    kind = plain_suffix(file)
    done = 0
    try:
        if kind != ".parquet":
            _check_encoding(file, encoding, hint)
        if kind in (".csv", ".tsv") and "auto" in (separator, quote):
            separator, quote, _ = find_dialect(file, encoding, separator, quote)
        form = _Form(n_rows, _without_mark(encoding), text_column, as_text, separator, quote, header)
        for piece in _PIECES[kind](file, form):
            done += len(piece)
            yield piece
    except _UNREADABLE as error:
        place = f"behind row {done - 1}" if done else f"as {kind}"
        raise ValueError(f"{where}: {file}: cannot be read {place}: {str(error).strip()}") from error


def _without_mark(encoding: str) -> str:
    """The encoding that takes no byte order mark for a part of the first column's name."""
    return "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding


def _parquet(file: Path, form: _Form) -> "Iterator[pd.DataFrame]":
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as opened:
        _check_width(len(opened.schema_arrow.names))
        if form.n_rows is None:
            yield _with_index(opened.read().to_pandas())
        else:
            for batch in opened.iter_batches(form.n_rows):
                yield _with_index(batch.to_pandas())


def _with_index(table: "pd.DataFrame") -> "pd.DataFrame":
    """A table whose index is a column again, as in the other kinds, if it has a name and is no count of the rows."""
    import pandas as pd

    names = table.index.names
    is_column = not (isinstance(table.index, pd.RangeIndex) or {None, *table.columns} & set(names))
    return table.reset_index() if is_column else table


def _json_lines(file: Path, form: _Form) -> "Iterator[pd.DataFrame]":
    import pandas as pd

    options: dict[str, Any] = {"lines": True, "dtype": False, "encoding": form.encoding}
    _check_width(_n_names(file))
    with open_bytes(file) as stream:
        if form.n_rows is None:
            table = pd.read_json(stream, **options)
            _check_width(len(table.columns))
            yield table
        else:
            is_named = False
            with pd.read_json(stream, chunksize=form.n_rows, **options) as reader:
                for place, piece in enumerate(reader):
                    _check_width(len(piece.columns))
                    if form.text_column is not None and form.text_column not in piece.columns:
                        is_named = is_named or (place == 0 and _names_anywhere(file, form.text_column))
                        if is_named:  # rows may do without it, and so may all of a piece
                            piece[form.text_column] = None
                    is_named = is_named or form.text_column in piece.columns
                    yield piece


def _names_anywhere(file: Path, column: str) -> bool:
    """Whether some line of JSON Lines has this name."""
    with open_bytes(file) as stream:
        return any(column in _parsed(line) for line in stream)


def _parsed(line: bytes) -> Mapping[str, Any]:
    try:
        return parse_object(line)
    except ValueError:
        return {}


def _n_names(file: Path) -> int:
    """Names in the first line of JSON Lines; 0 if it has another form, which its reader says."""
    with open_bytes(file) as stream:
        return len(_parsed(stream.readline(_FIRST_LINE)))


def _separated(file: Path, form: _Form) -> "Iterator[pd.DataFrame]":
    import pandas as pd

    options: dict[str, Any] = {"sep": form.separator, "quotechar": form.quote, "encoding": form.encoding}
    if not form.header:
        options["header"] = None
    cells = [cell.strip() for cell in first_cells(file, form.encoding, form.separator, form.quote)]
    _check_width(len(cells))
    if form.header and not is_numbers(cells):  # a line of numbers is no header, which others refuse
        _check_names(cells)
    with open_bytes(file) as stream:
        names = pd.read_csv(stream, nrows=1, **options).columns  # without a row pandas makes empty columns one by one
    _check_width(len(names))
    if form.text_column in [str(name) for name in names]:
        options |= {"dtype": str, "keep_default_na": False}
    elif form.as_text is not None and (form.header or form.as_text.isdecimal()):
        written = form.as_text if form.header else int(form.as_text)
        options |= {"dtype": {written: str}, "keep_default_na": False}
        options["na_values"] = {name: _MISSING for name in names if name != written}
    with open_bytes(file) as stream, pd.read_csv(stream, iterator=True, chunksize=form.n_rows, **options) as reader:
        for table in reader if form.n_rows is not None else [reader.read()]:
            if not isinstance(table.index, pd.RangeIndex):  # pandas takes surplus cells for names of rows
                raise ValueError(f"rows have more cells than the header; quote texts that hold {form.separator!r}")
            table.columns = [str(name) for name in table.columns]
            yield table


def _check_names(names: list[str]) -> None:
    for name, n_columns in Counter(filter(None, names)).items():
        if n_columns > 1:
            raise ValueError(f"{n_columns} columns are called '{name}'; expected another name for each")


def _check_width(n_columns: int) -> None:
    if n_columns > MOST_COLUMNS:
        raise ValueError(f"{n_columns} columns or more; expected at most {MOST_COLUMNS}: save the numbers as .npy")


_PIECES = {".csv": _separated, ".tsv": _separated, ".parquet": _parquet, ".jsonl": _json_lines}


def _check_encoding(file: Path, encoding: str, hint: str) -> None:
    """Refuse bytes that the encoding does not have, saying where they are."""
    decoder = codecs.getincrementaldecoder(encoding)()
    position = 0
    with open_bytes(file) as stream:
        while True:
            block = stream.read(_BLOCK)
            pending = decoder.getstate()[0]
            try:
                decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                place = f"byte {position - len(pending) + error.start} is not {encoding} ({error.reason})"
                readings = _readings(pending + block, error.start, is_first=position == 0)
                raise ValueError("; ".join(part for part in (place, hint, readings) if part)) from error
            if not block:
                return
            position += len(block)


def _readings(block: bytes, place: int, *, is_first: bool) -> str:
    """How the bytes around a place read in likely encodings, of which the user knows the right one."""
    if is_first and block[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "its first bytes say utf-16"
    near = block[max(0, place - _READ_AROUND) : place + _READ_AROUND]
    found = []
    for encoding in _LIKELY:
        try:
            block.decode(encoding)
        except UnicodeDecodeError as error:
            if error.end < len(block) - 4:  # a character may be cut at the end of the block
                continue
        found.append(f"{encoding} reads {near.decode(encoding, 'ignore')!r} there")
    return ", ".join(found)

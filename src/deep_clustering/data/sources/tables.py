"""Tables of CSV, TSV, Parquet and JSON Lines: whole, or piece by piece."""

import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl")

_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_BLOCK = 1 << 20

# What damaged tables make the readers of pandas and pyarrow raise.
_UNREADABLE = (ValueError, OSError, TypeError, AttributeError, OverflowError)


def open_table(
    file: Path, where: str, *, text_column: str, n_rows: int | None = None, encoding: str = "utf-8", hint: str = ""
) -> "Iterator[pd.DataFrame]":
    """The rows of a table in pieces.

    Args:
        file: The table; its ending, one of `SUFFIXES`, says what it is.
        where: Who asks, for the messages.
        text_column: A CSV or TSV with this column is read as texts, so that a cell such as "null" stays one; the
            cells of any other become numbers where they can.
        n_rows: Most rows in a piece; None gives all of them at once.
        encoding: Of the characters; Parquet has its own.
        hint: What to do about another encoding, for the message.

    Yields:
        The pieces in order; at least one of a table that has a head, but an empty Parquet file may give none.

    Raises:
        ValueError: if the file is damaged, of another kind or encoding, or has rows longer than its head.
    """
    kind = file.suffix.lower()
    done = 0
    try:
        if kind != ".parquet":
            _check_encoding(file, encoding, hint)
        for piece in _PIECES[kind](file, n_rows, _without_mark(encoding), text_column):
            done += len(piece)
            yield piece
    except _UNREADABLE as error:
        place = f"behind row {done - 1}" if done else f"as {kind}"
        raise ValueError(f"{where}: {file}: cannot be read {place}: {str(error).strip()}") from error


def _without_mark(encoding: str) -> str:
    """The encoding that takes no byte order mark for a part of the first column's name."""
    return "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding


def _parquet(file: Path, n_rows: int | None, encoding: str, text_column: str) -> "Iterator[pd.DataFrame]":
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as opened:
        if n_rows is None:
            yield opened.read().to_pandas()
        else:
            for batch in opened.iter_batches(n_rows):
                yield batch.to_pandas()


def _json_lines(file: Path, n_rows: int | None, encoding: str, text_column: str) -> "Iterator[pd.DataFrame]":
    import pandas as pd

    if n_rows is None:
        yield pd.read_json(file, lines=True, dtype=False, encoding=encoding)
    else:
        with pd.read_json(file, lines=True, dtype=False, chunksize=n_rows, encoding=encoding) as reader:
            yield from reader


def _separated(file: Path, n_rows: int | None, encoding: str, text_column: str) -> "Iterator[pd.DataFrame]":
    import pandas as pd

    separator = _SEPARATORS[file.suffix.lower()]
    options: dict[str, Any] = {"sep": separator, "encoding": encoding}
    if text_column in pd.read_csv(file, nrows=0, **options).columns:
        options |= {"dtype": str, "keep_default_na": False}
    with pd.read_csv(file, iterator=True, chunksize=n_rows, **options) as reader:
        for table in reader if n_rows is not None else [reader.read()]:
            if not isinstance(table.index, pd.RangeIndex):  # pandas takes surplus cells for names of rows
                raise ValueError(f"rows have more cells than the header; quote texts that hold {separator!r}")
            yield table


_PIECES = {".csv": _separated, ".tsv": _separated, ".parquet": _parquet, ".jsonl": _json_lines}


def _check_encoding(file: Path, encoding: str, hint: str) -> None:
    """Refuse bytes that the encoding does not have, saying where they are."""
    decoder = codecs.getincrementaldecoder(encoding)()
    position = 0
    with file.open("rb") as stream:
        while True:
            block = stream.read(_BLOCK)
            waiting = len(decoder.getstate()[0])
            try:
                decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                place = f"byte {position - waiting + error.start} is not {encoding} ({error.reason})"
                raise ValueError(f"{place}; {hint}" if hint else place) from error
            if not block:
                return
            position += len(block)

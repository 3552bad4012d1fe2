"""The user's own texts: a column of a table, or rows that are already counted."""

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from annotated_types import Ge

from deep_clustering.data.places import absolute
from deep_clustering.data.sources.array_files import class_labels, read_array
from deep_clustering.data.sources.compression import plain_suffix
from deep_clustering.data.sources.dialects import check_marks, find_dialect
from deep_clustering.data.sources.prepared import existing, read_sparse
from deep_clustering.data.sources.row_ids import ids_of
from deep_clustering.data.sources.row_weights import as_weights
from deep_clustering.data.sources.samples import Samples, Skipped, both
from deep_clustering.data.sources.table_columns import AUTO, find_ids
from deep_clustering.data.sources.tables import SUFFIXES, open_table
from deep_clustering.data.sources.terms import Analyzer, choose_analyzer
from deep_clustering.data.sources.tfidf import idf_of, tfidf
from deep_clustering.options import check_choice, closest

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

# Characters of a column's name in a message.
_NAME = 40
_NO_TEXT = "no text"
_ENCODING_HINT = "set 'encoding' to the encoding the file was saved in, for instance latin-1 or cp1252"


@dataclass(frozen=True, kw_only=True)
class TextTable:
    """A column of texts in a CSV, TSV, Parquet or JSON Lines file."""

    name: str
    """Name of the data set."""
    path: str
    """The file; its ending, .csv, .tsv, .parquet or .jsonl, perhaps with .gz or .zip behind it, says what it is."""
    column: str | int
    """Column of the texts: its name, or its number from 0."""
    labels_column: str | int | None
    """Column of the classes, names or whole numbers, or null; an empty cell is an unknown class."""
    encoding: str
    """Of the characters: utf-8, latin-1, cp1252 ...; Parquet needs none."""
    max_terms: Annotated[int, Ge(1)]
    """Largest number of terms; the most frequent are kept."""
    on_empty: Literal["skip", "error"]
    """skip: rows without text are left out, and the data card lists them; error: they are refused."""
    separator: str = "auto"
    """Between the cells of CSV and TSV: one character, or auto, which finds it."""
    quote: str = "auto"
    """Around cells of CSV and TSV that hold the separator: one character, or auto, which finds it."""
    header: bool | Literal["auto"] = "auto"
    """Whether the first line of CSV and TSV names the columns; without, they are numbered from 0; auto: found."""
    analyzer: Literal["auto"] | Analyzer = "auto"
    """What terms are: word; char, runs of one to three characters, for languages that write without spaces; or auto."""
    id_column: str | None = None
    """Column that names the rows in tables of results; auto: found, if one plainly does; null: they have their numbers
    in the file."""
    weights: str | None = None
    """Column that says how much each row counts in training, or null: all alike."""

    def __post_init__(self) -> None:
        check_choice("ending of path", plain_suffix(self.path), SUFFIXES)
        check_marks(self.separator, self.quote)
        check_encoding(self.encoding)

    def load(self) -> Samples:
        """Read the table and make its rows."""
        file = existing(self.path, f"a table ({', '.join(SUFFIXES)})")
        table, reading = self._read(file)
        id_column = self._id_column(table, file)
        texts = texts_of(self._column(table, self.column, file), f"ingestion: {file}")
        kept = [index for index, text in enumerate(texts) if text is not None]
        documents = [text for text in texts if text is not None]
        skipped = [index for index, text in enumerate(texts) if text is None]
        self._handle_empty(skipped, len(texts), file)
        if len(set(documents)) < 2:
            raise ValueError(
                f"ingestion: {file}: expected at least 2 different texts in column '{self.column}', got "
                f"{len(set(documents))} in {len(texts)} rows"
            )
        analyzer = choose_analyzer(documents) if self.analyzer == "auto" else self.analyzer
        rows, vocabulary = tfidf(documents, self.max_terms, analyzer=analyzer)
        n_blank = int(np.count_nonzero(np.diff(rows.indptr) == 0))
        if n_blank:
            logger.warning(
                "%s: %d texts have none of the %d terms; their rows are zero", file, n_blank, len(vocabulary)
            )
        labels, class_names = np.full(len(kept), -1, dtype=np.int64), None
        if self.labels_column is not None:
            labels, class_names = encode_classes(self._column(table, self.labels_column, file).iloc[kept], str(file))
        weights = None
        if self.weights is not None:
            column = self._column(table, self.weights, file)
            weights = as_weights(column, f"{file}: column '{self.weights}'")[kept]
        about = {
            "name": self.name,
            "source": file.name,
            "licence": "the user's own data",
            "class_names": class_names,
            "value_range": [0.0, float(np.sqrt(len(vocabulary)))],
            "protocol": "all rows" if not skipped else f"all rows but {len(skipped)} without text",
            "skipped_rows": skipped,
            "n_rows_without_terms": n_blank,
            "reading": {**reading, "analyzer": analyzer, "keeps_marks": True, "id_column": id_column},
        }
        names = [] if id_column is None else ids_of(table[id_column])
        ids = [names[index] for index in kept] if names else ()
        empty = [Skipped(index, names[index] if names else "", _NO_TEXT) for index in skipped]
        return Samples(rows, labels, both(len(kept)), vocabulary, about, idf_of(rows), documents, ids, empty, weights)

    def _id_column(self, table: "pd.DataFrame", file: Path) -> str | None:
        """Name of the column that names the rows, if one does."""
        named = [name for name in (self.column, self.labels_column, self.weights) if name is not None]
        if self.id_column == AUTO:
            return find_ids(table, [str(table.columns[self._place(table, name, file)]) for name in named])
        return None if self.id_column is None else str(table.columns[self._place(table, self.id_column, file)])

    def _read(self, file: Path) -> tuple["pd.DataFrame", dict[str, Any]]:
        """The whole table, and how it was read."""
        form: dict[str, Any] = {}
        if plain_suffix(file) in (".csv", ".tsv"):
            separator, quote, header = find_dialect(file, self.encoding, self.separator, self.quote)
            if self.header != "auto":
                header = self.header
            elif not str(self.column).isdecimal():
                header = True
            form = {"separator": separator, "quote": quote, "header": header}
        reading = {"encoding": self.encoding, "hint": _ENCODING_HINT, **form}
        (table,) = open_table(file, "ingestion", text_column=str(self.column), **reading)
        column = str(table.columns[self._place(table, self.column, file)])
        if column != str(self.column):  # a number: its cells must stay texts as those of a name do
            (table,) = open_table(file, "ingestion", text_column=column, **reading)
        return table, {"column": column, "encoding": self.encoding, **form}

    def _column(self, table: "pd.DataFrame", name: str | int, file: Path) -> "pd.Series":
        return table.iloc[:, self._place(table, name, file)]

    def _place(self, table: "pd.DataFrame", name: str | int, file: Path) -> int:
        """Number of the column of a name, or with a number for a name."""
        names = [str(column) for column in table.columns]
        if str(name) in names:
            return names.index(str(name))
        if str(name).isdecimal() and int(name) < len(names):
            return int(name)
        known = closest(str(name), [each if len(each) <= _NAME else f"{each[:_NAME]}..." for each in names])
        hint = "" if known.startswith("did you mean") else _without_header(table, file)
        raise ValueError(f"ingestion: {file}: no column '{name}' ({known}){hint}")

    def _handle_empty(self, skipped: list[int], n_rows: int, file: Path) -> None:
        if not skipped:
            return
        what = f"{len(skipped)} of {n_rows} rows without text in column '{self.column}', the first is row {skipped[0]}"
        if self.on_empty == "error":
            raise ValueError(f"ingestion: {file}: {what} (from 0); set on_empty: skip to leave them out")
        logger.warning("%s: left out %s", file, what)


def _without_header(table: "pd.DataFrame", file: Path) -> str:
    """What to do if the first line is data, whose cells are then no names: a column has its number for a name."""
    if plain_suffix(file) not in (".csv", ".tsv"):
        return ""
    lengths = [table.iloc[:, place].astype(str).str.len().mean() for place in range(table.shape[1])]
    longest = int(np.nanargmax(lengths)) if len(table) else 0
    return (
        f"; if the first line is data and no header: --no-header --column {longest}, which has the longest cells "
        f"(header: false, column: {longest} in parameters.yml)"
    )


def check_encoding(encoding: str) -> None:
    """Refuse what is no text encoding.

    Args:
        encoding: Name of an encoding.

    Raises:
        ValueError: if Python does not have it.
    """
    try:
        "x".encode(encoding)
    except (LookupError, UnicodeError) as error:
        raise ValueError(f"encoding got '{encoding}', which is no text encoding of Python") from error


def texts_of(column: "pd.Series", where: str, first: int = 0) -> list[str | None]:
    """The texts of a column.

    Args:
        column: Texts; a null or blank cell holds none.
        where: Who asks and of which file, for the message.
        first: Number of the first row, for the message.

    Returns:
        The texts; None where there is none.

    Raises:
        ValueError: if a cell holds something else.
    """
    texts: list[str | None] = []
    for index, (value, is_missing) in enumerate(zip(column, column.isna(), strict=True), first):
        if not (is_missing or isinstance(value, str)):
            raise ValueError(f"{where}: column '{column.name}' must hold texts, got {value!r:.80} in row {index}")
        texts.append(value if not is_missing and value.strip() else None)
    return texts


def encode_classes(column: "pd.Series", where: str) -> tuple[np.ndarray, list[str]]:
    """Classes as numbers.

    Args:
        column: Names or whole numbers; a null or blank cell, or -1, is an unknown class.
        where: The table, for the messages.

    Returns:
        labels: 0 to n_classes - 1 in the order of the numbers or else of the names, -1 where unknown, int64.
        class_names: the name of each class.

    Raises:
        ValueError: for values of another kind, or if no class is known.
    """
    names = ["" if is_null else _class_name(value) for value, is_null in zip(column, column.isna(), strict=True)]
    if None in names:
        wrong = column.iloc[names.index(None)]
        raise ValueError(
            f"ingestion: {where}: column '{column.name}' must hold names or whole numbers, got {str(wrong)[:80]!r}"
        )
    if not any(names):
        raise ValueError(f"ingestion: {where}: column '{column.name}' holds no class; set labels_column: null")
    if all(_WHOLE_NUMBER.fullmatch(name or "-1") for name in names):
        return class_labels(np.array([int(name or "-1") for name in names], dtype=np.int64), len(names))
    return class_labels(np.array(names, dtype=np.str_), len(names))


# Also the -1 of arrays, an unknown class.
_WHOLE_NUMBER = re.compile("-1|[0-9]{1,18}")


def _class_name(value: Any) -> str | None:  # noqa: ANN401 - a cell of a table
    """The name of a class, or None for a value that cannot be one."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool | np.bool_ | int | np.integer):
        return str(value)
    # A column of whole numbers with gaps comes as floats.
    is_whole = isinstance(value, float | np.floating) and float(value).is_integer()
    return str(int(value)) if is_whole else None


@dataclass(frozen=True, kw_only=True)
class SparseArrays:
    """Sparse rows of the user, for instance tf-idf made elsewhere."""

    name: str
    """Name of the data set."""
    samples: str
    """A file of `scipy.sparse.save_npz`, shape (n, n_features)."""
    labels: str | None
    """Classes, integers (n,) in a `.npy` file, or null."""
    vocabulary: str | None
    """The term of each column, one a line in a UTF-8 file, or null."""

    def load(self) -> Samples:
        """Read the files; values stay as they are."""
        file = existing(self.samples, "sparse rows (.npz of scipy.sparse.save_npz)")
        rows, _ = read_sparse(file)
        n_samples, n_features = rows.shape
        labels, class_names = np.full(n_samples, -1, dtype=np.int64), None
        if self.labels is not None:
            labels, class_names = class_labels(read_array(absolute(self.labels), "labels"), n_samples)
        about = {
            "name": self.name,
            "source": file.name,
            "licence": "the user's own data",
            "class_names": class_names,
            "value_range": [float(rows.min()), float(rows.max())] if 0 not in rows.shape else [0.0, 0.0],
            "protocol": "all rows",
        }
        return Samples(rows, labels, both(n_samples), self._terms(n_features), about)

    def _terms(self, n_features: int) -> list[str]:
        if self.vocabulary is None:
            return []
        file = existing(self.vocabulary, "terms, one a line")
        try:
            terms = file.read_text(encoding="utf-8").removesuffix("\n").split("\n")
        except UnicodeDecodeError as error:
            raise ValueError(f"ingestion: {file}: expected UTF-8 text, got other bytes ({error})") from error
        if len(terms) != n_features:
            raise ValueError(
                f"ingestion: {file}: expected one term for each of the {n_features} columns, got {len(terms)}"
            )
        return terms

"""Raw rows of somebody else, in any of the usual forms, to the samples that a preparation takes."""

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import sparse

from deep_clustering.data.preparation import Preparation, RowArray
from deep_clustering.data.sources.number_tables import numbers_of
from deep_clustering.data.sources.prepared import check_sparse
from deep_clustering.data.sources.tfidf import as_csr, weigh_texts
from deep_clustering.data.sources.wrong_cells import WrongCells, fits_float32

TEXT_COLUMN = "text"


def as_samples(preparation: Preparation, rows: Any) -> RowArray | list[str]:  # noqa: ANN401
    """Check rows and bring them to the shape and type of the training samples.

    Args:
        preparation: How the training samples were prepared.
        rows: Images, shape (n, channels, height, width), with the channels last or, if grey, without them; vectors,
            dense or sparse; an array with a column for each number, or a table, whose columns of the training's names
            are taken wherever they stand, or of which none is called so; for texts also a table or mapping with
            the column of the training texts or `text`, or an array of strings. At least one row.

    Returns:
        Images, uint8 or float32 as they were in training, or vectors, float32, dense or CSR; the texts, if features
        are made of them.

    Raises:
        ValueError: saying what was got and what is expected.
    """
    texts = _texts_of(preparation, rows)
    if texts is not None:
        _check_texts(preparation, texts)
        if preparation.reads_texts:
            return list(texts)
        reading = preparation.reading  # of earlier versions with less in it
        analyzer, keeps_marks = reading.get("analyzer", "word"), reading.get("keeps_marks", False)
        return weigh_texts(texts, preparation.terms, preparation.arrays["idf"], analyzer, keeps_marks=keeps_marks)
    if isinstance(rows, Mapping):
        raise ValueError(f"rows: got named arrays {', '.join(map(str, rows))}; expected {expected_rows(preparation)}")
    if preparation.reads_texts:
        raise ValueError(f"rows: got no texts; expected {expected_rows(preparation)}")
    if sparse.issparse(rows):
        _refuse_complex(rows.dtype)
        return _as_vectors(preparation, rows)
    values = _named_numbers(preparation, rows)
    if values is None:
        values = _numbers(preparation, rows)
    if not is_image(preparation):
        return _as_vectors(preparation, values)
    check_shape(preparation, values.shape)
    if preparation.dtype == "uint8":
        _check_pixels(preparation, values)
    return np.ascontiguousarray(_channels_first(preparation, values), dtype=preparation.dtype)


def count_rows(rows: Any) -> int:  # noqa: ANN401
    """Number of rows in any form that `as_samples` takes; 0 for anything else."""
    if isinstance(rows, Mapping):
        return max((count_rows(column) for column in rows.values()), default=0)
    return int(rows.shape[0]) if getattr(rows, "shape", ()) else len(rows) if isinstance(rows, list) else 0


def example_rows(preparation: Preparation) -> Any:  # noqa: ANN401
    """One row of the kind expected, made up, so that no training sample leaves with a model."""
    import pandas as pd

    if preparation.takes_texts:
        return pd.DataFrame({text_columns(preparation)[0]: [" ".join(preparation.terms[:3])]})
    shape = (1, *preparation.row_shape)
    if preparation.dtype == "uint8":
        return np.full(shape, max(0, math.ceil(preparation.value_range[0])), dtype=np.uint8)
    return np.zeros(shape, dtype=np.float32)


def expected_rows(preparation: Preparation) -> str:
    """What rows are expected, in words."""
    width = math.prod(preparation.row_shape)
    if is_image(preparation):
        shape = ", ".join(map(str, preparation.row_shape))
        low, high = preparation.value_range
        numbers = f"whole numbers from {low:g} to {high:g}" if preparation.dtype == "uint8" else "numbers"
        return f"images of shape (n, {shape}) or {width} columns, {numbers}"
    column = text_columns(preparation)[0]
    if preparation.reads_texts:
        return f"texts in a column '{column}'"
    if preparation.takes_texts:
        return f"texts in a column '{column}', or tf-idf rows of {width} columns"
    return f"rows of {width} numbers"


def is_image(preparation: Preparation) -> bool:
    """Whether a sample is an image, of bytes or of other numbers."""
    return len(preparation.row_shape) == 3


def text_columns(preparation: Preparation) -> list[str]:
    """Columns that texts may stand in: the one of the training texts, and else `TEXT_COLUMN`."""
    return list(dict.fromkeys([str(preparation.reading.get("column", TEXT_COLUMN)), TEXT_COLUMN]))


def number_columns(preparation: Preparation) -> list[str]:
    """Columns of a table that the training took numbers from, or the one of lists; none if it read no table."""
    reading = preparation.reading
    return [reading["key"]] if reading.get("key") is not None else list(reading.get("columns") or [])


def are_taken_in_order(preparation: Preparation, names: Collection[Any]) -> bool:
    """Whether a table has none of the training's names, but a column for each number.

    Args:
        preparation: How the training samples were prepared.
        names: Of the columns of the table.
    """
    is_wide = math.prod(preparation.row_shape) == len(names)
    return is_wide and set(number_columns(preparation)).isdisjoint(map(str, names))


def check_shape(preparation: Preparation, shape: Sequence[int]) -> None:
    """Refuse rows whose shape does not fit, for instance from the header of a file.

    Args:
        preparation: How the training samples were prepared.
        shape: Shape of all rows, (n, ...).

    Raises:
        ValueError: saying what was got and what is expected.
    """
    if preparation.reads_texts or len(shape) < 2 or not _fits(preparation, tuple(shape[1:])):
        raise ValueError(f"rows: got shape {tuple(shape)}; expected {expected_rows(preparation)}")
    if shape[0] == 0:
        raise ValueError(f"rows: got none; expected at least one, {expected_rows(preparation)}")


def _fits(preparation: Preparation, row: tuple[int, ...]) -> bool:
    """Whether a row may have this shape."""
    shape = preparation.row_shape
    shapes = {shape, (math.prod(shape),)}
    if len(shape) == 3:
        shapes |= {(*shape[1:], shape[0])} | ({shape[1:]} if shape[0] == 1 else set())
    # Axes of any number became columns in training, and do again.
    return row in shapes or (preparation.reading.get("layout") == "vectors" and (math.prod(row),) == shape)


def _channels_first(preparation: Preparation, values: np.ndarray) -> np.ndarray:
    shape = preparation.row_shape
    last = (*shape[1:], shape[0])
    # A shape such as (n, 3, 3, 3) may be either: the training's layout tells.
    if values.shape[1:] == last and (last != shape or preparation.reading.get("layout") == "nhwc"):
        values = values.transpose(0, 3, 1, 2)
    return values.reshape(-1, *shape)


def _check_pixels(preparation: Preparation, values: np.ndarray) -> None:
    low, high = preparation.value_range
    if values.min() < max(low, 0) or values.max() > min(high, 255) or not np.array_equal(values, np.rint(values)):
        got = f"from {values.min():g} to {values.max():g}"
        kind = "" if np.array_equal(values, np.rint(values)) else "fractions "
        raise ValueError(f"rows: got {kind}{got}; expected {expected_rows(preparation)}")


def _as_vectors(preparation: Preparation, values: Any) -> RowArray:  # noqa: ANN401
    if is_image(preparation):
        return as_samples(preparation, values.toarray())
    check_shape(preparation, values.shape)
    if not sparse.issparse(values):
        vectors = np.ascontiguousarray(values.reshape(len(values), -1), dtype=np.float32)
        return as_csr(vectors) if preparation.is_sparse else vectors
    csr = as_csr(check_sparse(values))
    wrong = np.flatnonzero(~np.isfinite(csr.data))
    if len(wrong):
        row = int(np.searchsorted(csr.indptr, wrong[0], side="right")) - 1
        raise ValueError(_not_finite(row, csr.shape[0], f"column {csr.indices[wrong[0]]}"))
    return csr if preparation.is_sparse else csr.toarray()


def _named_numbers(preparation: Preparation, rows: Any) -> np.ndarray | None:  # noqa: ANN401
    """The numbers in the columns of a table that the training took; None if rows are no table of such names."""
    import pandas as pd

    columns = number_columns(preparation)
    if not (isinstance(rows, pd.DataFrame) and columns) or are_taken_in_order(preparation, list(rows.columns)):
        return None
    names = Counter(map(str, rows.columns))
    if repeated := [name for name in columns if names[name] > 1]:
        raise ValueError(f"rows: got {names[repeated[0]]} columns '{repeated[0]}'; expected one")
    return numbers_of(rows, columns, "rows")


def _numbers(preparation: Preparation, rows: Any) -> np.ndarray:  # noqa: ANN401
    """Rows as an array of finite numbers."""
    import pandas as pd

    try:
        values = np.asarray(rows)
        if values.dtype.kind not in "buifc":
            values = values.astype(np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"rows: not numbers ({error}); expected {expected_rows(preparation)}") from error
    _refuse_complex(values.dtype)
    if values.dtype.kind == "f":
        names = list(map(str, rows.columns)) if isinstance(rows, pd.DataFrame) else []
        _check_finite(values, names)
    return values


def _refuse_complex(dtype: np.dtype) -> None:
    """Refuse what a cast to float32 would make real, with a warning at most."""
    if dtype.kind == "c":
        raise ValueError("rows: got complex numbers; expected real ones")


def _check_finite(values: np.ndarray, names: Sequence[str]) -> None:
    fits = fits_float32(values)
    if fits.all():
        return
    rows = values.reshape(len(values) if values.ndim else 1, -1)
    wrong = WrongCells(rows.shape[1])
    wrong.add(~fits.reshape(rows.shape))
    assert wrong.first is not None
    row, column = wrong.first
    spread = f"; {wrong.n_wrong_rows} of them so, {wrong.spread(names)}" if values.ndim == 2 else ""
    named = f"column '{names[column]}'" if names else f"column {column}"
    value = float(rows[row, column])
    got = f"{value:g}, which float32 cannot hold" if np.isfinite(value) else "NaN or infinity"
    raise ValueError(_not_finite(row, len(rows), named, spread, got))


def _not_finite(row: int, n_rows: int, column: str, spread: str = "", got: str = "NaN or infinity") -> str:
    return (
        f"rows: got {got}, first in row {row} of these {n_rows} (from 0), {column}{spread}; expected finite "
        "numbers: fill such cells or drop such rows"
    )


def _texts_of(preparation: Preparation, rows: Any) -> Sequence[Any] | None:  # noqa: ANN401
    """The texts, if rows are texts."""
    import pandas as pd

    if isinstance(rows, pd.DataFrame | Mapping):
        found = next((column for column in text_columns(preparation) if column in rows), None)
        if found is not None and (found == TEXT_COLUMN or preparation.takes_texts):
            return np.atleast_1d(np.asarray(rows[found], dtype=object)).tolist()
    if isinstance(rows, np.ndarray | list):
        values = np.asarray(rows, dtype=object) if isinstance(rows, list) else rows
        if values.ndim == 1 and len(values) and any(isinstance(value, str) for value in values.tolist()):
            return values.tolist()
    return None


def _check_texts(preparation: Preparation, texts: Sequence[Any]) -> None:
    if not preparation.takes_texts:
        raise ValueError(f"rows: got texts; expected {expected_rows(preparation)}")
    if not texts:
        raise ValueError(f"rows: got none; expected at least one, {expected_rows(preparation)}")
    for index, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            column = text_columns(preparation)[0]
            raise ValueError(f"rows: got {text!r:.80} in row {index} of column '{column}'; expected a text")

"""Arrays of any number type and layout, from `.npy`, `.npz` and tables, to the samples and labels of the project."""

import logging
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from deep_clustering.checks import check_labels
from deep_clustering.data.places import absolute
from deep_clustering.data.sources.array_headers import Check, Header, check_header
from deep_clustering.data.sources.compression import plain_suffix
from deep_clustering.data.sources.number_tables import besides_of, read_number_table, read_whole
from deep_clustering.data.sources.tables import SUFFIXES as TABLES
from deep_clustering.data.sources.wrong_cells import refuse_cells
from deep_clustering.options import closest, nearest_file

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

SUFFIXES = (".npy", ".npz")

# From this size on a .npy file is mapped instead of read.
MAPPED_BYTES = 2**28

# Order of the axes behind the rows that makes channels first; nhw images get one channel.
_AXES = {"nchw": (0, 1, 2, 3), "nhwc": (0, 3, 1, 2)}
Layout = Literal["auto", "nchw", "nhwc", "nhw", "vectors"]
LAYOUTS = get_args(Layout)

# float32 may move a value by this share of the spread of its column, about a fifth of one of 256 grey levels.
_LARGEST_SHIFT = 2.0**-10
# Beyond this float64, which measures the shift, is not exact itself.
_EXACT_INTEGERS = 2**53

# Members of an archive that make it a sparse matrix: of rows, and of any other format of scipy.
_SPARSE = ({"indices.npy", "indptr.npy", "shape.npy"}, {"format.npy", "data.npy", "shape.npy"})

_CHUNK = 4096
# RuntimeError: an encrypted archive.
_DAMAGED = (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error, KeyError, RuntimeError)


def read_array(
    file: Path, what: str, key: str | None = None, besides: str | None = None, check: Check | None = None
) -> np.ndarray:
    """One array of a file.

    Args:
        file: A `.npy` file, an archive `.npz`, or a table.
        what: What the array is, for the messages.
        key: Name of the array in an archive, or of the column of lists in a table; None takes the only one, or all
            columns of numbers.
        besides: Name of an array of the archive, or of a column, that is not meant.
        check: What is expected of an array by its header, before it is unpacked; what it raises is passed on.

    Returns:
        The array; of a large `.npy` file a read-only memory map.

    Raises:
        FileNotFoundError: if there is no such file.
        MemoryError: if there is no room for it, naming the file.
        ValueError: if it is damaged, of another kind, holds Python objects, or the name is not in it.
    """
    if plain_suffix(file) in TABLES and file.is_file():
        return read_number_table(file, key, besides_of(besides, None)).rows
    is_archive = file.suffix.lower() == ".npz"
    kind = "a .npz archive of arrays" if is_archive else "a .npy array"
    if not file.is_file():
        kind = "a table" if plain_suffix(file) in TABLES else kind
        raise FileNotFoundError(f"ingestion: no file of {what} at {file}; expected {kind}{nearest_file(file)}")
    try:
        if is_archive:
            if not zipfile.is_zipfile(file):
                raise ValueError("not an archive")
            with np.load(file, allow_pickle=False) as archive:
                key = _choose(archive, file, what, key, besides)
                check_header(file, key, _passing_on(check))
                return _load(archive, key)
        return _map_or_read(file, _passing_on(check))
    except _WrongKeyError as error:
        raise ValueError(str(error)) from error
    except MemoryError as error:
        raise MemoryError(f"ingestion: {file}: no memory for the array of {what} ({error})") from error
    except _DAMAGED as error:
        if file.suffix.lower() not in SUFFIXES:
            raise ValueError(
                f"ingestion: {file}: expected an array ({', '.join(SUFFIXES)}) or a table ({', '.join(TABLES)}), got a "
                "file of another kind; save it as one of these"
            ) from error
        raise ValueError(
            f"ingestion: {file}: expected {kind} of numbers, got a file cut short or of another kind ({_reason(error)})"
        ) from error


def _reason(error: Exception) -> str:
    text = str(error)
    if "Object arrays" in text or "Python objects" in text:
        return "an array of Python objects, which needs pickle; save text as array.astype(str), numbers as floats"
    return "no header of an array" if "pickled" in text or "magic string" in text else text or type(error).__name__


class _WrongKeyError(Exception):
    """The archive has no such array, or another one than what is expected."""


def _passing_on(check: Check | None) -> Check | None:
    """The same check, whose message is not taken for one of a damaged file."""
    if check is None:
        return None

    def checked(header: Header) -> None:
        try:
            check(header)
        except ValueError as error:
            raise _WrongKeyError(str(error)) from error

    return checked


def _map_or_read(file: Path, check: Check | None) -> np.ndarray:
    if zipfile.is_zipfile(file):
        raise ValueError("an archive; name it .npz")
    check_header(file, None, check)
    return np.load(file, mmap_mode="r" if file.stat().st_size >= MAPPED_BYTES else None, allow_pickle=False)


def _load(archive: np.lib.npyio.NpzFile, key: str) -> np.ndarray:
    array = archive[key]
    if not isinstance(array, np.ndarray):
        raise ValueError(f"'{key}' is not an array")
    return array


def array_names(file: Path) -> list[str]:
    """Names of the arrays of an archive; none of a file that is no archive."""
    return sorted(name.removesuffix(".npy") for name in _members(file))


def is_sparse_file(file: Path) -> bool:
    """Whether a file is a sparse matrix of scipy, which is an archive of arrays too."""
    return _is_sparse(_members(file))


def _members(file: Path) -> set[str]:
    """Names of the files in an archive; none of what is no archive, or none that can be read: its reader says so."""
    if not zipfile.is_zipfile(file):
        return set()
    try:
        with zipfile.ZipFile(file) as archive:
            return set(archive.namelist())
    except _DAMAGED:
        return set()


def _is_sparse(members: set[str]) -> bool:
    return any(members >= needed for needed in _SPARSE)


def _choose(archive: np.lib.npyio.NpzFile, file: Path, what: str, key: str | None, besides: str | None) -> str:
    names = sorted(archive.files)
    if _is_sparse({f"{name}.npy" for name in names}):
        raise _WrongKeyError(
            f"ingestion: {file}: expected arrays, got a sparse matrix of scipy; use kind: sparse_arrays"
        )
    if key is not None:
        if key not in names:
            raise _WrongKeyError(f"ingestion: {file}: no array '{key}' of {what} in it; it has: {', '.join(names)}")
        return key
    meant = [name for name in names if name != besides]
    if len(meant) != 1:
        raise _WrongKeyError(
            f"ingestion: {file}: expected one array of {what}, got {', '.join(meant) or 'none'}; name it with 'key'"
        )
    return meant[0]


def read_labels(samples_file: Path, labels: str, what: str = "labels") -> np.ndarray:
    """Labels, or what else there is of each sample, from a file, or from the archive or table of the samples.

    Args:
        samples_file: File of the samples.
        labels: Name of an array of that file if it is a `.npz` with such an array, of a column of it if it is a table
            with such a column, else a file.
        what: What they are, for the messages.

    Returns:
        The labels as they are stored.

    Raises:
        FileNotFoundError: if there is neither such an array nor such a file.
        ValueError: if the file is damaged, of another kind, or holds Python objects.
    """
    if samples_file.suffix.lower() == ".npz":
        with np.load(samples_file, allow_pickle=False) as archive:
            names = sorted(archive.files)
        if labels in names:
            return read_array(samples_file, what, labels)
        if not Path(labels).suffix:
            raise ValueError(f"ingestion: {samples_file}: no array '{labels}' in it; it has: {', '.join(names)}")
    elif plain_suffix(samples_file) in TABLES:
        table = read_whole(samples_file, [labels])
        if labels in table.columns:
            return _cells(table[labels])
        if not Path(labels).suffix:
            raise ValueError(f"ingestion: {samples_file}: no column '{labels}' ({closest(labels, table.columns)})")
    return read_array(absolute(labels), what)


def _cells(column: "pd.Series") -> np.ndarray:
    """A column as labels: numbers with NaN, or texts, empty where nothing is known."""
    if column.dtype.kind in "biuf":
        return column.to_numpy()
    return np.array(
        ["" if gone else str(cell) for cell, gone in zip(column, column.isna(), strict=True)], dtype=np.str_
    )


def class_labels(labels: np.ndarray, n_samples: int) -> tuple[np.ndarray, list[str]]:
    """Classes numbered without gaps.

    Args:
        labels: Class of each row, shape (n_samples,) or (n_samples, 1): whole numbers (-1, NaN: unknown), booleans, or
            text (empty: unknown).
        n_samples: Number of rows.

    Returns:
        labels: class of each row in 0..C-1 in the order of the names' sorting, or -1; shape (n_samples,), int64.
        class_names: what each class was called, C of them.

    Raises:
        ValueError: if the labels are of another type or number.
    """
    if labels.shape == (n_samples, 1):
        labels = labels[:, 0]
    if labels.dtype.kind == "f":
        labels = _whole(labels)
    if labels.dtype.kind == "S":
        labels = np.char.decode(labels, "utf-8", "replace")
    if labels.dtype.kind in "Ub":
        if labels.shape != (n_samples,):
            raise ValueError(f"ingestion: expected one label for each of the {n_samples} rows, got {labels.shape}")
        known = labels != "" if labels.dtype.kind == "U" else np.ones(n_samples, dtype=bool)
    else:
        check_labels(labels, n_samples, "ingestion")
        known = labels >= 0
    names, places = np.unique(labels[known], return_inverse=True)
    numbered = np.full(n_samples, -1, dtype=np.int64)
    numbered[known] = places
    return numbered, [str(name) for name in names]


def _whole(labels: np.ndarray) -> np.ndarray:
    """Whole numbers that came as floats, NaN as -1."""
    known = ~np.isnan(labels)
    numbers = np.where(known, labels, -1)
    fractions = np.flatnonzero(~(np.abs(numbers) <= _EXACT_INTEGERS) | (numbers != np.rint(numbers)))
    if len(fractions):
        place = np.unravel_index(fractions[0], labels.shape)
        raise ValueError(f"ingestion: labels must be whole numbers, got {labels[place]} first in row {place[0]}")
    return numbers.astype(np.int64)


def arrange(array: np.ndarray, layout: str) -> tuple[np.ndarray, str]:
    """Images with channels first, or vectors.

    Args:
        array: The samples as they are stored.
        layout: One of `LAYOUTS`.

    Returns:
        samples: shape (n, channels, height, width) or (n, n_features), a view; uint8 vectors become float32.
        layout: the one that was taken.

    Raises:
        ValueError: if the shape has no such layout, or more than one.
    """
    layout = check_layout(Header(array.shape, array.dtype), layout)
    if layout == "vectors":
        flat = array.reshape(len(array), int(np.prod(array.shape[1:])))
        return flat.astype(np.float32) if flat.dtype == np.uint8 else flat, layout
    return array[:, None] if layout == "nhw" else array.transpose(_AXES[layout]), layout


def check_layout(header: Header, layout: str) -> str:
    """The layout of samples, found from their header alone.

    Args:
        header: Shape and type of the samples as they are stored.
        layout: One of `LAYOUTS`.

    Returns:
        The layout; one that was auto is found.

    Raises:
        ValueError: if they are no numbers, or the shape has no such layout, or more than one.
    """
    shape = header.shape
    if header.dtype.kind not in "buif":
        raise ValueError(f"ingestion: samples must be numbers, got {header.dtype} {shape}")
    if layout == "auto":
        layout = _guess_layout(shape)
    n_axes = {"vectors": 2, "nhw": 3}.get(layout, 4)
    if len(shape) != n_axes and not (layout == "vectors" and len(shape) > 2):
        raise ValueError(f"ingestion: layout {layout} needs samples with {n_axes} axes, got shape {shape}")
    n_channels = shape[_AXES[layout][1]] if layout in _AXES else 1
    if n_channels not in (1, 3):
        raise ValueError(
            f"ingestion: layout {layout} of shape {shape} gives {n_channels} channels; expected 1 or 3 "
            "(take three of them, or use layout: vectors)"
        )
    return layout


def _guess_layout(shape: tuple[int, ...]) -> str:
    if len(shape) in (2, 3):
        return "vectors" if len(shape) == 2 else "nhw"
    if len(shape) != 4:
        raise ValueError(
            "ingestion: samples must have shape (n, n_features), (n, height, width), (n, channels, height, width) or "
            f"(n, height, width, channels), got {shape}"
            f"{'; save array[:, None] if each number is a row' if len(shape) == 1 else ''}"
        )
    first, last = shape[1] in (1, 3), shape[3] in (1, 3)
    if first == last:
        which = "both the second and the last axis" if first else "neither the second nor the last axis"
        raise ValueError(
            f"ingestion: samples of shape {shape}: {which} could be 1 or 3 channels; set layout to nchw or nhwc"
        )
    return "nchw" if first else "nhwc"


def to_float32(array: np.ndarray) -> np.ndarray:
    """Numbers of any type in single precision.

    Args:
        array: Booleans, integers or floats, shape (n, ...).

    Returns:
        The same values, float32.

    Raises:
        ValueError: if a value is not finite, is too large, or if float32 would move the values of a column by more
            than a thousandth of their spread, as it does to times in seconds since 1970.
    """
    if not array.size:
        return array.astype(np.float32)
    if array.dtype.kind in "iu" and not -_EXACT_INTEGERS <= int(array.min()) <= int(array.max()) <= _EXACT_INTEGERS:
        raise ValueError(f"ingestion: samples must be numbers within +-2^53, got {array.min()} to {array.max()}")
    converted = np.empty(array.shape, dtype=np.float32)
    width = array.size // len(array)
    low, high, shift = np.full(width, np.inf), np.full(width, -np.inf), np.zeros(width)
    for start, rows in _chunks(array):
        exact = rows.reshape(len(rows), width).astype(np.float64)
        with np.errstate(over="ignore"):
            single = exact.astype(np.float32)
        if not np.isfinite(single).all():
            refuse_cells(array, "ingestion")
        low, high = np.minimum(low, exact.min(axis=0)), np.maximum(high, exact.max(axis=0))
        shift = np.maximum(shift, np.abs(single - exact).max(axis=0))
        converted[start : start + len(rows)] = single.reshape(rows.shape)
    # A column of one value has no differences to lose.
    lost = np.flatnonzero((high > low) & (shift > _LARGEST_SHIFT * (high - low)))
    if len(lost):
        column = int(lost[0])
        lowest, highest = float(low[column]), float(high[column])
        raise ValueError(
            f"ingestion: {len(lost)} of {width} columns lose their differences in float32, first column {column} with "
            f"values {lowest!r} to {highest!r}; subtract the mean of a column, or scale it, before saving"
        )
    return converted


def check_finite(array: np.ndarray) -> None:
    """Refuse rows that hold NaN or infinity.

    Args:
        array: Floats, shape (n, ...); a memory map is read in pieces.

    Raises:
        ValueError: saying how many rows are so, in which columns, where the first is, and what to do.
    """
    if not all(np.isfinite(rows).all() for _, rows in _chunks(array)):
        refuse_cells(array, "ingestion")


def _chunks(array: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    for start in range(0, len(array), _CHUNK):
        yield start, array[start : start + _CHUNK]

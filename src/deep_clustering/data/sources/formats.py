"""Readers of the files that image data sets are published in.

Each gives arrays of the announced shape or one ValueError that names the file. Files that are not compressed are
mapped, so that only what is kept is ever in memory.
"""

import gzip
import zipfile
import zlib
from math import prod
from pathlib import Path

import numpy as np

# What damaged compressed files make the readers of gzip, bz2 and zip raise.
_DAMAGED = (OSError, EOFError, ValueError, KeyError, zlib.error, zipfile.BadZipFile)


def read_idx(file: Path, row_shape: tuple[int, ...]) -> np.ndarray:
    """Read an idx file of bytes, plain or as `.gz`.

    Args:
        file: Big-endian header (magic number 0x0800 + number of axes, length of each axis), then the values.
        row_shape: Shape of one row; () for labels.

    Returns:
        Shape (n, *row_shape), uint8.

    Raises:
        ValueError: if the file is damaged, cut short, or holds something else.
    """
    content = _unzip(file) if file.suffix == ".gz" else _bytes_of(file)
    n_header = 4 * (len(row_shape) + 2)
    if len(content) < n_header:
        raise ValueError(f"ingestion: {file}: expected an idx header of {n_header} bytes, got {len(content)} bytes")
    magic, *shape = (int(number) for number in content[:n_header].view(">u4"))
    expected = 0x0800 + len(row_shape) + 1
    if magic != expected:
        raise ValueError(f"ingestion: {file}: expected an idx file with magic number {expected:#06x}, got {magic:#06x}")
    if tuple(shape[1:]) != row_shape or not shape[0]:
        raise ValueError(f"ingestion: {file}: expected shape (n, {', '.join(map(str, row_shape))}), got {tuple(shape)}")
    n_values = prod(shape)
    if len(content) - n_header != n_values:
        raise ValueError(
            f"ingestion: {file}: expected {n_values} values behind the header for shape {tuple(shape)}, "
            f"got {len(content) - n_header}; the file is cut short or damaged"
        )
    return content[n_header:].reshape(shape)


def read_records(file: Path, n_bytes: int) -> np.ndarray:
    """Read a file of records of one size without header.

    Args:
        file: The records, one behind the other.
        n_bytes: Bytes of one record.

    Returns:
        Shape (n, n_bytes), uint8.

    Raises:
        ValueError: if the file is empty or ends within a record.
    """
    content = _bytes_of(file)
    if not len(content) or len(content) % n_bytes:
        raise ValueError(
            f"ingestion: {file}: expected a multiple of {n_bytes} bytes, got {len(content)} bytes; "
            "the file is cut short or of another kind"
        )
    return content.reshape(-1, n_bytes)


def read_libsvm(file: Path, n_features: int) -> tuple[np.ndarray, np.ndarray]:
    """Read a text of lines `label index:value ...` with indices from 1, as `.bz2`.

    Args:
        file: The compressed text.
        n_features: Largest index there may be; values that are not written are 0.

    Returns:
        rows: shape (n, n_features), float32.
        labels: as they are written, shape (n,), float64.

    Raises:
        ValueError: if the file is damaged, cut short, or holds something else.
    """
    from sklearn.datasets import load_svmlight_file

    try:
        rows, labels = load_svmlight_file(str(file), n_features=n_features, dtype=np.float32, zero_based=False)
    except _DAMAGED as error:
        raise ValueError(
            f"ingestion: {file}: expected bz2 text of lines 'label index:value ...' with indices 1 to {n_features}, "
            f"got a file cut short or of another kind ({error})"
        ) from error
    if not len(labels):
        raise ValueError(f"ingestion: {file}: expected lines 'label index:value ...', got an empty text")
    return rows.toarray(), labels


def read_npz(file: Path, keys: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Read arrays of an `.npz` file; an object array is refused, since it would need pickle.

    Args:
        file: The archive.
        keys: Names of the arrays that must be there; others are not read.

    Returns:
        Name to array.

    Raises:
        ValueError: if the file is damaged, or an array is missing or not of plain numbers.
    """
    try:
        with np.load(file, allow_pickle=False) as archive:
            missing = [key for key in keys if key not in archive]
            if not missing:
                return {key: archive[key] for key in keys}
    except (*_DAMAGED, TypeError, AttributeError) as error:
        raise ValueError(
            f"ingestion: {file}: expected an .npz file of plain arrays, got one cut short or of another kind ({error})"
        ) from error
    raise ValueError(f"ingestion: {file}: expected the arrays {', '.join(keys)}; missing: {', '.join(missing)}")


def check_classes(labels: np.ndarray, n_classes: int, file: Path, first: int = 0) -> np.ndarray:
    """Bring labels to int64 from 0.

    Args:
        labels: Class of each row as the file has it, shape (n,).
        n_classes: Number of classes.
        file: Where they come from, for the message.
        first: Number of the first class in the file.

    Returns:
        Shape (n,), int64, from 0.

    Raises:
        ValueError: if a label is not one of the classes.
    """
    if labels.ndim != 1 or labels.dtype.kind not in "iuf":
        raise ValueError(f"ingestion: {file}: expected labels of shape (n,), got {labels.dtype} {labels.shape}")
    wrong = np.flatnonzero(~((labels >= first) & (labels < first + n_classes) & (labels % 1 == 0)))
    if len(wrong):
        raise ValueError(
            f"ingestion: {file}: expected labels {first} to {first + n_classes - 1}, "
            f"got {labels[wrong[0]]} in row {wrong[0]}"
        )
    return labels.astype(np.int64) - first


def check_pairs(images: np.ndarray, labels: np.ndarray, file: Path) -> None:
    """Refuse labels that are not one for each image.

    Args:
        images: Shape (n, ...).
        labels: Shape (n,).
        file: Where the labels come from, for the message.

    Raises:
        ValueError: if the lengths differ.
    """
    if len(images) != len(labels):
        raise ValueError(
            f"ingestion: {file}: expected one label for each of the {len(images)} images, got {len(labels)}"
        )


def _bytes_of(file: Path) -> np.ndarray:
    """All bytes of a file, mapped; an empty file cannot be mapped."""
    return np.memmap(file, dtype=np.uint8, mode="r") if file.stat().st_size else np.empty(0, dtype=np.uint8)


def _unzip(file: Path) -> np.ndarray:
    try:
        return np.frombuffer(gzip.decompress(file.read_bytes()), dtype=np.uint8)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(
            f"ingestion: {file}: expected a gzip file, got one cut short or of another kind ({error})"
        ) from error

"""The data card: what a data set is, with the sha256 of its arrays."""

import hashlib
from typing import Any

import numpy as np
from scipy import sparse

from deep_clustering.data.sources.samples import ASSIGNED, FITTED, Samples

# Rows whose digests are kept as Python's bytes, which take three times as much.
_CHUNK = 4096


def data_card(loaded: Samples) -> dict[str, Any]:
    """What a data set is, with the sha256 of its arrays.

    Args:
        loaded: The samples with all that belongs to them.

    Returns:
        The card, of plain JSON values: what the source says of itself, size, types, classes, how many rows are fitted
        and assigned, duplicates, constant columns, and sha256 of samples and labels.
    """
    samples, labels = loaded.samples, loaded.labels
    known = labels[labels >= 0]
    n_classes = int(known.max()) + 1 if len(known) else None
    class_names = loaded.about["class_names"] if n_classes else None
    if n_classes and not class_names:
        class_names = [str(index) for index in range(n_classes)]
    return {
        **loaded.about,
        "n_samples": samples.shape[0],
        "n_fitted": int(np.count_nonzero(loaded.split & FITTED)),
        "n_assigned": int(np.count_nonzero(loaded.split & ASSIGNED)),
        "shape": list(samples.shape),
        "dtype": str(samples.dtype),
        "is_sparse": sparse.issparse(samples),
        "n_classes": len(class_names) if class_names else None,
        "class_names": class_names,
        "class_counts": np.bincount(known, minlength=len(class_names)).tolist() if class_names else None,
        "n_unlabelled": int(np.count_nonzero(labels < 0)),
        "n_duplicates": count_duplicates(samples),
        "n_constant_columns": count_constant_columns(samples),
        "n_terms": len(loaded.vocabulary),
        "sha256": {"samples": array_sha256(samples), "labels": array_sha256(labels)},
    }


def array_sha256(array: np.ndarray | sparse.csr_matrix) -> str:
    """sha256 of an array's type, shape and values (of a CSR matrix: of its three arrays), in hexadecimal."""
    parts = (array,) if isinstance(array, np.ndarray) else (array.data, array.indices, array.indptr)
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    for part in parts:
        digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()


def count_duplicates(samples: np.ndarray | sparse.csr_matrix) -> int:
    """Number of rows that equal an earlier row, found by their hashes."""
    n_rows = samples.shape[0]
    if not n_rows:
        return 0
    digests = np.empty((n_rows, 2), dtype=np.uint64)
    for start in range(0, n_rows, _CHUNK):
        part = b"".join(_digest(samples[row]) for row in range(start, min(start + _CHUNK, n_rows)))
        digests[start : start + _CHUNK] = np.frombuffer(part, dtype=np.uint64).reshape(-1, 2)
    ordered = digests[np.lexsort(digests.T)]
    return int((ordered[1:] == ordered[:-1]).all(axis=1).sum())


def _digest(row: Any) -> bytes:  # noqa: ANN401 - dense or sparse
    parts = (row.indices, row.data) if sparse.issparse(row) else (np.ascontiguousarray(row),)
    return hashlib.blake2b(b"".join(part.tobytes() for part in parts), digest_size=16).digest()


def count_constant_columns(samples: np.ndarray | sparse.csr_matrix) -> int:
    """Number of values of a row that are the same in all rows."""
    low, high = samples.min(axis=0), samples.max(axis=0)
    if sparse.issparse(low):
        low, high = low.toarray(), high.toarray()
    return int(np.count_nonzero(low == high))

"""Prepared rows in files of others: MATLAB .mat and numpy or scipy .npz, read without ever running code in them."""

import hashlib
import struct
import zipfile
import zlib
from pathlib import Path
from typing import TypeVar

import numpy as np
from scipy import sparse

from deep_clustering.data.places import absolute
from deep_clustering.data.sources.array_headers import Check, Header, check_sparse_header
from deep_clustering.data.sources.tfidf import as_csr
from deep_clustering.options import nearest_file

T = TypeVar("T")

# What damaged files make the readers of scipy and numpy raise.
_DAMAGED = (
    ValueError,
    LookupError,
    TypeError,
    EOFError,
    OSError,
    ArithmeticError,
    RuntimeError,
    struct.error,
    zlib.error,
)
_NUMBERS = (
    "double",
    "single",
    "sparse",
    "logical",
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
)


def existing(path: str | Path, what: str) -> Path:
    """The absolute path of a file that must be there.

    Args:
        path: As in the options, relative to the project.
        what: What the file should be, for the message.

    Returns:
        The path.

    Raises:
        FileNotFoundError: saying which file was looked for.
    """
    file = absolute(path)
    if not file.is_file():
        raise FileNotFoundError(f"ingestion: no file at {file}; expected {what}{nearest_file(file)}")
    return file


def file_hash(path: Path) -> str:
    """sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_mat(path: Path) -> tuple[sparse.csr_matrix, np.ndarray]:
    """`X` and `Y` of a MATLAB file.

    Args:
        path: The file, of MATLAB's format 4 to 7.

    Returns:
        rows: X, shape (n_samples, n_features).
        labels: Y, shape (n_samples,), int64.

    Raises:
        ValueError: if the file is of another format, or X or Y is missing or holds cells or objects, not numbers.
    """
    from scipy.io import loadmat, whosmat
    from scipy.io.matlab import MatReadError

    _refuse_other_formats(path)
    try:
        kinds = {name: kind for name, _, kind in whosmat(path)}
        # Cells, structures and objects are not even read.
        wanted = [name for name in ("X", "Y") if kinds.get(name) in _NUMBERS]
        content = loadmat(path, variable_names=wanted)
        check_sparse(content.get("X"))
    except (*_DAMAGED, MatReadError) as error:
        raise ValueError(
            f"ingestion: {path}: expected a MATLAB file, got one cut short or of another kind ({error})"
        ) from error
    if len(wanted) < 2:
        got = ", ".join(f"{name} ({kind})" for name, kind in kinds.items()) or "nothing"
        raise ValueError(f"ingestion: {path}: expected matrices of numbers X and Y, got {got}")
    return as_csr(content["X"]), _whole_numbers(content["Y"], f"{path}: Y")


def check_sparse(matrix: T) -> T:
    """Refuse a sparse matrix whose indices lie outside it: scipy's readers let them through, and its loops crash.

    Args:
        matrix: Of any sparse format, or anything else.

    Returns:
        The same.

    Raises:
        ValueError: if an index is out of bounds.
    """
    if isinstance(
        matrix, sparse.csr_matrix | sparse.csc_matrix | sparse.bsr_matrix | sparse.csr_array | sparse.csc_array
    ):
        matrix.check_format(full_check=True)
    return matrix


def _refuse_other_formats(path: Path) -> None:
    with path.open("rb") as file:
        head = file.read(520)
    if head.startswith(b"MATLAB 7.3") or b"\x89HDF\r\n\x1a\n" in head:
        raise ValueError(
            f"ingestion: {path} is of MATLAB's format 7.3 (HDF5), which is not read; save it in MATLAB with '-v7'"
        )
    if head.startswith(b"version https://git-lfs"):
        raise ValueError(
            f"ingestion: {path} is a pointer of Git LFS, not the data; run 'git lfs pull' where it is from"
        )


def _whole_numbers(values: np.ndarray | sparse.spmatrix, where: str) -> np.ndarray:
    flat = np.ravel(values.toarray() if isinstance(values, sparse.spmatrix) else values)
    if flat.dtype.kind not in "iufb" or not np.all(flat == np.round(flat)) or not np.all(np.abs(flat) < 2**31):
        raise ValueError(f"ingestion: {where}: expected classes as whole numbers, got {flat.dtype} {flat[:5].tolist()}")
    return flat.astype(np.int64)


def read_sparse(path: Path, check: Check | None = None) -> tuple[sparse.csr_matrix, dict[str, np.ndarray]]:
    """A CSR matrix kept as arrays.

    Args:
        path: A file of `scipy.sparse.save_npz`, or one with tfidf (or data), indices, indptr and shape.
        check: What is expected of the matrix by its headers, before it is unpacked; what it raises is passed on.

    Returns:
        rows: shape (n_samples, n_features).
        others: the file's other arrays by name.

    Raises:
        MemoryError: if there is no room for it, naming the file.
        ValueError: if arrays are missing or do not make a matrix, it has many more rows than values, it is not of real
            numbers, or one would need pickle.
    """
    what = "a sparse matrix (.npz with data or tfidf, indices, indptr, shape)"
    declared: list[Header] = []
    try:
        check_sparse_header(path, declared.append)
    except (*_DAMAGED, zipfile.BadZipFile) as error:
        raise ValueError(f"ingestion: {path}: expected {what}, got another file ({error})") from error
    if declared[0].dtype.kind not in "buif":
        raise ValueError(f"ingestion: {path}: samples must be numbers, got {declared[0].dtype} {declared[0].shape}")
    if check is not None:
        check(declared[0])
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        if "format" in arrays:  # scipy's own; it may be another sparse format
            return as_csr(check_sparse(sparse.load_npz(path))), {}
        values = arrays.pop("tfidf") if "tfidf" in arrays else arrays.pop("data")
        indices, indptr, shape = (arrays.pop(name) for name in ("indices", "indptr", "shape"))
        # scipy takes indices of at least 32 bits only
        parts = (values, indices.astype(np.int64), indptr.astype(np.int64))
        rows = check_sparse(sparse.csr_matrix(parts, shape=tuple(shape.tolist())))
    except (*_DAMAGED, AttributeError, zipfile.BadZipFile) as error:
        raise ValueError(f"ingestion: {path}: expected {what}, got another file ({error})") from error
    except MemoryError as error:
        raise MemoryError(f"ingestion: {path}: no memory for the sparse matrix of {declared[0].shape}") from error
    return as_csr(rows), arrays

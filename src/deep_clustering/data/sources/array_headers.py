"""What files of arrays say of themselves, read and checked before anything of them is unpacked."""

import math
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

# What numpy raises for a file of arrays that is cut short or changed. It reads a header as Python, and believes it.
DAMAGED = (
    *(ValueError, KeyError, TypeError, OverflowError, EOFError, OSError, RecursionError, MemoryError),
    *(SyntaxError, tokenize.TokenError, zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError),
)

# Rows without any value that a sparse matrix may have where its format does not store them one by one.
_EMPTY_ROWS = 10**7
_FEW = 8


class Header(NamedTuple):
    """An array as its file declares it."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def n_bytes(self) -> int:
        """Its size in memory."""
        return math.prod(self.shape) * self.dtype.itemsize


Check = Callable[[Header], object]
"""Raises a ValueError for an array of another shape or type than what is expected."""


def check_header(file: Path, key: str | None, check: Check | None = None) -> None:
    """Refuse an array whose header does not fit its file, this machine, or what is expected.

    Args:
        file: A `.npy` file, or an archive `.npz`.
        key: Name of the array in the archive; None for a `.npy` file.
        check: What is expected of it.

    Raises:
        ValueError: if the file is shorter than its header says, or the array larger than the memory; or what
            `check` raises.
    """
    if key is None:
        with file.open("rb") as stream:
            header = _read(stream, file.stat().st_size)
    else:
        with zipfile.ZipFile(file) as archive, archive.open(_member(archive, key)) as member:
            header = _read(member, archive.getinfo(_member(archive, key)).file_size)
        check_size(header)
    if check is not None:
        check(header)


def check_size(header: Header) -> None:
    """Refuse an array that is larger than the memory of this machine.

    Raises:
        ValueError: naming both.
    """
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else np.inf
    if header.n_bytes > memory:
        raise ValueError(
            f"{header.dtype} {header.shape} takes {header.n_bytes / 1e9:.1f} GB, this machine has {memory / 1e9:.1f}"
        )


def check_sparse_header(file: Path, check: Check | None = None) -> None:
    """Refuse a sparse matrix whose arrays, rows or shape cannot be or are not what is expected.

    Args:
        file: An archive as `scipy.sparse.save_npz` writes it, or with tfidf (or data), indices, indptr and shape.
        check: What is expected of the matrix.

    Raises:
        ValueError: if an array does not fit its file or this machine, the matrix has many more rows than values, or
            what `check` raises.
    """
    with np.load(file, allow_pickle=False) as archive:
        names = archive.files
        heads = {name: _header(file, name) for name in names}
        if any(math.prod(heads[name].shape) > _FEW for name in ("shape", "format") if name in names):
            raise ValueError("its shape or format is more than a few numbers")
        shape = tuple(int(size) for size in archive["shape"].ravel())
        kind = archive["format"].item() if "format" in names else "csr"
    kind = kind.decode("latin-1") if isinstance(kind, bytes) else kind
    values = heads.get("tfidf", heads.get("data"))
    if values is None or len(shape) != 2:
        raise ValueError(f"no matrix, but shape {shape} and arrays {', '.join(sorted(names)[:5])}")
    _check_parts(heads, kind, shape, math.prod(values.shape))
    if kind != "csr" and shape[0] > math.prod(values.shape) + _EMPTY_ROWS:
        raise ValueError(f"{shape[0]} rows with {math.prod(values.shape)} values; expected at most {_EMPTY_ROWS} more")
    if check is not None:
        check(Header(shape, values.dtype))


def _check_parts(heads: dict[str, Header], kind: str, shape: tuple[int, ...], n_values: int) -> None:
    """Refuse parts of a matrix that do not belong to one, before they are unpacked."""
    if kind not in ("csr", "csc", "coo"):
        return
    lines = {"indptr": shape[kind == "csc"] + 1, "indices": n_values}
    for name, n_expected in ({"row": n_values, "col": n_values} if kind == "coo" else lines).items():
        if name in heads and (n_held := math.prod(heads[name].shape)) != n_expected:
            raise ValueError(
                f"{n_held} numbers in {name}; expected {n_expected} of shape {shape} with {n_values} values"
            )
    if n_values > math.prod(shape):
        raise ValueError(f"{n_values} values in a matrix of shape {shape}")


def _header(file: Path, key: str) -> Header:
    found: list[Header] = []
    check_header(file, key, found.append)
    return found[0]


def _member(archive: zipfile.ZipFile, key: str) -> str:
    return f"{key}.npy" if f"{key}.npy" in archive.NameToInfo else key


def _read(stream: IO[bytes], size: int) -> Header:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    try:
        shape, _, dtype = read(stream)
    except (SyntaxError, tokenize.TokenError) as error:  # numpy reads a header as Python
        raise ValueError(f"a header that is none of an array ({error})") from error
    if dtype.hasobject:
        raise ValueError("Object arrays cannot be loaded when allow_pickle=False")  # as numpy says it
    header = Header(shape, dtype)
    if header.n_bytes > (held := size - stream.tell()):
        raise ValueError(f"its header says {dtype} {shape}, {header.n_bytes} bytes, and it holds {held}")
    return header

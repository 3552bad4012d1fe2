"""Arrays as they are in memory: one, named ones, and sparse matrices."""

import os
import struct
import zipfile
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from scipy import sparse

from deep_clustering.data import sealed_arrays
from deep_clustering.data.datasets.base import DAMAGED, FileDataset, TablePreview, if_saved

# Where the local header of an archive's member says how long the name and what follows it are.
_NAME_LENGTHS = 26
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_PIECE_BYTES = 2**20
# Name of the array in the file of a matrix that is not sparse.
_DENSE = "dense"


class NumpyDataset(FileDataset):
    """One array as `.npy`; with `mmap: true`, or above a size, it is loaded as a read-only memory map."""

    kind = "one array (.npy)"

    def __init__(self, *, mmap: bool = False, mmap_above: int | None = None, **file: Any) -> None:  # noqa: ANN401
        """See the base class.

        Args:
            mmap: Map a local file instead of reading it.
            mmap_above: Map it if it has more bytes than this; None: as `mmap` says.
            **file: Of the base class.

        Raises:
            ValueError: if `mmap_above` is not a number of bytes.
        """
        super().__init__(**file)
        self._mmap, self._mmap_above = mmap, _bytes(mmap_above, self._filepath)

    def _encode(self, data: Any, file: IO[bytes]) -> None:  # noqa: ANN401
        array = np.asanyarray(data)
        _refuse_objects(array, "array")
        sealed_arrays.write(file, array)

    def _decode(self, file: IO[bytes]) -> np.ndarray:
        return sealed_arrays.read(file)

    def _read(self, path: str) -> np.ndarray:
        if self._is_local() and self._is_mapped(path):
            return sealed_arrays.open_map(Path(path))
        return super()._read(path)

    def _is_mapped(self, path: str) -> bool:
        return self._mmap or (self._mmap_above is not None and os.path.getsize(path) > self._mmap_above)

    @if_saved
    def preview(self) -> TablePreview:
        """Shape, type and range, for Kedro-Viz."""
        return _table([_summary("array", self.load())])


class NpzDataset(FileDataset):
    """A dictionary of named arrays as `.npz`; those above a size are loaded as read-only memory maps."""

    kind = "named arrays (.npz)"
    reader_errors = DAMAGED

    def __init__(self, *, mmap_above: int | None = None, **file: Any) -> None:  # noqa: ANN401
        """See the base class.

        Args:
            mmap_above: Map arrays of more bytes than this, of a local file; None: read all.
            **file: Of the base class.

        Raises:
            ValueError: if `mmap_above` is not a number of bytes.
        """
        super().__init__(**file)
        self._mmap_above = _bytes(mmap_above, self._filepath)

    def _encode(self, data: dict[str, np.ndarray], file: IO[bytes]) -> None:
        arrays = {name: np.asanyarray(value) for name, value in data.items()}
        for name, array in arrays.items():
            _refuse_objects(array, name)
        # np.savez takes the names as keywords and so has some it cannot store.
        with zipfile.ZipFile(file, "w") as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)

    def _decode(self, file: IO[bytes]) -> dict[str, np.ndarray]:
        return self._arrays(file, None)

    def _read(self, path: str) -> dict[str, np.ndarray]:
        if self._mmap_above is None or not self._is_local():
            return super()._read(path)
        with Path(path).open("rb") as file:
            return self._arrays(file, path)

    def _arrays(self, file: IO[bytes], path: str | None) -> dict[str, np.ndarray]:
        """All arrays of an archive, large ones as maps of the path if there is one."""
        with np.load(file, allow_pickle=False) as archive:
            return {name: self._array(archive, name, path) for name in archive.files}

    def _array(self, archive: Any, name: str, path: str | None) -> np.ndarray:  # noqa: ANN401
        member = archive.zip.getinfo(f"{name}.npy")
        is_plain = member.compress_type == zipfile.ZIP_STORED
        if path is None or not is_plain or member.file_size <= (self._mmap_above or 0):
            return archive[name]
        with archive.zip.open(member) as stream:
            while stream.read(_PIECE_BYTES):  # the end of it compares the checksum
                pass
        return _map_member(path, member)

    @if_saved
    def preview(self) -> TablePreview:
        """Shape, type and range of each array, for Kedro-Viz."""
        return _table([_summary(name, array) for name, array in self.load().items()])


class SparseDataset(FileDataset):
    """A sparse matrix as scipy's `.npz`, loaded as CSR; a dense one, which an encoder makes of it, as `.npz` too."""

    kind = "a sparse matrix (scipy .npz) or a dense one (.npz)"
    reader_errors = DAMAGED

    def _encode(self, data: Any, file: IO[bytes]) -> None:  # noqa: ANN401
        if isinstance(data, np.ndarray) and data.ndim == 2:
            _refuse_objects(data, _DENSE)
            np.savez(file, dense=data)
        elif sparse.issparse(data):
            sparse.save_npz(file, data.tocsr())
        else:
            raise TypeError(f"expected a scipy sparse matrix or a dense one, got {type(data).__name__}")

    def _decode(self, file: IO[bytes]) -> sparse.csr_matrix | np.ndarray:
        with np.load(file, allow_pickle=False) as archive:
            if _DENSE in archive.files:
                return archive[_DENSE]
        file.seek(0)
        matrix = sparse.load_npz(file).tocsr()
        # An index out of range would be read, and written, outside of memory.
        matrix.check_format(full_check=True)
        return matrix

    @if_saved
    def preview(self) -> TablePreview:
        """Shape and density, for Kedro-Viz."""
        matrix = self.load()
        if isinstance(matrix, np.ndarray):
            return _table([_summary("matrix", matrix)])
        density = matrix.nnz / max(1, matrix.shape[0] * matrix.shape[1])
        return _table([{**_summary("stored values", matrix.data), "shape": str(matrix.shape), "density": density}])


def _map_member(path: str, member: zipfile.ZipInfo) -> np.ndarray:
    """An array that lies in an archive as it is in memory, as a read-only map."""
    with Path(path).open("rb") as file:
        file.seek(member.header_offset + _NAME_LENGTHS)
        n_name, n_extra = struct.unpack("<HH", file.read(4))
        file.seek(n_name + n_extra, os.SEEK_CUR)
        read = _HEADERS[np.lib.format.read_magic(file)]
        shape, is_fortran, dtype = read(file)
        if dtype.hasobject:
            raise ValueError(f"{member.filename} holds Python objects, expected numbers or fixed-width text")
        order: Literal["F", "C"] = "F" if is_fortran else "C"
        return np.memmap(path, dtype, mode="r", offset=file.tell(), shape=shape, order=order)


def _bytes(limit: Any, where: Any) -> int | None:  # noqa: ANN401
    if limit is not None and (isinstance(limit, bool) or limit < 0):
        raise ValueError(f"{where}: mmap_above expected bytes, at least 0, got {limit!r}")
    return limit


def _refuse_objects(array: np.ndarray, name: str) -> None:
    if array.dtype.hasobject:
        raise TypeError(f"{name}: expected numbers or fixed-width text, got dtype {array.dtype}, which needs pickle")


def _summary(name: str, array: np.ndarray) -> dict[str, Any]:
    is_number = array.size and array.dtype.kind in "biuf"
    low, high = (float(array.min()), float(array.max())) if is_number else ("", "")
    return {"name": name, "shape": str(array.shape), "dtype": str(array.dtype), "min": low, "max": high}


def _table(rows: list[dict[str, Any]]) -> TablePreview:
    columns = list(rows[0]) if rows else []
    return TablePreview({"index": list(range(len(rows))), "columns": columns, "data": [list(r.values()) for r in rows]})

"""One file per dataset version, for arrays, models, scores and pages.

Every class here writes to a temporary file in the target folder and renames it, so a kill or a full disk leaves
either the whole file or none, and never a cut one that a later run would take for the latest version. What was saved
is loaded again, also if another process has saved a later version since. None of them can load a pickle.
"""

import errno
import json
import os
import posixpath
import time
import uuid
import zipfile
import zlib
from abc import abstractmethod
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import IO, Any

import fsspec
import numpy as np
from kedro.io import AbstractVersionedDataset, DatasetError, Version
from kedro.io.core import VersionNotFoundError, get_filepath_str, get_protocol_and_path
from kedro_datasets._typing import JSONPreview, TablePreview
from safetensors import SafetensorError
from scipy import sparse

from deep_clustering.data import tensor_files
from deep_clustering.data.preparation import Preparation
from deep_clustering.methods import Model

# What a damaged file makes the readers of numpy, scipy, json and safetensors raise, besides their own classes.
DAMAGED = (ValueError, KeyError, EOFError, OSError, TypeError)

# What a file system without hard links answers.
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}

# A temporary file that has not grown for so long was left by a run that was killed.
_ABANDONED_SECONDS = 3600.0

_PREVIEW_ROWS = 100


class FileDataset(AbstractVersionedDataset[Any, Any]):
    """A value kept in one file; subclasses say how it is encoded."""

    kind = "file"
    reader_errors: tuple[type[Exception], ...] = DAMAGED

    def __init__(
        self,
        *,
        filepath: str | os.PathLike,
        version: Version | None = None,
        metadata: dict[str, Any] | None = None,
        credentials: dict[str, Any] | None = None,
        fs_args: dict[str, Any] | None = None,
    ) -> None:
        """Name the file.

        Args:
            filepath: Path or fsspec URL of the file.
            version: Kedro's version; given by the catalog for `versioned: true`.
            metadata: Free notes; the tracking hook reads `metadata["mlflow"]`.
            credentials: Passed to the file system.
            fs_args: Passed to the file system.
        """
        protocol, path = get_protocol_and_path(str(filepath), version)
        self._protocol = protocol
        self._fs = fsspec.filesystem(protocol, **{**(fs_args or {}), **(credentials or {})})
        self.metadata = metadata
        super().__init__(
            filepath=PurePosixPath(path),
            version=version,
            exists_function=self._fs.exists,
            glob_function=self._fs.glob,
        )

    @abstractmethod
    def _encode(self, data: Any, file: IO[bytes]) -> None:  # noqa: ANN401
        """Write `data` to an open file; raise TypeError or ValueError before writing what cannot be read back."""

    @abstractmethod
    def _decode(self, file: IO[bytes]) -> Any:  # noqa: ANN401
        """Read what `_encode` wrote."""

    def load(self) -> Any:  # noqa: ANN401
        """Read the file.

        Raises:
            DatasetError: if it is missing, cut short, or of another format.
        """
        try:
            path = get_filepath_str(self._get_load_path(), self._protocol)
        except VersionNotFoundError as error:
            raise DatasetError(
                f"{self._filepath}: there is no version yet; run the pipeline that writes it first, or check --env"
            ) from error
        if not self._fs.exists(path):
            raise DatasetError(f"{path}: no such file; expected {self.kind}")
        try:
            return self._read(path)
        except DatasetError:
            raise
        except self.reader_errors as error:
            raise DatasetError(
                f"{path}: expected {self.kind}, got a file that cannot be read as one ({error}). It is cut short or "
                "damaged: delete this version, or choose another by --load-versions=NAME:VERSION"
            ) from error

    def resolve_load_version(self) -> str | None:
        """The version asked for, or else the one that this run has saved, or else the latest there is."""
        own = self._version.save if self._version and not self._version.load else None
        if own and self._fs.exists(get_filepath_str(self._get_versioned_path(own), self._protocol)):
            return own
        return super().resolve_load_version()

    def save(self, data: Any) -> None:  # noqa: ANN401
        """Write the file atomically.

        Raises:
            DatasetError: if the version is there already.
            OSError: if the disk is full or read-only; nothing is left behind.
        """
        path = get_filepath_str(self._get_save_path(), self._protocol)
        parent = posixpath.dirname(path) or "."
        temporary = f"{parent}/.{uuid.uuid4().hex}.part"
        self._fs.makedirs(parent, exist_ok=True)
        try:
            with self._fs.open(temporary, "wb") as file:
                self._encode(data, file)
                if self._is_local():
                    file.flush()
                    os.fsync(file.fileno())
            self._rename(temporary, path)
        finally:
            if self._fs.exists(temporary):
                self._fs.rm(temporary)
        self._fs.invalidate_cache(parent)
        self._remove_abandoned()

    def _read(self, path: str) -> Any:  # noqa: ANN401
        with self._fs.open(path, "rb") as file:
            return self._decode(file)

    def _rename(self, source: str, target: str) -> None:
        if not self._is_local():
            self._fs.mv(source, target)
        elif self._version is None:
            os.replace(source, target)
        else:
            self._rename_unless_taken(source, target)

    def _rename_unless_taken(self, source: str, target: str) -> None:
        """Let one of two runs of the same millisecond have the version: unlike renaming, a link replaces nothing."""
        try:
            os.link(source, target)
        except FileExistsError as error:
            raise DatasetError(
                f"{target}: another run has saved this version meanwhile. Two runs that start in the same millisecond "
                "get the same version: start this one again"
            ) from error
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            os.replace(source, target)

    def _remove_abandoned(self) -> None:
        """Remove what killed runs have left beside the versions of this file."""
        if not self._is_local() or self._version is None:
            return
        for part in Path(self._filepath).glob("*/.*.part"):
            with suppress(OSError):  # another run was faster
                if time.time() - part.stat().st_mtime > _ABANDONED_SECONDS:
                    part.unlink()

    def _is_local(self) -> bool:
        return self._protocol == "file"

    def _exists(self) -> bool:
        return bool(self._fs.exists(get_filepath_str(self._get_load_path(), self._protocol)))

    def _describe(self) -> dict[str, Any]:
        # Kedro-Viz publishes this; a file of the project must not name the folders of the machine.
        path, project = Path(self._filepath), Path.cwd()
        shown = path.relative_to(project) if self._is_local() and path.is_relative_to(project) else self._filepath
        return {"filepath": str(shown), "protocol": self._protocol, "version": self._version}


class NumpyDataset(FileDataset):
    """One array as `.npy`; with `mmap: true` it is loaded as a read-only memory map."""

    kind = "one array (.npy)"

    def __init__(self, *, mmap: bool = False, **file: Any) -> None:  # noqa: ANN401
        """See the base class; `mmap` maps a local file instead of reading it."""
        super().__init__(**file)
        self._mmap = mmap

    def _encode(self, data: Any, file: IO[bytes]) -> None:  # noqa: ANN401
        array = np.asanyarray(data)
        _refuse_objects(array, "array")
        np.lib.format.write_array(file, array, allow_pickle=False)

    def _decode(self, file: IO[bytes]) -> np.ndarray:
        return np.lib.format.read_array(file, allow_pickle=False)

    def _read(self, path: str) -> np.ndarray:
        if self._mmap and self._is_local():
            return np.lib.format.open_memmap(path, mode="r")
        return super()._read(path)

    def preview(self) -> TablePreview:
        """Shape, type and range, for Kedro-Viz."""
        return _table([_summary("array", self.load())])


class NpzDataset(FileDataset):
    """A dictionary of named arrays as `.npz`."""

    kind = "named arrays (.npz)"
    reader_errors = (*DAMAGED, zipfile.BadZipFile, zlib.error)

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
        with np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}

    def preview(self) -> TablePreview:
        """Shape, type and range of each array, for Kedro-Viz."""
        return _table([_summary(name, array) for name, array in self.load().items()])


class SparseDataset(FileDataset):
    """A sparse matrix as scipy's `.npz`, loaded as CSR."""

    kind = "a sparse matrix (scipy .npz)"
    reader_errors = (*DAMAGED, zipfile.BadZipFile, zlib.error)

    def _encode(self, data: sparse.spmatrix, file: IO[bytes]) -> None:
        if not sparse.issparse(data):
            raise TypeError(f"expected a scipy sparse matrix, got {type(data).__name__}")
        sparse.save_npz(file, data.tocsr())

    def _decode(self, file: IO[bytes]) -> sparse.csr_matrix:
        matrix = sparse.load_npz(file).tocsr()
        # An index out of range would be read, and written, outside of memory.
        matrix.check_format(full_check=True)
        return matrix

    def preview(self) -> TablePreview:
        """Shape and density, for Kedro-Viz."""
        matrix = self.load()
        density = matrix.nnz / max(1, matrix.shape[0] * matrix.shape[1])
        return _table([{**_summary("stored values", matrix.data), "shape": str(matrix.shape), "density": density}])


class ModelDataset(FileDataset):
    """A fitted method as one `.safetensors` file: its arrays, with name and options in the header."""

    kind = "a fitted model (.safetensors)"
    reader_errors = (*DAMAGED, SafetensorError)

    def _encode(self, data: Model, file: IO[bytes]) -> None:
        header = {"method": data.method, "options": json.dumps(data.options)}
        file.write(tensor_files.to_bytes(data.arrays, header))

    def _decode(self, file: IO[bytes]) -> Model:
        arrays, header = tensor_files.from_bytes(file.read())
        return Model(header["method"], json.loads(header["options"]), arrays)

    def preview(self) -> JSONPreview:
        """Method, options and array shapes, for Kedro-Viz."""
        model = self.load()
        shapes = {name: list(array.shape) for name, array in model.arrays.items()}
        return JSONPreview(json.dumps({"method": model.method, "options": model.options, "arrays": shapes}))


class PreparationDataset(FileDataset):
    """How samples became features, as one `.safetensors` file: its arrays, with the rest as JSON in the header."""

    kind = "a preparation (.safetensors)"
    reader_errors = (*DAMAGED, SafetensorError)

    def _encode(self, data: Preparation, file: IO[bytes]) -> None:
        file.write(tensor_files.to_bytes(data.arrays, {"preparation": json.dumps(data.to_plain())}))

    def _decode(self, file: IO[bytes]) -> Preparation:
        arrays, header = tensor_files.from_bytes(file.read())
        return Preparation.from_plain(json.loads(header["preparation"]), arrays)

    def preview(self) -> JSONPreview:
        """Everything but the arrays, for Kedro-Viz."""
        return JSONPreview(json.dumps(self.load().to_plain()))


class JSONDataset(FileDataset):
    """Plain values as `.json`; not-a-number is refused, since JSON has none."""

    kind = "JSON"

    def _encode(self, data: Any, file: IO[bytes]) -> None:  # noqa: ANN401
        file.write(json.dumps(data, indent=1, allow_nan=False).encode())

    def _decode(self, file: IO[bytes]) -> Any:  # noqa: ANN401
        return json.loads(file.read())

    def preview(self) -> JSONPreview:
        """The content, for Kedro-Viz."""
        return JSONPreview(json.dumps(self.load()))


class TextDataset(FileDataset):
    """Text as UTF-8."""

    kind = "UTF-8 text"

    def _encode(self, data: str, file: IO[bytes]) -> None:
        file.write(data.encode())

    def _decode(self, file: IO[bytes]) -> str:
        return file.read().decode()


class ParquetDataset(FileDataset):
    """A pandas.DataFrame as `.parquet`, without its index; its `attrs` are kept."""

    kind = "a table (.parquet)"

    def _encode(self, data: Any, file: IO[bytes]) -> None:  # noqa: ANN401
        data.to_parquet(file, engine="pyarrow", index=False)

    def _decode(self, file: IO[bytes]) -> Any:  # noqa: ANN401
        import pandas as pd

        return pd.read_parquet(file, engine="pyarrow")

    def preview(self) -> TablePreview:
        """The first rows, for Kedro-Viz."""
        return _table(self.load().head(_PREVIEW_ROWS).to_dict("records"))


class TableDataset(FileDataset):
    """A pandas.DataFrame as `.csv`, without its index."""

    kind = "a table (.csv)"

    def _encode(self, data: Any, file: IO[bytes]) -> None:  # noqa: ANN401
        file.write(data.to_csv(index=False).encode())

    def _decode(self, file: IO[bytes]) -> Any:  # noqa: ANN401
        import pandas as pd

        return pd.read_csv(file)

    def preview(self) -> TablePreview:
        """The rows, for Kedro-Viz."""
        return _table(self.load().to_dict("records"))


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

"""What all datasets of this project share: one file per version, written whole or not at all.

A kill or a full disk leaves either the whole file or none, and never a cut one that a later run would take for the
latest version. What was saved is loaded again, also if another process has saved a later version since. None of them
can load a pickle.
"""

import os
import posixpath
from abc import abstractmethod
from collections.abc import Callable
from functools import wraps
from pathlib import Path, PurePosixPath
from typing import IO, Any, NewType, ParamSpec, TypeVar

import fsspec
from kedro.io import AbstractVersionedDataset, DatasetError, Version
from kedro.io.core import VersionNotFoundError, get_filepath_str, get_protocol_and_path

from deep_clustering.atomic import TakenError, atomic_path, part_name, remove_abandoned
from deep_clustering.data.sources.array_headers import DAMAGED

# Kedro-Viz knows a preview by the name of the type that `preview` is annotated with; kedro-datasets has the same types
# in a private module only.
TablePreview = NewType("TablePreview", dict)
JSONPreview = NewType("JSONPreview", str)
ImagePreview = NewType("ImagePreview", str)

_P = ParamSpec("_P")
_T = TypeVar("_T")


class AtomicDataset(AbstractVersionedDataset[Any, Any]):
    """A value kept in one file; subclasses write it to any path and read it from any path."""

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
        self._access = {"credentials": credentials, "fs_args": fs_args}
        self._fs = fsspec.filesystem(protocol, **{**(fs_args or {}), **(credentials or {})})
        self.metadata = metadata
        super().__init__(
            filepath=PurePosixPath(path),
            version=version,
            exists_function=self._fs.exists,
            glob_function=self._fs.glob,
        )

    @abstractmethod
    def _write(self, data: Any, path: str) -> None:  # noqa: ANN401
        """Make the file `path`; raise TypeError or ValueError for what cannot be read back."""

    @abstractmethod
    def _read(self, path: str) -> Any:  # noqa: ANN401
        """Read what `_write` wrote."""

    def load(self) -> Any:  # noqa: ANN401
        """Read the file.

        Raises:
            DatasetError: if it is missing, cut short, or of another format.
            MemoryError: if there is no room for it, naming the file.
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
        except MemoryError as error:
            raise MemoryError(f"{path}: no memory for {self.kind} ({error})") from error
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
        self._fs.makedirs(parent, exist_ok=True)
        if self._is_local():
            self._save_locally(data, Path(path))
        else:
            self._save_remotely(data, path, parent)
        self._fs.invalidate_cache(parent)

    def _save_locally(self, data: Any, path: Path) -> None:  # noqa: ANN401
        if self._version is not None:
            for version in path.parent.parent.iterdir():
                remove_abandoned(version)
        try:
            with atomic_path(path, replace=self._version is None) as part:
                self._write(data, str(part))
        except TakenError as error:
            raise DatasetError(
                f"{path}: another run has saved this version meanwhile. Two runs that start in the same millisecond "
                "get the same version: start this one again"
            ) from error

    def _save_remotely(self, data: Any, path: str, parent: str) -> None:  # noqa: ANN401
        part = f"{parent}/{part_name()}"
        try:
            self._write(data, part)
            self._fs.mv(part, path)
        finally:
            if self._fs.exists(part):
                self._fs.rm(part)

    def _is_local(self) -> bool:
        return self._protocol == "file"

    def _exists(self) -> bool:
        return bool(self._fs.exists(get_filepath_str(self._get_load_path(), self._protocol)))

    def _describe(self) -> dict[str, Any]:
        # Kedro-Viz publishes this; a file of the project must not name the folders of the machine.
        path, project = Path(self._filepath), Path.cwd()
        shown = path.relative_to(project) if self._is_local() and path.is_relative_to(project) else self._filepath
        return {"filepath": str(shown), "protocol": self._protocol, "version": self._version}


def if_saved(preview: Callable[_P, _T]) -> Callable[_P, _T]:
    """Make a preview None where nothing has been saved yet, so that Kedro-Viz says nothing of it.

    Args:
        preview: Method of a dataset.

    Returns:
        The method, under the same annotations.
    """

    @wraps(preview)
    def preview_if_saved(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        dataset: Any = args[0]
        return preview(*args, **kwargs) if dataset.exists() else None  # type: ignore[return-value]

    return preview_if_saved


class FileDataset(AtomicDataset):
    """A value in a format of this project; subclasses say how it is encoded."""

    @abstractmethod
    def _encode(self, data: Any, file: IO[bytes]) -> None:  # noqa: ANN401
        """Write `data` to an open file; raise TypeError or ValueError for what cannot be read back."""

    @abstractmethod
    def _decode(self, file: IO[bytes]) -> Any:  # noqa: ANN401
        """Read what `_encode` wrote."""

    def _write(self, data: Any, path: str) -> None:  # noqa: ANN401
        with self._fs.open(path, "wb") as file:
            self._encode(data, file)

    def _read(self, path: str) -> Any:  # noqa: ANN401
        with self._fs.open(path, "rb") as file:
            return self._decode(file)

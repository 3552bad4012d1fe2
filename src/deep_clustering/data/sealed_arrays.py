"""An array as `.npy` with a digest of the file behind it, which other readers of `.npy` pass over.

Arrays of earlier versions end with their last number; they are read without being compared.
"""

import hashlib
from pathlib import Path
from typing import IO, Any

import numpy as np

_MARK = b"\nsha256 "
_LENGTH = len(_MARK) + 2 * hashlib.sha256().digest_size
_PIECE_BYTES = 2**20


def write(file: IO[bytes], array: np.ndarray) -> None:
    """Write an array and the sha256 of all that was written.

    Args:
        file: Open at its beginning.
        array: Numbers or text of fixed width.

    Raises:
        ValueError: if the array holds objects.
    """
    through = _Hashed(file)
    np.lib.format.write_array(through, array, allow_pickle=False)
    file.write(_MARK + through.digest.hexdigest().encode())


def read(file: IO[bytes]) -> np.ndarray:
    """What `write` wrote, read and compared in one pass.

    Args:
        file: Open at its beginning.

    Raises:
        ValueError: if the file is cut short, of another kind, or not what was written, by its digest.
    """
    through = _Hashed(file)
    array: np.ndarray = np.lib.format.read_array(through, allow_pickle=False)  # type: ignore[arg-type]
    _compare(through.digest.hexdigest(), file.read(_LENGTH + 1))
    return array


def open_map(path: Path) -> np.memmap:
    """As `read`, as a read-only memory map of a local file, which is read through once to compare it."""
    array = np.lib.format.open_memmap(path, mode="r")
    digest, left = hashlib.sha256(), array.offset + array.nbytes
    with path.open("rb") as file:
        while left and (piece := file.read(min(left, _PIECE_BYTES))):
            digest.update(piece)
            left -= len(piece)
        _compare(digest.hexdigest(), file.read(_LENGTH + 1))
    return array


def _compare(found: str, rest: bytes) -> None:
    if not rest:
        return
    stated = rest.removeprefix(_MARK)
    if len(rest) != _LENGTH or stated == rest:
        raise ValueError("its content has changed since it was written: what is behind the array is no digest")
    if stated != found.encode():
        expected = stated[:12].decode("latin-1")
        raise ValueError(f"its content has changed since it was written: sha256 {found[:12]}, expected {expected}")


class _Hashed:
    """A file whose bytes are added to a digest as they pass."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.digest = file, hashlib.sha256()

    def read(self, size: int) -> bytes:
        content = self._file.read(size)
        self.digest.update(content)
        return content

    def write(self, content: Any) -> int:  # noqa: ANN401 - any buffer
        self.digest.update(content)
        return self._file.write(content)

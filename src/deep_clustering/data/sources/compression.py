"""Files that may be compressed: what they are under it, and their bytes."""

import bz2
import gzip
import lzma
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

COMPRESSED = (".gz", ".bz2", ".xz", ".zip")

_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


def plain_suffix(path: str | Path) -> str:
    """The ending of a name in small letters, without that of a compression: .csv of a.CSV.gz."""
    file = Path(path)
    return Path(file.stem if file.suffix.lower() in COMPRESSED else file.name).suffix.lower()


@contextmanager
def open_bytes(file: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading, decompressed as its name says.

    Args:
        file: The file; a .zip must hold one file.

    Yields:
        Its bytes.

    Raises:
        ValueError: if an archive holds another number of files.
    """
    suffix = file.suffix.lower()
    if suffix == ".zip":
        with zipfile.ZipFile(file) as archive, archive.open(_only_member(archive)) as stream:
            yield stream
        return
    with _OPENERS.get(suffix, open)(file, "rb") as stream:
        yield stream


def _only_member(archive: zipfile.ZipFile) -> str:
    names = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX/")]
    if len(names) != 1:
        raise ValueError(f"expected one file in the archive, got {', '.join(sorted(names)[:5]) or 'none'}")
    return names[0]

"""Files that are there whole or not at all: what is being written has another name until it is finished.

A new file is written beside its target as `.<32 hexadecimal digits>.part`, brought to the disk, and then renamed, so
that a kill, an error or a full disk leaves the file of before, or none, and never a cut one. After an error the part
is removed; after a kill it stays. The rule for those that stayed: whoever next writes into the folder removes every
part in it that has not grown for `ABANDONED_SECONDS`; a younger one may belong to a process that is writing now.
"""

import errno
import os
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

ABANDONED_SECONDS = 3600.0

# Also with something in front, as earlier versions named them; a stranger's download, `thesis.pdf.part`, is left alone.
_PART = re.compile(r".*\.[0-9a-f]{32}\.part")

# What a file system without hard links answers.
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


class TakenError(FileExistsError):
    """Another process has given a file its name meanwhile."""


@contextmanager
def atomic_file(target: Path, *, replace: bool = True) -> Iterator[IO[bytes]]:
    """An open file that gets its name only if the block ends well.

    Args:
        target: Its name; folders are made.
        replace: Whether a file of that name is replaced; else the first to finish has the name.

    Yields:
        A file to write bytes to.

    Raises:
        OSError: if it cannot be written or named.
        TakenError: if there is a file of that name and it is not to be replaced.
    """
    with atomic_path(target, replace=replace) as part, part.open("wb") as file:
        yield file


@contextmanager
def atomic_path(target: Path, *, replace: bool = True) -> Iterator[Path]:
    """As `atomic_file`, for a writer that wants a path and no open file.

    Args:
        target: Name of the finished file; folders are made.
        replace: Whether a file of that name is replaced; else the first to finish has the name.

    Yields:
        A path in the same folder; the block makes the file and closes it.

    Raises:
        OSError: if it cannot be written or named.
        TakenError: if there is a file of that name and it is not to be replaced.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(target.parent)  # first: they may be what fills the disk
    part = target.with_name(part_name())
    try:
        with naming(target):
            yield part
            with part.open("rb+") as file:
                os.fsync(file.fileno())
            _name(part, target, replace=replace)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def naming(target: Path) -> Iterator[None]:
    """Name a file in the error of a block that writes it: that of a full disk names none.

    Args:
        target: The file.

    Raises:
        OSError: as the block did, of this file where it was of none.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(target)) from error


def part_name() -> str:
    """A new name for a file that is being written."""
    return f".{uuid.uuid4().hex}.part"


def write_text(target: Path, text: str) -> None:
    """Write a text as UTF-8, whole or not at all.

    Args:
        target: The file; one of that name is replaced, folders are made.
        text: Its content.

    Raises:
        OSError: if it cannot be written or named.
    """
    with atomic_file(target) as file:
        file.write(text.encode())


def remove_abandoned(folder: Path) -> None:
    """Remove the parts that killed processes have left in a folder.

    Args:
        folder: The folder itself, without those inside. What is not there, or may not be removed, is passed over.
    """
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _PART.fullmatch(entry.name):
                with suppress(OSError):  # another process was faster
                    if time.time() - entry.stat(follow_symlinks=False).st_mtime > ABANDONED_SECONDS:
                        os.unlink(entry.path)


def _name(part: Path, target: Path, *, replace: bool) -> None:
    if replace:
        os.replace(part, target)
        return
    try:
        os.link(part, target)  # unlike renaming, a link replaces nothing
    except FileExistsError as error:
        raise TakenError(error.errno, error.strerror, str(target)) from error
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        os.replace(part, target)

"""Paths as people write them, of which none is an error of its own: what is not there is said by who looks for it."""

import os
from pathlib import Path


def at_home(path: str | Path) -> Path:
    """A path with the home folder for its `~`; that of nobody stays as it is."""
    return Path(os.path.expanduser(path))


def check_folder(path: str | Path, what: str) -> None:
    """Refuse what is no folder in the place of one; one that is not there yet will be made.

    Args:
        path: The place.
        what: Whose place it is, for the message.

    Raises:
        ValueError: naming it.
    """
    if os.path.lexists(path) and not os.path.isdir(path):
        raise ValueError(f"{what}: expected a folder, got something else: {path}")


def absolute(path: str | Path) -> Path:
    """An absolute path with what its links lead to; a ring of links, which leads nowhere, stays one."""
    return Path(os.path.realpath(at_home(path)))

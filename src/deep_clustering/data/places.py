"""Paths as people write them, of which none is an error of its own: what is not there is said by who looks for it."""

import os
from pathlib import Path


def at_home(path: str | Path) -> Path:
    """A path with the home folder for its `~`; that of nobody stays as it is."""
    return Path(os.path.expanduser(path))


def absolute(path: str | Path) -> Path:
    """An absolute path with what its links lead to; a ring of links, which leads nowhere, stays one."""
    return Path(os.path.realpath(at_home(path)))

"""Configuration of the same files and options is read once by a process: hundreds of small runs would else mostly read.

The temporary projects of the tests are copies of one another, so that what a file says is known by its content.
"""

import copy
import os
from pathlib import Path
from typing import Any

from kedro.config import OmegaConfigLoader

_read = OmegaConfigLoader.__getitem__
_known: dict[tuple, dict[str, Any]] = {}


def remember_configurations() -> None:
    """Let Kedro's loader take what it has resolved before in this process, if files and options are the same."""
    OmegaConfigLoader.__getitem__ = _read_once


def _read_once(loader: OmegaConfigLoader, kind: str) -> dict[str, Any]:
    folders = [Path(loader.conf_source, env) for env in (loader.base_env, loader.env or loader.default_run_env)]
    # credentials may stand in the environment; a folder that lacks is Kedro's to name
    if kind in loader.data or kind == "credentials" or not all(folder.is_dir() for folder in folders):
        return _read(loader, kind)
    asked = (
        kind,
        "" if kind == "globals" else repr(loader.runtime_params),
        repr(getattr(loader, "_globals", None)),
        repr((loader.merge_strategy, loader.config_patterns)),
        *(_content_of(folder) for folder in folders),
    )
    if asked not in _known:
        _known[asked] = _read(loader, kind)
    return copy.deepcopy(_known[asked])


def _content_of(folder: Path) -> tuple[tuple[str, bytes], ...]:
    files = (Path(place, name) for place, _, names in os.walk(folder) for name in names)
    return tuple(sorted((str(file.relative_to(folder)), file.read_bytes()) for file in files))

"""What a look at data gives, and how its parts are taken."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deep_clustering.data.places import absolute
from deep_clustering.own_data.settings import Settings
from deep_clustering.own_data.text_preview import Preview

ROWS = 3000
"""Rows that are looked at in detail."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """What was seen, and what suits it."""

    source: dict[str, Any]
    """Options of the source."""
    suggest: Callable[[int], Settings]
    """Settings for a number of clusters."""
    n_samples: int
    """Rows."""
    row_shape: tuple[int, ...]
    """Shape of a sample as the source gives it."""
    density: float | None
    """Share of values that are not zero in sparse rows; None for dense ones."""
    n_classes: int | None
    """Known classes; None without labels."""
    preview: Preview
    """Lines for the user: what, and its value."""
    texts: Sequence[str] = ()
    """The texts, for trying an encoder on some."""
    rows: np.ndarray | None = None
    """Rows of vectors as they come, for trying heads on; None of all other data."""
    n_different: int = ROWS
    """Rows that differ from one another among those looked at in detail; where that is not known, more than a guess of
    the number of clusters."""
    is_whole: bool = False
    """Whether these are all rows."""


def project_path(path: Path) -> str:
    """Relative to the project if it is inside, so that the project can be moved; else absolute."""
    resolved = absolute(path)
    inside = resolved.is_relative_to(Path.cwd())
    return (resolved.relative_to(Path.cwd()) if inside else resolved).as_posix()


def spaced(items: Sequence[Any] | np.ndarray, n: int) -> Any:  # noqa: ANN401 - of the type of `items`
    """At most about n of the items, evenly spaced."""
    return items[:: max(1, -(-len(items) // n))]

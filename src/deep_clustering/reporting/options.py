"""Options of the reporting."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge, Le

from deep_clustering.options import build


@dataclass(frozen=True, kw_only=True)
class ReportingOptions:
    """Options of the reporting."""

    map_points: Annotated[int, Ge(10)]
    """Rows that t-SNE places itself; the others go beside their nearest ones."""
    most_points: Annotated[int, Ge(10)]
    """Rows on the maps; of more, a seeded draw."""
    hover_points: Annotated[int, Ge(0), Le(10_000)]
    """Samples that answer to the pointer on the maps, a seeded draw; 0 for none."""
    members: Annotated[int, Ge(1), Le(100)]
    """Members shown of each cluster at each end, most and least certain."""


def make_reporting(options: Mapping[str, Any]) -> ReportingOptions:
    """Check the options of the reporting.

    Args:
        options: Fields of `ReportingOptions`.

    Returns:
        The options.

    Raises:
        ValueError: if an option is unknown, missing or out of range.
    """
    return build(ReportingOptions, options, "reporting")

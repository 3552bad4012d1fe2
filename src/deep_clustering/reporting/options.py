"""Options of the reporting."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deep_clustering.options import build, check_range


@dataclass(frozen=True, kw_only=True)
class ReportingOptions:
    """Options of the reporting."""

    map_points: int
    """Rows that t-SNE places itself; the others go beside their nearest ones."""
    hover_points: int
    """Samples that answer to the pointer on the maps, a seeded draw; 0 for none."""
    members: int
    """Members shown of each cluster at each end, most and least certain."""

    def __post_init__(self) -> None:
        check_range("map_points", self.map_points, 10)
        check_range("hover_points", self.hover_points, 0, 10_000)
        check_range("members", self.members, 1, 100)


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

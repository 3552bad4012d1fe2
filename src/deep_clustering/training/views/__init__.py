"""Views: random changes of a row that keep its meaning, one independent draw for each row of a batch.

All of them work on a whole batch on the tensor's device and take their randomness from a given generator. `plain` is
the view used for prediction: the same output shape, no randomness.
"""

from collections.abc import Mapping
from typing import Any

from deep_clustering.options import build_kind
from deep_clustering.training.views.base import View
from deep_clustering.training.views.image import Affine, Photo
from deep_clustering.training.views.neighbour import Neighbours, neighbour_table
from deep_clustering.training.views.vector import Dropout, Noise

__all__ = ["VIEWS", "View", "make_view", "neighbour_table"]

VIEWS: dict[str, type[View]] = {
    "affine": Affine,
    "photo": Photo,
    "dropout": Dropout,
    "noise": Noise,
    "neighbours": Neighbours,
}
_DROPPED = {"radius_noise": "dropped in 0.3.0; use neighbours or noise"}


def make_view(options: Mapping[str, Any]) -> View:
    """Make a family of views from its options.

    Args:
        options: `kind` (a key of `VIEWS`) and the options of that kind.

    Returns:
        The views.

    Raises:
        ValueError: if the kind or an option is unknown, missing, dropped or out of range.
    """
    return build_kind(VIEWS, options, "views", _DROPPED)

"""Views: random changes of a row that keep its meaning, one independent draw for each row of a batch.

All of them work on a whole batch on the tensor's device and take their randomness from a given generator. `plain` is
the view used for prediction: the same output shape, no randomness.
"""

from collections.abc import Mapping
from typing import Any

from deep_clustering.options import build_kind
from deep_clustering.training.views.base import View
from deep_clustering.training.views.image import Affine, Photo, PhotoCrops
from deep_clustering.training.views.neighbour import Neighbours, neighbour_table
from deep_clustering.training.views.same import Same
from deep_clustering.training.views.vector import Dropout, Noise

__all__ = ["VIEWS", "View", "check_sizes", "make_view", "neighbour_table"]

VIEWS: dict[str, type[View]] = {
    "affine": Affine,
    "photo": Photo,
    "photo_crops": PhotoCrops,
    "dropout": Dropout,
    "noise": Noise,
    "neighbours": Neighbours,
    "same": Same,
}
_DROPPED = {"radius_noise": "dropped in 0.3.0; use neighbours or noise"}


def make_view(options: Mapping[str, Any], *, takes_small: bool = False, takes_one: bool = False) -> View:
    """Make a family of views from its options.

    Args:
        options: `kind` (a key of `VIEWS`) and the options of that kind.
        takes_small: Whether the method takes more than two views of a row.
        takes_one: Whether it takes a single one.

    Returns:
        The views.

    Raises:
        ValueError: if the kind or an option is unknown, missing, dropped or out of range, or the method takes no views
            of that kind.
    """
    view = build_kind(VIEWS, options, "views", _DROPPED)
    if view.n_small and not takes_small:
        raise ValueError(
            f"views: kind '{options['kind']}' has more than two views of a row, which this method does not take"
        )
    if view.n_views == 1 and not takes_one:
        raise ValueError(
            f"views: kind '{options['kind']}' is the row itself, once; this method learns from two views of a row"
        )
    return view


def check_sizes(view: View, encoder: Mapping[str, Any]) -> None:
    """Refuse views of two sizes for a network that takes one.

    Args:
        view: The views.
        encoder: Options of the network.

    Raises:
        ValueError: if the network is made for one size.
    """
    if view.n_small and encoder["kind"] != "resnet":
        raise ValueError(
            f"views: crops of two sizes need encoder resnet, which takes images of any size, got {encoder['kind']}"
        )

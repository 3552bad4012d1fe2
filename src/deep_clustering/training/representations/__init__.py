"""Representation learning beside a clustering loss: losses on projections of the trunk that two views share.

Each is a file with its paper, a function of the projections, and a dataclass of its options.
"""

from collections.abc import Mapping
from typing import Any

from deep_clustering.options import build_kind
from deep_clustering.training.representations.base import NoRepresentation, Representation
from deep_clustering.training.representations.byol import BYOL
from deep_clustering.training.representations.coding_rate import CodingRate
from deep_clustering.training.representations.infonce import InfoNCE
from deep_clustering.training.representations.vicreg import VICReg

__all__ = ["REPRESENTATIONS", "Representation", "make_representation"]

REPRESENTATIONS: dict[str, type[Representation]] = {
    "none": NoRepresentation,
    "infonce": InfoNCE,
    "byol": BYOL,
    "vicreg": VICReg,
    "coding_rate": CodingRate,
}


def make_representation(options: Mapping[str, Any]) -> Representation:
    """Make a loss of representation learning from its options.

    Args:
        options: `kind` (a key of `REPRESENTATIONS`) and the options of that kind.

    Returns:
        The loss.

    Raises:
        ValueError: if the kind or an option is unknown, missing or out of range.
    """
    return build_kind(REPRESENTATIONS, options, "representation")

"""What an environment changes: options of the rows, of their neighbours and of each method."""

from dataclasses import dataclass, field, replace
from typing import Any, Self

# Snapshots of a training at most, but for a rest.
_SNAPSHOTS = 12


@dataclass(frozen=True, kw_only=True)
class MethodSettings:
    """What an environment changes in the options of a method."""

    preset: str | None
    """Block of conf/base/globals.yml that the method takes, with these changes in it; None: they are the method's."""
    changes: dict[str, Any]
    """Options and their values, epochs among them."""

    @property
    def epochs(self) -> int:
        """Passes over the rows."""
        return int(self.changes["epochs"])

    def with_epochs(self, epochs: int) -> Self:
        """The same with other epochs, and snapshots that suit them."""
        return replace(self, changes={**self.changes, "epochs": epochs, "record_every": record_every(epochs)})


# Globals for rows that are no images, of methods without settings of their own: names of presets, and what an
# autoencoder takes rows for.
_OF_ROWS = {
    "views": "neighbours",
    "network": "one_layer",
    "trunk_views": "dropout",
    "likelihood": "gaussian",
    "row_unit": "root_mean_square",
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Rows, neighbours, DCAN and NMM-EM for one kind of data."""

    features: dict[str, Any]
    """Options of the features."""
    n_neighbours: int
    """Nearest rows that are found of each row."""
    metric: str
    """By what they are near."""
    dcan: MethodSettings
    """DCAN."""
    neural_mixture: MethodSettings
    """NMM-EM."""
    others: dict[str, Any] = field(default_factory=_OF_ROWS.copy)
    """Globals that suit the rows, for all other methods."""
    why: list[tuple[str, str]] = field(default_factory=list)
    """What was chosen and why: what, and the words for it."""


def record_every(epochs: int) -> int:
    """Epochs from one snapshot of a training to the next."""
    return max(1, epochs // _SNAPSHOTS)

"""The parameter block `features.learned`: the small network that learns from the images whose rows it makes."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Le

from deep_clustering.options import build

if TYPE_CHECKING:
    from deep_clustering.methods.trunk import Trunk


@dataclass(frozen=True, kw_only=True)
class LearnedOptions:
    """The network of backbone learned: what it learns from and for how long; the others are options of a trunk."""

    side: Annotated[int, Ge(8)]
    """Side in pixels that images are brought to; views of them may have fewer."""
    images: Annotated[int, Ge(2)]
    """Images that it learns from at most, evenly spaced."""
    total_views: Annotated[int, Ge(1)]
    """Views of all images together that it learns from: the number of passes over the images follows."""
    most_epochs: Annotated[int, Ge(1)]
    """Passes over the images at most."""
    seed: Annotated[int, Ge(0), Le(2**32 - 1)]
    """Seed of initialisation, shuffling and views."""
    representation: dict[str, Any]
    """What it learns: kind and its options."""
    views: dict[str, Any]
    """Random views: kind and its options."""
    n_views: Annotated[int, Ge(2)]
    """Views of an image in a batch."""
    encoder: dict[str, Any]
    """Network: kind and its options; what embeds an image is all but its last layer."""
    embedding: Literal["whole", "parts"]
    """whole, or parts: a row is the mean over crops on a grid, where views are crops."""
    batch_size: Annotated[int, Ge(2)]
    """Images in a batch."""
    learning_rate: Annotated[float, Ge(0), Le(10)]
    """Peak of the one-cycle schedule."""
    weight_decay: Annotated[float, Ge(0), Le(1)]
    """AdamW's decay."""

    def trunk(self, n_images: int, device: str, precision: str) -> "Trunk":
        """The network that learns from so many images, untrained; raises ValueError if it refuses an option."""
        from deep_clustering.methods.trunk import Trunk  # imports torch, which other features need not

        options = {
            "seed": self.seed,
            "device": device,
            "representation": self.representation,
            "views": self.views,
            "n_views": self.n_views,
            "encoder": self.encoder,
            "embedding": self.embedding,
            "epochs": min(self.most_epochs, math.ceil(self.total_views / (self.n_views * max(1, n_images)))),
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
            "weight_decay": self.weight_decay,
            "precision": precision,
            "compile": "off",
        }
        return build(Trunk, options, "learned")

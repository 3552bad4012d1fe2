"""Views of rows of any shape, vectors first of all: values are lost, or noise is added to them."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Le
from torch import Tensor

from deep_clustering.training.views.base import OwnView


@dataclass(frozen=True, kw_only=True)
class Dropout(OwnView):
    """Values of a row are lost at random, terms of a text for instance; the row keeps its length."""

    keeps_range: ClassVar = False

    rate: Annotated[float, Ge(0), Le(0.99)]
    """Probability that a value becomes zero."""

    def __call__(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """A random thinning of each row, same shape and Euclidean length."""
        thinned = rows * (torch.rand(rows.shape, generator=generator, device=rows.device) >= self.rate)
        norm = rows.flatten(1).norm(dim=1)
        factor = norm / thinned.flatten(1).norm(dim=1).clamp_min(torch.finfo(rows.dtype).tiny)
        # A row that lost everything stays zero.
        return thinned * factor.nan_to_num(posinf=0.0).view(-1, *[1] * (rows.dim() - 1))


@dataclass(frozen=True, kw_only=True)
class Noise(OwnView):
    """Gaussian noise on each value of a row."""

    keeps_range: ClassVar = False

    scale: Annotated[float, Ge(0)]
    """Standard deviation, in units of the features."""

    def __call__(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """A noisy copy of each row, same shape."""
        noise = torch.randn(rows.shape, generator=generator, device=rows.device, dtype=rows.dtype)
        return rows + self.scale * noise

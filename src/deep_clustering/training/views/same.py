"""No random view at all: for methods that learn from the rows as they come."""

from dataclasses import dataclass

import torch
from torch import Tensor

from deep_clustering.training.rows import Rows
from deep_clustering.training.views.base import View


@dataclass(frozen=True, kw_only=True)
class Same(View):
    """The row itself, once: what `pair` gives has as many rows as the batch, and not two views of each."""

    @property
    def n_views(self) -> int:
        """One."""
        return 1

    def pair(self, rows: Rows, index: Tensor, neighbours: Tensor | None, generator: torch.Generator) -> Tensor:
        """The rows of a batch, shape (n, ...); nothing is drawn."""
        return rows[index]

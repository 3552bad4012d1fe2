"""More than two views of a row, for losses that average over all of them."""

import torch
from torch import Tensor

from deep_clustering.training.rows import Rows
from deep_clustering.training.views.base import View


class Several(View):
    """So many views of each row in the place of the two of a pair, all of one family."""

    def __init__(self, view: View, n_views: int) -> None:
        """So many views of a family, at least 2."""
        self._view, self._n_views = view, n_views

    @property
    def n_views(self) -> int:
        """What was given."""
        return self._n_views

    def pair(self, rows: Rows, index: Tensor, neighbours: Tensor | None, generator: torch.Generator) -> Tensor:
        """One pair behind the other; see `View.pair`."""
        pairs = [self._view.pair(rows, index, neighbours, generator) for _ in range(0, self._n_views, 2)]
        return torch.cat(pairs)[: self._n_views * len(index)]

    @property
    def n_small(self) -> int:
        """Those of the family."""
        return self._view.n_small

    def small(self, rows: Rows, index: Tensor, generator: torch.Generator) -> Tensor | None:
        """Those of the family."""
        return self._view.small(rows, index, generator)

    def plain(self, rows: Tensor) -> Tensor:
        """That of the family."""
        return self._view.plain(rows)

    def parts(self, rows: Tensor) -> list[Tensor]:
        """Those of the family."""
        return self._view.parts(rows)

    def output_shape(self, row_shape: tuple[int, ...]) -> tuple[int, ...]:
        """That of the family."""
        return self._view.output_shape(row_shape)

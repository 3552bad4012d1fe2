"""What all views have in common."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from deep_clustering.options import check_fields
from deep_clustering.training.rows import Rows


class View(ABC):
    """A family of random views; unless it says otherwise, they have the shape of their row."""

    keeps_range: ClassVar[bool] = True
    """Whether views of rows in [0, 1] are in [0, 1]."""
    dropped: ClassVar[dict[str, str]] = {
        "padding: border": "dropped in 0.3.0; use reflection",
        "erase": "dropped in 0.3.0; nothing is erased, leave it out",
        "reweight": "dropped in 0.3.0; use a higher rate",
        "noise": "dropped in 0.3.0; neighbours come without noise, leave it out or use kind: noise",
    }

    def __post_init__(self) -> None:
        check_fields(self)

    @abstractmethod
    def pair(self, rows: Rows, index: Tensor, neighbours: Tensor | None, generator: torch.Generator) -> Tensor:
        """Views of each row of an index batch: two, unless `n_views` says otherwise.

        Nothing waits for the device if the index is where the rows are (`Rows.place`), and the neighbours as well.

        Args:
            rows: All rows.
            index: The batch, shape (n,), int64.
            neighbours: Nearest rows of every row, nearest first, (n_samples, k), int64, -1 for none; None if unknown.
            generator: Source of the draws, on the device of the views.

        Returns:
            First views, then second views in the same order, shape (n_views n, ...).
        """

    @property
    def n_views(self) -> int:
        """Views of each row in what `pair` gives."""
        return 2

    @property
    def n_small(self) -> int:
        """Further views of each row in training, beside the two of a pair."""
        return 0

    def small(self, rows: Rows, index: Tensor, generator: torch.Generator) -> Tensor | None:
        """The further views of each row of an index batch.

        Args:
            rows: All rows.
            index: The batch, shape (n,), int64.
            generator: Source of the draws, on the device of the views.

        Returns:
            One draw of all rows behind the other, shape (n_small n, ...), perhaps of another size; None for none.
        """
        return None

    def plain(self, rows: Tensor) -> Tensor:
        """The view without randomness, for prediction: here the rows themselves."""
        return rows

    def parts(self, rows: Tensor) -> list[Tensor]:
        """Views without randomness of parts of each row, whose embeddings may stand for it in the mean; here none.

        Args:
            rows: Shape (n, ...).

        Returns:
            Views of all rows, one for each part, (n, ...) each.
        """
        return []

    def output_shape(self, row_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of one viewed row; raises ValueError if rows of that shape have no such view."""
        return row_shape


class OwnView(View):
    """Views for which a row alone is enough: both of a pair are of the row itself."""

    @abstractmethod
    def __call__(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """A random view of each row.

        Args:
            rows: Shape (n, ...), float.
            generator: Source of the draws, on the rows' device.

        Returns:
            The views, shape (n, ...) with the `output_shape` of a row.
        """

    def pair(self, rows: Rows, index: Tensor, neighbours: Tensor | None, generator: torch.Generator) -> Tensor:
        """Two views of each row, drawn independently; see `View.pair`."""
        batch = rows[index]
        return self(torch.cat([batch, batch]), generator)

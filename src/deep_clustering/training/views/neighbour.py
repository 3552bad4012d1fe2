"""The view of a row that another row is: one of its nearest neighbours in the data set."""

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from deep_clustering.training.rows import Rows
from deep_clustering.training.views.base import View


@dataclass(frozen=True, kw_only=True)
class Neighbours(View):
    """The row and one of its nearest neighbours, for features of a pretrained network."""

    def pair(self, rows: Rows, index: Tensor, neighbours: Tensor | None, generator: torch.Generator) -> Tensor:
        """Each row and a random one of its neighbours; a row without any is its own partner.

        Partners are drawn where the table of the neighbours is, so that the indices of rows on the host need not come
        back from the device.

        Args:
            rows: All rows.
            index: The batch, shape (n,), int64.
            neighbours: Nearest rows of every row, (n_samples, k), int64, -1 only at the end of a line.
            generator: Source of the draws.

        Returns:
            The rows, then their partners in the same order, shape (2n, ...).

        Raises:
            ValueError: if there are no neighbours.
        """
        if neighbours is None or neighbours.shape[1] == 0:
            raise ValueError("views (neighbours): expected the neighbours of every row, got none; set neighbours.k")
        index = index.to(neighbours.device)
        table = neighbours[index]
        counts = (table >= 0).sum(dim=1)  # the places left over are at the end of each line of the table
        draw = torch.rand(len(index), generator=_at(neighbours.device, generator), device=neighbours.device)
        chosen = table.gather(1, (draw * counts).long().unsqueeze(1)).squeeze(1)
        return rows[torch.cat([index, torch.where(counts > 0, chosen, index)])]


def _at(device: torch.device, generator: torch.Generator) -> torch.Generator:
    """The generator itself if it draws on the device, else one on the host that follows it."""
    return generator if generator.device.type == device.type else _follower(generator)


def _follower(generator: torch.Generator) -> torch.Generator:
    """A generator on the host that the state of another one decides, which then moves on.

    The state lies on the host for each device: it is read, and restored from a checkpoint, without a wait.
    """
    digest = hashlib.sha256(generator.get_state().numpy().tobytes()).digest()
    torch.rand(1, generator=generator, device=generator.device)
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def neighbour_table(neighbours: np.ndarray | None, n_samples: int, device: torch.device) -> Tensor | None:
    """Neighbours as the views want them.

    Args:
        neighbours: Shape (n_samples, k), integers, -1 for none; or None.
        n_samples: Number of rows.
        device: Where the rows are, see `Rows.place`.

    Returns:
        The same as int64 on the device, or None.

    Raises:
        ValueError: if they are no table of integers, there is not one line for each row, or an index points outside.
    """
    if neighbours is None:
        return None
    if neighbours.ndim != 2 or neighbours.dtype.kind not in "iu":
        raise ValueError(
            f"neighbours: expected integers of shape (n_samples, k), got {neighbours.dtype} of shape {neighbours.shape}"
        )
    if neighbours.shape[1] == 0:
        return None
    if (
        len(neighbours) != n_samples
        or neighbours.max() >= n_samples
        or (np.diff((neighbours < 0).astype(int), axis=1) < 0).any()
    ):
        raise ValueError(
            f"neighbours: expected indices below {n_samples} (-1 only at the end of a line) for so many rows, got "
            f"{neighbours.shape} with indices up to {neighbours.max()}"
        )
    return torch.tensor(neighbours, dtype=torch.int64, device=device)

"""What a training loop reports: diagnostics per epoch, snapshots of the assignments, and final figures."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

# Lines of the table of an epoch's batches to begin with; it doubles where there are more.
_FIRST_LINES = 256


class Terms:
    """The terms of one batch: their names, and their values in one tensor of shape (n_terms,) on the device."""

    def __init__(self, terms: Mapping[str, Tensor]) -> None:
        """Put scalars together, without their graph."""
        self.names = tuple(terms)
        self.values = torch.stack([term.detach().float() for term in terms.values()])


class History:
    """Collects the terms of each batch on the device and reads them once per epoch."""

    def __init__(self, method: str) -> None:
        """Start empty.

        Args:
            method: Name used in the message about a non-finite term.
        """
        self._method = method
        self._names: tuple[str, ...] = ()
        self._table = torch.empty(0, 0)  # on the device, with room for more batches than there are
        self._n_batches = 0
        self._rows: list[dict[str, float]] = []
        self._snapshots: list[tuple[int, np.ndarray]] = []
        self._others: dict[str, np.ndarray] = {}
        self.ended_early = False
        """Whether the training was ended by a failure."""

    @property
    def n_epochs(self) -> int:
        """Number of finished epochs."""
        return len(self._rows)

    def add(self, terms: Terms) -> None:
        """Note the terms of one batch, the same for all of an epoch; nothing is read back here."""
        if self._n_batches in (0, len(self._table)):
            self._make_room(terms)
        self._table[self._n_batches].copy_(terms.values)
        self._n_batches += 1

    def _make_room(self, terms: Terms) -> None:
        """See to a table with a free line: that of the epoch before, or one of twice the lines."""
        if self._n_batches:
            self._table = torch.cat([self._table, torch.empty_like(self._table)])
        elif (self._names, self._table.device) != (terms.names, terms.values.device):
            self._names, self._table = terms.names, terms.values.new_empty(_FIRST_LINES, len(terms.names))

    def close_epoch(self, epoch: int, **terms: Tensor) -> None:
        """Average the batches of an epoch.

        Args:
            epoch: Number of the finished epoch, from 1.
            terms: Scalars of the epoch as a whole, on the device.

        Raises:
            FloatingPointError: if a term is NaN or infinite, naming method, epoch and term.
        """
        whole = [term.detach().float().reshape(1) for term in terms.values()]
        means = torch.cat([self._table[: self._n_batches].mean(dim=0), *whole]).tolist()
        names = [*self._names, *terms]
        self._n_batches = 0
        for name, value in zip(names, means, strict=True):
            if not np.isfinite(value):
                raise FloatingPointError(
                    f"{self._method}: '{name}' became {value} in epoch {epoch}; training stopped. Lower the learning "
                    "rate, or look for extreme values in the features"
                )
        self._rows.append({"epoch": float(epoch), **dict(zip(names, means, strict=True))})

    def snapshot(self, epoch: int, assignments: Tensor) -> None:
        """Keep the clusters of all rows after an epoch (0 is the untrained start)."""
        self._snapshots.append((epoch, assignments.cpu().numpy().astype(np.int16)))

    def newest_snapshot(self) -> Tensor:
        """The snapshot taken last, shape (n_samples,), int16."""
        return torch.from_numpy(self._snapshots[-1][1])

    def candidates(self, assignments: Sequence[Tensor], scores: Tensor, origins: Sequence[str] = ()) -> None:
        """Keep the clusters of all rows by each candidate among which one was chosen without labels.

        Args:
            assignments: Of each candidate, shape (n_samples,).
            scores: By which the choice was made, the greatest wins, shape (n_candidates,).
            origins: What each began with, or nothing if that tells them not apart.
        """
        table = torch.stack(list(assignments))
        self._others["candidate_assignments"] = table.cpu().numpy().astype(np.int16)
        self._others["candidate_scores"] = _float64(scores)
        if origins:
            self._others["candidate_origins"] = np.array("\n".join(origins))

    def selection(self, **columns: Tensor) -> None:
        """Note what is known of each number of clusters in a range, columns of shape (n_numbers,)."""
        self._others |= {f"selection_{name}": _float64(column) for name, column in columns.items()}

    def circumstances(self, **texts: str) -> None:
        """Note what the training ran under, such as its device and precision."""
        self._others |= {f"under_{name}": np.array(text) for name, text in texts.items()}

    def final(self, **values: Tensor) -> None:
        """Note figures of the finished training (scalars)."""
        self._others |= {f"final_{name}": np.array(float(value)) for name, value in values.items()}

    def newest_final(self, name: str) -> float:
        """A figure of the finished training."""
        return float(self._others[f"final_{name}"])

    def last(self, *names: str) -> str:
        """Values of the last epoch, as text for a progress display."""
        return ", ".join(f"{name} {self._rows[-1][name]:.3f}" for name in names) if self._rows else ""

    def has_column(self, name: str) -> bool:
        """Whether a term was noted."""
        return bool(self._rows) and name in self._rows[0]

    def column(self, name: str) -> list[float]:
        """Values of one term, an epoch each."""
        return [row[name] for row in self._rows]

    def arrays(self) -> dict[str, np.ndarray]:
        """All that was collected.

        Returns:
            "epoch" and one float64 column per term, shape (n_epochs,); "snapshot_epoch" (n_snapshots,) int64 and
            "snapshot_assignments" (n_snapshots, n_samples) int16; if noted, "candidate_assignments" (n_candidates,
            n_samples) int16, "candidate_scores" (n_candidates,) float64 and their origins in one text, one a line;
            columns "selection_...", scalars "final_..." and texts "under_...".
        """
        names = list(self._rows[0]) if self._rows else ["epoch"]
        columns = {name: np.array([row[name] for row in self._rows], dtype=np.float64) for name in names}
        snapshots: dict[str, np.ndarray] = {
            "snapshot_epoch": np.array([epoch for epoch, _ in self._snapshots], dtype=np.int64),
            "snapshot_assignments": np.array([rows for _, rows in self._snapshots], dtype=np.int16),
        }
        return columns | snapshots | self._others

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs to continue: all that was collected of finished epochs."""
        return {
            "rows": self._rows,
            "snapshots": [[epoch, torch.from_numpy(rows)] for epoch, rows in self._snapshots],
            "others": {name: _plain(value) for name, value in self._others.items()},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave."""
        self._rows = [dict(row) for row in state["rows"]]
        self._snapshots = [(epoch, rows.numpy()) for epoch, rows in state["snapshots"]]
        self._others = {
            name: np.array(value) if isinstance(value, str) else value.numpy()
            for name, value in state["others"].items()
        }


def _float64(values: Tensor) -> np.ndarray:
    """Values in double precision, which not every device has: they become so on the host."""
    return values.cpu().double().numpy()


def _plain(value: np.ndarray) -> Tensor | str:
    """An array as a checkpoint takes it."""
    return str(value) if value.dtype.kind == "U" else torch.from_numpy(np.array(value))

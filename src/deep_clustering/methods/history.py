"""What a training loop reports: diagnostics per epoch and snapshots of the assignments."""

import numpy as np
import torch
from torch import Tensor


class History:
    """Collects the terms of each batch on the device and reads them once per epoch."""

    def __init__(self, method: str) -> None:
        """Start empty.

        Args:
            method: Name used in the message about a non-finite term.
        """
        self._method = method
        self._batches: list[dict[str, Tensor]] = []
        self._rows: list[dict[str, float]] = []
        self._snapshots: list[tuple[int, np.ndarray]] = []

    def add(self, **terms: Tensor) -> None:
        """Note the terms of one batch (scalars on the device; nothing is read back here)."""
        self._batches.append({name: term.detach() for name, term in terms.items()})

    def close_epoch(self, epoch: int) -> None:
        """Average the batches of an epoch.

        Args:
            epoch: Number of the finished epoch, from 1.

        Raises:
            FloatingPointError: if a term is NaN or infinite, naming method, epoch and term.
        """
        names = list(self._batches[0])
        table = torch.stack([torch.stack([batch[name].float() for name in names]) for batch in self._batches])
        means = table.mean(dim=0).tolist()
        self._batches.clear()
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

    def last(self, *names: str) -> str:
        """Values of the last epoch, as text for a progress display."""
        return ", ".join(f"{name} {self._rows[-1][name]:.3f}" for name in names) if self._rows else ""

    def arrays(self) -> dict[str, np.ndarray]:
        """All that was collected.

        Returns:
            "epoch" and one float64 column per term, shape (n_epochs,); "snapshot_epoch" (n_snapshots,) int64 and
            "snapshot_assignments" (n_snapshots, n_samples) int16.
        """
        names = list(self._rows[0]) if self._rows else ["epoch"]
        columns = {name: np.array([row[name] for row in self._rows], dtype=np.float64) for name in names}
        return columns | {
            "snapshot_epoch": np.array([epoch for epoch, _ in self._snapshots], dtype=np.int64),
            "snapshot_assignments": np.array([rows for _, rows in self._snapshots], dtype=np.int16),
        }

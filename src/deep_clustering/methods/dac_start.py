"""The start from clusters of a network that DAC trains first, on the views of the method that begins with them."""

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Gt, Le

from deep_clustering.methods.dac import DAC
from deep_clustering.methods.partitions import most_certain
from deep_clustering.options import build
from deep_clustering.training.checkpoints import Checkpoints
from deep_clustering.training.progress import phase
from deep_clustering.training.workers import of_first


@dataclass(frozen=True, kw_only=True)
class DACStart:
    """Which rows belong together is learned first, from pairs of which a network is sure; see `methods.dac`.

    Its clusters need no map of the rows, and where they are wrong, it is mostly unsure.
    """

    epochs: Annotated[float, Gt(0), Le(100)]
    """Passes over the rows for it, as a share of the fit's epochs."""
    trainings: Annotated[int, Ge(1)]
    """Trainings of it, of which that of greatest likelihood of two views is taken."""
    learning_rate: Annotated[float, Ge(0), Le(10)]
    """Adam's rate in it."""
    upper: Annotated[float, Gt(0), Le(1)]
    """Threshold above which a pair belongs together, at its beginning."""
    lower: Annotated[float, Gt(0), Le(1)]
    """Threshold below which it does not."""
    growth: Annotated[float, Gt(0), Le(1)]
    """Share of these epochs in which they approach each other."""
    hold: Annotated[float, Ge(0), Le(1)]
    """Share of the fit's epochs in which the clusters stand in for the assignments."""
    core: Annotated[float, Ge(0.01), Le(1)]
    """Share of each cluster's rows, those that are most certain, of which the cluster is held."""

    def n_epochs(self, epochs: int) -> int:
        """Passes over the rows in each of its trainings, of a fit of so many epochs."""
        return max(1, round(self.epochs * epochs))

    def find(
        self,
        model: Any,  # noqa: ANN401 - a method with views and an encoder
        n_clusters: int,
        features: np.ndarray,
        neighbours: np.ndarray | None,
        precision: str,
        checkpoints: Checkpoints | None,
    ) -> np.ndarray:
        """Train the network on the views of a method, and say which rows are surely of which cluster.

        Of several workers the first one does, and the others get what it found: each would find clusters of its own.

        Args:
            model: The method; its seed, device, views, encoder, epochs and batches are taken.
            n_clusters: Number of clusters.
            features: The rows.
            neighbours: Nearest rows of each row, or None.
            precision: Of the network's passes.
            checkpoints: Those of the fit that this is the start of, or None.

        Returns:
            Cluster of each row, shape (n_samples,), int64; -1 outside the core.

        Raises:
            ValueError: if the views are more than two of a row.
        """

        def trained() -> np.ndarray:
            n_epochs = self.n_epochs(model.epochs)
            options = {
                "n_clusters": n_clusters,
                "seed": model.seed,
                "device": model.device,
                "encoder": model.encoder,
                "views": model.views,
                "upper": self.upper,
                "lower": self.lower,
                "growth": self.growth,
                "epochs": n_epochs,
                "batch_size": model.batch_size,
                "learning_rate": self.learning_rate,
                "precision": precision,
                "restarts": self.trainings,
                "record_every": n_epochs,
            }
            network = build(DAC, options, "start (dac)")
            with phase(f"start of {model.name}"):
                network.fit(features, neighbours, checkpoints.within(f"dac_{n_clusters}") if checkpoints else None)
            described = network.describe(features)
            assert described.log_responsibilities is not None
            second, first = np.partition(described.log_responsibilities, -2, axis=1)[:, -2:].T
            return most_certain(described.assignments, first - second, self.core)

        return of_first(trained)

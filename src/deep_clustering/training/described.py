"""All that a fitted method says of rows, in one pass over them."""

from abc import ABC, abstractmethod
from typing import NamedTuple, final

import numpy as np


class Described(NamedTuple):
    """What is said of each row."""

    assignments: np.ndarray
    """Cluster, shape (n,), int64."""
    responsibilities: np.ndarray
    """Probability of each cluster, shape (n, n_clusters), float32; rows sum to 1."""
    latent: np.ndarray
    """Latent representation, shape (n, latent_dim), float32."""
    log_density: np.ndarray | None
    """How likely the row is, shape (n,), in nats: an outlier has a low value. None for a method without densities."""
    log_responsibilities: np.ndarray | None = None
    """Logarithm of the responsibilities, shape (n, n_clusters), float64, which tells rows apart where all but one of
    the responsibilities are 0 in single precision; None for a method that knows no more than those."""


class Describing(ABC):
    """A fitted method; each of its other answers is a part of what `describe` says."""

    @abstractmethod
    def describe(self, features: np.ndarray) -> Described:
        """All that is said of each row, in one pass.

        Args:
            features: Shape (n, ...), of the shape of the training rows.

        Returns:
            Assignments, responsibilities and their logarithm, latent and log density.

        Raises:
            ValueError: if the rows are not of that shape, or not finite.
        """

    @final
    def predict(self, features: np.ndarray) -> np.ndarray:
        """Cluster of each row, shape (n,), int64."""
        return self.describe(features).assignments

    @final
    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        """Responsibilities, shape (n, n_clusters), float32; rows sum to 1."""
        return self.describe(features).responsibilities

    @final
    def transform(self, features: np.ndarray) -> np.ndarray:
        """Latent representation, shape (n, latent_dim), float32."""
        return self.describe(features).latent

    @final
    def log_density(self, features: np.ndarray) -> np.ndarray | None:
        """How likely each row is, shape (n,), in nats; None for a method without densities."""
        return self.describe(features).log_density

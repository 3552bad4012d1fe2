"""What every source gives."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from scipy import sparse

# Flags of `Samples.split`: what a row is for. Most rows are both.
FITTED, ASSIGNED = 1, 2


class Skipped(NamedTuple):
    """A row of the source that did not become a sample."""

    place: int
    """Its number among all rows of the source, from 0."""
    name: str
    """File or id; empty: its number."""
    reason: str
    """Why it was left out."""


class Samples(NamedTuple):
    """What a source gives."""

    samples: np.ndarray | sparse.csr_matrix
    """Images (n, channels, height, width) uint8; vectors (n, n_features) float32, dense or CSR."""
    labels: np.ndarray
    """Class of each sample, shape (n,), int64; -1 where unknown."""
    split: np.ndarray
    """What each row is for, shape (n,), uint8: FITTED, ASSIGNED or both."""
    vocabulary: list[str]
    """Term of each column of a text's rows; empty for other data."""
    about: dict[str, Any]
    """name, source, licence, class_names (or None), value_range, protocol; anything else goes to the card as it is."""
    idf: np.ndarray | None = None
    """Weight of each term, shape (n_terms,), float64, with which new texts become rows; None if it is not known."""
    texts: Sequence[str] = ()
    """The texts themselves, one for each sample; empty for other data, and where only their terms are known."""
    ids: Sequence[str] = ()
    """File or id of each sample; empty: its number among all rows of the source."""
    skipped: Sequence[Skipped] = ()
    """Rows that were left out, in their order."""
    weights: np.ndarray | None = None
    """How much each sample counts, shape (n,), float32, at least 0; None: all alike."""


class Source(Protocol):
    """A place that samples come from; its fields are its options."""

    def load(self) -> Samples:
        """Read everything."""


def both(n_samples: int) -> np.ndarray:
    """A split in which every row is fitted and assigned, shape (n_samples,), uint8."""
    return np.full(n_samples, FITTED | ASSIGNED, dtype=np.uint8)


def select_fitted(rows: Any, split: np.ndarray) -> Any:  # noqa: ANN401
    """The rows to be fitted; all of them uncopied, a memory map perhaps, if that is what they are.

    Args:
        rows: Anything with a line for each sample, dense or CSR.
        split: What each sample is for, shape (n,).

    Returns:
        The lines whose flag FITTED is set.
    """
    is_fitted = (split & FITTED) > 0
    return rows if is_fitted.all() else rows[is_fitted]

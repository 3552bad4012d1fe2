"""The training and the test part of a data set, and what a protocol does with them."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from deep_clustering.data.sources.samples import ASSIGNED, FITTED, Samples

logger = logging.getLogger(__name__)

Protocol = Literal["train", "test", "train+test", "train->test"]
# What each protocol loads, and what the rows of each part are for.
PROTOCOLS = {
    "train": {"train": FITTED | ASSIGNED},
    "test": {"test": FITTED | ASSIGNED},
    "train+test": {"train": FITTED | ASSIGNED, "test": FITTED | ASSIGNED},
    "train->test": {"train": FITTED, "test": ASSIGNED},
}
# The same in the words of the data card.
PROTOCOL_WORDS = {
    "train": "training part",
    "test": "test part",
    "train+test": "training and test part together",
    "train->test": "fitted on the training part, assigned to the test part",
}


@dataclass(frozen=True, kw_only=True)
class InParts:
    """Options of every image data set that was published in two parts."""

    root: str
    """Folder of the raw files."""
    protocol: Protocol
    """train, test, train+test, or train->test."""
    download: bool
    """Whether missing files may be downloaded."""


class Part(NamedTuple):
    """Some rows of a data set."""

    images: np.ndarray
    """Shape (n, channels, height, width), uint8; a memory map or a transposed view will do."""
    labels: np.ndarray
    """Class of each image, shape (n,), int64; -1 where unknown."""
    flag: int
    """What the rows are for: FITTED, ASSIGNED or both."""


def join_parts(parts: Sequence[Part], about: Mapping[str, Any]) -> Samples:
    """Put the parts of an image data set one behind the other.

    Args:
        parts: At least one, of images of one shape.
        about: What the source says of itself, for the data card.

    Returns:
        The samples; `about` gains the value range of bytes.
    """
    n_samples = sum(len(part.images) for part in parts)
    images = np.empty((n_samples, *parts[0].images.shape[1:]), dtype=np.uint8)
    # Into an array of our own: the result would otherwise keep the memory order of transposed parts.
    np.concatenate([part.images for part in parts], out=images)
    labels = np.concatenate([part.labels for part in parts])
    split = np.concatenate([np.full(len(part.labels), part.flag, dtype=np.uint8) for part in parts])
    return Samples(images, labels, split, [], {**about, "value_range": [0.0, 255.0]})


def warn_of_size(name: str, part: str, n_rows: int, n_published: int) -> None:
    """Say it if a part has not as many rows as its authors published; a user's own cut is allowed.

    Args:
        name: Name of the data set.
        part: Which part.
        n_rows: Rows that were read.
        n_published: Rows that there should be.
    """
    if n_rows != n_published:
        logger.warning("ingestion: %s: the %s part has %d rows, %d were published", name, part, n_rows, n_published)

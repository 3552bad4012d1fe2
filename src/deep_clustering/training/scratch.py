"""Room for arrays of any size: a large one lies in a nameless scratch file."""

import math
import tempfile
from pathlib import Path

import numpy as np

MOST_IN_MEMORY = 2**28
"""Bytes of an array, above which it lies on disk."""


def room(shape: tuple[int, ...], dtype: type | np.dtype, *, folder: Path | None = None) -> np.ndarray:
    """An array to be filled.

    Args:
        shape: Its shape.
        dtype: Its type.
        folder: Where a large one lies; None: the folder of temporary files (TMPDIR).

    Returns:
        An array with any content; above `MOST_IN_MEMORY` a map of a file without a name, whose space is free again when
        the array is gone.
    """
    if math.prod(shape) * np.dtype(dtype).itemsize <= MOST_IN_MEMORY:
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile(dir=folder) as file:
        return np.memmap(file, dtype=dtype, mode="w+", shape=shape)

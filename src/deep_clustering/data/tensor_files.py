"""Named arrays and texts as the bytes of one safetensors file."""

import json
from collections.abc import Mapping

import numpy as np
import safetensors.numpy


def to_bytes(arrays: Mapping[str, np.ndarray], header: Mapping[str, str]) -> bytes:
    """Write arrays and the texts that belong to them."""
    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    return safetensors.numpy.save(contiguous, metadata=dict(header))


def from_bytes(content: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """What `to_bytes` wrote.

    Args:
        content: All of a file.

    Returns:
        arrays: by name.
        header: the texts by name.

    Raises:
        SafetensorError: if the content is cut short or of another kind.
    """
    arrays = safetensors.numpy.load(content)
    n_header = int.from_bytes(content[:8], "little")
    return arrays, json.loads(content[8 : 8 + n_header]).get("__metadata__", {})

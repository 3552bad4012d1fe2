"""Named arrays and texts as the bytes of one safetensors file."""

import hashlib
import json
from collections.abc import Mapping

import numpy as np
import safetensors.numpy

_DIGEST = "sha256"


def to_bytes(arrays: Mapping[str, np.ndarray], header: Mapping[str, str]) -> bytes:
    """Write arrays and the texts that belong to them, with a digest of both."""
    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    return safetensors.numpy.save(contiguous, metadata={**header, _DIGEST: _digest(contiguous, header)})


def from_bytes(content: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """What `to_bytes` wrote.

    Args:
        content: All of a file.

    Returns:
        arrays: by name.
        header: the texts by name.

    Raises:
        SafetensorError: if the content is cut short or of another kind.
        ValueError: if it is not what was written, by its digest; files of versions before 0.3.0 have none.
    """
    arrays = safetensors.numpy.load(content)
    n_header = int.from_bytes(content[:8], "little")
    header: dict[str, str] = json.loads(content[8 : 8 + n_header]).get("__metadata__", {})
    stated = header.pop(_DIGEST, None)
    if stated is not None and stated != (found := _digest(arrays, header)):
        raise ValueError(f"its content has changed since it was written: sha256 {found[:12]}, expected {stated[:12]}")
    return arrays, header


def _digest(arrays: Mapping[str, np.ndarray], header: Mapping[str, str]) -> str:
    """sha256 of names, types, shapes and numbers of the arrays, and of the texts."""
    digest = hashlib.sha256(repr(sorted(header.items())).encode())
    for name, array in sorted(arrays.items()):
        digest.update(repr((name, array.dtype.str, array.shape)).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()

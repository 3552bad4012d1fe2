"""A key of each row's content, by which the rows that two versions of a data set share are found again."""

import hashlib
from collections.abc import Sequence
from itertools import islice

import numpy as np
from scipy import sparse

_BYTES = 8
_CHUNK = 4096


def row_keys(samples: np.ndarray | sparse.csr_matrix, texts: Sequence[str]) -> np.ndarray:
    """Keys of samples: the same for the same content in any data set.

    Args:
        samples: Images or vectors, any shape; vectors may be CSR.
        texts: The texts themselves, whose terms depend on all others; empty for other data.

    Returns:
        The first bytes of BLAKE2b of each sample or text, shape (n_samples,), uint64.
    """
    if texts:
        contents = (text.encode("utf-8", "surrogatepass") for text in texts)
    elif sparse.issparse(samples):
        contents = (_bytes_of(samples, row) for row in range(samples.shape[0]))
    else:
        contents = (np.ascontiguousarray(row).tobytes() for row in samples)
    digests = (hashlib.blake2b(content, digest_size=_BYTES).digest() for content in contents)
    # Digests at a time: all of them as Python's bytes would take five times as much as the keys.
    parts = iter(lambda: b"".join(islice(digests, _CHUNK)), b"")
    keys = [np.frombuffer(part, dtype="<u8").astype(np.uint64) for part in parts]
    return np.concatenate(keys) if keys else np.zeros(0, dtype=np.uint64)


def _bytes_of(rows: sparse.csr_matrix, row: int) -> bytes:
    places = slice(rows.indptr[row], rows.indptr[row + 1])
    return rows.indices[places].astype(np.int64).tobytes() + rows.data[places].tobytes()

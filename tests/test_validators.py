"""Arrays that the catalog takes and refuses."""

import numpy as np
import pytest
from scipy import sparse

from deep_clustering import validators

ROWS = np.zeros((4, 3), dtype=np.float32)

GOOD = [
    ("samples", np.zeros((2, 1, 4, 4), dtype=np.uint8)),
    ("samples", ROWS),
    ("samples", sparse.csr_matrix(ROWS)),
    ("features", ROWS),
    ("labels", np.array([-1, 0, 5])),
    ("split", np.array([1, 2, 3], dtype=np.uint8)),
    ("assignments", np.array([0, 1])),
]
BAD = [
    ("samples", np.zeros((2, 4, 4), dtype=np.uint8), r"got \(2, 4, 4\)"),
    ("samples", ROWS.astype(np.int64), "got ndarray of int64"),
    ("features", np.full((2, 2), np.nan, dtype=np.float32), "first in row 0"),
    ("features", ROWS[0], r"got \(3,\)"),
    ("labels", np.array([-2, 0]), "at least -1, got -2"),
    ("labels", np.array([0.5]), r"expected int64 of shape \(n,\), got float64"),
    ("split", np.array([2, 2], dtype=np.uint8), r"some rows to be fitted, got \[2\]"),
    ("split", np.array([4], dtype=np.uint8), r"got \[4\]"),
    ("assignments", np.array([[1]]), r"got int64 \(1, 1\)"),
    ("assignments", np.array([-1]), "at least 0, got -1"),
]


@pytest.mark.parametrize(("name", "array"), GOOD)
def test_what_the_pipelines_write_is_taken(name, array):
    getattr(validators, name)(array)


@pytest.mark.parametrize(("name", "array", "message"), BAD)
def test_anything_else_is_refused(name, array, message):
    with pytest.raises(ValueError, match=message):
        getattr(validators, name)(array)

"""Keys of rows: equal for equal content, whatever else is in the data."""

import numpy as np
import pytest
from scipy import sparse

from deep_clustering.data.row_keys import row_keys

ROWS = np.array([[1.0, 0.0], [0.0, 2.0], [1.0, 0.0], [0.0, 0.0], [2.0, 0.0]], dtype=np.float32)


@pytest.mark.parametrize("rows", [ROWS, sparse.csr_matrix(ROWS), ROWS.astype(np.uint8)[:, None, None]])
def test_rows_have_one_key_exactly_if_they_are_equal(rows):
    keys = row_keys(rows, [])
    assert keys.dtype == np.uint64
    assert keys[0] == keys[2]
    assert len(set(keys.tolist())) == 4
    np.testing.assert_array_equal(row_keys(rows[2:], []), keys[2:])


def test_texts_are_known_by_themselves_and_not_by_their_terms():
    one, other = row_keys(ROWS[:2], ["a", "b"]), row_keys(ROWS[2:], ["b", "c", "a"])
    assert one.tolist() == [other[2], other[0]]

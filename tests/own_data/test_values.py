"""One pass over all values: the range is exact, what is not finite is placed, accidents are told from long tails."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from deep_clustering.own_data.values import look_at_sparse_values, look_at_values


@pytest.mark.parametrize("row", [0, 4500, 9999])
def test_a_wild_cell_is_found_wherever_it_is(row):
    rows = np.random.default_rng(0).normal(size=(10_000, 6))
    deviations = rows.std(axis=0)
    rows[row, 4] = 1e9
    seen = look_at_values(rows)
    assert (seen.low, seen.high) == (rows.min(), 1e9)
    assert seen.n_wild == 1
    assert seen.wild[0] == (row, 4, 1e9)
    assert seen.usual[1] < 10
    np.testing.assert_allclose(seen.deviations, deviations, rtol=1e-2)  # as without it
    ((_, text),) = seen.attention()
    assert f"1e+09 in row {row}, column 4" in text


def test_a_wild_cell_of_a_small_table_is_found():
    rows = np.random.default_rng(0).normal(size=(40, 3))
    rows[7, 1] = -1e7
    assert look_at_values(rows).wild == [(7, 1, -1e7)]


@pytest.mark.parametrize(
    "rows",
    [
        np.random.default_rng(0).normal(size=(2000, 4)) * [1, 1e3, 1e6, 1e-6],  # scales of their own
        np.random.default_rng(0).lognormal(0, 2, size=(2000, 4)),  # a long tail
        np.eye(300) * 16,  # rare, and of the usual size
        np.r_[np.zeros((2000, 2)), np.full((100, 2), 1e6)],  # many
        np.ones((5, 3)),
    ],
)
def test_what_many_cells_do_is_not_wild(rows):
    seen = look_at_values(rows)
    assert (seen.n_wild, seen.attention()) == (0, [])
    assert seen.usual == (seen.low, seen.high) == (rows.min(), rows.max())


def test_cells_of_images_are_compared_with_all_others():
    images = np.random.default_rng(0).random((100, 1, 8, 8))
    images[70, 0, 2, 3] = 1e6
    assert look_at_values(images).wild == [(70, 19, 1e6)]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_placed_and_counted(bad):
    rows = np.zeros((9000, 3))
    rows[8123, 2] = rows[8999, 0] = bad
    with pytest.raises(ValueError, match=r"row 8123, column 2 .* 2 of 9000 rows .*: 0 \(1\), 2 \(1\);"):
        look_at_values(rows)


@pytest.mark.parametrize("shape", [(40, 3), (40, 1, 1, 3)])
def test_what_float32_cannot_hold_is_refused_by_its_place_and_the_advice_keeps_the_other_rows(shape):
    array = np.random.default_rng(0).normal(size=shape)
    array.reshape(40, 3)[[7, 9], 1] = -1e300, 1.7e308
    with pytest.raises(
        ValueError, match=r"fit float32 .* got -1e\+300 first in row 7, column 1 .* 2 of 40 "
    ) as refusal:
        look_at_values(array)
    kept = eval(str(refusal.value).rpartition("drop these rows: ")[2], {"np": np, "array": array, "len": len})
    np.testing.assert_array_equal(kept, np.delete(array, [7, 9], axis=0))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_in_sparse_rows_has_its_place_there(bad):
    rows = sparse.csr_matrix(np.diag(np.arange(1.0, 9)))
    rows.data[[4, 6]] = bad
    with pytest.raises(ValueError, match=r"first in row 4, column 4 \(from 0\); 2 of 8 rows have such values"):
        look_at_sparse_values(rows)


def test_a_wild_value_of_sparse_rows_has_its_place():
    rows = sparse.random(500, 40, 0.1, "csr", rng=np.random.default_rng(0))
    rows.data += 1
    at = 1234
    row, column = np.searchsorted(rows.indptr, at, side="right") - 1, rows.indices[at]
    rows.data[at] = 1e8
    assert look_at_sparse_values(rows).wild == [(row, column, 1e8)]
    assert look_at_sparse_values(sparse.csr_matrix((3, 4))).n_wild == 0


@given(st.integers(1, 50), st.integers(1, 5), st.integers(0, 99))
def test_range_and_deviations_are_those_of_numpy(n_rows, n_columns, seed):
    rows = np.random.default_rng(seed).normal(3, 2, size=(n_rows, n_columns))
    seen = look_at_values(rows)
    assert (seen.low, seen.high) == (rows.min(), rows.max())
    np.testing.assert_allclose(seen.deviations, rows.std(axis=0), atol=1e-7)

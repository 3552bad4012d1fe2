"""The checks at the doors: what passes, and what each refusal says."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import sparse

from deep_clustering.checks import check_features, check_labels, check_rows

finite_rows = st.sampled_from([np.float32, np.float64]).flatmap(
    lambda dtype: st.sampled_from([(5, 3), (1, 1), (4, 1, 2, 2)]).flatmap(
        lambda shape: arrays(dtype, shape, elements=st.floats(-1e6, 1e6, width=32))
    )
)


@given(finite_rows)
def test_finite_rows_pass_untouched(rows):
    copy = rows.copy()
    check_rows(rows, "here")
    check_rows(rows, "here", rows.shape[1:])
    np.testing.assert_array_equal(rows, copy)


@given(st.integers(0, 9999), st.sampled_from([np.nan, np.inf, -np.inf]))
def test_the_first_row_that_is_not_finite_is_named_also_beyond_the_first_chunk(row, value):
    rows = np.zeros((10_000, 2), dtype=np.float32)
    rows[row, 1] = value
    rows[row:, 0] = value
    with pytest.raises(ValueError, match=f"^here: features must be finite, got NaN or infinity first in row {row}$"):
        check_rows(rows, "here")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((3, 2), dtype=int), "features must be a float32 array or CSR matrix, got .*int64"),
        (np.zeros((3, 2), dtype=bool), "features must be a float32 array or CSR matrix, got .*bool"),
        (np.zeros((3, 2), dtype=np.float16), "features must be a float32 array or CSR matrix, got .*float16"),
        (np.zeros((3, 2), dtype=object), "features must be a float32 array or CSR matrix, got .*object"),
        (np.zeros((3, 2), dtype=complex), "features must be a float32 array or CSR matrix, got .*complex128"),
        ([[0.0]], "features must be a float32 array or CSR matrix, got .*list"),
        (None, "features must be a float32 array or CSR matrix, got .*NoneType"),
        (torch.zeros(3, 2), "features must be a float32 array or CSR matrix, got .*Tensor"),
        (sparse.csc_matrix(np.eye(3)), "features must be .* CSR matrix, got .*csc"),
        (sparse.csr_matrix(np.eye(3, dtype=int)), "features must be .* CSR matrix, got .*int64"),
        (sparse.csr_matrix((0, 3)), r"must not be empty, got shape \(0, 3\)"),
        (np.zeros(3), r"must have shape \(n_samples, n_features\) or \(n_samples, channels, .*, got \(3,\)"),
        (np.zeros((3, 2, 2)), r"must have shape .*, got \(3, 2, 2\)"),
        (np.zeros((3, 1, 2, 2, 2)), r"must have shape .*, got \(3, 1, 2, 2, 2\)"),
        (np.zeros(()), r"must have shape .*, got \(\)"),
        (np.zeros((0, 2)), r"must not be empty, got shape \(0, 2\)"),
        (np.zeros((3, 0)), r"must not be empty, got shape \(3, 0\)"),
    ],
)
def test_wrong_rows_are_refused(rows, message):
    with pytest.raises(ValueError, match=f"^here: .*{message}"):
        check_rows(rows, "here")


@pytest.mark.parametrize("make", [np.array, sparse.csr_matrix], ids=["dense", "sparse"])
@pytest.mark.parametrize("value", [1e39, -1e300])
def test_values_beyond_single_precision_are_refused(make, value):
    """The methods work in single precision, where such a value is infinite."""
    with pytest.raises(ValueError, match=r"^here: .* row 1"):
        check_rows(make([[0.0, 1.0], [value, 1.0]]), "here")


def test_rows_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"^here: each row must have shape \(1, 4, 4\), got \(16,\)$"):
        check_rows(np.zeros((2, 16)), "here", (1, 4, 4))


@pytest.mark.parametrize("make", [np.array, sparse.csr_matrix], ids=["dense", "sparse"])
def test_more_clusters_than_distinct_rows_are_refused(make):
    rows = np.array([[0.0, 1.0], [2.0, 0.0], [0.0, 3.0]])[np.arange(12) % 3]
    check_features(make(rows), 3, "here")
    message = "n_clusters must be at most the number of distinct rows, got 4 for 12 rows of which 3 differ"
    with pytest.raises(ValueError, match=f"^here: {message}$"):
        check_features(make(rows), 4, "here")
    rows[rows == 0] *= np.where(np.arange(12) < 6, -1.0, 1.0)  # -0.0 equals 0.0
    with pytest.raises(ValueError, match=message):
        check_features(make(rows), 4, "here")


def test_enough_different_rows_pass():
    check_features(np.array([[0.0], [1.0]]), 2, "here")


@pytest.mark.parametrize(
    ("n_rows", "n_clusters", "message"),
    [
        (5, 1, "n_clusters must be at least 2, got 1"),
        (5, 0, "n_clusters must be at least 2, got 0"),
        (5, -1, "n_clusters must be at least 2, got -1"),
        (5, 6, "n_clusters must be at most the number of rows, got 6 for 5 rows"),
        (1, 2, "n_clusters must be at most the number of rows, got 2 for 1 rows"),
    ],
)
def test_wrong_numbers_of_clusters_are_refused(n_rows, n_clusters, message):
    with pytest.raises(ValueError, match=f"^here: {message}$"):
        check_features(np.arange(n_rows, dtype=np.float32)[:, None], n_clusters, "here")


@pytest.mark.parametrize("n_rows", [2, 4096, 9000])
def test_constant_rows_are_refused_and_one_other_row_is_enough(n_rows):
    rows = np.tile(np.array([1.0, 2.0, 3.0], dtype=np.float32), (n_rows, 1))
    with pytest.raises(ValueError, match=rf"^here: all {n_rows} rows are equal \(constant features\)"):
        check_features(rows, 2, "here")
    rows[-1, -1] += 1
    check_features(rows, 2, "here")


def test_features_are_checked_as_rows_first():
    with pytest.raises(ValueError, match="finite"):
        check_features(np.full((3, 2), np.nan), 2, "here")


@given(arrays(np.float32, (6, 4), elements=st.sampled_from([0.0, 0.0, 1.0, np.nan, np.inf])))
def test_sparse_rows_are_judged_as_dense_ones(rows):
    def verdict(features):
        try:
            check_features(features, 2, "here")
        except ValueError as error:
            return str(error)
        return "fine"

    assert verdict(sparse.csr_matrix(rows)) == verdict(rows)


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_constant_sparse_rows_are_refused(value):
    rows = np.full((5, 3), value, dtype=np.float32)
    with pytest.raises(ValueError, match="all 5 rows are equal"):
        check_features(sparse.csr_matrix(rows), 2, "here")
    rows[4, 1] += 1
    check_features(sparse.csr_matrix(rows), 2, "here")


def test_sparse_rows_of_another_width_are_refused():
    with pytest.raises(ValueError, match=r"^here: each row must have shape \(4,\), got \(3,\)$"):
        check_rows(sparse.csr_matrix(np.eye(3)), "here", (4,))


def test_memory_maps_pass(tmp_path):
    np.save(tmp_path / "rows.npy", np.eye(5, dtype=np.float32))
    check_features(np.load(tmp_path / "rows.npy", mmap_mode="r"), 2, "here")


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint8, np.uint64])
def test_integer_labels_pass(dtype):
    check_labels(np.array([0, 1, 2], dtype=dtype), 3, "here")


def test_unknown_labels_pass():
    check_labels(np.array([-1, 0, -1]), 3, "here")
    check_labels(np.zeros(0, dtype=int), 0, "here")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros(3), r"labels must be integers of shape \(n_samples,\), got float64 \(3,\)"),
        (np.zeros((3, 1), dtype=int), r"labels must be integers .*, got int64 \(3, 1\)"),
        (np.zeros(3, dtype=bool), "labels must be integers .*, got bool"),
        (np.array(["a", "b", "c"]), "labels must be integers .*, got <U1"),
        ([0, 1, 2], "labels must be integers .*, got list"),
        (None, "labels must be integers .*, got NoneType"),
        (np.zeros(4, dtype=int), "expected one label for each of the 3 rows, got 4"),
        (np.array([0, 1, -2]), "labels must be at least 0, or -1 for unknown, got -2"),
    ],
)
def test_wrong_labels_are_refused(labels, message):
    with pytest.raises(ValueError, match=f"^here: {message}"):
        check_labels(labels, 3, "here")

"""Neighbours against brute force and scikit-learn."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from deep_clustering.data.neighbours import find_neighbours

OPTIONS = {"k": 5, "centre": False, "projection": 0}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setitem(OPTIONS, "cache", str(tmp_path))
    return tmp_path


@pytest.fixture
def rows():
    return np.random.default_rng(0).normal(size=(1200, 6)).astype(np.float32)


def test_neighbours_are_those_of_scikit_learn(rows):
    found = find_neighbours(rows, OPTIONS)
    index = NearestNeighbors(n_neighbors=6, metric="cosine", algorithm="brute").fit(rows.astype(np.float64))
    expected = index.kneighbors(return_distance=False)[:, :5]
    assert (found == expected).mean() > 0.999  # float32 may swap two that are equally near
    assert found.dtype == np.int32


def test_centring_is_subtracting_the_mean(rows):
    shifted = rows + 10
    np.testing.assert_array_equal(
        find_neighbours(shifted - shifted.mean(axis=0), OPTIONS), find_neighbours(shifted, {**OPTIONS, "centre": True})
    )


def test_sparse_rows_and_images_give_what_dense_vectors_give(rows):
    expected = find_neighbours(rows, OPTIONS)
    np.testing.assert_array_equal(find_neighbours(sparse.csr_matrix(rows), OPTIONS), expected)
    np.testing.assert_array_equal(find_neighbours(rows.reshape(1200, 1, 2, 3), OPTIONS), expected)


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_matrix])
def test_projected_neighbours_are_those_of_the_leading_principal_components(rows, make):
    stretched = rows * np.array([8, 7, 6, 5, 0.1, 0.1], np.float32)
    found = find_neighbours(make(stretched), {**OPTIONS, "centre": True, "projection": 4})
    components = PCA(4, svd_solver="full").fit_transform(stretched.astype(np.float64))
    index = NearestNeighbors(n_neighbors=5, metric="cosine", algorithm="brute").fit(components)
    expected = index.kneighbors(return_distance=False)
    assert (found == expected).mean() > 0.999


def test_a_projection_on_as_many_dimensions_as_there_are_is_refused(rows):
    with pytest.raises(ValueError, match="projection must be below the 6 numbers of a row, got 6"):
        find_neighbours(rows, {**OPTIONS, "projection": 6})


def test_no_neighbours_are_an_empty_table(rows):
    assert find_neighbours(rows, {**OPTIONS, "k": 0}).shape == (1200, 0)


def test_as_many_neighbours_as_rows_are_refused(rows):
    with pytest.raises(ValueError, match="k must be below the number of rows 4, got 4"):
        find_neighbours(rows[:4], {**OPTIONS, "k": 4})


def test_the_same_rows_and_options_are_searched_once(rows, cache, monkeypatch):
    first = find_neighbours(rows, OPTIONS)
    assert [path.suffix for path in cache.iterdir()] == [".npy"]
    monkeypatch.setattr("deep_clustering.data.neighbours._search", lambda *_: pytest.fail("searched again"))
    np.testing.assert_array_equal(find_neighbours(rows.copy(), OPTIONS), first)


@pytest.mark.parametrize("change", [{"k": 4}, {"centre": True}, {"projection": 3}])
def test_other_options_or_rows_are_searched_anew(rows, cache, change):
    find_neighbours(rows, OPTIONS)
    find_neighbours(rows, OPTIONS | change)
    find_neighbours(rows[:600], OPTIONS)
    assert len(list(cache.iterdir())) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": -1}, "k must be at least 0, got -1"),
        ({"projection": -1}, "projection must be at least 0, got -1"),
        ({"metric": "cosine"}, "option 'metric' was dropped in 0.3.0; neighbours are always the nearest by cosine"),
        ({"mutual": False}, "option 'mutual' was dropped in 0.3.0; all k neighbours are kept"),
    ],
)
def test_options_that_are_out_of_range_or_dropped_are_refused(rows, change, message):
    with pytest.raises(ValueError, match=f"^neighbours: {message}"):
        find_neighbours(rows, OPTIONS | change)

"""Neighbours against brute force and scikit-learn."""

import os

import numpy as np
import pytest
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from deep_clustering.data import neighbours
from deep_clustering.data.neighbours import find_neighbours as find_with_card
from deep_clustering.data.neighbours import is_held_out, leave_out

OPTIONS = {"k": 5, "metric": "cosine", "centre": False, "projection": 0, "exact_rows": 5000, "held_out": 0.0}


def find_neighbours(rows, options):
    return find_with_card(rows, options).table


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setitem(OPTIONS, "cache", str(tmp_path))
    return tmp_path


@pytest.fixture
def rows():
    return np.random.default_rng(0).normal(size=(1200, 6)).astype(np.float32)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_neighbours_are_those_of_scikit_learn(rows, metric):
    found = find_neighbours(rows, {**OPTIONS, "metric": metric})
    index = NearestNeighbors(n_neighbors=5, metric=metric, algorithm="brute").fit(rows.astype(np.float64))
    expected = index.kneighbors(return_distance=False)
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


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: b"",
        lambda content: content.replace(b"{", b"(", 1),
        lambda content: content.replace(b"<i4", b"<i2"),
        lambda content: content[:-1] + b"\x7f",
    ],
)
def test_neighbours_whose_file_is_damaged_are_searched_again(rows, cache, caplog, damage):
    first = find_neighbours(rows, OPTIONS)
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    np.testing.assert_array_equal(find_neighbours(rows, OPTIONS), first)
    assert "is cut short or damaged" in caplog.text
    assert file.read_bytes() == whole


def test_a_cache_that_is_no_folder_is_named_before_anything_is_searched(rows, tmp_path, monkeypatch):
    monkeypatch.setattr(neighbours, "_search", None)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match=r"neighbours\.cache: expected a folder, got something else: .*/pipe$"):
        find_neighbours(rows, OPTIONS | {"cache": str(tmp_path / "pipe")})


@pytest.mark.parametrize("change", [{"k": 4}, {"centre": True}, {"projection": 3}, {"metric": "euclidean"}])
def test_other_options_or_rows_are_searched_anew(rows, cache, change):
    find_neighbours(rows, OPTIONS)
    find_neighbours(rows, OPTIONS | change)
    find_neighbours(rows[:600], OPTIONS)
    assert len(list(cache.iterdir())) == 3


def test_what_is_held_out_is_searched_with_the_rest(rows, cache):
    all_of_them = find_neighbours(rows, OPTIONS)
    np.testing.assert_array_equal(find_neighbours(rows, {**OPTIONS, "held_out": 0.5}), all_of_them)
    assert len(list(cache.iterdir())) == 1


def test_a_pair_is_held_out_whichever_row_comes_first():
    first, second = np.random.default_rng(0).integers(0, 10**6, (2, 5000))
    np.testing.assert_array_equal(is_held_out(first, second, 0.3), is_held_out(second, first, 0.3))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_about_the_share_of_all_pairs_is_held_out(share):
    first, second = np.triu_indices(400, 1)
    deviation = np.sqrt(share * (1 - share) / len(first))
    assert abs(is_held_out(first, second, share).mean() - share) < 4 * deviation


def test_every_row_keeps_about_the_same_share_of_its_pairs():
    first, second = np.indices((400, 400))
    held_out = is_held_out(first, second, 0.5).mean(axis=1)
    assert abs(held_out - 0.5).max() < 5 * np.sqrt(0.25 / 400)


def test_what_a_small_share_holds_out_a_larger_one_does_too():
    first, second = np.triu_indices(100, 1)
    assert is_held_out(first, second, 0.5)[is_held_out(first, second, 0.2)].all()


def test_neighbours_that_are_left_out_are_blanks_at_the_end_of_the_line(rows):
    table = find_neighbours(rows, OPTIONS)
    left = leave_out(table, 0.4)
    assert left.shape == table.shape
    assert left.dtype == np.int32
    for row, (before, after) in enumerate(zip(table, left, strict=True)):
        kept = before[~is_held_out(np.full(5, row), before, 0.4)]
        np.testing.assert_array_equal(after, np.concatenate([kept, np.full(5 - len(kept), -1)]))


def test_rows_lose_each_other_or_neither(rows):
    table = find_neighbours(rows, OPTIONS)
    left = leave_out(table, 0.4)
    for row, line in enumerate(table):
        for other in line:
            if row in table[other]:
                assert (other in left[row]) == (row in left[other])


def test_nothing_is_left_out_of_neighbours_when_none_are_held_out(rows):
    table = find_neighbours(rows, OPTIONS)
    np.testing.assert_array_equal(leave_out(table, 0.0), table)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": -1}, "k must be at least 0, got -1"),
        ({"projection": -1}, "projection must be at least 0, got -1"),
        ({"metric": "manhattan"}, r"metric got 'manhattan' \(known: cosine, euclidean\)"),
        ({"held_out": -0.1}, "held_out must be at least 0 and below 1, got -0.1"),
        ({"held_out": 1.0}, "held_out must be at least 0 and below 1, got 1.0"),
        ({"mutual": False}, "option 'mutual' was dropped in 0.3.0; all k neighbours are kept"),
    ],
)
def test_options_that_are_out_of_range_or_dropped_are_refused(rows, change, message):
    with pytest.raises(ValueError, match=f"^neighbours: {message}"):
        find_neighbours(rows, OPTIONS | change)

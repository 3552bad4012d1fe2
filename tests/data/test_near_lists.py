"""Approximate neighbours against exact ones, and what is left of a search that was killed."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import sparse
from sklearn.neighbors import NearestNeighbors

from deep_clustering.data import near_lists
from deep_clustering.data.near_lists import RowBlocks
from deep_clustering.data.neighbours import find_neighbours

K = 5


@pytest.fixture
def options(tmp_path):
    return {
        "k": K,
        "metric": "euclidean",
        "centre": False,
        "projection": 0,
        "exact_rows": 100,
        "held_out": 0.0,
        "cache": str(tmp_path),
    }


@pytest.fixture
def rows():
    return np.random.default_rng(0).normal(size=(800, 6)).astype(np.float32)


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(near_lists, "_ROWS", 100)


def needs_faiss():
    pytest.importorskip("faiss", reason="approximate neighbours need faiss, the extra 'near'")


def exact(rows, metric):
    index = NearestNeighbors(n_neighbors=K, metric=metric, algorithm="brute").fit(rows.astype(np.float64))
    return index.kneighbors(return_distance=False)


@pytest.mark.parametrize("change", [{}, {"metric": "cosine"}, {"metric": "cosine", "centre": True}])
def test_the_card_says_the_share_of_true_neighbours(rows, options, change):
    needs_faiss()
    found = find_neighbours(rows + 3, options | change)
    shifted = rows + 3 - (rows + 3).mean(axis=0) * bool(change.get("centre"))
    truth = exact(shifted, change.get("metric", "euclidean"))
    hits = [len(np.intersect1d(*lines)) for lines in zip(found.table, truth, strict=True)]
    assert found.card["recall_rows"] == 800  # fewer rows than a sample: all of them
    assert found.card["recall"] == pytest.approx(sum(hits) / truth.size, abs=2e-3)
    assert found.card["recall"] > 0.95
    assert not (found.table == np.arange(800)[:, None]).any()


def test_the_nearest_come_first(rows, options):
    needs_faiss()
    table = find_neighbours(rows, options).table
    distances = np.linalg.norm(rows[table] - rows[:, None], axis=2)
    assert (np.diff(distances, axis=1) >= -1e-5).all()


def test_sparse_rows_and_images_give_what_dense_vectors_give(rows, options, tmp_path):
    needs_faiss()
    expected = find_neighbours(rows, options).table
    for other in (sparse.csr_matrix(rows), rows.reshape(800, 1, 2, 3)):
        np.testing.assert_array_equal(find_neighbours(other, options).table, expected)


def test_a_projection_keeps_the_neighbours_of_rows_that_lie_in_a_plane(rows, options):
    needs_faiss()
    plane = rows[:, :2] @ np.random.default_rng(1).normal(size=(2, 6)).astype(np.float32)
    table = find_neighbours(plane, {**options, "projection": 2}).table
    hits = [len(np.intersect1d(*lines)) for lines in zip(table, exact(plane, "euclidean"), strict=True)]
    assert sum(hits) / table.size > 0.95


def test_what_was_found_is_read_again_with_its_card(rows, options, monkeypatch):
    needs_faiss()
    first = find_neighbours(rows, options)
    monkeypatch.setattr("deep_clustering.data.neighbours._search", lambda *_: pytest.fail("searched again"))
    again = find_neighbours(rows, options)
    np.testing.assert_array_equal(again.table, first.table)
    assert again.card == first.card


def blocks_of(rows, taken):
    def take(which):
        taken.append(which)
        return rows[which]

    return RowBlocks(len(rows), rows.shape[1], take, is_angular=False)


class KilledError(Exception):
    pass


def die_after(calls, searched):
    """What searches rows, notes their first one, and dies after so many calls."""
    nearest = near_lists._nearest

    def search(index, blocks, which, k):
        if len(searched) == calls:
            raise KilledError
        searched.append(int(which[0]))
        return nearest(index, blocks, which, k)

    return search


def kill_a_search(rows, folder, monkeypatch):
    """A search of lists that dies when two pieces of the rows are done."""
    searched = []
    with monkeypatch.context() as patch:
        patch.setattr(near_lists, "_SHARES", (1.0,))
        patch.setattr(near_lists, "_nearest", die_after(3, searched))  # the sample and two pieces
        with pytest.raises(KilledError):
            near_lists.search_lists(blocks_of(rows, []), K, folder, 1)


def test_a_killed_search_goes_on_from_the_rows_that_were_found(rows, tmp_path, small_pieces, monkeypatch):
    needs_faiss()
    kill_a_search(rows, tmp_path / "work", monkeypatch)
    searched = []
    monkeypatch.setattr(near_lists, "_SHARES", (1.0,))
    monkeypatch.setattr(near_lists, "_make", lambda *_: pytest.fail("made the lists again"))
    monkeypatch.setattr(near_lists, "_nearest", die_after(None, searched))
    found = near_lists.search_lists(blocks_of(rows, []), K, tmp_path / "work", 1)
    assert searched[1:] == [200, 300, 400, 500, 600, 700]
    np.testing.assert_array_equal(found.table, exact(rows, "euclidean"))  # all lists are searched
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("name", ["lists.faiss", "found_*.npy"])
def test_what_is_damaged_is_made_again(rows, tmp_path, small_pieces, monkeypatch, caplog, name):
    needs_faiss()
    kill_a_search(rows, tmp_path / "work", monkeypatch)
    file = next((tmp_path / "work").glob(name))
    file.write_bytes(file.read_bytes()[:100])
    monkeypatch.setattr(near_lists, "_SHARES", (1.0,))
    found = near_lists.search_lists(blocks_of(rows, []), K, tmp_path / "work", 1)
    np.testing.assert_array_equal(found.table, exact(rows, "euclidean"))
    assert f"{file} is cut short or damaged" in caplog.text


def test_a_search_that_finds_too_few_says_so(rows, tmp_path, monkeypatch, caplog):
    needs_faiss()
    monkeypatch.setattr(near_lists, "_SHARES", (0.001,))
    found = near_lists.search_lists(blocks_of(rows, []), K, None, 1)
    assert found.card["recall"] < 0.97
    assert "fewer than 0.97; neighbours.exact_rows: 800 would find all of them" in caplog.text


def test_many_rows_without_faiss_are_refused_with_what_would_help(rows, options, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    message = r"800 rows are more than exact_rows 100.* pip install 'deep-clustering\[near\]'.*exact_rows: 800"
    with pytest.raises(ModuleNotFoundError, match=message):
        find_neighbours(rows, options)


def test_a_line_with_fewer_neighbours_ends_in_blanks(rows):
    answer = np.array([[4, 7, 9], [5, 4, -1], [1, 2, 3]])
    index = SimpleNamespace(search=lambda *_: (None, answer))
    found = near_lists._nearest(index, blocks_of(rows, []), np.array([4, 5, 6]), 2)
    np.testing.assert_array_equal(found, [[7, 9], [4, -1], [1, 2]])


def test_a_neighbour_that_is_as_near_as_the_true_one_counts():
    rows = np.array([[0.0], [1.0], [-1.0], [5.0]], dtype=np.float32)
    blocks, first = blocks_of(rows, []), np.array([0])
    least = near_lists._kth_similarity(blocks, first, 1)
    shares = [near_lists._share_found(blocks, first, np.array([[other]]), least) for other in (1, 2, 3)]
    assert shares == [1.0, 1.0, 0.0]

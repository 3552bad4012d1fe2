"""Names of clusters: what they are made of, and that no two are the same."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from deep_clustering.reporting import cluster_names
from deep_clustering.reporting.cluster_names import distinct, name_clusters, nearest_to_centre, with_given

LATENT = np.float32([[0, 0], [1, 0], [5, 0], [9, 9], [9, 8]])
ASSIGNMENTS = np.array([0, 0, 0, 2, 2])


def name(ids, latent=LATENT, assignments=ASSIGNMENTS, n_clusters=3, samples=LATENT, terms=()):
    return name_clusters(assignments, latent, n_clusters=n_clusters, ids=ids, samples=samples, terms=terms)


def test_the_nearest_to_the_centre_is_found_in_each_cluster():
    # the mean of the first three is (2, 0); both of the last are as near to theirs
    assert nearest_to_centre(ASSIGNMENTS, LATENT, 3) == [1, -1, 3]


def test_samples_give_their_number_or_file():
    assert name(list("01234")) == ["row 1", "empty 1", "row 3"]
    assert name(["x.png", "deep/cat.png", "x", "d.tar.gz", "y"]) == ["deep/cat", "empty 1", "d.tar"]
    assert name(["x", "Smith v. Jones", "x", "A-3", "y"]) == ["Smith v. Jones", "empty 1", "A-3"]


def test_a_number_that_is_not_the_rows_own_is_an_id():
    assert name(["5", "1003", "1", "3", "9"]) == ["id 1003", "empty 1", "row 3"]


def test_files_of_one_name_in_two_folders_are_told_apart():
    assert name(["", "a/1.png", "", "b/1.png", ""]) == ["a/1", "empty 1", "b/1"]


def test_tables_give_the_columns_that_stand_out_with_their_direction():
    """Each half is one deviation from the mean in the first two columns, and the third is constant."""
    rows = np.float32([[0, 4, 7], [0, 4, 7], [2, 1, 7], [2, 1, 7]])
    halves, ids = np.array([0, 0, 1, 1]), list("abcd")
    names = name_clusters(halves, rows, n_clusters=2, ids=ids, samples=rows, columns=["width", "height", "same"])
    assert names == ["low width, high height", "high width, low height"]
    assert name_clusters(halves, rows, n_clusters=2, ids=ids, samples=rows) == ["a", "c"]


def test_a_number_whose_cluster_is_gone_is_no_empty_cluster():
    names = name_clusters(ASSIGNMENTS, LATENT, n_clusters=3, ids=list("01234"), samples=LATENT, retired=[1])
    assert names == ["row 1", "retired 1", "row 3"]


def test_documents_give_the_terms_that_set_their_cluster_apart():
    terms = ["red", "apple", "plum", "all", "blue"]
    rows = sparse.csr_matrix(np.float32([[3, 2, 0, 1, 0], [3, 2, 0, 1, 0], [0, 0, 3, 1, 2], [0, 0, 3, 1, 2]]))
    names = name(list("0123"), np.zeros((4, 1)), np.array([0, 0, 1, 1]), 2, rows, terms)
    assert names == ["red, apple", "plum, blue"]


def test_a_column_beside_one_that_stands_out_far_more_is_not_said():
    columns = ["far", "near", "same"]
    # shifts of the first cluster: far 1.0, near .45, same 0
    far, near = np.repeat([1.0, -1.0], 20), np.tile([1.9, -1.0], 20) * np.repeat([1.0, 0.0], 20)
    rows = np.stack([far, near, np.zeros(40)], axis=1)
    shift = (near[:20].mean() - near.mean()) / near.std()
    assert 0.2 < shift < 0.5
    ids, halves = list(map(str, range(40))), np.repeat([0, 1], 20)
    names = name_clusters(halves, np.zeros((40, 1)), n_clusters=2, ids=ids, samples=rows, columns=columns)
    assert names == ["high far", "low far"]


def test_a_term_within_another_is_not_said_again():
    terms = ["机器学", "机器", "猫"]
    rows = sparse.csr_matrix(np.float32([[3, 2, 1], [0, 0, 0]]))
    assert name(["0", "1"], np.zeros((2, 1)), np.array([0, 1]), 2, rows, terms) == ["机器学, 猫", "row 1"]


def test_clusters_of_the_same_first_terms_are_told_apart_by_more_of_them():
    terms = list("abcdef")
    rows = sparse.csr_matrix(np.float32([[9, 8, 7, 1, 0, 0], [9, 8, 7, 0, 1, 0], *4 * [[0, 0, 0, 0, 0, 9]]]))
    names = name(list("012345"), np.zeros((6, 1)), np.array([0, 1, 2, 2, 2, 2]), 3, rows, terms)
    assert names == ["a, b, c", "a, b, c, e", "f"]


@given(st.lists(st.lists(st.sampled_from(["a", "A", "b", "a (2)", "a (3)", ""]), min_size=1, max_size=3), max_size=8))
def test_no_two_names_are_the_same_but_for_case(candidates):
    names = distinct(candidates)
    assert len({name.casefold() for name in names}) == len(candidates)
    assert all(name.startswith(options[-1]) or name in options for name, options in zip(names, candidates, strict=True))


def test_arrays_of_other_lengths_are_refused():
    with pytest.raises(ValueError, match="got 5 assignments, 5 latent rows and 2 ids"):
        name(["a", "b"])


def test_a_given_name_goes_before_one_that_was_found():
    assert with_given(["a", "b", "c"], ["", "A", "x"]) == ["a (2)", "A", "x"]
    assert with_given(["a", "b"], []) == ["a", "b"]


@pytest.mark.parametrize("gathered", [2, 10**6])
def test_the_member_nearest_to_the_mean_is_found_some_rows_at_a_time(monkeypatch, gathered):
    monkeypatch.setattr(cluster_names, "_GATHERED_ROWS", gathered)
    latent = np.array([[0.0], [4], [5], [9], [100], [-1], [1]], dtype=np.float32)
    # The means are 4.5, of two rows as near the first counts, and 100; the third cluster is empty.
    assert cluster_names.nearest_to_centre(np.array([0, 0, 0, 0, 1, 3, 3]), latent, 4) == [1, 4, -1, 5]

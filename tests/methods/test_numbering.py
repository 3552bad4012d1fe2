"""Numbers of clusters that are found again, by their rows."""

import numpy as np

from deep_clustering.methods.numbering import match_numbers, rows_in_common


def test_another_order_of_the_same_clusters_gets_the_former_numbers():
    former = np.repeat([0, 1, 2], 5)
    numbers, kept = match_numbers(former, (former + 1) % 3, n_former=3, n_clusters=3)
    assert [numbers[(cluster + 1) % 3] for cluster in range(3)] == [0, 1, 2]
    assert kept == {0: 1, 1: 2, 2: 0}


def test_a_cluster_that_is_new_gets_a_number_that_none_has_had():
    former, new = np.array([0, 0, 0, 1, 1, 1, 1]), np.array([1, 1, 1, 0, 0, 2, 2])
    numbers, kept = match_numbers(former, new, n_former=4, n_clusters=4)
    assert numbers[1] == 0
    assert sorted(numbers[cluster] for cluster in (0, 2)) == [1, 4]  # halves of cluster 1: one is it still
    assert numbers[3] == 5  # without a row in common
    assert set(kept) == {0, 1}


def test_a_cluster_that_shares_half_of_the_smaller_ones_rows_or_less_is_not_there_any_more():
    former, new = np.array([0, 0, 0, 0, 1, 1, 1, 1]), np.array([0, 0, 1, 1, 0, 0, 1, 1])
    numbers, kept = match_numbers(former, new, n_former=2, n_clusters=2)
    assert numbers == [2, 3]
    assert kept == {}


def test_rows_in_common_are_found_wherever_they_are():
    former, new = np.array([7, 3, 9], dtype=np.uint64), np.array([1, 9, 7, 7], dtype=np.uint64)
    theirs, mine = rows_in_common(former, new)
    assert sorted(zip(theirs.tolist(), mine.tolist(), strict=True)) == [(0, 2), (2, 1)]

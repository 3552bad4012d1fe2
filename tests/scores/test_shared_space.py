"""Partitions compared in one space: silhouettes of the same rows, agreement of each two, and matched numbers."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.metrics import silhouette_score

from deep_clustering.scores.shared_space import compare_partitions, draw_rows, match_partition


@pytest.fixture
def blobs():
    return np.random.default_rng(0).normal(size=(60, 2, 3)) + 9 * (np.arange(60) % 3)[:, None, None]


@pytest.mark.parametrize("convert", [np.asarray, lambda rows: sparse.csr_matrix(rows.reshape(60, 6))])
def test_silhouettes_are_of_the_features_whatever_the_method(blobs, convert):
    parts = {"right": np.arange(60) % 3, "halves": np.arange(60) // 30, "one": np.zeros(60, dtype=int)}
    space = compare_partitions(convert(blobs), parts, 100)
    for name in ("right", "halves"):
        assert space.silhouette[name] == pytest.approx(silhouette_score(blobs.reshape(60, 6), parts[name]))
    assert space.silhouette["one"] is None


def test_few_rows_are_the_same_for_all(blobs):
    parts = {"a": np.arange(60) % 3, "renamed": 2 - np.arange(60) % 3}
    silhouette = compare_partitions(blobs, parts, 20).silhouette
    assert silhouette["a"] == silhouette["renamed"]
    rows = draw_rows(60, 20)
    assert len(np.unique(rows)) == len(rows) == 20
    assert silhouette["a"] == pytest.approx(silhouette_score(blobs.reshape(60, 6)[rows], parts["a"][rows]))


def test_agreement_is_one_of_a_renamed_partition_and_the_same_both_ways(blobs):
    parts = {"a": np.arange(60) % 3, "renamed": 2 - np.arange(60) % 3, "other": np.arange(60) // 20}
    agreement = compare_partitions(blobs, parts, 100).agreement
    assert agreement["a"]["a"] == agreement["a"]["renamed"] == 1
    assert agreement["a"]["other"] == agreement["other"]["a"] < 0.1


@pytest.mark.parametrize(
    ("clusters", "reference", "expected"),
    [
        ([0, 0, 1, 1], [1, 1, 0, 0], [1, 0]),
        ([0, 0, 1, 2], [0, 0, 1, 1], [0, 1, 2]),  # 1 and 2 share one row each with 1: one of them is left over
        ([0, 0, 0, 0], [0, 1, 1, 1], [1]),
    ],
)
def test_clusters_go_by_the_number_that_they_overlap_with_the_most(clusters, reference, expected):
    assert match_partition(np.array(clusters), np.array(reference)) == expected

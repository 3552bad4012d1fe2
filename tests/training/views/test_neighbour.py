"""Neighbours as views: which rows are partners, and which tables are taken."""

import math

import numpy as np
import pytest
import torch

from deep_clustering.training.rows import Rows
from deep_clustering.training.views import neighbour_table
from deep_clustering.training.views.neighbour import Neighbours, _follower
from still_views import generator

TABLE = np.array([[1, 2, 3], [0, 2, -1], [0, -1, -1], [-1, -1, -1], [3, 1, 0]])


def distinct_rows(n: int = 5) -> Rows:
    return Rows(np.arange(n, dtype=np.float32)[:, None].repeat(3, axis=1), torch.device("cpu"))


def test_partners_are_neighbours_drawn_evenly_and_else_the_row_itself():
    table = neighbour_table(TABLE, 5, torch.device("cpu"))
    index = torch.arange(5).repeat(3000)
    pair = Neighbours().pair(distinct_rows(), index, table, generator())
    partners = pair[15_000:, 0].reshape(3000, 5).numpy().astype(int)
    for row, line in enumerate(TABLE):
        allowed = line[line >= 0] if (line >= 0).any() else np.array([row])
        found, counts = np.unique(partners[:, row], return_counts=True)
        np.testing.assert_array_equal(found, np.sort(allowed))
        share = 1 / len(allowed)
        np.testing.assert_allclose(counts / 3000, share, atol=5 * math.sqrt(share / 3000))


@pytest.mark.parametrize(
    ("table", "got"), [(TABLE.astype(np.float32), r"float32 of shape \(5, 3\)"), (TABLE[0], r"int64 of shape \(3,\)")]
)
def test_what_is_no_table_of_integers_is_refused(table, got):
    with pytest.raises(ValueError, match=rf"neighbours: expected integers of shape \(n_samples, k\), got {got}"):
        neighbour_table(table, 5, torch.device("cpu"))


def test_a_neighbour_pair_is_the_row_and_its_partner():
    table = neighbour_table(TABLE, 5, torch.device("cpu"))
    pair = Neighbours().pair(distinct_rows(), torch.tensor([2, 3]), table, generator())
    np.testing.assert_array_equal(pair[:, 0], [2, 3, 0, 3])
    rows = torch.rand(2, 3)
    assert torch.equal(Neighbours().plain(rows), rows)
    assert Neighbours().output_shape((3,)) == (3,)


def test_a_follower_repeats_with_the_state_and_moves_the_generator_on():
    """As partners of rows on the host are drawn for a device."""
    source, again, moved = generator(1), generator(1), generator(1)
    torch.rand(1, generator=moved)
    draws = [torch.rand(1000, generator=_follower(source)) for _ in range(2)]
    assert torch.equal(draws[0], torch.rand(1000, generator=_follower(again)))
    assert torch.equal(draws[1], torch.rand(1000, generator=_follower(again)))
    assert torch.equal(draws[1], torch.rand(1000, generator=_follower(moved)))
    assert abs(float(torch.corrcoef(torch.stack(draws))[0, 1])) < 5 / math.sqrt(1000)


@pytest.mark.parametrize("table", [None, torch.zeros(5, 0, dtype=torch.int64)])
def test_neighbour_views_without_neighbours_are_refused(table):
    with pytest.raises(ValueError, match=r"views \(neighbours\): expected the neighbours of every row, got none"):
        Neighbours().pair(distinct_rows(), torch.tensor([0]), table, generator())


def test_a_table_of_neighbours_arrives_as_it_is():
    cpu = torch.device("cpu")
    table = neighbour_table(TABLE.astype(np.int32), 5, cpu)
    assert table.dtype == torch.int64
    np.testing.assert_array_equal(table, TABLE)
    assert neighbour_table(None, 5, cpu) is None
    assert neighbour_table(np.zeros((5, 0), dtype=np.int64), 5, cpu) is None


@pytest.mark.parametrize("table", [TABLE[:4], np.full((5, 2), 5), np.tile(TABLE, (2, 1)), np.tile([-1, 0], (5, 1))])
def test_a_table_that_does_not_fit_the_rows_is_refused(table):
    with pytest.raises(ValueError, match=r"neighbours: expected indices below 5 .* got \(\d+, \d\) with indices"):
        neighbour_table(table, 5, torch.device("cpu"))

"""More than two views of a row: how many, of which rows, and from which draws."""

import numpy as np
import pytest
import torch

from deep_clustering.training.rows import Rows
from deep_clustering.training.views.image import PhotoCrops
from deep_clustering.training.views.neighbour import Neighbours
from deep_clustering.training.views.several import Several
from deep_clustering.training.views.vector import Noise

CPU = torch.device("cpu")


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("n_views", [2, 3, 10])
def test_views_of_a_row_lie_one_behind_the_other_and_differ(n_views):
    rows = Rows(np.arange(12, dtype=np.float32).reshape(4, 3), CPU)
    index = torch.tensor([3, 0])
    found = Several(Noise(scale=0.01), n_views).pair(rows, index, None, generator())
    assert found.shape == (n_views * 2, 3)
    torch.testing.assert_close(found, rows[index].repeat(n_views, 1), atol=0.1, rtol=0)
    assert len(found.unique(dim=0)) == 2 * n_views


def test_two_views_are_the_pair_of_the_family():
    rows, family = Rows(np.eye(4, dtype=np.float32), CPU), Noise(scale=0.1)
    index = torch.arange(4)
    several = Several(family, 2).pair(rows, index, None, generator())
    assert torch.equal(several, family.pair(rows, index, None, generator()))


def test_neighbours_reach_the_family():
    rows = Rows(np.arange(3, dtype=np.float32).reshape(3, 1), CPU)
    neighbours = torch.tensor([[1], [2], [0]])
    found = Several(Neighbours(), 4).pair(rows, torch.tensor([0]), neighbours, generator())
    assert found.flatten().tolist() == [0, 1, 0, 1]


def test_all_else_is_the_familys():
    photo = {"size": 6, "crop": 0.6, "flip": 0.5, "brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
    family = PhotoCrops(**photo, greyscale=0.0, small_views=3, small_size=4, small_crop=0.2)
    several = Several(family, 5)
    images = np.random.default_rng(0).random((2, 3, 8, 8), dtype=np.float32)
    rows, index = Rows(images, CPU), torch.arange(2)
    assert (several.n_views, several.n_small, several.output_shape((3, 8, 8))) == (5, 3, (3, 6, 6))
    assert torch.equal(several.plain(rows[index]), family.plain(rows[index]))
    assert all(map(torch.equal, several.parts(rows[index]), family.parts(rows[index])))
    assert len(several.parts(rows[index])) == 9
    assert torch.equal(several.small(rows, index, generator()), family.small(rows, index, generator()))

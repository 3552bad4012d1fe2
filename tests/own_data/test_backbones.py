"""What is tried on random images before an environment is written."""

import pytest

from deep_clustering.own_data import backbones


@pytest.mark.parametrize(("side", "n_samples", "expected"), [(16, 5000, 200), (16, 30, 30), (1000, 5000, 8)])
def test_patches_are_tried_on_few_large_images_and_on_no_more_than_there_are(monkeypatch, side, n_samples, expected):
    tried = []
    learn = backbones.learn_patches
    monkeypatch.setattr(
        backbones, "learn_patches", lambda images, *rest: tried.append(len(images)) or learn(images, *rest)
    )
    width, seconds = backbones.try_patches((3, side, side), n_samples)
    assert tried == [expected]
    assert width == 512 + 324
    assert seconds > 0

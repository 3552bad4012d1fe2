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


@pytest.mark.parametrize(
    ("n_samples", "changes", "steps"),
    [(640, {}, 60 * 10), (100_000, {}, 625), (100_000, {"images": 640}, 60 * 10), (640, {"most_epochs": 7}, 7 * 10)],
)
def test_a_network_that_learns_is_tried_on_one_batch_for_all_its_steps(
    monkeypatch, parameters, n_samples, changes, steps
):
    clock = iter([3.0, 2.0])  # seconds of a step, and of seeing the 64 images of a batch
    monkeypatch.setattr(backbones, "Watch", lambda: type("Watch", (), {"seconds": next(clock)}))
    narrow = {"encoder": {"kind": "resnet", "blocks": [1], "width": 4, "stem_stride": 2}, "n_views": 2}
    own = parameters["features"]["learned"] | narrow | {"total_views": 80_000, **changes}
    base = parameters["features"] | {"precision": "fp32", "learned": own}
    width, seconds = backbones.try_learned((3, 20, 20), n_samples, base)
    assert width == 4 + 324
    assert seconds == pytest.approx(3.0 * steps + 2.0 * n_samples / 64)

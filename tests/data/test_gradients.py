"""Rows of images by the directions of their edges, and whether they belong beside others."""

import numpy as np
import pytest

from deep_clustering.data.gradients import gradient_rows
from deep_clustering.data.preparation import open_preparation, prepare
from deep_clustering.data.sources.samples import both
from deep_clustering.data.spaces import say_more_together

N_ORIENTATIONS = 9


def ramp(angle, size=32):
    """Grey levels that rise in one direction, uint8."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    values = 128 + 3 * (np.cos(angle) * x + np.sin(angle) * y)
    return values.round().clip(0, 255).astype(np.uint8)[None]


def test_a_ramp_has_all_its_weight_in_one_direction():
    rows = gradient_rows(np.stack([ramp(0.0), ramp(np.pi / 2)]), [0, 255])
    histograms = rows.reshape(2, -1, N_ORIENTATIONS).sum(axis=1)
    shares = histograms.max(axis=1) / histograms.sum(axis=1)
    assert (shares > 0.95).all()
    assert histograms[0].argmax() != histograms[1].argmax()


def test_brightness_and_contrast_do_not_matter():
    image = np.random.default_rng(0).integers(0, 100, (1, 1, 32, 32), dtype=np.uint8)
    np.testing.assert_allclose(gradient_rows(image, [0, 255]), gradient_rows(image * 2 + 20, [0, 255]), atol=1e-2)


def test_an_image_alone_has_the_row_that_it_has_among_others():
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 40, 24), dtype=np.uint8)
    rows = gradient_rows(images, [0, 255])
    assert rows.shape == (5, 324)
    np.testing.assert_array_equal(rows[2:3], gradient_rows(images[2:3], [0, 255]))


def test_large_images_are_seen_a_few_at_a_time(monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 40, 24), dtype=np.uint8)
    rows = gradient_rows(images, [0, 255])
    for n_at_once in (0.5, 1, 2):
        monkeypatch.setattr("deep_clustering.data.gradients._VALUES", int(n_at_once * 3 * 40 * 24))
        np.testing.assert_array_equal(gradient_rows(images, [0, 255]), rows)


def test_the_type_of_the_numbers_does_not_matter_and_blank_images_are_rows_of_zeros():
    images = np.random.default_rng(0).integers(0, 256, (3, 1, 28, 28), dtype=np.uint8)
    images[1] = 7
    rows = gradient_rows(images, [0, 255])
    np.testing.assert_allclose(rows, gradient_rows(images.astype(np.float32) / 255, [0, 1]), atol=1e-4)
    assert not rows[1].any()


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((4, 9), np.float32), r"needs images of shape .*, got \(4, 9\)"),
        (np.zeros((4, 2, 8, 8), np.uint8), "1 or 3 channels, got 2"),
    ],
)
def test_what_is_no_image_is_refused(images, message):
    with pytest.raises(ValueError, match=message):
        gradient_rows(images, [0, 255])


def test_new_images_are_prepared_as_those_of_training(parameters):
    images = np.random.default_rng(0).integers(0, 256, (40, 1, 16, 16), dtype=np.uint8)
    card = {"name": "made-up", "sha256": {"samples": "0"}, "value_range": [0, 255]}
    options = parameters["features"] | {"postprocess": "centre_l2", "backbone": "hog"}
    rows, preparation = prepare(images, both(40), card, {"terms": [], "idf": None}, options)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(open_preparation(preparation)(images[3:5]), rows[3:5])


def test_noise_is_not_put_beside_groups_and_a_second_look_at_them_is():
    """Two blurred looks at the same groups say more together than one; noise says nothing of them."""
    generator = np.random.default_rng(0)
    labels = generator.integers(8, size=800)
    one, other = (generator.normal(size=(8, 8))[labels] + 0.7 * generator.normal(size=(800, 8)) for _ in range(2))
    assert say_more_together(one, other)
    assert not say_more_together(one, generator.normal(size=(800, 8)))


def test_few_rows_cannot_tell():
    rows = np.random.default_rng(0).normal(size=(79, 4))
    assert not say_more_together(rows, rows[:, ::-1])

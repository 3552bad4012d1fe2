"""Rows of images by their patches: what is learned, what a row depends on, and what is refused."""

import numpy as np
import pytest
import torch
from scipy.linalg import eigh

from deep_clustering.data import patches as module
from deep_clustering.data.feature_options import FeatureOptions
from deep_clustering.data.patches import learn_patches, patch_rows
from deep_clustering.data.preparation import open_preparation, prepare
from deep_clustering.data.sources.samples import both
from deep_clustering.options import build

ALL = [0.0, 255.0]
N_CELLS = 64


def strokes(n, *, channels=1, side=32, seed=0):
    """Dark images with a bright bar that lies flat in half of them and stands in the others, uint8, and which."""
    generator = np.random.default_rng(seed)
    standing = generator.integers(2, size=n)
    images = generator.integers(0, 20, (n, channels, side, side)).astype(np.uint8)
    for image, stands in zip(images, standing, strict=True):
        across, along = generator.integers(4, side - 12), generator.integers(2, side // 2)
        bar = slice(along, along + side // 2), slice(across, across + 3)
        image[(slice(None), *(bar if stands else bar[::-1]))] = 230
    return images, standing


def learn(images):
    return learn_patches(images, np.ones(len(images), dtype=bool), ALL)


def test_bars_that_lie_are_told_from_those_that_stand():
    images, standing = strokes(200)
    rows = patch_rows(images, ALL, learn(images)).reshape(len(images), -1, N_CELLS).mean(axis=2)
    means = np.stack([rows[standing == kind].mean(axis=0) for kind in (0, 1)])
    nearest = np.linalg.norm(rows[:, None] - means, axis=2).argmin(axis=1)
    assert (nearest == standing).mean() > 0.95


def test_the_embedding_minimises_how_far_patches_side_by_side_lie_apart():
    """No other directions of equal covariance have neighbours closer: the sum over pairs, taken one by one."""
    generator = np.random.default_rng(0)
    n_atoms, n_images, grid = 12, 6, module._GRID
    kept = torch.from_numpy(generator.integers(n_atoms, size=(n_images, grid**2, 3)))
    weights = torch.from_numpy(generator.random((n_images, grid**2, 3)))
    codes = module._code_matrix(list(zip(kept, weights, strict=True)), n_atoms)
    embedding, offset = (found.numpy() for found in module._embedding(codes))

    dense = np.zeros((n_images, grid, grid, n_atoms))
    for place in np.ndindex(n_images, grid**2):
        for atom, weight in zip(kept[place].numpy(), weights[place].numpy(), strict=True):
            dense[place[0], place[1] // grid, place[1] % grid, atom] += weight
    mean = dense.mean(axis=(0, 1, 2))
    np.testing.assert_allclose(offset, mean @ embedding)
    spread = np.einsum("nija,nijb->ab", dense - mean, dense - mean) / (n_images * grid**2)
    np.testing.assert_allclose(embedding.T @ spread @ embedding, np.eye(embedding.shape[1]), atol=1e-3)
    products = np.zeros((n_atoms, n_atoms))
    n_pairs = 0
    for image in dense - mean:
        for y, x in np.ndindex(grid, grid):
            for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
                if y + down < grid and 0 <= x + right < grid:
                    pair = np.outer(image[y, x], image[y + down, x + right])
                    products += pair + pair.T
                    n_pairs += 2
    best = eigh(products / n_pairs, spread, eigvals_only=True)[::-1][: embedding.shape[1]]
    np.testing.assert_allclose(np.diag(embedding.T @ (products / n_pairs) @ embedding), best, atol=1e-4)


def test_whitened_patches_vary_alike_in_all_directions_but_for_the_ridge():
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(4000, 5, generator=generator) * torch.tensor([8.0, 4.0, 2.0, 1.0, 1.0]) + 3
    mean, whitening = module._whitening(sample)
    variances = ((sample - mean) @ whitening).var(dim=0, correction=0)
    raw = sample.var(dim=0, correction=0)
    np.testing.assert_allclose(variances, raw / (raw + module._RIDGE * raw.mean()), rtol=0.02)


def test_an_image_alone_has_the_row_that_it_has_among_others():
    images = np.random.default_rng(0).integers(0, 256, (30, 3, 40, 24), dtype=np.uint8)
    arrays = learn(images)
    rows = patch_rows(images, ALL, arrays)
    assert rows.shape == (30, N_CELLS * arrays["patches/embedding"].shape[1])
    np.testing.assert_array_equal(rows[2:3], patch_rows(images[2:3], ALL, arrays))


def test_rows_are_averages_of_vectors_of_length_one():
    images, _ = strokes(60)
    rows = patch_rows(images, ALL, learn(images)).reshape(len(images), -1, N_CELLS)
    assert (np.linalg.norm(rows, axis=1) <= 1 + 1e-5).all()


def test_brightness_and_range_do_not_matter_and_blank_images_are_rows_of_zeros():
    images, _ = strokes(60)
    images[1] = 7
    arrays = learn(images)
    rows = patch_rows(images, ALL, arrays)
    brighter = patch_rows(images.astype(np.float32) / 255 + 3, [0, 1], arrays)
    np.testing.assert_allclose(rows, brighter, atol=1e-3)
    assert not rows[1].any()


@pytest.mark.parametrize("side", [1, 20, 33, 300])
def test_images_of_one_grey_level_each_are_blank_whatever_the_resizing_leaves(side):
    images = np.random.default_rng(0).integers(1, 256, (12, 1, 1, 1), dtype=np.uint8).repeat(side, 2).repeat(side, 3)
    with pytest.raises(ValueError, match=r"all of 12 images are blank; set features\.backbone to null"):
        learn(images)
    assert not patch_rows(images, ALL, learn(strokes(20)[0])).any()


def test_the_faintest_edge_is_seen_where_all_other_images_are_blank():
    images = np.full((12, 1, 48, 48), 200, np.uint8)
    images[0, :, :, 24:] = 201
    rows = patch_rows(images, ALL, learn(images))
    assert rows[0].any()
    assert not rows[1:].any()


def test_images_are_resized_some_at_a_time_in_learning_and_seeing(monkeypatch):
    images, _ = strokes(150)
    sizes = []
    resize = module.resized_images
    monkeypatch.setattr(module, "resized_images", lambda part, side: sizes.append(len(part)) or resize(part, side))
    patch_rows(images, ALL, learn(images))
    assert max(sizes) <= module._IMAGES
    assert sum(sizes) == 2 * len(images)


def test_learning_twice_is_the_same_and_held_out_images_have_no_say():
    images, _ = strokes(80)
    is_fitted = np.arange(80) < 60
    other = images.copy()
    other[60:] = 255 - other[60:]
    first, second = (learn_patches(seen, is_fitted, ALL) for seen in (images, other))
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])


def test_few_images_have_fewer_atoms():
    images, _ = strokes(2)
    arrays = learn(images)
    n_atoms = len(arrays["patches/atoms"])
    assert n_atoms < 2 * 14**2 / 8
    assert np.isfinite(patch_rows(images, ALL, arrays)).all()


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((4, 9), np.float32), r"backbone 'patches' needs images of shape .*, got \(4, 9\)"),
        (np.zeros((4, 2, 8, 8), np.uint8), "1 or 3 channels, got 2"),
        (np.full((4, 1, 16, 16), 9, np.uint8), "learns from edges, and all of 4 images are blank"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(images, message):
    with pytest.raises(ValueError, match=message):
        learn(images)


def test_images_of_other_channels_are_refused():
    arrays = learn(strokes(20)[0])
    with pytest.raises(ValueError, match="learned from images of 1 channels, got 3"):
        patch_rows(np.zeros((2, 3, 16, 16), np.uint8), ALL, arrays)


@pytest.mark.parametrize("beside", [False, True])
def test_new_images_are_prepared_as_those_of_training(parameters, beside):
    images, _ = strokes(120, side=24)
    card = {"name": "made-up", "sha256": {"samples": "0"}, "value_range": ALL}
    options = parameters["features"] | {
        "postprocess": "centre_l2",
        "backbone": "patches",
        "beside_gradients": beside,
    }
    rows, preparation = prepare(images, both(120), card, {"terms": [], "idf": None}, options)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    again = type(preparation).from_plain(preparation.to_plain(), preparation.arrays)
    np.testing.assert_array_equal(open_preparation(again)(images[3:5]), rows[3:5])


def test_gradients_cannot_lie_beside_pixels_or_themselves(parameters):
    for backbone in (None, "hog"):
        options = parameters["features"] | {
            "backbone": backbone,
            "beside_gradients": True,
            "postprocess": "centre_l2",
        }
        with pytest.raises(ValueError, match="needs a network, patches or learned as backbone"):
            build(FeatureOptions, options, "features")

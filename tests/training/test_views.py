"""Views: geometry on images whose transformed form is known, randomness from the generator alone, and ranges."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch.nn import functional as F  # noqa: N812

from deep_clustering.training import views
from deep_clustering.training.rows import Rows
from deep_clustering.training.views import (
    Affine,
    Dropout,
    Neighbours,
    Noise,
    Photo,
    RadiusNoise,
    make_view,
    neighbour_table,
)

STILL = {"size": 0, "rotation": 0.0, "translation": 0.0, "scale": 0.0, "shear": 0.0, "padding": "zeros", "erase": 0.0}
PLAIN_PHOTO = {
    "size": 0,
    "crop": 1.0,
    "flip": 0.0,
    "brightness": 0.0,
    "contrast": 0.0,
    "saturation": 0.0,
    "hue": 0.0,
    "greyscale": 0.0,
}
PADDINGS = ("zeros", "border", "reflection")


def affine(**changes) -> Affine:
    return Affine(**STILL | changes)


def photo(**changes) -> Photo:
    return Photo(**PLAIN_PHOTO | changes)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def extreme(monkeypatch):
    """Function that makes every draw the upper (1) or lower (-1) end of its interval."""

    def fix(end: int) -> None:
        def draw(n, half_width, like, generator):
            return torch.full((n,), end * half_width, dtype=like.dtype)

        monkeypatch.setattr(views, "_uniform", draw)

    return fix


def blob(height: int, width: int, spread: float = 2.0, at: tuple[float, float] = (0.0, 0.0)) -> torch.Tensor:
    """A Gaussian spot, round in pixels, `at` (x, y) pixels off the centre; shape (1, 1, height, width)."""
    y, x = np.mgrid[:height, :width] + 0.5
    squares = (x - width / 2 - at[0]) ** 2 + (y - height / 2 - at[1]) ** 2
    return torch.from_numpy(np.exp(-squares / (2 * spread**2)))[None, None]


def moments(image: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Centre of mass (x, y) relative to the image's centre, and covariance of the mass, in pixels."""
    mass = image[0, 0].numpy() / float(image.sum())
    height, width = mass.shape
    places = np.stack([axis.ravel() for axis in np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)])
    places -= np.array([[width / 2], [height / 2]])
    centre = places @ mass.ravel()
    offsets = places - centre[:, None]
    return centre, (offsets * mass.ravel()) @ offsets.T


# Affine: identity and size


@given(arrays(np.float32, (3, 2, 5, 7), elements=st.floats(0, 1, width=32)), st.sampled_from(PADDINGS))
def test_no_motion_reproduces_the_image(images, padding):
    rows = torch.from_numpy(images)
    view = affine(padding=padding)
    np.testing.assert_allclose(view(rows, generator()), images, atol=1e-5)
    np.testing.assert_array_equal(view.plain(rows), images)


@pytest.mark.parametrize("size", [8, 12, 16, 24, 40])
@pytest.mark.parametrize("shape", [(2, 1, 16, 16), (2, 3, 20, 28)])
def test_no_motion_to_another_size_is_bilinear_interpolation(size, shape):
    rows = torch.rand(shape, generator=generator())
    expected = F.interpolate(rows, size=(size, size), mode="bilinear", align_corners=False)
    for view in (affine(size=size, padding="border"), affine(size=size, padding="reflection")):
        assert view.output_shape(shape[1:]) == (shape[1], size, size)
        for result in (view(rows, generator()), view.plain(rows)):
            np.testing.assert_allclose(result, expected, atol=1e-4)
    # With zeros outside only the outermost pixels of an enlargement differ.
    edge = math.ceil(size / min(shape[2:]) / 2)
    inner = np.s_[:, :, edge : size - edge, edge : size - edge]
    np.testing.assert_allclose(affine(size=size).plain(rows)[inner], expected[inner], atol=1e-4)


def test_plain_has_the_shape_of_a_view_and_no_randomness():
    rows = torch.rand(4, 2, 9, 6, generator=generator())
    view = affine(size=7, rotation=90.0, translation=0.5, scale=0.5, shear=20.0)
    assert view.plain(rows).shape == view(rows, generator()).shape == (4, 2, 7, 7)
    np.testing.assert_array_equal(view.plain(rows), view.plain(rows))
    np.testing.assert_array_equal(view.plain(rows)[2], view.plain(rows[2:3])[0])


# Affine: each motion


def turn_of(rows: torch.Tensor, turned: torch.Tensor) -> int:
    """The direction (1 or -1) in which a quarter turn takes `turned` back to `rows`."""
    return min((1, -1), key=lambda k: float((torch.rot90(turned, k, (2, 3)) - rows).abs().max()))


def test_a_quarter_turn_is_a_quarter_turn_and_back(extreme):
    rows = torch.rand(3, 2, 9, 9, generator=generator())
    view = affine(rotation=90.0)
    turned = []
    for end in (1, -1):
        extreme(end)
        turned.append(view(rows, generator()))
        np.testing.assert_allclose(torch.rot90(turned[-1], end * turn_of(rows, turned[0]), (2, 3)), rows, atol=1e-4)
    extreme(1)
    np.testing.assert_allclose(view(turned[1], generator()), rows, atol=1e-4)


def test_half_a_turn_of_any_image_flips_both_axes(extreme):
    rows = torch.rand(2, 1, 5, 8, generator=generator())
    for end in (1, -1):
        extreme(end)
        np.testing.assert_allclose(affine(rotation=180.0)(rows, generator()), rows.flip(2, 3), atol=1e-4)


@pytest.mark.parametrize("angle", [10.0, 30.0, 75.0])
def test_rotation_keeps_distance_from_the_centre_and_turns_by_the_angle(extreme, angle):
    image = blob(40, 60, at=(9.0, 0.0))
    for end in (1, -1):
        extreme(end)
        centre, covariance = moments(affine(rotation=angle)(image, generator()))
        assert np.hypot(*centre) == pytest.approx(9, abs=0.05)
        assert abs(math.degrees(math.atan2(centre[1], centre[0]))) == pytest.approx(angle, abs=0.5)
        # A spot that is round in pixels stays round, also where height and width differ.
        assert covariance[0, 0] == pytest.approx(covariance[1, 1], rel=0.02)
        assert covariance[0, 1] == pytest.approx(0, abs=0.05)


def test_rotation_forth_and_back_returns_a_smooth_image(extreme):
    image = blob(48, 48, spread=4.0, at=(6.0, -3.0))
    extreme(1)
    turned = affine(rotation=25.0)(image, generator())
    assert float((turned - image).abs().max()) > 0.3
    extreme(-1)
    np.testing.assert_allclose(affine(rotation=25.0)(turned, generator()), image, atol=0.03)


@pytest.mark.parametrize("share", [0.05, 0.1, 0.2])
def test_translation_moves_the_mass_by_a_share_of_each_side(extreme, share):
    image = blob(40, 80)
    for end in (1, -1):
        extreme(end)
        centre, covariance = moments(affine(translation=share)(image, generator()))
        np.testing.assert_allclose(np.abs(centre), [share * 80, share * 40], atol=0.02)
        np.testing.assert_allclose(covariance, moments(image)[1], atol=0.1)


def test_translation_never_exceeds_its_share():
    image = blob(40, 40, spread=1.0).expand(300, 1, 40, 40)
    moved = affine(translation=0.1)(image, generator())
    centres = np.array([moments(row[None])[0] for row in moved])
    assert np.abs(centres).max() <= 4 + 0.02
    assert np.abs(centres).max() > 3.5
    np.testing.assert_allclose(centres.mean(axis=0), 0, atol=4 / math.sqrt(3 * 300) * 4)
    np.testing.assert_allclose(centres.std(axis=0), 4 / math.sqrt(3), rtol=0.15)


@pytest.mark.parametrize("zoom", [0.2, 0.5])
def test_zoom_magnifies_by_its_factor(extreme, zoom):
    image = blob(60, 80, spread=4.0)
    spread = np.sqrt(moments(image)[1].diagonal())
    for end in (1, -1):
        extreme(end)
        centre, covariance = moments(affine(scale=zoom)(image, generator()))
        np.testing.assert_allclose(np.sqrt(covariance.diagonal()) / spread, 1 + end * zoom, rtol=0.03)
        np.testing.assert_allclose(centre, 0, atol=1e-6)


@pytest.mark.parametrize("angle", [8.0, 30.0, 45.0])
def test_shear_shifts_each_line_by_the_tangent_of_its_angle(extreme, angle):
    height, width, off = 40, 80, 10.0
    for end in (1, -1):
        extreme(end)
        shifts = []
        for side in (off, -off):
            centre, _ = moments(affine(shear=angle)(blob(height, width, at=(0.0, side)), generator()))
            assert centre[1] == pytest.approx(side, abs=0.02)
            shifts.append(centre[0])
        assert abs(shifts[0]) == pytest.approx(off * math.tan(math.radians(angle)), abs=0.02)
        assert shifts[0] == pytest.approx(-shifts[1], abs=0.02)


@pytest.mark.parametrize(("padding", "outside"), [("zeros", 0.0), ("border", 1.0), ("reflection", 1.0)])
def test_padding_fills_what_comes_from_outside(extreme, padding, outside):
    extreme(1)
    moved = affine(translation=0.5, padding=padding)(torch.ones(1, 1, 8, 8), generator())
    assert float(moved.min()) == pytest.approx(outside, abs=1e-6)


@given(
    arrays(np.float32, (2, 1, 6, 6), elements=st.floats(0, 1, width=32)),
    st.integers(0, 1000),
    st.sampled_from(PADDINGS),
    st.sampled_from([0, 4, 9]),
)
def test_views_of_images_in_the_unit_interval_stay_there(images, seed, padding, size):
    view = Affine(size=size, rotation=180.0, translation=0.5, scale=0.9, shear=60.0, padding=padding, erase=0.3)
    result = view(torch.from_numpy(images), generator(seed))
    assert torch.isfinite(result).all()
    assert float(result.min()) >= -1e-5
    assert float(result.max()) <= 1 + 1e-5


@pytest.mark.parametrize(("height", "width", "share"), [(8, 8, 0.5), (8, 12, 0.25)])
def test_erasing_blanks_one_square_of_the_wanted_size_inside_and_a_part_of_it_at_the_edge(height, width, share):
    erased = affine(erase=share)(torch.ones(200, 1, height, width), generator()) == 0
    rows, columns = erased[:, 0].any(dim=2), erased[:, 0].any(dim=1)
    assert torch.equal(erased[:, 0], rows.unsqueeze(2) & columns.unsqueeze(1))  # a box in every image
    for lines, side in ((rows, height), (columns, width)):
        counts = lines.sum(dim=1)
        edges = lines[:, 0] | lines[:, -1]
        assert set(counts[~edges].tolist()) == {round(share * side)}
        assert counts.max() <= round(share * side)
        assert ((lines[:, 1:] != lines[:, :-1]).sum(dim=1) <= 2).all()  # without a gap
    middles = rows.float() @ torch.arange(height).float() / rows.sum(dim=1)
    assert middles.min() < height / 4 < 3 * height / 4 < middles.max()


# Photo


COLOURS = torch.rand(2, 3, 6, 8, generator=torch.Generator().manual_seed(5)) * 0.5 + 0.25
LUMA = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)  # ITU-R BT.601


def luma_of(images: torch.Tensor) -> torch.Tensor:
    return (images * LUMA).sum(dim=1)


@pytest.mark.parametrize("n_channels", [1, 3, 4])
def test_a_photo_without_change_is_itself(n_channels):
    rows = torch.rand(3, n_channels, 5, 7, generator=generator())
    np.testing.assert_allclose(photo()(rows, generator()), rows, atol=1e-4)
    np.testing.assert_array_equal(photo().plain(rows), rows)


@pytest.mark.parametrize("size", [4, 12])
def test_a_photo_at_another_size_is_bilinear_interpolation(size):
    expected = F.interpolate(COLOURS, size=(size, size), mode="bilinear", align_corners=False)
    for result in (photo(size=size)(COLOURS, generator()), photo(size=size).plain(COLOURS)):
        np.testing.assert_allclose(result, expected, atol=1e-4)
    assert photo(size=size).output_shape((3, 6, 8)) == (3, size, size)
    assert photo().output_shape((3, 6, 8)) == (3, 6, 8)


def test_flip_mirrors_left_and_right_with_its_probability():
    np.testing.assert_allclose(photo(flip=1.0)(COLOURS, generator()), COLOURS.flip(3), atol=1e-4)
    rows = COLOURS[:1].expand(400, 3, 6, 8)
    flipped = photo(flip=0.3)(rows, generator())
    is_same = (flipped - rows).abs().amax(dim=(1, 2, 3)) < 1e-3
    is_mirrored = (flipped - rows.flip(3)).abs().amax(dim=(1, 2, 3)) < 1e-3
    assert (is_same ^ is_mirrored).all()
    assert float(is_mirrored.double().mean()) == pytest.approx(0.3, abs=5 * math.sqrt(0.21 / 400))


def test_crop_shows_a_part_of_the_image_of_allowed_size():
    """On a ramp the values at the edges tell where the crop begins and ends."""
    width = 64
    ramp = ((torch.arange(width) + 0.5) / width).expand(300, 1, width, width)
    for axis, rows in ((3, ramp), (2, ramp.transpose(2, 3))):
        line = photo(crop=0.4)(rows, generator()).mean(dim=5 - axis)[:, 0]
        sides = (line[:, -1] - line[:, 0]) * width / (width - 1)
        assert float(sides.min()) >= 0.4 - 0.02
        assert float(sides.max()) <= 1 + 1e-4
        assert float(sides.mean()) == pytest.approx(0.7, abs=0.05)
        # All of the crop lies inside: nothing is repeated at the border.
        steps = line.diff(dim=1)[:, 1:-1]
        np.testing.assert_allclose(steps, (sides / width)[:, None].expand_as(steps), atol=2e-3)
        middle = (line[:, 0] + line[:, -1]) / 2
        assert ((middle - 0.5).abs() <= (1 - sides) / 2 + 1e-3).all()
        assert float(middle.std()) > 0.05


def test_brightness_multiplies_and_contrast_spreads_around_the_mean(extreme):
    mean = COLOURS.mean(dim=(1, 2, 3), keepdim=True)
    for end in (1, -1):
        extreme(end)
        np.testing.assert_allclose(photo(brightness=0.2)(COLOURS, generator()), COLOURS * (1 + end * 0.2), atol=1e-4)
        expected = mean + (COLOURS - mean) * (1 + end * 0.3)
        np.testing.assert_allclose(photo(contrast=0.3)(COLOURS, generator()), expected, atol=1e-4)


def test_saturation_scales_the_distance_from_grey(extreme):
    grey = luma_of(COLOURS)[:, None]
    for end in (1, -1):
        extreme(end)
        expected = grey + (COLOURS - grey) * (1 + end * 0.3)
        np.testing.assert_allclose(photo(saturation=0.3)(COLOURS, generator()), expected.clamp(0, 1), atol=1e-3)


def test_greyscale_takes_all_colour_with_its_probability():
    grey = photo(greyscale=1.0)(COLOURS, generator())
    np.testing.assert_allclose(grey, luma_of(COLOURS)[:, None].expand_as(grey), atol=1e-3)
    rows = COLOURS[:1].expand(400, 3, 6, 8)
    lost = photo(greyscale=0.2)(rows, generator()).std(dim=1).amax(dim=(1, 2)) < 1e-3
    assert float(lost.double().mean()) == pytest.approx(0.2, abs=5 * math.sqrt(0.16 / 400))


@pytest.mark.parametrize("hue", [0.1, 0.25, 0.5])
def test_hue_keeps_brightness_and_returns_after_the_opposite_turn(extreme, hue):
    colours = 0.5 + (COLOURS - 0.5) * 0.4  # far enough from black and white that nothing is cut off
    extreme(1)
    turned = photo(hue=hue)(colours, generator())
    assert float((turned - colours).abs().max()) > 0.02
    np.testing.assert_allclose(luma_of(turned), luma_of(colours), atol=1e-4)
    extreme(-1)
    np.testing.assert_allclose(photo(hue=hue)(turned, generator()), colours, atol=1e-3)


def test_half_a_turn_of_the_hue_gives_the_complementary_colour(extreme):
    extreme(1)
    grey = luma_of(COLOURS)[:, None]
    expected = (2 * grey - COLOURS).clamp(0, 1)
    np.testing.assert_allclose(photo(hue=0.5)(COLOURS, generator()), expected, atol=1e-3)


def test_images_without_colour_keep_their_channels():
    rows = torch.rand(4, 1, 6, 6, generator=generator())
    view = photo(saturation=1.0, hue=0.5, greyscale=1.0)
    np.testing.assert_allclose(view(rows, generator()), rows, atol=1e-5)


@given(
    st.sampled_from([1, 3]).flatmap(lambda n: arrays(np.float32, (2, n, 5, 5), elements=st.floats(0, 1, width=32))),
    st.integers(0, 1000),
)
def test_photos_in_the_unit_interval_stay_there(images, seed):
    view = Photo(size=4, crop=0.1, flip=0.5, brightness=1, contrast=1, saturation=1, hue=0.5, greyscale=0.5)
    result = view(torch.from_numpy(images), generator(seed))
    assert torch.isfinite(result).all()
    assert float(result.min()) >= 0
    assert float(result.max()) <= 1


# Randomness


RANDOM = [
    photo(crop=0.3),
    photo(brightness=0.3),
    photo(contrast=0.3),
    affine(rotation=30.0),
    affine(translation=0.2),
    affine(scale=0.3),
    affine(shear=30.0),
    affine(size=6, rotation=15.0, translation=0.1, scale=0.1, shear=8.0),
    Dropout(rate=0.3, reweight=0.0),
    Noise(scale=0.1),
]


@pytest.mark.parametrize("view", RANDOM, ids=repr)
def test_each_row_of_a_batch_has_its_own_draw(view):
    same = torch.rand(1, 1, 8, 8, generator=generator()).expand(20, 1, 8, 8)
    assert len(torch.unique(view(same, generator()), dim=0)) == 20


@pytest.mark.parametrize("view", [photo(saturation=0.5), photo(hue=0.3)], ids=repr)
def test_each_photo_has_its_own_colours(view):
    same = COLOURS[:1].expand(20, 3, 6, 8)
    assert len(torch.unique(view(same, generator()), dim=0)) == 20


@pytest.mark.parametrize("view", RANDOM, ids=repr)
def test_the_generator_decides_everything(view):
    rows = torch.rand(6, 1, 8, 8, generator=generator())
    copy, state = rows.clone(), torch.get_rng_state()
    source = generator(1)
    first, second = view(rows, source), view(rows, source)
    assert not torch.equal(first, second)
    again = generator(1)
    assert torch.equal(view(rows, again), first)
    assert torch.equal(view(rows, again), second)
    assert torch.equal(rows, copy)
    assert torch.equal(torch.get_rng_state(), state)


@given(st.floats(0, 5), st.integers(0, 1000))
def test_uniform_draws_stay_within_their_half_width(half_width, seed):
    draws = views._uniform(200, half_width, torch.zeros(1), generator(seed))
    assert draws.shape == (200,)
    assert float(draws.abs().max()) <= half_width * (1 + 1e-6)


def test_uniform_draws_are_uniform():
    draws = views._uniform(20_000, 2.0, torch.zeros(1), generator()).numpy()
    counts, _ = np.histogram(draws, bins=10, range=(-2, 2))
    assert counts.sum() == 20_000
    np.testing.assert_allclose(counts, 2000, atol=5 * math.sqrt(2000))


# Dropout


@given(
    arrays(np.float32, (4, 30), elements=st.integers(-800, 800).map(lambda value: value / 8)),
    st.floats(0, 0.8),
    st.integers(0, 1000),
)
def test_dropout_keeps_the_length_and_the_direction_of_what_stays(values, rate, seed):
    rows = torch.from_numpy(values)
    thinned = Dropout(rate=rate, reweight=0.0)(rows, generator(seed)).numpy()
    assert np.isfinite(thinned).all()
    for before, after in zip(values.astype(np.float64), thinned.astype(np.float64), strict=True):
        kept = after != 0
        if kept.any():
            norm = np.linalg.norm(before)
            assert np.linalg.norm(after) == pytest.approx(norm, rel=1e-4)
            np.testing.assert_allclose(after[kept], before[kept] * norm / np.linalg.norm(before[kept]), rtol=1e-4)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_rate(rate):
    thinned = Dropout(rate=rate, reweight=0.0)(torch.ones(200, 100), generator())
    share = float((thinned == 0).double().mean())
    assert share == pytest.approx(rate, abs=5 * math.sqrt(rate * (1 - rate) / 20_000))


def test_dropout_at_rate_zero_is_the_row_itself():
    rows = torch.randn(5, 7, generator=generator())
    np.testing.assert_allclose(Dropout(rate=0.0, reweight=0.0)(rows, generator()), rows, rtol=1e-6)


def test_rows_that_are_or_become_zero_stay_zero():
    view = Dropout(rate=0.99, reweight=0.0)
    np.testing.assert_array_equal(view(torch.zeros(3, 4), generator()), 0)
    thinned = view(torch.full((500, 2), 1e3), generator())
    norms = thinned.norm(dim=1).numpy()
    lost = norms == 0
    assert lost.sum() > 400
    assert not lost.all()
    np.testing.assert_allclose(norms[~lost], math.sqrt(2) * 1e3, rtol=1e-5)


# Noise


@pytest.mark.parametrize("scale", [0.05, 2.0])
def test_noise_is_standard_normal_times_the_scale(scale):
    rows = torch.randn(100, 200, generator=generator(1))
    noise = (Noise(scale=scale)(rows, generator()) - rows).double() / scale
    assert float(noise.mean()) == pytest.approx(0, abs=5 / math.sqrt(20_000))
    assert float(noise.std()) == pytest.approx(1, abs=5 / math.sqrt(40_000))
    assert float((noise.abs() < 1).double().mean()) == pytest.approx(0.6827, abs=0.02)


def test_noise_of_scale_zero_is_the_row_itself():
    rows = torch.randn(5, 7, generator=generator())
    np.testing.assert_array_equal(Noise(scale=0.0)(rows, generator()), rows)


@pytest.mark.parametrize("view", [Dropout(rate=0.3, reweight=0.0), Noise(scale=0.1)], ids=repr)
@pytest.mark.parametrize("shape", [(6,), (2, 4, 4)])
def test_vector_views_take_rows_of_any_shape(view, shape):
    rows = torch.rand(3, *shape, generator=generator())
    assert view(rows, generator()).shape == rows.shape
    assert view.output_shape(shape) == shape
    assert torch.equal(view.plain(rows), rows)


# Pairs and neighbours


TABLE = np.array([[1, 2, 3], [0, 2, -1], [0, -1, -1], [-1, -1, -1], [3, 1, 0]])


def distinct_rows(n: int = 5) -> Rows:
    return Rows(np.arange(n, dtype=np.float32)[:, None].repeat(3, axis=1), torch.device("cpu"))


@pytest.mark.parametrize("view", RANDOM, ids=repr)
def test_a_pair_is_two_different_views_of_each_row(view):
    features = np.random.default_rng(0).random((30, 1, 8, 8), dtype=np.float32)
    rows, index = Rows(features, torch.device("cpu")), torch.tensor([4, 29, 0])
    pair = view.pair(rows, index, None, generator())
    assert pair.shape == (6, *view.output_shape((1, 8, 8)))
    assert not torch.equal(pair[:3], pair[3:])
    assert torch.equal(pair, view.pair(rows, index, None, generator()))


def test_a_pair_without_randomness_is_each_row_twice_in_order():
    pair = Noise(scale=0.0).pair(distinct_rows(), torch.tensor([4, 0, 2]), None, generator())
    np.testing.assert_array_equal(pair[:, 0], [4, 0, 2, 4, 0, 2])


def test_partners_are_neighbours_drawn_evenly_and_else_the_row_itself():
    table = neighbour_table(TABLE, 5, torch.device("cpu"))
    index = torch.arange(5).repeat(3000)
    pair = Neighbours(noise=0.0).pair(distinct_rows(), index, table, generator())
    partners = pair[15_000:, 0].reshape(3000, 5).numpy().astype(int)
    for row, line in enumerate(TABLE):
        allowed = line[line >= 0] if (line >= 0).any() else np.array([row])
        found, counts = np.unique(partners[:, row], return_counts=True)
        np.testing.assert_array_equal(found, np.sort(allowed))
        share = 1 / len(allowed)
        np.testing.assert_allclose(counts / 3000, share, atol=5 * math.sqrt(share / 3000))


def test_a_neighbour_pair_is_the_row_and_its_partner():
    table = neighbour_table(TABLE, 5, torch.device("cpu"))
    pair = Neighbours(noise=0.0).pair(distinct_rows(), torch.tensor([2, 3]), table, generator())
    np.testing.assert_array_equal(pair[:, 0], [2, 3, 0, 3])
    noisy = Neighbours(noise=0.01).pair(distinct_rows(), torch.tensor([2, 3]), table, generator())
    assert not torch.equal(noisy, pair)
    np.testing.assert_allclose(noisy, pair, atol=0.06)
    rows = torch.rand(2, 3)
    assert torch.equal(Neighbours(noise=0.01).plain(rows), rows)
    assert Neighbours(noise=0.01).output_shape((3,)) == (3,)


def test_radius_noise_is_as_long_as_a_share_of_the_distance_to_the_last_neighbour():
    table = neighbour_table(TABLE, 5, torch.device("cpu"))
    index = torch.arange(5).repeat(4000)
    pair = RadiusNoise(scale=0.5).pair(distinct_rows(), index, table, generator())
    noise = (pair - distinct_rows()[torch.cat([index, index])]).norm(dim=1).reshape(-1, 5)
    # Rows are (i, i, i); the last neighbours of rows 0, 1, 2, 4 are 3, 2, 0, 0, and row 3 has none.
    distance = math.sqrt(3) * torch.tensor([3.0, 1.0, 2.0, 0.0, 4.0])
    np.testing.assert_allclose(noise.square().mean(dim=0).sqrt(), 0.5 * distance, rtol=0.03)
    assert not torch.equal(pair[:20_000], pair[20_000:])
    with pytest.raises(ValueError, match=r"views \(radius_noise\): expected the neighbours of every row, got none"):
        RadiusNoise(scale=0.5).pair(distinct_rows(), index, None, generator())


def test_reweighting_multiplies_by_log_normal_factors_and_keeps_the_length():
    rows = torch.ones(200, 300)
    view = Dropout(rate=0.0, reweight=0.4)(rows, generator())
    np.testing.assert_allclose(view.norm(dim=1), rows.norm(dim=1), rtol=1e-5)
    logs = view.log()
    logs = logs - logs.mean(dim=1, keepdim=True)
    assert float(logs.std()) == pytest.approx(0.4, rel=0.02)


@pytest.mark.parametrize("table", [None, torch.zeros(5, 0, dtype=torch.int64)])
def test_neighbour_views_without_neighbours_are_refused(table):
    with pytest.raises(ValueError, match=r"views \(neighbours\): expected the neighbours of every row, got none"):
        Neighbours(noise=0.0).pair(distinct_rows(), torch.tensor([0]), table, generator())


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


# Refusals


@pytest.mark.parametrize("shape", [(4, 9), (4, 3, 3), (4, 1, 1, 3, 3)])
def test_image_views_refuse_rows_that_are_no_images(shape):
    rows = torch.zeros(shape)
    for call in (lambda view: view(rows, generator()), lambda view: view.plain(rows)):
        for view in (affine(size=4), photo(size=4)):
            with pytest.raises(ValueError, match=r" views need images of shape \(channels, height, width\), got"):
                call(view)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (STILL | {"size": -1}, "size must be at least 0, got -1"),
        (STILL | {"rotation": 181.0}, "rotation must be at least 0 and at most 180, got 181"),
        (STILL | {"rotation": -1.0}, "rotation must be at least 0"),
        (STILL | {"translation": 1.5}, "translation must be at least 0 and at most 1, got 1.5"),
        (STILL | {"scale": 1.0}, "scale must be at least 0 and at most 0.95, got 1"),
        (STILL | {"shear": 90.0}, "shear must be at least 0 and at most 80, got 90"),
        (STILL | {"shear": math.nan}, "shear must be .* got nan"),
        (STILL | {"padding": "mirror"}, "padding got 'mirror'"),
        (STILL | {"erase": 1.0}, "erase must be at least 0 and at most 0.9, got 1"),
    ],
)
def test_affine_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=rf"^views \(affine\): {message}"):
        make_view({"kind": "affine", **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"kind": "dropout", "rate": 1.0, "reweight": 0.0},
            "dropout.*rate must be at least 0 and at most 0.99, got 1.0",
        ),
        ({"kind": "dropout", "rate": -0.1, "reweight": 0.0}, "dropout.*rate must be at least 0"),
        ({"kind": "noise", "scale": -1.0}, "noise.*scale must be at least 0, got -1.0"),
        ({"kind": "neighbours", "noise": -1.0}, "neighbours.*noise must be at least 0, got -1.0"),
        ({"kind": "photo", **PLAIN_PHOTO, "size": -1}, "photo.*size must be at least 0, got -1"),
        ({"kind": "photo", **PLAIN_PHOTO, "crop": 0.0}, "photo.*crop must be at least 0.05 and at most 1, got 0.0"),
        ({"kind": "photo", **PLAIN_PHOTO, "hue": 0.6}, "photo.*hue must be at least 0 and at most 0.5, got 0.6"),
        ({"kind": "photo", **PLAIN_PHOTO, "flip": 1.1}, "photo.*flip must be at least 0 and at most 1, got 1.1"),
        ({"kind": "photo", **PLAIN_PHOTO, "greyscale": -0.1}, "photo.*greyscale must be at least 0"),
        ({"kind": "nois", "scale": 1.0}, r"unknown kind 'nois' \(did you mean 'noise'\?\)"),
    ],
)
def test_other_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=f"^views.*{message}"):
        make_view(options)


def test_make_view_gives_the_named_family():
    assert make_view({"kind": "affine", **STILL}) == affine()
    assert make_view({"kind": "dropout", "rate": 0.2, "reweight": 0.0}) == Dropout(rate=0.2, reweight=0.0)
    assert make_view({"kind": "noise", "scale": 1}) == Noise(scale=1.0)

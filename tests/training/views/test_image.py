"""Views of images: geometry on images whose transformed form is known, colours, and ranges."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch.nn import functional as F  # noqa: N812

from deep_clustering.training.rows import Rows
from deep_clustering.training.views import image as image_views
from deep_clustering.training.views import make_view
from deep_clustering.training.views.image import Affine, Photo, PhotoCrops
from still_views import PLAIN_PHOTO, STILL, affine, generator, photo

PADDINGS = ("zeros", "reflection")


@pytest.fixture
def extreme(monkeypatch):
    """Function that makes every draw the upper (1) or lower (-1) end of its interval."""

    def fix(end: int) -> None:
        def draw(n, half_width, like, generator):
            return torch.full((n,), end * half_width, dtype=like.dtype)

        monkeypatch.setattr(image_views, "_uniform", draw)

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
    mirrored, view = affine(size=size, padding="reflection"), affine(size=size)
    assert view.output_shape(shape[1:]) == (shape[1], size, size)
    for result in (mirrored(rows, generator()), mirrored.plain(rows)):
        np.testing.assert_allclose(result, expected, atol=1e-4)
    # With zeros outside only the outermost pixels of an enlargement differ.
    edge = math.ceil(size / min(shape[2:]) / 2)
    inner = np.s_[:, :, edge : size - edge, edge : size - edge]
    for result in (view(rows, generator()), view.plain(rows)):
        np.testing.assert_allclose(result[inner], expected[inner], atol=1e-4)


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


def test_what_comes_from_outside_is_zero(extreme):
    for end in (1, -1):
        extreme(end)
        moved = affine(translation=0.5)(torch.ones(1, 1, 8, 8), generator())[0, 0]
        np.testing.assert_allclose(moved.unique(), [0, 1], atol=1e-6)
        np.testing.assert_allclose(moved.sum(), 16, atol=1e-5)  # half of each side is left


@pytest.mark.parametrize(("padding", "outside"), [("zeros", 0.0), ("reflection", 1.0)])
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
    view = Affine(size=size, rotation=180.0, translation=0.5, scale=0.9, shear=60.0, padding=padding)
    result = view(torch.from_numpy(images), generator(seed))
    assert torch.isfinite(result).all()
    assert float(result.min()) >= -1e-5
    assert float(result.max()) <= 1 + 1e-5


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


@pytest.mark.parametrize("view", [photo(saturation=0.5), photo(hue=0.3)], ids=repr)
def test_each_photo_has_its_own_colours(view):
    same = COLOURS[:1].expand(20, 3, 6, 8)
    assert len(torch.unique(view(same, generator()), dim=0)) == 20


# Draws


@given(st.floats(0, 5), st.integers(0, 1000))
def test_uniform_draws_stay_within_their_half_width(half_width, seed):
    draws = image_views._uniform(200, half_width, torch.zeros(1), generator(seed))
    assert draws.shape == (200,)
    assert float(draws.abs().max()) <= half_width * (1 + 1e-6)


def test_uniform_draws_are_uniform():
    draws = image_views._uniform(20_000, 2.0, torch.zeros(1), generator()).numpy()
    counts, _ = np.histogram(draws, bins=10, range=(-2, 2))
    assert counts.sum() == 20_000
    np.testing.assert_allclose(counts, 2000, atol=5 * math.sqrt(2000))


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
        (STILL | {"rotation": -1.0}, "rotation must be at least 0 and at most 180"),
        (STILL | {"translation": 1.5}, "translation must be at least 0 and at most 1, got 1.5"),
        (STILL | {"scale": 1.0}, "scale must be at least 0 and at most 0.95, got 1"),
        (STILL | {"shear": 90.0}, "shear must be at least 0 and at most 80, got 90"),
        (STILL | {"shear": math.nan}, "shear must be .* got nan"),
    ],
)
def test_affine_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=rf"^views \(affine\): {message}"):
        make_view({"kind": "affine", **options})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": -1}, "size must be at least 0, got -1"),
        ({"crop": 0.0}, "crop must be at least 0.05 and at most 1, got 0.0"),
        ({"hue": 0.6}, "hue must be at least 0 and at most 0.5, got 0.6"),
        ({"flip": 1.1}, "flip must be at least 0 and at most 1, got 1.1"),
        ({"greyscale": -0.1}, "greyscale must be at least 0 and at most 1"),
    ],
)
def test_photo_options_out_of_range_are_refused(change, message):
    with pytest.raises(ValueError, match=rf"^views \(photo\): {message}"):
        make_view({"kind": "photo", **PLAIN_PHOTO | change})


def test_parts_are_crops_on_a_grid_of_the_mean_side_of_random_ones():
    """On a ramp from left to right and one from top to bottom, means tell the middle of a crop, ranges its side."""
    ramp = (torch.arange(40) + 0.5) / 40
    images = torch.stack([ramp.expand(40, 40), ramp.view(40, 1).expand(40, 40)]).unsqueeze(0)
    parts = Photo(**PLAIN_PHOTO | {"crop": 0.5, "size": 20}).parts(images)
    middles = [tuple(round(float(part[0, axis].mean()), 3) for axis in (0, 1)) for part in parts]
    assert middles == [(x, y) for y in (0.375, 0.5, 0.625) for x in (0.375, 0.5, 0.625)]
    for part in parts:
        assert part.shape == (1, 2, 20, 20)
        assert float(part[0, 0, 0, -1] - part[0, 0, 0, 0]) == pytest.approx(0.75 * 19 / 20, abs=1e-3)


# More views of small parts

CROPS = PLAIN_PHOTO | {"crop": 0.6, "small_views": 3, "small_size": 5, "small_crop": 0.2}


def test_small_views_are_draws_of_all_rows_one_behind_the_other():
    shades = torch.linspace(0, 1, 4).view(4, 1, 1, 1).expand(4, 3, 8, 8)
    view = PhotoCrops(**CROPS)
    found = view.small(Rows(shades.numpy(), torch.device("cpu")), torch.tensor([2, 0]), generator())
    assert found.shape == (6, 3, 5, 5)
    torch.testing.assert_close(found.mean(dim=(1, 2, 3)), torch.tensor([2 / 3, 0] * 3))
    assert view.n_small == 3


def test_small_views_show_parts_between_both_bounds():
    """On a ramp from left to right, the range of a view's values is the side of its crop."""
    ramp = ((torch.arange(40) + 0.5) / 40).expand(1, 1, 40, 40)
    view = PhotoCrops(**CROPS | {"small_views": 300, "small_size": 20})
    rows = Rows(ramp.numpy(), torch.device("cpu"))
    small = view.small(rows, torch.tensor([0]), generator())
    sides = (small[:, 0, 0, -1] - small[:, 0, 0, 0]) * 20 / 19
    assert 0.2 - 1e-3 < float(sides.min()) < 0.23
    assert 0.57 < float(sides.max()) < 0.6 + 1e-3
    pair = view.pair(rows, torch.zeros(300, dtype=torch.int64), None, generator())
    assert float((pair[:, 0, 0, -1] - pair[:, 0, 0, 0]).min()) * 40 / 39 > 0.6 - 1e-3


def test_small_views_are_those_of_an_index_on_any_two_calls_of_one_seed():
    rows = Rows(np.random.default_rng(0).random((3, 3, 8, 8), dtype=np.float32), torch.device("cpu"))
    view = PhotoCrops(**CROPS | {"brightness": 0.4, "hue": 0.1})
    first, second = (view.small(rows, torch.tensor([0, 2]), generator(5)) for _ in range(2))
    assert torch.equal(first, second)


def test_small_views_larger_than_the_others_are_refused():
    with pytest.raises(ValueError, match=r"small_crop must be at most crop = 0\.6, got 0\.7"):
        PhotoCrops(**CROPS | {"small_crop": 0.7})


def test_a_method_of_two_views_refuses_more():
    with pytest.raises(ValueError, match="kind 'photo_crops' has more than two views of a row"):
        make_view({"kind": "photo_crops", **CROPS})
    assert make_view({"kind": "photo_crops", **CROPS}, takes_small=True).n_small == 3

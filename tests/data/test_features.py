"""Scaling of samples to the rows of the methods."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from deep_clustering.data.feature_options import FeatureOptions
from deep_clustering.data.features import LOWEST, fit_statistics, postprocess_rows, scale_samples
from deep_clustering.data.preparation import prepare
from deep_clustering.data.sources.samples import FITTED
from deep_clustering.options import build

IMAGES = arrays(np.uint8, (3, 1, 4, 4))


@given(IMAGES)
def test_bytes_are_divided_by_their_range(images):
    rows = scale_samples(images, [0.0, 255.0], "range")
    assert rows.dtype == np.float32
    assert rows.shape == images.shape
    np.testing.assert_allclose(rows, images / 255, atol=1e-7)
    assert rows.min() >= 0
    assert rows.max() <= 1


@given(arrays(np.float32, (5, 3), elements=st.floats(-100, 100, width=32)))
def test_the_ends_of_the_range_become_zero_and_one(samples):
    samples[0, 0], samples[1, 1] = -100, 100
    rows = scale_samples(samples, [-100.0, 100.0], "range")
    assert (rows[0, 0], rows[1, 1]) == (0, 1)
    np.testing.assert_allclose(rows * 200 - 100, samples, atol=1e-4)


@given(IMAGES)
def test_no_scaling_keeps_the_values_as_single_precision(images):
    rows = scale_samples(images, [0.0, 0.0], "none")
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, images)


@pytest.mark.parametrize("scaling", ["range", "none"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_input_is_untouched_and_not_shared(scaling, dtype):
    samples = np.arange(12).reshape(3, 4).astype(dtype)
    copy = samples.copy()
    rows = scale_samples(samples, [0.0, 11.0], scaling)
    rows += 1
    np.testing.assert_array_equal(samples, copy)


@pytest.mark.parametrize("value_range", [[3.0, 3.0], [4.0, 3.0], [float("nan"), 1.0]])
def test_an_empty_range_is_refused(value_range):
    with pytest.raises(ValueError, match=r"features: scaling 'range' needs different values, got the range .*constant"):
        scale_samples(np.full((3, 2), 3, dtype=np.float32), value_range, "range")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scaling": "rang"}, r"features: scaling got 'rang' \(did you mean 'range'\?\)"),
        ({"scaling": None}, "features: 'scaling' got None"),
        ({"sizes": 3}, r"features: unknown option 'sizes' \(did you mean 'size'\?\)"),
    ],
)
def test_wrong_options_are_refused(parameters, change, message):
    with pytest.raises(ValueError, match=message):
        build(FeatureOptions, parameters["features"] | change, "features")


def test_a_missing_option_is_refused(parameters):
    options = {name: value for name, value in parameters["features"].items() if name != "scaling"}
    with pytest.raises(ValueError, match="features: missing option 'scaling'"):
        build(FeatureOptions, options, "features")


def test_an_unknown_scaling_is_refused():
    with pytest.raises(ValueError, match=r"scaling got 'rang' \(did you mean 'range'\?\)"):
        scale_samples(np.zeros((2, 2), dtype=np.float32), [0.0, 1.0], "rang")


def test_the_projects_options_scale_the_digits(parameters):
    images = np.array([[[[0, 16], [8, 4]]]], dtype=np.uint8)
    rows = scale_samples(images, [0.0, 16.0], parameters["features"]["scaling"])
    np.testing.assert_array_equal(rows, [[[[0, 1], [0.5, 0.25]]]])


@given(wild=st.sampled_from([1e6, -1e9, 3e12]), row=st.integers(0, 199))
def test_a_wild_cell_does_not_widen_its_column(wild, row):
    """The others are standardised as without it, but for the one row that counts as the end of their range."""
    rows = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    rows[row, 1] = wild
    others = np.delete(rows[:, 1], row)
    statistics = fit_statistics(rows, np.ones(200, dtype=bool), "standardise")
    standardised = postprocess_rows(rows.copy(), statistics, "standardise")[:, 1]
    found = np.delete(standardised, row)
    np.testing.assert_allclose(found, (others - np.mean(others)) / np.std(others), atol=0.3)
    assert standardised[row] == pytest.approx(found.max() if wild > 0 else found.min())


@pytest.mark.parametrize("power", [1, 3])
def test_without_wild_cells_columns_are_standardised_as_ever(power):
    rows = np.random.default_rng(1).normal(size=(300, 4)).astype(np.float32) ** power
    statistics = fit_statistics(rows, np.ones(300, dtype=bool), "standardise")
    assert LOWEST not in statistics
    np.testing.assert_allclose(statistics["deviation"], rows.astype(np.float64).std(axis=0), rtol=1e-6)


@pytest.mark.parametrize("postprocess", ["none", "standardise"])
def test_mapped_rows_that_stay_as_they_are_are_not_copied_and_others_leave_them_alone(
    parameters, tmp_path, postprocess
):
    samples = np.random.default_rng(0).normal(2, 3, (30, 4)).astype(np.float32)
    np.save(tmp_path / "samples.npy", samples)
    mapped = np.load(tmp_path / "samples.npy", mmap_mode="r")
    card = {"name": "rows", "value_range": [-9.0, 9.0], "sha256": {"samples": ""}}
    options = {**parameters["features"], "scaling": "none", "postprocess": postprocess}
    rows, _ = prepare(mapped, np.full(30, FITTED, np.uint8), card, {"terms": [], "idf": None}, options)
    assert (rows is mapped) == (postprocess == "none")
    np.testing.assert_array_equal(mapped, samples)

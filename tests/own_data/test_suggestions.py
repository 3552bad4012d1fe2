"""What suits data of a kind: sizes, ranges, views and epochs follow from the data by stated rules."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deep_clustering.own_data.suggestions import (
    drawing_settings,
    feature_settings,
    image_shape,
    n_neighbours,
    schedule,
    text_features,
    text_settings,
    uneven_columns,
    value_range_of,
    vector_scaling,
)


@pytest.mark.parametrize(
    ("sizes", "shape"),
    [
        ([(28, 28)] * 3, (28, 28)),
        ([(64, 32)] * 3, (64, 32)),
        ([(480, 640)] * 3, (32, 43)),
        ([(100, 900)] * 3, (32, 32)),
        ([(480, 640), (640, 480), (30, 30)], (32, 32)),
        ([(20, 25), (24, 18)], (21, 21)),
        ([(1, 1)], (1, 1)),
        ([(1, 1), (2, 2)], (8, 8)),
    ],
)
def test_the_size_of_images_follows_theirs(sizes, shape):
    assert image_shape(sizes) == shape


@pytest.mark.parametrize(
    ("shape", "size"), [((28, 28), 20), ((8, 8), 16), ((32, 32), 24), ((64, 64), 32), ((20, 40), 0), ((4, 40), 28)]
)
def test_views_of_drawings_are_square_where_these_are(shape, size):
    assert drawing_settings(shape, 3000, 10).others == {"presets": {"drawings": {"size": size}}}


@pytest.mark.parametrize(("n_samples", "epochs", "batch_size"), [(300, 40, 64), (3000, 40, 256), (10_000, 15, 256)])
def test_many_drawings_are_seen_fewer_times(n_samples, epochs, batch_size):
    settings = drawing_settings((28, 28), n_samples, 10)
    for method in (settings.dcan, settings.neural_mixture):
        assert (method.epochs, method.changes["batch_size"]) == (epochs, batch_size)


def test_few_texts_or_words_are_taken_as_they_are():
    words = [f"word{number}" for number in range(300)]
    many = [" ".join(words[index : index + 5]) for index in range(250)]
    assert text_features(many)["lsa"] == 100
    assert text_features(many[:199]) is None
    assert text_features(4 * many[:100]) is None  # copies are no further texts
    assert text_features(4 * many[:220])["lsa"] == 100
    assert text_features(["all the same words"] * 300) is None
    assert text_features(words) is None  # each stands in one text


def test_few_texts_have_their_neighbours_as_views():
    """Of 150 rows half of whose terms are dropped a network learns each by heart."""
    settings = text_settings(150, 3)
    assert settings.features == {"scaling": "none"}
    assert (settings.n_neighbours, settings.metric) == (18, "cosine")
    presets = (settings.dcan.preset, settings.neural_mixture.preset)
    assert presets == ("dcan_on_features", "neural_mixture_on_features")
    assert text_settings(5000, 3).dcan.changes["views"]["kind"] == "dropout"  # whose neighbours are copies


def test_columns_of_unequal_scales_are_told_from_like_ones():
    like = np.ones(10)
    assert not uneven_columns(like)
    assert not uneven_columns(np.r_[like, 0.0, 0.0])  # a constant column has no say
    assert uneven_columns(np.r_[np.ones(30), 21.0])  # one column among many
    assert uneven_columns(np.r_[np.ones(8), 4.0, 4.0])  # a tenth of them
    assert not uneven_columns(np.r_[np.ones(8), 2.9, 2.9])
    assert not uneven_columns(np.zeros(3))


@pytest.mark.parametrize(
    ("scale", "shift", "n_columns", "postprocess"),
    [
        (1.0, 0.0, 64, "centre_l2"),
        (1.0, 9.0, 64, "centre_l2"),
        (1.0, 0.0, 4, "standardise"),
        (None, 0.0, 4, "standardise"),
    ],
)
def test_the_scale_of_vectors_follows_from_their_columns(scale, shift, n_columns, postprocess):
    scales = np.geomspace(1, 1000, n_columns) if scale is None else np.full(n_columns, scale)
    rows = np.random.default_rng(0).normal(size=(500, n_columns)) * scales + shift
    assert vector_scaling(rows, rows.std(axis=0))[0] == postprocess


def test_rows_of_length_one_are_centred_and_brought_back_to_it():
    rows = np.random.default_rng(0).normal(size=(50, 3)) * [1, 10, 100]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    assert vector_scaling(rows, rows.std(axis=0))[0] == "centre_l2"


@given(n_samples=st.integers(2, 10**6))
def test_neighbours_are_fewer_than_the_other_rows(n_samples):
    assert 1 <= n_neighbours(n_samples) <= min(27, n_samples - 1)


@pytest.mark.parametrize(
    ("samples", "value_range"),
    [
        (np.zeros((2, 1, 2, 2), np.uint8), [0, 1]),
        (np.full((2, 1, 2, 2), 16, np.uint8), [0, 16]),
        (np.full((2, 1, 2, 2), 128, np.uint8), None),
        (np.full((2, 1, 2, 2), 0.9, np.float32), [0, 1]),
        (np.full((2, 1, 2, 2), 200, np.float32), [0, 255]),
        (np.full((2, 1, 2, 2), -0.1, np.float32), None),
        (np.full((2, 4), 0.9, np.float32), None),
    ],
)
def test_the_value_range_is_guessed_only_where_it_is_sure(samples, value_range):
    assert value_range_of(samples, float(samples.min()), float(samples.max())) == value_range


@given(n_samples=st.integers(2, 10**7))
def test_more_rows_get_no_more_epochs(n_samples):
    now, later = schedule(n_samples), schedule(2 * n_samples)
    assert 10 <= later["epochs"] <= now["epochs"] <= 200
    assert 1 <= now["record_every"] <= now["epochs"]
    assert 64 <= now["batch_size"] <= later["batch_size"] <= 256


def test_batches_grow_with_many_clusters():
    """The densities of a batch need rows of each cluster: 50 of 100 clusters, where 20 have 25 of the preset's 512."""
    few, many, more, small = (
        feature_settings({}, n_samples, n_clusters).neural_mixture.changes
        for n_samples, n_clusters in ((10_000, 32), (10_000, 100), (1_000_000, 1000), (3000, 100))
    )
    assert "batch_size" not in few
    assert "start" not in few
    assert (many["batch_size"], more["batch_size"], small["batch_size"]) == (5000, 8192, 3000)
    assert sum(start["n_init"] for start in many["start"]["others"]) == 6


def test_dcan_begins_with_fewer_trials_of_many_clusters():
    few, many = (feature_settings({}, 10_000, n_clusters).dcan.changes for n_clusters in (32, 33))
    assert "start" not in few
    assert many["start"] == {"n_init": 4}

"""What suits data of a kind: sizes, ranges, views and epochs follow from the data by stated rules."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deep_clustering.own_data.suggestions import (
    image_shape,
    schedule,
    text_settings,
    uneven_column,
    value_range_of,
    vector_settings,
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


def test_few_texts_or_words_are_taken_as_they_are():
    words = [f"word{number}" for number in range(300)]
    many = [" ".join(words[index : index + 5]) for index in range(250)]
    assert text_settings(many)["lsa"] == 100
    assert text_settings(many[:199]) is None
    assert text_settings(4 * many[:100]) is None  # copies are no further texts
    assert text_settings(4 * many[:220])["lsa"] == 100
    assert text_settings(["all the same words"] * 300) is None
    assert text_settings(words) is None  # each stands in one text


def test_the_noise_is_half_the_spread_of_a_column():
    rows = np.tile([[-1.0], [1.0]], (50, 3))
    assert vector_settings(rows, is_standardised=False)[0] == {"kind": "noise", "scale": 0.5}
    assert vector_settings(8 * rows, is_standardised=False)[0] == {"kind": "noise", "scale": 4.0}
    assert vector_settings(8 * rows, is_standardised=True)[0] == {"kind": "noise", "scale": 0.5}
    assert vector_settings(np.eye(5), is_standardised=False)[0]["kind"] == "dropout"


def test_a_column_that_decides_alone_is_named():
    rows = np.random.default_rng(0).normal(size=(100, 5))
    assert uneven_column(rows) is None
    rows[:, 3] *= 1000
    assert uneven_column(rows) == 3


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

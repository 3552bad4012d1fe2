"""Views of vectors: what dropout and noise do to a row, against their definitions."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from deep_clustering.training.views import make_view
from deep_clustering.training.views.vector import Dropout, Noise
from still_views import generator

# Dropout


@given(
    arrays(np.float32, (4, 30), elements=st.integers(-800, 800).map(lambda value: value / 8)),
    st.floats(0, 0.8),
    st.integers(0, 1000),
)
def test_dropout_keeps_the_length_and_the_direction_of_what_stays(values, rate, seed):
    rows = torch.from_numpy(values)
    thinned = Dropout(rate=rate)(rows, generator(seed)).numpy()
    assert np.isfinite(thinned).all()
    for before, after in zip(values.astype(np.float64), thinned.astype(np.float64), strict=True):
        kept = after != 0
        if kept.any():
            norm = np.linalg.norm(before)
            assert np.linalg.norm(after) == pytest.approx(norm, rel=1e-4)
            np.testing.assert_allclose(after[kept], before[kept] * norm / np.linalg.norm(before[kept]), rtol=1e-4)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_rate(rate):
    thinned = Dropout(rate=rate)(torch.ones(200, 100), generator())
    share = float((thinned == 0).double().mean())
    assert share == pytest.approx(rate, abs=5 * math.sqrt(rate * (1 - rate) / 20_000))


def test_dropout_at_rate_zero_is_the_row_itself():
    rows = torch.randn(5, 7, generator=generator())
    np.testing.assert_allclose(Dropout(rate=0.0)(rows, generator()), rows, rtol=1e-6)


def test_rows_that_are_or_become_zero_stay_zero():
    view = Dropout(rate=0.99)
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


@pytest.mark.parametrize("view", [Dropout(rate=0.3), Noise(scale=0.1)], ids=repr)
@pytest.mark.parametrize("shape", [(6,), (2, 4, 4)])
def test_vector_views_take_rows_of_any_shape(view, shape):
    rows = torch.rand(3, *shape, generator=generator())
    assert view(rows, generator()).shape == rows.shape
    assert view.output_shape(shape) == shape
    assert torch.equal(view.plain(rows), rows)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "dropout", "rate": 1.0}, r"\(dropout\): rate must be at least 0 and at most 0.99, got 1.0"),
        ({"kind": "dropout", "rate": -0.1}, r"\(dropout\): rate must be at least 0 and at most 0.99, got -0.1"),
        ({"kind": "noise", "scale": -1.0}, r"\(noise\): scale must be at least 0, got -1.0"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=f"^views {message}"):
        make_view(options)

"""Predictors that are damaged or of another form are refused by name, and nothing but probabilities is given."""

import json

import numpy as np
import pytest

from deep_clustering.data import tensor_files
from deep_clustering.inference.predictor import _check_result, from_bytes

PLAIN = {"method": "gmm", "options": {}, "preparation": {}, "threshold": None, "max_rows": 0, "score": None}


def content_of(header, **arrays):
    return tensor_files.to_bytes(arrays or {"model/a": np.zeros(2)}, {"predictor": header})


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(value):
    content = content_of(json.dumps(PLAIN), **{"model/means": np.array([1.0, value])})
    with pytest.raises(ValueError, match="expected finite numbers, got NaN or infinity in its array 'model/means'"):
        from_bytes(content)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("[1, 2]", "expected names and values, got list"),
        (json.dumps({"method": "gmm"}), "its header, .*: missing option 'options'.*missing option 'score'"),
        (json.dumps({**PLAIN, "options": 3}), "its header, .*: 'options' got 3"),
        ("[" * 100_000, "it is nested too deep"),
    ],
)
def test_headers_of_another_form_are_refused(header, said):
    with pytest.raises(ValueError, match=said):
        from_bytes(content_of(header))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("method", 5, "'method' got 5"),
        ("threshold", "x", "'threshold' got 'x'"),
        ("score", ["a", "most", 1.0], "score"),
        ("clusters", [], r"'clusters' got \[\]"),
        ("max_rows", -1, "max_rows"),
        ("other", 1, "unknown option 'other'"),
    ],
)
def test_values_of_another_type_are_refused_by_their_name(name, value, said):
    with pytest.raises(ValueError, match=f"^its header, of another version or damaged: .*{said}"):
        from_bytes(content_of(json.dumps({**PLAIN, name: value})))


def test_arrays_of_another_part_are_refused():
    with pytest.raises(ValueError, match="expected arrays of model and preparation, got 'other/a'"):
        from_bytes(content_of(json.dumps(PLAIN), **{"other/a": np.zeros(2)}))


def test_what_is_no_probability_is_refused():
    fine, none = np.full((3, 2), 0.5), np.zeros(3, dtype=bool)
    _check_result(fine, np.zeros(3), none)
    _check_result(fine, np.full(3, -np.inf), none)
    wrong = fine.copy()
    wrong[1, 0] = np.nan
    with pytest.raises(ValueError, match="the model gives NaN or infinity, first for row 1"):
        _check_result(wrong, None, none)
    _check_result(wrong, None, np.array([False, True, False]))
    with pytest.raises(ValueError, match="first for row 2"):
        _check_result(fine, np.array([0.0, 0.0, np.nan]), none)

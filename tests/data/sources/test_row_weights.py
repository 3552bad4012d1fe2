"""Weights of rows: from the source to what is fitted."""

import numpy as np
import pytest

from deep_clustering.data.sources import load_source
from deep_clustering.data.sources.row_weights import as_weights


def load(source, n_rows=0):
    return load_source({"source": source, "n_rows": n_rows})[0]


def table(tmp_path, cells):
    lines = [f"word{row % 3} thing number{row},{cell}" for row, cell in enumerate(cells)]
    (tmp_path / "texts.csv").write_text("\n".join(["text,w", *lines]))
    return {
        "kind": "text_table",
        "name": "mine",
        "path": str(tmp_path / "texts.csv"),
        "column": "text",
        "labels_column": None,
        "encoding": "utf-8",
        "max_terms": 100,
        "on_empty": "skip",
        "weights": "w",
    }


def arrays(tmp_path, weights, **changes):
    np.save(tmp_path / "rows.npy", np.arange(12, dtype=np.float32).reshape(6, 2))
    np.save(tmp_path / "w.npy", np.asarray(weights))
    rest = {"labels": None, "key": None, "layout": "auto", "value_range": None}
    source = {"kind": "arrays", "name": "mine", "samples": str(tmp_path / "rows.npy"), **rest}
    return {**source, "weights": str(tmp_path / "w.npy"), **changes}


def test_a_row_of_weight_zero_is_assigned_but_not_fitted(tmp_path):
    for source in (table(tmp_path, [1, 0, 2.5, 1, 1, 0]), arrays(tmp_path, [1, 0, 2.5, 1, 1, 0])):
        loaded = load(source)
        assert loaded.split.tolist() == [3, 2, 3, 3, 3, 2]
        np.testing.assert_array_equal(loaded.weights, np.array([1, 0, 2.5, 1, 1, 0], dtype=np.float32))
        assert loaded.weights.dtype == np.float32


def test_weights_are_those_of_the_rows_that_are_taken(tmp_path):
    source = arrays(tmp_path, np.arange(1, 7))
    loaded = load(source, n_rows=3)
    np.testing.assert_array_equal(loaded.weights, loaded.samples[:, 0] / 2 + 1)


def test_rows_without_text_take_their_weights_with_them(tmp_path):
    source = table(tmp_path, [1, 2, 3, 4])
    text = (tmp_path / "texts.csv").read_text().replace("word1 thing number1,2", ",2")
    (tmp_path / "texts.csv").write_text(text)
    assert load(source).weights.tolist() == [1, 3, 4]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1, -1, 2, 1, 1, 1], "row 1 has weight -1.0; expected a number of at least 0"),
        ([1, 1, np.nan, 1, 1, 1], "row 2 has weight nan"),
        ([1, 1, 1, np.inf, 1, 1], "row 3 has weight inf"),
        ([0, 0, 0, 0, 0, 0], "all 6 weights are 0"),
        ([1, 1], "expected a weight for each of 6 samples, got 2"),
        ([[1]] * 6, r"weights must have shape \(n,\), got \(6, 1\)"),
    ],
)
def test_weights_that_cannot_be_meant_are_refused(tmp_path, weights, message):
    with pytest.raises(ValueError, match=message):
        load(arrays(tmp_path, weights))


@pytest.mark.parametrize(("cell", "row"), [("many", 2), ("", 2), ("-3", 2)])
def test_a_cell_that_is_no_weight_is_named_by_its_row(tmp_path, cell, row):
    with pytest.raises(ValueError, match=f"column 'w': row {row} has weight"):
        load(table(tmp_path, [1, 1, cell, 1]))


def test_text_of_numbers_is_numbers():
    assert as_weights(np.array(["1", "2.5"], dtype=object), "w").tolist() == [1, 2.5]

"""Sources of samples: what they give, the card that describes it, and what is refused."""

import hashlib
import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import sparse
from sklearn.datasets import load_digits

from deep_clustering.data.sources import ASSIGNED, FITTED, load_source
from deep_clustering.data.sources.card import array_sha256, count_constant_columns, count_duplicates

DIGITS = {"source": {"kind": "digits"}, "n_rows": 0}


@pytest.fixture
def own(tmp_path):
    """Function that saves arrays and gives the options that load them."""

    def save(samples, labels=None, n_rows: int = 0) -> dict:
        np.save(tmp_path / "samples.npy", samples)
        if labels is not None:
            np.save(tmp_path / "labels.npy", labels)
        source = {
            "kind": "arrays",
            "name": "mine",
            "samples": str(tmp_path / "samples.npy"),
            "labels": None if labels is None else str(tmp_path / "labels.npy"),
            "key": None,
            "layout": "auto",
            "value_range": None,
        }
        return {"source": source, "n_rows": n_rows}

    return save


# Digits


def test_digits_are_scikit_learns():
    loaded, _ = load_source(DIGITS)
    oracle = load_digits()
    assert loaded.samples.shape == (1797, 1, 8, 8)
    assert loaded.samples.dtype == np.uint8
    np.testing.assert_array_equal(loaded.samples[:, 0], oracle.images)
    np.testing.assert_array_equal(loaded.labels, oracle.target)
    assert loaded.vocabulary == []
    np.testing.assert_array_equal(loaded.split, FITTED | ASSIGNED)


def test_card_of_the_digits():
    loaded, card = load_source(DIGITS)
    assert card["n_samples"] == card["n_fitted"] == card["n_assigned"] == 1797
    assert card["shape"] == [1797, 1, 8, 8]
    assert card["dtype"] == "uint8"
    assert card["n_classes"] == 10
    assert card["class_names"] == list("0123456789")
    assert card["class_counts"] == np.bincount(loaded.labels).tolist()
    assert card["n_unlabelled"] == card["n_terms"] == 0
    assert card["is_sparse"] is False
    assert card["value_range"] == [loaded.samples.min(), loaded.samples.max()]
    assert card["protocol"] == "all rows"
    assert all(card[key] for key in ("name", "source", "licence"))
    flat = loaded.samples.reshape(1797, -1)
    assert card["n_duplicates"] == 1797 - len(np.unique(flat, axis=0))
    assert card["n_constant_columns"] == (np.ptp(flat, axis=0) == 0).sum()
    assert json.loads(json.dumps(card, allow_nan=False)) == card


def test_a_subset_is_seeded_and_keeps_rows_together():
    loaded, card = load_source(DIGITS | {"n_rows": 100})
    again, card_again = load_source(DIGITS | {"n_rows": 100})
    np.testing.assert_array_equal(loaded.samples, again.samples)
    assert card == card_again
    assert loaded.samples.shape == (100, 1, 8, 8)
    assert loaded.labels.shape == loaded.split.shape == (100,)
    assert card["n_samples"] == 100
    assert "100 of 1797" in card["protocol"]
    # Every row is one of the whole set with its own label, in the same order, and none is taken twice.
    whole, _ = load_source(DIGITS)
    rows = [np.flatnonzero((whole.samples == row).all(axis=(1, 2, 3)))[0] for row in loaded.samples]
    assert (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(whole.labels[rows], loaded.labels)
    assert card["sha256"] != load_source(DIGITS)[1]["sha256"]


def test_as_many_rows_as_there_are_is_everything():
    loaded, _ = load_source(DIGITS | {"n_rows": 1797})
    np.testing.assert_array_equal(loaded.samples, load_source(DIGITS)[0].samples)


# The user's arrays


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_own_vectors_arrive_as_single_precision(own, dtype):
    samples = np.random.default_rng(0).normal(size=(20, 3)).astype(dtype)
    labels = np.arange(20) % 4
    loaded, card = load_source(own(samples, labels))
    assert loaded.samples.dtype == np.float32
    np.testing.assert_array_equal(loaded.samples, samples.astype(np.float32))
    np.testing.assert_array_equal(loaded.labels, labels)
    assert card["name"] == "mine"
    assert card["source"] == "samples.npy"  # no path of the user's machine
    assert card["class_names"] == ["0", "1", "2", "3"]
    assert card["class_counts"] == [5, 5, 5, 5]
    assert card["value_range"] == [loaded.samples.min(), loaded.samples.max()]
    assert json.loads(json.dumps(card, allow_nan=False)) == card


def test_own_images_have_the_range_of_bytes(own):
    images = np.random.default_rng(0).integers(50, 60, size=(5, 3, 4, 4), dtype=np.uint8)
    loaded, card = load_source(own(images))
    np.testing.assert_array_equal(loaded.samples, images)
    assert card["value_range"] == [0.0, 255.0]


def test_without_labels_all_classes_are_unknown(own):
    loaded, card = load_source(own(np.eye(4, dtype=np.float32)))
    np.testing.assert_array_equal(loaded.labels, -1)
    assert card["n_classes"] is card["class_names"] is card["class_counts"] is None
    assert card["n_unlabelled"] == 4


def test_unknown_labels_among_known_ones_are_counted_apart(own):
    loaded, card = load_source(own(np.eye(5, dtype=np.float32), np.array([0, -1, 1, 1, -1])))
    np.testing.assert_array_equal(loaded.labels, [0, -1, 1, 1, -1])
    assert card["n_classes"] == 2
    assert card["class_counts"] == [1, 2]
    assert card["n_unlabelled"] == 2


GOOD = np.eye(6, dtype=np.float32)


@pytest.mark.parametrize(
    ("samples", "labels", "message"),
    [
        (np.array([["a", "b"]]), None, "samples must be"),
        (np.ones((4, 2), dtype=complex), None, "samples must be"),
        (np.float32(3), None, "samples must have shape"),
        (np.zeros(5, dtype=np.float32), None, r"must have shape .*, got \(5,\)"),
        (np.zeros((0, 3), dtype=np.float32), None, "must not be empty"),
        (np.zeros((0, 1, 2, 2), dtype=np.uint8), None, r"\(0, 1, 2, 2\)"),
        (np.array([[0, np.nan]], dtype=np.float32), None, "must be finite, got NaN or infinity first in row 0"),
        (np.array([[0], [np.inf]]), None, "must be finite, got NaN or infinity first in row 1"),
        (np.array([[0], [1e300]]), None, "first in row 1"),
        (GOOD, np.zeros(5, dtype=int), "expected one label for each of the 6 rows, got 5"),
        (GOOD, np.full(6, 0.5), "labels must be whole numbers, got 0.5 first in row 0"),
        (GOOD, np.full(6, -2), "labels must be at least 0, or -1 for unknown, got -2"),
        (GOOD, np.zeros((6, 2), dtype=int), r"labels must be integers .* got int64 \(6, 2\)"),
    ],
)
def test_arrays_that_cannot_be_clustered_are_refused(own, samples, labels, message):
    with pytest.raises(ValueError, match=f"^ingestion: .*{message}"):
        load_source(own(samples, labels))


@pytest.mark.parametrize("what", ["samples", "labels"])
def test_a_missing_file_is_named(own, tmp_path, what):
    options = own(GOOD, np.zeros(6, dtype=int))
    (tmp_path / f"{what}.npy").unlink()
    with pytest.raises(FileNotFoundError, match=rf"ingestion: no file of {what} at .*{what}\.npy; expected a .npy"):
        load_source(options)


class Payload:
    """Leaves a mark when unpickled."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('unpickled')",))


def write_archive(path) -> None:
    with path.open("wb") as file:
        np.savez(file, a=GOOD)


def write_cut_archive(path) -> None:
    write_archive(path)
    path.write_bytes(path.read_bytes()[:60])


def write_objects(path) -> None:
    with path.open("wb") as file:
        np.save(file, np.array([Payload()], dtype=object), allow_pickle=True)


BAD_FILES = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("1,2,3"),
    "cut header": lambda path: path.write_bytes(path.read_bytes()[:20]),
    "cut values": lambda path: path.write_bytes(path.read_bytes()[:-5]),
    "pickle": lambda path: path.write_bytes(pickle.dumps(Payload())),
    "objects": write_objects,
    "archive": write_archive,
    "cut archive": write_cut_archive,
}


@pytest.mark.parametrize("bad", BAD_FILES)
@pytest.mark.parametrize("what", ["samples", "labels"])
def test_a_file_of_another_kind_is_named(own, tmp_path, what, bad):
    options = own(GOOD, np.zeros(6, dtype=int))
    BAD_FILES[bad](tmp_path / f"{what}.npy")
    with pytest.raises(ValueError, match=rf"ingestion: .*{what}\.npy: expected a .npy array"):
        load_source(options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": {"kind": "digits"}, "n_rows": -1}, "ingestion: n_rows must be at least 0, got -1"),
        ({"source": {"kind": "digits"}, "n_rows": 1798}, "n_rows must be at most the 1797 rows there are, got 1798"),
        ({"source": {"kind": "digit"}, "n_rows": 0}, r"unknown kind 'digit' \(did you mean 'digits'\?\)"),
        ({"source": {"kind": "arrays", "name": "x"}, "n_rows": 0}, "missing option 'samples'.*missing option 'labels'"),
        ({"source": {"kind": "digits", "colour": 3}, "n_rows": 0}, "unknown option 'colour'"),
        ({"source": {}, "n_rows": 0}, "ingestion.source: "),
        ({"source": "digits", "n_rows": 0}, "'source' got 'digits'"),
        ({"source": {"kind": "digits"}}, "ingestion: missing option 'n_rows'"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        load_source(options)


# The card's figures


small_arrays = st.sampled_from([np.uint8, np.float32]).flatmap(
    lambda dtype: arrays(dtype, st.tuples(st.integers(1, 8), st.integers(1, 4)), elements=st.integers(0, 2))
)


@given(small_arrays)
def test_duplicates_and_constant_columns_by_brute_force(samples):
    rows = samples.tolist()
    n_duplicates = sum(rows.index(row) < index for index, row in enumerate(rows))
    n_constant = sum(all(row[column] == rows[0][column] for row in rows) for column in range(len(rows[0])))
    assert count_duplicates(samples) == n_duplicates
    assert count_constant_columns(samples) == n_constant
    if samples.dtype == np.float32:
        matrix = sparse.csr_matrix(samples)
        assert count_duplicates(matrix) == n_duplicates
        assert count_constant_columns(matrix) == n_constant


def test_the_sha256_of_an_array_is_of_its_type_shape_and_bytes():
    array = np.arange(6, dtype="<i2").reshape(2, 3)
    assert array_sha256(array) == hashlib.sha256(b"<i2 (2, 3)" + array.tobytes()).hexdigest()


@given(small_arrays)
def test_the_sha256_of_an_array_sees_values_type_and_shape_but_not_memory_layout(samples):
    assert array_sha256(samples) == array_sha256(samples.copy()) == array_sha256(np.asfortranarray(samples))
    changed = samples.copy()
    changed[-1, -1] += 1
    assert array_sha256(changed) != array_sha256(samples)
    assert array_sha256(samples.astype(np.float64)) != array_sha256(samples)
    assert array_sha256(samples[None]) != array_sha256(samples)


def test_the_sha256_of_a_sparse_matrix_sees_where_values_are():
    first, second = (sparse.csr_matrix(np.float32(rows)) for rows in ([[1, 0], [0, 2]], [[0, 1], [0, 2]]))
    assert array_sha256(first) == array_sha256(first.copy())
    assert array_sha256(first) != array_sha256(second)

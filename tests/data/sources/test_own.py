"""The user's own arrays: all types and layouts, labels of all kinds, and what is refused."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import sparse

from deep_clustering.data.sources import array_files, load_source
from deep_clustering.data.sources.array_files import arrange, class_labels, to_float32
from deep_clustering.data.sources.loading import make_source


def load_array(path: Path, **changes):
    options = {"name": "mine", "samples": str(path), "labels": None, "key": None, "layout": "auto", "value_range": None}
    return load_source({"source": {"kind": "arrays", **options, **changes}, "n_rows": 0})


def save(path: Path, array) -> Path:
    np.save(path, array)
    return path


# Layouts


@pytest.mark.parametrize(
    ("shape", "layout"),
    [((5, 4), "vectors"), ((5, 6, 7), "nhw"), ((5, 3, 6, 7), "nchw"), ((5, 6, 7, 3), "nhwc"), ((5, 6, 7, 1), "nhwc")],
)
def test_the_layout_is_found_from_the_shape(shape, layout):
    assert arrange(np.zeros(shape, dtype=np.uint8), "auto")[1] == layout


@pytest.mark.parametrize("shape", [(5, 3, 6, 3), (5, 1, 1, 1), (5, 4, 6, 7), (5,), (), (2, 2, 2, 2, 2)])
def test_a_shape_that_could_be_anything_is_refused(shape):
    with pytest.raises(ValueError, match="ingestion: samples"):
        arrange(np.zeros(shape, dtype=np.uint8), "auto")


def test_numbers_without_a_second_axis_are_refused_with_a_way_out():
    with pytest.raises(ValueError, match=r"got \(5,\); save array\[:, None\] if each number is a row"):
        arrange(np.zeros(5), "auto")


def test_four_channels_are_refused_with_a_way_out():
    with pytest.raises(ValueError, match=r"gives 4 channels; expected 1 or 3 .*layout: vectors"):
        arrange(np.zeros((5, 6, 7, 4), dtype=np.uint8), "nhwc")
    assert arrange(np.zeros((5, 6, 7, 4), dtype=np.uint8), "vectors")[0].shape == (5, 168)


@given(
    images=st.sampled_from([1, 3]).flatmap(
        lambda n_channels: arrays(
            np.uint8, st.tuples(st.integers(1, 4), st.just(n_channels), st.integers(4, 6), st.integers(4, 6))
        )
    )
)
def test_one_image_in_any_layout_is_one_image(images):
    for layout, stored in (("nchw", images), ("nhwc", np.moveaxis(images, 1, -1))):
        for asked in (layout, "auto"):
            arranged, taken = arrange(stored, asked)
            assert taken == layout
            np.testing.assert_array_equal(arranged, images)
    if images.shape[1] == 1:
        np.testing.assert_array_equal(arrange(images[:, 0], "auto")[0], images)
    np.testing.assert_array_equal(arrange(images, "vectors")[0], images.reshape(len(images), -1))


# Types of numbers


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ">f4", np.int8, np.int64, np.uint16, bool, np.uint8])
def test_vectors_of_any_number_become_float32(tmp_path, dtype):
    rows = np.arange(12).reshape(4, 3).astype(dtype)
    loaded, card = load_array(save(tmp_path / "rows.npy", rows))
    assert loaded.samples.dtype == np.float32
    np.testing.assert_array_equal(loaded.samples, rows.astype(float))
    assert card["layout"] == "vectors"


@given(rows=arrays(np.int32, (5, 2), elements=st.integers(-(2**31), 2**31 - 1)))
def test_what_float32_keeps_is_close_compared_with_the_spread(rows):
    spread = np.ptp(rows.astype(np.float64), axis=0)
    loss = np.abs(rows.astype(np.float32).astype(np.float64) - rows)
    if ((loss > spread / 1024) & (spread > 0)).any():
        with pytest.raises(ValueError, match="lose their differences in float32"):
            to_float32(rows)
    else:
        np.testing.assert_array_equal(to_float32(rows), rows.astype(np.float32))


def test_times_in_seconds_are_refused_but_differences_are_not():
    times = np.array([[1.7e9], [1.7e9 + 20], [1.7e9 + 60]])
    with pytest.raises(ValueError, match=r"1 of 1 columns .* column 0 .*subtract the mean"):
        to_float32(times)
    np.testing.assert_array_equal(to_float32(times - 1.7e9), [[0], [20], [60]])
    np.testing.assert_array_equal(to_float32(np.full((3, 1), 0.1)), np.full((3, 1), np.float32(0.1)))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.array([[1.0], [np.nan]]), "must be finite, got NaN or infinity first in row 1"),
        (np.array([[1.0], [1e300]]), "must fit float32 .* first in row 1"),
        (np.array([[1e-60], [2e-60]]), "lose their differences"),
        (np.array([[2**60], [2**60 + 1]]), r"within \+-2\^53"),
        (np.array([["a"]]), "must be numbers, got <U1"),
        (np.array([[1j]]), "must be numbers, got complex"),
    ],
)
def test_numbers_that_cannot_be_kept_are_refused(tmp_path, rows, message):
    with pytest.raises(ValueError, match=message):
        load_array(save(tmp_path / "rows.npy", rows))


def test_the_value_range_can_be_given(tmp_path):
    path = save(tmp_path / "bits.npy", np.eye(8, dtype=np.uint8)[:, None, None].repeat(8, axis=2))
    assert load_array(path)[1]["value_range"] == [0, 255]
    assert load_array(path, value_range=[0, 1])[1]["value_range"] == [0, 1]
    with pytest.raises(ValueError, match=r"value_range must be \[lowest, highest\], got \[1.0, 1.0\]"):
        load_array(path, value_range=[1, 1])


def test_a_large_file_is_mapped(tmp_path, monkeypatch):
    path = save(tmp_path / "rows.npy", np.eye(4, dtype=np.float32))
    assert not isinstance(load_array(path)[0].samples, np.memmap)
    monkeypatch.setattr(array_files, "MAPPED_BYTES", 1)
    mapped = load_array(path)[0].samples
    assert isinstance(mapped, np.memmap)
    np.testing.assert_array_equal(mapped, np.eye(4))


# Archives


@pytest.fixture
def archive(tmp_path) -> Path:
    path = tmp_path / "all.npz"
    np.savez(path, rows=np.eye(4, dtype=np.float32), kinds=np.array(["b", "a", "b", ""]))
    return path


def test_an_archive_holds_samples_and_labels(archive):
    for changes in ({"key": "rows", "labels": "kinds"}, {"labels": "kinds"}):
        loaded, card = load_array(archive, **changes)
        np.testing.assert_array_equal(loaded.samples, np.eye(4))
        assert loaded.labels.tolist() == [1, 0, 1, -1]
        assert card["class_names"] == ["a", "b"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "expected one array of samples, got kinds, rows; name it with 'key'"),
        ({"key": "row"}, "no array 'row' of samples in it; it has: kinds, rows"),
        ({"key": "rows", "labels": "kind"}, "no array 'kind' in it; it has: kinds, rows"),
    ],
)
def test_a_wrong_name_in_an_archive_is_told(archive, changes, message):
    with pytest.raises(ValueError, match=message):
        load_array(archive, **changes)


def test_python_objects_are_refused_with_a_way_out(tmp_path):
    objects = np.array([{"a": 1}, None], dtype=object)
    np.save(tmp_path / "rows.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "rows.npz", rows=objects)
    for name in ("rows.npy", "rows.npz"):
        with pytest.raises(ValueError, match="an array of Python objects, which needs pickle; save text as"):
            load_array(tmp_path / name)


def test_a_sparse_file_is_told_its_source(tmp_path):
    sparse.save_npz(tmp_path / "rows.npz", sparse.eye(4, format="csr"))
    with pytest.raises(ValueError, match="got a sparse matrix of scipy; use kind: sparse_arrays"):
        load_array(tmp_path / "rows.npz")


@pytest.mark.parametrize("content", [b"", b"1,2,3", b"PK\x03\x04" + bytes(30)])
@pytest.mark.parametrize("name", ["rows.npy", "rows.npz"])
def test_another_kind_of_file_is_told(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name}: expected a \.np"):
        load_array(tmp_path / name)


# Labels


@given(names=st.lists(st.sampled_from(["", "ant", "bee", "cow", "Zoë"]), min_size=1, max_size=20))
def test_text_labels_become_numbers_that_say_the_same(names):
    labels, class_names = class_labels(np.array(names), len(names))
    assert class_names == sorted(set(names) - {""})
    assert [class_names[label] if label >= 0 else "" for label in labels] == names


@given(labels=arrays(np.int16, st.integers(1, 30), elements=st.integers(-1, 50)))
def test_gaps_in_labels_are_closed_and_names_kept(labels):
    numbered, class_names = class_labels(labels, len(labels))
    assert sorted(set(numbered[numbered >= 0])) == list(range(len(class_names)))
    assert [int(class_names[label]) if label >= 0 else -1 for label in numbered] == labels.tolist()


def test_booleans_and_bytes_are_classes_too():
    labels, class_names = class_labels(np.array([True, False, True]), 3)
    assert (labels.tolist(), class_names) == ([1, 0, 1], ["False", "True"])
    labels, class_names = class_labels(np.array([b"x", b"", b"a"]), 3)
    assert (labels.tolist(), class_names) == ([1, -1, 0], ["a", "x"])


def test_the_environment_to_edit_by_hand_names_every_option():
    conf = Path(__file__).parents[3] / "conf/own/parameters.yml"
    source = make_source(yaml.safe_load(conf.read_text())["ingestion"]["source"])
    assert source.samples == "data/01_raw/own/samples.npy"


@pytest.mark.parametrize(
    ("labels", "expected", "names"),
    [
        (np.array([2.0, 0.0, np.nan, 2.0]), [1, 0, -1, 1], ["0", "2"]),
        (np.array([[3], [1], [-1], [3]]), [1, 0, -1, 1], ["1", "3"]),
        (np.array([[5.0], [np.nan], [-1.0], [4.0]], dtype=np.float32), [1, -1, -1, 0], ["4", "5"]),
        (np.array([["b"], [""], ["a"], ["b"]]), [1, -1, 0, 1], ["a", "b"]),
    ],
)
def test_labels_may_be_floats_or_a_column_and_nan_is_no_label(tmp_path, labels, expected, names):
    np.savez(tmp_path / "all.npz", rows=np.eye(4), kinds=labels)
    loaded, card = load_array(tmp_path / "all.npz", labels="kinds")
    assert loaded.labels.tolist() == expected
    assert card["class_names"] == names


@pytest.mark.parametrize("wrong", [0.5, np.inf, 1e300])
def test_fractions_are_no_labels(wrong):
    with pytest.raises(ValueError, match=r"labels must be whole numbers, got .* first in row 2"):
        class_labels(np.array([0.0, np.nan, wrong]), 3)


# Sparse matrices of scipy


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "bsr", "dia"])
def test_a_sparse_file_of_any_format_is_known_and_read(tmp_path, form):
    rows = sparse.random(7, 5, density=0.4, format=form, random_state=np.random.default_rng(0), dtype=np.float64)
    sparse.save_npz(tmp_path / "rows.npz", rows)
    assert array_files.is_sparse_file(tmp_path / "rows.npz")
    with pytest.raises(ValueError, match="got a sparse matrix of scipy; use kind: sparse_arrays"):
        load_array(tmp_path / "rows.npz")
    source = {"kind": "sparse_arrays", "name": "x", "samples": str(tmp_path / "rows.npz")}
    loaded, _ = load_source({"source": {**source, "labels": None, "vocabulary": None}, "n_rows": 0})
    assert isinstance(loaded.samples, sparse.csr_matrix)
    np.testing.assert_allclose(loaded.samples.toarray(), rows.toarray(), rtol=1e-6)


def test_arrays_that_are_called_as_those_of_a_matrix_are_no_matrix(tmp_path):
    np.savez(tmp_path / "rows.npz", data=np.eye(3), shape=np.array([3, 3]))
    assert not array_files.is_sparse_file(tmp_path / "rows.npz")


# What lies far behind the head of a file


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_a_wild_value_is_named_by_row_and_column(tmp_path, dtype, value):
    rows = np.random.default_rng(0).normal(size=(5000, 4)).astype(dtype)
    rows[[4500, 4700], 2], rows[4700, 3] = value, value
    message = (
        "samples must be finite, got NaN or infinity first in row 4500, column 2 (from 0); 2 of 5000 rows have such "
        "cells, in 2 of 4 columns: 2 (2), 3 (1); fill such cells or drop these rows: "
        "array[np.isfinite(array).all(axis=1)]"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        load_array(save(tmp_path / "rows.npy", rows))


def test_values_that_float32_cannot_hold_are_told_as_numbers(tmp_path):
    rows = np.random.default_rng(0).normal(size=(50, 4))
    with pytest.raises(ValueError, match=r"first column 0 with values -?\d\.\d+e-31\d to \d\.\d+e-31\d; "):
        to_float32(rows * 1e-310)
    rows[20, 3] = 1e300
    with pytest.raises(
        ValueError, match=r"must fit float32 \(3\.4e38\), got 1e\+300 first in row 20, column 3 .*3\.4e38\)"
    ):
        load_array(save(tmp_path / "rows.npy", rows))


@pytest.mark.parametrize(
    ("name", "kind"), [("a.csv", "a table"), ("a.npz", "a .npz archive"), ("a.npy", "a .npy array")]
)
def test_a_file_that_is_gone_is_told_as_what_it_was(tmp_path, name, kind):
    with pytest.raises(FileNotFoundError, match=rf"no file of samples at .*{name}; expected {kind}"):
        load_array(tmp_path / name)


@pytest.mark.parametrize("name", ["book.xlsx", "rows.feather", "rows.json", "notes"])
def test_a_file_that_is_no_array_is_told_what_is_read(tmp_path, name):
    (tmp_path / name).write_bytes(b"PK no array")
    with pytest.raises(
        ValueError, match=r"expected an array \(\.npy, \.npz\) or a table \(.*\.csv.*\), got a file of another"
    ):
        load_array(tmp_path / name)


def test_wild_values_of_images_are_counted_by_rows_alone(tmp_path):
    images = np.zeros((20, 1, 4, 4), dtype=np.float32)
    images[[3, 8], 0, 1, 1] = np.nan
    with pytest.raises(ValueError, match=r"2 of 20 rows have such cells; .*reshape\(len\(array\), -1\)\.all"):
        load_array(save(tmp_path / "rows.npy", images))


@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.float64, np.int64])
@pytest.mark.parametrize("is_last", [True, False])
def test_images_of_any_type_and_layout_become_channels_first(tmp_path, dtype, is_last):
    images = np.random.default_rng(0).integers(0, 4096, (6, 3, 5, 4)).astype(dtype)
    loaded, card = load_array(save(tmp_path / "a.npy", np.moveaxis(images, 1, -1) if is_last else images))
    np.testing.assert_array_equal(loaded.samples, images.astype(np.float32))
    assert card["value_range"] == [images.min(), images.max()]
    assert card["reading"]["layout"] == ("nhwc" if is_last else "nchw")

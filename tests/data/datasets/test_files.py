"""The file datasets: round trips, versions, damaged files, and that a file is there whole or not at all."""

import base64
import inspect
import json
import os
import pickle
import string
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays, boolean_dtypes, floating_dtypes, integer_dtypes
from kedro.io import AbstractDataset, DataCatalog, DatasetError, Version
from matplotlib import pyplot
from matplotlib.figure import Figure
from scipy import sparse

from deep_clustering import atomic
from deep_clustering.datasets import (
    FigureDataset,
    JSONDataset,
    ModelDataset,
    NpzDataset,
    NumpyDataset,
    PageDataset,
    ParquetDataset,
    PreparationDataset,
    ScoresDataset,
    SparseDataset,
    TableDataset,
    TextDataset,
)
from deep_clustering.methods import Model

VALUES = {
    NumpyDataset: np.arange(12, dtype=np.float32).reshape(3, 4),
    NpzDataset: {"latent": np.eye(3), "rows": np.arange(4)},
    SparseDataset: sparse.csr_matrix(np.float32([[0, 1, 0], [2, 0, 0]])),
    ModelDataset: Model("kmeans", {"n_clusters": 3, "seed": 0}, {"centroids": np.ones((3, 2), dtype=np.float32)}),
    JSONDataset: {"acc": 0.5, "curve": [1, 2.5, None], "name": "ä", "nested": {"ok": True}},
    ScoresDataset: {"method": "kmeans", "metrics": {"acc": 0.5, "n_occupied": 3}},
    TextDataset: "<html>\r\nGrüße, 你好\n</html>",
    TableDataset: pd.DataFrame({"method": ["ä", "two\nlines"], "acc": [0.5, None], "seed": [1, 2]}),
    ParquetDataset: pd.DataFrame({"cluster": np.int32([1, 0]), "probability": np.float32([0.25, 1])}),
}
VALUES[ParquetDataset].attrs = {"run": "a"}
CLASSES = list(VALUES)
BINARY = [NumpyDataset, NpzDataset, SparseDataset, ModelDataset, ParquetDataset]


def at(folder: Path, cls: type = NumpyDataset, **arguments):
    return cls(filepath=str(folder / "value.bin"), **arguments)


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def assert_same(got, expected) -> None:
    if isinstance(expected, np.ndarray):
        assert isinstance(got, np.ndarray)
        assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
        np.testing.assert_array_equal(got, expected)
    elif sparse.issparse(expected):
        assert sparse.issparse(got)
        assert got.format == "csr"
        assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
        np.testing.assert_array_equal(got.toarray(), expected.toarray())
    elif isinstance(expected, Model):
        assert got[:2] == expected[:2]
        assert_same(got.arrays, expected.arrays)
    elif isinstance(expected, pd.DataFrame):
        pd.testing.assert_frame_equal(got, expected)
        assert got.attrs == expected.attrs
    elif isinstance(expected, dict):
        assert set(got) == set(expected)
        for name, value in expected.items():
            assert_same(got[name], value)
    else:
        assert got == expected


@pytest.fixture(params=CLASSES, ids=lambda cls: cls.__name__)
def cls(request) -> type:
    return request.param


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """One folder for all examples of a property; each overwrites the last."""
    return tmp_path_factory.mktemp("files")


# Round trips


numbers = st.one_of(boolean_dtypes(), integer_dtypes(endianness="<"), floating_dtypes(sizes=(32, 64), endianness="<"))
some_arrays = numbers.flatmap(lambda dtype: arrays(dtype, array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)))
exact_integers = st.integers(-(2**53), 2**53)
names = st.text(string.ascii_letters + string.digits + "_.", min_size=1).filter(lambda name: not name.endswith(".npy"))


def test_round_trip(cls, tmp_path):
    dataset = at(tmp_path, cls)
    dataset.save(VALUES[cls])
    assert_same(dataset.load(), VALUES[cls])
    assert_same(at(tmp_path, cls).load(), VALUES[cls])
    assert files_in(tmp_path) == ["value.bin"]


def test_an_array_is_mapped_above_a_size(tmp_path):
    array = np.arange(1000, dtype=np.float32)
    at(tmp_path).save(array)
    size = (tmp_path / "value.bin").stat().st_size
    for limit, is_mapped in ((size - 1, True), (size, False)):
        loaded = at(tmp_path, mmap_above=limit).load()
        assert isinstance(loaded, np.memmap) == is_mapped
        assert_same(np.array(loaded), array)


def test_named_arrays_are_mapped_above_a_size(tmp_path):
    """A header of 128 bytes and 400 of numbers, or 4,000 of them."""
    arrays = {"small": np.arange(100, dtype=np.float32), "large": np.arange(1000, dtype=np.float32).reshape(50, 20)}
    arrays["columns"] = np.asfortranarray(arrays["large"])
    at(tmp_path, NpzDataset).save(arrays)
    loaded = at(tmp_path, NpzDataset, mmap_above=1000).load()
    assert [name for name, array in loaded.items() if isinstance(array, np.memmap)] == ["large", "columns"]
    assert not loaded["large"].flags.writeable
    assert_same({name: np.array(array) for name, array in loaded.items()}, arrays)


def test_a_mapped_array_of_python_objects_is_refused(tmp_path):
    with open(tmp_path / "value.bin", "wb") as file:
        np.savez(file, bad=np.array([object()] * 100))
    with damaged(tmp_path / "value.bin", NpzDataset):
        at(tmp_path, NpzDataset, mmap_above=0).load()


@pytest.mark.parametrize("limit", [-1, True])
def test_a_size_above_which_arrays_are_mapped_is_bytes(tmp_path, limit):
    with pytest.raises(ValueError, match=rf"value.bin: mmap_above expected bytes, at least 0, got {limit}"):
        at(tmp_path, mmap_above=limit)


@given(array=some_arrays)
def test_arrays_return_as_they_were(folder, array):
    at(folder).save(array)
    assert_same(at(folder).load(), array)
    mapped = at(folder, mmap=True).load()
    assert isinstance(mapped, np.memmap)
    assert not mapped.flags.writeable
    assert_same(np.array(mapped), array)


@given(named=st.dictionaries(names, some_arrays, max_size=4))
def test_named_arrays_return_as_they_were(folder, named):
    at(folder, NpzDataset).save(named)
    assert_same(at(folder, NpzDataset).load(), named)


@pytest.mark.parametrize("name", ["file", "allow_pickle", "args", "self", "arr_0", "a/b", "é"])
def test_arrays_may_have_any_name(tmp_path, name):
    at(tmp_path, NpzDataset).save({name: np.arange(3)})
    assert_same(at(tmp_path, NpzDataset).load(), {name: np.arange(3)})


@given(
    options=st.dictionaries(st.text(), st.none() | st.booleans() | exact_integers | st.text(), max_size=4),
    named=st.dictionaries(names, some_arrays.filter(lambda array: array.ndim > 0), max_size=4),
)
def test_models_return_as_they_were(folder, options, named):
    model = Model("dcan", options, named)
    at(folder, ModelDataset).save(model)
    assert_same(at(folder, ModelDataset).load(), model)


def test_models_keep_the_shape_of_scalars(tmp_path):
    model = Model("kmeans", {}, {"variance": np.asarray(np.float32(2.5))})
    at(tmp_path, ModelDataset).save(model)
    assert_same(at(tmp_path, ModelDataset).load(), model)


@given(array=arrays(np.float32, st.tuples(st.integers(0, 5), st.integers(0, 5)), elements=st.integers(-2, 2)))
def test_sparse_matrices_return_as_csr(folder, array):
    for form in ("csr", "csc", "coo"):
        at(folder, SparseDataset).save(sparse.csr_matrix(array).asformat(form))
        assert_same(at(folder, SparseDataset).load(), sparse.csr_matrix(array))


json_values = st.recursive(
    st.none() | st.booleans() | exact_integers | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(value=json_values)
def test_plain_values_return_as_they_were(folder, value):
    at(folder, JSONDataset).save([value])  # Kedro refuses a bare None
    assert at(folder, JSONDataset).load() == [value]


@given(text=st.text())
def test_text_returns_as_it_was(folder, text):
    at(folder, TextDataset).save(text)
    assert at(folder, TextDataset).load() == text


@pytest.mark.parametrize("order", ["C", "F"])
def test_memory_layout_does_not_matter(tmp_path, order):
    array = np.asarray(np.arange(24.0).reshape(2, 3, 4), order=order)[:, ::-1]
    for cls, value in [
        (NumpyDataset, array),
        (NpzDataset, {"a": array}),
        (ModelDataset, Model("x", {}, {"a": array})),
    ]:
        at(tmp_path, cls).save(value)
        assert_same(at(tmp_path, cls).load(), value)


def test_a_memory_map_can_be_saved_again(tmp_path):
    at(tmp_path).save(np.arange(5))
    mapped = at(tmp_path, mmap=True).load()
    at(tmp_path).save(mapped)  # over the file that is mapped
    assert_same(at(tmp_path).load(), np.arange(5))
    np.testing.assert_array_equal(mapped, np.arange(5))


def test_input_is_untouched(cls, tmp_path):
    before = pickle.dumps(VALUES[cls])
    at(tmp_path, cls).save(VALUES[cls])
    at(tmp_path, cls).load()
    assert pickle.dumps(VALUES[cls]) == before


# What cannot be read back is refused


OBJECTS = np.array([{"a": 1}], dtype=object)
STRUCTURED = np.zeros(2, dtype=[("number", "f4"), ("anything", "O")])


@pytest.mark.parametrize(
    ("cls", "value", "message"),
    [
        (NumpyDataset, OBJECTS, "array: expected numbers or fixed-width text, got dtype object"),
        (NumpyDataset, STRUCTURED, "array: expected numbers or fixed-width text, got dtype .*anything"),
        (NpzDataset, {"fine": np.eye(2), "bad": OBJECTS}, "bad: expected numbers or .* got dtype object"),
        (NpzDataset, {"bad": STRUCTURED}, "bad: expected numbers or fixed-width text"),
        (SparseDataset, np.zeros(3), "expected a scipy sparse matrix or a dense one, got ndarray"),
        (ModelDataset, Model("x", {}, {"a": OBJECTS}), "Failed while saving"),
        (ModelDataset, Model("x", {"rate": object()}, {}), "not JSON serializable"),
        (JSONDataset, {"loss": float("nan")}, "not JSON compliant"),
        (JSONDataset, [float("inf")], "not JSON compliant"),
        (JSONDataset, {"array": np.eye(2)}, "not JSON serializable"),
        (TextDataset, b"bytes", "Failed while saving"),
        (TextDataset, "\ud800", "surrogates not allowed"),
        (TableDataset, {"acc": [0.5]}, "Failed while saving"),
        (ParquetDataset, pd.DataFrame({"mixed": [1, "a"]}), "Failed while saving"),
    ],
)
def test_what_cannot_be_read_back_is_refused_and_leaves_nothing(tmp_path, cls, value, message):
    with pytest.raises(DatasetError, match=message):
        at(tmp_path, cls).save(value)
    assert files_in(tmp_path) == []


# Versions


def test_two_saves_are_two_versions_and_the_latest_is_loaded(cls, tmp_path):
    for save_version in ("2024-01-01T00.00.00.000Z", "2024-01-02T00.00.00.000Z"):
        dataset = at(tmp_path, cls, version=Version(None, save_version))
        dataset.save(VALUES[cls])
        assert dataset.exists()
    assert files_in(tmp_path) == [f"value.bin/2024-01-0{day}T00.00.00.000Z/value.bin" for day in (1, 2)]
    latest = at(tmp_path, cls, version=Version(None, None))
    assert latest.exists()
    assert latest.resolve_load_version() == "2024-01-02T00.00.00.000Z"
    assert_same(latest.load(), VALUES[cls])


def test_an_older_version_can_be_named(tmp_path):
    for value, version in enumerate("ab"):
        at(tmp_path, version=Version(None, version)).save(np.array([value]))
    assert at(tmp_path, version=Version("a", None)).load() == [0]
    assert at(tmp_path, version=Version(None, None)).load() == [1]


def test_a_version_is_never_overwritten(tmp_path):
    at(tmp_path, version=Version(None, "a")).save(np.arange(3))
    with pytest.raises(DatasetError, match="must not exist"):
        at(tmp_path, version=Version(None, "a")).save(np.arange(4))
    assert_same(at(tmp_path, version=Version("a", None)).load(), np.arange(3))


def test_without_versions_the_last_save_wins(tmp_path):
    at(tmp_path).save(np.arange(3))
    at(tmp_path).save(np.arange(4))
    assert_same(at(tmp_path).load(), np.arange(4))
    assert files_in(tmp_path) == ["value.bin"]


def test_exists(cls, tmp_path):
    assert not at(tmp_path, cls).exists()
    assert not at(tmp_path, cls, version=Version(None, None)).exists()
    assert not at(tmp_path, cls, version=Version("a", None)).exists()
    at(tmp_path, cls).save(VALUES[cls])
    assert at(tmp_path, cls).exists()


# Damaged and foreign files


def damaged(path: Path, cls: type):
    """Checks that loading `path` fails with the path and what was expected in the message."""
    return pytest.raises(DatasetError, match=rf"{path}: expected {cls.kind.replace('(', '.').replace(')', '.')}, got")


def test_a_missing_file_is_named(cls, tmp_path):
    with pytest.raises(DatasetError, match=f"{tmp_path}/value.bin: no such file; expected"):
        at(tmp_path, cls).load()


@pytest.mark.parametrize("cls", [*BINARY, JSONDataset], ids=lambda cls: cls.__name__)
def test_a_file_cut_short_anywhere_is_named(cls, tmp_path):
    dataset, path = at(tmp_path, cls), tmp_path / "value.bin"
    dataset.save(VALUES[cls])
    whole = path.read_bytes()
    without_digest = whole.index(b"\nsha256 ") if cls is NumpyDataset else -1  # as version 0.2.0 wrote it
    for length in {*range(0, len(whole), max(1, len(whole) // 60)), len(whole) - 1} - {without_digest}:
        path.write_bytes(whole[:length])
        with damaged(path, cls):
            dataset.load()


def test_a_text_cut_inside_a_character_is_named(tmp_path):
    path = tmp_path / "value.bin"
    path.write_bytes("ä".encode()[:1])
    with damaged(path, TextDataset):
        at(tmp_path, TextDataset).load()


@pytest.mark.parametrize("length", [0, 5, 100, 175])
def test_a_memory_map_of_a_file_cut_short_is_refused(tmp_path, length):
    dataset, path = at(tmp_path, mmap=True), tmp_path / "value.bin"
    dataset.save(np.arange(6.0))
    path.write_bytes(path.read_bytes()[:length])
    with damaged(path, NumpyDataset):
        dataset.load()


@pytest.mark.parametrize("cls", [*BINARY, JSONDataset], ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("other", CLASSES, ids=lambda cls: cls.__name__)
def test_a_file_of_another_kind_is_named(cls, other, tmp_path):
    # scipy's files are named arrays, and scores are JSON
    if other is cls or (cls, other) in ((NpzDataset, SparseDataset), (JSONDataset, ScoresDataset)):
        return
    at(tmp_path, other).save(VALUES[other])
    with damaged(tmp_path / "value.bin", cls):
        at(tmp_path, cls).load()


class Payload:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("cls", [*BINARY, JSONDataset], ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("carrier", ["pickle", "npy", "npz"])
def test_a_pickle_is_never_run(cls, carrier, tmp_path):
    path, mark = tmp_path / "value.bin", tmp_path / "mark"
    payload = np.array([Payload(mark)], dtype=object)
    with path.open("wb") as file:
        if carrier == "pickle":
            pickle.dump(payload, file)
        elif carrier == "npy":
            np.save(file, payload, allow_pickle=True)
        else:
            np.savez(file, data=payload, format=payload)
    with damaged(path, cls):
        at(tmp_path, cls).load()
    assert not mark.exists()
    pickle.loads(pickle.dumps(payload))
    assert mark.exists()  # the payload itself does work


def test_a_memory_map_never_runs_a_pickle(tmp_path):
    with (tmp_path / "value.bin").open("wb") as file:
        np.save(file, np.array([Payload(tmp_path / "mark")], dtype=object), allow_pickle=True)
    with damaged(tmp_path / "value.bin", NumpyDataset):
        at(tmp_path, mmap=True).load()
    assert not (tmp_path / "mark").exists()


def test_a_safetensors_file_of_someone_else_is_refused(tmp_path):
    from safetensors.numpy import save_file

    save_file({"a": np.eye(2)}, tmp_path / "value.bin")
    with damaged(tmp_path / "value.bin", ModelDataset):
        at(tmp_path, ModelDataset).load()


# A file is there whole or not at all


class FullDiskError(Exception):
    """An error of no class that the dataset knows."""


def interrupt(monkeypatch, cls: type, where: str, error: BaseException) -> None:
    """Let a save fail in the middle of the content, or just before the file gets its name."""
    write = cls._write

    def stop(self, data, path):
        write(self, data, path)
        with open(path, "ab") as file:
            file.write(b"more")
        raise error

    def refuse(*_):
        raise error

    if where == "content":
        monkeypatch.setattr(cls, "_write", stop)
    else:
        for call in {"fsync": ["fsync"], "naming": ["replace", "link"]}[where]:
            monkeypatch.setattr(atomic.os, call, refuse)


@pytest.mark.parametrize("where", ["content", "fsync", "naming"])
@pytest.mark.parametrize("error", [FullDiskError, OSError, KeyboardInterrupt])
def test_an_interrupted_save_leaves_nothing(cls, tmp_path, monkeypatch, where, error):
    interrupt(monkeypatch, cls, where, error("disk"))
    dataset = at(tmp_path, cls, version=Version(None, "a"))
    with pytest.raises((DatasetError, KeyboardInterrupt)):
        dataset.save(VALUES[cls])
    assert files_in(tmp_path) == []
    monkeypatch.undo()
    assert not at(tmp_path, cls, version=Version(None, None)).exists()
    at(tmp_path, cls, version=Version(None, "a")).save(VALUES[cls])  # the version is still free
    assert_same(at(tmp_path, cls, version=Version(None, None)).load(), VALUES[cls])


@pytest.mark.parametrize("where", ["content", "naming"])
@pytest.mark.parametrize("versions", [None, ("a", "b")])
def test_an_interrupted_save_leaves_what_was_there(cls, tmp_path, monkeypatch, where, versions):
    first, second = (Version(None, version) for version in versions) if versions else (None, None)
    at(tmp_path, cls, version=first).save(VALUES[cls])
    before = files_in(tmp_path)
    interrupt(monkeypatch, cls, where, OSError("disk"))
    with pytest.raises(DatasetError, match="disk"):
        at(tmp_path, cls, version=second).save(VALUES[cls])
    assert files_in(tmp_path) == before
    latest = at(tmp_path, cls, version=Version(None, None) if versions else None)
    assert_same(latest.load(), VALUES[cls])


def test_while_a_file_is_written_no_version_is_seen(tmp_path, monkeypatch):
    seen = []
    encode = NumpyDataset._encode

    def look(self, data, file):
        encode(self, data, file)
        seen.append(at(tmp_path, version=Version(None, None)).exists())

    monkeypatch.setattr(NumpyDataset, "_encode", look)
    at(tmp_path, version=Version(None, "a")).save(np.arange(3))
    assert seen == [False]
    assert at(tmp_path, version=Version(None, None)).exists()


def test_a_refusal_names_the_file_and_not_its_part(cls, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("full")

    monkeypatch.setattr(atomic.os, "fsync", refuse)
    with pytest.raises(DatasetError, match=rf"(?s){tmp_path}/value.bin.*full") as error:
        at(tmp_path, cls).save(VALUES[cls])
    assert ".part" not in str(error.value)


def test_links_of_a_page_lead_to_the_version_that_it_is_saved_as(tmp_path):
    link = '<a href="../../../{}/report.html/{}/report.html">{}</a> THIS_VERSION/'
    page = at(tmp_path, PageDataset, version=Version(None, "2026-11-27T05.52.54.227Z"))
    page.save(link.format("ward", "THIS_VERSION", "THIS_VERSION/"))
    assert page.load() == link.format("ward", "2026-11-27T05.52.54.227Z", "THIS_VERSION/")  # texts stay


def test_links_of_a_page_to_pages_that_its_version_will_not_have_become_texts(tmp_path):
    def page_of(method):
        return PageDataset(filepath=str(tmp_path / method / "report.html"), version=Version(None, "v"))

    def link(method, version):
        return f'<a href="../../../{method}/report.html/{version}/report.html">{method}</a>'

    page_of("former").save("written before, as by a run that is resumed")
    page = page_of("mine")
    page.beside = [str(tmp_path / "coming" / "report.html")]
    linked = ("former", "coming", "never")
    nav = "<nav>Of the run: {}</nav>\n"
    page.save("".join(nav.format(link(method, "THIS_VERSION")) for method in linked) + link("never", "THIS_VERSION"))
    assert page.load() == nav.format(link("former", "v")) + nav.format(link("coming", "v")) + "never"


@pytest.mark.parametrize(("cls", "value"), [(JSONDataset, [float("nan")]), (TextDataset, b"bytes")])
def test_what_the_library_refuses_names_the_file_and_not_its_part(cls, value, tmp_path):
    with pytest.raises(DatasetError, match=f"{tmp_path}/value.bin") as error:
        at(tmp_path, cls).save(value)
    assert ".part" not in str(error.value)


@pytest.mark.parametrize("version", [None, Version(None, "b")])
def test_a_save_removes_what_killed_ones_left(cls, tmp_path, version):
    folder = tmp_path / "value.bin" / "a" if version else tmp_path
    folder.mkdir(parents=True, exist_ok=True)
    old, young = folder / f".{'0' * 32}.part", folder / f".{'1' * 32}.part"
    for part in (old, young):
        part.write_bytes(b"half")
    os.utime(old, (0, 0))
    at(tmp_path, cls, version=version).save(VALUES[cls])
    assert not old.exists()
    assert young.exists()


# The classes of kedro-datasets


@pytest.mark.parametrize(
    ("cls", "library"),
    [
        (JSONDataset, "json.JSONDataset"),
        (TableDataset, "pandas.CSVDataset"),
        (ParquetDataset, "pandas.ParquetDataset"),
    ],
)
def test_the_library_reads_what_is_saved_here_and_the_other_way_round(cls, library, tmp_path):
    other = AbstractDataset.from_config("other", {"type": library, "filepath": str(tmp_path / "value.bin")})
    at(tmp_path, cls).save(VALUES[cls])
    assert_same(other.load(), VALUES[cls])
    other.save(VALUES[cls])
    assert_same(at(tmp_path, cls).load(), VALUES[cls])


@pytest.mark.parametrize("cls", [TableDataset, ParquetDataset])
def test_the_index_of_a_table_is_not_kept(cls, tmp_path):
    at(tmp_path, cls).save(pd.DataFrame({"a": [1, 2]}, index=[7, 8]))
    assert_same(at(tmp_path, cls).load(), pd.DataFrame({"a": [1, 2]}))


@pytest.mark.parametrize("kind", CLASSES, ids=lambda cls: cls.__name__)
def test_nothing_outside_of_the_project_is_described(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(tmp_path) not in str(at(tmp_path, kind, fs_args={}))


# Places


def test_a_bare_file_name_is_a_file_in_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dataset = NumpyDataset(filepath="value.bin")
    dataset.save(np.arange(3))
    assert_same(dataset.load(), np.arange(3))
    assert files_in(tmp_path) == ["value.bin"]


def test_folders_are_made(tmp_path):
    NumpyDataset(filepath=tmp_path / "a" / "b" / "value.npy").save(np.arange(3))
    assert files_in(tmp_path) == ["a/b/value.npy"]


def test_another_file_system(cls):
    memory = fsspec.filesystem("memory")
    for version in ("a", "b"):
        dataset = cls(filepath="memory:///store/value.bin", version=Version(None, version))
        dataset.save(VALUES[cls])
        assert_same(dataset.load(), VALUES[cls])
    found = sorted(memory.find("/store"))
    memory.rm("/store", recursive=True)
    assert found == ["/store/value.bin/a/value.bin", "/store/value.bin/b/value.bin"]


def test_a_memory_map_of_another_file_system_is_read_whole():
    dataset = NumpyDataset(filepath="memory:///store/mapped.npy", mmap=True)
    dataset.save(np.arange(3))
    assert type(dataset.load()) is np.ndarray
    fsspec.filesystem("memory").rm("/store", recursive=True)


def test_a_catalog_makes_every_class_from_its_name(cls, tmp_path):
    entry = {
        "type": f"deep_clustering.datasets.{cls.__name__}",
        "filepath": str(tmp_path / "value.bin"),
        "versioned": True,
        "metadata": {"mlflow": "artifact"},
    }
    catalog = DataCatalog.from_config({"value": entry}, save_version="2024-01-01T00.00.00.000Z")
    catalog.save("value", VALUES[cls])
    assert_same(catalog.load("value"), VALUES[cls])
    assert catalog.get("value").metadata == {"mlflow": "artifact"}
    assert str(tmp_path) in str(catalog.get("value"))


# Previews


def preview_rows(dataset) -> list[dict]:
    table = dataset.preview()
    assert table["index"] == list(range(len(table["data"])))
    return [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]


def test_preview_of_an_array(tmp_path):
    at(tmp_path).save(VALUES[NumpyDataset])
    expected = {"name": "array", "shape": "(3, 4)", "dtype": "float32", "min": 0.0, "max": 11.0}
    assert preview_rows(at(tmp_path)) == [expected]
    assert preview_rows(at(tmp_path, mmap=True)) == [expected]


@pytest.mark.parametrize("array", [np.zeros((0, 3)), np.array(["a", "b"]), np.zeros(2, dtype="M8[s]")])
def test_preview_of_an_array_without_a_range(tmp_path, array):
    at(tmp_path).save(array)
    (row,) = preview_rows(at(tmp_path))
    assert (row["shape"], row["dtype"], row["min"], row["max"]) == (str(array.shape), str(array.dtype), "", "")


def test_preview_of_named_arrays(tmp_path):
    at(tmp_path, NpzDataset).save(VALUES[NpzDataset])
    rows = {row["name"]: row for row in preview_rows(at(tmp_path, NpzDataset))}
    assert set(rows) == {"latent", "rows"}
    assert (rows["rows"]["min"], rows["rows"]["max"]) == (0, 3)
    at(tmp_path, NpzDataset).save({})
    assert preview_rows(at(tmp_path, NpzDataset)) == []


def test_preview_of_a_sparse_matrix(tmp_path):
    at(tmp_path, SparseDataset).save(VALUES[SparseDataset])
    (row,) = preview_rows(at(tmp_path, SparseDataset))
    assert row["shape"] == "(2, 3)"
    assert row["density"] == pytest.approx(2 / 6)
    assert (row["min"], row["max"]) == (1, 2)


def test_rows_that_an_encoder_made_dense_take_the_place_of_sparse_ones(tmp_path):
    rows = np.random.default_rng(0).random((4, 3), dtype=np.float32)
    at(tmp_path, SparseDataset).save(rows)
    loaded = at(tmp_path, SparseDataset).load()
    assert loaded.dtype == np.float32
    np.testing.assert_array_equal(loaded, rows)
    (row,) = preview_rows(at(tmp_path, SparseDataset))
    assert row["shape"] == "(4, 3)"


def test_preview_of_a_model_and_of_json(tmp_path):
    at(tmp_path, ModelDataset).save(VALUES[ModelDataset])
    shown = json.loads(str(at(tmp_path, ModelDataset).preview()))
    assert shown == {"method": "kmeans", "options": {"n_clusters": 3, "seed": 0}, "arrays": {"centroids": [3, 2]}}
    at(tmp_path, JSONDataset).save(VALUES[JSONDataset])
    assert json.loads(str(at(tmp_path, JSONDataset).preview())) == VALUES[JSONDataset]


def test_preview_of_scores_is_a_table_of_the_metrics(tmp_path):
    at(tmp_path, ScoresDataset).save(VALUES[ScoresDataset])
    rows = preview_rows(at(tmp_path, ScoresDataset))
    assert rows == [{"metric": "acc", "value": 0.5}, {"metric": "n_occupied", "value": 3}]


@pytest.mark.parametrize("cls", sorted({*CLASSES, FigureDataset} - {TextDataset}, key=str))
@pytest.mark.parametrize("version", [None, Version(None, "2026-01-01T00.00.00.000Z")])
def test_what_was_never_saved_has_no_preview(cls, version, tmp_path):
    assert at(tmp_path, cls, version=version).preview() is None


def test_a_figure_is_kept_as_a_picture_that_kedro_viz_shows(tmp_path):
    figure = Figure(figsize=(2, 1), facecolor="#ff0000")
    at(tmp_path, FigureDataset).save(figure)
    pixels = at(tmp_path, FigureDataset).load()
    assert (pixels.shape[1], pixels.shape[2], pixels.dtype) == (2 * pixels.shape[0], 3, np.uint8)
    assert (pixels == [255, 0, 0]).all()
    shown = base64.b64decode(str(at(tmp_path, FigureDataset).preview()))
    assert shown == (tmp_path / "value.bin").read_bytes()
    at(tmp_path / "again", FigureDataset).save(figure)
    assert (tmp_path / "again/value.bin").read_bytes() == shown


def test_only_a_figure_is_kept_as_one_and_others_stay_open(tmp_path):
    mine = pyplot.figure()
    try:
        with pytest.raises(DatasetError, match="expected a matplotlib figure, got int"):
            at(tmp_path, FigureDataset).save(1)
        at(tmp_path, FigureDataset).save(Figure(figsize=(1, 1)))
        assert pyplot.fignum_exists(mine.number)
    finally:
        pyplot.close(mine)


@pytest.mark.parametrize(("cls", "n_shown"), [(TableDataset, 150), (ParquetDataset, 100)])
def test_preview_of_a_table(cls, n_shown, tmp_path):
    at(tmp_path, cls).save(pd.DataFrame({"row": range(150)}))
    assert preview_rows(at(tmp_path, cls)) == [{"row": row} for row in range(n_shown)]


def test_kedro_viz_knows_the_types_of_previews():
    """It goes by the name of the annotation; kedro-datasets keeps the types that it means in a private module."""
    from kedro_datasets import _typing

    for cls in {*CLASSES, PreparationDataset, FigureDataset} - {TextDataset}:
        name = inspect.signature(cls.preview).return_annotation.__name__
        assert getattr(_typing, name).__supertype__ is inspect.signature(cls.preview).return_annotation.__supertype__


def test_a_bit_that_has_changed_in_a_page_of_a_table_is_seen(tmp_path):
    frame = pd.DataFrame({"cluster": np.arange(50, dtype=np.int64), "name": [f"row {row}" for row in range(50)]})
    dataset = at(tmp_path, ParquetDataset)
    dataset.save(frame)
    content = (tmp_path / "value.bin").read_bytes()
    n_pages = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    assert n_pages > 50 * 8 // 4
    for place in range(4, n_pages):
        changed = bytearray(content)
        changed[place] ^= 1
        (tmp_path / "value.bin").write_bytes(changed)
        try:
            found = dataset.load()
        except DatasetError:
            continue
        assert found.equals(frame), place


def test_a_bit_that_has_changed_in_a_mapped_member_is_seen(tmp_path):
    dataset = at(tmp_path, NpzDataset, mmap_above=100)
    dataset.save({"latent": np.arange(64.0), "small": np.arange(3)})
    assert isinstance(dataset.load()["latent"], np.memmap)
    content = bytearray((tmp_path / "value.bin").read_bytes())
    content[400] ^= 1
    (tmp_path / "value.bin").write_bytes(content)
    with pytest.raises(DatasetError, match="Bad CRC-32"):
        dataset.load()

"""Arrays are measured by their headers: what is too large or of another shape is refused before it is unpacked."""

import io
import zipfile

import numpy as np
import pytest
from scipy import sparse

from deep_clustering.data.sources import array_files, array_headers
from deep_clustering.data.sources.array_files import read_array
from deep_clustering.data.sources.array_headers import Header, check_size
from deep_clustering.data.sources.own import Arrays
from deep_clustering.data.sources.prepared import read_sparse


def head_of(shape, dtype="<f8"):
    """The header of an array without its numbers."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": dtype, "fortran_order": False, "shape": shape})
    return stream.getvalue()


def archive_of(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


@pytest.fixture
def unread(monkeypatch):
    """Nothing may be unpacked."""

    def refuse(*_args, **_kwargs):
        raise AssertionError("unpacked")

    monkeypatch.setattr(np.lib.format, "read_array", refuse)
    monkeypatch.setattr(array_files, "_load", refuse)


@pytest.mark.parametrize("shape", [(10**12, 64), (2, 3)])
def test_an_array_longer_than_its_file_is_refused_unread(tmp_path, unread, shape):
    file = archive_of(tmp_path / "rows.npz", x=head_of(shape))
    with pytest.raises(ValueError, match=r"rows\.npz: .*its header says float64 .* bytes, and it holds 0"):
        read_array(file, "rows")
    plain = tmp_path / "rows.npy"
    plain.write_bytes(head_of(shape))
    with pytest.raises(ValueError, match=r"rows\.npy: .*its header says float64 .* bytes, and it holds 0"):
        read_array(plain, "rows")


def test_an_array_larger_than_the_memory_is_refused():
    with pytest.raises(ValueError, match=r"float64 \(1000000000000, 64\) takes 512000.0 GB, this machine has"):
        check_size(Header((10**12, 64), np.dtype("f8")))


def test_samples_of_a_wrong_shape_are_refused_unread(tmp_path, unread):
    file = tmp_path / "rows.npz"
    np.savez_compressed(file, x=np.zeros((2, 4, 5, 6), dtype=np.uint8))
    options = {"labels": None, "key": None, "layout": "auto", "value_range": None}
    with pytest.raises(ValueError, match=r"samples of shape \(2, 4, 5, 6\): neither"):
        Arrays(name="mine", samples=str(file), **options).load()


def test_what_is_expected_is_asked_of_the_header(tmp_path, unread):
    def check(header):
        raise ValueError(f"rows: got shape {header.shape}")

    np.savez(tmp_path / "dense.npz", x=np.zeros((2, 4)))
    with pytest.raises(ValueError, match=r"^rows: got shape \(2, 4\)$"):
        read_array(tmp_path / "dense.npz", "rows", check=check)


def test_a_sparse_matrix_of_nothing_but_rows_is_refused(tmp_path):
    parts = {"row": [0], "col": [0], "data": [1.0], "shape": [2 * 10**9, 4], "format": np.array(b"coo")}
    np.savez_compressed(tmp_path / "rows.npz", **{name: np.asarray(part) for name, part in parts.items()})
    with pytest.raises(ValueError, match=r"rows\.npz: .*2000000000 rows with 1 values; expected at most 10000000 more"):
        read_sparse(tmp_path / "rows.npz")


def test_a_sparse_matrix_of_a_wrong_shape_is_refused_by_its_header(tmp_path):
    def check(header):
        raise ValueError(f"rows: got shape {header.shape}")

    sparse.save_npz(tmp_path / "rows.npz", sparse.eye(3, format="csr"))
    with pytest.raises(ValueError, match=r"^rows: got shape \(3, 3\)$"):
        read_sparse(tmp_path / "rows.npz", check)


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("csr", {"indptr": np.zeros(9, dtype=np.int32)}, "9 numbers in indptr; expected 4 of shape"),
        ("csc", {"indices": np.zeros(9, dtype=np.int32)}, "9 numbers in indices; expected 3 of shape"),
        ("coo", {"row": np.zeros(9, dtype=np.int32)}, "9 numbers in row; expected 3 of shape"),
        (
            "csr",
            {"data": np.zeros(99), "indices": np.zeros(99, dtype=np.int32)},
            r"99 values in a matrix of shape \(3, 5\)",
        ),
    ],
)
def test_parts_of_no_matrix_are_refused_by_their_headers(tmp_path, monkeypatch, kind, changes, message):
    file = tmp_path / "rows.npz"
    sparse.save_npz(file, sparse.csr_matrix(np.eye(3, 5)).asformat(kind))
    with np.load(file) as archive:
        np.savez(file, **{**dict(archive), **changes})
    monkeypatch.setattr("scipy.sparse.load_npz", lambda path: pytest.fail("unpacked"))
    with pytest.raises(ValueError, match=message):
        read_sparse(file)


@pytest.mark.parametrize("form", ["of scipy", "of arrays"])
def test_sparse_rows_of_complex_numbers_are_refused_as_dense_ones_are(tmp_path, form):
    matrix = sparse.csr_matrix(np.eye(3) * 1j)
    if form == "of scipy":
        sparse.save_npz(tmp_path / "rows.npz", matrix)
    else:
        parts = {"data": matrix.data, "indices": matrix.indices, "indptr": matrix.indptr}
        np.savez(tmp_path / "rows.npz", shape=np.array(matrix.shape), **parts)
    with pytest.raises(ValueError, match=r"rows\.npz: samples must be numbers, got complex128 \(3, 3\)"):
        read_sparse(tmp_path / "rows.npz")


@pytest.mark.parametrize("kind", ["csr", "csc", "coo"])
def test_a_sparse_matrix_is_what_was_saved(tmp_path, kind):
    matrix = sparse.random_array((20, 6), density=0.3, rng=np.random.default_rng(0))
    sparse.save_npz(tmp_path / "rows.npz", sparse.csr_matrix(matrix).asformat(kind))
    assert (read_sparse(tmp_path / "rows.npz")[0].toarray() == matrix.toarray().astype(np.float32)).all()


def test_where_there_is_no_memory_the_file_is_named(tmp_path, monkeypatch):
    def exhaust(*_args):
        raise MemoryError("of 8 GB")

    np.savez(tmp_path / "rows.npz", x=np.zeros((2, 4)))
    monkeypatch.setattr(array_files, "_load", exhaust)
    with pytest.raises(MemoryError, match=r"rows\.npz: no memory for the array of rows \(of 8 GB\)"):
        read_array(tmp_path / "rows.npz", "rows")


def test_headers_of_all_versions_are_read(tmp_path):
    rows = np.arange(6.0).reshape(2, 3)
    for version in ((1, 0), (2, 0), (3, 0)):
        with (tmp_path / "rows.npy").open("wb") as file:
            np.lib.format.write_array(file, rows, version=version)
        found = []
        array_headers.check_header(tmp_path / "rows.npy", None, found.append)
        assert found == [Header((2, 3), np.dtype("f8"))]

"""Arrays with a digest behind them: any reader of `.npy` reads them, and what has changed since is refused."""

import hashlib
import io

import numpy as np
import pytest

from deep_clustering.data import sealed_arrays
from deep_clustering.data.sources.array_headers import DAMAGED

ROWS = np.arange(6, dtype=np.float32).reshape(2, 3)
ARRAYS = [
    *(ROWS, ROWS.T, np.float64(1.5), np.zeros((0, 3), np.int32), np.array(["größe", "a"]), ROWS[:, ::2], ROWS > 2),
    ROWS.astype(">f8"),
]


def sealed(array):
    file = io.BytesIO()
    sealed_arrays.write(file, array)
    return file.getvalue()


def plain(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize("array", ARRAYS, ids=str)
def test_it_is_an_npy_file_with_its_own_sha256_at_the_end(array):
    content = sealed(array)
    before = plain(array)
    assert content == before + b"\nsha256 " + hashlib.sha256(before).hexdigest().encode()
    for read in (sealed_arrays.read, lambda file: np.load(file, allow_pickle=False)):
        got = read(io.BytesIO(content))
        assert got.dtype == np.asarray(array).dtype
        np.testing.assert_array_equal(got, array)


def test_arrays_without_a_digest_are_read(tmp_path):
    (tmp_path / "a.npy").write_bytes(plain(ROWS))
    np.testing.assert_array_equal(sealed_arrays.read(io.BytesIO(plain(ROWS))), ROWS)
    np.testing.assert_array_equal(sealed_arrays.open_map(tmp_path / "a.npy"), ROWS)


def by_map(folder):
    def read(content):
        (folder / "a.npy").write_bytes(content)
        return sealed_arrays.open_map(folder / "a.npy")

    return read


@pytest.fixture(params=["read", "mapped"])
def read(request, tmp_path):
    return by_map(tmp_path) if request.param == "mapped" else lambda content: sealed_arrays.read(io.BytesIO(content))


def test_what_was_written_is_read(read):
    np.testing.assert_array_equal(read(sealed(ROWS)), ROWS)


def test_a_map_is_not_written_through(tmp_path):
    with pytest.raises(ValueError, match="read-only"):
        by_map(tmp_path)(sealed(ROWS))[0, 0] = 1


@pytest.mark.filterwarnings("ignore")  # what Python says of a header that is none
@pytest.mark.parametrize("bit", [0, 5])
def test_every_bit_counts(read, bit):
    content = sealed(ROWS)
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1 << bit
        with pytest.raises(DAMAGED):
            read(bytes(changed))


def test_a_file_cut_short_is_refused(read):
    content, n_plain = sealed(ROWS), len(plain(ROWS))
    for length in {*range(len(content))} - {n_plain}:
        with pytest.raises(DAMAGED):
            read(content[:length])


def test_more_behind_the_digest_is_refused(read):
    with pytest.raises(ValueError, match="what is behind the array is no digest"):
        read(sealed(ROWS) + b"x")


def test_an_array_of_objects_is_neither_written_nor_read(read):
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        sealed(np.array([{}]))
    with pytest.raises(ValueError, match=r"Object arrays cannot be loaded|can't be memory-mapped"):
        read(plain(np.array([{}])))

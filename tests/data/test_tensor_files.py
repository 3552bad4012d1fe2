"""Files of named arrays: what was written comes back, or is refused."""

import numpy as np
import pytest
import safetensors.numpy

from deep_clustering.data import tensor_files

ARRAYS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3).T, "b": np.array([1, 2], dtype=np.uint64)}


def test_what_was_written_comes_back():
    arrays, header = tensor_files.from_bytes(tensor_files.to_bytes(ARRAYS, {"method": "gmm", "more": "größe"}))
    assert header == {"method": "gmm", "more": "größe"}
    assert set(arrays) == {"a", "b"}
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype


@pytest.mark.parametrize("place", [-1, -20])
def test_a_flipped_bit_is_seen(place):
    content = bytearray(tensor_files.to_bytes(ARRAYS, {"method": "gmm"}))
    content[place] ^= 1
    with pytest.raises(ValueError, match="its content has changed since it was written: sha256"):
        tensor_files.from_bytes(bytes(content))


def test_a_changed_text_is_seen():
    content = tensor_files.to_bytes(ARRAYS, {"method": "gmm"})
    with pytest.raises(ValueError, match="its content has changed since it was written"):
        tensor_files.from_bytes(content.replace(b'"gmm"', b'"gmn"'))


def test_files_without_a_digest_are_read():
    content = safetensors.numpy.save({"b": ARRAYS["b"]}, metadata={"method": "gmm"})
    assert tensor_files.from_bytes(content)[1] == {"method": "gmm"}

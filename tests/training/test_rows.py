"""Rows in batches: order, sizes, and that it does not matter where the rows lie."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from deep_clustering.training import rows as batching
from deep_clustering.training import scratch
from deep_clustering.training.rows import Rows, apply_in_chunks, index_batches, n_batches, resolve_device
from waits import DEVICE, DeviceGenerator, Waits

CPU = torch.device("cpu")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Index batches


@given(st.integers(1, 300), st.integers(1, 100), st.integers(0, 1000))
def test_batches_are_equal_pieces_of_a_shuffle(n_samples, batch_size, seed):
    batches = list(index_batches(n_samples, batch_size, generator(seed)))
    size = min(batch_size, n_samples)
    assert [len(batch) for batch in batches] == [size] * (n_samples // size)
    assert len(batches) == n_batches(n_samples, batch_size)
    together = torch.cat(batches).numpy()
    assert together.dtype == np.int64
    assert len(set(together)) == len(together)
    assert set(together) <= set(range(n_samples))
    assert n_samples - len(together) < size


def test_batches_repeat_with_the_seed_and_change_from_epoch_to_epoch():
    source = generator(1)
    first, second = (torch.cat(list(index_batches(100, 20, source))) for _ in range(2))
    again = torch.cat(list(index_batches(100, 20, generator(1))))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(100))


def test_every_row_has_its_turn_although_the_remainder_is_left_out():
    source, counts = generator(), np.zeros(10)
    for _ in range(300):
        (batch,) = index_batches(10, 7, source)
        counts[batch.numpy()] += 1
    np.testing.assert_allclose(counts / 300, 0.7, atol=5 * np.sqrt(0.21 / 300))


def test_an_epoch_has_one_order_where_the_rows_are_on_the_device():
    rows = Rows(np.zeros((10, 3), dtype=np.float32), CPU)
    assert all(batch.index is batch.place for batch in rows.batches(4, generator()))


# Rows


@pytest.fixture
def features() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(50, 2, 3, 3)).astype(np.float32)


@pytest.fixture
def mapped(features, tmp_path) -> np.ndarray:
    np.save(tmp_path / "rows.npy", features)
    return np.load(tmp_path / "rows.npy", mmap_mode="r")


def test_rows_give_what_indexing_gives(features):
    rows = Rows(features, CPU)
    index = torch.tensor([3, 0, 49, 3])
    assert len(rows) == 50
    np.testing.assert_array_equal(rows[index], features[index.numpy()])
    assert rows[index].dtype == torch.float32


class Asked(np.memmap):
    """A memory map that notes what it is asked for."""

    asked: list = []  # noqa: RUF012 - each test replaces it

    def __getitem__(self, index):
        Asked.asked.append(index)
        return super().__getitem__(index)


def test_a_memory_map_is_read_in_order_by_slices(mapped, features, monkeypatch):
    monkeypatch.setattr(Asked, "asked", [])
    chunks = list(Rows(mapped.view(Asked), CPU).chunks(20))
    assert Asked.asked == [slice(0, 20), slice(20, 40), slice(40, 50)]
    np.testing.assert_array_equal(torch.cat(chunks), features)
    chunks[0].zero_()  # a copy: the map cannot be written to
    np.testing.assert_array_equal(mapped, features)


def test_rows_that_are_read_backwards_are_those_that_numpy_shows(features):
    backwards = features[::-1, :, :, ::-1]
    np.testing.assert_array_equal(Rows(backwards, CPU)[torch.arange(50)], backwards)


# Images in bytes


@pytest.mark.parametrize("n", [1, 50, 9000])
def test_images_of_bytes_are_kept_as_bytes_and_come_back_as_the_same_numbers(monkeypatch, n):
    monkeypatch.setattr(batching, "_keeps_bytes", lambda device: True)
    images = np.random.default_rng(0).integers(0, 256, (n, 1, 3, 4)).astype(np.float32) / np.float32(255)
    rows = Rows(images, CPU)
    assert rows._tensor.dtype == torch.uint8
    np.testing.assert_array_equal(torch.cat(list(rows.chunks(700))), images)
    assert rows[torch.zeros(1, dtype=torch.int64)].dtype == torch.float32


@pytest.mark.parametrize("value", [0.5, -1 / 255, 256 / 255, np.nan, np.inf, np.nextafter(np.float32(0.2), 1)])
def test_images_of_other_values_are_kept_as_they_are(monkeypatch, value):
    monkeypatch.setattr(batching, "_keeps_bytes", lambda device: True)
    images = np.zeros((9000, 1, 2, 2), dtype=np.float32)
    images[-1, 0, 1, 1] = value
    rows = Rows(images, CPU)
    assert rows._tensor.dtype == torch.float32
    np.testing.assert_array_equal(rows[torch.tensor([8999])], images[-1:])


def test_vectors_are_never_kept_as_bytes(monkeypatch):
    monkeypatch.setattr(batching, "_keeps_bytes", lambda device: True)
    assert Rows(np.zeros((5, 3), dtype=np.float32), CPU)._tensor.dtype == torch.float32


def test_a_processor_keeps_images_as_they_are():
    assert Rows(np.zeros((5, 1, 2, 2), dtype=np.float32), CPU)._tensor.dtype == torch.float32


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("size", [7, 50, 60])
def test_an_epoch_of_batches_is_that_of_the_indices_said_for_device_and_rows(features, mapped, size, on_disk):
    rows = Rows(mapped if on_disk else features, CPU)
    source, again = generator(3), generator(3)
    for _ in range(2):
        batches = list(rows.batches(size, source))
        expected = list(index_batches(50, size, again))
        assert len(batches) == len(expected) == n_batches(50, size)
        for batch, index in zip(batches, expected, strict=True):
            assert torch.equal(batch.index, index)
            assert torch.equal(batch.place, index)
            np.testing.assert_array_equal(rows[batch.place], features[index.numpy()])


@pytest.mark.parametrize(("on_disk", "n_waits"), [(False, 0), (True, 1)])
def test_an_epoch_waits_once_for_its_order_if_the_rows_are_on_the_host(features, mapped, on_disk, n_waits):
    rows = Rows(mapped if on_disk else features, DEVICE)
    with Waits() as waits:
        batches = [(batch, rows[batch.place]) for batch in rows.batches(8, DeviceGenerator())]
    assert len(waits.found) == n_waits
    assert len(batches) == 6
    for batch, found in batches:
        assert batch.index.device == found.device == DEVICE
        assert batch.place.device == rows.place
        assert found.shape == (8, 2, 3, 3)


@pytest.mark.parametrize("on_disk", [False, True])
def test_chunks_never_wait(features, mapped, on_disk):
    rows = Rows(mapped if on_disk else features, DEVICE)
    with Waits() as waits:
        assert [len(chunk) for chunk in rows.chunks(20)] == [20, 20, 10]
    assert waits.found == []


@given(st.integers(1, 120))
def test_chunks_are_all_rows_in_order(size):
    features = np.arange(100, dtype=np.float32).reshape(50, 2)
    chunks = list(Rows(features, CPU).chunks(size))
    assert all(len(chunk) == size for chunk in chunks[:-1])
    assert 0 < len(chunks[-1]) <= size
    np.testing.assert_array_equal(torch.cat(chunks), features)


def test_memory_map_is_left_on_disk_and_gives_the_same(features, mapped):
    in_memory, on_disk = Rows(features, CPU), Rows(mapped, CPU)
    assert on_disk._tensor is None
    index = torch.randperm(50, generator=generator())[:20]
    assert torch.equal(on_disk[index], in_memory[index])
    for first, second in zip(on_disk.chunks(7), in_memory.chunks(7), strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize("on_disk", [False, True])
def test_rows_are_copies(features, mapped, on_disk):
    source = mapped if on_disk else features
    before = source.copy()
    batch = Rows(source, CPU)[torch.arange(5)]
    batch += 1
    np.testing.assert_array_equal(source, before)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sparse_rows_stay_sparse_and_give_dense_batches(dtype):
    rng = np.random.default_rng(0)
    dense = (rng.normal(size=(50, 6)) * (rng.random((50, 6)) < 0.3)).astype(dtype)
    thin, full = Rows(sparse.csr_matrix(dense), CPU), Rows(dense, CPU)
    assert thin._tensor is None
    assert len(thin) == 50
    index = torch.tensor([3, 3, 0, 49])
    assert thin[index].dtype == torch.float32
    assert torch.equal(thin[index], full[index])
    assert torch.equal(torch.cat(list(thin.chunks(7))), torch.cat(list(full.chunks(7))))


def test_double_precision_becomes_single(features, tmp_path):
    np.save(tmp_path / "double.npy", features.astype(np.float64))
    for source in (features.astype(np.float64), np.load(tmp_path / "double.npy", mmap_mode="r")):
        batch = Rows(source, CPU)[torch.arange(50)]
        assert batch.dtype == torch.float32
        np.testing.assert_array_equal(batch, features)


@pytest.mark.parametrize(("free", "fits"), [(10**9, True), (50 * 18 * 4 * 2, True), (50 * 18 * 4 * 2 - 1, False)])
def test_rows_may_take_half_of_the_free_device_memory(features, monkeypatch, free, fits):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10**12))
    assert batching._fits(features, torch.device("cuda")) is fits
    assert batching._fits(features, CPU) is True


@pytest.mark.parametrize(("free", "stays"), [(10**9, False), (1, True)])
def test_a_memory_map_goes_to_a_graphics_processor_that_has_room_for_it(mapped, monkeypatch, free, stays):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10**12))
    assert batching._stays(mapped, torch.device("cuda")) is stays
    assert batching._stays(mapped, CPU) is True


def test_a_memory_map_goes_to_a_device_in_pieces(mapped, features, monkeypatch):
    monkeypatch.setattr(batching, "_stays", lambda *_: False)
    monkeypatch.setattr(batching, "_MAPPED_ROWS", 20)
    rows = Rows(mapped, CPU)
    np.testing.assert_array_equal(rows._tensor, features)
    rows._tensor.zero_()
    np.testing.assert_array_equal(mapped, features)


def test_rows_that_do_not_fit_are_read_batch_by_batch(features, monkeypatch):
    monkeypatch.setattr(batching, "_fits", lambda *_: False)
    rows = Rows(features, CPU)
    assert rows._tensor is None
    np.testing.assert_array_equal(torch.cat(list(rows.chunks(8))), features)


# Applying a function


@given(st.integers(1, 60))
def test_chunks_do_not_change_a_row_wise_function(size):
    features = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    results = apply_in_chunks(lambda batch: batch[:, :2] * 2 + 1, Rows(features, CPU), size)
    np.testing.assert_array_equal(results, features[:, :2] * 2 + 1)


def test_apply_keeps_no_graph(features):
    layer = torch.nn.Linear(18, 3)
    results = apply_in_chunks(lambda batch: layer(batch.flatten(1)), Rows(features, CPU), 16)
    assert not results.requires_grad
    assert results.shape == (50, 3)


def test_what_is_said_of_many_rows_lies_on_disk(features, monkeypatch):
    """Of 50 rows 200 bytes are in memory and 400 are not."""
    monkeypatch.setattr(scratch, "MOST_IN_MEMORY", 399)

    def describe(batch):
        flat = batch.flatten(1)
        joint = flat[:, :2]
        return joint.argmax(dim=1).int(), flat[:, :1], flat[:, :2], flat[:, 0], joint

    at_once = batching.describe_in_chunks(describe, Rows(features, CPU))
    monkeypatch.setattr(batching, "DESCRIBED_ROWS", 20)
    said = batching.describe_in_chunks(describe, Rows(features, CPU))
    assert [isinstance(part, np.memmap) for part in said] == [False, False, True, False, True]
    for part, expected in zip(said, at_once, strict=True):
        np.testing.assert_array_equal(part, expected)
    np.testing.assert_array_equal(said.latent, features.reshape(50, -1)[:, :2])


# Devices


def test_named_devices():
    assert resolve_device("cpu") == CPU
    assert resolve_device("auto").type in ("cpu", "cuda", "mps")


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_auto_prefers_cuda_then_mps(monkeypatch, cuda, mps, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert resolve_device("auto").type == expected


@pytest.mark.parametrize("name", ["nonsense", "", "cpu:x", "cuda:99"])
def test_devices_that_are_not_there_are_refused(name):
    with pytest.raises(ValueError, match=f"^device: expected 'auto', 'cpu' or a device of this machine, got '{name}' "):
        resolve_device(name)

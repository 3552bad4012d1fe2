"""What a fit needs, by counting bytes, and what is said and refused."""

import numpy as np
import pytest
import torch
from scipy import sparse

from deep_clustering.methods import make_method
from deep_clustering.training import fitting, needs
from deep_clustering.training.needs import Need, check_memory, free_memory, needs_of_fit

CPU = torch.device("cpu")


def bytes_of(features, device=CPU, n_neighbours=20, n_outputs=10, n_snapshots=5):
    found = needs_of_fit(
        features, n_neighbours=n_neighbours, n_outputs=n_outputs, n_snapshots=n_snapshots, device=device
    )
    return {need.what: need.n_bytes for need in found}


def test_what_a_fit_needs_is_counted_in_bytes():
    """1,000 rows of 6 values in single precision; 20 indices of 8 bytes; 10 outputs of 4; clusters of 2, twice."""
    found = bytes_of(np.zeros((1000, 2, 3), dtype=np.float32))
    assert found == {
        "a copy of the rows": 24_000,
        "near rows": 160_000,
        "outputs of the network": 40_000,
        "the order of an epoch": 8_000,
        "5 snapshots": 20_000,
    }


def test_neither_a_map_nor_sparse_rows_are_copied(tmp_path):
    np.save(tmp_path / "rows.npy", np.zeros((10, 3), dtype=np.float32))
    assert "a copy of the rows" not in bytes_of(np.load(tmp_path / "rows.npy", mmap_mode="r"))
    assert "a copy of the rows" not in bytes_of(sparse.csr_matrix((10, 3), dtype=np.float32))


def test_on_a_graphics_processor_rows_and_tables_are_there():
    assert set(bytes_of(np.zeros((10, 3), dtype=np.float32), torch.device("cuda"))) == {
        "the order of an epoch",
        "5 snapshots",
    }


NEEDS = [
    Need(what="near rows", n_bytes=2 * 10**9, remedy="lower neighbours.k"),
    Need(what="a copy of the rows", n_bytes=3 * 10**9, remedy="map them"),
    Need(what="the order of an epoch", n_bytes=10**9),
]


def test_what_cannot_fit_is_refused_with_what_would_make_it_fit():
    expected = (
        "dcan: 7 rows need at least 6.0 GB of memory and 5.9 GB are free; 3.0 GB for a copy of the rows "
        r"\(map them\); 2.0 GB for near rows \(lower neighbours.k\)$"
    )
    with pytest.raises(ValueError, match=expected):
        check_memory("dcan", 7, NEEDS, 5_900_000_000)


@pytest.mark.parametrize(("free", "said"), [(6 * 10**9, ", 6.0 GB are free"), (None, "")])
def test_what_fits_or_nobody_knows_is_said(caplog, free, said):
    caplog.set_level("INFO")
    check_memory("dcan", 7, NEEDS, free)
    assert caplog.messages == [f"dcan: 7 rows need at least 6.0 GB of memory{said}"]


def test_little_is_not_worth_a_line(caplog):
    caplog.set_level("INFO")
    check_memory("dcan", 7, [Need(what="near rows", n_bytes=1000)], 0)
    assert not caplog.messages


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with 3,000 kB that could be had."""
    monkeypatch.setattr(needs.sys, "platform", "linux")
    monkeypatch.setattr(needs, "_MEMORY_INFO", tmp_path / "meminfo")
    monkeypatch.setattr(needs, "_CGROUP", tmp_path)
    (tmp_path / "meminfo").write_text("MemTotal:  9000 kB\nMemAvailable:   3000 kB\n")
    return tmp_path


def test_free_memory_is_what_the_system_says(machine):
    assert free_memory() == 3000 * 1024
    (machine / "meminfo").unlink()
    assert free_memory() is None


@pytest.mark.parametrize(("limit", "expected"), [("max", 3000 * 1024), ("100000", 60_000), ("9000000", 3000 * 1024)])
def test_a_container_has_what_is_left_of_its_limit(machine, limit, expected):
    """Of 50,000 bytes that are used, 10,000 are files that would make room."""
    (machine / "memory.max").write_text(f"{limit}\n")
    (machine / "memory.current").write_text("50000\n")
    (machine / "memory.stat").write_text("anon 40000\ninactive_file 10000\n")
    assert free_memory() == expected


def test_another_system_says_nothing(monkeypatch):
    monkeypatch.setattr(needs.sys, "platform", "darwin")
    assert free_memory() is None


def test_a_fit_without_memory_is_refused_before_it_begins(tiny_options, blobs, monkeypatch):
    monkeypatch.setattr(needs, "_WORTH_SAYING", 0)
    monkeypatch.setattr(fitting, "free_memory", lambda: 100)
    with pytest.raises(ValueError, match=r"neural_mixture: .* rows need at least .* for a copy of the rows"):
        make_method(tiny_options("neural_mixture", "vectors", n_clusters=3)).fit(blobs)

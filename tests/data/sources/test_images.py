"""MNIST, Fashion-MNIST and USPS from small files in the formats of their authors."""

import bz2
import gzip
import hashlib
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torchvision import datasets as oracle

from deep_clustering.data.sources import ASSIGNED, FITTED, load_source
from deep_clustering.data.sources.formats import read_idx
from deep_clustering.data.sources.images import FashionMnist, Mnist, Usps

BOTH = FITTED | ASSIGNED
RNG = np.random.default_rng(0)
PIXELS = {"train": RNG.integers(0, 256, (12, 28, 28), np.uint8), "test": RNG.integers(0, 256, (5, 28, 28), np.uint8)}
LABELS = {"train": np.arange(12) % 10, "test": np.array([9, 0, 3, 3, 7])}
# protocol -> parts in order, flag of the rows of each
PROTOCOLS = [
    ("train", ["train"], [BOTH]),
    ("test", ["test"], [BOTH]),
    ("train+test", ["train", "test"], [BOTH, BOTH]),
    ("train->test", ["train", "test"], [FITTED, ASSIGNED]),
]


def idx(array: np.ndarray, kind: int = 8) -> bytes:
    """An idx file as its authors describe it."""
    header = bytes([0, 0, kind, array.ndim]) + b"".join(struct.pack(">I", side) for side in array.shape)
    return header + array.astype(np.uint8).tobytes()


def write_idx(folder: Path, zipped: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for part, stem in (("train", "train"), ("test", "t10k")):
        for name, array in (("images-idx3", PIXELS[part]), ("labels-idx1", LABELS[part])):
            content = idx(array)
            file = folder / f"{stem}-{name}-ubyte{'.gz' if zipped else ''}"
            file.write_bytes(gzip.compress(content) if zipped else content)
    return folder


def mnist(root: Path, protocol: str = "train+test"):
    return Mnist(root=str(root), protocol=protocol, download=False).load()


# idx files


@pytest.mark.parametrize(("protocol", "parts", "flags"), PROTOCOLS)
def test_mnist_by_each_protocol(tmp_path, protocol, parts, flags):
    write_idx(tmp_path / "MNIST" / "raw")
    loaded = mnist(tmp_path, protocol)
    assert loaded.samples.dtype == np.uint8
    assert type(loaded.samples) is np.ndarray
    assert loaded.samples.flags.c_contiguous
    np.testing.assert_array_equal(loaded.samples[:, 0], np.concatenate([PIXELS[part] for part in parts]))
    np.testing.assert_array_equal(loaded.labels, np.concatenate([LABELS[part] for part in parts]))
    assert loaded.labels.dtype == np.int64
    expected = [flag for part, flag in zip(parts, flags, strict=True) for _ in LABELS[part]]
    assert loaded.split.tolist() == expected
    assert loaded.split.dtype == np.uint8
    assert loaded.about["value_range"] == [0.0, 255.0]


@pytest.mark.parametrize(("cls", "published"), [(Mnist, oracle.MNIST), (FashionMnist, oracle.FashionMNIST)])
def test_idx_sets_equal_torchvisions(tmp_path, cls, published):
    write_idx(tmp_path / published.__name__ / "raw")
    loaded = cls(root=str(tmp_path), protocol="train+test", download=False).load()
    theirs = [published(tmp_path, train=train) for train in (True, False)]
    np.testing.assert_array_equal(loaded.samples[:, 0], np.concatenate([part.data for part in theirs]))
    np.testing.assert_array_equal(loaded.labels, np.concatenate([part.targets for part in theirs]))
    assert all(own in full for own, full in zip(loaded.about["class_names"], published.classes, strict=True))


@pytest.mark.parametrize("folder", [".", "MNIST/raw"])
def test_compressed_files_and_files_in_the_root_are_the_same(tmp_path, folder):
    write_idx(tmp_path / "a" / "MNIST" / "raw")
    write_idx(tmp_path / "b" / folder, zipped=True)
    np.testing.assert_array_equal(mnist(tmp_path / "a").samples, mnist(tmp_path / "b").samples)


def test_a_part_that_is_not_asked_for_may_be_missing(tmp_path):
    for file in write_idx(tmp_path).glob("t10k*"):
        file.unlink()
    assert len(mnist(tmp_path, "train").labels) == 12
    with pytest.raises(FileNotFoundError, match=r"no t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte in .*as \.gz"):
        mnist(tmp_path)


def test_a_size_other_than_the_published_one_is_said(tmp_path, caplog):
    mnist(write_idx(tmp_path))
    assert "the train part has 12 rows, 60000 were published" in caplog.text


IMAGES = "t10k-images-idx3-ubyte"
BROKEN = {
    "cut": (IMAGES, idx(PIXELS["test"])[:-1], "expected 3920 values behind the header .* got 3919"),
    "too long": (IMAGES, idx(PIXELS["test"]) + b"x", "expected 3920 values .* got 3921"),
    "empty": (IMAGES, b"", "expected an idx header of 16 bytes, got 0 bytes"),
    "cut header": (IMAGES, b"\0\0\x08\x03\0", "expected an idx header of 16 bytes, got 5 bytes"),
    "labels as images": (IMAGES, idx(LABELS["train"]) + bytes(20), "magic number 0x0803, got 0x0801"),
    "floats": (IMAGES, idx(PIXELS["test"], kind=0x0D), "magic number 0x0803, got 0x0d03"),
    "html": (IMAGES, b"<!DOCTYPE html><html>", "magic number 0x0803, got 0x3c21444f"),
    "other size": (IMAGES, idx(PIXELS["test"][:, :16]), r"expected shape \(n, 28, 28\), got \(5, 16, 28\)"),
    "no rows": (IMAGES, idx(PIXELS["test"][:0]), r"expected shape \(n, 28, 28\), got \(0, 28, 28\)"),
    "label 10": ("t10k-labels-idx1-ubyte", idx(np.array([0, 1, 10, 2, 3])), "labels 0 to 9, got 10 in row 2"),
    "few labels": ("t10k-labels-idx1-ubyte", idx(LABELS["test"][:4]), "one label for each of the 5 images, got 4"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_idx_file_is_named(tmp_path, name):
    write_idx(tmp_path)
    file, content, message = BROKEN[name]
    (tmp_path / file).write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        mnist(tmp_path)
    assert str(caught.value).startswith(f"ingestion: {tmp_path / file}: expected ")


@pytest.mark.parametrize("damage", [lambda zipped: zipped[:-20], lambda zipped: b"no gzip" + zipped, lambda _: b""])
def test_a_broken_gzip_is_named(tmp_path, damage):
    write_idx(tmp_path, zipped=True)
    file = tmp_path / f"{IMAGES}.gz"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ValueError, match="expected") as caught:
        mnist(tmp_path)
    assert str(caught.value).startswith(f"ingestion: {file}: expected ")


@given(
    st.binary(max_size=40)
    | st.binary(max_size=24).map(lambda rest: b"\0\0\x08\x03" + rest)
    | st.binary(max_size=9).map(lambda rest: idx(np.empty((3, 1, 2)))[:16] + rest)
)
def test_any_bytes_are_refused_or_give_the_shape(tmp_path_factory, content):
    file = tmp_path_factory.getbasetemp() / "fuzz-idx"
    file.write_bytes(content)
    n_rows = (len(content) - 16) // 2
    if n_rows > 0 and content == idx(np.frombuffer(content[16:], np.uint8)[: 2 * n_rows].reshape(n_rows, 1, 2)):
        assert read_idx(file, (1, 2)).tobytes() == content[16:]
    else:
        with pytest.raises(ValueError, match="fuzz-idx: expected "):
            read_idx(file, (1, 2))


# USPS


def libsvm(rows: np.ndarray, labels: np.ndarray) -> bytes:
    lines = (
        f"{label} " + " ".join(f"{column}:{value:.4f}" for column, value in enumerate(row, 1)) + " \n"
        for label, row in zip(labels, rows, strict=True)
    )
    return bz2.compress("".join(lines).encode())


def write_usps(folder: Path) -> dict[str, np.ndarray]:
    rows = {"train": RNG.uniform(-1, 1, (12, 256)).round(4), "test": np.linspace(-1, 1, 5 * 256).reshape(5, 256)}
    (folder / "usps.bz2").write_bytes(libsvm(rows["train"], LABELS["train"] + 1))
    (folder / "usps.t.bz2").write_bytes(libsvm(rows["test"], LABELS["test"] + 1))
    return rows


@pytest.mark.parametrize(("protocol", "parts", "flags"), PROTOCOLS)
def test_usps_by_each_protocol_equals_torchvisions(tmp_path, protocol, parts, flags):
    write_usps(tmp_path)
    loaded = Usps(root=str(tmp_path), protocol=protocol, download=False).load()
    theirs = [oracle.USPS(tmp_path, train=part == "train") for part in parts]
    assert loaded.samples.dtype == np.uint8
    np.testing.assert_array_equal(loaded.samples[:, 0], np.concatenate([part.data for part in theirs]))
    np.testing.assert_array_equal(loaded.labels, np.concatenate([LABELS[part] for part in parts]))
    assert loaded.split.tolist() == [flag for part, flag in zip(parts, flags, strict=True) for _ in LABELS[part]]


def test_usps_pixels_that_are_not_written_are_zero(tmp_path):
    (tmp_path / "usps.bz2").write_bytes(bz2.compress(b"10 1:-1 256:1\n1 17:0.5\n"))
    loaded = Usps(root=str(tmp_path), protocol="train", download=False).load()
    assert loaded.labels.tolist() == [9, 0]
    assert loaded.samples[0, 0, 0, :2].tolist() == [0, 127]
    assert loaded.samples[0, 0, 15, 15] == 255
    assert loaded.samples[1, 0, 1, 0] == 191  # .75 * 255, rounded down


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (libsvm(np.zeros((3, 256)), np.array([1, 2, 11])), "labels 1 to 10, got 11.0 in row 2"),
        (libsvm(np.full((1, 256), 1.5), np.array([1])), "pixels from -1 to 1, got 1.5 to 1.5"),
        (bz2.compress(b"1 1:nan\n"), "pixels from -1 to 1, got nan"),
        (bz2.compress(b"1 257:0.5\n"), "indices 1 to 256"),
        (bz2.compress(b"1 0:0.5\n"), "indices 1 to 256"),
        (bz2.compress(b"some words\n"), "expected bz2 text"),
        (bz2.compress(b""), "got an empty text"),
        (libsvm(np.zeros((3, 256)), np.array([1, 2, 3]))[:-9], "cut short"),
        (b"1 1:0.5\n", "expected bz2 text"),
    ],
)
def test_a_broken_usps_file_is_named(tmp_path, content, message):
    (tmp_path / "usps.t.bz2").write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        Usps(root=str(tmp_path), protocol="test", download=False).load()
    assert str(caught.value).startswith(f"ingestion: {tmp_path / 'usps.t.bz2'}: expected ")


# The real thing


@pytest.mark.skipif("DEEP_CLUSTERING_DATA" not in os.environ, reason="DEEP_CLUSTERING_DATA is not set")
def test_the_real_mnist():
    loaded, card = load_source(
        {
            "source": {
                "kind": "mnist",
                "root": str(Path(os.environ["DEEP_CLUSTERING_DATA"]) / "data" / "mnist"),
                "protocol": "train->test",
                "download": False,
            },
            "n_rows": 0,
        }
    )
    assert card["shape"] == [70_000, 1, 28, 28]
    assert (card["n_fitted"], card["n_assigned"]) == (60_000, 10_000)
    train = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    test = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert card["class_counts"] == np.add(train, test).tolist()
    # md5 of the authors' own uncompressed files
    published = {"train": "6bbc9ace898e44ae57da46a324031adb", "test": "2646ac647ad5339dbf082846283269ea"}
    for part, rows in (("train", slice(60_000)), ("test", slice(60_000, None))):
        assert hashlib.md5(idx(loaded.samples[rows, 0])).hexdigest() == published[part]

"""CIFAR-10 and CIFAR-100 from small files of their binary version, and from prepared npz."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deep_clustering.data.sources import ASSIGNED, FITTED, load_source
from deep_clustering.data.sources.cifar import COARSE_OF_FINE, FINE_CLASSES, SUPERCLASSES, Cifar10, Cifar100, read_batch

BOTH = FITTED | ASSIGNED
RNG = np.random.default_rng(0)
# protocol -> parts in order, flag of the rows of each
PROTOCOLS = [
    ("train", ["train"], [BOTH]),
    ("test", ["test"], [BOTH]),
    ("train+test", ["train", "test"], [BOTH, BOTH]),
    ("train->test", ["train", "test"], [FITTED, ASSIGNED]),
]
IMAGES = {
    "train": RNG.integers(0, 256, (10, 3, 32, 32), np.uint8),
    "test": RNG.integers(0, 256, (3, 3, 32, 32), np.uint8),
}
LABELS = {"train": [0, 9, 1, 8, 2, 7, 3, 6, 4, 5], "test": [9, 9, 0]}
# fine class, superclass: beaver and dolphin are aquatic mammals, an apple is a fruit, a wolf a large carnivore ...
FINE = {"train": [4, 30, 0, 97, 99, 50, 1, 2, 81, 41], "test": [55, 72, 95]}
COARSE = {"train": [0, 0, 4, 8, 13, 16, 1, 14, 19, 19], "test": [0, 0, 0]}


def write_cifar10(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rows = {
        part: [bytes([label]) + image.tobytes() for label, image in zip(LABELS[part], IMAGES[part], strict=True)]
        for part in IMAGES
    }
    for batch in range(5):
        (folder / f"data_batch_{batch + 1}.bin").write_bytes(b"".join(rows["train"][2 * batch : 2 * batch + 2]))
    (folder / "test_batch.bin").write_bytes(b"".join(rows["test"]))
    return folder


def write_cifar100(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for part in IMAGES:
        rows = zip(COARSE[part], FINE[part], IMAGES[part], strict=True)
        content = b"".join(bytes([coarse, fine]) + image.tobytes() for coarse, fine, image in rows)
        (folder / f"{part}.bin").write_bytes(content)
    return folder


def write_npz(file: Path, part: str, **changes: np.ndarray) -> None:
    arrays = {
        "images": IMAGES[part].transpose(0, 2, 3, 1),
        "labels": np.array(COARSE[part]),
        "fine_labels": np.array(FINE[part]),
    }
    arrays |= changes
    np.savez(file, **{name: array for name, array in arrays.items() if array is not None})


def cifar10(root: Path, protocol: str = "train+test"):
    return Cifar10(root=str(root), protocol=protocol, download=False).load()


def cifar100(root: Path, protocol: str = "train+test", labels: str = "coarse"):
    return Cifar100(root=str(root), protocol=protocol, labels=labels, download=False).load()


# Classes


def test_the_table_of_superclasses_is_the_published_one():
    # As it is passed around for the pickles of CIFAR-100: superclass of fine class 0, 1, 2 ...
    published = """
        4 1 14 8 0 6 7 7 18 3 3 14 9 18 7 11 3 9 7 11 6 11 5 10 7 6 13 15 3 15 0 11 1 10 12 14 16 9 11 5
        5 19 8 8 15 13 14 17 18 10 16 4 17 4 2 0 17 4 18 17 10 3 2 12 12 16 12 1 9 19 2 10 0 1 16 12 9 13
        15 13 16 19 2 4 6 19 5 5 8 19 18 1 2 15 6 0 17 8 14 13"""
    assert COARSE_OF_FINE.tolist() == [int(number) for number in published.split()]
    assert np.bincount(COARSE_OF_FINE).tolist() == [5] * 20
    assert (FINE_CLASSES[0], FINE_CLASSES[34], FINE_CLASSES[99]) == ("apple", "fox", "worm")
    assert list(SUPERCLASSES) == sorted(SUPERCLASSES)


# Binary version


@pytest.mark.parametrize(("protocol", "parts", "flags"), PROTOCOLS)
@pytest.mark.parametrize("folder", ["cifar-10-batches-bin", "."])
def test_cifar10_by_each_protocol(tmp_path, folder, protocol, parts, flags):
    write_cifar10(tmp_path / folder)
    loaded = cifar10(tmp_path, protocol)
    assert loaded.samples.dtype == np.uint8
    assert loaded.samples.flags.c_contiguous
    np.testing.assert_array_equal(loaded.samples, np.concatenate([IMAGES[part] for part in parts]))
    assert loaded.labels.dtype == np.int64
    assert loaded.labels.tolist() == [label for part in parts for label in LABELS[part]]
    assert loaded.split.tolist() == [flag for part, flag in zip(parts, flags, strict=True) for _ in LABELS[part]]
    assert "binary version" in loaded.about["source"]
    assert loaded.about["class_names"][8] == "ship"


@pytest.mark.parametrize(("protocol", "parts", "flags"), PROTOCOLS)
@pytest.mark.parametrize(("labels", "expected", "names"), [("coarse", COARSE, 20), ("fine", FINE, 100)])
def test_cifar100_by_each_protocol(tmp_path, protocol, parts, flags, labels, expected, names):
    write_cifar100(tmp_path / "cifar-100-binary")
    loaded = cifar100(tmp_path, protocol, labels)
    np.testing.assert_array_equal(loaded.samples, np.concatenate([IMAGES[part] for part in parts]))
    assert loaded.labels.tolist() == [label for part in parts for label in expected[part]]
    assert loaded.split.tolist() == [flag for part, flag in zip(parts, flags, strict=True) for _ in LABELS[part]]
    assert len(loaded.about["class_names"]) == names


def test_a_part_that_is_not_asked_for_may_be_missing(tmp_path):
    (write_cifar10(tmp_path) / "test_batch.bin").unlink()
    assert len(cifar10(tmp_path, "train").labels) == 10
    with pytest.raises(FileNotFoundError, match=r"no test_batch\.bin in .*cifar-10-binary\.tar\.gz.* prepared npz"):
        cifar10(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content[:-1], "multiple of 3073 bytes, got 6145 bytes"),
        (lambda content: content + b"x", "multiple of 3073 bytes, got 6147 bytes"),
        (lambda _: b"", "multiple of 3073 bytes, got 0 bytes"),
        (lambda content: b"\x0a" + content[1:], "labels 0 to 9, got 10 in row 0"),
    ],
)
def test_a_broken_batch_is_named(tmp_path, change, message):
    file = write_cifar10(tmp_path) / "data_batch_3.bin"
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(ValueError, match=message) as caught:
        cifar10(tmp_path)
    assert str(caught.value).startswith(f"ingestion: {file}: expected ")


@pytest.mark.parametrize(
    ("pair", "message"),
    [((20, 4), "labels 0 to 19, got 20"), ((0, 100), "labels 0 to 99, got 100"), ((5, 4), "superclass 0 .*beaver")],
)
def test_labels_of_cifar100_that_cannot_be_are_named(tmp_path, pair, message):
    file = write_cifar100(tmp_path) / "test.bin"
    file.write_bytes(bytes(pair) + file.read_bytes()[2:])
    with pytest.raises(ValueError, match=message) as caught:
        cifar100(tmp_path)
    assert str(file) in str(caught.value)


@given(st.integers(0, 3), st.integers(-2, 2), st.integers(1, 2), st.integers(0, 2**32 - 1))
def test_any_bytes_are_refused_or_give_the_shape(tmp_path_factory, n_rows, surplus, n_labels, seed):
    content = np.random.default_rng(seed).bytes(max(0, n_rows * (n_labels + 3072) + surplus))
    file = tmp_path_factory.getbasetemp() / "fuzz.bin"
    file.write_bytes(content)
    if n_rows and not surplus:
        images, labels = read_batch(file, n_labels)
        assert images.shape == (n_rows, 3, 32, 32)
        assert images.dtype == labels.dtype == np.uint8
        assert b"".join(own.tobytes() + image.tobytes() for own, image in zip(labels, images, strict=True)) == content
    else:
        with pytest.raises(ValueError, match=r"fuzz\.bin: expected a multiple of"):
            read_batch(file, n_labels)


# Prepared npz


@pytest.mark.parametrize(("protocol", "parts", "flags"), PROTOCOLS)
def test_prepared_npz_equals_the_binary_version(tmp_path, protocol, parts, flags):
    for part in parts:
        write_npz(tmp_path / f"{part}.npz", part)
    write_cifar100(tmp_path / "binary")
    for labels in ("coarse", "fine"):
        loaded, binary = cifar100(tmp_path, protocol, labels), cifar100(tmp_path / "binary", protocol, labels)
        np.testing.assert_array_equal(loaded.samples, binary.samples)
        assert loaded.samples.flags.c_contiguous
        np.testing.assert_array_equal(loaded.labels, binary.labels)
        np.testing.assert_array_equal(loaded.split, binary.split)
        assert "prepared npz" in loaded.about["source"]


def test_the_binary_version_goes_before_prepared_npz(tmp_path):
    write_npz(tmp_path / "subset.npz", "test")
    assert len(cifar100(write_cifar100(tmp_path)).labels) == 13


def test_a_prepared_subset_knows_no_parts(tmp_path):
    write_npz(tmp_path / "subset.npz", "train")
    loaded = cifar100(tmp_path)
    assert loaded.labels.tolist() == COARSE["train"]
    assert loaded.about["protocol"] == "all rows of a prepared subset"
    np.testing.assert_array_equal(loaded.split, BOTH)
    with pytest.raises(ValueError, match=r"subset\.npz does not tell training rows .* got 'train->test'"):
        cifar100(tmp_path, "train->test")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": IMAGES["train"]}, r"images uint8 \(n, 32, 32, 3\), got uint8 \(10, 3, 32, 32\)"),
        ({"images": np.zeros((10, 32, 32, 3))}, "got float64"),
        ({"images": np.zeros((0, 32, 32, 3), np.uint8)}, "got uint8"),
        ({"labels": np.zeros(9, int)}, r"labels of shape \(10,\), got \(9,\)"),
        ({"fine_labels": None}, "missing: fine_labels"),
        ({"fine_labels": np.full(10, 100)}, "labels 0 to 99, got 100 in row 0"),
        ({"labels": np.full(10, 0.5)}, "labels 0 to 19, got 0.5 in row 0"),
        ({"labels": np.array([{}] * 10)}, "plain arrays, got .*allow_pickle=False"),
        ({"labels": np.array(["a"] * 10)}, "expected labels of shape"),
    ],
)
def test_a_wrong_npz_is_named(tmp_path, changes, message):
    write_npz(tmp_path / "subset.npz", "train", **changes)
    with pytest.raises(ValueError, match=message) as caught:
        cifar100(tmp_path)
    assert str(caught.value).startswith(f"ingestion: {tmp_path / 'subset.npz'}: expected ")


@pytest.mark.parametrize("damage", [lambda content: content[:-100], lambda _: b"", lambda _: b"\x80\x04\x95."])
def test_a_damaged_npz_is_named(tmp_path, damage):
    file = tmp_path / "subset.npz"
    write_npz(file, "train")
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ValueError, match=r"subset\.npz: expected an \.npz file of plain arrays, got one cut short"):
        cifar100(tmp_path)


def test_an_npy_in_place_of_an_npz_is_named(tmp_path):
    with (tmp_path / "subset.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ValueError, match=r"subset\.npz: expected an \.npz file"):
        cifar100(tmp_path)


# The real thing


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Folder with the unpacked files of both sets."""
    if "DEEP_CLUSTERING_DATA" not in os.environ:
        pytest.skip("DEEP_CLUSTERING_DATA is not set")
    folder = tmp_path_factory.mktemp("cifar")
    script = Path(os.environ["DEEP_CLUSTERING_DATA"]) / "data" / "unpack.py"
    subprocess.run([sys.executable, str(script), str(folder), "cifar10", "cifar100"], check=True, capture_output=True)
    return folder


@pytest.mark.slow
def test_the_real_cifar10(real):
    source = {"kind": "cifar10", "root": str(real / "cifar10"), "protocol": "train->test", "download": False}
    loaded, card = load_source({"source": source, "n_rows": 0})
    assert card["shape"] == [60_000, 3, 32, 32]
    assert card["class_counts"] == [6000] * 10
    assert (card["n_fitted"], card["n_assigned"]) == (50_000, 10_000)
    # The means and deviations of the channels that everybody normalises with.
    shares = np.array([np.bincount(loaded.samples[:50_000, c].ravel(), minlength=256) for c in range(3)]) / (
        50_000 * 1024
    )
    values = np.arange(256) / 255
    means = shares @ values
    np.testing.assert_allclose(means, [0.4914, 0.4822, 0.4465], atol=5e-5)
    np.testing.assert_allclose(np.sqrt(shares @ values**2 - means**2), [0.2470, 0.2435, 0.2616], atol=5e-5)


@pytest.mark.slow
def test_the_real_subset_of_cifar100(real):
    source = {"kind": "cifar100", "root": str(real / "cifar100"), "protocol": "train+test", "download": False}
    _, card = load_source({"source": {**source, "labels": "coarse"}, "n_rows": 0})
    assert card["class_counts"] == [500] * 20
    _, card = load_source({"source": {**source, "labels": "fine"}, "n_rows": 0})
    assert card["class_counts"] == [100] * 100

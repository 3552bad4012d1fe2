"""STL-10 from small files in the format of its authors."""

from pathlib import Path

import numpy as np
import pytest

from deep_clustering.data.sources import ASSIGNED, FITTED
from deep_clustering.data.sources.images import Stl10

BOTH = FITTED | ASSIGNED
RNG = np.random.default_rng(0)
# protocol -> parts in order, flag of the rows of each
PROTOCOLS = [
    ("train", ["train"], [BOTH]),
    ("test", ["test"], [BOTH]),
    ("train+test", ["train", "test"], [BOTH, BOTH]),
    ("train->test", ["train", "test"], [FITTED, ASSIGNED]),
]


def write_stl10(folder: Path) -> dict[str, np.ndarray]:
    folder.mkdir(parents=True, exist_ok=True)
    sets = {name: RNG.integers(0, 256, (n, 3, 96, 96), np.uint8) for name, n in (("train", 4), ("test", 3), ("u", 2))}
    for name, images in sets.items():
        columns = b"".join(channel[:, x].tobytes() for image in images for channel in image for x in range(96))
        (folder / f"{'unlabeled' if name == 'u' else name}_X.bin").write_bytes(columns)
    (folder / "train_y.bin").write_bytes(bytes([1, 10, 2, 5]))
    (folder / "test_y.bin").write_bytes(bytes([3, 3, 1]))
    return sets


@pytest.mark.parametrize(("protocol", "parts", "flags"), PROTOCOLS)
@pytest.mark.parametrize("unlabelled", [True, False])
def test_stl10_by_each_protocol(tmp_path, protocol, parts, flags, unlabelled):
    sets = write_stl10(tmp_path / "stl10_binary")
    loaded = Stl10(root=str(tmp_path), protocol=protocol, unlabelled=unlabelled, download=False).load()
    labels = {"train": [0, 9, 1, 4], "test": [2, 2, 0], "u": [-1, -1]}
    parts, flags = ([*parts, "u"], [*flags, FITTED]) if unlabelled else (parts, flags)
    np.testing.assert_array_equal(loaded.samples, np.concatenate([sets[part] for part in parts]))
    assert loaded.samples.flags.c_contiguous
    assert loaded.labels.tolist() == [label for part in parts for label in labels[part]]
    assert loaded.split.tolist() == [flag for part, flag in zip(parts, flags, strict=True) for _ in labels[part]]
    assert ("unlabelled" in loaded.about["protocol"]) == unlabelled
    assert loaded.about["class_names"][9] == "truck"


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("test_X.bin", lambda content: content[:-1], "multiple of 27648 bytes, got 82943"),
        ("test_X.bin", lambda content: content[:27648], "one label for each of the 1 images, got 3"),
        ("test_y.bin", lambda _: bytes([1, 0, 2]), "labels 1 to 10, got 0 in row 1"),
        ("test_y.bin", lambda _: b"", "multiple of 1 bytes, got 0"),
    ],
)
def test_a_broken_stl10_file_is_named(tmp_path, name, change, message):
    write_stl10(tmp_path)
    (tmp_path / name).write_bytes(change((tmp_path / name).read_bytes()))
    with pytest.raises(ValueError, match=message) as caught:
        Stl10(root=str(tmp_path), protocol="test", unlabelled=False, download=False).load()
    assert str(tmp_path / ("test_y.bin" if "label" in message else name)) in str(caught.value)

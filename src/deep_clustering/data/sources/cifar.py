"""CIFAR-10 and CIFAR-100, from their binary version.

The Python version that `torchvision.datasets` reads consists of pickles, which can run code when they are read. The
binary version holds the same images. Beside it, "prepared npz" is read: files `train.npz` and `test.npz`, or one
`subset.npz` whose rows know no parts, with `images` (n, 32, 32, 3) uint8, `labels` (n,), and for CIFAR-100
`fine_labels` (n,).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from deep_clustering.data.sources.downloads import Archive, Remote, find_files, obtain_archived, raw_folder
from deep_clustering.data.sources.formats import check_classes, read_npz, read_records
from deep_clustering.data.sources.parts import PROTOCOL_WORDS, PROTOCOLS, InParts, Part, join_parts, warn_of_size
from deep_clustering.data.sources.samples import ASSIGNED, FITTED, Samples

_CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]

# Both kinds of classes are numbered in alphabetical order.
SUPERCLASSES = {
    "aquatic_mammals": "beaver dolphin otter seal whale",
    "fish": "aquarium_fish flatfish ray shark trout",
    "flowers": "orchid poppy rose sunflower tulip",
    "food_containers": "bottle bowl can cup plate",
    "fruit_and_vegetables": "apple mushroom orange pear sweet_pepper",
    "household_electrical_devices": "clock keyboard lamp telephone television",
    "household_furniture": "bed chair couch table wardrobe",
    "insects": "bee beetle butterfly caterpillar cockroach",
    "large_carnivores": "bear leopard lion tiger wolf",
    "large_man-made_outdoor_things": "bridge castle house road skyscraper",
    "large_natural_outdoor_scenes": "cloud forest mountain plain sea",
    "large_omnivores_and_herbivores": "camel cattle chimpanzee elephant kangaroo",
    "medium_mammals": "fox porcupine possum raccoon skunk",
    "non-insect_invertebrates": "crab lobster snail spider worm",
    "people": "baby boy girl man woman",
    "reptiles": "crocodile dinosaur lizard snake turtle",
    "small_mammals": "hamster mouse rabbit shrew squirrel",
    "trees": "maple_tree oak_tree palm_tree pine_tree willow_tree",
    "vehicles_1": "bicycle bus motorcycle pickup_truck train",
    "vehicles_2": "lawn_mower rocket streetcar tank tractor",
}
_SUPERCLASS_OF = {fine: coarse for coarse, members in enumerate(SUPERCLASSES.values()) for fine in members.split()}
FINE_CLASSES = sorted(_SUPERCLASS_OF)
COARSE_OF_FINE = np.array([_SUPERCLASS_OF[fine] for fine in FINE_CLASSES], dtype=np.int64)
"""Superclass of each fine class, shape (100,)."""

_CIFAR10_ARCHIVE = Archive(
    name="cifar-10-binary.tar.gz",
    folder="cifar-10-batches-bin",
    remote=Remote(
        urls=("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",), md5="c32a1d4ab5d03f1284b67883e8d87530"
    ),
)
_CIFAR100_ARCHIVE = Archive(
    name="cifar-100-binary.tar.gz",
    folder="cifar-100-binary",
    remote=Remote(
        urls=("https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",), md5="03b5dce01913d631647c71ecec9e9cb8"
    ),
)


class _Layout(NamedTuple):
    """What differs between the two sets."""

    name: str
    archive: Archive
    batches: dict[str, list[str]]  # files of each part
    label_keys: tuple[str, ...]  # labels of a row: bytes in front of its pixels, or arrays in prepared npz
    classes: Callable[[np.ndarray, Path], np.ndarray]  # those, shape (n, n_labels), to classes, shape (n,)
    class_names: list[str]


@dataclass(frozen=True, kw_only=True)
class Cifar10(InParts):
    """CIFAR-10: 50,000 + 10,000 photographs of objects, 32 x 32 colour."""

    root: str
    """Folder of cifar-10-binary.tar.gz, of its folder cifar-10-batches-bin, of the files, or of prepared npz."""
    download: bool
    """Whether the archive, 170 MB, may be downloaded if files are missing."""

    def load(self) -> Samples:
        """Read the binary files, or prepared npz."""
        batches = {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]}
        return _load(self, _Layout("cifar10", _CIFAR10_ARCHIVE, batches, ("labels",), _classes_of_cifar10, _CLASSES))


@dataclass(frozen=True, kw_only=True)
class Cifar100(InParts):
    """CIFAR-100: 50,000 + 10,000 photographs of 100 classes in 20 superclasses, 32 x 32 colour."""

    root: str
    """Folder of cifar-100-binary.tar.gz, of its folder cifar-100-binary, of the files, or of prepared npz."""
    labels: Literal["coarse", "fine"]
    """coarse: the 20 superclasses, as clustering papers do; fine: the 100 classes."""
    download: bool
    """Whether the archive, 169 MB, may be downloaded if files are missing."""

    def load(self) -> Samples:
        """Read the binary files, or prepared npz."""
        batches = {"train": ["train.bin"], "test": ["test.bin"]}
        is_fine = self.labels == "fine"

        def classes(pairs: np.ndarray, file: Path) -> np.ndarray:
            return _classes_of_cifar100(pairs, file)[int(is_fine)]

        names = FINE_CLASSES if is_fine else list(SUPERCLASSES)
        keys = ("labels", "fine_labels")
        return _load(self, _Layout("cifar100", _CIFAR100_ARCHIVE, batches, keys, classes, names))


def _classes_of_cifar10(labels: np.ndarray, file: Path) -> np.ndarray:
    return check_classes(labels[:, 0], 10, file)


def _classes_of_cifar100(pairs: np.ndarray, file: Path) -> tuple[np.ndarray, np.ndarray]:
    coarse, fine = check_classes(pairs[:, 0], 20, file), check_classes(pairs[:, 1], 100, file)
    wrong = np.flatnonzero(COARSE_OF_FINE[fine] != coarse)
    if len(wrong):
        row = wrong[0]
        raise ValueError(
            f"ingestion: {file}: expected superclass {COARSE_OF_FINE[fine[row]]} for fine class {fine[row]} "
            f"({FINE_CLASSES[fine[row]]}), got {coarse[row]} in row {row}"
        )
    return coarse, fine


def _load(options: InParts, layout: _Layout) -> Samples:
    folder, archive, protocol = raw_folder(options.root), layout.archive, options.protocol
    files = [file for part in PROTOCOLS[protocol] for file in layout.batches[part]]
    npz = {part: folder / f"{part}.npz" for part in PROTOCOLS[protocol]}
    subset = folder / "subset.npz"
    is_binary = (folder / archive.name).is_file() or not find_files((folder / archive.folder, folder), files)[1]
    version, words = "prepared npz", PROTOCOL_WORDS[protocol]
    if not is_binary and all(file.is_file() for file in npz.values()):
        files = [file.name for file in npz.values()]
        parts = [Part(*_read_prepared(file, layout), PROTOCOLS[protocol][part]) for part, file in npz.items()]
    elif not is_binary and subset.is_file():
        if protocol != "train+test":
            raise ValueError(
                f"ingestion: {subset} does not tell training rows from test rows; "
                f"expected protocol 'train+test' for it, got '{protocol}'"
            )
        files, words = [subset.name], "all rows of a prepared subset"
        parts = [Part(*_read_prepared(subset, layout), FITTED | ASSIGNED)]
    else:
        note = f", nor prepared npz there ({', '.join(file.name for file in npz.values())}, or subset.npz)"
        version = "binary version"
        parts = _read_batches(layout, obtain_archived(archive, folder, files, options.download, note), protocol)
    about = {
        "name": layout.name,
        "source": f"https://www.cs.toronto.edu/~kriz/cifar.html, {version}: {', '.join(files)}",
        "licence": "none stated by the authors; cite Krizhevsky 2009",
        "class_names": layout.class_names,
        "protocol": words,
    }
    return join_parts(parts, about)


def _read_batches(layout: _Layout, files: Mapping[str, Path], protocol: str) -> list[Part]:
    parts = []
    for part, flag in PROTOCOLS[protocol].items():
        read = [read_batch(files[file], len(layout.label_keys)) for file in layout.batches[part]]
        labels = [
            layout.classes(labels, files[file]) for (_, labels), file in zip(read, layout.batches[part], strict=True)
        ]
        warn_of_size(layout.name, part, sum(map(len, labels)), {"train": 50_000, "test": 10_000}[part])
        parts += [Part(images, own, flag) for (images, _), own in zip(read, labels, strict=True)]
    return parts


def read_batch(file: Path, n_labels: int) -> tuple[np.ndarray, np.ndarray]:
    """Read a file of the binary version.

    Args:
        file: Rows of `n_labels` bytes and 3 x 32 x 32 pixels.
        n_labels: 1 for CIFAR-10; 2 for CIFAR-100, the coarse one first.

    Returns:
        images: shape (n, 3, 32, 32), uint8.
        labels: shape (n, n_labels), uint8, as they are in the file.

    Raises:
        ValueError: if the file is empty or ends within a row.
    """
    records = read_records(file, n_labels + 3072)
    return records[:, n_labels:].reshape(-1, 3, 32, 32), records[:, :n_labels]


def _read_prepared(file: Path, layout: _Layout) -> tuple[np.ndarray, np.ndarray]:
    arrays = read_npz(file, ("images", *layout.label_keys))
    images = arrays["images"]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (32, 32, 3) or not len(images):
        raise ValueError(f"ingestion: {file}: expected images uint8 (n, 32, 32, 3), got {images.dtype} {images.shape}")
    for key in layout.label_keys:
        if arrays[key].shape != images.shape[:1]:
            raise ValueError(f"ingestion: {file}: expected {key} of shape ({len(images)},), got {arrays[key].shape}")
    labels = np.stack([arrays[key] for key in layout.label_keys], axis=1)
    return images.transpose(0, 3, 1, 2), layout.classes(labels, file)

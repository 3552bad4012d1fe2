"""Image data sets of digits, garments and objects. Addresses and checksums are those of `torchvision.datasets`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from deep_clustering.data.sources.downloads import (
    Archive,
    Remote,
    fetch,
    find_files,
    missing_files,
    obtain_archived,
    raw_folder,
)
from deep_clustering.data.sources.formats import check_classes, check_pairs, read_idx, read_libsvm, read_records
from deep_clustering.data.sources.parts import PROTOCOL_WORDS, PROTOCOLS, InParts, Part, join_parts, warn_of_size
from deep_clustering.data.sources.samples import FITTED, Samples, both

_FIGURES = [str(figure) for figure in range(10)]
_GARMENTS = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
_IDX_FILES = ("images-idx3-ubyte", "labels-idx1-ubyte")
_STL10_CLASSES = ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"]


@dataclass(frozen=True, kw_only=True)
class Digits:
    """The 1,797 handwritten digits of 8 x 8 pixels that scikit-learn carries."""

    def load(self) -> Samples:
        """Read the digits; nothing is downloaded."""
        from sklearn.datasets import load_digits

        digits = load_digits()
        about = {
            "name": "digits",
            "source": "sklearn.datasets.load_digits: test part of UCI 'Optical Recognition of Handwritten Digits'",
            "licence": "CC BY 4.0 (UCI Machine Learning Repository)",
            "class_names": [str(name) for name in digits.target_names],
            "value_range": [0.0, 16.0],
            "protocol": "all rows",
        }
        images = digits.images.astype(np.uint8)[:, None]
        return Samples(images, digits.target.astype(np.int64), both(len(images)), [], about)


@dataclass(frozen=True, kw_only=True)
class _Idx(InParts):
    """A set in the four files of MNIST: 60,000 + 10,000 images of 28 x 28 grey pixels in ten classes."""

    published: ClassVar[str]
    """Its class in torchvision, and the folder of its files."""
    about: ClassVar[dict[str, Any]]
    """What its card says of it."""

    def load(self) -> Samples:
        """Read the idx files."""
        stems = {part: "t10k" if part == "test" else part for part in PROTOCOLS[self.protocol]}
        files = self._obtain([f"{stem}-{kind}" for stem in stems.values() for kind in _IDX_FILES])
        parts = []
        for part, stem in stems.items():
            images, file = (files[f"{stem}-{kind}"] for kind in _IDX_FILES)
            pixels = read_idx(images, (28, 28))
            labels = check_classes(read_idx(file, ()), 10, file)
            check_pairs(pixels, labels, file)
            warn_of_size(self.published, part, len(labels), {"train": 60_000, "test": 10_000}[part])
            parts.append(Part(pixels[:, None], labels, PROTOCOLS[self.protocol][part]))
        return join_parts(parts, {**self.about, "protocol": PROTOCOL_WORDS[self.protocol]})

    def _obtain(self, names: list[str]) -> dict[str, Path]:
        target = raw_folder(self.root) / self.published / "raw"
        files, missing = find_files((target, raw_folder(self.root)), names, ("", ".gz"))
        if missing and not self.download:
            raise missing_files(target, missing, f" or {raw_folder(self.root)}, plain or as .gz")
        if missing:
            import torchvision

            published = getattr(torchvision.datasets, self.published)
            checksums = dict(published.resources)
            for missed in missing:
                archive = f"{missed}.gz"
                files[missed] = target / archive
                urls = tuple(f"{mirror}{archive}" for mirror in published.mirrors)
                fetch(Remote(urls=urls, md5=checksums[archive]), files[missed])
        return files


@dataclass(frozen=True, kw_only=True)
class Mnist(_Idx):
    """MNIST: 60,000 + 10,000 handwritten digits, 28 x 28 grey."""

    published = "MNIST"
    about = {  # noqa: RUF012 - declared in the base
        "name": "mnist",
        "source": "Modified NIST database, http://yann.lecun.com/exdb/mnist",
        "licence": "usually stated as CC BY-SA 3.0 (Y. LeCun, C. Cortes)",
        "class_names": _FIGURES,
    }

    root: str
    """Folder of the raw files: here or in `MNIST/raw`, plain or as .gz."""


@dataclass(frozen=True, kw_only=True)
class FashionMnist(_Idx):
    """Fashion-MNIST: 60,000 + 10,000 garments, 28 x 28 grey."""

    published = "FashionMNIST"
    about = {  # noqa: RUF012 - declared in the base
        "name": "fashion_mnist",
        "source": "https://github.com/zalandoresearch/fashion-mnist",
        "licence": "MIT (Zalando SE)",
        "class_names": _GARMENTS,
    }

    root: str
    """Folder of the raw files: here or in `FashionMNIST/raw`, plain or as .gz."""


@dataclass(frozen=True, kw_only=True)
class Usps(InParts):
    """USPS: 7,291 + 2,007 handwritten digits of envelopes, 16 x 16 grey."""

    root: str
    """Folder of the raw files usps.bz2 and usps.t.bz2."""

    def load(self) -> Samples:
        """Read the texts."""
        about = {
            "name": "usps",
            "source": "https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/multiclass.html",
            "licence": "none stated by the authors; cite Hull 1994",
            "class_names": _FIGURES,
            "protocol": PROTOCOL_WORDS[self.protocol],
        }
        names = {part: "usps.t.bz2" if part == "test" else "usps.bz2" for part in PROTOCOLS[self.protocol]}
        folder = raw_folder(self.root)
        files, missing = find_files((folder,), names.values())
        if missing and not self.download:
            raise missing_files(folder, missing)
        if missing:
            from torchvision.datasets import USPS

            for url, name, md5 in USPS.split_list.values():
                if name in missing:
                    files[name] = folder / name
                    fetch(Remote(urls=(url,), md5=md5), files[name])
        parts = []
        for part, name in names.items():
            images, labels = _read_usps(files[name])
            warn_of_size("usps", part, len(labels), {"train": 7291, "test": 2007}[part])
            parts.append(Part(images, labels, PROTOCOLS[self.protocol][part]))
        return join_parts(parts, about)


def _read_usps(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 1, 16, 16) uint8 and labels (n,) int64 of a libsvm text with pixels from -1 to 1."""
    rows, labels = read_libsvm(file, 256)
    if not (np.abs(rows) <= 1).all():
        raise ValueError(f"ingestion: {file}: expected pixels from -1 to 1, got {rows.min()} to {rows.max()}")
    # Rounded down, as torchvision does: the same bytes as in other work on these files.
    images = ((rows + 1) / 2 * 255).astype(np.uint8).reshape(-1, 1, 16, 16)
    return images, check_classes(labels, 10, file, first=1)


@dataclass(frozen=True, kw_only=True)
class Stl10(InParts):
    """STL-10: 5,000 + 8,000 photographs of objects and 100,000 unlabelled ones, 96 x 96 colour."""

    root: str
    """Folder of stl10_binary.tar.gz, of the folder stl10_binary or of its files."""
    unlabelled: bool
    """Whether methods are also fitted to the unlabelled images; as features they take 12 GB of memory."""
    download: bool
    """Whether the archive, 2.6 GB, may be downloaded if files are missing."""

    def load(self) -> Samples:
        """Read the binary files."""
        flags = PROTOCOLS[self.protocol]
        names = [f"{part}_{kind}.bin" for part in flags for kind in "Xy"]
        files = self._obtain([*names, "unlabeled_X.bin"] if self.unlabelled else names)
        parts = []
        for part, flag in flags.items():
            images, file = _read_stl10(files[f"{part}_X.bin"]), files[f"{part}_y.bin"]
            labels = check_classes(read_records(file, 1)[:, 0], 10, file, first=1)
            check_pairs(images, labels, file)
            warn_of_size("stl10", part, len(labels), {"train": 5000, "test": 8000}[part])
            parts.append(Part(images, labels, flag))
        if self.unlabelled:
            images = _read_stl10(files["unlabeled_X.bin"])
            warn_of_size("stl10", "unlabelled", len(images), 100_000)
            parts.append(Part(images, np.full(len(images), -1, dtype=np.int64), FITTED))
        about = {
            "name": "stl10",
            "source": "https://cs.stanford.edu/~acoates/stl10",
            "licence": "none stated by the authors; images from ImageNet, cite Coates, Ng and Lee 2011",
            "class_names": _STL10_CLASSES,
            "protocol": PROTOCOL_WORDS[self.protocol] + (", fitted also on unlabelled rows" if self.unlabelled else ""),
        }
        return join_parts(parts, about)

    def _obtain(self, names: list[str]) -> dict[str, Path]:
        # Imported also for files that are there: only torchvision knows what the archive is called.
        from torchvision.datasets import STL10

        remote = Remote(urls=(STL10.url,), md5=STL10.tgz_md5)
        archive = Archive(name=STL10.filename, folder=STL10.base_folder, remote=remote)
        return obtain_archived(archive, raw_folder(self.root), names, self.download)


def _read_stl10(file: Path) -> np.ndarray:
    """Images, shape (n, 3, 96, 96), of a file that has each channel column by column."""
    return read_records(file, 3 * 96 * 96).reshape(-1, 3, 96, 96).transpose(0, 1, 3, 2)

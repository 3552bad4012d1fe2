"""Where samples come from, and the card that says what they are."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from deep_clustering.checks import check_labels, check_rows
from deep_clustering.options import build, build_kind, check_range


class Samples(NamedTuple):
    """What a source gives."""

    samples: np.ndarray
    """Images, shape (n, channels, height, width), uint8; or vectors, shape (n, n_features), float32."""
    labels: np.ndarray
    """Class of each sample, shape (n,), int64; -1 where unknown."""
    about: dict[str, Any]
    """name, source, licence, class_names (or None), value_range."""


class Source(Protocol):
    """A place that samples come from."""

    def load(self) -> Samples:
        """Read everything."""


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
        }
        return Samples(digits.images.astype(np.uint8)[:, None], digits.target.astype(np.int64), about)


@dataclass(frozen=True, kw_only=True)
class Arrays:
    """Arrays of the user in `.npy` files."""

    name: str
    """Name of the data set."""
    samples: str
    """File of the samples: images uint8 (n, channels, height, width), or vectors float32 (n, n_features)."""
    labels: str | None
    """File of the classes, integers (n,), or null."""

    def load(self) -> Samples:
        """Read the files; an object array is refused, since it would need pickle."""
        samples = _read_array(self.samples, "samples")
        if samples.dtype == np.float64:
            samples = samples.astype(np.float32)
        if self.labels is None:
            labels = np.full(len(samples), -1, dtype=np.int64)
        else:
            labels = _read_array(self.labels, "labels")
        value_range = [0.0, 255.0] if samples.dtype == np.uint8 else [float(samples.min()), float(samples.max())]
        about = {
            "name": self.name,
            "source": Path(self.samples).name,
            "licence": "the user's own data",
            "class_names": None,
            "value_range": value_range,
        }
        return Samples(samples, labels, about)


def _read_array(path: str, what: str) -> np.ndarray:
    file = Path(path).resolve()
    if not file.is_file():
        raise FileNotFoundError(f"ingestion: no file of {what} at {file}; expected a .npy array")
    try:
        return np.load(file, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(
            f"ingestion: {file}: expected a .npy array of numbers, got a file cut short or of another kind ({error})"
        ) from error


SOURCES: dict[str, type[Source]] = {"digits": Digits, "arrays": Arrays}


@dataclass(frozen=True, kw_only=True)
class IngestionOptions:
    """Options of the ingestion."""

    source: dict[str, Any]
    """`kind`, a key of `SOURCES`, and the options of that kind."""
    n_rows: int
    """Rows to take, a random subset that is the same in every run; 0 takes all."""

    def __post_init__(self) -> None:
        check_range("n_rows", self.n_rows, 0)
        build_kind(SOURCES, self.source, "ingestion.source")


def load_source(options: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Read samples, check them and write their card.

    Args:
        options: Fields of `IngestionOptions`.

    Returns:
        samples: uint8 images (n, channels, height, width) or float32 vectors (n, n_features).
        labels: int64 (n,), -1 where unknown.
        data_card: name, source, licence, size, types, classes, protocol and sha256.

    Raises:
        FileNotFoundError: if a file of the source is missing.
        ValueError: if an option is wrong, or what was read cannot be clustered.
    """
    ingestion = build(IngestionOptions, options, "ingestion")
    samples, labels, about = build_kind(SOURCES, ingestion.source, "ingestion.source").load()
    _check_samples(samples)
    check_labels(labels, len(samples), "ingestion")
    labels = labels.astype(np.int64)
    protocol = "all rows"
    if ingestion.n_rows:
        if ingestion.n_rows > len(samples):
            raise ValueError(
                f"ingestion: n_rows must be at most the {len(samples)} rows there are, got {ingestion.n_rows}"
            )
        rows = np.sort(np.random.default_rng(0).permutation(len(samples))[: ingestion.n_rows])
        protocol = f"random subset of {ingestion.n_rows} of {len(samples)} rows"
        samples, labels = samples[rows], labels[rows]
    return samples, labels, data_card(samples, labels, about, protocol)


def _check_samples(samples: np.ndarray) -> None:
    if samples.dtype == np.uint8:
        if samples.ndim != 4 or 0 in samples.shape:
            raise ValueError(
                f"ingestion: uint8 samples must be images of shape (n, channels, height, width), got {samples.shape}"
            )
    elif samples.dtype == np.float32:
        check_rows(samples, "ingestion")
    else:
        raise ValueError(
            f"ingestion: samples must be uint8 images or float32 vectors, got {samples.dtype} {samples.shape}"
        )


def data_card(samples: np.ndarray, labels: np.ndarray, about: Mapping[str, Any], protocol: str) -> dict[str, Any]:
    """What a data set is, with a fingerprint of its arrays.

    Args:
        samples: The samples, any shape.
        labels: Classes, shape (n,), -1 where unknown.
        about: name, source, licence, class_names and value_range.
        protocol: Which rows these are.

    Returns:
        The card, of plain JSON values.
    """
    known = labels[labels >= 0]
    n_classes = int(known.max()) + 1 if len(known) else None
    class_names = about["class_names"] if n_classes else None
    if n_classes and not class_names:
        class_names = [str(index) for index in range(n_classes)]
    return {
        "name": about["name"],
        "source": about["source"],
        "licence": about["licence"],
        "protocol": protocol,
        "n_samples": len(samples),
        "shape": list(samples.shape),
        "dtype": str(samples.dtype),
        "value_range": about["value_range"],
        "n_classes": len(class_names) if class_names else None,
        "class_names": class_names,
        "class_counts": np.bincount(known, minlength=len(class_names)).tolist() if class_names else None,
        "sha256": {"samples": fingerprint(samples), "labels": fingerprint(labels)},
    }


def fingerprint(array: np.ndarray) -> str:
    """sha256 of an array's type, shape and values, in hexadecimal."""
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()

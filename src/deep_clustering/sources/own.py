"""The user's own data."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deep_clustering.sources.samples import Samples, both


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
            "protocol": "all rows",
        }
        return Samples(samples, labels, both(len(samples)), [], about)


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

"""Extracted rows on disk: shards under a key, each whole or absent, so that a killed run loses one shard at most."""

import hashlib
import json
import logging
import tempfile
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from deep_clustering.atomic import atomic_file, write_text
from deep_clustering.data import sealed_arrays
from deep_clustering.data.places import check_folder
from deep_clustering.data.plain_json import parse_object
from deep_clustering.data.sources.array_headers import DAMAGED
from deep_clustering.training.progress import Reading, meter

logger = logging.getLogger(__name__)

ROWS_PER_SHARD = 2048
# Larger results are put together on disk instead of in memory.
MEMORY_LIMIT = 2**30
_MANIFEST = "manifest.json"


class Piece(NamedTuple):
    """Rows of a shard, all or some."""

    span: tuple[int, int]
    """First row and end of the shard."""
    places: Any
    """Where they are in it, an index."""
    rows: np.ndarray
    """Shape (n, n_features), float32."""


@dataclass(frozen=True)
class Shards:
    """The rows that belong to one key."""

    folder: Path
    key: Mapping[str, Any]
    """Everything that the rows depend on."""
    n_samples: int

    def spans(self) -> list[tuple[int, int]]:
        """First row and end of each shard."""
        starts = range(0, self.n_samples, ROWS_PER_SHARD)
        return [(start, min(start + ROWS_PER_SHARD, self.n_samples)) for start in starts]

    def missing(self) -> list[tuple[int, int]]:
        """Spans that are absent or damaged; a damaged one is logged."""
        n_features = self._n_features()
        return [span for span in self.spans() if n_features is None or not self._is_whole(span, n_features)]

    def begin(self, n_features: int, packages: Sequence[str]) -> None:
        """Say what the folder holds and whose work it is, before its first shard is written."""
        manifest = {
            "key": dict(self.key),
            "n_samples": self.n_samples,
            "n_features": n_features,
            "rows_per_shard": ROWS_PER_SHARD,
            "written_by": {name: version(name) for name in packages},
        }
        write_text(self.folder / _MANIFEST, json.dumps(manifest, indent=2))

    def write(self, span: tuple[int, int], rows: np.ndarray) -> None:
        """Store the rows of a span: the file appears when it is whole."""
        with atomic_file(self.folder / _name(span)) as file:
            sealed_arrays.write(file, rows)

    def read(self) -> np.ndarray:
        """All rows, shape (n_samples, n_features), float32.

        Returns:
            An array; above `MEMORY_LIMIT` a memory map of a nameless scratch file in the folder, whose space is free
            again when the array is gone. It is a second copy of the shards for as long as the caller needs one piece
            of memory that he may change.
        """
        shape = (self.n_samples, self._n_features() or 0)
        if 4 * shape[0] * shape[1] <= MEMORY_LIMIT:
            rows = np.empty(shape, dtype=np.float32)
        else:
            with tempfile.TemporaryFile(dir=self.folder) as scratch:
                rows = np.memmap(scratch, dtype=np.float32, mode="w+", shape=shape)
        for start, stop in self.spans():
            rows[start:stop] = np.load(self.folder / _name((start, stop)), mmap_mode="r", allow_pickle=False)
        return rows

    def _n_features(self) -> int | None:
        path = self.folder / _MANIFEST
        try:
            n_features = parse_object(path.read_bytes())["n_features"]
        except FileNotFoundError:
            return None
        except (ValueError, KeyError) as error:
            logger.warning("%s is damaged (%s): extracting all rows again", path, error)
            return None
        if type(n_features) is not int or n_features < 1:
            logger.warning("%s is damaged (%r features): extracting all rows again", path, n_features)
            return None
        return n_features

    def _is_whole(self, span: tuple[int, int], n_features: int) -> bool:
        path, expected = self.folder / _name(span), (span[1] - span[0], n_features)
        try:
            rows = sealed_arrays.open_map(path)
        except FileNotFoundError:
            return False
        except DAMAGED as error:
            logger.warning("%s is cut short or damaged (%s): extracting its rows again", path, error)
            return False
        if rows.shape != expected or rows.dtype != np.float32:
            got = f"{rows.dtype} {rows.shape}"
            logger.warning("%s holds %s, expected float32 %s: extracting its rows again", path, got, expected)
            return False
        return True


def _name(span: tuple[int, int]) -> str:
    return f"rows_{span[0]:09d}_{span[1]:09d}.npy"


def open_shards(cache: Path, key: Mapping[str, Any], n_samples: int) -> Shards:
    """Shards of a key, in a folder named by its sha256.

    Args:
        cache: Folder of all keys.
        key: Everything that the rows depend on, plain JSON values.
        n_samples: Number of rows.

    Returns:
        The shards; nothing is read or written yet.

    Raises:
        ValueError: if the cache is no folder.
    """
    check_folder(cache, "features.cache")
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return Shards(cache / digest[:32], key, n_samples)


def in_order(
    batches: Callable[[int, int], Iterable[tuple[Any, np.ndarray]]],
) -> Callable[[Sequence[tuple[int, int]]], Generator[Piece]]:
    """Shard after shard, by this process.

    Args:
        batches: Makes of the span of a shard its rows, some at a time and in any order: places in the span, and rows.

    Returns:
        Function of spans, for `fill`.
    """

    def pieces(spans: Sequence[tuple[int, int]]) -> Generator[Piece]:
        # Batches end with their shard, so that a resumed run computes what an unbroken one does.
        return (Piece((start, stop), *batch) for start, stop in spans for batch in batches(start, stop))

    return pieces


def fill(
    shards: Shards,
    pieces: Callable[[Sequence[tuple[int, int]]], Generator[Piece]],
    unit: str,
    packages: Sequence[str],
) -> None:
    """Compute the rows that are missing, store each shard when it is whole, and show how far they are.

    Args:
        shards: Where they go; those that are there are left alone.
        pieces: Makes of the spans that are missing their rows, in any order.
        unit: What has a row, in the singular.
        packages: Whose versions the folder notes.

    Raises:
        ValueError: if a row is not finite; its shard is not written then.
    """
    missing = shards.missing()
    n_missing = sum(stop - start for start, stop in missing)
    logger.info("features: %d of %d rows are in %s", shards.n_samples - n_missing, shards.n_samples, shards.folder)

    def text(reading: Reading) -> str:
        return f"{reading.done} of {reading.total} {unit}s, {reading.speed:.0f} {unit}s/s, {reading.left:.0f} s left"

    n_written = 0
    begun: dict[tuple[int, int], tuple[np.ndarray, int]] = {}
    with meter("features", unit, n_missing, text) as count, closing(pieces(missing)) as made:
        for (start, stop), places, part in made:
            fresh = (np.empty((stop - start, part.shape[1]), dtype=np.float32), 0)
            rows, n_done = begun.pop((start, stop), fresh)
            rows[places] = part
            count(len(part))
            if n_done + len(part) < stop - start:
                begun[start, stop] = (rows, n_done + len(part))
                continue
            if not np.isfinite(rows).all():
                raise ValueError(f"features: the network gives NaN or infinity for {unit}s {start} to {stop - 1}")
            if not n_written:
                shards.begin(rows.shape[1], packages)
            shards.write((start, stop), rows)
            n_written += 1

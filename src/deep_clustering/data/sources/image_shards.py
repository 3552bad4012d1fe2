"""Many images of a folder, decoded by several processes into shards on disk, so that a killed run loses few of them.

Processes and no threads: of a small image most time is Python's, which one thread at a time may use.
"""

import hashlib
import json
import logging
import math
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL

from deep_clustering.atomic import atomic_file
from deep_clustering.data.sources import image_files
from deep_clustering.data.sources.array_headers import DAMAGED
from deep_clustering.data.sources.greys import GreyRanges
from deep_clustering.redaction import csv_cell
from deep_clustering.training.progress import Reading, meter
from deep_clustering.training.scratch import room

logger = logging.getLogger(__name__)

LEAST_FILES = 10_000
"""Fewer files are decoded anew each time."""

# A shard has about so many bytes, and at most so many files.
_SHARD_BYTES, _SHARD_FILES = 2**26, 2048


class Folder(NamedTuple):
    """What is read, and how."""

    root: Path
    files: Sequence[str]
    """Paths relative to the root, sorted."""
    shape: tuple[int, int]
    channels: int
    fit: str
    ranges: GreyRanges

    def spans(self) -> list[tuple[int, int]]:
        """First file and end of each shard."""
        n_files = max(1, min(_SHARD_FILES, _SHARD_BYTES // (self.channels * math.prod(self.shape))))
        starts = range(0, len(self.files), n_files)
        return [(start, min(start + n_files, len(self.files))) for start in starts]

    def part(self, span: tuple[int, int]) -> "Folder":
        """The files of a shard alone."""
        return self._replace(files=self.files[slice(*span)])

    def digest(self) -> str:
        """sha256 of all that the pixels depend on: names, sizes and times of the files, options, and Pillow."""
        how = [self.shape, self.channels, self.fit, {kind: list(ends) for kind, ends in self.ranges.items()}]
        found = hashlib.sha256(json.dumps([*how, PIL.__version__, _SHARD_BYTES, _SHARD_FILES], sort_keys=True).encode())
        for file in self.files:
            try:
                state = (self.root / file).stat()
                line = f"{file}\0{state.st_size}\0{state.st_mtime_ns}\n"
            except OSError:
                line = f"{file}\0gone\n"
            found.update(os.fsencode(line))
        return found.hexdigest()


class _Shard(NamedTuple):
    images: np.ndarray
    """Those that could be decoded, in order, shape (n, channels, height, width), uint8."""
    places: np.ndarray
    """Of the other files, shape (n_failed,), int64."""
    reasons: np.ndarray
    """Why, shape (n_failed,), text."""


def read_in_shards(folder: Folder, cache: Path) -> tuple[np.ndarray, list[str], dict[str, str]]:
    """Decode files to one array, and keep what was decoded.

    Args:
        folder: What is read, and how.
        cache: Folder of the shards of all folders. `skipped.csv` beside those of this one names what was left out.

    Returns:
        What `image_files.read_images` returns; many images are a map of a scratch file in the cache, see
        `scratch.room`.

    Raises:
        ChildProcessError: if a process that decodes is killed; the shards that there are stay.
        OSError: if a shard cannot be written.
    """
    shards = cache / folder.digest()[:32]
    spans = folder.spans()
    missing = [span for span in spans if not (shards / _name(span)).is_file()]
    _fill(folder, shards, missing)
    images = room((len(folder.files), folder.channels, *folder.shape), np.uint8, folder=shards)
    kept: list[str] = []
    unreadable: dict[str, str] = {}
    for span in spans:
        shard = _read(folder, shards, span)
        failed = dict(zip(shard.places.tolist(), shard.reasons.tolist(), strict=True))
        images[len(kept) : len(kept) + len(shard.images)] = shard.images
        files = folder.files[slice(*span)]
        kept += [file for place, file in enumerate(files) if place not in failed]
        unreadable |= {image_files.printable(files[place]): reason for place, reason in failed.items()}
    with atomic_file(shards / "skipped.csv") as file:
        lines = [f'"{_quoted(name)}","{_quoted(reason)}"\n' for name, reason in sorted(unreadable.items())]
        file.write("".join(["file,reason\n", *lines]).encode())
    if unreadable:
        logger.warning("images: %d files were skipped, see %s", len(unreadable), shards / "skipped.csv")
    return images[: len(kept)], kept, unreadable


def _quoted(text: str) -> str:
    return str(csv_cell(text)).replace('"', '""')


def _name(span: tuple[int, int]) -> str:
    return f"images_{span[0]:09d}_{span[1]:09d}.npz"


def _fill(folder: Folder, shards: Path, missing: Sequence[tuple[int, int]]) -> None:
    """Decode what is missing, and show how far it is."""
    n_files, n_missing = len(folder.files), sum(stop - start for start, stop in missing)
    logger.info("images: %d of %d files are in %s", n_files - n_missing, n_files, shards)

    def text(reading: Reading) -> str:
        return f"{reading.done} of {reading.total} files, {reading.speed:.0f} files/s, {reading.left:.0f} s left"

    with meter("images", "file", n_files, text, first=n_files - n_missing) as count:
        for span in _made(folder, shards, missing):
            count(span[1] - span[0])


def _made(folder: Folder, shards: Path, missing: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Spans of shards as they are written, by as many processes as there are processors."""
    n_workers = min(image_files.cores(), len(missing))
    if n_workers < 2:
        for span in missing:
            _make(folder.part(span), shards / _name(span))
            yield span
        return
    with ProcessPoolExecutor(n_workers, get_context("spawn"), initializer=_end_with_the_parent) as pool:
        work = {pool.submit(_make, folder.part(span), shards / _name(span)): span for span in missing}
        try:
            for done in as_completed(work):
                done.result()
                yield work[done]
        except BrokenProcessPool as error:
            raise ChildProcessError(
                "images: a process that decodes was ended, perhaps for want of memory; the same run goes on from the "
                f"shards in {shards}"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _end_with_the_parent() -> None:
    """Of a pool whose process was killed nobody else ends the workers."""
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _make(part: Folder, path: Path) -> _Shard:
    """Decode the files of a shard and write it."""
    images = np.empty((len(part.files), part.channels, *part.shape), dtype=np.uint8)
    with image_files.bombs_are_errors():
        places = range(len(part.files))
        failed = dict(image_files.decode_into(images, places, part.root, part.files, part.fit, part.ranges))
    kept = [place for place in range(len(part.files)) if place not in failed]
    shard = _Shard(images[kept], np.array(list(failed), dtype=np.int64), np.array(list(failed.values()), dtype=np.str_))
    with atomic_file(path) as file:
        np.savez(file, **shard._asdict())
    return shard


def _read(folder: Folder, shards: Path, span: tuple[int, int]) -> _Shard:
    """A shard that was written, by its checksums as it was; else made again."""
    path, part = shards / _name(span), folder.part(span)
    try:
        with np.load(path, allow_pickle=False) as archive:
            shard = _Shard(*(archive[name] for name in _Shard._fields))
        expected = (len(part.files) - len(shard.places), part.channels, *part.shape)
        if shard.images.shape != expected:
            raise ValueError(f"got images {shard.images.shape}, expected {expected}")
        return shard
    except DAMAGED as error:
        logger.warning("images: %s is cut short or damaged (%s): decoding its files again", path, error)
    return _make(part, path)

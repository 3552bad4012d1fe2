"""Any number of new rows to clusters: Parquet shards in a folder, written one by one and whole, and gone on with."""

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import count as numbers
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge

from deep_clustering.atomic import write_text
from deep_clustering.data.plain_json import parse_object
from deep_clustering.inference.bulk_shards import MANIFEST, Shard, Task, assign_shards
from deep_clustering.inference.bulk_workers import assign_together
from deep_clustering.inference.prediction import check_first_row, open_model
from deep_clustering.inference.predictor import sha256_of
from deep_clustering.options import check_fields
from deep_clustering.redaction import redact_text
from deep_clustering.training.progress import meter

logger = logging.getLogger(__name__)

# Of one file some bytes are compared besides its size and time: so many pieces of such a length, evenly spaced.
_PIECES, _PIECE_BYTES = 64, 4096
# Packages that decide what a row is given.
_PACKAGES = ("deep-clustering", "numpy", "torch")


@dataclass(frozen=True, kw_only=True)
class BulkOptions:
    """Where shards go, and who makes them."""

    folder: Path
    """A new or empty folder, or that of an earlier call with the same model and input, which is gone on with."""
    shard_rows: Annotated[int, Ge(1)]
    """Rows of a shard; it ends with the first piece of `chunk_rows`, at most 2,048, that reaches them."""
    workers: Annotated[int, Ge(1)]
    """Processes that assign, each shard by one of them."""

    def __post_init__(self) -> None:
        check_fields(self)


def predict_in_bulk(options: Mapping[str, Any], bulk: BulkOptions) -> dict[str, Any]:
    """Assign new rows to the clusters of a fitted method, shard by shard.

    Args:
        options: Fields of `PredictOptions`.
        bulk: Where the shards go, and who makes them.

    Returns:
        What the manifest says: `key`, all that the rows depend on; the `shards` with `file`, `rows`, `outliers` and
        `skipped` of each; the sums of these; and `model`, `input` and `data_set` by name.

    Raises:
        ChildProcessError: if a worker is killed; the shards that are there stay.
        FileNotFoundError: if there is no input.
        TrackingError: if there is no such model.
        ValueError: if rows are not what the model was fitted to, none can be read, the folder holds something else or
            shards of another model, input or version, or the input changes meanwhile.
    """
    from deep_clustering.training.rows import DESCRIBED_ROWS  # imports torch

    chosen, predictor, name = open_model(options)
    chosen = replace(chosen, chunk_rows=min(chosen.chunk_rows, DESCRIBED_ROWS))
    check_first_row(options)
    key = {
        "model_sha256": sha256_of(predictor),
        "input": fingerprint(chosen.path),
        "chunk_rows": chosen.chunk_rows,
        "shard_rows": bulk.shard_rows,
        "versions": {package: version(package) for package in _PACKAGES},
    }
    about = {
        "model": name,
        "input": redact_text(str(chosen.input)),
        "data_set": predictor.data_set or predictor.preparation.data_set,
    }
    _begin(bulk.folder, key, about)
    task = Task(chosen, predictor, bulk.folder, bulk.shard_rows, _digest(key))
    logger.info("predict: %s, a %s of %s", name, predictor.model.method, predictor.preparation.data_set)
    with meter("predict", "row", 0, lambda reading: f"{reading.done} rows, {reading.speed:.0f} rows/s") as count:
        shards = (
            assign_shards(task, count, numbers().__next__)
            if bulk.workers == 1
            else assign_together(task, bulk.workers, count)
        )
    if fingerprint(chosen.path) != key["input"]:
        raise ValueError(f"predict: {chosen.input} changed while it was read; remove {bulk.folder} and call it again")
    return _end(bulk.folder, key, about, shards)


def fingerprint(path: Path) -> dict[str, Any]:
    """What tells an input from others and from itself after a change, without reading all of it.

    Args:
        path: A file or folder.

    Returns:
        Number of files and of bytes, and a sha256: of name, size and time of change of each file, hidden ones left out,
        and of some bytes if it is one file.
    """
    digest, n_bytes, n_files = hashlib.sha256(), 0, 0
    for name, file in [("", path)] if path.is_file() else _files_below(path):
        with suppress(OSError):  # a link to nothing is none of the rows
            found = file.stat()
            digest.update(f"{name}\0{found.st_size}\0{found.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
            n_bytes, n_files = n_bytes + found.st_size, n_files + 1
    if path.is_file():
        with path.open("rb") as opened:
            for place in range(_PIECES):
                opened.seek(place * n_bytes // _PIECES)
                digest.update(opened.read(_PIECE_BYTES))
    return {"files": n_files, "bytes": n_bytes, "sha256": digest.hexdigest()}


def _files_below(root: Path) -> Iterator[tuple[str, Path]]:
    for folder, folders, files in os.walk(root, followlinks=False):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith("."):
                file = Path(folder, name)
                yield file.relative_to(root).as_posix(), file


def _digest(key: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()


def _begin(folder: Path, key: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    """Say what a folder will hold, or find that it holds the same."""
    file = folder / MANIFEST
    if not file.is_file():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ValueError(f"predict: {folder} has something else in it; expected a new or an empty folder")
        write_text(file, json.dumps({"complete": False, **about, "key": key}, indent=1))
        return
    try:
        before = parse_object(file.read_bytes())["key"]
        others = [name for name, value in key.items() if before[name] != value]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"predict: {file} is damaged ({error}); remove the folder or name another") from error
    if others:
        words = "; ".join(f"{name}: {json.dumps(before[name])}, now {json.dumps(key[name])}" for name in others)
        raise ValueError(f"predict: {folder} holds shards of something else ({words}); name another folder")


def _end(folder: Path, key: Mapping[str, Any], about: Mapping[str, Any], shards: list[Shard]) -> dict[str, Any]:
    """Write what came out."""
    shards = sorted(shards, key=lambda shard: shard.number)
    sums = {name: sum(getattr(shard, name) for shard in shards) for name in ("rows", "outliers", "skipped")}
    if sums["skipped"] == sums["rows"]:
        raise ValueError(f"predict: {about['input']}: none of {sums['rows']} rows can be read; see {folder}")
    listed = [
        {"file": shard.file, "rows": shard.rows, "outliers": shard.outliers, "skipped": shard.skipped}
        for shard in shards
    ]
    manifest = {"complete": True, **about, **sums, "key": dict(key), "shards": listed}
    write_text(folder / MANIFEST, json.dumps(manifest, indent=1))
    logger.info("predict: %d rows, %d outliers, %d skipped", *sums.values())
    return manifest

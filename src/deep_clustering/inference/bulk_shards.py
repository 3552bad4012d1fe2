"""Shards of a prediction in bulk: which rows are in one, how it is made, and whether one on disk is whole."""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from deep_clustering.atomic import atomic_path
from deep_clustering.data.plain_json import parse_object
from deep_clustering.inference.prediction import PredictOptions, assign_piece, table_of
from deep_clustering.inference.predictor import Assigner, Predictor
from deep_clustering.inference.row_files import Piece, Unread, open_unread

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger(__name__)

MANIFEST = "_manifest.json"
"""With an underscore, so that pandas and Arrow read the folder as one table."""

_ABOUT = b"deep_clustering"


class Task(NamedTuple):
    """What each worker needs."""

    options: PredictOptions
    predictor: Predictor
    folder: Path
    shard_rows: int
    key: str
    """sha256 of all that the rows depend on, which each shard repeats."""


class Shard(NamedTuple):
    """What is said of a shard, also in its own file."""

    number: int
    rows: int
    outliers: int
    skipped: int

    @property
    def file(self) -> str:
        """Its name."""
        return f"rows_{self.number:06d}.parquet"


def assign_shards(task: Task, count: Callable[[int], object], claim: Callable[[], int]) -> list[Shard]:
    """Make the shards that are missing; while one is written, the next is computed.

    Args:
        task: What is asked for.
        count: Told how many more rows are done.
        claim: Gives the number of the next shard to make, each time a greater one.

    Returns:
        What is said of those that were claimed and exist, made now or before.

    Raises:
        ValueError: if rows are not what the model was fitted to.
    """
    pieces = open_unread(task.options.path, task.predictor.preparation, task.options.chunk_rows)
    assigner = Assigner(task.predictor, task.options.weights)
    made: list[Shard] = []
    wanted, first = claim(), 0
    with ThreadPoolExecutor(1) as writer:
        written: Future[Shard] | None = None
        for number, parts in enumerate(_in_shards(pieces, task.shard_rows)):
            n_rows = sum(part.n_rows for part in parts)
            if number == wanted:
                wanted = claim()
                found = _whole(task, number, n_rows)
                if found is None:
                    columns = [_assigned(task, part, assigner, first, count) for part in parts]
                    if written is not None:
                        made.append(written.result())
                    written = writer.submit(_write, task, number, columns)
                else:
                    made.append(found)
                    count(n_rows)
            first += n_rows
        if written is not None:
            made.append(written.result())
    return made


def _in_shards(pieces: Iterator[Unread], n_rows: int) -> Iterator[list[Unread]]:
    parts: list[Unread] = []
    for piece in pieces:
        parts.append(piece)
        if sum(part.n_rows for part in parts) >= n_rows:
            yield parts
            parts = []
    if parts:
        yield parts


def _assigned(
    task: Task, part: Unread, assigner: Assigner, first: int, count: Callable[[int], object]
) -> dict[str, np.ndarray]:
    """The rows of a piece with their clusters."""
    try:
        piece = part.read()
        _refuse_skipped(task, piece)
        columns = assign_piece(piece, assigner)
    except ValueError as error:
        raise ValueError(f"predict: {task.options.input}, from row {first} on: {error}") from error
    count(part.n_rows)
    return columns


def _refuse_skipped(task: Task, piece: Piece) -> None:
    """Refuse images that cannot be read, where that is asked for, before their shard is written."""
    if piece.skipped and task.predictor.preparation.reading.get("on_error") == "refuse":
        place, reason = next(iter(piece.skipped.items()))
        raise ValueError(f"{piece.ids[place]}: {reason}; repair or remove it, or set predict.on_error=skip")


def _write(task: Task, number: int, columns: Sequence[Mapping[str, np.ndarray]]) -> Shard:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = table_of(columns)
    shard = Shard(number, len(table), int(table["is_outlier"].sum()), int(table["skipped"].notna().sum()))
    schema = _schema(is_numbered=table["id"].dtype.kind == "i", is_named="name" in table)
    arrow = pa.Table.from_pandas(table, schema, preserve_index=False)
    note = json.dumps({"key": task.key, **shard._asdict()})
    arrow = arrow.replace_schema_metadata({**(arrow.schema.metadata or {}), _ABOUT: note})
    with atomic_path(task.folder / shard.file) as part:
        pq.write_table(arrow, part, write_page_checksum=True)
    return shard


def _schema(*, is_numbered: bool, is_named: bool) -> "pa.Schema":
    """Types of the columns, the same in all shards, whatever the rows of one are."""
    import pyarrow as pa

    columns = {
        "id": pa.int64() if is_numbered else pa.string(),
        "cluster": pa.int64(),
        "probability": pa.float64(),
        "log_density": pa.float64(),
        "is_outlier": pa.bool_(),
        "skipped": pa.string(),
    }
    return pa.schema(columns | ({"name": pa.string()} if is_named else {}))


def _whole(task: Task, number: int, n_rows: int) -> Shard | None:
    """A shard that is there with all of its pages; None if it is to be made, and why is logged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = task.folder / Shard(number, 0, 0, 0).file
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            told = parse_object((file.schema_arrow.metadata or {})[_ABOUT])
            if (told.pop("key"), told["number"], told["rows"]) != (task.key, number, n_rows):
                raise ValueError("it is of another input or model")
            for _ in file.iter_batches():
                pass
            return Shard(**told)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        logger.warning("predict: %s is cut short or damaged (%s): assigning its rows again", path, error)
        return None

"""Approximate nearest neighbours of more rows than are compared one with another: inverted lists (IVF).

Sivic and Zisserman 2003; Jegou, Douze and Schmid 2011, as faiss has them: k-means cuts the rows into lists, and a row
is compared with those of the lists whose centres are nearest. How many lists is the least number at which a sample of
the rows finds enough of its true neighbours. With one thread the same rows give the same table.
"""

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from deep_clustering.atomic import atomic_file, atomic_path
from deep_clustering.data import sealed_arrays
from deep_clustering.data.sources.array_headers import DAMAGED
from deep_clustering.training.draws import evenly_spaced
from deep_clustering.training.progress import Reading, meter

logger = logging.getLogger(__name__)

ENOUGH = 0.97
"""Share of the true neighbours that a search is to find."""
# Lists for the root of the number of rows, rows that the centre of a list is found on, and the share of the lists that
# is searched, until it finds enough.
_LISTS, _ROWS_OF_LIST, _SHARES = 2.0, 50, (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
# Rows of which the true neighbours are found, to know the share that a search finds.
_SAMPLE = 1000
# Rows at a time that are put into lists or searched.
_ROWS = 16_384
# Near enough to be the same distance in single precision.
_TOLERANCE = 1e-5


@dataclass(frozen=True)
class RowBlocks:
    """Rows that are made ready for a search some at a time, so that they need not be in memory together."""

    n_rows: int
    width: int
    take: Callable[[slice | np.ndarray], np.ndarray]
    """Rows of a slice or of indices, shape (n, width), float32."""
    is_angular: bool
    """Whether rows have length one and are compared by angle; else by distance."""


class Found(NamedTuple):
    """Neighbours and how they were found."""

    table: np.ndarray
    """Indices, nearest first, shape (n_rows, k), int32; -1 at the end of a line that has fewer."""
    card: dict[str, Any]
    """Plain JSON values: how they were searched, and the share of the true ones on a sample of rows."""


def search_lists(blocks: RowBlocks, k: int, folder: Path | None, threads: int) -> Found:
    """Search the neighbours of every row among the others.

    Args:
        blocks: The rows.
        k: Neighbours of each.
        folder: Where what is done is kept until the end, so that a killed search goes on from there; None: nowhere.
        threads: Threads of the search.

    Returns:
        The neighbours and the share of the true ones that a sample of the rows found.

    Raises:
        ModuleNotFoundError: if faiss is not installed.
        OSError: if the folder cannot be written to.
    """
    import faiss

    faiss.omp_set_num_threads(threads)
    index = _open(blocks, folder)
    share, n_sample = _choose_effort(index, blocks, k)
    table = _search_all(index, blocks, k, folder)
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
    card = {
        "search": f"{index.nprobe} of {index.nlist} lists of faiss {version('faiss-cpu')}",
        "recall": round(share, 4),
        "recall_rows": n_sample,
    }
    return Found(table, card)


def _choose_effort(index: Any, blocks: RowBlocks, k: int) -> tuple[float, int]:  # noqa: ANN401
    """Set how many lists are searched; the share of the true neighbours that a sample finds so, and its size."""
    sample = np.sort(np.random.default_rng(0).choice(blocks.n_rows, min(_SAMPLE, blocks.n_rows), replace=False))
    least, share = _kth_similarity(blocks, sample, k), 0.0
    for part in _SHARES:
        index.nprobe = max(1, round(part * index.nlist))
        share = _share_found(blocks, sample, _nearest(index, blocks, sample, k), least)
        if share >= ENOUGH:
            return share, len(sample)
    logger.warning(
        "neighbours: a sample of %d rows found %.3f of its true neighbours, fewer than %.2f; "
        "neighbours.exact_rows: %d would find all of them",
        len(sample),
        share,
        ENOUGH,
        blocks.n_rows,
    )
    return share, len(sample)


def _open(blocks: RowBlocks, folder: Path | None) -> Any:  # noqa: ANN401
    """The lists of all rows, made by a killed search perhaps."""
    import faiss

    file = None if folder is None else folder / "lists.faiss"
    if file is not None and file.exists():
        try:
            index = faiss.read_index(str(file))
            if (index.ntotal, index.d) != (blocks.n_rows, blocks.width):
                raise ValueError(f"it holds {index.ntotal} rows of {index.d}, not {blocks.n_rows} of {blocks.width}")
        except (RuntimeError, ValueError) as error:
            logger.warning("%s is cut short or damaged (%s): making the lists again", file, error)
        else:
            logger.info("neighbours: lists of %d rows are in %s", blocks.n_rows, file)
            return index
    index = _make(blocks)
    if file is not None:
        with atomic_path(file) as part:
            faiss.write_index(index, str(part))
    return index


def _make(blocks: RowBlocks) -> Any:  # noqa: ANN401
    import faiss

    metric = faiss.METRIC_INNER_PRODUCT if blocks.is_angular else faiss.METRIC_L2
    n_lists = max(1, round(_LISTS * np.sqrt(blocks.n_rows)))
    index: Any = faiss.index_factory(blocks.width, f"IVF{n_lists},Flat", metric)
    index.cp.min_points_per_centroid = 1  # of few rows, as in a test, without a word
    n_trained = min(blocks.n_rows, _ROWS_OF_LIST * n_lists)
    index.train(blocks.take(evenly_spaced(blocks.n_rows, n_trained)))
    with meter("neighbours", "row", blocks.n_rows, _progress("rows put into lists")) as count:
        for start in range(0, blocks.n_rows, _ROWS):
            rows = blocks.take(slice(start, min(start + _ROWS, blocks.n_rows)))
            index.add(rows)
            count(len(rows))
    return index


def _search_all(index: Any, blocks: RowBlocks, k: int, folder: Path | None) -> np.ndarray:  # noqa: ANN401
    """Neighbours of all rows, of which a killed search may have found some."""
    table = np.empty((blocks.n_rows, k), dtype=np.int32)
    with meter("neighbours", "row", blocks.n_rows, _progress("rows searched")) as count:
        for start in range(0, blocks.n_rows, _ROWS):
            stop = min(start + _ROWS, blocks.n_rows)
            file = None if folder is None else folder / f"found_{start:010d}_{index.nprobe}.npy"
            part = _read_part(file, (stop - start, k))
            if part is None:
                part = _nearest(index, blocks, np.arange(start, stop), k)
                if file is not None:
                    with atomic_file(file) as target:
                        sealed_arrays.write(target, part)
            table[start:stop] = part
            count(stop - start)
    return table


def _read_part(file: Path | None, shape: tuple[int, int]) -> np.ndarray | None:
    if file is None or not file.exists():
        return None
    try:
        with file.open("rb") as opened:
            part = sealed_arrays.read(opened)
    except DAMAGED as error:
        logger.warning("%s is cut short or damaged (%s): searching its rows again", file, error)
        return None
    return part if part.shape == shape and part.dtype == np.int32 else None


def _nearest(index: Any, blocks: RowBlocks, rows: np.ndarray, k: int) -> np.ndarray:  # noqa: ANN401
    """Neighbours of some rows, nearest first, shape (n, k), int32; -1 where fewer were found."""
    is_block = len(rows) == rows[-1] - rows[0] + 1
    taken = blocks.take(slice(int(rows[0]), int(rows[-1]) + 1) if is_block else rows)
    _, found = index.search(taken, k + 1)
    is_other = (found != rows[:, None]) & (found >= 0)
    order = np.argsort(~is_other, axis=1, kind="stable")[:, :k]
    return np.where(np.take_along_axis(is_other, order, 1), np.take_along_axis(found, order, 1), -1).astype(np.int32)


def _similarity(first: np.ndarray, second: np.ndarray, *, is_angular: bool) -> np.ndarray:
    """Greater for nearer rows, shape (n_first, n_second): the dot product, or minus half the squared distance."""
    products = first @ second.T
    if is_angular:
        return products
    return products - (first**2).sum(axis=1)[:, None] / 2 - (second**2).sum(axis=1)[None] / 2


def _kth_similarity(blocks: RowBlocks, sample: np.ndarray, k: int) -> np.ndarray:
    """Similarity of the k-th of the true neighbours of some rows, shape (n,)."""
    rows = blocks.take(sample)
    best = np.full((len(sample), k), -np.inf, dtype=np.float32)
    for start in range(0, blocks.n_rows, _ROWS):
        stop = min(start + _ROWS, blocks.n_rows)
        near = _similarity(rows, blocks.take(slice(start, stop)), is_angular=blocks.is_angular)
        itself = np.flatnonzero((sample >= start) & (sample < stop))
        near[itself, sample[itself] - start] = -np.inf
        near = np.concatenate([best, near], axis=1)
        best = np.partition(near, near.shape[1] - k, axis=1)[:, -k:]
    return np.asarray(best.min(axis=1))


def _share_found(blocks: RowBlocks, sample: np.ndarray, found: np.ndarray, least: np.ndarray) -> float:
    """Share of neighbours that are as near as the k-th true one, so that equally near ones are as good."""
    rows, n_found = blocks.take(sample), 0
    for row, line, enough in zip(rows, found, least, strict=True):
        near = _similarity(row[None], blocks.take(line[line >= 0]), is_angular=blocks.is_angular)
        n_found += int(np.count_nonzero(near >= enough - _TOLERANCE * max(1.0, abs(float(enough)))))
    return n_found / found.size


def _progress(what: str) -> Callable[[Reading], str]:
    return lambda reading: f"{reading.done} of {reading.total} {what}, {reading.left:.0f} s left"

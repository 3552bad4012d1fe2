"""Nearest neighbours of every row, computed once for all methods."""

import hashlib
import importlib.util
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Lt
from scipy import sparse
from sklearn.decomposition import TruncatedSVD
from sklearn.neighbors import NearestNeighbors

from deep_clustering.atomic import atomic_file, write_text
from deep_clustering.checks import check_rows
from deep_clustering.data import sealed_arrays
from deep_clustering.data.near_lists import Found, RowBlocks, search_lists
from deep_clustering.data.places import check_folder
from deep_clustering.data.plain_json import parse_object
from deep_clustering.data.sources.array_headers import DAMAGED
from deep_clustering.data.sources.card import array_sha256
from deep_clustering.options import build
from deep_clustering.training.draws import evenly_spaced

logger = logging.getLogger(__name__)

# How few rows are searched: each is compared with all others.
_EXACT = {"search": "exact", "recall": 1.0}
# Rows that a projection of many rows is found on, and rows at a time that are added up.
_PROJECTED_ROWS, _CHUNK_ROWS = 100_000, 16_384
_MIX = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))


@dataclass(frozen=True, kw_only=True)
class NeighbourOptions:
    """Options of the neighbours."""

    k: Annotated[int, Ge(0)]
    """Neighbours of each row; 0 computes none."""
    metric: Literal["cosine", "euclidean"]
    """cosine: the angle between rows, for features and texts; euclidean: the distance, for tables, whose few columns
    leave rows of one angle far apart."""
    centre: bool
    """Subtract the mean row first, which makes cosine tell apart rows that share a direction."""
    projection: Annotated[int, Ge(0)]
    """Leading singular vectors that the rows are projected on first (of text: latent semantic analysis); 0 for none."""
    exact_rows: Annotated[int, Ge(1)]
    """Most rows that are compared one with another; of more, a search of lists finds nearly all neighbours."""
    held_out: Annotated[float, Ge(0), Lt(1)]
    """Share of the pairs of near rows that methods do not get as views, so that partitions can be compared by them."""
    cache: str
    """Folder of the neighbours found before: the same rows and options are not searched again."""

    dropped: ClassVar[dict[str, str]] = {
        "mutual": "dropped in 0.3.0; all k neighbours are kept, use a smaller k",
    }


def find_neighbours(features: np.ndarray | sparse.csr_matrix, options: Mapping[str, Any]) -> Found:
    """Nearest neighbours of every row among the others, and how they were found.

    Args:
        features: Rows, shape (n_samples, ...), float; vectors may be CSR.
        options: Fields of `NeighbourOptions`.

    Returns:
        table: indices, nearest first, shape (n_samples, k), int32.
        card: how they were searched, and the share of the true neighbours that a sample of rows found.

    Raises:
        ModuleNotFoundError: if there are more than `exact_rows` and faiss is not installed.
        ValueError: if an option is wrong, the cache is no folder, k is not below the number of rows, or the rows are
            not finite.
    """
    chosen = build(NeighbourOptions, options, "neighbours")
    if chosen.k == 0:
        return _nothing(features)
    check_folder(chosen.cache, "neighbours.cache")
    _check(features, chosen)
    file = _cache_file(features, chosen)
    if (known := _read(file, features, chosen)) is not None:
        logger.info("neighbours: read from %s", file)
        return known
    found = _search(features, chosen, file.with_suffix(""))
    with atomic_file(file) as target:
        sealed_arrays.write(target, found.table)
    if _is_large(features, chosen):
        write_text(file.with_suffix(".json"), json.dumps(found.card, indent=2))
    return found


def search_neighbours(features: np.ndarray | sparse.csr_matrix, options: Mapping[str, Any]) -> np.ndarray:
    """As `find_neighbours`, of rows that are asked about once: nothing is read from the cache or kept in it."""
    chosen = build(NeighbourOptions, options, "neighbours")
    if chosen.k == 0:
        return _nothing(features).table
    _check(features, chosen)
    return _search(features, chosen, None).table


def _read(file: Path, features: np.ndarray | sparse.csr_matrix, chosen: NeighbourOptions) -> Found | None:
    """What was found before; None if nothing was, or its files are damaged, which is logged."""
    n_samples = features.shape[0]
    try:
        card = parse_object(file.with_suffix(".json").read_bytes()) if _is_large(features, chosen) else dict(_EXACT)
        with file.open("rb") as opened:
            table = sealed_arrays.read(opened)
        if (table.shape, table.dtype) != ((n_samples, chosen.k), np.int32):
            raise ValueError(f"got {table.dtype} {table.shape}, expected int32 {(n_samples, chosen.k)}")
        if table.min() < -1 or table.max() >= n_samples:
            raise ValueError(f"got neighbours {table.min()} to {table.max()} of {n_samples} rows")
    except FileNotFoundError:
        return None
    except DAMAGED as error:
        logger.warning("neighbours: %s is cut short or damaged (%s): searching again", file, error)
        return None
    return Found(table, card)


def _nothing(features: np.ndarray | sparse.csr_matrix) -> Found:
    return Found(np.zeros((features.shape[0], 0), dtype=np.int32), {"search": "none"})


def _is_large(features: np.ndarray | sparse.csr_matrix, chosen: NeighbourOptions) -> bool:
    return features.shape[0] > chosen.exact_rows


def _check(features: np.ndarray | sparse.csr_matrix, chosen: NeighbourOptions) -> None:
    """Refuse rows that are too few, too short or not finite."""
    n_samples = features.shape[0]
    if chosen.k >= n_samples:
        raise ValueError(f"neighbours: k must be below the number of rows {n_samples}, got {chosen.k}")
    n_features = int(np.prod(features.shape[1:]))
    if chosen.projection >= n_features:
        raise ValueError(
            f"neighbours: projection must be below the {n_features} numbers of a row, got {chosen.projection}"
        )
    if _is_large(features, chosen) and importlib.util.find_spec("faiss") is None:
        raise ModuleNotFoundError(
            f"neighbours: {n_samples} rows are more than exact_rows {chosen.exact_rows}, and the search for that many "
            "needs faiss, which is not installed: pip install 'deep-clustering[near]'. An exact search takes time in "
            f"proportion to the square of the rows: neighbours.exact_rows: {n_samples} asks for it"
        )
    check_rows(features, "neighbours")


def leave_out(table: np.ndarray, share: float) -> np.ndarray:
    """Neighbours without the pairs that are held out.

    Args:
        table: Neighbours of each row, shape (n_samples, k).
        share: Share of the pairs that are held out.

    Returns:
        Shape (n_samples, k), int32; -1 at the end of a line for each that is left out.
    """
    if share == 0:
        return table
    rows = np.repeat(np.arange(len(table)), table.shape[1]).reshape(table.shape)
    kept = np.where(is_held_out(rows, table, share), -1, table)
    order = np.argsort(kept < 0, axis=1, kind="stable")
    return np.take_along_axis(kept, order, axis=1).astype(np.int32)


def is_held_out(first: np.ndarray, second: np.ndarray, share: float) -> np.ndarray:
    """Whether pairs of rows are held out: a matter of the pair alone, whichever row comes first.

    Args:
        first: Index of the first row of each pair.
        second: Index of the second, same shape.
        share: Share of all pairs.

    Returns:
        Booleans of the same shape.
    """
    low, high = np.minimum(first, second).astype(np.uint64), np.maximum(first, second).astype(np.uint64)
    mixed = (high << np.uint64(32)) | low
    for shift, factor in _MIX:  # the finaliser of splitmix64
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    return (mixed >> np.uint64(11)) < np.uint64(int(share * 2**53))


def _cache_file(features: np.ndarray | sparse.csr_matrix, options: NeighbourOptions) -> Path:
    """File named after all that the neighbours depend on."""
    what = {name: value for name, value in asdict(options).items() if name not in ("cache", "held_out", "exact_rows")}
    what |= {"mutual": False}  # options of 0.2, whose files hold the same neighbours
    if _is_large(features, options):
        what |= {"search": "lists"}
    key = hashlib.sha256(f"{array_sha256(features)} {json.dumps(what, sort_keys=True)}".encode()).hexdigest()
    return Path(options.cache) / f"neighbours-{key[:32]}.npy"


def _search(features: np.ndarray | sparse.csr_matrix, options: NeighbourOptions, folder: Path | None) -> Found:
    if _is_large(features, options):
        import torch  # the number of its threads is that of the run

        return search_lists(_blocks(features, options), options.k, folder, torch.get_num_threads())
    # On rows of length one, Euclidean order is that of cosine; without an argument a row is not its own neighbour.
    index = NearestNeighbors(n_neighbors=options.k, algorithm="brute").fit(_prepare(features, options))
    return Found(index.kneighbors(return_distance=False).astype(np.int32), dict(_EXACT))


def _blocks(features: np.ndarray | sparse.csr_matrix, options: NeighbourOptions) -> RowBlocks:
    """Rows as `_prepare` makes them, some at a time; the projection is that of evenly spaced rows."""
    mean = _mean(features) if options.centre else None
    projection, width = None, int(np.prod(features.shape[1:]))
    if options.projection:
        spaced = evenly_spaced(features.shape[0], _PROJECTED_ROWS)
        projection = TruncatedSVD(options.projection, random_state=0).fit(_centred(features[spaced], mean))
        width = options.projection

    def take(rows: slice | np.ndarray) -> np.ndarray:
        taken = _centred(features[rows], mean)
        if projection is not None:
            taken = projection.transform(taken)
        return np.ascontiguousarray(_of_length_one(taken) if options.metric == "cosine" else taken)

    return RowBlocks(features.shape[0], width, take, options.metric == "cosine")


def _mean(features: np.ndarray | sparse.csr_matrix) -> np.ndarray:
    total = np.zeros(int(np.prod(features.shape[1:])))
    for start in range(0, features.shape[0], _CHUNK_ROWS):
        total += _flat(features[start : start + _CHUNK_ROWS]).sum(axis=0, dtype=np.float64)
    return (total / features.shape[0]).astype(np.float32)


def _centred(rows: np.ndarray | sparse.csr_matrix, mean: np.ndarray | None) -> np.ndarray:
    flat = _flat(rows)
    return flat if mean is None else flat - mean


def _flat(rows: np.ndarray | sparse.csr_matrix) -> np.ndarray:
    """A dense copy of rows, shape (n, n_features), float32."""
    dense = rows if isinstance(rows, np.ndarray) else rows.toarray()
    return dense.reshape(len(dense), int(np.prod(dense.shape[1:]))).astype(np.float32)


def _of_length_one(rows: np.ndarray) -> np.ndarray:
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return rows


def _prepare(features: np.ndarray | sparse.csr_matrix, options: NeighbourOptions) -> np.ndarray:
    """Dense float32 rows, centred, projected and scaled as the options want them."""
    rows = _flat(features)
    if options.centre:
        rows -= rows.mean(axis=0)
    if options.projection:
        # A fixed seed: the neighbours belong to the data, not to a run.
        rows = TruncatedSVD(options.projection, random_state=0).fit_transform(rows)
    if options.metric == "cosine":
        rows = _of_length_one(rows)
    return rows

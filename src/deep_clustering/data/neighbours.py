"""Nearest neighbours of every row, computed once for all methods."""

import hashlib
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

from deep_clustering.atomic import atomic_file
from deep_clustering.checks import check_rows
from deep_clustering.data.sources.card import array_sha256
from deep_clustering.options import build

logger = logging.getLogger(__name__)

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
    held_out: Annotated[float, Ge(0), Lt(1)]
    """Share of the pairs of near rows that methods do not get as views, so that partitions can be compared by them."""
    cache: str
    """Folder of the neighbours found before: the same rows and options are not searched again."""

    dropped: ClassVar[dict[str, str]] = {
        "mutual": "dropped in 0.3.0; all k neighbours are kept, use a smaller k",
    }


def find_neighbours(features: np.ndarray | sparse.csr_matrix, options: Mapping[str, Any]) -> np.ndarray:
    """Exact nearest neighbours of every row among the others.

    Args:
        features: Rows, shape (n_samples, ...), float; vectors may be CSR.
        options: Fields of `NeighbourOptions`.

    Returns:
        Indices, nearest first, shape (n_samples, k), int32.

    Raises:
        ValueError: if an option is wrong, k is not below the number of rows, or the rows are not finite.
    """
    chosen = build(NeighbourOptions, options, "neighbours")
    if chosen.k == 0:
        return np.zeros((features.shape[0], 0), dtype=np.int32)
    _check(features, chosen)
    file = _cache_file(features, chosen)
    if file.exists():
        logger.info("neighbours: read from %s", file)
        return np.load(file, allow_pickle=False)
    table = _search(features, chosen)
    with atomic_file(file) as target:
        np.save(target, table, allow_pickle=False)
    return table


def search_neighbours(features: np.ndarray | sparse.csr_matrix, options: Mapping[str, Any]) -> np.ndarray:
    """As `find_neighbours`, of rows that are asked about once: nothing is read from the cache or kept in it."""
    chosen = build(NeighbourOptions, options, "neighbours")
    if chosen.k == 0:
        return np.zeros((features.shape[0], 0), dtype=np.int32)
    _check(features, chosen)
    return _search(features, chosen)


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
    what = {name: value for name, value in asdict(options).items() if name not in ("cache", "held_out")}
    what |= {"mutual": False}  # options of 0.2, whose files hold the same neighbours
    key = hashlib.sha256(f"{array_sha256(features)} {json.dumps(what, sort_keys=True)}".encode()).hexdigest()
    return Path(options.cache) / f"neighbours-{key[:32]}.npy"


def _search(features: np.ndarray | sparse.csr_matrix, options: NeighbourOptions) -> np.ndarray:
    # On rows of length one, Euclidean order is that of cosine; without an argument a row is not its own neighbour.
    index = NearestNeighbors(n_neighbors=options.k, algorithm="brute").fit(_prepare(features, options))
    return index.kneighbors(return_distance=False).astype(np.int32)


def _prepare(features: np.ndarray | sparse.csr_matrix, options: NeighbourOptions) -> np.ndarray:
    """Dense float32 rows, centred, projected and scaled as the options want them."""
    if isinstance(features, np.ndarray):
        rows = features.reshape(len(features), -1).astype(np.float32)
    else:
        rows = features.toarray().astype(np.float32)
    if options.centre:
        rows -= rows.mean(axis=0)
    if options.projection:
        # A fixed seed: the neighbours belong to the data, not to a run.
        rows = TruncatedSVD(options.projection, random_state=0).fit_transform(rows)
    if options.metric == "cosine":
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return rows

"""Approximate nearest neighbours: recall and time per row of the maintained indices, beside the exact search.

    python benchmarks/neighbours.py --rows 100000                     # made rows, 128 numbers of 24 directions
    python benchmarks/neighbours.py --array rows.npy --libraries usearch,faiss

Each library searches the neighbours of all rows among themselves; recall is that of the exact neighbours of 1,000 of
them. A library that is not installed is passed over.
"""

import argparse
import time
from collections.abc import Callable, Iterator

import numpy as np
from sklearn.neighbors import NearestNeighbors

_SAMPLE = 1000
_WIDTH = 128
_DIRECTIONS = 24


def make_rows(n_rows: int, seed: int = 0) -> np.ndarray:
    """Rows of length one like an encoder's: 200 clusters in 24 directions, bent into 128 numbers."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(200, _DIRECTIONS)).astype(np.float32) * 1.5
    first = random.normal(size=(_DIRECTIONS, 256)).astype(np.float32) / np.sqrt(_DIRECTIONS)
    second = random.normal(size=(256, _WIDTH)).astype(np.float32) / 16
    rows = np.empty((n_rows, _WIDTH), dtype=np.float32)
    for start in range(0, n_rows, 50_000):
        part = rows[start : start + 50_000]
        latent = centres[random.integers(0, len(centres), len(part))]
        latent = latent + random.normal(size=latent.shape).astype(np.float32)
        part[:] = np.tanh(latent @ first) @ second + 0.02 * random.normal(size=part.shape)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return rows


def usearch(rows: np.ndarray, k: int, threads: int) -> Iterator[tuple[str, np.ndarray]]:
    """HNSW of usearch, by the expansion of its search."""
    from usearch.index import Index

    for connectivity, add, look in ((16, 64, 64), (16, 128, 64)):
        index = Index(
            ndim=rows.shape[1], metric="ip", dtype="f32",
            connectivity=connectivity, expansion_add=add, expansion_search=look,
        )  # fmt: skip
        index.add(np.arange(len(rows)), rows, threads=threads)
        found = index.search(rows, k + 1, threads=threads)
        yield f"usearch HNSW {connectivity}, {add}/{look}", found.keys.astype(np.int64)


def faiss(rows: np.ndarray, k: int, threads: int) -> Iterator[tuple[str, np.ndarray]]:
    """HNSW and inverted lists of faiss."""
    import faiss as library

    library.omp_set_num_threads(threads)
    for add, look in ((64, 64),):
        index = library.IndexHNSWFlat(rows.shape[1], 16, library.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction, index.hnsw.efSearch = add, look
        index.add(rows)
        yield f"faiss HNSW 16, {add}/{look}", index.search(rows, k + 1)[1]
    for share in (0.02, 0.05):
        n_lists = int(2 * np.sqrt(len(rows)))
        quantizer = library.IndexFlatIP(rows.shape[1])
        lists = library.IndexIVFFlat(quantizer, rows.shape[1], n_lists, library.METRIC_INNER_PRODUCT)
        lists.train(rows[:: max(1, len(rows) // (40 * n_lists))])
        lists.add(rows)
        lists.nprobe = max(1, int(share * n_lists))
        yield f"faiss IVF {n_lists}, {lists.nprobe} lists", lists.search(rows, k + 1)[1]


def hnswlib(rows: np.ndarray, k: int, threads: int) -> Iterator[tuple[str, np.ndarray]]:
    """HNSW of hnswlib."""
    import hnswlib as library

    for add, look in ((64, 64),):
        index = library.Index(space="ip", dim=rows.shape[1])
        index.init_index(max_elements=len(rows), ef_construction=add, M=16)
        index.add_items(rows, num_threads=threads)
        index.set_ef(look)
        yield f"hnswlib HNSW 16, {add}/{look}", index.knn_query(rows, k + 1, num_threads=threads)[0].astype(np.int64)


def pynndescent(rows: np.ndarray, k: int, threads: int) -> Iterator[tuple[str, np.ndarray]]:
    """NN-descent of pynndescent; the first call compiles it."""
    from pynndescent import NNDescent

    NNDescent(rows[:5000], metric="cosine", n_neighbors=k + 1, n_jobs=threads, random_state=0)
    for width in (k + 1,):
        yield (
            f"pynndescent {width}",
            NNDescent(rows, metric="cosine", n_neighbors=width, n_jobs=threads, random_state=0).neighbor_graph[0],
        )


LIBRARIES: dict[str, Callable[[np.ndarray, int, int], Iterator[tuple[str, np.ndarray]]]] = {
    "usearch": usearch,
    "faiss": faiss,
    "hnswlib": hnswlib,
    "pynndescent": pynndescent,
}


def recall(found: np.ndarray, sample: np.ndarray, exact: np.ndarray) -> float:
    """Share of the exact neighbours of a sample that were found, a row not counting as its own."""
    shares = []
    for row, truth in zip(sample, exact, strict=True):
        line = [other for other in found[row] if other != row][: len(truth)]
        shares.append(len(np.intersect1d(line, truth)) / len(truth))
    return float(np.mean(shares))


def main() -> None:
    """Print one line for each index."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--array", help="rows to use instead, a .npy file; they are made of length one")
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--libraries", default=",".join(LIBRARIES))
    chosen = parser.parse_args()
    rows = make_rows(chosen.rows) if chosen.array is None else np.load(chosen.array).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    sample = np.random.default_rng(1).choice(len(rows), min(_SAMPLE, len(rows)), replace=False)
    begin = time.process_time()
    search = NearestNeighbors(n_neighbors=chosen.k + 1, algorithm="brute").fit(rows)
    exact = search.kneighbors(rows[sample], return_distance=False)
    spent = time.process_time() - begin
    exact = np.array([[o for o in line if o != row][: chosen.k] for row, line in zip(sample, exact, strict=True)])
    print(f"exact: {spent / len(sample) * 1e6:.0f} us of a core a row")
    for name in chosen.libraries.split(","):
        begin = time.process_time()
        try:
            for label, found in LIBRARIES[name](rows, chosen.k, chosen.threads):
                spent = time.process_time() - begin
                share = recall(found, sample, exact)
                print(f"{label}: {spent / len(rows) * 1e6:.0f} us of a core a row, recall {share:.4f}", flush=True)
                begin = time.process_time()
        except ImportError as error:
            print(f"{name}: not installed ({error})")


if __name__ == "__main__":
    main()

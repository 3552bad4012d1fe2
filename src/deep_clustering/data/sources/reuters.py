"""Reuters-10k: 10,000 documents of RCV1-v2 in four classes, as in DEC (Xie et al. 2016) and its followers."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from annotated_types import Ge, Le
from scipy import sparse

from deep_clustering.data.places import absolute
from deep_clustering.data.sources.array_files import read_array
from deep_clustering.data.sources.downloads import raw_folder
from deep_clustering.data.sources.prepared import existing, file_hash, read_mat, read_sparse
from deep_clustering.data.sources.rcv1 import ROOTS, rows_from_files, rows_from_scikit_learn
from deep_clustering.data.sources.samples import Samples, both
from deep_clustering.data.sources.tfidf import idf_of, scale_rows

logger = logging.getLogger(__name__)

MAT_SHA256 = "aa0774a824889efe0597f0d42c6a795c99f312f89819afde957746fb7f0588b1"
"""Of the `reuters10k.mat` that published results use."""
MAX_TERMS = 2000

_MAT_FILE = (
    "the prepared reuters10k.mat (keys X, Y); for other forms of the data set source_format to npz, raw or sklearn"
)
_NPZ_FILE = "prepared sparse rows (.npz); for other forms of the data set source_format to mat, raw or sklearn"


class _Part(NamedTuple):
    """What one of the formats gives."""

    rows: sparse.csr_matrix
    labels: np.ndarray
    vocabulary: list[str]
    about: dict[str, Any]
    idf: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class Reuters10k:
    """Reuters-10k from whichever form of it is at hand; every form gives rows of length sqrt(n_terms)."""

    source_format: Literal["mat", "npz", "raw", "sklearn"]
    """mat: prepared `reuters10k.mat`; npz: prepared sparse rows; raw: RCV1-v2 topics and token files, by DEC's recipe;
    sklearn: scikit-learn's RCV1, which has other terms and only approximates the recipe."""
    root: str
    """Folder of the raw files, or scikit-learn's data folder; prepared files are looked for here too."""
    path: str | None
    """Prepared file; null means reuters10k.mat or reuters10k_rcv1.npz in `root`."""
    labels: str | None
    """Classes beside a prepared npz that has none, integers in a `.npy` file; or null."""
    subset: Literal["original", "dec_keras"]
    """raw and sklearn: original permutes all documents and takes the first ones, as DEC does; dec_keras takes the first
    ones of the files and permutes those. The two are different documents."""
    n_documents: Annotated[int, Ge(0)]
    """raw and sklearn: how many to take; 0 takes all 685,071."""
    seed: Annotated[int, Ge(0), Le(2**32 - 1)]
    """Of the permutation; DEC has 1234."""
    download: bool
    """sklearn: fetch RCV1 (about 1 GB) if it is not in `root`."""

    def load(self) -> Samples:
        """Read or make the rows."""
        part = _FORMATS[self.source_format](self)
        about = {
            "name": "reuters10k",
            "licence": "RCV1-v2 (Lewis et al. 2004): made available by Reuters Ltd. for research",
            "class_names": list(ROOTS),
            "value_range": [0.0, float(np.sqrt(part.rows.shape[1]))],
            "protocol": "all rows",
            "source_format": self.source_format,
            **part.about,
        }
        return Samples(part.rows, part.labels, both(part.rows.shape[0]), part.vocabulary, about, part.idf)


def _from_mat(options: Reuters10k) -> _Part:
    path = existing(options.path or Path(options.root) / "reuters10k.mat", _MAT_FILE)
    found = file_hash(path)
    if found != MAT_SHA256:
        logger.warning(
            "%s is not the known reuters10k.mat: expected sha256 %s, got %s; do not compare it with published figures",
            path,
            MAT_SHA256,
            found,
        )
    rows, labels = read_mat(path)
    if len(labels) and labels.min() == 1 and labels.max() == len(ROOTS):
        labels = labels - 1  # MATLAB counts from 1
    _check_classes(labels, path)
    vocabulary = [f"term_{column}" for column in range(rows.shape[1])]
    note = "prepared file, the known one" if found == MAT_SHA256 else "prepared file, not the known one"
    about = {"source": path.name, "source_sha256": found, "note": note}
    return _Part(scale_rows(rows, str(path)), labels, vocabulary, about)


def _from_npz(options: Reuters10k) -> _Part:
    path = existing(options.path or Path(options.root) / "reuters10k_rcv1.npz", _NPZ_FILE)
    rows, others = read_sparse(path)
    if options.labels is None and "y" not in others:
        raise ValueError(f"ingestion: {path} has no classes 'y'; name a .npy file of them in 'labels'")
    labels = (others["y"] if options.labels is None else read_array(absolute(options.labels), "labels")).ravel()
    if labels.dtype.kind not in "iu":
        raise ValueError(f"ingestion: {path}: expected classes as integers, got {labels.dtype}")
    labels = labels.astype(np.int64)
    names = [str(name) for name in others.get("class_names", np.array(ROOTS)).tolist()]
    if sorted(names) != sorted(ROOTS):
        raise ValueError(f"ingestion: {path}: expected the classes {', '.join(ROOTS)}, got {', '.join(names)}")
    _check_classes(labels, path)
    labels = np.array([ROOTS.index(name) for name in names])[labels]
    note = "rebuild by DEC's recipe: not the rows of reuters10k.mat"
    about = {"source": path.name, "source_sha256": file_hash(path), "note": note}
    return _Part(scale_rows(rows, str(path)), labels, _terms(others, rows.shape[1], path), about)


def _terms(others: dict[str, np.ndarray], n_terms: int, path: Path) -> list[str]:
    """The file's own terms, or names made of its term numbers, or of the columns."""
    if "vocabulary" in others:
        terms = [str(term) for term in others["vocabulary"].tolist()]
    else:
        terms = [f"term_{number}" for number in others.get("term_id", np.arange(n_terms)).tolist()]
    if len(terms) != n_terms:
        raise ValueError(f"ingestion: {path}: expected one term for each of the {n_terms} columns, got {len(terms)}")
    return terms


def _check_classes(labels: np.ndarray, path: Path) -> None:
    if len(labels) and not (labels.min() >= 0 and labels.max() < len(ROOTS)):
        raise ValueError(
            f"ingestion: {path}: expected classes 0 to {len(ROOTS) - 1}, got {labels.min()} to {labels.max()}"
        )


def _from_raw(options: Reuters10k) -> _Part:
    rows, labels, vocabulary = rows_from_files(raw_folder(options.root), MAX_TERMS)
    note = "DEC's recipe on the files of RCV1-v2; terms and weights are those of all documents with one root topic"
    about = {"source": "RCV1-v2 topics and token files", "note": note}
    return _subset(_Part(rows, labels, vocabulary, about, idf_of(rows)), options)


def _from_scikit_learn(options: Reuters10k) -> _Part:
    rows, labels, vocabulary = rows_from_scikit_learn(raw_folder(options.root), options.download, MAX_TERMS)
    note = (
        "only approximates DEC's recipe: scikit-learn's terms come weighted, and the 2,000 in most documents are kept"
    )
    return _subset(_Part(rows, labels, vocabulary, {"source": "sklearn.datasets.fetch_rcv1", "note": note}), options)


def _subset(part: _Part, options: Reuters10k) -> _Part:
    chosen = choose_documents(len(part.labels), options.n_documents, options.subset, options.seed)
    about = part.about | {"n_candidates": len(part.labels), "subset": options.subset}
    return part._replace(rows=part.rows[chosen], labels=part.labels[chosen], about=about)


def choose_documents(n_candidates: int, n_documents: int, subset: str, seed: int) -> np.ndarray:
    """Which documents make the data set, and in which order.

    Args:
        n_candidates: Documents there are.
        n_documents: Documents to take; 0 takes all.
        subset: original or dec_keras, see `Reuters10k.subset`.
        seed: Of the permutation.

    Returns:
        Indices, shape (n_documents,).

    Raises:
        ValueError: if there are too few.
    """
    if n_documents > n_candidates:
        raise ValueError(
            f"ingestion: n_documents must be at most {n_candidates}, the documents of one root topic, got {n_documents}"
        )
    n_documents = n_documents or n_candidates
    draws = np.random.RandomState(seed)  # the published subset comes from this generator
    if subset == "original":
        return draws.permutation(n_candidates)[:n_documents]
    return draws.permutation(n_documents)


_FORMATS = {"mat": _from_mat, "npz": _from_npz, "raw": _from_raw, "sklearn": _from_scikit_learn}

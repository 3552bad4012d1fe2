"""RCV1-v2 as distributed: topics and token files (LYRL2004, online appendices 8 and 12), or scikit-learn's copy."""

import gzip
import logging
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from scipy import sparse

from deep_clustering.data.sources.tfidf import as_csr, tfidf
from deep_clustering.training.progress import Reading, meter

logger = logging.getLogger(__name__)

ROOTS = ("CCAT", "GCAT", "MCAT", "ECAT")
TOPICS_FILE = "rcv1-v2.topics.qrels"
TOKEN_FILES = (*(f"lyrl2004_tokens_test_pt{part}.dat" for part in range(4)), "lyrl2004_tokens_train.dat")
N_TRAIN = 23_149
"""Documents of the training part, which scikit-learn puts first and DEC last."""


def read_topics(lines: Iterable[str], where: str) -> dict[int, int]:
    """Documents under exactly one of the four roots.

    Args:
        lines: Of `rcv1-v2.topics.qrels`: topic, document number, 1.
        where: Their file, for the messages.

    Returns:
        Document number to index in `ROOTS`.

    Raises:
        ValueError: naming the line that is not of that form, or if no document is left.
    """
    roots: dict[int, int] = {}
    several: set[int] = set()
    for number, line in enumerate(lines, start=1):
        parts = line.split()
        if not parts:
            continue
        if len(parts) < 2:
            raise ValueError(f"{where}, line {number}: expected 'topic document 1', got {line[:80]!r}")
        if parts[0] not in ROOTS:
            continue
        document = _document_number(parts[1], f"{where}, line {number}")
        if document in roots:
            several.add(document)
        roots[document] = ROOTS.index(parts[0])
    single = {document: root for document, root in roots.items() if document not in several}
    if not single:
        raise ValueError(f"{where}: no document with exactly one of the topics {', '.join(ROOTS)}")
    return single


def read_documents(lines: Iterable[str], where: str) -> Iterator[tuple[int, str]]:
    """Documents of a token file.

    Args:
        lines: Of one file: '.I number', '.W', lines of tokens, an empty line, and so on.
        where: The file, for the messages.

    Yields:
        Document number and text.

    Raises:
        ValueError: naming the line that breaks this form.
    """
    document, text = None, ""
    for number, line in enumerate(lines, start=1):
        here = f"{where}, line {number}"
        if line.startswith(".I"):
            if document is not None:
                yield document, _with_text(document, text, here)
            parts = line.split()
            document, text = _document_number(parts[1] if len(parts) > 1 else "", here), ""
        elif line.startswith(".W"):
            if document is None or text:
                raise ValueError(f"{here}: expected '.W' right behind '.I number'")
        elif document is None:
            if line.strip():
                raise ValueError(f"{here}: expected '.I number' before any text, got {line[:80]!r}")
        else:
            text += line
    if document is not None:
        yield document, _with_text(document, text, f"{where}, at its end")


def _document_number(text: str, where: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise ValueError(f"{where}: expected the number of a document, got {text[:80]!r}")
    return int(text)


def _with_text(document: int, text: str, where: str) -> str:
    if not text:
        raise ValueError(f"{where}: document {document} has no text, the file is cut short or damaged")
    return text


def rows_from_files(root: Path, max_terms: int) -> tuple[sparse.csr_matrix, np.ndarray, list[str]]:
    """Rows of all documents with one root topic, in the order of DEC: test parts 0 to 3, then the training part.

    Args:
        root: Folder of the topics file and the five token files; each may be gzipped (`.gz`).
        max_terms: Largest number of terms.

    Returns:
        rows: tf-idf, shape (n_documents, n_terms).
        labels: index in `ROOTS`, shape (n_documents,), int64.
        vocabulary: the terms.

    Raises:
        FileNotFoundError: naming every missing file.
        ValueError: if a file is damaged, or the token files lack documents of the topics file.
    """
    files = {name: _find(root, name) for name in (TOPICS_FILE, *TOKEN_FILES)}
    missing = [name for name, path in files.items() if path is None]
    if missing:
        raise FileNotFoundError(f"ingestion: {root} lacks {', '.join(missing)}; each may also end in .gz")
    paths = [path for path in files.values() if path is not None]
    classes = read_topics(_lines(paths[0]), str(paths[0]))
    logger.info("%s: %d documents with one root topic", paths[0].name, len(classes))
    labels: list[int] = []
    rows, vocabulary = tfidf(_texts(paths[1:], classes, labels), max_terms)
    if len(labels) != len(classes):
        raise ValueError(
            f"ingestion: {root}: expected text for each of the {len(classes)} documents with one root topic in "
            f"{TOPICS_FILE}, the token files have {len(labels)}"
        )
    return rows, np.array(labels, dtype=np.int64), vocabulary


def _texts(paths: list[Path], classes: dict[int, int], labels: list[int]) -> Iterator[str]:
    """Texts of the documents of `classes`; their classes are put into `labels` on the way."""

    def text(reading: Reading) -> str:
        return f"{reading.done} of {reading.total} documents read, {reading.left:.0f} s left"

    with meter(paths[0].parent.name, "document", len(classes), text) as count:
        for path in paths:
            for document, words in read_documents(_lines(path), str(path)):
                if document in classes:
                    labels.append(classes[document])
                    yield words
                    count(1)


def _find(root: Path, name: str) -> Path | None:
    return next((path for path in (root / name, root / f"{name}.gz") if path.is_file()), None)


def _lines(path: Path) -> Iterator[str]:
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8") as file:
            yield from file
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected plain text, got other bytes ({error})") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: expected a gzip file, got one cut short or damaged ({error})") from error


def rows_from_scikit_learn(
    root: Path, download: bool, max_terms: int
) -> tuple[sparse.csr_matrix, np.ndarray, list[str]]:
    """Rows of the same documents in the same order from scikit-learn's copy, which only approximates the recipe.

    Its 47,236 terms come weighted and without names; the `max_terms` that most documents hold are kept and the rows
    normalised again. The copy is a cache of joblib files, which are pickles, written by scikit-learn itself: point
    `root` at no folder of somebody else.

    Args:
        root: scikit-learn's data folder.
        download: Fetch the data if they are not there.
        max_terms: Largest number of terms.

    Returns:
        rows, labels and vocabulary as `rows_from_files` gives them; the terms are called term_<column>.

    Raises:
        FileNotFoundError: if the data are neither there nor can be had.
    """
    from sklearn.datasets import fetch_rcv1
    from sklearn.preprocessing import normalize

    try:
        rcv1 = fetch_rcv1(data_home=str(root), download_if_missing=download)
    except OSError as error:
        way = "downloading them failed" if download else "set download: true to fetch them"
        raise FileNotFoundError(f"ingestion: {root} has no RCV1 data of scikit-learn; {way} ({error})") from error
    names = rcv1.target_names.tolist()
    membership = rcv1.target[:, [names.index(root_topic) for root_topic in ROOTS]].toarray()
    order = np.roll(np.arange(len(membership)), -N_TRAIN)
    order = order[membership[order].sum(axis=1) == 1]
    weights = sparse.csr_matrix(rcv1.data)[order]
    frequency = np.bincount(weights.indices, minlength=weights.shape[1])
    columns = np.sort(np.argsort(-frequency, kind="stable")[:max_terms])
    rows = normalize(weights[:, columns]) * np.sqrt(len(columns))
    return as_csr(rows), membership[order].argmax(axis=1).astype(np.int64), [f"term_{index}" for index in columns]

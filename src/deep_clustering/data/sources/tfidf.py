"""Documents to tf-idf rows: the one recipe of every source of text."""

import logging
from collections.abc import Iterable, Sequence

import numpy as np
from scipy import sparse

from deep_clustering.data.sources.terms import make_counter, plain_words

logger = logging.getLogger(__name__)


def tfidf(
    documents: Iterable[str], max_terms: int, unfitted: Iterable[str] = (), analyzer: str = "word"
) -> tuple[sparse.csr_matrix, list[str]]:
    """Rows of term weights, each of Euclidean length sqrt(n_terms).

    Counts tf of the `max_terms` most frequent terms; weight = (1 + ln tf) * (1 + ln((1 + n) / (1 + df))), where df of
    the n documents hold the term; each row divided by its length and multiplied by sqrt(n_terms). This is what DEC
    (Xie et al. 2016) does to Reuters.

    Args:
        documents: Texts that define terms and weights; read once, one after the other.
        max_terms: Largest number of terms.
        unfitted: Texts that get rows but have no say in terms and weights.
        analyzer: word or char, see `make_counter`.

    Returns:
        rows: of `documents`, then of `unfitted`, shape (n_documents, n_terms), CSR float32 with sorted indices.
        vocabulary: the term of each column.

    Raises:
        ValueError: if there are fewer than two documents, or none has a term.
    """
    from sklearn.feature_extraction.text import TfidfTransformer

    counter = make_counter(analyzer, dtype=np.float64, max_features=max_terms)
    try:
        counts = counter.fit_transform(documents)
    except ValueError as error:
        if "empty vocabulary" not in str(error):  # the documents may be a reader with errors of its own
            raise
        terms = "words of at least two letters or digits" if analyzer == "word" else "letters or digits"
        raise ValueError(f"ingestion: no usable terms: expected documents with {terms}, got none") from error
    if counts.shape[0] < 2:
        raise ValueError(f"ingestion: tf-idf needs at least 2 documents, got {counts.shape[0]}")
    weights = TfidfTransformer(norm="l2", sublinear_tf=True).fit(counts)
    rows = weights.transform(counts)
    others = list(unfitted)
    if others:
        rows = sparse.vstack([rows, weights.transform(counter.transform(others))])
    return as_csr(rows * np.sqrt(rows.shape[1])), counter.get_feature_names_out().tolist()


def idf_of(rows: sparse.csr_matrix) -> np.ndarray:
    """Weight of each term among the documents that defined the terms: 1 + ln((1 + n) / (1 + df)).

    Args:
        rows: What `tfidf` made of all these documents, and of no other; a weight is zero only where the term is not.

    Returns:
        Shape (n_terms,), float64.
    """
    return 1 + np.log((1 + rows.shape[0]) / (1 + np.bincount(rows.indices, minlength=rows.shape[1])))


def weigh_texts(
    texts: Iterable[str], terms: Sequence[str], idf: np.ndarray, analyzer: str = "word", *, keeps_marks: bool = True
) -> sparse.csr_matrix:
    """Rows of new texts, by the terms and weights of the documents that `tfidf` saw.

    Args:
        texts: The texts.
        terms: The term of each column.
        idf: Weight of each term, shape (n_terms,), see `idf_of`.
        analyzer: What the terms are, as in `tfidf`.
        keeps_marks: Whether words keep the marks on their letters, as in `tfidf`; in earlier versions they did not.

    Returns:
        Shape (n_texts, n_terms), CSR float32; a text without any of the terms is a row of zeros.
    """
    from sklearn.preprocessing import normalize

    counter = make_counter(analyzer, dtype=np.float64, vocabulary=list(terms))
    if analyzer == "word" and not keeps_marks:
        counter.set_params(analyzer=plain_words)
    counts = counter.transform(texts).tocsr()
    counts.data = (1 + np.log(counts.data)) * idf[counts.indices]
    return as_csr(normalize(counts) * np.sqrt(len(terms)))


def as_csr(rows: np.ndarray | sparse.spmatrix | sparse.sparray) -> sparse.csr_matrix:
    """The same values as CSR float32: int32 indices, sorted, no duplicates and no stored zeros.

    Args:
        rows: Shape (n_samples, n_features), dense or of any sparse format.

    Returns:
        The rows in one form, so that equal values have an equal sha256.
    """
    with np.errstate(over="ignore"):  # what does not fit is infinite, and refused where rows are checked
        csr = sparse.csr_matrix(rows).astype(np.float32)
    csr.sum_duplicates()
    csr.eliminate_zeros()
    csr.indices, csr.indptr = csr.indices.astype(np.int32), csr.indptr.astype(np.int32)
    return csr


def row_lengths(rows: sparse.csr_matrix) -> np.ndarray:
    """Euclidean length of each row, shape (n_samples,), float64."""
    squares = np.concatenate([[0.0], np.cumsum(rows.data.astype(np.float64) ** 2)])
    return np.sqrt(np.maximum(squares[rows.indptr[1:]] - squares[rows.indptr[:-1]], 0.0))


def scale_rows(rows: sparse.csr_matrix, where: str) -> sparse.csr_matrix:
    """Rows of length 1 made as long as the recipe makes them, sqrt(n_terms).

    Args:
        rows: Prepared tf-idf rows, shape (n_documents, n_terms); rows of zeros stay.
        where: What they were read from, for the log.

    Returns:
        The scaled rows. Rows of the recipe's length already, or of no common length, are returned as they are; the
        latter are logged.
    """
    root = float(np.sqrt(rows.shape[1]))
    lengths = row_lengths(rows)
    lengths = lengths[lengths > 0]
    if np.allclose(lengths, 1.0, rtol=1e-3):
        return as_csr(rows.astype(np.float64) * root)
    if not np.allclose(lengths, root, rtol=1e-3):
        logger.warning(
            "%s: rows have Euclidean lengths from %.4g to %.4g, expected 1 or %.4g for each; they are kept as they are",
            where,
            lengths.min(),
            lengths.max(),
            root,
        )
    return rows

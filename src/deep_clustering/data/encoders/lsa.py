"""Latent semantic analysis: rows of terms, projected on their leading singular vectors.

Texts that tell of one thing in other words share these directions. It needs no model of anybody.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from deep_clustering.data.sources.terms import term_function
from deep_clustering.data.sources.tfidf import weigh_texts

if TYPE_CHECKING:
    from deep_clustering.data.feature_options import FeatureOptions

logger = logging.getLogger(__name__)

DIRECTIONS, TERMS, IDF, ANALYZER = "lsa_directions", "lsa_terms", "lsa_idf", "lsa_analyzer"
# There if words keep the marks on their letters, which they did not in earlier versions.
_KEEPS_MARKS = "lsa_keeps_marks"
# A singular value below this share of the largest is a rounding error of float32.
_ZERO = 1e-5


def fit_lsa(
    samples: np.ndarray | sparse.csr_matrix,
    texts: Sequence[str],
    is_fitted: np.ndarray,
    options: "FeatureOptions",
    analyzer: str = "word",
) -> dict[str, np.ndarray]:
    """Find terms, their weights and directions.

    Args:
        samples: Rows of terms, CSR; used as they are where there are no texts.
        texts: The texts themselves; they get terms of their own, see `FeatureOptions`.
        is_fitted: What has a say, shape (n,), boolean.
        options: `lsa`, `max_terms`, `max_df` and `min_df` are used.
        analyzer: What the terms of texts are, word or char, see `make_counter`.

    Returns:
        What `project` needs: directions (lsa, n_terms), float32, fewer if the rows have no more, and of texts their
        terms, as bytes of UTF-8, idf, and the analyzer unless it is word.

    Raises:
        ValueError: if samples are neither texts nor sparse rows, no term is left, or there are more directions than
            so many rows and terms may have, or fewer than two.
    """
    from sklearn.decomposition import TruncatedSVD

    arrays: dict[str, np.ndarray] = {}
    if texts:
        fitted_texts = [text for text, chosen in zip(texts, is_fitted, strict=True) if chosen]
        arrays = _fit_terms(fitted_texts, options, analyzer)
        rows = _weigh(texts, arrays)
        n_blank = int(np.count_nonzero(np.diff(rows.indptr) == 0))
        if n_blank:
            logger.warning("features: lsa: %d texts have none of the %d terms", n_blank, rows.shape[1])
    elif sparse.issparse(samples):
        rows = sparse.csr_matrix(samples)
    else:
        raise ValueError(
            f"features: encoder 'lsa' needs texts or sparse rows of terms, got {samples.dtype} {samples.shape}"
        )
    fitted = rows[is_fitted]
    if options.lsa >= min(fitted.shape):
        raise ValueError(
            f"features: lsa must be below the {min(fitted.shape)} directions that {fitted.shape[0]} rows of "
            f"{fitted.shape[1]} terms may have, got {options.lsa}"
        )
    # A fixed seed: rows belong to the data, not to a run.
    model = TruncatedSVD(options.lsa, random_state=0).fit(fitted)
    rank = int(np.count_nonzero(model.singular_values_ > _ZERO * model.singular_values_[0]))
    if rank < 2:
        raise ValueError(f"features: lsa: rows of fewer than two directions cannot be told apart by it, got {rank}")
    if rank < options.lsa:
        logger.warning(
            "features: lsa: the rows have %d directions, which are taken in the place of %d", rank, options.lsa
        )
    return {**arrays, DIRECTIONS: model.components_[:rank].astype(np.float32)}


def project(
    samples: np.ndarray | sparse.csr_matrix, texts: Sequence[str], arrays: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Rows of texts, or of their terms.

    Args:
        samples: Rows of terms, as in `fit_lsa`.
        texts: The texts themselves, if there were some in `fit_lsa`.
        arrays: What `fit_lsa` gave.

    Returns:
        Shape (n, lsa), float32; a text without any of the terms is a row of zeros.
    """
    rows = _weigh(texts, arrays) if TERMS in arrays else sparse.csr_matrix(samples)
    return np.asarray(rows @ arrays[DIRECTIONS].T, dtype=np.float32)


def _fit_terms(texts: Sequence[str], options: "FeatureOptions", analyzer: str) -> dict[str, np.ndarray]:
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectoriser = TfidfVectorizer(
        analyzer=term_function(analyzer),
        max_features=options.max_terms,
        max_df=options.max_df,
        min_df=options.min_df,
    )
    try:
        vectoriser.fit(texts)
    except ValueError as error:  # its own words are "empty vocabulary", "no terms remain" or "fewer documents"
        raise ValueError(
            f"features: lsa: no term stands in at least {options.min_df} and at most {options.max_df:g} of the "
            f"{len(texts)} texts; expected max_df and min_df that leave some"
        ) from error
    terms = "\n".join(vectoriser.get_feature_names_out())  # no term has a break of lines
    kind = {} if analyzer == "word" else {ANALYZER: np.frombuffer(analyzer.encode(), dtype=np.uint8)}
    kind[_KEEPS_MARKS] = np.ones(1, dtype=np.uint8)
    return {TERMS: np.frombuffer(terms.encode(), dtype=np.uint8), IDF: vectoriser.idf_, **kind}


def _weigh(texts: Sequence[str], arrays: Mapping[str, np.ndarray]) -> sparse.csr_matrix:
    """Rows of terms by what `_fit_terms` found."""
    terms = arrays[TERMS].tobytes().decode().split("\n")
    analyzer = arrays[ANALYZER].tobytes().decode() if ANALYZER in arrays else "word"
    return weigh_texts(texts, terms, arrays[IDF], analyzer, keeps_marks=_KEEPS_MARKS in arrays)

"""Latent semantic analysis: the oracle is numpy's singular value decomposition of scikit-learn's tf-idf rows."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer

from deep_clustering.data.encoders.encoding import encode, open_encoders

WORDS = ["oil", "wheat", "trade", "price", "ship", "bank", "rate", "gold", "corn", "steel", "tax", "yen"]


@pytest.fixture(scope="module")
def texts():
    """60 texts of 3 to 7 words, each word about equally often."""
    generator = np.random.default_rng(0)
    return [" ".join(generator.choice(WORDS, generator.integers(3, 8))) for _ in range(60)]


ALL = np.ones(60, dtype=bool)
FREE = {"encoder": "lsa", "max_df": 1.0, "min_df": 1}


def up_to_signs(rows, others):
    """Both with the largest value of each column above zero: the signs of singular vectors are free."""
    return [part * np.sign(part[np.abs(part).argmax(axis=0), range(part.shape[1])]) for part in (rows, others)]


def none(texts):
    return np.zeros((len(texts), 1), np.float32)


def test_rows_of_texts_are_their_tf_idf_rows_on_the_leading_singular_vectors(texts, make_options):
    rows = encode(none(texts), texts, ALL, make_options(**FREE, lsa=4)).rows
    weights = TfidfVectorizer(sublinear_tf=True).fit_transform(texts).toarray() * np.sqrt(len(WORDS))
    expected = weights @ np.linalg.svd(weights, full_matrices=False)[2][:4].T
    got, wanted = up_to_signs(rows, expected)
    np.testing.assert_allclose(got, wanted, atol=1e-3)
    assert rows.dtype == np.float32


def test_rows_of_terms_are_used_as_they_are(make_options):
    samples = sparse.random(40, 15, 0.4, format="csr", random_state=0, dtype=np.float32)
    rows, arrays, sha256 = encode(samples, (), np.ones(40, dtype=bool), make_options(**FREE, lsa=3))
    dense = samples.toarray()
    got, wanted = up_to_signs(rows, dense @ np.linalg.svd(dense, full_matrices=False)[2][:3].T)
    np.testing.assert_allclose(got, wanted, atol=1e-3)
    assert sha256 is None
    apply = open_encoders(make_options(**FREE, lsa=3), arrays, None)
    np.testing.assert_array_equal(apply(samples[7:8]), rows[7:8])


def test_new_texts_get_the_rows_that_they_had(texts, make_options):
    options = make_options(**FREE, lsa=4)
    rows, arrays, _ = encode(none(texts), texts, ALL, options)
    apply = open_encoders(options, arrays, None)
    np.testing.assert_array_equal(apply(texts), rows)
    np.testing.assert_array_equal(apply(texts[5:6]), rows[5:6])
    np.testing.assert_array_equal(apply(["nothing known"]), np.zeros((1, 4)))


def test_only_fitted_texts_have_a_say(texts, make_options):
    options = make_options(**FREE, lsa=4)
    fitted = np.arange(60) < 40
    first = encode(none(texts), texts, fitted, options).rows
    other = encode(none(texts), [*texts[:40], *["unseen words only"] * 20], fitted, options).rows
    np.testing.assert_array_equal(first[:40], other[:40])
    np.testing.assert_array_equal(other[40:], 0)


def test_terms_are_limited_by_the_texts_that_hold_them(make_options, caplog):
    texts = ["common oil", "common oil", "common wheat", "common wheat", "common trade", "common trade", "common rare"]
    options = make_options(encoder="lsa", lsa=2, max_df=0.9, min_df=2)
    rows, arrays, _ = encode(none(texts), texts, np.ones(7, dtype=bool), options)
    assert arrays["lsa_terms"].tobytes().decode().split("\n") == ["oil", "trade", "wheat"]
    np.testing.assert_array_equal(rows[6], 0)
    assert "lsa: 1 texts have none of the 3 terms" in caplog.text
    few = make_options(encoder="lsa", lsa=2, max_df=1.0, min_df=1, max_terms=3)
    assert b"common" in encode(none(texts), texts, np.ones(7, dtype=bool), few).arrays["lsa_terms"].tobytes()


def test_two_runs_agree_bit_for_bit(texts, make_options):
    one, other = (encode(none(texts), texts, ALL, make_options(**FREE, lsa=5)) for _ in range(2))
    np.testing.assert_array_equal(one.rows, other.rows)


# What is refused


def test_more_directions_than_terms_or_texts_are_refused(texts, make_options):
    with pytest.raises(ValueError, match="lsa must be below the 12 directions that 60 rows of 12 terms may have, g"):
        encode(none(texts), texts, ALL, make_options(**FREE, lsa=12))
    with pytest.raises(ValueError, match=r"lsa must be below the 5 directions that 5 rows of .* got 100"):
        encode(none(texts[:5]), texts[:5], ALL[:5], make_options(**FREE))


def rows_of_rank(rank: int) -> sparse.csr_matrix:
    generator = np.random.default_rng(0)
    return sparse.csr_matrix(generator.random((30, rank)) @ generator.random((rank, 10)), dtype=np.float32)


def test_of_more_directions_than_rank_all_that_there_are_are_taken(make_options, caplog):
    samples = rows_of_rank(3)
    encoded = encode(samples, (), np.ones(30, dtype=bool), make_options(**FREE, lsa=5))
    assert encoded.rows.shape == (30, 3)
    np.testing.assert_allclose(encoded.rows @ encoded.rows.T, (samples @ samples.T).toarray(), rtol=1e-3)
    assert "the rows have 3 directions, which are taken in the place of 5" in caplog.text


def test_rows_of_one_direction_are_refused(make_options):
    with pytest.raises(ValueError, match="rows of fewer than two directions cannot be told apart by it, got 1"):
        encode(rows_of_rank(1), (), np.ones(30, dtype=bool), make_options(**FREE, lsa=5))


def test_texts_without_a_usable_term_are_refused(make_options):
    texts = [f"word{index}" for index in range(9)]
    with pytest.raises(ValueError, match=r"no term stands in at least 2 and at most 0\.3 of the 9 texts"):
        encode(none(texts), texts, np.ones(9, dtype=bool), make_options(encoder="lsa", lsa=2))


@pytest.mark.parametrize("samples", [np.zeros((5, 1, 4, 4), np.uint8), np.zeros((5, 4), np.float32)])
def test_other_data_are_refused(samples, make_options):
    with pytest.raises(ValueError, match="encoder 'lsa' needs texts or sparse rows of terms, got "):
        encode(samples, (), np.ones(5, dtype=bool), make_options(**FREE, lsa=2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder": "lsi"}, r"features: encoder got 'lsi' \(did you mean 'lsa'\?; expected lsa, onnx:<folder>, "),
        ({"encoder": "onnx:"}, r"encoder got 'onnx:' \(did you mean 'onnx'\?; expected lsa, onnx:<folder>"),
        ({"encoder": []}, r"encoder expected different encoders, got \[\]"),
        ({"encoder": ["lsa", "lsa"]}, "encoder expected different encoders, got "),
        ({"encoder": ["onnx:x", "onnx:x/"]}, "encoder expected different encoders, got "),
        ({"encoder": ["onnx:./a/../x", "lsa", "onnx:x"]}, "encoder expected different encoders, got "),
        ({"encoder": ["model2vec:x/", "model2vec:x"]}, "encoder expected different encoders, got "),
        ({"encoder": "lsa", "backbone": "resnet18"}, "backbone 'resnet18' is of images, encoder 'lsa' of texts"),
        ({"encoder": ["lsa", "model2vec:x"]}, "several encoders need postprocess centre_l2.*got 'none'"),
        ({"encoder": "lsa", "lsa": 1}, "lsa must be at least 2, got 1"),
        ({"encoder": "lsa", "max_df": 0.0}, "max_df must be above 0"),
        ({"encoder": "lsa", "max_df": 2}, "max_df must be .*at most 1, got 2"),
        ({"encoder": "lsa", "pooling": "max"}, "pooling got 'max'"),
        ({"encoder": "lsa", "max_tokens": 4}, "max_tokens must be at least 8, got 4"),
    ],
)
def test_wrong_options_are_refused(make_options, changes, message):
    with pytest.raises(ValueError, match=message):
        make_options(**changes)

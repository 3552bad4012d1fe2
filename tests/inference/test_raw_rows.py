"""Raw rows in every form they may have, and those that are refused."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from deep_clustering.data.preparation import Preparation
from deep_clustering.data.sources.tfidf import idf_of, tfidf
from deep_clustering.inference.raw_rows import as_samples, count_rows, example_rows

CORPUS = ["oil prices rise", "wheat and oil", "wheat trade", "trade talks"]


def preparation(row_shape, dtype="float32", **changes):
    fields = {
        "data_set": "some",
        "data_sha256": "0" * 64,
        "row_shape": row_shape,
        "dtype": dtype,
        "is_sparse": False,
        "value_range": (0.0, 16.0),
        "fit": "crop",
        "options": {},
        "weights_sha256": None,
        "terms": (),
        "arrays": {},
        "reads_texts": False,
    }
    return Preparation(**fields | changes)


GREY = preparation((1, 2, 3), "uint8")
COLOUR = preparation((3, 2, 4), "uint8", value_range=(0.0, 255.0))
VECTORS = preparation((3,))
ROWS, TERMS = tfidf(CORPUS, 2000)
READ = preparation((len(TERMS),), is_sparse=True, terms=tuple(TERMS), reads_texts=True)
TEXTS = preparation((len(TERMS),), is_sparse=True, terms=tuple(TERMS), arrays={"idf": idf_of(ROWS)})


@pytest.mark.parametrize(
    "form",
    [
        lambda images: images,
        lambda images: images[:, 0],
        lambda images: images.transpose(0, 2, 3, 1),
        lambda images: images.reshape(len(images), -1),
        lambda images: images.astype(np.float64),
        lambda images: images.tolist(),
        lambda images: pd.DataFrame(images.reshape(len(images), -1)),
        lambda images: sparse.csr_matrix(images.reshape(len(images), -1)),
        lambda images: images.reshape(len(images), -1).astype(object),
    ],
)
def test_grey_images_in_any_form(form):
    images = np.random.default_rng(0).integers(0, 17, (5, 1, 2, 3), dtype=np.uint8)
    samples = as_samples(GREY, form(images))
    assert samples.dtype == np.uint8
    np.testing.assert_array_equal(samples, images)
    assert count_rows(form(images)) == 5


def test_colour_images_with_the_channels_last():
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 2, 4), dtype=np.uint8)
    np.testing.assert_array_equal(as_samples(COLOUR, images.transpose(0, 2, 3, 1)), images)
    np.testing.assert_array_equal(as_samples(COLOUR, images.reshape(5, -1)), images)


@pytest.mark.parametrize("form", [np.asarray, np.ndarray.tolist, pd.DataFrame, sparse.csr_matrix, sparse.csc_matrix])
@pytest.mark.parametrize("is_sparse", [False, True])
def test_vectors_in_any_form(form, is_sparse):
    vectors = np.array([[0.0, 1.5, 0.0], [2.0, 0.0, -3.0]])
    samples = as_samples(preparation((3,), is_sparse=is_sparse), form(vectors))
    assert samples.dtype == np.float32
    assert sparse.issparse(samples) == is_sparse
    np.testing.assert_array_equal(samples.toarray() if is_sparse else samples, vectors)


@pytest.mark.parametrize(
    "form",
    [
        lambda texts: pd.DataFrame({"number": range(len(texts)), "text": texts}),
        lambda texts: {"text": texts},
        lambda texts: {"text": np.array(texts)},
        lambda texts: texts,
        lambda texts: np.array(texts),
        lambda texts: ROWS[[0, 3]],
        lambda texts: ROWS[[0, 3]].toarray(),
    ],
)
def test_texts_in_any_form(form):
    texts = [CORPUS[0], CORPUS[3]]
    np.testing.assert_allclose(as_samples(TEXTS, form(texts)).toarray(), ROWS[[0, 3]].toarray(), rtol=1e-6)
    assert count_rows(form(texts)) == 2


TABLE = preparation((3,), reading={"columns": ["age", "income", "height"]})
PEOPLE = pd.DataFrame({"age": [30.0, 40.0], "income": [1000.0, 2000.0], "height": [1.8, 1.6]})


@pytest.mark.parametrize(
    "table",
    [
        PEOPLE,
        PEOPLE[["height", "age", "income"]],
        PEOPLE.assign(name=["Ann", "Bob"])[["name", "income", "height", "age"]],
        PEOPLE.astype({"income": str})[["income", "height", "age"]],
        PEOPLE.set_axis(["a", "b", "c"], axis=1),
    ],
    ids=["as trained", "in another order", "beside others", "written as text", "without any name of the training"],
)
def test_columns_of_a_table_are_taken_by_their_names(table):
    np.testing.assert_allclose(as_samples(TABLE, table), PEOPLE.to_numpy(), rtol=1e-6)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (PEOPLE.rename(columns={"income": "incom"}), r"rows: no column 'income' \(did you mean 'incom'"),
        (PEOPLE[["age", "height"]], "rows: no column 'income'"),
        (PEOPLE[["age", "income", "height", "age"]], "rows: got 2 columns 'age'; expected one"),
        (PEOPLE.assign(age=["old", "young"]), "column 'age'|columns: 'age'"),
        (PEOPLE.set_axis(["a", "b", "c"], axis=1)[["a", "b"]], "rows: no column 'age'"),
    ],
)
def test_a_table_that_lacks_a_column_or_has_it_twice_is_refused(table, message):
    with pytest.raises(ValueError, match=message):
        as_samples(TABLE, table)


IMAGES = r"expected images of shape \(n, 1, 2, 3\) or 6 columns, whole numbers from 0 to 16"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((2, 5)), rf"got shape \(2, 5\); {IMAGES}"),
        (np.zeros((2, 3, 2)), rf"got shape \(2, 3, 2\); {IMAGES}"),
        (np.zeros(6), rf"got shape \(6,\); {IMAGES}"),
        (np.zeros((0, 6)), "got none; expected at least one"),
        (5.0, r"got shape \(\)"),
        (None, "got NaN or infinity, first in row 0"),
        (np.full((1, 6), 255), rf"got from 255 to 255; {IMAGES}"),
        (np.full((1, 6), -1), "got from -1 to -1"),
        (np.full((1, 6), 0.5), "got fractions from 0.5 to 0.5"),
        (np.array([[0] * 6, [0, 0, np.nan, 0, 0, 0]]), "got NaN or infinity, first in row 1"),
        ([[0] * 6, [0, 0, None, 0, 0, 0]], "got NaN or infinity, first in row 1"),
        ([[0] * 6, [0] * 5], "not numbers"),
        ([["a"] * 6], "not numbers"),
        (["a text"], rf"got texts; {IMAGES}"),
        (pd.DataFrame({"text": ["a text"]}), rf"got texts; {IMAGES}"),
        ({"images": np.zeros((1, 6))}, f"got named arrays images; {IMAGES}"),
        (sparse.csr_matrix((2, 5)), r"got shape \(2, 5\)"),
    ],
)
def test_wrong_images_are_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        as_samples(GREY, rows)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((2, 4)), r"got shape \(2, 4\); expected rows of 3 numbers"),
        (np.array([[0, 1, np.inf]]), "got NaN or infinity, first in row 0"),
        (
            np.array([[0, 1, 1e300]]),
            r"got 1e\+300, which float32 cannot hold, first in row 0 .* column 2; 1 of them so",
        ),
        (
            np.array([[0, 1, 2], [0, np.nan, np.nan], [np.inf, 0, np.nan]]),
            r"row 1 of these 3 \(from 0\), column 1; 2 of them so, in 3 of 3 columns: 0 \(1\), 1 \(1\), 2 \(2\);",
        ),
        (
            pd.DataFrame({"a": [1.0, 2.0], "b": [1.0, None], "c": [0.0, 1.0]}),
            r"row 1 of these 2 \(from 0\), column 'b'; 1 of them so, in 1 of 3 columns: 'b' \(1\);",
        ),
        (sparse.csr_matrix([[0, 0, 0], [0, 0, np.nan]]), "got NaN or infinity, first in row 1"),
        (np.array([[0, 1j, 2]]), "got complex numbers; expected real ones"),
        ([[0, 1j, 2]], "got complex numbers; expected real ones"),
        (sparse.csr_matrix([[0, 1j, 2]]), "got complex numbers; expected real ones"),
    ],
)
def test_wrong_vectors_are_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        as_samples(VECTORS, rows)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"text": []}, "got none; expected at least one, texts in a column 'text', or tf-idf rows"),
        ({"text": ["oil", " "]}, "got ' ' in row 1 of column 'text'; expected a text"),
        (pd.DataFrame({"text": ["oil", None]}), "in row 1 of column 'text'; expected a text"),
        (["oil", 3], "got 3 in row 1"),
        (np.zeros((1, 2)), r"got shape \(1, 2\); expected texts in a column 'text'"),
    ],
)
def test_wrong_texts_are_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        as_samples(TEXTS, rows)


@pytest.mark.parametrize("given", [GREY, COLOUR, VECTORS, TEXTS])
def test_the_example_is_a_row_that_is_taken(given):
    assert as_samples(given, example_rows(given)).shape == (1, *given.row_shape)


@pytest.mark.parametrize("form", [list, np.array, lambda texts: pd.DataFrame({"text": texts})])
def test_an_encoder_gets_the_texts_themselves(form):
    assert as_samples(READ, form(CORPUS)) == CORPUS
    assert as_samples(READ, example_rows(READ))[0].split() == TERMS[:3]


@pytest.mark.parametrize("rows", [ROWS, ROWS.toarray(), np.zeros((2, 5))])
def test_an_encoder_cannot_take_terms(rows):
    with pytest.raises(ValueError, match="rows: got no texts; expected texts in a column 'text'"):
        as_samples(READ, rows)


def test_an_empty_text_is_named():
    with pytest.raises(ValueError, match=r"rows: got '  ' in row 1 of column 'text'; expected a text"):
        as_samples(READ, ["oil", "  "])

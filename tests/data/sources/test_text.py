"""Texts: the tf-idf recipe from its definition, tables of the user, sparse rows of the user."""

import json
import logging
import re
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer

from deep_clustering.data.sources import load_source
from deep_clustering.data.sources.tfidf import as_csr, scale_rows, tfidf

CORPUS = ["Oil oil price", "oil trade trade trade 87", "wheat a price; x"]
WORDS = st.text(alphabet="abc ", min_size=0, max_size=12)


def recipe(documents: list[str], terms: list[str]) -> np.ndarray:
    """The recipe once more, from its definition."""
    counts = [Counter(re.findall(r"\w\w+", document.lower())) for document in documents]
    rows = np.zeros((len(documents), len(terms)))
    for column, term in enumerate(terms):
        df = sum(term in count for count in counts)
        idf = np.log((1 + len(documents)) / (1 + df)) + 1
        for row, count in enumerate(counts):
            if count[term]:
                rows[row, column] = (1 + np.log(count[term])) * idf
    return rows / np.linalg.norm(rows, axis=1, keepdims=True) * np.sqrt(len(terms))


# The recipe


def test_the_recipe_is_its_definition():
    rows, vocabulary = tfidf(CORPUS, 2000)
    assert vocabulary == ["87", "oil", "price", "trade", "wheat"]
    np.testing.assert_allclose(rows.toarray(), recipe(CORPUS, vocabulary), rtol=1e-6)


def test_the_most_frequent_terms_are_kept():
    rows, vocabulary = tfidf(CORPUS, 2)
    assert vocabulary == ["oil", "trade"]
    root = np.sqrt(2)
    oil, trade = 1 + np.log(4 / 3), (1 + np.log(3)) * (1 + np.log(4 / 2))
    length = np.hypot(oil, trade)
    expected = [[root, 0], [root * oil / length, root * trade / length], [0, 0]]
    np.testing.assert_allclose(rows.toarray(), expected, rtol=1e-6)


def test_agrees_with_scikit_learn():
    documents = [" ".join(f"w{(7 * i + j * j) % 23}" for j in range(i % 9 + 2)) for i in range(60)]
    rows, vocabulary = tfidf(iter(documents), 12)
    oracle = TfidfVectorizer(max_features=12, sublinear_tf=True, dtype=np.float64)
    expected = oracle.fit_transform(documents) * np.sqrt(12)
    assert vocabulary == oracle.get_feature_names_out().tolist()
    np.testing.assert_allclose(rows.toarray(), expected.toarray(), rtol=1e-6)


def test_rows_are_csr_float32_with_sorted_int32_indices():
    rows, _ = tfidf(CORPUS, 2000)
    assert isinstance(rows, sparse.csr_matrix)
    assert (rows.dtype, rows.indices.dtype, rows.indptr.dtype) == (np.float32, np.int32, np.int32)
    assert rows.has_canonical_format
    assert all(np.all(np.diff(rows[i].indices) > 0) for i in range(rows.shape[0]))


def test_unfitted_documents_have_no_say():
    alone, terms = tfidf(CORPUS, 2000)
    rows, vocabulary = tfidf(CORPUS, 2000, ["oil oil oil gold", "silver"])
    assert vocabulary == terms
    np.testing.assert_array_equal(rows[:3].toarray(), alone.toarray())
    np.testing.assert_allclose(rows[3].toarray(), [[0, np.sqrt(5), 0, 0, 0]], rtol=1e-6)
    assert rows[4].nnz == 0


@given(st.lists(WORDS, min_size=2, max_size=8), st.integers(1, 5), st.randoms(use_true_random=False))
def test_rows_have_one_length_and_follow_their_documents(documents, max_terms, random):
    if not any(re.search(r"\w\w", document) for document in documents):
        with pytest.raises(ValueError, match="no usable terms"):
            tfidf(documents, max_terms)
        return
    rows, vocabulary = tfidf(documents, max_terms)
    assert len(vocabulary) == rows.shape[1] <= max_terms
    lengths = np.linalg.norm(rows.toarray(), axis=1)
    empty = [not set(re.findall(r"\w\w+", document)) & set(vocabulary) for document in documents]
    np.testing.assert_allclose(lengths, np.where(empty, 0, np.sqrt(len(vocabulary))), rtol=1e-5)
    order = random.sample(range(len(documents)), len(documents))
    shuffled, _ = tfidf([documents[index].upper() for index in order], max_terms)
    np.testing.assert_allclose(shuffled.toarray(), rows.toarray()[order], rtol=1e-5)


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ([], "no usable terms"),
        (["a b", "! ?"], "no usable terms"),
        (["one document"], "at least 2 documents, got 1"),
    ],
)
def test_corpora_without_rows_are_refused(documents, message):
    with pytest.raises(ValueError, match=message):
        tfidf(documents, 10)


def test_an_error_of_the_reader_is_passed_on():
    def documents():
        yield "fine words"
        raise ValueError("line 7 is damaged")

    with pytest.raises(ValueError, match="line 7 is damaged"):
        tfidf(documents(), 10)


def test_equal_matrices_have_one_form():
    dense = np.array([[0, 2, 0], [1, 0, 3]])
    unsorted = sparse.csr_matrix(([3.0, 1, 0, 1, 1], [2, 0, 1, 1, 1], [0, 0, 5]), shape=(2, 3))
    for matrix in (dense, sparse.coo_array(dense), sparse.csc_matrix(dense.astype(np.float64))):
        csr = as_csr(matrix)
        assert (csr.data.tolist(), csr.indices.tolist(), csr.indptr.tolist()) == ([2, 1, 3], [1, 0, 2], [0, 1, 3])
    assert as_csr(unsorted).toarray().tolist() == [[0, 0, 0], [1, 2, 3]]
    assert unsorted.nnz == 5  # the caller's matrix stays as it was


def test_unit_rows_are_scaled_and_scaled_rows_stay(caplog):
    rows, _ = tfidf(CORPUS, 2000)
    unit = as_csr(rows / np.sqrt(5))
    np.testing.assert_allclose(scale_rows(unit, "x").toarray(), rows.toarray(), rtol=1e-6)
    np.testing.assert_array_equal(scale_rows(rows, "x").toarray(), rows.toarray())
    assert not caplog.records
    other = as_csr(rows * 3)
    np.testing.assert_array_equal(scale_rows(other, "mine.npz").toarray(), other.toarray())
    assert "mine.npz: rows have Euclidean lengths from 6.708 to 6.708, expected 1 or 2.236" in caplog.text


# Tables


@pytest.fixture
def table(tmp_path):
    """Function (content, name of the file, changes) that writes a file and loads it."""

    def load(content, name="texts.csv", **changes):
        path = tmp_path / name
        if isinstance(content, pd.DataFrame):
            content.to_parquet(path)
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        source = {
            "kind": "text_table",
            "name": "mine",
            "path": str(path),
            "column": "text",
            "labels_column": None,
            "encoding": "utf-8",
            "max_terms": 2000,
            "on_empty": "skip",
        }
        return load_source({"source": source | changes, "n_rows": 0})

    return load


FRAME = pd.DataFrame({"id": [1, 2, 3], "text": CORPUS, "topic": ["oil", "oil", "grain"]})


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", FRAME.to_csv(index=False)),
        ("a.TSV", FRAME.to_csv(index=False, sep="\t")),
        ("a.jsonl", FRAME.to_json(orient="records", lines=True)),
        ("a.parquet", FRAME),
    ],
)
def test_every_kind_of_table_gives_the_same(table, name, content):
    loaded, card = table(content, name, labels_column="topic")
    rows, vocabulary = tfidf(CORPUS, 2000)
    np.testing.assert_array_equal(loaded.samples.toarray(), rows.toarray())
    assert loaded.vocabulary == vocabulary
    assert loaded.labels.tolist() == [1, 1, 0]
    assert card["class_names"] == ["grain", "oil"]
    assert card["class_counts"] == [1, 2]
    assert card["is_sparse"] is True
    assert card["n_terms"] == 5
    assert card["value_range"] == [0.0, np.sqrt(5)]
    assert card["skipped_rows"] == []
    assert json.loads(json.dumps(card, allow_nan=False)) == card


def test_labels_may_be_absent(table):
    loaded, card = table(FRAME.to_csv(index=False))
    assert loaded.labels.tolist() == [-1, -1, -1]
    assert card["class_names"] is None


@pytest.mark.parametrize(
    ("values", "labels", "names"),
    [
        (["10", "9", "", "9"], [1, 0, -1, 0], ["9", "10"]),
        (["b", " a ", "b", "NA"], [2, 1, 2, 0], ["NA", "a", "b"]),
        ([7, -1, 7, 3], [1, -1, 1, 0], ["3", "7"]),
        ([7.0, None, 7.0, 3.0], [1, -1, 1, 0], ["3", "7"]),
        ([True, False, True, True], [1, 0, 1, 1], ["False", "True"]),
    ],
)
def test_classes_are_numbered(table, values, labels, names):
    frame = pd.DataFrame({"text": ["aa bb", "bb cc", "cc dd", "dd aa"], "label": values})
    loaded, card = table(frame, "a.parquet", labels_column="label")
    assert loaded.labels.tolist() == labels
    assert card["class_names"] == names


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.5, 1.0, 2.0], r"column 'label' must hold names or whole numbers, got '0\.5'"),
        ([[1], [2], [3]], "must hold names or whole numbers"),
        ([None, "", " "], "column 'label' holds no class; set labels_column: null"),
    ],
)
def test_labels_of_another_kind_are_refused(table, values, message):
    lines = "\n".join(json.dumps({"text": text, "label": label}) for text, label in zip(CORPUS, values, strict=True))
    with pytest.raises(ValueError, match=message):
        table(lines, "a.jsonl", labels_column="label")


def test_empty_rows_are_skipped_with_their_numbers(table, caplog):
    frame = pd.DataFrame({"text": ["oil price", None, "oil trade", "  \n", ""], "label": list("abcde")})
    loaded, card = table(frame, "a.parquet", labels_column="label")
    assert loaded.samples.shape == (2, 3)
    assert loaded.labels.tolist() == [0, 1]
    assert card["class_names"] == ["a", "c"]
    assert card["skipped_rows"] == [1, 3, 4]
    assert card["protocol"] == "all rows but 3 without text"
    assert "left out 3 of 5 rows without text in column 'text', the first is row 1" in caplog.text
    with pytest.raises(ValueError, match=r"3 of 5 rows without text .* the first is row 1 .*on_empty: skip"):
        table(frame, "a.parquet", on_empty="error")


def test_texts_without_a_known_term_are_counted(table, caplog):
    _, card = table("text\noil price\noil trade\n?!\n")
    assert card["n_rows_without_terms"] == 1
    assert "1 texts have none of the 3 terms" in caplog.text


def test_commas_quotes_and_line_ends_inside_a_text(table):
    loaded, _ = table('text,label\r\n"one, ""two""\r\nthree",a\r\nNULL three,b\r\n', labels_column="label")
    assert loaded.vocabulary == ["null", "one", "three", "two"]
    assert loaded.labels.tolist() == [0, 1]


def test_encodings(table):
    text = "id;text\n".replace(";", ",") + "1,Öl für Köln\n2,Weizen für München\n"
    expected = ["für", "köln", "münchen", "weizen", "öl"]
    assert table(text.encode("latin-1"), encoding="latin-1")[0].vocabulary == expected
    assert table(text.encode("utf-8"))[0].vocabulary == expected
    marked = b"\xef\xbb\xbf" + text.replace("text", "x").replace("id", "text").replace("1,", "Weizen,").encode()
    assert table(marked)[0].vocabulary == ["weizen"]
    assert table(text.encode("utf-16"), encoding="utf-16")[0].vocabulary == expected


@pytest.mark.parametrize("filler", [0, 5, (1 << 20) - 9, (1 << 20) - 8, 1 << 20])
def test_wrong_bytes_are_found_and_named(table, filler):
    content = b"text\nab " + b"x" * filler + "Köln".encode("latin-1") + b"\nab cd\n"
    message = rf"texts\.csv.*: byte {8 + filler + 1} is not utf-8 .*set 'encoding'.*latin-1"
    with pytest.raises(ValueError, match=message):
        table(content)


def test_an_utf_8_character_on_the_edge_of_a_block_is_no_error(table):
    content = b"text\nab " + b"x" * ((1 << 20) - 9) + "ö".encode() + b"\nab cd\n"
    assert table(content)[0].samples.shape[0] == 2
    with pytest.raises(ValueError, match=rf"byte {(1 << 20) - 1} is not utf-8"):
        table(content[: 1 << 20], "cut.csv")


@pytest.mark.parametrize(
    ("content", "name", "changes", "message"),
    [
        ("txt,label\na b,1\n", "a.csv", {}, r"a\.csv: no column 'text' \(did you mean 'txt'\?\)"),
        ("text,topic\naa,1\nbb,1\n", "a.csv", {"labels_column": "label"}, r"no column 'label' \(known: text, topic\)"),
        ("text\nonly this\n", "a.csv", {}, "at least 2 different texts in column 'text', got 1 in 1 rows"),
        ("text\n", "a.csv", {}, "at least 2 different texts in column 'text', got 0 in 0 rows"),
        ("text\nthe same\nthe same\n", "a.csv", {}, "at least 2 different texts in column 'text', got 1 in 2 rows"),
        ("text\na\nb\n", "a.csv", {}, "no usable terms"),
        ("", "a.csv", {}, r"a\.csv: cannot be read as \.csv: No columns"),
        ("text,label\nhello, world,a\nx, y,b\n", "a.csv", {}, "rows have more cells than the header; quote texts"),
        ("text,label\nhi,a\nx, y,b\n", "a.csv", {}, "Expected 2 fields in line 3, saw 3"),
        ('text,label\n"hi,a\n', "a.csv", {}, "EOF inside string"),
        ('{"text": "a"\n', "a.jsonl", {}, r"cannot be read as \.jsonl"),
        ('{"text": 3}\n{"text": 4}\n', "a.jsonl", {}, "column 'text' must hold texts, got 3 in row 0"),
        ('[["text"]]\n', "a.jsonl", {}, "no column 'text'"),
        ("PAR1", "a.parquet", {}, r"cannot be read as \.parquet"),
        ("text\naa bb\n", "a.txt", {}, r"ending of path got '\.txt' \(.*\)"),
        ("text\naa bb\n", "a.csv", {"encoding": "utf-7000"}, "encoding got 'utf-7000', which is no text encoding"),
        ("text\naa bb\n", "a.csv", {"encoding": "hex"}, "encoding got 'hex', which is no text encoding"),
        ("text\naa bb\n", "a.csv", {"max_terms": 0}, "max_terms must be at least 1, got 0"),
        ("text\naa bb\n", "a.csv", {"on_empty": "skp"}, r"on_empty got 'skp' \(did you mean 'skip'\?\)"),
    ],
)
def test_tables_are_refused(table, content, name, changes, message):
    with pytest.raises(ValueError, match=message):
        table(content, name, **changes)


def test_a_missing_table_is_named(table, tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"no file at {tmp_path}/none\.csv; expected a table"):
        table("", path=str(tmp_path / "none.csv"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["a.csv", "a.tsv", "a.jsonl", "a.parquet"]),
    st.binary(max_size=60),
    st.sampled_from([b"", b"text\n"]),
)
def test_any_bytes_are_read_or_refused(table, name, content, head):
    try:
        loaded, _ = table(head + content, name)
    except ValueError:
        return
    assert loaded.samples.shape[0] >= 2


# Sparse rows


@pytest.fixture
def arrays(tmp_path):
    """Function (rows, labels, terms) that saves files and loads them."""

    def load(rows, labels=None, terms=None):
        path = tmp_path / "rows.npz"
        if isinstance(rows, bytes):
            path.write_bytes(rows)
        else:
            sparse.save_npz(path, rows)
        if labels is not None:
            np.save(tmp_path / "labels.npy", labels)
        if terms is not None:
            (tmp_path / "terms.txt").write_bytes(terms)
        source = {
            "kind": "sparse_arrays",
            "name": "mine",
            "samples": str(path),
            "labels": None if labels is None else str(tmp_path / "labels.npy"),
            "vocabulary": None if terms is None else str(tmp_path / "terms.txt"),
        }
        return load_source({"source": source, "n_rows": 0})

    return load


DENSE = np.array([[0, 2.5, 0], [-1, 0, 3], [0, 0, 0]])


@pytest.mark.parametrize("form", ["csr", "csc", "coo"])
def test_sparse_rows_come_as_they_are(arrays, form):
    loaded, card = arrays(sparse.csr_matrix(DENSE).asformat(form), np.array([2, 5, -1]), b"oil\nprice\nwheat\n")
    assert isinstance(loaded.samples, sparse.csr_matrix)
    assert loaded.samples.dtype == np.float32
    np.testing.assert_array_equal(loaded.samples.toarray(), DENSE)
    assert loaded.labels.tolist() == [0, 1, -1]
    assert card["class_names"] == ["2", "5"]
    assert loaded.vocabulary == ["oil", "price", "wheat"]
    assert card["value_range"] == [-1.0, 3.0]


def test_sparse_rows_need_neither_labels_nor_terms(arrays):
    loaded, card = arrays(sparse.csr_matrix(DENSE))
    assert loaded.labels.tolist() == [-1, -1, -1]
    assert loaded.vocabulary == []
    assert card["n_terms"] == 0


@pytest.mark.parametrize(
    ("rows", "labels", "terms", "message"),
    [
        (b"PK", None, None, r"rows\.npz: expected a sparse matrix"),
        (sparse.csr_matrix(DENSE), np.array([0, 1]), None, "one label for each of the 3 rows, got 2"),
        (sparse.csr_matrix(DENSE), np.array([0.5, 1, 2]), None, "labels must be whole numbers"),
        (sparse.csr_matrix(DENSE), None, b"oil\nprice\n", "one term for each of the 3 columns, got 2"),
        (sparse.csr_matrix(DENSE), None, b"oil\n\xff\nx\n", "expected UTF-8 text"),
        (sparse.csr_matrix(DENSE * np.nan), None, None, "must be finite"),
        (sparse.csr_matrix((0, 3)), None, None, "must not be empty"),
    ],
)
def test_sparse_files_are_refused(arrays, rows, labels, terms, message):
    with pytest.raises(ValueError, match=message):
        arrays(rows, labels, terms)


def test_the_log_says_nothing_of_clean_data(arrays, caplog):
    with caplog.at_level(logging.WARNING):
        arrays(sparse.csr_matrix(DENSE))
    assert not caplog.records

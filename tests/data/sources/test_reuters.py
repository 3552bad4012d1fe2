"""Reuters-10k in its four forms and Reuters-21578: parsers, the choice of documents, labels, and what is refused."""

import gzip
import hashlib
import io
import logging
import os
import pickle
import random
import tarfile
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from scipy.io import savemat
from sklearn.utils import Bunch

from deep_clustering.data.sources import ASSIGNED, FITTED, load_source, rcv1, reuters
from deep_clustering.data.sources.rcv1 import TOKEN_FILES, read_documents, read_topics
from deep_clustering.data.sources.reuters import choose_documents
from deep_clustering.data.sources.reuters21578 import parse_stories
from deep_clustering.data.sources.tfidf import row_lengths, tfidf

DATA = os.environ.get("DEEP_CLUSTERING_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="DEEP_CLUSTERING_DATA names no folder of real data")

ROOTS = ["CCAT", "GCAT", "MCAT", "ECAT"]


@pytest.fixture
def reuters10k(tmp_path):
    """Function (format, changes) that loads Reuters-10k from the test's folder."""

    def load(source_format, **changes):
        source = {
            "kind": "reuters10k",
            "source_format": source_format,
            "root": str(tmp_path),
            "path": None,
            "labels": None,
            "subset": "original",
            "n_documents": 0,
            "seed": 1234,
            "download": False,
        }
        return load_source({"source": source | changes, "n_rows": 0})

    return load


# Which documents


def legacy_permutation(n: int, seed: int) -> list[int]:
    """numpy's first permutation after np.random.seed(seed), from MT19937 and Fisher-Yates by hand."""
    state = [seed]
    for index in range(1, 624):
        state.append((1812433253 * (state[-1] ^ (state[-1] >> 30)) + index) & 0xFFFFFFFF)
    generator = random.Random()
    generator.setstate((3, (*state, 624), None))
    order = list(range(n))
    for last in range(n - 1, 0, -1):
        draw = n
        while draw > last:
            draw = generator.getrandbits(32) & ((1 << last.bit_length()) - 1)
        order[last], order[draw] = order[draw], order[last]
    return order


@pytest.mark.parametrize("n", [7, 100, 5000])
def test_the_original_subset_is_the_head_of_the_permutation(n):
    assert choose_documents(n, 5, "original", 1234).tolist() == legacy_permutation(n, 1234)[:5]
    assert choose_documents(n, 0, "original", 1234).tolist() == legacy_permutation(n, 1234)


def test_the_keras_subset_is_a_permutation_of_the_head():
    assert choose_documents(5000, 10, "dec_keras", 1234).tolist() == legacy_permutation(10, 1234)


def test_too_few_documents_are_refused():
    with pytest.raises(ValueError, match="n_documents must be at most 7, the documents of one root topic, got 8"):
        choose_documents(7, 8, "original", 1234)


# The raw files

# Document number, topics, tokens; as in the distribution a document has many topics, few of them roots.
TRAIN = [(2286, ["E11", "ECAT", "M11", "MCAT"], "recov recov excit"), (2287, ["C15", "CCAT"], "bank loan bank")]
TESTS = [
    [(26151, ["GCAT", "GSPO"], "match goal goal"), (26152, ["M14", "MCAT"], "gold ounc gold")],
    [(26153, ["E12", "ECAT"], "inflat rate"), (26154, ["GPOL"], "vote")],
    [(26155, ["CCAT", "C31"], "loan profit"), (26156, ["CCAT", "GCAT"], "court bank")],
    [(26157, ["GCAT"], "goal storm")],
]
# By hand: test parts first, then training; only documents with one root.
KEPT = [(1, "match goal goal"), (2, "gold ounc gold"), (3, "inflat rate"), (0, "loan profit"), (1, "goal storm")]
KEPT += [(0, "bank loan bank")]


def write(path: Path, text: str, zipped: bool) -> None:
    if zipped:
        Path(f"{path}.gz").write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)


@pytest.fixture
def rcv1_files(tmp_path):
    """Function (zipped) that writes topics and tokens in the form of the distribution; tokens go over two lines."""

    def write_all(zipped: bool = False) -> Path:
        documents = [document for part in (TRAIN, *TESTS) for document in part]
        qrels = "".join(f"{topic} {number} 1\n" for number, topics, _ in documents for topic in topics)
        write(tmp_path / "rcv1-v2.topics.qrels", qrels, zipped)
        for name, part in zip(TOKEN_FILES, (*TESTS, TRAIN), strict=True):
            tokens = "".join(f".I {number}\n.W\n{text.replace(' ', chr(10), 1)}\n\n" for number, _, text in part)
            write(tmp_path / name, tokens, zipped)
        return tmp_path

    return write_all


@pytest.mark.parametrize("zipped", [False, True])
def test_the_raw_files_give_the_recipe_on_single_root_documents(rcv1_files, reuters10k, zipped):
    rcv1_files(zipped)
    loaded, card = reuters10k("raw")
    rows, vocabulary = tfidf([text for _, text in KEPT], 2000)
    order = legacy_permutation(6, 1234)
    np.testing.assert_array_equal(loaded.samples.toarray(), rows.toarray()[order])
    assert loaded.labels.tolist() == [KEPT[index][0] for index in order]
    assert loaded.vocabulary == vocabulary
    assert card["class_names"] == ROOTS
    assert card["class_counts"] == [2, 2, 1, 1]
    assert card["n_candidates"] == 6
    assert card["subset"] == "original"


def test_terms_and_weights_are_those_of_all_documents(rcv1_files, reuters10k):
    rcv1_files()
    rows, vocabulary = tfidf([text for _, text in KEPT], 2000)
    loaded, _ = reuters10k("raw", n_documents=2)
    assert loaded.vocabulary == vocabulary
    np.testing.assert_array_equal(loaded.samples.toarray(), rows.toarray()[legacy_permutation(6, 1234)[:2]])
    loaded, card = reuters10k("raw", n_documents=2, subset="dec_keras")
    np.testing.assert_array_equal(loaded.samples.toarray(), rows.toarray()[legacy_permutation(2, 1234)])
    assert card["subset"] == "dec_keras"


def test_missing_raw_files_are_all_named(rcv1_files, reuters10k):
    root = rcv1_files()
    (root / "rcv1-v2.topics.qrels").unlink()
    (root / TOKEN_FILES[2]).unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks rcv1-v2\.topics\.qrels, lyrl2004_tokens_test_pt2\.dat; each"):
        reuters10k("raw")


def test_token_files_that_lack_documents_are_refused(rcv1_files, reuters10k):
    root = rcv1_files()
    (root / TOKEN_FILES[0]).write_text(".I 26151\n.W\nmatch goal goal\n\n")
    with pytest.raises(ValueError, match=r"text for each of the 6 documents .* the token files have 5"):
        reuters10k("raw")


def test_damaged_raw_files_are_named(rcv1_files, reuters10k):
    root = rcv1_files(zipped=True)
    path = root / f"{TOKEN_FILES[1]}.gz"
    whole = path.read_bytes()
    for content in (whole[:-12], b"no gzip", whole[:12] + b"\xff" * 9 + whole[21:]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"tokens_test_pt1\.dat\.gz"):
            reuters10k("raw")
    path.write_bytes(gzip.compress(b".I 26153\n.W\ninfl\xe9\n"))
    with pytest.raises(ValueError, match=r"tokens_test_pt1\.dat\.gz: expected plain text"):
        reuters10k("raw")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["CCAT 1 1\n", "CCAT\n"], "x, line 2: expected 'topic document 1', got 'CCAT"),
        (["CCAT one 1\n"], "x, line 1: expected the number of a document, got 'one'"),
        (["C15 2286 1\n"], "x: no document with exactly one of the topics CCAT, GCAT, MCAT, ECAT"),
        ([], "x: no document"),
    ],
)
def test_topics_of_another_form_are_refused(lines, message):
    with pytest.raises(ValueError, match=message):
        read_topics(lines, "x")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tokens\n", r"x, line 1: expected '\.I number' before any text, got 'tokens"),
        (".I\n.W\na\n", "x, line 1: expected the number of a document, got ''"),
        (".I -3\n.W\na\n", "x, line 1: expected the number of a document, got '-3'"),
        (".I 3\n.W\n.I 4\n", "x, line 3: document 3 has no text"),
        (".I 3\n.W\n", "x, at its end: document 3 has no text"),
        (".I 3\n.W\nab\n.W\n", r"x, line 4: expected '\.W' right behind"),
    ],
)
def test_tokens_of_another_form_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        list(read_documents(text.splitlines(keepends=True), "x"))


LINE = st.one_of(
    st.text(max_size=20),
    st.builds("{} {} {}\n".format, st.sampled_from(ROOTS), st.integers() | st.text(max_size=3), st.just(1)),
    st.sampled_from([".W\n", ".I\n", "\n", "tokens\n"]),
    st.builds(".I {}\n".format, st.integers() | st.text(max_size=3)),
)


@given(st.lists(LINE, max_size=12))
def test_any_topics_are_read_or_refused(lines):
    try:
        classes = read_topics(lines, "x")
    except ValueError as error:
        message = str(error)
        assert message.startswith("x")
        return
    assert classes
    assert set(classes.values()) <= {0, 1, 2, 3}


@given(st.lists(LINE, max_size=12))
def test_any_tokens_are_read_or_refused(lines):
    try:
        documents = list(read_documents(lines, "x"))
    except ValueError as error:
        message = str(error)
        assert message.startswith("x")
        return
    assert len(documents) == sum(line.startswith(".I") for line in lines)
    assert all(text for _, text in documents)


@given(
    st.lists(st.tuples(st.integers(0, 9**9), st.lists(st.sampled_from(["oil", "x", "rate."]), min_size=1)), max_size=5)
)
def test_written_tokens_are_read_back(documents):
    text = "".join(f".I {number}\n.W\n{' '.join(tokens)}\n\n" for number, tokens in documents)
    read = list(read_documents(text.splitlines(keepends=True), "x"))
    assert [(number, text.split()) for number, text in read] == documents


# Prepared files

UNIT = np.array([[0.6, 0, 0.8, 0], [0, 1, 0, 0], [0, 0.8, 0, 0.6]])
LABELS = np.array([3, 0, 2])


def hash_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("scale", [1, 2])  # unit rows, and rows of length sqrt(4)
@pytest.mark.parametrize("make", [np.asarray, sparse.csc_matrix])
@pytest.mark.parametrize("first", [0, 1])
def test_a_mat_file_gives_rows_of_one_scale(reuters10k, tmp_path, caplog, scale, make, first):
    labels = np.array([3, 0, 2]) + first
    savemat(tmp_path / "reuters10k.mat", {"X": make(scale * UNIT), "Y": labels[None].astype(float)})
    loaded, card = reuters10k("mat")
    assert isinstance(loaded.samples, sparse.csr_matrix)
    np.testing.assert_allclose(loaded.samples.toarray(), 2 * UNIT, rtol=1e-6)
    assert loaded.labels.tolist() == [3, 0, 2]
    assert loaded.vocabulary == ["term_0", "term_1", "term_2", "term_3"]
    assert card["class_names"] == ROOTS
    assert card["source_sha256"] == hash_of(tmp_path / "reuters10k.mat")
    assert card["note"] == "prepared file, not the known one"
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "aa0774a824889efe0597f0d42c6a795c99f312f89819afde957746fb7f0588b1" in record.getMessage()
    assert hash_of(tmp_path / "reuters10k.mat") in record.getMessage()


def test_the_known_mat_file_is_no_surprise(reuters10k, tmp_path, caplog, monkeypatch):
    savemat(tmp_path / "mine.mat", {"X": UNIT, "Y": LABELS})
    monkeypatch.setattr(reuters, "MAT_SHA256", hash_of(tmp_path / "mine.mat"))
    _, card = reuters10k("mat", path=str(tmp_path / "mine.mat"))
    assert card["note"] == "prepared file, the known one"
    assert not caplog.records


def cells(*values: object) -> np.ndarray:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"X": cells(UNIT, "text"), "Y": LABELS}, r"expected matrices of numbers X and Y, got X \(cell\), Y \(int64\)"),
        ({"X": UNIT, "Y": cells(1, 2, 3)}, r"got X \(double\), Y \(cell\)"),
        ({"X": {"data": UNIT}, "Y": LABELS}, r"X \(struct\)"),
        ({"X": UNIT, "Y": "ab"}, r"Y \(char\)"),
        ({"X": UNIT}, r"got X \(double\)"),
        ({}, "got nothing"),
        ({"X": UNIT, "Y": [0.5, 1, 2]}, "Y: expected classes as whole numbers"),
        ({"X": UNIT, "Y": [0, 1, 9]}, "expected classes 0 to 3, got 0 to 9"),
        ({"X": UNIT, "Y": [0, 1]}, "one label for each of the 3 rows, got 2"),
    ],
)
def test_mat_files_without_numbers_are_refused(reuters10k, tmp_path, content, message):
    savemat(tmp_path / "reuters10k.mat", content)
    with pytest.raises(ValueError, match=message):
        reuters10k("mat")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512) + b"\x89HDF\r\n\x1a\n", r"7\.3 \(HDF5\).*'-v7'"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"version https://git-lfs.github.com/spec/v1\n", "pointer of Git LFS"),
        (b"", "expected a MATLAB file"),
        (b"text of some other kind", "expected a MATLAB file"),
        (pickle.dumps({"X": UNIT}), "expected a MATLAB file"),
    ],
)
def test_other_files_are_no_mat_files(reuters10k, tmp_path, content, message):
    (tmp_path / "reuters10k.mat").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        reuters10k("mat")


@pytest.mark.parametrize("compress", [False, True])
def test_a_mat_file_cut_anywhere_is_refused(reuters10k, tmp_path, compress):
    path = tmp_path / "reuters10k.mat"
    savemat(path, {"X": UNIT, "Y": LABELS}, do_compression=compress)
    content = path.read_bytes()
    for length in range(0, len(content) - 8, 7):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"reuters10k\.mat"):
            reuters10k("mat")


@pytest.mark.parametrize("name", ["mat", "npz"])
def test_a_missing_prepared_file_is_named(reuters10k, name):
    with pytest.raises(FileNotFoundError, match=rf"no file at .*reuters10k.*\.{name}; expected"):
        reuters10k(name)


def prepared(**changes):
    """The arrays of a prepared .npz."""
    csr = sparse.csr_matrix(UNIT.astype(np.float32))
    arrays = {
        "tfidf": csr.data,
        "indices": csr.indices.astype(np.uint16),
        "indptr": csr.indptr,
        "shape": np.array(csr.shape),
        "y": LABELS.astype(np.uint8),
        "class_names": np.array(ROOTS),
        "term_id": np.array([8, 28, 32, 167], dtype=np.uint16),
    }
    arrays.update(changes)
    return {name: array for name, array in arrays.items() if array is not None}


@pytest.mark.parametrize("scale", [1, 2])
def test_prepared_sparse_rows_get_the_recipes_scale(reuters10k, tmp_path, scale):
    np.savez(tmp_path / "reuters10k_rcv1.npz", **prepared(tfidf=prepared()["tfidf"] * scale))
    loaded, card = reuters10k("npz")
    np.testing.assert_allclose(loaded.samples.toarray(), 2 * UNIT, rtol=1e-6)
    assert loaded.labels.tolist() == LABELS.tolist()
    assert loaded.vocabulary == ["term_8", "term_28", "term_32", "term_167"]
    assert card["note"].startswith("rebuild")


def test_classes_follow_their_names(reuters10k, tmp_path):
    np.savez(tmp_path / "a.npz", **prepared(class_names=np.array(["ECAT", "CCAT", "MCAT", "GCAT"])))
    loaded, card = reuters10k("npz", path=str(tmp_path / "a.npz"))
    assert loaded.labels.tolist() == [1, 3, 2]
    assert card["class_names"] == ROOTS


def test_terms_may_have_words_or_no_names_at_all(reuters10k, tmp_path):
    words = np.array(["bank", "gold", "goal", "rate"])
    np.savez(tmp_path / "a.npz", **prepared(vocabulary=words))
    assert reuters10k("npz", path=str(tmp_path / "a.npz"))[0].vocabulary == words.tolist()
    np.savez(tmp_path / "a.npz", **prepared(term_id=None, class_names=None))
    assert reuters10k("npz", path=str(tmp_path / "a.npz"))[0].vocabulary == [f"term_{index}" for index in range(4)]


def test_scipys_own_file_with_labels_beside_it(reuters10k, tmp_path):
    sparse.save_npz(tmp_path / "rows.npz", sparse.csr_matrix(UNIT))
    np.save(tmp_path / "labels.npy", LABELS)
    changes = {"path": str(tmp_path / "rows.npz"), "labels": str(tmp_path / "labels.npy")}
    loaded, _ = reuters10k("npz", **changes)
    np.testing.assert_allclose(loaded.samples.toarray(), 2 * UNIT, rtol=1e-6)
    assert loaded.labels.tolist() == LABELS.tolist()
    with pytest.raises(ValueError, match=r"rows\.npz has no classes 'y'; name a \.npy file"):
        reuters10k("npz", **changes | {"labels": None})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"indptr": None}, "expected a sparse matrix"),
        ({"tfidf": None}, "expected a sparse matrix"),
        ({"indptr": np.array([0, 2, 3])}, "expected a sparse matrix"),
        ({"indices": np.array([0, 9, 1, 1, 3])}, "expected a sparse matrix"),
        ({"tfidf": cells(*range(5))}, "expected a sparse matrix"),
        ({"shape": np.array([3])}, "expected a sparse matrix"),
        (
            {"data": np.ones(5), "format": np.array(b"csr"), "indices": np.array([0, 10**9, 1, 1, 3])},
            "expected a sparse",
        ),
        ({"y": np.array([0.5, 1, 2])}, "expected classes as integers, got float64"),
        ({"y": np.array([0, 1, 4])}, "expected classes 0 to 3, got 0 to 4"),
        ({"y": np.array([0, 1])}, "one label for each of the 3 rows, got 2"),
        (
            {"class_names": np.array(["a", "b", "c", "d"])},
            "expected the classes CCAT, GCAT, MCAT, ECAT, got a, b, c, d",
        ),
        ({"term_id": np.array([1, 2])}, "expected one term for each of the 4 columns, got 2"),
    ],
)
def test_prepared_files_of_another_form_are_refused(reuters10k, tmp_path, changes, message):
    np.savez(tmp_path / "reuters10k_rcv1.npz", **prepared(**changes))
    with pytest.raises(ValueError, match=message):
        reuters10k("npz")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source_format": "matt"}, r"source_format got 'matt' \(did you mean 'mat'\?\)"),
        ({"subset": "keras"}, r"subset got 'keras' \(did you mean 'dec_keras'\?\)"),
        ({"n_documents": -1}, "n_documents must be at least 0, got -1"),
        ({"seed": 2**32}, "seed must be at least 0 and at most 4294967295, got 4294967296"),
    ],
)
def test_options_are_checked(reuters10k, changes, message):
    with pytest.raises(ValueError, match=message):
        reuters10k(**{"source_format": "raw"} | changes)


# scikit-learn's copy


def test_scikit_learns_copy_is_cut_to_the_same_documents(reuters10k, tmp_path, monkeypatch):
    asked = {}

    def fetch(**options):
        asked.update(options)
        # Two training documents first, as scikit-learn has them; the names of the topics are sorted there.
        target = sparse.csr_array([[0, 1, 1, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 1, 0], [0, 0, 1, 0, 1], [0, 0, 0, 1, 1]])
        names = np.array(["CCAT", "E11", "ECAT", "GCAT", "MCAT"], dtype=object)
        data = sparse.csr_array([[0.5, 0, 0, 0.5], [0, 3, 4, 0], [0.1, 0.2, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1]])
        return Bunch(data=data, target=target, target_names=names)

    monkeypatch.setattr(sklearn.datasets, "fetch_rcv1", fetch)
    monkeypatch.setattr(rcv1, "N_TRAIN", 2)
    monkeypatch.setattr(reuters, "MAX_TERMS", 2)
    loaded, card = reuters10k("sklearn", download=True)
    assert asked == {"data_home": str(tmp_path), "download_if_missing": True}
    # Kept: the test document GCAT, then the training documents ECAT and CCAT; terms 0 and 1 are in two of the three.
    root = np.sqrt(2)
    expected = np.array([[root / np.sqrt(5), 2 * root / np.sqrt(5)], [root, 0], [0, root]])
    order = legacy_permutation(3, 1234)
    np.testing.assert_allclose(loaded.samples.toarray(), expected[order], rtol=1e-6)
    assert loaded.labels.tolist() == [[1, 3, 0][index] for index in order]
    assert loaded.vocabulary == ["term_0", "term_1"]
    assert "only approximates" in card["note"]


def test_scikit_learn_does_not_download_by_itself(reuters10k):
    with pytest.raises(FileNotFoundError, match="has no RCV1 data of scikit-learn; set download: true"):
        reuters10k("sklearn")


# Reuters-21578


def story(number, topics, split="TRAIN", flag="YES", text="<TITLE>T &lt;x> {0}</TITLE><BODY>body{0} wheat &#3;</BODY>"):
    listed = "".join(f"<D>{topic}</D>" for topic in topics)
    return (
        f'<REUTERS TOPICS="{flag}" LEWISSPLIT="{split}" CGISPLIT="TRAINING-SET" OLDID="5544" NEWID="{number}">\n'
        f"<DATE>26-FEB-1987</DATE>\n<TOPICS>{listed}</TOPICS>\n<PLACES><D>usa</D></PLACES>\n"
        f"<UNKNOWN>&#5;</UNKNOWN>\n<TEXT>&#2;\n{text.format(number)}</TEXT>\n</REUTERS>\n"
    )


HEAD = '<!DOCTYPE lewis SYSTEM "lewis.dtd">\n'
PARTS = [
    story(1, ["earn"]) + story(2, ["earn"], "TEST") + story(3, ["acq"]) + story(4, ["acq", "earn"]) + story(5, []),
    story(6, ["earn"], flag="NO") + story(7, ["acq"], "TEST") + story(8, ["oil"]) + story(9, ["acq"], "NOT-USED"),
]


@pytest.fixture
def reuters21578(tmp_path):
    """Function (protocol, changes) that loads two small SGML files."""
    for index, part in enumerate(PARTS):
        (tmp_path / f"reut2-{index:03}.sgm").write_text(HEAD + part)

    def load(protocol="all", **changes):
        source = {"kind": "reuters21578", "root": str(tmp_path), "n_classes": 2, "protocol": protocol, "max_terms": 99}
        source |= {"text": "all"}
        return load_source({"source": source | changes, "n_rows": 0})

    return load


def text_of(number):
    return f"T <x> {number}\nbody{number} wheat "


@pytest.mark.parametrize(
    ("protocol", "fitted", "assigned", "labels"),
    [
        ("all", [1, 2, 3, 6, 7, 9], [], [1, 1, 0, 1, 0, 0]),
        ("train", [1, 3], [], [1, 0]),
        ("test", [2, 7], [], [1, 0]),
        ("train+test", [1, 2, 3, 7], [], [1, 1, 0, 0]),
        ("train->test", [1, 3], [2, 7], [1, 0, 1, 0]),
    ],
)
def test_protocols_of_the_modapte_split(reuters21578, protocol, fitted, assigned, labels):
    loaded, card = reuters21578(protocol)
    rows, vocabulary = tfidf(map(text_of, fitted), 99, map(text_of, assigned))
    np.testing.assert_array_equal(loaded.samples.toarray(), rows.toarray())
    assert loaded.vocabulary == vocabulary
    flag = FITTED if assigned else FITTED | ASSIGNED
    assert loaded.split.tolist() == [flag] * len(fitted) + [ASSIGNED] * len(assigned)
    assert loaded.labels.tolist() == labels
    assert card["class_names"] == ["acq", "earn"]  # equally large, so by name
    assert card["n_fitted"] == len(fitted)


def test_texts_stand_beside_their_rows(reuters21578):
    loaded, _ = reuters21578("train->test")
    assert list(loaded.texts) == [text_of(number) for number in (1, 3, 2, 7)]


def test_titles_alone_and_no_story_without_one(reuters21578, tmp_path):
    titled = "<TITLE> title &amp; {0}\n</TITLE><BODY>body {0}</BODY>"
    stories = [story(number, ["earn" if number % 2 else "acq"], text=titled) for number in range(10, 14)]
    untitled = [story(14, ["acq"], text="<BODY>no title</BODY>"), story(15, ["acq"], text="<TITLE> </TITLE>")]
    for index, part in enumerate(("".join(stories), "".join(untitled))):
        (tmp_path / f"reut2-{index:03}.sgm").write_text(HEAD + part)
    loaded, card = reuters21578(text="title")
    assert list(loaded.texts) == [f"title & {number}" for number in range(10, 14)]
    assert loaded.vocabulary == ["10", "11", "12", "13", "title"]
    assert loaded.labels.tolist() == [0, 1, 0, 1]
    assert card["protocol"].endswith(", titles only")
    assert len(reuters21578()[0].texts) == 6


def test_a_small_collection_is_said_to_be_small(reuters21578, caplog):
    reuters21578()
    assert "has 2 files of Reuters-21578, expected 22" in caplog.text


def test_more_classes_than_topics_are_refused(reuters21578):
    assert reuters21578(n_classes=3)[1]["class_counts"] == [3, 3, 1]
    with pytest.raises(ValueError, match=r"n_classes must be at most the 3 topics of .*, got 4"):
        reuters21578(n_classes=4)


def test_the_archive_is_read_as_it_is(reuters21578, tmp_path):
    expected, _ = reuters21578()
    with tarfile.open(tmp_path / "reuters21578.tar.gz", "w:gz") as tar:
        for index in (1, 0):
            path = tmp_path / f"reut2-{index:03}.sgm"
            tar.add(path, f"reuters21578/{path.name}")
            path.unlink()
        tar.addfile(tarfile.TarInfo("reut2-999.sgm/"), io.BytesIO())
    loaded, _ = reuters21578()
    np.testing.assert_array_equal(loaded.samples.toarray(), expected.samples.toarray())
    archive = tmp_path / "reuters21578.tar.gz"
    archive.write_bytes(archive.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"reuters21578\.tar\.gz: expected a \.tar\.gz"):
        reuters21578()


def test_a_folder_without_the_files_is_named(reuters21578, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(FileNotFoundError, match=r"no Reuters-21578 in .*empty; expected reut2-000\.sgm"):
        reuters21578(root=str(empty))


def test_stories_are_parsed():
    body = story(12, ["earn", "trade &amp; co"], "TEST") + story(13, [], text="no tags, 3 &lt; 4 ", flag="BYPASS")
    first, second = parse_stories(HEAD + body, "x")
    assert first == ("12", "test", ["earn", "trade & co"], text_of(12), "T <x> 12")
    assert second == ("13", "unused", [], "\nno tags, 3 < 4 ", "")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (story(1, []) + story(2, [])[:-12], "x: the file ends within a story"),
        ("text </REUTERS>", r"x, story 1: expected '<REUTERS \.\.\.>' before '</REUTERS>', got 'text '"),
        ('<REUTERS NEWID="1"</REUTERS>', "x, story 1: expected '<REUTERS"),
        ("<REUTERS ><TEXT></TEXT></REUTERS>", r"x, story 1: expected NEWID=\"number\""),
        ('<REUTERS NEWID="7"></REUTERS>', r"x, story 1 \(NEWID 7\): expected <TEXT>, got none"),
        ('<REUTERS NEWID="7"><TEXT>a</REUTERS>', r"x, story 1 \(NEWID 7\): <TEXT> is not closed"),
        ('<REUTERS NEWID="7"><TEXT><BODY>a</TEXT></REUTERS>', r"\(NEWID 7\): <BODY> is not closed"),
    ],
)
def test_broken_stories_are_refused(content, message):
    with pytest.raises(ValueError, match=message):
        parse_stories(content, "x")


PIECE = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        ["<REUTERS ", 'NEWID="1"', ">", "</REUTERS>", "<TEXT>", "</TEXT>", "<TITLE>", "</TITLE>", "<BODY>"]
    ),
    st.sampled_from(
        ["</BODY>", "<TOPICS>", "</TOPICS>", "<D>", "</D>", "&lt;", "&#3;", "&#xD800;", "&bad;", story(1, [])]
    ),
)


@given(st.lists(PIECE, max_size=25).map("".join))
def test_any_text_is_parsed_or_refused(content):
    try:
        stories = parse_stories(content, "x")
    except ValueError as error:
        message = str(error)
        assert message.startswith("x")
        return
    assert len(stories) == content.count("</REUTERS>")


@given(st.lists(st.tuples(st.integers(1, 10**5), st.lists(st.sampled_from(["earn", "acq"])), st.text()), max_size=4))
def test_written_stories_are_read_back(stories):
    escaped = [
        text.replace("&", "&amp;").replace("<", "&lt;").replace("{", "&#123;").replace("}", "&#125;")
        for *_, text in stories
    ]
    content = "".join(
        story(number, topics, text=f"<BODY>{text}</BODY>")
        for (number, topics, _), text in zip(stories, escaped, strict=True)
    )
    read = parse_stories(content, "x")
    assert read == [(str(number), "train", topics, text, "") for number, topics, text in stories]


def test_a_long_broken_file_is_refused_at_once():
    with pytest.raises(ValueError, match="ends within a story"):
        parse_stories("<REUTERS <TEXT <D>" * 100_000, "x")


# Real data


@needs_data
def test_the_rebuild_has_the_size_and_the_classes_of_reuters10k(reuters10k):
    path = Path(DATA or "") / "data" / "reuters10k" / "reuters10k_rcv1.npz"
    loaded, card = reuters10k("npz", path=str(path))
    assert loaded.samples.shape == (10_000, 2_000)
    with np.load(path) as archive:
        assert archive["class_names"].tolist() == ROOTS
        assert card["class_counts"] == np.bincount(archive["y"]).tolist()
        counts = sparse.csr_matrix(
            (archive["counts"].astype(np.float64), archive["indices"].astype(np.int32), archive["indptr"]),
            shape=archive["shape"],
        )
    np.testing.assert_allclose(row_lengths(loaded.samples), np.sqrt(2000), rtol=1e-5)
    assert (loaded.samples.astype(bool) != counts.astype(bool)).nnz == 0
    assert "rebuild" in card["note"]


@needs_data
@pytest.mark.slow
def test_k_means_on_the_rebuild_reaches_what_is_known_of_it(reuters10k):
    from sklearn.cluster import KMeans

    from deep_clustering.scores.metrics import labelled_scores

    loaded, _ = reuters10k("npz", path=str(Path(DATA or "") / "data" / "reuters10k" / "reuters10k_rcv1.npz"))
    found = KMeans(4, n_init=20, random_state=0).fit_predict(loaded.samples)
    assert labelled_scores(found.astype(np.int64), loaded.labels, 4, 4)["acc"] == pytest.approx(0.76, abs=0.03)


@needs_data
def test_the_real_reuters21578_has_its_known_counts():
    source = {"kind": "reuters21578", "root": str(Path(DATA or "") / "data" / "reuters21578")}
    source |= {"n_classes": 10, "protocol": "train->test", "max_terms": 2000, "text": "all"}
    loaded, card = load_source({"source": source, "n_rows": 0})
    assert card["class_names"][:6] == ["earn", "acq", "crude", "trade", "money-fx", "interest"]
    # The ModApte counts of single-topic stories that the literature on text classification gives.
    fitted = np.bincount(loaded.labels[loaded.split == FITTED])[:6]
    assigned = np.bincount(loaded.labels[loaded.split == ASSIGNED])[:6]
    assert fitted.tolist() == [2840, 1596, 253, 251, 206, 190]
    assert assigned.tolist() == [1083, 696, 121, 75, 87, 81]


@needs_data
def test_the_real_reuters21578_has_its_known_topics():
    source = {"kind": "reuters21578", "root": str(Path(DATA or "") / "data" / "reuters21578")}
    source |= {"n_classes": 6, "protocol": "all", "max_terms": 50, "text": "all"}
    _, card = load_source({"source": source, "n_rows": 0})
    assert card["class_counts"] == [3945, 2362, 408, 361, 307, 285]

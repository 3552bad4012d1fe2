"""Terms of texts: words, or runs of characters where no space parts the words, chosen by how many stand alone."""

import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer

from deep_clustering.data.feature_options import FeatureOptions
from deep_clustering.data.preparation import open_preparation, prepare
from deep_clustering.data.sources import load_source
from deep_clustering.data.sources.terms import choose_analyzer, make_counter, term_function
from deep_clustering.data.sources.tfidf import idf_of, tfidf, weigh_texts

FEATURES = {"scaling": "none", "postprocess": "centre_l2", "backbone": None, "weights": "DEFAULT", "size": 224}
FEATURES |= {"layer": "avgpool", "batch_size": 64, "precision": "auto", "device": "cpu", "cache": "", "encoder": "lsa"}
FEATURES |= {"pooling": "cls", "max_tokens": 512, "lsa": 10, "max_terms": 20000, "max_df": 0.6, "min_df": 2}
FEATURES |= {"beside_gradients": False, "launcher": "local", "learned": {}}


def made_up(n_texts: int, first: int, parted: str = "") -> tuple[list[str], list[int]]:
    """Texts of made-up words of one or two characters, a third of them of the text's topic, written without spaces."""
    generator = np.random.default_rng(0)
    letters = [chr(first + index) for index in range(600)]
    words = ["".join(generator.choice(letters, size=generator.integers(1, 3))) for _ in range(380)]
    common, topics = words[:300], (words[300:340], words[340:])
    texts, labels = [], []
    for index in range(n_texts):
        own = topics[index % 2]
        chosen = [str(generator.choice(own if place % 3 == 0 else common)) for place in range(24)]
        texts.append("。".join(parted.join(chosen[start : start + 6]) for start in range(0, 24, 6)) + "。")
        labels.append(index % 2)
    return texts, labels


@pytest.mark.parametrize("first", [0x4E00, 0x5000])
@pytest.mark.parametrize("n_texts", [20, 600])
def test_texts_without_spaces_are_taken_by_their_characters(first, n_texts):
    assert choose_analyzer(made_up(n_texts, first)[0]) == "char"


def test_any_script_without_spaces_is_found_by_what_texts_have_in_common():
    assert choose_analyzer(made_up(300, 0x1200)[0]) == "char"


def test_chinese_whose_words_somebody_has_parted_keeps_its_words():
    assert choose_analyzer(made_up(300, 0x4E00, parted=" ")[0]) == "word"


@pytest.mark.parametrize("n_texts", [2, 10, 60, 500])
@pytest.mark.parametrize("n_words", [4, 40])
def test_texts_with_spaces_keep_their_words(n_texts, n_words):
    # Words as frequent as in languages: the share of the r-th is about 1/r.
    generator = np.random.default_rng(0)
    share = 1 / np.arange(1, 20001)
    texts = [
        " ".join(f"wort{rank}" for rank in generator.choice(20000, size=n_words, p=share / share.sum()))
        for _ in range(n_texts)
    ]
    assert choose_analyzer(texts) == "word"


def test_german_news_and_their_first_words_keep_their_words():
    if "DEEP_CLUSTERING_DATA" not in os.environ:
        pytest.skip("DEEP_CLUSTERING_DATA does not say where the shared data are")
    path = Path(os.environ["DEEP_CLUSTERING_DATA"]) / "data/strangers/gnad_test.csv"
    table = pd.read_csv(path, sep=";", quotechar="'", header=None)
    assert len(table) == 1028
    for texts in (table[1].tolist(), [" ".join(text.split()[:6]) for text in table[1]]):
        assert choose_analyzer(texts) == "word"
        assert choose_analyzer(texts[:50]) == "word"
    source = {"kind": "text_table", "name": "news", "path": str(path), "column": 1, "labels_column": 0}
    source |= {"encoding": "utf-8", "max_terms": 2000, "on_empty": "skip"}
    loaded, card = load_source({"source": source, "n_rows": 0})
    assert loaded.texts == table[1].tolist()
    assert dict(zip(card["class_names"], card["class_counts"], strict=True)) == table[0].value_counts().to_dict()
    assert card["reading"]["analyzer"] == "word"


def test_nothing_to_choose_from_is_words():
    assert choose_analyzer(["石油价格上涨"]) == "word"
    assert choose_analyzer(["!", "?"]) == "word"


def test_what_has_not_been_chosen_yet_counts_nothing():
    with pytest.raises(ValueError, match="analyzer got 'auto'"):
        make_counter("auto")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("नमस्ते भारत, किताब।", ["नमस्ते", "भारत", "किताब"]),  # vowel signs are marks of the letters before them
        ("كِتَاب بَيْت", ["كِتَاب", "بَيْت"]),
        ("cafe\u0301s Olé", ["cafe\u0301s", "olé"]),  # accents as macOS writes names
        ("İstanbul x ab3 don't", ["i\u0307stanbul", "ab3", "don"]),
    ],
)
def test_marks_belong_to_the_word_that_they_stand_in(text, words):
    assert sorted(make_counter("word").fit([text]).vocabulary_) == sorted(words)


@given(st.text("aZ\u00df9_ -'.\u4eac", max_size=20))
def test_words_without_marks_are_those_of_scikit_learn(text):
    assert list(term_function("word")(text)) == CountVectorizer().build_analyzer()(text)


def test_terms_of_earlier_versions_are_found_as_they_were():
    text = "नमस्ते घर"
    earlier = sorted(CountVectorizer().build_analyzer()(text))
    assert "नमस्ते" not in earlier
    assert weigh_texts([text], earlier, np.ones(len(earlier)), keeps_marks=False).nnz == len(earlier)
    assert weigh_texts([text], ["घर", "नमस्ते"], np.ones(2)).nnz == 2


def test_texts_with_marks_get_the_same_rows_again_where_no_frequent_term_has_one():
    texts = ["cafe\u0301 menu prices", *["cafe racing menu"] * 4, *["old cafe prices"] * 4]
    rows, terms = tfidf(texts, 4)
    assert terms == ["cafe", "menu", "old", "prices"]
    np.testing.assert_allclose(weigh_texts(texts, terms, idf_of(rows)).toarray(), rows.toarray(), rtol=1e-5)


def test_runs_of_characters_stop_at_spaces_and_punctuation():
    counter = make_counter("char").fit(["Ab。c d!"])
    assert sorted(counter.vocabulary_) == ["a", "ab", "b", "c", "d"]
    thai = "ที่นี่"  # vowels and tones are marks of the letters before them
    assert thai[:3] in make_counter("char").fit([thai]).vocabulary_


@given(st.text("石油价格 。", min_size=1, max_size=9))
def test_every_pair_of_neighbours_is_a_term(text):
    text += "石"
    terms = make_counter("char").fit([text]).vocabulary_
    expected = {a + b for a, b in pairwise(text) if not {a, b} & set(" 。")}
    assert {term for term in terms if len(term) == 2} == expected


def test_new_texts_get_the_rows_that_the_same_texts_got():
    texts, _ = made_up(40, 0x4E00)
    rows, terms = tfidf(texts, 500, analyzer="char")
    np.testing.assert_allclose(weigh_texts(texts, terms, idf_of(rows), "char").toarray(), rows.toarray(), rtol=1e-5)


def test_latent_semantic_analysis_takes_the_terms_of_the_source(tmp_path):
    texts, labels = made_up(200, 0x4E00)
    pd.DataFrame({"text": texts, "topic": labels}).to_csv(tmp_path / "a.csv", index=False)
    source = {"kind": "text_table", "name": "x", "path": str(tmp_path / "a.csv"), "column": "text"}
    source |= {"labels_column": "topic", "encoding": "utf-8", "max_terms": 2000, "on_empty": "skip"}
    loaded, card = load_source({"source": source, "n_rows": 0})
    assert card["reading"]["analyzer"] == "char"
    assert card["n_rows_without_terms"] == 0
    vocabulary = {"terms": loaded.vocabulary, "idf": loaded.idf}
    rows, preparation = prepare(loaded.samples, loaded.split, card, vocabulary, FEATURES, loaded.texts)
    assert set(FEATURES) == set(FeatureOptions.__dataclass_fields__)
    np.testing.assert_allclose(open_preparation(preparation)(list(texts)), rows, atol=1e-5)
    # The nearest other text by their angle is of the same topic.
    likeness = rows @ rows.T - 2 * np.eye(len(rows))
    assert np.mean(np.array(labels)[likeness.argmax(axis=1)] == labels) > 0.9
    as_words = {"source": source | {"analyzer": "word"}, "n_rows": 0}
    assert load_source(as_words)[1]["reading"]["analyzer"] == "word"

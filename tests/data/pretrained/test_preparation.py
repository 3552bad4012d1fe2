"""How samples become rows again: the oracle is numpy, scikit-learn, or the training rows themselves."""

from dataclasses import asdict

import numpy as np
import pytest
import safetensors.torch
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer

from deep_clustering.data.preparation import open_preparation, prepare
from deep_clustering.data.sources.tfidf import idf_of, tfidf, weigh_texts
from deep_clustering.datasets import PreparationDataset

CORPUS = ["oil prices rise", "wheat and oil", "wheat trade, wheat price", "trade talks", "oil oil oil trade"]
NEW = ["oil trade trade and gold", "silver", "Wheat prices"]
NO_WORDS = {"terms": [], "idf": None}


@pytest.fixture
def backbone_options(make_options):
    return lambda **changes: asdict(make_options(**changes))


def card(value_range=(0.0, 255.0)):
    return {"name": "some", "value_range": list(value_range), "sha256": {"samples": "0" * 64}}


@pytest.fixture
def vectors():
    return np.random.default_rng(1).normal(4, 3, (30, 5)).astype(np.float32)


def test_weights_of_terms_are_those_of_scikit_learn():
    rows, terms = tfidf(CORPUS, 2000)
    oracle = TfidfVectorizer(sublinear_tf=True, norm="l2").fit(CORPUS)
    assert terms == oracle.get_feature_names_out().tolist()
    np.testing.assert_allclose(idf_of(rows), oracle.idf_, rtol=1e-12)
    expected = oracle.transform(NEW).toarray() * np.sqrt(len(terms))
    np.testing.assert_allclose(weigh_texts(NEW, terms, idf_of(rows)).toarray(), expected, rtol=1e-6)


def test_new_texts_get_the_rows_that_they_have_beside_the_training_texts():
    together, terms = tfidf(CORPUS, 5, NEW)
    alone = [weigh_texts([text], terms, idf_of(tfidf(CORPUS, 5)[0])) for text in NEW]
    np.testing.assert_allclose(sparse.vstack(alone).toarray(), together[len(CORPUS) :].toarray(), rtol=1e-6)


def test_scaling_takes_the_range_of_the_card(parameters):
    images = np.array([[[[0, 4], [8, 16]]]], dtype=np.uint8)
    rows, preparation = prepare(images, np.array([3]), card((0.0, 16.0)), NO_WORDS, parameters["features"])
    np.testing.assert_array_equal(rows, images / 16)
    np.testing.assert_array_equal(open_preparation(preparation)(images[:, :, ::-1]), images[:, :, ::-1] / 16)


@pytest.mark.parametrize("how", ["standardise", "centre_l2"])
def test_a_new_row_alone_takes_the_statistics_of_the_fitted_rows(parameters, vectors, how):
    options = parameters["features"] | {"scaling": "none", "postprocess": how}
    split = np.where(np.arange(30) < 20, 3, 2).astype(np.uint8)
    fitted = vectors[:20].astype(np.float64)
    _, preparation = prepare(vectors, split, card(), NO_WORDS, options)
    new = np.full((1, 5), 7, np.float32)
    expected = (new - fitted.mean(axis=0)) / (fitted.std(axis=0) if how == "standardise" else 1)
    if how == "centre_l2":
        expected /= np.linalg.norm(expected)
    alone = open_preparation(preparation)(new.copy())
    np.testing.assert_allclose(alone, expected, rtol=1e-5)
    batch = open_preparation(preparation)(np.concatenate([vectors, new, -vectors]))
    np.testing.assert_array_equal(batch[30:31], alone)


def test_training_rows_come_out_as_they_did_and_a_file_changes_nothing(parameters, vectors, tmp_path):
    options = parameters["features"] | {"postprocess": "standardise"}
    rows, preparation = prepare(vectors, np.full(30, 3), card((-9.0, 18.0)), NO_WORDS, options)
    stored = PreparationDataset(filepath=str(tmp_path / "preparation.safetensors"))
    stored.save(preparation)
    np.testing.assert_array_equal(open_preparation(stored.load())(vectors), rows)
    assert stored.load().to_plain() == preparation.to_plain()


def test_texts_keep_their_weights_in_a_file(parameters, tmp_path):
    rows, terms = tfidf(CORPUS, 2000)
    vocabulary = {"terms": terms, "idf": idf_of(rows).tolist()}
    options = parameters["features"] | {"scaling": "none"}
    _, preparation = prepare(rows, np.full(5, 3), card(), vocabulary, options)
    stored = PreparationDataset(filepath=str(tmp_path / "preparation.safetensors"))
    stored.save(preparation)
    loaded = stored.load()
    assert loaded.terms == tuple(terms)
    np.testing.assert_array_equal(loaded.arrays["idf"], idf_of(rows))


def test_a_backbone_sees_new_images_as_it_saw_those_of_the_training(backbone_options, images):
    options = backbone_options(postprocess="centre_l2")
    rows, preparation = prepare(images, np.full(len(images), 3), card(), NO_WORDS, options)
    apply = open_preparation(preparation)
    np.testing.assert_allclose(apply(images), rows, atol=1e-5)
    np.testing.assert_allclose(apply(images[4:5]), rows[4:5], atol=1e-5)


def test_other_weights_of_a_backbone_are_refused(weights, backbone_options, images, tmp_path):
    _, preparation = prepare(images, np.full(len(images), 3), card(), NO_WORDS, backbone_options())
    state = safetensors.torch.load_file(weights)
    other = tmp_path / "other.safetensors"
    safetensors.torch.save_file({name: value + 1 for name, value in state.items()}, other)
    with pytest.raises(ValueError, match=r"weights .*other.safetensors of mobilenet_v2: expected sha256"):
        open_preparation(preparation, str(other))
    with pytest.raises(ValueError, match=r"no such file: 'gone\.pth'"):
        open_preparation(preparation, "gone.pth")

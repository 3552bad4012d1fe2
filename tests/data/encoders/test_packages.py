"""Encoders of sentence-transformers and model2vec, which are not installed here: modules with the same interface."""

import sys
from types import ModuleType

import numpy as np
import pytest
import torch

from deep_clustering.data.encoders.encoding import encode, open_encoders

TEXTS = ["oil", "wheat and oil", "trade", "a much longer text of prices"]
ALL = np.ones(4, dtype=bool)


class Model:
    """Rows of lengths, counts of blanks and a weight; notes how it was asked."""

    weight = 3.0

    def __init__(self, name, **options):
        if name == "unknown":
            raise OSError("unknown is not a local folder and no model of the hub\nmore")
        self.asked = options

    def encode(self, texts, batch_size=32, show_progress_bar=None):
        assert show_progress_bar is False
        assert isinstance(texts, list)
        return np.array([[len(text), text.count(" "), self.weight] for text in texts], dtype=np.float64)


class Transformer(Model):
    def state_dict(self):
        return {"weight": torch.tensor([self.weight], dtype=torch.bfloat16)}


class Static(Model):
    @classmethod
    def from_pretrained(cls, name):
        return cls(name)

    @property
    def embedding(self):
        return np.array([self.weight])


EXPECTED = np.array([[3, 0, 3], [13, 2, 3], [5, 0, 3], [28, 5, 3]])
NAMES = ["sentence-transformers:some/model", "model2vec:some/model"]


@pytest.fixture
def installed(monkeypatch):
    """Both packages, and a version for what notes it."""
    for name, attribute, cls in (
        ("sentence_transformers", "SentenceTransformer", Transformer),
        ("model2vec", "StaticModel", Static),
    ):
        module = ModuleType(name)
        setattr(module, attribute, cls)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr("deep_clustering.data.shards.version", lambda package: "1.0")


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_what_the_package_gives(installed, make_options, name, monkeypatch):
    options = make_options(encoder=name, batch_size=2)
    rows, arrays, sha256 = encode(np.zeros((4, 1)), TEXTS, ALL, options)
    np.testing.assert_array_equal(rows, EXPECTED)
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(open_encoders(options, arrays, sha256)(TEXTS[1:2]), EXPECTED[1:2])
    monkeypatch.setattr(Model, "weight", 4.0)
    with pytest.raises(ValueError, match=f"encoder {name}: expected sha256 {sha256}, got "):
        open_encoders(options, arrays, sha256)
    np.testing.assert_array_equal(encode(np.zeros((4, 1)), TEXTS, ALL, options).rows[:, 2], 4)


@pytest.mark.parametrize("kind", ["sentence-transformers", "model2vec"])
def test_a_model_that_cannot_be_loaded_is_named(installed, make_options, kind):
    with pytest.raises(ValueError, match=rf"features: encoder '{kind}:unknown' cannot be loaded \(unknown is not a "):
        encode(np.zeros((4, 1)), TEXTS, ALL, make_options(encoder=f"{kind}:unknown"))


def test_rows_of_another_rank_are_refused(installed, make_options, monkeypatch):
    monkeypatch.setattr(Model, "encode", lambda self, texts, **options: np.zeros((len(texts), 7, 2)))
    with pytest.raises(ValueError, match=r"model2vec gives \(4, 7, 2\) for 4 texts; expected \(texts, values\)"):
        encode(np.zeros((4, 1)), TEXTS, ALL, make_options(encoder="model2vec:x"))


@pytest.mark.parametrize(
    ("name", "modules", "message"),
    [
        ("sentence-transformers:x", ["sentence_transformers"], "pip install sentence-transformers"),
        ("model2vec:x", ["model2vec"], "pip install model2vec"),
        ("onnx:x", ["onnxruntime", "tokenizers"], "pip install onnxruntime tokenizers, which the extra text holds"),
    ],
)
def test_a_package_that_is_missing_is_named(make_options, monkeypatch, name, modules, message):
    monkeypatch.setattr("deep_clustering.data.encoders.known._is_installed", lambda package: package not in modules)
    with pytest.raises(ValueError, match=f"encoder '{name}' needs {' and '.join(modules)}, not installed .*{message}"):
        make_options(encoder=name)


def test_two_encoders_side_by_side_have_rows_of_length_one_and_weigh_alike(installed, parameters, tmp_path):
    """The rows of each space are centred and made equally long; a linear function of both is the sum over them."""
    from deep_clustering.data.preparation import open_preparation, prepare

    options = parameters["features"] | {
        "encoder": ["model2vec:x", "lsa"],
        "postprocess": "centre_l2",
        "cache": str(tmp_path),
        "lsa": 3,
        "max_df": 1.0,
        "min_df": 1,
    }
    card = {"name": "some", "value_range": [0.0, 1.0], "sha256": {"samples": "0" * 64}}
    rows, preparation = prepare(np.zeros((4, 1)), np.full(4, 3), card, {"terms": [], "idf": None}, options, TEXTS)
    assert rows.shape == (4, 6)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-6)
    centred = EXPECTED - EXPECTED.mean(axis=0)
    expected = centred / np.linalg.norm(centred, axis=1, keepdims=True) / np.sqrt(2)
    np.testing.assert_allclose(rows[:, :3], expected, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(rows[:, 3:], axis=1), np.sqrt(0.5), rtol=1e-6)
    np.testing.assert_allclose(open_preparation(preparation)(TEXTS[2:3]), rows[2:3], atol=1e-6)

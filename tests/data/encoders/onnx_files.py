"""Folders of tiny text encoders, written without the package onnx: a table of vectors, one for each token."""

from pathlib import Path

import numpy as np
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "oil", "wheat", "trade", "price", "and"]
FLOAT, INT64 = 1, 7
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def vectors(seed=0, width=6):
    """The vector of each word, shape (n_words, width), float32."""
    return np.random.default_rng(seed).normal(size=(len(WORDS), width)).astype(np.float32)


def _varint(number: int) -> bytes:
    parts = []
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])


def _field(number: int, value: "int | str | bytes") -> bytes:
    """A field of a protocol buffer: a whole number, or bytes with their length."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    content = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _value(name: str, kind: int, axes: "tuple[str, ...] | None") -> bytes:
    shape = b"" if axes is None else _field(2, b"".join(_field(1, _field(2, axis)) for axis in axes))
    return _field(1, name) + _field(2, _field(1, _field(1, kind) + shape))


def _node(operation: str, inputs: tuple[str, ...], output: str, attributes: bytes = b"") -> bytes:
    return b"".join(_field(1, name) for name in inputs) + _field(2, output) + _field(4, operation) + attributes


def model_bytes(table, *, inputs=INPUTS, rank=3, declared=True) -> bytes:
    """An ONNX model whose output is the vector of each token; of rank 2 their mean.

    Args:
        table: Vector of each token, shape (n_tokens, width), float32.
        inputs: Names of the inputs; the first has the tokens.
        rank: Of the output.
        declared: Whether the model says which shape its output has.
    """
    nodes = [_node("Gather", ("table", inputs[0]), "hidden")]
    axes = ("texts", "tokens", "values")
    if rank == 2:
        # ReduceMean of opset 13: attributes axes (ints) and keepdims (int)
        mean = _field(5, _field(1, "axes") + _field(8, 1) + _field(20, 7))
        mean += _field(5, _field(1, "keepdims") + _field(3, 0) + _field(20, 2))
        nodes.append(_node("ReduceMean", ("hidden",), "pooled", mean))
        axes = ("texts", "values")
    initial = b"".join(_field(1, size) for size in table.shape) + _field(2, FLOAT)
    initial += _field(8, "table") + _field(9, table.tobytes())
    graph = b"".join(_field(1, node) for node in nodes) + _field(2, "tiny") + _field(5, initial)
    graph += b"".join(_field(11, _value(name, INT64, ("texts", "tokens"))) for name in inputs)
    graph += _field(12, _value("hidden" if rank == 3 else "pooled", FLOAT, axes if declared else None))
    return _field(1, 8) + _field(7, graph) + _field(8, _field(1, "") + _field(2, 13))


def write_encoder(folder: Path, table=None, **model) -> Path:
    """A folder with model.onnx and tokenizer.json.

    Args:
        folder: Made if it is not there.
        table: As in `model_bytes`.
        model: Options of `model_bytes`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model_bytes(vectors() if table is None else table, **model))
    tokenizer = Tokenizer(WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def tokens_of(text: str, longest: int = 512) -> list[int]:
    """Tokens of a text by the definition: the first words, between the two marks."""
    words = [WORDS.index(word) if word in WORDS else WORDS.index("[UNK]") for word in text.split()]
    return [1, *words[: longest - 2], 2]

"""Sentence encoders kept as ONNX: the oracle is the table of vectors that the model holds."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="the extra text is not installed")
pytest.importorskip("tokenizers", reason="the extra text is not installed")

from data.encoders.onnx_files import model_bytes, tokens_of, vectors, write_encoder
from deep_clustering.data import shards
from deep_clustering.data.encoders import onnx_model
from deep_clustering.data.encoders.encoding import encode, open_encoders
from forks import run_forked

TEXTS = ["oil and wheat", "oil", "wheat trade price and oil", "trade", "price oil", "gold", "and and and"] * 3
ALL = np.ones(len(TEXTS), dtype=bool)
DATA = os.environ.get("DEEP_CLUSTERING_DATA")


def rows_by_definition(texts, how, table, longest=512):
    found = [table[tokens_of(text, longest)] for text in texts]
    return np.array([values[0] if how == "cls" else values.mean(axis=0) for values in found])


@pytest.fixture
def folder(tmp_path):
    return write_encoder(tmp_path / "encoder")


@pytest.fixture
def runs(monkeypatch):
    """Number of texts of each batch that reached a model."""
    seen = []
    original = onnx_model.OnnxEncoder._run

    def counted(self, tokens):
        seen.append([len(ids) for ids in tokens])
        return original(self, tokens)

    monkeypatch.setattr(onnx_model.OnnxEncoder, "_run", counted)
    return seen


def rows_of(texts, options):
    return encode(np.zeros((len(texts), 1), np.float32), texts, np.ones(len(texts), dtype=bool), options)


@pytest.mark.parametrize("how", ["cls", "mean"])
@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_rows_are_the_pooled_vectors_of_their_tokens_in_the_order_of_the_texts(folder, make_options, how, batch_size):
    options = make_options(encoder=f"onnx:{folder}", pooling=how, batch_size=batch_size)
    rows, arrays, sha256 = rows_of(TEXTS, options)
    np.testing.assert_allclose(rows, rows_by_definition(TEXTS, how, vectors()), rtol=1e-5, atol=1e-6)
    assert rows.dtype == np.float32
    assert arrays["widths"].tolist() == [6]
    apply = open_encoders(options, arrays, sha256)
    np.testing.assert_allclose(apply(TEXTS[2:3]), rows[2:3], rtol=1e-5, atol=1e-6)


def test_texts_of_about_equal_length_are_computed_together(folder, make_options, runs):
    rows_of(TEXTS, make_options(encoder=f"onnx:{folder}", batch_size=4))
    lengths = [length for batch in runs[1:] for length in batch]
    assert lengths == sorted(len(tokens_of(text)) for text in TEXTS)
    assert all(len(batch) <= 4 for batch in runs)


def test_long_texts_are_computed_a_few_at_a_time(folder, make_options, runs, monkeypatch):
    monkeypatch.setattr(onnx_model, "_TOKENS", 10)
    rows_of(TEXTS, make_options(encoder=f"onnx:{folder}"))
    assert all(len(batch) * max(batch) <= 10 or len(batch) == 1 for batch in runs)


def test_a_model_that_scales_by_the_batch_gets_texts_one_by_one(folder, make_options, runs):
    with (folder / "model.onnx").open("ab") as file:
        # the field doc_string of the model
        file.write(b"\x32\x15DynamicQuantizeLinear")
    rows_of(TEXTS, make_options(encoder=f"onnx:{folder}"))
    assert {len(batch) for batch in runs} == {1}


def test_workers_of_a_cluster_give_the_same_rows_and_what_they_cut_is_counted_once(
    two_nodes, folder, make_options, runs, monkeypatch, tmp_path, caplog
):
    monkeypatch.setattr(shards, "ROWS_PER_SHARD", 4)
    texts = ["oil " * 30, "wheat", "trade " * 8, "price " * 7, "oil", "wheat " * 20]
    options = {"encoder": f"onnx:{folder}", "pooling": "mean", "max_tokens": 9}
    alone = rows_of(texts, make_options(**options, cache=str(tmp_path / "alone"))).rows
    caplog.clear()
    encoder_was_tried = len(runs)
    by_workers = rows_of(texts, make_options(**options, launcher="ray")).rows
    assert len(runs) == encoder_was_tried + 1  # by one more text
    np.testing.assert_array_equal(by_workers, alone)
    (said,) = [message for message in caplog.messages if "were cut" in message]
    assert said == "features: 3 texts are longer than 9 tokens and were cut there"


@pytest.mark.parametrize("where", ["option", "config.json", "tokenizer_config.json"])
def test_long_texts_are_cut_and_counted(folder, make_options, where, caplog):
    key = {"config.json": "max_position_embeddings", "tokenizer_config.json": "model_max_length"}
    if where != "option":
        (folder / where).write_text(json.dumps({key[where]: 9}))
    texts = ["oil " * 30, "wheat", "trade " * 8, "price " * 7]
    options = make_options(encoder=f"onnx:{folder}", pooling="mean", max_tokens=9 if where == "option" else 512)
    rows, *_ = rows_of(texts, options)
    np.testing.assert_allclose(rows, rows_by_definition(texts, "mean", vectors(), 9), rtol=1e-5)
    (said,) = [message for message in caplog.messages if "were cut" in message]  # one line, however many texts
    assert said == "features: 2 texts are longer than 9 tokens and were cut there"


def test_a_second_run_reads_and_a_changed_model_does_not(folder, make_options, runs):
    options = make_options(encoder=f"onnx:{folder}")
    first, _, sha256 = rows_of(TEXTS, options)
    n_runs = len(runs)
    second, *_ = rows_of(TEXTS, options)
    np.testing.assert_array_equal(first, second)
    assert len(runs) == n_runs + 1  # the text that tries the model
    (folder / "model.onnx").write_bytes(model_bytes(vectors(1)))
    third, _, changed = rows_of(TEXTS, options)
    np.testing.assert_allclose(third, rows_by_definition(TEXTS, "cls", vectors(1)), rtol=1e-5)
    assert changed != sha256


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_a_changed_file_is_refused_where_new_texts_are_read(folder, make_options, name):
    options = make_options(encoder=f"onnx:{folder}")
    _, arrays, sha256 = rows_of(TEXTS, options)
    if name == "model.onnx":
        (folder / name).write_bytes(model_bytes(vectors(1)))
    else:
        (folder / name).write_text((folder / name).read_text() + "\n")
    with pytest.raises(ValueError, match=rf"features: encoder onnx:.*encoder: expected sha256 {sha256}, got "):
        open_encoders(options, arrays, sha256)


def test_what_changes_the_rows_changes_the_key(folder, make_options, tmp_path):
    rows_of(TEXTS, make_options(encoder=f"onnx:{folder}"))
    rows_of(TEXTS, make_options(encoder=f"onnx:{folder}", pooling="mean"))
    rows_of(TEXTS, make_options(encoder=f"onnx:{folder}", max_tokens=8))
    rows_of(TEXTS[::-1], make_options(encoder=f"onnx:{folder}"))
    rows_of(TEXTS, make_options(encoder=f"onnx:{folder}", batch_size=3, postprocess="centre_l2", size=99))
    assert len(list((tmp_path / "cache").iterdir())) == 4


KILLED = """
import os, signal, sys
import numpy as np
from deep_clustering.data import shards
from deep_clustering.data.encoders.encoding import encode
from deep_clustering.data.feature_options import FeatureOptions
shards.ROWS_PER_SHARD = 8
replace, written = os.replace, []
def killed_before_the_second_shard(source, target):
    written.append(target)
    if len(written) == 3:  # the manifest and one shard are there, the second is a .part
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
os.replace = killed_before_the_second_shard
options = FeatureOptions(scaling="none", postprocess="none", backbone=None, weights="", size=32, layer="", batch_size=4,
    precision="fp32", device="cpu", cache=sys.argv[2], encoder="onnx:" + sys.argv[1], pooling="cls", max_tokens=512,
    lsa=100, max_terms=20000, max_df=0.3, min_df=2,
    beside_gradients=False, launcher="local", learned={})
texts = sys.argv[3:]
encode(np.zeros((len(texts), 1), np.float32), texts, np.ones(len(texts), dtype=bool), options)
"""


def test_a_killed_run_is_resumed_bit_for_bit(folder, make_options, runs, monkeypatch, tmp_path):
    assert run_forked(KILLED, folder, tmp_path / "cache", *TEXTS) == -signal.SIGKILL
    monkeypatch.setattr(shards, "ROWS_PER_SHARD", 8)
    resumed, *_ = rows_of(TEXTS, make_options(encoder=f"onnx:{folder}", batch_size=4))
    assert sum(len(batch) for batch in runs[1:]) == len(TEXTS) - 8
    unbroken = make_options(encoder=f"onnx:{folder}", batch_size=4, cache=str(tmp_path / "unbroken"))
    np.testing.assert_array_equal(resumed, rows_of(TEXTS, unbroken).rows)


# What is refused


def test_not_a_number_is_never_stored(tmp_path, make_options):
    table = vectors()
    table[4] = np.nan
    folder = write_encoder(tmp_path / "broken", table)
    with pytest.raises(ValueError, match=f"the network gives NaN or infinity for texts 0 to {len(TEXTS) - 1}"):
        rows_of(TEXTS, make_options(encoder=f"onnx:{folder}", pooling="mean"))
    assert not list((tmp_path / "cache").glob("*/*.npy"))


@pytest.mark.parametrize("missing", [["model.onnx"], ["tokenizer.json"], ["model.onnx", "tokenizer.json"]])
def test_a_folder_without_its_files_is_refused_before_anything_is_read(folder, make_options, missing):
    for name in missing:
        (folder / name).unlink()
    with pytest.raises(ValueError, match=f"encoder 'onnx:.*': no {' and no '.join(missing)} in the folder, which ho"):
        make_options(encoder=f"onnx:{folder}")


def test_a_folder_that_is_not_there_is_refused(make_options):
    with pytest.raises(ValueError, match=r"encoder 'onnx:nowhere': no such folder \(looked in "):
        make_options(encoder="onnx:nowhere")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            {"inputs": ("pixel_values",)},
            "model.onnx takes pixel_values; expected a text encoder, which takes input_ids",
        ),
        ({"inputs": ("input_ids", "attention_mask", "past")}, "takes input_ids, attention_mask, past; expected"),
        ({"rank": 2}, r"model.onnx gives pooled \('texts', 6\); expected \(texts, tokens, values\) of rank 3"),
        ({"rank": 2, "declared": False}, r"pooled.* \(.*6\).*; expected \(texts, tokens, values\) of rank 3"),
    ],
)
def test_models_of_another_kind_are_refused(tmp_path, make_options, model, message):
    folder = write_encoder(tmp_path / "other", **model)
    with pytest.raises(ValueError, match=message):
        rows_of(TEXTS, make_options(encoder=f"onnx:{folder}"))
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_damaged_files_are_named(folder, make_options, name):
    (folder / name).write_bytes(b"{} no such thing")
    with pytest.raises(ValueError, match=f"features: encoder .*: {name} is damaged or no "):
        rows_of(TEXTS, make_options(encoder=f"onnx:{folder}"))


def test_an_empty_model_is_named(folder, make_options):
    (folder / "model.onnx").write_bytes(b"")
    with pytest.raises(ValueError, match=r"encoder .*: model\.onnx is empty, expected a model"):
        rows_of(TEXTS, make_options(encoder=f"onnx:{folder}"))


def test_all_encoders_are_tried_before_one_begins(folder, make_options, runs, tmp_path):
    other = write_encoder(tmp_path / "other", rank=2)
    options = make_options(encoder=[f"onnx:{folder}", f"onnx:{other}"], postprocess="centre_l2")
    with pytest.raises(ValueError, match=f"{other}: .* of rank 3"):
        rows_of(TEXTS, options)
    assert [len(batch) for batch in runs] == [1]


@pytest.mark.parametrize("limit", ["1", "2,1", "many", ""])
def test_the_limit_of_threads_is_that_of_the_other_libraries(folder, make_options, monkeypatch, limit):
    monkeypatch.setenv("OMP_NUM_THREADS", limit)
    rows = rows_of(TEXTS, make_options(encoder=f"onnx:{folder}")).rows
    np.testing.assert_allclose(rows, rows_by_definition(TEXTS, "cls", vectors()), rtol=1e-5)


def test_half_a_character_is_no_error(folder, make_options):
    rows = rows_of(["oil \ud800", "wheat"], make_options(encoder=f"onnx:{folder}", pooling="mean")).rows
    np.testing.assert_allclose(rows, rows_by_definition(["oil gold", "wheat"], "mean", vectors()), rtol=1e-5)


@pytest.mark.parametrize("how", ["cls", "mean"])
@pytest.mark.parametrize("batch_size", [1, 64])
def test_texts_without_tokens_are_rows_of_zeros(folder, make_options, how, batch_size, caplog):
    path = folder / "tokenizer.json"  # one that puts no marks around a text, and removes what has no width
    removal = {"type": "Replace", "pattern": {"String": "\u200b"}, "content": ""}
    changes = {"post_processor": None, "normalizer": removal}
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    texts = ["oil price", "\u200b", "wheat", "\u200b\u200b"]
    options = make_options(encoder=f"onnx:{folder}", pooling=how, batch_size=batch_size)
    rows, arrays, sha256 = rows_of(texts, options)
    tokens = [vectors()[tokens_of(text)[1:-1]] for text in (texts[0], texts[2])]
    expected = [values[0] if how == "cls" else values.mean(axis=0) for values in tokens]
    np.testing.assert_allclose(rows, [expected[0], np.zeros(6), expected[1], np.zeros(6)], rtol=1e-5, atol=1e-6)
    assert "of 2 texts the tokenizer makes no token" in caplog.text
    np.testing.assert_array_equal(open_encoders(options, arrays, sha256)(texts[1:2]), np.zeros((1, 6)))


def test_an_empty_text_is_refused(folder, make_options, runs):
    with pytest.raises(ValueError, match="features: text 1 is empty; expected a text in each of the 3 rows"):
        rows_of(["oil", " ", "wheat"], make_options(encoder=f"onnx:{folder}"))
    assert runs == []


def test_data_without_texts_are_refused(folder, make_options):
    with pytest.raises(ValueError, match="needs the texts themselves, and the source of this data gives none"):
        encode(np.zeros((3, 2), np.float32), (), np.ones(3, dtype=bool), make_options(encoder=f"onnx:{folder}"))


# Real weights


@pytest.mark.skipif(DATA is None, reason="DEEP_CLUSTERING_DATA does not say where the shared weights are")
def test_a_real_encoder_puts_sentences_of_one_topic_together(make_options):
    folder = Path(DATA or "") / "weights" / "bge_small_en_v1.5"
    texts = ["Oil prices rise as OPEC cuts its output", "Crude climbs after producers agree on less supply"]
    texts += ["The striker scored twice in the final", "A late goal wins the cup for the home side"]
    rows = rows_of(texts, make_options(encoder=f"onnx:{folder}")).rows
    assert rows.shape == (4, 384)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    similarity = rows @ rows.T
    assert min(similarity[0, 1], similarity[2, 3]) > similarity[:2, 2:].max()
    alone = rows_of(texts[1:2], make_options(encoder=f"onnx:{folder}")).rows
    np.testing.assert_allclose(alone[0] / np.linalg.norm(alone), rows[1], atol=1e-5)

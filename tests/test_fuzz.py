"""Every parser of files and words, fed with damaged and hostile content: it reads, or refuses by name.

The examples are few and the same each time; `make fuzz` draws many new ones, FUZZ_EXAMPLES says how many.
"""

import io
import json
import os
import shutil
from functools import reduce

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import sparse
from sklearn.datasets import load_digits

from deep_clustering.cli import cli
from deep_clustering.data import shards, tensor_files
from deep_clustering.data.preparation import prepare
from deep_clustering.data.sources import image_shards
from deep_clustering.data.sources.array_files import array_names, is_sparse_file, read_array
from deep_clustering.data.sources.image_files import header, read_images
from deep_clustering.data.sources.number_tables import read_number_table
from deep_clustering.data.sources.prepared import read_sparse
from deep_clustering.inference.bulk import BulkOptions, predict_in_bulk
from deep_clustering.inference.predictor import Assigner, PredictorOptions, make_predictor, to_bytes
from deep_clustering.inference.stored import read_predictor
from deep_clustering.methods import make_method, save_method
from deep_clustering.methods.feedback import read_feedback
from deep_clustering.options import build
from deep_clustering.pipelines.parameters import option_schemas, split_params
from deep_clustering.pipelines.yaml_shape import misshapen
from deep_clustering.redaction import message
from deep_clustering.sweep.folder import read_json
from deep_clustering.sweep.parsing import parse_grid, parse_params, parse_seeds, split_outside
from deep_clustering.training.checkpoints import CheckpointOptions, Checkpoints

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
fuzz = settings(
    max_examples=EXAMPLES or 25,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)

RAW = load_digits().images[:40, None].astype(np.uint8)
ROWS = np.arange(12, dtype=np.float32).reshape(4, 3)
NASTY = (
    *(b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\r", b'"', b"[" * 2000, b"{" * 2000, b"9" * 5000, b"-1", b"1e999", b"NaN"),
    *(
        b"'",
        b",",
        b";",
        b"\t",
        b"../../../etc/passwd",
        b"\xed\xa0\x80",
        b"x" * 140_000,
        b"\x7f" * 8,
        b"&a [*a]",
        b"!!x",
    ),
)


def npz(**arrays):
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def npy():
    stream = io.BytesIO()
    np.save(stream, ROWS)
    return stream.getvalue()


def sparse_npz():
    stream = io.BytesIO()
    sparse.save_npz(stream, sparse.csr_matrix(ROWS))
    return stream.getvalue()


def picture(kind):
    stream = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(stream, kind)
    return stream.getvalue()


def table(kind):
    frame, stream = pd.DataFrame(ROWS, columns=["a", "b", "c"]), io.BytesIO()
    if kind == "parquet":
        frame.to_parquet(stream)
    elif kind == "jsonl":
        frame.to_json(stream, orient="records", lines=True)
    else:
        frame.to_csv(stream, index=False, sep={"csv": ",", "tsv": "\t"}[kind])
    return stream.getvalue()


def stored_predictor():
    plain = {"method": "gmm", "options": {}, "preparation": {}, "threshold": None, "max_rows": 0, "score": None}
    return tensor_files.to_bytes({"model/a": ROWS}, {"predictor": json.dumps(plain)})


def read_archive(file):
    array_names(file)
    is_sparse_file(file)
    return read_array(file, "samples")


def read_and_use(file):
    predictor, _ = read_predictor(file.parent, str(file))
    try:
        Assigner(predictor).assign(RAW)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


READERS = {
    "npy": (npy, lambda file: read_array(file, "samples")),
    "npz": (lambda: npz(samples=ROWS), read_archive),
    "sparse.npz": (sparse_npz, read_sparse),
    "csv": (lambda: table("csv"), read_number_table),
    "tsv": (lambda: table("tsv"), read_number_table),
    "jsonl": (lambda: table("jsonl"), read_number_table),
    "parquet": (lambda: table("parquet"), read_number_table),
    "safetensors": (stored_predictor, lambda file: read_predictor(file.parent, str(file))),
    "changes.csv": (lambda: b"cluster,name,merge_into,split\n0,nought,,\n1,,0,\n2,,,2\n", read_feedback),
    "pairs.csv": (lambda: b"row_a,row_b,same\n0,1,1\n2,3,0\n", read_feedback),
    "json": (lambda: b'{"grid": {"envs": ["digits"]}, "cells": [1, 2.5, null]}', read_json),
}


@st.composite
def damaged(draw, content):
    """Content with a few edits: bytes changed, cut out, put in or said twice."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data)))
        kind = draw(st.sampled_from(["flip", "cut", "insert", "nasty", "twice", "end"]))
        if kind == "flip" and at < len(data):
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del data[at : at + draw(st.integers(1, 40))]
        elif kind == "insert":
            data[at:at] = draw(st.binary(max_size=20))
        elif kind == "nasty":
            data[at:at] = draw(st.sampled_from(NASTY))
        elif kind == "twice":
            data[at:at] = data[at : at + draw(st.integers(1, 200))]
        elif kind == "end":
            del data[at:]
    return bytes(data)


def said_of(action, otherwise, refusals=(ValueError,)):
    """The message of a refusal; `otherwise` if nothing is refused. Whatever else is raised is a defect."""
    try:
        action()
    except refusals as error:
        return str(error)
    return otherwise


@pytest.mark.parametrize("name", READERS)
@fuzz
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused_by_its_name(tmp_path, name, data):
    make, read = READERS[name]
    file = tmp_path / f"hostile.{name}"
    file.write_bytes(data.draw(damaged(make()) | st.binary(max_size=300)))
    assert "hostile" in said_of(lambda: read(file), "hostile", (ValueError, OSError, MemoryError))


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "bmp", "tiff", "webp", "ppm"])
@fuzz
@given(data=st.data())
def test_a_damaged_picture_is_read_or_told_apart(tmp_path, kind, data):
    file = tmp_path / f"hostile.{kind}"
    file.write_bytes(data.draw(damaged(picture(kind))))
    header(file)
    images, kept, skipped = read_images(tmp_path, [file.name], shape=(8, 8), channels=1, fit="crop")
    assert len(images) == len(kept) == 1 - len(skipped)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Options of checkpoints, identity, and a function that damages the newest of two with content."""
    folder = tmp_path_factory.mktemp("checkpoints")
    options, identity = CheckpointOptions(every=1, resume=True, folder=str(folder)), {"method": "dcan", "options": {}}
    made = Checkpoints(options, "dcan")
    made.begin(identity)
    for epoch in (1, 2):
        made.save(epoch, {"epoch": epoch, "weights": [torch.arange(6.0)], "history": {1: None}})
    (newest,) = folder.rglob("epoch-000002.safetensors")
    return options, identity, newest, newest.read_bytes()


@fuzz
@given(data=st.data())
def test_a_damaged_checkpoint_gives_way_to_the_one_before(checkpoint, data):
    options, identity, newest, whole = checkpoint
    newest.write_bytes(data.draw(damaged(whole)))
    state = Checkpoints(options, "dcan").begin(identity)
    assert state["epoch"] in (1, 2)
    torch.testing.assert_close(state["weights"][0], torch.arange(6.0))


TEXTS = st.text(max_size=40) | st.sampled_from(
    ["[" * 2000, "{" * 1000, "0-4294967295", "a=b=c", "9" * 5000, "&a [*a]", "!!python/object:os.system", "2024-13-45"]
)


@pytest.mark.parametrize(
    "parse",
    [
        split_outside,
        split_params,
        parse_seeds,
        lambda text: parse_grid([f"dcan.epochs={text}"], ["dcan"]),
        lambda text: parse_grid([text], ["dcan"]),
        lambda text: parse_params(f"dcan.epochs={text}", ["dcan"], {}),
        message,
    ],
    ids=["split_outside", "split_params", "seeds", "grid value", "grid", "params", "message"],
)
@fuzz
@given(text=TEXTS)
def test_words_of_the_command_line_are_taken_or_refused(parse, text):
    assert said_of(lambda: parse(text), "taken")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@fuzz
@given(data=st.data())
def test_options_of_any_value_are_taken_or_refused_by_their_place(data, parameters):
    name = data.draw(st.sampled_from(sorted(option_schemas())))
    options = dict(parameters[name])
    key = data.draw(st.sampled_from(sorted(options)) | st.text(max_size=8))
    options[key] = data.draw(VALUES)
    assert said_of(lambda: build(option_schemas()[name], options, name), name).startswith(name)


@pytest.fixture(scope="module")
def predictor(tiny_options, parameters):
    card = {"name": "digits", "value_range": [0.0, 16.0], "sha256": {"samples": "0" * 64}}
    split = np.full(len(RAW), 3, dtype=np.uint8)
    rows, preparation = prepare(RAW, split, card, {"terms": [], "idf": None}, parameters["features"])
    model = save_method(make_method(tiny_options("gmm")).fit(rows))
    options = PredictorOptions(outlier_quantile=0.1, max_rows=0, data_set="numerals")
    return make_predictor(model, preparation, {}, None, split, options)


def places_of(value, place=()):
    """Where something stands in nested values, from the outside in."""
    yield from [place] if place else []
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield from places_of(item, (*place, key))


@fuzz
@given(data=st.data())
def test_a_predictor_of_any_header_assigns_or_is_refused_by_its_name(tmp_path, predictor, data):
    arrays, header = tensor_files.from_bytes(to_bytes(predictor))
    plain = json.loads(header["predictor"])
    *outer, last = data.draw(st.sampled_from(list(places_of(plain))))
    inner = reduce(lambda value, key: value[key], outer, plain)
    inner[last] = data.draw(VALUES | st.sampled_from([10**30, -1, "../../etc"]))
    if data.draw(st.booleans()):
        del arrays[data.draw(st.sampled_from(sorted(arrays)))]
    file = tmp_path / "hostile.safetensors"
    file.write_bytes(tensor_files.to_bytes(arrays, {"predictor": json.dumps(plain)}))
    assert "hostile" in said_of(lambda: read_and_use(file), "hostile")


def damage(data, files):
    """Damage one of these files, and put the others back to what they were."""
    for file, content in files.items():
        file.write_bytes(content)
    hostile = data.draw(st.sampled_from(sorted(files)))
    hostile.write_bytes(data.draw(damaged(files[hostile]) | st.binary(max_size=300)))


def contents_of(folder, pattern):
    found = {path: path.read_bytes() for path in folder.rglob(pattern)}
    assert len(found) > 1
    return found


@fuzz
@given(data=st.data())
def test_a_damaged_shard_of_features_is_extracted_again_or_has_the_right_form(tmp_path, monkeypatch, data):
    monkeypatch.setattr(shards, "ROWS_PER_SHARD", 2)
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)

    def extract():
        kept = shards.open_shards(tmp_path / "cache", {"of": "fuzz"}, len(ROWS))
        made = shards.in_order(lambda start, stop: [(np.arange(stop - start), ROWS[start:stop])])
        shards.fill(kept, made, "row", ["numpy"])
        return kept.read()

    extract()
    damage(data, contents_of(tmp_path / "cache", "*.*"))
    rows = extract()
    assert (rows.shape, rows.dtype) == (ROWS.shape, np.float32)


@fuzz
@given(data=st.data())
def test_a_damaged_shard_of_images_is_decoded_again(tmp_path, monkeypatch, data):
    monkeypatch.setattr(image_shards, "_SHARD_FILES", 2)
    (tmp_path / "images").mkdir(exist_ok=True)
    names = [f"{name}.png" for name in "abc"]
    for name in names:
        if not (tmp_path / "images" / name).exists():
            (tmp_path / "images" / name).write_bytes(picture("png") if name != "b.png" else b"no picture")
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    folder = image_shards.Folder(tmp_path / "images", names, (8, 8), 1, "crop", {})
    monkeypatch.setattr(image_shards.image_files, "cores", lambda: 1)
    expected, kept, skipped = image_shards.read_in_shards(folder, tmp_path / "cache")
    assert (kept, list(skipped)) == (["a.png", "c.png"], ["b.png"])
    damage(data, contents_of(tmp_path / "cache", "*.npz"))
    images, again, left_out = image_shards.read_in_shards(folder, tmp_path / "cache")
    np.testing.assert_array_equal(images, expected)
    assert (again, left_out) == (kept, skipped)


@fuzz
@given(data=st.data())
def test_a_damaged_prediction_goes_on_or_is_refused_by_its_folder(tmp_path, predictor, parameters, data):
    shutil.rmtree(tmp_path / "hostile", ignore_errors=True)
    (tmp_path / "predictor.safetensors").write_bytes(to_bytes(predictor))
    if not (tmp_path / "rows.npy").exists():
        np.save(tmp_path / "rows.npy", RAW)
    given_rows = {"model": str(tmp_path / "predictor.safetensors"), "input": str(tmp_path / "rows.npy")}
    options = {**parameters["predict"], **given_rows, "chunk_rows": 8}
    into = BulkOptions(folder=tmp_path / "hostile", shard_rows=16, workers=1)
    predict_in_bulk(options, into)
    expected = pd.read_parquet(tmp_path / "hostile")
    damage(data, contents_of(tmp_path / "hostile", "*.*"))
    said = said_of(lambda: predict_in_bulk(options, into), "taken")
    assert said == "taken" or "hostile" in said
    if said == "taken":
        pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "hostile"), expected)


@pytest.mark.parametrize("words", ["--params={}", "--params=predict.column={}", "--workers={}", "--shard-rows={}"])
@fuzz
@given(text=TEXTS)
def test_words_of_a_prediction_are_taken_or_refused_with_a_code(tmp_path, monkeypatch, words, text):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, ["predict", "none.safetensors", "none.npy", "--to=out", words.format(text)])
    assert result.exit_code in (1, 2)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception


@fuzz
@given(data=st.data())
def test_the_form_of_any_yaml_is_found_out(tmp_path, data):
    text = yaml.safe_dump({"a": {"b": [1, {"c": None}]}, "d": "text"}).encode()
    (tmp_path / "parameters.yml").write_bytes(data.draw(damaged(text)))
    assert all("parameters.yml: " in problem for problem in misshapen([tmp_path]))

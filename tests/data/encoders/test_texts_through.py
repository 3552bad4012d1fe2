"""From the texts of a source to a model that takes texts: the pipeline, the file, new rows, and a moved folder."""

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("onnxruntime", reason="the extra text is not installed")
pytest.importorskip("tokenizers", reason="the extra text is not installed")

from data.encoders.onnx_files import WORDS, write_encoder
from deep_clustering.data.preparation import Preparation, open_preparation, prepare
from deep_clustering.data.sources import load_source
from deep_clustering.datasets import PreparationDataset
from pipelines.small_project import copy_project, run, versions

TOPICS = (WORDS[4:6], WORDS[6:8])


def write_table(path):
    """A table of 40 texts of two topics, in turn, the first without words."""
    generator = np.random.default_rng(0)
    texts = [" ".join(generator.choice(TOPICS[index % 2], 6)) for index in range(40)]
    table = pd.DataFrame({"words": [" ", *texts], "topic": ["none", *(["fuel", "money"] * 20)]})
    table.to_csv(path, index=False)
    return texts


SOURCE = {
    "kind": "text_table",
    "name": "tiny",
    "column": "words",
    "labels_column": "topic",
    "encoding": "utf-8",
    "max_terms": 100,
    "on_empty": "skip",
}


def test_a_source_of_texts_keeps_them_beside_their_rows(tmp_path):
    texts = write_table(tmp_path / "tiny.csv")
    source = SOURCE | {"path": str(tmp_path / "tiny.csv")}
    loaded, _ = load_source({"source": source, "n_rows": 0})
    assert list(loaded.texts) == texts
    subset, _ = load_source({"source": source, "n_rows": 9})
    rows = np.sort(np.random.default_rng(0).permutation(40)[:9])
    assert list(subset.texts) == [texts[row] for row in rows]
    digits, _ = load_source({"source": {"kind": "digits"}, "n_rows": 9})
    assert len(digits.texts) == 0


@pytest.mark.parametrize("encoder", ["onnx", "lsa"])
def test_a_model_fitted_on_an_encoder_takes_texts(tmp_path, encoder):
    project = copy_project(tmp_path / "project")
    texts = write_table(tmp_path / "tiny.csv")
    if encoder == "onnx":
        encoder = f"onnx:{write_encoder(tmp_path / 'encoder')}"
    features = {"encoder": encoder, "pooling": "mean", "postprocess": "centre_l2", "lsa": 2, "max_df": 1.0}
    features |= {"cache": str(tmp_path / "cache"), "device": "cpu"}
    source = SOURCE | {"path": str(tmp_path / "tiny.csv")}
    # sparse rows in the catalog of the environment, dense ones from the encoder
    run(
        project,
        "kmeans",
        env="reuters21578",
        ingestion={"source": source, "n_rows": 0},
        features=features,
        n_clusters=2,
    )
    (rows,) = versions(project, "features.npz")
    with np.load(rows) as archive:
        np.testing.assert_allclose(np.linalg.norm(archive["dense"], axis=1), 1, rtol=1e-5)
    assigned = np.load(versions(project, "assignments.npy")[-1])
    by_topic = assigned.reshape(-1, 2)
    assert len(set(by_topic[:, 0])) == len(set(by_topic[:, 1])) == 1
    assert by_topic[0, 0] != by_topic[0, 1]
    (model,) = versions(project, "predictor.safetensors")
    new = tmp_path / "new.csv"
    pd.DataFrame({"text": ["oil oil wheat", "price trade trade"]}).to_csv(new, index=False)
    run(project, "predict", model=str(model), input=str(new))
    predicted = pd.read_parquet(versions(project, "predictions.parquet")[-1])
    assert predicted["cluster"].tolist() == by_topic[0].tolist()
    assert len(texts) == len(assigned)


@pytest.fixture
def prepared(tmp_path, parameters):
    folder = write_encoder(tmp_path / "encoder")
    options = parameters["features"] | {"encoder": f"onnx:{folder}", "device": "cpu", "cache": str(tmp_path / "cache")}
    card = {"name": "tiny", "value_range": [0.0, 1.0], "sha256": {"samples": "0" * 64}}
    texts = ["oil wheat", "trade", "price and oil"]
    return texts, *prepare(
        np.zeros((3, 1), np.float32), np.full(3, 3), card, {"terms": [], "idf": None}, options, texts
    )


def test_a_file_changes_nothing(prepared, tmp_path):
    texts, rows, preparation = prepared
    stored = PreparationDataset(filepath=str(tmp_path / "preparation.safetensors"))
    stored.save(preparation)
    assert stored.load().to_plain() == preparation.to_plain()
    np.testing.assert_array_equal(open_preparation(stored.load())(texts), rows)


def test_a_folder_that_was_moved_is_found_by_the_option_weights(prepared, tmp_path):
    texts, rows, preparation = prepared
    (tmp_path / "encoder").rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="no such folder"):
        open_preparation(preparation)
    np.testing.assert_array_equal(open_preparation(preparation, str(tmp_path / "elsewhere"))(texts), rows)


def test_a_file_of_a_version_without_encoders_is_read(parameters):
    samples = np.random.default_rng(0).integers(0, 17, (5, 1, 4, 4), dtype=np.uint8)
    card = {"name": "some", "value_range": [0.0, 16.0], "sha256": {"samples": "0" * 64}}
    words = {"terms": [], "idf": None}
    rows, preparation = prepare(samples, np.full(5, 3), card, words, parameters["features"])
    plain = preparation.to_plain()
    del plain["reads_texts"]
    later = ("encoder", "pooling", "max_tokens", "lsa", "max_terms", "max_df", "min_df", "beside_gradients", "learned")
    plain["options"] = {name: value for name, value in plain["options"].items() if name not in later}
    earlier = Preparation.from_plain(plain, preparation.arrays)
    np.testing.assert_array_equal(open_preparation(earlier)(samples), rows)

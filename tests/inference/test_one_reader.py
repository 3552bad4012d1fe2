"""What training reads, prediction reads: the training file gets the assignments of training, whatever its kind."""

import logging

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import sparse

from deep_clustering.data.preparation import Preparation, prepare
from deep_clustering.data.sources import load_source
from deep_clustering.datasets import PredictionsDataset, PredictorDataset
from deep_clustering.inference import predictor as predictors
from deep_clustering.inference.prediction import predict_rows
from deep_clustering.inference.predictor import Assigner, PredictorOptions, make_predictor
from deep_clustering.methods import make_method, save_method

GENERATOR = np.random.default_rng(0)
# Two groups, dark and bright images; not square and with another number of rows than of anything else.
BRIGHT = np.arange(23) % 2
GREY = (0.2 + 0.5 * BRIGHT[:, None, None, None] + 0.2 * GENERATOR.random((23, 1, 4, 5))).astype(np.float64)
COLOUR = (0.2 + 0.5 * BRIGHT[:, None, None, None] + 0.2 * GENERATOR.random((23, 3, 4, 5))).astype(np.float64)
# Its shape does not tell where the channels are.
CUBES = (0.2 + 0.5 * BRIGHT[:, None, None, None] + 0.2 * GENERATOR.random((23, 3, 3, 3))).astype(np.float64)
TEXTS = [
    "Öl und Weizen",
    "Öl und Preise",
    "Öl steigt",
    "der Preis für Öl",
    "Fußball und Tore",
    "viele Tore",
    "Fußball im Stadion",
    "Tore im Stadion",
]
EMPTY = 3

DTYPES = {
    "uint8": lambda unit: np.rint(unit * 255).astype(np.uint8),
    "uint16": lambda unit: np.rint(unit * 4095).astype(np.uint16),
    "float32": lambda unit: unit.astype(np.float32),
    "float64": lambda unit: unit,
    "int64": lambda unit: np.rint(unit * 1000).astype(np.int64) - 500,
    "bool": lambda unit: unit > 0.5,
}
LAYOUTS = {
    "nchw": (COLOUR, lambda images: images),
    "nhwc": (COLOUR, lambda images: images.transpose(0, 2, 3, 1)),
    "nhwc cubes": (CUBES, lambda images: images.transpose(0, 2, 3, 1)),
    "nchw cubes": (CUBES, lambda images: images),
    "nhw": (GREY, lambda images: images[:, 0]),
    "vectors": (COLOUR, lambda images: images.reshape(len(images), -1)),
    "vectors of images": (COLOUR, lambda images: images),
}
WRITERS = {
    "npy": lambda path, rows: np.save(path, rows),
    "npz": lambda path, rows: np.savez(path, images=rows),
    "npz of two": lambda path, rows: np.savez(path, images=rows, other=rows[::-1] * 0, classes=BRIGHT),
}


@pytest.fixture
def train(tmp_path, tiny_options, parameters):
    """Function: source, method to (the assignments of training, file of the predictor)."""

    def make(source, method="kmeans", rows="vectors", **features):
        loaded, card = load_source({"source": {"name": "mine", **source}, "n_rows": 0})
        vocabulary = {"terms": loaded.vocabulary, "idf": None if loaded.idf is None else loaded.idf.tolist()}
        options = parameters["features"] | {"scaling": "none" if loaded.texts else "range"} | features
        rows_made, preparation = prepare(loaded.samples, loaded.split, card, vocabulary, options, loaded.texts)
        estimator = make_method(tiny_options(method, rows, n_clusters=2)).fit(rows_made)
        chosen = PredictorOptions(outlier_quantile=0.1, max_rows=0, data_set="folder_of_mine")
        made = make_predictor(
            save_method(estimator),
            preparation,
            estimator.history_,
            estimator.describe(rows_made).log_density,
            loaded.split,
            chosen,
        )
        path = tmp_path / "predictor.safetensors"
        PredictorDataset(filepath=str(path)).save(made)
        return estimator.predict(rows_made), path

    return make


@pytest.fixture
def predict(parameters):
    """Function: file of a predictor, rows, options of `predict` to the table of predictions."""

    def make(model, rows, **options):
        return predict_rows(
            {**parameters["predict"], "model": str(model), "input": str(rows), "chunk_rows": 5} | options
        )

    return make


def arrays(path, **changes):
    return {
        "kind": "arrays",
        "samples": str(path),
        "labels": None,
        "key": None,
        "layout": "auto",
        "value_range": None,
    } | changes


def text_table(path, **changes):
    return {
        "kind": "text_table",
        "path": str(path),
        "column": "text",
        "labels_column": None,
        "encoding": "utf-8",
        "max_terms": 100,
        "on_empty": "skip",
    } | changes


def image_folder(path, **changes):
    return {
        "kind": "image_folder",
        "path": str(path),
        "size": [4, 5],
        "channels": 1,
        "fit": "crop",
        "labels": "none",
        "on_error": "skip",
        "extensions": ["png", "tif"],
    } | changes


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_arrays_of_any_layout_and_type(train, predict, tmp_path, layout, dtype):
    images, store = LAYOUTS[layout]
    np.save(tmp_path / "rows.npy", store(DTYPES[dtype](images)))
    assigned, model = train(arrays(tmp_path / "rows.npy", layout=layout.split()[0]))
    assert set(assigned) == {0, 1}
    table = predict(model, tmp_path / "rows.npy")
    np.testing.assert_array_equal(table["cluster"], assigned)
    assert table["id"].tolist() == list(range(23))


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_arrays_in_any_file(train, predict, tmp_path, kind, dtype):
    path = tmp_path / f"rows.{kind[:3]}"
    WRITERS[kind](path, DTYPES[dtype](COLOUR))
    told = {"key": "images", "labels": "classes"} if kind == "npz of two" else {}
    assigned, model = train(arrays(path, **told))
    np.testing.assert_array_equal(predict(model, path)["cluster"], assigned)


NUMBERS = np.concatenate([np.random.default_rng(0).normal(size=(9, 3)), 9 + np.zeros((4, 3))])
MEASURED = pd.DataFrame(NUMBERS, columns=["a", "b", "c"]).assign(
    name="x", id=range(13), species=["low"] * 9 + ["high"] * 4
)
TABLES_OF_NUMBERS = {
    "rows.csv": lambda table, path: table.to_csv(path),
    "rows.tsv": lambda table, path: table.to_csv(path, sep="\t", index=False),
    "comma.csv": lambda table, path: table.to_csv(path, sep=";", decimal=",", index=False),
    "rows.csv.gz": lambda table, path: table.to_csv(path, index=False),
    "rows.jsonl": lambda table, path: table.to_json(path, orient="records", lines=True, double_precision=15),
    "rows.parquet": lambda table, path: table.to_parquet(path),
}


@pytest.mark.parametrize("name", TABLES_OF_NUMBERS)
def test_tables_of_numbers_beside_other_columns(train, predict, tmp_path, name):
    path = tmp_path / name
    TABLES_OF_NUMBERS[name](MEASURED, path)
    assigned, model = train(arrays(path, labels="species"))
    np.testing.assert_array_equal(predict(model, path)["cluster"], assigned)
    assert len(set(assigned[:9])) == 1
    assert assigned[-1] != assigned[0]
    MEASURED[["c", "b", "a"]].to_csv(tmp_path / "turned.csv", index=False)
    np.testing.assert_array_equal(predict(model, tmp_path / "turned.csv")["cluster"], assigned)
    MEASURED[["a", "b", "c"]].set_axis(["x", "y", "z"], axis=1).to_csv(tmp_path / "renamed.csv", index=False)
    np.testing.assert_array_equal(predict(model, tmp_path / "renamed.csv")["cluster"], assigned)
    MEASURED[["a", "c"]].to_csv(tmp_path / "few.csv", index=False)
    with pytest.raises(ValueError, match=r"few\.csv: no column 'b'"):
        predict(model, tmp_path / "few.csv")


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl", "rows.parquet"])
def test_columns_of_lists(train, predict, tmp_path, name):
    table = MEASURED[["name", "species"]].assign(vector=[row.tolist() for row in NUMBERS])
    TABLES_OF_NUMBERS[name](table, tmp_path / name)
    assigned, model = train(arrays(tmp_path / name, key="vector", labels="species"))
    np.testing.assert_array_equal(predict(model, tmp_path / name)["cluster"], assigned)
    TABLES_OF_NUMBERS[name](table.rename(columns={"vector": "other"}), tmp_path / f"new{name}")
    np.testing.assert_array_equal(predict(model, tmp_path / f"new{name}", key="other")["cluster"], assigned)


@pytest.mark.parametrize("name", TABLES_OF_NUMBERS)
def test_rows_of_a_table_are_called_as_its_column_of_ids_says(train, predict, tmp_path, name):
    ids = [f"{number:03}" for number in range(40, 40 + len(MEASURED))]
    TABLES_OF_NUMBERS[name](MEASURED.assign(who=ids), tmp_path / name)
    assigned, model = train(arrays(tmp_path / name, labels="species", id_column="who"))
    table = predict(model, tmp_path / name)
    assert table["id"].tolist() == ids
    np.testing.assert_array_equal(table["cluster"], assigned)
    MEASURED.to_csv(tmp_path / "other.csv", index=False)
    assert predict(model, tmp_path / "other.csv")["id"].tolist() == list(range(len(MEASURED)))


def test_texts_are_called_as_their_column_of_ids_says_and_an_empty_cell_is_a_number(train, predict, tmp_path):
    ids = ["007", *"bcdefg", ""]
    pd.DataFrame({"text": TEXTS, "doc": ids}).to_csv(tmp_path / "texts.csv", index=False)
    _, model = train(text_table(tmp_path / "texts.csv", id_column="doc"))
    assert predict(model, tmp_path / "texts.csv")["id"].tolist() == [*ids[:-1], "row 7"]


def test_an_archive_whose_samples_are_all_but_the_labels(train, predict, tmp_path):
    np.savez(tmp_path / "rows.npz", images=COLOUR, classes=BRIGHT)
    assigned, model = train(arrays(tmp_path / "rows.npz", labels="classes"))
    np.testing.assert_array_equal(predict(model, tmp_path / "rows.npz")["cluster"], assigned)
    np.savez(tmp_path / "new.npz", COLOUR[:3])
    np.testing.assert_array_equal(predict(model, tmp_path / "new.npz")["cluster"], assigned[:3])
    np.savez(tmp_path / "renamed.npz", nothing=COLOUR * 0, rows=COLOUR)
    np.testing.assert_array_equal(predict(model, tmp_path / "renamed.npz", key="rows")["cluster"], assigned)


def test_greys_of_more_than_8_bits_are_scaled_as_in_training(train, predict, tmp_path):
    (tmp_path / "all").mkdir()
    (tmp_path / "few").mkdir()
    for index in range(23):
        grey = (400 + 160 * GREY[index, 0]).astype(np.uint16)
        Image.fromarray(grey).save(tmp_path / f"all/{index:02d}.png")
        if BRIGHT[index]:
            Image.fromarray(grey).save(tmp_path / f"few/{index:02d}.png")
    assigned, model = train(image_folder(tmp_path / "all"))
    assert set(assigned) == {0, 1}
    np.testing.assert_array_equal(predict(model, tmp_path / "all")["cluster"], assigned)
    np.testing.assert_array_equal(predict(model, tmp_path / "few")["cluster"], assigned[BRIGHT == 1])


@pytest.mark.parametrize("features", [{}, {"encoder": "lsa", "lsa": 2, "min_df": 1, "max_df": 0.9}])
def test_texts_without_spaces(train, predict, tmp_path, features):
    texts = ["石油价格上涨了", "今天石油价格下跌", "原油石油出口", "足球比赛进球", "昨天足球进球很多", "球队足球比赛"]
    pd.DataFrame({"text": texts}).to_csv(tmp_path / "a.csv", index=False)
    assigned, model = train(text_table(tmp_path / "a.csv"), **features)
    np.testing.assert_array_equal(predict(model, tmp_path / "a.csv")["cluster"], assigned)
    assert len(set(assigned[:3])) == len(set(assigned[3:])) == 1


@pytest.mark.parametrize("form", [sparse.csr_matrix, sparse.csc_matrix, sparse.coo_matrix])
def test_sparse_files_of_any_form(train, predict, tmp_path, form):
    rows = COLOUR.reshape(23, -1) * (GENERATOR.random((23, 60)) < 0.8)
    sparse.save_npz(tmp_path / "rows.npz", form(rows))
    source = {"kind": "sparse_arrays", "samples": str(tmp_path / "rows.npz"), "labels": None, "vocabulary": None}
    assigned, model = train(source, scaling="none")
    np.testing.assert_array_equal(predict(model, tmp_path / "rows.npz")["cluster"], assigned)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_a_network_on_images(train, predict, tmp_path, dtype):
    np.save(tmp_path / "rows.npy", DTYPES[dtype](np.tile(COLOUR, (1, 1, 2, 2))).transpose(0, 2, 3, 1))
    assigned, model = train(arrays(tmp_path / "rows.npy"), "dcan", "images")
    np.testing.assert_array_equal(predict(model, tmp_path / "rows.npy")["cluster"], assigned)


@pytest.mark.parametrize(
    ("name", "separator", "encoding", "header"),
    [
        ("texts.csv", ",", "utf-8", True),
        ("texts.csv", ";", "latin-1", True),
        ("texts.csv", ",", "cp1252", False),
        ("texts.tsv", "\t", "latin-1", True),
        ("texts.tsv", "\t", "utf-16", False),
        ("texts.parquet", None, "utf-8", True),
        ("texts.jsonl", None, "latin-1", True),
    ],
)
@pytest.mark.parametrize("features", [{}, {"encoder": "lsa", "lsa": 2, "min_df": 1, "max_df": 0.9}])
def test_tables_of_texts(train, predict, tmp_path, name, separator, encoding, header, features):
    path = tmp_path / name
    texts = [*TEXTS[:EMPTY], "", *TEXTS[EMPTY:]]
    frame = pd.DataFrame({"number": range(9), "body": texts})
    if separator:
        frame.to_csv(path, sep=separator, encoding=encoding, header=header, index=False)
    elif name.endswith("parquet"):
        frame.to_parquet(path)
    else:
        path.write_text(frame.to_json(orient="records", lines=True, force_ascii=False), encoding=encoding)
    told = {"column": "body" if header else 1, "encoding": encoding}
    assigned, model = train(text_table(path, **told, **({} if header else {"header": False})), **features)
    table = predict(model, path)
    assert table["id"].tolist() == list(range(9))
    np.testing.assert_array_equal(table["cluster"].drop(EMPTY), assigned)
    assert table["cluster"][EMPTY] == -1
    assert table["skipped"].notna().tolist() == [row == EMPTY for row in range(9)]
    assert table["skipped"][EMPTY] == "no text"
    assert not table["is_outlier"][EMPTY]


def test_what_is_said_of_new_texts_beats_what_the_model_knows(train, predict, tmp_path):
    frame = pd.DataFrame({"body": TEXTS})
    frame.to_csv(tmp_path / "old.csv", index=False)
    assigned, model = train(text_table(tmp_path / "old.csv", column="body", on_empty="error"))
    frame.set_axis(["inhalt"], axis=1).assign(more=1).to_csv(tmp_path / "new.csv", sep="|", encoding="latin-1")
    with pytest.raises(ValueError, match=r"is not utf-8.*predict\.encoding"):
        predict(model, tmp_path / "new.csv")
    with pytest.raises(ValueError, match=r"no column 'body'.*predict\.column"):
        predict(model, tmp_path / "new.csv", encoding="latin-1")
    table = predict(model, tmp_path / "new.csv", encoding="latin-1", column="inhalt")
    np.testing.assert_array_equal(table["cluster"], assigned)

    pd.DataFrame({"body": ["", *TEXTS]}).to_csv(tmp_path / "gap.csv", index=False)
    with pytest.raises(ValueError, match=r"no text in row 0 \(from 0\) of column 'body'; set predict\.on_empty=skip"):
        predict(model, tmp_path / "gap.csv")
    assert predict(model, tmp_path / "gap.csv", on_empty="skip")["cluster"].tolist() == [-1, *assigned]


def test_a_table_that_is_written_otherwise_is_found_out_anew(train, predict, tmp_path):
    quoted = pd.DataFrame({"class": 1, "body": TEXTS})
    quoted.to_csv(tmp_path / "quoted.csv", sep=";", quotechar="'", quoting=1, header=False, index=False)
    _, other = train(text_table(tmp_path / "quoted.csv", column=1))
    usual = pd.DataFrame({"body": [f"{text}, {text}; '{text}" for text in TEXTS]})
    usual.to_csv(tmp_path / "usual.csv", index=False)
    assert len(predict(other, tmp_path / "usual.csv", column="body")) == len(TEXTS)


@pytest.mark.parametrize("features", [{}, {"encoder": "lsa", "lsa": 2, "min_df": 1, "max_df": 0.9}])
def test_a_text_without_a_known_word_is_an_outlier(train, predict, tmp_path, caplog, features):
    pd.DataFrame({"text": TEXTS}).to_csv(tmp_path / "old.csv", index=False)
    _, model = train(text_table(tmp_path / "old.csv"), postprocess="centre_l2" if features else "none", **features)
    pd.DataFrame({"text": ["zzz qqq", TEXTS[0]]}).to_csv(tmp_path / "new.csv", index=False)
    with caplog.at_level(logging.WARNING):
        table = predict(model, tmp_path / "new.csv")
    assert table["is_outlier"].tolist() == [True, False]
    assert table["probability"][0] == 0.5
    assert table["skipped"].isna().all()
    assert "1 texts have no known word" in caplog.text


@pytest.mark.parametrize("depth", [8, 16])
def test_folders_of_images(train, predict, tmp_path, depth):
    folder = tmp_path / "images"
    folder.mkdir()
    dtype = DTYPES["uint8" if depth == 8 else "uint16"]  # 12 of the 16 bits
    for index, image in enumerate(dtype(GREY)[:, 0]):
        Image.fromarray(image).save(folder / f"{index:02}.{'png' if depth == 8 else 'tif'}")
    (folder / "05b.png").write_bytes(b"")
    assigned, model = train(image_folder(folder))
    table = predict(model, folder)
    np.testing.assert_array_equal(table["cluster"].drop(6), assigned)
    assert table["id"][6] == "05b.png"
    assert (table["cluster"][6], table["skipped"][6]) == (-1, "empty file")
    assert np.isnan(table["probability"][6])

    alone = predict(model, sorted(folder.iterdir())[0])
    assert alone[["id", "cluster"]].equals(table[["id", "cluster"]][:1])
    with pytest.raises(ValueError, match=r"cannot be read \(05b\.png: empty file\).*predict\.on_error=skip"):
        predict(model, folder, on_error="refuse")


def test_a_folder_of_tables(train, predict, tmp_path):
    (tmp_path / "tables").mkdir()
    frame = pd.DataFrame({"body": TEXTS})
    frame.to_csv(tmp_path / "old.csv", index=False)
    assigned, model = train(text_table(tmp_path / "old.csv", column="body"))
    frame[:3].to_csv(tmp_path / "tables" / "a.csv", index=False)
    frame[3:].to_parquet(tmp_path / "tables" / "b.parquet")
    table = predict(model, tmp_path / "tables")
    assert table["id"].tolist() == [f"a.csv:{row}" for row in range(3)] + [f"b.parquet:{row}" for row in range(5)]
    np.testing.assert_array_equal(table["cluster"], assigned)


def test_the_home_folder_may_be_named_by_a_tilde(train, predict, tmp_path, monkeypatch):
    np.save(tmp_path / "rows.npy", COLOUR)
    assigned, _ = train(arrays(tmp_path / "rows.npy"))
    monkeypatch.setenv("HOME", str(tmp_path))
    table = predict("~/predictor.safetensors", "~/rows.npy")
    np.testing.assert_array_equal(table["cluster"], assigned)


def test_predictions_lie_with_the_model_that_made_them(train, predict, tmp_path):
    np.save(tmp_path / "rows.npy", COLOUR)
    _, model = train(arrays(tmp_path / "rows.npy"))
    table = predict(model, tmp_path / "rows.npy")
    stored = PredictionsDataset(filepath=str(tmp_path / "out" / "digits" / "predictions" / "predictions.parquet"))
    stored.save(table)
    (found,) = (tmp_path / "out").rglob("*.parquet")
    assert found == tmp_path / "out" / "folder_of_mine" / "predictions" / "predictions.parquet"
    assert stored.load()["cluster"].equals(table["cluster"])


@pytest.mark.parametrize("name", ["..", "a/b", "a\\b"])
def test_no_data_set_leads_out_of_the_folder(tmp_path, name):
    table = pd.DataFrame({"cluster": [0]})
    table.attrs = {"data_set": name}
    PredictionsDataset(filepath=str(tmp_path / "out" / "digits" / "predictions" / "rows.parquet")).save(table)
    (found,) = tmp_path.rglob("*.parquet")
    assert found.relative_to(tmp_path / "out").parts[1:] == ("predictions", "rows.parquet")


def test_a_file_of_a_version_that_did_not_say_how_it_read_is_loaded(train, tmp_path, monkeypatch):
    np.save(tmp_path / "rows.npy", COLOUR)
    assigned, model = train(arrays(tmp_path / "rows.npy"))
    made = PredictorDataset(filepath=str(model)).load()
    assert made.preparation.reading["layout"] == "nchw"
    plain = Preparation.to_plain
    monkeypatch.setattr(
        Preparation, "to_plain", lambda self: {name: value for name, value in plain(self).items() if name != "reading"}
    )
    dumps = predictors.json.dumps
    monkeypatch.setattr(
        predictors.json,
        "dumps",
        lambda values: dumps({name: value for name, value in values.items() if name != "data_set"}),
    )
    content = predictors.to_bytes(made)
    monkeypatch.undo()
    older = predictors.from_bytes(content)
    assert (older.preparation.reading, older.data_set) == ({}, None)
    np.testing.assert_array_equal(Assigner(older).assign(COLOUR)["cluster"], assigned)

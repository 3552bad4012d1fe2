"""What each sample is called in its source, and which rows did not become samples."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from deep_clustering.data.sources import load_source
from deep_clustering.data.sources.row_ids import given_ids, row_ids
from deep_clustering.data.sources.samples import Samples, Skipped, both

TEXTS = ["red apple", "", "green pear", "   ", "red cherry", "blue plum"]


def image_folder(root: Path, n_rows: int = 0, **changes):
    options = {"name": "mine", "path": str(root), "size": 8, "channels": 1, "fit": "crop", "labels": "none"}
    source = {"kind": "image_folder", **options, "on_error": "skip", "extensions": ["png"], **changes}
    return load_source({"source": source, "n_rows": n_rows})[0]


def text_table(file: Path, n_rows: int = 0, **changes):
    options = {"name": "mine", "path": str(file), "column": "text", "labels_column": None, "encoding": "utf-8"}
    source = {"kind": "text_table", **options, "max_terms": 50, "on_empty": "skip", **changes}
    return load_source({"source": source, "n_rows": n_rows})[0]


def lines(loaded: Samples) -> list[tuple]:
    return list(row_ids(loaded).itertuples(index=False, name=None))


@pytest.fixture
def folder(tmp_path):
    for name in ("b/1.png", "a/1.png", "c.png", "d.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 8), len(name), dtype=np.uint8)).save(path)
    (tmp_path / "a/0.png").write_bytes(b"")
    (tmp_path / "broken.png").write_text("no image")
    return tmp_path


@pytest.fixture
def table(tmp_path):
    file = tmp_path / "texts.csv"
    pd.DataFrame({"text": TEXTS, "key": ["k0", "k1", "k2", "k3", None, "k5"]}).to_csv(file, index=False)
    return file


def test_a_source_without_names_has_the_numbers_of_its_rows():
    loaded = Samples(np.zeros((3, 2), dtype=np.float32), np.full(3, -1), both(3), [], {})
    assert lines(loaded) == [(0, "0", ""), (1, "1", ""), (2, "2", "")]


def test_images_are_called_by_their_files_and_those_that_are_skipped_stand_among_them(folder):
    empty, other = "empty file", "not an image, or of a kind that is not read"
    assert lines(image_folder(folder)) == [
        (-1, "a/0.png", empty),
        (0, "a/1.png", ""),
        (1, "b/1.png", ""),
        (-1, "broken.png", other),
        (2, "c.png", ""),
        (3, "d.png", ""),
    ]


def test_texts_have_the_numbers_that_they_have_in_the_file(table):
    expected = [(0, "0", ""), (-1, "1", "no text"), (1, "2", ""), (-1, "3", "no text"), (2, "4", ""), (3, "5", "")]
    assert lines(text_table(table)) == expected


def test_a_column_of_ids_names_the_rows_and_one_with_an_empty_cell_is_called_by_its_number(table):
    ids = [line[1] for line in lines(text_table(table, id_column="key"))]
    assert ids == ["k0", "k1", "k2", "k3", "row 4", "k5"]


def test_an_unknown_column_of_ids_is_refused(table):
    with pytest.raises(ValueError, match=r"no column 'kee' \(did you mean 'key'\?\)"):
        text_table(table, id_column="kee")


def test_a_column_of_a_text_that_plainly_names_the_rows_is_found(table):
    assert list(text_table(table, id_column="auto").ids) == []  # one of its cells is empty
    file = table.with_name("keyed.csv")
    pd.DataFrame({"text": TEXTS, "doc_id": ["007", "8", "9", "10", "11", "12"]}).to_csv(file, index=False)
    loaded = text_table(file, id_column="auto")
    assert list(loaded.ids) == ["007", "9", "11", "12"]
    assert loaded.about["reading"]["id_column"] == "doc_id"
    assert list(text_table(file, id_column="auto", labels_column="doc_id").ids) == []


def test_ids_are_given_where_they_are_not_the_numbers_of_the_samples(table, folder):
    assert given_ids(row_ids(image_folder(folder))) == ["a/1.png", "b/1.png", "c.png", "d.png"]
    assert given_ids(row_ids(text_table(table))) == ["0", "2", "4", "5"]
    plain = Samples(np.zeros((3, 2), dtype=np.float32), np.full(3, -1), both(3), [], {})
    assert given_ids(row_ids(plain)) == []


@pytest.mark.parametrize("n_rows", [1, 2, 3, 4])
def test_a_subset_keeps_names_and_what_was_skipped_in_the_order_of_the_source(folder, table, n_rows):
    for all_rows, subset in (
        (image_folder(folder), image_folder(folder, n_rows)),
        (text_table(table), text_table(table, n_rows)),
    ):
        whole, drawn = row_ids(all_rows), row_ids(subset)
        assert drawn["sample"][drawn["sample"] >= 0].tolist() == list(range(n_rows))
        order = {name: place for place, name in enumerate(whole["id"])}
        places = [order[name] for name in drawn["id"]]
        assert places == sorted(places)
        left_out = whole[whole["sample"] < 0]
        assert drawn.loc[drawn["sample"] < 0, ["id", "skipped"]].values.tolist() == (
            left_out[["id", "skipped"]].values.tolist()
        )
        for name, sample in zip(drawn["id"], drawn["sample"], strict=True):
            if sample >= 0:
                rows = [np.asarray(one.samples[row].todense() if one.vocabulary else one.samples[row])
                        for one, row in ((subset, sample), (all_rows, whole["sample"][order[name]]))]  # fmt: skip
                np.testing.assert_array_equal(*rows)


def test_ids_that_are_not_one_for_each_sample_are_refused():
    loaded = Samples(np.zeros((3, 2)), np.full(3, -1), both(3), [], {}, ids=["a"], skipped=[Skipped(0, "b", "why")])
    with pytest.raises(ValueError, match="got 1 ids for 3 samples"):
        row_ids(loaded)

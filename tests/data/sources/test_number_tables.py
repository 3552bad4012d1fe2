"""Embeddings in tables: columns of numbers or of lists, labels beside them, and faults named by row and column."""

import gzip
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deep_clustering.data.sources import load_source
from deep_clustering.data.sources.row_ids import row_ids
from deep_clustering.data.sources.wrong_cells import row_in_file

ROWS = np.random.default_rng(0).normal(size=(6, 3)).round(4)
TABLE = pd.DataFrame(ROWS, columns=["a", "b", "c"])
LISTS = pd.DataFrame({"name": list("uvwxyz"), "vector": [row.tolist() for row in ROWS], "n": range(6)})


def load(path: Path, **changes):
    options = {"name": "mine", "samples": str(path), "labels": None, "key": None, "layout": "auto", "value_range": None}
    return load_source({"source": {"kind": "arrays", **options, **changes}, "n_rows": 0})


def assert_rows(loaded, rows=ROWS):
    np.testing.assert_array_equal(loaded.samples, rows.astype(np.float32))


WRITERS = {
    "a.csv": lambda table, path: table.to_csv(path, index=False),
    "index.csv": lambda table, path: table.to_csv(path),
    "bare.csv": lambda table, path: table.to_csv(path, index=False, header=False),
    "a.tsv": lambda table, path: table.to_csv(path, index=False, sep="\t"),
    "comma.csv": lambda table, path: table.to_csv(path, index=False, sep=";", decimal=","),
    "a.csv.gz": lambda table, path: table.to_csv(path, index=False),
    "a.csv.zip": lambda table, path: table.to_csv(path, index=False),
    "a.parquet": lambda table, path: table.to_parquet(path),
    "a.jsonl": lambda table, path: table.to_json(path, orient="records", lines=True),
}


@pytest.mark.parametrize("name", WRITERS)
def test_columns_of_numbers_are_rows(tmp_path, name):
    WRITERS[name](TABLE, tmp_path / name)
    loaded, card = load(tmp_path / name)
    assert_rows(loaded)
    assert card["reading"]["columns"] == (["0", "1", "2"] if name == "bare.csv" else ["a", "b", "c"])
    assert json.loads(json.dumps(card, allow_nan=False)) == card


@pytest.mark.parametrize(
    ("cells", "other", "expected"),
    [
        (["1,234,567", "12,500", "980"], "1", [1234567, 12500, 980]),  # two commas part thousands
        (["1,234.5", "-12,500", "980"], "1", [1234.5, -12500, 980]),  # so do commas in front of a point
        (["12,500", "980.5", "7"], "1", [12500, 980.5, 7]),
        (["0,125", "1,234", "7"], "1", [0.125, 1.234, 7]),  # thousands do not begin with 0
        (["1,5", "1,234", "7"], "1", [1.5, 1.234, 7]),
        (["1,234", "2,345", "7"], "0,5", [1.234, 2.345, 7]),  # as in the column beside it
    ],
)
def test_commas_part_thousands_or_decimals_as_the_numbers_tell(tmp_path, cells, other, expected):
    pd.DataFrame({"a": cells, "b": [other, "2", "3"]}).to_csv(tmp_path / "a.csv", sep=";", index=False)
    loaded, _ = load(tmp_path / "a.csv")
    np.testing.assert_allclose(loaded.samples[:, 0], expected, rtol=1e-6)


@pytest.mark.parametrize("cells", [["950", "12,500", "45,000"], ["1,234", "2,345", "3,456"]])
def test_commas_that_may_be_either_are_refused(tmp_path, cells):
    pd.DataFrame({"a": cells, "b": [1.5, 2.5, 3.5]}).to_csv(tmp_path / "a.csv", index=False)
    first = next(cell for cell in cells if "," in cell)
    message = rf"commas of column 'a' may part .* got '{first}' first in row .* of a\.csv.*, expected .* or .*read_csv"
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("name", "cells", "is_left_out"),
    [
        ("id", [1003, 1001, 1002, 1000, 1005, 1004], True),
        ("Row_ID", range(6), True),
        ("id", [1, 1, 2, 3, 4, 5], False),
        ("id", [0.5, 1, 2, 3, 4, 5], False),
        ("year", range(2000, 2006), False),
        ("customer_id", [1003, 1001, 1002, 1000, 1005, 1004], True),
        ("CustomerID", [1003, 1001, 1002, 1000, 1005, 1004], True),
        ("customer_id", [1, 1, 2, 3, 4, 5], False),
        ("paid", [1003, 1001, 1002, 1000, 1005, 1004], False),
        ("index", [4, 2, 7, 1, 9, 0], True),
    ],
)
def test_a_column_of_ids_is_no_number_of_the_rows(tmp_path, name, cells, is_left_out):
    TABLE.assign(**{name: cells}).to_csv(tmp_path / "a.csv", index=False)
    columns = load(tmp_path / "a.csv")[1]["reading"]["columns"]
    assert columns == ["a", "b", "c", *([] if is_left_out else [name])]


def test_the_numbers_of_a_selection_of_rows_are_no_numbers_of_the_rows(tmp_path):
    """As of df.dropna().to_csv(file), whose first column has gaps and no name; written twice, there are two such."""
    TABLE.set_axis([0, 3, 4, 8, 9, 11]).to_csv(tmp_path / "a.csv")
    pd.read_csv(tmp_path / "a.csv").to_csv(tmp_path / "b.csv")
    for name in ("a.csv", "b.csv"):
        assert load(tmp_path / name)[1]["reading"]["columns"] == ["a", "b", "c"]


IDS = ["007", "010", "003", "", "x-5", "6"]


@pytest.mark.parametrize("name", ["a.csv", "comma.csv", "a.csv.gz", "a.parquet", "a.jsonl"])
def test_a_column_of_ids_names_the_rows_as_it_is_written(tmp_path, name):
    WRITERS[name](TABLE.assign(customer=IDS), tmp_path / name)
    loaded, card = load(tmp_path / name, id_column="customer")
    assert_rows(loaded)
    assert row_ids(loaded)["id"].tolist() == ["007", "010", "003", "row 3", "x-5", "6"]
    assert card["reading"]["id_column"] == "customer"


@pytest.mark.parametrize("header", ["a,a,b", "id,id,b"])
@pytest.mark.parametrize("named", [{}, {"id_column": "id"}])
def test_two_columns_of_one_name_are_refused_by_it(tmp_path, header, named):
    (tmp_path / "a.csv").write_text(header + "".join(f"\n{row},{row + 1},{row / 4}" for row in range(9)))
    with pytest.raises(ValueError, match=rf"2 columns are called '{header.split(',')[0]}'"):
        load(tmp_path / "a.csv", **named)


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl"])
def test_whole_numbers_beside_empty_cells_are_ids_without_a_point(tmp_path, name):
    WRITERS[name](TABLE.assign(who=[1003, 1001, None, 1000, 1005, 1004]), tmp_path / name)
    loaded, _ = load(tmp_path / name, id_column="who")
    assert_rows(loaded)
    assert list(loaded.ids) == ["1003", "1001", "", "1000", "1005", "1004"]


def test_ids_of_a_table_without_a_header_are_a_numbered_column(tmp_path):
    TABLE.assign(who=IDS).to_csv(tmp_path / "a.csv", index=False, header=False)
    loaded, _ = load(tmp_path / "a.csv", id_column="3")
    assert_rows(loaded)
    assert list(loaded.ids) == IDS


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        ({"customer_id": [17, 15, 11, 16, 12, 13]}, "customer_id"),
        ({"customer_id": ["007", "010", "003", "004", "005", "006"]}, "customer_id"),
        ({"shop_id": list("uvwxyz"), "id": [17, 15, 11, 16, 12, 13]}, "id"),
        ({"shop_id": [1, 1, 2, 2, 3, 3], "orderKey": list("uvwxyz")}, "orderKey"),
        ({"uuid": ["u", "v", "w", "x", "y", None]}, None),
        ({"id": [0.5, 1, 2, 3, 4, 5]}, None),
        ({"name": list("uvwxyz")}, None),
        ({"Index": [4, 2, 7, 1, 9, 0]}, "Index"),
        ({"index": range(6)}, None),
    ],
)
def test_a_column_that_plainly_names_the_rows_is_found(tmp_path, columns, found):
    TABLE.assign(**columns).to_csv(tmp_path / "a.csv", index=False)
    loaded, card = load(tmp_path / "a.csv", id_column="auto")
    assert card["reading"]["id_column"] == found
    assert list(loaded.ids) == ([] if found is None else list(map(str, columns[found])))


def test_an_index_with_a_name_is_a_column_of_a_parquet_file_and_may_name_the_rows(tmp_path):
    ids = ["007", "010", "003", "004", "005", "006"]
    TABLE.assign(customer_id=ids).set_index("customer_id").to_parquet(tmp_path / "a.parquet")
    TABLE.set_axis([3, 5, 6, 8, 9, 11]).to_parquet(tmp_path / "plain.parquet")
    loaded, _ = load(tmp_path / "a.parquet", id_column="auto")
    assert_rows(loaded)
    assert list(loaded.ids) == ids
    assert load(tmp_path / "plain.parquet", id_column="auto")[1]["reading"]["columns"] == ["a", "b", "c"]


def test_what_is_something_else_is_not_found_to_name_the_rows(tmp_path):
    table = TABLE.assign(class_id=list("uvwxyz"), weight_key=range(1, 7))
    table.to_csv(tmp_path / "a.csv", index=False)
    loaded, card = load(tmp_path / "a.csv", id_column="auto", labels="class_id", weights="weight_key")
    assert_rows(loaded)
    assert card["reading"]["id_column"] is None


def test_a_file_that_is_no_table_has_no_column_of_ids(tmp_path):
    np.save(tmp_path / "a.npy", ROWS)
    with pytest.raises(ValueError, match=r"id_column: expected a column of a table, got 'id' of .*a\.npy"):
        load(tmp_path / "a.npy", id_column="id")
    assert not load(tmp_path / "a.npy", id_column="auto")[0].ids


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.jsonl"])
@pytest.mark.parametrize("key", [None, "vector"])
def test_a_column_of_lists_is_rows(tmp_path, name, key):
    WRITERS[name](LISTS, tmp_path / name)
    loaded, card = load(tmp_path / name, key=key)
    assert_rows(loaded)
    assert card["reading"]["columns"] == ["vector"]


def test_lists_as_numpy_prints_them_are_read(tmp_path):
    LISTS.assign(vector=[str(row) for row in ROWS]).to_csv(tmp_path / "a.csv", index=False)
    assert_rows(load(tmp_path / "a.csv")[0])


@pytest.mark.parametrize(
    ("cells", "expected", "names"),
    [
        (["ant", "bee", "", "ant", "cow", "bee"], [0, 1, -1, 0, 2, 1], ["ant", "bee", "cow"]),
        ([7, 3, None, 3, 7, 7], [1, 0, -1, 0, 1, 1], ["3", "7"]),
        ([0, 1, 2, 2, 1, 0], [0, 1, 2, 2, 1, 0], ["0", "1", "2"]),
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_labels_may_be_a_column_of_the_same_table(tmp_path, name, cells, expected, names):
    WRITERS[name](TABLE.assign(kind=cells), tmp_path / name)
    loaded, card = load(tmp_path / name, labels="kind")
    assert_rows(loaded)
    assert loaded.labels.tolist() == expected
    assert card["class_names"] == names


def test_a_table_without_a_header_has_its_labels_in_a_numbered_column(tmp_path):
    TABLE.assign(kind=[4, 4, 5, 5, 4, 5]).to_csv(tmp_path / "a.csv", index=False, header=False)
    loaded, _ = load(tmp_path / "a.csv", labels=3)
    assert_rows(loaded)
    assert loaded.labels.tolist() == [0, 0, 1, 1, 0, 1]


def test_texts_and_empty_columns_are_left_out(tmp_path):
    TABLE.assign(id=list("uvwxyz"), nothing=np.nan).to_csv(tmp_path / "a.csv", index=False)
    loaded, card = load(tmp_path / "a.csv")
    assert_rows(loaded)
    assert card["reading"]["columns"] == ["a", "b", "c"]


def test_the_card_says_which_columns_are_left_out_and_why(tmp_path):
    table = TABLE.assign(
        note=list("uvwxyz"), nothing=np.nan, id=range(6), kind=[1, 1, 2, 2, 3, 3], w=range(1, 7), who=IDS
    )
    table.set_axis(range(3, 9)).to_csv(tmp_path / "a.csv")
    _, card = load(tmp_path / "a.csv", labels="kind", weights="w", id_column="who")
    expected = {"Unnamed: 0": "numbers of the rows", "note": "texts", "nothing": "empty", "id": "ids"}
    assert card["left_out_columns"] == expected | {"kind": "classes", "w": "weights", "who": "ids"}
    assert list(card["left_out_columns"]) == ["Unnamed: 0", *table.columns[3:]]
    assert card["n_left_out_columns"] == 7
    when = LISTS.assign(when=pd.date_range("2020", periods=6), things=[{"a": 1}] * 6).drop(columns="vector")
    when.to_parquet(tmp_path / "a.parquet")
    left_out = load(tmp_path / "a.parquet")[1]["left_out_columns"]
    assert left_out == {"name": "texts", "when": "times", "things": "no numbers"}
    LISTS.to_parquet(tmp_path / "a.parquet")
    assert load(tmp_path / "a.parquet")[1]["left_out_columns"] == {"name": "not 'vector'", "n": "not 'vector'"}


def test_of_many_columns_the_card_names_some(tmp_path):
    TABLE.assign(**{f"t{place}": list("uvwxyz") for place in range(30)}).to_csv(tmp_path / "a.csv", index=False)
    card = load(tmp_path / "a.csv")[1]
    assert card["n_left_out_columns"] == 30
    assert list(card["left_out_columns"]) == [f"t{place}" for place in range(20)]


@pytest.mark.parametrize("cell", ["inf", "", "n/a?", "-inf"])
def test_one_wild_cell_far_behind_the_head_is_named_by_row_and_column(tmp_path, cell):
    lines = ["left,right"] + [f"{index % 7},{index % 11}" for index in range(5000)]
    lines[1 + 4500] = f"3,{cell}"
    (tmp_path / "a.csv").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(ValueError, match=r"a\.csv: 1 of 5000 rows .* 'right' \(1\); .* of row 4501 "):
        load(tmp_path / "a.csv")


@pytest.mark.parametrize("wrong", [None, [1.0, float("nan"), 2.0], [[1.0], [2.0]]])
def test_wrong_lists_are_counted_with_a_way_forward(tmp_path, wrong):
    vectors = [row.tolist() for row in ROWS]
    pd.DataFrame({"vector": [*vectors[:3], wrong, vectors[4], wrong]}).to_json(
        tmp_path / "a.jsonl", orient="records", lines=True
    )
    with pytest.raises(ValueError, match="no list of finite numbers") as caught:
        load(tmp_path / "a.jsonl")
    message = str(caught.value)
    assert "column 'vector': 2 of 6 rows have no list of finite numbers; got '" in message
    assert "' first in row 4 (line 4 of a.jsonl); fill such cells or drop these rows" in message
    assert "df.dropna(subset=['vector'])" in message


def test_a_list_of_another_length_is_named(tmp_path):
    vectors = [row.tolist() for row in ROWS]
    pd.DataFrame({"vector": [*vectors[:4], [1.0], vectors[5]]}).to_parquet(tmp_path / "a.parquet")
    message = r"column 'vector': expected lists of 3 numbers, got 1 in row 5 \(from 1, without a header\)"
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("table", "changes", "message"),
    [
        (LISTS.assign(more=LISTS["vector"]), {}, "columns 'vector', 'more' hold lists of numbers; name one with 'key'"),
        (LISTS, {"key": "vectr"}, r"no column 'vectr' \(did you mean 'vector'\?\)"),
        (LISTS, {"labels": "nam"}, r"no column 'nam' \(did you mean 'name'\?\)"),
        (LISTS, {"id_column": "nam"}, r"no column 'nam' \(did you mean 'name'\?\)"),
        (LISTS[["name"]], {}, "no column of numbers, got 'name'"),
    ],
)
def test_what_is_not_there_is_told(tmp_path, table, changes, message):
    table.to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "a.parquet", **changes)


def test_empty_cells_are_counted_by_column_with_a_way_forward(tmp_path):
    (tmp_path / "a.csv").write_text("a,b,c\n1,2,3\n,5,6\n,x,9\n1,2,3\n7,8,9\n", encoding="utf-8")
    with pytest.raises(ValueError, match="empty") as caught:
        load(tmp_path / "a.csv")
    message = str(caught.value)
    assert "2 of 5 rows have empty cells or no finite numbers, in 2 of 3 columns: 'a' (2), 'b' (1);" in message
    assert "got an empty cell first in column 'a' of row 2 (line 3 of a.csv); fill such cells" in message
    assert message.endswith("as by pandas: df.dropna(subset=['a', 'b'])")


@pytest.mark.parametrize(
    ("name", "text", "place"),
    [
        ("a.csv", "a,b\n1,2\n3,\n", "row 2 (line 3 of a.csv)"),
        ("a.csv", "\ufeffa;b\r\n\r\n1;2\r\n3;\r\n", "row 2 (line 4 of a.csv)"),
        ("a.csv", 'a,b,note\n1,2,"two\nlines"\n3,,x\n', "row 2 (line 4 of a.csv)"),
        ("a.csv", "1.5,2\n3,4\n5,\n", "row 3 (line 3 of a.csv)"),
        ("a.tsv", "a\tb\n1\t2\n3\t\n", "row 2 (line 3 of a.tsv)"),
        ("a.jsonl", '{"a": 1, "b": 2}\n\n{"a": 3, "b": null}\n', "row 2 (line 3 of a.jsonl)"),
        ("a.csv.gz", "a,b\n1,2\n3,\n", "row 2 (from 1, without a header)"),
    ],
)
def test_an_empty_cell_is_said_by_the_line_that_an_editor_shows(tmp_path, name, text, place):
    packed = gzip.compress(text.encode()) if name.endswith(".gz") else text.encode()
    (tmp_path / name).write_bytes(packed)
    with pytest.raises(ValueError, match=re.escape(f"of {place}; fill")):
        load(tmp_path / name)


def test_a_parquet_file_has_no_lines(tmp_path):
    TABLE.assign(d=[1, 2, None, 4, 5, 6]).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"'d' of row 3 \(from 1, without a header\); fill"):
        load(tmp_path / "a.parquet")


LINES = st.lists(st.sampled_from(["", " ", "x", "two\nlines", 'a "quote"', "a,b"]), min_size=1, max_size=8)


@given(LINES, st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_line_of_a_row_is_where_its_record_begins(tmp_path, notes, data):
    row = data.draw(st.integers(0, len(notes) - 1))
    head = "note,n\n"
    records = [pd.DataFrame({"note": [note], "n": [7]}).to_csv(index=False, header=False) for note in notes]
    (tmp_path / "a.csv").write_text(head + "".join(records), newline="")
    line = 1 + (head + "".join(records[:row])).count("\n")
    assert row_in_file(tmp_path / "a.csv", row, separator=",", quote='"') == f"row {row + 1} (line {line} of a.csv)"

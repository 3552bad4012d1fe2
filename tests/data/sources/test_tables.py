"""Tables in pieces: the pieces make the whole, and damage is said with its place."""

import gzip
import json

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deep_clustering.data.sources import tables
from deep_clustering.data.sources.tables import open_table

WRITERS = {
    "a.csv": lambda table, path: table.to_csv(path, index=False),
    "a.TSV": lambda table, path: table.to_csv(path, index=False, sep="\t"),
    "a.parquet": lambda table, path: table.to_parquet(path),
    "a.jsonl": lambda table, path: table.to_json(path, orient="records", lines=True),
}
CELLS = st.text(alphabet="nul1,\"'\t ö", min_size=1, max_size=6)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(st.sampled_from(sorted(WRITERS)), st.lists(CELLS, min_size=1, max_size=7), st.integers(1, 4))
def test_the_pieces_make_the_whole(tmp_path, name, texts, n_rows):
    table = pd.DataFrame({"text": texts, "number": range(len(texts))})
    WRITERS[name](table, tmp_path / name)
    (whole,) = open_table(tmp_path / name, "x", text_column="text")
    pieces = list(open_table(tmp_path / name, "x", text_column="text", n_rows=n_rows))
    assert [len(piece) for piece in pieces] == [min(n_rows, len(texts) - i) for i in range(0, len(texts), n_rows)]
    for found in (whole, pd.concat(pieces)):
        assert found["text"].tolist() == texts
        assert found["number"].astype(int).tolist() == list(range(len(texts)))


def test_cells_stay_texts_only_beside_the_column_of_texts(tmp_path):
    (tmp_path / "a.csv").write_text("text,number\nnull,1\n", encoding="utf-8")
    (as_texts,) = open_table(tmp_path / "a.csv", "x", text_column="text")
    assert as_texts.to_dict("records") == [{"text": "null", "number": "1"}]
    (as_numbers,) = open_table(tmp_path / "a.csv", "x", text_column="body")
    assert as_numbers["number"].tolist() == [1]


def test_beside_such_a_column_the_same_cells_are_missing_as_without_it(tmp_path):
    words = [
        "",
        "NA",
        "N/A",
        "n/a",
        "nan",
        "NaN",
        "-nan",
        "-NaN",
        "NULL",
        "null",
        "None",
        "<NA>",
        "#N/A",
        "#NA",
        "x",
        "-",
    ]
    (tmp_path / "a.csv").write_text("id,cell\n" + "".join(f"{i},{word}\n" for i, word in enumerate(words)), "utf-8")
    (plain,) = open_table(tmp_path / "a.csv", "x", text_column=None)
    (beside,) = open_table(tmp_path / "a.csv", "x", text_column=None, as_text="id")
    assert beside["cell"].isna().tolist() == plain["cell"].isna().tolist()
    assert plain["cell"].isna().sum() == len(words) - 2


@pytest.mark.parametrize(("header", "column"), [("id,number\n", "id"), ("", "0")])
def test_a_column_that_stays_as_it_is_written_has_words_for_missing_as_texts(tmp_path, header, column):
    (tmp_path / "a.csv").write_text(header + "NA,1\n007,2\n,3\nnull,4\n", encoding="utf-8")
    (table,) = open_table(tmp_path / "a.csv", "x", text_column=None, as_text=column, header=bool(header))
    assert table[column].tolist() == ["NA", "007", "", "null"]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_a_byte_order_mark_is_no_part_of_the_table(tmp_path, name):
    WRITERS[name](pd.DataFrame({"text": ["a"]}), tmp_path / name)
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + (tmp_path / name).read_bytes())
    (table,) = open_table(tmp_path / name, "x", text_column="text")
    assert table.columns.tolist() == ["text"]


def test_damage_behind_the_first_pieces_is_said_with_its_place(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n" + "1,2\n" * 4 + "1,2,3\n", encoding="utf-8")
    pieces = open_table(tmp_path / "a.csv", "predict", text_column="text", n_rows=2)
    assert len(next(pieces)) + len(next(pieces)) == 4
    with pytest.raises(ValueError, match=r"predict: .*a\.csv: cannot be read behind row 3: .*line 6, saw 3"):
        next(pieces)


@pytest.mark.parametrize("head", ["", "\n\n", '"a\nb",'])
@pytest.mark.parametrize("name", ["wide.csv", "wide.csv.gz"])
def test_a_million_columns_are_counted_before_pandas_sees_any(tmp_path, monkeypatch, name, head):
    monkeypatch.setattr(pd, "read_csv", None)  # it takes a minute and a half for them
    with (gzip.open if name.endswith("gz") else open)(tmp_path / name, "wt") as file:
        file.write(head + ("1.5," * 1_000_000)[:-1] + "\n")
    with pytest.raises(ValueError, match=rf"{name}: .* \d+ columns or more; expected at most 50000"):
        list(tables.open_table(tmp_path / name, "ingestion", text_column=None, separator=",", quote='"'))


def test_names_of_json_are_counted_before_pandas_sees_any(tmp_path, monkeypatch):
    monkeypatch.setattr(pd, "read_json", None)
    (tmp_path / "wide.jsonl").write_text(json.dumps({str(place): 0 for place in range(60_000)}))
    with pytest.raises(ValueError, match=r"wide\.jsonl: cannot be read as \.jsonl: 60000 columns or more"):
        list(tables.open_table(tmp_path / "wide.jsonl", "ingestion", text_column=None))


@pytest.mark.parametrize("name", ["wide.csv", "wide.parquet", "wide.jsonl"])
@pytest.mark.parametrize("n_rows", [None, 1])
def test_more_columns_than_are_looked_at_are_refused(tmp_path, monkeypatch, name, n_rows):
    monkeypatch.setattr(tables, "MOST_COLUMNS", 3)
    wide = pd.DataFrame([[1, 2, 3, 4]], columns=list("abcd"))
    write = {"csv": lambda p: wide.to_csv(p, index=False), "parquet": wide.to_parquet}
    write["jsonl"] = lambda p: wide.to_json(p, orient="records", lines=True)
    write[name.rpartition(".")[2]](tmp_path / name)
    with pytest.raises(ValueError, match=rf"{name}: .*4 columns or more; expected at most 3: save the numbers as .npy"):
        list(tables.open_table(tmp_path / name, "ingestion", text_column=None, n_rows=n_rows))

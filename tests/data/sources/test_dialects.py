"""How tables are written: separators, quotes, headers, compression and encodings are found out or told."""

import csv
import io
import os
import re
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deep_clustering.data.sources import load_source
from deep_clustering.data.sources.dialects import find_dialect

TEXTS = ["Oil, and oil; again", 'the "old" trade | more', "it's wheat, again; oil", "wheat\ttrade, oil"]
KINDS = ["oil", "trade", "wheat", "oil"]


def write(path: Path, rows, encoding="utf-8", **options) -> Path:
    stream = io.StringIO(newline="")
    csv.writer(stream, **options).writerows(rows)
    path.write_bytes(stream.getvalue().encode(encoding))
    return path


def load(path: Path, **changes):
    source = {"kind": "text_table", "name": "mine", "path": str(path), "column": "text", "labels_column": "kind"}
    source |= {"encoding": "utf-8", "max_terms": 2000, "on_empty": "skip"}
    return load_source({"source": source | changes, "n_rows": 0})


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("quote", ['"', "'"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_separator_and_quote_are_found(tmp_path, name, separator, quote):
    rows = [("kind", "text"), *zip(KINDS, TEXTS, strict=True)]
    path = write(tmp_path / name, rows, delimiter=separator, quotechar=quote)
    loaded, card = load(path)
    assert loaded.texts == TEXTS
    assert card["class_names"] == ["oil", "trade", "wheat"]
    assert card["reading"]["separator"] == separator
    assert card["reading"]["header"] is True
    stated = {"separator": separator, "quote": quote, "header": True}
    assert load(path, **stated)[0].texts == TEXTS


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(
    texts=st.lists(st.text("ab,;\t|'\"\n ", min_size=1, max_size=12), min_size=2, max_size=8),
    separator=st.sampled_from([",", ";", "\t", "|"]),
)
def test_what_is_quoted_throughout_is_found_whatever_it_holds(tmp_path, texts, separator):
    rows = [("number", "text"), *((str(index), f"x{text}") for index, text in enumerate(texts))]
    path = write(tmp_path / "a.csv", rows, delimiter=separator, quoting=csv.QUOTE_ALL)
    assert find_dialect(path)[:2] == (separator, '"')


def test_a_table_without_a_header_is_read_by_numbers(tmp_path):
    rows = list(zip(KINDS, TEXTS, strict=True))
    path = write(tmp_path / "a.csv", rows, delimiter=";", quotechar="'")
    for changes in ({}, {"header": False}, {"column": "1", "labels_column": "0"}):
        loaded, card = load(path, **{"column": 1, "labels_column": 0} | changes)
        assert loaded.texts == TEXTS
        assert loaded.labels.tolist() == [0, 1, 2, 0]
        assert card["reading"] | {"column": "1", "separator": ";", "quote": "'", "header": False} == card["reading"]


def test_a_number_may_name_a_column_of_a_table_with_a_header(tmp_path):
    path = write(tmp_path / "a.csv", [("kind", "text"), ("oil", "null and oil"), ("oil", "1"), ("gas", "oil")])
    loaded, card = load(path, column=1, labels_column=0)
    assert loaded.texts == ["null and oil", "1", "oil"]
    assert card["reading"]["column"] == "text"
    loaded, _ = load(path, column=1, labels_column=None, header=False)
    assert loaded.texts[0] == "text"


def test_an_unknown_column_is_told_with_short_names(tmp_path):
    path = write(tmp_path / "a.csv", [("oil", "word " * 100), ("gas", "text")])
    with pytest.raises(ValueError, match=r"no column 'body' \(known: oil, word (word ){7}\.\.\.\)"):
        load(path, column="body")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["id,text", "1,good", "2,bad"], True),
        (["good,first words", "bad,other words", "good,third words"], False),
        (["0.5,1.5", "2.5,3.5"], False),
        (["0,1,2", "5,6,7"], True),
        (["a,a", "b,c"], False),
        (["x,y", "1,2", "x,y", "3,4"], True),  # two files, one behind the other
        (["yes,no", "no,yes", "yes,no"], False),
        (["NA,oil", "1,oil", "2,gas"], False),
        (["only,names"], True),
    ],
)
def test_a_header_is_told_by_its_cells(tmp_path, lines, expected):
    (tmp_path / "a.csv").write_text("\n".join(lines), encoding="utf-8")
    assert find_dialect(tmp_path / "a.csv").header is expected


@pytest.mark.parametrize("mark", ["ab", "a", "", "\n"])
@pytest.mark.parametrize("option", ["separator", "quote"])
def test_marks_are_single_characters(tmp_path, option, mark):
    with pytest.raises(ValueError, match=rf"{option} must be one character"):
        load(tmp_path / "a.csv", **{option: mark})


# Compression and paths


@pytest.mark.parametrize("ending", ["gz", "zip", "bz2", "xz"])
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_compressed_tables_are_read(tmp_path, name, ending):
    table, path = pd.DataFrame({"kind": KINDS, "text": TEXTS}), tmp_path / f"{name}.{ending}"
    table.to_csv(path, index=False) if name == "a.csv" else table.to_json(path, orient="records", lines=True)
    loaded, card = load(path)
    assert loaded.texts == TEXTS
    assert card["source"] == path.name


def test_damaged_archives_are_told(tmp_path):
    (tmp_path / "a.csv.gz").write_bytes(b"text\nno archive")
    with pytest.raises(ValueError, match=r"a\.csv\.gz: "):
        load(tmp_path / "a.csv.gz")
    with zipfile.ZipFile(tmp_path / "a.csv.zip", "w") as archive:
        archive.writestr("b.csv", "text\n")
        archive.writestr("c.csv", "text\n")
    with pytest.raises(ValueError, match=r"expected one file in the archive, got b\.csv, c\.csv"):
        load(tmp_path / "a.csv.zip")


@pytest.mark.parametrize("name", ["a%20b?, c.csv", "100% #1.csv"])
def test_files_may_have_any_name_and_lie_at_home(tmp_path, monkeypatch, name):
    write(tmp_path / name, [("kind", "text"), *zip(KINDS, TEXTS, strict=True)])
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load(Path("~") / name)[0].texts == TEXTS
    np.save(tmp_path / f"{name}.npy", np.eye(4))
    source = {"kind": "arrays", "name": "x", "samples": os.path.join("~", f"{name}.npy"), "labels": None}
    source |= {"key": None, "layout": "auto", "value_range": None}
    assert load_source({"source": source, "n_rows": 0})[0].samples.shape == (4, 4)


# Encodings


@pytest.mark.parametrize(
    ("encoding", "text", "reading"),
    [
        ("cp1252", "Größe und Öl", "cp1252 reads .*Größe"),
        ("gb18030", "石油价格上涨", "gb18030 reads .*石油"),
        ("shift_jis", "原油価格が上昇", "shift_jis reads .*原油"),
        ("utf-16", "oil price", "its first bytes say utf-16"),
    ],
)
def test_another_encoding_is_named_with_what_it_would_read(tmp_path, encoding, text, reading):
    path = tmp_path / "a.csv"
    path.write_bytes(f"kind,text\na,{text}\nb,{text} zwei\n".encode(encoding))
    with pytest.raises(ValueError, match=r"byte \d+ is not utf-8 .*set 'encoding'") as raised:
        load(path)
    assert re.search(reading, str(raised.value))
    assert load(path, encoding=encoding)[0].texts == [text, f"{text} zwei"]

"""The table of a result: every row of the source, numbers without gaps of another kind, and nothing that runs."""

import io

import numpy as np
import pandas as pd
import pytest

from deep_clustering.datasets import ParquetDataset, TableDataset
from deep_clustering.reporting import assignment_table
from deep_clustering.reporting.assignment_table import for_spreadsheets, tabulate

ROW_IDS = pd.DataFrame(
    {"sample": [0, -1, 1, 2], "id": ["a.png", "b.png", "c.png", "=1+2"], "skipped": ["", "empty file", "", ""]}
)
ASSIGNMENTS = np.array([1, 0, 1])
RESPONSIBILITIES = np.float32([[0.25, 0.75], [1, 0], [0.125, 0.875]])
NAMES = ["red", "@green"]


def make(**changes):
    return tabulate(ROW_IDS, ASSIGNMENTS, RESPONSIBILITIES, **{"names": NAMES, **changes})


def test_each_row_of_the_source_has_its_line():
    table = make(log_density=np.float32([-1, -5, -2]), threshold=-4.5)
    assert table["row"].tolist() == [0, pd.NA, 1, 2]
    assert table["id"].tolist() == ["a.png", "b.png", "c.png", "=1+2"]
    assert table["cluster"].tolist() == [1, pd.NA, 0, 1]
    assert table["cluster_name"].tolist() == ["@green", "", "red", "@green"]
    np.testing.assert_array_equal(table["probability"], [0.75, np.nan, 1, 0.875])
    np.testing.assert_array_equal(table["log_density"], [-1, np.nan, -5, -2])
    assert table["is_outlier"].tolist() == [False, pd.NA, True, False]
    assert table["skipped"].tolist() == ["", "empty file", "", ""]


def test_a_method_without_densities_has_no_outliers():
    table = make()
    assert table["log_density"].isna().all()
    assert not table["is_outlier"].fillna(False).any()


def test_rows_that_say_nothing_are_outliers_and_of_no_cluster_in_particular():
    table = make(is_blank=np.array([False, True, False]))
    np.testing.assert_array_equal(table["probability"], [0.75, np.nan, 0.5, 0.875])
    assert table["is_outlier"].tolist() == [False, pd.NA, True, False]


def test_a_gap_makes_no_number_of_another_kind(tmp_path):
    TableDataset(filepath=str(tmp_path / "table.csv")).save(for_spreadsheets(make()))
    read = pd.read_csv(tmp_path / "table.csv", dtype=str, keep_default_na=False)
    assert read["cluster"].tolist() == ["1", "", "0", "1"]
    assert read["row"].tolist() == ["0", "", "1", "2"]
    assert read["is_outlier"].tolist() == ["False", "", "False", "False"]
    ParquetDataset(filepath=str(tmp_path / "table.parquet")).save(make())
    pd.testing.assert_frame_equal(ParquetDataset(filepath=str(tmp_path / "table.parquet")).load(), make())


@pytest.mark.parametrize(
    "text", ["=1+2", "+cmd", "-cmd|' /C calc'!A0", "@SUM(A1)", "\t=1", "\r=1", "=HYPERLINK(1)", "-", "+", "-1+1"]
)
def test_what_a_spreadsheet_would_run_is_defused(text):
    shown = for_spreadsheets(pd.DataFrame({"id": [text], "n": [1]}))
    assert shown["id"].tolist() == [f"'{text}"]
    assert for_spreadsheets(pd.DataFrame({text: [1], "n": [1]})).columns.tolist() == [f"'{text}", "n"]


@pytest.mark.parametrize("text", ["-5", "+3", "-.5", "-1.25", "a=b", "a-b.png", "'x", "", "猫.png"])
def test_other_texts_stay_as_they_are(text):
    assert for_spreadsheets(pd.DataFrame({"id": [text]}))["id"].tolist() == [text]


def test_the_table_for_people_has_the_same_values_and_leaves_the_other_alone():
    table = make(log_density=np.array([-1 / 3, -2 / 3, -1]))
    before = table.copy()
    shown = for_spreadsheets(table)
    pd.testing.assert_frame_equal(table, before)
    read = pd.read_csv(io.StringIO(shown.to_csv(index=False)))
    np.testing.assert_allclose(read["log_density"], table["log_density"], atol=1e-6)
    assert read["id"][3] == "'=1+2"


@pytest.mark.parametrize("n_rows", [0, 1, 2, 3])
@pytest.mark.parametrize("dtype", ["str", "object"])
def test_texts_in_pieces_are_defused_one_by_one_and_keep_their_type(monkeypatch, n_rows, dtype):
    monkeypatch.setattr(assignment_table, "_CELLS", 2)
    texts = pd.Series(["=1", "a", "@b"][:n_rows], index=[5, 7, 5][:n_rows], dtype=dtype)
    expected = pd.Series(["'=1", "a", "'@b"][:n_rows], index=texts.index, dtype=dtype)
    pd.testing.assert_series_equal(for_spreadsheets(pd.DataFrame({"id": texts}))["id"], expected, check_names=False)


def test_a_column_of_several_types_keeps_what_is_no_text(monkeypatch):
    monkeypatch.setattr(assignment_table, "_CELLS", 1)
    shown = for_spreadsheets(pd.DataFrame({"id": pd.Series(["=1", 2, None], dtype=object)}))
    assert shown["id"].tolist() == ["'=1", 2, None]


@pytest.mark.parametrize("n_samples", [2, 4])
def test_rows_of_other_samples_are_refused(n_samples):
    with pytest.raises(ValueError, match=f"row_ids name 3 samples, expected the {n_samples}"):
        tabulate(ROW_IDS, np.zeros(n_samples, dtype=int), np.ones((n_samples, 2)), names=NAMES)

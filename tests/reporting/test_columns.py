"""The columns that set clusters apart: means by their definition, their order, and how the report shows them."""

import re

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from deep_clustering.reporting import columns
from deep_clustering.reporting.columns import column_means, describe_columns, is_named_table
from deep_clustering.reporting.members import select_members
from deep_clustering.reporting.page import write_report
from deep_clustering.reporting.texts import format_in_units
from reporting.test_reporting import ATTACK, certainty_from, one_hot, scores_of

NAMES = ["age", "income", "visits", "same"]
GROUPS = np.arange(60) % 3
RNG = np.random.default_rng(0)
ROWS = np.stack(
    [
        RNG.normal(40, 2, 60),
        20_000 + 30_000 * (GROUPS == 1) + RNG.normal(0, 100, 60),
        RNG.normal(0, 0.01, 60) - 0.5 * (GROUPS == 2),
        np.full(60, 0.1),
    ],
    axis=1,
).astype(np.float32)


@pytest.mark.parametrize("chunk", [7, 4096])
def test_means_and_their_distance_are_those_of_the_definition(monkeypatch, chunk):
    monkeypatch.setattr(columns, "_CHUNK", chunk)
    table = pd.DataFrame(ROWS.astype(np.float64))
    found = column_means(ROWS, GROUPS, 4)
    expected = table.groupby(GROUPS).mean()
    np.testing.assert_allclose(found.of_clusters[:3], expected)
    np.testing.assert_allclose(found.overall, table.mean())
    shifts = ((expected - table.mean()) / table.std(ddof=0)).to_numpy()
    np.testing.assert_allclose(found.shifts[:3, :3], shifts[:, :3])
    np.testing.assert_array_equal(found.shifts[:, 3], 0)
    np.testing.assert_array_equal(found.shifts[3], 0)


def test_the_furthest_column_comes_first_and_one_that_says_nothing_is_not_told():
    told = describe_columns(ROWS, GROUPS, 4, NAMES, 3)
    assert told["columns"][1].tolist()[0] == "income"
    assert told["columns"][2].tolist()[0] == "visits"
    assert "same" not in told["columns"]
    assert set(told["columns"][3]) == {""}
    assert (np.diff(np.abs(told["column_shifts"]), axis=1) <= 0).all()
    np.testing.assert_allclose(told["column_means"][1, 0], ROWS[GROUPS == 1, 1].mean(dtype=np.float64))
    np.testing.assert_allclose(told["column_overall"][1, 0], ROWS[:, 1].mean(dtype=np.float64))
    assert {part.shape for part in told.values()} == {(4, 3)}
    assert describe_columns(ROWS[:, :2], GROUPS, 3, NAMES[:2], 5)["columns"].shape == (3, 2)


@pytest.mark.parametrize(
    ("samples", "names", "is_one"),
    [
        (ROWS, NAMES, True),
        (ROWS, ["vector"], False),
        (ROWS, [], False),
        (sparse.csr_matrix(ROWS), NAMES, False),
        (np.zeros((3, 1, 2, 2)), ["a"], False),
    ],
)
def test_a_table_is_dense_and_has_a_name_for_each_column(samples, names, is_one):
    assert is_named_table(samples, names) is is_one


@pytest.mark.parametrize(
    ("value", "text"),
    [(45123.4, "45,123"), (0.00123456, "0.001235"), (12.3456, "12.35"), (-0.0, "0"), (1234567, "1,234,567")],
)
def test_values_have_the_digits_that_matter(value, text):
    assert format_in_units(value) == text


def page_of(samples, names, n_clusters=3, groups=GROUPS, **card):
    certainty = certainty_from(groups, one_hot(groups, n_clusters), samples)
    parts = {"assignments": groups, "certainty": certainty, "samples": samples, "n_clusters": n_clusters}
    about = {"name": "customers", "source": "customers.csv", "licence": "mine", "protocol": "all rows"}
    about |= {"n_samples": 60, "shape": [60, 4], "dtype": "float32", "value_range": [0, 1], "n_classes": None}
    about |= {"reading": {"columns": names}, "sha256": {"samples": "0" * 64}}
    unknown = np.full(60, -1)
    map_ = {"coordinates": samples[:, :2], "assignments": groups, "certainty": np.ones(60), "labels": unknown}
    return write_report(
        scores=scores_of(groups, unknown, n_clusters),
        map_=map_,
        gallery=select_members(**parts, n_members=3, columns=names),
        data_card={**about, **card},
    )


def test_the_report_has_both_means_in_the_units_of_the_table():
    names = ["age", "income", ATTACK, "same"]
    page = page_of(ROWS, names)
    cells = re.findall(r'<tr><th scope="row">income</th><td class="number">([^<]+)</td><td[^>]+>([^<]+)</td>', page)
    in_one, overall = ROWS[GROUPS == 1, 1].mean(dtype=float), ROWS[:, 1].mean(dtype=float)
    assert (f"{in_one:,.0f}", f"{overall:,.0f}") in cells
    assert page.count('<table class="columns">') == 3
    assert "standard deviations of all rows" in page
    assert ATTACK not in page
    plain = page_of(ROWS, [])
    assert '<table class="columns">' not in plain
    assert "standard deviations of all rows" not in plain


def test_with_many_clusters_each_shows_fewer_columns(monkeypatch):
    monkeypatch.setattr("deep_clustering.reporting.page.MAX_COLUMN_ROWS", 4)
    groups = np.arange(60) % 3
    page = page_of(ROWS, NAMES, groups=groups)
    tables = re.findall(r'<table class="columns">.*?</table>', page, flags=re.DOTALL)
    assert [table.count('scope="row"') for table in tables] == [1, 1, 1]


def test_the_card_names_the_columns_and_those_that_are_left_out():
    page = page_of(ROWS, NAMES, left_out_columns={"id": "ids", "note": "texts"}, n_left_out_columns=2)
    assert "<dt>Columns</dt><dd>age, income, visits, same</dd>" in page
    assert "<dt>Columns left out</dt><dd>id (ids), note (texts)</dd>" in page
    assert "Columns left out" not in page_of(ROWS, NAMES, left_out_columns={}, n_left_out_columns=0)


def test_the_card_of_a_wide_table_names_some():
    wide = np.zeros((60, 30), dtype=np.float32)
    wide[:, 0] = GROUPS
    names = [f"c{place}" for place in range(29)] + ["n" * 500]
    left_out = {f"t{place}": "texts" for place in range(20)}
    page = page_of(wide, names[::-1], left_out_columns=left_out, n_left_out_columns=31)
    assert re.search(r"<dt>Columns</dt><dd>n{40}…, c28, .*, c10, \.\.\. \(30 in all\)</dd>", page)
    assert re.search(r"<dd>t0 \(texts\), .*t19 \(texts\), \.\.\. \(31 in all\)</dd>", page)
    assert "n" * 41 not in page

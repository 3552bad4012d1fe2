"""Tables as text: every cell is found again, in its column."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deep_clustering.reporting.text_tables import aligned, markdown, number

CELL = st.text(alphabet="ab|- ", max_size=6).map(str.strip)
TABLES = st.integers(1, 4).flatmap(lambda width: st.lists(st.lists(CELL, min_size=width, max_size=width), min_size=1))


@pytest.mark.parametrize(
    ("value", "options", "text"),
    [
        (0.12345, {}, "0.123"),
        (-1.0, {"digits": 1}, "-1.0"),
        (1234567.0, {"digits": 0}, "1,234,567"),
        (1234.5, {"thousands": ""}, "1234.500"),
        (None, {}, ""),
        (math.nan, {"missing": "-"}, "-"),
    ],
)
def test_numbers_have_one_form(value, options, text):
    assert number(value, **options) == text


@given(TABLES)
def test_a_markdown_table_gives_its_cells_back(rows):
    lines = markdown(rows).splitlines()
    assert lines.pop(1) == "|" + " --- |" * len(rows[0])
    for line, row in zip(lines, rows, strict=True):
        inside = line.replace("\\|", "\0").removeprefix("| ").removesuffix(" |")
        assert [cell.replace("\0", "|") for cell in inside.split(" | ")] == row


@given(TABLES)
def test_columns_stand_one_below_the_other(rows):
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for line, row in zip(aligned(rows, right={0}), rows, strict=True):
        start = 0
        for column, (cell, width) in enumerate(zip(row, widths, strict=True)):
            place = line.ljust(sum(widths) + 2 * len(widths))[start : start + width]
            assert place == (cell.rjust(width) if column == 0 else cell.ljust(width))
            start += width + 2
        assert line == line.rstrip()


def test_cells_wider_than_their_column_are_cut_visibly():
    assert aligned([["abc", "12"], ["abcd", "123"]], widths=(3, 2), right={1}, gap=" ") == ["abc 12", "ab~ 1~"]
